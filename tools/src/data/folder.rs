//! A folder a class: `DIR/CLASS/*.jpg`, or `DIR/CLASS/CLIP/*.jpg` with the frames of a clip in a folder, or `DIR/CLASS/*.mp4`; or
//! such folders in `DIR/train`, `DIR/val` and `DIR/test`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use edge_vit::has_picture_ending;

use super::{DataError, Part, Picture, PictureSet, is_film};

/// The parts that folders are named after.
const PARTS: [(&str, Part); 3] = [("train", Part::Train), ("val", Part::Val), ("test", Part::Test)];

/// Lists the parts of `path`: of its folders `train`, `val` and `test` as far as they hold folders, for a class may have such
/// a name too; else of `path` itself. A part whose pictures lie in no class's folder is an error.
pub(super) fn read(path: &Path) -> Result<BTreeMap<Part, PictureSet>, DataError> {
    let mut parts = BTreeMap::new();
    for (name, part) in PARTS {
        let folder = path.join(name);
        if folder.is_dir() && entries(&folder)?.iter().any(|inner| inner.is_dir()) {
            parts.insert(part, list(&folder, Some(name))?);
        }
    }
    if parts.is_empty() {
        parts.insert(own_part(path), list(path, None)?);
        return Ok(parts);
    }
    for (name, part) in PARTS {
        let folder = path.join(name);
        if !parts.contains_key(&part) && folder.is_dir() && !find(&folder, is_shown)?.is_empty() {
            return Err(DataError::Unlabelled { path: folder });
        }
    }
    Ok(parts)
}

/// Whether at least two folders in `path` hold pictures, films or clips.
pub(super) fn has_class_folders(path: &Path) -> Result<bool, DataError> {
    let mut found = 0;
    for folder in entries(path)?.iter().filter(|entry| entry.is_dir()) {
        found += usize::from(!of_class(folder)?.is_empty());
        if found == 2 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `path` holds a folder named after a part, with folders in it.
pub(super) fn has_parts(path: &Path) -> Result<bool, DataError> {
    for (name, _) in PARTS {
        let folder = path.join(name);
        if folder.is_dir() && entries(&folder)?.iter().any(|inner| inner.is_dir()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Lists `path`: each subfolder is a class, named by its folder, and the picture files directly in it are its pictures,
/// sorted by name; where there are none, its films, and the frames in the folders in it, each of which is a clip and a group of its
/// `part`. Hidden entries and files of other kinds are passed over, and so are films beside pictures, which is told: cameras that
/// take both write a short film beside each photo.
fn list(path: &Path, part: Option<&str>) -> Result<PictureSet, DataError> {
    let classes: Vec<PathBuf> = entries(path)?.into_iter().filter(|entry| entry.is_dir()).collect();
    let mut set = PictureSet { path: path.to_owned(), labels: Vec::new(), pictures: Vec::new() };
    for (label, class) in (0u32..).zip(&classes) {
        let name = class.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| DataError::Name { path: class.clone() })?;
        set.labels.push(name.to_owned());
        // Clips of two parts may be numbered alike.
        let within = part.map_or(name.to_owned(), |part| format!("{part}/{name}"));
        let found = of_class(class)?;
        let passed_over = find(class, is_film)?.len();
        if passed_over > 0 && found.iter().any(|(path, clip)| clip.is_none() && has_picture_ending(path)) {
            let class = class.display();
            log::warn!("passed over {passed_over} film(s) beside pictures in {class}; a CSV file may name both");
        }
        set.pictures.extend(found.into_iter().map(|(path, clip)| {
            let group = clip.map(|clip| format!("{within}/{clip}"));
            Picture { path, label, group, film: None }
        }));
    }
    Ok(set)
}

/// The pictures directly in the folder of a class; where there are none, the films there and what the folders in it hold, the pictures
/// with the names of these. Sorted by path.
fn of_class(class: &Path) -> Result<Vec<(PathBuf, Option<String>)>, DataError> {
    let direct = find_pictures(class)?;
    if !direct.is_empty() {
        return Ok(direct.into_iter().map(|path| (path, None)).collect());
    }
    let mut found: Vec<_> = find(class, is_film)?.into_iter().map(|path| (path, None)).collect();
    for clip in entries(class)?.iter().filter(|entry| entry.is_dir()) {
        let name = clip.file_name().unwrap_or_default().to_string_lossy();
        let frame = |path: &Path| (!is_film(path)).then(|| name.clone().into_owned());
        found.extend(find(clip, is_shown)?.into_iter().map(|path| (path.clone(), frame(&path))));
    }
    found.sort();
    Ok(found)
}

/// Which part `path` itself is: one by its name, if the part that is trained on stands beside it.
fn own_part(path: &Path) -> Part {
    let beside_train = |path: &Path| path.parent().is_some_and(|parent| parent.join("train").is_dir());
    match path.canonicalize() {
        Ok(path) if path.ends_with("test") && beside_train(&path) => Part::Test,
        Ok(path) if path.ends_with("val") && beside_train(&path) => Part::Val,
        _ => Part::Whole,
    }
}

/// The picture files directly in `path`, sorted by name: those with the ending of a format that can be read.
///
/// # Errors
/// When the folder cannot be read.
pub fn find_pictures(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    find(path, has_picture_ending)
}

/// Whether the name ends as that of a picture or a film.
fn is_shown(path: &Path) -> bool {
    has_picture_ending(path) || is_film(path)
}

/// The files directly in `path` of one kind, sorted by name.
fn find(path: &Path, is_kind: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, DataError> {
    Ok(entries(path)?.into_iter().filter(|entry| is_kind(entry) && entry.is_file()).collect())
}

/// What is directly in `path` and not hidden, sorted by name.
pub(super) fn entries(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |source| DataError::Read { path: path.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        folder
    }

    #[test]
    fn a_part_with_pictures_in_no_class_is_refused() {
        let folder = make(&["train/a/1.png", "train/b/1.png", "val/1.png"]);
        let error = read(folder.path()).unwrap_err();
        assert!(matches!(&error, DataError::Unlabelled { path } if path.ends_with("val")), "{error}");
        let classes = make(&["train/1.png", "val/1.png"]);
        assert_eq!(read(classes.path()).unwrap()[&Part::Whole].labels, ["train", "val"]);
    }

    #[test]
    fn labels_and_pictures_are_sorted_and_other_files_passed_over() {
        let files = ["b/2.JPG", "b/1.png", "a/x.webp", "a/notes.txt", "a/._x.webp", ".cache/y.png", "z.png"];
        let folder = make(&files);
        let read = list(folder.path(), None).unwrap();
        assert_eq!(read.labels, ["a", "b"]);
        let names: Vec<_> = read
            .pictures
            .iter()
            .map(|picture| (picture.path.file_name().unwrap().to_str().unwrap(), picture.label))
            .collect();
        assert_eq!(names, [("x.webp", 0), ("1.png", 1), ("2.JPG", 1)]);
        assert_eq!(read.counts(), [1, 2]);
    }

    #[test]
    fn the_frames_of_a_clip_are_a_group_and_folders_beside_pictures_are_passed_over() {
        let files = ["b/001/2.png", "b/001/1.png", "b/002/1.png", "a/001/1.png", "c/1.png", "c/small/1.png"];
        let folder = make(&files);
        let of = |set: &PictureSet| -> Vec<(u32, Option<String>)> {
            set.pictures.iter().map(|picture| (picture.label, picture.group.clone())).collect()
        };
        let group = |name: &str| Some(name.to_owned());
        let whole = &read(folder.path()).unwrap()[&Part::Whole];
        let expected =
            [(0, "a/001"), (1, "b/001"), (1, "b/001"), (1, "b/002")].map(|(label, name)| (label, group(name)));
        assert_eq!(of(whole), [&expected[..], &[(2, None)]].concat());
        assert!(whole.pictures[1].path.ends_with("b/001/1.png"));

        let parts = make(&["train/a/001/1.png", "train/b/001/1.png", "test/a/001/1.png"]);
        assert!(has_class_folders(&parts.path().join("train")).unwrap());
        let parts = read(parts.path()).unwrap();
        assert_eq!(of(&parts[&Part::Train]), [(0, group("train/a/001")), (1, group("train/b/001"))]);
        assert_eq!(of(&parts[&Part::Test]), [(0, group("test/a/001"))]);
    }

    #[test]
    fn a_class_may_be_called_test() {
        let folder = make(&["test/1.png", "val/1.png"]);
        let parts = read(folder.path()).unwrap();
        assert_eq!(parts.keys().copied().collect::<Vec<_>>(), [Part::Whole]);
        assert_eq!(parts[&Part::Whole].labels, ["test", "val"]);
    }

    #[test]
    fn a_part_that_stands_beside_train_is_told_by_its_name() {
        let folder = make(&["test/a/1.png", "val/a/1.png", "train/a/1.png"]);
        let of = |name: &str| read(&folder.path().join(name)).unwrap().into_keys().next().unwrap();
        assert_eq!([of("test"), of("val"), of("train")], [Part::Test, Part::Val, Part::Whole]);
        assert_eq!(read(folder.path()).unwrap().into_keys().collect::<Vec<_>>(), [Part::Train, Part::Val, Part::Test]);
    }
}
