//! The loops that a transformer's time goes into, on vectors as wide as the processor's.
//!
//! Each kernel is written once over [`Simd`] and compiled for every instruction set that [`run`] tells apart. Nothing in
//! here knows of tract: slices come in, slices go out.

mod aligned;
mod attention;
mod depthwise;
mod elementary;
pub(crate) mod half;
mod halves;
pub(crate) mod int8;
mod interleave;
mod layer_norm;
mod parallel;
mod prefetch;
mod product;
mod similarity;
mod weights;

pub(crate) use attention::{Attention, Head, Scratch, Strides};
pub(crate) use depthwise::{Depthwise, Sliding};
pub(crate) use elementary::Activation;
pub(crate) use layer_norm::LayerNorm;
pub(crate) use parallel::over_rows;
pub(crate) use product::Product;
pub(crate) use similarity::{MostSimilar, SimilarScratch};
pub(crate) use weights::{Weights, each};

use pulp::{Arch, Simd, WithSimd};

/// Work that is compiled for each instruction set.
///
/// Products hold a tile of `ROWS` by `VECTORS` vectors of sums in registers; both are chosen to fill the register file.
pub(crate) trait Kernel {
    type Output;

    /// Whether what it multiplies has so often a power of two of rows that a tile of as many is better than a fuller one.
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    const EVEN: bool = false;

    /// Implementations carry `#[inline(always)]`, so that they are compiled with the instructions of `S`.
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) -> Self::Output;
}

/// A kernel with its tile's size: what pulp compiles for an instruction set.
struct Tiled<K, const ROWS: usize, const VECTORS: usize>(K);

impl<K: Kernel, const ROWS: usize, const VECTORS: usize> WithSimd for Tiled<K, ROWS, VECTORS> {
    type Output = K::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> K::Output {
        self.0.run::<S, ROWS, VECTORS>(simd)
    }
}

/// Runs `kernel` with the widest vectors of this processor.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Output {
    match Arch::new() {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        Arch::V4(simd) if K::EVEN => Simd::vectorize(simd, Tiled::<K, 8, 3>(kernel)),
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        Arch::V4(simd) => Simd::vectorize(simd, Tiled::<K, 9, 3>(kernel)),
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        Arch::V3(simd) => Simd::vectorize(simd, Tiled::<K, 6, 2>(kernel)),
        #[cfg(target_arch = "aarch64")]
        Arch::Neon(simd) => Simd::vectorize(simd, Tiled::<K, 8, 3>(kernel)),
        _ => Simd::vectorize(pulp::Scalar::new(), Tiled::<K, 4, 1>(kernel)),
    }
}

/// The name of the kernels that [`run`] takes on this machine, or none where it has no vectors for them: tract's own
/// kernels serve better there.
pub(crate) fn name() -> Option<&'static str> {
    match Arch::new() {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        Arch::V4(_) => Some("edge_vit_avx512_mmm_f32_9x48"),
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        Arch::V3(_) => Some("edge_vit_avx2_mmm_f32_6x16"),
        #[cfg(target_arch = "aarch64")]
        Arch::Neon(_) => Some("edge_vit_neon_mmm_f32_8x12"),
        _ => None,
    }
}

/// The rows and columns of a product's tile on this machine; the columns are those of a panel of [`Weights`].
pub(crate) fn tile() -> [usize; 2] {
    struct Size;
    impl Kernel for Size {
        type Output = [usize; 2];

        #[inline(always)]
        fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self, _: S) -> [usize; 2] {
            [ROWS, VECTORS * S::F32_LANES]
        }
    }
    run(Size)
}

/// Seeded values between -1 and 1, as many at a time as are asked for.
#[cfg(test)]
fn noise(seed: u32) -> impl FnMut(usize) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = move || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    move |len| (0..len).map(|_| next()).collect()
}
