//! Which pictures a model is measured on, and what each should be called.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::EvaluateError;
use crate::data::find_pictures;

/// How many names an error message lists.
const NAMES_SHOWN: usize = 8;

/// Which part of a data set was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Its `test` folder: pictures that neither training nor the choice of the epoch saw.
    Test,
    /// Its `val` folder: pictures that may have chosen the epoch.
    Val,
    /// The folder itself, which has no parts.
    Whole,
}

/// One picture and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Where it is.
    pub path: PathBuf,
    /// The position of its label in the model's.
    pub class: usize,
}

/// A folder whose name is no label of the model; its pictures are not measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownFolder {
    /// Its name.
    pub name: String,
    /// How many pictures it holds.
    pub pictures: usize,
}

/// The pictures of a data set, by class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples {
    /// The folder whose folders are the classes.
    pub folder: PathBuf,
    /// Which part of the data set that is.
    pub part: Part,
    /// The pictures, ordered by class folder and then by path.
    pub pictures: Vec<Sample>,
    /// Folders left out.
    pub unknown_folders: Vec<UnknownFolder>,
    /// Labels of the model without a picture.
    pub missing_labels: Vec<String>,
}

impl Samples {
    /// Lists the pictures of `dir`: of its `test` part if there is one, else of its `val` part, else of `dir` itself,
    /// one folder a class with the pictures directly in it. Hidden files are left out.
    ///
    /// # Errors
    /// When a folder cannot be listed, no folder is named like one of `labels`, or there is no picture.
    pub fn find(dir: &Path, labels: &[String]) -> Result<Self, EvaluateError> {
        let (folder, part) = choose_part(dir)?;
        Self::list(folder, part, labels)
    }

    /// Lists the pictures of `dir` that a choice may be made by: of its `val` part if there is one, else of `dir` itself.
    ///
    /// # Errors
    /// As [`Self::find`], and when `dir` has other parts alone or is itself the `test` part.
    pub fn validation(dir: &Path, labels: &[String]) -> Result<Self, EvaluateError> {
        sorted(dir)?;
        if holds_folders(&dir.join("val"))? {
            return Self::list(dir.join("val"), Part::Val, labels);
        }
        if holds_folders(&dir.join("train"))? || holds_folders(&dir.join("test"))? {
            return Err(EvaluateError::NoVal { path: dir.to_owned() });
        }
        match own_part(dir) {
            Part::Test => Err(EvaluateError::IsTest { path: dir.to_owned() }),
            part => Self::list(dir.to_owned(), part, labels),
        }
    }

    fn list(folder: PathBuf, part: Part, labels: &[String]) -> Result<Self, EvaluateError> {
        let mut by_label = HashMap::with_capacity(labels.len());
        for (class, label) in labels.iter().enumerate() {
            by_label.entry(label.as_str()).or_insert(class);
        }

        let (mut pictures, mut unknown_folders, mut counts) = (Vec::new(), Vec::new(), vec![0; labels.len()]);
        for path in sorted(&folder)?.into_iter().filter(|path| path.is_dir()) {
            let name = file_name(&path);
            let found = find_pictures(&path)?;
            match by_label.get(name.as_str()) {
                Some(&class) => {
                    counts[class] += found.len();
                    pictures.extend(found.into_iter().map(|path| Sample { path, class }));
                }
                None => unknown_folders.push(UnknownFolder { name, pictures: found.len() }),
            }
        }

        let nothing_known = by_label.keys().all(|label| !folder.join(label).is_dir());
        if nothing_known {
            let found: Vec<String> = unknown_folders.into_iter().map(|folder| folder.name).collect();
            return Err(EvaluateError::NoKnownClass {
                path: folder,
                expected: in_words(labels),
                found: if found.is_empty() { "no folder".to_owned() } else { in_words(&found) },
            });
        }
        if pictures.is_empty() {
            return Err(EvaluateError::NoPictures { path: folder });
        }
        let missing_labels =
            labels.iter().zip(counts).filter(|&(_, count)| count == 0).map(|(label, _)| label.clone()).collect();
        Ok(Self { folder, part, pictures, unknown_folders, missing_labels })
    }
}

/// A part is a folder of folders: a class may be called `test` as well.
fn choose_part(dir: &Path) -> Result<(PathBuf, Part), EvaluateError> {
    sorted(dir)?;
    if holds_folders(&dir.join("test"))? {
        Ok((dir.join("test"), Part::Test))
    } else if holds_folders(&dir.join("val"))? {
        Ok((dir.join("val"), Part::Val))
    } else if holds_folders(&dir.join("train"))? {
        Err(EvaluateError::OnlyTrain { path: dir.to_owned() })
    } else {
        Ok((dir.to_owned(), own_part(dir)))
    }
}

fn holds_folders(path: &Path) -> Result<bool, EvaluateError> {
    Ok(path.is_dir() && sorted(path)?.iter().any(|inner| inner.is_dir()))
}

/// Which part `dir` itself is: one by its name, if the part that is trained on stands beside it.
fn own_part(dir: &Path) -> Part {
    let beside_train = |path: &Path| path.parent().is_some_and(|parent| parent.join("train").is_dir());
    match dir.canonicalize() {
        Ok(path) if path.ends_with("test") && beside_train(&path) => Part::Test,
        Ok(path) if path.ends_with("val") && beside_train(&path) => Part::Val,
        _ => Part::Whole,
    }
}

/// The entries of a folder that are not hidden, in the order of their names.
fn sorted(dir: &Path) -> Result<Vec<PathBuf>, EvaluateError> {
    let failed = |source| EvaluateError::Folder { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn in_words(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(dir: &Path, names: &[&str]) {
        for name in names {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
    }

    fn labels(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn test_comes_before_val_and_strange_folders_are_named() {
        let dir = tempfile::tempdir().unwrap();
        touch(
            dir.path(),
            &["test/cat/1.JPG", "test/cat/2.png", "test/cat/notes.txt", "test/cat/.3.png", "test/emu/1.png"],
        );
        touch(dir.path(), &["val/cat/1.png", "train/cat/1.png"]);
        let samples = Samples::find(dir.path(), &labels(&["dog", "cat"])).unwrap();
        assert_eq!(samples.part, Part::Test);
        assert_eq!(samples.pictures.iter().map(|sample| sample.class).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(samples.unknown_folders, [UnknownFolder { name: "emu".into(), pictures: 1 }]);
        assert_eq!(samples.missing_labels, ["dog"]);
        let of_part = |part: &str| Samples::find(&dir.path().join(part), &labels(&["cat"])).unwrap().part;
        assert_eq!([of_part("test"), of_part("val"), of_part("train")], [Part::Test, Part::Val, Part::Whole]);

        fs::remove_dir_all(dir.path().join("test")).unwrap();
        assert_eq!(Samples::find(dir.path(), &labels(&["cat"])).unwrap().part, Part::Val);
    }

    #[test]
    fn a_class_may_be_called_test() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["test/1.png", "val/1.png"]);
        let samples = Samples::find(dir.path(), &labels(&["test", "val"])).unwrap();
        assert_eq!((samples.part, samples.pictures.len()), (Part::Whole, 2));
    }

    #[test]
    fn nothing_is_chosen_by_test_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let find = |part: &str| Samples::validation(&dir.path().join(part), &labels(&["cat"]));
        touch(dir.path(), &["test/cat/1.png", "train/cat/1.png", "chosen/cat/1.png"]);
        assert!(matches!(find(""), Err(EvaluateError::NoVal { .. })));
        assert!(matches!(find("test"), Err(EvaluateError::IsTest { .. })));
        assert!(matches!(find("gone"), Err(EvaluateError::Folder { .. })));
        assert_eq!(find("chosen").unwrap().part, Part::Whole);
        touch(dir.path(), &["val/cat/1.png", "val/cat/2.png"]);
        assert_eq!((find("").unwrap().part, find("").unwrap().pictures.len()), (Part::Val, 2));
        assert_eq!(find("val").unwrap().part, Part::Val);
    }

    #[test]
    fn what_cannot_be_measured_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let find = |names: &[&str]| Samples::find(dir.path(), &labels(names)).unwrap_err();
        assert!(matches!(find(&["cat"]), EvaluateError::NoKnownClass { found, .. } if found == "no folder"));
        touch(dir.path(), &["emu/1.png"]);
        assert!(find(&["cat"]).to_string().ends_with("one folder a class out of `cat`; found `emu`"));
        touch(dir.path(), &["cat/readme.txt"]);
        assert!(matches!(find(&["cat"]), EvaluateError::NoPictures { .. }));
        fs::remove_dir_all(dir.path().join("cat")).unwrap();
        touch(dir.path(), &["train/cat/1.png"]);
        assert!(matches!(find(&["cat"]), EvaluateError::OnlyTrain { .. }));
        let gone = Samples::find(&dir.path().join("gone"), &labels(&["cat"])).unwrap_err();
        assert!(matches!(gone, EvaluateError::Folder { .. }));
    }
}
