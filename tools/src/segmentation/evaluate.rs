//! How good the masks of a merged model are, measured through the code that the device runs.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use edge_vit::{Mask, Segmenter};
use rayon::prelude::*;
use serde::Serialize;

use super::{Confusion, MaskedPicture, MaskedSet, SegmentationError};
use crate::data::{DataError, Part};
use crate::evaluate::{Skipped, printable};

/// How far what was said of a class overlaps with the truth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassOverlap {
    /// The class.
    pub label: String,
    /// Its share of the pixels that are counted, 0 to 1.
    pub share: f64,
    /// Intersection over union, 0 to 1; `None` where the class neither is nor was said to be anywhere.
    pub iou: Option<f64>,
}

/// The figures of a model on pictures with masks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentationFigures {
    /// The folder of the pictures.
    pub folder: String,
    /// Which part of the data set that is.
    pub part: Part,
    /// How many pictures were measured.
    pub pictures: usize,
    /// Mean of the classes' intersections over unions.
    pub mean_iou: f64,
    /// Share of the pixels that were said to be what they are.
    pub pixel_accuracy: f64,
    /// All classes, in the model's order.
    pub classes: Vec<ClassOverlap>,
    /// Pixels of each class that were said to be each: `[truth][said]`.
    pub confusion: Vec<Vec<u64>>,
    /// Pictures that could not be read.
    pub skipped: Vec<Skipped>,
}

/// What a model says of one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The picture's position in the set.
    pub(crate) picture: usize,
    /// Of its pixels, at the mask's own size.
    pub(crate) confusion: Confusion,
    /// The class of each patch, the first of the largest logit.
    pub(crate) patches: Vec<u8>,
}

/// Runs `segmenter` over `set` on all of rayon's threads and gathers the figures, pixel by pixel at each mask's own size.
/// `progress` is called with the number of pictures done and may be called from any thread.
///
/// # Errors
/// When a mask cannot be used, no picture can be read or none has a class, or the model fails.
pub fn evaluate(
    segmenter: &Segmenter,
    part: Part,
    set: &MaskedSet,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<SegmentationFigures, SegmentationError> {
    let (seen, skipped) = look(segmenter, set, progress)?;
    figures(&segmenter.bundle().labels, part, set, &seen, skipped)
}

/// The figures of what was `seen` of the pictures of `set`.
///
/// # Errors
/// When no pixel has a class.
pub(crate) fn figures(
    labels: &[String],
    part: Part,
    set: &MaskedSet,
    seen: &[Seen],
    skipped: Vec<Skipped>,
) -> Result<SegmentationFigures, SegmentationError> {
    let mut confusion = Confusion::new(labels.len());
    seen.iter().for_each(|one| confusion.merge(&one.confusion));
    let (Some(mean_iou), Some(pixel_accuracy)) = (confusion.mean_iou(), confusion.accuracy()) else {
        return Err(DataError::NoPictures { path: set.path.clone() }.into());
    };
    let counted: u64 = (0..labels.len()).map(|class| confusion.truth(class)).sum();
    let overlap = |(class, label): (usize, &String)| ClassOverlap {
        label: label.clone(),
        share: confusion.truth(class) as f64 / counted.max(1) as f64,
        iou: confusion.iou(class),
    };
    Ok(SegmentationFigures {
        folder: set.path.to_string_lossy().into_owned(),
        part,
        pictures: seen.len(),
        mean_iou,
        pixel_accuracy,
        classes: labels.iter().enumerate().map(overlap).collect(),
        confusion: confusion.rows(),
        skipped,
    })
}

/// What `segmenter` says of the pictures of `set` that can be read, in their order, and those that cannot.
///
/// # Errors
/// When a mask cannot be used, no picture can be read, or the model fails.
pub(crate) fn look(
    segmenter: &Segmenter,
    set: &MaskedSet,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<(Vec<Seen>, Vec<Skipped>), SegmentationError> {
    let done = AtomicUsize::new(0);
    let look = |(at, picture): (usize, &MaskedPicture)| {
        let seen = look_at(segmenter, at, picture);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        seen
    };
    let looked: Vec<Result<Seen, Skipped>> =
        set.pictures.par_iter().enumerate().map(look).collect::<Result<_, SegmentationError>>()?;
    let (mut seen, mut skipped) = (Vec::new(), Vec::new());
    for one in looked {
        match one {
            Ok(one) => seen.push(one),
            Err(picture) => skipped.push(picture),
        }
    }
    match seen.is_empty() {
        true => Err(DataError::NoPictures { path: set.path.clone() }.into()),
        false => Ok((seen, skipped)),
    }
}

fn look_at(
    segmenter: &Segmenter,
    at: usize,
    masked: &MaskedPicture,
) -> Result<Result<Seen, Skipped>, SegmentationError> {
    let picture = match edge_vit::open_picture(&masked.path) {
        Ok(picture) => picture,
        Err(error) => {
            let path = masked.path.to_string_lossy().into_owned();
            return Ok(Err(Skipped { path, reason: error.to_string() }));
        }
    };
    let classes = segmenter.bundle().labels.len();
    let truth = masked.read_mask(classes)?;
    let failed = |source| SegmentationError::Model { path: masked.path.clone(), source };
    let logits = segmenter.logits(&picture).map_err(failed)?;
    let grid = segmenter.grid();
    let said = |size| Mask::from_logits(&logits, grid, size).map_err(failed);
    let mut confusion = Confusion::new(classes);
    confusion.add(&truth, &said([picture.height(), picture.width()])?);
    let patches = said(grid.map(|side| side as u32))?.classes().to_vec();
    Ok(Ok(Seen { picture: at, confusion, patches }))
}

/// The figures as text for people.
pub fn to_text(figures: &SegmentationFigures) -> String {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let mut text = String::new();
    let part = figures.part.name();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{} pictures of {} ({part})", figures.pictures, printable(&figures.folder));
    let _ =
        writeln!(text, "mean IoU {}, pixel accuracy {}", percent(figures.mean_iou), percent(figures.pixel_accuracy));
    let width = figures.classes.iter().map(|class| class.label.chars().count()).max().unwrap_or(0).max(5);
    let _ = writeln!(text, "{:width$}  {:>9}  {:>9}", "class", "IoU", "of pixels");
    for ClassOverlap { label, share, iou } in &figures.classes {
        let iou = iou.map_or("-".to_owned(), percent);
        let _ = writeln!(text, "{label:width$}  {iou:>9}  {:>9}", percent(*share));
    }
    for Skipped { path, reason } in &figures.skipped {
        let _ = writeln!(text, "left out: {}: {reason}", printable(path));
    }
    text
}
