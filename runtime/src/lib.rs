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
//! Without default features the library has no camera, no command line and no threads of its own; the feature
//! `camera` adds the module `camera` (Linux, V4L2), the feature `cli` the binary `edge-vit`.

mod bundle;
#[cfg(all(feature = "camera", target_os = "linux"))]
pub mod camera;
mod classifier;
mod error;
mod golden;
mod model;
mod picture;
mod preprocessing;
mod provenance;
pub mod resize;
mod self_test;

pub use bundle::{Activation, Bundle, FORMAT_VERSION};
pub use classifier::{Classifier, Prediction};
pub use error::Error;
pub use golden::GoldenCase;
pub use model::Model;
pub use picture::{decode_picture, open_picture};
pub use preprocessing::{ColorOrder, Preprocessing, ResizeMode};
pub use provenance::Provenance;
pub use resize::Filter;
pub use self_test::{CaseReport, SelfTestReport};
