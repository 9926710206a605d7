//! The layouts of a data set.

use std::path::Path;

use super::{DataError, Folder};

/// Pictures to train on, and those that choose the epoch where the data set sets some apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// To train on; to be split where [`Dataset::val`] is none.
    pub train: Folder,
    /// To choose the epoch by, labelled as `train` is.
    pub val: Option<Folder>,
}

impl Dataset {
    /// Reads `path`: `path/train` with `path/val`, or `path/train` alone, or the class folders directly in `path`.
    /// Any other folder beside `train`, such as `test`, is left alone.
    ///
    /// # Errors
    /// As [`Folder::read`]; or when `val` holds a class that `train` does not.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let (train, val) = (path.join("train"), path.join("val"));
        if !train.is_dir() {
            return Ok(Self { train: Folder::read(path)?, val: None });
        }
        let train = Folder::read(&train)?;
        let val = match val.is_dir() {
            true => Some(Folder::read(&val)?.relabel(&train.labels)?),
            false => None,
        };
        Ok(Self { train, val })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn class(path: &Path) {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("1.png"), b"").unwrap();
    }

    #[test]
    fn each_layout_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        class(&path.join("a"));
        class(&path.join("b"));
        let plain = Dataset::read(path).unwrap();
        assert_eq!((plain.train.path.as_path(), &plain.val), (path, &None));

        let sets = tempfile::tempdir().unwrap();
        let path = sets.path();
        ["train/a", "train/b", "test/a"].iter().for_each(|sub| class(&path.join(sub)));
        let alone = Dataset::read(path).unwrap();
        assert_eq!((alone.train.path, &alone.val), (path.join("train"), &None));

        ["val/a", "val/b"].iter().for_each(|sub| class(&path.join(sub)));
        assert_eq!(Dataset::read(path).unwrap().val.unwrap().path, path.join("val"));
        class(&path.join("val/c"));
        assert!(matches!(Dataset::read(path), Err(DataError::UnknownClass { .. })));
    }
}
