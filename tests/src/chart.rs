//! A test chart that only right colours classify: its picture, its frames as cameras send them, whole and damaged, and
//! a model whose classes are the ways in which colours go wrong.
//!
//! The model is linear: each class is a template, the chart as a reader with one fault would see it, and its logit is
//! largest where the picture lies nearest to that template. A channel in the wrong place, a wrong matrix or a wrong
//! range is a label of its own and not a lower score of the right one.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Cursor;

use edge_vit::{Activation, Bundle, Filter, Preprocessing, Provenance, ResizeMode};
use edge_vit_models::{Graph, Op, Tensor, onnx};
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

/// The chart's width and height in pixels.
pub const SIZE: (u32, u32) = (640, 480);
/// The label of the chart seen in its right colours.
pub const RIGHT: &str = "right";
/// The label of the chart seen without colours.
pub const GREY: &str = "grey";

/// The bars from left to right: white, yellow, cyan, green, magenta, red, blue and black at 75 percent, as ITU-R BT.471
/// orders them and Linux's `vivid` driver draws them.
const BARS: [[u8; 3]; 8] = {
    const ON: u8 = 191;
    [[ON, ON, ON], [ON, ON, 0], [0, ON, ON], [0, ON, 0], [ON, 0, ON], [ON, 0, 0], [0, 0, ON], [0, 0, 0]]
};
/// Side of the model's input in pixels: each bar is two wide.
const SIDE: usize = 16;
/// Rows of the model's input that it does not look at: `vivid` writes text over the upper part of its picture.
const BLIND_ROWS: usize = SIDE / 2;
/// Logits a unit of squared distance: between the two nearest templates it is 0.5.
const SHARPNESS: f32 = 40.0;

/// The luma weights of red and blue.
struct Matrix(f64, f64);
/// ITU-R BT.601, which webcams use.
const BT601: Matrix = Matrix(0.299, 0.114);
/// ITU-R BT.709.
const BT709: Matrix = Matrix(0.2126, 0.0722);

/// Offset of luma, span of luma, span of chroma.
struct Range(f64, f64, f64);
/// As JPEG has it.
const FULL: Range = Range(0.0, 255.0, 255.0);
/// As video has it.
const LIMITED: Range = Range(16.0, 219.0, 224.0);

/// Y, U and V of a colour, unrounded.
fn encode(rgb: [u8; 3], Matrix(kr, kb): &Matrix, Range(black, luma, chroma): &Range) -> [f64; 3] {
    let [r, g, b] = rgb.map(|channel| f64::from(channel) / 255.0);
    let y = kr * r + (1.0 - kr - kb) * g + kb * b;
    let (u, v) = ((b - y) / (2.0 - 2.0 * kb), (r - y) / (2.0 - 2.0 * kr));
    [black + luma * y, 128.0 + chroma * u, 128.0 + chroma * v]
}

/// The colour of Y, U and V.
fn decode([y, u, v]: [f64; 3], Matrix(kr, kb): &Matrix, Range(black, luma, chroma): &Range) -> [u8; 3] {
    let (y, u, v) = ((y - black) / luma, (u - 128.0) / chroma, (v - 128.0) / chroma);
    let (r, b) = (y + (2.0 - 2.0 * kr) * v, y + (2.0 - 2.0 * kb) * u);
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|channel| (255.0 * channel).round().clamp(0.0, 255.0) as u8)
}

/// A way of reading the chart: its label, and what it makes of a colour.
type Reading = (&'static str, fn([u8; 3]) -> [u8; 3]);

/// The right way first, then each fault.
const READINGS: &[Reading] = &[
    (RIGHT, |rgb| rgb),
    ("red and blue swapped", |[r, g, b]| [b, g, r]),
    ("U and V swapped", |rgb| {
        let [y, u, v] = encode(rgb, &BT601, &LIMITED);
        decode([y, v, u], &BT601, &LIMITED)
    }),
    ("limited range read as full", |rgb| decode(encode(rgb, &BT601, &LIMITED), &BT601, &FULL)),
    ("full range read as limited", |rgb| decode(encode(rgb, &BT601, &FULL), &BT601, &LIMITED)),
    ("BT.601 read as BT.709", |rgb| decode(encode(rgb, &BT601, &LIMITED), &BT709, &LIMITED)),
    (GREY, |rgb| decode([encode(rgb, &BT601, &FULL)[0], 128.0, 128.0], &BT601, &FULL)),
];

/// The chart as it is read by the reading `label`; nothing if there is none of that name.
pub fn picture(label: &str) -> Option<RgbImage> {
    let (_, read) = READINGS.iter().find(|(name, _)| *name == label)?;
    Some(RgbImage::from_fn(SIZE.0, SIZE.1, |x, _| Rgb(read(bar(x)))))
}

/// The labels of the model.
pub fn labels() -> impl Iterator<Item = &'static str> {
    READINGS.iter().map(|(label, _)| *label)
}

/// The colour of column `x`.
fn bar(x: u32) -> [u8; 3] {
    BARS[(x as usize * BARS.len() / SIZE.0 as usize).min(BARS.len() - 1)]
}

/// The model file.
///
/// # Errors
/// If the model or its bundle is not sound.
pub fn model() -> Result<Vec<u8>, Box<dyn Error>> {
    let preprocessing = Preprocessing {
        image_size: [SIDE, SIDE],
        resize: ResizeMode::Squash,
        filter: Filter::Bilinear,
        mean: [0.0; 3],
        std: [1.0; 3],
        ..Preprocessing::imagenet([SIDE, SIDE])
    };
    // The nearest template t to a picture x has the largest t x - t t / 2.
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for template in labels().filter_map(picture) {
        let mut template = preprocessing.apply(&template);
        for channel in template.chunks_exact_mut(SIDE * SIDE) {
            channel[..BLIND_ROWS * SIDE].fill(0.0);
        }
        bias.push(-SHARPNESS / 2.0 * template.iter().map(|value| value * value).sum::<f32>());
        weight.extend(template.iter().map(|value| SHARPNESS * value));
    }
    let classes = bias.len();
    let identity = (0..classes * classes).map(|at| if at % (classes + 1) == 0 { 1.0 } else { 0.0 }).collect();

    let mut graph = Graph::default();
    let pixels = graph.push("pixels", Op::Input { shape: vec![3, SIDE, SIDE] }, &[]);
    let patch =
        graph.push("patch_embed.proj", Op::PatchEmbed { patch_size: SIDE, embed_dim: classes, tubelets: 1 }, &[pixels]);
    let pool = graph.push("pool", Op::MeanTokens { skip: 0 }, &[patch]);
    graph.push("head", Op::Linear { out_features: classes, bias: false }, &[pool]);
    graph.weights = BTreeMap::from([
        ("patch_embed.proj.weight".to_owned(), Tensor::new(vec![classes, 3, SIDE, SIDE], weight)?),
        ("patch_embed.proj.bias".to_owned(), Tensor::new(vec![classes], bias)?),
        ("head.weight".to_owned(), Tensor::new(vec![classes, classes], identity)?),
    ]);
    let bundle = Bundle {
        labels: labels().map(str::to_owned).collect(),
        preprocessing,
        activation: Activation::Softmax,
        provenance: Provenance { backbone: "chart".to_owned(), ..Provenance::default() },
        golden: Vec::new(),
        rejection: None,
        golden_tolerance: None,
        half_products: edge_vit::HalfProducts::Never,
        task: edge_vit::Task::Classification,
    };
    Ok(onnx::to_bytes(&graph, onnx::Batch::One, &bundle.to_metadata()?)?)
}

/// Files by their names.
pub type Files = Vec<(&'static str, Vec<u8>)>;

/// The chart as cameras send it, by file name: whole in each format, and the JPEG with each kind of damage.
///
/// # Errors
/// If the JPEG cannot be made.
pub fn frames() -> Result<Files, Box<dyn Error>> {
    let mut jpeg = Cursor::new(Vec::new());
    let chart = RgbImage::from_fn(SIZE.0, SIZE.1, |x, _| Rgb(bar(x)));
    JpegEncoder::new_with_quality(&mut jpeg, 90).encode_image(&chart)?;
    let jpeg = jpeg.into_inner();
    let yuv: Vec<[u8; 3]> = (0..SIZE.0).map(|x| encode(bar(x), &BT601, &LIMITED).map(|v| v.round() as u8)).collect();
    let luma: Vec<u8> = yuv.iter().map(|[y, ..]| *y).collect();
    let chroma: Vec<u8> = yuv.iter().step_by(2).flat_map(|[_, u, v]| [*u, *v]).collect();
    let packed: Vec<u8> =
        yuv.chunks_exact(2).flat_map(|pair| [pair[0][0], pair[0][1], pair[1][0], pair[0][2]]).collect();
    let rows = SIZE.1 as usize;
    Ok(vec![
        ("chart.yuyv", packed.repeat(rows)),
        ("chart.nv12", [luma.repeat(rows), chroma.repeat(rows / 2)].concat()),
        ("chart.grey", luma.repeat(rows)),
        ("no-huffman.jpg", without_huffman_tables(&jpeg)),
        ("cut.jpg", jpeg[..jpeg.len() / 2].to_vec()),
        ("corrupted.jpg", corrupted(&jpeg)),
        ("empty.jpg", vec![0xff, 0xd8, 0xff, 0xd9]),
        ("chart.jpg", jpeg),
    ])
}

/// The JPEG without its Huffman tables, which many webcams leave out as every reader knows the standard ones (ITU-T
/// T.81 annex K.3).
fn without_huffman_tables(jpeg: &[u8]) -> Vec<u8> {
    const SCAN: u8 = 0xda;
    const HUFFMAN_TABLES: u8 = 0xc4;
    let (start, mut rest) = jpeg.split_at(2);
    let mut kept = start.to_vec();
    while let [0xff, marker, high, low, ..] = *rest {
        if marker == SCAN {
            break;
        }
        let (segment, behind) = rest.split_at(2 + usize::from(u16::from_be_bytes([high, low])));
        if marker != HUFFMAN_TABLES {
            kept.extend(segment);
        }
        rest = behind;
    }
    kept.extend(rest);
    kept
}

/// The JPEG with a quarter of its bytes, in its middle, written over with noise, as a fault on the cable leaves it.
fn corrupted(jpeg: &[u8]) -> Vec<u8> {
    let mut bytes = jpeg.to_vec();
    let mut state = 1_u32;
    for byte in &mut bytes[jpeg.len() / 2..jpeg.len() * 3 / 4] {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        *byte = state.to_be_bytes()[0];
    }
    bytes
}

#[cfg(test)]
mod tests {
    use edge_vit::Classifier;
    use edge_vit::frame::{Decoder, FrameLayout, Matrix, PixelFormat, Range};

    use super::*;

    fn classifier() -> Classifier {
        Classifier::from_bytes(&model().unwrap()).unwrap()
    }

    fn assert_label(classifier: &Classifier, picture: &RgbImage, expected: &str) {
        let best = classifier.classify(picture).unwrap().swap_remove(0);
        assert!(best.label == expected && best.score > 0.95, "{expected:?} is read as {best:?}");
    }

    fn frame(name: &str) -> Vec<u8> {
        frames().unwrap().into_iter().find(|(found, _)| *found == name).unwrap().1
    }

    #[test]
    fn every_fault_of_colour_has_a_label_of_its_own() {
        let classifier = classifier();
        for label in labels() {
            assert_label(&classifier, &picture(label).unwrap(), label);
        }
    }

    /// The raw frames as what they are, and as what a reader may take them for.
    #[test]
    fn a_raw_frame_that_is_read_wrong_is_told() {
        let classifier = classifier();
        let read = |layout: FrameLayout, name, expected| {
            assert_label(&classifier, &layout.frame(&frame(name)).unwrap().to_rgb(), expected);
        };
        let layout = |format| FrameLayout::new(format, SIZE.0, SIZE.1);
        read(layout(PixelFormat::Yuyv), "chart.yuyv", RIGHT);
        read(layout(PixelFormat::Nv12), "chart.nv12", RIGHT);
        read(layout(PixelFormat::Grey), "chart.grey", GREY);
        let full = FrameLayout { range: Range::Full, ..layout(PixelFormat::Yuyv) };
        read(full, "chart.yuyv", "limited range read as full");
        let hd = FrameLayout { matrix: Matrix::Bt709, ..layout(PixelFormat::Nv12) };
        read(hd, "chart.nv12", "BT.601 read as BT.709");
    }

    #[test]
    fn jpegs_are_right_or_refused() {
        let classifier = classifier();
        let mut decoder = Decoder::new();
        for name in ["chart.jpg", "no-huffman.jpg"] {
            assert_label(&classifier, &decoder.decode(&frame(name)).unwrap().to_rgb(), RIGHT);
        }
        for name in ["cut.jpg", "corrupted.jpg", "empty.jpg"] {
            assert!(decoder.decode(&frame(name)).is_err(), "{name} is taken for whole");
        }
    }
}
