//! MobileViT as timm's `mobilevit.py` computes it (arXiv 2110.02178): inverted residuals, and between them transformers over
//! the pixels that patches have in one place. Maps are channels last, so that a pointwise convolution is a Linear, and every
//! BatchNorm is part of the convolution before it. Hugging Face's `modeling_mobilevit.py` computes the same of pictures whose
//! channels are blue, green, red.

mod detect;
mod weights;

use std::collections::BTreeMap;

use crate::backbone::BackboneError;
use crate::op::{Op, Windows};
use crate::{Activation, Graph, NodeId, Tensor, vit};

/// Side of all kernels but the pointwise ones.
const KERNEL: usize = 3;

/// The sizes that make one MobileViT.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Height and width of a picture in pixels.
    pub image_size: [usize; 2],
    /// Channels of a picture.
    pub in_chans: usize,
    /// Channels behind the first convolution, whose stride is 2.
    pub stem_chs: usize,
    /// The stages; every one but the first halves the map.
    pub stages: Vec<Stage>,
    /// Side of a patch of a transformer, in places of its map.
    pub patch_size: usize,
    /// Heads of every transformer.
    pub num_heads: usize,
    /// Width of the features.
    pub num_features: usize,
    /// Added to the variance in LayerNorms.
    pub ln_eps: f32,
    /// Number of classes of the head; `None` for features alone.
    pub num_classes: Option<usize>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Width within and behind each inverted residual.
    pub bottlenecks: Vec<[usize; 2]>,
    /// The transformer behind them.
    pub transformer: Option<Transformer>,
}

/// The transformer of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transformer {
    /// Width.
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Width of the MLP's hidden layer.
    pub mlp_hidden: usize,
}

impl Config {
    /// The model of these stage widths, transformer widths and expansion of the inverted residuals, for 256 pixels without a
    /// head: MobileViT-XXS is `[16, 24, 48, 64, 80]`, `[64, 80, 96]`, 2, 320 features.
    pub fn of_widths(chs: [usize; 5], dims: [usize; 3], ratio: usize, num_features: usize) -> Self {
        let stem_chs = 16;
        let mut input = stem_chs;
        let mut stages = Vec::with_capacity(chs.len());
        for (stage, &out) in chs.iter().enumerate() {
            let bottlenecks = (0..if stage == 1 { 3 } else { 1 }).map(|_| {
                let mid = ratio * input;
                input = out;
                [mid, out]
            });
            let bottlenecks = bottlenecks.collect();
            let transformer = stage.checked_sub(2).map(|at| Transformer {
                embed_dim: dims[at],
                depth: [2, 4, 3][at],
                mlp_hidden: 2 * dims[at],
            });
            stages.push(Stage { bottlenecks, transformer });
        }
        Self {
            image_size: [256, 256],
            in_chans: 3,
            stem_chs,
            stages,
            patch_size: 2,
            num_heads: 4,
            num_features,
            ln_eps: 1e-5,
            num_classes: None,
        }
    }

    /// What both sides of a picture must be a multiple of, so that every transformer's map is whole patches.
    pub fn image_step(&self) -> usize {
        let last = self.stages.iter().rposition(|stage| stage.transformer.is_some());
        let patch = if last.is_some() { self.patch_size } else { 1 };
        (2 << self.stages.len().saturating_sub(1)).max(patch << last.map_or(0, |stage| stage + 1))
    }

    fn check_image_size(&self) -> Result<(), BackboneError> {
        let ([height, width], step) = (self.image_size, self.image_step());
        match self.image_size.iter().all(|&side| side > 0 && side.is_multiple_of(step)) {
            true => Ok(()),
            false => Err(BackboneError::MapSize { height, width, step }),
        }
    }
}

/// The graph of a MobileViT, without weights. The nodes bear timm's names: `pixels` `[C, H, W]`, `stem.*`,
/// `stages.{i}.{j}.*`, `final_conv.*`, `pool` `[D]` and, with classes, `head`. What a kernel covers is unfolded in nodes called
/// `patches`.
///
/// Sizes that do not fit each other are found by [`Graph::shapes`].
pub fn graph(config: &Config) -> Graph {
    let mut graph = Graph::default();
    let [height, width] = config.image_size;
    let pixels = graph.push("pixels", Op::Input { shape: vec![config.in_chans, height, width] }, &[]);
    let first = Op::Unfold { kernel_size: KERNEL, stride: 2, from_pixels: true };
    let mut x = convolution(&mut graph, "stem", config.stem_chs, first, pixels);
    let mut dim = config.stem_chs;
    let mut size = config.image_size.map(|side| side.div_ceil(2));
    for (index, stage) in config.stages.iter().enumerate() {
        for (block, &[mid, out]) in stage.bottlenecks.iter().enumerate() {
            let stride = if index > 0 && block == 0 { 2 } else { 1 };
            let name = format!("stages.{index}.{block}");
            x = inverted_residual(&mut graph, &name, [dim, mid, out], stride, x);
            dim = out;
            size = size.map(|side| side.div_ceil(stride));
        }
        if let Some(transformer) = &stage.transformer {
            let name = format!("stages.{index}.{}", stage.bottlenecks.len());
            x = transform(&mut graph, config, transformer, &name, dim, size, x);
        }
    }
    x = pointwise(&mut graph, "final_conv", config.num_features, x);
    x = graph.push("pool", Op::MeanTokens { skip: 0 }, &[x]);
    if let Some(out_features) = config.num_classes {
        graph.push("head", Op::Linear { out_features, bias: true }, &[x]);
    }
    graph
}

/// `silu(conv(x))`, where the kernel covers what `unfold` says.
fn convolution(graph: &mut Graph, name: &str, out: usize, unfold: Op, x: NodeId) -> NodeId {
    let x = graph.push(format!("{name}.patches"), unfold, &[x]);
    pointwise(graph, name, out, x)
}

/// `silu(linear(x))`.
fn pointwise(graph: &mut Graph, name: &str, out: usize, x: NodeId) -> NodeId {
    let x = graph.push(format!("{name}.conv"), Op::Linear { out_features: out, bias: true }, &[x]);
    graph.push(format!("{name}.act"), Op::Act(Activation::Silu), &[x])
}

/// `conv3(silu(conv2(silu(conv1(x)))))`, and `x` besides where the shapes are alike.
fn inverted_residual(
    graph: &mut Graph,
    block: &str,
    [dim, mid, out]: [usize; 3],
    stride: usize,
    input: NodeId,
) -> NodeId {
    let name = |module: &str| format!("{block}.{module}");
    let mut x = pointwise(graph, &name("conv1_1x1"), mid, input);
    x = graph.push(name("conv2_kxk.conv"), Op::DepthwiseConv { kernel_size: KERNEL, stride }, &[x]);
    x = graph.push(name("conv2_kxk.act"), Op::Act(Activation::Silu), &[x]);
    x = graph.push(name("conv3_1x1.conv"), Op::Linear { out_features: out, bias: true }, &[x]);
    if stride == 1 && dim == out { graph.push(name("add"), Op::Add, &[input, x]) } else { x }
}

/// A MobileViT block over maps of `size` and width `dim`.
fn transform(
    graph: &mut Graph,
    config: &Config,
    transformer: &Transformer,
    block: &str,
    dim: usize,
    size: [usize; 2],
    input: NodeId,
) -> NodeId {
    let name = |module: &str| format!("{block}.{module}");
    let Transformer { embed_dim, depth, mlp_hidden } = *transformer;
    let unfold = Op::Unfold { kernel_size: KERNEL, stride: 1, from_pixels: false };
    let mut x = convolution(graph, &name("conv_kxk"), dim, unfold.clone(), input);
    x = graph.push(name("conv_1x1"), Op::Linear { out_features: embed_dim, bias: false }, &[x]);

    let window = size.map(|side| side.checked_div(config.patch_size).unwrap_or(0));
    let windows = Windows { grid: size, window, shift: [0, 0], is_dilated: true };
    x = graph.push(name("patches"), Op::WindowPartition(windows), &[x]);
    let of_block = vit::Config {
        embed_dim,
        num_heads: config.num_heads,
        mlp_ratio: mlp_hidden as f32 / embed_dim as f32,
        ln_eps: config.ln_eps,
        act_layer: Activation::Silu,
        layer_scale: false,
        ..vit::Config::default()
    };
    for index in 0..depth {
        let attention = Op::Attention { num_heads: config.num_heads, scale: of_block.attention_scale() };
        x = vit::block(graph, &of_block, attention, &name(&format!("transformer.{index}")), x);
    }
    x = graph.push(name("norm"), Op::LayerNorm { eps: config.ln_eps }, &[x]);
    x = graph.push(name("map"), Op::WindowReverse(windows), &[x]);

    x = pointwise(graph, &name("conv_proj"), dim, x);
    x = graph.push(name("cat"), Op::Concat, &[input, x]);
    convolution(graph, &name("conv_fusion"), dim, unfold, x)
}

/// The sizes and the graph of the model that has these weights, by timm's names, for pictures of `image_size`.
///
/// # Errors
/// When sizes cannot be told, a picture does not fit, or a convolution has another shape.
pub(crate) fn from_weights(
    mut weights: BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
    image_size: Option<[usize; 2]>,
) -> Result<(Config, Graph), BackboneError> {
    let mut config = Config::detect(&weights, metadata)?;
    config.image_size = image_size.unwrap_or(config.image_size);
    config.check_image_size()?;
    weights::without_batch_norms(&mut weights)?;
    weights::as_linear(&mut weights)?;
    let mut graph = graph(&config);
    graph.weights = weights;
    Ok((config, graph))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Cost;

    pub(super) fn tiny() -> Config {
        Config {
            image_size: [64, 128],
            num_classes: Some(3),
            ..Config::of_widths([4, 8, 8, 12, 16], [8, 12, 16], 2, 20)
        }
    }

    #[test]
    fn mobilevit_s_costs_what_its_paper_says() {
        let config = Config::of_widths([32, 64, 96, 128, 160], [144, 192, 240], 4, 640);
        let cost = Cost::of(&graph(&Config { num_classes: Some(1000), ..config })).unwrap();
        // The paper lists 5.6 M parameters and 2.0 GFLOP, a multiplication with an addition being one.
        assert!((cost.parameters as f64 / 1e6 - 5.58).abs() < 0.03, "{}", cost.parameters);
        assert!((cost.multiply_adds as f64 / 1e9 - 2.0).abs() < 0.1, "{}", cost.multiply_adds);
    }

    #[test]
    fn a_picture_of_broken_patches_is_refused() {
        tiny().check_image_size().unwrap();
        assert_eq!(tiny().image_step(), 64);
        let error = Config { image_size: [256, 224], ..tiny() }.check_image_size().unwrap_err().to_string();
        assert!(error.contains("256x224") && error.contains("multiples of 64"), "{error}");
    }

    #[test]
    fn every_transformer_block_is_a_block_that_adapters_find() {
        let graph = graph(&tiny());
        graph.shapes().unwrap();
        let blocks = crate::block::all(&graph);
        assert_eq!((blocks.len(), blocks[0], blocks[8]), (9, "stages.2.1.transformer.0", "stages.4.1.transformer.2"));
    }
}
