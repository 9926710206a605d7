//! Labelled pictures.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::DataError;

/// A picture and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Where it is.
    pub path: PathBuf,
    /// Index into [`PictureSet::labels`].
    pub label: u32,
    /// What it belongs to, where the data set says so: pictures of one group are not parted by a split.
    pub group: Option<String>,
    /// The film that it is a frame of; of a filmstrip, what it was made of: a film, or a folder of frames.
    pub film: Option<PathBuf>,
}

impl Picture {
    /// The file of the data set that it comes from: its film, or itself.
    pub fn file(&self) -> &Path {
        self.film.as_deref().unwrap_or(&self.path)
    }
}

/// What all frames of a clip are called, and no others of the class: as their `film`, or else as the `group` that the data set says they
/// belong to, which may hold several films; nothing for a picture by itself.
pub(crate) fn clip_name<'a>(film: Option<&'a Path>, group: Option<&'a str>) -> Option<&'a OsStr> {
    film.map(Path::as_os_str).or(group.map(OsStr::new))
}

/// Pictures of one part of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureSet {
    /// The folder or file that they come from.
    pub path: PathBuf,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// Class by class. Whether a file can be decoded shows when it is opened.
    pub pictures: Vec<Picture>,
}

impl PictureSet {
    /// How many pictures each class has, in label order.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.labels.len()];
        for picture in &self.pictures {
            counts[picture.label as usize] += 1;
        }
        counts
    }

    /// Whether the data set says what pictures belong to.
    pub fn is_grouped(&self) -> bool {
        self.pictures.iter().any(|picture| picture.group.is_some())
    }

    /// Checks that there are classes to tell apart, and that each has a picture.
    ///
    /// # Errors
    /// When there are fewer than two classes, no pictures, or a class is empty.
    pub fn check(&self) -> Result<(), DataError> {
        if self.labels.len() < 2 {
            return Err(DataError::TooFewClasses { path: self.path.clone(), found: self.labels.len() });
        }
        if self.pictures.is_empty() {
            return Err(DataError::NoPictures { path: self.path.clone() });
        }
        self.check_classes()
    }

    /// Checks that every class has a picture left.
    ///
    /// # Errors
    /// Names the first class that has none.
    pub fn check_classes(&self) -> Result<(), DataError> {
        match self.labels.iter().zip(self.counts()).find(|(_, count)| *count == 0) {
            Some((label, _)) => Err(DataError::EmptyClass { label: label.clone(), path: self.path.clone() }),
            None => Ok(()),
        }
    }

    /// The same pictures, labelled by the classes of `labels`, which may hold more.
    ///
    /// # Errors
    /// Names a class that is not among them.
    pub fn relabel(mut self, labels: &[String]) -> Result<Self, DataError> {
        let mut index = Vec::with_capacity(self.labels.len());
        for label in &self.labels {
            match labels.iter().position(|known| known == label) {
                // There are no more classes than pictures and folders, and these were counted in u32.
                Some(position) => index.push(position as u32),
                None => return Err(DataError::UnknownClass { label: label.clone(), path: self.path }),
            }
        }
        for picture in &mut self.pictures {
            picture.label = index[picture.label as usize];
        }
        self.labels = labels.to_vec();
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(labels: &[&str], of: &[u32]) -> PictureSet {
        let pictures =
            of.iter().map(|&label| Picture { path: "x.png".into(), label, group: None, film: None }).collect();
        PictureSet { path: "set".into(), labels: labels.iter().map(|&label| label.to_owned()).collect(), pictures }
    }

    #[test]
    fn what_cannot_be_trained_on_is_said_in_a_sentence() {
        let one = set(&["a"], &[0]).check().unwrap_err();
        assert!(matches!(one, DataError::TooFewClasses { found: 1, .. }), "{one}");
        let none = set(&["a", "b"], &[]).check().unwrap_err();
        assert!(matches!(none, DataError::NoPictures { .. }), "{none}");
        let empty = set(&["a", "b"], &[0]).check().unwrap_err();
        assert!(matches!(&empty, DataError::EmptyClass { label, .. } if label == "b"), "{empty}");
        set(&["a", "b"], &[0, 1]).check().unwrap();
    }

    #[test]
    fn another_set_is_labelled_by_the_first_ones_classes() {
        let labels = ["a", "b", "c"].map(str::to_owned);
        let relabelled = set(&["b", "c"], &[0, 1]).relabel(&labels).unwrap();
        assert_eq!(relabelled.pictures.iter().map(|picture| picture.label).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(relabelled.labels, labels);
        let error = set(&["b", "c"], &[0, 1]).relabel(&labels[..2]).unwrap_err();
        assert!(matches!(&error, DataError::UnknownClass { label, .. } if label == "c"), "{error}");
    }
}
