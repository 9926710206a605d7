//! The names and layouts of Google's ViT checkpoints (`google-research/vision_transformer` and `big_vision`), to timm's, as timm's
//! `_load_weights` takes them.

use std::collections::BTreeMap;

use super::CheckpointError;
use super::names::join;
use crate::Tensor;

/// Before every name in files that hold the optimiser's state too.
const OPTIMISER: &str = "opt/target/";
const BLOCK: &str = "Transformer/encoderblock_";

/// Whether these are the names.
pub(super) fn is_one<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.any(|name| without_prefix(name) == "embedding/kernel")
}

/// The number of heads, which the shape of a query's kernel `[D, heads, head_dim]` tells.
pub(super) fn num_heads(tensors: &BTreeMap<String, Tensor>) -> Option<usize> {
    let query = |name: &&String| name.contains(BLOCK) && name.ends_with("/query/kernel");
    match *tensors.get(tensors.keys().find(query)?)?.shape() {
        [_, heads, _] => Some(heads),
        _ => None,
    }
}

/// timm's tensors out of Google's: kernels `[in, out]` become weights `[out, in]`, patches `[p, p, C, D]` become
/// `[D, C, p, p]`, and the heads of q, k, v and the projection are laid one behind the other.
pub(super) fn to_timm(tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let mut timm = BTreeMap::new();
    let mut joined: BTreeMap<String, [Option<(&str, Tensor)>; 3]> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (name, tensor) in tensors {
        match target(without_prefix(name)) {
            Some(Target::As(new, layout)) => {
                timm.insert(new, layout.of(name, tensor)?);
            }
            Some(Target::Part(new, part, layout)) => {
                joined.entry(new).or_default()[part] = Some((name, layout.of(name, tensor)?));
            }
            Some(Target::Unsupported(part)) => {
                return Err(CheckpointError::Unsupported { name: name.clone(), part });
            }
            // The optimiser's moments.
            None if name.starts_with("opt/") && !name.starts_with(OPTIMISER) => {}
            None => unknown.push(name.as_str()),
        }
    }
    if !unknown.is_empty() {
        return Err(CheckpointError::unknown_names(&unknown));
    }
    for (name, parts) in &joined {
        let parts = parts.each_ref().map(|part| part.as_ref().map(|(name, tensor)| (*name, tensor)));
        timm.insert(name.clone(), join(&parts, ["/query/", "/key/", "/value/"])?);
    }
    Ok(timm)
}

fn without_prefix(name: &str) -> &str {
    name.strip_prefix(OPTIMISER).or_else(|| name.strip_prefix("params/")).unwrap_or(name)
}

enum Target {
    /// timm's tensor of this name.
    As(String, Layout),
    /// Part 0, 1 or 2 (q, k, v) of it.
    Part(String, usize, Layout),
    Unsupported(&'static str),
}

/// How a tensor lies there, and here.
#[derive(Clone, Copy)]
enum Layout {
    /// The same.
    Same,
    /// `[in, out]`; here `[out, in]`.
    Kernel,
    /// `[p, p, C, D]`; here `[D, C, p, p]`.
    Patches,
    /// `[in, heads, head_dim]`; here `[heads * head_dim, in]`.
    FromHeads,
    /// `[heads, head_dim, out]`; here `[out, heads * head_dim]`.
    ToHeads,
    /// `[heads, head_dim]`; here `[heads * head_dim]`.
    HeadsBias,
}

impl Layout {
    fn of(self, name: &str, tensor: &Tensor) -> Result<Tensor, CheckpointError> {
        let wrong = |expected: &str| {
            let (name, expected) = (name.to_owned(), expected.to_owned());
            CheckpointError::WrongShape { name, expected, got: tensor.shape().to_vec() }
        };
        let turned = match (self, tensor.shape()) {
            (Self::Same, _) => return Ok(tensor.clone()),
            (Self::Kernel, _) => return tensor.transposed().ok_or_else(|| wrong("[in, out]")),
            (Self::Patches, [_, _, _, _]) => return Ok(tensor.permuted(&[3, 2, 0, 1])),
            (Self::FromHeads, &[inputs, heads, dim]) => {
                tensor.permuted(&[1, 2, 0]).reshape([heads.saturating_mul(dim), inputs])
            }
            (Self::ToHeads, &[heads, dim, outputs]) => {
                tensor.permuted(&[2, 0, 1]).reshape([outputs, heads.saturating_mul(dim)])
            }
            (Self::HeadsBias, &[heads, dim]) => tensor.clone().reshape([heads.saturating_mul(dim)]),
            (Self::Patches, _) => return Err(wrong("[p, p, C, D]")),
            (Self::FromHeads, _) => return Err(wrong("[D, heads, head_dim]")),
            (Self::ToHeads, _) => return Err(wrong("[heads, head_dim, D]")),
            (Self::HeadsBias, _) => return Err(wrong("[heads, head_dim]")),
        };
        turned.map_err(|error| CheckpointError::values(name, &error))
    }
}

fn target(name: &str) -> Option<Target> {
    if let Some((index, rest)) = name.strip_prefix(BLOCK).and_then(|rest| rest.split_once('/')) {
        return block_target(index.parse().ok()?, rest);
    }
    let (module, kind) = name.rsplit_once('/').unwrap_or(("", name));
    Some(match (module, kind) {
        ("", "cls") => Target::As("cls_token".to_owned(), Layout::Same),
        ("", "pos_embedding") | ("Transformer/posembed_input", "pos_embedding") => {
            Target::As("pos_embed".to_owned(), Layout::Same)
        }
        ("embedding", "kernel") => Target::As("patch_embed.proj.weight".to_owned(), Layout::Patches),
        ("embedding", "bias") => Target::As("patch_embed.proj.bias".to_owned(), Layout::Same),
        ("Transformer/encoder_norm", "scale") => Target::As("norm.weight".to_owned(), Layout::Same),
        ("Transformer/encoder_norm", "bias") => Target::As("norm.bias".to_owned(), Layout::Same),
        ("head", "kernel") => Target::As("head.weight".to_owned(), Layout::Kernel),
        ("head", "bias") => Target::As("head.bias".to_owned(), Layout::Same),
        ("pre_logits", _) => Target::Unsupported("a layer before the head"),
        _ if name.starts_with("MAPHead_0/") => Target::Unsupported("an attention pool"),
        _ if name.starts_with("embedding/") || name.starts_with("conv_root") => Target::Unsupported("a ResNet stem"),
        _ => return None,
    })
}

/// Modules are counted by kind in `big_vision`, and through in the older files.
fn block_target(index: usize, rest: &str) -> Option<Target> {
    let (module, kind) = rest.rsplit_once('/')?;
    let (new, part, layout) = match (module, kind) {
        ("LayerNorm_0", "scale" | "bias") => ("norm1", None, Layout::Same),
        ("LayerNorm_1" | "LayerNorm_2", "scale" | "bias") => ("norm2", None, Layout::Same),
        _ => {
            let (parent, layer) = module.split_once('/')?;
            let kernel = match kind {
                "kernel" => true,
                "bias" => false,
                _ => return None,
            };
            match (parent, layer) {
                ("MlpBlock_0" | "MlpBlock_3", "Dense_0" | "Dense_1") => {
                    let new = if layer == "Dense_0" { "mlp.fc1" } else { "mlp.fc2" };
                    (new, None, if kernel { Layout::Kernel } else { Layout::Same })
                }
                ("MultiHeadDotProductAttention_0" | "MultiHeadDotProductAttention_1", "out") => {
                    ("attn.proj", None, if kernel { Layout::ToHeads } else { Layout::Same })
                }
                ("MultiHeadDotProductAttention_0" | "MultiHeadDotProductAttention_1", _) => {
                    let part = ["query", "key", "value"].iter().position(|name| *name == layer)?;
                    ("attn.qkv", Some(part), if kernel { Layout::FromHeads } else { Layout::HeadsBias })
                }
                _ => return None,
            }
        }
    };
    let kind = if kind == "bias" { "bias" } else { "weight" };
    let new = format!("blocks.{index}.{new}.{kind}");
    Some(match part {
        None => Target::As(new, layout),
        Some(part) => Target::Part(new, part, layout),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(shape: &[usize]) -> Tensor {
        let len: usize = shape.iter().product();
        Tensor::new(shape, (0..len).map(|at| at as f32).collect()).unwrap()
    }

    fn one(name: &str, shape: &[usize]) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
        to_timm(&BTreeMap::from([(name.to_owned(), counted(shape))]))
    }

    #[test]
    fn kernels_are_turned() {
        let head = &one("head/kernel", &[2, 3]).unwrap()["head.weight"];
        assert_eq!((head.shape(), head.values()), (&[3, 2][..], &[0., 3., 1., 4., 2., 5.][..]));
        let patches = &one("opt/target/embedding/kernel", &[2, 2, 1, 2]).unwrap()["patch_embed.proj.weight"];
        assert_eq!(patches.shape(), [2, 1, 2, 2]);
        assert_eq!(patches.values(), [0., 2., 4., 6., 1., 3., 5., 7.]);
        let out = "Transformer/encoderblock_3/MultiHeadDotProductAttention_1/out/kernel";
        let proj = &one(out, &[2, 1, 2]).unwrap()["blocks.3.attn.proj.weight"];
        assert_eq!((proj.shape(), proj.values()), (&[2, 2][..], &[0., 2., 1., 3.][..]));
    }

    #[test]
    fn both_ways_of_counting_modules_are_known() {
        for (name, new) in [
            ("LayerNorm_1/scale", "blocks.0.norm2.weight"),
            ("LayerNorm_2/bias", "blocks.0.norm2.bias"),
            ("MlpBlock_0/Dense_1/bias", "blocks.0.mlp.fc2.bias"),
            ("MlpBlock_3/Dense_0/bias", "blocks.0.mlp.fc1.bias"),
        ] {
            let timm = one(&format!("{BLOCK}0/{name}"), &[2]).unwrap();
            assert_eq!(timm.into_keys().collect::<Vec<_>>(), [new]);
        }
    }

    #[test]
    fn what_is_missing_unsupported_or_unknown_is_named() {
        let query = format!("{BLOCK}0/MultiHeadDotProductAttention_1/query/kernel");
        let error = one(&query, &[4, 2, 2]).unwrap_err().to_string();
        assert!(error.contains("/key/kernel` is missing"), "{error}");
        assert!(matches!(one("pre_logits/kernel", &[2, 2]), Err(CheckpointError::Unsupported { .. })));
        assert!(matches!(one("params/Dense_9/kernel", &[2, 2]), Err(CheckpointError::UnknownNames { count: 1, .. })));
        assert!(matches!(one("head/kernel", &[2]), Err(CheckpointError::WrongShape { .. })));
        assert!(one("opt/state/step", &[1]).unwrap().is_empty());
    }
}
