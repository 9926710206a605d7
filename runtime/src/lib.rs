//! Classifies pictures on a small board with one merged ONNX file.
//!
//! The file that `edge-vit-tools fold` writes is a whole deployment: an ONNX graph of standard operators, and under
//! `edge_vit.*` in its metadata the labels, the preprocessing and the golden cases that prove that a device computes
//! what the desktop computed. This crate knows ONNX and that [`Bundle`], and nothing of how the model came to be.
//!
//! ```no_run
//! # fn main() -> Result<(), edge_vit::Error> {
//! let classifier = edge_vit::Classifier::open("model.onnx")?;
//! let picture = edge_vit::open_picture("orange.jpg")?;
//! for prediction in classifier.classify(&picture)?.iter().take(3) {
//!     println!("{} {:.1} %", prediction.label, 100.0 * prediction.score);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A file of segmentation is a [`Segmenter`], which gives a [`Mask`] of the picture's size; [`ModelFile`] opens either.
//!
//! Without default features the library has no camera, no command line, no threads and no need of files
//! ([`Classifier::from_bytes`]). The feature `capture` adds sources of frames and the loop that takes the newest,
//! `camera` V4L2 cameras to it (Linux), `serve` the page and the HTTP interface, `mqtt` a publisher, `verify` signed
//! models and their folder, `formats` picture files beyond JPEG and PNG, `capi` the C interface, `cli` the program
//! `edge-vit`.

mod bundle;
#[cfg(feature = "capi")]
pub mod capi;
#[cfg(feature = "capture")]
pub mod capture;
mod classifier;
#[cfg(feature = "cli")]
pub mod cli;
pub mod decision;
mod error;
pub mod filmstrip;
pub mod frame;
mod golden;
mod kernels;
mod mask;
#[cfg(any(feature = "cli", feature = "serve"))]
mod memory;
mod model;
mod model_file;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(feature = "capture")]
mod observation;
mod onnx_file;
mod ops;
mod picture;
mod preprocessing;
mod provenance;
pub mod resize;
mod segmenter;
mod self_test;
#[cfg(feature = "serve")]
pub mod serve;
#[cfg(feature = "verify")]
pub mod signature;
#[cfg(all(feature = "verify", unix))]
pub mod store;
mod threads;
mod workspace;

pub use bundle::{Activation, Bundle, FORMAT_VERSION, HalfProducts, LARGEST_GOLDEN_TOLERANCE, Rejection, Task};
pub use classifier::{Classifier, Prediction};
pub use error::Error;
pub use golden::GoldenCase;
pub use mask::{MAX_CLASSES, Mask, NO_CLASS, class_color};
pub use model::Model;
pub use model_file::ModelFile;
#[cfg(feature = "capture")]
pub use observation::{Candidate, Observation, Stages, UNKNOWN};
pub use picture::{PICTURE_ENDINGS, decode_picture, has_picture_ending, open_picture};
pub use preprocessing::{ColorOrder, Preprocessing, ResizeMode};
pub use provenance::{Measured, Provenance, Quantization, TokenMerging};
pub use resize::Filter;
pub use segmenter::Segmenter;
pub use self_test::{CaseReport, LOGIT_TOLERANCE, SelfTestReport};
pub use workspace::Workspace;
