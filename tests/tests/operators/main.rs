//! The operators of ours in the runtime: which of a model's they take over, and that they compute what tract's do.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod quantized;

use std::collections::BTreeMap;

use edge_vit::Model;
use edge_vit_models::backbone::Architecture;
use edge_vit_models::vit::{self, Config, GlobalPool};
use edge_vit_models::{Graph, onnx, tokens};
use edge_vit_tests::{noise, plain_tract, variants};

/// The operators of a plain and a simplified model of `name`, each of which gives what plain tract gives.
fn operators(name: &str, side: usize) -> [BTreeMap<String, usize>; 2] {
    let mut graphs = variants(Architecture::named(name).unwrap().config([side, side]).graph(), 3).unwrap();
    [0, 2].map(|variant| checked(name, side, &std::mem::take(&mut graphs[variant].1)))
}

/// The operators of `graph`, which give what plain tract gives.
fn checked(name: &str, side: usize, graph: &Graph) -> BTreeMap<String, usize> {
    let bytes = onnx::to_bytes(graph, onnx::Batch::One, &BTreeMap::new()).unwrap();
    let model = Model::from_bytes(&bytes).unwrap();
    assert_eq!(model.input_shape()[1..], [side; 2]);
    let picture = noise(model.input_shape().iter().product());
    let expected = plain_tract(&bytes, model.input_shape()).unwrap()(&picture).unwrap();
    let ours = model.run(&picture).unwrap();
    let size = expected.iter().fold(0_f32, |size, value| size.max(value.abs()));
    for (ours, expected) in ours.iter().zip(&expected) {
        assert!(
            (ours - expected).abs() < 2e-5 * size,
            "{name}: {ours} instead of {expected}, the largest being {size}"
        );
    }
    let on_threads = model.clone().with_threads(3).unwrap().run(&picture).unwrap();
    assert_eq!(on_threads, ours, "{name} on three threads");
    model.operators()
}

/// Asserts that all linear layers (queries, keys and values are one), norms and attentions, `expected` of them, are operators of ours, and that nothing of
/// `without` is left for tract.
fn assert_ours(operators: &BTreeMap<String, usize>, expected: [usize; 3], without: &[&str]) {
    if std::env::consts::ARCH != "x86_64" && std::env::consts::ARCH != "aarch64" {
        return;
    }
    let count = |name: &str| operators.get(name).copied().unwrap_or(0);
    let found = ["EdgeVitLinear", "EdgeVitLayerNorm", "EdgeVitAttention"].map(count);
    assert_eq!(found, expected, "linear layers, norms and attentions of {operators:?}");
    for name in without {
        assert_eq!(count(name), 0, "{name} in {operators:?}");
    }
}

/// What is left of norms, attention and activations where they are not taken.
const OF_A_BLOCK: &[&str] = &["GeluApproximate", "GeluExact", "RmsNorm", "Sigmoid", "Softmax"];

#[test]
fn all_layers_of_a_vit_are_ours_and_the_class_token_is_taken_out_before_the_last() {
    for operators in operators("vit_tiny_patch16_224", 48) {
        assert_ours(&operators, [12 * 4 + 1, 25, 12], &[OF_A_BLOCK, &["Gather", "MoveAxis"]].concat());
    }
}

#[test]
fn layer_scale_goes_into_the_layer_before_it() {
    for operators in operators("vit_small_patch14_dinov2", 56) {
        assert_ours(&operators, [12 * 4 + 1, 25, 12], OF_A_BLOCK);
    }
}

#[test]
fn the_tubelets_of_a_clip_are_cut_into_patches_as_pictures_are() {
    for operators in operators("vit_small_patch16_videomae_224", 48) {
        assert_ours(&operators, [12 * 4 + 1, 25, 12], &[OF_A_BLOCK, &["ConvHir", "Conv"]].concat());
        assert_eq!(operators.get("EdgeVitPatches"), Some(&1), "{operators:?}");
    }
}

/// What merging leaves of the comparison and of the mean where they are not taken.
const OF_A_MERGE: &[&str] = &["GatherNd", "Reduce<ArgMax(false)>", "Reduce<Max>", "Sqrt"];

#[test]
fn merged_tokens_are_compared_and_merged_in_operators_of_ours_and_attention_takes_their_sizes() {
    let tiny = Config { embed_dim: 192, num_heads: 3, image_size: [80, 80], ..Config::default() };
    let siglip = Config { class_token: false, global_pool: GlobalPool::Map, depth: 6, ..tiny.clone() };
    let registers = Config { reg_tokens: 4, no_embed_class: true, layer_scale: true, ..tiny.clone() };
    for (name, config, merged, layers, merges) in [
        ("ViT", tiny.clone(), 2, [12 * 4 + 1, 25, 12], 11),
        ("one by one", tiny, 1, [12 * 4 + 1, 25, 12], 11),
        ("registers", registers, 2, [12 * 4 + 1, 25, 12], 11),
        ("SigLIP", siglip, 3, [6 * 4 + 6, 14, 7], 6),
    ] {
        let [_, _, (_, simplified), _] = variants(vit::graph(&config), 3).unwrap();
        let operators = checked(name, 80, &tokens::merge(&simplified, merged).unwrap().graph);
        assert_ours(&operators, layers, &[OF_A_BLOCK, OF_A_MERGE].concat());
        if std::env::consts::ARCH == "x86_64" || std::env::consts::ARCH == "aarch64" {
            for of_a_merge in ["EdgeVitSimilarTokens", "EdgeVitMergeTokens"] {
                assert_eq!(operators.get(of_a_merge), Some(&merges), "{of_a_merge} in {operators:?}");
            }
        }
    }
}

#[test]
fn both_other_forms_of_gelu_are_taken() {
    for operators in operators("vit_base_patch32_clip_quickgelu_224", 64) {
        assert_ours(&operators, [12 * 4 + 1, 26, 12], OF_A_BLOCK);
    }
    // Its attention pool has the queries of one token that is always the same, and layers of its own.
    for operators in operators("vit_base_patch16_siglip_224", 48) {
        assert_ours(&operators, [12 * 4 + 6, 26, 13], OF_A_BLOCK);
    }
}

#[test]
fn windows_with_their_biases_are_attention() {
    for operators in operators("swin_tiny_patch4_window7_224", 224) {
        assert_ours(&operators, [12 * 4 + 4, 29, 12], OF_A_BLOCK);
    }
}

#[test]
fn attention_over_cosines_is_attention() {
    // Queries and keys, which are brought to a length first, are layers of their own, and so are the values.
    for operators in operators("swinv2_tiny_window8_256", 256) {
        assert_ours(&operators, [12 * 6 + 4, 29, 12], OF_A_BLOCK);
    }
}

#[test]
fn a_convnexts_layers_are_linear() {
    for operators in operators("convnext_atto", 64) {
        assert_ours(&operators, [12 * 2 + 4, 17, 0], &[OF_A_BLOCK, &["DepthWiseConv"]].concat());
    }
}

#[test]
fn a_mobilevits_transformers_are_taken() {
    for operators in operators("mobilevit_xxs", 128) {
        assert_ours(&operators, [9 * 4 + 18 + 3, 21, 9], &[OF_A_BLOCK, &["DepthWiseConv"]].concat());
    }
}
