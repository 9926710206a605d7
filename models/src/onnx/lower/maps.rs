//! Maps, their windows and their convolutions in standard operators.

use super::super::OnnxError;
use super::attention::QKV;
use super::{Lowering, Value, int, ints};
use crate::op::{Op, rows};

/// What a convolution covers, zeros around.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    /// Side, odd.
    pub(super) side: usize,
    /// Step from place to place.
    pub(super) stride: usize,
    /// Whether it reads pixels, whose channels come first.
    pub(super) from_pixels: bool,
}

impl Lowering<'_> {
    /// An operator that only moves rows, from `shape` to `output`: one Gather over the places of a map.
    pub(super) fn moved(&mut self, name: &str, x: &str, op: &Op, shape: &[usize], output: &[usize]) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let Some(rows) = rows(op, shape) else { return self.reshape(name, x, output) };
        let width = shape.last().min(output.last()).copied().unwrap_or(0);
        let rows: Vec<i64> = rows.into_iter().map(i64::from).collect();
        let places = self.reshape(&part("places"), x, &[rows.len(), width]);
        let table = self.ints(&part("rows"), &[rows.len()], &rows);
        let moved = self.push("Gather", &part("moved"), &[&places, &table], vec![int("axis", 1)]);
        self.reshape(name, &moved, output)
    }

    /// Queries and keys of `[N, .., 3D]` by their lengths a head, queries times the node's scale.
    pub(super) fn normalize_heads(
        &mut self,
        name: &str,
        x: &str,
        heads: usize,
        shape: &[usize],
    ) -> Result<Value, OnnxError> {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let width = shape.last().copied().unwrap_or(0) / 3;
        let leading = &shape[..shape.len().saturating_sub(1)];
        let parts = self.split(name, x, &QKV, width);
        let scale = self.tensor(&format!("{name}.scale"))?;
        let [q, k] = ["q", "k"].map(|which| {
            let by_head = [leading, &[heads, width / heads]].concat();
            let cut = self.reshape(&part(&format!("{which}/heads")), &format!("{parts}/{which}"), &by_head);
            let unit = self.unit(&part(which), &cut);
            let unit = match which {
                "q" => {
                    let factor = part("scale");
                    self.floats(&factor, &[heads, 1], scale.values());
                    self.push("Mul", &part("q/scaled"), &[&unit, &factor], Vec::new())
                }
                _ => unit,
            };
            self.reshape(&part(&format!("{which}/flat")), &unit, &[leading, &[width]].concat())
        });
        Ok(self.push("Concat", name, &[&q, &k, &format!("{parts}/v")], vec![int("axis", -1)]))
    }

    /// `x` by the length of its last dimension, as `name/unit`.
    pub(super) fn unit(&mut self, name: &str, x: &str) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let smallest = self.scalar("constant/1e-12", 1e-12);
        let length = vec![ints("axes", &[-1]), int("keepdims", 1)];
        let length = self.push("ReduceL2", &part("length"), &[x], length);
        let length = self.push("Max", &part("positive"), &[&length, &smallest], Vec::new());
        self.push("Div", &part("unit"), &[x, &length], Vec::new())
    }

    pub(super) fn depthwise_conv(
        &mut self,
        name: &str,
        x: &str,
        kernel: Kernel,
        dim: usize,
    ) -> Result<Value, OnnxError> {
        let weight = self.own_weight(name, "weight")?;
        let bias = self.own_weight(name, "bias")?;
        Ok(self.conv(name, x, &[&weight, &bias], kernel, dim))
    }

    /// The Linear `name` over what `kernel` covers of `x`: a convolution, with the Linear's weight in the shape of one.
    pub(super) fn convolution(&mut self, name: &str, x: &str, kernel: Kernel, bias: bool) -> Result<Value, OnnxError> {
        let key = format!("{name}.weight");
        let tensor = self.tensor(&key)?;
        let (side, taps) = (kernel.side, kernel.side * kernel.side);
        let &[out, covered] = tensor.shape() else {
            return Err(OnnxError::Weight { name: key, shape: tensor.shape().to_vec() });
        };
        self.floats(&key, &[out, covered / taps, side, side], tensor.values());
        if !bias {
            return Ok(self.conv(name, x, &[&key], kernel, 1));
        }
        let bias = self.own_weight(name, "bias")?;
        Ok(self.conv(name, x, &[&key, &bias], kernel, 1))
    }

    /// What `kernel` covers of `x` of this shape, as a convolution of its own that takes one value each.
    pub(super) fn unfold(&mut self, name: &str, x: &str, kernel: Kernel, shape: &[usize]) -> Value {
        let channels = if kernel.from_pixels { shape.first() } else { shape.last() }.copied().unwrap_or(0);
        let rows = channels * kernel.side * kernel.side;
        let mut picked = vec![0.0; rows * rows];
        picked.iter_mut().step_by(rows + 1).for_each(|value| *value = 1.0);
        let weight = format!("{name}/picked");
        self.floats(&weight, &[rows, channels, kernel.side, kernel.side], &picked);
        self.conv(name, x, &[&weight], kernel, 1)
    }

    /// `[N, H, W, D]` through `[N, D, H, W]` and back; pixels are that already. `weights` are weight and, where there is one,
    /// bias.
    fn conv(&mut self, name: &str, x: &str, weights: &[&str], kernel: Kernel, groups: usize) -> Value {
        let first = match kernel.from_pixels {
            true => x.to_owned(),
            false => self.push("Transpose", &format!("{name}/channels"), &[x], vec![ints("perm", &[0, 3, 1, 2])]),
        };
        let around = (kernel.side / 2) as i64;
        let attributes = vec![
            ints("kernel_shape", &[kernel.side as i64; 2]),
            ints("pads", &[around; 4]),
            ints("strides", &[kernel.stride as i64; 2]),
            int("group", groups as i64),
        ];
        let inputs: Vec<&str> = std::iter::once(first.as_str()).chain(weights.iter().copied()).collect();
        let map = self.push("Conv", &format!("{name}/conv"), &inputs, attributes);
        self.push("Transpose", name, &[&map], vec![ints("perm", &[0, 2, 3, 1])])
    }

    /// `x + weight x g / (mean(g) + 1e-6) + bias`, `g` a channel's length over the map.
    pub(super) fn global_response_norm(&mut self, name: &str, x: &str) -> Result<Value, OnnxError> {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let weight = self.own_weight(name, "weight")?;
        let smallest = self.scalar("constant/1e-6", 1e-6);
        let lengths = vec![ints("axes", &[1, 2]), int("keepdims", 1)];
        let length = self.push("ReduceL2", &part("length"), &[x], lengths);
        let mean = self.push("ReduceMean", &part("mean"), &[&length], vec![ints("axes", &[-1]), int("keepdims", 1)]);
        let mean = self.push("Add", &part("positive"), &[&mean, &smallest], Vec::new());
        let share = self.push("Div", &part("share"), &[&length, &mean], Vec::new());
        // On [N, 1, 1, D], which is far smaller than the map.
        let factor = self.push("Mul", &part("weighted"), &[&share, &weight], Vec::new());
        let one = self.scalar("constant/1.0", 1.0);
        let factor = self.push("Add", &part("factor"), &[&factor, &one], Vec::new());
        // A simplified graph has none.
        if self.tensor(&format!("{name}.bias"))?.values().iter().all(|&value| value == 0.0) {
            return Ok(self.push("Mul", name, &[x, &factor], Vec::new()));
        }
        let bias = self.own_weight(name, "bias")?;
        let scaled = self.push("Mul", &part("scaled"), &[x, &factor], Vec::new());
        Ok(self.push("Add", name, &[&scaled, &bias], Vec::new()))
    }
}
