//! What of a data set a training may see.

use std::path::Path;

use super::{DataError, Listing, Part, PictureSet};

/// Pictures to train on, and those that choose the epoch where the data set sets some apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// To train on; to be split where [`Dataset::val`] is none.
    pub train: PictureSet,
    /// To choose the epoch by, labelled as `train` is.
    pub val: Option<PictureSet>,
}

impl Dataset {
    /// Reads the training and validation pictures of `path`, in any layout that [`Listing::read`] knows. Test pictures are left
    /// alone.
    ///
    /// # Errors
    /// As [`Listing::read`]; when it is one of segmentation, there is nothing to train on or to tell apart, a class is empty, or validation pictures have a
    /// class that the others do not.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let Listing { path, mut parts, .. } = Listing::read(path)?;
        let train = parts.remove(&Part::Train).or_else(|| parts.remove(&Part::Whole));
        let train = match train {
            Some(train) => train,
            None if parts.is_empty() => return Err(DataError::NoPictures { path }),
            None => return Err(DataError::NoTrain { path }),
        };
        if train.labels == ["images", "masks"] {
            return Err(DataError::Masked { path: train.path });
        }
        train.check()?;
        let val = parts.remove(&Part::Val).map(|val| val.relabel(&train.labels)).transpose()?;
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
    fn folders_may_have_parts() {
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

    #[test]
    fn masks_are_not_taken_for_a_class() {
        let set = tempfile::tempdir().unwrap();
        ["train/images", "train/masks"].iter().for_each(|sub| class(&set.path().join(sub)));
        let error = Dataset::read(set.path()).unwrap_err();
        assert!(error.to_string().contains("--task segmentation"), "{error}");
        class(&set.path().join("train/third"));
        Dataset::read(set.path()).unwrap();
    }

    #[test]
    fn test_pictures_are_never_trained_on() {
        let sets = tempfile::tempdir().unwrap();
        ["train/a", "train/b", "test/a", "test/b"].iter().for_each(|sub| class(&sets.path().join(sub)));
        let error = Dataset::read(&sets.path().join("test")).unwrap_err();
        assert!(matches!(error, DataError::NoTrain { .. }), "{error}");
        Dataset::read(&sets.path().join("train")).unwrap();
    }
}
