//! A card that boots into a classifier, out of a stock Raspberry Pi OS image or one of Debian's packages; or, for a Jetson, a script
//! that makes a classifier of it.
//!
//! Since Debian 13 a stock image runs cloud-init, which reads `user-data`, `network-config` and `meta-data` from the FAT partition
//! that it boots from. They are written there, with the package, in a copy of the image: no root, no loop device, and not a byte
//! of the other partitions. At its first boot the board installs the package, offline.

mod boot;
mod card;
#[cfg(target_os = "linux")]
pub mod device;
mod error;
mod image;
mod jetson;
mod seed;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use edge_vit_models::file::write_atomic;
use tempfile::Builder;

pub use card::{Card, Serve, Wifi};
pub use error::FlashError;

use crate::profile::{Profile, Recipe};

/// Writes to `out` a copy of `image`, a stock one or one of scripts/image (an `.img`, or one packed as `.img.xz` or `.img.gz`), that
/// installs the Debian package `package` on `board` at its first boot and is set up as `card` says. Returns the copy's size in bytes.
///
/// # Errors
/// [`FlashError`]; `out` is then what it was.
pub fn customise(board: &Profile, image: &Path, package: &Path, card: &Card, out: &Path) -> Result<u64, FlashError> {
    if !board.images.iter().any(|recipe| !matches!(recipe, Recipe::JetsonLinux { .. })) {
        return Err(FlashError::Board { board: board.id.clone(), remedy: remedy(board) });
    }
    card.check()?;
    let package_bytes = read_package(package)?;
    let seed = seed::files(board, card);

    let write_failed = |source| FlashError::Write { path: out.to_owned(), source };
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut copy = Builder::new().prefix(".card").tempfile_in(folder).map_err(write_failed)?;
    let size = image::copy(image, copy.as_file_mut(), out)?;
    let mut files: Vec<_> = seed.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    files.push((seed::PACKAGE, &package_bytes));
    boot::write(image, copy.as_file_mut(), &files)?;
    copy.as_file_mut().flush().and_then(|()| copy.as_file().sync_all()).map_err(write_failed)?;
    copy.persist(out).map_err(|error| write_failed(error.error))?;
    Ok(size)
}

/// Writes to `out` a shell script that sets up `board`, a Jetson with its vendor's system on it, as `card` says: it holds the Debian
/// package `package`, and is run on the board once, as root.
///
/// # Errors
/// [`FlashError`]; `out` is then what it was.
pub fn set_up(board: &Profile, package: &Path, card: &Card, out: &Path) -> Result<(), FlashError> {
    let l4t = board.images.iter().find_map(|recipe| match recipe {
        Recipe::JetsonLinux { l4t, .. } => Some(l4t),
        _ => None,
    });
    let l4t = l4t.ok_or_else(|| FlashError::Board { board: board.id.clone(), remedy: remedy(board) })?;
    card.check()?;
    let script = jetson::script(board, l4t, card, &read_package(package)?);
    write_atomic(out, script.as_bytes()).map_err(|source| FlashError::Write { path: out.to_owned(), source })
}

fn read_package(path: &Path) -> Result<Vec<u8>, FlashError> {
    let bytes = fs::read(path).map_err(|source| FlashError::Read { path: path.to_owned(), source })?;
    let sound = bytes.starts_with(b"!<arch>\ndebian-binary");
    if sound { Ok(bytes) } else { Err(FlashError::Package { path: path.to_owned() }) }
}

/// How the board is set up, where that was tried in another way.
fn remedy(board: &Profile) -> String {
    let mut known = board.images.iter().map(|recipe| match recipe {
        Recipe::RaspberryPiOs { .. } => "name a stock image of Raspberry Pi OS with --image".to_owned(),
        Recipe::Debian { .. } => "make an image with scripts/image, and name it with --image".to_owned(),
        Recipe::JetsonLinux { jetpack, l4t } => format!(
            "flash JetPack {jetpack} (Jetson Linux {l4t}) with NVIDIA's SDK Manager, then run there what `flash` writes without \
             --image"
        ),
    });
    known.next().unwrap_or_else(|| "install a Debian on it, then the package: dpkg -i".to_owned())
}
