//! Model files, whole and broken. The fixtures' bundle, tensors and logits come from `fixtures/generate.py`.

#![allow(clippy::unwrap_used)] // A helper of a test may fail as a test does.

mod common;

use edge_vit::{Classifier, Error, Model, Preprocessing, open_picture};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dimension;
use tract_onnx::pb::type_proto::Value as Type;
use tract_onnx::pb::{ModelProto, StringStringEntryProto, TensorProto, ValueInfoProto};

use common::fixture;

/// Error of a mean over 64 float32 values and a product of three, relative to the largest logit.
const F32_TOLERANCE: f32 = 1e-5;

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// The file `name` after `change`.
fn changed(name: &str, change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut model = ModelProto::decode(bytes(name).as_slice()).unwrap();
    change(&mut model);
    model.encode_to_vec()
}

fn set_metadata(model: &mut ModelProto, key: &str, value: &str) {
    model.metadata_props.iter_mut().find(|entry| entry.key == key).unwrap().value = value.to_owned();
}

fn set_dimension(info: &mut ValueInfoProto, axis: usize, length: i64) {
    let Some(Type::TensorType(tensor)) = &mut info.r#type.as_mut().unwrap().value else { panic!("no tensor") };
    tensor.shape.as_mut().unwrap().dim[axis].value = Some(Dimension::DimValue(length));
}

fn weight<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut TensorProto {
    model.graph.as_mut().unwrap().initializer.iter_mut().find(|weight| weight.name == name).unwrap()
}

#[test]
fn predictions_are_all_classes_best_first() {
    let classifier = Classifier::open(fixture("tiny.onnx")).unwrap();
    let picture = open_picture(fixture("photo.png")).unwrap();
    let predictions = classifier.classify(&picture).unwrap();
    assert_eq!(predictions.len(), 4);
    assert!(predictions.is_sorted_by(|a, b| a.score >= b.score), "{predictions:?}");
    assert!((predictions.iter().map(|p| p.score).sum::<f32>() - 1.0).abs() < F32_TOLERANCE);
    assert!(predictions.iter().all(|p| classifier.bundle().labels[p.index] == p.label));
    let logits = classifier.logits(&picture).unwrap();
    assert_eq!(logits, classifier.run(&classifier.bundle().preprocessing.apply(&picture)).unwrap());
    assert!(predictions.is_sorted_by(|a, b| logits[a.index] >= logits[b.index]));
    assert!(matches!(classifier.classify(&image::RgbImage::new(0, 0)), Err(Error::EmptyPicture { .. })));
}

#[test]
fn the_self_test_agrees_with_numpy_and_pillow() {
    let report = Classifier::open(fixture("tiny.onnx")).unwrap().self_test().unwrap();
    assert_eq!(report.cases.len(), 2);
    assert!(report.passed(), "{report:?}");
    assert!(report.logit_difference() < F32_TOLERANCE, "{report:?}");
}

#[test]
fn the_self_test_notices_another_preprocessing_and_other_weights() {
    let preprocessing = |model: &mut ModelProto, from: &str, to: &str| {
        let entry = model.metadata_props.iter_mut().find(|entry| entry.key == "edge_vit.preprocessing").unwrap();
        assert!(entry.value.contains(from));
        entry.value = entry.value.replace(from, to);
    };
    let report = |bytes: Vec<u8>| Classifier::from_bytes(&bytes).unwrap().self_test().unwrap();
    let swapped = report(changed("tiny.onnx", |model| preprocessing(model, "\"rgb\"", "\"bgr\"")));
    assert!(swapped.cases.iter().all(|case| !case.tensor_equal && !case.passed()), "{swapped:?}");
    let bilinear = report(changed("tiny.onnx", |model| preprocessing(model, "bicubic", "bilinear")));
    assert!(bilinear.cases.iter().all(|case| !case.tensor_equal), "{bilinear:?}");
    let moved = report(changed("tiny.onnx", |model| {
        let bias = &mut weight(model, "head.bias").raw_data;
        let first = f32::from_le_bytes(bias[..4].try_into().unwrap());
        bias[..4].copy_from_slice(&(first + 0.1).to_le_bytes());
    }));
    assert!(moved.cases.iter().all(|case| case.tensor_equal && !case.passed()), "{moved:?}");
    assert!(moved.logit_difference() > 1e-3);
    let tolerant = |tolerance: &str| {
        changed("tiny.onnx", |model| {
            let bias = &mut weight(model, "head.bias").raw_data;
            let first = f32::from_le_bytes(bias[..4].try_into().unwrap());
            bias[..4].copy_from_slice(&(first + 0.1).to_le_bytes());
            let key = "edge_vit.golden_tolerance".to_owned();
            model.metadata_props.push(StringStringEntryProto { key, value: tolerance.to_owned() });
        })
    };
    let wide = report(tolerant("0.5"));
    assert!(wide.passed() && wide.cases.iter().all(|case| case.tolerance == 0.5), "{wide:?}");
    assert!(!report(tolerant("0.002")).passed(), "{moved:?} is more");
    let error = Classifier::from_bytes(&tolerant("0.6")).unwrap_err();
    assert!(matches!(error, Error::InvalidGoldenTolerance { .. }), "{error}");
    let none = Classifier::from_bytes(&changed("tiny.onnx", |model| set_metadata(model, "edge_vit.golden", "[]")));
    assert!(matches!(none.unwrap().self_test(), Err(Error::NoGoldenCases)));
}

#[test]
fn a_plain_model_with_a_free_batch_runs_but_does_not_classify() {
    let model = Model::open(fixture("plain.onnx")).unwrap();
    assert_eq!((model.input_shape(), model.output_len()), ([3, 8, 8], 4));
    let values: Vec<f32> = (0..192).map(|i| i as f32 / 100.0).collect();
    let with_bundle = Classifier::open(fixture("tiny.onnx")).unwrap();
    assert_eq!(model.run(&values).unwrap(), with_bundle.run(&values).unwrap());
    assert!(matches!(model.run(&values[1..]), Err(Error::InputLength { expected: [3, 8, 8], got: 191 })));
    let error = Classifier::open(fixture("plain.onnx")).unwrap_err();
    assert!(matches!(error, Error::NoBundle), "{error}");
    assert!(error.to_string().contains("not written by `edge-vit-tools fold`"), "{error}");
}

#[test]
fn bytes_that_are_no_whole_model_are_refused() {
    let whole = bytes("tiny.onnx");
    let noise: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for bytes in [&b""[..], b"no model", &noise, &whole[..whole.len() / 2], &whole[..whole.len() - 1]] {
        let error = Classifier::from_bytes(bytes).unwrap_err();
        assert!(matches!(error, Error::NotOnnx { .. }), "{error}");
    }
    let error = Classifier::open(fixture("absent.onnx")).unwrap_err();
    assert!(matches!(error, Error::ReadFile { .. }) && error.to_string().contains("absent.onnx"), "{error}");
}

#[test]
fn a_cut_or_damaged_file_never_panics() {
    let whole = bytes("plain.onnx");
    for at in 0..whole.len() {
        assert!(Classifier::from_bytes(&whole[..at]).is_err(), "cut at {at}");
        for flip in [0x01, 0x08, 0x80] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            if let Ok(model) = Model::from_bytes(&damaged) {
                let [c, h, w] = model.input_shape();
                let _ = model.run(&vec![0.5; c * h * w]);
            }
        }
    }
}

#[test]
fn a_bundle_that_does_not_fit_its_model_is_refused() {
    let one_less = changed("tiny.onnx", |model| {
        set_metadata(model, "edge_vit.labels", r#"["a", "b", "c"]"#);
        set_metadata(model, "edge_vit.golden", "[]");
    });
    let error = Classifier::from_bytes(&one_less).unwrap_err();
    assert!(matches!(error, Error::LabelCount { labels: 3, outputs: 4 }), "{error}");

    let larger = changed("tiny.onnx", |model| {
        set_dimension(&mut model.graph.as_mut().unwrap().input[0], 3, 16);
    });
    let error = Classifier::from_bytes(&larger).unwrap_err();
    assert!(matches!(error, Error::PictureSize { preprocessing: [8, 8], model: [8, 16] }), "{error}");

    let of_clips = changed("tiny.onnx", |model| {
        let picture = Classifier::open(fixture("tiny.onnx")).unwrap().bundle().preprocessing.clone();
        let clip = Preprocessing { frames: 4, ..picture };
        set_metadata(model, "edge_vit.preprocessing", &serde_json::to_string(&clip).unwrap());
    });
    let error = Classifier::from_bytes(&of_clips).unwrap_err();
    assert!(matches!(error, Error::ClipLength { preprocessing: 4, model: 1 }), "{error}");
}

#[test]
fn what_the_runtime_cannot_run_is_named() {
    let foreign = changed("plain.onnx", |model| model.graph.as_mut().unwrap().node[0].op_type = "RepAdapter".into());
    let error = Model::from_bytes(&foreign).unwrap_err();
    assert!(matches!(&error, Error::UnsupportedOperators { operators } if operators == &["RepAdapter"]), "{error}");

    let elsewhere = changed("plain.onnx", |model| {
        weight(model, "head.weight").data_location = Some(DataLocation::External as i32);
    });
    let error = Model::from_bytes(&elsewhere).unwrap_err();
    assert!(matches!(&error, Error::ExternalWeights { name } if name == "head.weight"), "{error}");

    for (axis, length) in [(0, 2), (1, 4), (2, 0)] {
        let other = changed("plain.onnx", |model| {
            set_dimension(&mut model.graph.as_mut().unwrap().input[0], axis, length);
        });
        let error = Model::from_bytes(&other).unwrap_err();
        assert!(matches!(error, Error::ModelForm { .. }), "axis {axis}: {error}");
    }

    let dangling = changed("plain.onnx", |model| model.graph.as_mut().unwrap().output[0].name = "nowhere".into());
    let error = Model::from_bytes(&dangling).unwrap_err();
    assert!(matches!(error, Error::Prepare { .. }) && error.to_string().contains("nowhere"), "{error}");

    let crooked = changed("plain.onnx", |model| weight(model, "head.weight").dims = vec![4, 3]);
    assert!(matches!(Model::from_bytes(&crooked), Err(Error::Prepare { .. })));
}

#[test]
fn an_output_that_is_no_number_is_an_error() {
    let broken = changed("plain.onnx", |model| {
        weight(model, "head.bias").raw_data[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let error = Model::from_bytes(&broken).unwrap().run(&[0.0; 192]).unwrap_err();
    assert!(matches!(error, Error::NonFinite { index: 2, .. }), "{error}");
}
