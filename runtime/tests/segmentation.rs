//! Files of segmentation, through the library and the program: a model whose answers can be foretold.

#![allow(clippy::unwrap_used)] // A helper of a test may fail as a test does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use edge_vit::{
    Activation, Bundle, Classifier, Error, GoldenCase, Mask, ModelFile, Preprocessing, Provenance, Segmenter, Task,
};
use image::{Rgb, RgbImage};
use prost::Message;
use serde_json::Value;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// Side of the model's pictures in pixels.
const SIDE: usize = 16;
/// Side of a patch in pixels.
const PATCH: usize = 4;
const GRID: [usize; 2] = [SIDE / PATCH; 2];
const LABELS: [&str; 3] = ["red", "green", "blue"];

fn value_info(name: &str, dims: &[usize]) -> ValueInfoProto {
    let dimension =
        |&dim: &usize| Dimension { value: Some(dimension::Value::DimValue(dim as i64)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: dims.iter().map(dimension).collect() };
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let r#type = AttributeType::Ints as i32;
    AttributeProto { name: name.into(), r#type, ints: ints.to_vec(), ..AttributeProto::default() }
}

fn node(op_type: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op_type.into(),
        name: output.into(),
        input: inputs.iter().map(|&input| input.to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

fn bundle() -> Bundle {
    Bundle {
        labels: LABELS.map(str::to_owned).to_vec(),
        preprocessing: Preprocessing { mean: [0.0; 3], std: [1.0; 3], ..Preprocessing::imagenet([SIDE; 2]) },
        activation: Activation::Softmax,
        provenance: Provenance::default(),
        golden: Vec::new(),
        rejection: None,
        golden_tolerance: None,
        half_products: edge_vit::HalfProducts::Never,
        task: Task::Segmentation { grid: GRID },
    }
}

/// A file that gives the mean of each colour channel in each patch.
fn file(bundle: &Bundle) -> Vec<u8> {
    let patches = GRID[0] * GRID[1];
    let mut mean = vec![0.0f32; 3 * 3 * PATCH * PATCH];
    for channel in 0..3 {
        mean[channel * 4 * PATCH * PATCH..][..PATCH * PATCH].fill(1.0 / (PATCH * PATCH) as f32);
    }
    let weight = TensorProto {
        name: "mean".into(),
        dims: vec![3, 3, PATCH as i64, PATCH as i64],
        data_type: DataType::Float as i32,
        raw_data: mean.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    };
    let shape = TensorProto {
        name: "shape".into(),
        dims: vec![3],
        data_type: DataType::Int64 as i32,
        raw_data: [1i64, 3, patches as i64].iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    };
    let (kernel, stride) = (ints("kernel_shape", &[PATCH as i64; 2]), ints("strides", &[PATCH as i64; 2]));
    let graph = GraphProto {
        name: "colours".into(),
        node: vec![
            node("Conv", &["pixels", "mean"], "map", vec![kernel, stride]),
            node("Reshape", &["map", "shape"], "channels", Vec::new()),
            node("Transpose", &["channels"], "logits", vec![ints("perm", &[0, 2, 1])]),
        ],
        initializer: vec![weight, shape],
        input: vec![value_info("pixels", &[1, 3, SIDE, SIDE])],
        output: vec![value_info("logits", &[1, patches, 3])],
        ..GraphProto::default()
    };
    let entry = |(key, value)| StringStringEntryProto { key, value };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
        graph: Some(graph),
        metadata_props: bundle.to_metadata().unwrap().into_iter().map(entry).collect(),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

/// Red on the left, green at the top of the right, blue below it.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| match (2 * x < width, 2 * y < height) {
        (true, _) => Rgb([250, 20, 10]),
        (false, true) => Rgb([20, 240, 30]),
        (false, false) => Rgb([10, 40, 230]),
    })
}

/// The logits of [`file`]'s graph: the means of the patches.
fn means(picture: &RgbImage) -> Vec<f32> {
    let values = bundle().preprocessing.apply(picture);
    let mean = |patch: usize, channel: usize| {
        let (y, x) = (patch / GRID[1] * PATCH, patch % GRID[1] * PATCH);
        let pixels = (0..PATCH * PATCH).map(|at| values[(channel * SIDE + y + at / PATCH) * SIDE + x + at % PATCH]);
        pixels.sum::<f32>() / (PATCH * PATCH) as f32
    };
    (0..GRID[0] * GRID[1]).flat_map(|patch| (0..3).map(move |channel| mean(patch, channel))).collect()
}

#[test]
fn a_mask_has_the_size_and_the_classes_of_its_picture() {
    let model = Segmenter::from_bytes(&file(&bundle())).unwrap();
    assert_eq!((model.grid(), model.model().output_shape()), (GRID, [16, 3].as_slice()));
    let picture = picture(60, 44);
    let logits = model.logits(&picture).unwrap();
    let expected = means(&picture);
    assert!(logits.iter().zip(&expected).all(|(got, expected)| (got - expected).abs() < 1e-5), "{logits:?}");
    let mask = model.segment(&picture).unwrap();
    assert_eq!(mask, Mask::from_logits(&logits, GRID, [44, 60]).unwrap());
    // Where three colours meet the border bends by a few pixels.
    let near = |at: usize, border: usize| at.abs_diff(border) < 4;
    for (place, &class) in mask.classes().iter().enumerate() {
        let (x, y) = (place % 60, place / 60);
        let expected = match (x < 30, y < 22) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        assert!(class == expected || near(x, 30) || near(y, 22), "{x} {y}: {class}");
    }
    let shares = mask.shares(3);
    assert!(shares.iter().zip([0.5, 0.25, 0.25]).all(|(got, expected)| (got - expected).abs() < 0.01), "{shares:?}");
    assert!(matches!(model.segment(&RgbImage::new(0, 3)), Err(Error::EmptyPicture { .. })));
}

#[test]
fn golden_cases_prove_a_file_of_segmentation_too() {
    let small = picture(20, 30);
    let case = |logits: Vec<f32>| GoldenCase::new(&small, &bundle().preprocessing, logits).unwrap();
    let with = |golden| ModelFile::from_bytes(&file(&Bundle { golden, ..bundle() })).unwrap().self_test();
    assert!(with(vec![case(means(&small))]).unwrap().passed());
    let mut wrong = means(&small);
    wrong[20] += 0.1;
    assert!(!with(vec![case(wrong)]).unwrap().passed());
    assert!(matches!(with(Vec::new()), Err(Error::NoGoldenCases)));
}

#[test]
fn a_file_of_another_task_or_grid_is_refused_in_a_sentence() {
    let bytes = file(&bundle());
    let error = Classifier::from_bytes(&bytes).unwrap_err().to_string();
    assert_eq!(error, "this is a model for segmentation, and one for classification is needed here");
    let error = Segmenter::open(tiny()).unwrap_err().to_string();
    assert_eq!(error, "this is a model for classification, and one for segmentation is needed here");
    assert!(matches!(ModelFile::open(tiny()), Ok(ModelFile::Classifier(_))));
    let other = file(&Bundle { task: Task::Segmentation { grid: [2, 4] }, ..bundle() });
    let error = Segmenter::from_bytes(&other).unwrap_err();
    assert!(error.to_string().contains("3 labels for 2x4 patches and its model gives [16, 3]"), "{error}");
    let error = ModelFile::from_bytes(&file(&Bundle { task: Task::Classification, ..bundle() })).unwrap_err();
    assert!(matches!(error, Error::LabelCount { labels: 3, outputs: 48 }), "{error}");
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.onnx")
}

/// The exit code, stdout and stderr of the program.
fn edge_vit(model: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit"));
    let output = command.env_remove("RUST_LOG").arg("--model").arg(model).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A folder with the model, two pictures and a file that is none.
fn folder() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let golden = vec![GoldenCase::new(&picture(8, 8), &bundle().preprocessing, means(&picture(8, 8))).unwrap()];
    fs::write(root.path().join("model.onnx"), file(&Bundle { golden, ..bundle() })).unwrap();
    picture(60, 44).save(root.path().join("a.png")).unwrap();
    RgbImage::from_pixel(10, 10, Rgb([0, 0, 255])).save(root.path().join("b.png")).unwrap();
    fs::write(root.path().join("c.png"), "no picture").unwrap();
    root
}

#[test]
fn the_program_tells_the_share_of_each_class_and_writes_masks() {
    let root = folder();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let model = root.path().join("model.onnx");
    let (code, stdout, stderr) = edge_vit(&model, &["--image", &path("a.png"), &path("b.png")]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let seen = Segmenter::open(&model).unwrap().segment(&picture(60, 44)).unwrap();
    let [red, green, blue] = seen.shares(3).try_into().unwrap();
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    assert!(red > green && green >= blue);
    let lines = [
        format!("{}  red {}  green {}  blue {}\n", path("a.png"), percent(red), percent(green), percent(blue)),
        format!("{}  blue 100.0 %\n", path("b.png")),
    ];
    assert_eq!(stdout, lines.concat());

    let masks = path("out/masks");
    let images = [path("a.png"), path("b.png"), path("c.png")];
    let (code, stdout, stderr) =
        edge_vit(&model, &["--json", "--mask-out", &masks, "--image", &images[0], &images[1], &images[2]]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("c.png") && stderr.contains("1 of 3 pictures could not be segmented"), "{stderr}");
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["width"], &lines[0]["height"]), (&60.into(), &44.into()));
    let areas: Vec<_> =
        lines[0]["areas"].as_array().unwrap().iter().map(|area| area["share"].as_f64().unwrap()).collect();
    // Read back from text, a number may differ in its last digit.
    assert!(areas.iter().zip([red, green, blue]).all(|(got, share)| (got - share).abs() < 1e-12), "{areas:?}");
    assert_eq!(areas.len(), 3);
    assert_eq!(lines[1]["areas"][2]["label"], "blue");
    let written = lines[0]["mask"].as_str().unwrap();
    assert_eq!(Path::new(written), Path::new(&masks).join("a.png"));
    let mask = Mask::from_png(&fs::read(written).unwrap()).unwrap();
    assert_eq!(mask, seen);

    let (code, stdout, stderr) = edge_vit(&model, &["--self-test"]);
    assert_eq!((code, stdout.contains("golden case 1: ok")), (Some(0), true), "{stderr}");
}

#[test]
fn what_a_file_cannot_follow_is_a_wrong_argument() {
    let root = folder();
    let image = root.path().join("a.png").to_str().unwrap().to_owned();
    let model = root.path().join("model.onnx");
    let (code, _, stderr) = edge_vit(&model, &["--image", &image, "--threshold", "0.5", "--changes-only"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("cannot follow `threshold`, `changes_only`, which are of classification"), "{stderr}");
    let masks = root.path().join("masks");
    let (code, _, stderr) = edge_vit(&tiny(), &["--image", &image, "--mask-out", masks.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("this one classifies") && !masks.exists(), "{stderr}");
}

#[test]
fn a_bench_has_the_mask_among_its_stages() {
    let root = folder();
    let model = root.path().join("model.onnx");
    let bench = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit"));
        command.args(["bench", "--rounds", "2", "--model"]).arg(&model).args(arguments).output().unwrap()
    };
    let told = bench(&["--json"]);
    assert!(told.status.success(), "{told:?}");
    let report: Value = serde_json::from_slice(&told.stdout).unwrap();
    let p50 = |stage: &str| report["stages"][stage]["p50_ms"].as_f64().unwrap();
    assert!(p50("mask") > 0.0 && p50("whole") >= p50("mask"), "{report}");
    let text = String::from_utf8(bench(&[]).stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("mask ")), "{text}");
}
