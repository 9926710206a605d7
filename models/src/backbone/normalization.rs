//! By which mean and deviation a model's pictures are normalised.

use std::collections::BTreeMap;

use super::Config;
use crate::checkpoint::Publisher;
use crate::vit::GlobalPool;

/// Mean and standard deviation of the channels of a picture with values from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Mean of red, green and blue.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue.
    pub std: [f32; 3],
}

impl Normalization {
    /// ImageNet's: what most models take.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    /// As they are, from 0 to 1: MobileViT.
    pub const NONE: Self = Self { mean: [0.0; 3], std: [1.0; 3] };
    /// From -1 to 1: Google's models and SigLIP.
    pub const HALF: Self = Self { mean: [0.5; 3], std: [0.5; 3] };
    /// OpenAI's, of all CLIPs.
    pub const CLIP: Self =
        Self { mean: [0.481_454_66, 0.457_827_5, 0.408_210_73], std: [0.268_629_54, 0.261_302_6, 0.275_777_1] };

    /// What `metadata` say under `mean` and `std`, each three numbers in brackets, or else what the publisher's models of
    /// this kind take.
    pub(super) fn of(publisher: Publisher, config: &Config, metadata: &BTreeMap<String, String>) -> Self {
        let said = |key: &str| {
            let numbers: Option<[f32; 3]> = serde_json::from_str(metadata.get(key)?).ok();
            numbers.filter(|numbers| numbers.iter().all(|number| number.is_finite()))
        };
        if let (Some(mean), Some(std)) = (said("mean"), said("std"))
            && std.iter().all(|&std| std > 0.0)
        {
            return Self { mean, std };
        }
        let vit = match config {
            Config::Vit(vit) => vit,
            Config::MobileVit(_) => return Self::NONE,
            Config::Swin(_) | Config::ConvNext(_) => return Self::IMAGENET,
        };
        match publisher {
            Publisher::HuggingFaceClip | Publisher::OpenAiClip => Self::CLIP,
            Publisher::HuggingFaceSiglip | Publisher::HuggingFaceVit | Publisher::Jax => Self::HALF,
            Publisher::Timm if vit.pre_norm => Self::CLIP,
            Publisher::Timm if vit.global_pool == GlobalPool::Map => Self::HALF,
            _ => Self::IMAGENET,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vit;

    #[test]
    fn the_file_is_believed_before_the_publisher() {
        let mut metadata = BTreeMap::new();
        let vit = |pre_norm| Config::Vit(vit::Config { pre_norm, ..vit::Config::default() });
        let of = |metadata: &BTreeMap<String, String>| Normalization::of(Publisher::Timm, &vit(false), metadata);
        assert_eq!(of(&metadata), Normalization::IMAGENET);
        metadata.insert("mean".into(), "[0.5, 0.5, 0.25]".into());
        assert_eq!(of(&metadata), Normalization::IMAGENET, "one alone says nothing");
        metadata.insert("std".into(), "[0.5,0.5,0.5]".into());
        assert_eq!(of(&metadata), Normalization { mean: [0.5, 0.5, 0.25], std: [0.5; 3] });
        metadata.insert("std".into(), "[0.5,0,0.5]".into());
        assert_eq!(of(&metadata), Normalization::IMAGENET);
        assert_eq!(Normalization::of(Publisher::Timm, &vit(true), &BTreeMap::new()), Normalization::CLIP);
    }
}
