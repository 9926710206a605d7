//! The form of a Debian package, deb(5): an ar archive of a version, the control files, and the files.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use md5::{Digest as _, Md5};

use super::Options;
use super::contents::{CONFIGURATION, Entry, SCRIPTS};
use super::manual::compressed;
use crate::profile::Profile;

/// The package's bytes.
pub(super) fn write(board: &Profile, options: &Options, entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut control = Tar::new(options.time);
    control.file("conffiles", CONFIGURATION.map(|path| format!("/{path}\n")).concat().as_bytes(), 0o644)?;
    control.file("control", description(board, options, entries).as_bytes(), 0o644)?;
    control.file("md5sums", sums(entries).as_bytes(), 0o644)?;
    for (name, script) in SCRIPTS {
        control.file(name, script.as_bytes(), 0o755)?;
    }
    let mut data = Tar::new(options.time);
    for entry in entries {
        data.file(entry.path, &entry.bytes, entry.mode)?;
    }

    let mut archive = ar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", compressed(&control.finish()?)?),
        ("data.tar.gz", compressed(&data.finish()?)?),
    ] {
        let mut header = ar::Header::new(name.into(), bytes.len() as u64);
        header.set_mode(0o100_644);
        header.set_mtime(options.time);
        archive.append(&header, bytes.as_slice())?;
    }
    archive.into_inner()
}

/// The control file.
fn description(board: &Profile, options: &Options, entries: &[Entry]) -> String {
    let kib: usize = entries.iter().map(|entry| entry.bytes.len().div_ceil(1024)).sum();
    format!(
        "Package: edge-vit\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: edge-vit developers <developers@edge-vit.invalid>\n\
         Installed-Size: {kib}\n\
         Depends: adduser, libc6 (>= {glibc})\n\
         Suggests: ffmpeg\n\
         Section: video\n\
         Priority: optional\n\
         Homepage: https://github.com/edge-vit/edge-vit\n\
         Description: classifies what a camera sees\n \
         Runs one model file, as edge-vit-tools writes it, on what a camera sees, for\n \
         months: a service, a live page, MQTT, Prometheus, commands.\n \
         .\n \
         This package is for boards like this one: {name}.\n",
        version = options.version,
        architecture = board.debian_arch,
        glibc = board.glibc,
        name = board.name,
    )
}

/// The list by which `dpkg --verify` tells a changed file; configuration is not in it.
fn sums(entries: &[Entry]) -> String {
    let others = entries.iter().filter(|entry| !CONFIGURATION.contains(&entry.path));
    others.map(|entry| format!("{:x}  {}\n", Md5::digest(&entry.bytes), entry.path)).collect()
}

/// A tar archive as Debian's are: `./` before each path, folders before what is in them, all of root's.
struct Tar {
    builder: tar::Builder<Vec<u8>>,
    folders: BTreeSet<String>,
    time: u64,
}

impl Tar {
    fn new(time: u64) -> Self {
        Self { builder: tar::Builder::new(Vec::new()), folders: BTreeSet::new(), time }
    }

    fn file(&mut self, path: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        let folders: Vec<_> =
            Path::new(path).ancestors().skip(1).map(|folder| format!("./{}", folder.display())).collect();
        for folder in folders.into_iter().rev() {
            if self.folders.insert(folder.clone()) {
                let name = if folder.ends_with('/') { folder } else { folder + "/" };
                self.append(&name, tar::EntryType::Directory, 0o755, &[])?;
            }
        }
        self.append(&format!("./{path}"), tar::EntryType::Regular, mode, bytes)
    }

    fn append(&mut self, name: &str, kind: tar::EntryType, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        // `set_path` takes `./` away.
        let Some(room) = header.as_old_mut().name.get_mut(..name.len()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is too long for a package")));
        };
        room.copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(self.time);
        header.set_size(bytes.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        header.set_cksum();
        self.builder.append(&header, bytes)
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        self.builder.into_inner()
    }
}
