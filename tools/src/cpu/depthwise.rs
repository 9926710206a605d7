//! A convolution of each channel by itself, zeros around the map. Channels are last, so that a loop over them is
//! vectorised.

use super::Real;
use super::vector::{repeat_row, vectorized};

/// The shape of one picture's map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depthwise {
    /// Height and width of the input.
    pub(super) size: [usize; 2],
    /// Number of channels.
    pub(super) dim: usize,
    /// Side of the kernel, odd.
    pub(super) kernel: usize,
    /// Step from place to place.
    pub(super) stride: usize,
}

impl Depthwise {
    /// For every place of the output and every tap of the kernel that lies within the map: the place, the tap, and the place
    /// of the input that it reads.
    fn taps(self) -> impl Iterator<Item = [usize; 3]> {
        let ([height, width], Self { kernel, stride, .. }) = (self.size, self);
        let [down, across] = self.output();
        let around = kernel / 2;
        (0..down * across).flat_map(move |place| {
            let (y, x) = (place / across * stride, place % across * stride);
            (0..kernel * kernel).filter_map(move |tap| {
                let (from_y, from_x) = (y + tap / kernel, x + tap % kernel);
                let inside = (around..around + height).contains(&from_y) && (around..around + width).contains(&from_x);
                inside.then(|| [place, tap, (from_y - around) * width + from_x - around])
            })
        })
    }

    /// Height and width of the output.
    fn output(self) -> [usize; 2] {
        self.size.map(|side| side.div_ceil(self.stride))
    }

    /// `weight` `[dim, 1, k, k]` as `[k k, dim]`.
    fn by_tap<T: Real>(self, weight: &[T]) -> Vec<T> {
        let taps = self.kernel * self.kernel;
        (0..taps).flat_map(|tap| (0..self.dim).map(move |channel| weight[channel * taps + tap])).collect()
    }

    /// Numbers of values of one picture's input and output.
    fn lens(self) -> [usize; 2] {
        [self.size, self.output()].map(|[height, width]| height * width * self.dim)
    }

    fn row(self, place: usize) -> std::ops::Range<usize> {
        place * self.dim..(place + 1) * self.dim
    }

    /// `x` `[pictures, H, W, dim]` to `y`.
    pub(super) fn forward<T: Real>(self, x: &[T], weight: &[T], bias: &[T], y: &mut [T]) {
        let (weight, [input, output]) = (self.by_tap(weight), self.lens());
        repeat_row(y, bias);
        vectorized(
            #[inline(always)]
            || {
                for (x, y) in x.chunks_exact(input).zip(y.chunks_exact_mut(output)) {
                    for [place, tap, from] in self.taps() {
                        multiply_add(&mut y[self.row(place)], &x[self.row(from)], &weight[self.row(tap)]);
                    }
                }
            },
        );
    }

    /// The gradient of `x` from that of `y`.
    pub(super) fn backward_input<T: Real>(self, dy: &[T], weight: &[T], dx: &mut [T]) {
        let (weight, [input, output]) = (self.by_tap(weight), self.lens());
        dx.fill(T::ZERO);
        vectorized(
            #[inline(always)]
            || {
                for (dy, dx) in dy.chunks_exact(output).zip(dx.chunks_exact_mut(input)) {
                    for [place, tap, from] in self.taps() {
                        multiply_add(&mut dx[self.row(from)], &dy[self.row(place)], &weight[self.row(tap)]);
                    }
                }
            },
        );
    }

    /// The gradient of the weight, `[dim, 1, k, k]`.
    pub(super) fn backward_weight<T: Real>(self, x: &[T], dy: &[T], dweight: &mut [T]) {
        let (taps, [input, output]) = (self.kernel * self.kernel, self.lens());
        let mut by_tap = vec![T::ZERO; taps * self.dim];
        vectorized(
            #[inline(always)]
            || {
                for (x, dy) in x.chunks_exact(input).zip(dy.chunks_exact(output)) {
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
        let conv = Depthwise { size: [2, 2], dim: 1, kernel: 3, stride: 1 };
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

    #[test]
    fn a_stride_leaves_places_out() {
        let conv = Depthwise { size: [3, 4], dim: 2, kernel: 3, stride: 2 };
        let all = Depthwise { stride: 1, ..conv };
        let x: Vec<f64> = (0..24).map(|i| f64::from(i * i % 7)).collect();
        let weight: Vec<f64> = (1..19).map(f64::from).collect();
        let (mut some, mut every) = (vec![0.0; 8], vec![0.0; 24]);
        conv.forward(&x, &weight, &[0.5, -0.5], &mut some);
        all.forward(&x, &weight, &[0.5, -0.5], &mut every);
        let kept: Vec<f64> =
            [0, 2, 8, 10].into_iter().flat_map(|place| [every[2 * place], every[2 * place + 1]]).collect();
        assert_eq!(some, kept);
    }
}
