//! Data sets: their layouts, their parts, and splitting off the pictures that choose the epoch.
//!
//! [`Listing::read`] recognises the layout and lists every part, with frames in the place of films; [`Dataset::read`] takes of it what a training may see; [`check`]
//! looks for what would spoil one.

mod cached;
pub mod check;
mod csv;
mod dataset;
mod error;
mod films;
mod folder;
mod layout;
mod listing;
mod lists;
mod open;
mod parquet;
mod set;
mod split;
mod strips;
#[cfg(test)]
mod tests;
mod unpack;
mod webdataset;

pub use dataset::Dataset;
pub use error::DataError;
pub use films::{FRAMES, is_film};
pub use folder::find_pictures;
pub use layout::Layout;
pub use listing::{Listing, Part};
pub use open::open_picture;
pub(crate) use set::clip_name;
pub use set::{Picture, PictureSet};
pub use split::{Group, Split, split};
