//! Architectures by timm's names, and where weights of theirs are published.

use super::{BackboneError, Config, Normalization};
use crate::vit::GlobalPool;
use crate::{Activation, convnext, mobilevit, swin, vit};

/// What the models of one publisher have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
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
    /// VideoMAE of clips of 16 frames.
    VideoMae,
}

/// What tells one architecture from others of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sizes {
    /// Patch; width, depth, heads.
    Vit(Family, usize, [usize; 3]),
    /// Window; width, heads of the first stage, depth of the third; whether it is the second version.
    Swin(usize, [usize; 3], bool),
    /// Depths; width of the first stage; whether it is the second version.
    ConvNext([usize; 4], usize, bool),
    /// Widths of the stages and of their transformers, expansion of the inverted residuals, width of the features.
    MobileVit([usize; 5], [usize; 3], usize, usize),
}

/// What a name stands for; the head is the checkpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// timm's name.
    pub name: &'static str,
    /// Side of the pictures that it was made for, in pixels.
    pub image_size: usize,
    /// A repository on Hugging Face that holds such weights.
    pub source: &'static str,
    /// Their licence.
    pub licence: &'static str,
    sizes: Sizes,
}

const fn vit(
    name: &'static str,
    family: Family,
    [image_size, patch_size]: [usize; 2],
    sizes: [usize; 3],
    source: &'static str,
    licence: &'static str,
) -> Architecture {
    Architecture { name, image_size, source, licence, sizes: Sizes::Vit(family, patch_size, sizes) }
}

const fn swin(
    name: &'static str,
    [image_size, window]: [usize; 2],
    sizes: [usize; 3],
    source: &'static str,
    licence: &'static str,
) -> Architecture {
    Architecture { name, image_size, source, licence, sizes: Sizes::Swin(window, sizes, false) }
}

const fn swinv2(
    name: &'static str,
    [image_size, window]: [usize; 2],
    sizes: [usize; 3],
    source: &'static str,
    licence: &'static str,
) -> Architecture {
    Architecture { name, image_size, source, licence, sizes: Sizes::Swin(window, sizes, true) }
}

const fn convnext(
    name: &'static str,
    depths: [usize; 4],
    width: usize,
    source: &'static str,
    licence: &'static str,
) -> Architecture {
    Architecture { name, image_size: 224, source, licence, sizes: Sizes::ConvNext(depths, width, false) }
}

const fn convnextv2(
    name: &'static str,
    depths: [usize; 4],
    width: usize,
    source: &'static str,
    licence: &'static str,
) -> Architecture {
    Architecture { name, image_size: 224, source, licence, sizes: Sizes::ConvNext(depths, width, true) }
}

const fn mobilevit(
    name: &'static str,
    chs: [usize; 5],
    dims: [usize; 3],
    [ratio, num_features]: [usize; 2],
    source: &'static str,
    licence: &'static str,
) -> Architecture {
    Architecture { name, image_size: 256, source, licence, sizes: Sizes::MobileVit(chs, dims, ratio, num_features) }
}

const TINY: [usize; 3] = [192, 12, 3];
const SMALL: [usize; 3] = [384, 12, 6];
const BASE: [usize; 3] = [768, 12, 12];
const LARGE: [usize; 3] = [1024, 24, 16];
const HUGE: [usize; 3] = [1280, 32, 16];
const SWIN_T: [usize; 3] = [96, 3, 6];
const SWIN_S: [usize; 3] = [96, 3, 18];
const SWIN_B: [usize; 3] = [128, 4, 18];
const SWIN_L: [usize; 3] = [192, 6, 18];
const APACHE: &str = "Apache-2.0";
const MIT: &str = "MIT";
const CC_BY_NC: &str = "CC-BY-NC-4.0";
const CVNETS: &str = "CVNets";

/// The architectures that have a name, as timm's `vision_transformer.py`, `swin_transformer.py`, `swin_transformer_v2.py`,
/// `convnext.py` and `mobilevit.py` define them; timm has no name for VideoMAE's, which are the publisher's sizes.
#[rustfmt::skip]
pub const ARCHITECTURES: [Architecture; 59] = [
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
    vit("vit_small_patch16_videomae_224", Family::VideoMae, [224, 16], SMALL, "MCG-NJU/videomae-small-finetuned-kinetics", CC_BY_NC),
    vit("vit_base_patch16_videomae_224", Family::VideoMae, [224, 16], BASE, "MCG-NJU/videomae-base-finetuned-kinetics", CC_BY_NC),
    vit("vit_large_patch16_videomae_224", Family::VideoMae, [224, 16], LARGE, "MCG-NJU/videomae-large-finetuned-kinetics", CC_BY_NC),
    swin("swin_tiny_patch4_window7_224", [224, 7], SWIN_T, "timm/swin_tiny_patch4_window7_224.ms_in22k", MIT),
    swin("swin_small_patch4_window7_224", [224, 7], SWIN_S, "timm/swin_small_patch4_window7_224.ms_in22k", MIT),
    swin("swin_base_patch4_window7_224", [224, 7], SWIN_B, "timm/swin_base_patch4_window7_224.ms_in22k", MIT),
    swin("swin_base_patch4_window12_384", [384, 12], SWIN_B, "timm/swin_base_patch4_window12_384.ms_in22k", MIT),
    swin("swin_large_patch4_window7_224", [224, 7], SWIN_L, "timm/swin_large_patch4_window7_224.ms_in22k", MIT),
    swinv2("swinv2_tiny_window8_256", [256, 8], SWIN_T, "timm/swinv2_tiny_window8_256.ms_in1k", MIT),
    swinv2("swinv2_tiny_window16_256", [256, 16], SWIN_T, "timm/swinv2_tiny_window16_256.ms_in1k", MIT),
    swinv2("swinv2_small_window8_256", [256, 8], SWIN_S, "timm/swinv2_small_window8_256.ms_in1k", MIT),
    swinv2("swinv2_base_window8_256", [256, 8], SWIN_B, "timm/swinv2_base_window8_256.ms_in1k", MIT),
    convnext("convnext_atto", [2, 2, 6, 2], 40, "timm/convnext_atto.d2_in1k", APACHE),
    convnext("convnext_femto", [2, 2, 6, 2], 48, "timm/convnext_femto.d1_in1k", APACHE),
    convnext("convnext_pico", [2, 2, 6, 2], 64, "timm/convnext_pico.d1_in1k", APACHE),
    convnext("convnext_nano", [2, 2, 8, 2], 80, "timm/convnext_nano.in12k", APACHE),
    convnext("convnext_tiny", [3, 3, 9, 3], 96, "timm/convnext_tiny.fb_in22k", APACHE),
    convnext("convnext_small", [3, 3, 27, 3], 96, "timm/convnext_small.fb_in22k", APACHE),
    convnext("convnext_base", [3, 3, 27, 3], 128, "timm/convnext_base.fb_in22k", APACHE),
    convnext("convnext_large", [3, 3, 27, 3], 192, "timm/convnext_large.fb_in22k", APACHE),
    convnextv2("convnextv2_atto", [2, 2, 6, 2], 40, "timm/convnextv2_atto.fcmae_ft_in1k", CC_BY_NC),
    convnextv2("convnextv2_femto", [2, 2, 6, 2], 48, "timm/convnextv2_femto.fcmae_ft_in1k", CC_BY_NC),
    convnextv2("convnextv2_pico", [2, 2, 6, 2], 64, "timm/convnextv2_pico.fcmae_ft_in1k", CC_BY_NC),
    convnextv2("convnextv2_nano", [2, 2, 8, 2], 80, "timm/convnextv2_nano.fcmae_ft_in22k_in1k", CC_BY_NC),
    convnextv2("convnextv2_tiny", [3, 3, 9, 3], 96, "timm/convnextv2_tiny.fcmae_ft_in22k_in1k", CC_BY_NC),
    convnextv2("convnextv2_base", [3, 3, 27, 3], 128, "timm/convnextv2_base.fcmae_ft_in22k_in1k", CC_BY_NC),
    convnextv2("convnextv2_large", [3, 3, 27, 3], 192, "timm/convnextv2_large.fcmae_ft_in22k_in1k", CC_BY_NC),
    mobilevit("mobilevit_xxs", [16, 24, 48, 64, 80], [64, 80, 96], [2, 320], "timm/mobilevit_xxs.cvnets_in1k", CVNETS),
    mobilevit("mobilevit_xs", [32, 48, 64, 80, 96], [96, 120, 144], [4, 384], "timm/mobilevit_xs.cvnets_in1k", CVNETS),
    mobilevit("mobilevit_s", [32, 64, 96, 128, 160], [144, 192, 240], [4, 640], "timm/mobilevit_s.cvnets_in1k", CVNETS),
];

impl Architecture {
    /// The architecture that timm calls `name`.
    ///
    /// # Errors
    /// [`BackboneError::UnknownArchitecture`] with the names there are.
    pub fn named(name: &str) -> Result<Self, BackboneError> {
        let found = ARCHITECTURES.into_iter().find(|architecture| architecture.name == name);
        found.ok_or_else(|| BackboneError::UnknownArchitecture {
            name: name.to_owned(),
            known: ARCHITECTURES.map(|architecture| architecture.name).join(", "),
        })
    }

    /// A configuration of this architecture for pictures of `image_size` (height, width), without a head.
    pub fn config(&self, image_size: [usize; 2]) -> Config {
        match self.sizes {
            Sizes::Vit(family, patch_size, sizes) => Config::Vit(vit_config(family, patch_size, sizes, image_size)),
            Sizes::Swin(window, [embed_dim, heads, third], is_v2) => Config::Swin(swin::Config {
                image_size,
                embed_dim,
                depths: vec![2, 2, third, 2],
                num_heads: (0..4).map(|stage| heads << stage).collect(),
                window_sizes: vec![window; 4],
                v2: is_v2.then(|| swin::V2 { pretrained_window_sizes: vec![0; 4] }),
                ..swin::Config::default()
            }),
            Sizes::ConvNext(depths, width, is_v2) => Config::ConvNext(convnext::Config {
                image_size,
                depths: depths.to_vec(),
                dims: (0..4).map(|stage| width << stage).collect(),
                layer_scale: !is_v2,
                use_grn: is_v2,
                ..convnext::Config::default()
            }),
            Sizes::MobileVit(chs, dims, ratio, num_features) => {
                let config = mobilevit::Config::of_widths(chs, dims, ratio, num_features);
                Config::MobileVit(mobilevit::Config { image_size, ..config })
            }
        }
    }

    /// How its pictures are normalised.
    pub fn normalization(&self) -> Normalization {
        match self.sizes {
            Sizes::Vit(Family::Vit | Family::Siglip, ..) => Normalization::HALF,
            Sizes::Vit(Family::ClipQuickGelu | Family::Clip, ..) => Normalization::CLIP,
            Sizes::Vit(..) | Sizes::Swin(..) | Sizes::ConvNext(..) => Normalization::IMAGENET,
            Sizes::MobileVit(..) => Normalization::NONE,
        }
    }

    /// Checks that a checkpoint's configuration is of this architecture.
    ///
    /// # Errors
    /// [`BackboneError::OtherArchitecture`] with the first size that differs.
    pub fn check(&self, config: &Config) -> Result<(), BackboneError> {
        let own = sizes(&self.config(config.image_size()));
        let differs = own.iter().zip(sizes(config)).find(|(own, got)| **own != *got);
        match differs {
            Some((&(size, expected), (_, got))) => {
                Err(BackboneError::OtherArchitecture { name: self.name, size, expected, got })
            }
            None => Ok(()),
        }
    }
}

fn vit_config(
    family: Family,
    patch_size: usize,
    [embed_dim, depth, num_heads]: [usize; 3],
    image_size: [usize; 2],
) -> vit::Config {
    let config = vit::Config { image_size, patch_size, embed_dim, depth, num_heads, ..vit::Config::default() };
    match family {
        Family::Vit | Family::Deit => config,
        Family::Deit3 => vit::Config { layer_scale: true, no_embed_class: true, ..config },
        Family::Dinov2 => vit::Config { layer_scale: true, ..config },
        Family::Dinov2Registers => vit::Config { layer_scale: true, no_embed_class: true, reg_tokens: 4, ..config },
        Family::ClipQuickGelu => {
            vit::Config { pre_norm: true, ln_eps: 1e-5, act_layer: Activation::QuickGelu, ..config }
        }
        Family::Clip => vit::Config { pre_norm: true, ln_eps: 1e-5, ..config },
        Family::Siglip => vit::Config { class_token: false, global_pool: GlobalPool::Map, ..config },
        Family::VideoMae => vit::Config {
            num_frames: 16,
            tubelet_size: 2,
            class_token: false,
            global_pool: GlobalPool::AvgFcNorm,
            ..config
        },
    }
}

/// What the first of [`sizes`] says.
const KIND: &str = "architecture (0 is a ViT, 1 a Swin, 2 a ConvNeXt, 3 a MobileViT)";

/// The sizes that a name stands for, the kind of architecture first, by their names.
fn sizes(config: &Config) -> Vec<(&'static str, usize)> {
    let flag = usize::from;
    match config {
        Config::Vit(config) => vec![
            (KIND, 0),
            ("patch_size", config.patch_size),
            ("embed_dim", config.embed_dim),
            ("depth", config.depth),
            ("num_heads", config.num_heads),
            ("layer_scale", flag(config.layer_scale)),
            ("class_token", flag(config.class_token)),
            ("reg_tokens", config.reg_tokens),
            ("pre_norm", flag(config.pre_norm)),
            ("tubelet_size", config.tubelet_size),
        ],
        Config::Swin(config) => {
            let mut sizes = vec![
                (KIND, 1),
                ("version", if config.v2.is_some() { 2 } else { 1 }),
                ("embed_dim", config.embed_dim),
                ("number of stages", config.depths.len()),
            ];
            sizes.extend(config.depths.iter().map(|&depth| ("depth of a stage", depth)));
            sizes.extend(config.num_heads.iter().map(|&heads| ("num_heads of a stage", heads)));
            sizes.extend(config.window_sizes.iter().map(|&window| ("window_size", window)));
            sizes
        }
        Config::ConvNext(config) => {
            let mut sizes = vec![
                (KIND, 2),
                ("use_grn", flag(config.use_grn)),
                ("layer_scale", flag(config.layer_scale)),
                ("number of stages", config.depths.len()),
            ];
            sizes.extend(config.depths.iter().map(|&depth| ("depth of a stage", depth)));
            sizes.extend(config.dims.iter().map(|&dim| ("width of a stage", dim)));
            sizes
        }
        Config::MobileVit(config) => {
            let mut sizes = vec![(KIND, 3), ("number of stages", config.stages.len()), ("stem_chs", config.stem_chs)];
            for stage in &config.stages {
                sizes.push(("inverted residuals of a stage", stage.bottlenecks.len()));
                let widths = stage.bottlenecks.iter().flat_map(|&[mid, out]| [mid, out]);
                sizes.extend(widths.map(|width| ("width of an inverted residual", width)));
                if let Some(transformer) = stage.transformer {
                    sizes.push(("embed_dim of a stage", transformer.embed_dim));
                    sizes.push(("depth of a stage", transformer.depth));
                }
            }
            sizes.push(("num_features", config.num_features));
            sizes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Cost;

    #[test]
    fn a_name_stands_for_its_sizes_alone() {
        let native = |known: &Architecture| known.config([known.image_size; 2]);
        assert!(ARCHITECTURES.iter().all(|known| known.check(&native(known)).is_ok()));
        let architecture = Architecture::named("vit_small_patch14_dinov2").unwrap();
        let Config::Vit(config) = architecture.config([56, 56]) else { panic!("a ViT") };
        architecture.check(&Config::Vit(vit::Config { num_classes: Some(7), ..config.clone() })).unwrap();
        let refused = |config| architecture.check(&config).unwrap_err();
        let error = refused(Config::Vit(vit::Config { depth: 11, ..config.clone() }));
        assert!(matches!(error, BackboneError::OtherArchitecture { size: "depth", expected: 12, got: 11, .. }));
        let error = refused(Config::Vit(vit::Config { layer_scale: false, ..config }));
        assert!(matches!(error, BackboneError::OtherArchitecture { size: "layer_scale", .. }));
        let error = refused(native(&Architecture::named("convnext_tiny").unwrap()));
        assert!(matches!(error, BackboneError::OtherArchitecture { expected: 0, got: 2, .. }), "{error}");
    }

    #[test]
    fn an_unknown_name_brings_the_known_ones() {
        let error = Architecture::named("resnet50").unwrap_err().to_string();
        assert!(error.contains("resnet50") && error.contains("vit_base_patch16_224"), "{error}");
    }

    /// Parameters without a head, as `sum(p.numel() for p in timm.create_model(name, num_classes=0).parameters())` gives
    /// them; what is computed from others once is counted as those.
    #[test]
    fn every_name_has_timms_parameters() {
        for (name, parameters) in TIMM_PARAMETERS {
            let architecture = Architecture::named(name).unwrap();
            let config = architecture.config([architecture.image_size; 2]);
            let cost = Cost::of(&config.graph()).unwrap();
            let (left_out, added) = match (&config, architecture.sizes) {
                // Positions that are computed, and biases of zeros for k.
                (Config::Vit(config), Sizes::Vit(Family::VideoMae, _, [width, depth, _])) => {
                    let [rows, columns] = config.grid().unwrap();
                    (0, (config.tubelets().unwrap() * rows * columns + depth) * width)
                }
                // A patch embedding without bias, and one of zeros.
                (_, Sizes::Vit(Family::Clip | Family::ClipQuickGelu, _, [width, ..])) => (0, width),
                // The query's projection `[D, D]`, its bias and the latent, less the query itself.
                (_, Sizes::Vit(Family::Siglip, _, [width, ..])) => (width * width + width, 0),
                (Config::Swin(config), Sizes::Swin(_, _, true)) => by_network(config),
                // The factors of the BatchNorms; their shifts are the convolutions' biases.
                (Config::MobileVit(_), _) => (biases_of_convolutions(&config.graph()), 0),
                _ => (0, 0),
            };
            assert_eq!(cost.parameters + left_out as u64 - added as u64, parameters, "{name}");
        }
        assert_eq!(TIMM_PARAMETERS.len(), ARCHITECTURES.len());
    }

    /// The networks of the biases, and what stands for them: their tables, and zeros for the biases of k.
    fn by_network(config: &swin::Config) -> (usize, usize) {
        let (mut left_out, mut added) = (0, 0);
        for (stage, (&depth, &heads)) in config.depths.iter().zip(&config.num_heads).enumerate() {
            let window = config.window_sizes[stage].min(config.image_size[0] / (config.patch_size << stage));
            left_out += depth * (512 * 3 + 512 * heads);
            added += depth * ((2 * window - 1).pow(2) * heads + (config.embed_dim << stage));
        }
        (left_out, added)
    }

    fn biases_of_convolutions(graph: &crate::Graph) -> usize {
        let params = graph.params().unwrap().into_iter().flatten();
        params.filter(|param| param.name.ends_with(".conv.bias")).map(|param| param.shape[0]).sum()
    }

    include!("timm_parameters.rs");
}
