//! Writing a file so that a killed run leaves the old one or the new one, never half; and how checksums are written.

use std::io::{self, Write as _};
use std::path::Path;

use tempfile::Builder;

/// Writes `bytes` to a temporary file beside `path`, syncs it and renames it over `path`.
///
/// # Errors
/// When the folder is not there or not writable, or the disk is full; what stood at `path` is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = Builder::new();
    // A temporary file is its owner's alone; a model has to be readable by the service that runs it. The umask applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
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
    }
}
