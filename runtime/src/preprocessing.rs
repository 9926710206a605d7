//! From a picture to the values that the model takes.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::frame::Frame;
use crate::resize::{Filter, Resizer, Target, resize_window};

/// The longest side of a model's input that is taken for serious, in pixels.
const MAX_SIDE: usize = 4096;

/// How a picture is brought to the model's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum ResizeMode {
    /// Both sides are resized to the model's, whatever the picture's aspect.
    Squash,
    /// The shortest side is resized to `size` pixels, the aspect kept, and the model's size is cut from the centre:
    /// torchvision's `Resize(size)` and `CenterCrop`.
    ShortestSide {
        /// Length of the shortest side before the cut, in pixels; at least the model's longest side.
        size: usize,
    },
}

/// The order in which the channels of a pixel are laid before the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColorOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// Everything that is done to a picture before the model sees it. Read from JSON it is checked, never guessed.
///
/// A model into whose first weights mean and standard deviation are folded carries a mean of 0 and a deviation of 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Preprocessing {
    /// Height and width that the model takes, in pixels.
    pub image_size: [usize; 2],
    /// How a picture is brought to that size.
    pub resize: ResizeMode,
    /// The resampling kernel, widened on reduction (antialias) as Pillow does.
    pub filter: Filter,
    /// What is subtracted from each channel scaled to 0..1, in [`Self::color_order`].
    pub mean: [f32; 3],
    /// What each channel is divided by after that, in [`Self::color_order`].
    pub std: [f32; 3],
    /// The order of the channels in the model's input.
    pub color_order: ColorOrder,
}

/// [`Preprocessing`] as it lies in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    image_size: [usize; 2],
    resize: ResizeMode,
    filter: Filter,
    mean: [f32; 3],
    std: [f32; 3],
    color_order: ColorOrder,
}

impl TryFrom<Unchecked> for Preprocessing {
    type Error = Error;

    fn try_from(raw: Unchecked) -> Result<Self, Error> {
        let Unchecked { image_size, resize, filter, mean, std, color_order } = raw;
        let checked = Self { image_size, resize, filter, mean, std, color_order };
        checked.check()?;
        Ok(checked)
    }
}

impl Preprocessing {
    /// What ImageNet models take: squashed to `image_size` (height, width) with the bicubic kernel, normalised by
    /// ImageNet's mean and standard deviation, RGB.
    pub fn imagenet(image_size: [usize; 2]) -> Self {
        Self {
            image_size,
            resize: ResizeMode::Squash,
            filter: Filter::Bicubic,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            color_order: ColorOrder::Rgb,
        }
    }

    /// Says whether every field can be followed.
    ///
    /// # Errors
    /// [`Error::InvalidPreprocessing`] names the first field that cannot, and why.
    pub fn check(&self) -> Result<(), Error> {
        let invalid = |field, reason| Err(Error::InvalidPreprocessing { field, reason });
        if self.image_size.iter().any(|&side| side == 0 || side > MAX_SIDE) {
            return invalid("image_size", format!("has to be 1 to {MAX_SIDE} pixels a side, is {:?}", self.image_size));
        }
        if let ResizeMode::ShortestSide { size } = self.resize {
            let longest = self.image_size[0].max(self.image_size[1]);
            if size < longest || size > MAX_SIDE {
                return invalid("resize", format!("size has to be {longest} to {MAX_SIDE} pixels, is {size}"));
            }
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return invalid("mean", format!("has to be finite, is {:?}", self.mean));
        }
        if !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return invalid("std", format!("has to be above 0 and finite, is {:?}", self.std));
        }
        Ok(())
    }

    /// Resizes (and cuts) `picture` to the model's height and width; 8-bit RGB in and out.
    pub fn resize(&self, picture: &RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        let Target { full, origin, size, filter } = self.target([height, width]);
        resize_window(picture, full, origin, size, filter)
    }

    /// The values `[3, height, width]` (float32, channel by channel, row by row) of a picture of any size: scaled to
    /// 0..1, the mean subtracted, divided by the standard deviation.
    pub fn normalize(&self, picture: &RgbImage) -> Vec<f32> {
        let mut values = Vec::with_capacity(picture.as_raw().len());
        for (channel, table) in self.tables().iter().enumerate() {
            let channel = picture.as_raw().iter().skip(self.source(channel)).step_by(3);
            values.extend(channel.map(|&value| table[usize::from(value)]));
        }
        values
    }

    /// [`resize`](Self::resize), then [`normalize`](Self::normalize): the model's input `[3, height, width]`.
    pub fn apply(&self, picture: &RgbImage) -> Vec<f32> {
        let mut values = vec![0.0; 3 * self.image_size[0] * self.image_size[1]];
        Preparation::new(self.clone()).apply(&Frame::from(picture), &mut values);
        values
    }

    /// What is made of a picture of `from` (height, width) pixels.
    fn target(&self, from: [u32; 2]) -> Target {
        let size = self.image_size.map(|side| side as u32);
        let (full, origin) = match self.resize {
            ResizeMode::Squash => (size, [0, 0]),
            ResizeMode::ShortestSide { size: shortest } => {
                let full = shortest_side(from, shortest);
                (full, [0, 1].map(|axis| centered(full[axis], size[axis])))
            }
        };
        Target { full, origin, size, filter: self.filter }
    }

    /// One table a channel of the model's input: 256 values exist, and each is computed once, in the same order of
    /// operations anywhere.
    fn tables(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| {
            std::array::from_fn(|value| (value as f32 / 255.0 - self.mean[channel]) / self.std[channel])
        })
    }

    /// The place in RGB of a channel of the model's input.
    fn source(&self, channel: usize) -> usize {
        match self.color_order {
            ColorOrder::Rgb => channel,
            ColorOrder::Bgr => 2 - channel,
        }
    }
}

/// A preprocessing with all that it keeps from picture to picture: tables, coefficients and rows.
#[derive(Debug)]
pub(crate) struct Preparation {
    preprocessing: Preprocessing,
    tables: Box<[[f32; 256]; 3]>,
    resizer: Resizer,
}

impl Preparation {
    pub(crate) fn new(preprocessing: Preprocessing) -> Self {
        let tables = Box::new(preprocessing.tables());
        Self { preprocessing, tables, resizer: Resizer::default() }
    }

    pub(crate) fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Writes the model's input `[3, height, width]` for `frame` into `values`, which has that many places.
    pub(crate) fn apply(&mut self, frame: &Frame<'_>, values: &mut [f32]) {
        let Self { preprocessing, tables, resizer } = self;
        let [height, width] = preprocessing.image_size;
        let target = preprocessing.target([frame.height(), frame.width()]);
        let given = [0, 1].map(|axis| target.full[axis].saturating_sub(target.origin[axis]) >= target.size[axis]);
        if given != [true; 2] || frame.is_empty() {
            // What the frame does not reach is black.
            values.chunks_exact_mut(height * width).zip(&**tables).for_each(|(plane, table)| plane.fill(table[0]));
        }
        resizer.run(frame, &target, |y, planes| {
            for (channel, (plane, table)) in values.chunks_exact_mut(height * width).zip(&**tables).enumerate() {
                let row = plane[y * width..][..width].iter_mut();
                for (to, &value) in row.zip(planes[preprocessing.source(channel)]) {
                    *to = table[usize::from(value)];
                }
            }
        });
    }
}

/// (height, width) of a picture with its shortest side brought to `size`, the other truncated, as torchvision does.
fn shortest_side([height, width]: [u32; 2], size: usize) -> [u32; 2] {
    let size = size as u64;
    let long =
        |long: u32, short: u32| (size * u64::from(long) / u64::from(short.max(1))).min(u64::from(u32::MAX)) as u32;
    if width <= height { [long(height, width), size as u32] } else { [size as u32, long(width, height)] }
}

/// Where a cut of `inner` pixels begins in `outer`: half of what is left, halves rounded to even as Python does.
fn centered(outer: u32, inner: u32) -> u32 {
    let rest = outer.saturating_sub(inner);
    let half = rest / 2;
    half + (rest % 2) * (half % 2)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    /// Error of one float32 subtraction and division of values near 1.
    const F32_TOLERANCE: f32 = 1e-6;

    #[test]
    fn channels_are_planes_normalised_in_their_order() {
        let mut picture = RgbImage::new(2, 1);
        picture.put_pixel(0, 0, Rgb([255, 0, 51]));
        picture.put_pixel(1, 0, Rgb([0, 255, 102]));
        let mut preprocessing = Preprocessing::imagenet([1, 2]);
        preprocessing.mean = [0.5, 0.25, 0.0];
        preprocessing.std = [0.5, 0.25, 2.0];
        let expect = |got: Vec<f32>, expected: [f32; 6]| {
            assert!(got.iter().zip(expected).all(|(g, e)| (g - e).abs() < F32_TOLERANCE), "{got:?} {expected:?}");
        };
        expect(preprocessing.apply(&picture), [1.0, -1.0, -1.0, 3.0, 0.1, 0.2]);
        preprocessing.color_order = ColorOrder::Bgr;
        expect(preprocessing.apply(&picture), [-0.6, -0.2, -1.0, 3.0, 0.5, 0.0]);
    }

    #[test]
    fn the_cut_is_from_the_centre_and_of_the_models_size() {
        let mut preprocessing = Preprocessing::imagenet([4, 6]);
        preprocessing.resize = ResizeMode::ShortestSide { size: 8 };
        let mut picture = RgbImage::new(31, 8);
        picture.enumerate_pixels_mut().for_each(|(x, y, pixel)| *pixel = Rgb([x as u8, y as u8, 0]));
        let cut = preprocessing.resize(&picture);
        assert_eq!(cut.dimensions(), (6, 4));
        // (31 - 6) / 2 = 12.5, and 12 is the even one.
        assert_eq!(cut.get_pixel(0, 0).0, [12, 2, 0]);
        assert_eq!((centered(9, 6), centered(11, 6), centered(6, 6)), (2, 2, 0));
    }

    #[test]
    fn the_shortest_side_is_brought_to_size() {
        assert_eq!(shortest_side([480, 640], 256), [256, 341]);
        assert_eq!(shortest_side([640, 480], 256), [341, 256]);
        assert_eq!(shortest_side([10, 10], 256), [256, 256]);
    }

    #[test]
    fn json_is_read_back_and_checked() {
        let mut preprocessing = Preprocessing::imagenet([224, 112]);
        preprocessing.resize = ResizeMode::ShortestSide { size: 256 };
        let json = serde_json::to_value(&preprocessing).unwrap();
        assert_eq!(serde_json::from_value::<Preprocessing>(json.clone()).unwrap(), preprocessing);
        let refused = |key: &str, value: serde_json::Value| {
            let mut json = json.clone();
            json[key] = value;
            serde_json::from_value::<Preprocessing>(json).unwrap_err().to_string()
        };
        assert!(refused("image_size", serde_json::json!([0, 224])).contains("image_size"));
        assert!(refused("resize", serde_json::json!({"mode": "shortest_side", "size": 100})).contains("224"));
        assert!(refused("resize", serde_json::json!({"mode": "pad"})).contains("pad"));
        assert!(refused("std", serde_json::json!([1.0, 0.0, 1.0])).contains("std"));
        assert!(refused("filter", serde_json::json!("lanczos")).contains("lanczos"));
        assert!(refused("gamma", serde_json::json!(2.2)).contains("gamma"));
    }
}
