use std::process::{Command, Stdio};
use std::thread;

use super::*;
use crate::signature::SignatureError;
use crate::signature::tests::{pair, sign};

/// A model file with golden cases; each `version` has a content of its own.
fn model(version: u8) -> Vec<u8> {
    let mut bytes = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny.onnx")).unwrap();
    // One more entry of `metadata_props`, field 14: messages of protobuf are joined by joining their bytes.
    bytes.extend([0x72, 6, 0x0a, 1, b'v', 0x12, 1, b'0' + version]);
    bytes
}

/// A model whose golden cases come out differently.
fn broken() -> Vec<u8> {
    let bytes = model(9);
    let at = bytes.windows(5).position(|window| window == b"\"rgb\"").unwrap();
    [&bytes[..at], b"\"bgr\"", &bytes[at + 5..]].concat()
}

/// A store, and a folder to install from.
struct Bench {
    folder: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        Self { folder, store }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn install(&self, version: u8) -> Result<Installed, StoreError> {
        self.store.install(&self.file(&format!("v{version}.onnx"), &model(version)), &[], false)
    }

    /// Installs a version that proves itself.
    fn good(&self, version: u8) -> String {
        let installed = self.install(version).unwrap();
        self.store.healthy(&installed.id).unwrap();
        installed.id
    }

    fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.store.list().unwrap().into_iter().map(|entry| entry.id).collect();
        ids.sort();
        ids
    }

    /// Names of all files of the store, models' folder included.
    fn files(&self) -> Vec<String> {
        let names = |folder: &Path| -> Vec<String> {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let mut files = [names(&self.store.folder), names(&self.store.models())].concat();
        files.sort();
        files
    }
}

#[test]
fn a_model_is_installed_loaded_and_seen_as_a_change() {
    let bench = Bench::new();
    assert!(matches!(bench.store.load(&[]), Err(StoreError::Empty { .. })));
    assert!(matches!(bench.store.starting(), Err(StoreError::Empty { .. })));
    let first = bench.install(1).unwrap();
    assert_eq!(first.id, format!("{}-v1", digest(&model(1))));
    assert_eq!((first.replaced, first.path.is_file()), (None, true));
    let loaded = bench.store.load(&[]).unwrap();
    assert_eq!((&loaded.id, &loaded.instead_of), (&first.id, &None));
    assert!(!bench.store.changed(&first.id));

    let second = bench.install(2).unwrap();
    assert_eq!(second.replaced.as_ref(), Some(&first.id));
    assert!(bench.store.changed(&first.id) && !bench.store.changed(&second.id));
    assert_eq!(bench.store.load(&[]).unwrap().id, second.id);
    let entries = bench.store.list().unwrap();
    assert_eq!(entries.iter().filter(|entry| entry.current).map(|entry| &entry.id).collect::<Vec<_>>(), [&second.id]);
    assert!(entries.iter().all(|entry| !entry.signed && !entry.good && !entry.given_up && entry.bytes > 0));
}

#[test]
fn installing_the_same_again_changes_nothing() {
    let bench = Bench::new();
    let first = bench.install(1).unwrap();
    let before = bench.files();
    let again = bench.store.install(&bench.file("another name.onnx", &model(1)), &[], false).unwrap();
    assert_eq!((again.id, again.replaced), (first.id, None));
    assert_eq!(bench.files(), before);
    let named = bench.store.install(&bench.file("größe 2 (neu)", &model(2)), &[], false).unwrap();
    assert!(named.id.ends_with("-gr__e_2__neu_"), "{}", named.id);
    assert_eq!(bench.store.load(&[]).unwrap().id, named.id);
}

#[test]
fn what_is_no_sound_model_leaves_the_one_in_use() {
    let bench = Bench::new();
    let good = bench.good(1);
    let before = bench.files();
    let whole = model(2);
    let install = |bytes: &[u8]| bench.store.install(&bench.file("new.onnx", bytes), &[], false).unwrap_err();
    assert!(matches!(install(&whole[..whole.len() / 2]), StoreError::Model { .. }));
    assert!(matches!(install(b""), StoreError::Model { .. }));
    let error = install(&broken());
    assert!(matches!(error, StoreError::SelfTest { failed: 1.., .. }), "{error}");
    let absent = bench.store.install(Path::new("absent.onnx"), &[], false);
    assert!(matches!(absent, Err(StoreError::Read { .. })));
    assert_eq!((bench.files(), bench.store.current().unwrap()), (before, good));
}

#[test]
fn a_failed_copy_leaves_the_model_in_use_and_no_litter() {
    let bench = Bench::new();
    let good = bench.good(1);
    // A folder in the way makes the rename fail after the bytes were written, as late as a full disk can.
    let blocked = bench.store.path(&format!("{}-v2", digest(&model(2))));
    fs::create_dir_all(blocked.join("inside")).unwrap();
    let before = bench.files();
    assert!(matches!(bench.install(2), Err(StoreError::Write { .. })));
    assert_eq!((bench.files(), bench.store.current().unwrap()), (before, good));
}

#[test]
fn a_process_that_was_killed_between_steps_leaves_the_old_model_or_the_new_one() {
    let bench = Bench::new();
    let old = bench.good(1);
    // Killed while copying, and while making the link.
    fs::write(bench.store.models().join(".new-a1b2c3"), &model(2)[..50]).unwrap();
    std::os::unix::fs::symlink("models/x", bench.store.folder.join(".new-d4e5f6")).unwrap();
    assert_eq!(bench.store.load(&[]).unwrap().id, old);
    assert_eq!(bench.ids(), std::slice::from_ref(&old));
    // Killed between copying and switching: the copy is used, and what was left is swept away.
    let copy = format!("{}-v2", digest(&model(2)));
    fs::write(bench.store.path(&copy), model(2)).unwrap();
    assert_eq!(bench.store.load(&[]).unwrap().id, old);
    assert_eq!(bench.install(2).unwrap().id, copy);
    assert!(bench.files().iter().all(|name| !name.starts_with(".new-")), "{:?}", bench.files());
    // Killed between returning to the last good one and writing that down.
    bench.store.starting().unwrap();
    bench.store.starting().unwrap();
    bench.store.switch(&old).unwrap();
    assert_eq!(bench.store.starting().unwrap(), None);
    assert_eq!(bench.store.load(&[]).unwrap().id, old);
}

#[test]
fn a_model_that_is_started_twice_without_proving_itself_is_given_up() {
    let bench = Bench::new();
    let good = bench.good(1);
    let bad = bench.install(2).unwrap().id;
    assert_eq!(bench.store.starting().unwrap(), None);
    assert_eq!(bench.store.starting().unwrap(), None);
    let returned = Returned { from: bad.clone(), to: good.clone() };
    assert_eq!(bench.store.starting().unwrap(), Some(returned));
    assert_eq!(bench.store.current().unwrap(), good);
    // The good one may fail as often as it likes: there is nothing better.
    assert!((0..5).all(|_| bench.store.starting().unwrap().is_none()));
    // What was given up comes back by force alone, and under no other name.
    assert!(matches!(bench.install(2), Err(StoreError::GivenUp { id }) if id == bad));
    let renamed = bench.file("other.onnx", &model(2));
    assert!(matches!(bench.store.install(&renamed, &[], false), Err(StoreError::GivenUp { .. })));
    assert_eq!(bench.store.install(&renamed, &[], true).unwrap().id, bad);
    assert!((0..2).all(|_| bench.store.starting().unwrap().is_none()));
    bench.store.healthy(&bad).unwrap();
    assert!((0..5).all(|_| bench.store.starting().unwrap().is_none()));
}

#[test]
fn a_model_without_a_better_one_is_started_as_often_as_it_takes() {
    let bench = Bench::new();
    let only = bench.install(1).unwrap().id;
    assert!((0..5).all(|_| bench.store.starting().unwrap().is_none()));
    assert_eq!(bench.store.current().unwrap(), only);
    assert!(matches!(bench.store.rollback(), Err(StoreError::NothingToReturnTo { .. })));
}

#[test]
fn an_end_by_request_does_not_count() {
    let bench = Bench::new();
    bench.good(1);
    let new = bench.install(2).unwrap().id;
    for _ in 0..5 {
        assert_eq!(bench.store.starting().unwrap(), None);
        bench.store.stopping().unwrap();
    }
    bench.store.stopping().unwrap();
    assert_eq!(bench.store.current().unwrap(), new);
}

#[test]
fn a_model_that_was_changed_on_the_disk_is_given_up() {
    let bench = Bench::new();
    let good = bench.good(1);
    let bad = bench.install(2).unwrap();
    for bytes in [&model(3)[..], &model(2)[..100], b""] {
        fs::write(&bad.path, bytes).unwrap();
        bench.store.switch(&bad.id).unwrap();
        let loaded = bench.store.load(&[]).unwrap();
        let (from, reason) = loaded.instead_of.unwrap();
        assert_eq!((loaded.id.as_str(), from.as_str()), (good.as_str(), bad.id.as_str()));
        assert!(reason.contains("was changed after it was installed"), "{reason}");
        assert_eq!(bench.store.current().unwrap(), good);
    }
    // Installing it again by force makes it whole.
    bench.store.install(&bench.file("v2.onnx", &model(2)), &[], true).unwrap();
    assert_eq!(bench.store.load(&[]).unwrap().id, bad.id);
    // Without another good one the reason is the error, and nothing is switched.
    fs::write(bench.store.path(&good), b"").unwrap();
    fs::write(&bad.path, b"").unwrap();
    assert!(matches!(bench.store.load(&[]), Err(StoreError::Changed { path, .. }) if path == bad.path));
    assert_eq!(bench.store.current().unwrap(), bad.id);
    assert!(matches!(bench.store.rollback(), Err(StoreError::Changed { .. })));
    assert_eq!(bench.store.current().unwrap(), bad.id);
}

#[test]
fn a_model_that_computes_something_else_here_is_given_up() {
    let bench = Bench::new();
    let good = bench.good(1);
    // It came with another program, whose self-test it passed.
    let id = format!("{}-other", digest(&broken()));
    fs::write(bench.store.path(&id), broken()).unwrap();
    bench.store.switch(&id).unwrap();
    let loaded = bench.store.load(&[]).unwrap();
    assert_eq!(loaded.id, good);
    assert!(loaded.instead_of.unwrap().1.contains("fails its self-test"));
    assert!(bench.store.list().unwrap().iter().any(|entry| entry.id == id && entry.given_up));
}

#[test]
fn with_keys_only_what_they_signed_is_installed_and_loaded() {
    let bench = Bench::new();
    let (owner, key) = pair();
    let (stranger, other) = pair();
    let keys = [key];
    let file = bench.file("signed.onnx", &model(1));
    let install = || bench.store.install(&file, &keys, false);
    let beside = signature::signature_path(&file);
    let refused = |result: Result<Installed, StoreError>| match result {
        Err(StoreError::Signature { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(install()), SignatureError::Missing { .. }));
    fs::write(&beside, sign(&stranger, &model(1))).unwrap();
    assert!(matches!(refused(install()), SignatureError::OtherKey { .. }));
    fs::write(&beside, sign(&owner, &model(2))).unwrap();
    assert!(matches!(refused(install()), SignatureError::Wrong { .. }));
    assert!(bench.ids().is_empty());
    fs::write(&beside, sign(&owner, &model(1))).unwrap();
    let signed = install().unwrap();
    assert_eq!(bench.store.load(&keys).unwrap().id, signed.id);
    assert!(bench.store.list().unwrap()[0].signed);
    bench.store.healthy(&signed.id).unwrap();

    // A program that asks for another key loads nothing and changes nothing.
    assert!(matches!(bench.store.load(&[other]), Err(StoreError::Signature { .. })));
    assert_eq!(bench.store.current().unwrap(), signed.id);
    // One that was installed without a signature gives way to the good one.
    let unsigned = bench.install(2).unwrap().id;
    let loaded = bench.store.load(&keys).unwrap();
    assert_eq!((loaded.id, loaded.instead_of.unwrap().0), (signed.id, unsigned));
}

#[test]
fn rolling_back_returns_to_the_last_good_one() {
    let bench = Bench::new();
    let (first, second, third) = (bench.good(1), bench.good(2), bench.good(3));
    let returned = bench.store.rollback().unwrap();
    assert_eq!(returned, Returned { from: third.clone(), to: second.clone() });
    assert!(matches!(bench.install(3), Err(StoreError::GivenUp { .. })));
    assert_eq!(bench.store.rollback().unwrap(), Returned { from: second, to: first });
    assert!(matches!(bench.store.rollback(), Err(StoreError::NothingToReturnTo { .. })));
}

#[test]
fn the_oldest_models_are_removed_but_never_the_last_good_one() {
    let bench = Bench::new();
    let good = bench.good(1);
    // Times of files are as coarse as the disk's clock: they are set apart.
    let set_back = |id: &str, seconds: u64| {
        let file = fs::File::options().append(true).open(bench.store.path(id)).unwrap();
        file.set_modified(SystemTime::now() - std::time::Duration::from_secs(seconds)).unwrap();
    };
    set_back(&good, 1000);
    let signed = bench.store.path(&good);
    fs::write(signature::signature_path(&signed), b"kept with it").unwrap();
    let ids: Vec<String> = (2..=5u8)
        .map(|version| {
            let id = bench.install(version).unwrap().id;
            set_back(&id, 900 - 100 * u64::from(version));
            id
        })
        .collect();
    let mut expected = [good.clone(), ids[2].clone(), ids[3].clone()];
    expected.sort();
    assert_eq!(bench.ids(), expected);
    // With room for one alone, the one in use and the last good one stay.
    let store = bench.store.clone().keep(1);
    let newest = store.install(&bench.file("v6.onnx", &model(6)), &[], false).unwrap().id;
    let mut expected = [good, newest];
    expected.sort();
    assert_eq!(bench.ids(), expected);
    assert!(bench.files().iter().any(|name| name.ends_with(".minisig")));
}

#[test]
fn a_damaged_state_or_a_strange_link_does_not_stop_the_program() {
    let bench = Bench::new();
    let id = bench.good(1);
    for text in ["", "{\"good\": 3}", "\u{0}"] {
        fs::write(bench.store.state(), text).unwrap();
        assert_eq!(bench.store.starting().unwrap(), None);
        assert_eq!(bench.store.load(&[]).unwrap().id, id);
    }
    for target in ["/etc/passwd", "models/../models/x.onnx", "models/short-x.onnx", "models"] {
        disk::link(&bench.store.link(), Path::new(target)).unwrap();
        let error = bench.store.load(&[]).unwrap_err();
        assert!(matches!(error, StoreError::Foreign { .. }), "{target}: {error}");
        assert!(!bench.store.changed(&id));
    }
    assert_eq!(bench.install(1).unwrap().id, id);
    assert_eq!(bench.store.load(&[]).unwrap().id, id);
}

#[test]
fn many_at_once_leave_one_whole_model_in_use() {
    let bench = Bench::new();
    bench.good(0);
    thread::scope(|scope| {
        for version in 1..=6u8 {
            let bench = &bench;
            scope.spawn(move || {
                let id = bench.install(version).unwrap().id;
                bench.store.healthy(&id).unwrap();
                bench.store.starting().unwrap();
                // Another may have removed what was current when the link was read.
                let _ = bench.store.load(&[]);
            });
        }
    });
    let loaded = bench.store.load(&[]).unwrap();
    assert_eq!(loaded.id, bench.store.current().unwrap());
    assert!(bench.files().iter().all(|name| !name.starts_with(".new-")));
    let state = State::read(&bench.store.state()).unwrap();
    assert!(state.good.contains(&loaded.id), "{state:?}");
}

#[test]
fn a_lock_ends_with_its_process() {
    let bench = Bench::new();
    bench.good(1);
    let lock = bench.store.folder.join("lock");
    let held = Command::new("flock")
        .arg("--no-fork")
        .arg(&lock)
        .args(["sh", "-c", "echo held; exec sleep 600"])
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = held else {
        println!("skipped: there is no flock(1)");
        return;
    };
    let mut line = [0; 5];
    io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    assert!(matches!(fs::File::open(&lock).unwrap().try_lock(), Err(fs::TryLockError::WouldBlock)));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(bench.store.starting().unwrap(), None);
}
