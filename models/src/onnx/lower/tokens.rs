//! What puts tokens in and takes them out, in standard operators.

use super::super::{Batch, OnnxError};
use super::{Lowering, Value, int, ints};

impl Lowering<'_> {
    /// The node's own tokens behind the first `at` of `x`, which has `shape` a picture.
    pub(super) fn insert_tokens(
        &mut self,
        name: &str,
        x: &str,
        count: usize,
        at: usize,
        shape: &[usize],
    ) -> Result<Value, OnnxError> {
        let tokens = self.weight(name, &format!("{name}/weight"))?;
        let tokens = match self.batch {
            Batch::One => tokens,
            Batch::Free => self.repeated(name, x, &tokens, &[count, shape.last().copied().unwrap_or(0)]),
        };
        let len = shape.first().copied().unwrap_or(0);
        let before = (at > 0).then(|| self.slice(&format!("{name}/before"), x, 0, at));
        let behind = match at {
            0 => Some(x.to_owned()),
            _ => (at < len).then(|| self.slice(&format!("{name}/behind"), x, at, len)),
        };
        let parts: Vec<&str> = [before.as_deref(), Some(&tokens), behind.as_deref()].into_iter().flatten().collect();
        Ok(self.push("Concat", name, &parts, vec![int("axis", 1)]))
    }

    /// `x`, which has `shape` a picture, without the `count` tokens behind the first `at`.
    pub(super) fn drop_tokens(&mut self, name: &str, x: &str, count: usize, at: usize, shape: &[usize]) -> Value {
        let len = shape.first().copied().unwrap_or(0);
        match (at, at + count) {
            (0, end) => self.slice(name, x, end, len),
            (at, end) if end == len => self.slice(name, x, 0, at),
            (at, end) => {
                let before = self.slice(&format!("{name}/before"), x, 0, at);
                let behind = self.slice(&format!("{name}/behind"), x, end, len);
                self.push("Concat", name, &[&before, &behind], vec![int("axis", 1)])
            }
        }
    }

    /// `values` `[1, ..shape]` once a picture of `x`: `[N, ..shape]`.
    pub(super) fn repeated(&mut self, name: &str, x: &str, values: &str, shape: &[usize]) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let sizes = self.push("Shape", &part("sizes"), &[x], Vec::new());
        let (zero, one) = (self.ints("constant/[0]", &[1], &[0]), self.ints("constant/[1]", &[1], &[1]));
        let batch = self.push("Slice", &part("batch"), &[&sizes, &zero, &one], Vec::new());
        let rest: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
        let rest = self.ints(&part("width"), &[rest.len()], &rest);
        let target = self.push("Concat", &part("target"), &[&batch, &rest], vec![int("axis", 0)]);
        self.push("Expand", &part("repeated"), &[values, &target], Vec::new())
    }

    pub(super) fn mean_tokens(&mut self, name: &str, x: &str, skip: usize, shape: &[usize]) -> Value {
        let kept = match skip {
            0 => x.to_owned(),
            _ => self.slice(&format!("{name}/kept"), x, skip, shape.first().copied().unwrap_or(0)),
        };
        let axes: Vec<i64> = (1..shape.len() as i64).collect();
        self.push("ReduceMean", name, &[&kept], vec![ints("axes", &axes), int("keepdims", 0)])
    }

    /// The mean of the tokens of `x` behind the first `skip`, each counted as often as it is large.
    pub(super) fn weighted_mean(&mut self, name: &str, inputs: [&str; 2], skip: usize, shape: &[usize]) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let &[len, dim] = shape else { return inputs[0].to_owned() };
        let [x, sizes] = match skip {
            0 => inputs.map(str::to_owned),
            _ => [("kept", inputs[0]), ("sizes", inputs[1])].map(|(to, from)| self.slice(&part(to), from, skip, len)),
        };
        let row = self.reshape(&part("row"), &sizes, &[1, len - skip]);
        let sum = self.push("MatMul", &part("sum"), &[&row, &x], Vec::new());
        let sum = self.reshape(&part("flat"), &sum, &[dim]);
        let axes = self.ints("constant/[1]", &[1], &[1]);
        let total = self.push("ReduceSum", &part("total"), &[&sizes, &axes], vec![int("keepdims", 1)]);
        self.push("Div", name, &[&sum, &total], Vec::new())
    }

    /// The tokens `start..end` of `x`.
    fn slice(&mut self, name: &str, x: &str, start: usize, end: usize) -> Value {
        let starts = self.ints(&format!("{name}/starts"), &[1], &[start as i64]);
        let ends = self.ints(&format!("{name}/ends"), &[1], &[end as i64]);
        let axes = self.ints("constant/[1]", &[1], &[1]);
        self.push("Slice", name, &[x, &starts, &ends, &axes], Vec::new())
    }
}
