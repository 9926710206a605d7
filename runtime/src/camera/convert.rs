//! Raw camera formats to RGB.

use image::{Rgb, RgbImage};

/// Converts YUYV (two pixels in four bytes: Y0 U Y1 V) by BT.601 in limited range, V4L2's default for webcams.
///
/// `stride` is the bytes of a row with its padding, 0 if there is none. Gives nothing if `frame` is shorter than
/// `height` rows, or `width` is odd.
pub fn yuyv(frame: &[u8], width: u32, height: u32, stride: u32) -> Option<RgbImage> {
    let row = width as usize * 2;
    let stride = (stride as usize).max(row);
    if width == 0 || height == 0 || width % 2 == 1 || frame.len() < stride * (height as usize - 1) + row {
        return None;
    }
    let mut picture = RgbImage::new(width, height);
    for (from, to) in frame.chunks(stride).zip(picture.chunks_exact_mut(width as usize * 3)) {
        for (pair, pixels) in from.chunks_exact(4).zip(to.chunks_exact_mut(6)) {
            pixels[..3].copy_from_slice(&rgb(pair[0], pair[1], pair[3]).0);
            pixels[3..].copy_from_slice(&rgb(pair[2], pair[1], pair[3]).0);
        }
    }
    Some(picture)
}

/// One pixel of BT.601, luma 16 to 235 and chroma 16 to 240, in 16-bit fixed point.
fn rgb(y: u8, u: u8, v: u8) -> Rgb<u8> {
    let luma = 76_309 * (i32::from(y) - 16);
    let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
    let channel = |chroma: i32| ((luma + chroma + (1 << 15)) >> 16).clamp(0, 255) as u8;
    Rgb([channel(104_597 * v), channel(-25_675 * u - 53_279 * v), channel(132_201 * u)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The colour bars' standard values (75 percent, BT.601 limited range) come out as their RGB, within rounding.
    #[test]
    fn colour_bars_keep_their_colours() {
        let bars: [([u8; 3], [u8; 3]); 8] = [
            ([180, 128, 128], [191, 191, 191]),
            ([162, 44, 142], [191, 191, 0]),
            ([131, 156, 44], [0, 191, 191]),
            ([112, 72, 58], [0, 191, 0]),
            ([84, 184, 198], [191, 0, 191]),
            ([65, 100, 212], [191, 0, 0]),
            ([35, 212, 114], [0, 0, 191]),
            ([16, 128, 128], [0, 0, 0]),
        ];
        for ([y, u, v], expected) in bars {
            let got = rgb(y, u, v).0;
            assert!(got.iter().zip(expected).all(|(&g, e)| g.abs_diff(e) <= 2), "{got:?} is not {expected:?}");
        }
    }

    #[test]
    fn pairs_share_their_chroma_and_padding_is_left_out() {
        let red = [81, 90, 235, 240];
        let grey = [16, 128, 235, 128];
        let frame = [&red[..], &[9; 4], &grey, &[9; 4]].concat();
        let picture = yuyv(&frame, 2, 2, 8).unwrap();
        assert_eq!(picture.get_pixel(0, 0).0, [254, 0, 0]);
        assert_eq!(picture.get_pixel(0, 1).0, [0, 0, 0]);
        assert_eq!(picture.get_pixel(1, 1).0, [255, 255, 255]);
    }

    #[test]
    fn a_short_frame_and_an_odd_width_give_nothing() {
        assert!(yuyv(&[0; 7], 2, 2, 4).is_none());
        assert!(yuyv(&[0; 8], 2, 2, 0).is_some());
        assert!(yuyv(&[0; 64], 3, 2, 0).is_none());
        assert!(yuyv(&[], 0, 0, 0).is_none());
    }
}
