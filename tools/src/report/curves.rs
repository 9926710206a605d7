//! How the training went: loss by step and by epoch, validation top-1, learning rate.

use super::html::Element;
use super::run::{Epoch, Run};
use super::svg::{Axis, Chart, figure};

/// How many points a line keeps at most.
const POINTS: usize = 400;
/// The smoothed loss is an exponential mean over about this share of the run.
const SMOOTHED_SHARE: f64 = 0.015;

/// The charts for which the log has lines.
pub fn charts(run: &Run) -> Vec<Element> {
    let mut charts = Vec::new();
    if !run.epochs.is_empty() {
        charts.push(epoch_loss(run));
        charts.push(epoch_accuracy(run));
    }
    if !run.steps.is_empty() {
        charts.push(step_loss(run));
        charts.push(learning_rate(run));
    }
    charts
}

fn step_loss(run: &Run) -> Element {
    let points: Vec<(f64, f64)> =
        run.steps.iter().map(|(&number, step)| (number as f64, f64::from(step.loss))).collect();
    let smoothed = smooth(&points);
    let last = smoothed.last().map_or(f64::NAN, |point| point.1);
    let text = format!("Cross-entropy of the batch at each of {} steps; smoothed, it ends at {last:.3}.", points.len());
    let (x, y) = axes(&points, [0.0]);
    let chart = Chart::new("step-loss", ("Training loss by step", &text), "step", x, y, false)
        .path("faint", &thin(&points))
        .path("line a", &thin(&smoothed));
    figure("Training loss by step", &[("faint", "each batch"), ("line a", "smoothed")], chart.finish())
}

fn epoch_loss(run: &Run) -> Element {
    let train = by_epoch(run, |epoch| epoch.train_loss);
    let val = by_epoch(run, |epoch| epoch.val_loss);
    let text = match (train.last(), val.last()) {
        (Some(train), Some(val)) => {
            format!("After {} epochs: training {:.3}, validation {:.3}.", train.0, train.1, val.1)
        }
        _ => String::new(),
    };
    let all: Vec<(f64, f64)> = train.iter().chain(&val).copied().collect();
    let (x, y) = axes(&all, [0.0]);
    let chart = Chart::new("epoch-loss", ("Loss by epoch", &text), "epoch", x, y, false);
    let chart = with_line(with_line(mark_kept(run, chart), "a", &train), "b", &val);
    figure("Loss by epoch", &[("line a", "training"), ("line b", "validation")], chart.finish())
}

fn epoch_accuracy(run: &Run) -> Element {
    let overlap = run.epochs.values().any(|epoch| epoch.val_miou.is_some());
    let of = |epoch: &Epoch| if overlap { epoch.val_miou.unwrap_or(f32::NAN) } else { epoch.val_top1 };
    let points = by_epoch(run, of);
    let text = match run.kept() {
        Some((number, epoch)) => {
            format!("It is {:.2} % in epoch {number}, whose adapters were kept.", of(epoch) * 100.0)
        }
        None => "No epoch was marked as kept.".to_owned(),
    };
    let (x, y) = axes(&points, []);
    let title = if overlap { "Validation mean IoU by epoch" } else { "Validation top-1 by epoch" };
    let chart = Chart::new("val-accuracy", (title, &text), "epoch", x, y.at_most(1.0), true);
    figure(title, &[("line b", "validation")], with_line(mark_kept(run, chart), "b", &points).finish())
}

fn learning_rate(run: &Run) -> Element {
    let points: Vec<(f64, f64)> = run.steps.iter().map(|(&number, step)| (number as f64, f64::from(step.lr))).collect();
    let peak = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let text = format!("The highest learning rate is {peak:.2e}.");
    let (x, y) = axes(&points, [0.0]);
    let chart = Chart::new("learning-rate", ("Learning rate by step", &text), "step", x, y, false);
    figure("Learning rate", &[], chart.path("line c", &thin(&points)).finish())
}

fn by_epoch(run: &Run, value: impl Fn(&Epoch) -> f32) -> Vec<(f64, f64)> {
    run.epochs.iter().map(|(&number, epoch)| (f64::from(number), f64::from(value(epoch)))).collect()
}

/// Axes over the points, the upright one over `also` as well.
fn axes<const N: usize>(points: &[(f64, f64)], also: [f64; N]) -> (Axis, Axis) {
    (Axis::over(points.iter().map(|point| point.0)), Axis::over(points.iter().map(|point| point.1).chain(also)))
}

/// A line, with dots where they would not run into each other.
fn with_line(chart: Chart, class: &str, points: &[(f64, f64)]) -> Chart {
    let chart = chart.path(&format!("line {class}"), &thin(points));
    if points.len() <= 40 { chart.dots(&format!("dot {class}"), points) } else { chart }
}

fn mark_kept(run: &Run, chart: Chart) -> Chart {
    match run.kept() {
        Some((number, _)) => chart.upright(f64::from(number), &format!("kept: epoch {number}")),
        None => chart,
    }
}

/// An exponential mean without the bias of its start. What is no finite number is passed over.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let keep = 1.0 - 1.0 / (points.len() as f64 * SMOOTHED_SHARE).max(1.0);
    let (mut mean, mut weight) = (0.0, 0.0);
    let mut smoothed = Vec::with_capacity(points.len());
    for &(x, y) in points.iter().filter(|point| point.1.is_finite()) {
        mean = keep * mean + (1.0 - keep) * y;
        weight = keep * weight + (1.0 - keep);
        smoothed.push((x, mean / weight));
    }
    smoothed
}

/// At most [`POINTS`] points: of each bucket, the lowest and the highest in their order, so that spikes stay.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let size = points.len().div_ceil(POINTS / 2);
    let mut kept = Vec::with_capacity(POINTS);
    for bucket in points.chunks(size) {
        let order = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (low, high) = (bucket.iter().min_by(order), bucket.iter().max_by(order));
        let mut ends: Vec<(f64, f64)> = low.into_iter().chain(high).copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        kept.extend(ends);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_spikes_and_order() {
        let mut points: Vec<(f64, f64)> = (0..5000).map(|step| (f64::from(step), 1.0)).collect();
        points[3210].1 = 50.0;
        let thinned = thin(&points);
        assert!(thinned.len() <= POINTS);
        assert!(thinned.contains(&(3210.0, 50.0)));
        assert!(thinned.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn smoothing_leaves_a_constant_and_passes_over_what_is_no_number() {
        let mut points: Vec<(f64, f64)> = (0..200).map(|step| (f64::from(step), 2.0)).collect();
        points[7].1 = f64::NAN;
        let smoothed = smooth(&points);
        assert_eq!(smoothed.len(), 199);
        assert!(smoothed.iter().all(|point| (point.1 - 2.0).abs() < 1e-12));
    }
}
