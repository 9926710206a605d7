//! The ways in which processors multiply 8-bit integers.

#[cfg(target_arch = "aarch64")]
use super::aarch64;
use super::plain::Plain;
use super::product::Tiles;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use super::x86;

/// Instructions of this processor, which a value of this type exists for only where they are there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Path {
    /// `vpdpbusd` on 512 bits.
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    Avx512Vnni(x86::Avx512Vnni),
    /// `vpdpbusd` on 256 bits.
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    AvxVnni(x86::AvxVnni),
    /// `vpmaddubsw`, whose sums of two products have 16 bits.
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    Avx2Narrow(x86::Avx2Narrow),
    /// `vpmaddwd` on values widened to 16 bits.
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    Avx2(x86::Avx2),
    /// `sdot`.
    #[cfg(target_arch = "aarch64")]
    Dotprod(aarch64::Dotprod),
    /// `smlal`, whose sums of two products have 16 bits.
    #[cfg(target_arch = "aarch64")]
    Neon(aarch64::Neon),
    /// No vectors.
    Plain,
}

impl Path {
    /// Those of this processor, the fastest first.
    pub(super) fn all() -> Vec<Self> {
        let paths = [
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            x86::Avx512Vnni::new().map(Self::Avx512Vnni),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            x86::AvxVnni::new().map(Self::AvxVnni),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            x86::Avx2Narrow::new().map(Self::Avx2Narrow),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            x86::Avx2::new().map(Self::Avx2),
            #[cfg(target_arch = "aarch64")]
            aarch64::Dotprod::new().map(Self::Dotprod),
            #[cfg(target_arch = "aarch64")]
            aarch64::Neon::new().map(Self::Neon),
            Some(Self::Plain),
        ];
        paths.into_iter().flatten().collect()
    }

    /// Whether products of rows of `depth` values with weights from `least` to `most` are exact.
    pub(super) fn is_exact(self, depth: usize, [least, most]: [i8; 2]) -> bool {
        let weights = match self {
            // Two products of 255 and 64 are less than 2^15.
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx2Narrow(_) => -64..=64,
            // Two of -128 and 127 are, but not two of -128 and -128.
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => -127..=127,
            _ => i8::MIN..=i8::MAX,
        };
        weights.contains(&least) && weights.contains(&most) && depth < i32::MAX as usize / (255 * 128)
    }

    /// The rows and columns of a product's tile; the columns are those of a panel of [`Weights`](super::Weights).
    pub(super) fn tile(self) -> [usize; 2] {
        match self {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx512Vnni(_) => [12, 32],
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::AvxVnni(_) => [6, 16],
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx2Narrow(_) | Self::Avx2(_) => [4, 16],
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod(_) => [8, 12],
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => [3, 8],
            Self::Plain => [4, 4],
        }
    }

    /// The name of the kernel.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx512Vnni(_) => "edge_vit_avx512vnni_mmm_i8_12x32",
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::AvxVnni(_) => "edge_vit_avxvnni_mmm_i8_6x16",
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx2Narrow(_) => "edge_vit_avx2_mmm_i7_4x16",
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx2(_) => "edge_vit_avx2_mmm_i8_4x16",
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod(_) => "edge_vit_dotprod_mmm_i8_8x12",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "edge_vit_neon_mmm_i8_3x8",
            Self::Plain => "edge_vit_plain_mmm_i8_4x4",
        }
    }

    /// Runs `tiles` with these instructions.
    pub(super) fn run(self, tiles: impl Tiles) {
        match self {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx512Vnni(dot) => dot.run::<12, 2>(tiles),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::AvxVnni(dot) => dot.run::<6, 2>(tiles),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx2Narrow(dot) => dot.run::<4, 2>(tiles),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx2(dot) => dot.run::<4, 2>(tiles),
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod(dot) => dot.run::<8, 3>(tiles),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(dot) => dot.run::<3, 2>(tiles),
            Self::Plain => tiles.run::<Plain, 4, 4>(Plain),
        }
    }
}
