//! Why a backbone could not be made from weights.

use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::{GraphError, TensorError};

/// Why a backbone could not be made from weights.
#[derive(Debug, Error)]
pub enum BackboneError {
    /// The weights could not be read or named.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights do not fill the graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A size cannot be held in memory.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The number of heads cannot be told from the weights.
    #[error(
        "width {embed_dim} is not a multiple of 64, so the number of heads cannot be guessed; \
         give it in the file's metadata as `num_heads`"
    )]
    UnknownHeads {
        /// Width of a token.
        embed_dim: usize,
    },
    /// The activation cannot be told from the weights.
    #[error(
        "the weights do not say whether this CLIP's activation is quick_gelu (OpenAI's, MetaCLIP's, DFN's) or gelu \
         (LAION's, DataComp's); lay the publisher's config.json beside the file, or one with \
         {{\"hidden_act\": \"quick_gelu\"}}"
    )]
    UnknownActivation,
    /// An entry of the file's metadata is not a number that fits.
    #[error("the file's metadata say `{key}` is `{value}`; expected {expected}")]
    Metadata {
        /// The key.
        key: &'static str,
        /// What stands there.
        value: String,
        /// What should stand there.
        expected: String,
    },
    /// The position embeddings are not those of a square picture, so that no other grid can be interpolated from them.
    #[error(
        "{positions} position embeddings are no square grid; give the picture size they were made for \
         (it has {positions} patches of {patch_size} pixels)"
    )]
    UnknownGrid {
        /// Number of position embeddings of patches.
        positions: usize,
        /// Side of a patch.
        patch_size: usize,
    },
    /// There is no architecture of this name.
    #[error("no architecture is called `{name}`; the names are {known}")]
    UnknownArchitecture {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A checkpoint is of another architecture than was asked for.
    #[error("the checkpoint is no {name}: {size} should be {expected}, it is {got}")]
    OtherArchitecture {
        /// The architecture asked for.
        name: &'static str,
        /// The first size that differs.
        size: &'static str,
        /// Its value in the architecture.
        expected: usize,
        /// Its value in the checkpoint.
        got: usize,
    },
    /// More stages than any backbone has.
    #[error(
        "the weights are of {got} stages, a backbone has at most {most}; is the checkpoint of another architecture?"
    )]
    Stages {
        /// The number found.
        got: usize,
        /// The most that are understood.
        most: usize,
    },
    /// The windows of a Swin V2 cannot be told from its weights.
    #[error(
        "the weights do not say how large the windows of this Swin V2 are; lay the publisher's config.json beside the file, \
         or one with {{\"window_size\": 8, \"image_size\": 256}}"
    )]
    UnknownWindows,
    /// A picture's maps cannot be halved, or cut into windows, as the architecture does it.
    #[error(
        "a picture of {height}x{width} does not fit this backbone, whose maps are halved and cut into windows; \
         both sides must be positive multiples of {step}"
    )]
    MapSize {
        /// Height asked for.
        height: usize,
        /// Width asked for.
        width: usize,
        /// What both must be a multiple of.
        step: usize,
    },
    /// A backbone has no token for each patch of a picture.
    #[error(
        "this backbone cannot segment: {reason}; take a ViT, DeiT, DINOv2, CLIP or SigLIP, which have a token for each \
         patch behind their last LayerNorm"
    )]
    NoPatchTokens {
        /// What it has instead.
        reason: String,
    },
    /// A clip cannot be cut into whole tubelets.
    #[error(
        "{num_frames} frames cannot be cut into tubelets of {tubelet_size}; give the model a positive multiple of them"
    )]
    Frames {
        /// Frames of the clip.
        num_frames: usize,
        /// Frames of a tubelet.
        tubelet_size: usize,
    },
    /// A picture cannot be cut into whole patches.
    #[error(
        "a picture of {height}x{width} cannot be cut into patches of {patch_size}; \
         both sides must be positive multiples of {patch_size}"
    )]
    ImageSize {
        /// Height asked for.
        height: usize,
        /// Width asked for.
        width: usize,
        /// Side of a patch.
        patch_size: usize,
    },
}
