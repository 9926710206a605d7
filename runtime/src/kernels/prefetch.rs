//! Values on their way to a cache before they are read.
//!
//! The instructions that fetch ahead take an address and neither read nor fault, whatever it is; no safe function gives
//! them.
#![allow(unsafe_code)]

use std::ptr::from_ref;

/// How many bytes a cache holds together.
const LINE: usize = 64;

/// Begins to fetch what follows a row of a panel, and the values that it is multiplied with, to the first-level cache, where
/// vectors are cache lines: those are read faster than a processor foresees by itself.
#[inline(always)]
pub(super) fn ahead<V, T, const VECTORS: usize>(weights: &[V; VECTORS], values: &T) {
    /// Rows of a panel, and rows of values, which are shorter.
    const DISTANCES: [usize; 2] = [8, 32];
    if size_of::<V>() >= LINE {
        let weights = from_ref(weights).wrapping_add(DISTANCES[0]).cast::<u8>();
        for vector in 0..VECTORS {
            fetch::<true>(weights.wrapping_add(vector * LINE));
        }
        fetch::<true>(from_ref(values).wrapping_add(DISTANCES[1]).cast());
    }
}

/// Values that come to the second-level cache little by little.
pub(super) struct Coming {
    next: *const u8,
    step: usize,
}

impl Coming {
    /// All of `values` in so many steps, of which each one fetches a cache line at most.
    #[inline(always)]
    pub(super) fn new<T>(values: &[T], steps: usize) -> Self {
        Self { next: values.as_ptr().cast(), step: size_of_val(values).div_ceil(steps.max(1)) }
    }

    #[inline(always)]
    pub(super) fn step(&mut self) {
        fetch::<false>(self.next);
        self.next = self.next.wrapping_add(self.step);
    }
}

#[inline(always)]
fn fetch<const FIRST: bool>(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of x86_64, and changes nothing but caches.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        match FIRST {
            true => _mm_prefetch::<_MM_HINT_T0>(address.cast()),
            false => _mm_prefetch::<_MM_HINT_T1>(address.cast()),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
