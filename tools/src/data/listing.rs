//! All that a data set holds, part by part.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DataError, Layout, Picture, PictureSet, csv, films, folder, lists, parquet, webdataset};

/// What pictures are set apart for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// All of them, in a data set without parts.
    Whole,
    /// To train on.
    Train,
    /// To choose the epoch by.
    Val,
    /// To measure the result with; never trained on, and nothing is chosen by them.
    Test,
}

impl Part {
    /// The part that a split is called, in upper or lower case.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" | "dev" => Some(Self::Val),
            "test" => Some(Self::Test),
            _ => None,
        }
    }

    /// The part that a shard's name begins with, such as `train-00000-of-00002.parquet`.
    pub(super) fn of_shard(path: &Path) -> Option<Self> {
        let stem = path.file_stem()?.to_str()?;
        Self::named(stem.split(['-', '_', '.']).next()?)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// A labelled picture as a list names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) part: Part,
    pub(super) path: PathBuf,
    pub(super) label: String,
    pub(super) group: Option<String>,
}

/// All that a data set holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Where it is.
    pub path: PathBuf,
    /// How it is laid out.
    pub layout: Layout,
    /// The parts, each with the classes that it has itself, in the same order everywhere.
    pub parts: BTreeMap<Part, PictureSet>,
}

impl Listing {
    /// Recognises the layout of `path` and lists its pictures. Those inside of Parquet and tar files are unpacked into the
    /// cache first, once, and frames of films are taken into it.
    ///
    /// # Errors
    /// When there is no data set, its files cannot be read, or a line of them cannot be understood; when there are films and no
    /// `ffmpeg`.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let layout = Layout::of(path)?;
        let parts = match layout {
            Layout::Folders => folder::read(path)?,
            Layout::Csv => csv::read(path)?,
            Layout::Lists => lists::read(path)?,
            Layout::Parquet => parquet::read(path)?,
            Layout::Webdataset => webdataset::read(path)?,
        };
        Ok(Self { path: path.to_owned(), layout, parts: films::unrolled(path, parts)? })
    }

    /// The part that is trained on.
    pub fn train(&self) -> Option<&PictureSet> {
        self.parts.get(&Part::Train).or_else(|| self.parts.get(&Part::Whole))
    }
}

/// Sorts `rows` into parts, class by class in the order of `names`, and within a class as they come. A part has the classes that
/// it has pictures of.
pub(super) fn parts(list: &Path, names: &[String], rows: Vec<Row>) -> Result<BTreeMap<Part, PictureSet>, DataError> {
    let mut seen = HashSet::with_capacity(rows.len());
    if let Some(row) = rows.iter().find(|row| !seen.insert(&row.path)) {
        return Err(DataError::Twice { list: list.to_owned(), picture: row.path.clone() });
    }
    let mut by_part: BTreeMap<Part, BTreeMap<usize, Vec<Row>>> = BTreeMap::new();
    let position: BTreeMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
    for row in rows {
        // Names are collected from these very rows, or hold them all.
        let class = position.get(row.label.as_str()).copied().unwrap_or_default();
        by_part.entry(row.part).or_default().entry(class).or_default().push(row);
    }
    let set = |classes: BTreeMap<usize, Vec<Row>>| {
        let mut set = PictureSet { path: list.to_owned(), labels: Vec::new(), pictures: Vec::new() };
        for (label, (class, rows)) in (0u32..).zip(classes) {
            set.labels.push(names[class].clone());
            let pictures = rows.into_iter().map(|row| Picture { path: row.path, label, group: row.group, film: None });
            set.pictures.extend(pictures);
        }
        set
    };
    Ok(by_part.into_iter().map(|(part, classes)| (part, set(classes))).collect())
}

/// The classes of `rows`, sorted: by value where all are whole numbers, else by name.
pub(super) fn sorted_names<'a>(labels: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = labels.collect::<HashSet<_>>().into_iter().map(str::to_owned).collect();
    names.sort();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or_default());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(part: Part, path: &str, label: &str) -> Row {
        Row { part, path: path.into(), label: label.to_owned(), group: None }
    }

    #[test]
    fn rows_become_parts_with_their_classes_in_one_order() {
        let rows = vec![
            row(Part::Train, "3", "b"),
            row(Part::Train, "2", "c"),
            row(Part::Train, "1", "b"),
            row(Part::Test, "0", "c"),
            row(Part::Train, "4", "a"),
        ];
        let names = ["c", "b", "a"].map(str::to_owned);
        let parts = parts(Path::new("list"), &names, rows).unwrap();
        let train: Vec<_> = parts[&Part::Train].pictures.iter().map(|p| (p.path.to_str().unwrap(), p.label)).collect();
        assert_eq!(train, [("2", 0), ("3", 1), ("1", 1), ("4", 2)]);
        assert_eq!((&parts[&Part::Train].labels[..], &parts[&Part::Test].labels[..]), (&names[..], &names[..1]));
    }

    #[test]
    fn a_picture_has_one_place() {
        let rows = vec![row(Part::Train, "1", "a"), row(Part::Test, "1", "a")];
        let error = parts(Path::new("list"), &["a".to_owned()], rows).unwrap_err();
        assert!(matches!(error, DataError::Twice { .. }), "{error}");
    }

    #[test]
    fn numbers_are_sorted_by_value_and_names_by_letters() {
        assert_eq!(sorted_names(["10", "9", "10"].into_iter()), ["9", "10"]);
        assert_eq!(sorted_names(["10", "9", "a"].into_iter()), ["10", "9", "a"]);
    }

    #[test]
    fn a_shards_part_is_the_beginning_of_its_name() {
        let of = |name: &str| Part::of_shard(Path::new(name));
        assert_eq!(of("data/train-00000-of-00001.parquet"), Some(Part::Train));
        assert_eq!(of("validation-00000-of-00001.parquet"), Some(Part::Val));
        assert_eq!([of("test_03.tar"), of("test.tar")], [Some(Part::Test); 2]);
        assert_eq!([of("trainset.tar"), of("flowers.tar")], [None; 2]);
    }
}
