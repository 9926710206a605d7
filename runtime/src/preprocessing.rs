//! From a picture to the values that the model takes.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::frame::Frame;
use crate::resize::{Filter, Resizer, Target, resize_window};
use crate::{Error, filmstrip};

/// The longest side of a model's input that is taken for serious, in pixels.
const MAX_SIDE: usize = 4096;
/// The most frames of a clip that are taken for serious.
const MAX_FRAMES: usize = 64;

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
    /// How many frames of a clip the model sees at a time, each brought to its size, their channels behind one another; 1 where it sees a
    /// picture. A clip is handed in as a [`filmstrip`].
    #[serde(skip_serializing_if = "is_picture")]
    pub frames: usize,
}

/// The frames of a picture. Files of pictures do not say that they are.
fn picture() -> usize {
    1
}

fn is_picture(frames: &usize) -> bool {
    *frames == picture()
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
    #[serde(default = "picture")]
    frames: usize,
}

impl TryFrom<Unchecked> for Preprocessing {
    type Error = Error;

    fn try_from(raw: Unchecked) -> Result<Self, Error> {
        let Unchecked { image_size, resize, filter, mean, std, color_order, frames } = raw;
        let checked = Self { image_size, resize, filter, mean, std, color_order, frames };
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
            frames: 1,
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
        if !(1..=MAX_FRAMES).contains(&self.frames) {
            return invalid("frames", format!("has to be 1 to {MAX_FRAMES}, is {}", self.frames));
        }
        Ok(())
    }

    /// Resizes (and cuts) `picture`, or every frame of a filmstrip, to the model's height and width; 8-bit RGB in and out.
    pub fn resize(&self, picture: &RgbImage) -> RgbImage {
        match self.frames {
            1 => self.resize_frame(picture),
            frames => filmstrip::join(filmstrip::split(picture, frames).map(|frame| self.resize_frame(&frame))),
        }
    }

    fn resize_frame(&self, picture: &RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        let Target { full, origin, size, filter } = self.target([height, width]);
        resize_window(picture, full, origin, size, filter)
    }

    /// The values `[3 frames, height, width]` (float32, frame by frame, channel by channel, row by row) of a picture of any size: scaled
    /// to 0..1, the mean subtracted, divided by the standard deviation.
    pub fn normalize(&self, picture: &RgbImage) -> Vec<f32> {
        let mut values = Vec::with_capacity(picture.as_raw().len());
        let tables = self.tables();
        // A frame's rows stand together.
        let frame = picture.as_raw().len() / 3 / self.frames * 3;
        for frame in picture.as_raw().chunks_exact(frame.max(1)) {
            for (channel, table) in tables.iter().enumerate() {
                let channel = frame.iter().skip(self.source(channel)).step_by(3);
                values.extend(channel.map(|&value| table[usize::from(value)]));
            }
        }
        values
    }

    /// [`resize`](Self::resize), then [`normalize`](Self::normalize): the model's input `[3 frames, height, width]`.
    pub fn apply(&self, picture: &RgbImage) -> Vec<f32> {
        let mut preparation = Preparation::new(self.clone());
        let mut values = vec![0.0; self.values()];
        match self.frames {
            1 => preparation.apply(&Frame::from(picture), &mut values),
            frames => {
                let each = values.len() / frames;
                for (frame, values) in filmstrip::split(picture, frames).zip(values.chunks_exact_mut(each)) {
                    preparation.apply(&Frame::from(&frame), values);
                }
            }
        }
        values
    }

    /// How many values the model takes.
    pub(crate) fn values(&self) -> usize {
        3 * self.frames * self.image_size[0] * self.image_size[1]
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

    /// Writes `frame` behind the frames that `values`, the model's input, holds, whose first makes room; into every frame's place where they are
    /// `new`.
    pub(crate) fn push(&mut self, frame: &Frame<'_>, values: &mut [f32], new: bool) {
        let each = values.len() / self.preprocessing.frames;
        if !new {
            values.copy_within(each.., 0);
        }
        let last = values.len() - each;
        self.apply(frame, &mut values[last..]);
        if new {
            (0..last).step_by(each.max(1)).for_each(|at| values.copy_within(last.., at));
        }
    }

    /// Writes the values `[3, height, width]` of one `frame` into `values`, which has that many places.
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

    fn noisy(seed: u32) -> RgbImage {
        RgbImage::from_fn(9, 7, |x, y| Rgb([(seed + 31 * x) as u8, (17 * y + x) as u8, (x * y * seed) as u8]))
    }

    #[test]
    fn a_strip_gives_what_its_frames_give_one_behind_another() {
        let of_one = Preprocessing::imagenet([4, 6]);
        let of_three = Preprocessing { frames: 3, ..of_one.clone() };
        let frames = [noisy(1), noisy(2), noisy(3)];
        let strip = filmstrip::join(frames.clone());
        let expected = frames.each_ref().map(|frame| of_one.apply(frame)).concat();
        assert_eq!(of_three.apply(&strip), expected);
        let resized = of_three.resize(&strip);
        assert_eq!(resized.dimensions(), (6, 12));
        assert_eq!(of_three.normalize(&resized), expected);
        assert_eq!(of_three.apply(&RgbImage::new(3, 2)).len(), expected.len());
    }

    #[test]
    fn the_newest_frames_stand_behind_one_another() {
        let of_one = Preprocessing::imagenet([4, 6]);
        let mut preparation = Preparation::new(Preprocessing { frames: 3, ..of_one.clone() });
        let frames = [noisy(1), noisy(2), noisy(3), noisy(4)];
        let alone = frames.each_ref().map(|frame| of_one.apply(frame));
        let mut values = vec![0.5; 3 * alone[0].len()];
        let mut push = |at: usize, new| {
            preparation.push(&Frame::from(&frames[at]), &mut values, new);
            values.clone()
        };
        let of = |frames: [usize; 3]| frames.map(|at| alone[at].clone()).concat();
        assert_eq!(push(0, true), of([0, 0, 0]));
        assert_eq!(push(1, false), of([0, 0, 1]));
        assert_eq!(push(2, false), of([0, 1, 2]));
        assert_eq!(push(3, false), of([1, 2, 3]));
        assert_eq!(push(1, true), of([1, 1, 1]));
    }

    #[test]
    fn json_is_read_back_and_checked() {
        let mut preprocessing = Preprocessing::imagenet([224, 112]);
        preprocessing.resize = ResizeMode::ShortestSide { size: 256 };
        let json = serde_json::to_value(&preprocessing).unwrap();
        assert_eq!(serde_json::from_value::<Preprocessing>(json.clone()).unwrap(), preprocessing);
        assert_eq!(json.get("frames"), None, "files of pictures do not say that they are");
        let of_clips = Preprocessing { frames: 16, ..preprocessing.clone() };
        let of_clips_json = serde_json::to_value(&of_clips).unwrap();
        assert_eq!(serde_json::from_value::<Preprocessing>(of_clips_json).unwrap(), of_clips);
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
        assert!(refused("frames", serde_json::json!(0)).contains("frames"));
        assert!(refused("frames", serde_json::json!(65)).contains("64"));
    }
}
