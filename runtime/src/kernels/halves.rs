//! Floats of sixteen bits (IEEE 754 binary16) made floats of thirty-two, which is exact.
//!
//! Processors have instructions for it that safe Rust does not give for all of them: each is called only where it is known to
//! be there, and touches nothing but registers.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
use core::arch::aarch64::{float32x4_t, uint16x8_t};
#[cfg(target_arch = "aarch64")]
use core::arch::asm;

/// The bits of a `half` that are its exponent and mantissa.
const MAGNITUDE: u32 = 0x7fff;
/// By how much the exponents of the two forms differ, where it stands in the longer one.
const REBIAS: u32 = (127 - 15) << MANTISSA;
/// Bits of the longer form's mantissa.
const MANTISSA: u32 = 23;
/// The first bit of the shorter form's exponent, in the place of the longer one's.
const SMALLEST: u32 = 1 << MANTISSA;

/// Whether `half` says a number, and neither infinity nor that it is none.
pub(super) fn is_finite(half: u16) -> bool {
    half & 0x7c00 != 0x7c00
}

/// The number that a finite `half` says.
#[inline(always)]
fn widened(half: u16) -> f32 {
    let bits = u32::from(half);
    let magnitude = (bits & MAGNITUDE) << (MANTISSA - 10);
    let normal = f32::from_bits(magnitude + REBIAS);
    // Below the smallest normal number there is no leading one: it is put there and taken away again.
    let below = f32::from_bits(magnitude + REBIAS + SMALLEST) - f32::from_bits(REBIAS + SMALLEST);
    let value = if magnitude < SMALLEST { below } else { normal };
    f32::from_bits(value.to_bits() | (bits & !MAGNITUDE) << 16)
}

/// Writes the numbers that the finite `halves` say to `wide`, which is as long.
pub(super) fn widen(halves: &[u16], wide: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has the instructions.
        unsafe { by_f16c(halves, wide) };
        return;
    }
    #[cfg(target_arch = "aarch64")]
    return by_neon(halves, wide);
    #[cfg(not(target_arch = "aarch64"))]
    by_bits(halves, wide);
}

/// On any processor.
fn by_bits(halves: &[u16], wide: &mut [f32]) {
    wide.iter_mut().zip(halves).for_each(|(wide, &half)| *wide = widened(half));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "f16c")]
fn by_f16c(halves: &[u16], wide: &mut [f32]) {
    use std::arch::x86_64::_mm256_cvtph_ps;

    let ((halves, rest), (wide, behind)) = (halves.as_chunks::<8>(), wide.as_chunks_mut::<8>());
    for (wide, &halves) in wide.iter_mut().zip(halves) {
        *wide = pulp::cast!(_mm256_cvtph_ps(pulp::cast!(halves)));
    }
    by_bits(rest, behind);
}

#[cfg(target_arch = "aarch64")]
fn by_neon(halves: &[u16], wide: &mut [f32]) {
    let ((halves, rest), (wide, behind)) = (halves.as_chunks::<8>(), wide.as_chunks_mut::<8>());
    for (wide, &halves) in wide.iter_mut().zip(halves) {
        *wide = pulp::cast!(eight_by_neon(pulp::cast!(halves)));
    }
    by_bits(rest, behind);
}

/// The numbers that eight halves say, infinity and none among them.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(super) fn eight_by_neon(halves: uint16x8_t) -> [float32x4_t; 2] {
    let (low, high): (float32x4_t, float32x4_t);
    // SAFETY: every 64-bit ARM processor with NEON has these, and they change nothing but the registers named.
    unsafe {
        asm!(
            "fcvtl {low:v}.4s, {halves:v}.4h",
            "fcvtl2 {high:v}.4s, {halves:v}.8h",
            low = out(vreg) low,
            high = lateout(vreg) high,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number by the format's definition: `(-1)^s 2^(e - 15) (1 + m / 1024)`, or `(-1)^s 2^-14 m / 1024` where `e` is 0.
    fn by_definition(half: u16) -> f64 {
        let (sign, exponent, mantissa) = (half >> 15, i32::from(half >> 10 & 31), f64::from(half & 1023) / 1024.0);
        let magnitude = match exponent {
            0 => mantissa * 2f64.powi(-14),
            _ => (1.0 + mantissa) * 2f64.powi(exponent - 15),
        };
        if sign == 1 { -magnitude } else { magnitude }
    }

    #[test]
    fn all_numbers_of_sixteen_bits_keep_their_value() {
        let halves: Vec<u16> = (0..=u16::MAX).filter(|&half| is_finite(half)).collect();
        assert_eq!(halves.len(), 2 * 31 * 1024);
        for widen in [widen, by_bits] {
            let mut wide = vec![f32::NAN; halves.len()];
            widen(&halves, &mut wide);
            for (&half, &value) in halves.iter().zip(&wide) {
                let expected = by_definition(half);
                assert_eq!(f64::from(value).to_bits(), expected.to_bits(), "{half:#x} is {expected}, not {value}");
            }
        }
    }

    #[test]
    fn what_fills_no_vector_is_widened_too() {
        for len in 0..20 {
            let halves: Vec<u16> = (0..len).map(|i| 0x3c00 + i).collect();
            let mut wide = vec![0.0; halves.len()];
            widen(&halves, &mut wide);
            assert!(wide.iter().zip(&halves).all(|(wide, &half)| f64::from(*wide) == by_definition(half)), "{wide:?}");
        }
    }
}
