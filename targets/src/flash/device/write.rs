//! Writing a card and reading it back.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{Advice, OFlags, fadvise};

use super::{Device, DeviceError};

/// Bytes at a time: what cards erase at a time, and more.
const BLOCK: u64 = 4 << 20;

/// What is being done to a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The image is written.
    Writing,
    /// The card is read back.
    Checking,
}

/// Writes the file `image` to `device` and reads it back. `progress` is told the step, and how many bytes of it are done.
///
/// # Errors
/// [`DeviceError`]. After `Write`, `Check` and `Differs`, and after `Read` once writing has begun, the card is no longer what it was.
pub fn write(device: &Device, image: &Path, progress: &mut dyn FnMut(Step, u64)) -> Result<(), DeviceError> {
    let unreadable = |source| DeviceError::Read { path: image.to_owned(), source };
    let mut file = File::open(image).map_err(unreadable)?;
    let needed = file.metadata().map_err(unreadable)?.len();
    if needed > device.size {
        return Err(DeviceError::Small { path: device.path.clone(), size: device.size, needed });
    }
    // The kernel refuses this of a disk that has been mounted since it was looked at.
    let exclusive =
        OpenOptions::new().read(true).write(true).custom_flags(OFlags::EXCL.bits().cast_signed()).open(&device.path);
    let mut card = exclusive.map_err(|source| DeviceError::Open { path: device.path.clone(), source })?;

    let mut written = 0;
    copy(&mut file, &mut card, File::sync_all, &mut written, progress).map_err(|failed| match failed {
        Failed::Image(source) => unreadable(source),
        Failed::Card(source) => DeviceError::Write { path: device.path.clone(), at: written, source },
    })?;
    // What is read back has to come from the card, and not from this machine's memory.
    let rewound = fadvise(&card, 0, None, Advice::DontNeed).map_err(io::Error::from).and_then(|()| card.rewind());
    rewound.map_err(|source| DeviceError::Check { path: device.path.clone(), source })?;
    file.rewind().map_err(unreadable)?;
    match difference(&mut file, &mut card, progress) {
        Ok(None) => Ok(()),
        Ok(Some(at)) => Err(DeviceError::Differs { path: device.path.clone(), at }),
        Err(Failed::Image(source)) => Err(unreadable(source)),
        Err(Failed::Card(source)) => Err(DeviceError::Check { path: device.path.clone(), source }),
    }
}

/// What could not be read or written.
#[derive(Debug)]
pub(super) enum Failed {
    Image(io::Error),
    Card(io::Error),
}

/// Copies all of `from` to the beginning of `to`, with `written` the number of bytes that have arrived.
///
/// The first block, which holds the partition table, goes last: a card that is pulled out before has neither the old table nor
/// the new one, and nothing starts from it.
pub(super) fn copy<T: Write + Seek>(
    from: &mut impl Read,
    to: &mut T,
    sync: fn(&T) -> io::Result<()>,
    written: &mut u64,
    progress: &mut dyn FnMut(Step, u64),
) -> Result<(), Failed> {
    let mut block_of = |block: &mut Vec<u8>| from.by_ref().take(BLOCK).read_to_end(block).map_err(Failed::Image);
    let mut first = Vec::new();
    block_of(&mut first)?;
    to.write_all(&vec![0; first.len()]).and_then(|()| sync(to)).map_err(Failed::Card)?;
    let mut block = Vec::new();
    while block_of(&mut block)? > 0 {
        to.write_all(&block).map_err(Failed::Card)?;
        *written += block.len() as u64;
        progress(Step::Writing, *written);
        block.clear();
    }
    let mut last = || {
        sync(to)?;
        to.rewind()?;
        to.write_all(&first)?;
        sync(to)
    };
    last().map_err(Failed::Card)?;
    *written += first.len() as u64;
    progress(Step::Writing, *written);
    Ok(())
}

/// The first byte of `expected` that `found` does not have.
pub(super) fn difference(
    expected: &mut impl Read,
    found: &mut impl Read,
    progress: &mut dyn FnMut(Step, u64),
) -> Result<Option<u64>, Failed> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut read = 0;
    loop {
        ours.clear();
        theirs.clear();
        let len = expected.by_ref().take(BLOCK).read_to_end(&mut ours).map_err(Failed::Image)? as u64;
        if len == 0 {
            return Ok(None);
        }
        found.by_ref().take(len).read_to_end(&mut theirs).map_err(Failed::Card)?;
        if ours != theirs {
            let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
            return Ok(Some(read + same as u64));
        }
        read += len;
        progress(Step::Checking, read);
    }
}
