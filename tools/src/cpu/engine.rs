//! The engine: batches cut into chunks, gradients summed in order, AdamW.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_vit_models::op::Param;
use edge_vit_models::{Graph, Tensor, TensorError};

use super::Real;
use super::adamw::Moments;
use super::model::{Fixed, Model};
use super::pass::{Learned, Pass, See};
use super::pool::{Meter, Pool};
use super::vector::add_assign;
use crate::engine::{
    Average, Checked, Engine, EngineError, State, Step, Trained, check_average, check_input, check_step, check_weights,
};

/// The most pictures that one thread takes at a time. It is fixed, because the order of the sums depends on it.
const CHUNK: usize = 4;

/// Trains and runs a graph on the processor, in `f32` or `f64`, on the threads of rayon's current pool.
///
/// Bit-exactly repeatable on one machine, whatever the number of threads.
#[derive(Debug)]
pub struct CpuEngine<T: Real> {
    pub(super) model: Model<T>,
    /// In the order of [`Model::trained`].
    moments: Vec<Moments<T>>,
    steps: u64,
    average: Option<Average>,
    pools: Mutex<Vec<Pool<T>>>,
    meter: Arc<Meter>,
}

impl<T: Real> CpuEngine<T> {
    /// An engine for `graph` of which the weights named in `trainable` are trained, with fresh moments.
    ///
    /// # Errors
    /// When the graph is not valid or empty somewhere, or a trainable weight is not there or cannot be trained.
    pub fn new(graph: &Graph, trainable: &BTreeSet<String>) -> Result<Self, EngineError> {
        let model = Model::new(graph, trainable)?;
        let moments = model.trained().map(|(id, param)| Moments::zero(model.weights[id][param].len())).collect();
        Ok(Self { model, moments, steps: 0, average: None, pools: Mutex::default(), meter: Arc::default() })
    }

    /// An engine for `graph` in which the Linears `int8` compute as a file in int8 does: on weights in eight bits, and on inputs
    /// that are brought to eight bits picture by picture. It does not learn.
    ///
    /// # Errors
    /// As [`Self::new`], and when a layer is no Linear of the graph or has weights that are not finite.
    pub fn quantized(graph: &Graph, int8: &[String]) -> Result<Self, EngineError> {
        let mut engine = Self::new(graph, &BTreeSet::new())?;
        for (id, matrix) in engine.model.int8(int8)? {
            engine.model.fixed[id] = Fixed::Int8(matrix);
        }
        Ok(engine)
    }

    /// The output for `count` pictures from the batch's picture `first` on; `see` is shown every node's first input and output.
    pub(super) fn walk(
        &self,
        first: usize,
        count: usize,
        pool: &mut Pool<T>,
        input: &[f32],
        see: See<'_, T>,
    ) -> Vec<T> {
        Pass::new(&self.model, pool, first, count, None).infer(input, see)
    }

    /// The mean loss and its gradients, in the order of [`Model::trained`].
    fn learn(&self, step: &Step<'_>) -> Result<(f64, Vec<Vec<T>>), EngineError> {
        let Checked { pictures, weight } = check_step(&self.model.plan, step)?;
        let (len, answers) = (self.model.plan.input_len(), self.model.plan.output_len());
        let share = T::ONE / T::from_f64(weight);
        let mut total: Option<Learned<T>> = None;
        self.in_order(
            pictures,
            |first, count, pool| {
                let input = &step.input[first * len..][..count * len];
                let targets = &step.targets[first * answers..][..count * answers];
                Pass::new(&self.model, pool, first, count, Some(step.noise)).learn(input, targets, share)
            },
            |learned, pool| match &mut total {
                None => total = Some(learned),
                Some(total) => {
                    total.loss += learned.loss;
                    for (sum, gradient) in total.gradients.iter_mut().zip(learned.gradients) {
                        add_assign(sum, &gradient);
                        pool.give(gradient);
                    }
                }
            },
        );
        // A batch has at least one picture.
        let Learned { loss, gradients } = total.unwrap_or(Learned { loss: 0.0, gradients: Vec::new() });
        Ok((loss / weight, gradients))
    }

    /// Runs `work` over chunks of `pictures` pictures, given the first picture and the number of pictures, on all
    /// threads, and hands the results to `collect` in the order of the chunks.
    pub(super) fn in_order<R: Send>(
        &self,
        pictures: usize,
        work: impl Fn(usize, usize, &mut Pool<T>) -> R + Sync,
        collect: impl FnMut(R, &mut Pool<T>) + Send,
    ) {
        let chunks = pictures.div_ceil(CHUNK);
        let next = AtomicUsize::new(0);
        let arrivals = Mutex::new(Arrivals { due: 0, early: BTreeMap::new(), collect });
        let worker = || {
            let mut pool = lock(&self.pools).pop().unwrap_or_else(|| Pool::new(Arc::clone(&self.meter)));
            loop {
                let chunk = next.fetch_add(1, Ordering::Relaxed);
                if chunk >= chunks {
                    break;
                }
                let (first, end) = (chunk * pictures / chunks, (chunk + 1) * pictures / chunks);
                let result = work(first, end - first, &mut pool);
                lock(&arrivals).arrive(chunk, result, &mut pool);
            }
            lock(&self.pools).push(pool);
        };
        rayon::scope(|scope| {
            for _ in 0..rayon::current_num_threads().min(chunks) {
                scope.spawn(|_| worker());
            }
        });
    }

    fn recycle(&self, buffers: Vec<Vec<T>>) {
        if let Some(pool) = lock(&self.pools).last_mut() {
            buffers.into_iter().for_each(|buffer| pool.give(buffer));
        }
    }

    fn trained_params(&self) -> impl Iterator<Item = (&Param, &[T])> {
        let model = &self.model;
        model.trained().map(|(id, param)| (&model.plan.params[id][param], model.weights[id][param].as_slice()))
    }
}

/// Results that come in any order and are collected in their own.
struct Arrivals<R, C> {
    due: usize,
    early: BTreeMap<usize, R>,
    collect: C,
}

impl<R, C> Arrivals<R, C> {
    fn arrive<T>(&mut self, index: usize, result: R, pool: &mut Pool<T>)
    where
        C: FnMut(R, &mut Pool<T>),
    {
        self.early.insert(index, result);
        while let Some(result) = self.early.remove(&self.due) {
            (self.collect)(result, pool);
            self.due += 1;
        }
    }
}

/// A thread that panics takes the whole step down with it, so that nobody sees what it left behind.
fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tensor<T: Real>(shape: &[usize], values: &[T]) -> Result<Tensor, EngineError> {
    let values = values.iter().map(|value| value.to_f32()).collect();
    Tensor::new(shape, values).map_err(|error: TensorError| EngineError::Device(error.to_string()))
}

fn fill<T: Real>(target: &mut [T], source: &Tensor) {
    for (target, &value) in target.iter_mut().zip(source.values()) {
        *target = T::from_f32(value);
    }
}

impl<T: Real> Engine for CpuEngine<T> {
    fn device(&self) -> String {
        format!("CPU, {}, {} threads", T::NAME, rayon::current_num_threads())
    }

    fn forward(&mut self, input: &[f32], pictures: usize) -> Result<Vec<f32>, EngineError> {
        check_input(&self.model.plan, input, pictures)?;
        let len = self.model.plan.input_len();
        let mut output = Vec::with_capacity(pictures * self.model.plan.output_len());
        self.in_order(
            pictures,
            |first, count, pool| self.walk(first, count, pool, &input[first * len..][..count * len], &mut |_, _, _| ()),
            |values, pool| {
                output.extend(values.iter().map(|value| value.to_f32()));
                pool.give(values);
            },
        );
        Ok(output)
    }

    fn gradients(&mut self, step: &Step<'_>) -> Result<(f32, BTreeMap<String, Tensor>), EngineError> {
        let (loss, gradients) = self.learn(step)?;
        let named = self.trained_params().zip(&gradients);
        let named = named
            .map(|((param, _), gradient)| Ok((param.name.clone(), tensor(&param.shape, gradient)?)))
            .collect::<Result<_, EngineError>>()?;
        self.recycle(gradients);
        Ok((loss as f32, named))
    }

    fn train_step(&mut self, step: &Step<'_>) -> Result<f32, EngineError> {
        let (loss, gradients) = self.learn(step)?;
        self.steps += 1;
        let trained: Vec<_> = self.model.trained().collect();
        for (((id, param), moments), gradient) in trained.into_iter().zip(&mut self.moments).zip(&gradients) {
            moments.step(&mut self.model.weights[id][param], gradient, &step.hyper, self.steps);
        }
        self.recycle(gradients);
        if let Some(mut average) = self.average.take() {
            let weights = self.trained_params();
            let weights =
                weights.map(|(param, values)| (param.name.as_str(), values.iter().map(|value| value.to_f32())));
            average.update(self.steps, weights);
            self.average = Some(average);
        }
        Ok(loss as f32)
    }

    fn state(&mut self) -> Result<State, EngineError> {
        let named = self.trained_params().zip(&self.moments).map(|((param, weight), moments)| {
            let value = tensor(&param.shape, weight)?;
            let (m, v) = (tensor(&param.shape, &moments.m)?, tensor(&param.shape, &moments.v)?);
            Ok((param.name.clone(), Trained { value, m, v }))
        });
        Ok(State { steps: self.steps, trained: named.collect::<Result<_, EngineError>>()? })
    }

    fn restore(&mut self, state: &State) -> Result<(), EngineError> {
        check_state(self.trained_params().map(|(param, _)| param), state)?;
        let trained: Vec<_> = self.model.trained().collect();
        for ((id, param), moments) in trained.into_iter().zip(&mut self.moments) {
            if let Some(saved) = state.trained.get(&self.model.plan.params[id][param].name) {
                fill(&mut self.model.weights[id][param], &saved.value);
                fill(&mut moments.m, &saved.m);
                fill(&mut moments.v, &saved.v);
            }
        }
        self.steps = state.steps;
        Ok(())
    }

    fn set_weights(&mut self, weights: &BTreeMap<String, Tensor>) -> Result<(), EngineError> {
        let shapes: BTreeMap<&str, &[usize]> =
            self.trained_params().map(|(param, _)| (param.name.as_str(), param.shape.as_slice())).collect();
        check_weights(|name| shapes.get(name).copied(), weights)?;
        let trained: Vec<_> = self.model.trained().collect();
        for (id, param) in trained {
            if let Some(tensor) = weights.get(&self.model.plan.params[id][param].name) {
                fill(&mut self.model.weights[id][param], tensor);
            }
        }
        Ok(())
    }

    fn keep_average(&mut self, average: Average) -> Result<(), EngineError> {
        check_average(self.trained_params().map(|(param, _)| (param.name.as_str(), param.shape.as_slice())), &average)?;
        self.average = Some(average);
        Ok(())
    }

    fn average(&mut self) -> Result<Option<BTreeMap<String, Tensor>>, EngineError> {
        Ok(self.average.as_ref().map(|average| average.weights().clone()))
    }

    fn checkpoint_activations(&mut self) {
        self.model.plan.checkpoint_activations(&self.model.nodes);
    }

    fn peak_bytes(&self) -> u64 {
        self.meter.peak()
    }
}

/// Checks that the state holds exactly `params`, in their shapes.
fn check_state<'a>(params: impl Iterator<Item = &'a Param>, state: &State) -> Result<(), EngineError> {
    let mismatch = |expected, got| EngineError::Mismatch { what: "state", expected, got };
    let mut names = BTreeSet::new();
    for Param { name, shape } in params {
        let Some(saved) = state.trained.get(name) else {
            return Err(mismatch(format!("the trained weight `{name}`"), "a state without it".into()));
        };
        if let Some(other) = [&saved.value, &saved.m, &saved.v].into_iter().find(|tensor| tensor.shape() != shape) {
            return Err(mismatch(format!("`{name}` {shape:?}"), format!("{:?}", other.shape())));
        }
        names.insert(name);
    }
    match state.trained.keys().find(|name| !names.contains(name)) {
        Some(name) => Err(mismatch("trained weights alone".into(), format!("`{name}`, which is not trained"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
