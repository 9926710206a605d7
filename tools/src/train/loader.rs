//! The loader: files become pixels, one batch ahead of the step that takes them.
//!
//! The work of a batch is done on rayon's threads, which the CPU engine shares: the threads that compute stay as many.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use edge_vit::{Preprocessing, ResizeMode};
use image::RgbImage;
use rayon::prelude::*;

use super::TrainError;
use super::augment::{Augment, Augmented};
use super::random::{Purpose, place, stream};
use crate::data::open_picture;

/// The place in a run by which a batch's pictures are augmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Draw {
    pub(super) seed: u64,
    /// Counted from 0.
    pub(super) epoch: u32,
    /// The place of the batch's first picture in the epoch.
    pub(super) first: usize,
}

/// Pictures that a step takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// Positions among the run's pictures.
    pub(super) ids: Vec<usize>,
    pub(super) draw: Draw,
}

/// What the pixels of one picture are made of.
#[derive(Debug)]
pub(super) enum Origin {
    /// The file.
    File(PathBuf),
    /// What is kept of it.
    Picture(Arc<RgbImage>),
}

/// All that makes the pixels of some pictures; it may go to another thread.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) preprocessing: Preprocessing,
    pub(super) origins: Vec<Origin>,
    /// Augmentation and its place; `None` for pictures as they are.
    pub(super) augment: Option<(Augment, Draw)>,
}

/// The pixels of some pictures.
#[derive(Debug, Default)]
pub(super) struct Pixels {
    /// `[pictures, 3 frames, height, width]`.
    pub(super) values: Vec<f32>,
    /// Which of them are mirrored; empty where none is augmented.
    pub(super) flipped: Vec<bool>,
    /// What was augmented.
    pub(super) sources: Vec<Arc<RgbImage>>,
}

impl Work {
    /// Reads and augments on rayon's threads.
    ///
    /// # Errors
    /// When a picture cannot be read any more.
    pub(super) fn run(self) -> Result<Pixels, TrainError> {
        let Self { preprocessing, origins, augment } = self;
        let Some((augment, draw)) = augment else {
            let values = origins.into_par_iter().map(|origin| match origin {
                Origin::Picture(picture) => Ok(preprocessing.normalize(&picture)),
                Origin::File(path) => decode(&path, &preprocessing).map_err(gone(&path)),
            });
            let values = values.collect::<Result<Vec<_>, TrainError>>()?.concat();
            return Ok(Pixels { values, ..Pixels::default() });
        };
        let source = |origin| match origin {
            Origin::Picture(picture) => Ok(picture),
            // Random parts are taken of a picture in which they still have its detail.
            Origin::File(path) if augment.crop.is_some() => {
                reduce(&path, &preprocessing).map(Arc::new).map_err(gone(&path))
            }
            Origin::File(path) => prepare(&path, &preprocessing).map(Arc::new).map_err(gone(&path)),
        };
        let sources: Vec<Arc<RgbImage>> = origins.into_par_iter().map(source).collect::<Result<_, _>>()?;
        let augmented: Vec<Augmented> = sources
            .par_iter()
            .enumerate()
            .map(|(position, source)| {
                let mut rng = stream(draw.seed, Purpose::Augment, place(draw.epoch, draw.first + position));
                augment.apply(source, &preprocessing, &mut rng)
            })
            .collect();
        let flipped = augmented.iter().map(|augmented| augmented.flipped).collect();
        let values = augmented.into_iter().flat_map(|augmented| augmented.pixels).collect();
        Ok(Pixels { values, flipped, sources })
    }
}

/// Makes the pixels of the next batch while a step is computed.
#[derive(Debug, Default)]
pub(super) struct Loader {
    ahead: Option<(Batch, JoinHandle<Result<Pixels, TrainError>>)>,
}

impl Loader {
    /// Begins with `batch`, whose pixels are made by `work`; nothing is begun where there is nothing to make, or where another
    /// batch is under way.
    pub(super) fn begin(&mut self, batch: Batch, work: Work) {
        if self.ahead.is_none() && !work.origins.is_empty() {
            self.ahead = Some((batch, std::thread::spawn(|| work.run())));
        }
    }

    /// The pixels of `batch`: those that were begun, or what `work` makes now.
    ///
    /// # Errors
    /// As [`Work::run`].
    pub(super) fn take(&mut self, batch: &Batch, work: impl FnOnce() -> Work) -> Result<Pixels, TrainError> {
        if let Some((begun, thread)) = self.ahead.take() {
            let pixels = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if begun == *batch {
                return pixels;
            }
        }
        work().run()
    }
}

impl Drop for Loader {
    /// Waits for the batch under way, so that no thread outlives its run.
    fn drop(&mut self) {
        if let Some((_, thread)) = self.ahead.take() {
            // What it made, or why it could not, is of no use any more.
            let _ = thread.join();
        }
    }
}

/// The model's input.
pub(super) fn decode(path: &Path, preprocessing: &Preprocessing) -> Result<Vec<f32>, String> {
    Ok(preprocessing.apply(&open_picture(path)?))
}

/// The picture at the model's size.
pub(super) fn prepare(path: &Path, preprocessing: &Preprocessing) -> Result<RgbImage, String> {
    Ok(preprocessing.resize(&open_picture(path)?))
}

/// The picture, or each frame of the filmstrip, with its shorter side brought to twice the model's longest where it is longer than that.
fn reduce(path: &Path, preprocessing: &Preprocessing) -> Result<RgbImage, String> {
    let (picture, size) = (open_picture(path)?, preprocessing.image_size);
    let (width, height) = (picture.width(), picture.height() / preprocessing.frames as u32);
    let (shorter, wanted) = (width.min(height) as usize, 2 * size[0].max(size[1]));
    if shorter <= wanted {
        return Ok(picture);
    }
    let reduced = |side: u32| (side as usize * wanted).div_ceil(shorter);
    let image_size = [reduced(height), reduced(width)];
    Ok(Preprocessing { image_size, resize: ResizeMode::Squash, ..preprocessing.clone() }.resize(&picture))
}

/// The error of a picture that could be read when the run began.
fn gone(path: &Path) -> impl FnOnce(String) -> TrainError {
    let path = path.to_owned();
    |reason| TrainError::Picture { path, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first: usize) -> Batch {
        Batch { ids: vec![first], draw: Draw { seed: 0, epoch: 0, first } }
    }

    fn work(path: &Path) -> Work {
        let preprocessing = Preprocessing::imagenet([8, 8]);
        Work { preprocessing, origins: vec![Origin::File(path.to_owned())], augment: None }
    }

    #[test]
    fn what_was_begun_is_what_comes_and_another_batch_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        let paint = |red: u8| RgbImage::from_pixel(8, 8, image::Rgb([red, 0, 0])).save(&path).unwrap();
        paint(255);
        let red = work(&path).run().unwrap().values;
        let mut loader = Loader::default();
        loader.begin(batch(1), work(&path));
        let ahead = loader.take(&batch(1), || panic!("it was begun")).unwrap();
        assert_eq!(ahead.values, red);
        loader.begin(batch(1), work(&path));
        paint(0);
        assert_ne!(loader.take(&batch(2), || work(&path)).unwrap().values, red);
    }

    #[test]
    fn the_error_of_a_batch_comes_with_the_batch() {
        let mut loader = Loader::default();
        loader.begin(batch(3), work(Path::new("nowhere.png")));
        let error = loader.take(&batch(3), || panic!("it was begun")).unwrap_err();
        assert!(matches!(error, TrainError::Picture { path, .. } if path == Path::new("nowhere.png")));
    }
}
