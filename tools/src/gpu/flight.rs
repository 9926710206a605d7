//! What the device has been handed and has not finished, and the losses that come back late.

use std::collections::VecDeque;
use std::sync::Arc;

use super::device::Gpu;
use super::readback::ReadBack;
use crate::engine::EngineError;

/// The most submissions, and steps, that the device has before it: one that it works on and one that it goes on with. More
/// would keep it no busier, and each holds its uploads.
pub(crate) const IN_FLIGHT: usize = 2;

/// Training steps on their way.
pub(crate) struct Flight {
    gpu: Arc<Gpu>,
    submissions: VecDeque<wgpu::SubmissionIndex>,
    losses: VecDeque<LateLoss>,
}

/// The loss of a step that the device may not have taken yet.
struct LateLoss {
    /// Those of the batch's rows, micro-batch by micro-batch.
    rows: ReadBack,
    /// What all rows count together.
    weight: f64,
}

impl LateLoss {
    fn wait(self) -> Result<f32, EngineError> {
        Ok(mean(&self.rows.wait()?, self.weight))
    }
}

/// The mean over a batch of its rows' losses, micro-batch by micro-batch; `weight` is what all rows count together.
pub(crate) fn mean(parts: &[Vec<f32>], weight: f64) -> f32 {
    let sum: f64 = parts.iter().flatten().map(|&loss| f64::from(loss)).sum();
    (sum / weight) as f32
}

impl Flight {
    pub(crate) fn new(gpu: Arc<Gpu>) -> Self {
        Self { gpu, submissions: VecDeque::new(), losses: VecDeque::new() }
    }

    /// Takes note of a submission, and waits until no more than [`IN_FLIGHT`] are unfinished.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn submitted(&mut self, submission: wgpu::SubmissionIndex) -> Result<(), EngineError> {
        self.submissions.push_back(submission);
        while self.submissions.len() > IN_FLIGHT {
            if let Some(oldest) = self.submissions.pop_front() {
                self.gpu.wait_for(oldest)?;
            }
        }
        Ok(())
    }

    /// Takes note of the losses of a submitted step.
    pub(crate) fn owes(&mut self, rows: ReadBack, weight: f64) {
        self.losses.push_back(LateLoss { rows, weight });
    }

    /// The losses of all steps but the newest [`IN_FLIGHT`], oldest first, each told once.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn arrived(&mut self) -> Result<Vec<f32>, EngineError> {
        let count = self.losses.len().saturating_sub(IN_FLIGHT);
        self.losses.drain(..count).map(LateLoss::wait).collect()
    }

    /// The losses of all steps, oldest first, each told once.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn all(&mut self) -> Result<Vec<f32>, EngineError> {
        self.losses.drain(..).map(LateLoss::wait).collect()
    }

    /// The loss of the newest step; `None` where it was told.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn newest(&mut self) -> Result<Option<f32>, EngineError> {
        self.losses.pop_back().map(LateLoss::wait).transpose()
    }
}
