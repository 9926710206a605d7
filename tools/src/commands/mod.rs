//! One file a subcommand: its arguments and its `run`.

pub mod eval;
pub mod export;
pub mod fetch;
pub mod fold;
pub mod info;
pub mod report;
pub mod train;
