//! Folders of the cache that are filled once, and appear when they are whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edge_vit_models::file::{cache_folder, hex, write_atomic};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::DataError;

const INDEX: &str = "index.json";
/// How folders begin that are being filled.
const UNFINISHED: &str = "part-";
/// What is older was left by a process that was killed.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The folder of unpacked data sets.
pub(super) fn cache() -> Result<PathBuf, DataError> {
    Ok(cache_folder().ok_or(DataError::NoCacheFolder)?.join("data"))
}

/// What a folder is said to hold, kept in it as JSON.
pub(super) trait Index: Serialize + DeserializeOwned {
    /// Its files, relative to it, and their sizes in bytes.
    fn files(&self) -> impl Iterator<Item = (&Path, u64)>;
}

/// The index of `folder`, which `fill` fills unless it is there: it is handed another folder to write to, which then takes
/// the place of `folder`. Where `fill` fails, nothing stays.
pub(super) fn filled<I: Index, E: From<DataError>>(
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<I, E>,
) -> Result<I, E> {
    if let Some(index) = kept(folder) {
        return Ok(index);
    }
    let failed = |source| DataError::Unpack { path: folder.to_owned(), source };
    let cache = folder.parent().unwrap_or(folder);
    fs::create_dir_all(cache).map_err(failed)?;
    let unfinished = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(cache).map_err(failed)?;
    let index = fill(unfinished.path())?;
    // Plain data without maps of other keys than strings.
    let json = serde_json::to_vec(&index).map_err(|error| failed(error.into()))?;
    write_atomic(&unfinished.path().join(INDEX), &json).map_err(failed)?;
    if folder.exists() {
        // Another process was faster, or what was there is not whole.
        fs::remove_dir_all(folder).map_err(failed)?;
    }
    fs::rename(unfinished.path(), folder).map_err(failed)?;
    // It has another name now.
    let _ = unfinished.keep();
    Ok(index)
}

/// Whether `folder` was filled before; files of it may be missing.
pub(super) fn is_filled(folder: &Path) -> bool {
    folder.join(INDEX).is_file()
}

/// Removes what killed processes left. What cannot be removed stays: it is in nobody's way.
pub(super) fn sweep(cache: &Path, now: SystemTime) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|found| found.modified());
        let stale = modified.is_ok_and(|time| now.duration_since(time).is_ok_and(|age| age > STALE));
        if stale && entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The index of a folder in which every file is there with its size: after a power cut, some may not be.
fn kept<I: Index>(folder: &Path) -> Option<I> {
    let index: I = serde_json::from_slice(&fs::read(folder.join(INDEX)).ok()?).ok()?;
    let is_whole = |(file, bytes)| fs::metadata(folder.join::<&Path>(file)).is_ok_and(|found| found.len() == bytes);
    let whole = index.files().all(is_whole);
    whole.then_some(index)
}

/// A name for what is made of `sources` in the way that `format` names, and how many bytes these have. Their paths, sizes and the
/// times of their last changes make it.
pub(super) fn key(format: &str, sources: &[PathBuf]) -> Result<(String, u64), DataError> {
    let mut hash = Sha256::new();
    hash.update(format);
    let mut size = 0u64;
    for source in sources {
        let failed = |error: io::Error| DataError::Read { path: source.clone(), source: error };
        let found = fs::metadata(source).map_err(failed)?;
        let modified = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        hash.update(source.canonicalize().map_err(failed)?.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(found.len().to_le_bytes());
        hash.update(modified.as_nanos().to_le_bytes());
        size = size.saturating_add(found.len());
    }
    let mut key = hex(hash.finalize());
    key.truncate(32);
    Ok((key, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_swept_after_a_day() {
        let cache = tempfile::tempdir().unwrap();
        let left = || fs::read_dir(cache.path()).unwrap().count();
        ["part-x", "whole"].iter().for_each(|name| fs::create_dir(cache.path().join(name)).unwrap());
        sweep(cache.path(), SystemTime::now());
        assert_eq!(left(), 2);
        sweep(cache.path(), SystemTime::now() + 2 * STALE);
        assert!(left() == 1 && cache.path().join("whole").is_dir());
    }

    #[test]
    fn another_file_of_the_same_name_or_another_format_has_another_key() {
        let dir = tempfile::tempdir().unwrap();
        let sources = [dir.path().join("set.tar")];
        fs::write(&sources[0], b"archive").unwrap();
        let before = key("1", &sources).unwrap();
        assert_eq!(key("1", &sources).unwrap(), before);
        assert_ne!(key("2", &sources).unwrap().0, before.0);
        fs::write(&sources[0], b"archive that grew").unwrap();
        assert_ne!(key("1", &sources).unwrap().0, before.0);
    }
}
