//! Data sets: their layouts, their parts, and splitting off the pictures that choose the epoch.
//!
//! [`Listing::read`] recognises the layout and lists every part; [`Dataset::read`] takes of it what a training may see; [`check`]
//! looks for what would spoil one.

pub mod check;
mod csv;
mod dataset;
mod error;
mod folder;
mod layout;
mod listing;
mod lists;
mod parquet;
mod set;
mod split;
#[cfg(test)]
mod tests;
mod unpack;
mod webdataset;

pub use dataset::Dataset;
pub use error::DataError;
pub use folder::find_pictures;
pub use layout::Layout;
pub use listing::{Listing, Part};
pub use set::{Picture, PictureSet};
pub use split::{Group, Split, split};
