//! One set of pictures in several layouts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;
use crate::evaluate::fixture::paint;

/// Labels, and bytes and label of each picture.
type Content = (Vec<String>, Vec<(Vec<u8>, u32)>);

fn content(parts: BTreeMap<Part, PictureSet>) -> BTreeMap<Part, Content> {
    let read = |picture: &Picture| (fs::read(&picture.path).unwrap(), picture.label);
    parts.into_iter().map(|(part, set)| (part, (set.labels, set.pictures.iter().map(read).collect()))).collect()
}

#[test]
fn the_same_pictures_come_in_the_same_order_from_every_layout() {
    let root = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (part, list) in [("train", "train800.txt"), ("val", "val200.txt"), ("test", "test.txt")] {
        for (number, class) in ["bee", "cow", "dog"].into_iter().enumerate() {
            for n in 0..3u8 {
                let path = format!("{part}/{class}/{n}.png");
                paint(&root.path().join("images").join(&path), [n * 40, part.len() as u8, class.as_bytes()[0]]);
                files.push((part, list, class, number, path));
            }
        }
    }
    let images = root.path().join("images");
    let expected = content(folder::read(&images).unwrap());
    assert_eq!(expected.len(), 3);

    // Tables and lists in disorder, an archive in the order of the folders.
    let mut text = "path,label,split\n".to_owned();
    for (part, list, class, number, path) in files.iter().rev() {
        text += &format!("images/{path},{class},{part}\n");
        let list = root.path().join(list);
        let before = fs::read_to_string(&list).unwrap_or_default();
        fs::write(&list, format!("{before}images/{path} {number}\n")).unwrap();
    }
    fs::write(root.path().join("labels.txt"), "bee\ncow\ndog\n").unwrap();
    let table = root.path().join("table.csv");
    fs::write(&table, text).unwrap();
    assert_eq!(content(csv::read(&table).unwrap()), expected);
    assert_eq!(content(lists::read(root.path()).unwrap()), expected);

    let shards = root.path().join("shards");
    fs::create_dir(&shards).unwrap();
    for part in ["train", "val", "test"] {
        let mut archive = tar::Builder::new(fs::File::create(shards.join(format!("{part}-0.tar"))).unwrap());
        for (n, (.., class, _, path)) in files.iter().enumerate().filter(|(_, file)| file.0 == part) {
            append(&mut archive, &format!("{n:03}.png"), &fs::read(images.join(path)).unwrap());
            append(&mut archive, &format!("{n:03}.cls"), class.as_bytes());
        }
        archive.finish().unwrap();
    }
    assert_eq!(content(webdataset::read_into(&shards, &root.path().join("cache")).unwrap()), expected);
}

fn append(archive: &mut tar::Builder<fs::File>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    archive.append_data(&mut header, Path::new(name), bytes).unwrap();
}
