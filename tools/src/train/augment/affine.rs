//! Shears, shifts and turns, resampled as Pillow's `Image.transform` with `BICUBIC` does (`src/libImaging/Geometry.c`).

use image::{Rgb, RgbImage};

/// How a picture is moved: the place in the source of what stands at (x, y) is `(a x + b y + c, d x + e y + f)`, in pixels,
/// with the middle of the first pixel at 0.5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine([f64; 6]);

impl Affine {
    /// Rows shifted by `factor` times their height.
    pub(super) fn shear_x(factor: f64) -> Self {
        Self([1.0, factor, 0.0, 0.0, 1.0, 0.0])
    }

    /// Columns shifted by `factor` times their place.
    pub(super) fn shear_y(factor: f64) -> Self {
        Self([1.0, 0.0, 0.0, factor, 1.0, 0.0])
    }

    /// Shifted to the left by `share` of the width.
    pub(super) fn translate_x(picture: &RgbImage, share: f64) -> Self {
        Self([1.0, 0.0, share * f64::from(picture.width()), 0.0, 1.0, 0.0])
    }

    /// Shifted upwards by `share` of the height.
    pub(super) fn translate_y(picture: &RgbImage, share: f64) -> Self {
        Self([1.0, 0.0, 0.0, 0.0, 1.0, share * f64::from(picture.height())])
    }

    /// Turned by `degrees` against the clock around the picture's middle.
    pub(super) fn rotate(picture: &RgbImage, degrees: f64) -> Self {
        let angle = -degrees.rem_euclid(360.0).to_radians();
        // As Pillow rounds them: to 15 decimals.
        let [sin, cos] = [angle.sin(), angle.cos()].map(|value| (value * 1e15).round() / 1e15);
        let [x, y] = [picture.width(), picture.height()].map(|side| f64::from(side) / 2.0);
        Self([cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y])
    }

    /// The moved picture, of the same size; `fill` is what lies outside of the source.
    pub(super) fn apply(self, picture: &RgbImage, fill: [u8; 3]) -> RgbImage {
        let [a, b, c, d, e, f] = self.0;
        RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
            let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
            let place = (a * x + b * y + c, d * x + e * y + f);
            Rgb(sample(picture, place).unwrap_or(fill))
        })
    }
}

/// The picture at a place between its pixels; none outside of it.
fn sample(picture: &RgbImage, (x, y): (f64, f64)) -> Option<[u8; 3]> {
    let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
    if !(0.0..width as f64).contains(&x) || !(0.0..height as f64).contains(&y) {
        return None;
    }
    let (x, y) = (x - 0.5, y - 0.5);
    let (left, top) = (x.floor(), y.floor());
    // The border goes on outside.
    let at = |from: f64, offset: i64, len: i64| (from as i64 + offset).clamp(0, len - 1) as u32;
    Some(std::array::from_fn(|channel| {
        let row = |dy: i64| {
            let y = at(top, dy, height);
            let value = |dx: i64| f64::from(picture.get_pixel(at(left, dx, width), y).0[channel]);
            cubic([value(-1), value(0), value(1), value(2)], x - left)
        };
        // A conversion cuts the fraction off, as Pillow does, and keeps to 0..255.
        cubic([row(-1), row(0), row(1), row(2)], y - top) as u8
    }))
}

/// Keys' cubic with a = -1 through four values, at `at` between the second and the third.
fn cubic([v1, v2, v3, v4]: [f64; 4], at: f64) -> f64 {
    let slope = -v1 + v3;
    let square = 2.0 * (v1 - v2) + v3 - v4;
    let cube = -v1 + v2 - v3 + v4;
    v2 + at * (slope + at * (square + at * cube))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{FILL, assert_same, picture};
    use super::*;

    #[test]
    fn moved_pictures_are_those_of_pillow() {
        let picture = picture();
        let check = |affine: Affine, name: &str| assert_same(&affine.apply(&picture, FILL), name);
        check(Affine::shear_x(0.27), "shear_x_0.27");
        check(Affine::shear_x(-0.3), "shear_x_-0.3");
        check(Affine::shear_y(0.27), "shear_y_0.27");
        check(Affine::shear_y(-0.3), "shear_y_-0.3");
        check(Affine::translate_x(&picture, 0.405), "translate_x_rel_0.405");
        check(Affine::translate_x(&picture, -0.2), "translate_x_rel_-0.2");
        check(Affine::translate_y(&picture, 0.405), "translate_y_rel_0.405");
        check(Affine::translate_y(&picture, -0.2), "translate_y_rel_-0.2");
        check(Affine::rotate(&picture, 27.0), "rotate_27.0");
        check(Affine::rotate(&picture, -13.5), "rotate_-13.5");
    }

    #[test]
    fn a_picture_that_is_not_moved_stays_as_it_is() {
        let picture = picture();
        assert_eq!(Affine::shear_x(0.0).apply(&picture, FILL), picture);
        assert_eq!(Affine::rotate(&picture, 0.0).apply(&picture, FILL), picture);
    }
}
