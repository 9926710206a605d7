//! A clip as one picture: its frames one below another, the first on top. So it is kept, shown and handed on wherever a picture is.

use image::RgbImage;

/// The `count` frames of `strip`, each of the same height. Rows at the bottom that make no whole frame are left out; frames are empty where
/// there are fewer rows than frames.
pub fn split(strip: &RgbImage, count: usize) -> impl Iterator<Item = RgbImage> {
    let (width, height) = strip.dimensions();
    let height = u32::try_from(count).ok().and_then(|count| height.checked_div(count)).unwrap_or(0);
    let bytes = width as usize * height as usize * 3;
    let frame = move |index: usize| strip.as_raw().get(index * bytes..)?.get(..bytes).map(<[u8]>::to_vec);
    (0..count)
        .map(move |index| frame(index).and_then(|rows| RgbImage::from_raw(width, height, rows)).unwrap_or_default())
}

/// `frames` one below another; those that are not as wide as the first are left out.
pub fn join(frames: impl IntoIterator<Item = RgbImage>) -> RgbImage {
    let mut frames = frames.into_iter();
    let Some(first) = frames.next() else { return RgbImage::default() };
    let (width, mut height) = first.dimensions();
    let mut bytes = first.into_raw();
    for frame in frames.filter(|frame| frame.width() == width) {
        height += frame.height();
        bytes.extend_from_slice(frame.as_raw());
    }
    RgbImage::from_raw(width, height, bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn what_is_joined_is_split_again() {
        let frame = |value: u8| RgbImage::from_fn(3, 2, |x, y| Rgb([value, x as u8, y as u8]));
        let strip = join([frame(1), frame(2), RgbImage::new(5, 5), frame(3)]);
        assert_eq!(strip.dimensions(), (3, 6));
        assert_eq!(split(&strip, 3).collect::<Vec<_>>(), [frame(1), frame(2), frame(3)]);
        assert!(split(&strip, 1).eq([strip.clone()]));
        let cut: Vec<_> = split(&strip, 4).map(|frame| frame.dimensions()).collect();
        assert_eq!(cut, [(3, 1); 4]);
    }

    #[test]
    fn there_are_as_many_frames_as_asked_for_even_of_nothing() {
        assert!(split(&RgbImage::new(3, 2), 3).all(|frame| frame.height() == 0));
        assert_eq!(split(&RgbImage::new(3, 2), 3).count(), 3);
        assert_eq!(split(&RgbImage::new(3, 2), 0).count(), 0);
        assert_eq!(join([]), RgbImage::default());
    }
}
