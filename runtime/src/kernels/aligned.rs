//! Memory in which weights lie for a kernel.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;

/// How many values of memory hold `len` from the beginning of a cache line on.
pub(super) fn space<T>(len: usize) -> usize {
    if len == 0 { 0 } else { len + CACHE_LINE / size_of::<T>() }
}

/// Where in `values`, which are [`space`] for `len`, a cache line begins.
fn start<T>(values: &[T], len: usize) -> usize {
    values.as_ptr().align_offset(CACHE_LINE).min(values.len() - len)
}

/// `len` values of `space`, see [`space`], from the beginning of a cache line on.
pub(super) fn within<T>(space: &mut [T], len: usize) -> &mut [T] {
    let start = start(space, len);
    &mut space[start..][..len]
}

/// Values from the beginning of a cache line on.
#[derive(Debug)]
pub(super) struct Aligned<T> {
    values: Vec<T>,
    start: usize,
}

impl<T: Clone + Default> Aligned<T> {
    /// `len` values, all of them the default.
    pub(super) fn new(len: usize) -> Self {
        let mut values = vec![T::default(); space::<T>(len)];
        let start = start(&values, len);
        // A vector that is cut short stays where it is.
        values.truncate(start + len);
        Self { values, start }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.start..]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..]
    }
}
