//! Kernels on several threads.

/// Runs `work` on the rows of `out`, `row` values each: on all of them at once, or, where this thread is one of several that
/// a model runs on, on shares of them side by side. A share begins at the row that `work` is told, and has a multiple of
/// `least` rows but for the last.
pub(crate) fn over_rows<T: Send>(out: &mut [T], row: usize, least: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    #[cfg(feature = "threads")]
    if rayon::current_thread_index().is_some() && row > 0 {
        use rayon::prelude::*;

        let rows = (out.len() / row).div_ceil(rayon::current_num_threads()).next_multiple_of(least.max(1)).max(1);
        out.par_chunks_mut(rows * row).enumerate().for_each(|(share, part)| work(share * rows, part));
        return;
    }
    let _ = (row, least);
    work(0, out);
}
