//! Whole runs of a tiny random backbone on generated pictures, on the processor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use edge_vit_models::adapter::{self, Adaptation, Comparison, Spec};
use edge_vit_models::method::{LoraTarget, MethodSpec, Site};
use edge_vit_models::{Tensor, backbone, checkpoint, vit};
use image::{Rgb, RgbImage};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::inputs::cut;
use super::record::Record;
use super::state::Saved;
use super::*;
use crate::data::DataError;
use crate::merge::Merge;

/// Relative difference of a loss in float32 after the frozen layers were run in batches of another size.
const F32_TOLERANCE: f32 = 1e-4;
pub(crate) const SIDE: usize = 32;
pub(crate) const CLASSES: [&str; 3] = ["disc", "ring", "square"];

mod devices;
mod half_precision;
mod recipes;
mod segmentation;

/// A folder with a random backbone and pictures of coloured shapes to train and to validate on.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Self { folder };
        backbone(&bench.path("backbone.safetensors"));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (set, count) in [("train", 12), ("val", 6)] {
            for (class, label) in CLASSES.iter().enumerate() {
                let classes = bench.path("shapes").join(set).join(label);
                fs::create_dir_all(&classes).unwrap();
                for n in 0..count {
                    shape(class, &mut rng).save(classes.join(format!("{n:02}.png"))).unwrap();
                }
            }
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self, out: &str) -> Options {
        Options {
            backbone: self.path("backbone.safetensors"),
            data: self.path("shapes"),
            out: self.path(out),
            recipe: Recipe { image_size: Some(SIDE), epochs: 3, batch_size: 8, lr: 1e-2, ..Recipe::default() },
            device: DeviceChoice::Cpu,
            cache_limit: 1 << 30,
            checkpoint_activations: false,
            probe: false,
            resume: false,
            stop: Arc::default(),
        }
    }
}

/// A ViT of two blocks with random weights, in timm's names.
pub(crate) fn backbone(path: &Path) {
    let graph = vit::graph(&vit::Config {
        image_size: [SIDE, SIDE],
        patch_size: 8,
        embed_dim: 32,
        depth: 2,
        num_heads: 2,
        layer_scale: false,
        num_classes: None,
        ..vit::Config::default()
    });
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut tensors = BTreeMap::new();
    for param in graph.params().unwrap().into_iter().flatten() {
        let len: usize = param.shape.iter().product();
        let (centre, spread) =
            if param.name.contains("norm") && param.name.ends_with("weight") { (1.0, 0.1) } else { (0.0, 0.15) };
        let values = (0..len).map(|_| centre + spread * rng.random_range(-1.0f32..1.0)).collect();
        tensors.insert(param.name, Tensor::new(param.shape, values).unwrap());
    }
    let metadata = [("name", "tiny"), ("num_heads", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    checkpoint::write_safetensors(path, &tensors, &metadata.into()).unwrap();
}

/// One of three shapes, each of its colour, somewhere on a noisy ground.
pub(crate) fn shape(class: usize, rng: &mut ChaCha8Rng) -> RgbImage {
    let (x, y) = (rng.random_range(10..22i32), rng.random_range(10..22i32));
    let color = [[220, 60, 60], [60, 220, 60], [60, 60, 220]][class];
    RgbImage::from_fn(SIDE as u32, SIDE as u32, |px, py| {
        let (dx, dy) = (px as i32 - x, py as i32 - y);
        let radius = dx * dx + dy * dy;
        let inside = match class {
            0 => radius < 64,
            1 => (25..81).contains(&radius),
            _ => dx.abs() < 7 && dy.abs() < 7,
        };
        if inside { Rgb(color) } else { Rgb([0; 3].map(|_| rng.random_range(90..160))) }
    })
}

/// The outcome and the records.
fn trained(options: &Options) -> (Outcome, Vec<Record>) {
    let mut records = Vec::new();
    let outcome = run(options, &mut |record| records.push(record)).unwrap();
    (outcome, records)
}

fn losses(records: &[Record]) -> Vec<f32> {
    let loss = |record: &Record| if let Record::Step { loss, .. } = record { Some(*loss) } else { None };
    records.iter().filter_map(loss).collect()
}

#[test]
fn coloured_shapes_are_learned_and_a_broken_picture_is_named() {
    let bench = Bench::new();
    fs::write(bench.path("shapes/train/disc/broken.png"), b"not a picture").unwrap();
    let mut options = bench.options("run");
    options.recipe.epochs = 12;
    let (outcome, records) = trained(&options);
    let kept = outcome.kept.unwrap();
    assert!(kept.val_top1 > 0.9, "{kept:?}");
    assert!(!outcome.interrupted);
    assert_eq!((outcome.epochs, outcome.steps, outcome.skipped), (12, 12 * 5, 1));
    assert!(outcome.peak_bytes > 0);
    assert!(
        records.iter().any(|record| matches!(record, Record::Skipped { path, .. } if path.ends_with("broken.png")))
    );

    let log = fs::read_to_string(bench.path("run/log.jsonl")).unwrap();
    // As text: read back from it, a number of seconds may differ in its last digit.
    let expected: Vec<String> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    assert_eq!(log.lines().collect::<Vec<_>>(), expected);
    assert!(log.lines().all(|line| serde_json::from_str::<Record>(line).is_ok()));
    assert_eq!(fs::read_to_string(bench.path("run/log.csv")).unwrap().lines().count(), 1 + 12);

    let file = adapter::File::read(&outcome.adapters).unwrap();
    assert_eq!(file.meta.labels, CLASSES);
    assert_eq!(file.meta.image_size, [SIDE, SIDE]);
    let rejection: edge_vit::Rejection = serde_json::from_value(file.meta.training["rejection"].clone()).unwrap();
    rejection.check().unwrap();
    let backbone = backbone::load(&options.backbone, Some([SIDE, SIDE])).unwrap();
    let adapted = file.apply(&backbone.graph, &backbone.sha256).unwrap();
    assert!(adapted.validate().is_ok());
}

#[test]
fn a_stopped_run_goes_on_to_the_bit() {
    let bench = Bench::new();
    let (whole, whole_records) = trained(&bench.options("whole"));
    let mut records = Vec::new();
    // Within the first epoch, right after the second epoch's last step, and within the third.
    for stop_at in [3, 10, 12] {
        let options = Options { resume: stop_at > 3, ..bench.options("parts") };
        let stop = Arc::clone(&options.stop);
        let outcome = run(&options, &mut |record| {
            if matches!(record, Record::Step { step, .. } if step == stop_at) {
                stop.store(true, Ordering::Relaxed);
            }
            records.push(record);
        });
        let outcome = outcome.unwrap();
        assert!(outcome.interrupted);
        assert_eq!(outcome.steps, stop_at);
    }
    let (parts, rest) = trained(&Options { resume: true, ..bench.options("parts") });
    records.extend(rest);

    assert_eq!(losses(&records), losses(&whole_records));
    assert_eq!(parts.kept, whole.kept);
    let adapters = |outcome: &Outcome| adapter::File::read(&outcome.adapters).unwrap().tensors;
    assert_eq!(adapters(&parts), adapters(&whole));
    let last = |out: &str| Saved::read(&bench.path(out).join("last.safetensors")).unwrap();
    assert_eq!(last("parts").engine, last("whole").engine);
    let epochs = |records: &[Record]| {
        let epoch = |record: &Record| match record {
            Record::Epoch { train_loss, val_loss, val_top1, kept, .. } => {
                Some((*train_loss, *val_loss, *val_top1, *kept))
            }
            _ => None,
        };
        records.iter().filter_map(epoch).collect::<Vec<_>>()
    };
    assert_eq!(epochs(&records), epochs(&whole_records));
    assert_eq!(epochs(&records).len(), 3);
}

/// Every method: it learns, is merged, and the device's code says of the validation pictures what the trainer said.
#[test]
fn every_method_is_trained_and_folded() {
    let site = Site::EveryLinear;
    let (rank, alpha) = (4, 4.0);
    for method in [
        MethodSpec::RepAdapter { hidden: 4, groups: 2, scale: 1.0, site },
        MethodSpec::Lora { rank, alpha, targets: LoraTarget::queries_and_values() },
        MethodSpec::Ssf,
        MethodSpec::Fact { rank, scale: 1.0 },
        MethodSpec::Arc { rank },
        MethodSpec::Rlrr,
        MethodSpec::Dora { rank, alpha },
        MethodSpec::Oft { block_size: 4 },
        MethodSpec::Consolidator { groups: 4 },
        MethodSpec::BitFit,
        MethodSpec::LayerNorm,
        MethodSpec::LastBlocks { count: 1 },
        MethodSpec::Full,
        MethodSpec::Linear,
    ] {
        let bench = Bench::new();
        let mut options = bench.options("run");
        options.recipe.drop_path = 0.0;
        options.recipe.adapters = Adaptation::Method(method.clone());
        let (outcome, records) = trained(&options);
        let losses = losses(&records);
        assert!(losses[losses.len() - 1] < losses[0], "{method:?}: {losses:?}");
        assert_folded(&bench, &options, &outcome);
    }
}

/// Backbones of other architectures with RepAdapter, with a method, and with all of their weights.
#[test]
fn pyramids_are_trained_and_folded() {
    let method = |method| Adaptation::Method(method);
    let attention = [
        Adaptation::Adapters(Spec::default()),
        method(MethodSpec::Lora { rank: 2, alpha: 2.0, targets: BTreeSet::from(LoraTarget::ALL) }),
        method(MethodSpec::Fact { rank: 2, scale: 1.0 }),
        method(MethodSpec::Full),
    ];
    let convolutions = [
        Adaptation::Adapters(Spec::default()),
        method(MethodSpec::Ssf),
        method(MethodSpec::Arc { rank: 2 }),
        method(MethodSpec::BitFit),
    ];
    for (name, adaptations) in [
        ("timm_swin", &attention),
        ("timm_swinv2", &attention),
        ("timm_convnext", &convolutions),
        ("timm_convnextv2", &convolutions),
        ("timm_mobilevit_short", &attention),
    ] {
        let bench = Bench::new();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures");
        fs::copy(fixtures.join(format!("{name}.safetensors")), bench.path("backbone.safetensors")).unwrap();
        for (run, adaptation) in adaptations.iter().enumerate() {
            let mut options = bench.options(&run.to_string());
            options.recipe.drop_path = 0.0;
            options.recipe.epochs = 10;
            options.recipe.adapters = adaptation.clone();
            let (outcome, records) = trained(&options);
            let losses = losses(&records);
            assert!(losses[losses.len() - 1] < losses[0], "{name}, {adaptation:?}: {losses:?}");
            assert_folded(&bench, &options, &outcome);
        }
    }
}

/// What was trained is folded, leaves nothing behind, and the device's code says of the validation pictures what the trainer
/// said.
fn assert_folded(bench: &Bench, options: &Options, outcome: &Outcome) {
    let method = &options.recipe.adapters;
    let merge = Merge {
        backbone: &options.backbone,
        adapters: &outcome.adapters,
        pictures: None,
        strength: 1.0,
        free_batch: false,
        merge_tokens: None,
        quantize: None,
    };
    let merged = merge.run().unwrap();
    let departure = merged.difference.relative.max(merged.departure);
    assert!(departure < 1e-5, "{method:?}: {departure:e}");

    let file = adapter::File::read(&outcome.adapters).unwrap();
    assert_eq!((file.meta.method.as_str(), &file.meta.spec), (method.method(), method));
    let backbone = backbone::load(&options.backbone, Some([SIDE, SIDE])).unwrap();
    let plain = backbone::with_head(&backbone.graph, CLASSES.len()).unwrap();
    let folded = file.merged(&backbone.graph, &backbone.sha256, 1.0).unwrap().graph;
    assert_eq!(folded.to_text().unwrap(), plain.to_text().unwrap(), "{method:?} leaves operators behind");
    let unchanged = file.merged(&backbone.graph, &backbone.sha256, 0.0).unwrap().graph;
    let of_backbone = |name: &&String| !name.starts_with("head.");
    for name in plain.weights.keys().filter(of_backbone) {
        assert_eq!(unchanged.weights[name], plain.weights[name], "{method:?}, {name}");
    }

    let model = edge_vit::Classifier::from_bytes(&merged.bytes).unwrap();
    let mut right = 0;
    for (class, label) in CLASSES.iter().enumerate() {
        for n in 0..6 {
            let path = bench.path("shapes").join("val").join(label).join(format!("{n:02}.png"));
            let logits = model.logits(&edge_vit::open_picture(&path).unwrap()).unwrap();
            let best = (0..CLASSES.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            right += usize::from(best == class);
        }
    }
    let top1 = outcome.kept.unwrap().val_top1;
    assert!((right as f32 / 18.0 - top1).abs() < 1e-6, "{method:?}: {right} of 18, trained to {top1}");
}

/// What stays in the graph learns and is read back, and `fold` says why it takes none of it.
#[test]
fn methods_that_cannot_be_folded_are_trained_and_refused() {
    for (comparison, reason) in [
        (Comparison::Adapter { hidden: 4 }, "GELU"),
        (Comparison::ParallelAdapter { hidden: 4, scale: 0.5 }, "ReLU"),
        (Comparison::Adaptformer { hidden: 4, scale: 0.5 }, "ReLU"),
        (Comparison::Vpt { tokens: 3 }, "tokens"),
        (Comparison::VptDeep { tokens: 3 }, "tokens"),
    ] {
        let bench = Bench::new();
        let mut options = bench.options("run");
        options.recipe.drop_path = 0.0;
        options.recipe.adapters = Adaptation::Comparison(comparison.clone());
        let (outcome, records) = trained(&options);
        let losses = losses(&records);
        assert!(losses[losses.len() - 1] < losses[0], "{comparison:?}: {losses:?}");
        let file = adapter::File::read(&outcome.adapters).unwrap();
        assert_eq!(file.meta.spec, options.recipe.adapters);
        let backbone = backbone::load(&options.backbone, Some([SIDE, SIDE])).unwrap();
        file.apply(&backbone.graph, &backbone.sha256).unwrap().validate().unwrap();
        let error = file.merged(&backbone.graph, &backbone.sha256, 1.0).unwrap_err().to_string();
        assert!(error.contains("cannot be folded") && error.contains(reason), "{error}");
    }
}

#[test]
fn inputs_that_are_not_kept_are_computed_again() {
    let bench = Bench::new();
    let upper = |out: &str, cache_limit: u64| {
        let mut options = bench.options(out);
        options.recipe.adapters = Adaptation::Adapters(Spec { blocks: Some(1..2), ..Spec::default() });
        options.recipe.epochs = 1;
        Options { cache_limit, ..options }
    };
    let kept = losses(&trained(&upper("kept", 1 << 30)).1);
    // Room for the output of the frozen block, [17, 32] float32, of ten pictures.
    for (out, limit) in [("some", 10 * 17 * 32 * 4), ("none", 0)] {
        let again = losses(&trained(&upper(out, limit)).1);
        assert_eq!(again.len(), kept.len());
        let near = again.iter().zip(&kept).all(|(again, kept)| (again / kept - 1.0).abs() < F32_TOLERANCE);
        assert!(near, "{out}: {again:?} {kept:?}");
    }
}

#[test]
fn the_cut_is_below_the_first_adapter() {
    let graph = |blocks| {
        let spec = Spec { blocks, ..Spec::default() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backbone.safetensors");
        backbone(&path);
        let adapted = adapter::insert(&backbone::load(&path, None).unwrap().graph, &spec, 0).unwrap();
        backbone::with_head(&adapted, 3).unwrap()
    };
    for (blocks, last, residuals) in [(None, "pos_embed", 0), (Some(1..2), "blocks.0.add2", 2)] {
        let graph = graph(blocks);
        let cut = cut(&graph, &adapter::trainable(&graph)).unwrap();
        let prefix = cut.prefix.unwrap();
        assert_eq!(prefix.nodes.last().unwrap().name, last);
        assert_eq!(cut.residuals, residuals);
        assert!(adapter::trainable(&prefix).is_empty());
        assert_eq!(adapter::trainable(&cut.tail), adapter::trainable(&graph));
    }
    let whole = graph(None);
    let all: BTreeSet<String> = adapter::trainable(&whole);
    assert_eq!(all.iter().filter(|name| name.starts_with("head.")).count(), 2);
}

#[test]
fn a_run_is_neither_overwritten_nor_resumed_with_other_options() {
    let bench = Bench::new();
    let mut options = bench.options("run");
    options.recipe.epochs = 1;
    trained(&options);
    let refused = |options: &Options| run(options, &mut |_| {}).unwrap_err();
    assert!(matches!(refused(&options), TrainError::RunThere { .. }));
    let resume = Options { resume: true, ..options.clone() };
    let mut other = resume.clone();
    other.recipe.lr = 1e-3;
    match refused(&other) {
        TrainError::Differs { differences, .. } => assert_eq!(differences, ["lr: 0.01 -> 0.001"]),
        error => panic!("{error}"),
    }
    fs::remove_file(bench.path("shapes/train/disc/00.png")).unwrap();
    assert!(refused(&resume).to_string().contains("pictures_sha256"));
    let elsewhere = Options { out: bench.path("elsewhere"), ..resume };
    assert!(matches!(refused(&elsewhere), TrainError::NothingToResume { .. }));
}

#[test]
fn what_cannot_begin_says_why() {
    let bench = Bench::new();
    let refused = |options: &Options| run(options, &mut |_| {}).unwrap_err();
    // A file stands where the run's folder should be.
    fs::write(bench.path("file"), b"").unwrap();
    assert!(matches!(refused(&bench.options("file")), TrainError::Write { .. }));

    let stopped = bench.options("stopped");
    stopped.stop.store(true, Ordering::Relaxed);
    assert!(matches!(refused(&stopped), TrainError::Stopped));

    let mut size = bench.options("size");
    size.recipe.image_size = Some(30);
    assert!(matches!(refused(&size), TrainError::ImageSize { step: 8, got: 30 }));

    let broken = bench.path("shapes/train/ring");
    for file in fs::read_dir(&broken).unwrap() {
        fs::write(file.unwrap().path(), b"not a picture").unwrap();
    }
    let error = refused(&bench.options("empty"));
    assert!(matches!(&error, TrainError::Data(DataError::EmptyClass { label, .. }) if label == "ring"), "{error}");
}
