//! AdamW as `torch.optim.AdamW`: decoupled decay, then the step along the bias-corrected moments.

use super::Real;
use crate::engine::Hyper;

/// A trained weight's moments.
#[derive(Debug, Clone)]
pub(crate) struct Moments<T> {
    /// Running mean of the gradient.
    pub(crate) m: Vec<T>,
    /// Running mean of the squared gradient.
    pub(crate) v: Vec<T>,
}

impl<T: Real> Moments<T> {
    /// Those before the first step.
    pub(super) fn zero(len: usize) -> Self {
        Self { m: vec![T::ZERO; len], v: vec![T::ZERO; len] }
    }

    /// The `step`-th step, counted from 1, on `weight`.
    pub(crate) fn step(&mut self, weight: &mut [T], gradient: &[T], hyper: &Hyper, step: u64) {
        let [lr, decay, beta1, beta2] = [hyper.lr, hyper.weight_decay, hyper.beta1, hyper.beta2].map(f64::from);
        // Beyond this many steps the powers are 0 for every beta that float32 can hold below 1.
        let power = |beta: f64| beta.powi(i32::try_from(step).unwrap_or(i32::MAX));
        let keep = T::from_f64(1.0 - lr * decay);
        let (new1, keep2, new2) = (T::from_f64(1.0 - beta1), T::from_f64(beta2), T::from_f64(1.0 - beta2));
        let size = T::from_f64(lr / (1.0 - power(beta1)));
        let root = T::from_f64((1.0 - power(beta2)).sqrt());
        let eps = T::from_f32(hyper.eps);
        let moments = self.m.iter_mut().zip(&mut self.v);
        for ((weight, &gradient), (m, v)) in weight.iter_mut().zip(gradient).zip(moments) {
            *m += (gradient - *m) * new1;
            *v = *v * keep2 + gradient * gradient * new2;
            *weight = *weight * keep - size * *m / (v.sqrt() / root + eps);
        }
    }
}
