//! Which tile a product is cut into on this device: measured once for each class of products, and kept for later runs.
//!
//! No bit of a result depends on it: only tiles that sum up in one order are compared, and one that does not give the bits of
//! the rule's own tile on the product that is measured is passed over. A run may therefore be resumed with or without what
//! was measured before.

mod cache;
mod measure;

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use edge_vit_models::file::cache_folder;
use serde::{Deserialize, Serialize};

use super::device::{Gpu, lock};
use super::kernels::matmul::Kind;
use super::kernels::tile::Tile;
use cache::Cache;

/// Turns measuring off where it is `off`: the rule's tiles are taken.
const SWITCH: &str = "EDGE_VIT_AUTOTUNE";
/// Multiply-adds below which handing a product to the device takes as long as the product.
const WORTH: usize = 1 << 24;

/// Products that are taken to be alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Class {
    /// m, n, k and the chunks of k, each rounded up to a power of two.
    size: [usize; 4],
    /// Of A and of B.
    transposed: [bool; 2],
    /// Whether a bias is added, and whether another matrix is.
    added: [bool; 2],
    half: bool,
}

impl Class {
    fn of(kind: &Kind) -> Self {
        let Kind { m, n, k, chunks, a_transposed, b_transposed, bias, addend, half } = *kind;
        Self {
            size: [m, n, k, chunks].map(usize::next_power_of_two),
            transposed: [a_transposed, b_transposed],
            added: [bias, addend],
            half,
        }
    }
}

/// The tiles that were chosen for a device.
pub(crate) struct Autotune {
    /// Whether anything is measured.
    is_on: bool,
    tiles: Mutex<BTreeMap<Class, Tile>>,
    /// Where they are kept; nowhere else than in memory where there is none.
    cache: Option<Cache>,
}

impl Autotune {
    /// Takes the rule's tiles and measures nothing.
    pub(crate) fn off() -> Self {
        Self { is_on: false, tiles: Mutex::default(), cache: None }
    }

    /// Measures what was not measured on `gpu` before, unless the environment forbids it; keeps it in the user's cache folder.
    pub(crate) fn of_environment(gpu: &Gpu) -> Self {
        match env::var(SWITCH) {
            Ok(value) if value == "off" => return Self::off(),
            Ok(value) => log::warn!("{SWITCH} is `{value}`; `off` alone has a meaning"),
            Err(_) => {}
        }
        Self::kept_in(gpu, cache_folder().map(|folder| folder.join("gpu")))
    }

    /// As [`Autotune::of_environment`], in `folder`.
    pub(super) fn kept_in(gpu: &Gpu, folder: Option<PathBuf>) -> Self {
        let cache = folder.map(|folder| Cache::new(folder, gpu));
        let known = cache.as_ref().map(Cache::read).unwrap_or_default();
        let usable = gpu.tuning.tiles(&gpu.limits);
        let tiles = known.into_iter().filter(|(_, tile)| usable.contains(tile)).collect();
        Self { is_on: true, tiles: Mutex::new(tiles), cache }
    }

    /// The tile for a product of this `kind` on `gpu`, which has to have this; measured where its class is new, which waits for
    /// what the device has been handed.
    pub(crate) fn tile(&self, gpu: &Arc<Gpu>, kind: &Kind) -> Tile {
        let rule = gpu.tuning.tile(kind);
        let work = kind.m.saturating_mul(kind.n).saturating_mul(kind.k);
        if !self.is_on || work < WORTH {
            return rule;
        }
        let class = Class::of(kind);
        if let Some(&tile) = lock(&self.tiles).get(&class) {
            return tile;
        }
        let measured = measure::fastest(gpu, kind, rule);
        let tile = *measured.as_ref().unwrap_or(&rule);
        lock(&self.tiles).insert(class, tile);
        match (measured, &self.cache) {
            (Ok(_), Some(cache)) => cache.write(class, tile),
            (Ok(_), None) => {}
            // A device that is full now need not be so in the next run.
            (Err(error), _) => log::info!("{kind:?} could not be measured ({error}); it is cut by rule"),
        }
        tile
    }
}

#[cfg(test)]
mod tests;
