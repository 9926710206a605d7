//! Telling the layout of a data set from what lies there.

use std::fmt;
use std::path::Path;

use super::{DataError, folder, lists};

/// How pictures and their classes are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// A folder a class, perhaps in `train`, `val` and `test`.
    Folders,
    /// A table of paths and labels.
    Csv,
    /// VTAB-1k's lists of paths and class numbers.
    Lists,
    /// Hugging Face's tables with the pictures inside.
    Parquet,
    /// Tar files with a picture and its label side by side.
    Webdataset,
}

impl Layout {
    /// The layout of what is at `path`. A folder of classes stays one, whatever else lies in it.
    ///
    /// # Errors
    /// When there is nothing, a file of another kind, or a folder that cannot be read.
    pub fn of(path: &Path) -> Result<Self, DataError> {
        if !path.is_dir() {
            let known = if path.is_file() { Self::of_ending(path) } else { None };
            return known.ok_or_else(|| DataError::NotADataSet { path: path.to_owned() });
        }
        if lists::is_there(path) {
            return Ok(Self::Lists);
        }
        if folder::has_parts(path)? || folder::has_class_folders(path)? {
            return Ok(Self::Folders);
        }
        for layout in [Self::Parquet, Self::Webdataset] {
            if !layout.shards(path)?.is_empty() {
                return Ok(layout);
            }
        }
        Ok(Self::Folders)
    }

    fn of_ending(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "csv" | "tsv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            "tar" => Some(Self::Webdataset),
            _ => None,
        }
    }

    /// The files of this layout at `path`: itself, or those directly in the folder, or in its only folder that has some, sorted
    /// by name.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub(super) fn shards(self, path: &Path) -> Result<Vec<std::path::PathBuf>, DataError> {
        if !path.is_dir() {
            return Ok(vec![path.to_owned()]);
        }
        let is_shard = |path: &std::path::PathBuf| path.is_file() && Self::of_ending(path) == Some(self);
        let entries = folder::entries(path)?;
        let direct: Vec<_> = entries.iter().filter(|path| is_shard(path)).cloned().collect();
        if !direct.is_empty() {
            return Ok(direct);
        }
        let mut found = Vec::new();
        for inner in entries.iter().filter(|entry| entry.is_dir()) {
            let shards: Vec<_> = folder::entries(inner)?.into_iter().filter(is_shard).collect();
            if !shards.is_empty() {
                found.push(shards);
            }
        }
        Ok(if found.len() == 1 { found.remove(0) } else { Vec::new() })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Folders => "a folder a class",
            Self::Csv => "CSV",
            Self::Lists => "VTAB lists",
            Self::Parquet => "Parquet with pictures inside",
            Self::Webdataset => "tar files (webdataset)",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_layout_is_recognised_and_class_folders_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let of = |files: &[&str], at: &str| {
            let root = tempfile::tempdir_in(dir.path()).unwrap();
            for file in files {
                let path = root.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, b"").unwrap();
            }
            Layout::of(&root.path().join(at))
        };
        assert_eq!(of(&["a/1.png", "b/1.png"], "").unwrap(), Layout::Folders);
        assert_eq!(of(&["a/1.png", "b/1.png", "backup.tar", "old.parquet"], "").unwrap(), Layout::Folders);
        assert_eq!(of(&["train/a/1.png"], "").unwrap(), Layout::Folders);
        assert_eq!(of(&["images/train/1.png", "train800.txt", "test.txt"], "").unwrap(), Layout::Lists);
        assert_eq!(of(&["README.md", "data/train-00000-of-00001.parquet"], "").unwrap(), Layout::Parquet);
        assert_eq!(of(&["test-0.parquet"], "").unwrap(), Layout::Parquet);
        assert_eq!(of(&["train-000000.tar", "notes.txt"], "").unwrap(), Layout::Webdataset);
        assert_eq!(of(&["set.CSV"], "set.CSV").unwrap(), Layout::Csv);
        assert_eq!(of(&["a.parquet"], "a.parquet").unwrap(), Layout::Parquet);
        assert_eq!(of(&["a.tar"], "a.tar").unwrap(), Layout::Webdataset);
        for (file, at) in [("a.zip", "a.zip"), ("a.zip", "gone")] {
            let error = of(&[file], at).unwrap_err();
            assert!(matches!(error, DataError::NotADataSet { .. }), "{error}");
        }
    }
}
