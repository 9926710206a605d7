//! Pictures inside of files are unpacked once into the cache, so that everything else finds them by path.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use edge_vit::has_picture_ending;
use serde::{Deserialize, Serialize};

use super::cached::{self, filled, key, sweep};
use super::listing::{Row, parts, sorted_names};
use super::{DataError, Layout, Part, PictureSet};

/// The most bytes of one encoded picture, as many as a decoded one may have.
pub(super) const MAX_PICTURE: u64 = 256 << 20;
/// Pictures are compressed: what holds them is about as large. More than this many times as much is no set of pictures.
const MAX_GROWTH: u64 = 100;
/// What may be unpacked from the smallest file.
const MIN_ROOM: u64 = 64 << 20;
/// The longest name of an unpacked file, in bytes.
const MAX_NAME: usize = 120;
/// Changes when what is written into the cache does.
const FORMAT: &str = "edge-vit unpacked pictures 1";

/// What was unpacked.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    /// The classes in order.
    names: Vec<String>,
    pictures: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    part: Part,
    label: String,
    /// Relative to the folder.
    file: PathBuf,
    bytes: u64,
}

impl cached::Index for Index {
    fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.pictures.iter().map(|entry| (entry.file.as_path(), entry.bytes))
    }
}

/// Takes pictures in the order of the data set.
pub(super) struct Unpacker {
    folder: PathBuf,
    /// How often a name came in a part.
    names: HashMap<(Part, String), usize>,
    pictures: Vec<Entry>,
    bytes: u64,
    room: u64,
}

impl Unpacker {
    /// Writes a picture as `PART/N/NAME`, where `N` tells those of the same name apart. Of `name` the last component is kept,
    /// without characters that are special anywhere; the number of the picture stands in for none.
    pub(super) fn add(
        &mut self,
        source: &Path,
        part: Part,
        label: String,
        name: Option<&str>,
        picture: &[u8],
    ) -> Result<(), DataError> {
        self.bytes += picture.len() as u64;
        if self.bytes > self.room {
            let reason = format!(
                "the pictures inside take more than {} MB, which is no set of pictures; nothing was kept of it",
                self.room / 1_000_000
            );
            return Err(DataError::Archive { path: source.to_owned(), reason });
        }
        let name = file_name(name, self.pictures.len(), picture);
        // Names that differ in case are one file on some systems.
        let count = self.names.entry((part, name.to_lowercase())).or_default();
        let file = PathBuf::from(part.name()).join(count.to_string()).join(name);
        *count += 1;
        let path = self.folder.join(&file);
        let failed = |source| DataError::Unpack { path: path.clone(), source };
        fs::create_dir_all(path.parent().unwrap_or(&self.folder)).map_err(failed)?;
        fs::write(&path, picture).map_err(failed)?;
        self.pictures.push(Entry { part, label, file, bytes: picture.len() as u64 });
        Ok(())
    }
}

/// The parts of a data set whose pictures are inside of `sources`, unpacked into a folder of `cache` unless they are there.
///
/// `fill` hands every picture to the [`Unpacker`] and returns the classes in order, or `None` to have them sorted. The folder is
/// named after the files, their sizes and the times of their last changes, and appears when it is whole.
pub(super) fn unpacked(
    path: &Path,
    sources: &[PathBuf],
    cache: &Path,
    fill: impl FnOnce(&mut Unpacker) -> Result<Option<Vec<String>>, DataError>,
) -> Result<BTreeMap<Part, PictureSet>, DataError> {
    let (key, size) = key(FORMAT, sources)?;
    let folder = cache.join(key);
    let index = filled(&folder, |into| {
        log::info!("unpacking {} ({:.1} MB)", path.display(), megabytes(size));
        sweep(cache, SystemTime::now());
        let room = size.saturating_mul(MAX_GROWTH).saturating_add(MIN_ROOM);
        let mut unpacker =
            Unpacker { folder: into.to_owned(), names: HashMap::new(), pictures: Vec::new(), bytes: 0, room };
        let names = fill(&mut unpacker)?;
        let Unpacker { pictures, bytes, .. } = unpacker;
        let names = names.unwrap_or_else(|| sorted_names(pictures.iter().map(|entry| entry.label.as_str())));
        log::info!(
            "{} pictures, {:.1} MB, are in {} now; remove that folder to have the room back",
            pictures.len(),
            megabytes(bytes),
            folder.display()
        );
        Ok::<_, DataError>(Index { names, pictures })
    })?;
    let row = |entry: Entry| Row { part: entry.part, path: folder.join(entry.file), label: entry.label, group: None };
    parts(path, &index.names, index.pictures.into_iter().map(row).collect())
}

/// What the picture is called: a name without folders that is one everywhere, with the ending of a picture.
pub(super) fn file_name(name: Option<&str>, number: usize, picture: &[u8]) -> String {
    let last = name.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |c: char| if c.is_alphanumeric() || "-_. ".contains(c) { c } else { '_' };
    let mut stem: String = last.trim_start_matches('.').chars().map(plain).collect();
    if stem.is_empty() {
        stem = format!("{number:06}");
    }
    let start = stem.char_indices().map(|(at, _)| at).find(|at| stem.len() - at <= MAX_NAME).unwrap_or_default();
    let stem = stem.split_off(start);
    match has_picture_ending(Path::new(&stem)) {
        true => stem,
        false => {
            let format = image::guess_format(picture).ok();
            let ending = format.and_then(|format| format.extensions_str().first()).unwrap_or(&"bin");
            format!("{stem}.{ending}")
        }
    }
}

/// The files of `layout` at `path` with their parts: those that their names begin with. Files without one are left out where
/// others have one.
pub(super) fn shards(layout: Layout, path: &Path) -> Result<Vec<(Part, PathBuf)>, DataError> {
    let shards = layout.shards(path)?;
    let named = shards.iter().any(|shard| Part::of_shard(shard).is_some());
    let mut found = Vec::with_capacity(shards.len());
    for shard in shards {
        match Part::of_shard(&shard) {
            Some(part) => found.push((part, shard)),
            None if named => log::warn!("left out {}: its name begins with no part", shard.display()),
            None => found.push((Part::Whole, shard)),
        }
    }
    Ok(found)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// What stops the reading of a file with pictures inside.
#[derive(Debug)]
pub(super) enum Stop {
    /// What is wrong with the file, and what is expected.
    Archive(String),
    Data(DataError),
}

impl From<DataError> for Stop {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

impl Stop {
    /// The error that names the file `shard`.
    pub(super) fn into_data_error(self, shard: &Path) -> DataError {
        match self {
            Self::Archive(reason) => DataError::Archive { path: shard.to_owned(), reason },
            Self::Data(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

    fn source(dir: &Path) -> Vec<PathBuf> {
        let path = dir.join("set.tar");
        fs::write(&path, b"archive").unwrap();
        vec![path]
    }

    fn left(cache: &Path) -> usize {
        fs::read_dir(cache).map_or(0, |entries| entries.count())
    }

    #[test]
    fn pictures_are_unpacked_once_and_again_when_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (sources, cache) = (source(dir.path()), dir.path().join("cache"));
        let mut times = 0;
        let mut read = || {
            unpacked(&sources[0], &sources, &cache, |unpacker| {
                times += 1;
                for (name, label) in [("a/x.png", "cat"), ("b/X.png", "dog"), ("../../y", "cat")] {
                    unpacker.add(&sources[0], Part::Whole, label.into(), Some(name), PNG)?;
                }
                Ok(None)
            })
            .unwrap()
        };
        let first = read();
        let set = &first[&Part::Whole];
        let paths: Vec<_> = set.pictures.iter().map(|picture| &picture.path).collect();
        assert!(paths.iter().all(|path| path.starts_with(&cache) && fs::read(path).unwrap() == PNG));
        let ends: Vec<_> = ["0/x.png", "0/y.png", "1/X.png"].map(|end| Path::new("whole").join(end)).into();
        assert!(paths.iter().zip(&ends).all(|(path, end)| path.ends_with(end)), "{paths:?}");
        assert_eq!(read(), first);
        fs::write(paths[1], b"cut").unwrap();
        assert_eq!(read(), first);
        assert_eq!((times, left(&cache)), (2, 1));
    }

    #[test]
    fn what_fails_or_is_too_large_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (sources, cache) = (source(dir.path()), dir.path().join("cache"));
        let room = 7 * MAX_GROWTH + MIN_ROOM;
        let large = vec![0; room as usize / 2 + 1];
        let error = unpacked(&sources[0], &sources, &cache, |unpacker| {
            unpacker.add(&sources[0], Part::Whole, "a".into(), None, &large)?;
            unpacker.add(&sources[0], Part::Whole, "a".into(), None, &large)?;
            Ok(None)
        });
        let error = error.unwrap_err();
        assert!(error.to_string().contains("take more than 67 MB"), "{error}");
        assert_eq!(left(&cache), 0);
    }

    #[test]
    fn names_become_harmless_and_keep_their_ends() {
        let of = |name| file_name(Some(name), 7, PNG);
        assert_eq!(of("c:\\dir\\a b.jpeg"), "a b.jpeg");
        assert_eq!(of("train/..hidden.PNG"), "hidden.PNG");
        assert_eq!(of("x:y?.jpg"), "x_y_.jpg");
        assert_eq!(of("photo"), "photo.png");
        assert_eq!(of("../.."), "000007.png");
        assert_eq!(file_name(None, 12, b"no picture"), "000012.bin");
        let long = of(&format!("{}.jpg", "ä".repeat(300)));
        assert!(long.len() <= MAX_NAME && long.ends_with("ä.jpg"), "{long}");
    }
}
