//! The instructions of x86 processors.

// `vpdpbusd` has no wrapper that takes the proof that the processor has it, as the other instructions have in pulp: the two
// types here whose values are that proof are made only where it was asked, and nothing else is unsafe.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86")]
use core::arch::x86::{_mm256_dpbusd_avx_epi32, _mm512_dpbusd_epi32};
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::{_mm256_dpbusd_avx_epi32, _mm512_dpbusd_epi32};

use pulp::x86::{V3, V4};
use pulp::{NullaryFnOnce, cast, f32x8, f32x16, i32x8, i32x16};

use super::product::Tiles;
use super::{ByWord, Instructions, Vectors};

/// Tiles with the instructions that they run on.
struct Tiled<T, D, const ROWS: usize, const VECTORS: usize>(T, D);

impl<T: Tiles, D: Instructions, const ROWS: usize, const VECTORS: usize> NullaryFnOnce for Tiled<T, D, ROWS, VECTORS> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.0.run::<D, ROWS, VECTORS>(self.1);
    }
}

impl Vectors for V4 {
    #[inline(always)]
    fn floats(self, sums: i32x16) -> f32x16 {
        cast!(self.avx512f._mm512_cvtepi32_ps(cast!(sums)))
    }
}

impl Vectors for V3 {
    #[inline(always)]
    fn floats(self, sums: i32x8) -> f32x8 {
        cast!(self.avx._mm256_cvtepi32_ps(cast!(sums)))
    }
}

/// AVX-512 with VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512Vnni(V4);

impl Avx512Vnni {
    pub(super) fn new() -> Option<Self> {
        if !is_x86_feature_detected!("avx512vnni") {
            return None;
        }
        V4::try_new().map(Self)
    }

    pub(super) fn run<const ROWS: usize, const VECTORS: usize>(self, tiles: impl Tiles) {
        #[target_feature(enable = "avx2,bmi1,bmi2,fma,lzcnt,popcnt")]
        #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
        fn with_instructions<const ROWS: usize, const VECTORS: usize>(tiles: impl Tiles, dot: Avx512Vnni) {
            tiles.run::<_, ROWS, VECTORS>(dot);
        }
        // SAFETY: `self` exists only where the processor has all of them.
        unsafe { with_instructions::<ROWS, VECTORS>(tiles, self) }
    }
}

impl ByWord for Avx512Vnni {
    type Simd = V4;

    #[inline(always)]
    fn simd(self) -> V4 {
        self.0
    }

    #[inline(always)]
    fn dot(self, sums: i32x16, values: i32x16, weights: i32x16) -> i32x16 {
        // SAFETY: `self` exists only where the processor has the instruction.
        cast!(unsafe { _mm512_dpbusd_epi32(cast!(sums), cast!(values), cast!(weights)) })
    }
}

/// AVX2 with VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AvxVnni(V3);

impl AvxVnni {
    pub(super) fn new() -> Option<Self> {
        if !is_x86_feature_detected!("avxvnni") {
            return None;
        }
        V3::try_new().map(Self)
    }

    pub(super) fn run<const ROWS: usize, const VECTORS: usize>(self, tiles: impl Tiles) {
        #[target_feature(enable = "avx2,bmi1,bmi2,fma,lzcnt,popcnt,avxvnni")]
        fn with_instructions<const ROWS: usize, const VECTORS: usize>(tiles: impl Tiles, dot: AvxVnni) {
            tiles.run::<_, ROWS, VECTORS>(dot);
        }
        // SAFETY: `self` exists only where the processor has all of them.
        unsafe { with_instructions::<ROWS, VECTORS>(tiles, self) }
    }
}

impl ByWord for AvxVnni {
    type Simd = V3;

    #[inline(always)]
    fn simd(self) -> V3 {
        self.0
    }

    #[inline(always)]
    fn dot(self, sums: i32x8, values: i32x8, weights: i32x8) -> i32x8 {
        // SAFETY: `self` exists only where the processor has the instruction.
        cast!(unsafe { _mm256_dpbusd_avx_epi32(cast!(sums), cast!(values), cast!(weights)) })
    }
}

/// AVX2, for weights of which no two products overflow 16 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2Narrow(V3);

impl Avx2Narrow {
    pub(super) fn new() -> Option<Self> {
        V3::try_new().map(Self)
    }

    pub(super) fn run<const ROWS: usize, const VECTORS: usize>(self, tiles: impl Tiles) {
        self.0.vectorize(Tiled::<_, _, ROWS, VECTORS>(tiles, self));
    }
}

impl ByWord for Avx2Narrow {
    type Simd = V3;

    #[inline(always)]
    fn simd(self) -> V3 {
        self.0
    }

    #[inline(always)]
    fn dot(self, sums: i32x8, values: i32x8, weights: i32x8) -> i32x8 {
        let V3 { avx, avx2, .. } = self.0;
        let pairs = avx2._mm256_maddubs_epi16(cast!(values), cast!(weights));
        let words = avx2._mm256_madd_epi16(pairs, avx._mm256_set1_epi16(1));
        cast!(avx2._mm256_add_epi32(cast!(sums), words))
    }
}

/// AVX2, for all weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(V3);

impl Avx2 {
    pub(super) fn new() -> Option<Self> {
        V3::try_new().map(Self)
    }

    pub(super) fn run<const ROWS: usize, const VECTORS: usize>(self, tiles: impl Tiles) {
        self.0.vectorize(Tiled::<_, _, ROWS, VECTORS>(tiles, self));
    }
}

impl ByWord for Avx2 {
    type Simd = V3;

    #[inline(always)]
    fn simd(self) -> V3 {
        self.0
    }

    #[inline(always)]
    fn dot(self, sums: i32x8, values: i32x8, weights: i32x8) -> i32x8 {
        let V3 { avx, avx2, .. } = self.0;
        let (values, weights) = (cast!(values), cast!(weights));
        // The second and fourth of each four, and the first and third.
        let high = avx2._mm256_madd_epi16(avx2._mm256_srli_epi16::<8>(values), avx2._mm256_srai_epi16::<8>(weights));
        let low = avx2._mm256_madd_epi16(
            avx2._mm256_and_si256(values, avx._mm256_set1_epi16(0xff)),
            avx2._mm256_srai_epi16::<8>(avx2._mm256_slli_epi16::<8>(weights)),
        );
        cast!(avx2._mm256_add_epi32(avx2._mm256_add_epi32(cast!(sums), low), high))
    }
}
