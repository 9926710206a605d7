//! The matrix product of a Linear on the first adapter beside faer's in float32 on the same machine: GFLOP/s for the
//! shapes of a ViT-S on 16 pictures of 112 x 112. The two take turns, and medians are shown.
//!
//! `cargo bench -p edge-vit-tools --bench matmul [-- NAME|INDEX]`

use std::time::{Duration, Instant};

use edge_vit_tools::gpu::ProductTimer;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use pulp::{Arch, Simd, WithSimd};

/// Rows, outputs, inputs: proj, qkv, fc1, fc2.
const SHAPES: [[usize; 3]; 4] = [[1040, 384, 384], [1040, 1152, 384], [1040, 1536, 384], [1040, 384, 1536]];
const ROUNDS: usize = 5;
/// How long a round lasts at least, so that handing it to the device is no part of it.
const ROUND: Duration = Duration::from_millis(100);

fn main() -> anyhow::Result<()> {
    let selection = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let mut heading_is_due = true;
    for size in SHAPES {
        let timer = ProductTimer::new(selection.as_deref(), size)?;
        if std::mem::take(&mut heading_is_due) {
            println!("{} against faer f32 on {} threads, GFLOP/s\n", timer.device(), rayon::current_num_threads());
            println!("the processor's peak, by multiply-adds in registers: {:.1}\n", peak());
            println!("{:>6} {:>6} {:>6}  {:>8}  {:>8}", "m", "n", "k", "wgpu", "faer");
        }
        let (mut wgpu, mut faer) = (Vec::new(), Vec::new());
        timer.run(1)?;
        let repetitions = ROUND.div_duration_f64(timer.run(1)?).ceil().min(1000.0) as u32;
        for _ in 0..ROUNDS {
            wgpu.push(timer.run(repetitions as usize)? / repetitions);
            faer.push(run_faer(size));
        }
        let [m, n, k] = size;
        println!("{m:>6} {n:>6} {k:>6}  {:>8.1}  {:>8.1}", rate(size, wgpu), rate(size, faer));
    }
    Ok(())
}

fn run_faer([m, n, k]: [usize; 3]) -> Duration {
    let a = Mat::from_fn(k, m, |i, j| ((i + j) % 13) as f32);
    let b = Mat::from_fn(k, n, |i, j| ((i * j) % 11) as f32);
    let mut c = Mat::<f32>::zeros(n, m);
    let start = Instant::now();
    matmul(c.as_mut(), Accum::Replace, b.as_ref().transpose(), a.as_ref(), 1.0, Par::rayon(0));
    let elapsed = start.elapsed();
    std::hint::black_box(c);
    elapsed
}

/// GFLOP/s of the median time.
fn rate([m, n, k]: [usize; 3], mut times: Vec<Duration>) -> f64 {
    times.sort();
    2.0 * (m * n * k) as f64 / times[times.len() / 2].as_secs_f64() / 1e9
}

/// GFLOP/s of all threads together at multiply-adds that touch no memory: the most that a product could reach.
fn peak() -> f64 {
    const STEPS: usize = 20_000_000;
    let start = Instant::now();
    let operations: f64 = rayon::broadcast(|_| Arch::new().dispatch(MultiplyAdds(STEPS))).iter().sum();
    operations / start.elapsed().as_secs_f64() / 1e9
}

/// Enough independent chains of multiply-adds to hide one's latency; gives the number of floating-point operations.
struct MultiplyAdds(usize);

impl WithSimd for MultiplyAdds {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let factor = simd.splat_f32s(std::hint::black_box(0.999));
        let mut sums = [simd.splat_f32s(std::hint::black_box(1.0)); 12];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, factor);
            }
        }
        let chains = sums.len();
        std::hint::black_box(sums.map(|sum| simd.reduce_sum_f32s(sum)));
        2.0 * (self.0 * chains * S::F32_LANES) as f64
    }
}
