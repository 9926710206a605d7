//! Why a protocol, or a part of one, could not be run.

use std::path::PathBuf;

use thiserror::Error;

use crate::data::DataError;
use crate::evaluate::EvaluateError;
use crate::merge::MergeError;
use crate::quantize::QuantizeError;
use crate::train::TrainError;

/// Why a protocol, or a part of one, could not be run.
#[derive(Debug, Error)]
pub enum ProtocolError {
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The training, or the file of results.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The fold.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The measurement.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The validation pictures of a training were not found again.
    #[error(transparent)]
    Validation(#[from] QuantizeError),
    /// What the method trains cannot be folded.
    #[error(
        "`--method {method}` cannot be folded, and a protocol measures the folded model; take one that can be, such as \
         repadapter or lora"
    )]
    NotFolded {
        /// The method.
        method: String,
    },
    /// None of the tasks is there.
    #[error("{} holds none of the folders {}; each is a task with its lists, as the authors' archive has them", root.display(), names.join(", "))]
    NoTask {
        /// The folder of the tasks.
        root: PathBuf,
        /// The tasks that were looked for.
        names: Vec<String>,
    },
    /// A list of a task is not there.
    #[error("{} has no {list}; the protocol trains on train800.txt, chooses by val200.txt and measures on test.txt", path.display())]
    NoList {
        /// The task's folder.
        path: PathBuf,
        /// The list.
        list: &'static str,
    },
    /// Two data sets have one name.
    #[error("two data sets are called `{name}`; rename the folder of one")]
    SameName {
        /// The name.
        name: String,
    },
    /// A data set has a name that no folder of results can have.
    #[error("`{name}` is no name for a folder of results; expected letters, digits, `-`, `_` and `.`, got the data set {}", path.display())]
    Name {
        /// The name.
        name: String,
        /// The data set.
        path: PathBuf,
    },
    /// A number is given twice.
    #[error("{option} holds {value} twice; leave one out")]
    Twice {
        /// The option.
        option: &'static str,
        /// The number.
        value: String,
    },
    /// Pictures that were trained on, or chose the epoch, are asked to measure the result.
    #[error(
        "`{name}` holds pictures that are trained on or choose the epoch; name others, or set some apart in a folder `test` beside \
         `train`"
    )]
    TrainedOn {
        /// The data set.
        name: String,
    },
    /// No epoch ended.
    #[error("no trial of the search ended well; try a lower --lr")]
    NothingTrained,
}
