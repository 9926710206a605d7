use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use tempfile::TempDir;

use super::*;
use crate::profile;

/// A file or folder of a tar archive.
#[derive(Debug, PartialEq)]
struct Packed {
    mode: u32,
    bytes: Vec<u8>,
}

fn options(folder: &TempDir, machine: u8) -> Options {
    let binary = folder.path().join("edge-vit");
    // An ELF header of 64 bits, little endian, with no sections and no segments.
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    (bytes[18], bytes[20], bytes[52]) = (machine, 1, 64);
    fs::write(&binary, bytes).unwrap();
    let model = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/fixtures/tiny.onnx"));
    Options { binary, model, version: "1.2.3".to_owned(), time: TIME }
}

fn board(id: &str) -> Profile {
    profile::find(id, &[]).unwrap()
}

/// The three members of the package, the two archives unpacked.
fn unpack(path: &Path) -> (BTreeMap<String, Packed>, BTreeMap<String, Packed>) {
    let mut archive = ar::Archive::new(fs::File::open(path).unwrap());
    let mut members = Vec::new();
    while let Some(entry) = archive.next_entry() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        members.push((String::from_utf8(entry.header().identifier().to_vec()).unwrap(), bytes));
    }
    let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["debian-binary", "control.tar.gz", "data.tar.gz"]);
    assert_eq!(members[0].1, b"2.0\n");
    let mut unpacked = members[1..].iter().map(|(_, bytes)| {
        let mut tar = tar::Archive::new(GzDecoder::new(bytes.as_slice()));
        let entries = tar.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
            assert_eq!(entry.header().mtime().unwrap(), TIME);
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let name = String::from_utf8(entry.path_bytes().to_vec()).unwrap();
            (name, Packed { mode: entry.header().mode().unwrap(), bytes })
        });
        entries.collect::<BTreeMap<_, _>>()
    });
    (unpacked.next().unwrap(), unpacked.next().unwrap())
}

#[test]
fn a_package_holds_what_its_control_files_say() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder, 0xb7);
    let path = package(&board("raspberry-pi-5"), &options, &folder.path().join("out")).unwrap();
    assert_eq!(path.file_name().unwrap(), "edge-vit-raspberry-pi-5_1.2.3_arm64.deb");
    let (control, data) = unpack(&path);

    let described = String::from_utf8(control["./control"].bytes.clone()).unwrap();
    for line in ["Package: edge-vit", "Version: 1.2.3", "Architecture: arm64", "Depends: adduser, libc6 (>= 2.36)"] {
        assert!(described.lines().any(|found| found == line), "{line} in {described}");
    }
    for path in String::from_utf8(control["./conffiles"].bytes.clone()).unwrap().lines() {
        assert!(data.contains_key(&format!(".{path}")), "{path}");
    }
    let sums = String::from_utf8(control["./md5sums"].bytes.clone()).unwrap();
    for line in sums.lines() {
        let (sum, path) = line.split_once("  ").unwrap();
        assert_eq!(
            format!("{:x}", <md5::Md5 as md5::Digest>::digest(&data[&format!("./{path}")].bytes)),
            sum,
            "{path}"
        );
    }
    for script in ["./postinst", "./prerm", "./postrm"] {
        assert_eq!(control[script].mode, 0o755);
    }

    assert_eq!(data["./usr/bin/edge-vit"], Packed { mode: 0o755, bytes: fs::read(&options.binary).unwrap() });
    assert_eq!(data["./usr/share/edge-vit/model.onnx"].bytes, fs::read(options.model.unwrap()).unwrap());
    assert_eq!(data["./etc/edge-vit/edge-vit.toml"].mode, 0o644);
    assert_eq!((data["./etc/edge-vit/"].mode, data["./etc/default/edge-vit"].mode), (0o755, 0o600));
    assert!(data.contains_key("./lib/systemd/system/edge-vit.service.d/csi.conf"));
    let configuration = String::from_utf8(data["./etc/edge-vit/edge-vit.toml"].bytes.clone()).unwrap();
    edge_vit::cli::check_config(&configuration).unwrap();
    let completions =
        String::from_utf8(data["./usr/share/bash-completion/completions/edge-vit"].bytes.clone()).unwrap();
    assert!(completions.contains("--camera") && completions.contains("check-config"), "{completions}");
    let mut page = String::new();
    GzDecoder::new(data["./usr/share/man/man1/edge-vit.1.gz"].bytes.as_slice()).read_to_string(&mut page).unwrap();
    assert!(page.contains("edge\\-vit model install") && page.contains("\\-\\-threshold"), "{page}");
}

#[test]
fn two_packages_of_the_same_are_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder, 0x3e);
    let made = |out| fs::read(package(&board("generic-x86_64"), &options, &folder.path().join(out)).unwrap()).unwrap();
    assert_eq!(made("first"), made("second"));
}

#[test]
fn what_would_not_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let sound = options(&folder, 0x3e);
    let error = package(&board("raspberry-pi-4"), &sound, &out).unwrap_err().to_string();
    assert!(error.contains("is amd64") && error.contains("arm64") && error.contains("build --board"), "{error}");

    let pc = board("generic-x86_64");
    let named = Options { version: "1.0-".to_owned(), ..sound.clone() };
    assert!(matches!(package(&pc, &named, &out), Err(PackageError::Version { .. })));
    let broken = folder.path().join("broken.onnx");
    fs::write(&broken, b"no model").unwrap();
    let broken = Options { model: Some(broken), ..sound.clone() };
    assert!(matches!(package(&pc, &broken, &out), Err(PackageError::Model { .. })));
    let missing = Options { binary: folder.path().join("nothing"), ..sound.clone() };
    assert!(matches!(package(&pc, &missing, &out), Err(PackageError::Read { .. })));
    assert!(!out.exists());

    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(package(&pc, &sound, &file), Err(PackageError::Write { .. })));
}
