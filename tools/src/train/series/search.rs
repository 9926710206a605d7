//! A small search of a method's scale and width on the validation loss.

use std::fs;

use edge_vit_models::adapter::{Adaptation, Comparison, Spec};
use edge_vit_models::file::write_atomic;
use edge_vit_models::method::MethodSpec;
use serde_json::{Map, Value, json};

use super::{Ledger, Records, Series, Trial, trial};
use crate::train::{Options, Recipe, TrainError};

/// The scales that are tried, as RepAdapter's authors do.
pub const SCALES: [f64; 5] = [0.1, 0.5, 1.0, 5.0, 10.0];
/// What of the best trial is copied to the folder of the search.
const RESULT: [&str; 4] = ["adapters.safetensors", "config.json", "log.jsonl", "log.csv"];

/// Tries [`SCALES`] at the width (hidden units, or rank) of `options`, then half and twice that width at the best of them,
/// in the folders `trial-N`; writes `search.json`, and copies the result of the lowest validation loss beside it.
///
/// # Errors
/// When the method has neither scale nor width; else as [`crate::train::run`]. The trials that ended stand in `search.json`.
pub fn search(options: &Options, records: Records<'_>) -> Result<Series, TrainError> {
    options.recipe.check()?;
    let base = &options.recipe.adapters;
    if scaled(base, 1.0).is_none() && width(base).is_none() {
        let expected = "left out for a method without scale and width";
        return Err(TrainError::Option { option: "--search", expected, got: base.method().to_owned() });
    }
    let mut ledger = Ledger::open(&options.out, options.resume, "search.json", &options.recipe)?;
    let mut series = Series { trials: Vec::new(), interrupted: false };
    let mut tried: Vec<Adaptation> = Vec::new();
    while let Some(adapters) = next(base, &tried, &series.trials) {
        let number = tried.len() + 1;
        // The frozen backbone is the same in all trials.
        let own = Options {
            recipe: Recipe { adapters: adapters.clone(), ..options.recipe.clone() },
            probe: options.probe && number == 1,
            ..options.clone()
        };
        match trial(&mut ledger, &own, format!("trial-{number}"), settings(&adapters), records)? {
            Some(trial) => series.trials.push(trial),
            None => {
                series.interrupted = true;
                return Ok(series);
            }
        }
        tried.push(adapters);
    }
    let best = series.best();
    if let Some(best) = best {
        for name in RESULT {
            let (from, to) = (options.out.join(&best.folder).join(name), options.out.join(name));
            let bytes = fs::read(&from).map_err(|source| TrainError::Read { path: from, source })?;
            write_atomic(&to, &bytes).map_err(|source| TrainError::Write { path: to, source })?;
        }
    }
    ledger.conclude(Map::from_iter([("best".to_owned(), json!(best.map(|best| &best.folder)))]))?;
    Ok(series)
}

/// The trial after those that were `tried`; `None` where there is none left.
fn next(base: &Adaptation, tried: &[Adaptation], trials: &[Trial]) -> Option<Adaptation> {
    let first: Vec<Adaptation> = match SCALES.iter().map(|&scale| scaled(base, scale)).collect() {
        Some(scales) => scales,
        None => vec![base.clone()],
    };
    if let Some(adaptation) = first.get(tried.len()) {
        return Some(adaptation.clone());
    }
    // Where all scales failed, a width would as well.
    let best = tried.get(lowest(&trials[..first.len()])?)?;
    let width = width(base)?;
    let widths = [width / 2, width * 2].into_iter().filter_map(|width| widened(best, width));
    widths.filter(|adaptation| adaptation != best).nth(tried.len() - first.len())
}

/// The position of the trial with the lowest validation loss.
fn lowest(trials: &[Trial]) -> Option<usize> {
    let losses = trials.iter().enumerate().filter_map(|(at, trial)| Some((at, trial.kept?.val_loss)));
    losses.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}

/// What a trial varies, by name.
fn settings(adaptation: &Adaptation) -> Map<String, Value> {
    let scale = scale(adaptation).map(|scale| ("scale".to_owned(), json!(scale)));
    let width = width(adaptation).map(|width| ("width".to_owned(), json!(width)));
    scale.into_iter().chain(width).collect()
}

/// The fixed factor on the method's branch; `None` where it has none.
fn scale(adaptation: &Adaptation) -> Option<f64> {
    Some(match adaptation {
        Adaptation::Adapters(Spec { scale, .. }) => decimal(*scale),
        Adaptation::Method(MethodSpec::RepAdapter { scale, .. } | MethodSpec::Fact { scale, .. }) => *scale,
        Adaptation::Method(MethodSpec::Lora { rank, alpha, .. } | MethodSpec::Dora { rank, alpha }) => {
            alpha / *rank as f64
        }
        Adaptation::Comparison(Comparison::ParallelAdapter { scale, .. } | Comparison::Adaptformer { scale, .. }) => {
            decimal(*scale)
        }
        _ => return None,
    })
}

/// The number that a float32 is written as.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// The adaptation with another scale; `None` where it has none.
fn scaled(adaptation: &Adaptation, to: f64) -> Option<Adaptation> {
    let mut scaled = adaptation.clone();
    match &mut scaled {
        Adaptation::Adapters(Spec { scale, .. })
        | Adaptation::Comparison(Comparison::ParallelAdapter { scale, .. } | Comparison::Adaptformer { scale, .. }) => {
            *scale = to as f32
        }
        Adaptation::Method(MethodSpec::RepAdapter { scale, .. } | MethodSpec::Fact { scale, .. }) => *scale = to,
        Adaptation::Method(MethodSpec::Lora { rank, alpha, .. } | MethodSpec::Dora { rank, alpha }) => {
            *alpha = to * *rank as f64;
        }
        _ => return None,
    }
    Some(scaled)
}

/// The hidden units or the rank; `None` where the method has neither.
fn width(adaptation: &Adaptation) -> Option<usize> {
    width_of(&mut adaptation.clone()).copied()
}

/// Where the hidden units or the rank stand.
fn width_of(adaptation: &mut Adaptation) -> Option<&mut usize> {
    match adaptation {
        Adaptation::Adapters(Spec { hidden: width, .. })
        | Adaptation::Method(
            MethodSpec::RepAdapter { hidden: width, .. }
            | MethodSpec::Lora { rank: width, .. }
            | MethodSpec::Dora { rank: width, .. }
            | MethodSpec::Fact { rank: width, .. }
            | MethodSpec::Arc { rank: width },
        )
        | Adaptation::Comparison(
            Comparison::Adapter { hidden: width }
            | Comparison::ParallelAdapter { hidden: width, .. }
            | Comparison::Adaptformer { hidden: width, .. },
        ) => Some(width),
        _ => None,
    }
}

/// The adaptation with another width and the same scale; `None` where there is none so wide.
fn widened(adaptation: &Adaptation, to: usize) -> Option<Adaptation> {
    let groups = match adaptation {
        Adaptation::Adapters(Spec { groups, .. }) | Adaptation::Method(MethodSpec::RepAdapter { groups, .. }) => {
            *groups
        }
        _ => 1,
    };
    if to == 0 || !to.is_multiple_of(groups.max(1)) {
        return None;
    }
    let mut widened = adaptation.clone();
    *width_of(&mut widened)? = to;
    match scale(adaptation) {
        Some(scale) => scaled(&widened, scale),
        None => Some(widened),
    }
}

#[cfg(test)]
mod tests {
    use edge_vit_models::method::LoraTarget;

    use super::*;
    use crate::train::Validated;

    /// All trials of a search in which `loss` is what a trial of a scale and a width comes to.
    fn planned(base: &Adaptation, loss: impl Fn(f64, usize) -> Option<f32>) -> Vec<(f64, usize)> {
        let (mut tried, mut trials) = (Vec::new(), Vec::new());
        while let Some(adaptation) = next(base, &tried, &trials) {
            let at = (scale(&adaptation).unwrap_or(f64::NAN), width(&adaptation).unwrap_or(0));
            let kept = loss(at.0, at.1).map(|val_loss| Validated { epoch: 1, val_top1: 0.5, val_miou: None, val_loss });
            trials.push(Trial { folder: String::new(), settings: settings(&adaptation), kept, failed: None });
            tried.push(adaptation);
        }
        tried.iter().map(|adaptation| (scale(adaptation).unwrap_or(0.0), width(adaptation).unwrap_or(0))).collect()
    }

    #[test]
    fn five_scales_are_tried_then_two_widths_at_the_best() {
        let base = Adaptation::Adapters(Spec::default());
        let trials = planned(&base, |scale, _| Some((scale as f32 - 0.6).abs()));
        assert_eq!(trials, [(0.1, 8), (0.5, 8), (1.0, 8), (5.0, 8), (10.0, 8), (0.5, 4), (0.5, 16)]);
        // A diverged trial is never the best, and where all did there is nothing to widen.
        let trials = planned(&base, |scale, _| (scale < 0.2).then_some(1.0));
        assert_eq!(trials[5..], [(0.1, 4), (0.1, 16)]);
        assert_eq!(planned(&base, |_, _| None).len(), 5);
    }

    #[test]
    fn a_methods_rank_keeps_its_scale() {
        let lora = MethodSpec::Lora { rank: 4, alpha: 4.0, targets: LoraTarget::queries_and_values() };
        let trials = planned(&Adaptation::Method(lora), |scale, _| Some(scale as f32));
        assert_eq!(trials[4..], [(10.0, 4), (0.1, 2), (0.1, 8)]);
        assert_eq!(planned(&Adaptation::Method(MethodSpec::Arc { rank: 50 }), |_, _| Some(1.0)).len(), 3);
        let narrow = Adaptation::Adapters(Spec { hidden: 2, groups: 2, ..Spec::default() });
        assert_eq!(planned(&narrow, |_, _| Some(1.0)).len(), 6, "half of it would not divide by its groups");
    }

    #[test]
    fn a_method_with_nothing_to_search_has_one_trial() {
        let base = Adaptation::Method(MethodSpec::Ssf);
        assert_eq!((scaled(&base, 2.0), width(&base)), (None, None));
    }
}
