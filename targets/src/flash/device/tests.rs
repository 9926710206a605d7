use std::io::{self, Cursor};
use std::process::Command;

use tempfile::TempDir;

use super::write::{Failed, copy, difference};
use super::*;

/// A system with one disk, `sdz` (8:16) with `sdz1` (8:17), that nothing uses.
fn system() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let disk = root.path().join("sys/devices/usb1/sdz");
    for (folder, files) in [
        (disk.clone(), &[("dev", "8:16\n"), ("size", "62333952\n"), ("ro", "0\n"), ("removable", "1\n")][..]),
        (disk.join("device"), &[("model", "SD/MMC           \n")]),
        (disk.join("holders"), &[]),
        (disk.join("sdz1"), &[("dev", "8:17\n"), ("partition", "1\n")]),
        (disk.join("sdz1/holders"), &[]),
        (root.path().join("proc/self"), &[("mountinfo", "25 1 254:0 / / rw - ext4 /dev/root rw\n")]),
        (root.path().join("sys/dev/block"), &[]),
    ] {
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    std::os::unix::fs::symlink(&disk, root.path().join("sys/dev/block/8:16")).unwrap();
    std::os::unix::fs::symlink(disk.join("sdz1"), root.path().join("sys/dev/block/8:17")).unwrap();
    root
}

fn found(root: &TempDir) -> Result<Device, DeviceError> {
    look(root.path(), Path::new("/dev/sdz"), (8, 16))
}

#[test]
fn a_card_is_told_by_what_the_kernel_says_of_it() {
    let device = found(&system()).unwrap();
    let expected =
        Device { path: "/dev/sdz".into(), model: Some("SD/MMC".to_owned()), size: 62_333_952 * 512, removable: true };
    assert_eq!(device, expected);
}

#[test]
fn what_is_no_free_disk_is_refused() {
    let root = system();
    let disk = root.path().join("sys/dev/block/8:16");
    let partition = look(root.path(), Path::new("/dev/sdz1"), (8, 17)).unwrap_err();
    assert!(matches!(&partition, DeviceError::Partition { disk, .. } if disk == Path::new("/dev/sdz")), "{partition}");
    assert!(matches!(look(root.path(), Path::new("/dev/sdy"), (8, 0)), Err(DeviceError::Open { .. })));

    let with = |file: &str, text: &str| {
        let path = root.path().join(file);
        let old = fs::read(&path).ok();
        fs::write(&path, text).unwrap();
        let error = found(&root).unwrap_err();
        match old {
            Some(old) => fs::write(&path, old).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        error
    };
    assert!(matches!(with("sys/dev/block/8:16/size", "0\n"), DeviceError::Empty { .. }));
    assert!(matches!(with("sys/dev/block/8:16/ro", "1\n"), DeviceError::ReadOnly { .. }));
    for line in [
        "36 25 8:17 / /media/me/boot rw,nosuid shared:7 - vfat /dev/sdz1 rw",
        "36 25 8:16 / /media/me/boot rw - ext4 /dev/root rw",
        // A filesystem with a number of its own.
        "36 25 0:31 /home /media/me/boot rw - btrfs /dev/sdz1 rw",
    ] {
        let error = with("proc/self/mountinfo", &format!("25 1 254:0 / / rw - ext4 /dev/root rw\n{line}\n"));
        assert!(matches!(&error, DeviceError::Mounted { at, .. } if at == &["/media/me/boot"]), "{line}: {error}");
    }
    let system = with("proc/self/mountinfo", "25 1 8:17 / / rw - ext4 /dev/root rw\n");
    assert!(matches!(&system, DeviceError::System { .. }), "{system}");
    let swap = with("proc/swaps", "Filename Type Size\n/dev/sdz1 partition 8388604 0 -2\n");
    assert!(matches!(&swap, DeviceError::Used { by, .. } if by == "swap"), "{swap}");
    fs::create_dir(disk.join("sdz1/holders/dm-0")).unwrap();
    assert!(matches!(found(&root), Err(DeviceError::Used { by, .. }) if by.contains("dm-0")));
    fs::remove_dir(disk.join("sdz1/holders/dm-0")).unwrap();
    found(&root).unwrap();
}

#[test]
fn files_and_folders_are_no_devices() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Device::inspect(folder.path()), Err(DeviceError::NoDevice { .. })));
    assert!(matches!(Device::inspect(Path::new("/dev/null")), Err(DeviceError::NoDevice { .. })));
    assert!(matches!(Device::inspect(&folder.path().join("none")), Err(DeviceError::Open { .. })));
}

/// A card that keeps nothing beyond a certain byte, as forged ones do.
struct Forged(Cursor<Vec<u8>>, u64);

impl io::Write for Forged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let kept = bytes.len().min(self.1.saturating_sub(self.0.position()) as usize);
        self.0.write_all(&bytes[..kept])?;
        self.0.write_all(&vec![0xff; bytes.len() - kept])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Seek for Forged {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn a_card_that_does_not_keep_what_was_written_is_found_out() {
    let image: Vec<u8> = (0..9u32 << 20).map(|at| (at >> 12) as u8).collect();
    let check = |forged_from: u64| {
        let mut card = Forged(Cursor::new(Vec::new()), forged_from);
        let (mut written, mut told) = (0, Vec::new());
        copy(&mut image.as_slice(), &mut card, |_| Ok(()), &mut written, &mut |step, done| told.push((step, done)))
            .unwrap();
        assert_eq!(written, 9 << 20);
        card.0.set_position(0);
        let differs = difference(&mut image.as_slice(), &mut card.0, &mut |step, done| told.push((step, done)));
        (differs.unwrap(), told)
    };
    let (differs, told) = check(u64::MAX);
    assert_eq!(differs, None);
    let (writing, checking) = ([4, 5, 9], [4, 8, 9]);
    let expected = [writing.map(|mib| (Step::Writing, mib << 20)), checking.map(|mib| (Step::Checking, mib << 20))];
    assert_eq!(told, expected.concat());
    assert_eq!(check((5 << 20) + 7).0, Some((5 << 20) + 7));

    // One that has less to read than was written.
    let cut = difference(&mut image.as_slice(), &mut &image[..1000], &mut |_, _| {}).unwrap();
    assert_eq!(cut, Some(1000));
}

#[test]
fn a_card_that_is_pulled_out_has_no_partition_table() {
    let image = vec![1; 9 << 20];
    let mut disk = vec![2; 9 << 20];
    let mut written = 0;
    // The second block does not fit.
    let mut card = Cursor::new(&mut disk[..7 << 20]);
    let stopped = copy(&mut image.as_slice(), &mut card, |_| Ok(()), &mut written, &mut |_, _| {});
    assert!(matches!(stopped, Err(Failed::Card(error)) if error.kind() == io::ErrorKind::WriteZero));
    assert_eq!(written, 0);
    let first = disk.iter().take_while(|byte| **byte == 0).count();
    assert_eq!(first, 4 << 20);
}

#[test]
fn an_image_that_cannot_be_read_is_not_the_cards_fault() {
    struct Torn;
    impl io::Read for Torn {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("torn"))
        }
    }
    let mut image = io::Read::chain(&[1; 5 << 20][..], Torn);
    let (mut card, mut written) = (Cursor::new(Vec::new()), 0);
    let stopped = copy(&mut image, &mut card, |_| Ok(()), &mut written, &mut |_, _| {});
    assert!(matches!(stopped, Err(Failed::Image(error)) if error.to_string() == "torn"));
}

/// A disk in a file, as long as this lives; nothing where the kernel or the user does not allow it.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Option<Self> {
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        let name = String::from_utf8(made.stdout).ok()?;
        made.status.success().then(|| Self(name.trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn a_device_is_written_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, image) = (folder.path().join("disk"), folder.path().join("image"));
    fs::File::create(&disk).unwrap().set_len(12 << 20).unwrap();
    let bytes: Vec<u8> = (0..9u32 << 20).map(|at| (at >> 10) as u8).collect();
    fs::write(&image, &bytes).unwrap();
    let Some(looped) = Loop::over(&disk) else {
        eprintln!("skipped: a file cannot be made a disk here (losetup, as root)");
        return;
    };
    let device = Device::inspect(&looped.0).unwrap();
    assert_eq!(device.size, 12 << 20);
    write(&device, &image, &mut |_, _| {}).unwrap();
    assert_eq!(fs::read(&disk).unwrap()[..bytes.len()], bytes);

    let large = folder.path().join("large");
    fs::File::create(&large).unwrap().set_len(13 << 20).unwrap();
    assert!(matches!(write(&device, &large, &mut |_, _| {}), Err(DeviceError::Small { .. })));

    let made = Command::new("mkfs.ext4").arg("-q").arg(&looped.0).status();
    let place = folder.path().join("mounted");
    fs::create_dir(&place).unwrap();
    let mounted = made.is_ok_and(|made| made.success())
        && Command::new("mount").arg(&looped.0).arg(&place).status().is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("skipped: the disk cannot be mounted here");
        return;
    }
    let inspected = Device::inspect(&looped.0);
    let written = write(&device, &image, &mut |_, _| {});
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    assert!(matches!(&inspected, Err(DeviceError::Mounted { at, .. }) if Path::new(&at[0]) == place), "{inspected:?}");
    assert!(matches!(&written, Err(DeviceError::Open { .. })), "{written:?}");
}
