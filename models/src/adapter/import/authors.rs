//! RepAdapters as their authors' code saves them: one PyTorch file of adapters and head.
//!
//! `utils.py` of luogen1996/RepAdapter names them `blocks.0.adapter_attn.conv_A.weight`, with kernels of 1; its later
//! variant, an adapter before every Linear, `blocks.0.attn.qkv.adapter.conv_A.weight`.

use std::collections::BTreeMap;
use std::path::Path;

use super::{ImportError, Imported};
use crate::adapter::{Adaptation, Placement, Spec};
use crate::checkpoint::{self, CheckpointError};
use crate::method::{MethodSpec, Site};
use crate::tensor::Tensor;

/// Where one of the authors' adapters stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Attention,
    Mlp,
    EveryLinear,
}

/// Reads a file whose adapters were trained with the factor `scale` on their branch.
pub(super) fn read(path: &Path, scale: f32) -> Result<Imported, ImportError> {
    let mut tensors = BTreeMap::new();
    let mut kinds = Vec::new();
    let mut hidden = 0;
    let mut width_of_group = 0;
    for (name, tensor) in checkpoint::read(path)?.tensors {
        if let Some(head) = name.strip_prefix("head.fc.").or_else(|| name.strip_prefix("head.")) {
            tensors.insert(format!("head.{head}"), tensor);
            continue;
        }
        let Some((kind, own)) = taken(&name) else {
            let reason = format!("`{name}` is no tensor of a RepAdapter and not the head's");
            return Err(ImportError::Unsupported { reason });
        };
        kinds.push(kind);
        let tensor = without_kernel(&name, tensor)?;
        match *tensor.shape() {
            [rows, _] if own.ends_with("adapter_A.weight") => hidden = rows,
            [_, columns] => width_of_group = columns,
            _ => {}
        }
        tensors.insert(own, tensor);
    }
    kinds.sort_unstable();
    kinds.dedup();
    let groups = hidden / width_of_group.max(1);
    let adapters = |placement| Adaptation::Adapters(Spec { placement, hidden, groups, scale, blocks: None });
    let spec = match kinds.as_slice() {
        [Kind::Attention] => adapters(Placement::RepAttn),
        [Kind::Attention, Kind::Mlp] => adapters(Placement::RepBlock),
        [Kind::EveryLinear] => {
            let (scale, site) = (f64::from(scale), Site::EveryLinear);
            Adaptation::Method(MethodSpec::RepAdapter { hidden, groups, scale, site })
        }
        _ => {
            let reason = "they stand neither before attention, nor before attention and MLP, nor before every Linear";
            return Err(ImportError::Unsupported { reason: reason.to_owned() });
        }
    };
    Ok(Imported { spec, tensors })
}

/// Where an adapter's tensor stands, and its name here.
fn taken(name: &str) -> Option<(Kind, String)> {
    const PLACES: [(&str, &str, Kind); 3] = [
        (".adapter_attn.conv_", ".attn.adapter.adapter_", Kind::Attention),
        (".adapter_mlp.conv_", ".mlp.adapter.adapter_", Kind::Mlp),
        (".adapter.conv_", ".adapter_", Kind::EveryLinear),
    ];
    PLACES.into_iter().find_map(|(theirs, ours, kind)| {
        let (host, rest) = name.split_once(theirs)?;
        let is_known = matches!(rest, "A.weight" | "A.bias" | "B.weight" | "B.bias");
        is_known.then(|| (kind, format!("{host}{ours}{rest}")))
    })
}

/// `[out, in, 1]` or `[out, in, 1, 1]` as `[out, in]`.
fn without_kernel(name: &str, tensor: Tensor) -> Result<Tensor, ImportError> {
    let shape = match *tensor.shape() {
        [rows, columns, 1] | [rows, columns, 1, 1] => vec![rows, columns],
        _ => return Ok(tensor),
    };
    Ok(tensor.reshape(shape).map_err(|error| CheckpointError::values(name, &error))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::import;

    fn file(folder: &Path, names: &[(&str, &[usize])]) -> std::path::PathBuf {
        let tensor = |&(name, shape): &(&str, &[usize])| (name.to_owned(), Tensor::full(shape, 0.5).unwrap());
        let path = folder.join("adapters.safetensors");
        checkpoint::write_safetensors(&path, &names.iter().map(tensor).collect(), &BTreeMap::new()).unwrap();
        path
    }

    const HEAD: [(&str, &[usize]); 2] = [("head.weight", &[3, 16]), ("head.bias", &[3])];

    fn adapter(at: &str) -> [(String, Vec<usize>); 4] {
        [("A.weight", vec![4, 16, 1]), ("A.bias", vec![4]), ("B.weight", vec![16, 2, 1]), ("B.bias", vec![16])]
            .map(|(end, shape)| (format!("{at}.conv_{end}"), shape))
    }

    fn read_all(at: &[&str], scale: Option<f32>) -> Result<Imported, ImportError> {
        let folder = tempfile::tempdir().unwrap();
        let adapters: Vec<(String, Vec<usize>)> = at.iter().flat_map(|at| adapter(at)).collect();
        let mut names: Vec<(&str, &[usize])> = HEAD.to_vec();
        names.extend(adapters.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())));
        import(&file(folder.path(), &names), scale)
    }

    #[test]
    fn sizes_and_places_are_read_from_the_tensors() {
        let both = read_all(&["blocks.0.adapter_attn", "blocks.0.adapter_mlp"], Some(0.5)).unwrap();
        let spec = Spec { placement: Placement::RepBlock, hidden: 4, groups: 2, scale: 0.5, blocks: None };
        assert_eq!(both.spec, Adaptation::Adapters(spec));
        assert_eq!(both.tensors["blocks.0.mlp.adapter.adapter_B.weight"].shape(), [16, 2]);
        let one = read_all(&["layers.1.blocks.0.adapter_attn"], Some(0.5)).unwrap();
        assert!(matches!(one.spec, Adaptation::Adapters(Spec { placement: Placement::RepAttn, .. })));
        assert!(one.tensors.contains_key("layers.1.blocks.0.attn.adapter.adapter_A.bias"));
        let every = read_all(&["blocks.0.attn.qkv.adapter", "blocks.0.mlp.fc2.adapter"], Some(2.0)).unwrap();
        let spec = MethodSpec::RepAdapter { hidden: 4, groups: 2, scale: 2.0, site: Site::EveryLinear };
        assert_eq!(every.spec, Adaptation::Method(spec));
        assert_eq!(every.tensors["blocks.0.mlp.fc2.adapter_A.weight"].shape(), [4, 16]);
    }

    #[test]
    fn what_the_file_leaves_open_or_mixes_is_refused() {
        let error = |at: &[&str], scale| read_all(at, scale).unwrap_err().to_string();
        assert!(error(&["blocks.0.adapter_attn"], None).contains("--scale"));
        assert!(error(&["blocks.0.adapter_attn", "blocks.0.attn.qkv.adapter"], Some(1.0)).contains("neither"));
        assert!(error(&["blocks.0.adapter_mlp"], Some(1.0)).contains("neither"));
        assert!(error(&["blocks.0.prompt"], Some(1.0)).contains("`blocks.0.prompt.conv_A.bias` is no tensor"));
        assert!(error(&[], Some(1.0)).contains("neither"));
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), &[("blocks.0.adapter_attn.conv_A.weight", &[4, 16, 1])]);
        assert!(import(&path, Some(1.0)).unwrap_err().to_string().contains("no head"));
        assert!(matches!(import(folder.path(), Some(1.0)), Err(ImportError::Scale)));
    }
}
