//! What came of the parts of a protocol.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Figures, ProtocolError};
use crate::train::series::Ledger;
use crate::train::{TrainError, Validated};

/// One measurement of a trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Its name, and the folder of its training below that of the protocol.
    pub name: String,
    /// What distinguishes it from the others.
    pub settings: Map<String, Value>,
    /// The epoch that was kept, with its validation figures.
    pub kept: Validated,
    /// The figures of the folded model.
    pub figures: Figures,
}

/// A part of a protocol that failed; the others went on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// How a protocol ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// The parts that ended, in their order.
    pub measurements: Vec<Measurement>,
    /// Those that failed.
    pub failed: Vec<Failed>,
    /// Whether it was stopped before the last part's end.
    pub interrupted: bool,
}

impl Measured {
    /// The measurement `name`, where it has ended.
    pub fn find(&self, name: &str) -> Option<&Measurement> {
        self.measurements.iter().find(|measurement| measurement.name == name)
    }

    /// Adds the part `name`: what the ledger knows of it, else what `measure` finds, which is written to the ledger. False where
    /// it was stopped. What fails is kept by name, and tried again when the protocol is gone on with.
    pub(super) fn part(
        &mut self,
        ledger: &mut Ledger<Measurement>,
        name: &str,
        measure: impl FnOnce() -> Result<Option<Measurement>, ProtocolError>,
    ) -> Result<bool, ProtocolError> {
        if let Some(known) = ledger.trials().iter().find(|known| known.name == name) {
            self.measurements.push(known.clone());
            return Ok(true);
        }
        match measure() {
            Ok(Some(measurement)) => {
                ledger.add(measurement.clone())?;
                self.measurements.push(measurement);
            }
            Ok(None) | Err(ProtocolError::Train(TrainError::Stopped)) => {
                self.interrupted = true;
                return Ok(false);
            }
            Err(error) => self.fail(name, &error),
        }
        Ok(true)
    }

    /// Keeps that the part `name` failed.
    pub(super) fn fail(&mut self, name: &str, error: &ProtocolError) {
        log::warn!("{name}: {error}");
        self.failed.push(Failed { name: name.to_owned(), reason: error.to_string() });
    }
}
