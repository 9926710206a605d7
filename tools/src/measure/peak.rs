//! What a device's matrix product reaches where it has room to.

use std::time::{Duration, Instant};

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

use crate::engine::EngineError;
use crate::gpu::ProductTimer;
use crate::train::Device;

/// Sides of the square matrices that are tried, the next only where the last took less than [`LONG`].
const SIDES: [usize; 4] = [512, 1024, 2048, 4096];
/// How long a product lasts that leaves nothing to gain by a larger one.
const LONG: Duration = Duration::from_millis(100);
/// Products of a side that are timed; the fastest counts.
const ROUNDS: usize = 3;

/// Floating point operations a second of the best square product in float32 on `device`: our kernel's on a GPU, faer's over all threads
/// on the processor.
///
/// # Errors
/// When there is no such GPU, or it fails.
pub(crate) fn product_rate(device: &Device) -> Result<f64, EngineError> {
    let mut best = 0.0f64;
    for side in SIDES {
        let fastest = match device {
            Device::Cpu => fastest(|| Ok(on_processor(side)))?,
            Device::Gpu(selection, _) => {
                let timer = ProductTimer::new(selection.as_deref(), [side; 3])?;
                // The first compiles the kernel.
                timer.run(1)?;
                fastest(|| timer.run(1))?
            }
        };
        best = best.max(2.0 * (side * side * side) as f64 / fastest.as_secs_f64());
        if fastest >= LONG {
            break;
        }
    }
    Ok(best)
}

fn fastest(mut run: impl FnMut() -> Result<Duration, EngineError>) -> Result<Duration, EngineError> {
    let mut fastest = run()?;
    for _ in 1..ROUNDS {
        fastest = fastest.min(run()?);
    }
    Ok(fastest)
}

fn on_processor(side: usize) -> Duration {
    let (a, b) = (Mat::<f32>::full(side, side, 0.5), Mat::<f32>::full(side, side, 0.25));
    let mut product = Mat::<f32>::zeros(side, side);
    let start = Instant::now();
    matmul(&mut product, Accum::Replace, &a, &b, 1.0, Par::rayon(0));
    let elapsed = start.elapsed();
    std::hint::black_box(product);
    elapsed
}
