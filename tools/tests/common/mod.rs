//! What several tests of the program work on.

use std::collections::BTreeMap;
use std::path::Path;

use edge_vit_models::{Tensor, checkpoint, vit};
use edge_vit_tools::engine::uniform;

/// Side of the pictures that [`write_backbone`]'s model takes, in pixels.
pub(crate) const SIDE: usize = 16;

/// Writes a small vision transformer of `depth` blocks with random weights.
pub(crate) fn write_backbone(path: &Path, depth: usize) {
    let config = vit::Config {
        image_size: [SIDE, SIDE],
        patch_size: 8,
        embed_dim: 64,
        depth,
        num_heads: 1,
        mlp_ratio: 2.0,
        layer_scale: false,
        num_classes: None,
        ..vit::Config::default()
    };
    let mut weights = BTreeMap::new();
    for (stream, param) in vit::graph(&config).params().unwrap().into_iter().flatten().enumerate() {
        let len = param.shape.iter().product::<usize>();
        let values = (0..len).map(|index| uniform(1, stream as u32, index as u32) - 0.5).collect();
        weights.insert(param.name, Tensor::new(param.shape, values).unwrap());
    }
    checkpoint::write_safetensors(path, &weights, &BTreeMap::new()).unwrap();
}
