//! The choice of layers, on a model whose answers can be foretold.

use std::fs;
use std::path::Path;

use edge_vit::{Activation, Preprocessing, Provenance, open_picture};
use edge_vit_models::adapter::{Adaptation, Spec};
use edge_vit_models::{Op, Task, Tensor};
use serde_json::Value;

use super::*;
use crate::evaluate::EvaluateError;
use crate::evaluate::fixture::paint;

const SIDE: usize = 4;
const COLOURS: [(&str, [u8; 3]); 3] = [("red", [220, 10, 30]), ("green", [10, 200, 20]), ("blue", [30, 20, 210])];

/// Gives a picture's three mean colours. `good` hands them on, a nothing beside them; `bad` drops the nothing, by weights beside
/// which those of the colours vanish in eight bits.
fn graph(with_good: bool) -> Graph {
    let mut graph = Graph::default();
    let linear = |out_features| Op::Linear { out_features, bias: false };
    let mut x = graph.push("pixels", Op::Input { shape: vec![3, SIDE, SIDE] }, &[]);
    x = graph.push("patch_embed.proj", Op::PatchEmbed { patch_size: SIDE, embed_dim: 4, tubelets: 1 }, &[x]);
    if with_good {
        x = graph.push("good", linear(4), &[x]);
    }
    x = graph.push("bad", linear(3), &[x]);
    x = graph.push("pool", Op::TakeClassToken, &[x]);
    graph.push("head", linear(3), &[x]);
    let mut weight = |name: &str, shape: &[usize], value: &dyn Fn(usize, usize) -> f32| {
        let cols = shape[1..].iter().product::<usize>();
        let values = (0..shape[0] * cols).map(|index| value(index / cols, index % cols)).collect();
        graph.weights.insert(name.to_owned(), Tensor::new(shape, values).unwrap());
    };
    let unit = |row: usize, col: usize| if row == col { 1.0 } else { 0.0 };
    let pixels = SIDE * SIDE;
    let mean = |row: usize, col: usize| if row == col / pixels { 1.0 / pixels as f32 } else { 0.0 };
    weight("patch_embed.proj.weight", &[4, 3, SIDE, SIDE], &mean);
    weight("bad.weight", &[3, 4], &|row, col| if col == 3 { 1000.0 } else { unit(row, col) });
    weight("head.weight", &[3, 3], &unit);
    if with_good {
        weight("good.weight", &[4, 4], &unit);
    }
    let bias = Tensor::full([4], 0.0).unwrap();
    graph.weights.insert("patch_embed.proj.bias".into(), bias);
    graph
}

fn bundle() -> Bundle {
    Bundle {
        labels: COLOURS.map(|(name, _)| name.to_owned()).to_vec(),
        preprocessing: Preprocessing { mean: [0.0; 3], std: [1.0; 3], ..Preprocessing::imagenet([SIDE, SIDE]) },
        activation: Activation::Softmax,
        provenance: Provenance::default(),
        golden: Vec::new(),
        rejection: None,
        golden_tolerance: None,
        half_products: edge_vit::HalfProducts::Never,
        task: edge_vit::Task::Classification,
    }
}

fn meta() -> Meta {
    Meta {
        format_version: Meta::version(Task::Classification),
        task: Task::Classification,
        method: "repadapter".into(),
        spec: Adaptation::Adapters(Spec::default()),
        backbone_name: "colours".into(),
        backbone_sha256: String::new(),
        image_size: [SIDE, SIDE],
        labels: bundle().labels,
        preprocessing: Value::Null,
        training: Value::Null,
    }
}

fn pictures(folder: &Path) {
    COLOURS.iter().for_each(|(name, colour)| paint(&folder.join(format!("{name}/1.png")), *colour));
}

fn choose(graph: &Graph, quantize: Quantize<'_>, folder: &Path) -> Result<Chosen, QuantizeError> {
    let bundle = bundle();
    let picture = open_picture(folder.join("red/1.png")).unwrap();
    let input = bundle.preprocessing.apply(&picture);
    quantize.choose(Whole { graph, unmerged: None, batch: Batch::One, bundle: &bundle }, &meta(), &input, 1)
}

#[test]
fn the_layer_that_cannot_bear_it_stays_in_float32() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let int8 = Quantize { bits: Bits::Int8, calibrate: Some(folder.path()), max_drop: 0.5 };
    let chosen = choose(&graph(true), int8, folder.path()).unwrap();
    let layers: Vec<(&str, bool)> = chosen.layers.iter().map(|layer| (layer.name.as_str(), layer.int8)).collect();
    assert_eq!(layers, [("bad", false), ("good", true)]);
    assert!(chosen.layers[0].decibels < 1.0 && chosen.layers[1].decibels > 30.0, "{:?}", chosen.layers);
    assert_eq!(chosen.precisions, Precisions::from([("good".to_owned(), Precision::Int8)]));
    let measured = Measured { pictures: 3, float32_accuracy: 1.0, accuracy: 1.0, agreement: 1.0, drop: 0.0 };
    assert_eq!(chosen.measured, Some(measured));
    let record = chosen.record(0.01).unwrap();
    assert_eq!((record.precision.as_str(), record.int8_layers, record.layers), ("int8", 1, 2));

    let lenient = choose(&graph(true), Quantize { max_drop: 70.0, ..int8 }, folder.path()).unwrap();
    assert_eq!(lenient.record(0.0).unwrap().int8_layers, 2);
    assert!((lenient.measured.unwrap().drop - 200.0 / 3.0).abs() < 1e-9);
}

#[test]
fn what_loses_too_much_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let int8 = Quantize { bits: Bits::Int8, calibrate: Some(folder.path()), max_drop: 0.5 };
    let error = choose(&graph(false), int8, folder.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "int8 loses 66.67 points of accuracy on 3 pictures with 0 of 1 layers in float32, more than the 0.5 allowed; nothing \
         was written. Allow more with --max-drop, or choose another --precision"
    );
    let error = choose(&graph(true), Quantize { max_drop: f64::NAN, ..int8 }, folder.path()).unwrap_err();
    assert!(matches!(error, QuantizeError::MaxDrop { .. }), "{error}");
    let error = choose(&graph(true), Quantize { calibrate: None, ..int8 }, folder.path()).unwrap_err();
    assert!(matches!(error, QuantizeError::NoValidation { .. }), "{error}");
}

#[test]
fn pictures_that_cannot_be_read_are_left_out_and_all_of_them_refused() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let empty = tempfile::tempdir().unwrap();
    let int8 = Quantize { bits: Bits::Int8, calibrate: Some(folder.path()), max_drop: 0.5 };
    fs::write(folder.path().join("blue/2.png"), b"no picture").unwrap();
    let chosen = choose(&graph(true), int8, folder.path()).unwrap();
    assert_eq!(chosen.measured.unwrap().pictures, 3);

    COLOURS.iter().for_each(|(name, _)| fs::create_dir(empty.path().join(name)).unwrap());
    let without = Quantize { calibrate: Some(empty.path()), ..int8 };
    let error = choose(&graph(true), without, folder.path()).unwrap_err();
    assert!(matches!(error, QuantizeError::Evaluate(EvaluateError::NoPictures { .. })), "{error}");
    fs::write(empty.path().join("red/1.png"), b"no picture").unwrap();
    let error = choose(&graph(true), without, folder.path()).unwrap_err();
    assert!(matches!(error, QuantizeError::Evaluate(EvaluateError::NoneReadable { .. })), "{error}");
}

#[test]
fn sixteen_bits_are_measured_where_pictures_are_named() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let f16 = Quantize { bits: Bits::F16, calibrate: None, max_drop: 0.5 };
    let chosen = choose(&graph(true), f16, folder.path()).unwrap();
    assert_eq!((chosen.measured, chosen.layers.len()), (None, 0));
    let named = Quantize { calibrate: Some(folder.path()), ..f16 };
    assert_eq!(choose(&graph(true), named, folder.path()).unwrap().measured.unwrap().accuracy, 1.0);

    let compute = Quantize { bits: Bits::F16Compute, ..named };
    let chosen = choose(&graph(true), compute, folder.path()).unwrap();
    assert_eq!(chosen.measured.unwrap().accuracy, 1.0);
    assert_eq!(chosen.half_products(), edge_vit::HalfProducts::WhereNative);
    let error = choose(&graph(true), Quantize { calibrate: None, ..compute }, folder.path()).unwrap_err();
    assert!(matches!(error, QuantizeError::NoValidation { .. }), "{error}");

    let mut large = graph(true);
    large.weights.get_mut("bad.weight").unwrap().values_mut()[3] = 1e5;
    let error = choose(&large, named, folder.path()).unwrap_err();
    assert!(error.to_string().contains("`bad.weight` holds 100000"), "{error}");
}
