//! The randomness of a training step as a function, not as a tensor: every engine evaluates the same hash at the same
//! place, so that the CPU and the GPU drop the same units and a resumed run drops what the killed one would have.

/// Dropout and stochastic depth of one training step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Noise {
    /// Differs from step to step.
    pub seed: u32,
    /// Probability that a hidden unit of an adapter is dropped.
    pub dropout: f32,
    /// Probability that a residual branch is dropped, one for each [`edge_vit_models::Op::Add`] in graph order;
    /// empty for none.
    pub drop_path: Vec<f32>,
}

impl Noise {
    /// The factor on a hidden unit of the adapter at graph position `node`: 0 or `1 / (1 - dropout)`.
    ///
    /// `index` is `(picture * tokens + token) * hidden + unit`, where `picture` counts through the whole batch.
    pub fn dropout_factor(&self, node: usize, index: u32) -> f32 {
        factor(self.dropout, self.seed, node, index)
    }

    /// The factor on the branch of the residual sum at graph position `node`, the `residual`-th of the graph, for the
    /// batch's `picture`: 0 or `1 / (1 - rate)`.
    pub fn drop_path_factor(&self, node: usize, residual: usize, picture: u32) -> f32 {
        factor(self.drop_path.get(residual).copied().unwrap_or(0.0), self.seed, node, picture)
    }
}

fn factor(rate: f32, seed: u32, node: usize, index: u32) -> f32 {
    if rate <= 0.0 {
        return 1.0;
    }
    // Graph positions are small; a graph of 2^32 nodes does not exist.
    if uniform(seed, node as u32, index) < rate { 0.0 } else { 1.0 / (1.0 - rate) }
}

/// A number in [0, 1) with 24 random bits, by three rounds of PCG-RXS-M-XS over `seed`, `stream` and `index`
/// (Jarzynski and Olano 2020, "Hash Functions for GPU Rendering"). The WGSL kernels hold the same function.
pub fn uniform(seed: u32, stream: u32, index: u32) -> f32 {
    let hash = pcg(pcg(pcg(seed) ^ stream) ^ index);
    (hash >> 8) as f32 * (1.0 / 16_777_216.0)
}

fn pcg(value: u32) -> u32 {
    let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_drops_is_the_rate_asked_for() {
        let noise = Noise { seed: 7, dropout: 0.25, drop_path: vec![] };
        let factors: Vec<f32> = (0..40_000).map(|index| noise.dropout_factor(3, index)).collect();
        let dropped = factors.iter().filter(|&&factor| factor == 0.0).count();
        assert!((9_600..10_400).contains(&dropped), "{dropped} of 40000");
        let mean = factors.iter().sum::<f32>() / 40_000.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn seed_stream_and_index_all_matter() {
        let base = uniform(1, 2, 3);
        assert_ne!(base, uniform(2, 2, 3));
        assert_ne!(base, uniform(1, 3, 3));
        assert_ne!(base, uniform(1, 2, 4));
    }

    #[test]
    fn without_rates_nothing_is_dropped() {
        let noise = Noise::default();
        assert_eq!(noise.dropout_factor(1, 2), 1.0);
        assert_eq!(noise.drop_path_factor(1, 0, 2), 1.0);
    }
}
