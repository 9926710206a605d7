//! What a model is likely to cost on a board.

use edge_vit_models::vit::{Architecture, VitError};

use super::{Cpu, Model};

/// What one core of a board makes of its peak over a whole transformer.
const SHARE_OF_PEAK: f64 = 0.5;
/// The program with its libraries, before it has a model.
const PROGRAM_MIB: f64 = 24.0;
/// How often the parameters lie in memory while a model is loaded: as a file, decoded, and half of them already as the
/// kernels want them, beside what they are made from.
const COPIES: f64 = 3.5;

/// What a model is likely to cost on a board. Nothing of it is measured.
///
/// Operations are two for each multiplication with an addition in the linear layers and in attention. The time is theirs
/// at half of one core's peak, for the engine uses one core. Memory is what the program needs at its most, while it loads
/// the model: 14 bytes a parameter, the widest layer's activations or attention's scores twice, and 24 MiB for the program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Billions of floating point operations for a picture.
    pub gflop: f64,
    /// Milliseconds for a picture.
    pub milliseconds: f64,
    /// Memory of the program while it loads the model; half of it afterwards.
    pub memory_mib: f64,
}

impl Estimate {
    /// The estimate of a model on a board's processor.
    ///
    /// # Errors
    /// When the architecture has no such name; the message lists the names.
    pub fn new(model: &Model, cpu: &Cpu) -> Result<Self, VitError> {
        let Architecture { patch_size, embed_dim, depth, num_heads, .. } = Architecture::named(&model.architecture)?;
        let [patch, width, depth, heads] = [patch_size, embed_dim, depth, num_heads].map(|size| size as f64);
        let patches = (f64::from(model.size) / patch).powi(2);
        let tokens = patches + 1.0;
        // qkv, projection and the two layers of the MLP are 12 squares of the width; attention multiplies twice.
        let embedding = 3.0 * patch * patch * width;
        let linear = depth * 12.0 * width * width;
        let attention = depth * 2.0 * tokens * tokens * width;
        let gflop = 2.0 * (patches * embedding + tokens * linear + attention) / 1e9;
        let peak = f64::from(cpu.mhz) * 1e6 * f64::from(cpu.flops_per_cycle);
        let parameters = embedding + linear + tokens * width;
        let activations = 2.0 * tokens * (4.0 * width).max(heads * tokens);
        Ok(Self {
            gflop,
            milliseconds: gflop * 1e9 / (peak * SHARE_OF_PEAK) * 1e3,
            memory_mib: PROGRAM_MIB + 4.0 * (COPIES * parameters + activations) / f64::from(1 << 20),
        })
    }
}
