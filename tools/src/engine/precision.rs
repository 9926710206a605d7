//! How exact a training computes, and what half precision needs to keep small gradients.

use serde::{Deserialize, Serialize};

/// How exact a training computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Everything in float32.
    #[default]
    F32,
    /// Frozen matrices, and what is multiplied with them, in float16 with sums in float32; everything else in float32.
    F16,
}

impl Precision {
    /// Whether it is the one that is taken where nothing is said.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Dynamic loss scaling (Micikevicius et al. 2018, <https://arxiv.org/abs/1710.03740>, with PyTorch's `GradScaler`'s rule): the
/// loss is multiplied so that small gradients do not vanish in float16. A step whose gradients are not finite is skipped and
/// halves the factor; after [`LossScale::PATIENCE`] others it is doubled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScale {
    /// The factor, a power of two.
    pub scale: f32,
    /// Steps taken since it changed.
    pub good: u32,
    /// Steps skipped so far.
    pub skipped: u32,
}

impl LossScale {
    /// Steps without an overflow after which the factor is doubled.
    pub const PATIENCE: u32 = 2000;
    /// The most that it is doubled to: above it float32's own range comes near.
    pub const MOST: f32 = 16_777_216.0;
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: 65536.0, good: 0, skipped: 0 }
    }
}
