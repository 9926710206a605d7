//! Films: the frames of each are taken out of it once, into the cache, and stand in its place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use edge_vit::capture::sources::Video;
use edge_vit::capture::{Open as _, Payload, SourceError};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::cached::{self, cache, filled, is_filled, key, sweep};
use super::unpack::{Stop, file_name};
use super::{DataError, Part, Picture, PictureSet};

/// How many frames are taken of a film, spread evenly over it; of one that has fewer, all.
pub const FRAMES: u64 = 16;
/// How the names of films end, in lower case.
const ENDINGS: [&str; 15] =
    ["3gp", "avi", "flv", "m2ts", "m4v", "mjpg", "mkv", "mov", "mp4", "mpeg", "mpg", "ogv", "webm", "wmv", "y4m"];
/// Quality of a frame's JPEG, 1 to 100.
const QUALITY: u8 = 95;
/// Changes when the frames that are taken of a film do.
const FORMAT: &str = "edge-vit frames of films 1";

/// Whether the file's name ends as that of a film, in upper or lower case.
pub fn is_film(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// The parts of the data set at `data` with the frames of each film in the place of the film, as one group unless the data set
/// says what the film belongs to. A film that cannot be read stays where it is, as a picture does that cannot be read.
pub(super) fn unrolled(
    data: &Path,
    parts: BTreeMap<Part, PictureSet>,
) -> Result<BTreeMap<Part, PictureSet>, DataError> {
    match parts.values().flat_map(|set| &set.pictures).any(|picture| is_film(&picture.path)) {
        true => unrolled_into(data, parts, &folder()?),
        false => Ok(parts),
    }
}

/// Where the frames of films are.
fn folder() -> Result<PathBuf, DataError> {
    Ok(cache()?.join("films"))
}

pub(super) fn unrolled_into(
    data: &Path,
    mut parts: BTreeMap<Part, PictureSet>,
    cache: &Path,
) -> Result<BTreeMap<Part, PictureSet>, DataError> {
    let films: BTreeSet<&Path> = (parts.values().flat_map(|set| &set.pictures))
        .map(|picture| picture.path.as_path())
        .filter(|path| is_film(path))
        .collect();
    let films: Vec<Film> = films.into_iter().map(|path| Film::of(path, cache)).collect();
    let new = films.iter().filter(|film| !film.folder.as_ref().is_ok_and(|folder| is_filled(folder))).count();
    if new > 0 {
        sweep(cache, SystemTime::now());
        log::info!(
            "taking up to {FRAMES} frames of each of {new} film(s) into {}; remove that folder to have the room back",
            cache.display()
        );
    }
    let read = |film: Film| match film.frames() {
        Ok(frames) => Ok(Some((film.path, frames))),
        Err(Stop::Archive(_)) => Ok(None),
        Err(Stop::Data(error)) => Err(error),
    };
    let clips: Vec<Option<(PathBuf, Vec<PathBuf>)>> = films.into_par_iter().map(read).collect::<Result<_, _>>()?;
    let clips: HashMap<PathBuf, Vec<PathBuf>> = clips.into_iter().flatten().collect();
    let root = if data.is_dir() { data } else { data.parent().unwrap_or(data) };
    for set in parts.values_mut() {
        let pictures = std::mem::take(&mut set.pictures);
        set.pictures = pictures.into_iter().flat_map(|picture| frames_of(picture, &clips, root)).collect();
    }
    Ok(parts)
}

/// The frames of the film that `picture` is; itself where it is none that can be read.
fn frames_of(picture: Picture, clips: &HashMap<PathBuf, Vec<PathBuf>>, root: &Path) -> Vec<Picture> {
    let Some(frames) = clips.get(&picture.path) else { return vec![picture] };
    let Picture { path: film, label, group, .. } = picture;
    // Relative, so that it stays the same where the data set is moved to.
    let name = || film.strip_prefix(root).unwrap_or(&film).to_string_lossy().into_owned();
    let group = Some(group.unwrap_or_else(name));
    let frame = |path: &PathBuf| Picture { path: path.clone(), label, group: group.clone(), film: Some(film.clone()) };
    frames.iter().map(frame).collect()
}

/// Why no frame of the film at `path` can be read.
pub(super) fn reason(path: &Path) -> String {
    match folder().map_err(Stop::Data).and_then(|cache| Film::of(path, &cache).frames()) {
        Err(Stop::Archive(reason)) => reason,
        Err(Stop::Data(error)) => error.to_string(),
        Ok(_) => format!("the film {} could not be read before; give the command again", path.display()),
    }
}

struct Film {
    path: PathBuf,
    /// The folder of its frames, or why the file cannot be looked at.
    folder: Result<PathBuf, String>,
}

/// What was taken of a film.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Clip {
    /// In their order; relative to the folder.
    frames: Vec<Frame>,
    /// What the film ended with where that was not its end.
    damage: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Frame {
    file: PathBuf,
    bytes: u64,
}

impl cached::Index for Clip {
    fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.frames.iter().map(|frame| (frame.file.as_path(), frame.bytes))
    }
}

impl Film {
    fn of(path: &Path, cache: &Path) -> Self {
        let key = key(FORMAT, &[path.to_owned()]);
        let folder = key.map(|(key, _)| cache.join(key)).map_err(|error| error.to_string());
        Self { path: path.to_owned(), folder }
    }

    /// Its frames, taken out unless they are in the cache. A film that is cut or damaged has those that can be read, which is told
    /// each time.
    fn frames(&self) -> Result<Vec<PathBuf>, Stop> {
        let folder = self.folder.as_ref().map_err(|reason| Stop::Archive(reason.clone()))?;
        let clip: Clip = filled(folder, |into| self.take(into))?;
        if let Some(damage) = &clip.damage {
            let (film, count) = (self.path.display(), clip.frames.len());
            log::warn!(
                "{film} is cut or damaged ({damage}); {count} frame(s) of it are taken; copy it anew to have all"
            );
        }
        Ok(clip.frames.into_iter().map(|frame| folder.join(frame.file)).collect())
    }

    fn take(&self, folder: &Path) -> Result<Clip, Stop> {
        let stop = |error| match error {
            SourceError::NoProgram(_) => Stop::Data(DataError::Film(error)),
            broken => Stop::Archive(broken.to_string()),
        };
        let extent = Video::new(&self.path, None).and_then(|film| film.extent()).map_err(stop)?;
        let wanted = extent.frames.min(FRAMES);
        let rate = (extent.seconds > 0.0).then(|| wanted as f64 / extent.seconds);
        let mut source = Video::new(&self.path, rate).and_then(|film| film.open()).map_err(stop)?;
        let mut clip = Clip::default();
        for number in 1..=wanted as usize {
            match source.next() {
                Ok(Some(shot)) => clip.frames.push(self.write(folder, number, shot.payload)?),
                Ok(None) => break,
                Err(error) => {
                    clip.damage = Some(error.to_string());
                    break;
                }
            }
        }
        match clip.frames.is_empty() {
            true => {
                Err(Stop::Archive(clip.damage.unwrap_or_else(|| "none of the film's frames can be read".to_owned())))
            }
            false => Ok(clip),
        }
    }

    /// Writes a frame under the film's name and the frame's number.
    fn write(&self, folder: &Path, number: usize, payload: Payload) -> Result<Frame, Stop> {
        let broken = |error: edge_vit::Error| Stop::Archive(error.to_string());
        let picture: RgbImage = match payload {
            Payload::Raw { layout, bytes } => layout.frame(&bytes).map_err(broken)?.to_rgb(),
            Payload::Encoded(bytes) => edge_vit::decode_picture(&bytes).map_err(broken)?,
        };
        let mut jpeg = Cursor::new(Vec::new());
        let encoded = JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&picture);
        encoded.map_err(|error| Stop::Archive(error.to_string()))?;
        let jpeg = jpeg.into_inner();
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let file = PathBuf::from(file_name(Some(&format!("{stem}-{number:02}.jpg")), number, &jpeg));
        let path = folder.join(&file);
        fs::write(&path, &jpeg).map_err(|source| DataError::Unpack { path, source })?;
        Ok(Frame { file, bytes: jpeg.len() as u64 })
    }
}

#[cfg(test)]
mod tests;
