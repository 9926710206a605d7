//! A card in a reader: what it is, and whether it may be overwritten.

mod error;
mod write;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

pub use error::DeviceError;
pub use write::{Step, write};

/// The unit of `size` in sysfs, whatever the device's own sectors are.
const SECTOR: u64 = 512;

/// A whole disk that nothing is using.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The node that it is opened by.
    pub path: PathBuf,
    /// What its maker calls it; a reader of cards often gives its own name.
    pub model: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it can be taken out. Readers that are built in say so of their slots, and of USB sticks most do.
    pub removable: bool,
}

impl Device {
    /// Looks at the device with the node `path`.
    ///
    /// # Errors
    /// [`DeviceError`], if it is no whole disk, cannot be written, or anything on it is mounted or otherwise in use.
    pub fn inspect(path: &Path) -> Result<Self, DeviceError> {
        let unreadable = |source| DeviceError::Open { path: path.to_owned(), source };
        let node = fs::metadata(path).map_err(unreadable)?;
        if !node.file_type().is_block_device() {
            return Err(DeviceError::NoDevice { path: path.to_owned() });
        }
        let number = (rustix::fs::major(node.rdev()), rustix::fs::minor(node.rdev()));
        look(Path::new("/"), path, number)
    }
}

/// A disk or a partition of one, as sysfs has it.
struct Part {
    name: String,
    /// `MAJOR:MINOR`.
    number: String,
    folder: PathBuf,
}

impl Part {
    fn read(folder: PathBuf) -> io::Result<Self> {
        let number = text(&folder.join("dev"))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, number, folder })
    }

    /// Volumes that the kernel makes of it: of RAID, LVM, an encrypted disk.
    fn holders(&self) -> Vec<String> {
        names(&self.folder.join("holders"))
    }
}

/// Looks at the device with this number in the system whose root is `root`.
fn look(root: &Path, path: &Path, (major, minor): (u32, u32)) -> Result<Device, DeviceError> {
    let unreadable = |source| DeviceError::Open { path: path.to_owned(), source };
    let folder = fs::canonicalize(root.join(format!("sys/dev/block/{major}:{minor}"))).map_err(unreadable)?;
    if folder.join("partition").exists() {
        let disk = folder.parent().and_then(Path::file_name).unwrap_or_default();
        return Err(DeviceError::Partition { path: path.to_owned(), disk: Path::new("/dev").join(disk) });
    }
    let size = text(&folder.join("size")).map_err(unreadable)?.parse().unwrap_or(0) * SECTOR;
    if size == 0 {
        return Err(DeviceError::Empty { path: path.to_owned() });
    }
    if text(&folder.join("ro")).is_ok_and(|flag| flag != "0") {
        return Err(DeviceError::ReadOnly { path: path.to_owned() });
    }

    let partitions = names(&folder).into_iter().map(|name| folder.join(name));
    let partitions = partitions.filter(|folder| folder.join("partition").exists()).map(Part::read);
    let mut parts = vec![Part::read(folder.clone()).map_err(unreadable)?];
    parts.extend(partitions.collect::<io::Result<Vec<_>>>().map_err(unreadable)?);
    free(root, path, &parts)?;
    Ok(Device {
        path: path.to_owned(),
        model: text(&folder.join("device/model")).or_else(|_| text(&folder.join("device/name"))).ok(),
        size,
        removable: text(&folder.join("removable")).is_ok_and(|flag| flag == "1"),
    })
}

/// Refuses a disk of which a part is in use.
fn free(root: &Path, path: &Path, parts: &[Part]) -> Result<(), DeviceError> {
    let unreadable = |source| DeviceError::Open { path: path.to_owned(), source };
    let known = |number: &str, name: &str| {
        parts.iter().any(|part| part.number == number || (name.starts_with("/dev/") && name[5..] == part.name))
    };
    // proc(5): the third field is the filesystem's number, the fifth where it is mounted; the source follows a lone `-`
    // and the type. Some filesystems have a number of their own, so that the source counts too.
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).map_err(unreadable)?;
    let mounted = mounts.lines().filter_map(|line| {
        let (first, last) = line.split_once(" - ")?;
        let fields: Vec<_> = first.split(' ').collect();
        let place = (*fields.get(4)?).to_owned();
        known(fields.get(2)?, last.split(' ').nth(1)?).then_some(place)
    });
    let mounted: Vec<_> = mounted.collect();
    if mounted.iter().any(|place| place == "/") {
        return Err(DeviceError::System { path: path.to_owned() });
    }
    if !mounted.is_empty() {
        return Err(DeviceError::Mounted { path: path.to_owned(), at: mounted });
    }
    let swaps = fs::read_to_string(root.join("proc/swaps")).unwrap_or_default();
    if swaps.lines().filter_map(|line| line.split_whitespace().next()).any(|name| known("", name)) {
        return Err(DeviceError::Used { path: path.to_owned(), by: "swap".to_owned() });
    }
    if let Some(holder) = parts.iter().flat_map(Part::holders).next() {
        return Err(DeviceError::Used { path: path.to_owned(), by: format!("the volume {holder}") });
    }
    Ok(())
}

fn text(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// The names in a folder, in order; none if it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
