//! The configuration of a MobileViT, told from its weights.

use std::collections::BTreeMap;

use super::{Config, KERNEL, Stage, Transformer};
use crate::Tensor;
use crate::backbone::{BackboneError, eps, missing, number, shape, wrong};

/// The pictures that timm's are made for; any other multiple of the strides serves as well.
const IMAGE_SIZE: usize = 256;

impl Config {
    /// The configuration of the model that has these weights, by timm's names (see [`crate::checkpoint::to_timm`]).
    ///
    /// `metadata` may say `image_size`, `num_heads`, 4 otherwise, and `layer_norm_eps`, 1e-5 otherwise.
    ///
    /// # Errors
    /// When a weight that tells one of these is missing or of another rank.
    pub fn detect(
        weights: &BTreeMap<String, Tensor>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, BackboneError> {
        let [stem_chs, in_chans] = convolution(weights, "stem.conv.weight", KERNEL)?;
        let mut stages = Vec::new();
        while weights.contains_key(&format!("stages.{}.0.conv1_1x1.conv.weight", stages.len())) {
            stages.push(stage(weights, stages.len())?);
        }
        if stages.is_empty() {
            return missing("stages.0.0.conv1_1x1.conv.weight");
        }
        let dims: Vec<usize> = stages.iter().filter_map(|stage| Some(stage.transformer?.embed_dim)).collect();
        let divides = |&heads: &usize| heads > 0 && dims.iter().all(|dim| dim.is_multiple_of(heads));
        let expected = format!("a divisor of the widths {dims:?}");
        let num_heads = number(metadata, "num_heads", &expected, divides)?.unwrap_or(4);
        if !divides(&num_heads) {
            return Err(BackboneError::UnknownHeads { embed_dim: dims.first().copied().unwrap_or(0) });
        }
        let is_size = |&size: &usize| size > 0 && size < 1 << 16;
        let side = number(metadata, "image_size", "a positive number of pixels", is_size)?.unwrap_or(IMAGE_SIZE);
        let mut config = Self {
            image_size: [side; 2],
            in_chans,
            stem_chs,
            stages,
            patch_size: 2,
            num_heads,
            num_features: convolution(weights, "final_conv.conv.weight", 1)?[0],
            ln_eps: eps(metadata, "layer_norm_eps", 1e-5)?,
            num_classes: weights.get("head.weight").and_then(|head| head.shape().first().copied()),
        };
        config.image_size = [side.next_multiple_of(config.image_step()); 2];
        Ok(config)
    }
}

fn stage(weights: &BTreeMap<String, Tensor>, stage: usize) -> Result<Stage, BackboneError> {
    let mut bottlenecks = Vec::new();
    let name = |block: usize, module: &str| format!("stages.{stage}.{block}.{module}");
    while weights.contains_key(&name(bottlenecks.len(), "conv1_1x1.conv.weight")) {
        let of = |module: &str| convolution(weights, &name(bottlenecks.len(), module), 1);
        bottlenecks.push([of("conv1_1x1.conv.weight")?[0], of("conv3_1x1.conv.weight")?[0]]);
    }
    let block = bottlenecks.len();
    let pointwise = name(block, "conv_1x1.weight");
    if !weights.contains_key(&pointwise) {
        return Ok(Stage { bottlenecks, transformer: None });
    }
    let embed_dim = convolution(weights, &pointwise, 1)?[0];
    let has = |index: &usize| weights.contains_key(&name(block, &format!("transformer.{index}.norm1.weight")));
    let depth = (0..).take_while(has).count();
    let hidden = shape(weights, &name(block, "transformer.0.mlp.fc1.weight"))?;
    let mlp_hidden = hidden.first().copied().unwrap_or(0);
    if embed_dim == 0 {
        return Err(wrong(&pointwise, "[D, C, 1, 1]", shape(weights, &pointwise)?));
    }
    Ok(Stage { bottlenecks, transformer: Some(Transformer { embed_dim, depth, mlp_hidden }) })
}

/// Output and input channels of a convolution of this kernel.
fn convolution(weights: &BTreeMap<String, Tensor>, name: &str, kernel: usize) -> Result<[usize; 2], BackboneError> {
    match *shape(weights, name)? {
        [out, channels, height, width] if [height, width] == [kernel; 2] => Ok([out, channels]),
        ref got => Err(wrong(name, &format!("[out, in, {kernel}, {kernel}]"), got)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tiny;
    use super::super::{from_weights, graph};
    use super::*;

    #[test]
    fn weights_tell_the_configuration_that_made_them() {
        let config = tiny();
        let mut weights = BTreeMap::new();
        for param in graph(&config).params().unwrap().into_iter().flatten() {
            let kernel = match *param.shape {
                [out, covered] if param.name.ends_with("conv_1x1.weight") => vec![out, covered, 1, 1],
                [out, covered] if param.name.ends_with(".conv.weight") => {
                    let is_wide = ["stem.", ".conv_kxk.", ".conv_fusion."].iter().any(|wide| param.name.contains(wide));
                    if is_wide { vec![out, covered / 9, 3, 3] } else { vec![out, covered, 1, 1] }
                }
                _ => param.shape,
            };
            weights.insert(param.name, Tensor::full(kernel, 0.5).unwrap());
        }
        let (detected, graph) = from_weights(weights, &BTreeMap::new(), Some([64, 128])).unwrap();
        assert_eq!(detected, config);
        graph.validate().unwrap();
    }
}
