//! Files that are changed wholly or not at all.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::StoreError;

/// How the names of files begin that are not whole yet.
const UNFINISHED: &str = ".new-";
/// How long a lock is waited for. Who holds it copies a file at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// The folder's lock, held until it is dropped, or its process ends.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock at `path`.
    pub(super) fn wait(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Write { path: path.to_owned(), source };
        // Whoever may read the file may lock it: it can belong to another user.
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                OpenOptions::new().create(true).append(true).open(path).map_err(failed)?
            }
            file => file.map_err(failed)?,
        };
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(20)),
                Err(TryLockError::WouldBlock) => return Err(StoreError::Busy { path: path.to_owned() }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }
}

/// Writes `bytes` to a temporary file beside `path`, syncs it and renames it over `path`.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut builder = tempfile::Builder::new();
        // A temporary file is its owner's alone; a model has to be readable by the service. The umask applies.
        builder.prefix(UNFINISHED).permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync(folder)
    };
    write().map_err(|source| StoreError::Write { path: path.to_owned(), source })
}

/// Makes the symbolic link at `path` lead to `target`, whether or not there is one.
pub(super) fn link(path: &Path, target: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let link = || {
        let make = |unfinished: &Path| std::os::unix::fs::symlink(target, unfinished);
        let unfinished = tempfile::Builder::new().prefix(UNFINISHED).make_in(folder, make)?;
        unfinished.persist(path).map_err(|error| error.error)?;
        sync(folder)
    };
    link().map_err(|source| StoreError::Write { path: path.to_owned(), source })
}

/// Removes what killed processes left unfinished in `folder`. The lock is held.
pub(super) fn sweep(folder: &Path) {
    let begins = |name: &OsStr| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes());
    let left = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in left.filter(|entry| begins(&entry.file_name())) {
        if let Err(error) = fs::remove_file(entry.path()) {
            log::warn!("cannot remove the unfinished {}: {error}", entry.path().display());
        }
    }
}

/// A renamed or removed entry survives a power cut once its folder is synced.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
