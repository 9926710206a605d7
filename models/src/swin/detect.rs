//! The configuration of a Swin transformer, told from its weights.

use std::collections::BTreeMap;

use super::{Config, V2};
use crate::Tensor;
use crate::backbone::{BackboneError, depths, eps, list, number, patches, shape, wrong};

/// The largest side of a window, for the table of its biases grows with its square.
const LARGEST_WINDOW: usize = 64;

impl Config {
    /// The configuration of the model that has these weights, by timm's names (see [`crate::checkpoint::to_timm`]).
    ///
    /// The tables of the first version's biases say how large its windows are; of the second version Microsoft's own files say
    /// it, and otherwise `metadata` must: `window_size`, and `pretrained_window_sizes` where the model was trained with others.
    /// The picture is that of `image_size`, or the one whose last map is one window. `layer_norm_eps` is 1e-5 where nothing is
    /// said.
    ///
    /// # Errors
    /// When a weight that tells one of these is missing or of another rank, or the rest cannot be told.
    pub fn detect(
        weights: &BTreeMap<String, Tensor>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, BackboneError> {
        let proj = "patch_embed.proj.weight";
        let [embed_dim, in_chans, patch_size] = patches(weights, proj)?;
        let depths = depths(weights, "layers.", "attn.qkv.weight")?;
        let is_v2 = weights.contains_key("layers.0.blocks.0.attn.logit_scale");
        let (mut num_heads, mut windows) = (Vec::new(), Vec::new());
        for stage in 0..depths.len() {
            let name = |part: &str| format!("layers.{stage}.blocks.0.attn.{part}");
            if is_v2 {
                num_heads.push(shape(weights, &name("logit_scale"))?.iter().product());
                windows.push(coordinates_window(weights, &name("relative_coords_table")));
            } else {
                let (window, heads) = table(weights, &name("relative_position_bias_table"))?;
                num_heads.push(heads);
                windows.push(Some(window));
            }
        }
        let window_sizes = match windows.into_iter().collect::<Option<Vec<usize>>>() {
            Some(windows) => windows,
            None => list(metadata, "window_size", depths.len())?.ok_or(BackboneError::UnknownWindows)?,
        };
        let is_size = |&size: &usize| size > 0 && size < 1 << 16;
        if let Some(window) = window_sizes.iter().find(|window| !(1..=LARGEST_WINDOW).contains(*window)) {
            let (value, expected) = (window.to_string(), format!("1 to {LARGEST_WINDOW} places"));
            return Err(BackboneError::Metadata { key: "window_size", value, expected });
        }
        let own = window_sizes.last().copied().unwrap_or(1).saturating_mul(patch_size << (depths.len() - 1));
        let side = number(metadata, "image_size", "a positive number of pixels", is_size)?.unwrap_or(own);
        let fc1 = "layers.0.blocks.0.mlp.fc1.weight";
        let &[mlp_hidden, _] = shape(weights, fc1)? else {
            return Err(wrong(fc1, "[hidden, D]", shape(weights, fc1)?));
        };
        let pretrained = list(metadata, "pretrained_window_sizes", depths.len())?;
        Ok(Self {
            image_size: [side; 2],
            patch_size,
            in_chans,
            embed_dim,
            num_heads,
            window_sizes,
            mlp_ratio: mlp_hidden as f32 / embed_dim as f32,
            patch_norm: weights.contains_key("patch_embed.norm.weight"),
            ln_eps: eps(metadata, "layer_norm_eps", 1e-5)?,
            v2: is_v2.then(|| V2 { pretrained_window_sizes: pretrained.unwrap_or_else(|| vec![0; depths.len()]) }),
            num_classes: weights.get("head.weight").and_then(|head| head.shape().first().copied()),
            depths,
        })
    }
}

/// Side of the window and number of heads of a table `[(2w - 1)^2, heads]`.
fn table(weights: &BTreeMap<String, Tensor>, name: &str) -> Result<(usize, usize), BackboneError> {
    match *shape(weights, name)? {
        [distances, heads] if is_odd_square(distances) && heads > 0 => Ok((distances.isqrt().div_ceil(2), heads)),
        ref got => Err(wrong(name, "[(2w - 1)^2, heads] of a square window", got)),
    }
}

fn is_odd_square(number: usize) -> bool {
    number % 2 == 1 && number.isqrt() * number.isqrt() == number
}

/// Side of the window whose coordinates Microsoft's files hold: `[1, 2w - 1, 2w - 1, 2]`.
fn coordinates_window(weights: &BTreeMap<String, Tensor>, name: &str) -> Option<usize> {
    match *weights.get(name)?.shape() {
        [1, height, width, 2] if height == width && height % 2 == 1 => Some(height.div_ceil(2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tiny;
    use super::super::{from_weights, graph};
    use super::*;

    fn filled(config: &Config) -> BTreeMap<String, Tensor> {
        let params = graph(config).params().unwrap().into_iter().flatten();
        params.map(|param| (param.name, Tensor::full(param.shape, 0.5).unwrap())).collect()
    }

    #[test]
    fn weights_tell_the_configuration_that_made_them() {
        let config = tiny(false);
        let weights = filled(&config);
        let square = Config { image_size: [16, 16], ..config.clone() };
        assert_eq!(Config::detect(&weights, &BTreeMap::new()).unwrap(), square);
        let (detected, graph) = from_weights(weights, &BTreeMap::new(), Some([16, 32])).unwrap();
        assert_eq!(detected, config);
        graph.validate().unwrap();
    }

    #[test]
    fn the_second_versions_windows_have_to_be_said() {
        let mut weights = filled(&tiny(true));
        for stage in 0..2 {
            let name = format!("layers.{stage}.blocks.0.attn.logit_scale");
            weights.insert(name, Tensor::full([2 << stage, 1, 1], 0.0).unwrap());
        }
        let error = Config::detect(&weights, &BTreeMap::new()).unwrap_err();
        assert!(matches!(error, BackboneError::UnknownWindows), "{error}");
        let metadata = BTreeMap::from([("window_size".to_owned(), "4".to_owned())]);
        let detected = Config::detect(&weights, &metadata).unwrap();
        assert_eq!(detected, Config { image_size: [16, 16], ..tiny(true) });
        let metadata = BTreeMap::from([("window_size".to_owned(), "0".to_owned())]);
        assert!(matches!(Config::detect(&weights, &metadata), Err(BackboneError::Metadata { key: "window_size", .. })));
    }
}
