//! The laws of every method, and the numbers of their parameters.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::rep_adapter::Site;
use super::*;
use crate::graph::Graph;
use crate::tensor::Tensor;
use crate::{convnext, mobilevit, swin, vit};

/// Relative error that sums of some hundreds of float64 products may have.
const F64_TOLERANCE: f64 = 1e-10;
/// The same of merged weights in float32.
const F32_TOLERANCE: f64 = 1e-4;

const SITES: [Site; 5] =
    [Site::BeforeAttention, Site::AfterAttention, Site::BeforeMlp, Site::AfterMlp, Site::EveryLinear];

/// Every method, for widths that are multiples of 8.
fn methods(rank: usize, scale: f64) -> Vec<MethodSpec> {
    let mut specs: Vec<MethodSpec> =
        SITES.iter().map(|&site| MethodSpec::RepAdapter { hidden: 2 * rank, groups: 2, scale, site }).collect();
    specs.extend([
        MethodSpec::Lora { rank, alpha: scale, targets: LoraTarget::queries_and_values() },
        MethodSpec::Lora { rank, alpha: scale, targets: BTreeSet::from(LoraTarget::ALL) },
        MethodSpec::Ssf,
        MethodSpec::Fact { rank, scale },
        MethodSpec::Arc { rank },
        MethodSpec::Rlrr,
        MethodSpec::Dora { rank, alpha: scale },
        MethodSpec::Oft { block_size: 4 },
        MethodSpec::Consolidator { groups: 4 },
    ]);
    specs
}

/// A ViT, a Swin of either version, a ConvNeXt or a MobileViT, of two blocks and one or two widths, all weights between -0.5
/// and 0.5.
fn backbone(width: usize, seed: u32) -> Graph {
    let vit = vit::Config {
        image_size: [8, 8],
        patch_size: 4,
        embed_dim: width,
        depth: 2,
        num_heads: 2,
        mlp_ratio: 2.0,
        ..vit::Config::default()
    };
    let swin = swin::Config {
        image_size: [16, 16],
        embed_dim: width,
        depths: vec![1, 1],
        num_heads: vec![2, 4],
        window_sizes: vec![2, 2],
        mlp_ratio: 2.0,
        v2: (seed % 10 == 3).then(|| swin::V2 { pretrained_window_sizes: vec![0, 0] }),
        ..swin::Config::default()
    };
    let convnext = convnext::Config {
        image_size: [8, 8],
        depths: vec![1, 1],
        dims: vec![width, 2 * width],
        kernel_size: 3,
        mlp_ratio: 2.0,
        ..convnext::Config::default()
    };
    let transformer = mobilevit::Transformer { embed_dim: width, depth: 2, mlp_hidden: 2 * width };
    let stage = |transformer| mobilevit::Stage { bottlenecks: vec![[8, 4]], transformer };
    let mobilevit = mobilevit::Config {
        image_size: [16, 16],
        stages: vec![stage(None), stage(Some(transformer))],
        num_heads: 2,
        ..mobilevit::Config::of_widths([4; 5], [8; 3], 2, 8)
    };
    let mut graph = match seed % 5 {
        0 | 1 => vit::graph(&vit),
        2 => convnext::graph(&convnext),
        3 => swin::graph(&swin),
        _ => mobilevit::graph(&mobilevit),
    };
    let mut state = seed;
    for param in graph.params().unwrap().into_iter().flatten() {
        let len = param.shape.iter().product();
        graph.weights.insert(param.name, Tensor::new(param.shape, random(&mut state, len)).unwrap());
    }
    graph
}

fn random(state: &mut u32, len: usize) -> Vec<f32> {
    let mut next = || {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

/// Parameters that are all moved away from where they begin.
fn trained(method: &dyn Method, graph: &Graph, hosts: &[Host], seed: u32) -> BTreeMap<String, Tensor> {
    let mut tensors = fresh(method, graph, hosts, u64::from(seed)).unwrap();
    let mut state = seed ^ 0x5555;
    for tensor in tensors.values_mut() {
        let noise = random(&mut state, tensor.len());
        tensor.values_mut().iter_mut().zip(noise).for_each(|(value, noise)| *value += 0.5 * noise);
    }
    tensors
}

/// The method's layers; `None` for a method of attention alone on a ConvNeXt.
fn hosts_of(graph: &Graph, method: &dyn Method) -> Option<Vec<Host>> {
    let of_attention = method.roles().iter().all(|role| matches!(role, Role::Qkv | Role::Proj));
    let is_convnext = graph.find("stem.map").is_some();
    (!(of_attention && is_convnext)).then(|| hosts(graph, method.roles(), method.name()).unwrap())
}

fn input(host: &Host, seed: f64) -> Vec<f64> {
    // A LayerNorm's map is a diagonal.
    let len = if host.role == Role::Norm { host.out_features } else { host.in_features };
    (0..len).map(|i| (seed + 1.7 * i as f64).sin()).collect()
}

fn assert_near(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    let largest = expected.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= tolerance * largest, "{what}: {got} against {expected}");
    }
    assert_eq!(got.len(), expected.len(), "{what}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn merged_weights_compute_what_the_method_is_defined_as(
        eighths in 1usize..4, rank in 1usize..4, scale in prop_oneof![Just(0.1), Just(1.0), -2.0f64..2.0], seed in any::<u32>(),
    ) {
        let graph = backbone(8 * eighths, seed);
        for spec in methods(rank, scale) {
            let method = spec.method().unwrap();
            let Some(hosts) = hosts_of(&graph, method.as_ref()) else { continue };
            let tensors = trained(method.as_ref(), &graph, &hosts, seed);
            let theta = Theta::from_tensors(&tensors);
            let stored = merged(method.as_ref(), &graph, &hosts, &theta, 1.0).unwrap();
            for host in &hosts {
                let frozen = Affine::of(&graph, host).unwrap();
                let x = input(host, f64::from(seed % 97));
                let expected = method.forward(host, &theta, &frozen, &x).unwrap();
                let double = method.merge(host, &theta, &frozen).unwrap();
                assert_near(&double.apply(&x), &expected, F64_TOLERANCE, &format!("{spec:?}, {}", host.name));
                let weight = Matrix::from_tensor(&stored[&host.param("weight")]);
                let bias = Matrix::from_tensor(&stored[&host.param("bias")]).values().to_vec();
                let single = Affine { weight, bias };
                assert_near(&single.apply(&x), &expected, F32_TOLERANCE, &format!("{spec:?}, {}, f32", host.name));
            }
        }
    }

    #[test]
    fn a_fresh_method_is_the_backbone(eighths in 1usize..4, rank in 1usize..4, seed in any::<u32>()) {
        let graph = backbone(8 * eighths, seed);
        for spec in methods(rank, 0.7) {
            let method = spec.method().unwrap();
            let Some(hosts) = hosts_of(&graph, method.as_ref()) else { continue };
            let theta = Theta::from_tensors(&fresh(method.as_ref(), &graph, &hosts, 1).unwrap());
            for (name, weight) in merged(method.as_ref(), &graph, &hosts, &theta, 1.0).unwrap() {
                let got = Matrix::from_tensor(&weight);
                let expected = Matrix::from_tensor(&graph.weights[&name]);
                // DoRA divides by lengths that it multiplied with, the magnitudes stored in float32.
                let tolerance = if spec.name() == "dora" { 1e-6 } else { 0.0 };
                assert_near(got.values(), expected.values(), tolerance, &format!("{spec:?}, {name}"));
            }
        }
    }

    #[test]
    fn strength_0_is_the_backbone_and_a_half_lies_between(seed in any::<u32>()) {
        let graph = backbone(8, seed);
        for spec in methods(2, 1.0) {
            let method = spec.method().unwrap();
            let Some(hosts) = hosts_of(&graph, method.as_ref()) else { continue };
            let theta = Theta::from_tensors(&trained(method.as_ref(), &graph, &hosts, seed));
            let at = |strength| merged(method.as_ref(), &graph, &hosts, &theta, strength).unwrap();
            let (none, half, full) = (at(0.0), at(0.5), at(1.0));
            for (name, none) in &none {
                prop_assert_eq!(none, &graph.weights[name], "{:?}", spec);
                let middle = none.values().iter().zip(full[name].values()).map(|(a, b)| f64::midpoint((*a).into(), (*b).into()));
                let got: Vec<f64> = half[name].values().iter().map(|&value| value.into()).collect();
                assert_near(&got, &middle.collect::<Vec<f64>>(), 1e-6, name);
            }
        }
    }
}

/// The gradient of `sum(G W' + g c')` over all hosts, against central differences.
#[test]
fn a_pull_back_is_the_gradient_of_the_merge() {
    const H: f64 = 1e-5;
    // A ViT, a Swin, a ConvNeXt, a MobileViT.
    let graphs = [5, 8, 2, 4].map(|seed| backbone(8, seed));
    for (graph, spec) in graphs.iter().flat_map(|graph| methods(2, 0.7).into_iter().map(move |spec| (graph, spec))) {
        let method = spec.method().unwrap();
        let Some(hosts) = hosts_of(graph, method.as_ref()) else { continue };
        let tensors = trained(method.as_ref(), graph, &hosts, 3);
        let theta = Theta::from_tensors(&tensors);
        let slopes = |host: &Host| Affine {
            weight: Matrix::from_fn(host.out_features, host.in_features, |i, j| {
                (0.3 * i as f64 + 1.1 * j as f64).sin()
            }),
            bias: (0..host.out_features).map(|i| (1.0 + 0.7 * i as f64).cos()).collect(),
        };
        let loss = |theta: &Theta| -> f64 {
            let of_host = |host: &Host| {
                let merged = method.merge(host, theta, &Affine::of(graph, host).unwrap()).unwrap();
                let slopes = slopes(host);
                matrix::dot(merged.weight.values(), slopes.weight.values()) + matrix::dot(&merged.bias, &slopes.bias)
            };
            hosts.iter().map(of_host).sum()
        };
        let own = params(method.as_ref(), &hosts).unwrap();
        let mut gradient = Theta::zeros(&own);
        for host in &hosts {
            let frozen = Affine::of(graph, host).unwrap();
            method.pull_back(host, &theta, &frozen, &slopes(host), &mut gradient).unwrap();
        }
        for param in &own {
            for index in 0..param.shape.iter().product() {
                let moved = |step: f64| {
                    let mut theta = theta.clone();
                    theta.get_mut(&param.name).unwrap().values_mut()[index] += step;
                    loss(&theta)
                };
                let expected = (moved(H) - moved(-H)) / (2.0 * H);
                let got = gradient.get(&param.name).unwrap().values()[index];
                let scale = expected.abs().max(1.0);
                assert!((got - expected).abs() < 1e-6 * scale, "{spec:?}, {}[{index}]: {got} {expected}", param.name);
            }
        }
    }
}

/// ViT-B/16 at 224, without a head; no weights.
fn vit_b() -> Graph {
    vit::graph(&vit::Config::default())
}

fn count(spec: &MethodSpec) -> usize {
    let graph = vit_b();
    match spec.method() {
        Some(method) => {
            let hosts = hosts(&graph, method.roles(), method.name()).unwrap();
            let own = params(method.as_ref(), &hosts).unwrap();
            own.iter().map(|param| param.shape.iter().product::<usize>()).sum()
        }
        None => {
            let tuned = spec.tuned(&graph).unwrap();
            let params = graph.params().unwrap().into_iter().flatten().filter(|param| tuned.contains(&param.name));
            params.map(|param| param.shape.iter().product::<usize>()).sum()
        }
    }
}

/// docs/methods.md says which of these are published, and where.
#[test]
fn vit_b_has_as_many_parameters_as_the_table_says() {
    let adapter = |site| MethodSpec::RepAdapter { hidden: 8, groups: 2, scale: 1.0, site };
    for (spec, expected) in [
        (adapter(Site::BeforeAttention), 119_904),
        (adapter(Site::BeforeMlp), 119_904),
        (adapter(Site::AfterAttention), 119_904),
        (adapter(Site::AfterMlp), 119_904),
        (MethodSpec::Lora { rank: 8, alpha: 8.0, targets: LoraTarget::queries_and_values() }, 294_912),
        (MethodSpec::Ssf, 205_824),
        (adapter(Site::EveryLinear), 839_040),
        (MethodSpec::Dora { rank: 8, alpha: 8.0 }, 322_560),
        (MethodSpec::Oft { block_size: 16 }, 138_240),
        (MethodSpec::Consolidator { groups: 96 }, 884_736),
        (MethodSpec::Fact { rank: 16, scale: 1.0 }, 61_440),
        (MethodSpec::Arc { rank: 50 }, 96_432),
        (MethodSpec::Rlrr, 287_232),
        (MethodSpec::BitFit, 102_912),
        (MethodSpec::LayerNorm, 38_400),
        (MethodSpec::Full, 85_798_656),
        (MethodSpec::Linear, 0),
        (MethodSpec::LastBlocks { count: 1 }, 7_089_408),
    ] {
        assert_eq!(count(&spec), expected, "{spec:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let graph = backbone(8, 1);
    let refused = |spec: MethodSpec| {
        let method = spec.method().unwrap();
        let hosts = hosts(&graph, method.roles(), method.name()).unwrap();
        fresh(method.as_ref(), &graph, &hosts, 0).unwrap_err().to_string()
    };
    assert!(refused(MethodSpec::Oft { block_size: 3 }).contains("blocks of 3 do not fill a width of 8"));
    assert!(refused(MethodSpec::Consolidator { groups: 5 }).contains("5 groups do not divide"));
    let site = Site::EveryLinear;
    let error = refused(MethodSpec::RepAdapter { hidden: 3, groups: 2, scale: 1.0, site });
    assert!(error.contains("multiples of groups 2"), "{error}");
    let error = MethodSpec::LastBlocks { count: 3 }.tuned(&graph).unwrap_err();
    assert_eq!(error, MethodError::LastBlocks { got: 3, depth: 2 });
    let mut empty = Graph::default();
    empty.push("pixels", crate::Op::Input { shape: vec![4] }, &[]);
    assert!(matches!(hosts(&empty, &[Role::Qkv], "lora"), Err(MethodError::NoHost { .. })));
    let method = MethodSpec::Ssf.method().unwrap();
    let hosts = hosts(&graph, method.roles(), method.name()).unwrap();
    let error = merged(method.as_ref(), &graph, &hosts, &Theta::default(), 1.0).unwrap_err();
    assert!(matches!(error, MethodError::Missing { .. }), "{error}");
}

#[test]
fn a_host_without_bias_gets_one_of_zero() {
    let mut graph = backbone(8, 1);
    let id = graph.find("blocks.0.attn.qkv").unwrap();
    graph.nodes[id].op = crate::Op::Linear { out_features: 24, bias: false };
    graph.weights.remove("blocks.0.attn.qkv.bias");
    let hosts = hosts(&graph, &[Role::Qkv], "ssf").unwrap();
    let graph = with_biases(&graph, &hosts).unwrap();
    graph.validate().unwrap();
    assert!(graph.weights["blocks.0.attn.qkv.bias"].values().iter().all(|&value| value == 0.0));
}
