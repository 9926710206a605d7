//! Whole runs with all that a recipe may ask for.

use super::*;
use crate::train::augment::{Augment, Mix, RandAugment};
use crate::train::series::{SCALES, Spread, search, seeds};

/// Everything that draws random numbers, and the average.
fn everything() -> Recipe {
    let augment = Augment {
        flip: 0.5,
        crop: Some(0.5),
        rand_augment: Some(RandAugment::default()),
        color_jitter: 0.2,
        erase: 0.25,
        mix: Mix { mixup: 0.8, cutmix: 1.0, ..Mix::default() },
    };
    Recipe { augment, label_smoothing: 0.1, sampler: Sampler::Balanced, ema: Some(0.9), ..Recipe::default() }
}

/// The bench's options with the recipe's optimisation kept short.
fn short(bench: &Bench, out: &str, recipe: Recipe) -> Options {
    let options = bench.options(out);
    let Recipe { image_size, epochs, batch_size, lr, .. } = options.recipe;
    Options { recipe: Recipe { image_size, epochs, batch_size, lr, ..recipe }, ..options }
}

fn last(bench: &Bench, out: &str) -> Saved {
    Saved::read(&bench.path(out).join("last.safetensors")).unwrap()
}

fn tensors(outcome: &Outcome) -> BTreeMap<String, Tensor> {
    adapter::File::read(&outcome.adapters).unwrap().tensors
}

#[test]
fn an_augmented_and_averaged_run_goes_on_to_the_bit() {
    let bench = Bench::new();
    let (whole, whole_records) = trained(&short(&bench, "whole", everything()));
    let mut records = Vec::new();
    // Within the first epoch, right after the second epoch's last step, and within the third.
    for stop_at in [3, 10, 12] {
        let options = Options { resume: stop_at > 3, ..short(&bench, "parts", everything()) };
        let stop = Arc::clone(&options.stop);
        let outcome = run(&options, &mut |record| {
            if matches!(record, Record::Step { step, .. } if step == stop_at) {
                stop.store(true, Ordering::Relaxed);
            }
            records.push(record);
        });
        assert!(outcome.unwrap().interrupted);
    }
    let (parts, rest) = trained(&Options { resume: true, ..short(&bench, "parts", everything()) });
    records.extend(rest);
    assert_eq!(losses(&records), losses(&whole_records));
    assert_eq!((parts.kept, tensors(&parts)), (whole.kept, tensors(&whole)));
    let [parts, whole] = ["parts", "whole"].map(|out| last(&bench, out));
    assert_eq!((parts.engine, parts.average), (whole.engine, whole.average));
}

#[test]
fn neither_threads_nor_room_for_pictures_change_an_augmented_run() {
    let bench = Bench::new();
    let recipe = Recipe { epochs: 2, ..everything() };
    let whole = losses(&trained(&short(&bench, "whole", recipe.clone())).1);
    let without_room = Options { cache_limit: 0, ..short(&bench, "again", recipe.clone()) };
    assert_eq!(losses(&trained(&without_room).1), whole);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap();
    let threads = pool.install(|| losses(&trained(&short(&bench, "threads", recipe.clone())).1));
    assert_eq!(threads, whole);
    let seeded = Recipe { seed: 1, ..recipe };
    assert_ne!(losses(&trained(&short(&bench, "seed", seeded)).1), whole);
}

/// Each augmentation by itself changes the losses behind the first, which is that of a head of zeros whatever it is shown.
#[test]
fn every_augmentation_reaches_the_loss() {
    let bench = Bench::new();
    let of = |out: &str, augment: Augment| {
        let recipe = Recipe { augment, dropout: 0.0, drop_path: 0.0, ..Recipe::default() };
        let mut options = short(&bench, out, recipe);
        options.recipe.epochs = 1;
        losses(&trained(&options).1)
    };
    let plain = of("plain", Augment::default());
    let mix = |mixup, cutmix| Mix { mixup, cutmix, ..Mix::default() };
    for (out, augment) in [
        ("flip", Augment { flip: 0.5, ..Augment::default() }),
        ("crop", Augment { crop: Some(0.3), ..Augment::default() }),
        ("policy", Augment { rand_augment: Some(RandAugment::default()), ..Augment::default() }),
        ("jitter", Augment { color_jitter: 0.4, ..Augment::default() }),
        ("erase", Augment { erase: 0.5, ..Augment::default() }),
        ("mixup", Augment { mix: mix(0.8, 0.0), ..Augment::default() }),
        ("cutmix", Augment { mix: mix(0.0, 1.0), ..Augment::default() }),
    ] {
        let losses = of(out, augment);
        assert_eq!(losses.len(), plain.len());
        assert!(losses[1..].iter().zip(&plain[1..]).any(|(a, b)| a != b), "{out}: {losses:?}");
    }
}

#[test]
fn the_average_is_what_is_validated_and_kept() {
    let lora = MethodSpec::Lora { rank: 4, alpha: 4.0, targets: LoraTarget::queries_and_values() };
    for adapters in [Adaptation::Adapters(Spec::default()), Adaptation::Method(lora)] {
        let bench = Bench::new();
        let mut options = short(&bench, "run", Recipe { ema: Some(0.9), adapters, ..Recipe::default() });
        options.recipe.epochs = 1;
        let (outcome, records) = trained(&options);
        let Saved { engine, average, .. } = last(&bench, "run");
        let kept = tensors(&outcome);
        assert_eq!(Some(&kept), average.as_ref());
        assert!(kept.iter().any(|(name, average)| engine.trained[name].value != *average));
        // The steps are those of a run without an average.
        let mut without = Options { out: bench.path("without"), ..options.clone() };
        without.recipe.ema = None;
        let (plain, plain_records) = trained(&without);
        assert_eq!(losses(&records), losses(&plain_records));
        assert_ne!(plain.kept, outcome.kept);
    }
}

#[test]
fn a_run_that_no_longer_gets_better_ends() {
    let bench = Bench::new();
    // A step that small changes no weight that counts.
    let mut options = short(&bench, "run", Recipe { patience: Some(2), ..Recipe::default() });
    (options.recipe.epochs, options.recipe.lr) = (9, 1e-20);
    let (outcome, _) = trained(&options);
    assert_eq!((outcome.epochs, outcome.kept.unwrap().epoch, outcome.interrupted), (3, 3, false));
    let (again, records) = trained(&Options { resume: true, ..options });
    assert_eq!((again.epochs, losses(&records).len()), (3, 0));
}

#[test]
fn a_linear_probe_is_told_before_the_first_step_and_once() {
    let bench = Bench::new();
    let mut options = Options { probe: true, ..bench.options("run") };
    options.recipe.epochs = 1;
    let probes = |records: &[Record]| {
        let probe = |record: &Record| if let Record::Probe(probe) = record { Some(*probe) } else { None };
        records.iter().filter_map(probe).collect::<Vec<_>>()
    };
    let (outcome, records) = trained(&options);
    let [probe] = probes(&records)[..] else { panic!("{records:?}") };
    assert!(matches!(records[..2], [Record::Run { .. }, Record::Probe(_)]), "{records:?}");
    // Chance is a third: a random backbone tells colours apart.
    assert!(probe.val_top1 > 0.6 && probe.val_loss > 0.0, "{probe:?}");
    let config = || -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(bench.path("run/config.json")).unwrap()).unwrap()
    };
    let written: Probe = serde_json::from_value(config()["probe"].clone()).unwrap();
    assert_eq!((written.val_top1, written.val_loss), (probe.val_top1, probe.val_loss));
    let (_, again) = trained(&Options { resume: true, ..options.clone() });
    assert!(probes(&again).is_empty());
    assert_eq!(config()["probe"]["val_top1"], written.val_top1);

    // The same features, from what the frozen blocks made of the pictures, and of a backbone that is used up whole.
    for (out, adapters) in [
        ("upper", Adaptation::Adapters(Spec { blocks: Some(1..2), ..Spec::default() })),
        ("linear", Adaptation::Method(MethodSpec::Linear)),
    ] {
        let mut upper = Options { out: bench.path(out), ..options.clone() };
        upper.recipe.adapters = adapters;
        let [other] = probes(&trained(&upper).1)[..] else { panic!("{out}") };
        assert_eq!(other.val_top1, probe.val_top1, "{out}");
        assert!((other.val_loss / probe.val_loss - 1.0).abs() < 1e-2, "{out}: {other:?} {probe:?}");
    }
    // The steps are those of a run without a probe.
    let without = Options { probe: false, out: bench.path("without"), ..options };
    let (plain, plain_records) = trained(&without);
    assert_eq!((losses(&plain_records), tensors(&plain)), (losses(&records), tensors(&outcome)));
}

#[test]
fn few_shots_train_on_as_many_of_each_class() {
    let bench = Bench::new();
    let mut options = bench.options("run");
    (options.recipe.epochs, options.recipe.shots) = (1, Some(2));
    let counts = |records: &[Record]| match records[0] {
        Record::Run { train, val, .. } => (train, val),
        _ => panic!("{records:?}"),
    };
    assert_eq!(counts(&trained(&options).1), (6, 18));
    // Without pictures set apart, others of the same folder choose the epoch.
    let plain = Options { data: bench.path("shapes/train"), out: bench.path("plain"), ..options.clone() };
    assert_eq!(counts(&trained(&plain).1), (6, 6));
    options.recipe.shots = Some(13);
    let error = run(&Options { out: bench.path("many"), ..options }, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("`disc` has 12 pictures to train on") && error.contains("--shots 13"), "{error}");
}

#[test]
fn seeds_are_run_one_after_the_other_and_gone_on_with() {
    let bench = Bench::new();
    let mut options = bench.options("series");
    options.recipe.epochs = 1;
    let stop = Arc::clone(&options.stop);
    let stopped = seeds(&options, &[4, 7], &mut |folder, record| {
        if folder == "seed-7" && matches!(record, Record::Step { step: 2, .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    let stopped = stopped.unwrap();
    assert_eq!((stopped.trials.len(), stopped.interrupted), (1, true));
    assert!(matches!(seeds(&options, &[4], &mut |_, _| {}), Err(TrainError::RunThere { .. })));

    let resume = Options { resume: true, stop: Arc::default(), ..options.clone() };
    let mut steps = Vec::new();
    let whole = seeds(&resume, &[4, 7], &mut |folder, record| {
        if let Record::Step { step, .. } = record {
            steps.push((folder.to_owned(), step));
        }
    });
    let whole = whole.unwrap();
    assert_eq!(steps.first(), Some(&("seed-7".to_owned(), 3)), "what is done is not done again");
    assert_eq!(whole.trials[0], stopped.trials[0]);
    let mut alone = bench.options("alone");
    (alone.recipe.epochs, alone.recipe.seed) = (1, 7);
    assert_eq!(whole.trials[1].kept, trained(&alone).0.kept);

    let text = fs::read_to_string(bench.path("series/seeds.json")).unwrap();
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    let spread = Spread::of(&whole, |kept| kept.val_loss).unwrap();
    assert_eq!(told["val_loss"]["mean"], spread.mean);
    assert_eq!(told["trials"][1]["settings"]["seed"], 7);
    assert!(seeds(&resume, &[4, 4], &mut |_, _| {}).unwrap_err().to_string().contains("4 twice"));
    let mut other = resume;
    other.recipe.lr = 1e-3;
    assert!(matches!(seeds(&other, &[4, 7], &mut |_, _| {}), Err(TrainError::Differs { .. })));
}

#[test]
fn a_search_keeps_the_trial_of_the_lowest_validation_loss() {
    let bench = Bench::new();
    let mut options = bench.options("search");
    options.recipe.epochs = 1;
    let found = search(&options, &mut |_, _| {}).unwrap();
    assert_eq!((found.trials.len(), found.interrupted), (SCALES.len() + 2, false));
    let best = found.best().unwrap();
    let loss = |of: &crate::train::series::Trial| of.kept.map_or(f32::INFINITY, |kept| kept.val_loss);
    assert!(found.trials.iter().all(|trial| loss(trial) >= loss(best)));
    let kept = adapter::File::read(&bench.path("search/adapters.safetensors")).unwrap();
    let of_best = adapter::File::read(&bench.path("search").join(&best.folder).join("adapters.safetensors")).unwrap();
    assert_eq!(kept.tensors, of_best.tensors);
    let text = fs::read_to_string(bench.path("search/search.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["best"], best.folder.as_str());

    let mut records = 0;
    let again = search(&Options { resume: true, ..options.clone() }, &mut |_, _| records += 1).unwrap();
    assert_eq!((again, records), (found, 0));
    let mut nothing = Options { out: bench.path("nothing"), ..options };
    nothing.recipe.adapters = Adaptation::Method(MethodSpec::Ssf);
    assert!(search(&nothing, &mut |_, _| {}).unwrap_err().to_string().contains("--search"));
}
