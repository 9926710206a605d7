//! What nodes compute from their shapes and frozen weights alone, put on the device once.

use std::collections::BTreeMap;

use edge_vit_models::op::{inverse, rows, score_bias};
use edge_vit_models::{Graph, NodeId};

use super::device::Gpu;
use super::pool::create_buffer;
use crate::engine::{EngineError, Plan};

/// What one node needs beside its weights.
pub(crate) enum Fixed {
    /// For an operator that moves rows, where each comes from, forward and backward.
    Rows { forward: wgpu::Buffer, backward: wgpu::Buffer },
    /// What attention adds to its scores, `[kinds, heads, n, n]`.
    Bias(wgpu::Buffer),
}

impl Fixed {
    /// Those of every node of `graph` that has one.
    ///
    /// # Errors
    /// When one is larger than the device binds or there is no memory left.
    pub(crate) fn of(gpu: &Gpu, graph: &Graph, plan: &Plan) -> Result<BTreeMap<NodeId, Self>, EngineError> {
        let mut fixed = BTreeMap::new();
        for (id, node) in graph.nodes.iter().enumerate() {
            let input = node.inputs.first().map_or(&[][..], |&input| plan.shapes[input].as_slice());
            if let Some(forward) = rows(&node.op, input) {
                let backward = place(gpu, &node.name, &inverse(&forward))?;
                let forward = place(gpu, &node.name, &forward)?;
                fixed.insert(id, Self::Rows { forward, backward });
                continue;
            }
            let table = graph.weights.get(&format!("{}.relative_position_bias_table", node.name));
            if let Some(bias) = score_bias(&node.op, input, table) {
                fixed.insert(id, Self::Bias(place(gpu, &node.name, &bias)?));
            }
        }
        Ok(fixed)
    }
}

fn place<T: bytemuck::Pod>(gpu: &Gpu, name: &str, values: &[T]) -> Result<wgpu::Buffer, EngineError> {
    let bytes = (values.len() as u64 * 4).max(4);
    let fits = bytes <= gpu.largest_binding();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let buffer = fits.then(|| create_buffer(gpu, name, bytes, usage)).flatten().ok_or_else(|| {
        EngineError::Device(format!(
            "`{}` has no room for the {bytes} bytes of `{name}`; use smaller pictures, or end other programs that use it",
            gpu.info.name
        ))
    })?;
    gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(values));
    Ok(buffer)
}
