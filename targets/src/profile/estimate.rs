//! What a model is likely to cost on a board.

use edge_vit_models::Op;
use edge_vit_models::backbone::{Architecture, BackboneError};
use edge_vit_models::cost::Cost;

use super::{Cpu, Model};

/// What one core of a board makes of its peak over a whole transformer.
const SHARE_OF_PEAK: f64 = 0.5;
/// The program with its libraries, before it has a model.
const PROGRAM_MIB: f64 = 24.0;
/// How often the parameters lie in memory while a model is loaded: as the kernels want them, and a quarter for some of them as
/// they were read besides, with what the allocator keeps between the two.
const COPIES: f64 = 1.25;

/// What a model is likely to cost on a board. Nothing of it is measured.
///
/// Operations are two for each multiplication with an addition in linear layers, convolutions and attention. The time is theirs
/// at half of one core's peak, for the engine uses one core. Memory is what the program needs at its most, while it loads
/// the model: 5 bytes a parameter, the widest layer's activations or attention's scores twice, and 24 MiB for the program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Billions of floating point operations for a picture.
    pub gflop: f64,
    /// Milliseconds for a picture.
    pub milliseconds: f64,
    /// Memory of the program at its most.
    pub memory_mib: f64,
}

impl Estimate {
    /// The estimate of a model on a board's processor.
    ///
    /// # Errors
    /// When the architecture has no such name, which the message then lists, or does not take pictures of that size.
    pub fn new(model: &Model, cpu: &Cpu) -> Result<Self, BackboneError> {
        let graph = Architecture::named(&model.architecture)?.config([model.size as usize; 2]).graph();
        let cost = Cost::of(&graph)?;
        let shapes = graph.shapes()?;
        let len = |shape: &[usize]| shape.iter().map(|&dim| dim as f64).product::<f64>();
        let widest = graph.nodes.iter().zip(&shapes).map(|(node, shape)| match (&node.op, shape.as_slice()) {
            // Scores, a head and two tokens each.
            (&Op::Attention { num_heads, .. } | &Op::WindowAttention { num_heads, .. }, &[.., tokens, width]) => {
                len(shape).max(len(shape) / width as f64 * (tokens * num_heads) as f64)
            }
            _ => len(shape),
        });
        let activations = 2.0 * widest.fold(0.0, f64::max);
        let gflop = cost.gflop();
        let peak = f64::from(cpu.mhz) * 1e6 * f64::from(cpu.flops_per_cycle);
        Ok(Self {
            gflop,
            milliseconds: gflop * 1e9 / (peak * SHARE_OF_PEAK) * 1e3,
            memory_mib: PROGRAM_MIB + 4.0 * (COPIES * cost.parameters as f64 + activations) / f64::from(1 << 20),
        })
    }
}
