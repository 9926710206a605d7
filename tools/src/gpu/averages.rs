//! The moving average of the trained weights, kept where they are.

use super::device::Gpu;
use super::kernels::average;
use super::pool::PoolError;
use super::recorder::Recorder;
use super::weights::{Training, Weights, allocate, write};
use crate::engine::{Average, EngineError};

/// A buffer for the average of each trained weight, in the order of their names.
pub(crate) struct Averages {
    decay: f32,
    values: Vec<wgpu::Buffer>,
}

impl Averages {
    /// Puts `average`, which is one of the trained ones of `weights`, on the device.
    ///
    /// # Errors
    /// When there is no memory left for it.
    pub(crate) fn new(gpu: &Gpu, weights: &Weights, average: &Average) -> Result<Self, EngineError> {
        let place = |(name, training): (&String, &Training)| {
            let buffer = allocate(gpu, name, training.count())?;
            if let Some(tensor) = average.weights().get(name) {
                write(gpu, &buffer, tensor);
            }
            Ok(buffer)
        };
        let values = weights.trained().iter().map(place).collect::<Result<_, EngineError>>()?;
        Ok(Self { decay: average.decay(), values })
    }

    /// Records the move behind the step `steps`, counted from 1.
    ///
    /// # Errors
    /// When the kernel cannot be compiled.
    pub(crate) fn update(&self, rec: &mut Recorder, weights: &Weights, steps: u64) -> Result<(), PoolError> {
        let share = Average::share(self.decay, steps);
        for (trained, buffer) in weights.updates()?.iter().zip(&self.values) {
            average::update(rec, trained.value, buffer, trained.count, share)?;
        }
        Ok(())
    }

    /// The buffers to read, with the number of values of each, in the order of the weights' names.
    pub(crate) fn to_read<'a>(&'a self, weights: &Weights) -> Vec<(&'a wgpu::Buffer, usize)> {
        let counts = weights.trained().values().map(Training::count);
        self.values.iter().zip(counts).collect()
    }
}
