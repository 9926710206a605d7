//! The C interface from C: its header, the example, every kind of misuse, and what valgrind says of both.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use edge_vit::{Classifier, open_picture};
use tempfile::TempDir;

/// What a Rust library for C asks of the system, as `rustc --print native-static-libs` says on Linux.
const SYSTEM_LIBRARIES: [&str; 6] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];

fn runtime(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime").join(path)
}

fn fixture(name: &str) -> PathBuf {
    runtime("tests/fixtures").join(name)
}

/// The archive that the example `edge_vit_c` of this package is, beside the folder of the tests' programs.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let library = program.parent().unwrap().with_file_name("examples").join("libedge_vit_c.a");
    assert!(library.is_file(), "{} is not there: build with `cargo test --workspace`", library.display());
    library
}

/// Compiles with every warning as an error.
fn compile(compiler: &str, arguments: &[&OsStr]) {
    let output = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .arg("-I")
        .arg(runtime("include"))
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}; scripts/setup installs it"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A C program with the library in it, and the photo of the fixtures as rows of RGB.
struct Built {
    folder: TempDir,
    program: PathBuf,
    frame: PathBuf,
    size: [String; 2],
}

impl Built {
    fn new(source: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let library = library();
        let mut arguments: Vec<&OsStr> = ["-std=c11", "-g", "-o"].map(OsStr::new).to_vec();
        arguments.extend([program.as_os_str(), source.as_os_str(), library.as_os_str()]);
        arguments.extend(SYSTEM_LIBRARIES.map(OsStr::new));
        compile("cc", &arguments);
        let photo = open_picture(fixture("photo.png")).unwrap();
        let frame = folder.path().join("photo.rgb");
        std::fs::write(&frame, photo.as_raw()).unwrap();
        Self { program, frame, size: [photo.width(), photo.height()].map(|side| side.to_string()), folder }
    }

    /// The program under valgrind: read errors, uninitialised values and leaks of any size fail it.
    fn valgrind(&self) -> Option<Command> {
        let mut command = Command::new("valgrind");
        command.args(["--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect"]);
        command.args(["--error-exitcode=99", "--"]).arg(&self.program).current_dir(self.folder.path());
        let there = Command::new("valgrind").arg("--version").output().is_ok();
        if !there {
            eprintln!("skipped: valgrind is not installed");
        }
        there.then_some(command)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path());
        command
    }
}

#[track_caller]
fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn the_header_is_what_the_code_says() {
    let config = cbindgen::Config::from_file(runtime("cbindgen.toml")).unwrap();
    // The modules of the folder are found from its first.
    let builder = cbindgen::Builder::new().with_config(config).with_src(runtime("src/capi/mod.rs"));
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let path = runtime("include/edge_vit.h");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        String::from_utf8(made).unwrap(),
        kept,
        "runtime/include/edge_vit.h is not what the code says: run this test with UPDATE_SNAPSHOTS=1"
    );
}

#[test]
fn the_header_is_c_and_cpp() {
    let header = runtime("include/edge_vit.h");
    for (compiler, language, standard) in [("cc", "c", "-std=c11"), ("c++", "c++", "-std=c++11")] {
        let arguments = [standard, "-fsyntax-only", "-x", language].map(OsStr::new);
        compile(compiler, &[&arguments[..], &[header.as_os_str()]].concat());
    }
}

#[test]
fn the_example_gives_the_scores_of_the_rust_interface() {
    let built = Built::new(&runtime("examples/c/classify.c"));
    let arguments = [fixture("tiny.onnx"), built.frame.clone()];
    let output = succeed(built.command().args(&arguments).args(&built.size));
    let classifier = Classifier::open(fixture("tiny.onnx")).unwrap();
    let photo = open_picture(fixture("photo.png")).unwrap();
    let mut predictions = classifier.classify(&photo).unwrap();
    predictions.sort_by_key(|prediction| prediction.index);
    let expected: String = predictions.iter().map(|p| format!("{:.6} {}\n", p.score, p.label)).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);

    if let Some(mut valgrind) = built.valgrind() {
        let under = succeed(valgrind.args(&arguments).args(&built.size));
        assert_eq!(String::from_utf8(under.stderr).unwrap(), "", "what valgrind found");
    }
}

#[test]
fn the_example_says_what_is_wrong() {
    let built = Built::new(&runtime("examples/c/classify.c"));
    assert_eq!(built.command().output().unwrap().status.code(), Some(2));
    let refused = |model: &Path, size: [&str; 2]| {
        let output = built.command().arg(model).arg(&built.frame).args(size).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        String::from_utf8(output.stderr).unwrap()
    };
    let [width, height] = built.size.each_ref().map(String::as_str);
    assert!(refused(Path::new("absent.onnx"), [width, height]).contains("absent.onnx"));
    assert!(refused(&fixture("photo.png"), [width, height]).contains("not an ONNX model"));
    assert!(refused(&fixture("plain.onnx"), [width, height]).contains("edge-vit-tools fold"));
    assert!(refused(&fixture("tiny.onnx"), [width, "9000"]).contains("9000"));
}

#[test]
fn misuse_is_answered_and_not_suffered() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c_interface/misuse.c");
    let built = Built::new(&source);
    let arguments = [fixture("tiny.onnx"), fixture("photo.png"), built.frame.clone()];
    succeed(built.command().args(&arguments).args(&built.size));
    if let Some(mut valgrind) = built.valgrind() {
        succeed(valgrind.args(&arguments).args(&built.size));
    }
}
