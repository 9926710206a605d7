//! Shared helpers of the tests and benchmarks that cross crates.

use edge_vit_models::{Graph, GraphError, Tensor, vit};
use edge_vit_tools::engine::uniform;

/// The shape of DINOv2's ViT-S/14 for square pictures of `side` pixels, without a head.
pub fn dinov2_small(side: usize) -> vit::Config {
    vit::Config {
        image_size: [side, side],
        patch_size: 14,
        in_chans: 3,
        embed_dim: 384,
        depth: 12,
        num_heads: 6,
        mlp_ratio: 4.0,
        layer_scale: true,
        ln_eps: 1e-6,
        class_token: true,
        num_classes: None,
    }
}

/// Fills every weight that is not there yet with seeded values around the ones that training would give: norms near 1,
/// everything else near 0.
///
/// # Errors
/// When the graph's structure is wrong.
pub fn fill_random(graph: &mut Graph, seed: u32) -> Result<(), GraphError> {
    for (stream, param) in graph.params()?.into_iter().flatten().enumerate() {
        let is_gain = param.name.contains("norm") && param.name.ends_with("weight") || param.name.ends_with("gamma");
        let center = if is_gain { 1.0 } else { 0.0 };
        let len = param.shape.iter().product::<usize>();
        // A graph has fewer than 2^32 weights, and a weight fewer than 2^32 values.
        let value = |index: usize| center + 0.1 * (uniform(seed, stream as u32, index as u32) - 0.5);
        if let Ok(tensor) = Tensor::new(param.shape, (0..len).map(value).collect()) {
            graph.weights.entry(param.name).or_insert(tensor);
        }
    }
    Ok(())
}

/// The median of some durations in seconds; 0 of none.
pub fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(0.0)
}
