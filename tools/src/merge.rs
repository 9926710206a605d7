//! From a backbone and its adapters to the bytes of one checked model file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use edge_vit::{
    Activation, Bundle, GoldenCase, HalfProducts, Measured, ModelFile, Preprocessing, Provenance, Quantization,
    Rejection, TokenMerging,
};
use edge_vit_models::adapter::{AdapterError, File, Meta};
use edge_vit_models::backbone::{self, BackboneError};
use edge_vit_models::cost::Cost;
use edge_vit_models::file::hex;
use edge_vit_models::fold::FoldError;
use edge_vit_models::onnx::{Batch, OnnxError, Precisions};
use edge_vit_models::tokens::{self, TokenError};
use edge_vit_models::{Graph, GraphError, Op, Task, fold, onnx};
use image::RgbImage;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::cpu::CpuEngine;
use crate::data::{Layout, Listing, find_pictures, open_picture};
use crate::engine::{Engine, EngineError};
use crate::quantize::{Bits, Layer, MAX_DROP, Quantize, QuantizeError, Whole};
use crate::segmentation::MaskedDataset;

/// The largest difference between folded and unfolded logits, relative to the largest logit, that is written.
pub const LIMIT: f64 = 1e-4;

/// How many pictures the fold is checked on.
const PICTURES: usize = 8;

/// How many of them go into the file as golden cases.
const GOLDEN: usize = 3;

/// Why no model file came of it.
#[derive(Debug, Error)]
pub enum MergeError {
    /// The backbone could not be read.
    #[error("backbone {path}: {source}")]
    Backbone {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BackboneError,
    },
    /// The adapter file could not be read or is not of this backbone.
    #[error("adapters {path}: {source}")]
    Adapters {
        /// The file.
        path: PathBuf,
        /// Why.
        source: AdapterError,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The preprocessing in the adapter file is not readable.
    #[error("adapters {path}: the preprocessing is not readable ({reason}); train again with this version")]
    Preprocessing {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The rejection in the adapter file is not readable.
    #[error("adapters {path}: the rejection is not readable ({reason}); train again with this version")]
    Rejection {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There are no pictures to check the fold on.
    #[error("no readable picture to check the fold on in {place}; name a folder with --pictures DIR")]
    NoPictures {
        /// Where they were looked for.
        place: String,
    },
    /// Folding is refused.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The folded model does not compute what the unfolded one does.
    #[error(
        "the folded model departs from the unfolded one by {relative:.3e} of the largest logit, more than {LIMIT:.0e}; \
         nothing was written. Please report this with the adapter file"
    )]
    Departs {
        /// Relative to the largest logit.
        relative: f64,
    },
    /// The tokens cannot be merged.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The model cannot be brought to fewer bits, or loses too much by it or by merged tokens.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// A graph could not be run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The graph could not be written as ONNX.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The device's code does not take the file or computes something else.
    #[error("the device's own code refuses the file: {0}; nothing was written")]
    Device(#[from] edge_vit::Error),
    /// The device's code computes something else than the desktop.
    #[error(
        "the device's own code computes other logits than the trainer ({relative:.3e} relative); nothing was written"
    )]
    SelfTest {
        /// Relative to the largest logit.
        relative: f64,
    },
}

/// What is to be merged.
#[derive(Debug, Clone, Copy)]
pub struct Merge<'a> {
    /// The backbone file.
    pub backbone: &'a Path,
    /// The adapter file.
    pub adapters: &'a Path,
    /// Folder of pictures to check on; `None` for the folder that the adapters were trained with.
    pub pictures: Option<&'a Path>,
    /// Share of the adapters' departure from the identity, 0 to 1.
    pub strength: f64,
    /// Leave the batch free instead of fixing it at one picture.
    pub free_batch: bool,
    /// How many tokens each block merges away; `None` keeps all.
    pub merge_tokens: Option<usize>,
    /// How the weights are to be written; `None` in float32.
    pub quantize: Option<Quantize<'a>>,
}

/// The largest difference between two sets of logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// In units of the logits.
    pub absolute: f64,
    /// Relative to the largest logit.
    pub relative: f64,
}

/// How often an exact simplification applied, see [`fold::simplify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simplifications {
    /// LayerScales.
    pub layer_scales: usize,
    /// Attention scales.
    pub attention_scales: usize,
    /// Weights and biases of LayerNorms.
    pub layer_norms: usize,
    /// Learned tokens with a position.
    pub positions: usize,
    /// Biases of global response normalisations.
    pub response_norms: usize,
    /// Whether the patch embedding took the pictures' normalisation in.
    pub normalization: bool,
}

/// A merged model that passed its checks.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The ONNX file.
    pub bytes: Vec<u8>,
    /// What its outputs answer.
    pub task: edge_vit::Task,
    /// Number of adapters folded.
    pub adapters: usize,
    /// How far a method's layers are from its definition, relative to a layer's largest output; 0 for RepAdapter's nodes, which
    /// are compared as a whole.
    pub departure: f64,
    /// What else became part of linear layers.
    pub simplifications: Simplifications,
    /// Number of pictures that the fold was checked on.
    pub pictures: usize,
    /// Folded against unfolded.
    pub difference: Difference,
    /// The device's logits against the desktop's, relative to the largest.
    pub self_test: f64,
    /// What was done to the weights; `None` where they are float32.
    pub quantized: Option<Quantized>,
    /// What the file says of merged tokens; `None` where all are kept.
    pub token_merging: Option<TokenMerging>,
    /// How far a device's logits may be from the golden ones, relative to the largest; `None` for float32's tolerance.
    pub tolerance: Option<f32>,
}

/// What bringing a model to fewer bits came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    /// What the file says of it.
    pub record: Quantization,
    /// The layers that can be in eight bits, the most sensitive first; none for float16.
    pub layers: Vec<Layer>,
}

impl Merge<'_> {
    /// Folds, compares folded with unfolded on pictures, writes the bundle and runs its golden cases through the
    /// device's code.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn run(&self) -> Result<Merged, MergeError> {
        let file = File::read(self.adapters).map_err(|source| self.adapters_error(source))?;
        let backbone = backbone::load(self.backbone, Some(file.meta.image_size))
            .map_err(|source| MergeError::Backbone { path: self.backbone.to_owned(), source })?;
        let preprocessing: Preprocessing = serde_json::from_value(file.meta.preprocessing.clone())
            .map_err(|error| MergeError::Preprocessing { path: self.adapters.to_owned(), reason: error.to_string() })?;
        let merged = file.merged(&backbone.graph, &backbone.sha256, self.strength).map_err(|source| match source {
            AdapterError::Fold(source) => source.into(),
            source => self.adapters_error(source),
        })?;
        let adapters = merged.adapters;
        let simplified = fold::simplify(&merged.graph)?;
        let folded = simplified.graph;

        let pictures = self.check_pictures(&file.meta, preprocessing.frames)?;
        let input: Vec<f32> = pictures.iter().flat_map(|picture| preprocessing.apply(picture)).collect();
        let logits = forward(&folded, &input, pictures.len())?;
        let unfolded = match merged.unfolded {
            Some(mut unfolded) => {
                weaken(&mut unfolded, self.strength);
                unfolded
            }
            // There is no graph with the method beside the weights: its layers are held against its definition one by one,
            // and on pictures the simplified graph against the merged one.
            None => merged.graph,
        };
        let difference = largest_difference(&logits, &forward(&unfolded, &input, pictures.len())?);
        if merged.departure.is_nan() || merged.departure > LIMIT {
            return Err(MergeError::Departs { relative: merged.departure });
        }
        if difference.relative.is_nan() || difference.relative > LIMIT {
            return Err(MergeError::Departs { relative: difference.relative });
        }

        // What the device computes from raw pixels is held against these very logits by the self-test below.
        let raw = fold::normalization(&folded, &preprocessing.mean, &preprocessing.std)?;
        let normalization = raw.is_some();
        let (folded, preprocessing) = match raw {
            Some(graph) => (graph, Preprocessing { mean: [0.0; 3], std: [1.0; 3], ..preprocessing }),
            None => (folded, preprocessing),
        };
        let task = match (file.meta.task, backbone::mask_grid(&folded)) {
            (Task::Segmentation, Some(grid)) => edge_vit::Task::Segmentation { grid },
            _ => edge_vit::Task::Classification,
        };
        let mut bundle = Bundle {
            labels: file.meta.labels.clone(),
            activation: Activation::Softmax,
            provenance: provenance(
                &file,
                self.adapters_sha256()?,
                self.strength,
                difference.relative.max(merged.departure),
            ),
            golden: Vec::new(),
            rejection: self.rejection(&file.meta)?,
            golden_tolerance: None,
            half_products: HalfProducts::Never,
            task,
            preprocessing,
        };
        let batch = if self.free_batch { Batch::Free } else { Batch::One };
        let merged_tokens = self.merge_tokens.map(|per_block| tokens::merge(&folded, per_block)).transpose()?;
        let graph = merged_tokens.as_ref().map_or(&folded, |merged| &merged.graph);
        let whole = Folded {
            graph: &folded,
            merged_tokens: merged_tokens.as_ref(),
            batch,
            meta: &file.meta,
            pictures: &pictures,
            logits: &logits,
        };
        let Written { precisions, logits, quantized } = match self.quantize() {
            Some(quantize) => whole.shorten(&quantize, &mut bundle)?,
            None => Written { precisions: Precisions::new(), logits, quantized: None },
        };
        let golden = pictures.iter().zip(logits.chunks((logits.len() / pictures.len()).max(1))).take(GOLDEN);
        let golden = golden.map(|(picture, logits)| GoldenCase::new(picture, &bundle.preprocessing, logits.to_vec()));
        bundle.golden = golden.collect::<Result<_, _>>()?;
        let bytes = onnx::to_bytes_at(graph, batch, &precisions, &bundle.to_metadata()?)?;
        let report = ModelFile::from_bytes(&bytes)?.self_test()?;
        let self_test = f64::from(report.logit_difference());
        if !report.passed() {
            return Err(MergeError::SelfTest { relative: self_test });
        }
        let simplifications = Simplifications {
            layer_scales: simplified.layer_scales,
            attention_scales: simplified.attention_scales,
            layer_norms: simplified.layer_norms,
            positions: simplified.positions,
            normalization,
            response_norms: simplified.response_norms,
        };
        let departure = merged.departure;
        let pictures = pictures.len();
        Ok(Merged {
            bytes,
            task: bundle.task,
            adapters,
            departure,
            simplifications,
            pictures,
            difference,
            self_test,
            quantized,
            token_merging: bundle.provenance.token_merging,
            tolerance: bundle.golden_tolerance,
        })
    }

    /// How the weights are written, and what may be lost; `None` where nothing can be.
    fn quantize(&self) -> Option<Quantize<'_>> {
        let merging_alone = Quantize { bits: Bits::F32, calibrate: None, max_drop: MAX_DROP };
        self.quantize.or(self.merge_tokens.map(|_| merging_alone))
    }

    /// What was fitted on the validation pictures. A weakened fold is another model than the one that was fitted.
    fn rejection(&self, meta: &Meta) -> Result<Option<Rejection>, MergeError> {
        match meta.training.get("rejection") {
            Some(fitted) if self.strength == 1.0 => serde_json::from_value(fitted.clone())
                .map_err(|error| MergeError::Rejection { path: self.adapters.to_owned(), reason: error.to_string() }),
            _ => Ok(None),
        }
    }

    fn adapters_sha256(&self) -> Result<String, MergeError> {
        let bytes =
            fs::read(self.adapters).map_err(|source| MergeError::Read { path: self.adapters.to_owned(), source })?;
        Ok(hex(Sha256::digest(bytes)))
    }

    fn adapters_error(&self, source: AdapterError) -> MergeError {
        MergeError::Adapters { path: self.adapters.to_owned(), source }
    }
}
impl Merge<'_> {
    fn check_pictures(&self, meta: &Meta, frames: usize) -> Result<Vec<RgbImage>, MergeError> {
        let trained_with = meta.training.get("data").and_then(Value::as_str).map(PathBuf::from);
        let place = self.pictures.map(Path::to_owned).or(trained_with);
        let paths = place.as_deref().map(|place| pictures_at(place, meta.task, frames)).unwrap_or_default();
        // Spread over the folder, so that not all pictures are of one class.
        let stride = (paths.len() / PICTURES).max(1);
        let readable = paths.iter().step_by(stride).filter_map(|path| open_picture(path).ok());
        let small = readable.take(PICTURES).map(|picture| GoldenCase::small(&picture, frames));
        let pictures: Vec<RgbImage> = small.collect();
        if pictures.is_empty() {
            let place =
                place.map_or("the adapter file's training record".to_owned(), |place| place.display().to_string());
            return Err(MergeError::NoPictures { place });
        }
        Ok(pictures)
    }
}

/// The folded model, and what is known of it.
struct Folded<'a> {
    graph: &'a Graph,
    /// The same with fewer tokens, which is then what is written.
    merged_tokens: Option<&'a tokens::Merged>,
    batch: Batch,
    /// Tells of the training.
    meta: &'a Meta,
    pictures: &'a [RgbImage],
    /// Those of the pictures, in float32 and with all tokens.
    logits: &'a [f32],
}

/// How a graph is written.
struct Written {
    precisions: Precisions,
    /// What the file gives of the pictures of the check.
    logits: Vec<f32>,
    quantized: Option<Quantized>,
}

impl Folded<'_> {
    /// Brings the model to fewer bits, measures what these and fewer tokens cost, and tells `bundle` of it.
    fn shorten(&self, quantize: &Quantize<'_>, bundle: &mut Bundle) -> Result<Written, MergeError> {
        let count = self.pictures.len();
        let input: Vec<f32> = self.pictures.iter().flat_map(|picture| bundle.preprocessing.apply(picture)).collect();
        let (graph, unmerged) = match self.merged_tokens {
            Some(merged) => (&merged.graph, Some(self.graph)),
            None => (self.graph, None),
        };
        let whole = Whole { graph, unmerged, batch: self.batch, bundle };
        let chosen = quantize.choose(whole, self.meta, &input, count)?;
        let logits = chosen.logits(graph, &input, count)?;
        let in_halves = chosen.logits_in_halves(&input, count)?;
        let errors = [Some(&logits), in_halves.as_ref()].into_iter().flatten();
        let error = errors.map(|logits| largest_difference(logits, self.logits).relative).fold(0.0, largest);

        let shown = count.min(GOLDEN);
        let [of_shown, logits_of_shown] = [&input, &logits].map(|values| &values[..values.len() / count * shown]);
        bundle.golden_tolerance = chosen.tolerance(graph, of_shown, shown, logits_of_shown)?;
        bundle.half_products = chosen.half_products();
        if let Some((merged, measured)) = self.merged_tokens.zip(chosen.measured) {
            let gflop = [self.graph, graph].map(|graph| Cost::of(graph).map(|cost| cost.gflop()));
            bundle.provenance.token_merging = Some(token_merging(merged, gflop, error, measured)?);
        }
        bundle.provenance.quantization = chosen.record(error);
        let quantized =
            bundle.provenance.quantization.clone().map(|record| Quantized { record, layers: chosen.layers });
        Ok(Written { precisions: chosen.precisions, logits, quantized })
    }
}

/// Scales every adapter of the graph as `fold` does with this strength.
fn weaken(graph: &mut Graph, strength: f64) {
    for node in &mut graph.nodes {
        if let Op::RepAdapter { scale, .. } = &mut node.op {
            *scale = (f64::from(*scale) * strength) as f32;
        }
    }
}

fn forward(graph: &Graph, input: &[f32], pictures: usize) -> Result<Vec<f32>, EngineError> {
    CpuEngine::<f32>::new(graph, &BTreeSet::new())?.forward(input, pictures)
}

/// The pictures to check on at `place`: all under a folder, or those that a data set of films or of another layout is trained with; for a
/// model that sees several `frames` at a time the filmstrips that a data set is trained with.
fn pictures_at(place: &Path, task: Task, frames: usize) -> Vec<PathBuf> {
    // Masks are no pictures to check on.
    if task == Task::Segmentation
        && let Ok(data) = MaskedDataset::read(place)
    {
        return data.train.pictures.into_iter().map(|picture| picture.path).collect();
    }
    if frames == 1 && matches!(Layout::of(place), Ok(Layout::Folders) | Err(_)) {
        let pictures = pictures_under(place);
        if !pictures.is_empty() {
            return pictures;
        }
    }
    let listing = Listing::read(place).ok();
    let set = listing.as_ref().and_then(Listing::train).and_then(|set| set.clone().filmstrips(frames).ok());
    set.into_iter().flat_map(|set| set.pictures).map(|picture| picture.path).collect()
}

/// The picture files under `folder`, its subfolders included, sorted within each folder.
fn pictures_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = find_pictures(folder).unwrap_or_default();
    let mut subfolders: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    subfolders.sort();
    found.extend(subfolders.iter().flat_map(|subfolder| pictures_under(subfolder)));
    found
}

fn provenance(file: &File, adapters_sha256: String, strength: f64, fold_error: f64) -> Provenance {
    // A weakened fold is another model than the one that was validated.
    let validated = (strength == 1.0).then(|| file.meta.training.get("val_top1").and_then(Value::as_f64)).flatten();
    Provenance {
        backbone: file.meta.backbone_name.clone(),
        backbone_sha256: file.meta.backbone_sha256.clone(),
        adapters_sha256,
        tool: format!("edge-vit-tools {}", env!("CARGO_PKG_VERSION")),
        fold_error: Some(fold_error),
        validation_accuracy: validated,
        quantization: None,
        token_merging: None,
    }
}

/// The larger of two values; NaN where either is.
pub(crate) fn largest(so_far: f64, value: f64) -> f64 {
    if value.is_nan() || value > so_far { value } else { so_far }
}

fn token_merging(
    merged: &tokens::Merged,
    gflop: [Result<f64, GraphError>; 2],
    error: f64,
    measured: Measured,
) -> Result<TokenMerging, TokenError> {
    let [gflop_unmerged, gflop] = gflop;
    let [tokens, tokens_left] = merged.tokens;
    Ok(TokenMerging {
        per_block: merged.per_block,
        blocks: merged.blocks,
        tokens,
        tokens_left,
        gflop_unmerged: gflop_unmerged?,
        gflop: gflop?,
        error,
        measured,
    })
}

/// The largest difference between `got` and `expected`; NaN where either holds one.
pub(crate) fn largest_difference(got: &[f32], expected: &[f32]) -> Difference {
    let pairs = got.iter().zip(expected).map(|(&got, &expected)| f64::from(got) - f64::from(expected));
    let absolute = pairs.map(f64::abs).fold(0.0, largest);
    let size = expected.iter().map(|&value| f64::from(value).abs()).fold(f64::MIN_POSITIVE, largest);
    Difference { absolute, relative: absolute / size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_relative_to_the_largest_logit() {
        let difference = largest_difference(&[1.0, -4.0], &[1.5, -5.0]);
        assert_eq!(difference, Difference { absolute: 1.0, relative: 0.2 });
    }

    #[test]
    fn a_nan_is_never_within_the_limit() {
        let first = largest_difference(&[f32::NAN, 1.0], &[1.0, 1.0]);
        let last = largest_difference(&[1.0, f32::NAN], &[1.0, 1.0]);
        assert!(first.relative.is_nan());
        assert!(last.relative.is_nan());
    }
}
