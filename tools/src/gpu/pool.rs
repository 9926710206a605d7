//! Device buffers for activations, gradients and scratch: handed out by size, taken back when the last handle is gone.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use super::device::{Gpu, lock};
use crate::engine::EngineError;

/// Why a buffer could not be had.
#[derive(Debug)]
pub(crate) enum PoolError {
    /// The budget or the device's memory is spent: a smaller micro-batch may do.
    Full(String),
    /// Anything else.
    Other(EngineError),
}

impl From<EngineError> for PoolError {
    fn from(error: EngineError) -> Self {
        Self::Other(error)
    }
}

impl From<PoolError> for EngineError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Full(reason) => Self::Device(reason),
            PoolError::Other(error) => error,
        }
    }
}

/// Buffers by capacity. Dropping a [`Buf`] gives its buffer back, and a later kernel of the same submission may write it:
/// kernels run in the order in which they are recorded.
#[derive(Clone)]
pub(crate) struct Pool {
    gpu: Arc<Gpu>,
    shelf: Arc<Mutex<Shelf>>,
}

struct Shelf {
    idle: BTreeMap<u64, Vec<wgpu::Buffer>>,
    held_bytes: u64,
    peak_bytes: u64,
    budget: u64,
}

impl Shelf {
    /// The smallest idle buffer that holds `bytes` without wasting half of itself.
    fn take(&mut self, bytes: u64) -> Option<wgpu::Buffer> {
        let (&capacity, buffers) = self.idle.range_mut(bytes..=2 * bytes).next()?;
        let buffer = buffers.pop();
        if buffers.is_empty() {
            self.idle.remove(&capacity);
        }
        buffer
    }

    fn clear(&mut self) {
        for (capacity, buffers) in std::mem::take(&mut self.idle) {
            self.held_bytes -= capacity * buffers.len() as u64;
        }
    }
}

/// A buffer of the pool; clones share it.
#[derive(Clone)]
pub(crate) struct Buf(Arc<Lent>);

struct Lent {
    buffer: wgpu::Buffer,
    shelf: Arc<Mutex<Shelf>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        lock(&self.shelf).idle.entry(self.buffer.size()).or_default().push(self.buffer.clone());
    }
}

impl Deref for Buf {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.0.buffer
    }
}

impl Pool {
    /// A pool on `gpu` that holds no more than `budget` bytes.
    pub(crate) fn new(gpu: Arc<Gpu>, budget: u64) -> Self {
        let shelf = Shelf { idle: BTreeMap::new(), held_bytes: 0, peak_bytes: 0, budget };
        Self { gpu, shelf: Arc::new(Mutex::new(shelf)) }
    }

    /// The most bytes held at one time so far, idle ones included.
    pub(crate) fn peak_bytes(&self) -> u64 {
        lock(&self.shelf).peak_bytes
    }

    /// Sets the most bytes that may be held.
    pub(crate) fn set_budget(&self, bytes: u64) {
        lock(&self.shelf).budget = bytes;
    }

    /// Gives the idle buffers back to the device.
    pub(crate) fn trim(&self) {
        lock(&self.shelf).clear();
    }

    /// A buffer for `count` values of four bytes, rounded up to whole lines of four; its content is undefined.
    ///
    /// # Errors
    /// [`PoolError::Full`] where a binding, the budget or the device's memory is too small.
    pub(crate) fn take(&self, count: usize) -> Result<Buf, PoolError> {
        let bytes = (count as u64).div_ceil(4).max(1) * 16;
        let most = self.gpu.largest_binding();
        if bytes > most {
            return Err(PoolError::Full(format!(
                "a tensor of one picture takes {bytes} bytes, `{}` binds at most {most}; use smaller pictures",
                self.gpu.info.name
            )));
        }
        let lend = |buffer| Buf(Arc::new(Lent { buffer, shelf: Arc::clone(&self.shelf) }));
        {
            let mut shelf = lock(&self.shelf);
            if let Some(buffer) = shelf.take(bytes) {
                drop(shelf);
                return Ok(lend(buffer));
            }
            if shelf.held_bytes + bytes > shelf.budget {
                shelf.clear();
            }
            if shelf.held_bytes + bytes > shelf.budget {
                let (held, budget) = (shelf.held_bytes, shelf.budget);
                return Err(PoolError::Full(format!(
                    "one picture needs more than the memory budget of {budget} bytes ({held} held, {bytes} more wanted); \
                     use smaller pictures or adapt fewer blocks"
                )));
            }
        }
        let Some(buffer) = self.create(bytes).or_else(|| {
            self.trim();
            self.create(bytes)
        }) else {
            return Err(PoolError::Full(format!(
                "`{}` has no memory left for {bytes} bytes; use smaller pictures, adapt fewer blocks, or end other \
                 programs that use it",
                self.gpu.info.name
            )));
        };
        let mut shelf = lock(&self.shelf);
        shelf.held_bytes += bytes;
        shelf.peak_bytes = shelf.peak_bytes.max(shelf.held_bytes);
        drop(shelf);
        Ok(lend(buffer))
    }

    fn create(&self, bytes: u64) -> Option<wgpu::Buffer> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        create_buffer(&self.gpu, "tensor", bytes, usage)
    }
}

/// A buffer of `bytes`, or `None` where the device has no memory left.
pub(crate) fn create_buffer(gpu: &Gpu, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> Option<wgpu::Buffer> {
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let descriptor = wgpu::BufferDescriptor { label: Some(label), size: bytes, usage, mapped_at_creation: false };
    let buffer = gpu.device.create_buffer(&descriptor);
    pollster::block_on(scope.pop()).is_none().then_some(buffer)
}
