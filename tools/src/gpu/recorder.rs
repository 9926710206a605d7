//! Collects kernel calls into one submission, and reads results back.

use std::sync::Arc;

use super::device::Gpu;
use super::kernels::Kernel;
use super::pool::{Buf, Pool, PoolError, create_buffer};
use super::readback::ReadBack;
use crate::engine::EngineError;

/// A submission being recorded. Dropped without [`Recorder::submit`], nothing of it runs.
pub(crate) struct Recorder {
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) pool: Pool,
    encoder: wgpu::CommandEncoder,
    params: Vec<u8>,
}

impl Recorder {
    pub(crate) fn new(gpu: &Arc<Gpu>, pool: &Pool) -> Self {
        let encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("micro-batch") });
        Self { gpu: Arc::clone(gpu), pool: pool.clone(), encoder, params: Vec::new() }
    }

    /// A tensor of `count` values with undefined content.
    ///
    /// # Errors
    /// As [`Pool::take`].
    pub(crate) fn tensor(&self, count: usize) -> Result<Buf, PoolError> {
        self.pool.take(count)
    }

    /// A tensor of these four-byte values. The write takes place before all kernels of this submission, so all uploads
    /// have to stand before the first kernel: a later one could overwrite a buffer that a kernel still reads.
    ///
    /// # Errors
    /// As [`Pool::take`].
    pub(crate) fn upload<T: bytemuck::Pod>(&self, values: &[T]) -> Result<Buf, PoolError> {
        debug_assert!(self.params.is_empty(), "uploads stand before kernels");
        let buf = self.pool.take(values.len())?;
        self.gpu.queue.write_buffer(&buf, 0, bytemuck::cast_slice(values));
        Ok(buf)
    }

    /// Zeroes a buffer.
    pub(crate) fn clear(&mut self, buffer: &wgpu::Buffer) {
        self.encoder.clear_buffer(buffer, 0, None);
    }

    /// Records `kernel` over `groups` workgroups, folded into two dimensions where one does not reach. Binding 0 takes
    /// `params`; storage buffers are given with their binding.
    ///
    /// # Errors
    /// When the kernel cannot be compiled or the work is larger than two dimensions hold.
    pub(crate) fn dispatch(
        &mut self,
        kernel: &Kernel,
        params: &[u32],
        buffers: &[(u32, &wgpu::Buffer)],
        groups: usize,
    ) -> Result<(), PoolError> {
        let (x, y) = fold(groups, self.gpu.limits.max_compute_workgroups_per_dimension)?;
        let pipeline = self.gpu.pipeline(kernel)?;
        let (params_buffer, offset, size) = self.place_params(params);
        let uniform = wgpu::BufferBinding { buffer: &params_buffer, offset, size: std::num::NonZeroU64::new(size) };
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(uniform) }];
        for &(binding, buffer) in buffers {
            entries.push(wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
        }
        let group = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(x, y, 1);
        Ok(())
    }

    /// Appends the words to the uniform data; returns the buffer, offset and size that they will stand at.
    fn place_params(&mut self, words: &[u32]) -> (wgpu::Buffer, u64, u64) {
        let align = u64::from(self.gpu.limits.min_uniform_buffer_offset_alignment).max(16);
        let size = (words.len() as u64 * 4).next_multiple_of(16);
        let mut at = (self.params.len() as u64).next_multiple_of(align);
        if at % Gpu::PARAMS_BYTES + size > Gpu::PARAMS_BYTES {
            at = at.next_multiple_of(Gpu::PARAMS_BYTES);
        }
        // Uniform data is a few KiB a submission; it fits any address space.
        self.params.resize(at as usize, 0);
        self.params.extend_from_slice(bytemuck::cast_slice(words));
        self.params.resize((at + size) as usize, 0);
        (self.gpu.params_buffer((at / Gpu::PARAMS_BYTES) as usize), at % Gpu::PARAMS_BYTES, size)
    }

    /// Hands everything recorded to the device, in order behind earlier submissions.
    ///
    /// # Errors
    /// When the device has reported a failure.
    pub(crate) fn submit(self) -> Result<wgpu::SubmissionIndex, EngineError> {
        self.gpu.submit(&self.params, self.encoder.finish())
    }

    /// Submits; the result gives the first `counts[i]` values of each buffer once the device has come so far.
    ///
    /// # Errors
    /// When the device fails or has no memory left for the copies.
    pub(crate) fn read_later(
        mut self,
        buffers: &[(&wgpu::Buffer, usize)],
    ) -> Result<(wgpu::SubmissionIndex, ReadBack), EngineError> {
        let gpu = Arc::clone(&self.gpu);
        let mut staged = Vec::with_capacity(buffers.len());
        for &(buffer, count) in buffers {
            let bytes = count as u64 * 4;
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let Some(staging) = create_buffer(&gpu, "read-back", bytes, usage) else {
                return Err(EngineError::Device(format!("no memory left to read {bytes} bytes back from the device")));
            };
            self.encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, bytes);
            staged.push(staging);
        }
        let submission = self.submit()?;
        Ok((submission.clone(), ReadBack::new(gpu, submission, staged)))
    }

    /// Submits, then waits for and returns the first `counts[i]` values of each buffer.
    ///
    /// # Errors
    /// As [`Recorder::read_later`].
    pub(crate) fn read(self, buffers: &[(&wgpu::Buffer, usize)]) -> Result<Vec<Vec<f32>>, EngineError> {
        self.read_later(buffers)?.1.wait()
    }
}

/// `groups` workgroups as two dimensions of at most `most`.
fn fold(groups: usize, most: u32) -> Result<(u32, u32), EngineError> {
    let most = most as usize;
    let x = groups.clamp(1, most);
    let y = groups.div_ceil(x).max(1);
    if y > most {
        let expected = format!("at most {} workgroups", most * most);
        return Err(EngineError::Mismatch { what: "work of one kernel", expected, got: groups.to_string() });
    }
    // Both are at most a u32.
    Ok((x as u32, y as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dispatch_beyond_one_dimension_is_folded() {
        assert_eq!(fold(7, 65_535).unwrap(), (7, 1));
        assert_eq!(fold(65_536, 65_535).unwrap(), (65_535, 2));
        assert_eq!(fold(10, 4).unwrap(), (4, 3));
        assert!(fold(17, 4).is_err());
    }
}
