//! The whole path on generated pictures: train, fold, classify; and one set of logits from everything that computes them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use edge_vit::{Classifier, Preprocessing, open_picture};
use edge_vit_models::{adapter, backbone, checkpoint, fold, onnx, vit};
use edge_vit_tests::fill_random;
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::Engine;
use edge_vit_tools::gpu::GpuEngine;
use edge_vit_tools::merge::{Merge, MergeError};
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

    fn merge(&self) -> Result<edge_vit_tools::merge::Merged, MergeError> {
        let merge = Merge {
            backbone: &self.backbone,
            adapters: &self.adapters(),
            pictures: Some(&self.data),
            strength: 1.0,
            free_batch: false,
            quantize: None,
        };
        merge.run()
    }

    fn pictures(&self) -> Vec<RgbImage> {
        ["blue", "green", "red"]
            .iter()
            .map(|class| open_picture(self.data.join("test").join(class).join("3.png")).unwrap())
            .collect()
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
        resume: false,
        stop: Default::default(),
    };
    train::run(&options, &mut |_| {}).unwrap();
    Trained { folder, backbone, data }
}

#[test]
fn what_was_trained_is_what_the_device_classifies() {
    let trained = train_tiny();
    let merged = trained.merge().unwrap();
    assert!(merged.difference.relative < F32_LOGITS, "{:?}", merged.difference);
    assert_eq!(merged.adapters, 4);
    let classifier = Classifier::from_bytes(&merged.bytes).unwrap();
    assert!(classifier.self_test().unwrap().passed());
    let rejection = classifier.bundle().rejection.unwrap();
    rejection.check().unwrap();
    assert_eq!(rejection.false_rejection_rate, 0.05);
    // Above an even guess among three, or it could never be met.
    assert!(rejection.threshold > 1.0 / 3.0, "{rejection:?}");
    let labels: Vec<String> =
        trained.pictures().iter().map(|picture| classifier.classify(picture).unwrap()[0].label.clone()).collect();
    assert_eq!(labels, ["blue", "green", "red"]);
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

    let merged = trained.merge().unwrap();
    // This one takes raw pixels: mean and deviation are in its patch embedding.
    let device = Classifier::from_bytes(&merged.bytes).unwrap();
    assert_eq!((device.bundle().preprocessing.mean, device.bundle().preprocessing.std), ([0.0; 3], [1.0; 3]));
    check("tract", &pictures.iter().flat_map(|picture| device.logits(picture).unwrap()).collect::<Vec<f32>>());

    let free = onnx::to_bytes(&folded, onnx::Batch::Free, &BTreeMap::new()).unwrap();
    match onnxruntime(trained.folder.path(), &free, &input, pictures.len()) {
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

/// The largest difference relative to the largest value of `reference`.
fn relative(values: &[f32], reference: &[f32]) -> f64 {
    assert_eq!(values.len(), reference.len());
    let largest = reference.iter().fold(0f64, |largest, &value| largest.max(f64::from(value).abs()));
    let difference = values.iter().zip(reference).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    difference.fold(0.0, f64::max) / largest
}

/// The logits by onnxruntime, `None` where Python or a package is not there.
fn onnxruntime(folder: &Path, model: &[u8], input: &[f32], pictures: usize) -> Option<Vec<f32>> {
    let python = std::env::var("EDGE_VIT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let present = Command::new(&python).args(["-c", "import numpy, onnxruntime"]).output().ok()?;
    if !present.status.success() {
        return None;
    }
    std::fs::write(folder.join("model.onnx"), model).unwrap();
    let bytes: Vec<u8> = input.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(folder.join("input.f32"), bytes).unwrap();
    let script = "import sys, numpy, onnxruntime\n\
        folder, pictures, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n\
        pixels = numpy.fromfile(folder + '/input.f32', numpy.float32).reshape(pictures, 3, side, side)\n\
        session = onnxruntime.InferenceSession(folder + '/model.onnx')\n\
        session.run(None, {'pixels': pixels})[0].astype(numpy.float32).tofile(folder + '/logits.f32')\n";
    let output = Command::new(&python)
        .args(["-c", script])
        .arg(folder)
        .args([pictures.to_string(), SIDE.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(folder.join("logits.f32")).unwrap();
    Some(bytes.chunks_exact(4).map(|chunk| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]])).collect())
}
