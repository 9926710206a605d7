//! The closed set of operators, the weights that each one reads, and the shape that each one gives.
//!
//! Shapes are those of one picture: the batch dimension stands before them and is never written. Tokens are `[L, D]`, maps
//! `[H, W, D]`, windows of a map `[windows, n, D]`: the width is always last.

mod bias;
mod merging;
mod rows;
mod shape;
mod window;

use std::ops::RangeInclusive;

use merging::{check_sizes, match_shape, merged_shape, sizes_shape};
use shape::{attention_shape, convolved, grid_shape, last, patch_embed_shape, shuffled_shape, tokens, whole_blocks};

pub use bias::score_bias;
pub use merging::{Sides, most_merged};
pub use rows::{inverse, rows};
pub use window::Windows;

use crate::tensor::checked_len;

/// A nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Activation {
    /// The exact (erf) GELU: `x (1 + erf(x / sqrt 2)) / 2`.
    Gelu,
    /// GELU with the hyperbolic tangent: `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
    GeluTanh,
    /// OpenAI's approximation in CLIP: `x sigmoid(1.702 x)`.
    QuickGelu,
    /// `x sigmoid(x)`, MobileViT's.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Gelu, Self::GeluTanh, Self::QuickGelu, Self::Silu, Self::Relu];

    /// timm's name of it (`act_layer`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::QuickGelu => "quick_gelu",
            Self::Silu => "silu",
            Self::Relu => "relu",
        }
    }

    /// The one of this name, by timm's or Hugging Face's names.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "gelu" => Some(Self::Gelu),
            "gelu_tanh" | "gelu_new" | "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            "quick_gelu" | "quickgelu" => Some(Self::QuickGelu),
            "silu" | "swish" => Some(Self::Silu),
            "relu" => Some(Self::Relu),
            _ => None,
        }
    }
}

/// An operator. `N` is the batch, `L` the number of tokens, `D` the width.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// What the caller hands in, of this shape a picture: `[C, H, W]` for pixels.
    Input {
        /// Shape of one picture, without the batch.
        shape: Vec<usize>,
    },
    /// A convolution whose stride is its kernel, then the patches as tokens, row by row, of one tubelet after another:
    /// `[T C, H, W]` to `[T (H/p)(W/p), D]`. Weights: `weight` `[D, C, p, p]`, `bias` `[D]`.
    PatchEmbed {
        /// Side of a patch in pixels, `p`.
        patch_size: usize,
        /// Width of a token, `D`.
        embed_dim: usize,
        /// Into how many pieces of as many channels the input is cut, each embedded by the same weights, `T`: 1 for a picture; for a clip
        /// the tubelets of VideoMAE (arXiv 2203.12602), the channels of whose frames stand behind one another.
        tubelets: usize,
    },
    /// Puts learned tokens (class, registers, prompts) before token `at`: `[L, D]` to `[L + count, D]`. Weight: the node's
    /// own name, `[1, count, D]`.
    InsertTokens {
        /// Number of learned tokens.
        count: usize,
        /// The number of tokens that stay before them.
        at: usize,
    },
    /// Takes out the `count` tokens behind the first `at`: `[L, D]` to `[L - count, D]`.
    DropTokens {
        /// Number of tokens.
        count: usize,
        /// The number of tokens that stay before them.
        at: usize,
    },
    /// Adds the learned position embedding: `[L, D]` to `[L, D]`. Weight: the node's own name, `[1, L, D]`.
    PosEmbed,
    /// Normalises the last dimension: `(x - mean) / sqrt(var + eps) * weight + bias`. Weights: `weight` and `bias` `[D]`.
    LayerNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// `x W^T + b` over the last dimension. Weights: `weight` `[out, in]` and, with `bias`, `bias` `[out]`.
    Linear {
        /// Number of outputs.
        out_features: usize,
        /// Whether there is a bias.
        bias: bool,
    },
    /// A nonlinearity on each value.
    Act(Activation),
    /// Multi-head self-attention over `[L, 3D]`, laid out as q, k, v and each as `[num_heads, head_dim]`, to `[L, D]`:
    /// `softmax(scale q k^T) v`; or the same within windows, `[windows, n, 3D]` to `[windows, n, D]`. With the sizes `[L]` of
    /// merged tokens as a second input it is proportional to them: `softmax(scale q k^T + log sizes) v`.
    Attention {
        /// Number of heads.
        num_heads: usize,
        /// Factor on the products, `head_dim^-0.5` in a ViT.
        scale: f32,
    },
    /// [`Op::Attention`] in which a token sees itself and those before it alone: CLIP's text tower.
    CausalAttention {
        /// Number of heads.
        num_heads: usize,
        /// Factor on the products, `head_dim^-0.5`.
        scale: f32,
    },
    /// Attention of one learned query over `[L, 2D]`, laid out as k and v, to `[D]`: `softmax(scale q k^T) v` a head. The
    /// query depends on no picture, so it is a weight: `query` `[D]`. Proportional to sizes as [`Op::Attention`] is.
    AttentionPool {
        /// Number of heads.
        num_heads: usize,
        /// Factor on the products, `head_dim^-0.5`.
        scale: f32,
    },
    /// Tokens as the map that they were cut from, row by row: `[H W, D]` to `[H, W, D]`.
    Grid {
        /// Height and width, `H` and `W`.
        size: [usize; 2],
    },
    /// Each square of `block` by `block` places of a map side by side in one, column by column: `[H, W, D]` to
    /// `[H / block, W / block, block^2 D]`. With a Linear behind it, Swin's merging of patches and a convolution whose
    /// stride is its kernel.
    SpaceToDepth {
        /// Side of a square.
        block: usize,
    },
    /// Each token of a grid as a square of tokens of a grid that is `factor` times finer, row by row: `[H W, f^2 D]` to `[f H f W, D]`, the
    /// values of a square's tokens behind one another, row by row. With a Linear before it, a transposed convolution whose stride is its kernel.
    PixelShuffle {
        /// Height and width of the grid, `H` and `W`.
        grid: [usize; 2],
        /// How many times finer the grid becomes, `f`.
        factor: usize,
    },
    /// A map, rolled up and left by the shift, cut into windows, row by row: `[H, W, D]` to `[windows, n, D]`.
    WindowPartition(Windows),
    /// The inverse of [`Op::WindowPartition`]: `[windows, n, D]` to `[H, W, D]`.
    WindowReverse(Windows),
    /// Multi-head self-attention within windows, `[windows, n, 3D]` laid out as for [`Op::Attention`] to `[windows, n, D]`:
    /// `softmax(scale q k^T + bias) v`, the bias by how far two places are apart, and -100 between places that a roll has
    /// brought together. Weight: `relative_position_bias_table` `[(2h - 1)(2w - 1), num_heads]`, see [`score_bias`].
    WindowAttention {
        /// Number of heads.
        num_heads: usize,
        /// Factor on the products.
        scale: f32,
        /// The windows.
        windows: Windows,
    },
    /// Queries and keys of length 1 a head, the queries times a factor: what makes of [`Op::WindowAttention`] Swin V2's cosine
    /// attention. `[.., 3D]` to `[.., 3D]`, values unchanged. Weight: `scale` `[num_heads]`.
    NormalizeHeads {
        /// Number of heads.
        num_heads: usize,
    },
    /// The places that a kernel covers, zeros beyond the map, channel by channel and in a channel row by row: `[H, W, D]` to
    /// `[H / stride, W / stride, D k k]`, rounded up. A Linear behind it is a convolution, whose weight `[out, D, k, k]` it
    /// holds as `[out, D k k]`.
    Unfold {
        /// Side of the kernel, `k`, odd.
        kernel_size: usize,
        /// Step from place to place.
        stride: usize,
        /// Whether it reads pixels `[C, H, W]` in place of a map.
        from_pixels: bool,
    },
    /// A convolution of each channel by itself, zeros around the map: `[H, W, D]` to `[H / stride, W / stride, D]`, rounded
    /// up. Weights: `weight` `[D, 1, k, k]`, `bias` `[D]`.
    DepthwiseConv {
        /// Side of the kernel, `k`, odd.
        kernel_size: usize,
        /// Step from place to place.
        stride: usize,
    },
    /// Its two inputs side by side: `[.., A]` and `[.., B]` to `[.., A + B]`.
    Concat,
    /// ConvNeXt V2's global response normalisation (arXiv 2301.00808): with `g` the length of a channel over the map and `m`
    /// the mean of `g` over channels, `x + weight x g / (m + 1e-6) + bias`. Weights: `weight` and `bias` `[D]`.
    GlobalResponseNorm,
    /// Multiplies the last dimension: `x * gamma`. Weight: `gamma` `[D]`.
    LayerScale,
    /// The residual sum of its two inputs: the trunk, then the branch (the one that stochastic depth drops).
    Add,
    /// The first token alone: `[L, D]` to `[D]`.
    TakeClassToken,
    /// The mean over all tokens but the first `skip`, or over all places of a map: `[L, D]` or `[H, W, D]` to `[D]`. With the
    /// sizes `[L]` of merged tokens as a second input each token counts as often as it is large.
    MeanTokens {
        /// Number of leading tokens (class, registers) left out of the mean.
        skip: usize,
    },
    /// Which tokens Token Merging (arXiv 2210.09461) merges into which, from `[L, 3D]`, laid out as for [`Op::Attention`]: see
    /// [`Sides`]. A token is compared by the mean of its keys over the heads, brought to length 1. Each token of A has its most
    /// similar token in B, the first of equal ones; the `merged` pairs that are most alike, the first of equal ones, are merged.
    /// To `[L + merged]`: the `L - merged` tokens that stay, in their new order (the protected ones, those of A, those of B, each
    /// in the order that they had), then the tokens that are merged away, then the new places of the tokens that take them in.
    MatchTokens {
        /// How many tokens are merged away.
        merged: usize,
        /// Number of leading tokens (class, registers) that neither go nor take any in.
        protected: usize,
        /// Number of heads.
        num_heads: usize,
    },
    /// How many tokens each token stands for when those of an [`Op::MatchTokens`] are merged: `[L + merged]` and, where tokens
    /// were merged before, the sizes `[L]` until then, to `[L - merged]`.
    MergeSizes {
        /// How many tokens are merged away.
        merged: usize,
    },
    /// The tokens that stay, each the mean of those that are merged into it, weighted by size: tokens `[L, D]`, an
    /// [`Op::MatchTokens`] `[L + merged]`, the sizes that they give `[L - merged]` and, where tokens were merged before, the
    /// sizes `[L]` until then, to `[L - merged, D]`.
    MergeTokens,
    /// RepAdapter, arXiv 2302.08106: `x + scale (B(dropout(A x + a)) + b)`, without a nonlinearity.
    /// Weights: `adapter_A.weight` `[hidden, D]`, `adapter_A.bias` `[hidden]`, `adapter_B.weight` `[D, hidden / groups]`
    /// (row `i` reads the hidden units of group `i groups / D`), `adapter_B.bias` `[D]`.
    RepAdapter {
        /// Width of the bottleneck.
        hidden: usize,
        /// Number of groups of `B`.
        groups: usize,
        /// Factor on the whole branch, fixed, not trained.
        scale: f32,
    },
}

/// One weight that an operator reads: its full name and its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Key in [`crate::Graph::weights`].
    pub name: String,
    /// The shape that it must have.
    pub shape: Vec<usize>,
}

impl Op {
    /// Whether it multiplies queries, keys and values.
    pub fn is_attention(&self) -> bool {
        matches!(
            self,
            Self::Attention { .. }
                | Self::CausalAttention { .. }
                | Self::WindowAttention { .. }
                | Self::AttentionPool { .. }
        )
    }

    /// The operator's name, as error messages and text snapshots write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Input { .. } => "Input",
            Self::PatchEmbed { .. } => "PatchEmbed",
            Self::InsertTokens { .. } => "InsertTokens",
            Self::DropTokens { .. } => "DropTokens",
            Self::PosEmbed => "PosEmbed",
            Self::LayerNorm { .. } => "LayerNorm",
            Self::Linear { .. } => "Linear",
            Self::Act(Activation::Gelu) => "Gelu",
            Self::Act(Activation::GeluTanh) => "GeluTanh",
            Self::Act(Activation::QuickGelu) => "QuickGelu",
            Self::Act(Activation::Silu) => "Silu",
            Self::Act(Activation::Relu) => "Relu",
            Self::Attention { .. } => "Attention",
            Self::CausalAttention { .. } => "CausalAttention",
            Self::AttentionPool { .. } => "AttentionPool",
            Self::Grid { .. } => "Grid",
            Self::SpaceToDepth { .. } => "SpaceToDepth",
            Self::PixelShuffle { .. } => "PixelShuffle",
            Self::WindowPartition(_) => "WindowPartition",
            Self::WindowReverse(_) => "WindowReverse",
            Self::WindowAttention { .. } => "WindowAttention",
            Self::NormalizeHeads { .. } => "NormalizeHeads",
            Self::Unfold { .. } => "Unfold",
            Self::DepthwiseConv { .. } => "DepthwiseConv",
            Self::Concat => "Concat",
            Self::GlobalResponseNorm => "GlobalResponseNorm",
            Self::LayerScale => "LayerScale",
            Self::Add => "Add",
            Self::TakeClassToken => "TakeClassToken",
            Self::MeanTokens { .. } => "MeanTokens",
            Self::MatchTokens { .. } => "MatchTokens",
            Self::MergeSizes { .. } => "MergeSizes",
            Self::MergeTokens => "MergeTokens",
            Self::RepAdapter { .. } => "RepAdapter",
        }
    }

    /// How many inputs the operator takes, with and without the sizes of merged tokens.
    pub fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Self::Input { .. } => 0..=0,
            Self::Add | Self::Concat => 2..=2,
            Self::Attention { .. } | Self::AttentionPool { .. } | Self::MeanTokens { .. } | Self::MergeSizes { .. } => {
                1..=2
            }
            Self::MergeTokens => 3..=4,
            _ => 1..=1,
        }
    }

    /// The shape of the output for the inputs' shapes, all without the batch.
    ///
    /// # Errors
    /// A sentence that says what the operator needs and what it got.
    pub fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let arity = self.arity();
        if !arity.contains(&inputs.len()) {
            let (least, most) = arity.into_inner();
            let expected = if least == most { least.to_string() } else { format!("{least} or {most}") };
            return Err(format!("takes {expected} inputs, got {}", inputs.len()));
        }
        if let (Self::Attention { .. } | Self::AttentionPool { .. } | Self::MeanTokens { .. }, [x, sizes]) =
            (self, inputs)
        {
            check_sizes(sizes, tokens(x)?.0)?;
        }
        match self {
            Self::Input { shape } => match checked_len(shape) {
                Some(len) if len > 0 => Ok(shape.clone()),
                _ => Err(format!("a picture's shape must be positive and addressable, got {shape:?}")),
            },
            Self::PatchEmbed { patch_size, embed_dim, tubelets } => {
                patch_embed_shape(inputs[0], *patch_size, *embed_dim, *tubelets)
            }
            Self::InsertTokens { count, at } => match tokens(inputs[0])? {
                (len, dim) if *at <= len && *count > 0 => Ok(vec![len.saturating_add(*count), dim]),
                (len, _) => Err(format!("cannot put {count} tokens behind {at} of {len}")),
            },
            Self::DropTokens { count, at } => match tokens(inputs[0])? {
                (len, dim) if count.checked_add(*at).is_some_and(|end| end <= len && *count < len) => {
                    Ok(vec![len - count, dim])
                }
                (len, _) => Err(format!("cannot take {count} tokens behind {at} out of {len}")),
            },
            Self::AttentionPool { num_heads, .. } => match tokens(inputs[0])? {
                (_, width) if *num_heads > 0 && width % (2 * num_heads) == 0 => Ok(vec![width / 2]),
                (_, width) => Err(format!("width {width} must be 2 (k, v) times a multiple of num_heads {num_heads}")),
            },
            Self::Attention { num_heads, .. } => match *inputs[0] {
                [windows, len, width] => {
                    Ok([&[windows], attention_shape(&[len, width], *num_heads)?.as_slice()].concat())
                }
                _ => attention_shape(inputs[0], *num_heads),
            },
            Self::CausalAttention { num_heads, .. } => attention_shape(inputs[0], *num_heads),
            Self::Linear { out_features, .. } => {
                let (_, leading) = last(inputs[0])?;
                Ok(leading.iter().copied().chain([*out_features]).collect())
            }
            Self::LayerNorm { .. } | Self::Act(_) | Self::LayerScale => last(inputs[0]).map(|_| inputs[0].to_vec()),
            Self::PosEmbed => tokens(inputs[0]).map(|_| inputs[0].to_vec()),
            Self::Add if inputs[0] == inputs[1] => Ok(inputs[0].to_vec()),
            Self::Add => Err(format!("takes two inputs of one shape, got {:?} and {:?}", inputs[0], inputs[1])),
            Self::TakeClassToken => tokens(inputs[0]).map(|(_, dim)| vec![dim]),
            Self::MeanTokens { skip } => match (inputs[0], skip) {
                (&[_, _, dim], 0) => Ok(vec![dim]),
                (&[len, dim], _) if *skip < len => Ok(vec![dim]),
                _ => {
                    Err(format!("needs more than {skip} tokens [L, D], or a map and none to skip, got {:?}", inputs[0]))
                }
            },
            Self::MatchTokens { merged, protected, num_heads } => {
                match_shape(inputs[0], *merged, *protected, *num_heads)
            }
            Self::MergeSizes { merged } => sizes_shape(inputs, *merged),
            Self::MergeTokens => merged_shape(inputs),
            Self::Grid { size } => grid_shape(inputs[0], *size),
            Self::SpaceToDepth { block } => {
                let ([height, width], dim) = whole_blocks(inputs[0], [*block; 2])?;
                Ok(vec![height / block, width / block, block.saturating_mul(*block).saturating_mul(dim)])
            }
            Self::PixelShuffle { grid, factor } => shuffled_shape(inputs[0], *grid, *factor),
            Self::WindowPartition(windows) => {
                let (size, dim) = whole_blocks(inputs[0], windows.window)?;
                windows.check(size)?;
                Ok(vec![windows.count(), windows.len(), dim])
            }
            Self::WindowReverse(windows) => {
                let [height, width] = windows.grid;
                let (_, dim) = windows.of(inputs[0])?;
                Ok(vec![height, width, dim])
            }
            Self::WindowAttention { num_heads, windows, .. } => {
                let (count, width) = windows.of(inputs[0])?;
                let shape = attention_shape(&[windows.len(), width], *num_heads)?;
                Ok([&[count], shape.as_slice()].concat())
            }
            Self::NormalizeHeads { num_heads } => {
                let (width, _) = last(inputs[0])?;
                attention_shape(&[1, width], *num_heads).map(|_| inputs[0].to_vec())
            }
            Self::Unfold { kernel_size, stride, from_pixels } => {
                let (size, dim) = match (inputs[0], from_pixels) {
                    (&[dim, height, width], true) | (&[height, width, dim], false) => ([height, width], dim),
                    _ => return Err(format!("needs a map [H, W, D] or pixels [C, H, W], got {:?}", inputs[0])),
                };
                let [height, width] = convolved(size, *kernel_size, *stride)?;
                Ok(vec![height, width, dim.saturating_mul(kernel_size.saturating_mul(*kernel_size))])
            }
            Self::DepthwiseConv { kernel_size, stride } => match *inputs[0] {
                [height, width, dim] => {
                    let [height, width] = convolved([height, width], *kernel_size, *stride)?;
                    Ok(vec![height, width, dim])
                }
                _ => Err(format!("needs a map [H, W, D], got {:?}", inputs[0])),
            },
            Self::Concat => match (last(inputs[0])?, last(inputs[1])?) {
                ((a, leading), (b, other)) if leading == other => {
                    Ok(leading.iter().copied().chain([a.saturating_add(b)]).collect())
                }
                _ => {
                    Err(format!("takes two inputs that differ in width alone, got {:?} and {:?}", inputs[0], inputs[1]))
                }
            },
            Self::GlobalResponseNorm => match inputs[0] {
                [_, _, _] => Ok(inputs[0].to_vec()),
                _ => Err(format!("needs a map [H, W, D], got {:?}", inputs[0])),
            },
            Self::RepAdapter { hidden, groups, .. } => {
                let (dim, _) = last(inputs[0])?;
                if *groups == 0 || *hidden == 0 || hidden % groups != 0 || dim % groups != 0 {
                    return Err(format!(
                        "hidden {hidden} and width {dim} must be positive multiples of groups {groups}"
                    ));
                }
                Ok(inputs[0].to_vec())
            }
        }
    }

    /// The weights of a node of this operator, given the node's name and its first input's shape.
    pub fn params(&self, node: &str, input: &[usize]) -> Vec<Param> {
        let dim = input.last().copied().unwrap_or(0);
        let param = |suffix: &str, shape: Vec<usize>| Param { name: format!("{node}.{suffix}"), shape };
        match self {
            Self::PatchEmbed { patch_size, embed_dim, tubelets } => {
                let channels = input.first().copied().unwrap_or(0) / (*tubelets).max(1);
                let weight = param("weight", vec![*embed_dim, channels, *patch_size, *patch_size]);
                vec![weight, param("bias", vec![*embed_dim])]
            }
            Self::InsertTokens { count, .. } => vec![Param { name: node.to_owned(), shape: vec![1, *count, dim] }],
            Self::AttentionPool { .. } => vec![param("query", vec![dim / 2])],
            Self::PosEmbed => vec![Param { name: node.to_owned(), shape: [&[1], input].concat() }],
            Self::LayerNorm { .. } => vec![param("weight", vec![dim]), param("bias", vec![dim])],
            Self::Linear { out_features, bias } => {
                let mut params = vec![param("weight", vec![*out_features, dim])];
                params.extend(bias.then(|| param("bias", vec![*out_features])));
                params
            }
            Self::LayerScale => vec![param("gamma", vec![dim])],
            Self::WindowAttention { num_heads, windows, .. } => {
                vec![param("relative_position_bias_table", vec![windows.distances(), *num_heads])]
            }
            Self::NormalizeHeads { num_heads } => vec![param("scale", vec![*num_heads])],
            Self::DepthwiseConv { kernel_size, .. } => {
                vec![param("weight", vec![dim, 1, *kernel_size, *kernel_size]), param("bias", vec![dim])]
            }
            Self::GlobalResponseNorm => vec![param("weight", vec![dim]), param("bias", vec![dim])],
            Self::RepAdapter { hidden, groups, .. } => vec![
                param("adapter_A.weight", vec![*hidden, dim]),
                param("adapter_A.bias", vec![*hidden]),
                param("adapter_B.weight", vec![dim, hidden / groups]),
                param("adapter_B.bias", vec![dim]),
            ],
            Self::Input { .. }
            | Self::DropTokens { .. }
            | Self::Act(_)
            | Self::Attention { .. }
            | Self::CausalAttention { .. }
            | Self::Grid { .. }
            | Self::SpaceToDepth { .. }
            | Self::PixelShuffle { .. }
            | Self::WindowPartition(_)
            | Self::WindowReverse(_)
            | Self::Unfold { .. }
            | Self::Concat
            | Self::Add
            | Self::TakeClassToken
            | Self::MeanTokens { .. }
            | Self::MatchTokens { .. }
            | Self::MergeSizes { .. }
            | Self::MergeTokens => Vec::new(),
        }
    }
}
