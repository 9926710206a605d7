//! Pictures from files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::capture::{Open, Payload, Shot, Source, SourceError};
use crate::{PICTURE_ENDINGS, has_picture_ending};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// Picture files, one after the other, each once. A file that cannot be read is a damaged shot that names it.
#[derive(Debug, Clone)]
pub struct Files {
    name: Arc<str>,
    paths: Arc<[PathBuf]>,
}

impl Files {
    /// The files at `paths`, in that order.
    pub fn list(paths: Vec<PathBuf>) -> Self {
        Self { name: "files".into(), paths: paths.into() }
    }

    /// The pictures in `folder` and the folders in it, in the order of their paths. Files are taken by their endings;
    /// what is hidden (`.name`) is left out, and linked folders are not followed.
    ///
    /// # Errors
    /// [`SourceError::Open`] if a folder cannot be read, or holds no picture.
    pub fn folder(folder: &Path) -> Result<Self, SourceError> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let failed = |error| SourceError::Open(format!("cannot read the folder {}: {error}", folder.display()));
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                } else if has_picture_ending(&path) {
                    found.push(path);
                }
            }
        }
        if found.is_empty() {
            let endings = PICTURE_ENDINGS.join(", ");
            return Err(SourceError::Open(format!("{} holds no picture ({endings})", folder.display())));
        }
        found.sort();
        Ok(Self { name: folder.display().to_string().into(), paths: found.into() })
    }

    /// The files.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

impl Open for Files {
    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(FilesSource { paths: Arc::clone(&self.paths), next: 0 }))
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}

struct FilesSource {
    paths: Arc<[PathBuf]>,
    next: usize,
}

impl Source for FilesSource {
    fn next(&mut self) -> Result<Option<Shot>, SourceError> {
        let Some(path) = self.paths.get(self.next) else { return Ok(None) };
        self.next += 1;
        let name = path.display().to_string();
        match read(path) {
            Ok(bytes) => {
                Ok(Some(Shot { payload: Payload::Encoded(bytes), name: name.into(), time: SystemTime::now() }))
            }
            Err(error) => Err(SourceError::Damaged(format!("{name} cannot be read: {error}"))),
        }
    }
}

/// The file's bytes. It need not be a regular one, so its length is what comes out of it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_pictures_in_order_without_the_hidden() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b/2.PNG", "b/1.jpg", "a.jpeg", "a.txt", ".hidden.jpg", ".trash/3.jpg", "c/.4.png", "noending"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let files = Files::folder(root.path()).unwrap();
        let expected = ["a.jpeg", "b/1.jpg", "b/2.PNG"];
        assert_eq!(files.paths(), expected.map(|name| root.path().join(name)));
        for _ in 0..2 {
            let mut source = files.open().unwrap();
            for name in expected {
                let shot = source.next().unwrap().unwrap();
                assert_eq!(&*shot.name, root.path().join(name).to_str().unwrap());
                assert!(matches!(shot.payload, Payload::Encoded(bytes) if bytes == name.as_bytes()));
            }
            assert!(source.next().unwrap().is_none() && source.next().unwrap().is_none());
        }
        for (folder, part) in [("c", "holds no picture"), ("d", "cannot read the folder")] {
            let message = Files::folder(&root.path().join(folder)).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn an_unreadable_file_is_named_and_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let [absent, present] = ["absent.jpg", "present.jpg"].map(|name| root.path().join(name));
        fs::write(&present, "x").unwrap();
        let mut source = Files::list(vec![absent, present, root.path().to_owned()]).open().unwrap();
        let message = source.next().unwrap_err().to_string();
        assert!(message.contains("absent.jpg cannot be read"), "{message}");
        assert!(source.next().unwrap().is_some());
        assert!(matches!(source.next(), Err(SourceError::Damaged(_))), "a folder is no file");
        assert!(source.next().unwrap().is_none());
    }
}
