use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;
use crate::gpu::device::adapters;

/// Large enough to be measured, small enough for software.
const KIND: Kind = Kind {
    m: 515,
    n: 260,
    k: 130,
    chunks: 1,
    a_transposed: false,
    b_transposed: true,
    bias: true,
    addend: false,
    half: false,
};

/// The first adapter, with what was measured kept in `folder`.
fn open(folder: &Path) -> Option<Arc<Gpu>> {
    if adapters().is_empty() {
        eprintln!("skipped: there is no graphics adapter on this machine");
        return None;
    }
    let mut gpu = Gpu::open(None, |limits| limits).unwrap();
    gpu.autotune = Autotune::kept_in(&gpu, Some(folder.to_owned()));
    Some(Arc::new(gpu))
}

fn file(folder: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn known(gpu: &Gpu) -> BTreeMap<Class, Tile> {
    lock(&gpu.autotune.tiles).clone()
}

/// Another tile than the rule's for [`KIND`].
fn another(gpu: &Gpu) -> Tile {
    let rule = gpu.tuning.tile(&KIND);
    gpu.tuning.tiles(&gpu.limits).into_iter().find(|tile| *tile != rule).unwrap()
}

#[test]
fn a_class_is_measured_once_and_read_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let Some(gpu) = open(folder.path()) else { return };
    let tile = gpu.autotune.tile(&gpu, &KIND);
    assert!(gpu.tuning.tiles(&gpu.limits).contains(&tile));
    let alike = Kind { m: KIND.m + 100, ..KIND };
    assert_eq!(gpu.autotune.tile(&gpu, &alike), tile);
    assert_eq!(known(&gpu), BTreeMap::from([(Class::of(&KIND), tile)]));
    assert_eq!(known(&open(folder.path()).unwrap()), known(&gpu));
    // What is known is taken, and not measured again.
    let other = another(&gpu);
    lock(&gpu.autotune.tiles).insert(Class::of(&KIND), other);
    assert_eq!(gpu.autotune.tile(&gpu, &KIND), other);
}

#[test]
fn a_small_product_and_one_without_measuring_take_the_rule() {
    let folder = tempfile::tempdir().unwrap();
    let Some(gpu) = open(folder.path()) else { return };
    let small = Kind { k: 8, ..KIND };
    assert_eq!(gpu.autotune.tile(&gpu, &small), gpu.tuning.tile(&small));
    assert_eq!(Autotune::off().tile(&gpu, &KIND), gpu.tuning.tile(&KIND));
    assert!(known(&gpu).is_empty());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_or_foreign_file_is_measured_anew_and_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let Some(gpu) = open(folder.path()) else { return };
    gpu.autotune.tile(&gpu, &KIND);
    let path = file(folder.path());
    let whole = fs::read_to_string(&path).unwrap();
    let mut foreign: serde_json::Value = serde_json::from_str(&whole).unwrap();
    foreign["key"]["driver"] = "another driver".into();
    let mut unknown: serde_json::Value = serde_json::from_str(&whole).unwrap();
    unknown["tiles"][0][1] = serde_json::json!({"registers": {"quads": 77, "lanes": 1, "across": 1}});
    for content in [&whole[..whole.len() / 2], "", "\u{0}\u{1}", &foreign.to_string(), &unknown.to_string()] {
        fs::write(&path, content).unwrap();
        let gpu = open(folder.path()).unwrap();
        assert!(known(&gpu).is_empty(), "{content}");
        gpu.autotune.tile(&gpu, &KIND);
        assert_eq!(known(&open(folder.path()).unwrap()), known(&gpu));
    }
}

#[test]
fn another_driver_or_kernel_has_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let Some(gpu) = open(folder.path()) else { return };
    let path = |gpu: &Gpu| Cache::new(folder.path().to_owned(), gpu).path();
    let mut other = Gpu::open(None, |limits| limits).unwrap();
    assert_eq!(path(&gpu), path(&other));
    other.info.driver.push('1');
    assert_ne!(path(&gpu), path(&other));
    let mut other = Gpu::open(None, |limits| limits).unwrap();
    other.tuning.shared_tiles = !other.tuning.shared_tiles;
    assert_ne!(path(&gpu), path(&other));
}

#[test]
fn what_two_runs_measure_at_a_time_is_kept_of_both() {
    let folder = tempfile::tempdir().unwrap();
    let (Some(one), Some(two)) = (open(folder.path()), open(folder.path())) else { return };
    let other = Kind { bias: false, ..KIND };
    one.autotune.tile(&one, &KIND);
    two.autotune.tile(&two, &other);
    let kept = known(&open(folder.path()).unwrap());
    assert_eq!(kept.keys().copied().collect::<Vec<_>>(), [Class::of(&other), Class::of(&KIND)]);
}

#[test]
fn a_folder_that_cannot_be_written_costs_nothing_but_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    fs::write(&blocked, "in the way").unwrap();
    let Some(gpu) = open(&blocked.join("gpu")) else { return };
    let tile = gpu.autotune.tile(&gpu, &KIND);
    assert_eq!(known(&gpu), BTreeMap::from([(Class::of(&KIND), tile)]));
    assert_eq!(fs::read(&blocked).unwrap(), b"in the way");
}
