//! A model pushed through a real sshd of this machine: taken, proved, returned from, refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use edge_vit::store::Store;
use edge_vit_targets::push::{Options, PushError, Pushed, push};
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";

/// A board: a server of its own with a folder of models.
struct Board {
    folder: TempDir,
    port: u16,
    server: Child,
}

impl Board {
    /// A board whose programs are found in `path`. `None`, said on stderr, where there is no sshd.
    fn start(path: &str) -> Option<Self> {
        if !Path::new(SSHD).exists() {
            eprintln!("skipped: {SSHD} is not there (apt-get install openssh-server)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        for key in ["host", "user"] {
            let arguments = ["-q", "-t", "ed25519", "-N", "", "-f"];
            let made = Command::new("ssh-keygen").args(arguments).arg(folder.path().join(key)).status().unwrap();
            assert!(made.success());
        }
        // Started by root, it wants this folder, which its service would make.
        if let Err(error) = fs::create_dir_all("/run/sshd") {
            eprintln!("/run/sshd: {error}");
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let inside = folder.path().display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {inside}/host\nAuthorizedKeysFile {inside}/user.pub\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\nSetEnv PATH={path}\n"
        );
        fs::write(folder.path().join("config"), config).unwrap();
        let mut server = Command::new(SSHD);
        let server = server.arg("-D").arg("-f").arg(folder.path().join("config")).stdin(Stdio::null()).spawn().unwrap();
        let board = Self { folder, port, server };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        Some(board)
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    fn options(&self) -> Options {
        let inside = self.folder.path().display();
        let quiet = "-o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR";
        Options {
            ssh: format!("ssh -F none -p {} -i {inside}/user -o UserKnownHostsFile={inside}/known {quiet}", self.port),
            store: self.store().display().to_string(),
            ..Options::default()
        }
    }

    /// Pushes `model`; `taken` acts as the program that runs on the board.
    fn push(&self, model: &Path, taken: impl FnOnce(&Store, &str)) -> Result<Pushed, PushError> {
        let store = Store::open(self.store()).unwrap();
        push("127.0.0.1", model, &self.options(), |id| taken(&store, id))
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

/// Where the programs of this build lie, before those of the system.
fn path_with_edge_vit() -> String {
    let deps = std::env::current_exe().unwrap();
    let built = deps.parent().and_then(Path::parent).unwrap();
    assert!(built.join("edge-vit").exists(), "build the workspace first: cargo build --workspace");
    format!("{}:/usr/bin:/bin", built.display())
}

/// A model file whose content is its version's own.
fn model(folder: &Path, version: u8) -> PathBuf {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/fixtures/tiny.onnx");
    let mut bytes = fs::read(tiny).unwrap();
    // One more entry of `metadata_props`, field 14: messages of protobuf are joined by joining their bytes.
    bytes.extend([0x72, 6, 0x0a, 1, b'v', 0x12, 1, b'0' + version]);
    let path = folder.join(format!("version {version}.onnx"));
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_board_takes_a_model_and_says_what_became_of_it() {
    let Some(board) = Board::start(&path_with_edge_vit()) else { return };
    let folder = tempfile::tempdir().unwrap();
    Store::open(board.store()).unwrap();

    let prove = |store: &Store, id: &str| store.healthy(id).unwrap();
    fs::write(folder.path().join("version 1.onnx.minisig"), "its signature").unwrap();
    let first = board.push(&model(folder.path(), 1), prove).unwrap();
    assert!(first.proved && first.id.ends_with("-version_1"), "{first:?}");
    let signature = board.store().join("models").join(format!("{}.onnx.minisig", first.id));
    assert_eq!(fs::read_to_string(signature).unwrap(), "its signature");

    let give_up = |store: &Store, _: &str| assert_eq!(store.rollback().unwrap().to, first.id);
    let error = board.push(&model(folder.path(), 2), give_up).unwrap_err();
    assert!(matches!(&error, PushError::GivenUp { to, .. } if *to == first.id), "{error}");

    let error = board.push(&model(folder.path(), 2), prove).unwrap_err();
    assert!(matches!(&error, PushError::Refused { reason, .. } if reason.contains("with force")), "{error}");
    let patience = Some(Duration::from_secs(1));
    let forced = Options { force: true, patience, ..board.options() };
    let pushed = push("127.0.0.1", &model(folder.path(), 2), &forced, |_| ()).unwrap();
    assert!(!pushed.proved, "nobody has said so");
    assert_eq!(Store::open(board.store()).unwrap().current().unwrap(), pushed.id);
}

#[test]
fn what_cannot_be_pushed_is_told_and_changes_nothing() {
    let Some(board) = Board::start("/usr/bin:/bin") else { return };
    let folder = tempfile::tempdir().unwrap();
    let sound = model(folder.path(), 1);

    let error = board.push(&sound, |_, _| panic!("taken")).unwrap_err();
    assert!(error.to_string().contains("no edge-vit on this board"), "{error}");

    let cut = folder.path().join("cut.onnx");
    fs::write(&cut, &fs::read(&sound).unwrap()[..500]).unwrap();
    let error = board.push(&cut, |_, _| panic!("taken")).unwrap_err();
    assert!(matches!(error, PushError::Model { .. }), "{error}");

    let error = board.push(Path::new("model.safetensors"), |_, _| panic!("taken")).unwrap_err();
    assert!(matches!(error, PushError::Name { .. }), "{error}");

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Options { ssh: format!("ssh -F none -o BatchMode=yes -p {closed}"), ..board.options() };
    let error = push("127.0.0.1", &sound, &nobody, |_| panic!("taken")).unwrap_err();
    assert!(matches!(error, PushError::Unreachable { .. }), "{error}");

    let nothing = Options { ssh: "/nowhere/ssh".to_owned(), ..board.options() };
    let error = push("127.0.0.1", &sound, &nothing, |_| panic!("taken")).unwrap_err();
    assert!(matches!(error, PushError::Ssh { .. }), "{error}");
    assert!(Store::open(board.store()).unwrap().list().unwrap().is_empty());
}
