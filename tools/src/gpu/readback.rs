//! Values on their way back from the device.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::device::Gpu;
use crate::engine::EngineError;

/// Values that a submission leaves in memory that the processor can read.
pub(crate) struct ReadBack {
    gpu: Arc<Gpu>,
    submission: wgpu::SubmissionIndex,
    staged: Vec<wgpu::Buffer>,
    /// One message for each buffer, once it can be read.
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl ReadBack {
    /// What `submission` copies into `staged`, whose buffers nothing behind it writes.
    pub(crate) fn new(gpu: Arc<Gpu>, submission: wgpu::SubmissionIndex, staged: Vec<wgpu::Buffer>) -> Self {
        let (sender, mapped) = std::sync::mpsc::channel();
        for staging in &staged {
            let sender = sender.clone();
            staging.map_async(wgpu::MapMode::Read, .., move |result| {
                // Whoever no longer waits for the values does not miss them.
                let _ = sender.send(result);
            });
        }
        Self { gpu, submission, staged, mapped }
    }

    /// Waits for the submission, and returns the values of each buffer.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn wait(self) -> Result<Vec<Vec<f32>>, EngineError> {
        let Self { gpu, submission, staged, mapped } = self;
        gpu.wait_for(submission)?;
        let failed = |error: &dyn std::fmt::Display| {
            EngineError::Device(format!("results could not be read back from `{}`: {error}", gpu.info.name))
        };
        for result in mapped {
            result.map_err(|error| failed(&error))?;
        }
        let values = |staging: &wgpu::Buffer| {
            let view = staging.get_mapped_range(..).map_err(|error| failed(&error))?;
            let value = |bytes: &[u8]| f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            Ok(view.chunks_exact(4).map(value).collect())
        };
        staged.iter().map(values).collect()
    }
}
