//! Pictures from a camera.

use std::time::Instant;

use anyhow::{Result, bail};
use edge_vit::capture::sources::{Camera, CameraAddress, Size};
use edge_vit::capture::{Open, Payload, Shot, SourceError};
use edge_vit::{Classifier, decode_picture};
use image::RgbImage;

use crate::cli::output::Output;

/// Damaged frames in a row after which the camera is given up. The first frames of a stream often are.
const DAMAGED_LIMIT: u32 = 30;

/// Classifies what camera `index` sees, until it or the reader of the results goes away.
pub(crate) fn run(classifier: &Classifier, index: u32, output: &mut Output) -> Result<()> {
    let camera = Camera::new(CameraAddress::Number(index), Size { width: 640, height: 480 }, 30);
    let source = camera.name();
    let mut camera = camera.open()?;
    let mut damaged = 0;
    loop {
        let picture = match camera.next() {
            Ok(Some(shot)) => picture(&shot),
            Ok(None) => return Ok(()),
            Err(SourceError::Damaged(reason)) => Err(reason),
            Err(error) => return Err(error.into()),
        };
        let picture = match picture {
            Ok(picture) => picture,
            Err(error) => {
                damaged += 1;
                if damaged == DAMAGED_LIMIT {
                    bail!("{source}: {DAMAGED_LIMIT} damaged frames in a row, the last: {error}");
                }
                log::warn!("{source}: {error}");
                continue;
            }
        };
        damaged = 0;
        let start = Instant::now();
        let predictions = classifier.classify(&picture)?;
        output.predictions(&source, &predictions, start.elapsed().as_secs_f64() * 1e3)?;
    }
}

fn picture(shot: &Shot) -> Result<RgbImage, String> {
    match &shot.payload {
        Payload::Encoded(bytes) => decode_picture(bytes),
        Payload::Raw { layout, bytes } => layout.frame(bytes).map(|frame| frame.to_rgb()),
    }
    .map_err(|error| error.to_string())
}
