//! Why a data set cannot be used.

use std::io;
use std::path::PathBuf;

use edge_vit::capture::SourceError;
use thiserror::Error;

/// Why a data set cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    /// Nothing that is read as a data set.
    #[error(
        "{} is no data set; give a folder with a folder of pictures or films for each class, a CSV file, lists as VTAB has them, \
         or Parquet or tar files with the pictures inside",
        path.display()
    )]
    NotADataSet {
        /// What was given.
        path: PathBuf,
    },
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
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
    /// Pictures of a part lie in the part's folder itself.
    #[error("{} holds pictures or films that are in no class; put them into a folder for each class", path.display())]
    Unlabelled {
        /// The part's folder.
        path: PathBuf,
    },
    /// There is nothing to tell apart.
    #[error(
        "{} holds {found} class(es), at least 2 are needed; in a folder, each class is a folder of pictures or films",
        path.display()
    )]
    TooFewClasses {
        /// The data set.
        path: PathBuf,
        /// Classes found.
        found: usize,
    },
    /// No class has a picture.
    #[error(
        "no pictures under {}; JPEG, PNG, WebP, BMP, TIFF and GIF files, and films such as MP4, are looked for in each class",
        path.display()
    )]
    NoPictures {
        /// The data set.
        path: PathBuf,
    },
    /// A class has no picture that can be read.
    #[error("class `{label}` has no readable picture in {}; add some or remove the class", path.display())]
    EmptyClass {
        /// The class.
        label: String,
        /// The data set.
        path: PathBuf,
    },
    /// Validation pictures of a class that is not trained.
    #[error("class `{label}` of {} is not among the classes trained on; both parts need the same class names", path.display())]
    UnknownClass {
        /// The class.
        label: String,
        /// The validation pictures.
        path: PathBuf,
    },
    /// The only classes are called as the folders of segmentation are.
    #[error(
        "{} holds pictures and masks, which are learned from with --task segmentation; if `images` and `masks` are meant to be \
         classes, rename their folders",
        path.display()
    )]
    Masked {
        /// The data set.
        path: PathBuf,
    },
    /// All pictures are set apart to choose by or to measure with.
    #[error(
        "{} holds validation or test pictures alone, which are never trained on; name the data set that holds its \
         training pictures too",
        path.display()
    )]
    NoTrain {
        /// The data set.
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
         add pictures, or set some apart for validation"
    )]
    TooFew {
        /// The class.
        label: String,
        /// `pictures`, or `groups of pictures`.
        what: &'static str,
    },
    /// A line of a table or a list says nothing that can be used.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it, and what is expected.
        reason: String,
    },
    /// A picture has two places in the data set.
    #[error("{} lists the picture {} twice; leave one of the lines out", list.display(), picture.display())]
    Twice {
        /// The list.
        list: PathBuf,
        /// The picture.
        picture: PathBuf,
    },
    /// None of the files that a list names is there.
    #[error("none of the {count} pictures that {} lists is there, such as {}; paths are relative to the list", list.display(), first.display())]
    NoneThere {
        /// The list.
        list: PathBuf,
        /// How many it lists.
        count: usize,
        /// The first of them.
        first: PathBuf,
    },
    /// A file with pictures inside cannot be used.
    #[error("{}: {reason}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what is expected.
        reason: String,
    },
    /// Pictures cannot be unpacked.
    #[error("cannot unpack pictures into {}: {source}", path.display())]
    Unpack {
        /// Where they were to go.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are films, and nothing to read them through.
    #[error(transparent)]
    Film(SourceError),
    /// The environment does not say where the caches are.
    #[error(
        "pictures inside of files and frames of films are put into the cache; set XDG_CACHE_HOME or HOME to say where it is"
    )]
    NoCacheFolder,
}
