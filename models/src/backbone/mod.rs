//! A backbone of any architecture, from a file of weights.

mod error;
mod metadata;
mod normalization;
mod patch_head;
mod registry;

use std::path::Path;

use crate::checkpoint::{self, Checkpoint, CheckpointError, Publisher, to_timm};
use crate::{Graph, Op, Tensor, convnext, mobilevit, swin, vit};

pub use error::BackboneError;
pub(crate) use metadata::{activation, depth, depths, eps, list, missing, number, patches, shape, tubes, wrong};
pub use normalization::Normalization;
pub use patch_head::{mask_grid, with_patch_head};
pub use registry::{ARCHITECTURES, Architecture};

/// The sizes of a backbone.
#[derive(Debug, Clone, PartialEq)]
pub enum Config {
    /// A vision transformer.
    Vit(vit::Config),
    /// A Swin transformer of either version.
    Swin(swin::Config),
    /// A ConvNeXt of either version.
    ConvNext(convnext::Config),
    /// A MobileViT.
    MobileVit(mobilevit::Config),
}

impl Config {
    /// The graph without weights.
    pub fn graph(&self) -> Graph {
        match self {
            Self::Vit(config) => vit::graph(config),
            Self::Swin(config) => swin::graph(config),
            Self::ConvNext(config) => convnext::graph(config),
            Self::MobileVit(config) => mobilevit::graph(config),
        }
    }

    /// Height and width of a picture in pixels.
    pub fn image_size(&self) -> [usize; 2] {
        match self {
            Self::Vit(config) => config.image_size,
            Self::Swin(config) => config.image_size,
            Self::ConvNext(config) => config.image_size,
            Self::MobileVit(config) => config.image_size,
        }
    }

    /// Frames of a clip that it sees at a time; 1 where it sees a picture.
    pub fn num_frames(&self) -> usize {
        match self {
            Self::Vit(config) => config.num_frames,
            Self::Swin(_) | Self::ConvNext(_) | Self::MobileVit(_) => 1,
        }
    }

    /// What both sides of a picture must be a multiple of, in pixels.
    pub fn image_step(&self) -> usize {
        match self {
            Self::Vit(config) => config.patch_size,
            Self::Swin(config) => config.image_step(),
            Self::ConvNext(config) => config.image_step(),
            Self::MobileVit(config) => config.image_step(),
        }
    }

    /// Number of classes of the head; `None` for features alone.
    pub fn num_classes(&self) -> Option<usize> {
        match self {
            Self::Vit(config) => config.num_classes,
            Self::Swin(config) => config.num_classes,
            Self::ConvNext(config) => config.num_classes,
            Self::MobileVit(config) => config.num_classes,
        }
    }
}

/// A backbone that a file holds.
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
    /// The operators and their weights, ending with the features, or with `head` where the file has one.
    pub graph: Graph,
}

/// Reads a backbone from any file that [`checkpoint::read`] takes, with timm's, Hugging Face's or the authors' names, for
/// pictures of `image_size` (height and width; `None` for the size that the model was made for).
///
/// The architecture is told by the names, its sizes by the shapes. A vision transformer's position embeddings of another grid
/// are interpolated as the publisher of the file does it, see [`vit::Resampling::of`]. The file's metadata may say `name`, what
/// the architectures' `Config::detect` name, `mean` and `std`; so may the publisher's configuration beside it.
///
/// # Errors
/// When the file cannot be read, is no whole backbone that is known, leaves something open, or the picture does not fit it.
pub fn load(path: impl AsRef<Path>, image_size: Option<[usize; 2]>) -> Result<Backbone, BackboneError> {
    let path = path.as_ref();
    let checkpoint = checkpoint::read(path)?;
    let in_file = |error| match error {
        BackboneError::Checkpoint(cause) => {
            CheckpointError::File { path: path.to_owned(), cause: Box::new(cause) }.into()
        }
        other => other,
    };
    let (config, graph) = from_checkpoint(&checkpoint, image_size).map_err(in_file)?;
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = checkpoint.metadata.get("name").cloned().unwrap_or_else(stem);
    let normalization = Normalization::of(Publisher::of(&checkpoint.tensors), &config, &checkpoint.metadata);
    Ok(Backbone { name, sha256: checkpoint.sha256, config, normalization, graph })
}

/// The sizes of the model that a checkpoint holds, for pictures of the size that it was made for.
///
/// # Errors
/// As [`load`].
pub fn describe(checkpoint: &Checkpoint) -> Result<Config, BackboneError> {
    let publisher = Publisher::of(&checkpoint.tensors);
    let metadata = publisher.defaults(&checkpoint.metadata);
    let weights = to_timm(&checkpoint.tensors)?;
    Ok(match Kind::of(weights.keys().map(String::as_str)) {
        Kind::Vit => Config::Vit(vit::configuration(weights, &metadata)?),
        Kind::Swin => Config::Swin(swin::Config::detect(&weights, &metadata)?),
        Kind::ConvNext => Config::ConvNext(convnext::Config::detect(&weights, &metadata)?),
        Kind::MobileVit => Config::MobileVit(mobilevit::Config::detect(&weights, &metadata)?),
    })
}

fn from_checkpoint(checkpoint: &Checkpoint, image_size: Option<[usize; 2]>) -> Result<(Config, Graph), BackboneError> {
    let publisher = Publisher::of(&checkpoint.tensors);
    let metadata = publisher.defaults(&checkpoint.metadata);
    let weights = to_timm(&checkpoint.tensors)?;
    let (config, mut graph) = match Kind::of(weights.keys().map(String::as_str)) {
        Kind::Vit => {
            let (config, graph) = vit::from_weights(weights, publisher, &metadata, image_size)?;
            (Config::Vit(config), graph)
        }
        Kind::Swin => {
            let (config, graph) = swin::from_weights(weights, &metadata, image_size)?;
            (Config::Swin(config), graph)
        }
        Kind::ConvNext => {
            let (config, graph) = convnext::from_weights(weights, &metadata, image_size)?;
            (Config::ConvNext(config), graph)
        }
        Kind::MobileVit => {
            let (config, graph) = mobilevit::from_weights(weights, &metadata, image_size)?;
            (Config::MobileVit(config), graph)
        }
    };
    graph.validate()?;
    graph.retain_used_weights()?;
    Ok((config, graph))
}

/// What timm's names are of.
enum Kind {
    Vit,
    Swin,
    ConvNext,
    MobileVit,
}

impl Kind {
    /// A vision transformer where they are of no other.
    fn of<'a>(mut names: impl Iterator<Item = &'a str> + Clone) -> Self {
        if names.clone().any(|name| name.starts_with("layers.")) {
            Self::Swin
        } else if names.clone().any(|name| name == "stem.conv.weight") {
            Self::MobileVit
        } else if names.any(|name| name.starts_with("stages.")) {
            Self::ConvNext
        } else {
            Self::Vit
        }
    }
}

/// The graph with a new head `[D]` to `[num_classes]` in place of any it had, weights `head.weight` `[C, D]` and
/// `head.bias` `[C]` zero: every class is as likely until it is trained.
///
/// # Errors
/// When the graph is not whole or the head is too large to address.
pub fn with_head(backbone: &Graph, num_classes: usize) -> Result<Graph, BackboneError> {
    let mut graph = backbone.clone();
    if graph.nodes.last().is_some_and(|node| node.name == "head") {
        graph.nodes.pop();
    }
    let features = graph.shapes()?.pop().unwrap_or_default();
    let width = features.last().copied().unwrap_or(0);
    let input = graph.nodes.len() - 1;
    graph.push("head", Op::Linear { out_features: num_classes, bias: true }, &[input]);
    graph.weights.insert("head.weight".to_owned(), Tensor::full([num_classes, width], 0.0)?);
    graph.weights.insert("head.bias".to_owned(), Tensor::full([num_classes], 0.0)?);
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_replaces_the_one_that_was_there() {
        let config = vit::Config {
            image_size: [8, 12],
            patch_size: 4,
            embed_dim: 16,
            depth: 1,
            num_heads: 2,
            num_classes: Some(9),
            ..vit::Config::default()
        };
        let backbone = vit::graph(&config);
        let graph = with_head(&backbone, 3).unwrap();
        assert_eq!(graph.nodes.len(), backbone.nodes.len());
        assert_eq!(graph.shapes().unwrap().last().unwrap(), &[3]);
        assert!(graph.weights["head.weight"].values().iter().all(|&value| value == 0.0));
        let features = vit::graph(&vit::Config { num_classes: None, ..config });
        assert_eq!(with_head(&features, 3).unwrap().shapes().unwrap().last().unwrap(), &[3]);
    }
}
