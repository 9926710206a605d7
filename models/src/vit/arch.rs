//! Architectures by timm's names, and where weights of theirs are published.

use super::{Config, GlobalPool, Normalization, VitError};
use crate::Activation;

/// What the models of one publisher have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Google's ViT.
    Vit,
    /// Meta's DeiT, without the distillation token: a ViT by another recipe.
    Deit,
    /// Meta's DeiT-3: LayerScale, positions of patches alone.
    Deit3,
    /// Meta's DINOv2: LayerScale.
    Dinov2,
    /// Meta's DINOv2 with four registers.
    Dinov2Registers,
    /// The image tower of OpenAI's CLIP.
    ClipQuickGelu,
    /// The image tower of OpenCLIP's models.
    Clip,
    /// The image tower of Google's SigLIP.
    Siglip,
}

/// What a name stands for; the head is the checkpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// timm's name.
    pub name: &'static str,
    /// What it has in common with others.
    pub family: Family,
    /// Side of the pictures that it was made for, in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width of a token.
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of heads.
    pub num_heads: usize,
    /// A repository on Hugging Face that holds such weights.
    pub source: &'static str,
    /// Their licence.
    pub licence: &'static str,
}

const fn vit(
    name: &'static str,
    family: Family,
    [image_size, patch_size]: [usize; 2],
    [embed_dim, depth, num_heads]: [usize; 3],
    source: &'static str,
    licence: &'static str,
) -> Architecture {
    Architecture { name, family, image_size, patch_size, embed_dim, depth, num_heads, source, licence }
}

const TINY: [usize; 3] = [192, 12, 3];
const SMALL: [usize; 3] = [384, 12, 6];
const BASE: [usize; 3] = [768, 12, 12];
const LARGE: [usize; 3] = [1024, 24, 16];
const HUGE: [usize; 3] = [1280, 32, 16];
const APACHE: &str = "Apache-2.0";

/// The architectures that have a name, as timm's `vision_transformer.py` defines them.
#[rustfmt::skip]
pub const ARCHITECTURES: [Architecture; 29] = [
    vit("vit_tiny_patch16_224", Family::Vit, [224, 16], TINY, "timm/vit_tiny_patch16_224.augreg_in21k", APACHE),
    vit("vit_small_patch16_224", Family::Vit, [224, 16], SMALL, "timm/vit_small_patch16_224.augreg_in21k", APACHE),
    vit("vit_small_patch32_224", Family::Vit, [224, 32], SMALL, "timm/vit_small_patch32_224.augreg_in21k", APACHE),
    vit("vit_base_patch16_224", Family::Vit, [224, 16], BASE, "timm/vit_base_patch16_224.augreg_in21k", APACHE),
    vit("vit_base_patch32_224", Family::Vit, [224, 32], BASE, "timm/vit_base_patch32_224.augreg_in21k", APACHE),
    vit("vit_large_patch16_224", Family::Vit, [224, 16], LARGE, "timm/vit_large_patch16_224.augreg_in21k", APACHE),
    vit("vit_large_patch32_224", Family::Vit, [224, 32], LARGE, "timm/vit_large_patch32_224.orig_in21k", APACHE),
    vit("vit_huge_patch14_224", Family::Vit, [224, 14], HUGE, "timm/vit_huge_patch14_224.orig_in21k", APACHE),
    vit("deit_tiny_patch16_224", Family::Deit, [224, 16], TINY, "timm/deit_tiny_patch16_224.fb_in1k", APACHE),
    vit("deit_small_patch16_224", Family::Deit, [224, 16], SMALL, "timm/deit_small_patch16_224.fb_in1k", APACHE),
    vit("deit_base_patch16_224", Family::Deit, [224, 16], BASE, "timm/deit_base_patch16_224.fb_in1k", APACHE),
    vit("deit3_small_patch16_224", Family::Deit3, [224, 16], SMALL, "timm/deit3_small_patch16_224.fb_in22k_ft_in1k", APACHE),
    vit("deit3_base_patch16_224", Family::Deit3, [224, 16], BASE, "timm/deit3_base_patch16_224.fb_in22k_ft_in1k", APACHE),
    vit("deit3_large_patch16_224", Family::Deit3, [224, 16], LARGE, "timm/deit3_large_patch16_224.fb_in22k_ft_in1k", APACHE),
    vit("vit_small_patch14_dinov2", Family::Dinov2, [518, 14], SMALL, "timm/vit_small_patch14_dinov2.lvd142m", APACHE),
    vit("vit_base_patch14_dinov2", Family::Dinov2, [518, 14], BASE, "timm/vit_base_patch14_dinov2.lvd142m", APACHE),
    vit("vit_large_patch14_dinov2", Family::Dinov2, [518, 14], LARGE, "timm/vit_large_patch14_dinov2.lvd142m", APACHE),
    vit("vit_small_patch14_reg4_dinov2", Family::Dinov2Registers, [518, 14], SMALL, "timm/vit_small_patch14_reg4_dinov2.lvd142m", APACHE),
    vit("vit_base_patch14_reg4_dinov2", Family::Dinov2Registers, [518, 14], BASE, "timm/vit_base_patch14_reg4_dinov2.lvd142m", APACHE),
    vit("vit_large_patch14_reg4_dinov2", Family::Dinov2Registers, [518, 14], LARGE, "timm/vit_large_patch14_reg4_dinov2.lvd142m", APACHE),
    vit("vit_base_patch32_clip_quickgelu_224", Family::ClipQuickGelu, [224, 32], BASE, "timm/vit_base_patch32_clip_224.openai", APACHE),
    vit("vit_base_patch16_clip_quickgelu_224", Family::ClipQuickGelu, [224, 16], BASE, "timm/vit_base_patch16_clip_224.openai", APACHE),
    vit("vit_large_patch14_clip_quickgelu_224", Family::ClipQuickGelu, [224, 14], LARGE, "timm/vit_large_patch14_clip_224.openai", APACHE),
    vit("vit_base_patch32_clip_224", Family::Clip, [224, 32], BASE, "timm/vit_base_patch32_clip_224.laion2b", APACHE),
    vit("vit_base_patch16_clip_224", Family::Clip, [224, 16], BASE, "timm/vit_base_patch16_clip_224.laion2b", APACHE),
    vit("vit_large_patch14_clip_224", Family::Clip, [224, 14], LARGE, "timm/vit_large_patch14_clip_224.datacompxl", APACHE),
    vit("vit_base_patch16_siglip_224", Family::Siglip, [224, 16], BASE, "timm/vit_base_patch16_siglip_224.webli", APACHE),
    vit("vit_base_patch16_siglip_256", Family::Siglip, [256, 16], BASE, "timm/vit_base_patch16_siglip_256.webli", APACHE),
    vit("vit_large_patch16_siglip_256", Family::Siglip, [256, 16], LARGE, "timm/vit_large_patch16_siglip_256.webli", APACHE),
];

impl Architecture {
    /// The architecture that timm calls `name`.
    ///
    /// # Errors
    /// [`VitError::UnknownArchitecture`] with the names there are.
    pub fn named(name: &str) -> Result<Self, VitError> {
        let found = ARCHITECTURES.into_iter().find(|architecture| architecture.name == name);
        found.ok_or_else(|| VitError::UnknownArchitecture {
            name: name.to_owned(),
            known: ARCHITECTURES.map(|architecture| architecture.name).join(", "),
        })
    }

    /// A configuration of this architecture for pictures of `image_size` (height, width), without a head.
    pub fn config(&self, image_size: [usize; 2]) -> Config {
        let &Self { family, patch_size, embed_dim, depth, num_heads, .. } = self;
        let config = Config { image_size, patch_size, embed_dim, depth, num_heads, ..Config::default() };
        match family {
            Family::Vit | Family::Deit => config,
            Family::Deit3 => Config { layer_scale: true, no_embed_class: true, ..config },
            Family::Dinov2 => Config { layer_scale: true, ..config },
            Family::Dinov2Registers => Config { layer_scale: true, no_embed_class: true, reg_tokens: 4, ..config },
            Family::ClipQuickGelu => {
                Config { pre_norm: true, ln_eps: 1e-5, act_layer: Activation::QuickGelu, ..config }
            }
            Family::Clip => Config { pre_norm: true, ln_eps: 1e-5, ..config },
            Family::Siglip => Config { class_token: false, global_pool: GlobalPool::Map, ..config },
        }
    }

    /// How its pictures are normalised.
    pub fn normalization(&self) -> Normalization {
        match self.family {
            Family::Vit | Family::Siglip => Normalization::HALF,
            Family::Deit | Family::Deit3 | Family::Dinov2 | Family::Dinov2Registers => Normalization::IMAGENET,
            Family::ClipQuickGelu | Family::Clip => Normalization::CLIP,
        }
    }

    /// Checks that a checkpoint's configuration is of this architecture.
    ///
    /// # Errors
    /// [`VitError::OtherArchitecture`] with the first size that differs.
    pub fn check(&self, config: &Config) -> Result<(), VitError> {
        let own = self.config(config.image_size);
        let flag = usize::from;
        let sizes = [
            ("patch_size", own.patch_size, config.patch_size),
            ("embed_dim", own.embed_dim, config.embed_dim),
            ("depth", own.depth, config.depth),
            ("num_heads", own.num_heads, config.num_heads),
            ("layer_scale", flag(own.layer_scale), flag(config.layer_scale)),
            ("class_token", flag(own.class_token), flag(config.class_token)),
            ("reg_tokens", own.reg_tokens, config.reg_tokens),
            ("pre_norm", flag(own.pre_norm), flag(config.pre_norm)),
        ];
        match sizes.into_iter().find(|(_, expected, got)| expected != got) {
            Some((size, expected, got)) => Err(VitError::OtherArchitecture { name: self.name, size, expected, got }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tiny;
    use super::*;
    use crate::cost::Cost;
    use crate::vit::graph;

    #[test]
    fn a_name_stands_for_its_sizes_alone() {
        let architecture = Architecture::named("vit_small_patch14_dinov2").unwrap();
        assert!(ARCHITECTURES.iter().all(|known| known.check(&known.config([224, 224])).is_ok()));
        let config = Config {
            patch_size: 14,
            embed_dim: 384,
            depth: 12,
            num_heads: 6,
            layer_scale: true,
            num_classes: Some(7),
            ..tiny()
        };
        architecture.check(&config).unwrap();
        let error = architecture.check(&Config { depth: 11, ..config.clone() }).unwrap_err();
        assert!(matches!(error, VitError::OtherArchitecture { size: "depth", expected: 12, got: 11, .. }));
        let error = architecture.check(&Config { layer_scale: false, ..config }).unwrap_err();
        assert!(matches!(error, VitError::OtherArchitecture { size: "layer_scale", .. }));
    }

    #[test]
    fn an_unknown_name_brings_the_known_ones() {
        let error = Architecture::named("resnet50").unwrap_err().to_string();
        assert!(error.contains("resnet50") && error.contains("vit_base_patch16_224"), "{error}");
    }

    /// Parameters without a head, as `sum(p.numel() for p in timm.create_model(name, num_classes=0).parameters())` gives
    /// them, a pooling's query counted as the parameters that it is computed from.
    #[test]
    fn every_name_has_timms_parameters() {
        for (name, parameters) in TIMM_PARAMETERS {
            let architecture = Architecture::named(name).unwrap();
            let side = architecture.image_size;
            let cost = Cost::of(&graph(&architecture.config([side, side]))).unwrap();
            let width = architecture.embed_dim as u64;
            let added = match architecture.family {
                // A patch embedding without bias, and one of zeros.
                Family::Clip | Family::ClipQuickGelu => width,
                _ => 0,
            };
            // The query's projection `[D, D]`, its bias and the latent, less the query itself.
            let left_out = if architecture.family == Family::Siglip { width * width + width } else { 0 };
            assert_eq!(cost.parameters + left_out - added, parameters, "{name}");
        }
        assert_eq!(TIMM_PARAMETERS.len(), ARCHITECTURES.len());
    }

    include!("timm_parameters.rs");
}
