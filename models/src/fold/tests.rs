//! The laws of the fold.

use proptest::prelude::*;

use super::*;
use crate::Activation;

/// Half a unit in the last place of float32, relative: what casting a merged weight may change.
const F32_ROUNDING: f64 = 1.0 / (1u64 << 24) as f64;
/// Relative error that sums of some dozens of float64 products may have.
const F64_ROUNDING: f64 = 1e-13;

/// A graph of one adapter and the linear layers that read it, for tokens of width `dim`.
fn adapted(dim: usize, hidden: usize, groups: usize, scale: f32, hosts: &[(usize, bool)]) -> Graph {
    let mut graph = Graph::default();
    let input = graph.push("tokens", Op::Input { shape: vec![2, dim] }, &[]);
    let adapter = graph.push("adapter", Op::RepAdapter { hidden, groups, scale }, &[input]);
    for (index, &(out_features, bias)) in hosts.iter().enumerate() {
        graph.push(format!("host{index}"), Op::Linear { out_features, bias }, &[adapter]);
    }
    graph
}

/// Fills every weight by a cheap generator; those of adapters too where `adapters` says so, else with zeros.
fn filled(mut graph: Graph, seed: u32, adapters: bool) -> Graph {
    let mut state = seed;
    for param in graph.params().unwrap().into_iter().flatten() {
        let silent = param.name.contains("adapter_") && !adapters && !param.name.ends_with("A.weight");
        let mut tensor = Tensor::full(param.shape, 0.0).unwrap();
        for value in tensor.values_mut() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let random = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
            *value = if silent { 0.0 } else { random };
        }
        graph.weights.insert(param.name, tensor);
    }
    graph
}

/// The graph without its adapters, hosts unchanged.
fn without_adapters(graph: &Graph) -> Graph {
    let mut plain = graph.clone();
    let adapter = plain.find("adapter").unwrap();
    plain.nodes.remove(adapter);
    for node in &mut plain.nodes[adapter..] {
        node.inputs = vec![0];
    }
    plain.retain_used_weights().unwrap();
    plain
}

/// `W x + c` of the linear layer `name` in float64, and the sum of its terms' magnitudes.
fn linear(graph: &Graph, name: &str, x: &[f64]) -> Vec<(f64, f64)> {
    let weight = doubled(&graph.weights[&format!("{name}.weight")]);
    let bias = graph.weights.get(&format!("{name}.bias")).map(doubled);
    let rows = weight.chunks_exact(x.len()).enumerate();
    rows.map(|(i, row)| {
        let bias = bias.as_ref().map_or(0.0, |bias| bias[i]);
        let terms = row.iter().zip(x).map(|(w, x)| w * x).chain([bias]);
        (terms.clone().sum(), terms.map(f64::abs).sum())
    })
    .collect()
}

/// The adapter of [`adapted`] on one token, written straight from its definition.
fn adapter(graph: &Graph, x: &[f64], groups: usize, strength: f64) -> Vec<f64> {
    let get = |part: &str| doubled(&graph.weights[&format!("adapter.adapter_{part}")]);
    let (a, a_bias, b, b_bias) = (get("A.weight"), get("A.bias"), get("B.weight"), get("B.bias"));
    let Op::RepAdapter { scale, .. } = graph.nodes[graph.find("adapter").unwrap()].op else { unreachable!() };
    let (dim, hidden) = (x.len(), a_bias.len());
    let unit = |j: usize| a_bias[j] + (0..dim).map(|k| a[j * dim + k] * x[k]).sum::<f64>();
    let units: Vec<f64> = (0..hidden).map(unit).collect();
    let (rows, columns) = (dim / groups, hidden / groups);
    let branch = |i: usize| {
        let group = &units[i / rows * columns..][..columns];
        b_bias[i] + group.iter().zip(&b[i * columns..]).map(|(unit, b)| unit * b).sum::<f64>()
    };
    (0..dim).map(|i| x[i] + strength * f64::from(scale) * branch(i)).collect()
}

fn bits(graph: &Graph) -> Vec<(&String, &[usize], Vec<u32>)> {
    let bits = |tensor: &Tensor| tensor.values().iter().map(|value| value.to_bits()).collect();
    graph.weights.iter().map(|(name, tensor)| (name, tensor.shape(), bits(tensor))).collect()
}

fn is_plain(folded: &Graph, plain: &Graph) -> bool {
    folded.to_text().unwrap() == plain.to_text().unwrap() && bits(folded) == bits(plain)
}

/// An adapter behind the layer `host`, read by a nonlinearity.
fn adapted_behind(is_patch_embed: bool, dim: usize, bias: bool, adapter: Op) -> Graph {
    let mut graph = Graph::default();
    let host = if is_patch_embed {
        let pixels = graph.push("pixels", Op::Input { shape: vec![3, 4, 2] }, &[]);
        graph.push("host", Op::PatchEmbed { patch_size: 2, embed_dim: dim, tubelets: 1 }, &[pixels])
    } else {
        let tokens = graph.push("tokens", Op::Input { shape: vec![2, 5] }, &[]);
        graph.push("host", Op::Linear { out_features: dim, bias }, &[tokens])
    };
    let adapter = graph.push("adapter", adapter, &[host]);
    graph.push("act", Op::Act(Activation::Gelu), &[adapter]);
    graph
}

#[test]
fn a_fresh_adapter_folds_to_the_backbone_bit_for_bit() {
    let mut graph = filled(adapted(8, 4, 2, 1.0, &[(6, true), (3, false)]), 1, false);
    // A negative zero is where adding a zero would show.
    graph.weights.get_mut("host0.weight").unwrap().values_mut()[3] = -0.0;
    graph.weights.get_mut("host0.bias").unwrap().values_mut()[0] = -0.0;
    assert!(is_plain(&fold(&graph, 1.0).unwrap(), &without_adapters(&graph)));
}

#[test]
fn strength_0_gives_the_backbone_bit_for_bit() {
    let graph = filled(adapted(8, 4, 2, 0.7, &[(6, true), (3, false)]), 2, true);
    assert!(is_plain(&fold(&graph, 0.0).unwrap(), &without_adapters(&graph)));
    assert!(!is_plain(&fold(&graph, 0.1).unwrap(), &without_adapters(&graph)));
}

#[test]
fn the_folded_graph_has_the_nodes_of_the_plain_one() {
    let graph = filled(adapted(8, 4, 2, 1.0, &[(6, true), (3, true)]), 3, true);
    let folded = fold(&graph, 1.0).unwrap();
    assert_eq!(folded.to_text().unwrap(), without_adapters(&graph).to_text().unwrap());
    assert!(folded.weights.keys().all(|name| !name.contains("adapter")));
    folded.validate().unwrap();
}

#[test]
fn a_host_without_bias_gets_one_only_for_a_shift() {
    let mut graph = filled(adapted(8, 4, 2, 1.0, &[(6, false)]), 4, true);
    let folded = fold(&graph, 1.0).unwrap();
    assert_eq!(folded.nodes[1].op, Op::Linear { out_features: 6, bias: true });
    assert_eq!(folded.weights["host0.bias"].shape(), [6]);
    for bias in ["adapter.adapter_A.bias", "adapter.adapter_B.bias"] {
        graph.weights.get_mut(bias).unwrap().values_mut().fill(0.0);
    }
    let folded = fold(&graph, 1.0).unwrap();
    assert_eq!(folded.nodes[1].op, Op::Linear { out_features: 6, bias: false });
}

#[test]
fn a_second_fold_is_refused() {
    let graph = filled(adapted(4, 2, 1, 1.0, &[(3, true)]), 5, true);
    let folded = fold(&graph, 1.0).unwrap();
    assert_eq!(fold(&folded, 1.0), Err(FoldError::NoAdapter));
}

#[test]
fn a_strength_out_of_range_is_refused() {
    let graph = filled(adapted(4, 2, 1, 1.0, &[(3, true)]), 5, true);
    for strength in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(fold(&graph, strength), Err(FoldError::Strength { .. })), "{strength}");
    }
}

#[test]
fn an_adapter_that_something_else_reads_is_refused() {
    let mut graph = adapted(4, 2, 1, 1.0, &[(4, true)]);
    graph.push("act", Op::Act(Activation::Gelu), &[1]);
    let error = fold(&filled(graph, 6, true), 1.0).unwrap_err();
    let reader = FoldError::Reader { adapter: "adapter".into(), reader: "act".into(), op: "Gelu" };
    assert_eq!(error, reader);

    let mut graph = adapted(4, 2, 1, 1.0, &[]);
    graph.push("second", Op::RepAdapter { hidden: 2, groups: 1, scale: 1.0 }, &[1]);
    graph.push("host", Op::Linear { out_features: 3, bias: true }, &[2]);
    let error = fold(&filled(graph, 6, true), 1.0).unwrap_err();
    assert!(matches!(error, FoldError::Reader { reader, op: "RepAdapter", .. } if reader == "second"));
}

#[test]
fn an_adapter_that_is_the_output_is_refused() {
    let graph = filled(adapted(4, 2, 1, 1.0, &[]), 7, true);
    assert_eq!(fold(&graph, 1.0), Err(FoldError::Output { adapter: "adapter".into() }));
}

#[test]
fn a_layer_that_something_else_reads_takes_no_adapter_behind_it_in() {
    let mut graph = adapted_behind(false, 4, true, Op::RepAdapter { hidden: 2, groups: 1, scale: 1.0 });
    graph.push("sum", Op::Add, &[1, 3]);
    let error = fold(&filled(graph, 6, true), 1.0).unwrap_err();
    assert!(matches!(error, FoldError::Reader { reader, .. } if reader == "act"));
}

#[test]
fn a_depthwise_convolution_takes_no_adapter_in() {
    let mut graph = Graph::default();
    let map = graph.push("map", Op::Input { shape: vec![4, 4, 4] }, &[]);
    let linear = graph.push("linear", Op::Linear { out_features: 4, bias: true }, &[map]);
    let adapter = graph.push("adapter", Op::RepAdapter { hidden: 2, groups: 1, scale: 1.0 }, &[linear]);
    graph.push("conv", Op::DepthwiseConv { kernel_size: 3, stride: 1 }, &[adapter]);
    let error = fold(&filled(graph, 6, true), 1.0).unwrap_err();
    assert_eq!(error, FoldError::Depthwise { adapter: "adapter".into(), reader: "conv".into() });
}

#[test]
fn a_layer_takes_in_adapters_on_both_sides() {
    let op = Op::RepAdapter { hidden: 2, groups: 1, scale: 1.0 };
    let mut graph = Graph::default();
    let tokens = graph.push("tokens", Op::Input { shape: vec![2, 4] }, &[]);
    let before = graph.push("before", op.clone(), &[tokens]);
    let host = graph.push("host", Op::Linear { out_features: 6, bias: false }, &[before]);
    let behind = graph.push("adapter", op, &[host]);
    graph.push("act", Op::Act(Activation::Gelu), &[behind]);
    let graph = filled(graph, 9, true);
    let folded = fold(&graph, 1.0).unwrap();
    assert_eq!(folded.nodes.len(), 3);
    let x = [0.3, -0.8, 0.5, 0.1];
    let mut renamed = graph.clone();
    for part in ["A.weight", "A.bias", "B.weight", "B.bias"] {
        let weight = graph.weights[&format!("before.adapter_{part}")].clone();
        renamed.weights.insert(format!("adapter.adapter_{part}"), weight);
    }
    let hidden: Vec<f64> = linear(&graph, "host", &adapter(&renamed, &x, 1, 1.0)).iter().map(|&(y, _)| y).collect();
    for ((got, _), expected) in linear(&folded, "host", &x).into_iter().zip(adapter(&graph, &hidden, 1, 1.0)) {
        assert!((got - expected).abs() < 1e-5, "{got} against {expected}");
    }
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let plain = filled(adapted(4, 2, 1, 1.0, &[(3, true)]), 8, true);
    let mut graph = plain.clone();
    graph.weights.get_mut("adapter.adapter_A.weight").unwrap().values_mut()[0] = f32::NAN;
    assert_eq!(fold(&graph, 1.0), Err(FoldError::NotFinite { node: "adapter".into() }));
    let mut graph = plain;
    graph.weights.get_mut("adapter.adapter_B.weight").unwrap().values_mut().fill(f32::MAX);
    graph.weights.get_mut("host0.weight").unwrap().values_mut().fill(10.0);
    assert_eq!(fold(&graph, 1.0), Err(FoldError::NotFinite { node: "host0".into() }));
}

proptest! {
    /// `W' x + c'` against `W f(x) + c`, both in float64: they differ by the float32 rounding of `W'` and `c'`.
    #[test]
    fn the_folded_layers_compute_what_adapter_and_layer_did(
        (groups, per_group, rows) in (1usize..4, 1usize..4, 1usize..6),
        hosts in prop::collection::vec((1usize..6, any::<bool>()), 1..4),
        scale in prop_oneof![Just(0.1f32), Just(1.0), Just(10.0), -2.0f32..2.0],
        strength in 0.0f64..=1.0,
        seed in any::<u32>(),
    ) {
        let (dim, hidden) = (groups * rows, groups * per_group);
        let graph = filled(adapted(dim, hidden, groups, scale, &hosts), seed, true);
        let folded = fold(&graph, strength).unwrap();
        let x: Vec<f64> = (0..dim).map(|i| (seed as f64 * 1e-6 + i as f64).sin()).collect();
        let adapted_x = adapter(&graph, &x, groups, strength);
        for index in 0..hosts.len() {
            let name = format!("host{index}");
            let expected = linear(&graph, &name, &adapted_x);
            for ((got, got_size), (expected, expected_size)) in linear(&folded, &name, &x).into_iter().zip(expected) {
                let tolerance = F32_ROUNDING * got_size + F64_ROUNDING * (got_size + expected_size + 10.0);
                prop_assert!((got - expected).abs() <= tolerance, "{name}: {got} against {expected}");
            }
        }
    }

    /// The same for an adapter that stands behind its host.
    #[test]
    fn a_layer_takes_in_the_adapter_behind_it(
        (groups, per_group, rows) in (1usize..4, 1usize..4, 1usize..6),
        (is_patch_embed, bias) in any::<(bool, bool)>(),
        scale in prop_oneof![Just(0.1f32), Just(1.0), Just(10.0), -2.0f32..2.0],
        strength in 0.0f64..=1.0,
        seed in any::<u32>(),
    ) {
        let (dim, hidden) = (groups * rows, groups * per_group);
        let op = Op::RepAdapter { hidden, groups, scale };
        let graph = filled(adapted_behind(is_patch_embed, dim, bias, op), seed, true);
        let folded = fold(&graph, strength).unwrap();
        prop_assert_eq!(folded.nodes.len(), 3);
        prop_assert!(folded.validate().is_ok());
        let len = if is_patch_embed { 12 } else { 5 };
        let x: Vec<f64> = (0..len).map(|i| (seed as f64 * 1e-6 + i as f64).sin()).collect();
        let plain = linear(&graph, "host", &x);
        let y: Vec<f64> = plain.iter().map(|&(y, _)| y).collect();
        let size: f64 = plain.iter().map(|&(_, size)| size).sum();
        for ((got, got_size), expected) in linear(&folded, "host", &x).into_iter().zip(adapter(&graph, &y, groups, strength)) {
            let tolerance = F32_ROUNDING * got_size + F64_ROUNDING * (got_size + 100.0 * size + 10.0);
            prop_assert!((got - expected).abs() <= tolerance, "{got} against {expected}");
        }
    }
}
