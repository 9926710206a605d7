//! A class for each pixel of a picture.

mod png_file;
mod upsample;

use image::RgbImage;

use crate::Error;
use crate::picture::check_size;

/// The value of a pixel that has no class: in the masks that a model is trained with, what is not to be counted.
pub const NO_CLASS: u8 = 255;
/// The most classes that a mask can tell apart.
pub const MAX_CLASSES: usize = NO_CLASS as usize;

/// The class of each pixel of a picture, one byte a pixel, row by row; [`NO_CLASS`] where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    width: u32,
    height: u32,
    classes: Vec<u8>,
}

impl Mask {
    /// The mask of `width` times `height` pixels with these `classes`, row by row.
    ///
    /// # Errors
    /// [`Error::InvalidMask`] if there are not as many classes as pixels, [`Error::EmptyPicture`] and
    /// [`Error::PictureTooLarge`] as for pictures.
    pub fn new(width: u32, height: u32, classes: Vec<u8>) -> Result<Self, Error> {
        let pixels = u64::from(width) * u64::from(height);
        check_size(width, height, pixels)?;
        if classes.len() as u64 != pixels {
            let reason = format!("it has {} values for {width}x{height} pixels", classes.len());
            return Err(Error::InvalidMask { reason });
        }
        Ok(Self { width, height, classes })
    }

    /// The class of each pixel of a picture of `size` (height, width): `logits` `[rows, columns, classes]` of a `grid` (rows,
    /// columns) that covers the picture are brought to its size bilinearly, as PyTorch's `interpolate` does it without
    /// `align_corners`, and the first of the largest is taken.
    ///
    /// # Errors
    /// [`Error::InvalidMask`] if the logits are not those of such a grid or of more than [`MAX_CLASSES`] classes,
    /// [`Error::EmptyPicture`] and [`Error::PictureTooLarge`] as for pictures.
    pub fn from_logits(logits: &[f32], grid: [usize; 2], size: [u32; 2]) -> Result<Self, Error> {
        let [height, width] = size;
        check_size(width, height, u64::from(width) * u64::from(height))?;
        let cells = grid[0].saturating_mul(grid[1]);
        let classes = logits.len().checked_div(cells).unwrap_or(0);
        if classes == 0 || classes > MAX_CLASSES || classes * cells != logits.len() {
            let [rows, columns] = grid;
            let reason =
                format!("{} logits are not 1 to {MAX_CLASSES} for each of {rows}x{columns} patches", logits.len());
            return Err(Error::InvalidMask { reason });
        }
        Ok(Self { width, height, classes: upsample::classes(logits, grid, classes, size) })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The class of each pixel, row by row.
    pub fn classes(&self) -> &[u8] {
        &self.classes
    }

    /// Brings `picture`, which has the mask's size, halfway to the colours of its classes. Class 0, whose colour is black, leaves it as
    /// it is.
    pub fn lay_over(&self, picture: &mut RgbImage) {
        for (pixel, &class) in picture.pixels_mut().zip(&self.classes).filter(|(_, class)| **class != 0) {
            // The mean of two bytes is one.
            let mean = |(value, color): (u8, u8)| u16::midpoint(value.into(), color.into()) as u8;
            let [r, g, b] = class_color(class);
            pixel.0 = [(pixel.0[0], r), (pixel.0[1], g), (pixel.0[2], b)].map(mean);
        }
    }

    /// The share of the pixels that each of the first `count` classes has, 0 to 1. Pixels without a class, and those of other
    /// classes, have the rest.
    pub fn shares(&self, count: usize) -> Vec<f64> {
        let mut pixels = [0u64; 256];
        for &class in &self.classes {
            pixels[usize::from(class)] += 1;
        }
        pixels.iter().take(count).map(|&pixels| pixels as f64 / self.classes.len() as f64).collect()
    }
}

/// The colour of a class in PASCAL VOC's colour map: the bits of its number, from the lowest, go to red, green and blue in turn,
/// the first to the highest bit of the colour. Class 0 is black.
pub fn class_color(class: u8) -> [u8; 3] {
    let mut color = [0u8; 3];
    for bit in 0..8u8 {
        let channel = &mut color[usize::from(bit % 3)];
        *channel |= ((class >> bit) & 1) << (7 - bit / 3);
    }
    color
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn classes_are_laid_over_the_picture_in_their_colours() {
        let mut picture = RgbImage::from_pixel(3, 1, Rgb([100, 50, 0]));
        Mask::new(3, 1, vec![0, 1, 2]).unwrap().lay_over(&mut picture);
        assert_eq!(
            picture.pixels().map(|pixel| pixel.0).collect::<Vec<_>>(),
            [[100, 50, 0], [114, 25, 0], [50, 89, 0]]
        );
    }

    #[test]
    fn the_colours_are_those_of_pascal_voc() {
        let first = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128]];
        assert_eq!((0..7).map(class_color).collect::<Vec<_>>(), first);
        // `person`, `tvmonitor` and what is not counted.
        assert_eq!(
            [class_color(15), class_color(20), class_color(255)],
            [[192, 128, 128], [0, 64, 128], [224, 224, 192]]
        );
    }

    #[test]
    fn shares_are_of_all_pixels() {
        let mask = Mask::new(4, 2, vec![0, 0, 1, NO_CLASS, 2, 2, 0, 0]).unwrap();
        assert_eq!(mask.shares(4), [0.5, 0.125, 0.25, 0.0]);
        assert_eq!(mask.shares(1), [0.5]);
    }

    #[test]
    fn what_is_no_mask_is_refused() {
        assert!(matches!(Mask::new(2, 2, vec![0; 3]), Err(Error::InvalidMask { .. })));
        assert!(matches!(Mask::new(0, 2, vec![]), Err(Error::EmptyPicture { .. })));
        for (logits, grid) in [(7, [2, 2]), (0, [2, 2]), (4, [0, 2]), (256, [1, 1])] {
            let error = Mask::from_logits(&vec![0.0; logits], grid, [4, 4]).unwrap_err();
            assert!(matches!(error, Error::InvalidMask { .. }), "{error}");
        }
        assert!(matches!(Mask::from_logits(&[0.0], [1, 1], [4, 0]), Err(Error::EmptyPicture { .. })));
    }
}
