//! Attention in standard operators.

use super::super::OnnxError;
use super::{Lowering, Value, int, ints};

/// The parts of what attention reads.
pub(super) const QKV: [&str; 3] = ["q", "k", "v"];

/// What is added to the scores of attention.
pub(super) enum Bias<'a> {
    /// Nothing.
    Nothing,
    /// What depends on no picture, `[heads, L, L]`, of windows `[1 or windows, heads, n, n]`.
    Fixed(Vec<f32>),
    /// The logarithm of the tokens' sizes, the value `[N, L]`.
    Sizes(&'a str),
}

impl Lowering<'_> {
    /// Attention over `[N, L, 3D]`, or within windows over `[N, windows, n, 3D]`, with what `bias` adds to the scores. The scale
    /// is on q, which is smaller than the products are.
    pub(super) fn attention(
        &mut self,
        name: &str,
        x: &str,
        heads: usize,
        scale: f32,
        bias: Bias<'_>,
        shape: &[usize],
    ) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let [ref leading @ .., tokens, width] = *shape else { return x.to_owned() };
        let width = width / 3;
        let parts = self.split(name, x, &QKV, width);
        // [N, .., L, D] to [N, .., heads, L, head_dim], k to [N, .., heads, head_dim, L].
        let first = leading.len() as i64 + 1;
        let moved = |behind: [i64; 3]| -> Vec<i64> { (0..first).chain(behind.map(|axis| first + axis)).collect() };
        let by_head = [("q", [1, 0, 2]), ("k", [1, 2, 0]), ("v", [1, 0, 2])];
        let [q, k, v] = by_head.map(|(which, behind)| {
            let cut = [leading, &[tokens, heads, width / heads]].concat();
            let cut = self.reshape(&part(&format!("{which}/cut")), &format!("{parts}/{which}"), &cut);
            let perm = vec![ints("perm", &moved(behind))];
            self.push("Transpose", &part(&format!("{which}/heads")), &[&cut], perm)
        });
        let q = match scale {
            1.0 => q,
            _ => {
                let scale = self.scalar(&part("scale"), scale);
                self.push("Mul", &part("q/scaled"), &[&q, &scale], Vec::new())
            }
        };
        let mut scores = self.push("MatMul", &part("scores"), &[&q, &k], Vec::new());
        match bias {
            Bias::Nothing => {}
            Bias::Fixed(bias) => {
                let kinds = bias.len() / (heads * tokens * tokens).max(1);
                let kinds = if leading.is_empty() { &[][..] } else { &[kinds][..] };
                self.floats(&part("bias"), &[&[1], kinds, &[heads, tokens, tokens]].concat(), &bias);
                scores = self.push("Add", &part("biased"), &[&scores, &part("bias")], Vec::new());
            }
            Bias::Sizes(sizes) => scores = self.proportional(name, &scores, sizes, tokens),
        }
        let weights = self.push("Softmax", &part("softmax"), &[&scores], vec![int("axis", -1)]);
        let mixed = self.push("MatMul", &part("mixed"), &[&weights, &v], Vec::new());
        let rows = self.push("Transpose", &part("rows"), &[&mixed], vec![ints("perm", &moved([1, 0, 2]))]);
        self.reshape(name, &rows, &[leading, &[tokens, width]].concat())
    }

    /// Attention of the node's own query over `[N, L, 2D]`, scaled before it is written.
    pub(super) fn attention_pool(
        &mut self,
        name: &str,
        x: &str,
        heads: usize,
        scale: f32,
        sizes: Option<&str>,
        shape: &[usize],
    ) -> Result<Value, OnnxError> {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let (tokens, width) = match *shape {
            [tokens, width] => (tokens, width / 2),
            _ => (0, 0),
        };
        let parts = self.split(name, x, &["k", "v"], width);
        let [k, v] = [("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])].map(|(which, perm)| {
            let cut = format!("{parts}/{which}");
            let cut = self.reshape(&part(&format!("{which}/cut")), &cut, &[tokens, heads, width / heads]);
            self.push("Transpose", &part(&format!("{which}/heads")), &[&cut], vec![ints("perm", &perm)])
        });
        let query = self.tensor(&format!("{name}.query"))?;
        let scaled: Vec<f32> = query.values().iter().map(|value| value * scale).collect();
        let q = part("q");
        self.floats(&q, &[1, heads, 1, width / heads], &scaled);
        let mut scores = self.push("MatMul", &part("scores"), &[&q, &k], Vec::new());
        if let Some(sizes) = sizes {
            scores = self.proportional(name, &scores, sizes, tokens);
        }
        let weights = self.push("Softmax", &part("softmax"), &[&scores], vec![int("axis", -1)]);
        let mixed = self.push("MatMul", &part("mixed"), &[&weights, &v], Vec::new());
        Ok(self.reshape(name, &mixed, &[width]))
    }

    /// Scores `[N, heads, .., L]` plus the logarithm of sizes `[N, L]`.
    fn proportional(&mut self, name: &str, scores: &str, sizes: &str, tokens: usize) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let logarithm = self.push("Log", &part("sizes/log"), &[sizes], Vec::new());
        let bias = self.reshape(&part("sizes/bias"), &logarithm, &[1, 1, tokens]);
        self.push("Add", &part("biased"), &[scores, &bias], Vec::new())
    }

    /// The last dimension of `x` in parts of `width`, once for all that read them; gives what their names begin with, which is
    /// `name` or that of an earlier reader: `{..}/part`.
    pub(super) fn split(&mut self, name: &str, x: &str, parts: &[&str], width: usize) -> String {
        if let Some(earlier) = self.splits.get(&(x.to_owned(), parts.len())) {
            return earlier.clone();
        }
        let widths = self.ints(&format!("{name}/widths"), &[parts.len()], &vec![width as i64; parts.len()]);
        let outputs = parts.iter().map(|part| format!("{name}/{part}")).collect();
        self.push_many("Split", &format!("{name}/split"), &[x, &widths], outputs, vec![int("axis", -1)]);
        self.splits.insert((x.to_owned(), parts.len()), name.to_owned());
        name.to_owned()
    }
}
