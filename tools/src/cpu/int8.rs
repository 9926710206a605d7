//! A Linear over eight-bit integers, as a file in int8 has it: DynamicQuantizeLinear of the input, MatMulInteger, and back.

use edge_vit_models::quant::Int8Matrix;

use super::Real;

/// Values in eight bits: `scale` times integers from 0 to 255, less `zero`.
#[derive(Debug, PartialEq)]
struct Quantized<T> {
    /// The integers, `zero` taken off: -255 to 255.
    values: Vec<i16>,
    scale: T,
}

impl<T: Real> Quantized<T> {
    /// ONNX's DynamicQuantizeLinear: the range of the values, widened to hold 0, in 255 steps, to the nearest, ties to even.
    fn new(x: &[T]) -> Self {
        let pick = |is_better: fn(&T, &T) -> bool| {
            x.iter().fold(T::ZERO, |best, value| if is_better(value, &best) { *value } else { best })
        };
        let (low, high) = (pick(|a, b| a < b), pick(|a, b| a > b));
        let scale = (high - low) / T::from_f64(255.0);
        let steps = |value: T| (value / scale).to_f64().round_ties_even();
        // Of zeros alone the scale is 0, and all that is multiplied by it.
        if scale.to_f64() == 0.0 {
            return Self { values: vec![0; x.len()], scale };
        }
        let zero = steps(-low).clamp(0.0, 255.0);
        let values = x.iter().map(|&value| ((steps(value) + zero).clamp(0.0, 255.0) - zero) as i16).collect();
        Self { values, scale }
    }
}

/// `x` `[pictures, rows, in]` to `y` `[pictures, rows, out]`, each picture by its own range.
pub(super) fn forward<T: Real>(x: &[T], pictures: usize, matrix: &Int8Matrix, bias: Option<&[T]>, y: &mut [T]) {
    let [out, dim] = matrix.shape();
    let weight: Vec<i16> = matrix.values().iter().map(|&value| i16::from(value)).collect();
    for (x, y) in x.chunks(x.len() / pictures).zip(y.chunks_mut(y.len() / pictures)) {
        let Quantized { values, scale } = Quantized::new(x);
        for (values, y) in values.chunks(dim).zip(y.chunks_mut(out)) {
            for (output, y) in y.iter_mut().enumerate() {
                let sum = dot(values, &weight[output * dim..][..dim]);
                let scale = scale * T::from_f32(matrix.scales()[output]);
                *y = T::from_f64(f64::from(sum)) * scale;
                if let Some(bias) = bias {
                    *y += bias[output];
                }
            }
        }
    }
}

/// The sum of the products: at most 255 times 64 each, so that 131,000 of them cannot overflow.
fn dot(values: &[i16], weight: &[i16]) -> i32 {
    values.iter().zip(weight).map(|(&value, &weight)| i32::from(value) * i32::from(weight)).sum()
}

#[cfg(test)]
mod tests {
    use edge_vit_models::Tensor;

    use super::*;

    #[test]
    fn the_range_holds_zero_and_ties_go_to_the_even_number() {
        // The example of ONNX's specification: values in u8 are 153, 255, 0, 26, 221, 179 with zero 153.
        let quantized = Quantized::new(&[0f32, 2.0, -3.0, -2.5, 1.34, 0.5]);
        assert_eq!(quantized.values, [0, 102, -153, -127, 68, 26]);
        assert!((quantized.scale - 0.019_607_844).abs() < 1e-9);
        // Of positive values alone, the least is not the zero.
        assert_eq!(Quantized::new(&[255f32, 1.0, 1.5, 2.5]).values, [255, 1, 2, 2]);
        assert_eq!(Quantized::new(&[0f32, 0.0]), Quantized { values: vec![0, 0], scale: 0.0 });
    }

    #[test]
    fn each_picture_has_its_own_range() {
        let matrix = Int8Matrix::new("w", &Tensor::new([1, 2], vec![1.0, -0.5]).unwrap()).unwrap();
        let mut y = [0f64; 2];
        forward(&[255.0, 1.0, 2.55, 0.01], 2, &matrix, Some(&[10.0]), &mut y);
        assert!((y[0] - 264.5).abs() < 1e-9 && (y[1] - 12.545).abs() < 1e-9, "{y:?}");
        forward(&[0.0, 0.0, 0.0, 0.0], 2, &matrix, None, &mut y);
        assert_eq!(y, [0.0, 0.0]);
    }
}
