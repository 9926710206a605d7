//! What segmentation needs beside classification: pictures with masks, what a patch is to answer, and how good masks are.

mod confusion;
mod data;
mod error;
mod evaluate;
#[cfg(test)]
pub(crate) mod fixture;
mod patches;

pub use confusion::Confusion;
pub use data::{MaskedDataset, MaskedListing, MaskedPicture, MaskedSet};
pub use error::SegmentationError;
pub use evaluate::{ClassOverlap, SegmentationFigures, evaluate, to_text};
pub(crate) use evaluate::{Seen, figures, look};
pub use patches::{mirrored, patch_shares};
