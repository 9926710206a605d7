//! Training: the loop, the schedule, the log, and what is kept so that a killed run goes on.

pub mod augment;
mod choice;
mod device;
mod error;
mod events;
mod inputs;
mod loader;
mod masks;
mod options;
mod prepare;
mod preset;
mod probe;
mod random;
pub mod record;
mod run;
mod run_log;
mod sampler;
pub mod schedule;
pub mod series;
mod shots;
mod state;
#[cfg(test)]
pub(crate) mod tests;

pub use choice::Validated;
pub(crate) use device::Device;
pub use device::DeviceChoice;
pub use error::TrainError;
pub use options::{Options, Recipe};
pub(crate) use prepare::{check_precision, checked_side, covering_size};
pub use preset::Preset;
pub use probe::Probe;
pub use run::{Outcome, run};
pub use sampler::Sampler;
pub(crate) use state::STATE_KEY;
