//! What attention adds to its scores.

use super::Op;
use super::window::relative_bias;
use crate::tensor::Tensor;

/// What is added to the score of a token that must not be seen: its weight is 0.
const UNSEEN: f32 = -1e30;

/// What `op` adds to the scores of its attention, `[kinds, num_heads, n, n]` (queries, then keys) for as many kinds of
/// pictures, or windows of one, which take turns; `None` for every other operator. `input` is the shape of the input, which
/// the operator must take, `table` the weight of a [`Op::WindowAttention`], of its shape.
pub fn score_bias(op: &Op, input: &[usize], table: Option<&Tensor>) -> Option<Vec<f32>> {
    match (op, input, table) {
        (&Op::WindowAttention { windows, .. }, _, Some(table)) => Some(relative_bias(table, windows)),
        (&Op::CausalAttention { num_heads, .. }, &[len, _], _) => {
            let row = |query: usize| (0..len).map(move |key| if key > query { UNSEEN } else { 0.0 });
            let head: Vec<f32> = (0..len).flat_map(row).collect();
            Some(head.repeat(num_heads))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_sees_none_behind_it() {
        let bias = score_bias(&Op::CausalAttention { num_heads: 2, scale: 1.0 }, &[2, 12], None).unwrap();
        assert_eq!(bias, [0.0, UNSEEN, 0.0, 0.0, 0.0, UNSEEN, 0.0, 0.0]);
        assert_eq!(score_bias(&Op::Add, &[2, 12], None), None);
    }
}
