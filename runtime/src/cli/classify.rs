//! The work of a file of classification: an answer for each picture, and everybody told.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::Result;

use super::eye::{Answer, Eye, milliseconds};
use super::model::Model;
use super::outputs::Outputs;
use super::settings::{Pictures, Settings};
use super::watch::{Unanswered, Work, watch};
use crate::capture::{Capture, Clock, Counts, SystemClock, Taken};
use crate::{Classifier, Observation};

/// How often a folder of models is looked at.
const MODEL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a model has to do its work before it counts as good.
const TRIAL: Duration = Duration::from_secs(30);

/// Classifies until the source ends or `stop` is set. Gives what [`watch`] does.
pub(crate) fn run(
    settings: &Settings,
    pictures: Pictures,
    model: Model,
    classifier: &Classifier,
    stop: &AtomicBool,
) -> Result<bool> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut running = Running {
        eye: settings.eye(classifier)?,
        settings,
        model,
        outputs: Outputs::start(settings, classifier)?,
        clock: Arc::clone(&clock),
        files: pictures.files,
        trial: Some(Instant::now()),
        looked: Instant::now(),
    };
    let all_answered = watch(pictures, clock, &mut running, stop)?;
    running.model.stopping();
    Ok(all_answered)
}

/// What lives as long as the loop.
struct Running<'a> {
    settings: &'a Settings,
    eye: Eye,
    model: Model,
    outputs: Outputs,
    clock: Arc<dyn Clock>,
    files: bool,
    /// Since when the model is on trial; `None` once it has proved good.
    trial: Option<Instant>,
    looked: Instant,
}

impl Work for Running<'_> {
    const DONE: &'static str = "classified";

    fn picture(&mut self, taken: &Taken, capture: &Capture) -> Result<Option<String>, Unanswered> {
        if self.files {
            self.eye.forget();
        }
        let outputs = &self.outputs;
        let picture = (&taken.shot.payload).into();
        let (answer, preview) = self.eye.look(picture, taken.arrived, |frame| outputs.preview(frame))?;
        let observation = self.observation(taken, answer, capture.counts());
        self.outputs.observe(&observation, preview)?;
        Ok(Some(format!("{}: {}", observation.source, observation.label)))
    }

    /// Tells how the source is; now and then another model, and the word that this one is good.
    fn look_after(&mut self, capture: &Capture) -> Result<()> {
        self.outputs.health(capture);
        if self.looked.elapsed() < MODEL_INTERVAL {
            return Ok(());
        }
        self.looked = Instant::now();
        if self.trial.is_some_and(|since| since.elapsed() >= TRIAL) {
            self.trial = None;
            self.model.healthy();
        }
        if let Some(classifier) = self.model.switched() {
            self.eye = self.settings.eye(&classifier)?;
            self.outputs.take_over(self.settings, &classifier)?;
            self.trial = Some(Instant::now());
            log::info!("classifying with {}", self.model.name());
        }
        Ok(())
    }
}

impl Running<'_> {
    fn observation(&self, taken: &Taken, answer: Answer, counts: Counts) -> Observation {
        Observation {
            source: Arc::clone(&taken.shot.name),
            frame: taken.sequence,
            time: taken.shot.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            age_ms: milliseconds(self.clock.now().saturating_sub(taken.arrived)),
            label: answer.label,
            known: answer.known,
            changed: answer.changed,
            score: answer.score,
            top: answer.top,
            stages: answer.stages,
            counts,
        }
    }
}
