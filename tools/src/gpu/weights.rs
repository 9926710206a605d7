//! The graph's weights on the device, and what training adds to the trained ones.

use std::collections::{BTreeMap, BTreeSet};

use edge_vit_models::{Graph, Tensor};
use half::f16;
use half::slice::HalfFloatSliceExt as _;

use super::device::Gpu;
use super::kernels::adamw;
use super::pool::create_buffer;
use crate::engine::EngineError;

/// All weights by name; the trained ones with moments and gradient.
pub(crate) struct Weights {
    values: BTreeMap<String, wgpu::Buffer>,
    /// Those that lie in float16.
    halves: BTreeSet<String>,
    trained: BTreeMap<String, Training>,
}

/// What training keeps of one weight beside its value.
pub(crate) struct Training {
    pub(crate) shape: Vec<usize>,
    pub(crate) m: wgpu::Buffer,
    pub(crate) v: wgpu::Buffer,
    pub(crate) grad: wgpu::Buffer,
}

impl Training {
    /// Number of values.
    pub(crate) fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Weights {
    /// Uploads the weights that `used` names, those of `halves` that are not trained in float16.
    ///
    /// # Errors
    /// When a weight is larger than the device binds or float16 holds, or there is no memory left.
    pub(crate) fn new(
        gpu: &Gpu,
        graph: &Graph,
        used: &BTreeSet<String>,
        trainable: &BTreeSet<String>,
        halves: &BTreeSet<String>,
    ) -> Result<Self, EngineError> {
        let (mut values, mut trained) = (BTreeMap::new(), BTreeMap::new());
        let halves: BTreeSet<String> = halves.difference(trainable).cloned().collect();
        for (name, tensor) in graph.weights.iter().filter(|(name, _)| used.contains(*name)) {
            if halves.contains(name) {
                let value = allocate(gpu, name, tensor.len().div_ceil(2))?;
                gpu.queue.write_buffer(&value, 0, bytemuck::cast_slice(&rounded(name, tensor.values())?));
                values.insert(name.clone(), value);
                continue;
            }
            let value = allocate(gpu, name, tensor.len())?;
            write(gpu, &value, tensor);
            values.insert(name.clone(), value);
            if trainable.contains(name) {
                let fresh = || allocate(gpu, name, tensor.len());
                let training = Training { shape: tensor.shape().to_vec(), m: fresh()?, v: fresh()?, grad: fresh()? };
                trained.insert(name.clone(), training);
            }
        }
        Ok(Self { values, halves, trained })
    }

    /// The weight `suffix` of the node named `node`.
    ///
    /// # Errors
    /// When it is not there, which the validation of the graph rules out.
    pub(crate) fn of(&self, node: &str, suffix: &str) -> Result<&wgpu::Buffer, EngineError> {
        self.value(&format!("{node}.{suffix}"))
    }

    /// The weight named `name`.
    ///
    /// # Errors
    /// As [`Weights::of`].
    pub(crate) fn value(&self, name: &str) -> Result<&wgpu::Buffer, EngineError> {
        self.values.get(name).ok_or_else(|| EngineError::Device(format!("weight `{name}` is not on the device")))
    }

    /// The matrix `weight` of the node named `node`, and whether it lies in float16.
    ///
    /// # Errors
    /// As [`Weights::of`].
    pub(crate) fn matrix(&self, node: &str) -> Result<(&wgpu::Buffer, bool), EngineError> {
        let name = format!("{node}.weight");
        Ok((self.value(&name)?, self.halves.contains(&name)))
    }

    /// Where the gradient of the weight `suffix` of the node named `node` is summed up.
    ///
    /// # Errors
    /// When it is not trained, which the plan rules out.
    pub(crate) fn grad(&self, node: &str, suffix: &str) -> Result<&wgpu::Buffer, EngineError> {
        self.grad_named(&format!("{node}.{suffix}"))
    }

    /// Where the gradient of the weight `name` is summed up.
    ///
    /// # Errors
    /// As [`Weights::grad`].
    pub(crate) fn grad_named(&self, name: &str) -> Result<&wgpu::Buffer, EngineError> {
        let training = self.trained.get(name);
        training.map(|training| &training.grad).ok_or_else(|| EngineError::UnknownTrainable { name: name.to_owned() })
    }

    /// Bytes of all of them, with what training adds.
    pub(crate) fn bytes(&self) -> u64 {
        let training = self.trained.values().flat_map(|Training { m, v, grad, .. }| [m, v, grad]);
        self.values.values().chain(training).map(wgpu::Buffer::size).sum()
    }

    /// The trained weights in the order of their names.
    pub(crate) fn trained(&self) -> &BTreeMap<String, Training> {
        &self.trained
    }

    /// The trained weights as the optimiser takes them.
    ///
    /// # Errors
    /// As [`Weights::of`].
    pub(crate) fn updates(&self) -> Result<Vec<adamw::Trained<'_>>, EngineError> {
        self.trained
            .iter()
            .map(|(name, training)| {
                let value = self.value(name)?;
                let Training { m, v, grad, .. } = training;
                Ok(adamw::Trained { value, m, v, grad, count: training.count() })
            })
            .collect()
    }
}

/// Writes `tensor` to `buffer` before the next submission.
pub(crate) fn write(gpu: &Gpu, buffer: &wgpu::Buffer, tensor: &Tensor) {
    gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(tensor.values()));
}

/// The values in float16, an even number of them.
fn rounded(name: &str, values: &[f32]) -> Result<Vec<u16>, EngineError> {
    let mut halves = vec![f16::ZERO; values.len().next_multiple_of(2)];
    halves[..values.len()].convert_from_f32_slice(values);
    match values.iter().zip(&halves).find(|(value, half)| value.is_finite() && !half.is_finite()) {
        Some((value, _)) => Err(EngineError::Device(format!(
            "weight `{name}` holds {value}, float16 at most {}; train in float32",
            f16::MAX
        ))),
        None => Ok(halves.into_iter().map(f16::to_bits).collect()),
    }
}

/// A zeroed buffer for `count` values of the weight `name`, rounded up to whole lines of four.
///
/// # Errors
/// When it is larger than the device binds or there is no memory left.
pub(crate) fn allocate(gpu: &Gpu, name: &str, count: usize) -> Result<wgpu::Buffer, EngineError> {
    let bytes = (count as u64).div_ceil(4).max(1) * 16;
    let most = gpu.largest_binding();
    if bytes > most {
        return Err(EngineError::Device(format!(
            "weight `{name}` takes {bytes} bytes, `{}` binds at most {most}; use a smaller backbone or another adapter",
            gpu.info.name
        )));
    }
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    create_buffer(gpu, name, bytes, usage).ok_or_else(|| {
        EngineError::Device(format!(
            "`{}` has no memory left for weight `{name}` of {bytes} bytes; use a smaller backbone, or end other \
             programs that use it",
            gpu.info.name
        ))
    })
}
