//! Bars of known colours through every decoder. A wrong matrix, range or order of channels still gives a picture, and a
//! model still gives it a name, only the wrong one: so each of them has to fail here.

#![allow(clippy::unwrap_used)] // A helper of a test may fail as a test does.

use edge_vit::frame::{Decoder, Frame, FrameLayout, Matrix, PixelFormat, Plane, Range};
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

/// Colours whose channels all differ, beside the extremes; every swap and every wrong range moves one of them far.
const BARS: [[u8; 3]; 8] =
    [[235, 20, 30], [15, 225, 60], [40, 30, 220], [250, 180, 20], [20, 160, 230], [128; 3], [0; 3], [255; 3]];
/// Width of a bar and height of the chart, in pixels.
const BAR: u32 = 32;
const HEIGHT: u32 = 48;
/// What two roundings to 8 bits move a channel: of luma and chroma, and of the result (in 1/255).
const RAW_TOLERANCE: u8 = 2;
/// What JPEG at quality 100 moves a channel in the middle of a bar (in 1/255).
const JPEG_TOLERANCE: u8 = 4;
/// What a mistake moves the worst bar at least (in 1/255): at least twice any tolerance.
const MISTAKE: u8 = 8;

const RANGES: [Range; 2] = [Range::Limited, Range::Full];
const MATRICES: [Matrix; 2] = [Matrix::Bt601, Matrix::Bt709];
const YUV: [PixelFormat; 3] = [PixelFormat::Yuyv, PixelFormat::Nv12, PixelFormat::I420];

fn chart() -> RgbImage {
    RgbImage::from_fn(BAR * BARS.len() as u32, HEIGHT, |x, _| Rgb(BARS[(x / BAR) as usize]))
}

/// Y, U and V of a colour by the definitions of ITU-R BT.601 and BT.709, in float64, rounded.
fn yuv([r, g, b]: [u8; 3], range: Range, matrix: Matrix) -> [u8; 3] {
    let [r, g, b] = [r, g, b].map(|channel| f64::from(channel) / 255.0);
    let (kr, kb) = match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let y = kr * r + (1.0 - kr - kb) * g + kb * b;
    let [u, v] = [(b - y) / (2.0 - 2.0 * kb), (r - y) / (2.0 - 2.0 * kr)];
    match range {
        Range::Limited => [16.0 + 219.0 * y, 128.0 + 224.0 * u, 128.0 + 224.0 * v],
        Range::Full => [255.0 * y, 128.0 + 255.0 * u, 128.0 + 255.0 * v],
    }
    .map(|value| value.round().clamp(0.0, 255.0) as u8)
}

/// The planes of the chart in `layout`, each row followed by what is not part of the picture. Rows of a plane are as far
/// apart as [`FrameLayout::stride`] says.
fn encode(layout: &FrameLayout) -> Vec<Vec<u8>> {
    let &FrameLayout { format, width, height, stride, range, matrix } = layout;
    let pixel = |x: u32| BARS[(x / BAR) as usize];
    let value = move |x: u32, channel: usize| yuv(pixel(x), range, matrix)[channel];
    let columns = 0..width;
    let pairs = (0..width).step_by(2);
    let rows: Vec<(Vec<u8>, u32, usize)> = match format {
        PixelFormat::Rgb => vec![(columns.flat_map(pixel).collect(), height, stride)],
        PixelFormat::Bgr => vec![(
            columns
                .flat_map(|x| {
                    let [r, g, b] = pixel(x);
                    [b, g, r]
                })
                .collect(),
            height,
            stride,
        )],
        PixelFormat::Grey => vec![(columns.map(|x| value(x, 0)).collect(), height, stride)],
        PixelFormat::Yuyv => {
            let row = pairs.flat_map(|x| [value(x, 0), value(x, 1), value(x + 1, 0), value(x, 2)]);
            vec![(row.collect(), height, stride)]
        }
        PixelFormat::Nv12 => vec![
            (columns.map(|x| value(x, 0)).collect(), height, stride),
            (pairs.flat_map(|x| [value(x, 1), value(x, 2)]).collect(), height / 2, stride),
        ],
        PixelFormat::I420 => vec![
            (columns.map(|x| value(x, 0)).collect(), height, stride),
            (pairs.clone().map(|x| value(x, 1)).collect(), height / 2, stride / 2),
            (pairs.map(|x| value(x, 2)).collect(), height / 2, stride / 2),
        ],
        format => panic!("{format:?} has no chart"),
    };
    let padded = |(mut row, rows, stride): (Vec<u8>, u32, usize)| {
        row.resize(stride.max(row.len()), 0x5a);
        row.repeat(rows as usize)
    };
    rows.into_iter().map(padded).collect()
}

/// The largest difference of a channel between `picture` and the `expected` bars, a few pixels from their edges.
fn difference(picture: &RgbImage, expected: impl Fn(usize) -> [u8; 3]) -> u8 {
    assert_eq!(picture.dimensions(), (BAR * BARS.len() as u32, HEIGHT));
    let inner = picture.enumerate_pixels().filter(|(x, ..)| (8..BAR - 8).contains(&(x % BAR)));
    inner
        .flat_map(|(x, _, pixel)| {
            let expected = expected((x / BAR) as usize);
            [0, 1, 2].map(|channel| pixel.0[channel].abs_diff(expected[channel]))
        })
        .max()
        .unwrap()
}

fn layout(format: PixelFormat, stride: usize, range: Range, matrix: Matrix) -> FrameLayout {
    let chart = chart();
    FrameLayout { stride, range, matrix, ..FrameLayout::new(format, chart.width(), chart.height()) }
}

/// Bytes of a row of the chart and some padding.
fn padded_stride(format: PixelFormat) -> usize {
    let width = chart().width() as usize;
    match format {
        PixelFormat::Rgb | PixelFormat::Bgr => width * 3 + 20,
        PixelFormat::Yuyv => width * 2 + 20,
        _ => width + 20,
    }
}

/// The chart, encoded as `made` and read as `read`.
fn through(made: &FrameLayout, read: &FrameLayout) -> RgbImage {
    let planes = encode(made);
    let bytes = planes.concat();
    let picture = read.frame(&bytes).unwrap().to_rgb();
    if made == read {
        let strides = [made.stride, if made.format == PixelFormat::I420 { made.stride / 2 } else { made.stride }];
        let apart: Vec<_> =
            (planes.iter().enumerate()).map(|(index, bytes)| Plane { bytes, stride: strides[index.min(1)] }).collect();
        assert_eq!(Frame::new(read, &apart).unwrap().to_rgb(), picture, "{:?} in separate planes", made.format);
    }
    picture
}

#[test]
fn raw_frames_keep_their_colours() {
    for format in [PixelFormat::Rgb, PixelFormat::Bgr].iter().chain(&YUV).copied() {
        for (range, matrix) in RANGES.into_iter().flat_map(|range| MATRICES.map(|matrix| (range, matrix))) {
            for stride in [0, padded_stride(format)] {
                let layout = layout(format, stride, range, matrix);
                let off = difference(&through(&layout, &layout), |bar| BARS[bar]);
                let exact = matches!(format, PixelFormat::Rgb | PixelFormat::Bgr);
                assert!(off <= if exact { 0 } else { RAW_TOLERANCE }, "{layout:?}: off by {off}");
            }
        }
    }
}

#[test]
fn grey_frames_keep_their_brightness() {
    for (range, matrix) in RANGES.into_iter().flat_map(|range| MATRICES.map(|matrix| (range, matrix))) {
        for stride in [0, padded_stride(PixelFormat::Grey)] {
            let made = layout(PixelFormat::Grey, stride, range, matrix);
            // The luma in full range is the brightness.
            let grey = |bar: usize| [yuv(BARS[bar], Range::Full, matrix)[0]; 3];
            let off = difference(&through(&made, &made), grey);
            assert!(off <= RAW_TOLERANCE, "{made:?}: off by {off}");
            let other = if range == Range::Full { Range::Limited } else { Range::Full };
            let off = difference(&through(&made, &FrameLayout { range: other, ..made }), grey);
            assert!(off >= MISTAKE, "{range:?} taken for {other:?} is off by {off} only");
        }
    }
}

#[test]
fn a_wrong_range_matrix_or_order_is_seen() {
    let all = || RANGES.into_iter().flat_map(|range| MATRICES.map(|matrix| (range, matrix)));
    for format in YUV {
        for (made, read) in all().flat_map(|made| all().map(move |read| (made, read))) {
            let [made, read] = [made, read].map(|(range, matrix)| layout(format, 0, range, matrix));
            let off = difference(&through(&made, &read), |bar| BARS[bar]);
            assert!(made == read || off >= MISTAKE, "{made:?} taken for {read:?} is off by {off} only");
        }
    }
    let swapped = through(
        &layout(PixelFormat::Rgb, 0, Range::Full, Matrix::Bt601),
        &layout(PixelFormat::Bgr, 0, Range::Full, Matrix::Bt601),
    );
    assert!(difference(&swapped, |bar| BARS[bar]) >= MISTAKE);
    // U and V swapped, as a format with V before U has them.
    let made = layout(PixelFormat::I420, 0, Range::Limited, Matrix::Bt601);
    let mut planes = encode(&made);
    planes.swap(1, 2);
    let bytes = planes.concat();
    assert!(difference(&made.frame(&bytes).unwrap().to_rgb(), |bar| BARS[bar]) >= MISTAKE);
}

/// JPEG is full range and BT.601 (JFIF).
#[test]
fn jpeg_frames_keep_their_colours() {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 100).encode_image(&chart()).unwrap();
    let mut decoder = Decoder::new();
    let off = difference(&decoder.decode(&jpeg).unwrap().to_rgb(), |bar| BARS[bar]);
    assert!(off <= JPEG_TOLERANCE, "off by {off}");

    let grey = image::imageops::grayscale(&chart());
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 100).encode_image(&grey).unwrap();
    let frame = decoder.decode(&jpeg).unwrap();
    assert_eq!(frame.format(), PixelFormat::Grey);
    let off = difference(&frame.to_rgb(), |bar| [grey.get_pixel(bar as u32 * BAR, 0).0[0]; 3]);
    assert!(off <= JPEG_TOLERANCE, "grey is off by {off}");
}
