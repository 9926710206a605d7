//! What the merging of tokens asks of its inputs' shapes, and how it divides the tokens.

use super::shape::{attention_shape, tokens};

/// The two sides of Token Merging's bipartite matching, as positions of tokens: those of A, each of which may go to one of B.
///
/// As the authors have it, tokens alternate by their position in all of the sequence: the even ones are A, the odd ones B. The
/// class token, which is the first, is kept from going, a distillation token, the second, from taking any in, and other protected
/// tokens are on neither side either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// Those that may be merged away.
    pub a: Vec<usize>,
    /// Those that may take others in.
    pub b: Vec<usize>,
}

impl Sides {
    /// Divides `tokens` tokens, of which the first `protected` are on no side.
    pub fn of(tokens: usize, protected: usize) -> Self {
        let (a, b) = (protected..tokens).partition(|place| place.is_multiple_of(2));
        Self { a, b }
    }
}

/// How many of `tokens` tokens can be merged at once: half of those that are not among the `protected` ones, rounded down.
pub fn most_merged(tokens: usize, protected: usize) -> usize {
    tokens.saturating_sub(protected) / 2
}

/// `[L, 3D]` to `[L + merged]`.
pub(super) fn match_shape(
    input: &[usize],
    merged: usize,
    protected: usize,
    num_heads: usize,
) -> Result<Vec<usize>, String> {
    let len = attention_shape(input, num_heads)?[0];
    let most = most_merged(len, protected);
    match merged {
        0 => Err("must merge at least one token, got 0".to_owned()),
        _ if merged > most => {
            Err(format!("can merge at most {most} of {len} tokens, {protected} of them protected, got {merged}"))
        }
        _ => Ok(vec![len + merged]),
    }
}

/// `[L + merged]`, and perhaps sizes `[L]`, to `[L - merged]`.
pub(super) fn sizes_shape(inputs: &[&[usize]], merged: usize) -> Result<Vec<usize>, String> {
    let &[matched] = inputs[0] else { return Err(format!("needs a matching [L + merged], got {:?}", inputs[0])) };
    let Some(len) = matched.checked_sub(merged).filter(|len| *len > merged) else {
        return Err(format!("needs a matching of more than {merged} tokens, got {:?}", inputs[0]));
    };
    inputs.get(1).map_or(Ok(()), |sizes| check_sizes(sizes, len))?;
    Ok(vec![len - merged])
}

/// `[L, D]`, `[L + merged]`, `[L - merged]`, and perhaps `[L]`, to `[L - merged, D]`.
pub(super) fn merged_shape(inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
    let (len, dim) = tokens(inputs[0])?;
    let (&[matched], &[left]) = (inputs[1], inputs[2]) else {
        return Err(format!(
            "needs a matching [L + merged] and sizes [L - merged], got {:?} and {:?}",
            inputs[1], inputs[2]
        ));
    };
    if matched <= len || matched - len != len.saturating_sub(left) {
        return Err(format!(
            "takes one number of merged tokens, got {len} tokens, {matched} of a matching, {left} sizes"
        ));
    }
    inputs.get(3).map_or(Ok(()), |sizes| check_sizes(sizes, len))?;
    Ok(vec![left, dim])
}

/// Says whether `sizes` are those of `len` tokens.
pub(super) fn check_sizes(sizes: &[usize], len: usize) -> Result<(), String> {
    match sizes == [len] {
        true => Ok(()),
        false => Err(format!("needs a size for each of {len} tokens, got {sizes:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Op;
    use super::*;

    #[test]
    fn tokens_alternate_and_protected_ones_are_on_no_side() {
        assert_eq!(Sides::of(6, 0), Sides { a: vec![0, 2, 4], b: vec![1, 3, 5] });
        assert_eq!(Sides::of(6, 1), Sides { a: vec![2, 4], b: vec![1, 3, 5] });
        assert_eq!(Sides::of(7, 3), Sides { a: vec![4, 6], b: vec![3, 5] });
        for (tokens, protected) in [(5, 0), (6, 1), (7, 1), (8, 2), (9, 2), (11, 5), (3, 3), (2, 4)] {
            let Sides { a, b } = Sides::of(tokens, protected);
            assert!(a.len().min(b.len()) >= most_merged(tokens, protected), "{tokens} {protected}");
        }
    }

    #[test]
    fn no_more_than_half_are_merged() {
        let matched = |merged| Op::MatchTokens { merged, protected: 1, num_heads: 2 }.output_shape(&[&[8, 12]]);
        assert_eq!(matched(3), Ok(vec![11]));
        assert_eq!(matched(4).unwrap_err(), "can merge at most 3 of 8 tokens, 1 of them protected, got 4");
        assert_eq!(matched(0).unwrap_err(), "must merge at least one token, got 0");
    }

    #[test]
    fn all_inputs_are_of_the_same_tokens() {
        let sizes = Op::MergeSizes { merged: 3 };
        assert_eq!(sizes.output_shape(&[&[11]]), Ok(vec![5]));
        assert_eq!(sizes.output_shape(&[&[11], &[8]]), Ok(vec![5]));
        assert!(sizes.output_shape(&[&[11], &[7]]).unwrap_err().contains("each of 8 tokens, got [7]"));
        assert!(sizes.output_shape(&[&[6]]).is_err() && sizes.output_shape(&[&[2]]).is_err());
        assert_eq!(Op::MergeTokens.output_shape(&[&[8, 4], &[11], &[5]]), Ok(vec![5, 4]));
        assert_eq!(Op::MergeTokens.output_shape(&[&[8, 4], &[11], &[5], &[8]]), Ok(vec![5, 4]));
        for wrong in [[&[8, 4][..], &[11], &[6]], [&[8, 4], &[8], &[8]], [&[8, 4], &[11], &[5, 1]]] {
            assert!(Op::MergeTokens.output_shape(&wrong).is_err(), "{wrong:?}");
        }
        let attention = Op::Attention { num_heads: 2, scale: 1.0 };
        assert_eq!(attention.output_shape(&[&[5, 12], &[5]]), Ok(vec![5, 4]));
        assert!(attention.output_shape(&[&[2, 5, 12], &[5]]).is_err(), "windows have no sizes");
        assert!(attention.output_shape(&[&[5, 12], &[6]]).is_err());
        let error = Op::Add.output_shape(&[&[5, 12]]).unwrap_err();
        assert_eq!(error, "takes 2 inputs, got 1");
    }
}
