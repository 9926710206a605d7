//! Masks as files in one folder.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::Mask;

/// Writes masks, each under a name of its own.
#[derive(Debug)]
pub(crate) struct Masks {
    folder: PathBuf,
    /// Whether pictures are files, whose names their masks have.
    files: bool,
    written: HashSet<PathBuf>,
}

impl Masks {
    /// Makes `folder` where it is not there.
    pub(crate) fn new(folder: PathBuf, files: bool) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(Self { folder, files, written: HashSet::new() })
    }

    /// Writes `mask`, that of the picture called `source` with this number, and gives its path.
    pub(crate) fn write(&mut self, mask: &Mask, source: &str, number: u64) -> Result<PathBuf> {
        let path = self.folder.join(self.name(source, number));
        let write = || {
            let mut builder = tempfile::Builder::new();
            // A temporary file is its owner's alone; a mask is for whoever may read the folder. The umask applies.
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            let mut file = builder.tempfile_in(&self.folder)?;
            file.write_all(&mask.to_png()?)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            anyhow::Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        self.written.insert(path.clone());
        Ok(path)
    }

    /// The picture's name; with its number where another picture of that name was before it, or it is no file.
    fn name(&self, source: &str, number: u64) -> String {
        let stem = Path::new(source).file_stem().filter(|_| self.files).and_then(|stem| stem.to_str());
        match stem {
            Some(stem) if !self.written.contains(&self.folder.join(format!("{stem}.png"))) => format!("{stem}.png"),
            Some(stem) => format!("{stem}-{number}.png"),
            None => format!("frame-{number:08}.png"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mask_is_written_over_another() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("masks");
        let mask = |class| Mask::new(2, 1, vec![class, 0]).unwrap();
        let mut masks = Masks::new(folder.clone(), true).unwrap();
        let paths = [("a/1.jpg", 1), ("b/1.png", 2), ("c/2.jpg", 3)]
            .map(|(source, class)| masks.write(&mask(class), source, class.into()).unwrap());
        assert_eq!(paths, ["1.png", "1-2.png", "2.png"].map(|name| folder.join(name)));
        for (path, class) in paths.iter().zip(1..) {
            assert_eq!(Mask::from_png(&fs::read(path).unwrap()).unwrap(), mask(class));
        }
        let mut frames = Masks::new(folder.clone(), false).unwrap();
        assert_eq!(frames.write(&mask(1), "camera 0", 7).unwrap(), folder.join("frame-00000007.png"));
    }
}
