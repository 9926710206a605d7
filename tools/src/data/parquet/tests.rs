use std::fs;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::*;

const IMAGES: &str = "optional group image { optional binary bytes; optional binary path (STRING); }";
const NAMES: &str = r#"{"info": {"features": {"image": {"_type": "Image"},
    "label": {"names": ["zebra", "unused", "ant"], "_type": "ClassLabel"}}}}"#;

/// A file with `columns`; the pictures are called `0.png` and so on and hold their number.
fn parquet(columns: &str, labels: &[Option<i64>], names: Option<&str>, compression: Compression) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(&format!("message schema {{ {columns} }}")).unwrap());
    let metadata = names.map(|names| vec![KeyValue::new("huggingface".to_owned(), names.to_owned())]);
    let properties = WriterProperties::builder().set_compression(compression).set_key_value_metadata(metadata).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties.into()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut leaf = 0;
    while let Some(mut column) = group.next_column().unwrap() {
        let full = |level: i16| vec![level; labels.len()];
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(writer) if leaf == 0 => {
                let pictures: Vec<ByteArray> =
                    (0..labels.len()).map(|n| format!("picture {n}").as_str().into()).collect();
                writer.write_batch(&pictures, Some(&full(2)), None).unwrap();
            }
            ColumnWriter::ByteArrayColumnWriter(writer) if leaf == 1 => {
                let paths: Vec<ByteArray> = (0..labels.len()).map(|n| format!("dir/{n}.png").as_str().into()).collect();
                writer.write_batch(&paths, Some(&full(2)), None).unwrap();
            }
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                let texts: Vec<ByteArray> =
                    labels.iter().flatten().map(|n| format!("class {n}").as_str().into()).collect();
                writer.write_batch(&texts, Some(&full(1)), None).unwrap();
            }
            ColumnWriter::Int64ColumnWriter(writer) => {
                let there: Vec<i64> = labels.iter().flatten().copied().collect();
                let levels: Vec<i16> = labels.iter().map(|label| i16::from(label.is_some())).collect();
                writer.write_batch(&there, Some(&levels), None).unwrap();
            }
            _ => unreachable!("the schemas of these tests have no such column"),
        }
        column.close().unwrap();
        leaf += 1;
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

fn with_numbers(labels: &[Option<i64>], names: Option<&str>, compression: Compression) -> Vec<u8> {
    parquet(&format!("{IMAGES} optional int64 label;"), labels, names, compression)
}

type Read = Result<BTreeMap<Part, PictureSet>, DataError>;

/// What `files` are read as, and how many data sets are in the cache then; the cache is gone behind it.
fn read_all(files: &[(&str, &[u8])], look: impl FnOnce(&Read)) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("set/data");
    fs::create_dir_all(&set).unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(set.join(name), bytes).unwrap());
    let cache = dir.path().join("cache");
    look(&read_into(&dir.path().join("set"), &cache));
    fs::read_dir(cache).map_or(0, |entries| entries.count())
}

fn refused(bytes: &[u8]) -> String {
    let mut message = String::new();
    assert_eq!(read_all(&[("train-0.parquet", bytes)], |read| message = read.as_ref().unwrap_err().to_string()), 0);
    message
}

#[test]
fn shards_become_parts_with_the_classes_of_the_metadata_in_order() {
    let labels = [Some(2), Some(0), None, Some(-1), Some(2)];
    let snappy = with_numbers(&labels, Some(NAMES), Compression::SNAPPY);
    let zstd = with_numbers(&labels[..2], Some(NAMES), Compression::ZSTD(ZstdLevel::default()));
    let files: [(&str, &[u8]); 3] = [
        ("train-00000-of-00001.parquet", &snappy),
        ("validation-00000-of-00001.parquet", &zstd),
        ("unsupervised-00000-of-00001.parquet", b"left out"),
    ];
    let left = read_all(&files, |read| {
        let parts = read.as_ref().unwrap();
        assert_eq!(parts.keys().copied().collect::<Vec<_>>(), [Part::Train, Part::Val]);
        let train = &parts[&Part::Train];
        assert_eq!(train.labels, ["zebra", "ant"]);
        let seen: Vec<_> = train
            .pictures
            .iter()
            .map(|p| (p.path.file_name().unwrap().to_str().unwrap(), fs::read_to_string(&p.path).unwrap(), p.label))
            .collect();
        let expected = [("1.png", 1, 0), ("0.png", 0, 1), ("4.png", 4, 1)];
        assert_eq!(seen, expected.map(|(name, n, label)| (name, format!("picture {n}"), label)));
    });
    assert_eq!(left, 1);
}

#[test]
fn labels_may_be_numbers_without_names_or_texts() {
    let many: Vec<_> = (0..200).map(|n| Some(n % 11)).collect();
    let numbers = with_numbers(&many, None, Compression::UNCOMPRESSED);
    read_all(&[("a.parquet", &numbers)], |read| {
        let set = &read.as_ref().unwrap()[&Part::Whole];
        assert_eq!((set.labels.len(), set.labels[10].as_str(), set.pictures.len()), (11, "10", 200));
    });
    let columns = format!("{} optional binary label (STRING);", IMAGES.replace("image", "img"));
    let texts = parquet(&columns, &[Some(1), Some(0)], None, Compression::SNAPPY);
    read_all(&[("a.parquet", &texts)], |read| {
        assert_eq!(read.as_ref().unwrap()[&Part::Whole].labels, ["class 0", "class 1"]);
    });
}

#[test]
fn what_cannot_be_read_gets_a_sentence_and_leaves_nothing() {
    let whole = with_numbers(&[Some(0), Some(2)], Some(NAMES), Compression::SNAPPY);
    for cut in [&whole[..whole.len() / 2], &whole[..10], &b""[..], &b"PAR1 nothing of it PAR1"[..]] {
        let message = refused(cut);
        assert!(message.contains("cut, damaged"), "{message}");
    }
    let message = refused(&with_numbers(&[Some(0), Some(3)], Some(NAMES), Compression::SNAPPY));
    assert!(message.contains("a row has class 3, the metadata names 3"), "{message}");
    let columns = format!("{} optional int64 target;", IMAGES.replace("image", "photo"));
    let message = refused(&parquet(&columns, &[Some(0)], None, Compression::SNAPPY));
    assert!(message.contains("no column of pictures, `image` or `img`; its columns are photo.bytes"), "{message}");
    let message = refused(&parquet(&format!("{IMAGES} optional int64 target;"), &[Some(0)], None, Compression::SNAPPY));
    assert!(message.contains("no column of labels"), "{message}");

    let other = with_numbers(&[Some(0)], Some(&NAMES.replace("ant", "bee")), Compression::SNAPPY);
    let left = read_all(&[("test-0.parquet", &other), ("train-0.parquet", &whole)], |read| {
        let message = read.as_ref().unwrap_err().to_string();
        assert!(message.contains("names other classes"), "{message}");
    });
    assert_eq!(left, 0);
}

proptest! {
    #[test]
    fn garbled_files_are_read_or_refused(at in 0usize..4096, byte: u8, cut in 0usize..4096, zstd: bool) {
        let compression = if zstd { Compression::ZSTD(ZstdLevel::default()) } else { Compression::SNAPPY };
        let mut bytes = with_numbers(&[Some(0), Some(2), None, Some(0)], Some(NAMES), compression);
        let at = at % bytes.len();
        bytes[at] = byte;
        prop_assert!(read_all(&[("a.parquet", &bytes)], |_| ()) <= 1);
        bytes.truncate(cut);
        read_all(&[("a.parquet", &bytes)], |_| ());
    }
}
