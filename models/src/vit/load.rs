//! From a file of weights to a graph with its weights in.

use std::path::Path;

use super::pos_embed::{Resampling, resample};
use super::weights::complete;
use super::{Config, Normalization, VitError, graph};
use crate::Graph;
use crate::checkpoint::{self, Checkpoint, CheckpointError, Publisher, to_timm};

/// A vision transformer that a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Backbone {
    /// `name` of the file's metadata, or the file's name without its ending.
    pub name: String,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
    /// Its sizes, with the image size that was asked for.
    pub config: Config,
    /// How its pictures are normalised.
    pub normalization: Normalization,
    /// The operators and their weights, ending at `pool`, or at `head` where the file has one.
    pub graph: Graph,
}

/// Reads a vision transformer from any file that [`checkpoint::read`] takes, with timm's, Hugging Face's, OpenAI's or
/// Google's names, for pictures of `image_size` (height and width; `None` for the size that the model was made for).
///
/// Position embeddings of another grid are interpolated as the publisher of the file does it, see [`Resampling::of`].
/// The file's metadata may say `name`, `num_heads`, `layer_norm_eps` and `act_layer`, see [`Config::detect`], `mean` and
/// `std`; so may the publisher's configuration beside it.
///
/// # Errors
/// When the file cannot be read, is no whole vision transformer, leaves something open, or the picture cannot be cut into whole patches.
pub fn load(path: impl AsRef<Path>, image_size: Option<[usize; 2]>) -> Result<Backbone, VitError> {
    let path = path.as_ref();
    let checkpoint = checkpoint::read(path)?;
    let in_file = |error| match error {
        VitError::Checkpoint(cause) => CheckpointError::File { path: path.to_owned(), cause: Box::new(cause) }.into(),
        other => other,
    };
    let (config, graph) = from_checkpoint(&checkpoint, image_size).map_err(in_file)?;
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = checkpoint.metadata.get("name").cloned().unwrap_or_else(stem);
    let normalization = Normalization::of(Publisher::of(&checkpoint.tensors), &config, &checkpoint.metadata);
    Ok(Backbone { name, sha256: checkpoint.sha256, config, normalization, graph })
}

/// The sizes of the model that a checkpoint holds, for pictures of the size that it was made for; see [`Config::detect`].
///
/// # Errors
/// As [`load`].
pub fn describe(checkpoint: &Checkpoint) -> Result<Config, VitError> {
    let mut weights = to_timm(&checkpoint.tensors)?;
    complete(&mut weights)?;
    Config::detect(&weights, &Publisher::of(&checkpoint.tensors).defaults(&checkpoint.metadata))
}

fn from_checkpoint(checkpoint: &Checkpoint, image_size: Option<[usize; 2]>) -> Result<(Config, Graph), VitError> {
    let publisher = Publisher::of(&checkpoint.tensors);
    let mut weights = to_timm(&checkpoint.tensors)?;
    complete(&mut weights)?;
    let metadata = publisher.defaults(&checkpoint.metadata);
    let mut config = match image_size {
        None => Config::detect(&weights, &metadata)?,
        Some(size) => Config { image_size: size, ..Config::detect_but_image_size(&weights, &metadata)? },
    };
    let grid = config.grid()?;
    // Reports a misshapen tensor before it is resampled.
    let (positions, no_embed_class) = config.positions(&weights, Some(grid))?;
    config.no_embed_class = no_embed_class;
    if let Some(pos_embed) = weights.get_mut("pos_embed") {
        let side = positions.isqrt();
        if side * side == positions {
            let prefix = usize::from(config.class_token && !no_embed_class);
            *pos_embed = resample(pos_embed, prefix, [side; 2], grid, Resampling::of(publisher))?;
        } else if grid[0].checked_mul(grid[1]) != Some(positions) {
            return Err(VitError::UnknownGrid { positions, patch_size: config.patch_size });
        }
    }
    let mut graph = graph(&config);
    graph.weights = weights;
    graph.validate()?;
    graph.retain_used_weights()?;
    Ok((config, graph))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::{filled, tiny};
    use super::*;
    use crate::Tensor;
    use crate::checkpoint::write_safetensors;

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
        assert_eq!((backbone.name.as_str(), &backbone.config, &backbone.graph), ("tiny", &config, &expected));
        assert_eq!(backbone.sha256, checkpoint::read(&path).unwrap().sha256);
    }

    #[test]
    fn another_picture_size_has_its_own_positions() {
        let (_folder, path) = saved(&filled(&Config { image_size: [12, 12], ..tiny() }).weights);
        let backbone = load(&path, Some([8, 20])).unwrap();
        assert_eq!(backbone.graph.weights["pos_embed"].shape(), [1, 1 + 2 * 5, 16]);
        assert!(matches!(load(&path, Some([8, 21])), Err(VitError::ImageSize { width: 21, .. })));
    }

    #[test]
    fn positions_of_an_oblong_picture_serve_that_picture_alone() {
        let oblong = filled(&tiny());
        let (_folder, path) = saved(&oblong.weights);
        assert_eq!(load(&path, Some([8, 12])).unwrap().graph, oblong);
        assert!(matches!(load(&path, Some([8, 8])), Err(VitError::UnknownGrid { positions: 6, .. })));
        assert!(matches!(load(&path, None), Err(VitError::UnknownGrid { positions: 6, .. })));
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
