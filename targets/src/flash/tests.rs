use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::process::Command;

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use fscommon::StreamSlice;
use mbrman::{CHS, MBR, MBRPartitionEntry};
use tempfile::TempDir;

use super::*;
use crate::profile;

/// Where the boot partition lies, in bytes.
const BOOT: std::ops::Range<u64> = 1 << 20..41 << 20;
/// The image's size: behind the boot partition lies the system's.
const SIZE: u64 = 44 << 20;

/// A made-up stock image: partition table, boot partition with the files of Raspberry Pi OS, and a system.
fn stock(folder: &TempDir, files: &[&str]) -> PathBuf {
    let path = folder.path().join("stock.img");
    let mut image = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
    image.set_len(SIZE).unwrap();
    let mut table = MBR::new_from(&mut image, 512, [1, 2, 3, 4]).unwrap();
    let entry = |sys, range: std::ops::Range<u64>| MBRPartitionEntry {
        boot: mbrman::BOOT_INACTIVE,
        first_chs: CHS::empty(),
        sys,
        last_chs: CHS::empty(),
        starting_lba: (range.start / 512) as u32,
        sectors: ((range.end - range.start) / 512) as u32,
    };
    table[1] = entry(0x0c, BOOT);
    table[2] = entry(0x83, BOOT.end..SIZE);
    table.write_into(&mut image).unwrap();
    let mut slice = StreamSlice::new(&mut image, BOOT.start, BOOT.end).unwrap();
    fatfs::format_volume(&mut slice, FormatVolumeOptions::new()).unwrap();
    let filesystem = FileSystem::new(slice, FsOptions::new()).unwrap();
    for name in files {
        let mut file = filesystem.root_dir().create_file(name).unwrap();
        std::io::Write::write_all(&mut file, b"stock\n").unwrap();
    }
    filesystem.unmount().unwrap();
    image.seek(SeekFrom::Start(BOOT.end)).unwrap();
    image.write_all(&[0xe7; (SIZE - BOOT.end) as usize]).unwrap();
    path
}

const STOCK: [&str; 5] = ["config.txt", "cmdline.txt", "user-data", "network-config", "meta-data"];

fn package(folder: &TempDir, len: usize) -> PathBuf {
    let path = folder.path().join("edge-vit.deb");
    let mut bytes = b"!<arch>\ndebian-binary   ".to_vec();
    bytes.resize(len, 7);
    fs::write(&path, bytes).unwrap();
    path
}

fn card() -> Card {
    Card {
        hostname: "kitchen".to_owned(),
        user: "cook".to_owned(),
        ssh_key: Some("ssh-ed25519 AAAA cook@home\n".to_owned()),
        wifi: Some(Wifi {
            ssid: "\"o: 'net\"\n".to_owned(),
            passphrase: "ThisIsAPassword".to_owned(),
            country: "DE".to_owned(),
        }),
        serve: Some(Serve { address: ([0, 0, 0, 0], 8080).into(), token: "secret".to_owned() }),
        csi: true,
    }
}

fn board(id: &str) -> Profile {
    profile::find(id, &[]).unwrap()
}

/// The text of a file on the boot partition.
fn read(image: &Path, name: &str) -> Vec<u8> {
    let slice = StreamSlice::new(File::open(image).unwrap(), BOOT.start, BOOT.end).unwrap();
    // Read alone: the trait wants a writer too.
    let mut bytes = Vec::new();
    let mut boot = Vec::new();
    let mut slice = slice;
    slice.read_to_end(&mut boot).unwrap();
    let filesystem = FileSystem::new(std::io::Cursor::new(boot), FsOptions::new()).unwrap();
    filesystem.root_dir().open_file(name).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn json(image: &Path, name: &str) -> serde_json::Value {
    let text = String::from_utf8(read(image, name)).unwrap();
    serde_json::from_str(text.strip_prefix("#cloud-config\n").unwrap_or(&text)).unwrap()
}

#[test]
fn a_card_says_what_it_was_told_and_leaves_the_system_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (image, package) = (stock(&folder, &STOCK), package(&folder, 3 << 20));
    let out = folder.path().join("card.img");
    let before = fs::read(&image).unwrap();
    assert_eq!(customise(&board("raspberry-pi-5"), &image, &package, &card(), &out).unwrap(), SIZE);
    assert_eq!(fs::read(&image).unwrap(), before, "the stock image is not touched");
    let after = fs::read(&out).unwrap();
    assert!(after[..BOOT.start as usize] == before[..BOOT.start as usize]);
    assert!(after[BOOT.end as usize..] == before[BOOT.end as usize..]);

    assert_eq!(read(&out, "edge-vit.deb"), fs::read(&package).unwrap());
    assert_eq!(read(&out, "config.txt"), b"stock\n");
    let user_data = json(&out, "user-data");
    assert!(read(&out, "user-data").starts_with(b"#cloud-config\n"));
    assert_eq!(user_data["hostname"], "kitchen");
    assert_eq!(user_data["users"][0]["ssh_authorized_keys"][0], "ssh-ed25519 AAAA cook@home");
    assert_eq!(user_data["runcmd"][0][3], "/boot/firmware/edge-vit.deb");
    let configuration = user_data["write_files"][0]["content"].as_str().unwrap();
    edge_vit::cli::check_config(configuration).unwrap();
    assert!(
        configuration.contains("\ncsi = \"pi\"") && configuration.contains("\naddress = \"0.0.0.0:8080\""),
        "{configuration}"
    );
    assert_eq!(user_data["write_files"][1]["content"], "EDGE_VIT_TOKEN=secret\n");

    let network = json(&out, "network-config");
    let points = network["network"]["wifis"]["wlan0"]["access-points"].as_object().unwrap();
    let (ssid, point) = points.iter().next().unwrap();
    assert_eq!(ssid, "\"o: 'net\"\n");
    assert!(point["password"].as_str().unwrap().len() == 64);
    assert!(!after.windows(15).any(|bytes| bytes == b"ThisIsAPassword"), "the passphrase is not on the card");

    // The same card again, out of what it became: nothing grows.
    let again = folder.path().join("again.img");
    customise(&board("raspberry-pi-5"), &out, &package, &card(), &again).unwrap();
    assert_eq!(read(&again, "user-data"), read(&out, "user-data"));
    let other = Card { hostname: "hall".to_owned(), ..card() };
    customise(&board("raspberry-pi-5"), &out, &package, &other, &again).unwrap();
    assert_ne!(json(&again, "meta-data"), json(&out, "meta-data"), "another set-up is another instance");
}

/// IEEE 802.11i, annex H.4.3.
#[test]
fn the_key_of_a_network_is_the_standards() {
    let wifi = Wifi { ssid: "IEEE".to_owned(), passphrase: "password".to_owned(), country: "US".to_owned() };
    assert_eq!(wifi.key(), "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e");
}

#[test]
fn packed_images_are_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let (image, package) = (stock(&folder, &STOCK), package(&folder, 1000));
    let plain = folder.path().join("plain.img");
    customise(&board("raspberry-pi-4"), &image, &package, &card(), &plain).unwrap();
    for (name, program) in [("stock.img.xz", "xz"), ("stock.img.gz", "gzip")] {
        let packed = folder.path().join(name);
        let Ok(output) = Command::new(program).arg("--stdout").arg("-1").arg(&image).output() else {
            eprintln!("skipped: there is no {program}");
            continue;
        };
        fs::write(&packed, &output.stdout).unwrap();
        let out = folder.path().join("card.img");
        customise(&board("raspberry-pi-4"), &packed, &package, &card(), &out).unwrap();
        assert!(fs::read(&out).unwrap() == fs::read(&plain).unwrap(), "{name}");
        fs::write(&packed, &output.stdout[..output.stdout.len() / 2]).unwrap();
        let error = customise(&board("raspberry-pi-4"), &packed, &package, &card(), &out).unwrap_err();
        assert!(matches!(error, FlashError::Packed { .. }), "{error}");
    }
}

/// Debian's own reader and checker agree with what was written.
#[test]
fn other_readers_of_fat_find_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("card.img");
    customise(&board("raspberry-pi-3"), &stock(&folder, &STOCK), &package(&folder, 2 << 20), &card(), &out).unwrap();
    let boot = folder.path().join("boot.img");
    fs::write(&boot, &fs::read(&out).unwrap()[BOOT.start as usize..BOOT.end as usize]).unwrap();
    match Command::new("mtype").arg("-i").arg(&boot).arg("::user-data").output() {
        Ok(output) => assert_eq!(output.stdout, read(&out, "user-data")),
        Err(_) => eprintln!("skipped: there is no mtype (apt-get install mtools)"),
    }
    match Command::new("/usr/sbin/fsck.vfat").arg("-n").arg(&boot).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(_) => eprintln!("skipped: there is no fsck.vfat (apt-get install dosfstools)"),
    }
    let user_data = folder.path().join("user-data");
    fs::write(&user_data, read(&out, "user-data")).unwrap();
    match Command::new("cloud-init").args(["schema", "--config-file"]).arg(&user_data).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => eprintln!("skipped: there is no cloud-init (apt-get install cloud-init)"),
    }
}

#[test]
fn what_would_not_boot_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let package = package(&folder, 1000);
    let out = folder.path().join("card.img");
    let refused = |image: &Path, package: &Path, card: &Card, id: &str| {
        let error = customise(&board(id), image, package, card, &out).unwrap_err();
        assert!(!out.exists());
        error
    };
    let image = stock(&folder, &STOCK);
    let pi = "raspberry-pi-5";

    let cut = folder.path().join("cut.img");
    fs::write(&cut, &fs::read(&image).unwrap()[..30 << 20]).unwrap();
    let error = refused(&cut, &package, &card(), pi).to_string();
    assert!(error.contains("fetch it again"), "{error}");
    fs::write(&cut, b"no image").unwrap();
    assert!(matches!(refused(&cut, &package, &card(), pi), FlashError::Image { .. }));
    let big = self::package(&folder, 39 << 20);
    assert!(matches!(refused(&image, &big, &card(), pi), FlashError::Full { .. }));
    assert!(matches!(refused(&image, &image, &card(), pi), FlashError::Package { .. }));
    assert!(matches!(refused(&folder.path().join("none"), &big, &card(), pi), FlashError::Read { .. }));
    let error = refused(&image, &big, &card(), "jetson-orin-nano").to_string();
    assert!(error.contains("JetPack 6") && error.contains("SDK Manager"), "{error}");
    let error = refused(&image, &big, &Card { hostname: "-a".to_owned(), ..card() }, pi).to_string();
    assert!(error.contains("host name"), "{error}");

    let old = stock(&folder, &STOCK[..2]);
    let error = refused(&old, &self::package(&folder, 1000), &card(), pi).to_string();
    assert!(error.contains("cloud-init") && error.contains("trixie"), "{error}");
}

#[test]
fn a_jetson_is_set_up_by_a_script_that_holds_the_package() {
    let folder = tempfile::tempdir().unwrap();
    let (package, out) = (package(&folder, 1000), folder.path().join("setup.sh"));
    set_up(&board("jetson-orin-nano"), &package, &card(), &out).unwrap();
    let checked = Command::new("sh").arg("-n").arg(&out).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");

    // What the shell makes of the values, which stand before everything that acts.
    let script = fs::read_to_string(&out).unwrap();
    let (values, rest) = script.split_once("\ndie()").unwrap();
    let say = format!("{values}\nprintf '%s|' \"$ssid\" \"$ssh_key\" \"$l4t\" \"$psk\"");
    let said = Command::new("sh").arg("-c").arg(say).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let key = card().wifi.unwrap().key();
    assert_eq!(said, format!("\"o: 'net\"\n|ssh-ed25519 AAAA cook@home|36.4|{key}|"));
    assert!(!script.contains("ThisIsAPassword"));
    assert!(rest.contains("\ncsi = \"jetson\"\n") && rest.contains("\nEDGE_VIT_TOKEN=secret\n"));

    let packed = rest.split_once("<<'END_OF_PACKAGE'\n").unwrap().1.split_once("\nEND_OF_PACKAGE\n").unwrap().0;
    fs::write(folder.path().join("text"), packed).unwrap();
    let unpacked = Command::new("base64").arg("-d").arg(folder.path().join("text")).output().unwrap();
    assert_eq!(unpacked.stdout, fs::read(&package).unwrap());

    let error = set_up(&board("raspberry-pi-5"), &package, &card(), &out).unwrap_err().to_string();
    assert!(error.contains("--image"), "{error}");
    assert_eq!(fs::read_to_string(&out).unwrap(), script);
}
