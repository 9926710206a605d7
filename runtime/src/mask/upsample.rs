//! From logits of a coarse grid to the class of each pixel.

/// How a pixel's value is made of two cells of an axis: `(1 - share) * low + share * high`.
#[derive(Debug, Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    share: f32,
}

/// The taps of `to` pixels over `from` cells: centres lie on centres, and what lies beyond the outer centres is theirs.
fn taps(from: usize, to: u32) -> Vec<Tap> {
    let last = from - 1;
    let scale = from as f64 / f64::from(to);
    let tap = |pixel: u32| {
        let at = ((f64::from(pixel) + 0.5) * scale - 0.5).clamp(0.0, last as f64);
        let low = at as usize;
        Tap { low, high: (low + 1).min(last), share: (at - low as f64) as f32 }
    };
    (0..to).map(tap).collect()
}

fn mix(low: f32, high: f32, share: f32) -> f32 {
    low + (high - low) * share
}

/// The place of the first of the largest values. There are at most 255.
fn best(values: impl Iterator<Item = f32>) -> u8 {
    let (mut best, mut class) = (f32::NEG_INFINITY, 0);
    for (value, at) in values.zip(0..) {
        if value > best {
            (best, class) = (value, at);
        }
    }
    class
}

/// The class of each pixel of a picture of `size` (height, width), row by row, for `logits` `[rows, columns, classes]`, of which
/// there is one at least.
pub(super) fn classes(logits: &[f32], [rows, columns]: [usize; 2], classes: usize, size: [u32; 2]) -> Vec<u8> {
    let [height, width] = size;
    let (down, across) = (taps(rows, height), taps(columns, width));
    let mut row = vec![0.0; columns * classes];
    let mut best_of = vec![0; columns];
    let mut mask = Vec::with_capacity(down.len() * across.len());
    for tap in down {
        let [low, high] = [tap.low, tap.high].map(|at| &logits[at * row.len()..][..row.len()]);
        for ((value, &low), &high) in row.iter_mut().zip(low).zip(high) {
            *value = mix(low, high, tap.share);
        }
        for (best_of, cell) in best_of.iter_mut().zip(row.chunks_exact(classes)) {
            *best_of = best(cell.iter().copied());
        }
        mask.extend(across.iter().map(|&Tap { low, high, share }| {
            // What is largest at both ends is largest everywhere between them.
            if best_of[low] == best_of[high] {
                return best_of[low];
            }
            let [low, high] = [low, high].map(|at| &row[at * classes..][..classes]);
            best(low.iter().zip(high).map(|(&low, &high)| mix(low, high, share)))
        }));
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits that differ, between -1 and 1.
    fn logits(len: usize) -> Vec<f32> {
        (0..len as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    /// The value at a pixel of one class's plane, as the definition has it, in float64.
    fn plain(logits: &[f32], [rows, columns]: [usize; 2], classes: usize, class: usize, at: [f64; 2]) -> f64 {
        let mut value = 0.0;
        let at = [at[0].clamp(0.0, rows as f64 - 1.0), at[1].clamp(0.0, columns as f64 - 1.0)];
        for y in 0..rows {
            for x in 0..columns {
                let weight = (1.0 - (at[0] - y as f64).abs()).max(0.0) * (1.0 - (at[1] - x as f64).abs()).max(0.0);
                value += weight * f64::from(logits[(y * columns + x) * classes + class]);
            }
        }
        value
    }

    #[test]
    fn a_mask_is_the_argmax_of_plainly_upsampled_logits() {
        for (grid, count, size) in
            [([4, 5], 3, [23, 41]), ([7, 3], 6, [5, 2]), ([1, 1], 2, [9, 4]), ([3, 8], 4, [3, 8])]
        {
            let logits = logits(grid[0] * grid[1] * count);
            let mask = classes(&logits, grid, count, size);
            let mut sure = 0;
            for (place, &class) in mask.iter().enumerate() {
                let pixel = [place / size[1] as usize, place % size[1] as usize];
                let at =
                    [0, 1].map(|axis| (pixel[axis] as f64 + 0.5) * grid[axis] as f64 / f64::from(size[axis]) - 0.5);
                let values: Vec<f64> = (0..count).map(|class| plain(&logits, grid, count, class, at)).collect();
                let others = values.iter().enumerate().filter(|(other, _)| *other != usize::from(class));
                let second = others.map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
                // Where two are alike to float32's rounding, either may be the answer.
                assert!(values[usize::from(class)] > second - 1e-5, "{place}: {values:?}, got {class}");
                sure += usize::from(values[usize::from(class)] > second + 1e-5);
            }
            assert!(sure * 10 > mask.len() * 9, "{sure} of {}", mask.len());
        }
    }

    #[test]
    fn of_equal_logits_the_first_class_is_taken() {
        assert_eq!(classes(&[1.0; 12], [2, 2], 3, [4, 4]), [0; 16]);
    }
}
