//! The state between pictures.

use std::iter;
use std::time::Duration;

use super::clip::Clip;
use super::ignore::ignored;
use super::{DecisionError, Options};
use crate::{Activation, Bundle};

/// The answer for a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// The class, by its place among the model's outputs; `None` if it is unknown.
    pub index: Option<usize>,
    /// The class's smoothed score, 0 to 1; if it is unknown, that of the best class that is not ignored.
    pub score: f32,
    /// Whether the class, or that it is unknown, is another answer than the one before. The first answer is.
    pub changed: bool,
}

/// Makes answers out of logits, picture after picture, by the law that the [module](super) states.
#[derive(Debug, Clone)]
pub struct Decider {
    activation: Activation,
    temperature: f32,
    threshold: f32,
    /// The time constant in seconds; 0 for no smoothing.
    smoothing: f64,
    hysteresis: f32,
    patience: Duration,
    ignored: Vec<bool>,
    clip: Clip,
    /// Of the last picture alone, or of the last clip.
    latest: Vec<f32>,
    /// Over time.
    smoothed: Vec<f32>,
    present: Option<Present>,
}

/// What is known of the pictures so far.
#[derive(Debug, Clone, Copy)]
struct Present {
    answer: Option<usize>,
    /// When the last picture was taken.
    at: Duration,
    /// When the last picture was taken whose verdict was the answer.
    agreed: Duration,
}

impl Decider {
    /// A decider for the model with this `bundle`.
    ///
    /// # Errors
    /// Those of [`Options::check`]; [`DecisionError::UnknownLabel`] and [`DecisionError::AllIgnored`] if the ignored
    /// classes do not fit the model; [`DecisionError::Bundle`] if the bundle is not sound.
    pub fn new(bundle: &Bundle, options: &Options) -> Result<Self, DecisionError> {
        options.check()?;
        bundle.check()?;
        let rejection = bundle.rejection;
        let classes = bundle.labels.len();
        Ok(Self {
            activation: bundle.activation,
            temperature: rejection.map_or(1.0, |rejection| rejection.temperature),
            threshold: options.threshold.or(rejection.map(|rejection| rejection.threshold)).unwrap_or(0.0),
            smoothing: options.smoothing.unwrap_or_default().as_secs_f64(),
            hysteresis: options.hysteresis,
            patience: options.patience,
            ignored: ignored(&options.ignore, &bundle.labels)?,
            clip: Clip::new(options.clip, classes),
            latest: vec![0.0; classes],
            smoothed: vec![0.0; classes],
            present: None,
        })
    }

    /// The answer after a picture with these `logits`, one a class, that was taken `at` this instant of a clock of the
    /// caller's.
    ///
    /// With smoothing, a second picture of the same instant weighs nothing. An instant before the last one's begins
    /// anew, as [`reset`](Self::reset) does. Logits that are not one finite number a class, which no
    /// [`Model`](crate::Model) gives, are passed over: the last answer stands.
    pub fn decide(&mut self, logits: &[f32], at: Duration) -> Decision {
        if logits.len() != self.latest.len() || !logits.iter().all(|logit| logit.is_finite()) {
            return self.decision(self.present.and_then(|present| present.answer), false);
        }
        let before = self.present.filter(|present| present.at <= at);
        if before.is_none() {
            self.clip.reset();
        }
        self.activation.apply_into(self.clip.mean(logits), self.temperature, &mut self.latest);
        let share = before.map_or(1.0, |before| self.share(at - before.at));
        for (smoothed, latest) in self.smoothed.iter_mut().zip(&self.latest) {
            *smoothed = (1.0 - share) * *smoothed + share * latest;
        }
        let Some(before) = before else {
            let answer = self.verdict(None);
            let changed = self.present.is_none_or(|present| present.answer != answer);
            self.present = Some(Present { answer, at, agreed: at });
            return self.decision(answer, changed);
        };
        let verdict = self.verdict(before.answer);
        let answer = if self.replaces(verdict, before, at) { verdict } else { before.answer };
        let agreed = if answer == verdict { at } else { before.agreed };
        self.present = Some(Present { answer, at, agreed });
        self.decision(answer, answer != before.answer)
    }

    /// The smoothed score of every class, ignored ones too, in the model's order; they sum to 1. Zeros before the
    /// first picture.
    pub fn scores(&self) -> &[f32] {
        &self.smoothed
    }

    /// The best `k` classes that are not ignored, each by its place among the model's outputs with its smoothed score,
    /// best first; each takes a pass over the classes.
    pub fn top(&self, k: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let after =
            |last: (usize, f32)| self.best(move |(index, score)| score < last.1 || (score == last.1 && index > last.0));
        iter::successors(self.best(|_| true), move |&last| after(last)).take(k)
    }

    /// Forgets all pictures: the next one is the first.
    pub fn reset(&mut self) {
        self.smoothed.fill(0.0);
        self.clip.reset();
        self.present = None;
    }

    /// How far the smoothed scores move towards those of a picture that comes `interval` after the one before.
    fn share(&self, interval: Duration) -> f32 {
        if self.smoothing == 0.0 {
            return 1.0;
        }
        // 1 - exp(-x) without the cancellation at small x.
        -(-interval.as_secs_f64() / self.smoothing).exp_m1() as f32
    }

    /// What the smoothed scores say by themselves.
    fn verdict(&self, answer: Option<usize>) -> Option<usize> {
        let (best, score) = self.best(|_| true)?;
        let equal = answer.filter(|&answer| self.smoothed.get(answer) == Some(&score));
        (score >= self.threshold).then_some(equal.unwrap_or(best))
    }

    /// Whether the `verdict` at this instant takes the place of the answer `before`.
    fn replaces(&self, verdict: Option<usize>, before: Present, at: Duration) -> bool {
        if verdict == before.answer {
            return false;
        }
        let score = |class: usize| self.smoothed.get(class).copied().unwrap_or(0.0);
        let Some(held) = before.answer.map(score) else { return true };
        held < self.threshold - self.hysteresis
            || verdict.is_some_and(|verdict| score(verdict) >= held + self.hysteresis)
            || at - before.agreed >= self.patience
    }

    /// The first of the highest scores among the classes that are not ignored and that `among` lets pass.
    fn best(&self, among: impl Fn((usize, f32)) -> bool) -> Option<(usize, f32)> {
        let classes = self.smoothed.iter().copied().enumerate().zip(&self.ignored);
        let classes = classes.filter(|&(class, &ignored)| !ignored && among(class)).map(|(class, _)| class);
        classes.reduce(|best, class| if class.1 > best.1 { class } else { best })
    }

    fn decision(&self, index: Option<usize>, changed: bool) -> Decision {
        let score = match index {
            Some(index) => self.smoothed.get(index).copied(),
            None => self.best(|_| true).map(|(_, score)| score),
        };
        Decision { index, score: score.unwrap_or(0.0), changed }
    }
}

#[cfg(test)]
mod tests;
