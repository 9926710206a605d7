//! Hugging Face's Parquet files: a column `image` with the bytes of encoded pictures and a column `label`, whose classes the
//! file's metadata names.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use serde_json::Value;

use super::cached::cache;
use super::unpack::{MAX_PICTURE, Stop, Unpacker, shards, unpacked};
use super::{DataError, Layout, Part, PictureSet};

/// What the columns are called, the first found first.
const IMAGE: [&str; 2] = ["image", "img"];
const LABEL: [&str; 2] = ["label", "labels"];
/// Rows read at a time.
const ROWS: usize = 64;

/// Lists the pictures of the Parquet files at `path`, unpacked into the cache.
pub(super) fn read(path: &Path) -> Result<BTreeMap<Part, PictureSet>, DataError> {
    read_into(path, &cache()?)
}

fn read_into(path: &Path, cache: &Path) -> Result<BTreeMap<Part, PictureSet>, DataError> {
    let shards = shards(Layout::Parquet, path)?;
    let sources: Vec<PathBuf> = shards.iter().map(|(_, shard)| shard.clone()).collect();
    unpacked(path, &sources, cache, |unpacker| {
        let mut names: Option<Option<Vec<String>>> = None;
        for (part, shard) in &shards {
            // The decoders panic on some damaged files.
            let found = catch_unwind(AssertUnwindSafe(|| unpack(shard, *part, unpacker)))
                .unwrap_or_else(|_| Err(Stop::Archive("the Parquet file is damaged".to_owned())))
                .map_err(|stop| stop.into_data_error(shard))?;
            if *names.get_or_insert_with(|| found.clone()) != found {
                let reason = "its metadata names other classes than that of the files before it".to_owned();
                return Err(DataError::Archive { path: shard.clone(), reason });
            }
        }
        Ok(names.flatten())
    })
}

impl From<ParquetError> for Stop {
    fn from(error: ParquetError) -> Self {
        Self::Archive(format!("the Parquet file is cut, damaged or packed in a way that is not read ({error})"))
    }
}

/// Unpacks the pictures of a file; returns the names of the classes where its metadata has them.
fn unpack(shard: &Path, part: Part, unpacker: &mut Unpacker) -> Result<Option<Vec<String>>, Stop> {
    let file = File::open(shard).map_err(|source| DataError::Read { path: shard.to_owned(), source })?;
    let reader = SerializedFileReader::new(file)?;
    let metadata = reader.metadata().file_metadata();
    let columns = Columns::find(metadata.schema_descr()).map_err(Stop::Archive)?;
    let described = metadata.key_value_metadata().into_iter().flatten().find(|pair| pair.key == "huggingface");
    let names = described.and_then(|pair| class_names(pair.value.as_deref()?, columns.label_name));

    let mut unlabelled = 0usize;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        let open = |column: usize| Ok::<_, Stop>(Column::new(group.get_column_reader(column)?, columns.levels(column)));
        let (mut pictures, mut labels) = (open(columns.bytes)?, open(columns.label)?);
        let mut paths = columns.path.map(open).transpose()?;
        loop {
            let (pictures, labels) = (pictures.bytes(ROWS)?, labels.labels(ROWS)?);
            let paths = paths.as_mut().map(|paths| paths.bytes(ROWS)).transpose()?;
            if pictures.len() != labels.len() || paths.as_ref().is_some_and(|paths| paths.len() != labels.len()) {
                return Err(Stop::Archive("its columns are not of the same length; the file is damaged".to_owned()));
            }
            if labels.is_empty() {
                break;
            }
            let mut paths = paths.into_iter().flatten();
            for (picture, label) in pictures.into_iter().zip(labels) {
                let name = paths.next().flatten();
                let Some(label) = label.filter(|label| !matches!(label, Label::Number(..0))) else {
                    unlabelled += 1;
                    continue;
                };
                let label = label.name(names.as_deref()).map_err(Stop::Archive)?;
                let picture = picture.ok_or_else(|| {
                    let reason = "a row has no picture inside; save the data set with its pictures embedded";
                    Stop::Archive(reason.to_owned())
                })?;
                if picture.len() as u64 > MAX_PICTURE {
                    let reason = format!("a picture has {} bytes, at most {MAX_PICTURE} are read", picture.len());
                    return Err(Stop::Archive(reason));
                }
                let name = name.as_ref().map(|name| String::from_utf8_lossy(name.data()));
                unpacker.add(shard, part, label, name.as_deref(), picture.data())?;
            }
        }
    }
    if unlabelled > 0 {
        log::warn!("left out {unlabelled} pictures of {} that have no label", shard.display());
    }
    Ok(names)
}

/// Where the columns are, as leaves of the schema.
struct Columns<'a> {
    schema: &'a SchemaDescriptor,
    bytes: usize,
    path: Option<usize>,
    label: usize,
    label_name: &'static str,
}

impl<'a> Columns<'a> {
    fn find(schema: &'a SchemaDescriptor) -> Result<Self, String> {
        let names: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
        // Columns of lists hold more than one value a row.
        let find =
            |name: &str| (0..names.len()).find(|&leaf| names[leaf] == name && schema.column(leaf).max_rep_level() == 0);
        let missing = |what: &str, expected: [&str; 2]| {
            let [first, second] = expected;
            format!("it has no column of {what}, `{first}` or `{second}`; its columns are {}", names.join(", "))
        };
        let picture = |name: &&str| find(&format!("{name}.bytes")).or_else(|| find(name));
        let (image, bytes) =
            IMAGE.iter().find_map(|name| Some((name, picture(name)?))).ok_or_else(|| missing("pictures", IMAGE))?;
        let (label_name, label) =
            LABEL.into_iter().find_map(|name| Some((name, find(name)?))).ok_or_else(|| missing("labels", LABEL))?;
        Ok(Self { schema, bytes, path: find(&format!("{image}.path")), label, label_name })
    }

    /// The definition level of a value that is there.
    fn levels(&self, leaf: usize) -> i16 {
        self.schema.column(leaf).max_def_level()
    }
}

/// The classes of the column `label` by Hugging Face's description of the file.
fn class_names(description: &str, label: &str) -> Option<Vec<String>> {
    let description: Value = serde_json::from_str(description).ok()?;
    let names = description.get("info")?.get("features")?.get(label)?.get("names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

/// What a row says of its class.
enum Label {
    Number(i64),
    Name(String),
}

impl Label {
    fn name(self, names: Option<&[String]>) -> Result<String, String> {
        match (self, names) {
            (Self::Name(name), _) => Ok(name),
            (Self::Number(number), None) => Ok(number.to_string()),
            (Self::Number(number), Some(names)) => {
                let name = usize::try_from(number).ok().and_then(|number| names.get(number));
                name.cloned().ok_or_else(|| format!("a row has class {number}, the metadata names {}", names.len()))
            }
        }
    }
}

/// A column without lists, some of whose values may be missing.
struct Column {
    reader: ColumnReader,
    /// The definition level of a value that is there.
    there: i16,
}

impl Column {
    fn new(reader: ColumnReader, there: i16) -> Self {
        Self { reader, there }
    }

    /// The next `rows` values, fewer at the end.
    fn bytes(&mut self, rows: usize) -> Result<Vec<Option<ByteArray>>, Stop> {
        match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(reader) => Ok(values::<ByteArrayType>(reader, self.there, rows)?),
            _ => Err(Stop::Archive("the column of pictures holds no bytes".to_owned())),
        }
    }

    /// The next `rows` labels, fewer at the end.
    fn labels(&mut self, rows: usize) -> Result<Vec<Option<Label>>, Stop> {
        let there = self.there;
        Ok(match &mut self.reader {
            ColumnReader::Int64ColumnReader(reader) => mapped(values(reader, there, rows)?, Label::Number),
            ColumnReader::Int32ColumnReader(reader) => {
                mapped(values(reader, there, rows)?, |number| Label::Number(number.into()))
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                let name = |name: ByteArray| Label::Name(String::from_utf8_lossy(name.data()).into_owned());
                mapped(values(reader, there, rows)?, name)
            }
            _ => return Err(Stop::Archive("the column of labels holds neither whole numbers nor text".to_owned())),
        })
    }
}

fn mapped<T>(values: Vec<Option<T>>, label: impl Fn(T) -> Label) -> Vec<Option<Label>> {
    values.into_iter().map(|value| value.map(&label)).collect()
}

fn values<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    there: i16,
    rows: usize,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut found, mut levels) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let (count, ..) = reader.read_records(rows - read, Some(&mut levels), None, &mut found)?;
        if count == 0 {
            break;
        }
        read += count;
    }
    if there == 0 {
        return Ok(found.into_iter().map(Some).collect());
    }
    let mut found = found.into_iter();
    Ok(levels.into_iter().map(|level| if level == there { found.next() } else { None }).collect())
}

#[cfg(test)]
mod tests;
