//! The live page of a file of segmentation: areas take the place of scores, and pictures have their mask laid over them.

use std::sync::Arc;

use anyhow::Result;

use crate::capture::{Capture, Counts, Taken};
use crate::frame::Frame;
use crate::serve::{Hub, Options, Server, preview};
use crate::{Candidate, Mask, Observation, Stages};

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
        self.hub.wants_preview().then(|| {
            let mut picture = frame.to_rgb();
            mask.lay_over(&mut picture);
            preview(&Frame::from(&picture)).into()
        })
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
