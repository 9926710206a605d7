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
    type Simd: Vectors;

    /// What rows are multiplied as: their values less this, 0 or 128. With 128, they are signed.
    const SHIFT: u8;

    fn simd(self) -> Self::Simd;

    /// The sums, each from `corner` on, of products of `ROWS` packed rows with a panel: the innermost loop. Does `meanwhile`
    /// once for each row of the panel.
    ///
    /// Implementations carry `#[inline(always)]`, so that they are compiled with the instructions of `Self::Simd`.
    fn tile<const ROWS: usize, const VECTORS: usize>(
        self,
        rows: &[[u32; ROWS]],
        panel: &[[Sums<Self>; VECTORS]],
        corner: [Sums<Self>; VECTORS],
        meanwhile: impl FnMut(),
    ) -> [[Sums<Self>; VECTORS]; ROWS];
}

/// Vectors that 32-bit sums come in.
trait Vectors: Simd {
    /// `sums` rounded to float32.
    fn floats(self, sums: Self::i32s) -> Self::f32s;
}

/// Instructions that multiply word by word, unsigned values with signed weights.
trait ByWord: Copy {
    type Simd: Vectors;

    fn simd(self) -> Self::Simd;

    /// `sums`, to each of which the four products of a word of values with one of weights are added.
    fn dot(
        self,
        sums: <Self::Simd as Simd>::i32s,
        values: <Self::Simd as Simd>::i32s,
        weights: <Self::Simd as Simd>::i32s,
    ) -> <Self::Simd as Simd>::i32s;
}

impl<I: ByWord> Instructions for I {
    type Simd = <I as ByWord>::Simd;

    const SHIFT: u8 = 0;

    #[inline(always)]
    fn simd(self) -> Self::Simd {
        ByWord::simd(self)
    }

    #[inline(always)]
    fn tile<const ROWS: usize, const VECTORS: usize>(
        self,
        rows: &[[u32; ROWS]],
        panel: &[[Sums<Self>; VECTORS]],
        corner: [Sums<Self>; VECTORS],
        mut meanwhile: impl FnMut(),
    ) -> [[Sums<Self>; VECTORS]; ROWS] {
        let mut sums = [corner; ROWS];
        for (values, weights) in rows.iter().zip(panel) {
            meanwhile();
            for (sums, value) in sums.iter_mut().zip(values) {
                let value = ByWord::simd(self).splat_i32s(value.cast_signed());
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = self.dot(*sum, value, *weight);
                }
            }
        }
        sums
    }
}
