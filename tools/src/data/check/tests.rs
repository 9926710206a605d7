use std::fs;
use std::path::Path;

use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::data::{Listing, Part};

/// A picture with structure at all low frequencies, another for every `seed`.
pub(super) fn patches(seed: u64, width: u32, height: u32) -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let small = RgbImage::from_fn(8, 8, |_, _| Rgb(rng.random()));
    resize(&small, width, height, FilterType::Triangle)
}

fn save(root: &Path, name: &str, picture: &RgbImage) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

fn check(path: &Path) -> Vec<Finding> {
    let listing = Listing::read(path).unwrap();
    findings(&listing, &look(&listing, &|| ()))
}

/// Two classes of twelve pictures to train on, and two of each to test with.
fn sound() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for seed in 0..24 {
        let class = if seed < 12 { "a" } else { "b" };
        save(root.path(), &format!("train/{class}/{seed}.png"), &patches(seed, 40, 32));
    }
    for (class, seed) in [("a", 30), ("a", 31), ("b", 32), ("b", 33)] {
        save(root.path(), &format!("test/{class}/{seed}.png"), &patches(seed, 40, 32));
    }
    root
}

#[test]
fn a_sound_data_set_has_no_findings() {
    assert_eq!(check(sound().path()), []);
}

#[test]
fn the_same_picture_in_two_parts_or_with_two_labels_is_found_though_it_was_scaled() {
    let root = sound();
    let at = |name: &str| root.path().join(name);
    fs::copy(at("train/a/3.png"), at("test/a/copy.png")).unwrap();
    save(root.path(), "test/b/small.png", &patches(20, 30, 24));
    fs::copy(at("train/b/15.png"), at("train/a/15.png")).unwrap();
    save(root.path(), "train/a/large.png", &patches(5, 90, 72));
    let found = check(root.path());
    let seen: Vec<_> = found
        .iter()
        .map(|finding| {
            let names =
                finding.pictures.iter().map(|shown| shown.path.strip_prefix(root.path()).unwrap().to_str().unwrap());
            (finding.kind, finding.weight, finding.distance.is_none(), names.collect::<Vec<_>>())
        })
        .collect();
    let expected = [
        (Kind::Conflict, Weight::Spoils, true, vec!["train/a/15.png", "train/b/15.png"]),
        (Kind::Leak, Weight::Spoils, true, vec!["train/a/3.png", "test/a/copy.png"]),
        (Kind::Leak, Weight::Spoils, false, vec!["train/b/20.png", "test/b/small.png"]),
        (Kind::Duplicate, Weight::Warns, false, vec!["train/a/5.png", "train/a/large.png"]),
    ];
    assert_eq!(seen, expected);
    assert!(found[1].fix.starts_with("rm ") && found[1].fix.ends_with("train/a/3.png"), "{}", found[1].fix);
    let text = to_text(&found);
    assert!(text.ends_with("3 finding(s) that spoil a training, 1 warning(s)\n"), "{text}");
}

#[test]
fn single_pictures_that_stand_out_are_found() {
    let root = sound();
    let at = |name: &str| root.path().join(name);
    fs::write(at("train/a/broken.jpg"), b"no picture").unwrap();
    fs::rename(at("train/a/2.png"), at("train/a/2.jpg")).unwrap();
    save(root.path(), "train/b/long.png", &patches(40, 200, 40));
    save(root.path(), "train/b/tiny.png", &patches(41, 7, 7));
    save(root.path(), "train/b/grey.png", &RgbImage::from_pixel(40, 32, Rgb([90; 3])));
    let seen: Vec<_> = check(root.path())
        .iter()
        .map(|finding| (finding.kind, finding.pictures[0].path.file_name().unwrap().to_str().unwrap().to_owned()))
        .collect();
    let expected = [
        (Kind::Broken, "broken.jpg"),
        (Kind::Ending, "2.jpg"),
        (Kind::Shape, "grey.png"),
        (Kind::Shape, "long.png"),
        (Kind::Shape, "tiny.png"),
    ];
    assert_eq!(seen, expected.map(|(kind, name)| (kind, name.to_owned())));
}

#[test]
fn classes_that_are_small_or_strange_are_found() {
    let root = sound();
    save(root.path(), "train/c/1.png", &patches(50, 40, 32));
    save(root.path(), "test/d/1.png", &patches(51, 40, 32));
    let seen: Vec<_> =
        check(root.path()).into_iter().map(|finding| (finding.kind, finding.weight, finding.message)).collect();
    let expected = [
        (Kind::Few, Weight::Spoils, "class `c` has 1 readable picture(s) to train on"),
        (Kind::Classes, Weight::Warns, "class `d` of test is not among the classes trained on"),
        (Kind::Imbalance, Weight::Warns, "class `b` has 12 pictures to train on, class `c` 1"),
    ];
    assert_eq!(seen, expected.map(|(kind, weight, message)| (kind, weight, message.to_owned())));
    let only = check(&root.path().join("test"));
    assert_eq!((only.len(), only[0].kind, only[0].weight), (1, Kind::Classes, Weight::Spoils));
}

#[test]
fn a_group_in_two_parts_is_a_leak() {
    let root = sound();
    let table = root.path().join("table.csv");
    let row = |seed: u32| {
        let (class, part) = if seed < 12 { ("a", "train") } else { ("b", "train") };
        format!("train/{class}/{seed}.png,{class},{part},g{seed}\n")
    };
    let mut text = "path,label,split,group\n".to_owned() + &(0..24).map(row).collect::<String>();
    text += "test/a/30.png,a,test,g5\n";
    fs::write(&table, text).unwrap();
    let found = check(&table);
    let [leak] = &found[..] else { panic!("{found:?}") };
    assert_eq!(
        (leak.kind, leak.weight, leak.message.as_str()),
        (Kind::Leak, Weight::Spoils, "the group `g5` is in train and test")
    );
}

#[test]
fn every_part_is_looked_at() {
    let root = sound();
    let listing = Listing::read(root.path()).unwrap();
    let seen = look(&listing, &|| ());
    let tested = seen.iter().filter(|seen| seen.part == Part::Test).count();
    assert_eq!((seen.len(), tested), (28, 4));
    assert!(seen.iter().all(|seen| seen.content.as_ref().is_ok_and(|content| content.size == [40, 32])));
}
