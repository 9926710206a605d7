//! Whether both sides compute the same.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, ensure};
use edge_vit_models::Tensor;

use crate::Side;
use crate::case::Case;

/// How far apart a loss may be, of its value, and a gradient, of its tensor's largest value.
pub(crate) const TOLERANCE: f32 = 1e-4;
/// Steps whose losses are compared besides: what the optimiser did shows from the second one on.
const STEPS: usize = 3;

/// How far apart they are.
pub(crate) struct Agreement {
    /// Of the loss's value.
    loss: f32,
    /// Of the largest value of that gradient which is the farthest apart.
    gradient: f32,
    /// The weight that it is of.
    worst: String,
    gradients: usize,
    /// Of the losses' values, over the steps.
    steps: f32,
}

/// Compares losses and gradients, then the losses of a few steps, which also have all kernels compiled.
///
/// # Errors
/// When a side fails, or they are farther apart than [`TOLERANCE`].
pub(crate) fn check(sides: &mut [Box<dyn Side>; 2], case: &Case) -> anyhow::Result<Agreement> {
    let [ours, theirs] = sides;
    let (our_loss, our_gradients) = ours.gradients(case)?;
    eprintln!("{}: loss {our_loss}, {} gradients", ours.name(), our_gradients.len());
    let (their_loss, their_gradients) = theirs.gradients(case)?;
    eprintln!("{}: loss {their_loss}, {} gradients", theirs.name(), their_gradients.len());
    let (gradient, worst) = farthest(&our_gradients, &their_gradients)?;
    let loss = apart(our_loss, their_loss);
    eprintln!("apart: loss {loss:.2e}, gradients {gradient:.2e} ({worst})");
    ensure!(loss <= TOLERANCE, "losses are {loss:.2e} of their value apart: {our_loss} and {their_loss}");
    ensure!(gradient <= TOLERANCE, "the gradients of `{worst}` are {gradient:.2e} of their largest value apart");
    let mut steps = 0f32;
    for step in 0..STEPS {
        let [ours, theirs] = [ours.step(case)?, theirs.step(case)?];
        eprintln!("step {step}: losses {ours} and {theirs}");
        steps = steps.max(apart(ours, theirs));
    }
    ensure!(steps <= TOLERANCE, "the losses of {STEPS} steps are up to {steps:.2e} of their value apart");
    Ok(Agreement { loss, gradient, worst, gradients: our_gradients.len(), steps })
}

fn apart(ours: f32, theirs: f32) -> f32 {
    let apart = (ours - theirs).abs() / ours.abs().max(f32::MIN_POSITIVE);
    // A comparison with NaN is false; what cannot be compared does not agree.
    if apart.is_nan() { f32::INFINITY } else { apart }
}

/// The largest difference of two gradients of one weight, of the gradient's largest value, and that weight.
fn farthest(ours: &BTreeMap<String, Tensor>, theirs: &BTreeMap<String, Tensor>) -> anyhow::Result<(f32, String)> {
    let mut worst = (0f32, String::new());
    for (name, ours) in ours {
        let theirs = theirs.get(name).with_context(|| format!("burn has no gradient of `{name}`"))?;
        ensure!(ours.shape() == theirs.shape(), "`{name}` is {:?} and {:?}", ours.shape(), theirs.shape());
        let largest = ours.values().iter().fold(0f32, |largest, value| largest.max(value.abs()));
        ensure!(largest > 0.0, "the gradient of `{name}` is zero, and shows nothing");
        let pairs = ours.values().iter().zip(theirs.values());
        let difference = pairs.fold(0f32, |most, (ours, theirs)| {
            let difference = (ours - theirs).abs();
            if difference.is_nan() { f32::INFINITY } else { most.max(difference) }
        });
        if difference / largest > worst.0 {
            worst = (difference / largest, name.clone());
        }
    }
    ensure!(ours.len() == theirs.len(), "{} gradients, and {} of burn", ours.len(), theirs.len());
    Ok(worst)
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loss, gradient, worst, gradients, steps } = self;
        write!(
            f,
            "Losses apart by {loss:.1e} of their value, {gradients} gradients by at most {gradient:.1e} of their tensor's largest value \
             (`{worst}`), losses of {STEPS} steps by at most {steps:.1e}."
        )
    }
}
