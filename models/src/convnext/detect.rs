//! The configuration of a ConvNeXt, told from its weights.

use std::collections::BTreeMap;

use super::Config;
use crate::Tensor;
use crate::backbone::{BackboneError, depths, eps, number, patches, shape, wrong};

/// The pictures that a ConvNeXt is made for where nothing is said; any other multiple of its strides serves it as well.
const IMAGE_SIZE: usize = 224;

impl Config {
    /// The configuration of the model that has these weights, by timm's names (see [`crate::checkpoint::to_timm`]).
    ///
    /// `metadata` may say `image_size`, `layer_norm_eps` and `head_norm_eps`, each 1e-6 otherwise.
    ///
    /// # Errors
    /// When a weight that tells one of these is missing or of another rank.
    pub fn detect(
        weights: &BTreeMap<String, Tensor>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, BackboneError> {
        let stem = "stem.0.weight";
        let [_, in_chans, patch_size] = patches(weights, stem)?;
        let depths = depths(weights, "stages.", "conv_dw.weight")?;
        let conv = |stage: usize| {
            let name = format!("stages.{stage}.blocks.0.conv_dw.weight");
            match *shape(weights, &name)? {
                [dim, 1, height, width] if height == width && height % 2 == 1 && dim > 0 => Ok((dim, height)),
                ref got => Err(wrong(&name, "[D, 1, k, k] with an odd square kernel", got)),
            }
        };
        let kernels: Vec<(usize, usize)> = (0..depths.len()).map(conv).collect::<Result<_, BackboneError>>()?;
        let (dims, kernel_size) = (kernels.iter().map(|(dim, _)| *dim).collect::<Vec<_>>(), kernels[0].1);
        let fc1 = "stages.0.blocks.0.mlp.fc1.weight";
        let hidden = shape(weights, fc1)?.first().copied().unwrap_or(0);
        let is_size = |&size: &usize| size > 0 && size < 1 << 16;
        let side = number(metadata, "image_size", "a positive number of pixels", is_size)?.unwrap_or(IMAGE_SIZE);
        let mut config = Self {
            image_size: [side; 2],
            patch_size,
            in_chans,
            kernel_size,
            mlp_ratio: hidden as f32 / dims[0] as f32,
            layer_scale: weights.contains_key("stages.0.blocks.0.gamma"),
            use_grn: weights.contains_key("stages.0.blocks.0.mlp.grn.weight"),
            ln_eps: eps(metadata, "layer_norm_eps", 1e-6)?,
            head_norm_eps: eps(metadata, "head_norm_eps", 1e-6)?,
            num_classes: weights.get("head.weight").and_then(|head| head.shape().first().copied()),
            depths,
            dims,
        };
        if !side.is_multiple_of(config.image_step()) {
            config.image_size = [side.next_multiple_of(config.image_step()); 2];
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tiny;
    use super::super::{from_weights, graph};
    use super::*;

    #[test]
    fn weights_tell_the_configuration_that_made_them() {
        for (layer_scale, use_grn) in [(true, false), (false, true)] {
            let config = Config { layer_scale, use_grn, ..tiny() };
            let params = graph(&config).params().unwrap().into_iter().flatten();
            let mut weights: BTreeMap<String, Tensor> =
                params.map(|param| (param.name, Tensor::full(param.shape, 0.5).unwrap())).collect();
            weights.insert("stages.1.downsample.1.weight".into(), Tensor::full([8, 4, 2, 2], 0.5).unwrap());
            let (detected, graph) = from_weights(weights, &BTreeMap::new(), Some([16, 24])).unwrap();
            assert_eq!(detected, config);
            graph.validate().unwrap();
        }
    }
}
