//! The matrix product by itself, for measuring.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::device::Gpu;
use super::kernels::matmul::Product;
use super::pool::{Buf, Pool};
use super::recorder::Recorder;
use crate::engine::EngineError;

/// A product `[m, k]` times `[n, k]` transposed, as a Linear computes it, ready to be timed.
pub struct ProductTimer {
    gpu: Arc<Gpu>,
    pool: Pool,
    a: Buf,
    b: Buf,
    size: [usize; 3],
}

impl ProductTimer {
    /// Operands of `[m, n, k]` on the adapter that `selection` means, as [`super::GpuEngine::new`] takes it.
    ///
    /// # Errors
    /// When there is no such adapter or no room on it.
    pub fn new(selection: Option<&str>, size: [usize; 3]) -> Result<Self, EngineError> {
        let gpu = Arc::new(Gpu::open_measured(selection)?);
        let pool = Pool::new(Arc::clone(&gpu), gpu.memory_budget());
        let [m, n, k] = size;
        let rec = Recorder::new(&gpu, &pool);
        let values = |count: usize| (0..count).map(|i| (i % 13) as f32 * 0.125 - 0.75).collect::<Vec<_>>();
        let (a, b) = (rec.upload(&values(m * k))?, rec.upload(&values(n * k))?);
        rec.submit()?;
        gpu.wait()?;
        Ok(Self { gpu, pool, a, b, size })
    }

    /// The adapter's name.
    pub fn device(&self) -> &str {
        &self.gpu.info.name
    }

    /// How long `repetitions` products take, from submission to completion.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(&self, repetitions: usize) -> Result<Duration, EngineError> {
        let [m, n, k] = self.size;
        let mut rec = Recorder::new(&self.gpu, &self.pool);
        for _ in 0..repetitions {
            Product {
                a: &self.a,
                a_transposed: false,
                b: &self.b,
                b_transposed: true,
                m,
                n,
                k,
                bias: None,
                addend: None,
                half: false,
            }
            .record(&mut rec)?;
        }
        let start = Instant::now();
        rec.submit()?;
        self.gpu.wait()?;
        Ok(start.elapsed())
    }
}
