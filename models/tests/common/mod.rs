//! A vision transformer small enough for a test, with every operator that a ViT has.

use edge_vit_models::{Activation, Graph, Op, Tensor};

/// Height and width of the pictures: not square, so that a mixed-up grid shows.
pub(crate) const IMAGE_SIZE: [usize; 2] = [8, 12];
/// Number of the head's outputs.
pub(crate) const CLASSES: usize = 5;

const DIM: usize = 16;
const HEADS: usize = 2;

/// Two blocks of width 16 with LayerScale, over 2 x 3 patches of side 4, with a head; weights from a fixed generator.
pub(crate) fn small_vit() -> Graph {
    let mut graph = Graph::default();
    let [height, width] = IMAGE_SIZE;
    let linear = |out_features| Op::Linear { out_features, bias: true };
    let norm = Op::LayerNorm { eps: 1e-6 };
    let mut x = graph.push("pixels", Op::Input { shape: vec![3, height, width] }, &[]);
    x = graph.push("patch_embed.proj", Op::PatchEmbed { patch_size: 4, embed_dim: DIM, tubelets: 1 }, &[x]);
    x = graph.push("cls_token", Op::InsertTokens { count: 1, at: 0 }, &[x]);
    x = graph.push("pos_embed", Op::PosEmbed, &[x]);
    for block in 0..2 {
        let name = |suffix: &str| format!("blocks.{block}.{suffix}");
        let trunk = x;
        x = graph.push(name("norm1"), norm.clone(), &[x]);
        x = graph.push(name("attn.qkv"), linear(3 * DIM), &[x]);
        x = graph.push(name("attn"), Op::Attention { num_heads: HEADS, scale: 0.35 }, &[x]);
        x = graph.push(name("attn.proj"), linear(DIM), &[x]);
        x = graph.push(name("ls1"), Op::LayerScale, &[x]);
        x = graph.push(name("add1"), Op::Add, &[trunk, x]);
        let trunk = x;
        x = graph.push(name("norm2"), norm.clone(), &[x]);
        x = graph.push(name("mlp.fc1"), linear(4 * DIM), &[x]);
        x = graph.push(name("mlp.act"), Op::Act(Activation::Gelu), &[x]);
        x = graph.push(name("mlp.fc2"), linear(DIM), &[x]);
        x = graph.push(name("ls2"), Op::LayerScale, &[x]);
        x = graph.push(name("add2"), Op::Add, &[trunk, x]);
    }
    x = graph.push("norm", norm, &[x]);
    x = graph.push("pool", Op::TakeClassToken, &[x]);
    graph.push("head", linear(CLASSES), &[x]);
    fill(&mut graph, 1);
    graph
}

/// Gives every weight values in [-0.5, 0.5), decided by `seed` and the weights' order.
pub(crate) fn fill(graph: &mut Graph, seed: u32) {
    let mut state = seed;
    for param in graph.params().unwrap().into_iter().flatten() {
        let mut tensor = Tensor::full(param.shape, 0.0).unwrap();
        for value in tensor.values_mut() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
        }
        graph.weights.insert(param.name, tensor);
    }
}
