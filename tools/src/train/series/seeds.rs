//! One recipe with several seeds: how far a result is luck.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Ledger, Records, Series, trial};
use crate::train::{Options, Recipe, TrainError, Validated};

/// Mean and spread of a figure over some runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of the sample (divided by one less than the runs); 0 of a single run.
    pub deviation: f64,
}

impl Spread {
    /// Of `figure` over the kept epochs of all runs that have one; `None` where none has.
    pub fn of(series: &Series, figure: impl Fn(&Validated) -> f32) -> Option<Self> {
        let kept = series.trials.iter().filter_map(|trial| trial.kept.as_ref());
        Self::of_figures(&kept.map(|kept| f64::from(figure(kept))).collect::<Vec<_>>())
    }

    /// Of `figures`; `None` where there is none.
    pub fn of_figures(figures: &[f64]) -> Option<Self> {
        if figures.is_empty() {
            return None;
        }
        let mean = figures.iter().sum::<f64>() / figures.len() as f64;
        let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
        Some(Self { mean, deviation: (squares / (figures.len() - 1).max(1) as f64).sqrt() })
    }
}

/// Runs the recipe of `options` once for each of `seeds`, which differ, in the folders `seed-N` below theirs, and writes `seeds.json`.
///
/// # Errors
/// As [`crate::train::run`]; the runs that ended stand in `seeds.json`.
pub fn seeds(options: &Options, seeds: &[u64], records: Records<'_>) -> Result<Series, TrainError> {
    options.recipe.check()?;
    if let Some(twice) = (1..seeds.len()).find(|&at| seeds[..at].contains(&seeds[at])) {
        let (option, expected) = ("--seeds", "different numbers");
        return Err(TrainError::Option { option, expected, got: format!("{} twice", seeds[twice]) });
    }
    let mut ledger = Ledger::open(&options.out, options.resume, "seeds.json", &options.recipe)?;
    let mut series = Series { trials: Vec::new(), interrupted: false };
    for &seed in seeds {
        let own = Options { recipe: Recipe { seed, ..options.recipe.clone() }, ..options.clone() };
        let settings = Map::from_iter([("seed".to_owned(), Value::from(seed))]);
        match trial(&mut ledger, &own, format!("seed-{seed}"), settings, records)? {
            Some(trial) => series.trials.push(trial),
            None => {
                series.interrupted = true;
                return Ok(series);
            }
        }
    }
    let summary = json!({
        "val_top1": Spread::of(&series, |kept| kept.val_top1),
        "val_loss": Spread::of(&series, |kept| kept.val_loss),
    });
    ledger.conclude(summary.as_object().cloned().unwrap_or_default())?;
    Ok(series)
}

#[cfg(test)]
mod tests {
    use super::super::Trial;
    use super::*;

    #[test]
    fn the_spread_is_that_of_a_sample() {
        let trial = |val_loss: Option<f32>| Trial {
            folder: "seed-0".into(),
            settings: Map::new(),
            kept: val_loss.map(|val_loss| Validated { epoch: 1, val_top1: 0.5, val_miou: None, val_loss }),
            failed: None,
        };
        let of = |losses: &[Option<f32>]| {
            let trials = losses.iter().copied().map(trial).collect();
            Spread::of(&Series { trials, interrupted: false }, |kept| kept.val_loss)
        };
        assert_eq!(of(&[Some(1.0), None, Some(3.0), Some(5.0)]), Some(Spread { mean: 3.0, deviation: 2.0 }));
        assert_eq!(of(&[Some(1.5)]), Some(Spread { mean: 1.5, deviation: 0.0 }));
        assert_eq!(of(&[None]), None);
    }
}
