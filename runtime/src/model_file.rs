//! A file that `edge-vit-tools fold` wrote, whatever its task.

use std::path::Path;

use crate::self_test::{SelfTestReport, self_test};
use crate::{Bundle, Classifier, Error, Model, Segmenter, Task};

/// What a model file turns out to be when it is opened.
#[derive(Debug, Clone)]
pub enum ModelFile {
    /// It says what a picture shows.
    Classifier(Classifier),
    /// It says what each pixel of a picture shows.
    Segmenter(Segmenter),
}

impl ModelFile {
    /// Reads and prepares the file at `path`.
    ///
    /// # Errors
    /// [`Error::ReadFile`] if the file cannot be read, else those of [`from_bytes`](Self::from_bytes).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::new(Model::open(path)?)
    }

    /// Prepares the file with these bytes.
    ///
    /// # Errors
    /// Those of [`Model::from_bytes`] and [`Bundle::from_metadata`]; [`Error::LabelCount`], [`Error::PatchOutputs`] and
    /// [`Error::PictureSize`] or [`Error::ClipLength`] if bundle and model do not belong together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::new(Model::from_bytes(bytes)?)
    }

    /// As [`from_bytes`](Self::from_bytes); the bytes are given back to the system before the model is prepared.
    #[cfg(feature = "verify")]
    pub(crate) fn from_vec(bytes: Vec<u8>) -> Result<Self, Error> {
        Self::new(Model::from_vec(bytes)?)
    }

    fn new(model: Model) -> Result<Self, Error> {
        let bundle = Bundle::from_metadata(model.metadata())?;
        let labels = bundle.labels.len();
        let [channels, height, width] = model.input_shape();
        let size_of_model = [height, width];
        match (bundle.task, model.output_shape()) {
            (Task::Classification, &[outputs]) if outputs == labels => {}
            (Task::Classification, _) => return Err(Error::LabelCount { labels, outputs: model.output_len() }),
            (Task::Segmentation { grid: [rows, columns] }, &[patches, outputs])
                if rows.checked_mul(columns) == Some(patches) && outputs == labels => {}
            (Task::Segmentation { grid }, outputs) => {
                return Err(Error::PatchOutputs { labels, grid, outputs: outputs.to_vec() });
            }
        }
        if bundle.preprocessing.image_size != size_of_model {
            return Err(Error::PictureSize { preprocessing: bundle.preprocessing.image_size, model: size_of_model });
        }
        if bundle.preprocessing.frames != channels / 3 {
            return Err(Error::ClipLength { preprocessing: bundle.preprocessing.frames, model: channels / 3 });
        }
        Ok(match bundle.task {
            Task::Classification => Self::Classifier(Classifier::of(model, bundle)),
            Task::Segmentation { grid } => Self::Segmenter(Segmenter::of(model, bundle, grid)),
        })
    }

    /// The same with its model on `count` threads: see [`Model::with_threads`].
    ///
    /// # Errors
    /// Those of [`Model::with_threads`].
    #[cfg(feature = "threads")]
    pub fn with_threads(self, count: usize) -> Result<Self, Error> {
        Ok(match self {
            Self::Classifier(classifier) => Self::Classifier(classifier.with_threads(count)?),
            Self::Segmenter(segmenter) => Self::Segmenter(segmenter.with_threads(count)?),
        })
    }

    /// The classifier that the file is.
    ///
    /// # Errors
    /// [`Error::OtherTask`] if it is none.
    pub fn into_classifier(self) -> Result<Classifier, Error> {
        match self {
            Self::Classifier(classifier) => Ok(classifier),
            Self::Segmenter(_) => Err(Error::OtherTask { expected: "classification", got: "segmentation" }),
        }
    }

    /// The segmenter that the file is.
    ///
    /// # Errors
    /// [`Error::OtherTask`] if it is none.
    pub fn into_segmenter(self) -> Result<Segmenter, Error> {
        match self {
            Self::Segmenter(segmenter) => Ok(segmenter),
            Self::Classifier(_) => Err(Error::OtherTask { expected: "segmentation", got: "classification" }),
        }
    }

    /// What the file carries beside the graph.
    pub fn bundle(&self) -> &Bundle {
        match self {
            Self::Classifier(classifier) => classifier.bundle(),
            Self::Segmenter(segmenter) => segmenter.bundle(),
        }
    }

    /// The model itself.
    pub fn model(&self) -> &Model {
        match self {
            Self::Classifier(classifier) => classifier.model(),
            Self::Segmenter(segmenter) => segmenter.model(),
        }
    }

    /// Compares what this machine computes on the file's golden cases with what the desktop computed.
    ///
    /// # Errors
    /// As [`Classifier::self_test`].
    pub fn self_test(&self) -> Result<SelfTestReport, Error> {
        self_test(self.model(), self.bundle())
    }
}
