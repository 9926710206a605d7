//! The instructions of 64-bit ARM processors that compute in sixteen bits (ARMv8.2's FP16).

// They are not in stable Rust's `core::arch`: they are written in assembly here, in functions that only a type calls whose
// values are made only where the processor was asked whether it has them. Nothing else is unsafe.
#![allow(unsafe_code)]

use core::arch::aarch64::{float32x4_t, uint16x8_t};
use core::arch::asm;

use pulp::aarch64::Neon;
use pulp::{Simd as _, cast, f32x4};

use super::{DEPTH, Instructions};
use crate::kernels::{Weights, halves};

/// NEON with arithmetic in sixteen bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fp16(Neon);

/// Eight halves.
type Halves = [u16; 8];

impl Fp16 {
    pub(super) fn new() -> Option<Self> {
        if !std::arch::is_aarch64_feature_detected!("fp16") {
            return None;
        }
        Neon::try_new().map(Self)
    }

    /// Adds to each of `sums` the product of `weights` with one of `values`, the first with the first.
    #[inline(always)]
    fn multiply_add(self, sums: &mut [uint16x8_t; 8], values: uint16x8_t, weights: uint16x8_t) {
        let [s0, s1, s2, s3, s4, s5, s6, s7] = sums;
        // SAFETY: `self` exists only where the processor has the instruction, which changes nothing but these registers.
        unsafe {
            asm!(
                ".arch_extension fp16",
                "fmla {s0:v}.8h, {weights:v}.8h, {values:v}.h[0]",
                "fmla {s1:v}.8h, {weights:v}.8h, {values:v}.h[1]",
                "fmla {s2:v}.8h, {weights:v}.8h, {values:v}.h[2]",
                "fmla {s3:v}.8h, {weights:v}.8h, {values:v}.h[3]",
                "fmla {s4:v}.8h, {weights:v}.8h, {values:v}.h[4]",
                "fmla {s5:v}.8h, {weights:v}.8h, {values:v}.h[5]",
                "fmla {s6:v}.8h, {weights:v}.8h, {values:v}.h[6]",
                "fmla {s7:v}.8h, {weights:v}.8h, {values:v}.h[7]",
                s0 = inout(vreg) *s0,
                s1 = inout(vreg) *s1,
                s2 = inout(vreg) *s2,
                s3 = inout(vreg) *s3,
                s4 = inout(vreg) *s4,
                s5 = inout(vreg) *s5,
                s6 = inout(vreg) *s6,
                s7 = inout(vreg) *s7,
                weights = in(vreg) weights,
                // A half that all are multiplied with is taken from one of the first sixteen registers.
                values = in(vreg_low16) values,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }

    /// The nearest halves of eight floats.
    #[inline(always)]
    fn rounded(self, [low, high]: [f32x4; 2]) -> Halves {
        let (low, high): (float32x4_t, float32x4_t) = (cast!(low), cast!(high));
        let halves: uint16x8_t;
        // SAFETY: every 64-bit ARM processor with NEON has these, and they change nothing but the registers named.
        unsafe {
            asm!(
                "fcvtn {halves:v}.4h, {low:v}.4s",
                "fcvtn2 {halves:v}.8h, {high:v}.4s",
                halves = out(vreg) halves,
                low = in(vreg) low,
                high = in(vreg) high,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        cast!(halves)
    }
}

impl Instructions for Fp16 {
    type Simd = Neon;
    type Value = u16;

    #[inline(always)]
    fn simd(self) -> Neon {
        self.0
    }

    #[inline(always)]
    fn room(self, _: &Weights) -> usize {
        0
    }

    #[inline(always)]
    fn panel<'a>(self, weights: &'a Weights, index: usize, _: &'a mut [f32]) -> &'a [u16] {
        weights.half_panel(index)
    }

    #[inline(always)]
    fn narrow(self, row: &[f32], factor: f32, to: &mut [u16]) {
        let factor = self.0.splat_f32s(factor);
        let times = |values: [f32x4; 2]| values.map(|value| self.0.mul_f32s(value, factor));
        let ((values, end), (whole, rest)) = (row.as_chunks::<8>(), to.as_chunks_mut::<8>());
        for (values, to) in values.iter().zip(whole) {
            *to = self.rounded(times(cast!(*values)));
        }
        let mut last = [0.0; 8];
        last[..end.len()].copy_from_slice(end);
        rest.copy_from_slice(&self.rounded(times(cast!(last)))[..rest.len()]);
    }

    #[inline(always)]
    fn tile<const ROWS: usize, const VECTORS: usize>(
        self,
        rows: &[[u16; ROWS]],
        panel: &[u16],
        mut meanwhile: impl FnMut(),
    ) -> [[f32x4; VECTORS]; ROWS] {
        /// Vectors of halves in a row of a panel.
        const WIDTH: usize = 3;
        let mut totals = [[self.0.splat_f32s(0.0); VECTORS]; ROWS];
        let rows: &[[u16; 8]] = rows.as_flattened().as_chunks().0;
        let panel: &[[Halves; WIDTH]] = panel.as_chunks().0.as_chunks().0;
        for (rows, panel) in rows.chunks(DEPTH).zip(panel.chunks(DEPTH)) {
            let mut sums: [[uint16x8_t; 8]; WIDTH] = [[self.0.neon.vdupq_n_u16(0); 8]; WIDTH];
            for (values, weights) in rows.iter().zip(panel) {
                meanwhile();
                for (sums, weights) in sums.iter_mut().zip(weights) {
                    self.multiply_add(sums, cast!(*values), cast!(*weights));
                }
            }
            for (vector, sums) in sums.into_iter().enumerate() {
                for (totals, sum) in totals.iter_mut().zip(sums) {
                    let wide = halves::eight_by_neon(sum);
                    for (total, part) in totals[2 * vector..].iter_mut().zip(wide) {
                        *total = self.0.add_f32s(*total, cast!(part));
                    }
                }
            }
        }
        totals
    }
}
