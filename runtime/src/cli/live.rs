//! Pictures from a camera.

use std::time::Instant;

use anyhow::{Result, bail};
use edge_vit::Classifier;
use edge_vit::camera::{Camera, CameraError};

use crate::cli::output::Output;

/// Damaged frames in a row after which the camera is given up. The first frames of a stream often are.
const DAMAGED_LIMIT: u32 = 30;

/// Classifies what camera `index` sees, until it or the reader of the results goes away.
pub(crate) fn run(classifier: &Classifier, index: u32, output: &mut Output) -> Result<()> {
    let mut camera = Camera::open(index)?;
    let source = format!("camera {index}");
    let mut damaged = 0;
    loop {
        let picture = match camera.frame() {
            Ok(picture) => picture,
            Err(error @ CameraError::Frame { .. }) => {
                damaged += 1;
                if damaged == DAMAGED_LIMIT {
                    bail!("{source}: {DAMAGED_LIMIT} damaged frames in a row, the last: {error}");
                }
                log::warn!("{source}: {error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        damaged = 0;
        let start = Instant::now();
        let predictions = classifier.classify(&picture)?;
        output.predictions(&source, &predictions, start.elapsed().as_secs_f64() * 1e3)?;
    }
}
