//! The instructions of 64-bit ARM processors.

// `sdot` is not in stable Rust's `core::arch`: it is written in assembly here, in one function, which only a type calls whose
// values are made only where the processor was asked whether it has the instruction. Nothing else is unsafe.
#![allow(unsafe_code)]

use core::arch::aarch64::{int8x16_t, int32x4_t};
use core::arch::asm;

use pulp::aarch64::Neon as Registers;
use pulp::{cast, f32x4, i32x4};

use super::product::Tiles;
use super::{Instructions, Vectors};

impl Vectors for Registers {
    #[inline(always)]
    fn floats(self, sums: i32x4) -> f32x4 {
        cast!(self.neon.vcvtq_f32_s32(cast!(sums)))
    }
}

/// NEON with dot products.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dotprod(Registers);

impl Dotprod {
    pub(super) fn new() -> Option<Self> {
        if !std::arch::is_aarch64_feature_detected!("dotprod") {
            return None;
        }
        Registers::try_new().map(Self)
    }

    pub(super) fn run<const ROWS: usize, const VECTORS: usize>(self, tiles: impl Tiles) {
        tiles.run::<_, ROWS, VECTORS>(self);
    }

    /// Adds to each of `sums` the products of one word of `values`, the first to the first, with all of `weights`.
    #[inline(always)]
    fn dots(self, sums: &mut [int32x4_t; 4], values: int8x16_t, weights: int8x16_t) {
        let [first, second, third, fourth] = sums;
        // SAFETY: `self` exists only where the processor has the instruction, which changes nothing but these registers.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {first:v}.4s, {weights:v}.16b, {values:v}.4b[0]",
                "sdot {second:v}.4s, {weights:v}.16b, {values:v}.4b[1]",
                "sdot {third:v}.4s, {weights:v}.16b, {values:v}.4b[2]",
                "sdot {fourth:v}.4s, {weights:v}.16b, {values:v}.4b[3]",
                first = inout(vreg) *first,
                second = inout(vreg) *second,
                third = inout(vreg) *third,
                fourth = inout(vreg) *fourth,
                weights = in(vreg) weights,
                values = in(vreg) values,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }
}

impl Instructions for Dotprod {
    type Simd = Registers;

    const SHIFT: u8 = 128;

    #[inline(always)]
    fn simd(self) -> Registers {
        self.0
    }

    #[inline(always)]
    fn tile<const ROWS: usize, const VECTORS: usize>(
        self,
        rows: &[[u32; ROWS]],
        panel: &[[i32x4; VECTORS]],
        corner: [i32x4; VECTORS],
        mut meanwhile: impl FnMut(),
    ) -> [[i32x4; VECTORS]; ROWS] {
        let mut sums = [corner; ROWS];
        for (values, weights) in rows.iter().zip(panel) {
            meanwhile();
            for (sums, values) in sums.as_chunks_mut::<4>().0.iter_mut().zip(values.as_chunks::<4>().0) {
                for (vector, weights) in weights.iter().enumerate() {
                    let mut column = sums.map(|row| cast!(row[vector]));
                    self.dots(&mut column, cast!(*values), cast!(*weights));
                    for (row, sum) in sums.iter_mut().zip(column) {
                        row[vector] = cast!(sum);
                    }
                }
            }
        }
        sums
    }
}

/// NEON, for weights of which no two products overflow 16 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon(Registers);

impl Neon {
    pub(super) fn new() -> Option<Self> {
        Registers::try_new().map(Self)
    }

    pub(super) fn run<const ROWS: usize, const VECTORS: usize>(self, tiles: impl Tiles) {
        tiles.run::<_, ROWS, VECTORS>(self);
    }
}

impl Instructions for Neon {
    type Simd = Registers;

    const SHIFT: u8 = 128;

    #[inline(always)]
    fn simd(self) -> Registers {
        self.0
    }

    #[inline(always)]
    fn tile<const ROWS: usize, const VECTORS: usize>(
        self,
        rows: &[[u32; ROWS]],
        panel: &[[i32x4; VECTORS]],
        corner: [i32x4; VECTORS],
        mut meanwhile: impl FnMut(),
    ) -> [[i32x4; VECTORS]; ROWS] {
        let neon = self.0.neon;
        // Two sums for each column, side by side: those of the first two columns of a vector, and of the last two.
        let zero = neon.vdupq_n_s32(0);
        let mut sums = [[[zero; 2]; VECTORS]; ROWS];
        for (values, weights) in rows.as_chunks::<2>().0.iter().zip(panel.as_chunks::<2>().0) {
            weights.iter().for_each(|_| meanwhile());
            for (row, sums) in sums.iter_mut().enumerate() {
                let [first, second] = values.map(|values| {
                    let word = neon.vdupq_n_s32(values[row].cast_signed());
                    neon.vreinterpretq_s8_s32(word)
                });
                for (vector, [low, high]) in sums.iter_mut().enumerate() {
                    let [here, next] = weights.map(|weights| neon.vreinterpretq_s8_s32(cast!(weights[vector])));
                    let products = neon.vmull_s8(neon.vget_low_s8(first), neon.vget_low_s8(here));
                    let products = neon.vmlal_s8(products, neon.vget_low_s8(second), neon.vget_low_s8(next));
                    *low = neon.vpadalq_s16(*low, products);
                    let products = neon.vmull_high_s8(first, here);
                    let products = neon.vmlal_high_s8(products, second, next);
                    *high = neon.vpadalq_s16(*high, products);
                }
            }
        }
        let mut whole = [corner; ROWS];
        for (whole, [low, high]) in whole.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
            *whole = cast!(neon.vaddq_s32(cast!(*whole), neon.vpaddq_s32(*low, *high)));
        }
        whole
    }
}
