//! Weights from the Hugging Face hub, or from a mirror that speaks its paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edge_vit_models::checkpoint::{self, Checkpoint};
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

use super::{FetchError, file_sha256};

/// How often a download that broke off is taken up again before the person is asked to.
const RESUMES: usize = 3;

/// A file of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File<'a> {
    /// Its path in the repository.
    pub name: &'a str,
    /// Its SHA-256, lower-case hex.
    pub sha256: &'a str,
}

/// A model repository at a fixed revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repository<'a> {
    /// `owner/name`.
    pub id: &'a str,
    /// The commit.
    pub revision: &'a str,
    /// The weights: safetensors.
    pub weights: File<'a>,
    /// The configuration of the Transformers library: JSON.
    pub config: File<'a>,
}

/// How to reach the hub.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The hub's address, without a slash at the end.
    pub endpoint: String,
    /// The folder of its cache, laid out as `huggingface_hub` lays it out.
    pub cache: PathBuf,
    /// The token to show, if any.
    pub token: Option<String>,
    /// Take what the cache holds, and ask nobody.
    pub offline: bool,
}

impl Settings {
    /// What the environment says: `HF_ENDPOINT` (or the public hub), `HF_HOME` (or `~/.cache/huggingface`), `HF_TOKEN`
    /// (or the token file that a login left in the cache), `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        let variable = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
        let cache = Cache::from_env();
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: variable("HF_TOKEN").or_else(|| cache.token()),
            cache: cache.path().clone(),
            offline: variable("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
        }
    }
}

/// As `huggingface_hub` reads its variables.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
}

impl Default for Settings {
    fn default() -> Self {
        Self::from_env()
    }
}

/// What is needed of the Transformers library's `config.json`.
#[derive(Debug, Deserialize)]
struct Config {
    num_attention_heads: usize,
    layer_norm_eps: Option<f64>,
}

/// The repository's weights, and what the kept file says about their origin.
///
/// A file that is in the hub's cache already is taken from there without the network.
///
/// # Errors
/// When the hub cannot be reached or refuses, when a file has another SHA-256, or when it is no checkpoint.
pub fn fetch(
    repository: &Repository<'_>,
    settings: &Settings,
) -> Result<(Checkpoint, BTreeMap<String, String>), FetchError> {
    let config_path = file(repository, &repository.config, settings)?;
    let config = std::fs::read(&config_path).map_err(|source| FetchError::io(&config_path, source))?;
    let config: Config = serde_json::from_slice(&config)
        .map_err(|error| FetchError::Config { file: config_path, reason: error.to_string() })?;
    let checkpoint = checkpoint::read(&file(repository, &repository.weights, settings)?)?;

    let source = format!("Hugging Face {} at {}, {}", repository.id, repository.revision, repository.weights.name);
    let mut origin = BTreeMap::from([
        ("source".to_owned(), source),
        ("num_heads".to_owned(), config.num_attention_heads.to_string()),
    ]);
    origin.extend(config.layer_norm_eps.map(|eps| ("layer_norm_eps".to_owned(), eps.to_string())));
    Ok((checkpoint, origin))
}

/// The path of a file in the cache, downloaded if need be, its hash checked.
fn file(repository: &Repository<'_>, file: &File<'_>, settings: &Settings) -> Result<PathBuf, FetchError> {
    let repo = Repo::with_revision(repository.id.to_owned(), RepoType::Model, repository.revision.to_owned());
    let cache = Cache::new(settings.cache.clone()).repo(repo.clone());
    let cached = cache.pointer_path(repository.revision).join(file.name);
    let path = if cached.exists() { cached } else { download(repo, file.name, settings)? };

    let got = file_sha256(&path).map_err(|source| FetchError::io(&path, source))?;
    if got != file.sha256 {
        forget(&path);
        let file_name = format!("{} of {}", file.name, repository.id);
        return Err(FetchError::WrongHash { file: file_name, expected: file.sha256.to_owned(), got });
    }
    Ok(path)
}

/// The path of the file `name` in the cache, downloaded.
pub(super) fn download(repo: Repo, name: &str, settings: &Settings) -> Result<PathBuf, FetchError> {
    if settings.offline {
        return Err(FetchError::Offline { file: format!("{name} of {}", repo.url()) });
    }
    let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
        .with_endpoint(settings.endpoint.clone())
        .with_token(settings.token.clone())
        .with_user_agent("edge-vit", env!("CARGO_PKG_VERSION"))
        .build()
        .map_err(|error| explain(error, &settings.endpoint, settings))?;
    let api: ApiRepo = api.repo(repo);
    let url = api.url(name);
    let mut resumes = 0;
    loop {
        match api.download(name).map_err(|error| explain(error, &url, settings)) {
            Err(FetchError::Truncated { reason, .. }) if resumes < RESUMES => {
                resumes += 1;
                log::warn!("the download of {url} broke off ({reason}), going on");
            }
            result => return result,
        }
    }
}

/// Takes a file out of the cache, link and blob, so that the next attempt downloads it.
fn forget(path: &Path) {
    if let Ok(blob) = path.canonicalize() {
        for path in [path, &blob] {
            if let Err(error) = std::fs::remove_file(path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                log::warn!("{} could not be removed: {error}", path.display());
            }
        }
    }
}

/// The remedy for what the hub's client ran into.
fn explain(error: ApiError, url: &str, settings: &Settings) -> FetchError {
    let url = url.to_owned();
    match error {
        ApiError::RequestError(error) => match *error {
            ureq::Error::StatusCode(status @ (401 | 403)) => FetchError::Unauthorized { url, status },
            ureq::Error::StatusCode(404) => FetchError::NotFound { url },
            error @ (ureq::Error::Io(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::BadUri(_)
            | ureq::Error::Timeout(_)) => {
                FetchError::Unreachable { endpoint: settings.endpoint.clone(), reason: error.to_string() }
            }
            error => FetchError::Refused { url, reason: error.to_string() },
        },
        ApiError::IoError(error) => match error.kind() {
            std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::TimedOut
            | std::io::ErrorKind::Other => FetchError::Truncated { url, reason: error.to_string() },
            _ => FetchError::io(&settings.cache, error),
        },
        error => FetchError::Refused { url, reason: error.to_string() },
    }
}
