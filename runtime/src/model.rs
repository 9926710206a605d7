//! An ONNX file, prepared by tract to run on one picture.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tract_core::internal::DimLike;
use tract_core::ops::konst::Const;
use tract_core::ops::matmul::optimized::OptMatMul;
use tract_onnx::pb::GraphProto;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

use crate::onnx_file::{Halves, OnnxFile};
use crate::threads::Threads;
use crate::{Error, HalfProducts, ops};

/// A model with one input `[1, 3, height, width]`, or `[1, 3 frames, height, width]` for clips, and one output, a row `[1, values]` or one for each patch `[1, patches, values]`,
/// both float32, ready to run in this thread.
///
/// It needs no [`Bundle`](crate::Bundle): any ONNX file of that form opens. A free batch axis is fixed to 1.
#[derive(Debug, Clone)]
pub struct Model {
    plan: Arc<TypedSimplePlan>,
    input: [usize; 3],
    outputs: Vec<usize>,
    metadata: BTreeMap<String, String>,
    threads: Threads,
}

impl Model {
    /// Reads and prepares the model at `path`.
    ///
    /// # Errors
    /// [`Error::ReadFile`] if the file cannot be read, else those of [`from_bytes`](Self::from_bytes).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let failed = |source| Error::ReadFile { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            // A pipe does not say how long it is.
            return Self::from_vec(std::fs::read(path).map_err(failed)?);
        }
        let file = read(BufReader::new(file), metadata.len())?.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => not_onnx(&error),
            _ => failed(error),
        })?;
        Self::new(file)
    }

    /// Prepares the model whose file has these bytes.
    ///
    /// # Errors
    /// [`Error::NotOnnx`] if they are no ONNX model or not a whole one, [`Error::UnsupportedOperators`],
    /// [`Error::ExternalWeights`], [`Error::BundleKeyInvalid`] if it asks for [`HalfProducts`] that are not known,
    /// [`Error::ModelForm`] if it does not take one picture to one row or to one for each patch, [`Error::Prepare`] if the
    /// graph does not hold together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::new(read(bytes, bytes.len() as u64)?.map_err(|error| not_onnx(&error))?)
    }

    /// As [`from_bytes`](Self::from_bytes); the bytes are given back to the system before the model is prepared.
    pub(crate) fn from_vec(bytes: Vec<u8>) -> Result<Self, Error> {
        let file = read(&*bytes, bytes.len() as u64)?.map_err(|error| not_onnx(&error))?;
        drop(bytes);
        Self::new(file)
    }

    fn new(file: OnnxFile) -> Result<Self, Error> {
        let mut onnx = tract_onnx::onnx();
        ops::register(&mut onnx);
        let graph = file.proto.graph.as_ref().ok_or_else(|| not_onnx(&"it holds no graph"))?;
        check_graph(graph, &onnx)?;
        let properties = file.proto.metadata_props.iter();
        let metadata = properties.map(|entry| (entry.key.clone(), entry.value.clone())).collect();
        let halves = HalfProducts::of_metadata(&metadata)?;
        let (plan, input) = caught(|| prepare(&onnx, file, halves))??;
        let outputs = output_shape(&plan)?;
        Ok(Self { plan, input, outputs, metadata, threads: Threads::default() })
    }

    /// The same model on `count` threads of its own, which all clones share; with 1, on the thread that calls it. On Linux, threads that
    /// are as many as the cores this process may use stay on one core each.
    ///
    /// # Errors
    /// [`Error::Threads`] if the system gives no more threads.
    #[cfg(feature = "threads")]
    pub fn with_threads(mut self, count: usize) -> Result<Self, Error> {
        self.threads = Threads::new(count)?;
        Ok(self)
    }

    /// The shape of the input without its batch axis: `[3 frames, height, width]`.
    pub fn input_shape(&self) -> [usize; 3] {
        self.input
    }

    /// How many values the model gives.
    pub fn output_len(&self) -> usize {
        self.outputs.iter().product()
    }

    /// The shape of the output without its batch axis: `[values]`, or `[patches, values]`.
    pub fn output_shape(&self) -> &[usize] {
        &self.outputs
    }

    /// The file's `metadata_props`, ours and others'.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The names of the kernels that multiply this model's matrices on this machine: tract's, which it chose by the
    /// processor and by the sizes of the matrices, then ours, if the model has operators for them; both sorted.
    pub fn kernels(&self) -> Vec<String> {
        let products = self.plan.model().nodes.iter().filter_map(|node| node.op_as::<OptMatMul>());
        let names: BTreeSet<String> =
            products.flat_map(|product| &product.mmm).map(|kernel| kernel.name().to_owned()).collect();
        let ours: BTreeSet<&str> = self.plan.model().nodes.iter().filter_map(ops::kernel).collect();
        names.into_iter().chain(ours.into_iter().map(str::to_owned)).collect()
    }

    /// The operators that a picture runs through and how many there are of each: tract's, and those of ours, whose names
    /// begin with `EdgeVit`.
    pub fn operators(&self) -> BTreeMap<String, usize> {
        self.plan.model().nodes.iter().filter(|node| !node.op_is::<Const>()).fold(BTreeMap::new(), |mut count, node| {
            *count.entry(node.op.name().into_owned()).or_default() += 1;
            count
        })
    }

    /// Runs the model on preprocessed `values`, float32 of the [`input_shape`](Self::input_shape) in row-major order.
    ///
    /// # Errors
    /// [`Error::InputLength`] if there are not so many values, [`Error::Run`] if the model fails,
    /// [`Error::NonFinite`] if it gives a value that is no number.
    pub fn run(&self, values: &[f32]) -> Result<Vec<f32>, Error> {
        if values.len() != self.input.iter().product::<usize>() {
            return Err(Error::InputLength { expected: self.input, got: values.len() });
        }
        let mut run = Run::new(self)?;
        run.fill(|input| input.copy_from_slice(values))?;
        let mut row = Vec::with_capacity(self.output_len());
        run.run(&mut row)?;
        Ok(row)
    }
}

/// A model's input and what its graph keeps between runs.
#[derive(Debug)]
pub(crate) struct Run {
    state: TypedSimpleState,
    input: Arc<Tensor>,
    threads: Threads,
}

impl Run {
    pub(crate) fn new(model: &Model) -> Result<Self, Error> {
        let [channels, height, width] = model.input;
        let input = Tensor::zero::<f32>(&[1, channels, height, width]).map_err(failed)?;
        Ok(Self { state: model.plan.spawn().map_err(failed)?, input: Arc::new(input), threads: model.threads.clone() })
    }

    /// Whether this is a run of `model` or of a clone of it.
    pub(crate) fn is_of(&self, model: &Model) -> bool {
        Arc::ptr_eq(self.state.plan(), &model.plan)
    }

    /// Lets `fill` write the input, which holds what it did at the last run.
    pub(crate) fn fill(&mut self, fill: impl FnOnce(&mut [f32])) -> Result<(), Error> {
        // The graph gives its share of the input back after a run; if an operator kept it, the values are copied.
        let mut view = Arc::make_mut(&mut self.input).try_as_plain_ram_mut().map_err(failed)?;
        fill(view.as_slice_mut().map_err(failed)?);
        Ok(())
    }

    /// Runs the model on the input and puts its outputs into `row`. After an error the run is of no more use.
    pub(crate) fn run(&mut self, row: &mut Vec<f32>) -> Result<(), Error> {
        row.clear();
        let inputs = tvec!(self.input.clone().into_tvalue());
        let state = &mut self.state;
        let outputs = self.threads.run(|| state.run(inputs)).map_err(failed)?;
        let output = outputs.first().ok_or_else(|| Error::Run { reason: "it gave no output".to_owned() })?;
        row.extend(output.to_plain_array_view::<f32>().map_err(failed)?.iter());
        match row.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(Error::NonFinite { index, value: row[index] }),
            None => Ok(()),
        }
    }
}

fn failed(error: TractError) -> Error {
    Error::Run { reason: format!("{error:#}") }
}

fn read(source: impl Read, length: u64) -> Result<io::Result<OnnxFile>, Error> {
    caught(|| OnnxFile::read(source, length))
}

fn not_onnx(reason: &impl std::fmt::Display) -> Error {
    Error::NotOnnx { reason: reason.to_string() }
}

/// A graph can be well-formed protobuf and still break a rule that tract takes for granted with a panic. What `work` changes
/// is of no use after that, and is not used.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Error::Prepare { reason: "the graph is malformed".to_owned() })
}

/// Refuses what tract would answer with an opaque error, a panic, or by looking for another file.
fn check_graph(graph: &GraphProto, onnx: &tract_onnx::Onnx) -> Result<(), Error> {
    let unknown: BTreeSet<&str> = graph
        .node
        .iter()
        .map(|node| node.op_type.as_str())
        .filter(|op_type| !onnx.op_register.0.contains_key(*op_type))
        .collect();
    if !unknown.is_empty() {
        return Err(Error::UnsupportedOperators { operators: unknown.into_iter().map(str::to_owned).collect() });
    }
    let external = Some(DataLocation::External as i32);
    if let Some(weight) = graph.initializer.iter().find(|weight| weight.data_location == external) {
        return Err(Error::ExternalWeights { name: weight.name.clone() });
    }
    let made: HashSet<&str> = (graph.node.iter().flat_map(|node| &node.output).map(String::as_str))
        .chain(graph.initializer.iter().map(|weight| weight.name.as_str()))
        .chain(graph.input.iter().map(|input| input.name.as_str()))
        .collect();
    match graph.output.iter().find(|output| !made.contains(output.name.as_str())) {
        Some(output) => Err(Error::Prepare { reason: format!("no node makes the output `{}`", output.name) }),
        None => Ok(()),
    }
}

/// Compiles the graph with its batch axis fixed to 1; gives the plan and the input's `[3 frames, height, width]`.
fn prepare(
    onnx: &tract_onnx::Onnx,
    mut file: OnnxFile,
    products: HalfProducts,
) -> Result<(Arc<TypedSimplePlan>, [usize; 3]), Error> {
    let failed = |error: TractError| Error::Prepare { reason: format!("{error:#}") };
    let halves = if ops::are_ours() { file.take_halves() } else { Halves::new() };
    let mut model = onnx.model_for_proto_model(&file.proto).map_err(failed)?;
    file.fill(&mut model).map_err(failed)?;
    let ends = (model.inputs.len().saturating_sub(halves.len()), model.outputs.len());
    if ends != (1, 1) {
        return Err(Error::ModelForm { reason: format!("it has {} inputs and {} outputs", ends.0, ends.1) });
    }
    let fact = model.input_fact(0).map_err(failed)?;
    let input = picture_shape(fact).ok_or_else(|| Error::ModelForm { reason: format!("its input is {fact:?}") })?;
    let [channels, height, width] = input;
    model
        .set_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), tvec!(1, channels, height, width)))
        .map_err(failed)?;
    let plan = optimize(model, halves, products).map_err(failed)?;
    Ok((plan, input))
}

/// Brings the graph into the form in which it runs: operators of ours where there are some, tract's elsewhere.
fn optimize(model: InferenceModel, halves: Halves, products: HalfProducts) -> TractResult<Arc<TypedSimplePlan>> {
    let mut model = model.into_typed()?;
    ops::put_halves(&mut model, halves);
    ops::declutter(&mut model, products)?;
    model.optimize()?;
    model.into_runnable()
}

/// `[3 frames, height, width]` of a declared input `[1 or free, 3 frames, height, width]` of float32.
fn picture_shape(fact: &InferenceFact) -> Option<[usize; 3]> {
    if fact.datum_type != f32::datum_type().into() {
        return None;
    }
    let dims: Vec<_> = fact.shape.concretize()?.into_iter().collect();
    let [batch, sides @ ..] = dims.as_slice() else { return None };
    if batch.to_usize().is_ok_and(|batch| batch != 1) {
        return None;
    }
    match *sides.iter().map(|side| side.to_usize().ok()).collect::<Option<Vec<_>>>()?.as_slice() {
        [channels, height, width] if channels > 0 && channels.is_multiple_of(3) && height > 0 && width > 0 => {
            Some([channels, height, width])
        }
        _ => None,
    }
}

/// The shape of the plan's output without its batch axis.
fn output_shape(plan: &TypedSimplePlan) -> Result<Vec<usize>, Error> {
    let fact = plan.model().output_fact(0).map_err(|error| Error::Prepare { reason: format!("{error:#}") })?;
    match fact.shape.as_concrete() {
        Some([1, shape @ ..])
            if (1..=2).contains(&shape.len()) && !shape.contains(&0) && fact.datum_type == f32::datum_type() =>
        {
            Ok(shape.to_vec())
        }
        _ => Err(Error::ModelForm { reason: format!("its output is {fact:?}") }),
    }
}
