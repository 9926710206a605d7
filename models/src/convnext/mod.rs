//! ConvNeXt as timm's `convnext.py` computes it: the first version (arXiv 2201.03545) and the second with global response
//! normalisation (2301.00808). Maps are channels last, so that a pointwise convolution is a Linear.

mod detect;
mod weights;

use std::collections::BTreeMap;

use crate::backbone::BackboneError;
use crate::op::Op;
use crate::{Activation, Graph, NodeId, Tensor};

/// The sizes that make one ConvNeXt.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Height and width of a picture in pixels.
    pub image_size: [usize; 2],
    /// Side of a patch in pixels, the stem's stride.
    pub patch_size: usize,
    /// Channels of a picture.
    pub in_chans: usize,
    /// Number of blocks, a stage.
    pub depths: Vec<usize>,
    /// Width, a stage.
    pub dims: Vec<usize>,
    /// Side of the depthwise convolutions' kernels.
    pub kernel_size: usize,
    /// Width of the MLP's hidden layer over that of the stage.
    pub mlp_ratio: f32,
    /// Whether each branch is scaled by a learned vector before it is added (the first version).
    pub layer_scale: bool,
    /// Whether the MLP normalises its responses (the second version).
    pub use_grn: bool,
    /// Added to the variance in every LayerNorm but the last.
    pub ln_eps: f32,
    /// Added to the variance in the LayerNorm behind the pooling.
    pub head_norm_eps: f32,
    /// Number of classes of the head; `None` for features alone.
    pub num_classes: Option<usize>,
}

impl Default for Config {
    /// ConvNeXt-T for 224 pixels, without a head.
    fn default() -> Self {
        Self {
            image_size: [224, 224],
            patch_size: 4,
            in_chans: 3,
            depths: vec![3, 3, 9, 3],
            dims: vec![96, 192, 384, 768],
            kernel_size: 7,
            mlp_ratio: 4.0,
            layer_scale: true,
            use_grn: false,
            ln_eps: 1e-6,
            head_norm_eps: 1e-6,
            num_classes: None,
        }
    }
}

impl Config {
    /// What both sides of a picture must be a multiple of: the stem's stride, halved once a stage.
    pub fn image_step(&self) -> usize {
        self.patch_size << self.depths.len().saturating_sub(1)
    }

    fn check_image_size(&self) -> Result<(), BackboneError> {
        let ([height, width], step) = (self.image_size, self.image_step());
        match self.image_size.iter().all(|&side| side > 0 && side.is_multiple_of(step)) {
            true => Ok(()),
            false => Err(BackboneError::MapSize { height, width, step }),
        }
    }
}

/// The graph of a ConvNeXt, without weights. The nodes bear timm's names: `pixels` `[C, H, W]`, `stem.*`,
/// `stages.{i}.downsample.*`, `stages.{i}.blocks.{j}.*`, `pool`, `norm` `[D]` (timm's `head.norm`) and, with classes, `head`.
/// A downsampling convolution is a Linear over the four places that it reads.
///
/// Sizes that do not fit each other are found by [`Graph::shapes`].
pub fn graph(config: &Config) -> Graph {
    let mut graph = Graph::default();
    let eps = config.ln_eps;
    let [height, width] = config.image_size;
    let pixels = graph.push("pixels", Op::Input { shape: vec![config.in_chans, height, width] }, &[]);
    let embed_dim = config.dims.first().copied().unwrap_or(0);
    let mut x =
        graph.push("stem.0", Op::PatchEmbed { patch_size: config.patch_size, embed_dim, tubelets: 1 }, &[pixels]);
    x = graph.push("stem.1", Op::LayerNorm { eps }, &[x]);
    let size = config.image_size.map(|side| side.checked_div(config.patch_size).unwrap_or(0));
    x = graph.push("stem.map", Op::Grid { size }, &[x]);
    for (stage, (&depth, &dim)) in config.depths.iter().zip(&config.dims).enumerate() {
        if stage > 0 {
            let name = |module: &str| format!("stages.{stage}.downsample.{module}");
            x = graph.push(name("0"), Op::LayerNorm { eps }, &[x]);
            x = graph.push(name("patches"), Op::SpaceToDepth { block: 2 }, &[x]);
            x = graph.push(name("1"), Op::Linear { out_features: dim, bias: true }, &[x]);
        }
        for index in 0..depth {
            x = block(&mut graph, config, &format!("stages.{stage}.blocks.{index}"), dim, x);
        }
    }
    x = graph.push("pool", Op::MeanTokens { skip: 0 }, &[x]);
    x = graph.push("norm", Op::LayerNorm { eps: config.head_norm_eps }, &[x]);
    if let Some(out_features) = config.num_classes {
        graph.push("head", Op::Linear { out_features, bias: true }, &[x]);
    }
    graph
}

/// `x + gamma fc2(grn(gelu(fc1(norm(depthwise(x))))))`.
fn block(graph: &mut Graph, config: &Config, block: &str, dim: usize, input: NodeId) -> NodeId {
    let name = |module: &str| format!("{block}.{module}");
    let linear = |out_features| Op::Linear { out_features, bias: true };
    let hidden = (dim as f64 * f64::from(config.mlp_ratio)) as usize;
    let mut x = graph.push(name("conv_dw"), Op::DepthwiseConv { kernel_size: config.kernel_size, stride: 1 }, &[input]);
    x = graph.push(name("norm"), Op::LayerNorm { eps: config.ln_eps }, &[x]);
    x = graph.push(name("mlp.fc1"), linear(hidden), &[x]);
    x = graph.push(name("mlp.act"), Op::Act(Activation::Gelu), &[x]);
    if config.use_grn {
        x = graph.push(name("mlp.grn"), Op::GlobalResponseNorm, &[x]);
    }
    x = graph.push(name("mlp.fc2"), linear(dim), &[x]);
    if config.layer_scale {
        // Its weight is `{block}.gamma`.
        x = graph.push(block, Op::LayerScale, &[x]);
    }
    graph.push(name("add"), Op::Add, &[input, x])
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
            image_size: [16, 24],
            depths: vec![1, 2],
            dims: vec![4, 8],
            kernel_size: 3,
            num_classes: Some(3),
            ..Config::default()
        }
    }

    #[test]
    fn convnext_t_costs_what_its_paper_says() {
        let cost = Cost::of(&graph(&Config { num_classes: Some(1000), ..Config::default() })).unwrap();
        assert_eq!(cost.parameters, 28_589_128);
        // The paper lists 4.5 G.
        assert!((cost.multiply_adds as f64 / 1e9 - 4.46).abs() < 0.02, "{}", cost.multiply_adds);
    }

    #[test]
    fn a_picture_that_cannot_be_halved_is_refused() {
        tiny().check_image_size().unwrap();
        assert_eq!(Config::default().image_step(), 32);
        let error = Config { image_size: [224, 240], ..Config::default() }.check_image_size().unwrap_err().to_string();
        assert!(error.contains("224x240") && error.contains("multiples of 32"), "{error}");
    }
}
