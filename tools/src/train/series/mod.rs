//! Several runs by one command, each in a folder of its own, and one file that tells of all of them.

mod ledger;
mod search;
mod seeds;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::choice::Validated;
use super::record::Record;
use super::{Options, TrainError, run};
pub(crate) use ledger::Ledger;
pub use search::{SCALES, search};
pub use seeds::{Spread, seeds};

/// One run of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its folder below that of the series.
    pub folder: String,
    /// What distinguishes it from the others.
    pub settings: Map<String, Value>,
    /// The epoch whose adapters were kept; `None` where the run failed.
    pub kept: Option<Validated>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// How a series ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The runs that ended, in their order.
    pub trials: Vec<Trial>,
    /// Whether it was stopped before the last run's end.
    pub interrupted: bool,
}

impl Series {
    /// The run of the lowest validation loss; `None` where none ended well.
    pub fn best(&self) -> Option<&Trial> {
        let of = |trial: &Trial| trial.kept.map(|kept| kept.val_loss);
        let ended = self.trials.iter().filter_map(|trial| Some((trial, of(trial)?)));
        ended.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(trial, _)| trial)
    }
}

/// Takes the records of the run in the folder that is named.
pub type Records<'a> = &'a mut dyn FnMut(&str, Record);

/// A run of `options` in the folder `folder` below theirs, or what the ledger knows of it; `None` where it was stopped.
fn trial(
    ledger: &mut Ledger<Trial>,
    options: &Options,
    folder: String,
    settings: Map<String, Value>,
    records: Records<'_>,
) -> Result<Option<Trial>, TrainError> {
    if let Some(known) = ledger.trials().iter().find(|trial| trial.folder == folder) {
        return Ok(Some(known.clone()));
    }
    let out = options.out.join(&folder);
    let resume = out.join("last.safetensors").exists();
    let own = Options { out, resume, ..options.clone() };
    let (kept, failed) = match run(&own, &mut |record| records(&folder, record)) {
        Ok(outcome) if outcome.interrupted => return Ok(None),
        Ok(outcome) => (outcome.kept, None),
        Err(TrainError::Stopped) => return Ok(None),
        Err(error @ TrainError::Diverged { .. }) => {
            log::warn!("{folder}: {error}");
            (None, Some(error.to_string()))
        }
        Err(error) => return Err(error),
    };
    let trial = Trial { folder, settings, kept, failed };
    ledger.add(trial.clone())?;
    Ok(Some(trial))
}
