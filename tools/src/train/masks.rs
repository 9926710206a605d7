//! What the patches of the pictures are to answer, and how well they do.

use std::collections::HashMap;
use std::path::Path;

use edge_vit::Mask;
use rayon::prelude::*;

use super::TrainError;
use crate::data::Picture;
use crate::segmentation::{Confusion, MaskedDataset, MaskedPicture, mirrored, patch_shares};

/// One picture's mask.
#[derive(Debug)]
struct Entry {
    picture: MaskedPicture,
    /// `[rows, columns, classes]`: see [`patch_shares`].
    shares: Vec<f32>,
}

/// The masks of a run's pictures, in the order of its inputs.
#[derive(Debug)]
pub(super) struct Masks {
    entries: Vec<Entry>,
    grid: [usize; 2],
    classes: usize,
}

/// How well logits fit pictures' masks.
pub(super) struct Fit {
    pub(super) confusion: Confusion,
    /// Sum of the patches' cross-entropies.
    loss: f64,
    /// How much the patches count together.
    weight: f64,
}

impl Fit {
    pub(super) fn new(classes: usize) -> Self {
        Self { confusion: Confusion::new(classes), loss: 0.0, weight: 0.0 }
    }

    pub(super) fn merge(mut self, other: &Self) -> Self {
        self.confusion.merge(&other.confusion);
        self.loss += other.loss;
        self.weight += other.weight;
        self
    }

    /// The mean cross-entropy over patches, by how much each counts; 0 where none does.
    pub(super) fn mean_loss(&self) -> f64 {
        if self.weight > 0.0 { self.loss / self.weight } else { 0.0 }
    }
}

impl Masks {
    /// The masks of `pictures`, which are some of `data`, for patches of `grid` (rows, columns).
    pub(super) fn read<'a>(
        data: &MaskedDataset,
        pictures: impl Iterator<Item = &'a Picture>,
        grid: [usize; 2],
    ) -> Result<Self, TrainError> {
        let classes = data.labels.len();
        let by_path: HashMap<&Path, &MaskedPicture> =
            data.pictures().map(|picture| (picture.path.as_path(), picture)).collect();
        let masked: Vec<&MaskedPicture> =
            pictures.filter_map(|picture| by_path.get(picture.path.as_path()).copied()).collect();
        let entry = |picture: &&MaskedPicture| {
            let shares = patch_shares(&picture.read_mask(classes)?, grid, classes);
            Ok(Entry { picture: (*picture).clone(), shares })
        };
        let entries = masked.par_iter().map(entry).collect::<Result<_, TrainError>>()?;
        Ok(Self { entries, grid, classes })
    }

    /// What the patches of all pictures are to answer, picture by picture.
    pub(super) fn shares(&self) -> impl Iterator<Item = f32> {
        self.entries.iter().flat_map(|entry| entry.shares.iter().copied())
    }

    /// The targets `[pictures, patches, classes]` of the pictures `ids`, of which those that `flipped` says are mirrored; the share
    /// `smoothing` of what a patch counts is spread over all classes.
    pub(super) fn targets(&self, ids: &[usize], flipped: &[bool], smoothing: f32) -> Vec<f32> {
        let of = |(at, &id): (usize, &usize)| {
            let shares = &self.entries[id].shares;
            match flipped.get(at) {
                Some(true) => mirrored(shares, self.grid[1], self.classes),
                _ => shares.clone(),
            }
        };
        let mut targets: Vec<f32> = ids.iter().enumerate().flat_map(of).collect();
        if smoothing > 0.0 {
            for row in targets.chunks_exact_mut(self.classes.max(1)) {
                let spread = smoothing * row.iter().sum::<f32>() / self.classes as f32;
                row.iter_mut().for_each(|target| *target = (1.0 - smoothing) * *target + spread);
            }
        }
        targets
    }

    /// How well `logits` `[pictures, patches, classes]` fit the masks of the pictures `ids`: their classes at each mask's own size,
    /// and the cross-entropy of the patches.
    pub(super) fn fit(&self, ids: &[usize], logits: &[f32]) -> Result<Fit, TrainError> {
        let len = self.grid[0] * self.grid[1] * self.classes;
        let of = |(&id, logits): (&usize, &[f32])| -> Result<Fit, TrainError> {
            let Entry { picture, shares } = &self.entries[id];
            let truth = picture.read_mask(self.classes)?;
            let failed =
                |error: edge_vit::Error| TrainError::Picture { path: picture.path.clone(), reason: error.to_string() };
            let said = Mask::from_logits(logits, self.grid, [truth.height(), truth.width()]).map_err(failed)?;
            let mut fit = Fit::new(self.classes);
            fit.confusion.add(&truth, &said);
            for (logits, shares) in logits.chunks(self.classes).zip(shares.chunks(self.classes)) {
                fit.loss += cross_entropy(logits, shares);
                fit.weight += shares.iter().copied().map(f64::from).sum::<f64>();
            }
            Ok(fit)
        };
        let fits: Vec<Fit> =
            ids.par_iter().zip(logits.par_chunks(len.max(1))).map(of).collect::<Result<_, TrainError>>()?;
        Ok(fits.iter().fold(Fit::new(self.classes), Fit::merge))
    }
}

/// `-sum(share * log_softmax(logits))`.
fn cross_entropy(logits: &[f32], shares: &[f32]) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let log_sum = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum::<f64>().ln() + largest;
    logits.iter().zip(shares).map(|(&logit, &share)| f64::from(share) * (log_sum - f64::from(logit))).sum()
}
