//! A convolution of each channel by itself, stride 1, zeros around the map. Channels are last, so that a loop over them is
//! vectorised.

use super::Real;
use super::vector::{repeat_row, vectorized};

/// The shape of one picture's map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depthwise {
    /// Height and width.
    pub(super) size: [usize; 2],
    /// Number of channels.
    pub(super) dim: usize,
    /// Side of the kernel, odd.
    pub(super) kernel: usize,
}

impl Depthwise {
    /// For every place of the output and every tap of the kernel that lies within the map: the place, the tap, and the place
    /// of the input that it reads.
    fn taps(self) -> impl Iterator<Item = [usize; 3]> {
        let ([height, width], kernel) = (self.size, self.kernel);
        let around = kernel / 2;
        (0..height * width).flat_map(move |place| {
            let (y, x) = (place / width, place % width);
            (0..kernel * kernel).filter_map(move |tap| {
                let (from_y, from_x) = (y + tap / kernel, x + tap % kernel);
                let inside = (around..around + height).contains(&from_y) && (around..around + width).contains(&from_x);
                inside.then(|| [place, tap, (from_y - around) * width + from_x - around])
            })
        })
    }

    /// `weight` `[dim, 1, k, k]` as `[k k, dim]`.
    fn by_tap<T: Real>(self, weight: &[T]) -> Vec<T> {
        let taps = self.kernel * self.kernel;
        (0..taps).flat_map(|tap| (0..self.dim).map(move |channel| weight[channel * taps + tap])).collect()
    }

    fn len(self) -> usize {
        self.size[0] * self.size[1] * self.dim
    }

    fn row(self, place: usize) -> std::ops::Range<usize> {
        place * self.dim..(place + 1) * self.dim
    }

    /// `x` to `y`, both `[pictures, H, W, dim]`.
    pub(super) fn forward<T: Real>(self, x: &[T], weight: &[T], bias: &[T], y: &mut [T]) {
        let weight = self.by_tap(weight);
        repeat_row(y, bias);
        vectorized(
            #[inline(always)]
            || {
                for (x, y) in x.chunks_exact(self.len()).zip(y.chunks_exact_mut(self.len())) {
                    for [place, tap, from] in self.taps() {
                        multiply_add(&mut y[self.row(place)], &x[self.row(from)], &weight[self.row(tap)]);
                    }
                }
            },
        );
    }

    /// The gradient of `x` from that of `y`.
    pub(super) fn backward_input<T: Real>(self, dy: &[T], weight: &[T], dx: &mut [T]) {
        let weight = self.by_tap(weight);
        dx.fill(T::ZERO);
        vectorized(
            #[inline(always)]
            || {
                for (dy, dx) in dy.chunks_exact(self.len()).zip(dx.chunks_exact_mut(self.len())) {
                    for [place, tap, from] in self.taps() {
                        multiply_add(&mut dx[self.row(from)], &dy[self.row(place)], &weight[self.row(tap)]);
                    }
                }
            },
        );
    }

    /// The gradient of the weight, `[dim, 1, k, k]`.
    pub(super) fn backward_weight<T: Real>(self, x: &[T], dy: &[T], dweight: &mut [T]) {
        let taps = self.kernel * self.kernel;
        let mut by_tap = vec![T::ZERO; taps * self.dim];
        vectorized(
            #[inline(always)]
            || {
                for (x, dy) in x.chunks_exact(self.len()).zip(dy.chunks_exact(self.len())) {
                    for [place, tap, from] in self.taps() {
                        multiply_add(&mut by_tap[self.row(tap)], &x[self.row(from)], &dy[self.row(place)]);
                    }
                }
            },
        );
        for (channel, weight) in dweight.chunks_exact_mut(taps).enumerate() {
            for (tap, value) in weight.iter_mut().enumerate() {
                *value = by_tap[tap * self.dim + channel];
            }
        }
    }
}

/// `sum += a b`.
#[inline(always)]
fn multiply_add<T: Real>(sum: &mut [T], a: &[T], b: &[T]) {
    for ((sum, &a), &b) in sum.iter_mut().zip(a).zip(b) {
        *sum += a * b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let conv = Depthwise { size: [2, 2], dim: 1, kernel: 3 };
        let weight: Vec<f64> = (1..10).map(f64::from).collect();
        let mut y = [0.0; 4];
        conv.forward(&[1.0, 10.0, 100.0, 1000.0], &weight, &[0.5], &mut y);
        // The kernel's middle, 5, lies on each place in turn.
        assert_eq!(y, [9865.5, 8754.5, 6532.5, 5421.5]);
        let mut dx = [0.0; 4];
        conv.backward_input(&[1.0, 0.0, 0.0, 0.0], &weight, &mut dx);
        assert_eq!(dx, [5.0, 6.0, 8.0, 9.0]);
        let mut dw = [0.0; 9];
        conv.backward_weight(&[1.0, 10.0, 100.0, 1000.0], &[1.0, 0.0, 0.0, 0.0], &mut dw);
        assert_eq!(dw, [0.0, 0.0, 0.0, 0.0, 1.0, 10.0, 0.0, 100.0, 1000.0]);
    }
}
