//! Boards: what is known of each, and what is made for it.
//!
//! A board is data: one TOML file, a [`profile::Profile`]. Everything else is a function over it.

pub mod build;
pub mod flash;
mod model;
pub mod package;
pub mod pip;
pub mod profile;
pub mod push;

pub use model::ModelError;
