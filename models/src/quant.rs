//! Weights in fewer bits: matrices in eight with a scale a row, and values in sixteen.

use half::f16;
use thiserror::Error;

use crate::graph::Graph;
use crate::tensor::Tensor;

/// The largest magnitude of an eight-bit weight.
///
/// Processors multiply eight-bit numbers in pairs and add the two products in 16 bits, those of x86 before AVX-512's VNNI even
/// with saturation. An activation is at most 255, and `2 * 255 * 64` still fits; with weights up to 127 a sum could not.
pub const LARGEST: i8 = 64;

/// Why weights cannot be held in fewer bits.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum QuantError {
    /// The weight is no matrix.
    #[error("weight `{name}` has shape {shape:?}; a matrix [out, in] is needed for int8")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A value is infinite or no number.
    #[error("weight `{name}` holds {value}, which has no int8 form; the adapters diverged, train again")]
    NonFinite {
        /// The weight's name.
        name: String,
        /// The value.
        value: f32,
    },
    /// A value is beyond what sixteen bits hold.
    #[error("weight `{name}` holds {value}, float16 holds at most 65504; use --precision f32 or int8")]
    Overflow {
        /// The weight's name.
        name: String,
        /// The value.
        value: f32,
    },
}

/// A matrix `[out, in]` in eight bits, symmetric: row `o` is `scales[o]` times integers within ±[`LARGEST`].
#[derive(Debug, Clone, PartialEq)]
pub struct Int8Matrix {
    shape: [usize; 2],
    values: Vec<i8>,
    scales: Vec<f32>,
}

impl Int8Matrix {
    /// The nearest integers to the rows of `weight`, which is called `name`. A row's scale is its largest magnitude over
    /// [`LARGEST`], so that no value is off by more than half a scale but for float32's rounding.
    ///
    /// # Errors
    /// When the weight is no matrix, or a value is not finite.
    pub fn new(name: &str, weight: &Tensor) -> Result<Self, QuantError> {
        let &[rows, cols] = weight.shape() else {
            return Err(QuantError::Shape { name: name.to_owned(), shape: weight.shape().to_vec() });
        };
        if let Some(&value) = weight.values().iter().find(|value| !value.is_finite()) {
            return Err(QuantError::NonFinite { name: name.to_owned(), value });
        }
        let (mut values, mut scales) = (Vec::with_capacity(rows * cols), Vec::with_capacity(rows));
        for row in weight.values().chunks_exact(cols.max(1)) {
            let largest = row.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            let scale = match largest {
                0.0 => 1.0,
                // Below the smallest normal number a quotient is coarse, or not there at all.
                _ => (largest / f32::from(LARGEST)).max(f32::MIN_POSITIVE),
            };
            values.extend(row.iter().map(|value| (value / scale).round_ties_even() as i8));
            scales.push(scale);
        }
        scales.resize(rows, 1.0);
        Ok(Self { shape: [rows, cols], values, scales })
    }

    /// Rows and columns: outputs and inputs.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The integers, row-major.
    pub fn values(&self) -> &[i8] {
        &self.values
    }

    /// What each row's integers are multiplied by, above 0.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }
}

/// `value` of the weight `name` in sixteen bits, to the nearest, ties to even.
///
/// # Errors
/// When it is beyond what they hold, or no number.
pub fn to_f16(name: &str, value: f32) -> Result<f16, QuantError> {
    match f16::from_f32(value) {
        half if half.is_finite() => Ok(half),
        _ => Err(QuantError::Overflow { name: name.to_owned(), value }),
    }
}

/// Whether a weight of `shape` is held in sixteen bits where its node's weights are: vectors are small, and exact as they are.
pub fn is_halved(shape: &[usize]) -> bool {
    shape.len() > 1
}

/// `graph` with the weights that a file in float16 would hold: those of [`is_halved`] rounded to sixteen bits.
///
/// # Errors
/// When a value is beyond what sixteen bits hold.
pub fn round_to_f16(graph: &Graph) -> Result<Graph, QuantError> {
    let mut graph = graph.clone();
    for (name, tensor) in graph.weights.iter_mut().filter(|(_, tensor)| is_halved(tensor.shape())) {
        for value in tensor.values_mut() {
            *value = to_f16(name, *value)?.to_f32();
        }
    }
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrix(shape: [usize; 2], values: Vec<f32>) -> Result<Int8Matrix, QuantError> {
        Int8Matrix::new("fc.weight", &Tensor::new(shape, values).unwrap())
    }

    proptest! {
        #[test]
        fn no_value_is_off_by_more_than_half_a_step(
            (rows, cols) in (1usize..5, 1usize..9),
            values in prop::collection::vec(prop_oneof![-3f32..3.0, -1e-30f32..1e-30, any::<f32>().prop_map(|v| if v.is_finite() { v } else { 0.0 })], 32),
        ) {
            let values = values[..rows * cols].to_vec();
            let quantized = matrix([rows, cols], values.clone()).unwrap();
            for (row, (expected, got)) in values.chunks(cols).zip(quantized.values().chunks(cols)).enumerate() {
                let scale = f64::from(quantized.scales()[row]);
                let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                prop_assert!(scale > 0.0 && scale.is_finite());
                if largest >= 64.0 * f32::MIN_POSITIVE {
                    prop_assert_eq!(got.iter().map(|value| value.abs()).max(), Some(LARGEST), "all of the range is used");
                }
                for (&expected, &got) in expected.iter().zip(got) {
                    prop_assert!((-LARGEST..=LARGEST).contains(&got));
                    let error = (f64::from(expected) - scale * f64::from(got)).abs();
                    prop_assert!(error <= scale * (0.5 + 64.0 * f64::from(f32::EPSILON)), "{expected} as {got} times {scale}");
                }
            }
        }

        #[test]
        fn sixteen_bits_keep_eleven_digits_or_refuse(value in any::<f32>()) {
            match to_f16("w", value) {
                Ok(half) => {
                    let error = (f64::from(half.to_f32()) - f64::from(value)).abs();
                    prop_assert!(error <= (f64::from(value).abs() / 2048.0).max(2f64.powi(-25)), "{value}");
                }
                Err(_) => prop_assert!(value.is_nan() || value.abs() >= 65520.0),
            }
        }
    }

    #[test]
    fn each_row_has_its_scale_and_a_row_of_zeros_stays_zero() {
        let quantized = matrix([3, 2], vec![1.0, -0.5, 0.0, 0.0, -200.0, 100.0]).unwrap();
        assert_eq!(quantized.values(), [64, -32, 0, 0, -64, 32]);
        assert_eq!(quantized.scales(), [1.0 / 64.0, 1.0, 200.0 / 64.0]);
    }

    #[test]
    fn what_has_no_form_in_fewer_bits_is_refused() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = matrix([1, 2], vec![0.5, value]).unwrap_err();
            assert!(matches!(&error, QuantError::NonFinite { name, .. } if name == "fc.weight"), "{error}");
        }
        let error = Int8Matrix::new("v", &Tensor::full([3], 1.0).unwrap()).unwrap_err();
        assert!(matches!(error, QuantError::Shape { .. }));
        let error = to_f16("fc.weight", 7e4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "weight `fc.weight` holds 70000, float16 holds at most 65504; use --precision f32 or int8"
        );
    }

    #[test]
    fn vectors_stay_as_they_are() {
        let mut graph = Graph::default();
        graph.weights.insert("m".into(), Tensor::full([1, 2], 0.1).unwrap());
        graph.weights.insert("v".into(), Tensor::full([2], 1e30).unwrap());
        let rounded = round_to_f16(&graph).unwrap();
        assert_eq!(rounded.weights["m"].values(), [0.099_975_586; 2]);
        assert_eq!(rounded.weights["v"], graph.weights["v"]);
        graph.weights.insert("m".into(), Tensor::full([1, 2], -1e5).unwrap());
        assert!(matches!(round_to_f16(&graph), Err(QuantError::Overflow { name, .. }) if name == "m"));
    }
}
