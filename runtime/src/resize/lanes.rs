//! Sums of products for eight neighbours at a time, in the vectors of the processor.
//!
//! Left to itself the compiler looks for its vectors along the taps, where the values of a lane lie far apart.

use pulp::Arch;

/// Values that are summed side by side.
pub(super) const LANES: usize = 8;

/// How a processor sums.
pub(super) trait Lanes: Copy {
    /// [`LANES`] sums.
    type Sums: Copy;

    fn splat(self, value: i32) -> Self::Sums;

    /// The sums with each value's product added.
    fn add(self, sums: Self::Sums, values: [u8; LANES], coefficient: i32) -> Self::Sums;

    /// The sums shifted right by `BITS`, at least 16, and brought to 0 to 255.
    fn clip<const BITS: i32>(self, sums: Self::Sums) -> [u8; LANES];
}

/// Work that is compiled for each kind of lanes. Implementations carry `#[inline(always)]`.
pub(super) trait Work {
    fn run(self, lanes: impl Lanes);
}

/// Does `work` with the widest lanes of this processor.
pub(super) fn run(work: impl Work) {
    match Arch::new() {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => vectorized(*simd, *simd, work),
        #[cfg(target_arch = "x86_64")]
        Arch::V3(simd) => vectorized(simd, simd, work),
        #[cfg(target_arch = "aarch64")]
        Arch::Neon(simd) => vectorized(simd, simd, work),
        _ => work.run(Portable),
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn vectorized(simd: impl pulp::Simd, lanes: impl Lanes, work: impl Work) {
    struct With<W, L>(W, L);
    impl<W: Work, L: Lanes> pulp::WithSimd for With<W, L> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) {
            self.0.run(self.1);
        }
    }
    simd.vectorize(With(work, lanes));
}

/// Any processor.
#[derive(Debug, Clone, Copy)]
struct Portable;

impl Lanes for Portable {
    type Sums = [i32; LANES];

    #[inline(always)]
    fn splat(self, value: i32) -> Self::Sums {
        [value; LANES]
    }

    #[inline(always)]
    fn add(self, mut sums: Self::Sums, values: [u8; LANES], coefficient: i32) -> Self::Sums {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += i32::from(value) * coefficient;
        }
        sums
    }

    #[inline(always)]
    fn clip<const BITS: i32>(self, sums: Self::Sums) -> [u8; LANES] {
        let mut values = [0; LANES];
        for (value, sum) in values.iter_mut().zip(sums) {
            *value = (sum >> BITS).clamp(0, 255) as u8;
        }
        values
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m128i, __m256i};

    use pulp::x86::V3;

    use super::{LANES, Lanes};

    impl Lanes for V3 {
        type Sums = __m256i;

        #[inline(always)]
        fn splat(self, value: i32) -> __m256i {
            self.avx._mm256_set1_epi32(value)
        }

        #[inline(always)]
        fn add(self, sums: __m256i, values: [u8; LANES], coefficient: i32) -> __m256i {
            let values: __m128i = pulp::cast([u64::from_le_bytes(values), 0]);
            let values = self.avx2._mm256_cvtepu8_epi32(values);
            let products = self.avx2._mm256_mullo_epi32(values, self.avx._mm256_set1_epi32(coefficient));
            self.avx2._mm256_add_epi32(sums, products)
        }

        #[inline(always)]
        fn clip<const BITS: i32>(self, sums: __m256i) -> [u8; LANES] {
            let sums = self.avx2._mm256_srai_epi32::<BITS>(sums);
            let (low, high) = (self.avx._mm256_castsi256_si128(sums), self.avx2._mm256_extracti128_si256::<1>(sums));
            // Both of these clip: to the range of i16, in which the sums are already, and to that of u8.
            let values = self.sse2._mm_packs_epi32(low, high);
            let [values, _]: [u64; 2] = pulp::cast(self.sse2._mm_packus_epi16(values, values));
            values.to_le_bytes()
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::int32x4_t;

    use pulp::aarch64::Neon;

    use super::{LANES, Lanes};

    impl Lanes for Neon {
        type Sums = [int32x4_t; 2];

        #[inline(always)]
        fn splat(self, value: i32) -> Self::Sums {
            [self.neon.vdupq_n_s32(value); 2]
        }

        #[inline(always)]
        fn add(self, [low, high]: Self::Sums, values: [u8; LANES], coefficient: i32) -> Self::Sums {
            let simd = self.neon;
            let values = simd.vmovl_u8(simd.vcreate_u8(u64::from_le_bytes(values)));
            let signed = |half| simd.vreinterpretq_s32_u32(simd.vmovl_u16(half));
            let (first, last) = (signed(simd.vget_low_u16(values)), signed(simd.vget_high_u16(values)));
            [simd.vmlaq_n_s32(low, first, coefficient), simd.vmlaq_n_s32(high, last, coefficient)]
        }

        #[inline(always)]
        fn clip<const BITS: i32>(self, sums: Self::Sums) -> [u8; LANES] {
            let simd = self.neon;
            let [low, high] = sums.map(|sums| simd.vqmovun_s32(simd.vshrq_n_s32::<BITS>(sums)));
            let values = simd.vqmovn_u16(simd.vcombine_u16(low, high));
            simd.vget_lane_u64::<0>(simd.vreinterpret_u64_u8(values)).to_le_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sums<'a>(&'a [(u8, i32)], &'a mut [u8; LANES]);

    impl Work for Sums<'_> {
        #[inline(always)]
        fn run(self, lanes: impl Lanes) {
            let sums = self.0.iter().fold(lanes.splat(1 << 21), |sums, &(value, coefficient)| {
                lanes.add(sums, std::array::from_fn(|lane| value.wrapping_add(lane as u8 * 29)), coefficient)
            });
            *self.1 = lanes.clip::<22>(sums);
        }
    }

    #[test]
    fn all_lanes_sum_as_any_processor_does() {
        for (value, share) in (0_u8..=255).flat_map(|value| [-30, -3, 5, 9].map(|share| (value, share))) {
            let terms = [(value, share << 17), (value.wrapping_mul(7), 3_100_007), (!value, -1_234_567)];
            let (mut here, mut anywhere) = ([0; LANES], [1; LANES]);
            run(Sums(&terms, &mut here));
            Sums(&terms, &mut anywhere).run(Portable);
            assert_eq!(here, anywhere, "{terms:?}");
        }
    }
}
