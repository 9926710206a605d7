use proptest::prelude::*;
use tract_core::prelude::f16;

use super::super::{Activation, each, noise};
use super::*;

/// Rows times weights, with what all paths make of them.
struct Case {
    rows: usize,
    depth: usize,
    input: Vec<f32>,
    matrix: Vec<f16>,
    bias: Vec<f32>,
    before: Option<Vec<f32>>,
}

impl Case {
    fn new([rows, depth, columns]: [usize; 3], accumulate: bool, seed: u32) -> Self {
        let mut values = noise(seed);
        let (input, bias) = (values(rows * depth), values(columns));
        let matrix = values(depth * columns).into_iter().map(f16::from_f32).collect();
        let before = accumulate.then(|| values(rows * columns));
        Self { rows, depth, input, matrix, bias, before }
    }

    fn weights(&self, path: Path) -> Weights {
        let bits = each(|p, j| self.matrix[p * self.bias.len() + j].to_bits());
        Weights::pack_halves(self.depth, &self.bias, Some(path), bits).unwrap()
    }

    fn run(&self, weights: &Weights) -> Vec<f32> {
        let mut out = self.before.clone().unwrap_or_else(|| vec![0.0; self.rows * self.bias.len()]);
        let (activation, accumulate, scratch) = (Activation::Identity, self.before.is_some(), &mut Vec::new());
        Product { input: &self.input, weights, activation, accumulate, out: &mut out, scratch }.run();
        out
    }

    /// What `row` and `column` give, by `sum` of pairs of a value and a weight.
    fn each(&self, sum: impl Fn(&[f32], &[f16]) -> f64) -> Vec<f64> {
        let columns = self.bias.len();
        let value = |place: usize| {
            let (row, column) = (place / columns, place % columns);
            let weights: Vec<f16> = (0..self.depth).map(|p| self.matrix[p * columns + column]).collect();
            let product = sum(&self.input[row * self.depth..][..self.depth], &weights);
            self.before.as_ref().map_or(0.0, |before| f64::from(before[place])) + product + f64::from(self.bias[column])
        };
        (0..self.rows * columns).map(value).collect()
    }

    /// In float64.
    fn exact(&self) -> Vec<f64> {
        let product = |(value, weight): (&f32, &f16)| f64::from(*value) * weight.to_f64();
        self.each(|row, weights| row.iter().zip(weights).map(product).sum())
    }

    /// As the module says, one operation after the other.
    fn by_definition(&self, half: Half) -> Vec<f64> {
        self.each(|row, weights| {
            let factor = half.factor(row.iter().fold(0.0, |most: f32, value| most.max(value.abs())));
            let mut total = 0.0_f32;
            for (row, weights) in row.chunks(DEPTH).zip(weights.chunks(DEPTH)) {
                let sum = row.iter().zip(weights).fold(f16::ZERO, |sum, (value, weight)| {
                    let value = f16::from_f32(value * factor);
                    // float64 holds the product, and all of the sum that matters.
                    f16::from_f64(value.to_f64() * weight.to_f64() + sum.to_f64())
                });
                total += sum.to_f32();
            }
            f64::from(total) / f64::from(factor)
        })
    }
}

fn paths() -> Vec<Path> {
    let native = Path::of(crate::HalfProducts::WhereNative);
    [Some(Path::Rounded), native].into_iter().flatten().collect()
}

/// The share of `values` that are `expected`, but for float32's rounding of the last sums.
fn alike(values: &[f32], expected: &[f64]) -> f64 {
    let is_alike =
        |(value, expected): &(&f32, &f64)| (f64::from(**value) - **expected).abs() <= 1e-6 * (1.0 + expected.abs());
    values.iter().zip(expected).filter(is_alike).count() as f64 / values.len() as f64
}

#[test]
fn sums_are_rounded_as_the_definition_rounds_them() {
    let case = Case::new([19, 300, 61], true, 11);
    for path in paths() {
        let weights = case.weights(path);
        let out = case.run(&weights);
        let by_definition = alike(&out, &case.by_definition(weights.half.unwrap()));
        // What has no such instructions rounds twice, which is seen where the first comes to the middle.
        let least = if matches!(path, Path::Rounded) { 0.9 } else { 1.0 };
        assert!(by_definition >= least, "{}: {by_definition}", path.name());
        let exact = alike(&out, &case.exact());
        assert!(exact < 0.1, "{}: {exact} of the values show no rounding", path.name());
    }
}

proptest! {
    #[test]
    fn a_product_is_that_of_its_matrices_but_for_its_roundings(
        (rows, depth, columns) in (1_usize..30, 1_usize..200, 1_usize..60),
        accumulate: bool,
        seed: u32,
    ) {
        let case = Case::new([rows, depth, columns], accumulate, seed);
        let exact = case.exact();
        for path in paths() {
            for (value, exact) in case.run(&case.weights(path)).iter().zip(&exact) {
                let off = (f64::from(*value) - exact).abs();
                // The value, each product and each sum are within 2^-11 of what they stand for.
                prop_assert!(off < (depth.min(DEPTH) as f64).powf(1.5) * 2e-3, "{}: {value} {exact}", path.name());
            }
        }
    }
}

#[test]
fn rows_of_any_size_stay_within_the_range() {
    for (exponent, weight) in
        [(0, 65504.0), (60, 1.0), (60, 65504.0), (-60, 1.0), (-60, 1e-5), (120, 1e-3), (-126, 1.0)]
    {
        let mut case = Case::new([9, 130, 25], false, 3);
        // All of one sign, so that sums grow as far as they can.
        case.input.iter_mut().for_each(|value| *value = (value.abs() + 0.5) * 2_f32.powi(exponent));
        case.matrix.iter_mut().for_each(|value| *value = f16::from_f32(value.to_f32().abs() * weight));
        case.bias.fill(0.0);
        for path in paths() {
            for (value, exact) in case.run(&case.weights(path)).iter().zip(case.exact()) {
                let off = (f64::from(*value) - exact).abs() / exact;
                assert!(off < 0.02, "{}, 2^{exponent} times {weight}: {value} {exact}", path.name());
            }
        }
    }
}

#[test]
fn rows_of_zeros_and_weights_of_zeros_give_the_bias() {
    let mut case = Case::new([3, 70, 5], false, 9);
    case.input[..70].fill(0.0);
    for path in paths() {
        assert_eq!(case.run(&case.weights(path))[..5], case.bias);
        let nothing = Case { matrix: vec![f16::ZERO; case.matrix.len()], ..Case::new([3, 70, 5], false, 9) };
        assert_eq!(nothing.run(&nothing.weights(path)), [&*nothing.bias; 3].concat());
    }
}

#[test]
fn what_is_no_finite_number_stays_none_in_its_row() {
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut case = Case::new([3, 70, 5], false, 9);
        case.input[75] = wrong;
        for path in paths() {
            let out = case.run(&case.weights(path));
            assert!(out[..5].iter().chain(&out[10..]).all(|value| value.is_finite()), "{out:?}");
            assert!(out[5..10].iter().all(|value| !value.is_finite()), "{wrong}: {out:?}");
        }
    }
}
