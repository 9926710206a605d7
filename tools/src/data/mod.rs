//! A folder a class: finding the pictures, and splitting off those that choose the epoch.

mod dataset;
mod folder;
mod split;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use dataset::Dataset;
pub use folder::{Folder, Picture, find_pictures};
pub use split::{Group, Split, split};

/// Why a data set cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    /// The folder is not there, or is a file.
    #[error("{} is not a folder; give one that holds a folder of pictures for each class", path.display())]
    NotAFolder {
        /// What was given.
        path: PathBuf,
    },
    /// A folder could not be listed.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file name cannot serve as a label.
    #[error("the folder {} has a name that is not UTF-8; rename it, for it is the label of its class", path.display())]
    Name {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to tell apart.
    #[error("{} holds {found} class folder(s), at least 2 are needed: one folder for each class", path.display())]
    TooFewClasses {
        /// The data set.
        path: PathBuf,
        /// Class folders found.
        found: usize,
    },
    /// No class has a picture.
    #[error("no pictures under {}; JPEG, PNG, WebP, BMP, TIFF and GIF files are looked for in each class folder", path.display())]
    NoPictures {
        /// The data set.
        path: PathBuf,
    },
    /// A class has no picture that can be read.
    #[error("class `{label}` has no readable picture in {}; add some or remove the folder", path.display())]
    EmptyClass {
        /// The class.
        label: String,
        /// The data set.
        path: PathBuf,
    },
    /// Validation pictures of a class that is not trained.
    #[error("class `{label}` of {} is not among the classes trained on; both folders need the same class names", path.display())]
    UnknownClass {
        /// The class.
        label: String,
        /// The validation folder.
        path: PathBuf,
    },
    /// The share to split off is not one.
    #[error("the share of validation pictures must lie between 0 and 1, both excluded; got {got}")]
    Fraction {
        /// The share asked for.
        got: f64,
    },
    /// A class cannot be in both parts.
    #[error(
        "class `{label}` has too few {what} to be split: training and validation need at least one each; \
         add pictures, or give a `val` folder"
    )]
    TooFew {
        /// The class.
        label: String,
        /// `pictures`, or `groups of pictures`.
        what: &'static str,
    },
}
