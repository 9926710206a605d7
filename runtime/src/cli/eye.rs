//! One model looking at one picture after another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::capture::Payload;
use crate::decision::{Decider, Options};
use crate::frame::{Decoder, Frame, FrameLayout};
use crate::{Candidate, Classifier, Error, Stages, UNKNOWN, Workspace};

/// A model with the buffers that it works in and the decisions it has made.
pub(crate) struct Eye {
    classifier: Classifier,
    decoder: Decoder,
    workspace: Workspace,
    decider: Decider,
    labels: Vec<Arc<str>>,
    unknown: Arc<str>,
    top_k: usize,
}

/// A picture that belongs to somebody else.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Picture<'a> {
    /// A picture file.
    Encoded(&'a [u8]),
    /// Raw pixels that lie so.
    Raw(FrameLayout, &'a [u8]),
}

impl<'a> Picture<'a> {
    /// Its pixels, in the memory of `decoder` where they have to be decoded.
    pub(crate) fn frame(self, decoder: &'a mut Decoder) -> Result<Frame<'a>, Blind> {
        match self {
            Self::Encoded(bytes) => decoder.decode(bytes),
            Self::Raw(layout, bytes) => layout.frame(bytes),
        }
        .map_err(Blind::Picture)
    }
}

impl<'a> From<&'a Payload> for Picture<'a> {
    fn from(payload: &'a Payload) -> Self {
        match payload {
            Payload::Encoded(bytes) => Self::Encoded(bytes),
            Payload::Raw { layout, bytes } => Self::Raw(*layout, bytes),
        }
    }
}

/// What the eye says of a picture.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) label: Arc<str>,
    pub(crate) known: bool,
    pub(crate) changed: bool,
    pub(crate) score: f32,
    pub(crate) top: Vec<Candidate>,
    pub(crate) stages: Stages,
}

impl Answer {
    /// What is said of a picture that was sent, and not taken by the source.
    #[cfg(feature = "serve")]
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "label": &*self.label, "known": self.known, "score": self.score, "top": self.top, "stages": self.stages,
        })
    }
}

/// Why it says nothing.
#[derive(Debug)]
pub(crate) enum Blind {
    /// The picture is damaged; the next may be whole.
    Picture(Error),
    /// The model failed.
    Model(Error),
}

impl Eye {
    pub(crate) fn new(classifier: Classifier, options: &Options, top_k: usize) -> Result<Self> {
        let decider = Decider::new(classifier.bundle(), options)?;
        let labels = classifier.bundle().labels.iter().map(|label| Arc::from(label.as_str())).collect();
        let workspace = classifier.workspace();
        Ok(Self { classifier, decoder: Decoder::new(), workspace, decider, labels, unknown: UNKNOWN.into(), top_k })
    }

    /// Looks at `picture`, taken at `at`. What `preview` makes of the pixels is given back.
    pub(crate) fn look<P>(
        &mut self,
        picture: Picture<'_>,
        at: Duration,
        preview: impl FnOnce(&Frame<'_>) -> Option<P>,
    ) -> Result<(Answer, Option<P>), Blind> {
        let start = Instant::now();
        let frame = picture.frame(&mut self.decoder)?;
        let decoded = Instant::now();
        self.classifier.prepare(&frame, &mut self.workspace).map_err(Blind::Picture)?;
        let prepared = Instant::now();
        let logits = self.classifier.run_prepared(&mut self.workspace).map_err(Blind::Model)?;
        let stages = Stages {
            decode_ms: milliseconds(decoded - start),
            prepare_ms: milliseconds(prepared - decoded),
            model_ms: milliseconds(prepared.elapsed()),
        };
        let decision = self.decider.decide(logits, at);
        let label = decision.index.and_then(|index| self.labels.get(index)).unwrap_or(&self.unknown);
        let candidate =
            |(index, score): (usize, f32)| Some(Candidate { label: self.labels.get(index)?.clone(), score });
        let answer = Answer {
            label: Arc::clone(label),
            known: decision.index.is_some(),
            changed: decision.changed,
            score: decision.score,
            top: self.decider.top(self.top_k).filter_map(candidate).collect(),
            stages,
        };
        Ok((answer, preview(&frame)))
    }

    /// Forgets what was seen: the next picture is of something else.
    pub(crate) fn forget(&mut self) {
        self.decider.reset();
        self.workspace.forget();
    }
}

/// `duration` in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
