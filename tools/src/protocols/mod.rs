//! Protocols of the literature: many trainings by one command, each measured once on pictures that neither trained the model nor
//! chose anything.
//!
//! [`vtab`] runs VTAB-1k, [`few_shot`] trainings on few pictures of each class, [`domain`] one training that is measured on other
//! data sets. Training is [`crate::train`], and what is measured is the folded model, through the device's own code.

pub mod domain;
mod error;
pub mod few_shot;
mod figures;
mod measured;
mod name;
mod published;
mod table;
#[cfg(test)]
mod tests;
mod training;
pub mod vtab;

pub use error::ProtocolError;
pub use figures::Figures;
pub use measured::{Failed, Measured, Measurement};
pub use name::name_of;
pub use published::{PUBLISHED, Published};
