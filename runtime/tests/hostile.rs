//! Broken and malicious bytes through every entry point that takes bytes of others: an answer or an error, no panic,
//! and never more memory than a large picture needs. `tests/fuzz` looks for more of them, for hours.

#![allow(clippy::unwrap_used)] // A helper of a test may fail as a test does.

mod common;

use std::io::Cursor;

use edge_vit::frame::{Decoder, FrameLayout, Matrix, PixelFormat, Range};
use edge_vit::{Classifier, Error, Model, decode_picture};
use image::{ImageFormat, RgbImage};

/// What this process may take at its highest, in KiB: twice the largest picture that is read, and the program itself.
const MOST_MEMORY: u64 = 768 << 10;

/// The largest input of a broken model that is run: what it asks for is the model's own choice.
const MOST_VALUES: usize = 1 << 16;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(common::fixture(name)).unwrap()
}

/// The most memory that this process ever took, where the system says so.
#[track_caller]
fn assert_little_memory() {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        eprintln!("skipped: this system does not say how much memory was taken");
        return;
    };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let taken: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(taken < MOST_MEMORY, "{taken} KiB were taken");
}

/// A seeded source of numbers: xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// `whole` with one to four changes of the kinds that break parsers: bits, lengths, cuts, repeats.
    fn mutated(&mut self, whole: &[u8]) -> Vec<u8> {
        const EXTREMES: [[u8; 4]; 5] =
            [[0; 4], [0xff; 4], [0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0x7f], [0, 0, 0xc3, 0x50]];
        let mut bytes = whole.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(64)).min(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes[at..end].fill(0),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
                4 => {
                    let extreme = EXTREMES[self.below(EXTREMES.len())];
                    bytes.iter_mut().skip(at).zip(extreme).for_each(|(byte, with)| *byte = with);
                }
                _ => bytes[at] ^= 1 << self.below(8),
            }
            if bytes.is_empty() {
                break;
            }
        }
        bytes
    }
}

/// A PNG whose header announces `width` x `height`, with the checksum that a decoder asks for.
fn png_announcing(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    RgbImage::new(1, 1).write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = bytes[12..29].iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
    bytes
}

#[test]
fn a_picture_of_50_000_by_50_000_is_refused_by_its_header() {
    let hostile = png_announcing(50_000, 50_000);
    assert!(decode_picture(&png_announcing(1, 1)).is_ok());
    for answer in [decode_picture(&hostile).map(drop), Decoder::new().decode(&hostile).map(drop)] {
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::PictureTooLarge { .. } | Error::Picture(_)), "{error}");
    }
    assert_little_memory();
}

#[test]
fn broken_pictures_are_decoded_or_refused() {
    let mut random = Random(0x5eed_0001);
    let mut decoder = Decoder::new();
    let mut corpus: Vec<_> = ["photo.png", "orientation_1.jpg", "orientation_6.jpg"].map(fixture).to_vec();
    let small = RgbImage::from_fn(19, 13, |x, y| image::Rgb([x as u8 * 13, y as u8 * 19, 77]));
    for format in [ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Gif] {
        let mut bytes = Vec::new();
        // Firmware's build reads JPEG and PNG alone, and writes no others either.
        if small.write_to(&mut Cursor::new(&mut bytes), format).is_ok() {
            corpus.push(bytes);
        }
    }
    for whole in &corpus {
        assert!(decoder.decode(whole).is_ok());
        for _ in 0..400 {
            let broken = random.mutated(whole);
            let _ = decode_picture(&broken);
            let _ = decoder.decode(&broken);
        }
    }
    assert_little_memory();
}

#[test]
fn broken_models_are_prepared_or_refused() {
    // What the library catches would fill the log with the messages of the default hook.
    std::panic::set_hook(Box::new(|_| ()));
    let mut random = Random(0x5eed_0002);
    let answers = ["tiny.onnx", "plain.onnx"].map(|name| {
        let whole = fixture(name);
        let answers = (0..1000).map(|_| {
            let broken = random.mutated(&whole);
            let _ = Classifier::from_bytes(&broken).and_then(|classifier| classifier.self_test());
            let model = Model::from_bytes(&broken)?;
            let values = model.input_shape().iter().product::<usize>();
            if values <= MOST_VALUES { model.run(&vec![0.5; values]).map(drop) } else { Ok(()) }
        });
        answers.filter(Result::is_err).count()
    });
    let _ = std::panic::take_hook();
    assert!(answers.iter().all(|&errors| errors > 0), "nothing was broken: {answers:?}");
    assert_little_memory();
}

#[test]
fn frames_of_any_layout_are_read_or_refused() {
    use PixelFormat::{Bgr, Grey, I420, Nv12, Rgb, Yuyv};
    let classifier = Classifier::from_bytes(&fixture("tiny.onnx")).unwrap();
    let mut workspace = classifier.workspace();
    let mut random = Random(0x5eed_0003);
    let bytes: Vec<u8> = (0..4096).map(|index: u32| (index * 31) as u8).collect();
    let sides = [0, 1, 2, 3, 7, 8, 31, 64, 65, 16_384, 16_385, 1 << 31, u32::MAX];
    let strides = [0, 1, 2, 63, 64, 192, 4095, usize::MAX / 2, usize::MAX];
    let mut read = 0;
    for _ in 0..3000 {
        let layout = FrameLayout {
            format: [Rgb, Bgr, Grey, Yuyv, Nv12, I420][random.below(6)],
            width: sides[random.below(sides.len())],
            height: sides[random.below(sides.len())],
            stride: strides[random.below(strides.len())],
            range: [Range::Limited, Range::Full][random.below(2)],
            matrix: [Matrix::Bt601, Matrix::Bt709][random.below(2)],
        };
        if let Ok(frame) = layout.frame(&bytes[..random.below(bytes.len())]) {
            let logits = classifier.frame_logits(&frame, &mut workspace).unwrap();
            assert!(logits.iter().all(|logit| logit.is_finite()), "{layout:?}");
            read += 1;
        }
    }
    assert!(read > 30, "{read} of 3000 layouts fit their bytes");
    assert_little_memory();
}

/// Every option that the documentation shows, with values that nobody would write.
#[cfg(feature = "cli")]
#[test]
fn any_configuration_is_followed_or_refused_in_words() {
    const VALUES: [&str; 18] = [
        "0",
        "-1",
        "1",
        "4294967296",
        "9223372036854775807",
        "1e400",
        "-0.0",
        "nan",
        "inf",
        "1e-320",
        "1e300",
        "\"\"",
        "\"a b\"",
        "\"\\u0000\"",
        "\"99999999999x1\"",
        "[]",
        "{}",
        "true",
    ];
    let documented = include_str!("../../docs/device.md");
    let whole = documented.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    // The key's file is on no machine that tests, and would be all that is ever refused.
    let lines: Vec<&str> = whole.lines().filter(|line| !line.starts_with("require_key")).collect();
    let mut random = Random(0x5eed_0004);
    let mut answers = [0, 0];
    for round in 0..4000 {
        let mut text = lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        for _ in 0..=random.below(3) {
            let line = random.below(text.len());
            match (text[line].split_once('='), random.below(3)) {
                (Some((name, _)), 0 | 1) => text[line] = format!("{name}= {}", VALUES[random.below(VALUES.len())]),
                _ => drop(text.remove(line)),
            }
        }
        let mut text = text.join("\n");
        if round % 4 == 0 {
            text = String::from_utf8_lossy(&random.mutated(text.as_bytes())).into_owned();
        }
        match edge_vit::cli::check_config(&text) {
            Ok(()) => answers[0] += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty(), "no reason for {text}");
                answers[1] += 1;
            }
        }
    }
    assert!(answers.iter().all(|&count| count > 400), "followed, refused: {answers:?}");
}
