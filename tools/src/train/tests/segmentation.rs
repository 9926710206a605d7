//! Whole runs of segmentation: trained, folded, and measured through the device's code.

use edge_vit::{Mask, ModelFile, NO_CLASS, Segmenter};
use edge_vit_models::Task;
use edge_vit_models::tokens::TokenError;

use super::*;
use crate::data::Part;
use crate::engine::Engine as _;
use crate::merge::{MergeError, Quantized};
use crate::quantize::{Bits, Quantize, QuantizeError};
use crate::report::html::tests::assert_well_formed;
use crate::report::{Report, Sources};
use crate::segmentation::fixture::{LABELS, scenes};
use crate::segmentation::{self, MaskedListing, SegmentationError};

/// Width and height of the pictures; the model squashes them to [`SIDE`].
const SIZE: [u32; 2] = [40, 36];
/// Patches of a picture.
const GRID: [usize; 2] = [4, 4];

fn scenes_bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench { folder };
    backbone(&bench.path("backbone.safetensors"));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (part, count) in [("train", 36), ("val", 8), ("test", 6)] {
        scenes(&bench.path("scenes").join(part), count, SIZE, &mut rng);
    }
    fs::write(bench.path("scenes/labels.txt"), LABELS.join("\n")).unwrap();
    bench
}

fn options(bench: &Bench, out: &str) -> Options {
    let mut options = bench.options(out);
    options.data = bench.path("scenes");
    options.recipe.task = Task::Segmentation;
    options
}

fn merge<'a>(options: &'a Options, outcome: &'a Outcome) -> Merge<'a> {
    Merge {
        backbone: &options.backbone,
        adapters: &outcome.adapters,
        pictures: None,
        strength: 1.0,
        free_batch: false,
        merge_tokens: None,
        quantize: None,
    }
}

#[test]
fn shapes_are_segmented_and_the_device_says_what_the_trainer_said() {
    let bench = scenes_bench();
    let mut options = options(&bench, "run");
    options.recipe.epochs = 60;
    options.probe = true;
    let (outcome, records) = trained(&options);
    let kept = outcome.kept.unwrap();
    let miou = kept.val_miou.unwrap();
    // The ground alone has about three quarters of the pixels, which is a mean overlap of a quarter.
    assert!(miou > 0.4 && kept.val_top1 > 0.78, "{kept:?}");
    assert!(matches!(records[0], Record::Run { task: Task::Segmentation, train: 36, val: 8, classes: 3, .. }));
    assert!(!records.iter().any(|record| matches!(record, Record::Probe(_))));
    let log = fs::read_to_string(bench.path("run/log.csv")).unwrap();
    let columns: Vec<usize> = log.lines().map(|line| line.split(',').count()).collect();
    assert!(log.starts_with("epoch,train_loss,val_loss,val_top1,kept,seconds,val_miou\n"), "{log}");
    assert_eq!(columns, [7; 61]);

    let file = adapter::File::read(&outcome.adapters).unwrap();
    assert_eq!((file.meta.task, file.meta.format_version), (Task::Segmentation, 2));
    assert_eq!(file.meta.labels, LABELS);
    let merged = merge(&options, &outcome).run().unwrap();
    assert!(merged.difference.relative < 1e-5, "{:e}", merged.difference.relative);
    let model = Segmenter::from_bytes(&merged.bytes).unwrap();
    assert_eq!(model.bundle().task, edge_vit::Task::Segmentation { grid: GRID });
    assert!(model.self_test().unwrap().passed());
    assert_eq!(model.self_test().unwrap().cases.len(), 3);
    assert_eq!(model.bundle().rejection, None);

    let measured = |part: &str| {
        let listing = MaskedListing::read(&bench.path("scenes").join(part)).unwrap();
        let (part, set) = listing.to_measure(&model.bundle().labels).unwrap();
        segmentation::evaluate(&model, part, &set, &|_| ()).unwrap()
    };
    let val = measured("val");
    // Single pixels on a border may fall to the other side of it.
    assert!((val.mean_iou - f64::from(miou)).abs() < 1e-3, "{} {miou}", val.mean_iou);
    assert!((val.pixel_accuracy - f64::from(kept.val_top1)).abs() < 1e-3);
    let test = measured("");
    assert_eq!((test.part, test.pictures, test.skipped.len()), (Part::Test, 6, 0));
    assert!(test.mean_iou > 0.35 && test.classes.iter().all(|class| class.iou > Some(0.15)), "{test:?}");
    let text = segmentation::to_text(&test);
    assert!(text.contains("mean IoU") && LABELS.iter().all(|label| text.contains(label)), "{text}");

    let file = bench.path("model.onnx");
    fs::write(&file, &merged.bytes).unwrap();
    let sources = Sources { run: &options.out, model: &file, plain: &file, data: None, token_curve: false };
    let report = Report::gather(sources, &|_, _| ()).unwrap();
    let page = report.to_html();
    assert_well_formed(&page);
    let measured = format!("{:.1} %", 100.0 * test.mean_iou);
    for part in
        ["Test mean IoU", &measured, "Validation mean IoU by epoch", "The masks that fit least", "a mean IoU of"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 2 * 6);
    let card = report.to_card();
    assert!(card.contains(&measured) && card.contains("pipeline_tag: image-segmentation"), "{card}");
}

#[test]
fn masks_finer_than_patches_fit_better_and_the_device_gives_them() {
    let bench = scenes_bench();
    let fitted = |mask_scale: usize| {
        let mut options = options(&bench, &format!("run{mask_scale}"));
        (options.recipe.epochs, options.recipe.mask_scale) = (40, mask_scale);
        let (outcome, _) = trained(&options);
        let merged = merge(&options, &outcome).run().unwrap();
        assert!(merged.difference.relative < 1e-5, "{:e}", merged.difference.relative);
        (outcome.kept.unwrap().val_miou.unwrap(), Segmenter::from_bytes(&merged.bytes).unwrap())
    };
    let ((coarse, _), (fine, model)) = (fitted(1), fitted(2));
    assert!(fine > coarse + 0.02, "{fine} {coarse}");
    assert_eq!(model.bundle().task, edge_vit::Task::Segmentation { grid: GRID.map(|side| 2 * side) });
    assert!(model.self_test().unwrap().passed());
    let (part, set) =
        MaskedListing::read(&bench.path("scenes/val")).unwrap().to_measure(&model.bundle().labels).unwrap();
    let measured = segmentation::evaluate(&model, part, &set, &|_| ()).unwrap();
    assert!((measured.mean_iou - f64::from(fine)).abs() < 1e-3, "{} {fine}", measured.mean_iou);

    // Another grid is another head: neither begins with the other's, nor goes on with its run.
    let mut other = options(&bench, "run2");
    (other.recipe.epochs, other.recipe.mask_scale, other.resume) = (41, 4, true);
    let error = run(&other, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("mask_scale: 2 -> 4"), "{error}");
}

#[test]
fn the_file_gives_the_logits_of_the_trained_graph() {
    let bench = scenes_bench();
    let mut options = options(&bench, "run");
    options.recipe.epochs = 2;
    let (outcome, _) = trained(&options);
    let model = Segmenter::from_bytes(&merge(&options, &outcome).run().unwrap().bytes).unwrap();
    let file = adapter::File::read(&outcome.adapters).unwrap();
    let backbone = backbone::load(&options.backbone, Some([SIDE, SIDE])).unwrap();
    let graph = file.apply(&backbone.graph, &backbone.sha256).unwrap();
    let mut engine = crate::cpu::CpuEngine::<f32>::new(&graph, &BTreeSet::new()).unwrap();
    let preprocessing: edge_vit::Preprocessing = serde_json::from_value(file.meta.preprocessing).unwrap();
    for n in 0..6 {
        let picture = edge_vit::open_picture(bench.path(&format!("scenes/test/images/{n:02}.png"))).unwrap();
        let expected = engine.forward(&preprocessing.apply(&picture), 1).unwrap();
        let logits = model.logits(&picture).unwrap();
        let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        assert_eq!((logits.len(), expected.len()), (48, 48));
        let worst = logits.iter().zip(&expected).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst < 1e-4 * largest, "{worst} of {largest}");
        let mask = model.segment(&picture).unwrap();
        assert_eq!([mask.width(), mask.height()], SIZE);
        assert_eq!(mask, Mask::from_logits(&logits, GRID, [SIZE[1], SIZE[0]]).unwrap());
    }
}

#[test]
fn every_kind_of_method_segments() {
    let bench = scenes_bench();
    for (run, adapters) in [
        Adaptation::Method(MethodSpec::Linear),
        Adaptation::Method(MethodSpec::Lora { rank: 4, alpha: 4.0, targets: LoraTarget::queries_and_values() }),
        Adaptation::Method(MethodSpec::Full),
    ]
    .into_iter()
    .enumerate()
    {
        let mut options = options(&bench, &run.to_string());
        options.recipe.adapters = adapters.clone();
        let (outcome, records) = trained(&options);
        let losses = losses(&records);
        assert!(losses[losses.len() - 1] < losses[0], "{adapters:?}: {losses:?}");
        merge(&options, &outcome).run().unwrap();
    }
    let mut adaptformer = options(&bench, "adaptformer");
    adaptformer.recipe.adapters = Adaptation::Comparison(Comparison::Adaptformer { hidden: 4, scale: 0.5 });
    trained(&adaptformer);
    let mut prompts = options(&bench, "prompts");
    prompts.recipe.adapters = Adaptation::Comparison(Comparison::Vpt { tokens: 3 });
    let error = run(&prompts, &mut |_| ()).unwrap_err();
    assert!(matches!(error, TrainError::Tokens { method: "vpt" }), "{error}");
}

#[test]
fn mirrored_pictures_are_learned_with_mirrored_masks() {
    let bench = scenes_bench();
    let with = |out: &str, flip: f64| {
        let mut options = options(&bench, out);
        (options.recipe.augment.flip, options.recipe.epochs, options.recipe.dropout) = (flip, 1, 0.0);
        options.recipe.drop_path = 0.0;
        losses(&trained(&options).1)
    };
    // Before the first step the head is zero and all classes are as likely, whichever way a picture lies.
    let (plain, flipped) = (with("plain", 0.0), with("flipped", 1.0));
    assert!((plain[0] - flipped[0]).abs() < 1e-5, "{plain:?} {flipped:?}");
    assert!(plain[1] != flipped[1]);

    // Pictures that are all mirrored, on disk or while training, are the same pictures.
    for folder in ["images", "masks"] {
        for file in fs::read_dir(bench.path("scenes/train").join(folder)).unwrap() {
            let path = file.unwrap().path();
            match folder {
                "images" => image::imageops::flip_horizontal(&image::open(&path).unwrap()).save(&path).unwrap(),
                _ => {
                    let mask = Mask::from_png(&fs::read(&path).unwrap()).unwrap();
                    let rows = mask.classes().chunks(SIZE[0] as usize);
                    let classes = rows.flat_map(|row| row.iter().rev()).copied().collect();
                    let mirrored = Mask::new(SIZE[0], SIZE[1], classes).unwrap();
                    fs::write(&path, mirrored.to_png().unwrap()).unwrap();
                }
            }
        }
    }
    let on_disk = with("on-disk", 0.0);
    for (on_disk, flipped) in on_disk.iter().zip(&flipped) {
        // Resizing is not mirrored to the last bit of a pixel.
        assert!((on_disk / flipped - 1.0).abs() < 1e-2, "{on_disk} {flipped}");
    }
}

#[test]
fn a_stopped_run_of_masks_goes_on_to_the_bit() {
    let bench = scenes_bench();
    let (whole, records) = trained(&options(&bench, "whole"));
    let parts = options(&bench, "parts");
    let stop = Arc::clone(&parts.stop);
    run(&parts, &mut |record| {
        if matches!(record, Record::Step { step: 4, .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    })
    .unwrap();
    parts.stop.store(false, Ordering::Relaxed);
    let (rest, later) = trained(&Options { resume: true, ..parts });
    assert_eq!(rest.kept, whole.kept);
    assert_eq!(losses(&later), losses(&records)[4..]);

    let mask = bench.path("scenes/train/masks/00.png");
    fs::copy(bench.path("scenes/train/masks/01.png"), &mask).unwrap();
    let other = Options { resume: true, ..options(&bench, "parts") };
    assert!(run(&other, &mut |_| ()).unwrap_err().to_string().contains("pictures_sha256"));
}

#[test]
fn what_fewer_bits_cost_is_measured_on_masks_that_were_not_trained_on() {
    let bench = scenes_bench();
    // The validation pictures of a folder of its own, and those that the split set apart.
    for (data, name, pictures) in [("scenes", "folders", 8), ("scenes/train", "split", 9)] {
        let mut options = options(&bench, name);
        options.data = bench.path(data);
        options.recipe.epochs = 8;
        options.recipe.val_fraction = 0.25;
        let (outcome, records) = trained(&options);
        let named = bench.path("scenes/val");
        let others = ["scenes/test", "scenes/train"].map(|folder| bench.path(folder));
        let plain = merge(&options, &outcome);
        let bits = |bits, calibrate| Quantize { bits, calibrate, max_drop: 5.0 };
        let kept = records.iter().rev().find_map(|record| match record {
            Record::Epoch { val_miou, kept: true, .. } => *val_miou,
            _ => None,
        });
        let merged = Merge { quantize: Some(bits(Bits::Int8, None)), ..plain }.run().unwrap();
        let Quantized { record, layers } = merged.quantized.unwrap();
        let measured = record.measured.unwrap();
        assert_eq!(measured.pictures, pictures);
        assert!((measured.float32_accuracy - f64::from(kept.unwrap())).abs() < 1e-3, "{measured:?} {kept:?}");
        assert!(measured.drop <= 5.0 && measured.agreement > 0.9, "{measured:?}");
        assert!(record.int8_layers > 0 && record.int8_layers <= layers.len());
        let model = Segmenter::from_bytes(&merged.bytes).unwrap();
        assert!(model.self_test().unwrap().passed());
        assert!(merged.bytes.len() < plain.run().unwrap().bytes.len());

        let half = Merge { quantize: Some(bits(Bits::F16, Some(&named))), ..plain }.run().unwrap();
        let measured = half.quantized.unwrap().record.measured.unwrap();
        assert!(measured.pictures == 8 && measured.agreement > 0.99, "{measured:?}");
        for folder in &others {
            let error = Merge { quantize: Some(bits(Bits::Int8, Some(folder))), ..plain }.run().unwrap_err();
            let refused = |error: &SegmentationError| matches!(error, SegmentationError::NothingToChooseBy { path } if path == folder);
            assert!(
                matches!(&error, MergeError::Quantize(QuantizeError::Segmentation(error)) if refused(error)),
                "{error}"
            );
        }
    }
}

#[test]
fn what_cannot_be_segmented_says_why() {
    let bench = scenes_bench();
    let refused = |options: &Options| run(options, &mut |_| {}).unwrap_err();
    let mask = bench.path("scenes/train/masks/03.png");
    let whole = fs::read(&mask).unwrap();
    fs::write(&mask, Mask::new(SIZE[0], SIZE[1], vec![9; 40 * 36]).unwrap().to_png().unwrap()).unwrap();
    let error = refused(&options(&bench, "value"));
    assert!(matches!(&error, TrainError::Masks(SegmentationError::Mask { .. })), "{error}");
    assert!(error.to_string().contains("03.png: the value 9 at column 0, row 0"), "{error}");
    // A mask without any class leaves its picture out of the loss, and harms nothing.
    fs::write(&mask, Mask::new(SIZE[0], SIZE[1], vec![NO_CLASS; 40 * 36]).unwrap().to_png().unwrap()).unwrap();
    let mut single = options(&bench, "single");
    (single.recipe.batch_size, single.recipe.epochs) = (1, 1);
    let (_, records) = trained(&single);
    assert_eq!(losses(&records).iter().filter(|&&loss| loss == 0.0).count(), 1);
    fs::write(&mask, whole).unwrap();

    let mut crop = options(&bench, "crop");
    crop.recipe.augment.crop = Some(0.5);
    assert!(refused(&crop).to_string().contains("--crop"));
    let (outcome, _) =
        trained(&Options { recipe: Recipe { epochs: 1, ..options(&bench, "x").recipe }, ..options(&bench, "run") });
    let options = options(&bench, "run");
    let plain = merge(&options, &outcome);
    let error = Merge { merge_tokens: Some(2), ..plain }.run().unwrap_err();
    assert!(matches!(error, MergeError::Tokens(TokenError::Output { .. })), "{error}");
    let bytes = plain.run().unwrap().bytes;
    let error = edge_vit::Classifier::from_bytes(&bytes).unwrap_err().to_string();
    assert_eq!(error, "this is a model for segmentation, and one for classification is needed here");
    assert!(matches!(ModelFile::from_bytes(&bytes), Ok(ModelFile::Segmenter(_))));
}
