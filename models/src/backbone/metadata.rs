//! What a file says of itself, and what its weights say.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::BackboneError;
use crate::checkpoint::CheckpointError;
use crate::{Activation, Tensor};

/// The number under `key`, if anything stands there.
///
/// # Errors
/// When it is no number, or one that does not fit.
pub(crate) fn number<T: FromStr>(
    metadata: &BTreeMap<String, String>,
    key: &'static str,
    expected: &str,
    fits: impl Fn(&T) -> bool,
) -> Result<Option<T>, BackboneError> {
    let Some(value) = metadata.get(key) else { return Ok(None) };
    match value.parse::<T>() {
        Ok(number) if fits(&number) => Ok(Some(number)),
        _ => Err(BackboneError::Metadata { key, value: value.clone(), expected: expected.to_owned() }),
    }
}

/// The `len` numbers in brackets under `key`, or as many times the one that stands there alone.
///
/// # Errors
/// When they are not that.
pub(crate) fn list(
    metadata: &BTreeMap<String, String>,
    key: &'static str,
    len: usize,
) -> Result<Option<Vec<usize>>, BackboneError> {
    let Some(value) = metadata.get(key) else { return Ok(None) };
    if let Ok(number) = value.parse::<usize>() {
        return Ok(Some(vec![number; len]));
    }
    match serde_json::from_str::<Vec<usize>>(value) {
        Ok(numbers) if numbers.len() == len => Ok(Some(numbers)),
        _ => {
            let expected = format!("one number, or {len} in brackets");
            Err(BackboneError::Metadata { key, value: value.clone(), expected })
        }
    }
}

/// What is added to a variance, under `key`.
///
/// # Errors
/// When it is no positive number.
pub(crate) fn eps(
    metadata: &BTreeMap<String, String>,
    key: &'static str,
    otherwise: f32,
) -> Result<f32, BackboneError> {
    let eps = number(metadata, key, "a positive number", |&eps: &f32| eps > 0.0 && eps.is_finite())?;
    Ok(eps.unwrap_or(otherwise))
}

/// The activation that `act_layer` names, if it is there.
///
/// # Errors
/// When it names none.
pub(crate) fn activation(metadata: &BTreeMap<String, String>) -> Result<Option<Activation>, BackboneError> {
    let Some(name) = metadata.get("act_layer") else { return Ok(None) };
    Activation::named(name).map(Some).ok_or_else(|| BackboneError::Metadata {
        key: "act_layer",
        value: name.clone(),
        expected: format!("one of {}", Activation::ALL.map(Activation::name).join(", ")),
    })
}

/// Width, channels and side of the patches of a patch embedding `[D, C, p, p]`.
///
/// # Errors
/// When it is not there or is none of square patches.
pub(crate) fn patches(weights: &BTreeMap<String, Tensor>, name: &str) -> Result<[usize; 3], BackboneError> {
    match *shape(weights, name)? {
        [dim, channels, height, width] if height == width && dim * channels * height > 0 => Ok([dim, channels, height]),
        ref got => Err(wrong(name, "[D, C, p, p] with square patches", got)),
    }
}

/// Width, channels, frames and side of the patches of a patch embedding of clips, `[D, C, t, p, p]`, or of pictures, which are of one frame.
///
/// # Errors
/// As [`patches`].
pub(crate) fn tubes(weights: &BTreeMap<String, Tensor>, name: &str) -> Result<[usize; 4], BackboneError> {
    match *shape(weights, name)? {
        [dim, channels, frames, height, width] if height == width && dim * channels * frames * height > 0 => {
            Ok([dim, channels, frames, height])
        }
        _ => patches(weights, name).map(|[dim, channels, side]| [dim, channels, 1, side]),
    }
}

/// The number of blocks `blocks.{i}.`, which must be numbered without a gap.
///
/// # Errors
/// [`CheckpointError::Missing`] with a weight of the first block that is not there.
pub(crate) fn depth(weights: &BTreeMap<String, Tensor>) -> Result<usize, BackboneError> {
    let index = |name: &String| name.strip_prefix("blocks.")?.split_once('.')?.0.parse::<usize>().ok();
    let indices: BTreeSet<usize> = weights.keys().filter_map(index).collect();
    match (0..=indices.len()).find(|index| !indices.contains(index)) {
        Some(gap) if gap > 0 && gap == indices.len() => Ok(gap),
        gap => missing(&format!("blocks.{}.norm1.weight", gap.unwrap_or(0))),
    }
}

/// The shape of the weight `name`.
///
/// # Errors
/// When it is not there.
pub(crate) fn shape<'a>(weights: &'a BTreeMap<String, Tensor>, name: &str) -> Result<&'a [usize], BackboneError> {
    weights.get(name).map_or_else(|| missing(name), |tensor| Ok(tensor.shape()))
}

/// That the weight `name` is missing.
pub(crate) fn missing<T>(name: &str) -> Result<T, BackboneError> {
    Err(CheckpointError::Missing { name: name.to_owned() }.into())
}

/// That the weight `name` has another shape than `expected`.
pub(crate) fn wrong(name: &str, expected: &str, got: &[usize]) -> BackboneError {
    CheckpointError::WrongShape { name: name.to_owned(), expected: expected.to_owned(), got: got.to_vec() }.into()
}

/// The most stages of a backbone: each halves the map, and no picture is halved more often.
const MOST_STAGES: usize = 8;

/// How many blocks the stages `{prefix}{stage}.blocks.{block}.` have, both numbered without a gap.
///
/// # Errors
/// [`CheckpointError::Missing`] with a weight of the first block that is not there, or [`BackboneError::Stages`].
pub(crate) fn depths(
    weights: &BTreeMap<String, Tensor>,
    prefix: &str,
    of_a_block: &str,
) -> Result<Vec<usize>, BackboneError> {
    let numbers = |name: &String| {
        let (stage, rest) = name.strip_prefix(prefix)?.split_once(".blocks.")?;
        Some((stage.parse::<usize>().ok()?, rest.split_once('.')?.0.parse::<usize>().ok()?))
    };
    let found: BTreeSet<(usize, usize)> = weights.keys().filter_map(numbers).collect();
    let mut depths: Vec<usize> = Vec::new();
    for &(stage, block) in &found {
        let next = match depths.last() {
            Some(&depth) if stage + 1 == depths.len() => (stage, depth),
            _ => (depths.len(), 0),
        };
        if (stage, block) != next {
            return missing(&format!("{prefix}{}.blocks.{}.{of_a_block}", next.0, next.1));
        }
        if block == 0 {
            depths.push(0);
        }
        if let Some(depth) = depths.last_mut() {
            *depth += 1;
        }
    }
    if depths.len() > MOST_STAGES {
        return Err(BackboneError::Stages { got: depths.len(), most: MOST_STAGES });
    }
    if depths.is_empty() { missing(&format!("{prefix}0.blocks.0.{of_a_block}")) } else { Ok(depths) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> BTreeMap<String, Tensor> {
        names.iter().map(|&name| (name.to_owned(), Tensor::full([1], 0.0).unwrap())).collect()
    }

    #[test]
    fn blocks_are_counted_a_stage() {
        let weights =
            named(&["layers.0.blocks.0.a", "layers.0.blocks.1.a", "layers.1.blocks.0.a", "layers.1.downsample.a"]);
        assert_eq!(depths(&weights, "layers.", "a").unwrap(), [2, 1]);
        for (names, missing) in [
            (&["layers.0.blocks.1.a"][..], "layers.0.blocks.0.a"),
            (&["layers.0.blocks.0.a", "layers.2.blocks.0.a"], "layers.1.blocks.0.a"),
            (&["layers.0.blocks.0.a", "layers.1.blocks.1.a"], "layers.1.blocks.0.a"),
            (&[], "layers.0.blocks.0.a"),
        ] {
            let error = depths(&named(names), "layers.", "a").unwrap_err();
            assert!(error.to_string().contains(&format!("`{missing}`")), "{names:?}: {error}");
        }
    }

    #[test]
    fn a_list_may_be_one_number() {
        let said =
            |value: &str| list(&BTreeMap::from([("window_size".to_owned(), value.to_owned())]), "window_size", 2);
        assert_eq!(said("7").unwrap(), Some(vec![7, 7]));
        assert_eq!(said("[7, 14]").unwrap(), Some(vec![7, 14]));
        assert!(matches!(said("[7]"), Err(BackboneError::Metadata { .. })));
        assert_eq!(list(&BTreeMap::new(), "window_size", 2).unwrap(), None);
    }
}
