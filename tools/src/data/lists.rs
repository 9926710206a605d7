//! VTAB-1k's lists, as the archives of RepAdapter and NOAH have them: `images/train/000.png 3` a line, in files named after the
//! part and its size.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::csv::check_there;
use super::listing::{Row, parts, sorted_names};
use super::{DataError, Part, PictureSet};

/// The training pictures of VTAB-1k, and the same with those that choose.
const TRAIN: [&str; 2] = ["train800.txt", "train800val200.txt"];
const VAL: &str = "val200.txt";
const TEST: &str = "test.txt";
/// The classes' names, where there are some: a line each, class 0 first.
pub(super) const LABELS: &str = "labels.txt";

/// Whether `path` is a folder with such lists.
pub(super) fn is_there(path: &Path) -> bool {
    TRAIN.iter().any(|name| path.join(name).is_file())
}

/// Lists the pictures of the lists in `path`, sorted by path within each class: `train800.txt` and `val200.txt` if there is the
/// first, else `train800val200.txt`; and `test.txt`.
pub(super) fn read(path: &Path) -> Result<BTreeMap<Part, PictureSet>, DataError> {
    let names = label_names(path)?;
    let chosen = match path.join(TRAIN[0]).is_file() {
        true => [(TRAIN[0], Part::Train), (VAL, Part::Val), (TEST, Part::Test)].to_vec(),
        false => [(TRAIN[1], Part::Train), (TEST, Part::Test)].to_vec(),
    };
    let mut rows = Vec::new();
    for (name, part) in chosen {
        let list = path.join(name);
        if list.is_file() {
            rows.extend(self::rows(&list, &read_text(&list)?, part, names.as_deref())?);
        }
    }
    check_there(path, &rows)?;
    rows.sort_by(|a, b| a.path.cmp(&b.path));
    let names = names.unwrap_or_else(|| sorted_names(rows.iter().map(|row| row.label.as_str())));
    parts(path, &names, rows)
}

/// The classes' names in the folder `path`, where it has a list of them.
pub(super) fn label_names(path: &Path) -> Result<Option<Vec<String>>, DataError> {
    let file = path.join(LABELS);
    if !file.is_file() {
        return Ok(None);
    }
    let names: Vec<String> = read_text(&file)?.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    for (line, name) in (1..).zip(&names) {
        let reason = match name.as_str() {
            "" => "the class has no name".to_owned(),
            name if names[..line - 1].iter().any(|other| other == name) => {
                format!("a second class is called `{name}`")
            }
            _ => continue,
        };
        return Err(DataError::Line { path: file, line: line as u64, reason });
    }
    Ok(Some(names))
}

/// The name of class `number`.
pub(super) fn name_of(number: u64, names: Option<&[String]>) -> Result<String, String> {
    let Some(names) = names else { return Ok(number.to_string()) };
    let name = usize::try_from(number).ok().and_then(|number| names.get(number));
    name.cloned().ok_or_else(|| format!("class {number} has no name; {LABELS} names {}", names.len()))
}

fn rows(list: &Path, text: &str, part: Part, names: Option<&[String]>) -> Result<Vec<Row>, DataError> {
    let folder = list.parent().unwrap_or(Path::new(""));
    let mut rows = Vec::new();
    for (line, content) in (1u64..).zip(text.lines()).filter(|(_, content)| !content.trim().is_empty()) {
        let failed = |reason: String| DataError::Line { path: list.to_owned(), line, reason };
        let (path, class) = content
            .trim()
            .rsplit_once([' ', '\t'])
            .ok_or_else(|| failed("expected a path, a blank and the number of a class".to_owned()))?;
        let number: u64 = class
            .parse()
            .map_err(|_| failed(format!("expected the number of a class behind the path, got `{class}`")))?;
        let label = name_of(number, names).map_err(failed)?;
        rows.push(Row { part, path: folder.join(path.trim_end()), label, group: None });
    }
    Ok(rows)
}

fn read_text(path: &Path) -> Result<String, DataError> {
    let bytes = fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        let reason = "not UTF-8; save the list in that encoding".to_owned();
        DataError::Line { path: path.to_owned(), line: line as u64 + 1, reason }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn make(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("images/train")).unwrap();
        fs::write(dir.path().join("images/train/0.png"), b"").unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
        dir
    }

    #[test]
    fn each_list_is_a_part_and_none_is_read_twice() {
        let dir = make(&[
            ("train800.txt", "images/train/2.png 10\nimages/train/0.png 9\nimages/train/1.png 10\n"),
            ("val200.txt", "images/val/0.png 9\n"),
            ("train800val200.txt", "images/train/0.png 9\nimages/val/0.png 9\n"),
            ("test.txt", "images/test/0 1.png 10\n"),
        ]);
        let parts = read(dir.path()).unwrap();
        assert_eq!(parts[&Part::Train].labels, ["9", "10"]);
        let seen: Vec<_> = parts[&Part::Train]
            .pictures
            .iter()
            .map(|p| (p.path.strip_prefix(dir.path()).unwrap().to_str().unwrap(), p.label))
            .collect();
        assert_eq!(seen, [("images/train/0.png", 0), ("images/train/1.png", 1), ("images/train/2.png", 1)]);
        assert_eq!((parts[&Part::Val].pictures.len(), parts[&Part::Test].labels[0].as_str()), (1, "10"));
        assert!(parts[&Part::Test].pictures[0].path.ends_with("images/test/0 1.png"));

        fs::remove_file(dir.path().join("train800.txt")).unwrap();
        let parts = read(dir.path()).unwrap();
        assert_eq!((parts[&Part::Train].pictures.len(), parts.contains_key(&Part::Val)), (2, false));
    }

    #[test]
    fn names_may_stand_in_a_list_of_their_own() {
        let list = ("train800.txt", "images/train/0.png 1\nimages/train/1.png 0\n");
        let dir = make(&[list, ("labels.txt", "cat\nfire truck\n")]);
        assert_eq!(read(dir.path()).unwrap()[&Part::Train].labels, ["cat", "fire truck"]);
        let error = read(make(&[list, ("labels.txt", "cat\n")]).path()).unwrap_err();
        assert!(error.to_string().ends_with("line 1: class 1 has no name; labels.txt names 1"), "{error}");
        let error = read(make(&[list, ("labels.txt", "cat\ncat\n")]).path()).unwrap_err();
        assert!(error.to_string().ends_with("line 2: a second class is called `cat`"), "{error}");
    }

    #[test]
    fn a_line_without_a_class_is_named() {
        for (text, words) in [
            ("images/train/0.png 1\nimages/train/1.png\n", "line 2: expected a path"),
            ("images/train/0.png cat\n", "line 1: expected the number of a class behind the path, got `cat`"),
            ("images/train/0.png -1\n", "got `-1`"),
        ] {
            let error = read(make(&[("train800.txt", text)]).path()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn garbled_lists_are_read_or_refused(text in "([0-9]|[ \t\n]|a\\.png|[^a]){0,40}") {
            let _ = rows(Path::new("l.txt"), &text, Part::Train, None);
        }
    }
}
