//! A model file on its way to a board.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use edge_vit::Classifier;
use edge_vit::signature::{self, SignatureError};
use thiserror::Error;

/// A model that computes here what it computed when it was written.
#[derive(Debug)]
pub(crate) struct Model {
    /// The file.
    pub(crate) bytes: Vec<u8>,
    /// The text of the signature beside it, if there is one. Whose it is only the board knows how to judge.
    pub(crate) signature: Option<String>,
}

/// Why a model is not taken to a board.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no model, or not a whole one.
    #[error("{} cannot be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: edge_vit::Error,
    },
    /// The model does not compute here what it computed when it was written.
    #[error("{failed} of the {cases} golden cases of {} come out differently here; fold it again", path.display())]
    SelfTest {
        /// The file.
        path: PathBuf,
        /// Golden cases that came out differently.
        failed: usize,
        /// All golden cases.
        cases: usize,
    },
    /// There is something beside the model that is no signature.
    #[error("the signature of {} cannot be used", path.display())]
    Signature {
        /// The model.
        path: PathBuf,
        /// What is wrong with its signature.
        source: SignatureError,
    },
}

impl Model {
    /// Reads the model at `path` and the signature beside it, and has the model prove itself.
    pub(crate) fn read(path: &Path) -> Result<Self, ModelError> {
        let bytes = fs::read(path).map_err(|source| ModelError::Read { path: path.to_owned(), source })?;
        let unusable = |source| ModelError::Unusable { path: path.to_owned(), source };
        let report = Classifier::from_bytes(&bytes).map_err(unusable)?.self_test().map_err(unusable)?;
        if !report.passed() {
            let (failed, cases) = (report.failed(), report.cases.len());
            return Err(ModelError::SelfTest { path: path.to_owned(), failed, cases });
        }
        let signature = match signature::read_signature(path) {
            Ok(text) => Some(text),
            Err(SignatureError::Missing { .. }) => None,
            Err(source) => return Err(ModelError::Signature { path: path.to_owned(), source }),
        };
        Ok(Self { bytes, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_comes_with_its_signature_and_not_with_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.onnx");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/fixtures");
        fs::copy(fixtures.join("tiny.onnx"), &path).unwrap();
        assert!(Model::read(&path).unwrap().signature.is_none());

        let beside = signature::signature_path(&path);
        fs::write(&beside, "untrusted comment: any\n").unwrap();
        assert_eq!(Model::read(&path).unwrap().signature.unwrap(), "untrusted comment: any\n");
        fs::write(&beside, [0xff; 300]).unwrap();
        assert!(matches!(Model::read(&path), Err(ModelError::Signature { .. })));
    }

    #[test]
    fn what_is_no_model_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.onnx");
        assert!(matches!(Model::read(&path), Err(ModelError::Read { .. })));
        fs::write(&path, b"no model").unwrap();
        assert!(matches!(Model::read(&path), Err(ModelError::Unusable { .. })));
    }
}
