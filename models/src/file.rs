//! Files: written so that a killed run leaves the old one or the new one, never half; where those are kept that can be had
//! again; and how checksums are written.

use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::Builder;

/// Writes `bytes` to a temporary file beside `path`, syncs it and renames it over `path`.
///
/// # Errors
/// When the folder is not there or not writable, or the disk is full; what stood at `path` is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, 0o666)
}

/// [`write_atomic`] for a program: whoever may read it may run it.
///
/// # Errors
/// As there.
pub fn write_executable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, 0o777)
}

/// A temporary file is its owner's alone unless a mode is said; the umask applies to it. Where there are no modes, none
/// is set.
#[cfg_attr(not(unix), expect(unused_variables, reason = "modes are of Unix"))]
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Where this project keeps what it can bring again: `$XDG_CACHE_HOME/edge-vit`, else `~/.cache/edge-vit`. `None` if neither
/// variable says where.
pub fn cache_folder() -> Option<PathBuf> {
    let variable = |key| env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(caches.join("edge-vit"))
}

/// Bytes in lower-case hexadecimal, as checksums are written.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        write_atomic(&path, b"old").unwrap();
        // A directory in the way makes the rename fail after the bytes were written.
        let blocked = folder.path().join("blocked");
        std::fs::create_dir_all(blocked.join("inside")).unwrap();
        assert!(write_atomic(&blocked, b"new").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn a_written_file_is_as_readable_as_any_other() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        write_atomic(&folder.path().join("atomic"), b"bytes").unwrap();
        std::fs::write(folder.path().join("plain"), b"bytes").unwrap();
        assert_eq!(mode("atomic"), mode("plain"));
        write_executable(&folder.path().join("program"), b"bytes").unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        assert_eq!(mode("program") & 0o777, mode("folder") & 0o777);
    }
}
