//! A vision transformer with Token Merging as the paper (arXiv 2210.09461, section 3) states it, token by token in float64.

use edge_vit_models::Graph;
use edge_vit_models::vit::{Config, GlobalPool};

type Row = Vec<f64>;

/// A token and how many it stands for.
#[derive(Clone)]
struct Token {
    value: Row,
    size: f64,
}

/// The logits for `pixels` `[C, H, W]`, with `merged` tokens going in each block that merges.
pub(crate) fn logits(graph: &Graph, config: &Config, merged: usize, pixels: &[f32]) -> Row {
    Naive { graph, config }.logits(merged, pixels)
}

struct Naive<'a> {
    graph: &'a Graph,
    config: &'a Config,
}

impl Naive<'_> {
    fn logits(&self, merged: usize, pixels: &[f32]) -> Row {
        let Config { depth, global_pool, .. } = *self.config;
        let protected =
            usize::from(self.config.class_token) + usize::from(self.config.dist_token) + self.config.reg_tokens;
        let mut tokens: Vec<Token> =
            self.embedded(pixels).into_iter().map(|value| Token { value, size: 1.0 }).collect();
        for block in 0..depth {
            let name = |part: &str| format!("blocks.{block}.{part}");
            let normed: Vec<Row> = tokens.iter().map(|token| self.norm(&name("norm1"), &token.value)).collect();
            let qkv: Vec<Row> = normed.iter().map(|token| self.linear(&name("attn.qkv"), token)).collect();
            for (at, mixed) in self.attend(&qkv, &tokens).into_iter().enumerate() {
                add(&mut tokens[at].value, &self.linear(&name("attn.proj"), &mixed));
            }
            if block + 1 < depth || global_pool != GlobalPool::Token {
                tokens = self.merge(&qkv, tokens, protected, merged);
            }
            for token in &mut tokens {
                let hidden = self.linear(&name("mlp.fc1"), &self.norm(&name("norm2"), &token.value));
                add(&mut token.value, &self.linear(&name("mlp.fc2"), &hidden.into_iter().map(gelu).collect::<Row>()));
            }
        }
        self.linear("head", &self.pooled(tokens, protected))
    }

    fn embedded(&self, pixels: &[f32]) -> Vec<Row> {
        let Config { image_size: [height, width], patch_size: side, in_chans, .. } = *self.config;
        let mut tokens: Vec<Row> = Vec::new();
        for place in 0..(height / side) * (width / side) {
            let (top, left) = (place / (width / side) * side, place % (width / side) * side);
            let mut patch = Row::new();
            for channel in 0..in_chans {
                for y in 0..side {
                    let row = (channel * height + top + y) * width + left;
                    patch.extend(pixels[row..row + side].iter().map(|&value| f64::from(value)));
                }
            }
            tokens.push(self.linear("patch_embed.proj", &patch));
        }
        let mut first: Vec<Row> = ["cls_token", "dist_token"].iter().flat_map(|name| self.rows(name)).collect();
        first.append(&mut tokens);
        for (token, position) in first.iter_mut().zip(self.rows("pos_embed")) {
            add(token, &position);
        }
        let at = usize::from(self.config.class_token) + usize::from(self.config.dist_token);
        first.splice(at..at, self.rows("reg_token"));
        first
    }

    /// The rows of a weight of the model's width; none where it has no such weight.
    fn rows(&self, name: &str) -> Vec<Row> {
        let values = self.graph.weights.get(name).map_or(&[][..], |tensor| tensor.values());
        values.chunks(self.config.embed_dim).map(|row| row.iter().map(|&value| f64::from(value)).collect()).collect()
    }

    fn weight(&self, name: &str) -> Row {
        self.graph.weights.get(name).map_or(&[][..], |tensor| tensor.values()).iter().map(|&v| f64::from(v)).collect()
    }

    fn linear(&self, name: &str, x: &[f64]) -> Row {
        let (weight, bias) = (self.weight(&format!("{name}.weight")), self.weight(&format!("{name}.bias")));
        weight.chunks(x.len()).zip(bias).map(|(row, bias)| dot(row, x) + bias).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Row {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let factor = (variance + f64::from(self.config.ln_eps)).sqrt();
        let (weight, bias) = (self.weight(&format!("{name}.weight")), self.weight(&format!("{name}.bias")));
        x.iter().zip(weight).zip(bias).map(|((x, w), b)| (x - mean) / factor * w + b).collect()
    }

    /// A head's columns of query, key or value (`part` 0, 1, 2) of one token.
    fn head<'r>(&self, qkv: &'r [f64], part: usize, head: usize) -> &'r [f64] {
        let width = self.config.embed_dim / self.config.num_heads;
        &qkv[part * self.config.embed_dim + head * width..][..width]
    }

    /// Proportional attention: softmax(q k^T / sqrt(d) + log s) v.
    fn attend(&self, qkv: &[Row], tokens: &[Token]) -> Vec<Row> {
        let heads = self.config.num_heads;
        let scale = ((self.config.embed_dim / heads) as f64).sqrt().recip();
        let mut out = vec![Row::new(); qkv.len()];
        for (query, out) in qkv.iter().zip(&mut out) {
            for head in 0..heads {
                let q = self.head(query, 0, head);
                let scores = qkv.iter().map(|key| scale * dot(q, self.head(key, 1, head)));
                let weights: Row = scores.zip(tokens).map(|(score, token)| score.exp() * token.size).collect();
                let values: Vec<&[f64]> = qkv.iter().map(|value| self.head(value, 2, head)).collect();
                out.extend(mean(&values, &weights));
            }
        }
        out
    }

    /// Steps 1 to 5 of section 3: assign to A and B, an edge from each of A to the most similar of B, keep the `merged` most
    /// similar, merge, put the sets together again.
    fn merge(&self, qkv: &[Row], tokens: Vec<Token>, protected: usize, merged: usize) -> Vec<Token> {
        let heads = self.config.num_heads;
        let metric: Vec<Row> = (qkv.iter())
            .map(|token| mean(&(0..heads).map(|head| self.head(token, 1, head)).collect::<Vec<_>>(), &vec![1.0; heads]))
            .collect();
        let cosine = |a: usize, b: usize| {
            dot(&metric[a], &metric[b]) / (dot(&metric[a], &metric[a]) * dot(&metric[b], &metric[b])).sqrt()
        };
        let side = |odd: usize| (protected..tokens.len()).filter(move |at| at % 2 == odd);
        let mut edges: Vec<(usize, usize, f64)> = Vec::new();
        for a in side(0) {
            let to = side(1).max_by(|&one, &other| cosine(a, one).total_cmp(&cosine(a, other))).unwrap();
            edges.push((a, to, cosine(a, to)));
        }
        edges.sort_by(|one, other| other.2.total_cmp(&one.2));
        let gone = &edges[..merged];
        let united = |place: usize| {
            let sources = gone.iter().filter(|edge| edge.1 == place).map(|edge| edge.0);
            let group: Vec<&Token> = std::iter::once(place).chain(sources).map(|at| &tokens[at]).collect();
            let sizes: Row = group.iter().map(|token| token.size).collect();
            let value = mean(&group.iter().map(|token| token.value.as_slice()).collect::<Vec<_>>(), &sizes);
            Token { value, size: sizes.iter().sum() }
        };
        let stays = |place: &usize| gone.iter().all(|edge| edge.0 != *place);
        (0..protected).chain(side(0).filter(stays)).chain(side(1)).map(united).collect()
    }

    fn pooled(&self, tokens: Vec<Token>, protected: usize) -> Row {
        let normed = |token: &Token| self.norm("norm", &token.value);
        let all = |of: &dyn Fn(&Token) -> Row, tokens: &[Token]| {
            let rows: Vec<Row> = tokens.iter().map(of).collect();
            let sizes: Row = tokens.iter().map(|token| token.size).collect();
            mean(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), &sizes)
        };
        match self.config.global_pool {
            GlobalPool::Token if self.config.dist_token => all(&normed, &tokens[..2]),
            GlobalPool::Token => normed(&tokens[0]),
            GlobalPool::Avg => all(&normed, &tokens[protected..]),
            GlobalPool::AvgFcNorm => self.norm("fc_norm", &all(&|token| token.value.clone(), &tokens[protected..])),
            GlobalPool::Map => {
                let (dim, heads) = (self.config.embed_dim, self.config.num_heads);
                let (width, query) = (dim / heads, self.weight("attn_pool.query"));
                let kv: Vec<Row> = tokens.iter().map(|token| self.linear("attn_pool.kv", &normed(token))).collect();
                let mut mixed = Row::new();
                for head in 0..heads {
                    let columns = head * width..(head + 1) * width;
                    let scale = (width as f64).sqrt().recip();
                    let score = |kv: &Row| (scale * dot(&query[columns.clone()], &kv[columns.clone()])).exp();
                    let weights: Row = kv.iter().zip(&tokens).map(|(kv, token)| score(kv) * token.size).collect();
                    let values: Vec<&[f64]> = kv.iter().map(|kv| &kv[dim..][columns.clone()]).collect();
                    mixed.extend(mean(&values, &weights));
                }
                let mut trunk = self.linear("attn_pool.proj", &mixed);
                let hidden = self.linear("attn_pool.mlp.fc1", &self.norm("attn_pool.norm", &trunk));
                add(&mut trunk, &self.linear("attn_pool.mlp.fc2", &hidden.into_iter().map(gelu).collect::<Row>()));
                trunk
            }
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn mean(rows: &[&[f64]], weights: &[f64]) -> Row {
    let total: f64 = weights.iter().sum();
    let mut sum = vec![0.0; rows[0].len()];
    for (row, weight) in rows.iter().zip(weights) {
        sum.iter_mut().zip(*row).for_each(|(sum, value)| *sum += weight / total * value);
    }
    sum
}

fn gelu(x: f64) -> f64 {
    x * (1.0 + libm::erf(x / 2f64.sqrt())) / 2.0
}
