//! From weights under timm's names to a configuration and a graph with its weights in.

use std::collections::BTreeMap;

use super::pos_embed::{Resampling, resample};
use super::weights::complete;
use super::{Config, clip, graph};
use crate::backbone::{BackboneError, shape, wrong};
use crate::checkpoint::Publisher;
use crate::{Graph, Tensor};

/// The sizes of the model that has these weights, for pictures of the size that it was made for; see [`Config::detect`].
///
/// # Errors
/// When a weight is missing or of another rank, or something is left open.
pub(crate) fn configuration(
    mut weights: BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<Config, BackboneError> {
    complete(&mut weights)?;
    Config::detect(&weights, metadata)
}

/// The sizes and the graph of the model that has these weights, for pictures of `image_size`, its position embeddings
/// interpolated where they are of another grid.
///
/// # Errors
/// As [`configuration`], and when the picture cannot be cut into whole patches.
pub(crate) fn from_weights(
    mut weights: BTreeMap<String, Tensor>,
    publisher: Publisher,
    metadata: &BTreeMap<String, String>,
    image_size: Option<[usize; 2]>,
) -> Result<(Config, Graph), BackboneError> {
    complete(&mut weights)?;
    let mut config = match image_size {
        None => Config::detect(&weights, metadata)?,
        Some(size) => Config { image_size: size, ..Config::detect_but_image_size(&weights, metadata)? },
    };
    let grid = config.grid()?;
    let tubelets = config.tubelets()?;
    if config.tubelet_size > 1 {
        if config.computes_positions(&weights) {
            // Weights that are there say that a token is as wide: a small file cannot ask for large positions.
            let (qkv, width) = ("blocks.0.attn.qkv.weight", config.embed_dim);
            if shape(&weights, qkv)? != [3 * width, width] {
                return Err(wrong(qkv, &format!("[{}, {width}]", 3 * width), shape(&weights, qkv)?));
            }
            let native = Config { image_size: [Config::clip_size(metadata)?; 2], ..config.clone() };
            let count = native.grid()?.iter().fold(tubelets, |count, side| count.saturating_mul(*side));
            weights.insert("pos_embed".to_owned(), clip::sinusoid(count, config.embed_dim)?);
        }
        if let Some(kernel) = weights.get_mut("patch_embed.proj.weight") {
            *kernel = clip::flat_kernel(kernel)?;
        }
    }
    // Reports a misshapen tensor before it is resampled.
    let (positions, no_embed_class) = config.positions(&weights, Some(grid))?;
    config.no_embed_class = no_embed_class;
    if let Some(pos_embed) = weights.get_mut("pos_embed") {
        let side = positions.isqrt();
        if side * side == positions {
            let (side, resampling) = ([side; 2], Resampling::of(publisher));
            let prefix = if no_embed_class { 0 } else { config.num_prefix_tokens() - config.reg_tokens };
            *pos_embed = match tubelets {
                1 => resample(pos_embed, prefix, side, grid, resampling)?,
                _ => clip::resample_each(pos_embed, tubelets, side, grid, resampling)?,
            };
        } else if grid[0].checked_mul(grid[1]) != Some(positions) {
            return Err(BackboneError::UnknownGrid { positions, patch_size: config.patch_size });
        }
    }
    let mut graph = graph(&config);
    graph.weights = weights;
    Ok((config, graph))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::{filled, tiny};
    use super::*;
    use crate::backbone::{self, load};
    use crate::checkpoint::{self, write_safetensors};

    fn saved(weights: &BTreeMap<String, Tensor>) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.safetensors");
        write_safetensors(&path, weights, &BTreeMap::from([("num_heads".to_owned(), "2".to_owned())])).unwrap();
        (folder, path)
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let config = Config { image_size: [12, 12], num_classes: Some(4), ..tiny() };
        let expected = filled(&config);
        let (_folder, path) = saved(&expected.weights);
        let backbone = load(&path, None).unwrap();
        assert_eq!(
            (backbone.name.as_str(), &backbone.config, &backbone.graph),
            ("tiny", &backbone::Config::Vit(config), &expected)
        );
        assert_eq!(backbone.sha256, checkpoint::read(&path).unwrap().sha256);
    }

    #[test]
    fn another_picture_size_has_its_own_positions() {
        let (_folder, path) = saved(&filled(&Config { image_size: [12, 12], ..tiny() }).weights);
        let backbone = load(&path, Some([8, 20])).unwrap();
        assert_eq!(backbone.graph.weights["pos_embed"].shape(), [1, 1 + 2 * 5, 16]);
        assert!(matches!(load(&path, Some([8, 21])), Err(BackboneError::ImageSize { width: 21, .. })));
    }

    #[test]
    fn positions_of_an_oblong_picture_serve_that_picture_alone() {
        let oblong = filled(&tiny());
        let (_folder, path) = saved(&oblong.weights);
        assert_eq!(load(&path, Some([8, 12])).unwrap().graph, oblong);
        assert!(matches!(load(&path, Some([8, 8])), Err(BackboneError::UnknownGrid { positions: 6, .. })));
        assert!(matches!(load(&path, None), Err(BackboneError::UnknownGrid { positions: 6, .. })));
    }

    #[test]
    fn a_missing_and_a_misshapen_weight_are_named() {
        let mut weights = filled(&Config { image_size: [12, 12], ..tiny() }).weights;
        weights.insert("blocks.1.mlp.fc2.weight".into(), Tensor::full([16, 16], 0.0).unwrap());
        let (_folder, path) = saved(&weights);
        let error = load(&path, None).unwrap_err().to_string();
        assert!(error.contains("`blocks.1.mlp.fc2.weight` has shape [16, 16], the model needs [16, 64]"), "{error}");
        weights.remove("blocks.1.mlp.fc2.weight");
        let (_folder, path) = saved(&weights);
        let error = load(&path, None).unwrap_err().to_string();
        assert!(error.contains("`blocks.1.mlp.fc2.weight` [16, 64] is missing"), "{error}");
    }
}
