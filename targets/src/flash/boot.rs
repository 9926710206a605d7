//! The partition that a Raspberry Pi boots from.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use fatfs::{FileSystem, FsOptions};
use fscommon::{BufStream, StreamSlice};
use mbrman::MBR;

use super::{FlashError, seed};

const SECTOR: u32 = 512;
/// The kinds of a partition with a FAT filesystem.
const FAT: [u8; 4] = [0x06, 0x0b, 0x0c, 0x0e];
/// What is left free: folders grow, and cloud-init may write a log.
const SPARE: u64 = 1 << 20;

/// Writes `files` to the root of the partition that `card` boots from; `image` is what it was copied from, for the messages.
pub(super) fn write(image: &Path, card: &mut File, files: &[(&str, &[u8])]) -> Result<(), FlashError> {
    let wrong = |reason: String| FlashError::Image { path: image.to_owned(), reason };
    let table = MBR::read_from(card, SECTOR).map_err(|error| wrong(format!("it has no partition table ({error})")))?;
    let partition = table.iter().map(|(_, partition)| partition).find(|partition| FAT.contains(&partition.sys));
    let partition = partition.ok_or_else(|| wrong("it has no FAT partition to boot from".to_owned()))?;
    let start = u64::from(partition.starting_lba) * u64::from(SECTOR);
    let end = start + u64::from(partition.sectors) * u64::from(SECTOR);
    let size = card.metadata().map_err(|error| wrong(error.to_string()))?.len();
    if end > size {
        return Err(wrong(format!("its boot partition ends at byte {end}, and the image at {size}: fetch it again")));
    }

    let broken = |error: io::Error| wrong(format!("its boot partition is broken ({error})"));
    let slice = StreamSlice::new(card, start, end).map_err(broken)?;
    let filesystem = FileSystem::new(BufStream::new(slice), FsOptions::new()).map_err(broken)?;
    let root = filesystem.root_dir();
    let mut names = Vec::new();
    for entry in root.iter() {
        names.push(entry.map_err(broken)?.file_name());
    }
    if !names.iter().any(|name| name == "config.txt") {
        return Err(wrong("there is no config.txt where it boots from".to_owned()));
    }
    if !names.iter().any(|name| name == seed::USER_DATA) {
        return Err(FlashError::NoCloudInit { path: image.to_owned() });
    }

    // What the files take the place of is free once they are written.
    for (name, _) in files.iter().filter(|(name, _)| names.iter().any(|there| there == name)) {
        root.remove(name).map_err(broken)?;
    }
    let stats = filesystem.stats().map_err(broken)?;
    let cluster = u64::from(stats.cluster_size());
    let needed = files.iter().map(|(_, bytes)| (bytes.len() as u64).next_multiple_of(cluster)).sum::<u64>() + SPARE;
    let free = u64::from(stats.free_clusters()) * cluster;
    if free < needed {
        return Err(FlashError::Full { path: image.to_owned(), free, needed });
    }
    for (name, bytes) in files {
        let mut file = root.create_file(name).map_err(broken)?;
        file.write_all(bytes).and_then(|()| file.flush()).map_err(broken)?;
    }
    drop(root);
    filesystem.unmount().map_err(broken)
}
