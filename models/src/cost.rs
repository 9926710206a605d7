//! What a graph costs: its parameters and its multiplications.

use crate::graph::{Graph, GraphError};
use crate::op::{Op, Sides};

/// The cost of one picture through a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Number of parameters.
    pub parameters: u64,
    /// Multiplications with an addition each, of linear layers, convolutions, attention and the merging of tokens.
    pub multiply_adds: u64,
}

impl Cost {
    /// The cost of `graph`, whose weights need not be there.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn of(graph: &Graph) -> Result<Self, GraphError> {
        let len = |shape: &[usize]| shape.iter().map(|&dim| dim as u64).product::<u64>();
        let parameters = graph.params()?.iter().flatten().map(|param| len(&param.shape)).sum();
        Ok(Self { parameters, multiply_adds: multiply_adds(graph)?.iter().sum() })
    }

    /// Billions of floating point operations: two for each multiplication with an addition.
    pub fn gflop(&self) -> f64 {
        2.0 * self.multiply_adds as f64 / 1e9
    }
}

/// The multiplications with an addition each of every node of `graph`, whose weights need not be there, for one picture: what
/// [`Cost::multiply_adds`] is the sum of.
///
/// # Errors
/// As [`Graph::shapes`].
pub fn multiply_adds(graph: &Graph) -> Result<Vec<u64>, GraphError> {
    let shapes = graph.shapes()?;
    let len = |shape: &[usize]| shape.iter().map(|&dim| dim as u64).product::<u64>();
    let mut counts = Vec::with_capacity(graph.nodes.len());
    for (id, (node, params)) in graph.nodes.iter().zip(graph.params()?).enumerate() {
        let input = node.inputs.first().map_or(&[][..], |&input| shapes[input].as_slice());
        let tokens = input.len().checked_sub(2).map_or(1, |at| input[at]) as u64;
        counts.push(match &node.op {
            Op::PatchEmbed { .. } | Op::Linear { .. } => {
                let weight = params.first().map_or(0, |param| len(&param.shape));
                let width = shapes[id].last().copied().unwrap_or(1).max(1) as u64;
                len(&shapes[id]) / width * weight
            }
            op if op.is_attention() => 2 * tokens * len(&shapes[id]),
            Op::MatchTokens { protected, num_heads, .. } => {
                let sides = Sides::of(tokens as usize, *protected);
                let width = input.last().map_or(0, |width| width / 3 / (*num_heads).max(1));
                (sides.a.len() * sides.b.len() * width) as u64
            }
            Op::MergeTokens => len(&shapes[id]) * (tokens - shapes[id][0] as u64 + 1),
            Op::DepthwiseConv { kernel_size, .. } => len(&shapes[id]) * (kernel_size * kernel_size) as u64,
            Op::RepAdapter { hidden, groups, .. } => {
                len(&shapes[id]) * (*hidden as u64 + (hidden / (*groups).max(1)) as u64)
            }
            _ => 0,
        });
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vit;

    #[test]
    fn vit_b_costs_what_it_is_known_to() {
        let config = vit::Config { num_classes: Some(1000), ..vit::Config::default() };
        let cost = Cost::of(&vit::graph(&config)).unwrap();
        assert_eq!(cost.parameters, 86_567_656);
        // timm lists 17.58 GMACs.
        assert!((cost.multiply_adds as f64 / 1e9 - 17.58).abs() < 0.03, "{}", cost.multiply_adds);
    }
}
