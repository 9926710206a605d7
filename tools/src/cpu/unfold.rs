//! The places that a convolution's kernel covers as the rows of a matrix, so that the convolution is a product.

use super::Real;

/// Where the places of one picture lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unfold {
    /// Channels, height and width of the input.
    pub(super) input: [usize; 3],
    /// Whether the input's channels come first, as those of pixels do, or last.
    pub(super) from_pixels: bool,
    /// Side of the kernel, odd.
    pub(super) kernel: usize,
    /// Step from place to place.
    pub(super) stride: usize,
}

impl Unfold {
    /// For every place of the output and every tap of the kernel that lies within the map: where the tap stands in the matrix
    /// and where the input has it, both of the first channel.
    fn taps(self) -> impl Iterator<Item = [usize; 2]> {
        let ([channels, height, width], Self { kernel, stride, .. }) = (self.input, self);
        let (around, taps) = (kernel / 2, kernel * kernel);
        let [_, by_place] = self.steps();
        let places = (0..height.div_ceil(stride)).flat_map(move |y| (0..width.div_ceil(stride)).map(move |x| (y, x)));
        places.enumerate().flat_map(move |(place, (y, x))| {
            (0..taps).filter_map(move |tap| {
                let (from_y, from_x) = (y * stride + tap / kernel, x * stride + tap % kernel);
                let inside = (around..around + height).contains(&from_y) && (around..around + width).contains(&from_x);
                let from = || ((from_y - around) * width + from_x - around) * by_place;
                inside.then(|| [place * channels * taps + tap, from()])
            })
        })
    }

    /// From channel to channel and from place to place of the input.
    fn steps(self) -> [usize; 2] {
        let [channels, height, width] = self.input;
        if self.from_pixels { [height * width, 1] } else { [1, channels] }
    }

    /// `x` to `rows` `[pictures, places, channels k k]`.
    pub(super) fn forward<T: Real>(self, x: &[T], rows: &mut [T]) {
        rows.fill(T::ZERO);
        self.each(x.len(), rows.len(), |from, to| rows[to] = x[from]);
    }

    /// The gradient of `x` from that of the rows: a value is read by several of them.
    pub(super) fn backward<T: Real>(self, drows: &[T], dx: &mut [T]) {
        dx.fill(T::ZERO);
        self.each(dx.len(), drows.len(), |from, to| dx[from] += drows[to]);
    }

    /// Calls `visit` with every value of the input and its place in the matrix.
    fn each(self, inputs: usize, rows: usize, mut visit: impl FnMut(usize, usize)) {
        let (taps, [by_channel, _]) = (self.kernel * self.kernel, self.steps());
        let len: usize = self.input.iter().product();
        let pictures = inputs / len;
        for picture in 0..pictures {
            let (first, first_row) = (picture * len, picture * (rows / pictures));
            for [to, from] in self.taps() {
                for channel in 0..self.input[0] {
                    visit(first + from + channel * by_channel, first_row + to + channel * taps);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_holds_a_places_neighbours_channel_by_channel() {
        let unfold = Unfold { input: [2, 2, 3], from_pixels: true, kernel: 3, stride: 2 };
        let pixels: Vec<f64> = (1..13).map(f64::from).collect();
        let mut rows = vec![0.5; 2 * 18];
        unfold.forward(&pixels, &mut rows);
        assert_eq!(rows[..9], [0., 0., 0., 0., 1., 2., 0., 4., 5.]);
        assert_eq!(rows[9..18], [0., 0., 0., 0., 7., 8., 0., 10., 11.]);
        assert_eq!(rows[18..27], [0., 0., 0., 2., 3., 0., 5., 6., 0.]);
        // The same picture with its channels last.
        let map: Vec<f64> = (0..12).map(|i| pixels[i % 2 * 6 + i / 2]).collect();
        let last = Unfold { from_pixels: false, ..unfold };
        let mut same = vec![0.5; 2 * 18];
        last.forward(&map, &mut same);
        assert_eq!(same, rows);
        let mut counts = vec![0.0; 12];
        last.backward(&[1.0; 36], &mut counts);
        // The middle column is read from both places.
        assert_eq!(counts, [1., 1., 2., 2., 1., 1., 1., 1., 2., 2., 1., 1.]);
    }
}
