//! Products of 8-bit integers: rows quantised when they come, weights quantised in the file.
//!
//! Sums are exact in 32 bits, so that every [`Path`] gives the very same integers.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod path;
mod plain;
mod product;
mod quantize;
mod weights;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod x86;

pub(crate) use path::Path;
pub(crate) use product::{Product, Scratch};
pub(crate) use quantize::{Quantization, quantize, range};
pub(crate) use weights::Weights;

use pulp::Simd;

/// The vectors of 32-bit sums that belong to `I`.
type Sums<I> = <<I as Instructions>::Simd as Simd>::i32s;

/// Instructions that multiply 8-bit integers.
///
/// A word is four values that follow each other along the depth, the first one in the lowest bits.
trait Instructions: Copy {
    /// The vectors that everything but these products is computed with.
    type Simd: Simd;

    /// What rows are multiplied as: their values less this, 0 or 128. With 128, they are signed.
    const SHIFT: u8;

    fn simd(self) -> Self::Simd;

    /// The sums, each from `corner` on, of products of `ROWS` packed rows with a panel: the innermost loop.
    ///
    /// Implementations carry `#[inline(always)]`, so that they are compiled with the instructions of `Self::Simd`.
    fn tile<const ROWS: usize, const VECTORS: usize>(
        self,
        rows: &[[u32; ROWS]],
        panel: &[[Sums<Self>; VECTORS]],
        corner: [Sums<Self>; VECTORS],
    ) -> [[Sums<Self>; VECTORS]; ROWS];

    /// `sums` rounded to float32.
    fn floats(self, sums: Sums<Self>) -> <Self::Simd as Simd>::f32s;
}

/// Instructions that multiply word by word.
trait ByWord: Instructions {
    /// `sums`, to each of which the four products of a word of values with one of weights are added.
    fn dot(self, sums: Sums<Self>, values: Sums<Self>, weights: Sums<Self>) -> Sums<Self>;
}

/// [`tile`](Instructions::tile) word by word.
#[inline(always)]
fn tile_by_word<I: ByWord, const ROWS: usize, const VECTORS: usize>(
    instructions: I,
    rows: &[[u32; ROWS]],
    panel: &[[Sums<I>; VECTORS]],
    corner: [Sums<I>; VECTORS],
) -> [[Sums<I>; VECTORS]; ROWS] {
    let mut sums = [corner; ROWS];
    for (values, weights) in rows.iter().zip(panel) {
        for (sums, value) in sums.iter_mut().zip(values) {
            let value = instructions.simd().splat_i32s(value.cast_signed());
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = instructions.dot(*sum, value, *weight);
            }
        }
    }
    sums
}
