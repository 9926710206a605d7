//! The Swin transformer as timm's `swin_transformer.py` (arXiv 2103.14030) and `swin_transformer_v2.py` (2111.09883)
//! compute it, for pictures whose maps are whole windows.

mod detect;
mod weights;

use std::collections::BTreeMap;

use crate::backbone::BackboneError;
use crate::op::{Op, Windows};
use crate::{Activation, Graph, NodeId, Tensor};

/// What the second version does otherwise: norms behind the branches, cosine attention, a bias by a small network.
#[derive(Debug, Clone, PartialEq)]
pub struct V2 {
    /// Side of the windows, a stage, that the network of the bias was trained with; 0 for the model's own.
    pub pretrained_window_sizes: Vec<usize>,
}

/// The sizes that make one Swin transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Height and width of a picture in pixels.
    pub image_size: [usize; 2],
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Channels of a picture.
    pub in_chans: usize,
    /// Width of a token in the first stage; it doubles with every stage.
    pub embed_dim: usize,
    /// Number of blocks, a stage.
    pub depths: Vec<usize>,
    /// Number of heads, a stage.
    pub num_heads: Vec<usize>,
    /// Side of a window, a stage; where the map is smaller, the map is the window.
    pub window_sizes: Vec<usize>,
    /// Width of the MLP's hidden layer over that of a token.
    pub mlp_ratio: f32,
    /// Whether a LayerNorm stands behind the patch embedding.
    pub patch_norm: bool,
    /// Added to the variance in every LayerNorm.
    pub ln_eps: f32,
    /// The second version.
    pub v2: Option<V2>,
    /// Number of classes of the head; `None` for features alone.
    pub num_classes: Option<usize>,
}

impl Default for Config {
    /// Swin-T for 224 pixels, without a head.
    fn default() -> Self {
        Self {
            image_size: [224, 224],
            patch_size: 4,
            in_chans: 3,
            embed_dim: 96,
            depths: vec![2, 2, 6, 2],
            num_heads: vec![3, 6, 12, 24],
            window_sizes: vec![7; 4],
            mlp_ratio: 4.0,
            patch_norm: true,
            ln_eps: 1e-5,
            v2: None,
            num_classes: None,
        }
    }
}

impl Config {
    /// Height and width of the map of a stage.
    fn grid(&self, stage: usize) -> [usize; 2] {
        self.image_size.map(|side| side.checked_div(self.patch_size << stage).unwrap_or(0))
    }

    /// Width of a token of a stage.
    fn dim(&self, stage: usize) -> usize {
        self.embed_dim << stage
    }

    /// The windows of a block: every second one's map is rolled by half a window, where it is not one window itself.
    fn windows(&self, stage: usize, block: usize) -> Windows {
        let grid = self.grid(stage);
        let wanted = self.window_sizes.get(stage).copied().unwrap_or(1);
        let window = grid.map(|side| side.min(wanted));
        let shift = [0, 1].map(|axis| if block.is_multiple_of(2) || grid[axis] <= wanted { 0 } else { wanted / 2 });
        Windows { grid, window, shift, is_dilated: false }
    }

    /// What both sides of a picture must be a multiple of: every stage's map is then whole windows.
    pub fn image_step(&self) -> usize {
        let last = self.window_sizes.len().saturating_sub(1);
        let side = |(stage, &window): (usize, &usize)| {
            // A map that is smaller than the window in the model's own pictures is one window.
            let own = self.window_sizes[last].saturating_mul(1 << (last - stage));
            (self.patch_size << stage).saturating_mul(if self.v2.is_some() { window.min(own) } else { window })
        };
        self.window_sizes.iter().enumerate().map(side).fold(1, least_common_multiple)
    }

    /// # Errors
    /// When a stage's map is not whole windows, or a table of the first version was made for larger ones.
    fn check_image_size(&self) -> Result<(), BackboneError> {
        let [height, width] = self.image_size;
        let stages = 0..self.depths.len();
        let whole = stages.into_iter().all(|stage| {
            let side = self.patch_size << stage;
            let window = self.windows(stage, 0).window;
            let own = self.v2.is_some() || Some(&window[0]) == self.window_sizes.get(stage) && window[0] == window[1];
            let fits = |axis: usize| {
                let pixels = self.image_size[axis];
                pixels > 0 && pixels.is_multiple_of(side) && (pixels / side).is_multiple_of(window[axis])
            };
            own && fits(0) && fits(1)
        });
        if whole { Ok(()) } else { Err(BackboneError::MapSize { height, width, step: self.image_step() }) }
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a.checked_div(x).unwrap_or(0).saturating_mul(b)
}

/// The graph of a Swin transformer, without weights. The nodes bear timm's names: `pixels` `[C, H, W]`, `patch_embed.*`,
/// `layers.{i}.downsample.*`, `layers.{i}.blocks.{j}.*`, `norm`, `pool` `[D]` and, with classes, `head`.
///
/// Sizes that do not fit each other are found by [`Graph::shapes`].
pub fn graph(config: &Config) -> Graph {
    let mut graph = Graph::default();
    let eps = config.ln_eps;
    let [height, width] = config.image_size;
    let pixels = graph.push("pixels", Op::Input { shape: vec![config.in_chans, height, width] }, &[]);
    let embed = Op::PatchEmbed { patch_size: config.patch_size, embed_dim: config.embed_dim, tubelets: 1 };
    let mut x = graph.push("patch_embed.proj", embed, &[pixels]);
    if config.patch_norm {
        x = graph.push("patch_embed.norm", Op::LayerNorm { eps }, &[x]);
    }
    x = graph.push("patch_embed.map", Op::Grid { size: config.grid(0) }, &[x]);
    for (stage, &depth) in config.depths.iter().enumerate() {
        if stage > 0 {
            x = downsample(&mut graph, config, stage, x);
        }
        for index in 0..depth {
            x = block(&mut graph, config, stage, index, x);
        }
    }
    x = graph.push("norm", Op::LayerNorm { eps }, &[x]);
    x = graph.push("pool", Op::MeanTokens { skip: 0 }, &[x]);
    if let Some(out_features) = config.num_classes {
        graph.push("head", Op::Linear { out_features, bias: true }, &[x]);
    }
    graph
}

/// Four neighbours become one token of twice the width; the norm stands behind the reduction in the second version.
fn downsample(graph: &mut Graph, config: &Config, stage: usize, input: NodeId) -> NodeId {
    let name = |module: &str| format!("layers.{stage}.downsample.{module}");
    let norm = Op::LayerNorm { eps: config.ln_eps };
    let reduction = Op::Linear { out_features: config.dim(stage), bias: false };
    let x = graph.push(name("patches"), Op::SpaceToDepth { block: 2 }, &[input]);
    if config.v2.is_some() {
        let x = graph.push(name("reduction"), reduction, &[x]);
        return graph.push(name("norm"), norm, &[x]);
    }
    let x = graph.push(name("norm"), norm, &[x]);
    graph.push(name("reduction"), reduction, &[x])
}

/// `x + attention(norm1(x))`, then `x + mlp(norm2(x))`; in the second version `x + norm1(attention(x))` and so on.
fn block(graph: &mut Graph, config: &Config, stage: usize, index: usize, input: NodeId) -> NodeId {
    let name = |module: &str| format!("layers.{stage}.blocks.{index}.{module}");
    let linear = |out_features| Op::Linear { out_features, bias: true };
    let norm = Op::LayerNorm { eps: config.ln_eps };
    let (dim, windows) = (config.dim(stage), config.windows(stage, index));
    let num_heads = config.num_heads.get(stage).copied().unwrap_or(1);
    let is_v2 = config.v2.is_some();
    let scale = if is_v2 { 1.0 } else { ((dim / num_heads.max(1)) as f32).sqrt().recip() };

    let mut x = input;
    if !is_v2 {
        x = graph.push(name("norm1"), norm.clone(), &[x]);
    }
    x = graph.push(name("attn.windows"), Op::WindowPartition(windows), &[x]);
    x = graph.push(name("attn.qkv"), linear(3 * dim), &[x]);
    if is_v2 {
        x = graph.push(name("attn.cosine"), Op::NormalizeHeads { num_heads }, &[x]);
    }
    x = graph.push(name("attn"), Op::WindowAttention { num_heads, scale, windows }, &[x]);
    x = graph.push(name("attn.proj"), linear(dim), &[x]);
    x = graph.push(name("attn.map"), Op::WindowReverse(windows), &[x]);
    if is_v2 {
        x = graph.push(name("norm1"), norm.clone(), &[x]);
    }
    let trunk = graph.push(name("add1"), Op::Add, &[input, x]);

    x = trunk;
    if !is_v2 {
        x = graph.push(name("norm2"), norm.clone(), &[x]);
    }
    let hidden = (dim as f64 * f64::from(config.mlp_ratio)).round() as usize;
    x = graph.push(name("mlp.fc1"), linear(hidden), &[x]);
    x = graph.push(name("mlp.act"), Op::Act(Activation::Gelu), &[x]);
    x = graph.push(name("mlp.fc2"), linear(dim), &[x]);
    if is_v2 {
        x = graph.push(name("norm2"), norm, &[x]);
    }
    graph.push(name("add2"), Op::Add, &[trunk, x])
}

/// The sizes and the graph of the model that has these weights, by timm's names, for pictures of `image_size`.
///
/// # Errors
/// When sizes cannot be told, a picture does not fit, or a part of the bias's network is missing.
pub(crate) fn from_weights(
    mut weights: BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
    image_size: Option<[usize; 2]>,
) -> Result<(Config, Graph), BackboneError> {
    let mut config = Config::detect(&weights, metadata)?;
    config.image_size = image_size.unwrap_or(config.image_size);
    config.check_image_size()?;
    weights::complete(&mut weights, &config)?;
    let mut graph = graph(&config);
    graph.weights = weights;
    Ok((config, graph))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Cost;

    pub(super) fn tiny(v2: bool) -> Config {
        Config {
            image_size: [16, 32],
            patch_size: 2,
            embed_dim: 8,
            depths: vec![2, 1],
            num_heads: vec![2, 4],
            window_sizes: vec![4, 4],
            v2: v2.then(|| V2 { pretrained_window_sizes: vec![0, 0] }),
            num_classes: Some(3),
            ..Config::default()
        }
    }

    #[test]
    fn swin_t_costs_what_its_paper_says() {
        let cost = Cost::of(&graph(&Config { num_classes: Some(1000), ..Config::default() })).unwrap();
        assert_eq!(cost.parameters, 28_288_354);
        // The paper lists 4.5 G.
        assert!((cost.multiply_adds as f64 / 1e9 - 4.5).abs() < 0.05, "{}", cost.multiply_adds);
    }

    #[test]
    fn every_second_block_is_rolled_where_there_is_more_than_one_window() {
        let config = tiny(false);
        assert_eq!(config.windows(0, 0).shift, [0, 0]);
        assert_eq!(config.windows(0, 1), Windows { grid: [8, 16], window: [4, 4], shift: [2, 2], is_dilated: false });
        assert_eq!(config.windows(1, 1), Windows { grid: [4, 8], window: [4, 4], shift: [0, 2], is_dilated: false });
        for v2 in [false, true] {
            assert_eq!(graph(&tiny(v2)).shapes().unwrap().last().unwrap(), &[3]);
        }
    }

    #[test]
    fn a_picture_whose_maps_are_no_whole_windows_is_refused() {
        let config = Config::default();
        config.check_image_size().unwrap();
        assert_eq!(config.image_step(), 224);
        let error = Config { image_size: [224, 256], ..config }.check_image_size().unwrap_err().to_string();
        assert!(error.contains("224x256") && error.contains("multiples of 224"), "{error}");
        let v2 = Config {
            image_size: [256, 256],
            window_sizes: vec![16; 4],
            v2: Some(V2 { pretrained_window_sizes: vec![0; 4] }),
            ..Config::default()
        };
        v2.check_image_size().unwrap();
        assert_eq!(v2.windows(3, 1), Windows { grid: [8, 8], window: [8, 8], shift: [0, 0], is_dilated: false });
    }
}
