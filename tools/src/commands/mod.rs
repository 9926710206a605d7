//! One file a subcommand: its arguments and its `run`.

pub mod bench;
pub mod boards;
pub mod build;
pub mod data;
#[cfg(target_os = "linux")]
mod device;
#[cfg(not(target_os = "linux"))]
#[path = "device_elsewhere.rs"]
mod device;
pub mod eval;
pub mod export;
pub mod fetch;
pub mod flash;
pub mod fold;
pub mod import;
pub mod info;
mod interrupt;
pub mod keygen;
pub mod models;
pub mod package;
pub mod push;
pub mod report;
pub mod sign;
pub mod train;
pub mod verify;
pub mod zero_shot;
