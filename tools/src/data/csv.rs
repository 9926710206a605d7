//! A CSV file with the columns `path` and `label`, and perhaps `split` and `group`, in any order and among others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Trim};

use super::listing::{Row, parts, sorted_names};
use super::{DataError, Part, PictureSet};

/// Where the columns are.
struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
    group: Option<usize>,
}

impl Columns {
    fn find(header: &StringRecord) -> Result<Self, String> {
        let find = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
        let needed = |name: &str| {
            find(name).ok_or_else(|| {
                let found = header.iter().collect::<Vec<_>>().join(", ");
                format!("the header has no column `{name}`, it has {found}; the columns are path, label, and if need be split and group")
            })
        };
        Ok(Self { path: needed("path")?, label: needed("label")?, split: find("split"), group: find("group") })
    }
}

/// Lists the pictures of the table at `path`, whose paths are relative to its folder, sorted by path within each class.
pub(super) fn read(path: &Path) -> Result<BTreeMap<Part, PictureSet>, DataError> {
    let bytes = fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let mut rows = rows(path, &bytes)?;
    check_there(path, &rows)?;
    rows.sort_by(|a, b| a.path.cmp(&b.path));
    parts(path, &sorted_names(rows.iter().map(|row| row.label.as_str())), rows)
}

/// The rows of the table `bytes`.
fn rows(path: &Path, bytes: &[u8]) -> Result<Vec<Row>, DataError> {
    let at = |line: u64, reason: String| DataError::Line { path: path.to_owned(), line, reason };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut reader = ReaderBuilder::new().trim(Trim::All).delimiter(delimiter(bytes)).from_reader(bytes);
    let columns = reader
        .headers()
        .map_err(|error| at(1, reason(&error)))
        .and_then(|header| Columns::find(header).map_err(|reason| at(1, reason)))?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| at(error.position().map_or(0, csv::Position::line), reason(&error)))?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |column: usize| record.get(column).unwrap_or_default();
        let needed = |column: usize, name: &str| match field(column) {
            "" => Err(at(line, format!("the column `{name}` is empty"))),
            text => Ok(text),
        };
        let part = match columns.split {
            None => Part::Whole,
            Some(column) => {
                let name = needed(column, "split")?;
                Part::named(name)
                    .ok_or_else(|| at(line, format!("the split `{name}` is none of train, val and test")))?
            }
        };
        rows.push(Row {
            part,
            path: folder.join(needed(columns.path, "path")?),
            label: needed(columns.label, "label")?.to_owned(),
            group: columns.group.map(field).filter(|group| !group.is_empty()).map(str::to_owned),
        });
    }
    Ok(rows)
}

/// Commas, or what spreadsheets write in their place: whatever the header has most of.
fn delimiter(bytes: &[u8]) -> u8 {
    let header = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let count = |delimiter: u8| header.iter().filter(|&&byte| byte == delimiter).count();
    // The last of equals is taken.
    [b'\t', b';', b','].into_iter().max_by_key(|&delimiter| count(delimiter)).unwrap_or(b',')
}

/// What is wrong, without the place, which the sentence around it tells.
fn reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns, the header has {expected_len}; put names that hold the delimiter in quotes")
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8; save the table in that encoding".to_owned(),
        _ => error.to_string(),
    }
}

/// Refuses a list all of whose paths lead nowhere. Single missing files are told when they are opened.
pub(super) fn check_there(list: &Path, rows: &[Row]) -> Result<(), DataError> {
    match rows.first() {
        Some(first) if !rows.iter().any(|row| row.path.exists()) => {
            let (list, first): (PathBuf, PathBuf) = (list.to_owned(), first.path.clone());
            Err(DataError::NoneThere { list, count: rows.len(), first })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Result<Vec<Row>, DataError> {
        rows(Path::new("/set/table.csv"), text.as_bytes())
    }

    #[test]
    fn columns_are_found_by_name() {
        let rows = of("group,label,note,split,path\np1,cat,x,train,a.png\n,dog,,Validation,\"b, c.png\"\n").unwrap();
        let row = |part, path: &str, label: &str, group: Option<&str>| Row {
            part,
            path: Path::new("/set").join(path),
            label: label.to_owned(),
            group: group.map(str::to_owned),
        };
        let expected = [row(Part::Train, "a.png", "cat", Some("p1")), row(Part::Val, "b, c.png", "dog", None)];
        assert_eq!(rows, expected);
    }

    #[test]
    fn what_a_spreadsheet_writes_is_read() {
        let rows = of("\u{feff}path;label\r\na, b.png;cat\r\n\r\n/abs.png;dog\r\n").unwrap();
        let seen: Vec<_> = rows.iter().map(|row| (row.path.to_str().unwrap(), row.label.as_str(), row.part)).collect();
        assert_eq!(seen, [("/set/a, b.png", "cat", Part::Whole), ("/abs.png", "dog", Part::Whole)]);
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_line() {
        for (text, line, words) in [
            ("file,label\na,b\n", 1, "no column `path`, it has file, label"),
            ("", 1, "no column `path`"),
            ("path,label\na.png,x\n,x\n", 3, "the column `path` is empty"),
            ("path,label\na.png,\n", 2, "the column `label` is empty"),
            ("path,label,split\na.png,x,holdout\n", 2, "`holdout` is none of train, val and test"),
            ("path,label,split\na.png,x,\n", 2, "the column `split` is empty"),
            ("path,label\na.png,x,y\n", 2, "3 columns, the header has 2"),
        ] {
            let error = of(text).unwrap_err();
            assert!(matches!(error, DataError::Line { line: at, .. } if at == line), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        let error = rows(Path::new("t.csv"), b"path,label\n\xff.png,x\n").unwrap_err();
        assert!(error.to_string().contains("line 2: not UTF-8"), "{error}");
    }

    #[test]
    fn a_table_of_pictures_that_are_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("table.csv");
        fs::write(&table, "path,label\nb.png,x\na.png,x\n").unwrap();
        let error = read(&table).unwrap_err();
        assert!(matches!(error, DataError::NoneThere { count: 2, .. }), "{error}");
        fs::write(dir.path().join("a.png"), b"").unwrap();
        let set = &read(&table).unwrap()[&Part::Whole];
        let names: Vec<_> = set.pictures.iter().map(|picture| picture.path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.png", "b.png"]);
    }

    proptest! {
        #[test]
        fn garbled_tables_are_read_or_refused(
            text in "(path|label|split|group|[,;\t\"\r\n]|train|x\\.png|[^a]){0,60}",
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = of(&text);
            let _ = of(&format!("path,label,split\n{text}"));
            let _ = rows(Path::new("t.csv"), &[&b"path,label\n"[..], &bytes].concat());
        }
    }
}
