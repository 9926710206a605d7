//! Which pictures a model is measured on, and what each should be called.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::EvaluateError;
use crate::data::{Listing, Part, Picture, PictureSet};

/// How many names an error message lists.
const NAMES_SHOWN: usize = 8;

/// One picture and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Where it is.
    pub path: PathBuf,
    /// The position of its label in the model's.
    pub class: usize,
    /// What it belongs to, where the data set says so: the clip that it is a frame of.
    pub group: Option<String>,
    /// The film that it is a frame of; of a filmstrip, what it was made of: a film, or a folder of frames.
    pub film: Option<PathBuf>,
}

impl From<Picture> for Sample {
    /// The picture, whose label is the model's.
    fn from(Picture { path, label, group, film }: Picture) -> Self {
        Self { path, class: label as usize, group, film }
    }
}

/// A class whose name is no label of the model; its pictures are not measured.
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
    /// The folder or file that the pictures come from.
    pub folder: PathBuf,
    /// Which part of the data set that is.
    pub part: Part,
    /// The pictures, class by class.
    pub pictures: Vec<Sample>,
    /// Classes left out.
    pub unknown_folders: Vec<UnknownFolder>,
    /// Labels of the model without a picture.
    pub missing_labels: Vec<String>,
}

impl Samples {
    /// Lists the pictures of `data`, in any layout that [`Listing::read`] knows: of its test part if there is one, else of its
    /// validation part, else all of it.
    ///
    /// # Errors
    /// When there is no data set, it holds training pictures alone, none of its classes is one of `labels`, or there is no
    /// picture.
    pub fn find(data: &Path, labels: &[String]) -> Result<Self, EvaluateError> {
        let mut parts = Listing::read(data)?.parts;
        for part in [Part::Test, Part::Val, Part::Whole] {
            if let Some(set) = parts.remove(&part) {
                return Self::of(set, part, labels);
            }
        }
        match parts.is_empty() {
            true => Err(EvaluateError::NoPictures { path: data.to_owned() }),
            false => Err(EvaluateError::OnlyTrain { path: data.to_owned() }),
        }
    }

    /// Lists the pictures of the test part of `data`.
    ///
    /// # Errors
    /// As [`Self::find`], and when `data` has no test part.
    pub fn test(data: &Path, labels: &[String]) -> Result<Self, EvaluateError> {
        match Listing::read(data)?.parts.remove(&Part::Test) {
            Some(set) => Self::of(set, Part::Test, labels),
            None => Err(EvaluateError::NoTest { path: data.to_owned() }),
        }
    }

    /// Lists the pictures of `data` that a choice may be made by: of its validation part if there is one, else all of it.
    ///
    /// # Errors
    /// As [`Self::find`], and when `data` has other parts alone or is itself the test part.
    pub fn validation(data: &Path, labels: &[String]) -> Result<Self, EvaluateError> {
        let mut parts = Listing::read(data)?.parts;
        if let Some(set) = parts.remove(&Part::Val) {
            return Self::of(set, Part::Val, labels);
        }
        if let Some(set) = parts.remove(&Part::Whole) {
            return Self::of(set, Part::Whole, labels);
        }
        let path = data.to_owned();
        Err(match (parts.contains_key(&Part::Train), parts.contains_key(&Part::Test)) {
            (false, true) => EvaluateError::IsTest { path },
            (false, false) => EvaluateError::NoPictures { path },
            (true, _) => EvaluateError::NoVal { path },
        })
    }

    /// The same for a model that sees `frames` frames at a time: see [`PictureSet::filmstrips`].
    ///
    /// # Errors
    /// Those of [`PictureSet::filmstrips`].
    pub fn filmstrips(self, frames: usize) -> Result<Self, EvaluateError> {
        let Self { folder, part, pictures, unknown_folders, missing_labels } = self;
        let picture = |Sample { path, class, group, film }| Picture { path, label: class as u32, group, film };
        let pictures = pictures.into_iter().map(picture).collect();
        let set = PictureSet { path: folder, labels: Vec::new(), pictures }.filmstrips(frames)?;
        let pictures = set.pictures.into_iter().map(Sample::from).collect();
        Ok(Self { folder: set.path, part, pictures, unknown_folders, missing_labels })
    }

    fn of(set: PictureSet, part: Part, labels: &[String]) -> Result<Self, EvaluateError> {
        let mut by_label = HashMap::with_capacity(labels.len());
        for (class, label) in labels.iter().enumerate() {
            by_label.entry(label.as_str()).or_insert(class);
        }
        let classes: Vec<Option<usize>> = set.labels.iter().map(|name| by_label.get(name.as_str()).copied()).collect();
        if classes.iter().all(Option::is_none) {
            let found = if set.labels.is_empty() { "none".to_owned() } else { in_words(&set.labels) };
            return Err(EvaluateError::NoKnownClass { path: set.path, expected: in_words(labels), found });
        }

        let counts = set.counts();
        let unknown_folders = (set.labels.iter().zip(&counts).zip(&classes))
            .filter(|(_, class)| class.is_none())
            .map(|((name, &pictures), _)| UnknownFolder { name: name.clone(), pictures })
            .collect();
        let pictures: Vec<Sample> = (set.pictures.into_iter())
            .filter_map(|picture| {
                let class = classes[picture.label as usize]?;
                Some(Sample { path: picture.path, class, group: picture.group, film: picture.film })
            })
            .collect();
        if pictures.is_empty() {
            return Err(EvaluateError::NoPictures { path: set.path });
        }
        let mut measured = vec![false; labels.len()];
        pictures.iter().for_each(|sample| measured[sample.class] = true);
        let missing = labels.iter().zip(measured).filter(|(_, measured)| !measured);
        let missing_labels = missing.map(|(label, _)| label.clone()).collect();
        Ok(Self { folder: set.path, part, pictures, unknown_folders, missing_labels })
    }
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
    use std::fs;

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
        assert!(matches!(find("gone"), Err(EvaluateError::Data(_))));
        assert_eq!(find("chosen").unwrap().part, Part::Whole);
        touch(dir.path(), &["val/cat/1.png", "val/cat/2.png"]);
        assert_eq!((find("").unwrap().part, find("").unwrap().pictures.len()), (Part::Val, 2));
        assert_eq!(find("val").unwrap().part, Part::Val);
    }

    #[test]
    fn what_cannot_be_measured_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let find = |names: &[&str]| Samples::find(dir.path(), &labels(names)).unwrap_err();
        assert!(matches!(find(&["cat"]), EvaluateError::NoKnownClass { found, .. } if found == "none"));
        touch(dir.path(), &["emu/1.png"]);
        assert!(find(&["cat"]).to_string().ends_with("expected some of `cat`; found `emu`"));
        touch(dir.path(), &["cat/readme.txt"]);
        assert!(matches!(find(&["cat"]), EvaluateError::NoPictures { .. }));
        fs::remove_dir_all(dir.path().join("cat")).unwrap();
        touch(dir.path(), &["train/cat/1.png"]);
        assert!(matches!(find(&["cat"]), EvaluateError::OnlyTrain { .. }));
        let gone = Samples::find(&dir.path().join("gone"), &labels(&["cat"])).unwrap_err();
        assert!(matches!(gone, EvaluateError::Data(_)));
    }
}
