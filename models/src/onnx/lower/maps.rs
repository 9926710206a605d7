//! Maps, their windows and their convolutions in standard operators.

use super::super::OnnxError;
use super::{Lowering, Value, int, ints};
use crate::op::{Op, rows};

impl Lowering<'_> {
    /// An operator that only moves rows, from `shape` to `output`: one Gather over the places of a map.
    pub(super) fn moved(&mut self, name: &str, x: &str, op: &Op, shape: &[usize], output: &[usize]) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let Some(rows) = rows(op, shape) else { return self.reshape(name, x, output) };
        let width = shape.last().copied().unwrap_or(0);
        let rows: Vec<i64> = rows.into_iter().map(i64::from).collect();
        let places = self.reshape(&part("places"), x, &[rows.len(), width]);
        let table = self.ints(&part("rows"), &[rows.len()], &rows);
        let moved = self.push("Gather", &part("moved"), &[&places, &table], vec![int("axis", 1)]);
        self.reshape(name, &moved, output)
    }

    /// Attention within windows over `[N, windows, n, 3D]`, the scale on q.
    pub(super) fn window_attention(
        &mut self,
        name: &str,
        x: &str,
        heads: usize,
        scale: f32,
        bias: &[f32],
        shape: &[usize],
    ) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let (count, n, width) = match *shape {
            [count, n, width] => (count, n, width / 3),
            _ => (0, 0, 0),
        };
        self.split(name, x, &["q", "k", "v"], width);
        // [N, windows, n, D] to [N, windows, heads, n, head_dim], k to [N, windows, heads, head_dim, n].
        let by_head = [("q", [0, 1, 3, 2, 4]), ("k", [0, 1, 3, 4, 2]), ("v", [0, 1, 3, 2, 4])];
        let [q, k, v] = by_head.map(|(which, perm)| {
            let cut = self.reshape(&part(&format!("{which}/cut")), &part(which), &[count, n, heads, width / heads]);
            self.push("Transpose", &part(&format!("{which}/heads")), &[&cut], vec![ints("perm", &perm)])
        });
        let q = match scale {
            1.0 => q,
            _ => {
                let scale = self.scalar(&part("scale"), scale);
                self.push("Mul", &part("q/scaled"), &[&q, &scale], Vec::new())
            }
        };
        let scores = self.push("MatMul", &part("scores"), &[&q, &k], Vec::new());
        let kinds = bias.len() / (heads * n * n).max(1);
        self.floats(&part("bias"), &[1, kinds, heads, n, n], bias);
        let scores = self.push("Add", &part("biased"), &[&scores, &part("bias")], Vec::new());
        let weights = self.push("Softmax", &part("softmax"), &[&scores], vec![int("axis", -1)]);
        let mixed = self.push("MatMul", &part("mixed"), &[&weights, &v], Vec::new());
        let rows = self.push("Transpose", &part("rows"), &[&mixed], vec![ints("perm", &[0, 1, 3, 2, 4])]);
        self.reshape(name, &rows, &[count, n, width])
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
        self.split(name, x, &["q", "k", "v"], width);
        let smallest = self.scalar("constant/1e-12", 1e-12);
        let scale = self.tensor(&format!("{name}.scale"))?;
        let [q, k] = ["q", "k"].map(|which| {
            let by_head = [leading, &[heads, width / heads]].concat();
            let cut = self.reshape(&part(&format!("{which}/heads")), &part(which), &by_head);
            let length = vec![ints("axes", &[-1]), int("keepdims", 1)];
            let length = self.push("ReduceL2", &part(&format!("{which}/length")), &[&cut], length);
            let length = self.push("Max", &part(&format!("{which}/positive")), &[&length, &smallest], Vec::new());
            let unit = self.push("Div", &part(&format!("{which}/unit")), &[&cut, &length], Vec::new());
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
        Ok(self.push("Concat", name, &[&q, &k, &part("v")], vec![int("axis", -1)]))
    }

    /// `[N, H, W, D]` through `[N, D, H, W]` and back.
    pub(super) fn depthwise_conv(
        &mut self,
        name: &str,
        x: &str,
        kernel: usize,
        dim: usize,
    ) -> Result<Value, OnnxError> {
        let weight = self.own_weight(name, "weight")?;
        let bias = self.own_weight(name, "bias")?;
        let first = self.push("Transpose", &format!("{name}/channels"), &[x], vec![ints("perm", &[0, 3, 1, 2])]);
        let around = (kernel / 2) as i64;
        let attributes =
            vec![ints("kernel_shape", &[kernel as i64; 2]), ints("pads", &[around; 4]), int("group", dim as i64)];
        let map = self.push("Conv", &format!("{name}/conv"), &[&first, &weight, &bias], attributes);
        Ok(self.push("Transpose", name, &[&map], vec![ints("perm", &[0, 2, 3, 1])]))
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
