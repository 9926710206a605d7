//! Which block of a backbone a node belongs to, by timm's names: `blocks.3.attn.qkv` to `blocks.3`,
//! `layers.1.blocks.0.mlp.fc1` to `layers.1.blocks.0`, MobileViT's `stages.2.1.transformer.0.norm1` to
//! `stages.2.1.transformer.0`.

use crate::graph::Graph;

/// The name of the block that a node of this name stands in.
pub(crate) fn of(name: &str) -> Option<&str> {
    ["blocks.", "transformer."].into_iter().find_map(|list| {
        let at = if name.starts_with(list) { 0 } else { name.find(&format!(".{list}"))? + 1 };
        let rest = &name[at + list.len()..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let whole = digits > 0 && matches!(rest.as_bytes().get(digits), None | Some(b'.'));
        whole.then(|| &name[..at + list.len() + digits])
    })
}

/// The blocks of `graph`, in its order.
pub(crate) fn all(graph: &Graph) -> Vec<&str> {
    let mut blocks: Vec<&str> = graph.nodes.iter().filter_map(|node| of(&node.name)).collect();
    blocks.dedup();
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_block() {
        assert_eq!(of("blocks.12.attn.qkv"), Some("blocks.12"));
        assert_eq!(of("stages.1.blocks.0"), Some("stages.1.blocks.0"));
        assert_eq!(of("layers.1.blocks.0.mlp.fc1"), Some("layers.1.blocks.0"));
        assert_eq!(of("stages.2.1.transformer.0.norm1"), Some("stages.2.1.transformer.0"));
        for name in ["attn_pool.mlp.fc1", "blocks.x.norm1", "layers.1.downsample.norm", "myblocks.1.a", "blocks.1a.b"] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
