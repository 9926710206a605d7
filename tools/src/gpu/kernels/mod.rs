//! The kernels: a WGSL file and its wrapper each. A wrapper records one or a few dispatches and returns what they write.

pub(crate) mod adamw;
pub(crate) mod adapter;
pub(crate) mod attention;
pub(crate) mod attention_pool;
pub(crate) mod average;
pub(crate) mod elementwise;
pub(crate) mod layer_norm;
pub(crate) mod loss;
pub(crate) mod maps;
pub(crate) mod matmul;
pub(crate) mod reduce;
pub(crate) mod response_norm;
pub(crate) mod tile;
pub(crate) mod tokens;
pub(crate) mod unfold;

use super::device::AdapterInfo;
use super::pool::PoolError;
use super::recorder::Recorder;

/// A compute kernel: its source in parts and the constants that are compiled into it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) parts: &'static [&'static str],
    pub(crate) constants: Vec<(&'static str, u32)>,
    /// Whether the alias `V` is a line of four values or one value.
    pub(crate) vector: bool,
}

/// How the work is cut for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// Whether matrix products share tiles in workgroup memory; in registers alone otherwise.
    pub(crate) shared_tiles: bool,
    /// How many of the larger shared tiles keep the device busy; a product of fewer is cut into smaller ones.
    pub(crate) enough_tiles: u32,
    /// Rows of 4 x 4 values of C in an invocation's registers, where tiles are not shared.
    pub(crate) tile_quads: u32,
    /// Invocations of a workgroup of a product in registers and of attention.
    pub(crate) lanes: u32,
    /// Rows of a head that an invocation of attention owns.
    pub(crate) attention_rows: u32,
    /// Invocations that share a row of a LayerNorm, a power of two.
    pub(crate) norm_lanes: u32,
    /// Workgroup size of the other kernels.
    pub(crate) workgroup: u32,
}

impl Tuning {
    /// Few fat invocations without barriers for a CPU, many thin ones for a GPU, within the limits.
    pub(crate) fn of(info: &AdapterInfo, limits: &wgpu::Limits) -> Self {
        let most = limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x).max(1);
        let workgroup = most.min(64);
        if info.software {
            return Self {
                shared_tiles: false,
                enough_tiles: 0,
                tile_quads: 2,
                lanes: most.min(8),
                attention_rows: 4,
                norm_lanes: 1,
                workgroup,
            };
        }
        Self {
            shared_tiles: Self::shares(limits),
            enough_tiles: 384,
            tile_quads: 1,
            lanes: workgroup,
            attention_rows: 1,
            norm_lanes: 1 << workgroup.ilog2(),
            workgroup,
        }
    }
}

pub(crate) const COMMON: &str = include_str!("common.wgsl");
/// The constant that says whether a kernel uses float16.
pub(crate) const HALF: &str = "HALF";
/// The loss scale that kernels of half precision read and change.
pub(crate) const SCALING: &str = include_str!("scaling.wgsl");
const NOISE: &str = include_str!("noise.wgsl");

/// A dimension or count as the kernels take it; a tensor's number of values fits, as `Gpu::largest_binding` sees to.
pub(crate) fn word(value: usize) -> u32 {
    value as u32
}

/// How many lines a row of `width` values has, and whether a line is four values or one.
pub(crate) fn lines(width: usize) -> (usize, bool) {
    if width.is_multiple_of(4) { (width / 4, true) } else { (width, false) }
}

/// Records a kernel with one invocation for each of `count` things.
pub(crate) fn for_each(
    rec: &mut Recorder,
    mut kernel: Kernel,
    params: &[u32],
    buffers: &[(u32, &wgpu::Buffer)],
    count: usize,
) -> Result<(), PoolError> {
    let workgroup = rec.gpu.tuning.workgroup;
    kernel.constants.push(("WORKGROUP", workgroup));
    rec.dispatch(&kernel, params, buffers, count.div_ceil(workgroup as usize))
}

/// Where randomness of a training step comes from, for one node and one micro-batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drop {
    pub(crate) seed: u32,
    /// The node's position in the graph.
    pub(crate) stream: u32,
    /// Probability of 0.
    pub(crate) rate: f32,
}

impl Drop {
    /// The kernels' words: seed, stream, rate, and the factor on what is kept.
    fn words(self) -> [u32; 4] {
        [self.seed, self.stream, self.rate.to_bits(), (1.0 / (1.0 - self.rate)).to_bits()]
    }
}
