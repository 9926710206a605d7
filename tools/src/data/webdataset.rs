//! Tar files with a picture and its label side by side, as webdataset has them: `0001.jpg` with `0001.cls` (a number or a name) or
//! `0001.json` with a label in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use edge_vit::PICTURE_ENDINGS;
use serde_json::Value;

use super::cached::cache;
use super::lists::{LABELS, label_names, name_of};
use super::unpack::{MAX_PICTURE, Stop, Unpacker, shards, unpacked};
use super::{DataError, Layout, Part, PictureSet};

/// Where a label stands in the JSON of a sample, the first found first.
const KEYS: [&str; 4] = ["label", "cls", "class", "class_name"];
/// The most bytes of a label's file.
const MAX_LABEL: u64 = 1 << 20;

/// Lists the pictures of the tar files at `path`, unpacked into the cache.
pub(super) fn read(path: &Path) -> Result<BTreeMap<Part, PictureSet>, DataError> {
    read_into(path, &cache()?)
}

pub(super) fn read_into(path: &Path, cache: &Path) -> Result<BTreeMap<Part, PictureSet>, DataError> {
    let shards = shards(Layout::Webdataset, path)?;
    let folder = shards.first().and_then(|(_, shard)| shard.parent()).unwrap_or(Path::new(""));
    let names = label_names(folder)?;
    let mut sources: Vec<PathBuf> = shards.iter().map(|(_, shard)| shard.clone()).collect();
    sources.extend(names.is_some().then(|| folder.join(LABELS)));
    unpacked(path, &sources, cache, |unpacker| {
        for (part, shard) in &shards {
            let file = File::open(shard).map_err(|source| DataError::Read { path: shard.clone(), source })?;
            Shard { path: shard, part: *part, names: names.as_deref(), unpacker: &mut *unpacker }
                .unpack(BufReader::new(file))
                .map_err(|error| error.into_data_error(shard))?;
        }
        // Classes of a list of names keep its order as far as there are pictures of them.
        Ok(names)
    })
}

/// Files of one name that follow one another.
#[derive(Default)]
struct Sample {
    /// Folder and name up to the first dot.
    key: String,
    picture: Option<(String, Vec<u8>)>,
    /// From `.cls`, which comes before that of `.json`.
    class: Option<String>,
    json: Option<String>,
}

struct Shard<'a> {
    path: &'a Path,
    part: Part,
    names: Option<&'a [String]>,
    unpacker: &'a mut Unpacker,
}

impl Shard<'_> {
    fn unpack(&mut self, reader: impl Read) -> Result<(), Stop> {
        let damaged = |error: std::io::Error| Stop::Archive(format!("the tar file is cut or damaged ({error})"));
        let mut archive = tar::Archive::new(reader);
        let mut sample = Sample::default();
        for entry in archive.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            let path = entry.path().map_err(damaged)?.into_owned();
            if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
                return Err(Stop::Archive(format!(
                    "the file `{}` in it leads out of it; it is not unpacked",
                    path.display()
                )));
            }
            let Some((key, ending)) = key_and_ending(&path).filter(|_| entry.header().entry_type().is_file()) else {
                continue;
            };
            if key != sample.key {
                self.finish(std::mem::replace(&mut sample, Sample { key, ..Sample::default() }))?;
            }
            if PICTURE_ENDINGS.contains(&ending.as_str()) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                sample.picture = Some((name, content(&mut entry, &path, MAX_PICTURE)?));
            } else if ending == "cls" {
                let text = content(&mut entry, &path, MAX_LABEL)?;
                sample.class = Some(String::from_utf8_lossy(&text).trim().to_owned());
            } else if ending == "json" {
                sample.json = label_in(&content(&mut entry, &path, MAX_LABEL)?);
            }
        }
        self.finish(sample)
    }

    /// Unpacks the picture of a sample.
    fn finish(&mut self, sample: Sample) -> Result<(), Stop> {
        let label = sample.class.or(sample.json).filter(|label| !label.is_empty());
        let ((name, picture), label) = match (sample.picture, label) {
            (None, None) => return Ok(()),
            (Some(picture), Some(label)) => (picture, label),
            (picture, _) => {
                let missing = if picture.is_some() { "label (.cls, or .json with `label`)" } else { "picture" };
                return Err(Stop::Archive(format!(
                    "the sample `{}` has no {missing}; the files of a sample have to follow one another, as with `tar --sort=name`",
                    sample.key
                )));
            }
        };
        let label = match label.parse() {
            Ok(number) => name_of(number, self.names).map_err(Stop::Archive)?,
            Err(_) if self.names.is_some_and(|names| !names.contains(&label)) => {
                return Err(Stop::Archive(format!("the class `{label}` of `{}` is not in {LABELS}", sample.key)));
            }
            Err(_) => label,
        };
        Ok(self.unpacker.add(self.path, self.part, label, Some(&name), &picture)?)
    }
}

/// Folder and name up to the first dot of the name, and what follows it in lower case; `None` for hidden files.
fn key_and_ending(path: &Path) -> Option<(String, String)> {
    let name = path.file_name()?.to_str()?;
    let (stem, ending) = name.split_once('.').filter(|(stem, _)| !stem.is_empty())?;
    let key = path.with_file_name(stem).to_string_lossy().into_owned();
    Some((key, ending.to_ascii_lowercase()))
}

/// The bytes of a file in the archive. What its header announces is not believed.
fn content(entry: &mut tar::Entry<'_, impl Read>, path: &Path, limit: u64) -> Result<Vec<u8>, Stop> {
    let announced = entry.size();
    if announced > limit {
        return Err(Stop::Archive(format!(
            "`{}` in it has {announced} bytes, at most {limit} are read",
            path.display()
        )));
    }
    let mut bytes = Vec::new();
    let read = entry.take(limit).read_to_end(&mut bytes);
    match read {
        Ok(count) if count as u64 == announced => Ok(bytes),
        Ok(_) => Err(Stop::Archive(format!("the tar file is cut within `{}`", path.display()))),
        Err(error) => Err(Stop::Archive(format!("`{}` in it cannot be read ({error})", path.display()))),
    }
}

/// The label in the JSON of a sample: a number or a text.
fn label_in(json: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(json).ok()?;
    KEYS.iter().find_map(|key| match value.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => number.as_u64().map(|number| number.to_string()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            // Past the builder, which refuses names that lead out.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    type Read = Result<BTreeMap<Part, PictureSet>, DataError>;

    fn read_all(files: &[(&str, Vec<u8>)]) -> (Read, usize) {
        let dir = tempfile::tempdir().unwrap();
        let set = dir.path().join("set");
        fs::create_dir(&set).unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(set.join(name), bytes).unwrap());
        let cache = dir.path().join("cache");
        let read = read_into(&set, &cache);
        (read, fs::read_dir(cache).map_or(0, |entries| entries.count()))
    }

    fn refused(bytes: Vec<u8>) -> String {
        let (read, left) = read_all(&[("train-0.tar", bytes)]);
        assert_eq!(left, 0);
        read.unwrap_err().to_string()
    }

    #[test]
    fn shards_become_parts_and_labels_stand_in_either_file() {
        let first = tar(&[
            ("./a/0.jpg", b"0"),
            ("./a/0.cls", b"10\n"),
            ("./a/._1.jpg", b"hidden"),
            ("a/1.json", br#"{"label": 9, "caption": "x"}"#),
            ("a/1.PNG", b"1"),
            ("a/1.txt", b"words"),
        ]);
        let second = tar(&[("0.cls", b"9"), ("0.input.png", b"other"), ("0.png", b"2")]);
        let (read, left) =
            read_all(&[("train-0.tar", first.clone()), ("train-1.tar", second.clone()), ("test-0.tar", second)]);
        let parts = read.unwrap();
        assert_eq!((left, parts.len()), (1, 2));
        let train = &parts[&Part::Train];
        assert_eq!(train.labels, ["9", "10"]);
        let names: Vec<_> = train.pictures.iter().map(|p| p.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["1.PNG", "0.png", "0.jpg"]);

        let (read, _) = read_all(&[
            ("s.tar", first),
            ("labels.txt", (0..11).map(|n| format!("c{n}\n")).collect::<String>().into()),
        ]);
        assert_eq!(read.unwrap()[&Part::Whole].labels, ["c9", "c10"]);
    }

    #[test]
    fn hostile_and_damaged_archives_get_a_sentence_and_leave_nothing() {
        let pair = [("0.jpg", &b"0123456789"[..]), ("0.cls", b"x")];
        for name in ["../0.jpg", "/etc/0.jpg", "a/../../0.jpg"] {
            let message = refused(tar(&[pair[0], pair[1], (name, b"0")]));
            assert!(message.contains("leads out of it"), "{message}");
        }
        let whole = tar(&pair);
        for at in [100, 515, 1000] {
            let message = refused(whole[..at].to_vec());
            assert!(message.contains("cut"), "{message}");
        }
        assert!(refused(whole[..1024].to_vec()).contains("the sample `0` has no label"));
        let mut huge = whole.clone();
        huge[124..136].copy_from_slice(b"77777777777\0");
        let sum: u32 = (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(huge[at]) }).sum();
        huge[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let message = refused(huge);
        assert!(message.contains("has 8589934591 bytes, at most 268435456 are read"), "{message}");
        let message = refused(tar(&[("0.jpg", b"0"), ("1.jpg", b"1"), ("0.cls", b"x")]));
        assert!(message.contains("have to follow one another"), "{message}");
        assert!(refused(b"no tar file at all".repeat(100)).contains("cut or damaged"));
    }

    proptest! {
        #[test]
        fn garbled_archives_are_read_or_refused(at in 0usize..3072, byte: u8, cut in 0usize..3072) {
            let mut bytes = tar(&[("0.jpg", b"0123456789"), ("0.cls", b"x"), ("a/1.json", b"{\"label\": 1}"), ("a/1.png", b"1")]);
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            let (_, left) = read_all(&[("0.tar", bytes.clone())]);
            prop_assert!(left <= 1);
            bytes.truncate(cut);
            read_all(&[("0.tar", bytes)]).0.ok();
        }
    }
}
