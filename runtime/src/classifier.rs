//! From a picture to named scores.

use std::path::Path;

use image::RgbImage;

use crate::frame::Frame;
use crate::self_test::{SelfTestReport, self_test};
use crate::{Bundle, Error, Model, ModelFile, Workspace};

/// One class and how sure the model is of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The class's name.
    pub label: String,
    /// Its score, 0 to 1.
    pub score: f32,
    /// Its place among the model's outputs.
    pub index: usize,
}

/// A model with the bundle that its file carries: it takes pictures of any size and gives named scores.
#[derive(Debug, Clone)]
pub struct Classifier {
    model: Model,
    bundle: Bundle,
}

impl Classifier {
    /// Reads and prepares the file at `path`, as `edge-vit-tools fold` writes it.
    ///
    /// # Errors
    /// Those of [`ModelFile::open`], and [`Error::OtherTask`] if the file is of another task.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        ModelFile::open(path)?.into_classifier()
    }

    /// Prepares the file with these bytes.
    ///
    /// # Errors
    /// Those of [`ModelFile::from_bytes`], and [`Error::OtherTask`] if the file is of another task.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        ModelFile::from_bytes(bytes)?.into_classifier()
    }

    /// As [`from_bytes`](Self::from_bytes); the bytes are given back to the system before the model is prepared.
    #[cfg(all(feature = "verify", unix))]
    pub(crate) fn from_vec(bytes: Vec<u8>) -> Result<Self, Error> {
        ModelFile::from_vec(bytes)?.into_classifier()
    }

    /// `model`, which gives a logit for each label of `bundle`.
    pub(crate) fn of(model: Model, bundle: Bundle) -> Self {
        Self { model, bundle }
    }

    /// The same with its model on `count` threads: see [`Model::with_threads`].
    ///
    /// # Errors
    /// Those of [`Model::with_threads`].
    #[cfg(feature = "threads")]
    pub fn with_threads(self, count: usize) -> Result<Self, Error> {
        Ok(Self { model: self.model.with_threads(count)?, ..self })
    }

    /// What the file carries beside the graph.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The model itself.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// All classes with their scores for `picture` (8-bit RGB, any size), best first.
    ///
    /// # Errors
    /// Those of [`logits`](Self::logits).
    pub fn classify(&self, picture: &RgbImage) -> Result<Vec<Prediction>, Error> {
        let scores = self.bundle.activation.apply(&self.logits(picture)?);
        let mut predictions: Vec<_> = (self.bundle.labels.iter().zip(scores).enumerate())
            .map(|(index, (label, score))| Prediction { label: label.clone(), score, index })
            .collect();
        // The sort is stable: among equals the first output stays first.
        predictions.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(predictions)
    }

    /// The model's outputs for `picture` before any activation, one a label. For a model of clips it is a
    /// [`filmstrip`](crate::filmstrip) of all its frames.
    ///
    /// # Errors
    /// [`Error::EmptyPicture`] if the picture has no pixels, [`Error::Filmstrip`] if it cannot be a filmstrip where one is needed, else those of [`Model::run`].
    pub fn logits(&self, picture: &RgbImage) -> Result<Vec<f32>, Error> {
        let preprocessing = &self.bundle.preprocessing;
        if preprocessing.frames > 1 {
            let (width, height) = picture.dimensions();
            if width == 0 || height == 0 {
                return Err(Error::EmptyPicture { width, height });
            }
            if !(height as usize).is_multiple_of(preprocessing.frames) {
                return Err(Error::Filmstrip { height, frames: preprocessing.frames });
            }
            return self.run(&preprocessing.apply(picture));
        }
        self.frame_logits(&Frame::from(picture), &mut self.workspace()).map(<[f32]>::to_vec)
    }

    /// Memory for [`frame_logits`](Self::frame_logits), to be kept from frame to frame, one for each thread.
    pub fn workspace(&self) -> Workspace {
        Workspace::new(self.bundle.preprocessing.clone())
    }

    /// The model's outputs for `frame` before any activation, one a label; equal to those of [`logits`](Self::logits)
    /// for the same pixels as a picture. A model of clips sees the frames before it too, as many as `workspace` was handed; before the
    /// first stand as many like it.
    ///
    /// This is [`prepare`](Self::prepare) and [`run_prepared`](Self::run_prepared) in one.
    ///
    /// # Errors
    /// [`Error::EmptyPicture`] if the frame has no pixels, else those of [`Model::run`].
    pub fn frame_logits<'w>(&self, frame: &Frame<'_>, workspace: &'w mut Workspace) -> Result<&'w [f32], Error> {
        self.prepare(frame, workspace)?;
        self.run_prepared(workspace)
    }

    /// Converts, resizes and normalises `frame` into the model's input in `workspace`, for a model of clips behind the frames before it.
    ///
    /// From the second frame of a size and format on, nothing is allocated. A workspace of another model serves this
    /// one from here on.
    ///
    /// # Errors
    /// [`Error::EmptyPicture`] if the frame has no pixels, [`Error::Run`] if the model cannot be started.
    pub fn prepare(&self, frame: &Frame<'_>, workspace: &mut Workspace) -> Result<(), Error> {
        workspace.prepare(&self.model, &self.bundle.preprocessing, frame)
    }

    /// Runs the model on the frame that was prepared last in `workspace`: its outputs before any activation.
    ///
    /// # Errors
    /// [`Error::NothingPrepared`] if no frame was prepared there for this model, or the last run on it failed; else
    /// those of [`Model::run`].
    pub fn run_prepared<'w>(&self, workspace: &'w mut Workspace) -> Result<&'w [f32], Error> {
        workspace.run(&self.model)
    }

    /// The model's outputs for a preprocessed picture, float32 `[3 frames, height, width]`.
    ///
    /// # Errors
    /// Those of [`Model::run`].
    pub fn run(&self, values: &[f32]) -> Result<Vec<f32>, Error> {
        self.model.run(values)
    }

    /// Compares what this machine computes on the file's golden cases with what the desktop computed.
    ///
    /// # Errors
    /// [`Error::NoGoldenCases`] if the file has none, an error of the picture or the model if a case cannot be run.
    /// A difference is no error: it is in the report.
    pub fn self_test(&self) -> Result<SelfTestReport, Error> {
        self_test(&self.model, &self.bundle)
    }
}
