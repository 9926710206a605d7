//! Runs in half precision, on whatever adapter there is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use edge_vit_models::adapter::Adaptation;
use edge_vit_models::method::{LoraTarget, MethodSpec};

use super::{Bench, losses, trained};
use crate::engine::Precision;
use crate::gpu::adapters;
use crate::train::record::Record;
use crate::train::state::Saved;
use crate::train::{DeviceChoice, Options, run};

/// Options for the first adapter in half precision; `None`, with the reason on stderr, where that cannot be.
fn options(bench: &Bench, out: &str) -> Option<Options> {
    if !adapters().first().is_some_and(|adapter| adapter.float16) {
        eprintln!("skipped: there is no graphics adapter with float16 on this machine");
        return None;
    }
    let mut options = Options { device: DeviceChoice::Gpu(None), ..bench.options(out) };
    options.recipe.precision = Precision::F16;
    Some(options)
}

#[test]
fn what_float32_learns_half_precision_learns() {
    let bench = Bench::new();
    let Some(mut half) = options(&bench, "half") else { return };
    half.recipe.epochs = 12;
    let mut single = Options { out: bench.path("single"), ..half.clone() };
    single.recipe.precision = Precision::F32;
    let [half, single] = [half, single].map(|options| trained(&options).0.kept.unwrap());
    assert!(single.val_top1 > 0.9, "{single:?}");
    assert!(half.val_top1 >= single.val_top1, "{half:?}, in float32 {single:?}");
    assert_ne!(half.val_loss, single.val_loss, "nothing was rounded");
}

#[test]
fn a_stopped_run_in_half_precision_goes_on_to_the_bit() {
    let bench = Bench::new();
    let Some(whole) = options(&bench, "whole") else { return };
    let parts = Options { out: bench.path("parts"), ..whole.clone() };
    let (_, expected) = trained(&whole);
    let (stop, mut records) = (Arc::clone(&parts.stop), Vec::new());
    let outcome = run(&parts, &mut |record| {
        stop.store(matches!(record, Record::Step { step: 7, .. }) || stop.load(Ordering::Relaxed), Ordering::Relaxed);
        records.push(record);
    });
    assert!(outcome.unwrap().interrupted);
    let (_, rest) = trained(&Options { resume: true, stop: Arc::default(), ..parts });
    records.extend(rest);
    assert_eq!(losses(&records), losses(&expected));
    let last = |out: &str| Saved::read(&bench.path(out).join("last.safetensors")).unwrap();
    assert_eq!(last("parts").engine, last("whole").engine);
    assert!(last("whole").engine.loss_scale.is_some());
}

#[test]
fn a_method_of_the_processor_is_refused_in_half_precision() {
    let bench = Bench::new();
    let Some(mut options) = options(&bench, "run") else { return };
    let lora = MethodSpec::Lora { rank: 4, alpha: 4.0, targets: LoraTarget::queries_and_values() };
    options.recipe.adapters = Adaptation::Method(lora);
    let error = run(&options, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("--method lora") && error.contains("--precision f16"), "{error}");
}
