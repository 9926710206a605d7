//! What was measured, in a file: one for each device, driver and set of kernels.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use edge_vit_models::file::{hex, write_atomic};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Class;
use crate::gpu::device::Gpu;
use crate::gpu::kernels::tile::{Tile, sources};

/// The version of wgpu, which translates the kernels.
const WGPU: &str = "30.0.2";

/// What the choice depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    adapter: String,
    backend: String,
    driver: String,
    wgpu: String,
    /// SHA-256 of the kernels' sources and of the tiles that are tried.
    kernels: String,
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    key: Key,
    tiles: Vec<(Class, Tile)>,
}

/// The file of one device.
pub(super) struct Cache {
    folder: PathBuf,
    key: Key,
}

impl Cache {
    /// That of `gpu`, in `folder`.
    pub(super) fn new(folder: PathBuf, gpu: &Gpu) -> Self {
        let mut kernels = Sha256::new();
        for source in sources() {
            kernels.update(source);
        }
        kernels.update(format!("{:?}", gpu.tuning.tiles(&gpu.limits)));
        let key = Key {
            adapter: gpu.info.name.clone(),
            backend: gpu.info.backend.clone(),
            driver: gpu.info.driver.clone(),
            wgpu: WGPU.to_owned(),
            kernels: hex(kernels.finalize()),
        };
        Self { folder, key }
    }

    /// The file's path: its name is a hash of what the choice depends on.
    pub(super) fn path(&self) -> PathBuf {
        let Key { adapter, backend, driver, wgpu, kernels } = &self.key;
        let hash = Sha256::digest([adapter, backend, driver, wgpu, kernels].map(String::as_str).join("\n"));
        self.folder.join(format!("tiles-{}.json", &hex(hash)[..16]))
    }

    /// What the file holds; nothing where it is not there, damaged, or of another device.
    pub(super) fn read(&self) -> BTreeMap<Class, Tile> {
        let path = self.path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
            Err(error) => {
                log::info!("{}: {error}; the device is measured anew", path.display());
                return BTreeMap::new();
            }
        };
        match serde_json::from_slice::<Contents>(&text) {
            Ok(contents) if contents.key == self.key => contents.tiles.into_iter().collect(),
            Ok(_) => {
                log::info!("{} is of another device; this one is measured anew", path.display());
                BTreeMap::new()
            }
            Err(error) => {
                log::info!("{} cannot be read ({error}); the device is measured anew", path.display());
                BTreeMap::new()
            }
        }
    }

    /// Adds the `tile` of a `class` to what the file holds by now; says in the log where that cannot be done.
    pub(super) fn write(&self, class: Class, tile: Tile) {
        let mut all = self.read();
        all.insert(class, tile);
        let contents = Contents { key: self.key.clone(), tiles: all.into_iter().collect() };
        let written = serde_json::to_vec_pretty(&contents).map_err(io::Error::other).and_then(|text| {
            fs::create_dir_all(&self.folder)?;
            write_atomic(&self.path(), &text)
        });
        if let Err(error) = written {
            log::info!("{}: {error}; what was measured is not kept", self.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_wgpu_is_the_one_that_is_built() {
        let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        assert!(
            lock.contains(&format!("name = \"wgpu\"\nversion = \"{WGPU}\"\n")),
            "wgpu is not {WGPU}: write its version here"
        );
    }
}
