//! Shared helpers of the tests and benchmarks that cross crates.

pub mod chart;

use std::error::Error;
use std::fs;
use std::process::Command;

use edge_vit_models::{Graph, GraphError, adapter, fold, vit};
use edge_vit_tools::engine::uniform;
use tract_onnx::prelude::*;

/// DINOv2's ViT-S/14 for square pictures of `side` pixels, without a head.
pub fn dinov2_small(side: usize) -> vit::Config {
    vit::Config {
        image_size: [side, side],
        patch_size: 14,
        embed_dim: 384,
        num_heads: 6,
        layer_scale: true,
        ..vit::Config::default()
    }
}

/// Fills every weight that is not there yet with seeded values around the ones that training would give: norms near 1,
/// everything else near 0.
///
/// # Errors
/// When the graph's structure is wrong.
pub fn fill_random(graph: &mut Graph, seed: u32) -> Result<(), GraphError> {
    for (stream, param) in graph.params()?.into_iter().flatten().enumerate() {
        let is_gain = param.name.contains("norm") && param.name.ends_with("weight") || param.name.ends_with("gamma");
        let center = if is_gain { 1.0 } else { 0.0 };
        let len = param.shape.iter().product::<usize>();
        // A graph has fewer than 2^32 weights, and a weight fewer than 2^32 values.
        let value = |index: usize| center + 0.1 * (uniform(seed, stream as u32, index as u32) - 0.5);
        if let Ok(tensor) = edge_vit_models::Tensor::new(param.shape, (0..len).map(value).collect()) {
            graph.weights.entry(param.name).or_insert(tensor);
        }
    }
    Ok(())
}

/// One backbone, whose `graph` has no weights yet, with random ones four times: `plain`, with adapters folded into it (`merged`), simplified besides as
/// `fold` writes it (`simplified`), and with the adapters left in (`unmerged`). `seed` is of the adapters' weights alone.
///
/// # Errors
/// When the graph's structure is wrong.
pub fn variants(graph: Graph, seed: u32) -> Result<[(&'static str, Graph); 4], Box<dyn Error>> {
    let mut plain = graph;
    fill_random(&mut plain, 1)?;
    let mut unmerged = adapter::insert(&plain, &adapter::Spec::default(), 2)?;
    unmerged.weights.retain(|name, _| !name.contains("adapter"));
    fill_random(&mut unmerged, seed)?;
    let merged = fold::fold(&unmerged, 1.0)?;
    let simplified = fold::simplify(&merged)?.graph;
    Ok([("plain", plain), ("merged", merged), ("simplified", simplified), ("unmerged", unmerged)])
}

/// The median of some durations in seconds; 0 of none.
pub fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(0.0)
}

/// `len` values that a benchmark takes for a picture's.
pub fn ramp(len: usize) -> Vec<f32> {
    (0..len).map(|index| (index % 251) as f32 / 125.5 - 1.0).collect()
}

/// `len` seeded values between -1 and 1 that a test takes for a picture's.
pub fn noise(len: usize) -> Vec<f32> {
    (0..len).map(|index| 2.0 * uniform(5, 0, index as u32) - 1.0).collect()
}

/// An ONNX file that takes one picture of `shape`, `[3, height, width]`, in plain tract: from values to outputs.
///
/// # Errors
/// When tract cannot prepare the file.
pub fn plain_tract(
    mut bytes: &[u8],
    shape: [usize; 3],
) -> TractResult<impl Fn(&[f32]) -> TractResult<Vec<f32>> + use<>> {
    let [channels, height, width] = shape;
    let shape = [1, channels, height, width];
    let model = tract_onnx::onnx().model_for_read(&mut bytes)?;
    let model = model.with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape))?;
    let plan = model.into_optimized()?.into_runnable()?;
    Ok(move |picture: &[f32]| {
        let outputs = plan.run(tvec!(Tensor::from_shape(&shape, picture)?.into_tvalue()))?;
        Ok(outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect())
    })
}

/// The largest difference relative to the largest value of `reference`, which is as long; NaN where there is one.
pub fn relative(values: &[f32], reference: &[f32]) -> f64 {
    let largest = reference.iter().fold(f64::MIN_POSITIVE, |largest, &value| largest.max(f64::from(value).abs()));
    let differences = values.iter().zip(reference).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    differences.fold(0.0, |worst, value| if value.is_nan() || value > worst { value } else { worst }) / largest
}

/// The outputs by onnxruntime for `input` of `shape`, `[pictures, 3, height, width]`; `None` where Python (`EDGE_VIT_PYTHON`, or
/// python3) with numpy and onnxruntime is not there.
///
/// # Errors
/// When onnxruntime refuses the model.
pub fn onnxruntime(model: &[u8], input: &[f32], shape: &[usize; 4]) -> Result<Option<Vec<f32>>, Box<dyn Error>> {
    let python = std::env::var("EDGE_VIT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let present = Command::new(&python).args(["-c", "import numpy, onnxruntime"]).output();
    if !present.is_ok_and(|output| output.status.success()) {
        return Ok(None);
    }
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("model.onnx"), model)?;
    let bytes: Vec<u8> = input.iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(folder.path().join("input.f32"), bytes)?;
    let script = "import sys, numpy, onnxruntime\n\
        folder, shape = sys.argv[1], [int(dim) for dim in sys.argv[2:]]\n\
        pixels = numpy.fromfile(folder + '/input.f32', numpy.float32).reshape(shape)\n\
        session = onnxruntime.InferenceSession(folder + '/model.onnx')\n\
        session.run(None, {'pixels': pixels})[0].astype(numpy.float32).tofile(folder + '/logits.f32')\n";
    let dims = shape.map(|dim| dim.to_string());
    let output = Command::new(&python).args(["-c", script]).arg(folder.path()).args(dims).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let bytes = fs::read(folder.path().join("logits.f32"))?;
    Ok(Some(bytes.chunks_exact(4).map(|chunk| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]])).collect()))
}
