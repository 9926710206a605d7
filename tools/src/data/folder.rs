//! What is in a data set's folder.

use std::fs;
use std::path::{Path, PathBuf};

use edge_vit::has_picture_ending;

use super::DataError;

/// A picture and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Where it is.
    pub path: PathBuf,
    /// Index into [`Folder::labels`].
    pub label: u32,
}

/// The pictures of one folder whose subfolders are the classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The folder.
    pub path: PathBuf,
    /// Names of the classes, sorted.
    pub labels: Vec<String>,
    /// Class by class, sorted by file name. Whether a file can be decoded shows when it is opened.
    pub pictures: Vec<Picture>,
}

impl Folder {
    /// Lists `path`: each subfolder is a class, named by its folder, and the picture files directly in it are its
    /// pictures. Hidden entries and files of other kinds are passed over.
    ///
    /// # Errors
    /// When the folder cannot be read, holds fewer than two classes or no pictures, or a class is empty.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let classes: Vec<PathBuf> = entries(path)?.into_iter().filter(|entry| entry.is_dir()).collect();
        if classes.len() < 2 {
            return Err(DataError::TooFewClasses { path: path.to_owned(), found: classes.len() });
        }
        let mut folder = Self { path: path.to_owned(), labels: Vec::new(), pictures: Vec::new() };
        for (label, class) in (0u32..).zip(&classes) {
            let name = class.file_name().and_then(|name| name.to_str());
            folder.labels.push(name.ok_or_else(|| DataError::Name { path: class.clone() })?.to_owned());
            folder.pictures.extend(find_pictures(class)?.into_iter().map(|path| Picture { path, label }));
        }
        if folder.pictures.is_empty() {
            return Err(DataError::NoPictures { path: path.to_owned() });
        }
        folder.check_classes()?;
        Ok(folder)
    }

    /// How many pictures each class has, in label order.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.labels.len()];
        for picture in &self.pictures {
            counts[picture.label as usize] += 1;
        }
        counts
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
                // There are no more classes than folders, and these were counted in u32.
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

/// The picture files directly in `path`, sorted by name: those with the ending of a format that can be read.
///
/// # Errors
/// When the folder cannot be read.
pub fn find_pictures(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let is_picture = |path: &PathBuf| has_picture_ending(path) && path.is_file();
    Ok(entries(path)?.into_iter().filter(is_picture).collect())
}

/// What is directly in `path` and not hidden, sorted by name.
fn entries(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        return Err(DataError::NotAFolder { path: path.to_owned() });
    }
    let failed = |source| DataError::Read { path: path.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if !file.ends_with('/') {
                fs::write(path, b"").unwrap();
            } else {
                fs::create_dir_all(path).unwrap();
            }
        }
        folder
    }

    #[test]
    fn labels_and_pictures_are_sorted_and_other_files_passed_over() {
        let files = ["b/2.JPG", "b/1.png", "a/x.webp", "a/notes.txt", "a/._x.webp", ".cache/y.png", "z.png"];
        let folder = make(&files);
        let read = Folder::read(folder.path()).unwrap();
        assert_eq!(read.labels, ["a", "b"]);
        let names: Vec<_> = read
            .pictures
            .iter()
            .map(|picture| (picture.path.file_name().unwrap().to_str().unwrap(), picture.label))
            .collect();
        assert_eq!(names, [("x.webp", 0), ("1.png", 1), ("2.JPG", 1)]);
        assert_eq!(read.counts(), [1, 2]);
    }

    #[test]
    fn what_cannot_be_trained_on_is_said_in_a_sentence() {
        let missing = Folder::read(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(matches!(missing, DataError::NotAFolder { .. }), "{missing}");
        let one = Folder::read(make(&["a/1.png"]).path()).unwrap_err();
        assert!(matches!(one, DataError::TooFewClasses { found: 1, .. }), "{one}");
        let none = Folder::read(make(&["a/", "b/"]).path()).unwrap_err();
        assert!(matches!(none, DataError::NoPictures { .. }), "{none}");
        let empty = Folder::read(make(&["a/1.png", "b/"]).path()).unwrap_err();
        assert!(matches!(&empty, DataError::EmptyClass { label, .. } if label == "b"), "{empty}");
    }

    #[test]
    fn another_folder_is_labelled_by_the_first_ones_classes() {
        let folder = make(&["b/1.png", "c/1.png"]);
        let labels = ["a", "b", "c"].map(str::to_owned);
        let relabelled = Folder::read(folder.path()).unwrap().relabel(&labels).unwrap();
        assert_eq!(relabelled.pictures.iter().map(|picture| picture.label).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(relabelled.labels, labels);
        let error = Folder::read(folder.path()).unwrap().relabel(&labels[..2]).unwrap_err();
        assert!(matches!(&error, DataError::UnknownClass { label, .. } if label == "c"), "{error}");
    }
}
