//! Pictures that a frozen backbone's features say to be of another class than their label: confident learning
//! (arXiv 1911.00068) with a linear probe out of fold.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use edge_vit::open_picture;
use edge_vit_models::backbone::{self, BackboneError};
use edge_vit_models::{Graph, GraphError};
use rayon::prelude::*;
use thiserror::Error;

use super::probe::Probe;
use super::{Finding, Fix, Kind, Seen, Weight};
use crate::data::{Listing, Part};
use crate::engine::{Engine, EngineError};
use crate::preprocessing;
use crate::train::{DeviceChoice, covering_size};

/// Pictures run through the backbone at a time.
const CHUNK: usize = 32;
/// The most suspects that are told.
const MOST: usize = 100;

/// Why there are no suspects.
#[derive(Debug, Error)]
pub enum SuspectError {
    /// The backbone cannot be read.
    #[error("backbone {}: {source}", path.display())]
    Backbone {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BackboneError,
    },
    /// The backbone sees clips, and pictures are looked at one by one.
    #[error(
        "backbone {}: it sees {frames} frames at a time, and labels are looked at picture by picture; give a backbone of pictures",
        path.display()
    )]
    OfClips {
        /// The file.
        path: PathBuf,
        /// Frames that it sees.
        frames: usize,
    },
    /// The backbone without its head is no graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The backbone could not be run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A picture that was read before cannot be read any more.
    #[error(transparent)]
    Picture(#[from] edge_vit::Error),
    /// There is nothing to learn from.
    #[error(
        "suspect labels need at least 3 readable pictures to train on in 2 classes, and a backbone whose features are finite"
    )]
    TooLittle,
}

/// The pictures whose labels look wrong, the most suspect first, at most a hundred.
///
/// The probe is fitted to training and validation pictures, each judged without itself; test pictures are judged by it and never
/// fitted. A picture is suspect if another class is as probable for it as it is, on average, for pictures with that label.
/// `progress` is called with the number of pictures done.
///
/// # Errors
/// When the backbone cannot be read or run, or there are too few pictures.
pub fn suspects(
    listing: &Listing,
    seen: &[Seen],
    backbone: &Path,
    progress: &dyn Fn(usize),
) -> Result<Vec<Finding>, SuspectError> {
    let labels = listing.train().map(|set| set.labels.as_slice()).unwrap_or_default();
    let class_of = |seen: &Seen| labels.iter().position(|label| *label == seen.label);
    let readable = seen.iter().filter(|seen| seen.content.is_ok());
    let judged: Vec<(&Seen, usize)> = readable.filter_map(|seen| Some((seen, class_of(seen)?))).collect();
    let features = features(backbone, &judged, progress)?;

    let fitted: Vec<usize> = (0..judged.len()).filter(|&at| judged[at].0.part != Part::Test).collect();
    let known: Vec<Vec<f32>> = fitted.iter().map(|&at| features[at].clone()).collect();
    let classes: Vec<usize> = fitted.iter().map(|&at| judged[at].1).collect();
    if labels.len() < 2 {
        return Err(SuspectError::TooLittle);
    }
    let probe = Probe::fit(&known, &classes, labels.len()).ok_or(SuspectError::TooLittle)?;
    let mut probabilities: Vec<Vec<f64>> = features.iter().map(|row| probe.probabilities(row)).collect();
    for (&at, row) in fitted.iter().zip(&probe.out_of_fold) {
        probabilities[at].clone_from(row);
    }
    let thresholds = self_confidence(&probe.out_of_fold, &classes, labels.len());

    let mut found: Vec<(usize, usize, f64)> = (0..judged.len())
        .filter_map(|at| {
            let (row, own) = (&probabilities[at], judged[at].1);
            let likely = (0..labels.len()).filter(|&class| class != own && row[class] >= thresholds[class]);
            let other = likely.max_by(|&a, &b| row[a].total_cmp(&row[b]))?;
            (row[other] > row[own]).then_some((at, other, row[own] - row[other]))
        })
        .collect();
    found.sort_by(|a, b| a.2.total_cmp(&b.2));
    log::info!("{} of {} labels look wrong by the backbone's features", found.len(), judged.len());
    let fix = Fix::of(listing);
    let told = found.into_iter().take(MOST).map(|(at, other, _)| {
        let ((seen, own), row) = (judged[at], &probabilities[at]);
        Finding {
            kind: Kind::Suspect,
            weight: Weight::Warns,
            message: format!(
                "looks like `{}` ({:.2}), not `{}` ({:.2})",
                labels[other], row[other], labels[own], row[own]
            ),
            pictures: vec![seen.into()],
            distance: None,
            fix: fix.relabel(seen.file(), &labels[other]),
        }
    });
    Ok(told.collect())
}

/// For each class, the mean probability of it over the pictures with that label; more than any for a class without one.
fn self_confidence(probabilities: &[Vec<f64>], labels: &[usize], classes: usize) -> Vec<f64> {
    let of_class = |class: usize| {
        let own: Vec<f64> =
            probabilities.iter().zip(labels).filter(|&(_, &label)| label == class).map(|(row, _)| row[class]).collect();
        if own.is_empty() { f64::INFINITY } else { own.iter().sum::<f64>() / own.len() as f64 }
    };
    (0..classes).map(of_class).collect()
}

/// The features of the pictures, a vector each, at the size that a training would take.
fn features(path: &Path, judged: &[(&Seen, usize)], progress: &dyn Fn(usize)) -> Result<Vec<Vec<f32>>, SuspectError> {
    let failed = |source| SuspectError::Backbone { path: path.to_owned(), source };
    let native = backbone::load(path, None).map_err(failed)?;
    if native.config.num_frames() > 1 {
        return Err(SuspectError::OfClips { path: path.to_owned(), frames: native.config.num_frames() });
    }
    let shorter = judged.iter().filter_map(|(seen, _)| seen.content.as_ref().ok()?.size.into_iter().min());
    let side = covering_size(shorter.collect(), native.config.image_step());
    let backbone = match native.config.image_size() == [side, side] {
        true => native,
        false => backbone::load(path, Some([side, side])).map_err(failed)?,
    };
    let preprocessing = preprocessing::of(&backbone);
    let mut engine: Box<dyn Engine> = DeviceChoice::Auto.engine(&headless(backbone.graph)?, &BTreeSet::new())?;
    let mut features = Vec::with_capacity(judged.len());
    for chunk in judged.chunks(CHUNK) {
        let pixels = |(seen, _): &(&Seen, usize)| open_picture(&seen.path).map(|picture| preprocessing.apply(&picture));
        let input = chunk.par_iter().map(pixels).collect::<Result<Vec<Vec<f32>>, _>>()?;
        let output = engine.forward(&input.concat(), chunk.len())?;
        features.extend(output.chunks_exact((output.len() / chunk.len()).max(1)).map(<[f32]>::to_vec));
        progress(features.len());
    }
    Ok(features)
}

fn headless(mut graph: Graph) -> Result<Graph, GraphError> {
    if graph.nodes.last().is_some_and(|node| node.name == "head") {
        graph.nodes.pop();
        graph.retain_used_weights()?;
    }
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_of_a_class_is_its_mean_self_confidence() {
        let rows = [vec![0.9, 0.1], vec![0.5, 0.5], vec![0.2, 0.8]];
        assert_eq!(self_confidence(&rows, &[0, 0, 1], 3), [0.7, 0.8, f64::INFINITY]);
    }
}
