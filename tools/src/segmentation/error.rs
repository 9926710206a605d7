//! Why pictures with masks cannot be used.

use std::path::PathBuf;

use thiserror::Error;

use crate::data::DataError;

/// Why pictures with masks cannot be used.
#[derive(Debug, Error)]
pub enum SegmentationError {
    /// A folder or file cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Nothing that is read as pictures with masks.
    #[error(
        "{} is no data set of segmentation; give a folder with images/ and masks/, or with such in train/, val/ and test/",
        path.display()
    )]
    NotMasked {
        /// What was given.
        path: PathBuf,
    },
    /// A picture has no mask.
    #[error("the picture {} has no mask {}; each picture needs a PNG of its name there", picture.display(), mask.display())]
    NoMask {
        /// The picture.
        picture: PathBuf,
        /// Where its mask was looked for.
        mask: PathBuf,
    },
    /// A mask cannot be used.
    #[error("the mask {}: {reason}", path.display())]
    Mask {
        /// The mask.
        path: PathBuf,
        /// What is wrong with it, and what is expected.
        reason: String,
    },
    /// The file of names says nothing that can be used.
    #[error("{}: {reason}", path.display())]
    Labels {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what is expected.
        reason: String,
    },
    /// There is nothing to measure on.
    #[error(
        "{} holds training pictures, but none for validation or test: a figure on the pictures trained on says little. \
         Name others, or set some apart",
        path.display()
    )]
    OnlyTrain {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing that a choice may be made by.
    #[error(
        "{} holds no pictures to choose by: training pictures were learnt, and test pictures choose nothing. Name a folder with \
         val/, or other pictures with masks",
        path.display()
    )]
    NothingToChooseBy {
        /// The folder.
        path: PathBuf,
    },
    /// The masks' classes are not the model's.
    #[error("the classes of {} are {got}, those of the model {expected}; name the pictures that it was trained for", path.display())]
    OtherLabels {
        /// The data set.
        path: PathBuf,
        /// The model's, in words.
        expected: String,
        /// The data set's, in words.
        got: String,
    },
    /// The model failed on a picture.
    #[error("the model failed on {}: {source}", path.display())]
    Model {
        /// The picture.
        path: PathBuf,
        /// What the runtime said.
        source: edge_vit::Error,
    },
}
