//! The live page of a file of segmentation: areas take the place of scores, and pictures have their mask laid over them.

use std::sync::Arc;

use anyhow::Result;

use crate::capture::{Capture, Counts, Taken};
use crate::frame::Frame;
use crate::serve::{Hub, Options, Server, preview};
use crate::{Candidate, Mask, Observation, Stages, class_color};

/// How many classes are named.
const TOP_K: usize = 3;

/// The page, and what it has shown.
pub(super) struct Page {
    hub: Arc<Hub>,
    labels: Vec<Arc<str>>,
    /// The class with the largest area in the last picture.
    last: Option<Arc<str>>,
    /// Dropped, it stops.
    _server: Server,
}

impl Page {
    /// Starts the page of a model with these `labels`.
    pub(super) fn start(options: &Options, labels: &[String]) -> Result<Self> {
        let labels: Vec<Arc<str>> = labels.iter().map(|label| Arc::from(label.as_str())).collect();
        let hub = Arc::new(Hub::new(labels.iter().cloned()));
        let server = Server::start(options.clone(), Arc::clone(&hub))?;
        log::info!("the page is at http://{}/", server.address());
        Ok(Self { hub, labels, last: None, _server: server })
    }

    /// A small picture of `frame` under its mask, if anybody watches.
    pub(super) fn preview(&self, frame: &Frame<'_>, mask: &Mask) -> Option<Arc<[u8]>> {
        self.hub.wants_preview().then(|| preview(&Frame::from(&overlaid(frame, mask))).into())
    }

    /// Shows the shares of the classes in a picture, each 0 to 1 and in the labels' order.
    pub(super) fn show(&mut self, taken: &Taken, shares: &[f64], told: Told, preview: Option<Arc<[u8]>>) {
        let mut top: Vec<Candidate> = self
            .labels
            .iter()
            .zip(shares)
            .map(|(label, &share)| Candidate { label: label.clone(), score: share as f32 })
            .collect();
        top.sort_by(|a, b| b.score.total_cmp(&a.score));
        top.truncate(TOP_K);
        let Some(Candidate { label, score }) = top.first().cloned() else { return };
        let observation = Observation {
            source: Arc::clone(&taken.shot.name),
            frame: taken.sequence,
            time: told.time,
            age_ms: told.age_ms,
            changed: self.last.as_ref() != Some(&label),
            label: Arc::clone(&label),
            known: true,
            score,
            top,
            stages: told.stages,
            counts: told.counts,
        };
        self.last = Some(label);
        self.hub.publish(&observation, preview);
    }

    /// Tells those who ask how the source is.
    pub(super) fn health(&self, capture: &Capture) {
        self.hub.set_health(capture.health());
        self.hub.set_counts(capture.counts());
    }
}

/// What is told of a picture beside its areas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) time: f64,
    pub(super) age_ms: f64,
    pub(super) stages: Stages,
    pub(super) counts: Counts,
}

/// The picture, half in the colours of its classes. Class 0, whose colour is black, is left as it is.
fn overlaid(frame: &Frame<'_>, mask: &Mask) -> image::RgbImage {
    let mut picture = frame.to_rgb();
    for (pixel, &class) in picture.pixels_mut().zip(mask.classes()).filter(|(_, class)| **class != 0) {
        // The mean of two bytes is one.
        let mean = |(value, color): (u8, u8)| u16::midpoint(value.into(), color.into()) as u8;
        let [r, g, b] = class_color(class);
        pixel.0 = [(pixel.0[0], r), (pixel.0[1], g), (pixel.0[2], b)].map(mean);
    }
    picture
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    #[test]
    fn classes_are_laid_over_the_picture_in_their_colours() {
        let picture = RgbImage::from_pixel(3, 1, Rgb([100, 50, 0]));
        let mask = Mask::new(3, 1, vec![0, 1, 2]).unwrap();
        let shown = overlaid(&Frame::from(&picture), &mask);
        assert_eq!(shown.pixels().map(|pixel| pixel.0).collect::<Vec<_>>(), [[100, 50, 0], [114, 25, 0], [50, 89, 0]]);
    }
}
