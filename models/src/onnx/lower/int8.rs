//! Products of eight-bit integers in standard operators, as onnxruntime's dynamic quantisation writes them.

use super::super::OnnxError;
use super::super::proto::DataType;
use super::{Lowering, Value, int};
use crate::quant::Int8Matrix;

impl Lowering<'_> {
    /// `x W^T` of the Linear `node`, as the value `name`: the integers' product, times the scales of `x` and of each output.
    pub(super) fn int8_product(&mut self, node: &str, name: &str, x: &str) -> Result<Value, OnnxError> {
        let part = |suffix: &str| format!("{node}/{suffix}");
        let key = format!("{node}.weight");
        let matrix = Int8Matrix::new(&key, self.tensor(&key)?)?;
        let [out, inputs] = matrix.shape();
        let by_input = (0..inputs).flat_map(|input| (0..out).map(move |output| output * inputs + input));
        let bytes = by_input.map(|index| matrix.values()[index].to_le_bytes()[0]).collect();
        let (weight, scales) = (format!("{key}/int8"), format!("{key}/scales"));
        self.initializer(&weight, DataType::Int8, &[inputs, out], bytes);
        self.floats(&scales, &[out], matrix.scales());
        let [quantized, scale, zero] = self.quantized(x);
        let sums = self.push("MatMulInteger", &part("sums"), &[&quantized, &weight, &zero], Vec::new());
        let sums = self.push("Cast", &part("floats"), &[&sums], vec![int("to", DataType::Float as i64)]);
        let scales = self.push("Mul", &part("scales"), &[&scale, &scales], Vec::new());
        Ok(self.push("Mul", name, &[&sums, &scales], Vec::new()))
    }

    /// `x` in eight bits, with its scale and its zero: once for all layers that read it.
    fn quantized(&mut self, x: &str) -> [Value; 3] {
        let values = ["quantized", "quantized/scale", "quantized/zero"].map(|part| format!("{x}/{part}"));
        if self.constants.insert(values[0].clone()) {
            self.push_many("DynamicQuantizeLinear", &values[0], &[x], values.to_vec(), Vec::new());
        }
        values
    }
}
