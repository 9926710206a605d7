//! The whole path on generated pictures: train, fold, classify; and one set of logits from everything that computes them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use edge_vit::{Classifier, HalfProducts, Preprocessing, open_picture};
use edge_vit_models::{adapter, backbone, checkpoint, fold, onnx, vit};
use edge_vit_tests::{fill_random, onnxruntime, relative};
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::Engine;
use edge_vit_tools::evaluate::EvaluateError;
use edge_vit_tools::gpu::GpuEngine;
use edge_vit_tools::merge::{Merge, MergeError, Merged};
use edge_vit_tools::quantize::{Bits, Quantize, QuantizeError};
use edge_vit_tools::train::{DeviceChoice, Options, Recipe};
use edge_vit_tools::{gpu, train};
use image::{Rgb, RgbImage};

/// What two float32 computations of the same logits may differ by, relative to the largest logit.
const F32_LOGITS: f64 = 1e-4;

/// Side of the generated pictures in pixels.
const SIDE: usize = 32;

/// Writes a backbone of random weights: width 128, two blocks, patches of 8.
fn write_backbone(folder: &Path) -> PathBuf {
    let config = vit::Config {
        image_size: [SIDE, SIDE],
        patch_size: 8,
        embed_dim: 128,
        depth: 2,
        num_heads: 2,
        ..edge_vit_tests::dinov2_small(SIDE)
    };
    let mut graph = vit::graph(&config);
    fill_random(&mut graph, 5).unwrap();
    let path = folder.join("backbone.safetensors");
    checkpoint::write_safetensors(&path, &graph.weights, &BTreeMap::new()).unwrap();
    path
}

/// Writes pictures of three classes, each a colour with a gradient that differs from picture to picture.
fn write_pictures(folder: &Path, split: &str, count: u32) {
    for (class, hue) in [("blue", [20, 40, 220]), ("green", [30, 200, 40]), ("red", [230, 30, 20])] {
        let class_folder = folder.join(split).join(class);
        std::fs::create_dir_all(&class_folder).unwrap();
        for index in 0..count {
            let picture = RgbImage::from_fn(40, 30, |x, y| {
                let shade = (x * (index % 5) + y * (index % 3) + 7 * index) % 90;
                Rgb(hue.map(|channel: u32| (channel * 2 / 3 + shade).min(255) as u8))
            });
            picture.save(class_folder.join(format!("{index}.png"))).unwrap();
        }
    }
}

struct Trained {
    folder: tempfile::TempDir,
    backbone: PathBuf,
    data: PathBuf,
}

impl Trained {
    fn adapters(&self) -> PathBuf {
        self.folder.path().join("run/adapters.safetensors")
    }

    fn merge(&self, quantize: Option<Quantize<'_>>) -> Result<Merged, MergeError> {
        self.merge_tokens(None, quantize)
    }

    fn merge_tokens(&self, merge_tokens: Option<usize>, quantize: Option<Quantize<'_>>) -> Result<Merged, MergeError> {
        let merge = Merge {
            backbone: &self.backbone,
            adapters: &self.adapters(),
            pictures: Some(&self.data),
            strength: 1.0,
            free_batch: false,
            merge_tokens,
            quantize,
        };
        merge.run()
    }

    fn pictures(&self) -> Vec<RgbImage> {
        ["blue", "green", "red"]
            .iter()
            .map(|class| open_picture(self.data.join("test").join(class).join("3.png")).unwrap())
            .collect()
    }

    /// Asserts that each of [`Self::pictures`] is called by its class.
    fn assert_learned(&self, classifier: &Classifier) {
        let labels: Vec<String> =
            self.pictures().iter().map(|picture| classifier.classify(picture).unwrap()[0].label.clone()).collect();
        assert_eq!(labels, ["blue", "green", "red"]);
    }
}

fn train_tiny() -> Trained {
    let folder = tempfile::tempdir().unwrap();
    let backbone = write_backbone(folder.path());
    let data = folder.path().join("data");
    write_pictures(&data, "train", 12);
    write_pictures(&data, "test", 5);
    let options = Options {
        backbone: backbone.clone(),
        data: data.clone(),
        out: folder.path().join("run"),
        recipe: Recipe { image_size: Some(SIDE), epochs: 12, batch_size: 9, ..Recipe::default() },
        device: DeviceChoice::Cpu,
        cache_limit: 1 << 30,
        checkpoint_activations: false,
        probe: false,
        resume: false,
        stop: Default::default(),
    };
    train::run(&options, &mut |_| {}).unwrap();
    Trained { folder, backbone, data }
}

#[test]
fn what_was_trained_is_what_the_device_classifies() {
    let trained = train_tiny();
    let merged = trained.merge(None).unwrap();
    assert!(merged.difference.relative < F32_LOGITS, "{:?}", merged.difference);
    assert_eq!(merged.adapters, 4);
    let classifier = Classifier::from_bytes(&merged.bytes).unwrap();
    assert!(classifier.self_test().unwrap().passed());
    let rejection = classifier.bundle().rejection.unwrap();
    rejection.check().unwrap();
    assert_eq!(rejection.false_rejection_rate, 0.05);
    // Above an even guess among three, or it could never be met.
    assert!(rejection.threshold > 1.0 / 3.0, "{rejection:?}");
    trained.assert_learned(&classifier);
}

/// By the pictures that the training itself set apart, half a point at most.
const INT8: Quantize<'_> = Quantize { bits: Bits::Int8, calibrate: None, max_drop: 0.5 };

#[test]
fn a_fold_in_fewer_bits_is_measured_and_says_so() {
    let trained = train_tiny();
    let whole = trained.merge(None).unwrap().bytes;
    let mut errors = Vec::new();
    for (bits, share) in [(Bits::F16, 0.55), (Bits::F16Compute, 0.55), (Bits::Int8, 0.35)] {
        let merged = trained.merge(Some(Quantize { bits, ..INT8 })).unwrap();
        let size = merged.bytes.len() as f64 / whole.len() as f64;
        assert!(size < share, "{} takes {size} of float32", bits.name());
        let classifier = Classifier::from_bytes(&merged.bytes).unwrap();
        trained.assert_learned(&classifier);
        let report = classifier.self_test().unwrap();
        assert!(report.passed(), "{report:?}");

        let provenance = &classifier.bundle().provenance;
        let record = provenance.quantization.as_ref().unwrap();
        assert_eq!(record.precision, bits.name());
        assert!(record.error > 0.0 && record.error < 0.1, "{record:?}");
        errors.push(record.error);
        // That of the fold, measured before.
        assert!(provenance.fold_error.unwrap() < F32_LOGITS, "{provenance:?}");
        assert_eq!(Some(record), merged.quantized.as_ref().map(|quantized| &quantized.record));
        match bits {
            Bits::F32 | Bits::F16 => {
                assert_eq!((record.layers, record.measured, report.cases[0].tolerance), (0, None, 1e-3))
            }
            Bits::F16Compute => {
                assert_eq!((record.layers, record.measured.unwrap().pictures), (0, 6));
                assert_eq!(classifier.bundle().half_products, HalfProducts::WhereNative);
                // So few sums of so few products differ by less than float32's own tolerance, but the file says so.
                assert_eq!(merged.tolerance, Some(1e-3));
            }
            Bits::Int8 => {
                assert_eq!((record.int8_layers, record.layers), (8, 8));
                // Two of twelve in each class.
                assert_eq!(record.measured.unwrap().pictures, 6);
                assert!(report.cases[0].tolerance > 1e-3, "{report:?}");
                assert_eq!(trained.merge(Some(INT8)).unwrap().bytes, merged.bytes, "folding is repeatable");
            }
        }
    }
    assert!(errors.is_sorted_by(|less, more| less < more), "{errors:?}");
    let refused = |calibrate: &Path| trained.merge(Some(Quantize { calibrate: Some(calibrate), ..INT8 })).unwrap_err();
    let test = refused(&trained.data.join("test"));
    assert!(matches!(test, MergeError::Quantize(QuantizeError::Evaluate(EvaluateError::IsTest { .. }))), "{test}");
    let none = refused(trained.folder.path());
    assert!(
        matches!(none, MergeError::Quantize(QuantizeError::Evaluate(EvaluateError::NoKnownClass { .. }))),
        "{none}"
    );
}

#[test]
fn merged_tokens_are_measured_by_themselves_and_with_fewer_bits() {
    let trained = train_tiny();
    // One of two blocks merges: 17 tokens, the class token among them.
    for bits in [None, Some(Bits::F16), Some(Bits::F16Compute), Some(Bits::Int8)] {
        let merged = trained.merge_tokens(Some(5), bits.map(|bits| Quantize { bits, ..INT8 })).unwrap();
        let classifier = Classifier::from_bytes(&merged.bytes).unwrap();
        trained.assert_learned(&classifier);
        let report = classifier.self_test().unwrap();
        assert!(report.passed(), "{report:?}");

        let provenance = &classifier.bundle().provenance;
        let record = provenance.token_merging.as_ref().unwrap();
        assert_eq!(Some(record), merged.token_merging.as_ref());
        assert_eq!((record.per_block, record.blocks, record.tokens, record.tokens_left), (5, 1, 17, 12));
        assert!(record.gflop < 0.9 * record.gflop_unmerged, "{record:?}");
        assert!(record.error > 5e-6 && record.error < 0.5, "merging changes something: {record:?}");
        assert_eq!(record.measured.pictures, 6);
        assert_eq!(merged.tolerance, classifier.bundle().golden_tolerance);
        assert!(merged.tolerance.is_some());
        let quantized = provenance.quantization.as_ref();
        assert_eq!(quantized.map(|record| record.precision.as_str()), bits.map(Bits::name));
        assert!(quantized.is_none_or(|quantized| quantized.measured == Some(record.measured)), "measured at once");
    }
    for (count, most) in [(0, 8), (9, 8)] {
        let error = trained.merge_tokens(Some(count), None).unwrap_err();
        assert!(error.to_string().ends_with(&format!("Merge between 1 and {most}")), "{error}");
        assert!(matches!(error, MergeError::Tokens(_)));
    }
    let refused = Quantize { bits: Bits::F32, calibrate: Some(&trained.data.join("test")), max_drop: 0.5 };
    let error = trained.merge_tokens(Some(2), Some(refused)).unwrap_err();
    assert!(matches!(error, MergeError::Quantize(QuantizeError::Evaluate(EvaluateError::IsTest { .. }))), "{error}");
}

/// Trainer, CPU reference, folded graph, tract and, where they are, wgpu and onnxruntime.
#[test]
fn everything_computes_the_same_logits() {
    let trained = train_tiny();
    let file = adapter::File::read(&trained.adapters()).unwrap();
    let backbone = backbone::load(&trained.backbone, Some(file.meta.image_size)).unwrap();
    let unfolded = file.apply(&backbone.graph, &backbone.sha256).unwrap();
    let folded = fold::fold(&unfolded, 1.0).unwrap();
    let preprocessing: Preprocessing = serde_json::from_value(file.meta.preprocessing.clone()).unwrap();
    let pictures = trained.pictures();
    let input: Vec<f32> = pictures.iter().flat_map(|picture| preprocessing.apply(picture)).collect();
    let none = BTreeSet::new();

    let reference = CpuEngine::<f64>::new(&unfolded, &none).unwrap().forward(&input, pictures.len()).unwrap();
    let check = |name: &str, logits: &[f32]| {
        let difference = relative(logits, &reference);
        println!("{name}: {difference:.2e}");
        assert!(difference < F32_LOGITS, "{name} departs by {difference:.3e}: {logits:?} against {reference:?}");
    };
    let trainable = adapter::trainable(&unfolded);
    let forward = |graph| CpuEngine::<f32>::new(graph, &none).unwrap().forward(&input, pictures.len()).unwrap();
    let mut trainer = CpuEngine::<f32>::new(&unfolded, &trainable).unwrap();
    check("trainer", &trainer.forward(&input, pictures.len()).unwrap());
    check("folded graph", &forward(&folded));
    if gpu::adapters().is_empty() {
        println!("skipped wgpu: no adapter; install mesa-vulkan-drivers");
    } else {
        let mut engine = GpuEngine::new(None, &unfolded, &trainable).unwrap();
        check("wgpu", &engine.forward(&input, pictures.len()).unwrap());
    }

    let merged = trained.merge(None).unwrap();
    // This one takes raw pixels: mean and deviation are in its patch embedding.
    let device = Classifier::from_bytes(&merged.bytes).unwrap();
    assert_eq!((device.bundle().preprocessing.mean, device.bundle().preprocessing.std), ([0.0; 3], [1.0; 3]));
    check("tract", &pictures.iter().flat_map(|picture| device.logits(picture).unwrap()).collect::<Vec<f32>>());

    let free = onnx::to_bytes(&folded, onnx::Batch::Free, &BTreeMap::new()).unwrap();
    match onnxruntime(&free, &input, &[pictures.len(), 3, SIDE, SIDE]).unwrap() {
        Some(logits) => check("onnxruntime", &logits),
        None => {
            println!("skipped onnxruntime: python with numpy and onnxruntime is not there (EDGE_VIT_PYTHON names it)")
        }
    }
}

#[test]
fn adapters_of_another_backbone_are_refused() {
    let trained = train_tiny();
    let other = tempfile::tempdir().unwrap();
    let mut weights = checkpoint::read(&trained.backbone).unwrap().tensors;
    weights.get_mut("norm.bias").unwrap().values_mut()[0] += 1.0;
    let path = other.path().join("other.safetensors");
    checkpoint::write_safetensors(&path, &weights, &BTreeMap::new()).unwrap();
    let merge = Merge {
        backbone: &path,
        adapters: &trained.adapters(),
        pictures: Some(&trained.data),
        strength: 1.0,
        free_batch: false,
        merge_tokens: None,
        quantize: None,
    };
    assert!(matches!(merge.run(), Err(MergeError::Adapters { .. })));
}

/// A short training on wgpu gives the CPU's losses and weights.
#[test]
fn wgpu_learns_what_the_cpu_learns() {
    if gpu::adapters().is_empty() {
        println!("skipped: no adapter; install mesa-vulkan-drivers");
        return;
    }
    let trained = train_tiny();
    let run = |device: DeviceChoice, out: &str| {
        let options = Options {
            backbone: trained.backbone.clone(),
            data: trained.data.clone(),
            out: trained.folder.path().join(out),
            recipe: Recipe { image_size: Some(SIDE), epochs: 5, batch_size: 9, ..Recipe::default() },
            device,
            cache_limit: 1 << 30,
            checkpoint_activations: false,
            probe: false,
            resume: false,
            stop: Default::default(),
        };
        let mut losses = Vec::new();
        let mut keep = |record| {
            if let train::record::Record::Step { loss, .. } = record {
                losses.push(loss);
            }
        };
        train::run(&options, &mut keep).unwrap();
        losses
    };
    let cpu = run(DeviceChoice::Cpu, "cpu");
    let wgpu = run(DeviceChoice::Gpu(None), "wgpu");
    assert_eq!(cpu.len(), wgpu.len());
    for (step, (cpu, wgpu)) in cpu.iter().zip(&wgpu).enumerate() {
        assert!((cpu - wgpu).abs() <= 1e-3 * cpu.abs(), "step {step}: {cpu} on the CPU, {wgpu} on wgpu");
    }
}
