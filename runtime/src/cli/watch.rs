//! The loop: the newest picture, and what is made of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};

use super::eye::Blind;
use super::service::Service;
use super::settings::Pictures;
use crate::Error;
use crate::capture::{Capture, Clock, Health, Next, Taken};

/// The longest wait for a picture before the rest is looked after.
const TICK: Duration = Duration::from_millis(200);

/// What is made of pictures.
pub(crate) trait Work {
    /// What is done to a picture, as the end of "2 of 8 pictures could not be ...".
    const DONE: &'static str;

    /// Answers for a picture. Gives what a service manager is to show.
    fn picture(&mut self, taken: &Taken, capture: &Capture) -> Result<Option<String>, Unanswered>;

    /// Looks after everything else, after each picture and each tick without one.
    fn look_after(&mut self, capture: &Capture) -> Result<()>;
}

/// Why a picture has no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// It is damaged; the next may be whole.
    Damaged(Error),
    /// There can be no other answers either.
    Failed(anyhow::Error),
}

impl From<Blind> for Unanswered {
    fn from(blind: Blind) -> Self {
        match blind {
            Blind::Picture(error) => Self::Damaged(error),
            Blind::Model(error) => Self::Failed(error.into()),
        }
    }
}

impl From<anyhow::Error> for Unanswered {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Has `work` answer until the source ends or `stop` is set. Gives whether every picture has an answer, as far as the source is one
/// of files: damaged frames of a camera are no failure.
pub(crate) fn watch<W: Work>(
    pictures: Pictures,
    clock: Arc<dyn Clock>,
    work: &mut W,
    stop: &AtomicBool,
) -> Result<bool> {
    let Pictures { open, options, files } = pictures;
    let mut service = Service::new();
    let capture = Capture::start(open, options, clock)?;
    service.ready();
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        match capture.take(TICK) {
            Next::Shot(taken) => match work.picture(&taken, &capture) {
                Ok(status) => {
                    answered += 1;
                    service.alive();
                    status.iter().for_each(|status| service.status(status));
                }
                Err(Unanswered::Damaged(error)) => {
                    capture.count_damaged();
                    let level = if files { log::Level::Error } else { log::Level::Warn };
                    log::log!(level, "{}: {:#}", taken.shot.name, anyhow::Error::from(error));
                }
                Err(Unanswered::Failed(error)) => return Err(error),
            },
            Next::Nothing => {
                // Known and being acted on: not a program that hangs.
                if let Health::Waiting(reason) = capture.health() {
                    service.alive();
                    service.status(&reason);
                }
            }
            Next::Ended(reason) => {
                log::debug!("{reason}");
                break;
            }
            Next::Failed(reason) => bail!(reason),
        }
        work.look_after(&capture)?;
    }
    let damaged = capture.counts().damaged;
    if !files || damaged == 0 {
        return Ok(true);
    }
    log::error!("{damaged} of {} pictures could not be {}", damaged + answered, W::DONE);
    Ok(false)
}
