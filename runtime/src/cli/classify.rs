//! The loop: the newest picture, an answer, and everybody told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Result, bail};

use super::eye::{Answer, Blind, Eye, milliseconds};
use super::model::Model;
use super::outputs::Outputs;
use super::service::Service;
use super::settings::{Pictures, Settings};
use crate::capture::{Capture, Clock, Counts, Health, Next, SystemClock, Taken};
use crate::{Classifier, Observation};

/// The longest wait for a picture before the rest is looked after.
const TICK: Duration = Duration::from_millis(200);
/// How often a folder of models is looked at.
const MODEL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a model has to do its work before it counts as good.
const TRIAL: Duration = Duration::from_secs(30);

/// Classifies until the source ends or `stop` is set. Gives whether every picture could be classified, as far as the
/// source is one of files: damaged frames of a camera are no failure.
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
        clock: Arc::clone(&clock),
        files: pictures.files,
        service: Service::new(),
        trial: Some(Instant::now()),
        looked: Instant::now(),
        answered: 0,
    };
    let mut outputs = Outputs::start(settings, classifier)?;
    let Pictures { open, options, .. } = pictures;
    let capture = Capture::start(open, options, clock)?;
    running.service.ready();
    while !stop.load(Ordering::Relaxed) {
        match capture.take(TICK) {
            Next::Shot(taken) => running.picture(&taken, &capture, &mut outputs)?,
            Next::Nothing => running.nothing(&capture.health()),
            Next::Ended(reason) => {
                log::debug!("{reason}");
                break;
            }
            Next::Failed(reason) => bail!(reason),
        }
        outputs.health(&capture);
        running.look_after(&outputs)?;
    }
    running.model.stopping();
    Ok(running.finish(capture.counts()))
}

/// What lives as long as the loop.
struct Running<'a> {
    settings: &'a Settings,
    eye: Eye,
    model: Model,
    clock: Arc<dyn Clock>,
    files: bool,
    service: Service,
    /// Since when the model is on trial; `None` once it has proved good.
    trial: Option<Instant>,
    looked: Instant,
    /// Pictures that were classified.
    answered: u64,
}

impl Running<'_> {
    fn picture(&mut self, taken: &Taken, capture: &Capture, outputs: &mut Outputs) -> Result<()> {
        if self.files {
            self.eye.forget();
        }
        let looked = self.eye.look((&taken.shot.payload).into(), taken.arrived, |frame| outputs.preview(frame));
        let (answer, preview) = match looked {
            Ok(seen) => seen,
            Err(Blind::Picture(error)) => {
                capture.count_damaged();
                let level = if self.files { log::Level::Error } else { log::Level::Warn };
                log::log!(level, "{}: {:#}", taken.shot.name, anyhow::Error::from(error));
                return Ok(());
            }
            Err(Blind::Model(error)) => return Err(error.into()),
        };
        let observation = self.observation(taken, answer, capture.counts());
        outputs.observe(&observation, preview)?;
        self.answered += 1;
        self.service.alive();
        self.service.status(&format!("{}: {}", observation.source, observation.label));
        Ok(())
    }

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

    /// No picture came within a tick.
    fn nothing(&mut self, health: &Health) {
        // Known and being acted on: not a program that hangs.
        if let Health::Waiting(reason) = health {
            self.service.alive();
            self.service.status(reason);
        }
    }

    /// What is to be done now and then: another model, and the word that this one is good.
    fn look_after(&mut self, outputs: &Outputs) -> Result<()> {
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
            outputs.take_over(self.settings, &classifier)?;
            self.trial = Some(Instant::now());
            log::info!("classifying with {}", self.model.name());
        }
        Ok(())
    }

    fn finish(self, counts: Counts) -> bool {
        if !self.files || counts.damaged == 0 {
            return true;
        }
        log::error!("{} of {} pictures could not be classified", counts.damaged, counts.damaged + self.answered);
        false
    }
}
