//! The engine: micro-batches, the optimiser, and what goes in and out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edge_vit_models::{Graph, Op, Tensor};

use super::averages::Averages;
use super::device::Gpu;
use super::fixed::Fixed;
use super::flight::{self, Flight};
use super::forward::{Model, Walk, no_merged_tokens};
use super::kernels::adamw;
use super::kernels::loss::Loss;
use super::loss_scale::Scaling;
use super::pool::{Buf, Pool, PoolError};
use super::recorder::Recorder;
use super::weights::{Weights, write};
use crate::engine::{
    Average, Checked, Engine, EngineError, LossScale, Plan, Precision, State, Step, Trained, check_average,
    check_input, check_step, check_weights, is_of_merged_tokens,
};

/// A graph on a wgpu adapter.
pub struct GpuEngine {
    gpu: Arc<Gpu>,
    pool: Pool,
    model: Model,
    /// In half precision.
    scaling: Option<Scaling>,
    averages: Option<Averages>,
    flight: Flight,
    steps: u64,
    /// The most pictures of a micro-batch that were found to fit.
    fitting: Fitting,
}

/// Pictures of a micro-batch, by what is done with them.
struct Fitting {
    training: usize,
    forward: usize,
}

impl GpuEngine {
    /// Puts `graph`, whose weights named in `trainable` are trained, on the adapter that `selection` means: an index of
    /// [`super::adapters`], a part of a name in any case, or the first one.
    ///
    /// # Errors
    /// When there is no such adapter, the graph cannot be run or trained so, or a weight does not fit the device.
    pub fn new(selection: Option<&str>, graph: &Graph, trainable: &BTreeSet<String>) -> Result<Self, EngineError> {
        Self::in_precision(selection, graph, trainable, Precision::F32)
    }

    /// As [`GpuEngine::new`], in a precision.
    ///
    /// # Errors
    /// As there; when the adapter has no float16, or a weight is larger than float16 holds.
    pub fn in_precision(
        selection: Option<&str>,
        graph: &Graph,
        trainable: &BTreeSet<String>,
        precision: Precision,
    ) -> Result<Self, EngineError> {
        Self::on_in(Arc::new(Gpu::open_measured(selection)?), graph, trainable, precision)
    }

    /// As [`GpuEngine::new`], on an opened adapter.
    #[cfg(test)]
    pub(crate) fn on(gpu: Arc<Gpu>, graph: &Graph, trainable: &BTreeSet<String>) -> Result<Self, EngineError> {
        Self::on_in(gpu, graph, trainable, Precision::F32)
    }

    /// As [`GpuEngine::in_precision`], on an opened adapter.
    pub(crate) fn on_in(
        gpu: Arc<Gpu>,
        graph: &Graph,
        trainable: &BTreeSet<String>,
        precision: Precision,
    ) -> Result<Self, EngineError> {
        if precision == Precision::F16 && !gpu.info.float16 {
            return Err(EngineError::Device(format!(
                "`{}` has no float16 in its kernels; train in float32, or on another GPU",
                gpu.info.name
            )));
        }
        if let Some(node) = graph.nodes.iter().find(|node| is_of_merged_tokens(node)) {
            return Err(no_merged_tokens(node));
        }
        let plan = Plan::new(graph, trainable)?;
        let used = plan.params.iter().flatten().map(|param| param.name.clone()).collect();
        let (halves, scaling) = match precision {
            Precision::F32 => (BTreeSet::new(), None),
            Precision::F16 => (matrices(graph), Some(Scaling::new(&gpu, LossScale::default())?)),
        };
        let weights = Weights::new(&gpu, graph, &used, trainable, &halves)?;
        let pool = Pool::new(Arc::clone(&gpu), gpu.memory_budget());
        // A micro-batch's largest tensor has to fit a binding.
        let largest = (0..plan.shapes.len()).map(|id| plan.len(id)).max().unwrap_or(1).max(1);
        let most = usize::try_from(gpu.largest_binding() / 4 / largest as u64).unwrap_or(usize::MAX).max(1);
        let fixed = Fixed::of(&gpu, graph, &plan)?;
        let model = Model { nodes: graph.nodes.clone(), plan, weights, fixed };
        let flight = Flight::new(Arc::clone(&gpu));
        let fitting = Fitting { training: most, forward: most };
        Ok(Self { gpu, pool, model, scaling, averages: None, flight, steps: 0, fitting })
    }

    /// Sets the most bytes that activations, gradients and scratch may take together.
    pub fn set_memory_budget(&mut self, bytes: u64) {
        self.pool.set_budget(bytes);
        self.pool.trim();
    }

    /// Bytes of all weights, with the moments and gradients of the trained ones.
    pub fn weight_bytes(&self) -> u64 {
        self.model.weights.bytes()
    }

    /// The output of `pictures` pictures, which are few enough.
    fn forward_part(&self, input: &[f32], pictures: usize) -> Result<Vec<f32>, PoolError> {
        let rec = Recorder::new(&self.gpu, &self.pool);
        let input = rec.upload(input)?;
        let mut walk = Walk { model: &self.model, rec, pictures, first_picture: 0, noise: None };
        let values = walk.forward(input)?;
        let Some(output) = values.last().and_then(Option::as_ref) else { return Ok(Vec::new()) };
        let read = walk.rec.read(&[(output, pictures * self.model.plan.output_len())])?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Sums up the gradients of a whole batch on the device, from zero. What comes back has the last micro-batch recorded, and
    /// is to be submitted.
    fn accumulate(&mut self, step: &Step<'_>) -> Result<(Accumulated, Checked), EngineError> {
        let checked = check_step(&self.model.plan, step)?;
        loop {
            let pictures = self.fitting.training.min(checked.pictures);
            match self.accumulate_parts(step, checked.weight, pictures) {
                Err(PoolError::Full(reason)) if pictures > 1 => {
                    self.fitting.training = self.shrink(pictures, &reason)?;
                }
                result => return Ok((result?, checked)),
            }
        }
    }

    fn accumulate_parts(&mut self, step: &Step<'_>, weight: f64, most: usize) -> Result<Accumulated, PoolError> {
        let (mut losses, mut recorded) = (Vec::new(), None);
        let plan = &self.model.plan;
        let (len, answers, classes) = (plan.input_len(), plan.output_len(), plan.classes());
        let parts = step.input.chunks(most * len).zip(step.targets.chunks(most * answers));
        for (part, (input, targets)) in parts.enumerate() {
            if let Some(earlier) = recorded.take() {
                self.flight.submitted(Recorder::submit(earlier)?)?;
            }
            let rec = Recorder::new(&self.gpu, &self.pool);
            let (pictures, rows) = (targets.len() / answers, targets.len() / classes);
            let (input, targets) = (rec.upload(input)?, rec.upload(targets)?);
            let first_picture = part * most;
            let mut walk = Walk { model: &self.model, rec, pictures, first_picture, noise: Some(step.noise) };
            if part == 0 {
                for training in self.model.weights.trained().values() {
                    walk.rec.clear(&training.grad);
                }
            }
            let values = walk.forward(input)?;
            let Some(logits) = values.last().and_then(Clone::clone) else { continue };
            let scaling = self.scaling.as_ref().map(Scaling::buffer);
            let loss = Loss { logits: &logits, targets: &targets, rows, classes, weight, scaling };
            let (part_losses, grad) = loss.record(&mut walk.rec)?;
            drop(logits);
            walk.backward(values, grad)?;
            recorded = Some(walk.rec);
            losses.push((part_losses, rows));
        }
        let rec = recorded.unwrap_or_else(|| Recorder::new(&self.gpu, &self.pool));
        Ok(Accumulated { rec, losses })
    }

    /// Submits a step whose loss the flight then owes.
    fn submit(&mut self, step: &Step<'_>) -> Result<(), EngineError> {
        let (Accumulated { mut rec, losses }, Checked { weight, .. }) = self.accumulate(step)?;
        let updates = self.model.weights.updates()?;
        if let Some(scaling) = &self.scaling {
            updates.iter().try_for_each(|trained| scaling.look_at(&mut rec, trained.grad, trained.count))?;
        }
        for trained in &updates {
            adamw::update(&mut rec, trained, &step.hyper, self.steps + 1, self.scaling.as_ref())?;
        }
        if let Some(scaling) = &self.scaling {
            scaling.settle(&mut rec)?;
        }
        if let Some(averages) = &self.averages {
            averages.update(&mut rec, &self.model.weights, self.steps + 1)?;
        }
        let (submission, rows) = rec.read_later(&to_read(&losses))?;
        self.steps += 1;
        self.flight.owes(rows, weight);
        self.flight.submitted(submission)
    }

    /// What `buffers` hold, one for each trained weight in the order of their names, as tensors of the weights' shapes.
    fn read_trained(&self, buffers: &[(&wgpu::Buffer, usize)]) -> Result<BTreeMap<String, Tensor>, EngineError> {
        let read = Recorder::new(&self.gpu, &self.pool).read(buffers)?;
        let named = self.model.weights.trained().iter().zip(read);
        named.map(|((name, training), values)| Ok((name.clone(), tensor(training.shape.clone(), values)?))).collect()
    }

    /// Half as many pictures, after the device's idle memory has been given back.
    fn shrink(&self, pictures: usize, reason: &str) -> Result<usize, EngineError> {
        let fewer = pictures.div_ceil(2);
        log::info!("a micro-batch of {pictures} pictures does not fit ({reason}); going on with {fewer}");
        self.gpu.wait()?;
        self.pool.trim();
        Ok(fewer)
    }
}

/// The gradients of a batch, summed up once `rec` is submitted.
struct Accumulated {
    rec: Recorder,
    /// The losses of each micro-batch's rows, and how many.
    losses: Vec<(Buf, usize)>,
}

/// The losses as buffers to read, with the number of rows of each.
fn to_read(losses: &[(Buf, usize)]) -> Vec<(&wgpu::Buffer, usize)> {
    losses.iter().map(|(losses, rows)| (&**losses, *rows)).collect()
}

impl Engine for GpuEngine {
    fn device(&self) -> String {
        let info = &self.gpu.info;
        let kind = if info.software { ", software" } else { "" };
        format!("{} ({}{kind})", info.name, info.backend)
    }

    fn forward(&mut self, input: &[f32], pictures: usize) -> Result<Vec<f32>, EngineError> {
        check_input(&self.model.plan, input, pictures)?;
        let mut output = Vec::with_capacity(pictures * self.model.plan.output_len());
        let mut done = 0;
        let len = self.model.plan.input_len();
        while done < pictures {
            let part = self.fitting.forward.min(pictures - done);
            match self.forward_part(&input[done * len..(done + part) * len], part) {
                Err(PoolError::Full(reason)) if part > 1 => self.fitting.forward = self.shrink(part, &reason)?,
                result => {
                    output.extend(result?);
                    done += part;
                }
            }
        }
        Ok(output)
    }

    fn gradients(&mut self, step: &Step<'_>) -> Result<(f32, BTreeMap<String, Tensor>), EngineError> {
        let (Accumulated { rec, losses }, Checked { weight, .. }) = self.accumulate(step)?;
        let mut wanted = to_read(&losses);
        let trained = self.model.weights.trained();
        wanted.extend(trained.values().map(|training| (&training.grad, training.count())));
        wanted.extend(self.scaling.as_ref().map(Scaling::to_read));
        let mut read = rec.read(&wanted)?;
        let scale = self.scaling.as_ref().and_then(|_| read.pop()).map_or(1.0, |values| Scaling::read(&values).scale);
        let gradients = read.split_off(losses.len());
        let named = trained.iter().zip(gradients).map(|((name, training), mut values)| {
            values.iter_mut().for_each(|value| *value /= scale);
            Ok((name.clone(), tensor(training.shape.clone(), values)?))
        });
        let named = named.collect::<Result<_, EngineError>>()?;
        Ok((flight::mean(&read, weight), named))
    }

    fn train_step(&mut self, step: &Step<'_>) -> Result<f32, EngineError> {
        self.submit(step)?;
        let loss = self.flight.newest()?;
        loss.ok_or_else(|| EngineError::Device(format!("`{}` gave no loss", self.gpu.info.name)))
    }

    fn submit_step(&mut self, step: &Step<'_>) -> Result<Vec<f32>, EngineError> {
        self.submit(step)?;
        self.flight.arrived()
    }

    fn late_losses(&mut self) -> Result<Vec<f32>, EngineError> {
        self.flight.all()
    }

    fn weights(&mut self) -> Result<BTreeMap<String, Tensor>, EngineError> {
        let trained = self.model.weights.updates()?;
        self.read_trained(&trained.iter().map(|trained| (trained.value, trained.count)).collect::<Vec<_>>())
    }

    fn state(&mut self) -> Result<State, EngineError> {
        let weights = &self.model.weights;
        let mut wanted = Vec::new();
        for trained in weights.updates()? {
            wanted.extend([trained.value, trained.m, trained.v].map(|buffer| (buffer, trained.count)));
        }
        wanted.extend(self.scaling.as_ref().map(Scaling::to_read));
        let mut read = Recorder::new(&self.gpu, &self.pool).read(&wanted)?;
        let loss_scale = self.scaling.as_ref().and_then(|_| read.pop()).map(|values| Scaling::read(&values));
        let mut state = State { steps: self.steps, trained: BTreeMap::new(), loss_scale };
        let mut values = read.into_iter();
        for (name, training) in weights.trained() {
            let mut next = || tensor(training.shape.clone(), values.next().unwrap_or_default());
            let trained = Trained { value: next()?, m: next()?, v: next()? };
            state.trained.insert(name.clone(), trained);
        }
        Ok(state)
    }

    fn restore(&mut self, state: &State) -> Result<(), EngineError> {
        let weights = &self.model.weights;
        let names = |keys: &mut dyn Iterator<Item = &String>| keys.cloned().collect::<Vec<_>>();
        let (expected, got) = (names(&mut weights.trained().keys()), names(&mut state.trained.keys()));
        if expected != got {
            let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
            return Err(EngineError::Mismatch { what: "trained weights of the state", expected, got });
        }
        for (training, trained) in weights.trained().values().zip(state.trained.values()) {
            for tensor in [&trained.value, &trained.m, &trained.v] {
                if tensor.shape() != training.shape {
                    let (expected, got) = (format!("{:?}", training.shape), format!("{:?}", tensor.shape()));
                    return Err(EngineError::Mismatch { what: "shape of a trained weight", expected, got });
                }
            }
        }
        for (buffers, trained) in weights.updates()?.iter().zip(state.trained.values()) {
            write(&self.gpu, buffers.value, &trained.value);
            write(&self.gpu, buffers.m, &trained.m);
            write(&self.gpu, buffers.v, &trained.v);
        }
        if let Some(scaling) = &self.scaling {
            scaling.restore(&self.gpu, state.loss_scale.unwrap_or_default());
        }
        self.steps = state.steps;
        self.gpu.check()
    }

    fn set_weights(&mut self, weights: &BTreeMap<String, Tensor>) -> Result<(), EngineError> {
        let trained = self.model.weights.trained();
        check_weights(|name| trained.get(name).map(|training| training.shape.as_slice()), weights)?;
        for (name, buffers) in trained.keys().zip(self.model.weights.updates()?) {
            if let Some(tensor) = weights.get(name) {
                write(&self.gpu, buffers.value, tensor);
            }
        }
        self.gpu.check()
    }

    fn keep_average(&mut self, average: Average) -> Result<(), EngineError> {
        let weights = &self.model.weights;
        let shapes = weights.trained().iter().map(|(name, training)| (name.as_str(), training.shape.as_slice()));
        check_average(shapes, &average)?;
        self.averages = Some(Averages::new(&self.gpu, weights, &average)?);
        self.gpu.check()
    }

    fn average(&mut self) -> Result<Option<BTreeMap<String, Tensor>>, EngineError> {
        let averages = self.averages.as_ref();
        averages.map(|averages| self.read_trained(&averages.to_read(&self.model.weights))).transpose()
    }

    fn checkpoint_activations(&mut self) {
        self.model.plan.checkpoint_activations(&self.model.nodes);
    }

    fn peak_bytes(&self) -> u64 {
        self.pool.peak_bytes()
    }
}

/// The names of the matrices of `graph` that the products read.
fn matrices(graph: &Graph) -> BTreeSet<String> {
    let linear = graph.nodes.iter().filter(|node| matches!(node.op, Op::Linear { .. } | Op::PatchEmbed { .. }));
    linear.map(|node| format!("{}.weight", node.name)).collect()
}

/// Values that came back, under the shape that they were allocated for.
fn tensor(shape: Vec<usize>, values: Vec<f32>) -> Result<Tensor, EngineError> {
    Tensor::new(shape, values).map_err(|error| EngineError::Device(format!("read back: {error}")))
}
