//! What a model takes of memory, and that a file in sixteen bits takes half of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(unsafe_code)] // A global allocator is unsafe to implement: this one counts, and hands on to the system's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use edge_vit::Model;
use edge_vit_models::onnx::{self, Batch, Precisions};
use edge_vit_models::{quant, vit};
use edge_vit_tests::{fill_random, noise};

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(held, Ordering::Relaxed);
}

struct Counting;

// SAFETY: every call is the system allocator's with the same arguments; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller keeps to the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is held once `file` is open, and the most that was held until then, as shares of `bytes`; and the model.
fn opened(file: &std::path::Path, bytes: usize) -> ([f64; 2], Model) {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let model = Model::open(file).unwrap();
    let taken = |now: &AtomicUsize| (now.load(Ordering::Relaxed) - before) as f64 / bytes as f64;
    ([taken(&HELD), taken(&PEAK)], model)
}

/// One test alone, because what others allocate would be counted too.
#[test]
fn weights_lie_in_memory_once_and_in_sixteen_bits_in_half_of_it() {
    let config = vit::Config {
        image_size: [32, 32],
        patch_size: 8,
        embed_dim: 384,
        depth: 4,
        num_heads: 6,
        ..vit::Config::default()
    };
    let mut graph = vit::graph(&vit::Config { num_classes: Some(7), ..config });
    fill_random(&mut graph, 3).unwrap();
    let rounded = quant::round_to_f16(&graph).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, precisions: &Precisions| {
        let path = folder.path().join(name);
        std::fs::write(&path, onnx::to_bytes_at(&rounded, Batch::One, precisions, &BTreeMap::new()).unwrap()).unwrap();
        path
    };
    let (floats, halves) = (write("f32.onnx", &Precisions::new()), write("f16.onnx", &onnx::all_f16(&graph)));
    let bytes = std::fs::metadata(&floats).unwrap().len() as usize;
    let ([float_held, float_peak], of_floats) = opened(&floats, bytes);
    let ([half_held, half_peak], of_halves) = opened(&halves, bytes);
    println!(
        "float32: {float_held:.3} of the file held, {float_peak:.3} at most; float16: {half_held:.3}, {half_peak:.3}"
    );
    let picture = noise(3 * 32 * 32);
    assert_eq!(of_halves.run(&picture).unwrap(), of_floats.run(&picture).unwrap());
    // A fifth for the graph, and for one weight on its way.
    assert!(float_held < 1.05 && float_peak < 1.2, "{float_held} {float_peak}");
    assert!(half_held < 0.55 && half_peak < 0.7, "{half_held} {half_peak}");
}
