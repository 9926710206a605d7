//! Training: the loop, the schedule, the log, and what is kept so that a killed run goes on.

mod device;
mod error;
mod inputs;
mod options;
mod prepare;
pub mod record;
mod run;
mod run_log;
pub mod schedule;
mod state;
#[cfg(test)]
mod tests;

pub use device::DeviceChoice;
pub use error::TrainError;
pub use options::{Options, Recipe};
pub(crate) use prepare::covering_size;
pub use run::{Outcome, run};
pub use state::Best;
pub(crate) use state::STATE_KEY;
