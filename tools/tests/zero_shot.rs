//! CLIP's text tower against OpenCLIP and Hugging Face, and heads made of words.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use edge_vit::{Classifier, Model, Preprocessing, open_picture};
use edge_vit_models::onnx::{self, Batch};
use edge_vit_models::text::Tower;
use edge_vit_models::{Graph, Op, Tensor, adapter, backbone, checkpoint};
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::{Engine, uniform};
use edge_vit_tools::gpu::{self, GpuEngine};
use edge_vit_tools::merge::Merge;
use edge_vit_tools::train::{self, DeviceChoice, Recipe};
use edge_vit_tools::zero_shot::{self, Options, Texts, ZeroShotError};
use image::{Rgb, RgbImage};

/// Float32 rounding of the stored reference.
const F64_TOLERANCE: f64 = 1e-5;
/// Sums in float32.
const F32_TOLERANCE: f64 = 1e-4;
/// What the fixtures' texts are of, see models/tests/fixtures/generate.py.
const CLASSES: [&str; 4] = ["ab", "cd", "abcd", "b d"];
const WHOLE: [&str; 2] = ["openai_clip", "hf_clip_whole"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures").join(name)
}

fn relative(got: &[f64], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |largest, &value| largest.max(f64::from(value).abs()));
    let differences = got.iter().zip(expected).map(|(got, &expected)| (got - f64::from(expected)).abs());
    differences.fold(0.0, f64::max) / largest
}

fn doubled(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

#[test]
fn texts_have_the_vectors_that_openclip_and_hugging_face_give_them() {
    for name in WHOLE {
        let tower = Tower::load(fixture(&format!("{name}.safetensors"))).unwrap();
        let reference = checkpoint::read(fixture(&format!("{name}.reference.safetensors"))).unwrap();
        let expected = reference.tensors["texts"].values();
        let texts = Texts::new(&tower, &fixture("tiny.tokenizer.json")).unwrap();
        let sentences = CLASSES.map(|class| format!("A  {class}."));
        let got = texts.vectors(&sentences).unwrap().concat();
        assert!(relative(&got, expected) < F32_TOLERANCE, "{name}");

        let (dim, none) = (tower.config.embed_dim, BTreeSet::new());
        for (sentence, expected) in sentences.iter().zip(expected.chunks_exact(dim)) {
            let tokens = texts.tokens(sentence).unwrap();
            let graph = tower.graph(tokens.len()).unwrap();
            let input = tower.input(&tokens, tokens.len()).unwrap();
            let last = |engine: &mut dyn Engine| {
                let output = engine.forward(&input, 1).unwrap();
                doubled(&output[output.len() - dim..])
            };
            let difference = relative(&last(&mut CpuEngine::<f64>::new(&graph, &none).unwrap()), expected);
            assert!(difference < F64_TOLERANCE, "{name}, {sentence}: {difference:e}");
            if gpu::adapters().is_empty() {
                eprintln!("skipped: there is no graphics adapter on this machine");
            } else {
                let difference = relative(&last(&mut GpuEngine::new(None, &graph, &none).unwrap()), expected);
                assert!(difference < F32_TOLERANCE, "{name}, {sentence}, wgpu: {difference:e}");
            }
        }
    }
}

/// Operators that no device's model has, the text tower's attention and deep VPT's, have an ONNX form all the same.
#[test]
fn causal_attention_and_dropped_tokens_are_the_same_in_tract() {
    let mut graph = Graph::default();
    let mut last = graph.push("pixels", Op::Input { shape: vec![3, 8, 12] }, &[]);
    for (name, op) in [
        ("patch_embed", Op::PatchEmbed { patch_size: 4, embed_dim: 24, tubelets: 1 }),
        ("attn", Op::CausalAttention { num_heads: 2, scale: 0.6 }),
        ("middle", Op::DropTokens { count: 1, at: 2 }),
        ("first", Op::DropTokens { count: 1, at: 0 }),
        ("last", Op::DropTokens { count: 1, at: 3 }),
        ("pool", Op::MeanTokens { skip: 0 }),
    ] {
        last = graph.push(name, op, &[last]);
    }
    let value = |stream, index: usize| 4.0 * uniform(1, stream, index as u32) - 2.0;
    for (stream, param) in (0u32..).zip(graph.params().unwrap().into_iter().flatten()) {
        let len = param.shape.iter().product();
        let values = (0..len).map(|index| value(stream, index)).collect();
        graph.weights.insert(param.name, Tensor::new(param.shape, values).unwrap());
    }
    let input: Vec<f32> = (0..3 * 96).map(|index| value(9, index)).collect();
    let expected = CpuEngine::<f64>::new(&graph, &BTreeSet::new()).unwrap().forward(&input, 1).unwrap();
    let bytes = onnx::to_bytes(&graph, Batch::One, &BTreeMap::new()).unwrap();
    let got = Model::from_bytes(&bytes).unwrap().run(&input).unwrap();
    assert!(relative(&doubled(&got), &expected) < F32_TOLERANCE);
}

/// Noisy pictures, two of each class.
fn pictures(folder: &Path) {
    for (seed, class) in (0u32..).zip(CLASSES) {
        fs::create_dir_all(folder.join(class)).unwrap();
        for n in 0..2 {
            let value = |x: u32, y: u32, c: u32| (256.0 * uniform(seed, n, (x + 32 * y) * 3 + c)) as u8;
            let picture = RgbImage::from_fn(32, 32, |x, y| Rgb([0, 1, 2].map(|c| value(x, y, c))));
            picture.save(folder.join(class).join(format!("{n}.png"))).unwrap();
        }
    }
}

fn options(folder: &Path, name: &str) -> Options {
    Options {
        backbone: fixture(&format!("{name}.safetensors")),
        tokenizer: Some(fixture("tiny.tokenizer.json")),
        data: folder.join("pictures"),
        templates: vec!["a {}.".to_owned(), "{} b".to_owned()],
        image_size: None,
        out: folder.join("zero-shot.safetensors"),
    }
}

/// The folded model orders classes as the cosines of a picture and of texts do, and gives their logits but for the length of
/// the picture's projection.
#[test]
fn a_folded_head_is_clips_own_decision() {
    for name in WHOLE {
        let folder = tempfile::tempdir().unwrap();
        pictures(&folder.path().join("pictures"));
        let options = options(folder.path(), name);
        let outcome = zero_shot::run(&options).unwrap();
        assert_eq!((outcome.labels.len(), outcome.texts, outcome.pictures), (4, 8, 8));

        let merge = Merge {
            backbone: &options.backbone,
            adapters: &options.out,
            pictures: None,
            strength: 1.0,
            free_batch: false,
            merge_tokens: None,
            quantize: None,
        };
        let model = Classifier::from_bytes(&merge.run().unwrap().bytes).unwrap();

        let tower = Tower::load(&options.backbone).unwrap();
        let texts = Texts::new(&tower, &fixture("tiny.tokenizer.json")).unwrap();
        let backbone = backbone::load(&options.backbone, None).unwrap();
        let backbone::Normalization { mean, std } = backbone.normalization;
        let preprocessing = Preprocessing { mean, std, ..Preprocessing::imagenet(backbone.config.image_size()) };
        let mut engine = CpuEngine::<f64>::new(&backbone.graph, &BTreeSet::new()).unwrap();
        let unit = |vector: &[f64]| {
            let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
            (vector.iter().map(|value| value / length).collect::<Vec<f64>>(), length)
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        // Sorted, as the folders are.
        let directions: Vec<Vec<f64>> = outcome
            .labels
            .iter()
            .map(|label| {
                let sentences = [format!("a {label}."), format!("{label} b")];
                let vectors = texts.vectors(&sentences).unwrap();
                let [(first, _), (second, _)] = [&vectors[0], &vectors[1]].map(|vector| unit(vector));
                unit(&first.iter().zip(&second).map(|(a, b)| a + b).collect::<Vec<f64>>()).0
            })
            .collect();
        for class in CLASSES {
            let picture = open_picture(options.data.join(class).join("0.png")).unwrap();
            let projected = doubled(&engine.forward(&preprocessing.apply(&picture), 1).unwrap());
            let (direction, length) = unit(&projected);
            let cosines: Vec<f32> =
                directions.iter().map(|text| (f64::from(tower.scale) * dot(text, &direction)) as f32).collect();
            let logits = model.logits(&picture).unwrap();
            let scaled: Vec<f64> = logits.iter().map(|&logit| f64::from(logit) * outcome.length / length).collect();
            let difference = relative(&scaled, &cosines);
            assert!(difference < F32_TOLERANCE, "{name}, {class}: {difference:e}");
        }
    }
}

#[test]
fn training_begins_with_the_head_of_words() {
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures/train"));
    pictures(&folder.path().join("pictures/val"));
    let options = options(folder.path(), "openai_clip");
    zero_shot::run(&options).unwrap();
    let head = |path: &Path| adapter::File::read(path).unwrap().tensors["head.weight"].clone();
    let train = |head: Option<PathBuf>, out: &str| {
        let recipe = Recipe { head, image_size: Some(32), epochs: 1, lr: 1e-6, weight_decay: 0.0, ..Recipe::default() };
        train::run(
            &train::Options {
                backbone: options.backbone.clone(),
                data: options.data.clone(),
                out: folder.path().join(out),
                recipe,
                device: DeviceChoice::Cpu,
                cache_limit: 1 << 30,
                checkpoint_activations: false,
                probe: false,
                resume: false,
                stop: std::sync::Arc::default(),
            },
            &mut |_| {},
        )
    };
    let begun = head(&train(Some(options.out.clone()), "begun").unwrap().adapters);
    let far =
        |a: &Tensor, b: &Tensor| a.values().iter().zip(b.values()).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    assert!(far(&begun, &head(&options.out)) < 1e-4);
    assert!(far(&head(&train(None, "zeros").unwrap().adapters), &head(&options.out)) > 1e-3);

    fs::rename(folder.path().join("pictures/train/ab"), folder.path().join("pictures/train/ba")).unwrap();
    fs::rename(folder.path().join("pictures/val/ab"), folder.path().join("pictures/val/ba")).unwrap();
    let error = train(Some(options.out.clone()), "other").unwrap_err().to_string();
    assert!(error.contains("its classes are ab, abcd"), "{error}");
}

#[test]
fn what_is_no_whole_clip_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures"));
    let refused = |change: &dyn Fn(&mut Options)| {
        let mut options = options(folder.path(), "openai_clip");
        change(&mut options);
        let error = zero_shot::run(&options).unwrap_err();
        assert!(!options.out.exists());
        error
    };
    let error = refused(&|options| options.backbone = fixture("timm_clip.safetensors")).to_string();
    assert!(error.contains("holds no text tower") && error.contains("timm_clip.safetensors"), "{error}");
    let error = refused(&|options| options.tokenizer = None).to_string();
    assert!(error.contains("tokenizer.json") && error.contains("--tokenizer"), "{error}");
    let error = refused(&|options| options.tokenizer = Some(fixture("timm_clip.safetensors")));
    assert!(matches!(error, ZeroShotError::Tokenizer { .. }), "{error}");
    let error = refused(&|options| options.templates = vec!["a photo".to_owned()]);
    assert!(matches!(error, ZeroShotError::Template { .. }), "{error}");
    let error = refused(&|options| options.data = folder.path().join("nowhere"));
    assert!(matches!(error, ZeroShotError::Data(_)), "{error}");
}
