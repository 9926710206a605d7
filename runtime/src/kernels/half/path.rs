//! The ways in which products are computed in sixteen bits.

#[cfg(target_arch = "aarch64")]
use super::aarch64::Fp16;
use super::rounded::Rounded;
use super::{Half, multiply};
use crate::HalfProducts;
use crate::kernels::{Kernel, Product, run, tile};

/// Instructions of this processor, which a value of this type exists for only where they are there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Path {
    /// `fmla` of eight halves.
    #[cfg(target_arch = "aarch64")]
    Fp16(Fp16),
    /// Floats of thirty-two bits, rounded after each operation.
    Rounded,
}

impl Path {
    /// The fastest of this processor, if a file with these products is to use one.
    pub(crate) fn of(products: HalfProducts) -> Option<Self> {
        match products {
            HalfProducts::Never => None,
            HalfProducts::WhereNative => Self::native(),
            HalfProducts::Everywhere => Some(Self::native().unwrap_or(Self::Rounded)),
        }
    }

    fn native() -> Option<Self> {
        #[cfg(target_arch = "aarch64")]
        return Fp16::new().map(Self::Fp16);
        #[cfg(not(target_arch = "aarch64"))]
        None
    }

    /// The rows and columns of a product's tile; the columns are those of a panel of [`Weights`](super::Weights).
    pub(in crate::kernels) fn tile(self) -> [usize; 2] {
        match self {
            #[cfg(target_arch = "aarch64")]
            Self::Fp16(_) => [8, 24],
            Self::Rounded => tile(),
        }
    }

    /// The name of the kernel.
    pub(in crate::kernels) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "aarch64")]
            Self::Fp16(_) => "edge_vit_fp16_mmm_f16_8x24",
            Self::Rounded => "edge_vit_rounded_mmm_f16",
        }
    }
}

impl Half {
    /// Computes `product`, whose weights these are.
    pub(in crate::kernels) fn run(self, product: Product<'_>) {
        match self.path {
            #[cfg(target_arch = "aarch64")]
            Path::Fp16(fp16) => multiply::<_, 8, 6>(fp16, self, product),
            Path::Rounded => run(InRounded { half: self, product }),
        }
    }
}

/// A product by [`Rounded`], whose tile is that of products in thirty-two bits.
struct InRounded<'a> {
    half: Half,
    product: Product<'a>,
}

impl Kernel for InRounded<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: pulp::Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        multiply::<_, ROWS, VECTORS>(Rounded(simd), self.half, self.product);
    }
}
