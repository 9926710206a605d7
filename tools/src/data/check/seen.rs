//! One look at every picture.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use edge_vit::decode_picture;
use image::ImageFormat;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::hash::Print;
use crate::data::films::reason;
use crate::data::{Listing, Part, Picture, is_film};

/// A picture of the data set and what its file holds.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The part that it is in.
    pub part: Part,
    /// Where it is.
    pub path: PathBuf,
    /// The film that it is a frame of.
    pub film: Option<PathBuf>,
    /// What it belongs to, where the data set says so.
    pub group: Option<String>,
    /// The name of its class.
    pub label: String,
    /// What the file holds, or why it cannot be read.
    pub content: Result<Content, String>,
}

impl Seen {
    /// The file of the data set that it comes from: its film, or itself.
    pub(super) fn file(&self) -> &Path {
        self.film.as_deref().unwrap_or(&self.path)
    }
}

/// What a picture's file holds.
#[derive(Debug, Clone)]
pub struct Content {
    /// Of the file's bytes.
    pub sha256: [u8; 32],
    /// Width and height in pixels, upright.
    pub size: [u32; 2],
    /// The ending that the name should have, where it has that of another format.
    pub true_ending: Option<&'static str>,
    /// What it looks like; `None` where it is of one colour all over.
    pub(super) print: Option<Print>,
}

/// Reads every picture of the data set, in its order. `progress` is called with the number of pictures read and may be called
/// from any thread.
pub fn look(listing: &Listing, progress: &(dyn Fn() + Sync)) -> Vec<Seen> {
    let pictures = listing.parts.iter().flat_map(|(part, set)| {
        set.pictures.iter().map(move |picture| (*part, picture, &set.labels[picture.label as usize]))
    });
    let see = |(part, picture, label): (Part, &Picture, &String)| {
        let Picture { path, group, film, .. } = picture.clone();
        let content = content(&path);
        progress();
        Seen { part, path, film, group, label: label.clone(), content }
    };
    pictures.collect::<Vec<_>>().into_par_iter().map(see).collect()
}

fn content(path: &Path) -> Result<Content, String> {
    if is_film(path) {
        return Err(reason(path));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let picture = decode_picture(&bytes).map_err(|error| in_full(&error))?;
    let format = image::guess_format(&bytes).ok();
    let named = ImageFormat::from_path(path).ok();
    let true_ending =
        format.filter(|format| named != Some(*format)).and_then(|format| format.extensions_str().first().copied());
    let size = [picture.width(), picture.height()];
    Ok(Content { sha256: Sha256::digest(&bytes).into(), size, true_ending, print: Print::of(&picture) })
}

/// The error and what caused it.
fn in_full(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
