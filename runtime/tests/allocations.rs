//! What is allocated for a frame once the first has passed. A process that runs for months must not depend on how well
//! an allocator gives memory back.

#![allow(clippy::unwrap_used)] // A helper of a test may fail as a test does.
#![allow(unsafe_code)] // A global allocator is unsafe to implement: this one counts, and hands on to the system's.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::time::Duration;

use edge_vit::decision::{Decider, Options};
use edge_vit::frame::{Decoder, Frame, FrameLayout, PixelFormat};
use edge_vit::{Classifier, Workspace, open_picture};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use prost::Message;
use tract_onnx::pb::ModelProto;

use common::fixture;

struct Counting;

thread_local! {
    /// Allocations of this thread: tests run beside each other.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is the system allocator's with the same arguments; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `work` makes in this thread.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const FORMATS: [PixelFormat; 6] =
    [PixelFormat::Rgb, PixelFormat::Bgr, PixelFormat::Grey, PixelFormat::Yuyv, PixelFormat::Nv12, PixelFormat::I420];

fn tiny() -> Classifier {
    Classifier::open(fixture("tiny.onnx")).unwrap()
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Both orders of the passes: of a tall frame the columns are resampled first.
const SIZES: [(u32, u32); 3] = [(640, 480), (48, 640), (64, 48)];

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1u8)))), 1);
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0u8; 9]))), 1);
}

#[test]
fn preparing_a_frame_allocates_nothing() {
    let classifier = tiny();
    for (width, height) in SIZES {
        for format in FORMATS {
            let layout = FrameLayout::new(format, width, height);
            let bytes = noise(layout.bytes().unwrap());
            let mut workspace = classifier.workspace();
            classifier.frame_logits(&layout.frame(&bytes).unwrap(), &mut workspace).unwrap();
            let made = allocations(|| {
                for _ in 0..3 {
                    classifier.prepare(&layout.frame(&bytes).unwrap(), &mut workspace).unwrap();
                }
            });
            assert_eq!(made, 0, "{format:?} {width}x{height}");
        }
    }
}

#[test]
fn a_workspace_serves_formats_and_sizes_in_turn() {
    let classifier = tiny();
    let mut workspace = classifier.workspace();
    let largest = noise(640 * 640 * 3);
    let mut all = || {
        for (width, height) in SIZES {
            for format in FORMATS {
                let frame = FrameLayout::new(format, width, height).frame(&largest).unwrap();
                classifier.prepare(&frame, &mut workspace).unwrap();
            }
        }
    };
    all();
    assert_eq!(allocations(all), 0);
}

/// What is left is the graph's own: an operator makes its output anew where no other has left memory of that size. It is the
/// same for every frame, and the library adds nothing to it.
#[test]
fn running_allocates_what_the_graph_does_and_no_more() {
    /// Allocations of an operator's evaluation, with room for another version of the engine.
    const FOR_AN_OPERATOR: usize = 16;
    let classifier = tiny();
    let picture = open_picture(fixture("photo.png")).unwrap();
    let mut workspace = classifier.workspace();
    let expected = classifier.logits(&picture).unwrap();
    let counts: Vec<usize> = (0..5)
        .map(|_| {
            classifier.prepare(&Frame::from(&picture), &mut workspace).unwrap();
            allocations(|| assert_eq!(classifier.run_prepared(&mut workspace).unwrap(), expected))
        })
        .collect();
    eprintln!("allocations of a run: {counts:?}");
    assert!(counts[1..].windows(2).all(|pair| pair[0] == pair[1]), "{counts:?}");
    let file = std::fs::read(fixture("tiny.onnx")).unwrap();
    let operators = ModelProto::decode(file.as_slice()).unwrap().graph.unwrap().node.len();
    assert!(counts[1] <= FOR_AN_OPERATOR * operators, "{} for {operators} operators", counts[1]);
}

/// The decoder's tables and rows are allocated by the JPEG library for every picture; the picture itself is not.
#[test]
fn decoding_a_jpeg_allocates_no_picture() {
    let picture = RgbImage::from_raw(320, 240, noise(320 * 240 * 3)).unwrap();
    let mut jpeg = Vec::new();
    JpegEncoder::new(&mut jpeg).encode_image(&picture).unwrap();
    let mut decoder = Decoder::new();
    decoder.decode(&jpeg).unwrap();
    let counts: Vec<usize> = (0..4).map(|_| allocations(|| drop(decoder.decode(&jpeg).map(|_| ())))).collect();
    eprintln!("allocations of a JPEG: {counts:?}");
    assert!(counts.iter().all(|&count| count == counts[0] && count < 64), "{counts:?}");
}

#[test]
fn deciding_allocates_nothing() {
    let clip = NonZeroUsize::new(4).unwrap();
    let options =
        Options { clip, smoothing: Some(Duration::from_millis(500)), threshold: Some(0.4), ..Options::default() };
    let mut decider = Decider::new(tiny().bundle(), &options).unwrap();
    let made = allocations(|| {
        for picture in 0..100u32 {
            let mut logits = [0.0; 4];
            logits[(picture / 10 % 4) as usize] = 3.0;
            decider.decide(&logits, Duration::from_millis(100 * u64::from(picture)));
            assert_eq!(decider.top(3).count(), 3);
        }
    });
    assert_eq!(made, 0);
}

#[test]
fn what_a_thread_takes_along_is_send() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Classifier>();
    sync::<Classifier>();
    send::<Workspace>();
    send::<Decoder>();
    send::<Decider>();
    send::<Frame<'static>>();
}
