//! From a picture to a class for each of its pixels.

use std::path::Path;

use image::RgbImage;

use crate::frame::Frame;
use crate::self_test::{SelfTestReport, self_test};
use crate::{Bundle, Error, Mask, Model, ModelFile, Workspace};

/// A model that gives logits for each patch of a picture, with the bundle that its file carries.
#[derive(Debug, Clone)]
pub struct Segmenter {
    model: Model,
    bundle: Bundle,
    grid: [usize; 2],
}

impl Segmenter {
    /// Reads and prepares the file at `path`, as `edge-vit-tools fold` writes it.
    ///
    /// # Errors
    /// Those of [`ModelFile::open`], and [`Error::OtherTask`] if the file is of another task.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        ModelFile::open(path)?.into_segmenter()
    }

    /// Prepares the file with these bytes.
    ///
    /// # Errors
    /// Those of [`ModelFile::from_bytes`], and [`Error::OtherTask`] if the file is of another task.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        ModelFile::from_bytes(bytes)?.into_segmenter()
    }

    /// `model`, whose outputs are `grid` (rows, columns) times a logit for each label of `bundle`.
    pub(crate) fn of(model: Model, bundle: Bundle, grid: [usize; 2]) -> Self {
        Self { model, bundle, grid }
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

    /// Rows and columns of patches that a picture is divided into.
    pub fn grid(&self) -> [usize; 2] {
        self.grid
    }

    /// The class of each pixel of `picture` (8-bit RGB, any size), as a mask of its size: see [`Mask::from_logits`].
    ///
    /// # Errors
    /// Those of [`logits`](Self::logits), and [`Error::PictureTooLarge`].
    pub fn segment(&self, picture: &RgbImage) -> Result<Mask, Error> {
        self.segment_frame(&Frame::from(picture), &mut self.workspace())
    }

    /// The class of each pixel of `frame`; equal to that of [`segment`](Self::segment) for the same pixels as a picture.
    ///
    /// This is [`prepare`](Self::prepare), [`run_prepared`](Self::run_prepared) and [`Mask::from_logits`] in one.
    ///
    /// # Errors
    /// As [`segment`](Self::segment).
    pub fn segment_frame(&self, frame: &Frame<'_>, workspace: &mut Workspace) -> Result<Mask, Error> {
        self.prepare(frame, workspace)?;
        Mask::from_logits(self.run_prepared(workspace)?, self.grid, [frame.height(), frame.width()])
    }

    /// The model's outputs for `picture` before any activation, `[rows, columns, classes]` of [`grid`](Self::grid).
    ///
    /// # Errors
    /// [`Error::EmptyPicture`] if the picture has no pixels, else those of [`Model::run`].
    pub fn logits(&self, picture: &RgbImage) -> Result<Vec<f32>, Error> {
        let mut workspace = self.workspace();
        self.prepare(&Frame::from(picture), &mut workspace)?;
        self.run_prepared(&mut workspace).map(<[f32]>::to_vec)
    }

    /// Converts, resizes and normalises `frame` into the model's input in `workspace`.
    ///
    /// # Errors
    /// As [`Classifier::prepare`](crate::Classifier::prepare).
    pub fn prepare(&self, frame: &Frame<'_>, workspace: &mut Workspace) -> Result<(), Error> {
        workspace.prepare(&self.model, &self.bundle.preprocessing, frame)
    }

    /// Runs the model on the frame that was prepared last in `workspace`: as [`logits`](Self::logits).
    ///
    /// # Errors
    /// As [`Classifier::run_prepared`](crate::Classifier::run_prepared).
    pub fn run_prepared<'w>(&self, workspace: &'w mut Workspace) -> Result<&'w [f32], Error> {
        workspace.run(&self.model)
    }

    /// Memory for [`segment_frame`](Self::segment_frame), to be kept from frame to frame, one for each thread.
    pub fn workspace(&self) -> Workspace {
        Workspace::new(self.bundle.preprocessing.clone())
    }

    /// Compares what this machine computes on the file's golden cases with what the desktop computed.
    ///
    /// # Errors
    /// As [`Classifier::self_test`](crate::Classifier::self_test).
    pub fn self_test(&self) -> Result<SelfTestReport, Error> {
        self_test(&self.model, &self.bundle)
    }
}
