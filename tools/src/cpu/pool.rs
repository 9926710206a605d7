//! Buffers that are handed out, given back and handed out again, and the count of the bytes they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Real;

/// The bytes that all pools of an engine hold in buffers.
#[derive(Debug, Default)]
pub(super) struct Meter {
    held: AtomicU64,
    peak: AtomicU64,
}

impl Meter {
    /// The most bytes held at one time so far.
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    fn grow(&self, bytes: u64) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(held, Ordering::Relaxed);
    }

    fn shrink(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The buffers of one thread. What it holds idle counts as held.
#[derive(Debug)]
pub(super) struct Pool<T> {
    idle: Vec<Vec<T>>,
    meter: Arc<Meter>,
}

impl<T: Real> Pool<T> {
    /// A pool without buffers, counted by `meter`.
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        Self { idle: Vec::new(), meter }
    }

    /// A buffer of `len` values, whatever they are: the taker writes every one.
    pub(super) fn take(&mut self, len: usize) -> Vec<T> {
        // A buffer far too large stays for a taker who needs it.
        let fits = |buffer: &&(usize, usize)| (len..=len.saturating_mul(2)).contains(&buffer.1);
        let capacities = self.idle.iter().map(Vec::capacity).enumerate().collect::<Vec<_>>();
        match capacities.iter().filter(fits).min_by_key(|buffer| buffer.1) {
            Some(&(index, _)) => {
                let mut buffer = self.idle.swap_remove(index);
                buffer.resize(len, T::ZERO);
                buffer
            }
            None => {
                let buffer = vec![T::ZERO; len];
                self.meter.grow(bytes(&buffer));
                buffer
            }
        }
    }

    /// A buffer with the values of `source`.
    pub(super) fn copy(&mut self, source: &[T]) -> Vec<T> {
        let mut buffer = self.take(source.len());
        buffer.copy_from_slice(source);
        buffer
    }

    /// Takes a buffer back.
    pub(super) fn give(&mut self, buffer: Vec<T>) {
        self.idle.push(buffer);
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        self.meter.shrink(self.idle.iter().map(bytes).sum());
    }
}

fn bytes<T>(buffer: &Vec<T>) -> u64 {
    (buffer.capacity() * size_of::<T>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_handed_out_again() {
        let meter = Arc::new(Meter::default());
        let mut pool = Pool::<f32>::new(Arc::clone(&meter));
        let buffer = pool.take(100);
        pool.give(buffer);
        let buffer = pool.take(80);
        assert_eq!(buffer.len(), 80);
        assert_eq!(meter.peak(), 400);
        let small = pool.take(10);
        assert_eq!(meter.peak(), 440);
        pool.give(buffer);
        pool.give(small);
        drop(pool);
        assert_eq!(meter.held.load(Ordering::Relaxed), 0);
    }
}
