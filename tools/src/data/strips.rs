//! Clips for models that see several frames at a time: the frames of each become one picture, a filmstrip, in the cache.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use edge_vit::resize::resize;
use edge_vit::{Filter, filmstrip};
use image::RgbImage;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::cached::{self, cache, filled, is_filled, key, sweep};
use super::unpack::file_name;
use super::{DataError, Dataset, Picture, PictureSet, clip_name, open_picture};

/// The longest that the shorter side of a frame stays, in pixels: twice what such models take.
const SHORTER: u32 = 512;
/// The most rows of a filmstrip, within what a picture may have.
const ROWS: u32 = 16_000;
/// Changes when filmstrips do.
const FORMAT: &str = "edge-vit filmstrips 1";

impl Dataset {
    /// See [`PictureSet::filmstrips`].
    ///
    /// # Errors
    /// Those of [`PictureSet::filmstrips`].
    pub fn filmstrips(self, frames: usize) -> Result<Self, DataError> {
        let Self { train, val } = self;
        Ok(Self { train: train.filmstrips(frames)?, val: val.map(|val| val.filmstrips(frames)).transpose()? })
    }
}

impl PictureSet {
    /// The set for a model that sees `frames` frames at a time: a filmstrip for each clip, which is a film, else a group, else a picture that
    /// stands still. Frames are taken evenly from those that there are, the same one several times where there are too few. With
    /// `frames` of 1 the set stays as it is.
    ///
    /// A clip of which no frame can be read stays its first frame, and is told as one that cannot be read when it is opened.
    ///
    /// # Errors
    /// When the cache cannot be written to.
    pub fn filmstrips(self, frames: usize) -> Result<Self, DataError> {
        match frames {
            0 | 1 => Ok(self),
            _ => self.filmstrips_into(frames, &cache()?.join("strips")),
        }
    }

    fn filmstrips_into(self, frames: usize, cache: &Path) -> Result<Self, DataError> {
        let clips = clips(self.pictures, frames);
        let keyed: Vec<(Vec<Picture>, Option<PathBuf>)> = clips
            .into_iter()
            .map(|chosen| {
                let paths: Vec<PathBuf> = chosen.iter().map(|frame| frame.path.clone()).collect();
                // What cannot be looked at cannot be opened either.
                let folder = key(FORMAT, &paths).ok().map(|(key, _)| cache.join(key));
                (chosen, folder)
            })
            .collect();
        let new = keyed.iter().filter(|(_, folder)| !folder.as_deref().is_some_and(is_filled)).count();
        if new > 0 {
            sweep(cache, SystemTime::now());
            log::info!(
                "laying {frames} frames of each of {new} clip(s) one below another into {}; remove that folder to have the room back",
                cache.display()
            );
        }
        let strip = |(chosen, folder): (Vec<Picture>, Option<PathBuf>)| strip_of(chosen, folder.as_deref());
        let pictures = keyed.into_par_iter().map(strip).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { pictures: pictures.into_iter().flatten().collect(), ..self })
    }
}

/// The chosen frames of each clip, as many as asked for, in the order in which the clips begin.
fn clips(pictures: Vec<Picture>, frames: usize) -> Vec<Vec<Picture>> {
    let mut clips: Vec<Vec<Picture>> = Vec::new();
    let mut known: HashMap<(u32, Box<OsStr>), usize> = HashMap::new();
    for picture in pictures {
        let name = clip_name(picture.film.as_deref(), picture.group.as_deref());
        let at = match name {
            None => clips.len(),
            Some(name) => *known.entry((picture.label, name.into())).or_insert(clips.len()),
        };
        match clips.get_mut(at) {
            Some(clip) => clip.push(picture),
            None => clips.push(vec![picture]),
        }
    }
    let evenly = |clip: Vec<Picture>| {
        let place = |index: usize| (2 * index + 1) * clip.len() / (2 * frames);
        (0..frames).map(|index| clip[place(index)].clone()).collect()
    };
    clips.into_iter().map(evenly).collect()
}

/// What is in a filmstrip's folder.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    /// Relative to the folder.
    file: PathBuf,
    bytes: u64,
}

impl cached::Index for Index {
    fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        [(self.file.as_path(), self.bytes)].into_iter()
    }
}

/// Why there is no filmstrip.
enum Stop {
    /// None of its frames can be read.
    Unreadable,
    Data(DataError),
}

impl From<DataError> for Stop {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

/// The filmstrip of the `chosen` frames, made unless it is in `folder`; `None` of no frames.
fn strip_of(chosen: Vec<Picture>, folder: Option<&Path>) -> Result<Option<Picture>, DataError> {
    let Some(first) = chosen.first().cloned() else { return Ok(None) };
    let Some(folder) = folder else { return Ok(Some(first)) };
    let own_folder = first.path.parent().filter(|_| first.group.is_some());
    let made_of = first.film.as_deref().or(own_folder).unwrap_or(&first.path).to_owned();
    match filled(folder, |into| make(&chosen, &made_of, into)) {
        Ok(Index { file, .. }) => Ok(Some(Picture { path: folder.join(file), film: Some(made_of), ..first })),
        Err(Stop::Unreadable) => Ok(Some(first)),
        Err(Stop::Data(error)) => Err(error),
    }
}

/// Writes the filmstrip of the `chosen` frames of `clip` to `folder`, called as the clip. In the place of a frame that cannot be read
/// stands the one before it, or else the one behind it.
fn make(chosen: &[Picture], clip: &Path, folder: &Path) -> Result<Index, Stop> {
    let mut size = None;
    let read = |frame: &Picture| match open_picture(&frame.path) {
        Ok(picture) => {
            // Reduced at once, so that a clip's frames are never all in memory as they are.
            let [height, width] = *size.get_or_insert_with(|| size_of(&picture, chosen.len()));
            Some(match [picture.height(), picture.width()] == [height, width] {
                true => picture,
                false => resize(&picture, height, width, Filter::Bicubic),
            })
        }
        Err(reason) => {
            log::warn!("a frame of a clip is left out, {}: {reason}", frame.path.display());
            None
        }
    };
    let read: Vec<Option<RgbImage>> = chosen.iter().map(read).collect();
    let mut before = read.iter().flatten().next().ok_or(Stop::Unreadable)?;
    let strip = filmstrip::join(read.iter().map(|frame| {
        before = frame.as_ref().unwrap_or(before);
        before.clone()
    }));
    let mut png = Cursor::new(Vec::new());
    let encoder = PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Up);
    strip.write_with_encoder(encoder).map_err(|_| Stop::Unreadable)?;
    let png = png.into_inner();
    let stem = clip.file_stem().unwrap_or_default().to_string_lossy();
    let file = PathBuf::from(file_name(Some(&format!("{stem}.png")), 0, &png));
    let path = folder.join(&file);
    fs::write(&path, &png).map_err(|source| DataError::Unpack { path, source })?;
    Ok(Index { file, bytes: png.len() as u64 })
}

/// Height and width of the frames of a strip whose first is `frame`.
fn size_of(frame: &RgbImage, frames: usize) -> [u32; 2] {
    let [height, width] = [frame.height(), frame.width()].map(f64::from);
    let rows = f64::from(ROWS) / frames as f64;
    let scale = (f64::from(SHORTER) / height.min(width)).min(rows / height).min(1.0);
    // Both are at most the frame's own.
    [height, width].map(|side| ((side * scale) as u32).max(1))
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn paint(path: &Path, value: u8, [width, height]: [u32; 2]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(width, height, Rgb([value; 3])).save(path).unwrap();
    }

    fn picture(path: PathBuf, label: u32, group: Option<&str>) -> Picture {
        Picture { path, label, group: group.map(str::to_owned), film: None }
    }

    /// The grey of each frame.
    fn greys(strip: &Picture, frames: usize) -> Vec<u8> {
        let strip = open_picture(&strip.path).unwrap();
        filmstrip::split(&strip, frames).map(|frame| frame.get_pixel(0, 0).0[0]).collect()
    }

    #[test]
    fn clips_become_strips_of_evenly_chosen_frames_and_keep_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut pictures = Vec::new();
        for index in 0..8u8 {
            let path = at(&format!("a/one/{index}.png"));
            // The later frames are of another size.
            paint(&path, 10 * index, if index < 4 { [6, 4] } else { [12, 8] });
            pictures.push(picture(path, 0, Some("a/one")));
        }
        for (name, label, group) in [("b/one/0.png", 1, Some("a/one")), ("b/still.png", 1, None)] {
            paint(&at(name), 200, [6, 4]);
            pictures.push(picture(at(name), label, group));
        }
        let set = PictureSet { path: at(""), labels: vec!["a".into(), "b".into()], pictures };
        assert_eq!(set.clone().filmstrips(1).unwrap(), set);
        let strips = set.filmstrips_into(4, &at("cache")).unwrap().pictures;
        assert_eq!(strips.iter().map(|strip| strip.label).collect::<Vec<_>>(), [0, 1, 1]);
        assert_eq!(greys(&strips[0], 4), [10, 30, 50, 70]);
        assert_eq!(greys(&strips[2], 4), [200; 4]);
        let files: Vec<&Path> = strips.iter().map(Picture::file).collect();
        assert_eq!(files, [at("a/one"), at("b/one"), at("b/still.png")]);
        assert_eq!(strips[0].group.as_deref(), Some("a/one"));
        assert!(strips[0].path.ends_with("one.png") && strips[2].path.ends_with("still.png"));
    }

    #[test]
    fn unreadable_frames_are_their_neighbours_and_a_clip_of_them_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        paint(&at("2.png"), 20, [6, 4]);
        for name in ["1.png", "3.png", "x.png"] {
            fs::write(at(name), b"no picture").unwrap();
        }
        let of = |name: &str, group: &str| picture(at(name), 0, Some(group));
        let pictures =
            vec![of("1.png", "a"), of("2.png", "a"), of("3.png", "a"), of("x.png", "b"), of("gone.png", "c")];
        let set = PictureSet { path: at(""), labels: vec!["a".into()], pictures };
        let strips = set.filmstrips_into(3, &at("cache")).unwrap().pictures;
        assert_eq!(greys(&strips[0], 3), [20; 3]);
        assert_eq!(
            strips[1..].iter().map(|strip| strip.path.clone()).collect::<Vec<_>>(),
            [at("x.png"), at("gone.png")]
        );
        assert!(strips[1..].iter().all(|strip| open_picture(&strip.path).is_err()));
    }

    #[test]
    fn a_strip_is_made_once_and_anew_when_a_frame_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        paint(&at("1.png"), 20, [6, 4]);
        let make = || {
            let pictures = vec![picture(at("1.png"), 0, None)];
            let set = PictureSet { path: at(""), labels: vec!["a".into()], pictures };
            set.filmstrips_into(2, &at("cache")).unwrap().pictures[0].clone()
        };
        let first = make();
        let written = fs::metadata(&first.path).unwrap().modified().unwrap();
        assert_eq!((make(), fs::metadata(&first.path).unwrap().modified().unwrap()), (first.clone(), written));
        paint(&at("1.png"), 70, [60, 4]);
        let other = make();
        assert_ne!(other.path, first.path);
        assert_eq!(greys(&other, 2), [70; 2]);
    }

    #[test]
    fn large_frames_are_reduced_to_what_a_strip_may_have() {
        assert_eq!(size_of(&RgbImage::new(1920, 1080), 16), [512, 910]);
        assert_eq!(size_of(&RgbImage::new(320, 240), 16), [240, 320]);
        assert_eq!(size_of(&RgbImage::new(400, 800), 64), [250, 125]);
    }
}
