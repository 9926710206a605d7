//! Architectures by timm's names.

use super::{Config, VitError};

/// The sizes that a name stands for; picture size and head are the checkpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// timm's name.
    pub name: &'static str,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width of a token.
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of heads.
    pub num_heads: usize,
    /// Whether the branches are scaled (DINOv2).
    pub layer_scale: bool,
}

const fn vit(
    name: &'static str,
    patch_size: usize,
    [embed_dim, depth, num_heads]: [usize; 3],
    layer_scale: bool,
) -> Architecture {
    Architecture { name, patch_size, embed_dim, depth, num_heads, layer_scale }
}

const TINY: [usize; 3] = [192, 12, 3];
const SMALL: [usize; 3] = [384, 12, 6];
const BASE: [usize; 3] = [768, 12, 12];
const LARGE: [usize; 3] = [1024, 24, 16];
const HUGE: [usize; 3] = [1280, 32, 16];

/// The architectures that have a name, as timm's `vision_transformer.py` defines them.
pub const ARCHITECTURES: [Architecture; 11] = [
    vit("vit_tiny_patch16_224", 16, TINY, false),
    vit("vit_small_patch16_224", 16, SMALL, false),
    vit("vit_small_patch32_224", 32, SMALL, false),
    vit("vit_base_patch16_224", 16, BASE, false),
    vit("vit_base_patch32_224", 32, BASE, false),
    vit("vit_large_patch16_224", 16, LARGE, false),
    vit("vit_large_patch32_224", 32, LARGE, false),
    vit("vit_huge_patch14_224", 14, HUGE, false),
    vit("vit_small_patch14_dinov2", 14, SMALL, true),
    vit("vit_base_patch14_dinov2", 14, BASE, true),
    vit("vit_large_patch14_dinov2", 14, LARGE, true),
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
        Config {
            image_size,
            patch_size: self.patch_size,
            embed_dim: self.embed_dim,
            depth: self.depth,
            num_heads: self.num_heads,
            layer_scale: self.layer_scale,
            ..Config::default()
        }
    }

    /// Checks that a checkpoint's configuration is of this architecture.
    ///
    /// # Errors
    /// [`VitError::OtherArchitecture`] with the first size that differs.
    pub fn check(&self, config: &Config) -> Result<(), VitError> {
        let sizes = [
            ("patch_size", self.patch_size, config.patch_size),
            ("embed_dim", self.embed_dim, config.embed_dim),
            ("depth", self.depth, config.depth),
            ("num_heads", self.num_heads, config.num_heads),
            ("layer_scale", usize::from(self.layer_scale), usize::from(config.layer_scale)),
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
}
