//! The work of a file of segmentation: the share of each class in a picture, and a mask where one is asked for.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;

use super::eye::{Blind, Picture, milliseconds};
use super::masks::Masks;
use super::output;
use super::outputs::Preview;
#[cfg(feature = "serve")]
use super::segment_page::{Page, Told};
use super::settings::{Pictures, Settings};
use super::watch::{Unanswered, Work, watch};
use crate::capture::{Capture, Clock, Counts, SystemClock, Taken};
use crate::frame::Decoder;
use crate::{Mask, Segmenter, Workspace};

/// A class with a smaller share than this is left out of the text.
const SHOWN: f64 = 5e-4;

/// The share of a picture's area that a class has.
#[derive(Debug, Serialize)]
struct Area<'a> {
    label: &'a str,
    /// 0 to 1.
    share: f64,
}

/// Where the time of a picture went, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Stages {
    decode_ms: f64,
    prepare_ms: f64,
    model_ms: f64,
    mask_ms: f64,
}

#[cfg(feature = "serve")]
impl Stages {
    /// Those that classification has too.
    fn of_model(self) -> crate::Stages {
        let Self { decode_ms, prepare_ms, model_ms, .. } = self;
        crate::Stages { decode_ms, prepare_ms, model_ms }
    }
}

/// The answer for one picture.
#[derive(Debug, Serialize)]
struct Line<'a> {
    source: &'a str,
    /// The picture's number in its source, from 0.
    frame: u64,
    /// When it was taken, in seconds after the Unix epoch.
    time: f64,
    /// From the picture's arrival to this answer, in milliseconds.
    age_ms: f64,
    width: u32,
    height: u32,
    /// All classes, in the model's order.
    areas: Vec<Area<'a>>,
    /// The file that the mask was written to.
    mask: Option<String>,
    stages: Stages,
    counts: Counts,
}

/// Segments until the source ends or `stop` is set. Gives what [`watch`] does.
pub(crate) fn run(settings: &Settings, pictures: Pictures, segmenter: Segmenter, stop: &AtomicBool) -> Result<bool> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let masks = settings.output.mask_out.clone().map(|folder| Masks::new(folder, pictures.files)).transpose()?;
    #[cfg(feature = "serve")]
    let labels = &segmenter.bundle().labels.clone();
    let mut running = Running {
        workspace: segmenter.workspace(),
        segmenter,
        decoder: Decoder::new(),
        masks,
        #[cfg(feature = "serve")]
        page: settings.serve.as_ref().map(|options| Page::start(options, labels)).transpose()?,
        json: settings.output.json,
        clock: Arc::clone(&clock),
    };
    watch(pictures, clock, &mut running, stop)
}

/// What lives as long as the loop.
struct Running {
    segmenter: Segmenter,
    decoder: Decoder,
    workspace: Workspace,
    masks: Option<Masks>,
    #[cfg(feature = "serve")]
    page: Option<Page>,
    json: bool,
    clock: Arc<dyn Clock>,
}

impl Work for Running {
    const DONE: &'static str = "segmented";

    fn picture(&mut self, taken: &Taken, capture: &Capture) -> Result<Option<String>, Unanswered> {
        let (mask, stages, preview) = self.look((&taken.shot.payload).into())?;
        let source = &*taken.shot.name;
        let written = match &mut self.masks {
            Some(masks) => Some(masks.write(&mask, source, taken.sequence)?.display().to_string()),
            None => None,
        };
        let labels = &self.segmenter.bundle().labels;
        let shares = mask.shares(labels.len());
        let areas = labels.iter().zip(&shares).map(|(label, &share)| Area { label, share });
        let line = Line {
            source,
            frame: taken.sequence,
            time: taken.shot.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            age_ms: milliseconds(self.clock.now().saturating_sub(taken.arrived)),
            width: mask.width(),
            height: mask.height(),
            areas: areas.collect(),
            mask: written,
            stages,
            counts: capture.counts(),
        };
        #[cfg(feature = "serve")]
        if let Some(page) = &mut self.page {
            let Line { time, age_ms, counts, .. } = line;
            let stages = stages.of_model();
            page.show(taken, &shares, Told { time, age_ms, stages, counts }, preview);
        }
        #[cfg(not(feature = "serve"))]
        drop(preview);
        let told = match self.json {
            true => output::json(&line),
            false => output::line(&line.to_text()),
        };
        told.map_err(anyhow::Error::from)?;
        Ok(None)
    }

    fn look_after(&mut self, capture: &Capture) -> Result<()> {
        #[cfg(feature = "serve")]
        self.page.iter().for_each(|page| page.health(capture));
        #[cfg(not(feature = "serve"))]
        let _ = capture;
        Ok(())
    }
}

impl Running {
    /// The mask, where the time went, and a small picture for those who watch the page.
    fn look(&mut self, picture: Picture<'_>) -> Result<(Mask, Stages, Option<Preview>), Blind> {
        let start = Instant::now();
        let frame = picture.frame(&mut self.decoder)?;
        let decoded = Instant::now();
        self.segmenter.prepare(&frame, &mut self.workspace).map_err(Blind::Picture)?;
        let prepared = Instant::now();
        let logits = self.segmenter.run_prepared(&mut self.workspace).map_err(Blind::Model)?;
        let answered = Instant::now();
        let size = [frame.height(), frame.width()];
        let mask = Mask::from_logits(logits, self.segmenter.grid(), size).map_err(Blind::Picture)?;
        let stages = Stages {
            decode_ms: milliseconds(decoded - start),
            prepare_ms: milliseconds(prepared - decoded),
            model_ms: milliseconds(answered - prepared),
            mask_ms: milliseconds(answered.elapsed()),
        };
        #[cfg(feature = "serve")]
        let preview = self.page.as_ref().and_then(|page| page.preview(&frame, &mask));
        #[cfg(not(feature = "serve"))]
        let preview = None;
        Ok((mask, stages, preview))
    }
}

impl Line<'_> {
    /// The picture, and the classes in it, that with the largest area first.
    fn to_text(&self) -> String {
        let mut seen: Vec<&Area<'_>> = self.areas.iter().filter(|area| area.share >= SHOWN).collect();
        seen.sort_by(|a, b| b.share.total_cmp(&a.share));
        let areas = seen.iter().map(|area| format!("{} {:.1} %", area.label, 100.0 * area.share));
        let words: Vec<_> = std::iter::once(self.source.to_owned()).chain(areas).collect();
        words.join("  ")
    }
}
