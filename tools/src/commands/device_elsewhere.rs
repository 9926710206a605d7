//! `flash --device` where disks are named and guarded in other ways than on Linux: not at all.

use std::path::Path;

/// There is none.
pub(super) enum Target {}

impl Target {
    pub(super) fn path(&self) -> &Path {
        match *self {}
    }

    pub(super) fn write(&self, _: &Path) -> anyhow::Result<()> {
        match *self {}
    }
}

pub(super) fn choose(_: &Path, _: bool) -> anyhow::Result<Target> {
    anyhow::bail!("cards are written on Linux alone: write a file with --out, and that with Raspberry Pi Imager")
}
