//! What can be wrong with a file of tensors.

use edge_vit_models::Tensor;
use proptest::prelude::*;

/// One thing that can be wrong with a tensor of a file.
#[derive(Debug, Clone)]
pub(crate) enum Damage {
    Drop,
    Rename(String),
    /// The shape reversed.
    Reverse,
    /// A dimension cut to this.
    Cut(usize, usize),
    /// One more dimension before the others.
    Raise,
}

/// Any damage; new names look like those of layers, more or less.
pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let name = prop_oneof![
        "[a-z]{1,6}\\.[0-9]{1,20}\\.blocks\\.[0-9]{1,20}\\.[a-z.]{1,12}",
        "layers\\.[0-9]{1,3}\\.blocks\\.[0-9]{1,3}\\.attn\\.qkv\\.weight",
        "stages\\.[0-9]{1,3}\\.blocks\\.[0-9]{1,3}\\.conv_dw\\.weight",
        "blocks\\.[0-9]{1,20}\\.norm1\\.weight",
        ".{0,12}",
    ];
    prop_oneof![
        Just(Damage::Drop),
        name.prop_map(Damage::Rename),
        Just(Damage::Reverse),
        (0usize..4, 0usize..5).prop_map(|(at, len)| Damage::Cut(at, len)),
        Just(Damage::Raise),
    ]
}

/// The tensor with the damage, unless that takes it away.
pub(crate) fn damaged(name: &str, tensor: Tensor, damage: &Damage) -> Option<(String, Tensor)> {
    let name = name.to_owned();
    let mut shape = tensor.shape().to_vec();
    match damage {
        Damage::Drop => return None,
        Damage::Rename(other) => return Some((other.clone(), tensor)),
        Damage::Reverse => shape.reverse(),
        Damage::Raise => shape.insert(0, 1),
        Damage::Cut(at, len) => {
            if let Some(dim) = shape.get_mut(*at) {
                *dim = *len;
            }
        }
    }
    let len: usize = shape.iter().product();
    // Of a tensor that was cut to nothing no value is left.
    let values = tensor.values().iter().copied().chain([0.5]).cycle().take(len).collect();
    Some((name, Tensor::new(shape, values).unwrap()))
}
