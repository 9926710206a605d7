use std::process::Command;

use super::*;
use crate::data::{Layout, Listing, check, folder};

/// A film made of an `ffmpeg` source, or nothing where there is no `ffmpeg`.
fn film(path: &Path, source: &str, options: &[&str]) -> Option<()> {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-f", "lavfi", "-i", source]).args(options).arg(path);
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(())
        }
        Err(error) => {
            println!("skipped: ffmpeg cannot be run: {error}");
            None
        }
    }
}

/// A film of at most 73 frames that are grey all over, each brighter than the one before by [`STEP`].
fn brightening(path: &Path, frames: usize) -> Option<()> {
    let source = format!("color=size=32x32:rate=8,format=yuv420p,geq=lum='16+{STEP}*N':cb=128:cr=128");
    film(path, &source, &["-frames:v", &frames.to_string(), "-c:v", "ffv1"])
}

/// In steps of limited luma.
const STEP: usize = 3;

/// The numbers of the frames at `paths` in their [`brightening`] film.
fn numbers(paths: &[PathBuf]) -> Vec<usize> {
    let number = |path: &PathBuf| {
        let grey = edge_vit::open_picture(path).unwrap().get_pixel(16, 16).0[1];
        (f64::from(grey) * 219.0 / 255.0 / STEP as f64).round() as usize
    };
    paths.iter().map(number).collect()
}

fn names(set: &PictureSet) -> Vec<(String, u32, Option<String>)> {
    let of = |picture: &Picture| {
        let name = picture.path.file_name().unwrap().to_string_lossy().into_owned();
        (name, picture.label, picture.group.clone())
    };
    set.pictures.iter().map(of).collect()
}

#[test]
fn frames_are_spread_evenly_over_a_film_and_a_short_one_has_all() {
    let dir = tempfile::tempdir().unwrap();
    for count in [1, 2, 5, 15, 16, 17, 23, 32, 64, 71] {
        let path = dir.path().join(format!("{count}.mkv"));
        if brightening(&path, count).is_none() {
            return;
        }
        let found = numbers(&Film::of(&path, &dir.path().join("cache")).frames().unwrap());
        let wanted = count.min(FRAMES as usize);
        assert_eq!(found.len(), wanted, "of {count}: {found:?}");
        for (place, &number) in found.iter().enumerate() {
            // In the middle of the part of the film that the frame stands for, it is the one that is shown.
            let middle = (place as f64 + 0.5) * count as f64 / wanted as f64;
            let shown = number as f64..=(number + 1) as f64;
            assert!(shown.contains(&middle), "frame {number} of {count} at place {place}: {found:?}");
        }
        assert!(found.is_sorted_by(|a, b| a < b), "of {count}: {found:?}");
    }
}

#[test]
fn films_are_clips_of_their_class_and_are_passed_over_beside_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join("set").join(name);
    for name in ["train/wave/a.mkv", "train/wave/tom/b.mkv", "test/wave/a.mkv", "train/clap/photo.mkv"] {
        if brightening(&at(name), 2).is_none() {
            return;
        }
    }
    for name in ["train/wave/c/1.png", "train/wave/c/2.png", "train/clap/photo.png", "test/clap/1.png"] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), b"").unwrap();
    }
    let set = dir.path().join("set");
    let read = || unrolled_into(&set, folder::read(&set).unwrap(), &dir.path().join("cache")).unwrap();
    let parts = read();
    let row = |name: &str, label, group: Option<&str>| (name.to_owned(), label, group.map(str::to_owned));
    let expected = [
        row("photo.png", 0, None),
        row("a-01.jpg", 1, Some("train/wave/a.mkv")),
        row("a-02.jpg", 1, Some("train/wave/a.mkv")),
        row("1.png", 1, Some("train/wave/c")),
        row("2.png", 1, Some("train/wave/c")),
        row("b-01.jpg", 1, Some("train/wave/tom/b.mkv")),
        row("b-02.jpg", 1, Some("train/wave/tom/b.mkv")),
    ];
    assert_eq!(names(&parts[&Part::Train]), expected);
    assert_eq!(names(&parts[&Part::Test])[1], row("a-01.jpg", 1, Some("test/wave/a.mkv")));
    let films: Vec<_> = parts[&Part::Train].pictures.iter().map(|picture| picture.film.clone()).collect();
    assert_eq!((&films[0], &films[1], &films[3]), (&None, &Some(at("train/wave/a.mkv")), &None));

    // Once: what is there is taken as it is, and what is gone or cut is taken anew.
    let frame = &parts[&Part::Train].pictures[1].path;
    let whole = fs::read(frame).unwrap();
    let other = vec![0; whole.len()];
    fs::write(frame, &other).unwrap();
    assert_eq!((read(), fs::read(frame).unwrap()), (parts.clone(), other));
    fs::write(frame, b"cut").unwrap();
    assert_eq!((read(), fs::read(frame).unwrap()), (parts.clone(), whole));
}

#[test]
fn a_table_names_films_and_what_they_belong_to() {
    let dir = tempfile::tempdir().unwrap();
    if brightening(&dir.path().join("films/a.mkv"), 2).is_none() {
        return;
    }
    fs::copy(dir.path().join("films/a.mkv"), dir.path().join("b.MKV")).unwrap();
    let table = dir.path().join("table.csv");
    fs::write(&table, "path,label,group\nfilms/a.mkv,x,\nb.MKV,y,tom\ngone.mkv,y,tom\n").unwrap();
    let parts = crate::data::csv::read(&table).unwrap();
    let set = &unrolled_into(&table, parts, &dir.path().join("cache")).unwrap()[&Part::Whole];
    let groups: Vec<_> = names(set).into_iter().map(|(name, _, group)| (name, group.unwrap())).collect();
    let expected = [("a-01.jpg", "films/a.mkv"), ("a-02.jpg", "films/a.mkv"), ("b-01.jpg", "tom"), ("b-02.jpg", "tom")];
    let expected = expected.into_iter().chain([("gone.mkv", "tom")]);
    assert_eq!(groups, expected.map(|(name, group)| (name.to_owned(), group.to_owned())).collect::<Vec<_>>());
}

#[test]
fn a_film_that_cannot_be_read_stays_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join("set").join(name);
    if film(&at("wave/whole.mp4"), "testsrc=size=64x48:rate=10:duration=2", &[]).is_none() {
        return;
    }
    film(&at("wave/sound.mkv"), "sine=duration=1", &[]).unwrap();
    let bytes = fs::read(at("wave/whole.mp4")).unwrap();
    fs::write(at("wave/cut.mp4"), &bytes[..bytes.len() / 2]).unwrap();
    fs::create_dir(at("clap")).unwrap();
    fs::write(at("clap/empty.mov"), b"").unwrap();
    let (set, cache) = (dir.path().join("set"), dir.path().join("cache"));
    let parts = unrolled_into(&set, folder::read(&set).unwrap(), &cache).unwrap();
    let pictures = &parts[&Part::Whole].pictures;
    assert_eq!(pictures.iter().filter(|picture| picture.film.is_some()).count(), FRAMES as usize);
    let stay: Vec<_> = pictures.iter().filter(|picture| picture.film.is_none()).collect();
    for (picture, (name, words)) in stay.iter().zip([
        ("empty.mov", "Invalid data"),
        ("cut.mp4", "Invalid data"),
        ("sound.mkv", "it has sound and no pictures"),
    ]) {
        let Err(Stop::Archive(reason)) = Film::of(&picture.path, &cache).frames() else { panic!("{name} is read") };
        assert!(picture.path.ends_with(name) && reason.contains(words), "{}: {reason}", picture.path.display());
    }
    assert_eq!(stay.len(), 3);
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1, "nothing is left of films that cannot be read");
}

#[test]
fn a_cut_film_gives_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.avi");
    if film(&path, "testsrc=size=64x48:rate=10:duration=8", &["-c:v", "mjpeg"]).is_none() {
        return;
    }
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 4]).unwrap();
    let frames = Film::of(&path, &dir.path().join("cache")).frames().unwrap();
    assert!((12..=FRAMES as usize).contains(&frames.len()), "{}", frames.len());
}

#[test]
fn frames_of_one_film_may_look_alike_and_a_film_in_two_parts_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (set, cache) = (dir.path().join("set"), dir.path().join("cache"));
    let still = |name: &str, seed: u32| {
        let source = format!("gradients=size=64x48:nb_colors=8:seed={seed},loop=loop=-1:size=1");
        film(&set.join(name), &source, &["-frames:v", "20"])
    };
    if still("train/a/1.mp4", 1).is_none() {
        return;
    }
    still("train/b/1.mp4", 2).unwrap();
    still("test/b/1.mp4", 3).unwrap();
    let findings = || {
        let parts = unrolled_into(&set, folder::read(&set).unwrap(), &cache).unwrap();
        let listing = Listing { path: set.clone(), layout: Layout::Folders, parts };
        check::findings(&listing, &check::look(&listing, &|| ()))
    };
    assert_eq!(findings(), []);
    let (trained, copy) = (set.join("train/a/1.mp4"), set.join("test/a/copy.mp4"));
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::copy(&trained, &copy).unwrap();
    let found = findings();
    let [leak] = &found[..] else { panic!("{found:?}") };
    assert_eq!((leak.kind, leak.weight), (check::Kind::Leak, check::Weight::Spoils));
    assert_eq!(
        leak.pictures.iter().map(|shown| shown.film.clone().unwrap()).collect::<Vec<_>>(),
        [trained.clone(), copy]
    );
    assert_eq!(leak.fix, format!("rm {}", trained.display()));
}
