//! What changes from step to step, as functions of the seed and of the step alone: a resumed run needs no more than its
//! place.

use std::f64::consts::PI;

use rand::seq::SliceRandom as _;
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The last learning rate as a share of the highest, where nothing else is said.
const FLOOR: f64 = 0.01;

/// A learning rate that rises linearly, then falls along half a cosine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Highest learning rate.
    pub peak: f32,
    /// The learning rate of the first step of the rise; `None` for the first of equal steps from 0.
    pub first: Option<f32>,
    /// Last learning rate; `None` for a hundredth of the highest.
    pub last: Option<f32>,
    /// Steps in which it rises.
    pub warmup: u64,
    /// Steps of the whole run.
    pub total: u64,
}

impl Schedule {
    /// The learning rate of `step`, counted from 0.
    pub fn lr(&self, step: u64) -> f32 {
        let peak = f64::from(self.peak);
        if step < self.warmup {
            return match self.first.map(f64::from) {
                None => (peak * (step + 1) as f64 / self.warmup as f64) as f32,
                Some(first) => (first + (peak - first) * step as f64 / self.warmup as f64) as f32,
            };
        }
        let floor = self.last.map_or(FLOOR, |last| f64::from(last) / peak);
        let falling = self.total.saturating_sub(self.warmup).max(1);
        let part = ((step - self.warmup) as f64 / falling as f64).min(1.0);
        (peak * (floor + (1.0 - floor) * 0.5 * (1.0 + (PI * part).cos()))) as f32
    }
}

/// The order in which `count` pictures are seen in `epoch`, counted from 0.
pub fn epoch_order(seed: u64, epoch: u32, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut stream(seed, 2 * u64::from(epoch)));
    order
}

/// The seed of dropout and stochastic depth in `step`, counted from 0.
pub fn noise_seed(seed: u64, step: u64) -> u32 {
    stream(seed, 2 * step + 1).next_u32()
}

/// Even streams are the epochs', odd ones the steps'.
fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Stochastic-depth rates of a graph with `residuals` residual sums: rising linearly from 0 at the first to `highest` at
/// the last; empty where nothing is dropped.
pub fn drop_path_rates(highest: f32, residuals: usize) -> Vec<f32> {
    if highest <= 0.0 {
        return Vec::new();
    }
    let last = residuals.saturating_sub(1).max(1) as f32;
    (0..residuals).map(|residual| highest * residual as f32 / last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a float32 learning rate, relative.
    const F32_TOLERANCE: f32 = 1e-6;

    #[test]
    fn the_learning_rate_rises_then_falls_to_a_hundredth() {
        let schedule = Schedule { peak: 2e-3, first: None, last: None, warmup: 4, total: 104 };
        let near = |got: f32, expected: f32| assert!((got / expected - 1.0).abs() < F32_TOLERANCE, "{got} {expected}");
        near(schedule.lr(0), 5e-4);
        near(schedule.lr(3), 2e-3);
        near(schedule.lr(4), 2e-3);
        near(schedule.lr(54), 2e-3 * 0.505);
        near(schedule.lr(104), 2e-5);
        assert!((4..104).all(|step| schedule.lr(step + 1) < schedule.lr(step)));
    }

    #[test]
    fn both_ends_of_the_schedule_can_be_chosen() {
        let schedule = Schedule { peak: 1e-3, first: Some(1e-6), last: Some(1e-4), warmup: 10, total: 110 };
        let near = |got: f32, expected: f32| assert!((got / expected - 1.0).abs() < F32_TOLERANCE, "{got} {expected}");
        near(schedule.lr(0), 1e-6);
        near(schedule.lr(5), 0.5005e-3);
        near(schedule.lr(10), 1e-3);
        near(schedule.lr(60), 0.55e-3);
        near(schedule.lr(110), 1e-4);
    }

    #[test]
    fn a_run_of_warm_up_alone_divides_by_nothing() {
        let schedule = Schedule { peak: 1.0, first: None, last: None, warmup: 3, total: 3 };
        assert!((0..5).all(|step| schedule.lr(step).is_finite()));
        assert_eq!(Schedule { peak: 1.0, first: None, last: None, warmup: 0, total: 1 }.lr(0), 1.0);
    }

    #[test]
    fn every_picture_is_seen_once_an_epoch_in_another_order() {
        let (first, second) = (epoch_order(3, 0, 100), epoch_order(3, 1, 100));
        assert_ne!(first, second);
        assert_eq!(first, epoch_order(3, 0, 100));
        assert_ne!(first, epoch_order(4, 0, 100));
        let mut sorted = second;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn noise_differs_from_step_to_step() {
        let seeds: std::collections::BTreeSet<u32> = (0..100).map(|step| noise_seed(3, step)).collect();
        assert_eq!(seeds.len(), 100);
    }

    #[test]
    fn later_branches_are_dropped_more() {
        assert_eq!(drop_path_rates(0.25, 5), [0.0, 0.0625, 0.125, 0.1875, 0.25]);
        assert_eq!(drop_path_rates(0.25, 1), [0.0]);
        assert_eq!(drop_path_rates(0.0, 5), [0.0; 0]);
    }
}
