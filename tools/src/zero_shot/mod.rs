//! A head from words: the names of classes, put into sentences, through a CLIP's text tower (arXiv 2103.00020).
//!
//! CLIP gives class `c` the logit `scale cos(P x, t_c)` for a picture's features `x`, the projection `P` and a text's vector
//! `t_c`. With texts of length 1 this is `(scale / |P x|) t_c P x`: but for the length `|P x|`, which changes no order of
//! classes, one linear layer. The length of some pictures' projections stands for all of them.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use edge_vit::Preprocessing;
use edge_vit_models::adapter::{Adaptation, AdapterError, File, Meta};
use edge_vit_models::backbone::{self, Backbone, BackboneError};
use edge_vit_models::method::MethodSpec;
use edge_vit_models::text::{TextError, Tower};
use edge_vit_models::{Task, Tensor, TensorError};
use serde_json::json;
use thiserror::Error;

use crate::cpu::CpuEngine;
use crate::data::{DataError, Dataset, open_picture};
use crate::engine::{Engine as _, EngineError};
use crate::preprocessing;

pub use text::Texts;

/// The most pictures whose projections are measured.
const PICTURES: usize = 32;
/// The place of the class's name in a sentence.
const PLACE: &str = "{}";

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// A whole CLIP, with both towers.
    pub backbone: PathBuf,
    /// The tokenizer's `tokenizer.json`; `None` for the one beside the backbone.
    pub tokenizer: Option<PathBuf>,
    /// Pictures, a folder a class: see [`Dataset::read`].
    pub data: PathBuf,
    /// Sentences with `{}` in place of the class's name.
    pub templates: Vec<String>,
    /// Side of the square that pictures are resized to; `None` for the CLIP's own.
    pub image_size: Option<usize>,
    /// Where to write the head.
    pub out: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The classes, in the order of the head's rows.
    pub labels: Vec<String>,
    /// Number of sentences.
    pub texts: usize,
    /// The mean length of the pictures' projections.
    pub length: f64,
    /// Number of pictures that it was measured on.
    pub pictures: usize,
}

/// Why there is no head.
#[derive(Debug, Error)]
pub enum ZeroShotError {
    /// The backbone cannot be read.
    #[error("backbone {}: {source}", path.display())]
    Backbone {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BackboneError,
    },
    /// The text tower cannot be read, or does not take a text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The tokenizer cannot be read.
    #[error("tokenizer {}: {reason}; --tokenizer takes the tokenizer.json of the CLIP's repository", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The pictures cannot be found.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No picture can be read.
    #[error("none of the pictures under {} can be read", path.display())]
    NoPictures {
        /// The folder.
        path: PathBuf,
    },
    /// A sentence without a place for the class.
    #[error("the template `{template}` has no {{}} in place of the class's name")]
    Template {
        /// The sentence.
        template: String,
    },
    /// The image tower does not end in the space of the texts.
    #[error("the backbone projects pictures into {pictures} numbers, the text tower texts into {texts}; is it a CLIP?")]
    Projection {
        /// Width of the image tower's projection; 0 without one.
        pictures: usize,
        /// That of the text tower.
        texts: usize,
    },
    /// The towers could not be run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The head cannot be held.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The head cannot be written.
    #[error(transparent)]
    Write(#[from] AdapterError),
}

/// Writes the head for the classes of `options.data` as a file of adapters: `fold` makes a model of it, `train --head` begins
/// with it.
///
/// # Errors
/// What stopped it; the file that stood at `options.out` is then untouched.
pub fn run(options: &Options) -> Result<Outcome, ZeroShotError> {
    let path = &options.backbone;
    let of_backbone = |source| ZeroShotError::Backbone { path: path.clone(), source };
    let size = options.image_size.map(|side| [side, side]);
    let backbone = backbone::load(path, size).map_err(of_backbone)?;
    let tower = Tower::load(path)?;
    let projection = backbone.graph.weights.get("head.weight").map(Tensor::shape);
    let &[pictures, width] = projection.unwrap_or(&[0, 0]) else { return Err(no_projection(&tower, 0)) };
    if pictures != tower.config.embed_dim {
        return Err(no_projection(&tower, pictures));
    }
    let data = Dataset::read(&options.data)?;
    let labels = &data.train.labels;
    let sentences = sentences(labels, &options.templates)?;
    let tokenizer = options.tokenizer.clone().unwrap_or_else(|| text::beside(path));
    let texts = Texts::new(&tower, &tokenizer)?;
    let directions = directions(&texts, &sentences, labels.len())?;

    let preprocessing = preprocessing::of(&backbone);
    let paths: Vec<&Path> = data.train.pictures.iter().map(|picture| picture.path.as_path()).collect();
    let (length, measured) = length(&backbone, &preprocessing, &paths)?
        .ok_or_else(|| ZeroShotError::NoPictures { path: options.data.clone() })?;

    let factor = f64::from(tower.scale) / length;
    let projection = backbone.graph.weights.get("head.weight").map_or(&[][..], |head| head.values());
    let rows = directions.iter().flat_map(|direction| row(direction, projection, width, factor));
    let head = BTreeMap::from([
        ("head.weight".to_owned(), Tensor::new([labels.len(), width], rows.collect())?),
        ("head.bias".to_owned(), Tensor::full([labels.len()], 0.0)?),
    ]);
    let spec = Adaptation::Method(MethodSpec::Linear);
    let meta = Meta {
        format_version: Meta::version(Task::Classification),
        task: Task::Classification,
        method: spec.method().to_owned(),
        spec,
        backbone_name: backbone.name,
        backbone_sha256: backbone.sha256,
        image_size: backbone.config.image_size(),
        labels: labels.clone(),
        // Plain data without maps of other keys than strings.
        preprocessing: serde_json::to_value(&preprocessing).unwrap_or_default(),
        training: json!({
            "data": options.data,
            "zero_shot": { "templates": options.templates, "projection_length": length },
        }),
    };
    File { meta, tensors: head }.write(&options.out)?;
    Ok(Outcome { labels: labels.clone(), texts: sentences.len(), length, pictures: measured })
}

fn no_projection(tower: &Tower, pictures: usize) -> ZeroShotError {
    ZeroShotError::Projection { pictures, texts: tower.config.embed_dim }
}

/// The sentences of every class, one class after the other; a label's hyphens and underscores are blanks.
fn sentences(labels: &[String], templates: &[String]) -> Result<Vec<String>, ZeroShotError> {
    if let Some(template) = templates.iter().find(|template| !template.contains(PLACE)) {
        return Err(ZeroShotError::Template { template: template.clone() });
    }
    let words = |label: &String| label.replace(['-', '_'], " ");
    let of_class = |label| templates.iter().map(move |template| template.replace(PLACE, &words(label)));
    Ok(labels.iter().flat_map(of_class).collect())
}

/// For each class the mean direction of its sentences, of length 1.
fn directions(texts: &Texts<'_>, sentences: &[String], classes: usize) -> Result<Vec<Vec<f64>>, ZeroShotError> {
    let vectors = texts.vectors(sentences)?;
    let of_class = |vectors: &[Vec<f64>]| {
        let mut mean = vec![0.0; vectors.first().map_or(0, Vec::len)];
        for vector in vectors {
            let length = norm(vector);
            mean.iter_mut().zip(vector).for_each(|(mean, value)| *mean += value / length);
        }
        let length = norm(&mean);
        mean.iter_mut().for_each(|value| *value /= length);
        mean
    };
    Ok(vectors.chunks((vectors.len() / classes.max(1)).max(1)).map(of_class).collect())
}

/// The mean length of what the backbone projects pictures to, and on how many it was measured; `None` where none can be read.
fn length(
    backbone: &Backbone,
    preprocessing: &Preprocessing,
    paths: &[&Path],
) -> Result<Option<(f64, usize)>, ZeroShotError> {
    let stride = paths.len().div_ceil(PICTURES).max(1);
    let readable = paths.iter().step_by(stride).filter_map(|path| open_picture(path).ok());
    let input: Vec<Vec<f32>> = readable.map(|picture| preprocessing.apply(&picture)).collect();
    if input.is_empty() {
        return Ok(None);
    }
    let mut engine = CpuEngine::<f32>::new(&backbone.graph, &BTreeSet::new())?;
    let projected = engine.forward(&input.concat(), input.len())?;
    let vectors = projected.chunks_exact((projected.len() / input.len()).max(1));
    let lengths = vectors.map(|vector| norm(&vector.iter().map(|&value| value.into()).collect::<Vec<f64>>()));
    Ok(Some((lengths.sum::<f64>() / input.len() as f64, input.len())))
}

/// `factor t P` for a direction `t` and the projection `P` `[embed_dim, width]`.
fn row(direction: &[f64], projection: &[f32], width: usize, factor: f64) -> Vec<f32> {
    let mut row = vec![0.0; width];
    for (t, weights) in direction.iter().zip(projection.chunks_exact(width.max(1))) {
        row.iter_mut().zip(weights).for_each(|(sum, &weight)| *sum += factor * t * f64::from(weight));
    }
    row.into_iter().map(|value| value as f32).collect()
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_words_in_every_template() {
        let labels = ["sea_lion".to_owned(), "t-shirt".to_owned()];
        let templates = ["a photo of a {}.".to_owned(), "art of the {}".to_owned()];
        let expected = ["a photo of a sea lion.", "art of the sea lion", "a photo of a t shirt.", "art of the t shirt"];
        assert_eq!(sentences(&labels, &templates).unwrap(), expected);
        let error = sentences(&labels, &["a photo".to_owned()]).unwrap_err();
        assert!(matches!(error, ZeroShotError::Template { .. }));
    }

    #[test]
    fn a_row_is_the_direction_through_the_projection() {
        assert_eq!(row(&[1.0, 2.0], &[1.0, 0.0, 3.0, 1.0, 1.0, 0.0], 3, 10.0), [30.0, 20.0, 30.0]);
    }
}
