//! The vision transformer as timm's `vision_transformer.py` computes it: ViT (arXiv 2010.11929), DeiT and DeiT-3
//! (2012.12877, 2204.07118), DINOv2 with and without registers (2304.07193, 2309.16588), the image towers of CLIP
//! (2103.00020) and SigLIP (2303.15343), and of clips the encoder of VideoMAE (2203.12602).

mod clip;
mod detect;
mod load;
mod pos_embed;
mod weights;

use crate::backbone::BackboneError;
use crate::{Activation, Graph, NodeId, Op};

pub(crate) use load::{configuration, from_weights};
pub use pos_embed::{Resampling, resample};

/// The sizes that make one vision transformer of the family.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Height and width of a picture in pixels, multiples of `patch_size`.
    pub image_size: [usize; 2],
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Channels of a picture, or of a frame.
    pub in_chans: usize,
    /// Frames of a clip, a multiple of `tubelet_size`; 1 for pictures.
    pub num_frames: usize,
    /// Frames that a patch reaches through; 1 for pictures.
    pub tubelet_size: usize,
    /// Width of a token.
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of attention heads, a divisor of `embed_dim`.
    pub num_heads: usize,
    /// Width of the MLP's hidden layer over `embed_dim`.
    pub mlp_ratio: f32,
    /// Whether each branch is scaled by a learned vector before it is added.
    pub layer_scale: bool,
    /// Added to the variance in every LayerNorm but `fc_norm`.
    pub ln_eps: f32,
    /// Added to the variance in `fc_norm`, where there is one.
    pub head_norm_eps: f32,
    /// Whether there is a class token, the first.
    pub class_token: bool,
    /// Whether a distillation token stands behind the class token (DeiT's): the feature is the mean of both.
    pub dist_token: bool,
    /// Number of register tokens behind the class token.
    pub reg_tokens: usize,
    /// Whether class token and registers are put in behind the position embedding, which is then of patches alone.
    pub no_embed_class: bool,
    /// Whether a LayerNorm stands before the blocks (CLIP).
    pub pre_norm: bool,
    /// The MLP's nonlinearity.
    pub act_layer: Activation,
    /// How tokens become one feature.
    pub global_pool: GlobalPool,
    /// Number of classes of the head; `None` for features alone.
    pub num_classes: Option<usize>,
    /// Whether that head has a bias; CLIP's projection has none.
    pub head_bias: bool,
}

impl Default for Config {
    /// ViT-B/16 for 224 pixels, without a head.
    fn default() -> Self {
        Self {
            image_size: [224, 224],
            patch_size: 16,
            in_chans: 3,
            num_frames: 1,
            tubelet_size: 1,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_ratio: 4.0,
            layer_scale: false,
            ln_eps: 1e-6,
            head_norm_eps: 1e-6,
            class_token: true,
            dist_token: false,
            reg_tokens: 0,
            no_embed_class: false,
            pre_norm: false,
            act_layer: Activation::Gelu,
            global_pool: GlobalPool::Token,
            num_classes: None,
            head_bias: true,
        }
    }
}

/// How tokens become one feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GlobalPool {
    /// The class token behind the last LayerNorm (timm's `token`).
    Token,
    /// The mean of the patches' tokens behind the last LayerNorm (timm's `avg` without `fc_norm`).
    Avg,
    /// The mean of the patches' tokens, normalised by `fc_norm` (timm's `avg`).
    AvgFcNorm,
    /// Attention of a learned query, and an MLP (timm's `map`, SigLIP's).
    Map,
}

impl GlobalPool {
    /// timm's name of it (`global_pool`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Avg => "avg",
            Self::AvgFcNorm => "avg, fc_norm",
            Self::Map => "map",
        }
    }
}

impl Config {
    /// Rows and columns of patches.
    ///
    /// # Errors
    /// When a side of the picture is not a positive multiple of the patch.
    pub fn grid(&self) -> Result<[usize; 2], BackboneError> {
        let [height, width] = self.image_size;
        let patch_size = self.patch_size;
        let fits = |side: usize| patch_size > 0 && side > 0 && side.is_multiple_of(patch_size);
        if fits(height) && fits(width) {
            Ok([height / patch_size, width / patch_size])
        } else {
            Err(BackboneError::ImageSize { height, width, patch_size })
        }
    }

    /// How many times a patch goes through the clip: 1 for pictures.
    ///
    /// # Errors
    /// When the frames are no whole tubelets.
    pub fn tubelets(&self) -> Result<usize, BackboneError> {
        let &Self { num_frames, tubelet_size, .. } = self;
        if tubelet_size > 0 && num_frames > 0 && num_frames.is_multiple_of(tubelet_size) {
            Ok(num_frames / tubelet_size)
        } else {
            Err(BackboneError::Frames { num_frames, tubelet_size })
        }
    }

    /// Width of the MLP's hidden layer.
    pub fn mlp_hidden(&self) -> usize {
        (self.embed_dim as f64 * f64::from(self.mlp_ratio)).round() as usize
    }

    /// Factor on the products of queries and keys: `head_dim^-0.5`.
    pub(crate) fn attention_scale(&self) -> f32 {
        ((self.embed_dim / self.num_heads.max(1)) as f32).sqrt().recip()
    }

    /// Number of tokens before those of the patches.
    pub(crate) fn num_prefix_tokens(&self) -> usize {
        usize::from(self.class_token) + usize::from(self.dist_token) + self.reg_tokens
    }
}

/// The graph of a vision transformer, without weights. The nodes bear timm's names: `pixels` `[C, H, W]`, or `[T C, H, W]` with the
/// channels of a clip's frames behind one another, `patch_embed.proj`, `cls_token`, `dist_token`, `pos_embed`, `reg_token`, `norm_pre`, `blocks.{i}.*`, `norm`, `pool` `[D]` and, with
/// classes, `head`.
///
/// Sizes that do not fit each other are found by [`Graph::shapes`].
pub fn graph(config: &Config) -> Graph {
    let mut graph = Graph::default();
    let [height, width] = config.image_size;
    let eps = config.ln_eps;
    let channels = config.num_frames.saturating_mul(config.in_chans);
    let pixels = graph.push("pixels", Op::Input { shape: vec![channels, height, width] }, &[]);
    // What is no number of tubelets is found as one that the channels cannot be cut into.
    let tubelets = config.tubelets().unwrap_or(0);
    let embed = Op::PatchEmbed { patch_size: config.patch_size, embed_dim: config.embed_dim, tubelets };
    let mut x = graph.push("patch_embed.proj", embed, &[pixels]);
    if config.no_embed_class {
        x = graph.push("pos_embed", Op::PosEmbed, &[x]);
    }
    if config.class_token {
        x = graph.push("cls_token", Op::InsertTokens { count: 1, at: 0 }, &[x]);
    }
    if config.dist_token {
        x = graph.push("dist_token", Op::InsertTokens { count: 1, at: 1 }, &[x]);
    }
    if !config.no_embed_class {
        x = graph.push("pos_embed", Op::PosEmbed, &[x]);
    }
    if config.reg_tokens > 0 {
        let at = usize::from(config.class_token) + usize::from(config.dist_token);
        x = graph.push("reg_token", Op::InsertTokens { count: config.reg_tokens, at }, &[x]);
    }
    if config.pre_norm {
        x = graph.push("norm_pre", Op::LayerNorm { eps }, &[x]);
    }
    for index in 0..config.depth {
        let attention = Op::Attention { num_heads: config.num_heads, scale: config.attention_scale() };
        x = block(&mut graph, config, attention, &format!("blocks.{index}"), x);
    }
    if config.global_pool != GlobalPool::AvgFcNorm {
        x = graph.push("norm", Op::LayerNorm { eps }, &[x]);
    }
    x = pool(&mut graph, config, x);
    if let Some(out_features) = config.num_classes {
        graph.push("head", Op::Linear { out_features, bias: config.head_bias }, &[x]);
    }
    graph
}

/// From tokens `[L, D]` to the feature `[D]`.
fn pool(graph: &mut Graph, config: &Config, x: NodeId) -> NodeId {
    let &Config { embed_dim, num_heads, ln_eps: eps, .. } = config;
    let mean = Op::MeanTokens { skip: config.num_prefix_tokens() };
    match config.global_pool {
        GlobalPool::Token if config.dist_token => {
            let patches = config.grid().map_or(0, |[rows, columns]| rows * columns);
            let others = Op::DropTokens { count: patches + config.reg_tokens, at: 2 };
            let x = graph.push("pool.tokens", others, &[x]);
            graph.push("pool", Op::MeanTokens { skip: 0 }, &[x])
        }
        GlobalPool::Token => graph.push("pool", Op::TakeClassToken, &[x]),
        GlobalPool::Avg => graph.push("pool", mean, &[x]),
        GlobalPool::AvgFcNorm => {
            let x = graph.push("pool", mean, &[x]);
            graph.push("fc_norm", Op::LayerNorm { eps: config.head_norm_eps }, &[x])
        }
        GlobalPool::Map => {
            let linear = |out_features| Op::Linear { out_features, bias: true };
            let x = graph.push("attn_pool.kv", linear(2 * embed_dim), &[x]);
            let attention = Op::AttentionPool { num_heads, scale: config.attention_scale() };
            let x = graph.push("attn_pool", attention, &[x]);
            let trunk = graph.push("attn_pool.proj", linear(embed_dim), &[x]);
            let x = graph.push("attn_pool.norm", Op::LayerNorm { eps }, &[trunk]);
            let x = graph.push("attn_pool.mlp.fc1", linear(config.mlp_hidden()), &[x]);
            let x = graph.push("attn_pool.mlp.act", Op::Act(config.act_layer), &[x]);
            let x = graph.push("attn_pool.mlp.fc2", linear(embed_dim), &[x]);
            graph.push("pool", Op::Add, &[trunk, x])
        }
    }
}

/// `x + ls1(proj(attention(qkv(norm1(x)))))`, then `x + ls2(fc2(act(fc1(norm2(x)))))`, in nodes called `block.*`.
pub(crate) fn block(graph: &mut Graph, config: &Config, attention: Op, block: &str, input: NodeId) -> NodeId {
    let &Config { embed_dim, ln_eps: eps, .. } = config;
    let name = |module: &str| format!("{block}.{module}");
    let linear = |out_features| Op::Linear { out_features, bias: true };

    let mut x = graph.push(name("norm1"), Op::LayerNorm { eps }, &[input]);
    x = graph.push(name("attn.qkv"), linear(3 * embed_dim), &[x]);
    x = graph.push(name("attn"), attention, &[x]);
    x = graph.push(name("attn.proj"), linear(embed_dim), &[x]);
    if config.layer_scale {
        x = graph.push(name("ls1"), Op::LayerScale, &[x]);
    }
    let trunk = graph.push(name("add1"), Op::Add, &[input, x]);

    x = graph.push(name("norm2"), Op::LayerNorm { eps }, &[trunk]);
    x = graph.push(name("mlp.fc1"), linear(config.mlp_hidden()), &[x]);
    x = graph.push(name("mlp.act"), Op::Act(config.act_layer), &[x]);
    x = graph.push(name("mlp.fc2"), linear(embed_dim), &[x]);
    if config.layer_scale {
        x = graph.push(name("ls2"), Op::LayerScale, &[x]);
    }
    graph.push(name("add2"), Op::Add, &[trunk, x])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    pub(super) fn tiny() -> Config {
        Config {
            image_size: [8, 12],
            patch_size: 4,
            embed_dim: 16,
            depth: 2,
            num_heads: 2,
            layer_scale: true,
            ..Config::default()
        }
    }

    /// A graph with weights that differ from one another.
    pub(super) fn filled(config: &Config) -> Graph {
        let mut graph = graph(config);
        for (i, param) in graph.params().unwrap().into_iter().flatten().enumerate() {
            let len = param.shape.iter().product::<usize>();
            let values = (0..len).map(|j| (i as f32 + 0.37 * j as f32).sin()).collect();
            graph.weights.insert(param.name, Tensor::new(param.shape, values).unwrap());
        }
        graph
    }

    #[test]
    fn a_base_model_has_as_many_parameters_as_timms() {
        let config = Config { num_classes: Some(1000), ..Config::default() };
        let params = graph(&config).params().unwrap();
        let total: usize = params.iter().flatten().map(|param| param.shape.iter().product::<usize>()).sum();
        assert_eq!(total, 86_567_656);
    }

    #[test]
    fn the_text_of_a_block_is_the_architecture() {
        let text = graph(&Config { depth: 1, ..tiny() }).to_text().unwrap();
        let names: Vec<&str> = text.lines().filter_map(|line| line.split(" = ").next()).collect();
        let block = ["norm1", "attn.qkv", "attn", "attn.proj", "ls1", "add1", "norm2", "mlp.fc1", "mlp.act", "mlp.fc2"];
        let block: Vec<String> =
            block.iter().chain(&["ls2", "add2"]).map(|module| format!("blocks.0.{module}")).collect();
        let around = ["pixels", "patch_embed.proj", "cls_token", "pos_embed"];
        let expected: Vec<&str> =
            around.into_iter().chain(block.iter().map(String::as_str)).chain(["norm", "pool"]).collect();
        assert_eq!(names, expected);
        assert!(text.contains("pos_embed = PosEmbed(cls_token) -> [7, 16]"), "{text}");
        assert!(text.contains("blocks.0.add2 = Add(blocks.0.add1, blocks.0.ls2)"), "{text}");
    }

    #[test]
    fn without_a_class_token_the_feature_is_the_mean() {
        let config = Config { class_token: false, global_pool: GlobalPool::Avg, ..tiny() };
        let graph = graph(&config);
        assert_eq!(graph.shapes().unwrap().last().unwrap(), &[16]);
        assert!(graph.find("cls_token").is_none());
    }

    #[test]
    fn registers_stand_behind_the_class_token_and_outside_of_the_mean() {
        let config = Config { reg_tokens: 3, global_pool: GlobalPool::AvgFcNorm, ..tiny() };
        for no_embed_class in [false, true] {
            let text = graph(&Config { no_embed_class, ..config.clone() }).to_text().unwrap();
            assert!(text.contains("reg_token = InsertTokens { count: 3, at: 1 }"), "{text}");
            assert!(text.contains("pool = MeanTokens { skip: 4 }") && text.ends_with("(pool) -> [16]\n"), "{text}");
            let positions = if no_embed_class { 6 } else { 7 };
            let params = graph(&Config { no_embed_class, ..config.clone() }).params().unwrap();
            let pos_embed = params.iter().flatten().find(|param| param.name == "pos_embed").unwrap();
            assert_eq!(pos_embed.shape, [1, positions, 16]);
        }
    }

    #[test]
    fn a_picture_that_is_not_whole_patches_is_refused() {
        let error = Config { image_size: [8, 13], ..tiny() }.grid().unwrap_err();
        assert!(error.to_string().contains("8x13 cannot be cut into patches of 4"), "{error}");
        assert_eq!(tiny().grid().unwrap(), [2, 3]);
    }
}
