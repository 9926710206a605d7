//! Memory in which weights lie for a kernel.

use std::ops::{Deref, DerefMut};

/// Values from the beginning of a cache line on.
#[derive(Debug)]
pub(super) struct Aligned<T> {
    values: Vec<T>,
    start: usize,
}

impl<T: Clone + Default> Aligned<T> {
    /// `len` values, all of them the default.
    pub(super) fn new(len: usize) -> Self {
        const CACHE_LINE: usize = 64;
        let room = CACHE_LINE / size_of::<T>();
        let mut values = vec![T::default(); len + room];
        let start = values.as_ptr().align_offset(CACHE_LINE).min(room);
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
