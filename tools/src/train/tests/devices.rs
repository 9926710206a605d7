//! Whole runs where losses come late, and where activations are computed again.

use super::*;

/// The bench's options on a GPU; `None`, with the reason on stderr, where there is none.
fn on_gpu(bench: &Bench, out: &str) -> Option<Options> {
    if crate::gpu::adapters().is_empty() {
        eprintln!("skipped: there is no graphics adapter on this machine");
        return None;
    }
    let mut options = Options { device: DeviceChoice::Gpu(None), ..bench.options(out) };
    (options.recipe.epochs, options.recipe.ema) = (2, Some(0.9));
    Some(options)
}

fn steps(records: &[Record]) -> Vec<u64> {
    let step = |record: &Record| if let Record::Step { step, .. } = record { Some(*step) } else { None };
    records.iter().filter_map(step).collect()
}

#[test]
fn a_run_whose_losses_come_late_is_logged_in_order_and_goes_on_to_the_bit() {
    let bench = Bench::new();
    let Some(options) = on_gpu(&bench, "whole") else { return };
    let (whole, whole_records) = trained(&options);
    assert_eq!(steps(&whole_records), (1..=10).collect::<Vec<_>>());
    let kinds: Vec<&str> = whole_records
        .iter()
        .map(|record| match record {
            Record::Step { .. } => "step",
            Record::Epoch { .. } => "epoch",
            _ => "other",
        })
        .collect();
    assert_eq!(
        kinds[1..7],
        ["step", "step", "step", "step", "step", "epoch"],
        "an epoch's losses are all told at its end"
    );
    for record in &whole_records {
        if let Record::Epoch { epoch, train_loss, .. } = record {
            let of_epoch = &losses(&whole_records)[5 * (*epoch as usize - 1)..][..5];
            let mean = of_epoch.iter().map(|&loss| f64::from(loss)).sum::<f64>() / 5.0;
            assert_eq!(*train_loss, mean as f32);
        }
    }

    let options = on_gpu(&bench, "parts").unwrap();
    let stop = Arc::clone(&options.stop);
    let mut records = Vec::new();
    let stopped = run(&options, &mut |record| {
        if matches!(record, Record::Step { step: 2, .. }) {
            stop.store(true, Ordering::Relaxed);
        }
        records.push(record);
    });
    let stopped = stopped.unwrap();
    assert!(stopped.interrupted && (2..5).contains(&stopped.steps), "{stopped:?}");
    assert_eq!(steps(&records), (1..=stopped.steps).collect::<Vec<_>>(), "what was taken is told");
    options.stop.store(false, Ordering::Relaxed);
    let (parts, rest) = trained(&Options { resume: true, ..options });
    records.extend(rest);
    assert_eq!(losses(&records), losses(&whole_records));
    assert_eq!(parts.kept, whole.kept);
    let last = |out: &str| Saved::read(&bench.path(out).join("last.safetensors")).unwrap();
    let (parts, whole) = (last("parts"), last("whole"));
    assert_eq!((parts.engine, parts.average), (whole.engine, whole.average));
}

#[test]
fn a_loss_that_comes_late_and_is_not_finite_ends_the_run_before_anything_is_saved() {
    let bench = Bench::new();
    let Some(mut options) = on_gpu(&bench, "run") else { return };
    (options.recipe.lr, options.recipe.warmup_epochs) = (1e38, Some(0.0));
    let mut told = Vec::new();
    let error = run(&options, &mut |record| told.push(record)).unwrap_err();
    let TrainError::Diverged { loss, step, .. } = error else { panic!("{error}") };
    assert!(!loss.is_finite() && step > 1);
    assert_eq!(steps(&told), (1..step).collect::<Vec<_>>(), "the steps before it are told");
    for file in ["last.safetensors", "adapters.safetensors"] {
        assert!(!bench.path("run").join(file).exists(), "{file}");
    }
}

/// Every architecture, with adapters and with all of its weights trained.
#[test]
fn checkpoints_change_no_bit_of_a_run() {
    for name in ["tiny", "timm_swin", "timm_swinv2", "timm_convnext", "timm_convnextv2", "timm_mobilevit_short"] {
        let bench = Bench::new();
        if name != "tiny" {
            let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures");
            fs::copy(fixtures.join(format!("{name}.safetensors")), bench.path("backbone.safetensors")).unwrap();
        }
        let method = MethodSpec::Lora { rank: 2, alpha: 2.0, targets: BTreeSet::from(LoraTarget::ALL) };
        let convolutions = name.starts_with("timm_convnext");
        let methods = [MethodSpec::Full, if convolutions { MethodSpec::Ssf } else { method }];
        let adaptations =
            methods.map(Adaptation::Method).into_iter().chain([Adaptation::Adapters(Spec::default())]).enumerate();
        for (run, adaptation) in adaptations {
            let of = |checkpoint_activations: bool| {
                let mut options = bench.options(&format!("{run}-{checkpoint_activations}"));
                (options.recipe.epochs, options.recipe.adapters) = (1, adaptation.clone());
                let (outcome, records) = trained(&Options { checkpoint_activations, ..options });
                let tensors = adapter::File::read(&outcome.adapters).unwrap().tensors;
                (losses(&records), tensors)
            };
            assert_eq!(of(true), of(false), "{name}, {adaptation:?}");
        }
    }
}
