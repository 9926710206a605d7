//! The fastest tile for a product, by running it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use half::f16;

use crate::engine::EngineError;
use crate::gpu::device::Gpu;
use crate::gpu::kernels::matmul::{Kind, Product};
use crate::gpu::kernels::tile::Tile;
use crate::gpu::pool::{Buf, Pool, PoolError};
use crate::gpu::recorder::Recorder;

/// How long a class is given. What has not been tried by then is not taken; what runs then is waited for.
const BUDGET: Duration = Duration::from_secs(2);
/// How long a round lasts about, so that handing it to the device is no part of it.
const ROUND: Duration = Duration::from_millis(5);
const ROUNDS: usize = 3;
const MOST_REPETITIONS: f64 = 200.0;
/// A tile that takes this many times as long as the best is not looked at again.
const HOPELESS: f64 = 2.0;
/// What a tile has to win to be taken in place of the rule's: less is noise.
const GAIN: f64 = 0.97;

/// The fastest tile for a product of this `kind` that gives the bits of `rule`.
///
/// # Errors
/// When there is no room for the product, or the device fails at the rule's own.
pub(super) fn fastest(gpu: &Arc<Gpu>, kind: &Kind, rule: Tile) -> Result<Tile, EngineError> {
    let deadline = Instant::now() + BUDGET;
    gpu.wait()?;
    let bench = Bench::new(gpu, kind)?;
    let expected = bench.result(rule)?;
    let mut least = bench.seconds(rule, 1)?;
    if Instant::now() >= deadline {
        return Ok(rule);
    }
    let repetitions = (ROUND.as_secs_f64() / least).clamp(1.0, MOST_REPETITIONS) as usize;
    let by_rule = bench.least(rule, repetitions, deadline)?;
    let mut best = (rule, by_rule * GAIN);
    let tried = gpu.tuning.tiles(&gpu.limits).into_iter().filter(|tile| *tile != rule && kind.suits(*tile));
    for tile in tried {
        if Instant::now() >= deadline {
            log::debug!("{kind:?}: the time is up before {tile:?}");
            break;
        }
        // A tile that the driver refuses, or that is not exact, is none.
        match bench.result(tile) {
            Ok(values) if bytemuck::cast_slice::<f32, u32>(&values) == bytemuck::cast_slice::<f32, u32>(&expected) => {}
            Ok(_) => {
                log::debug!("{kind:?}: {tile:?} gives other bits");
                continue;
            }
            Err(error) => {
                log::debug!("{kind:?}: {tile:?}: {error}");
                continue;
            }
        }
        let first = bench.seconds(tile, 1)?;
        if first > HOPELESS * least {
            continue;
        }
        least = least.min(first);
        let seconds = bench.least(tile, repetitions, deadline)?;
        log::debug!("{kind:?}: {tile:?} {seconds:.2e} s, by rule {by_rule:.2e}");
        if seconds < best.1 {
            best = (tile, seconds);
        }
    }
    // The rule's tile ran first, on a device that may have been asleep.
    if best.0 != rule && bench.least(rule, repetitions, deadline)? * GAIN <= best.1 {
        return Ok(rule);
    }
    Ok(best.0)
}

/// The operands of a product.
struct Bench<'a> {
    gpu: &'a Arc<Gpu>,
    pool: Pool,
    kind: &'a Kind,
    a: Buf,
    b: Buf,
    /// Long enough for a bias and for an addend.
    added: Buf,
}

impl<'a> Bench<'a> {
    fn new(gpu: &'a Arc<Gpu>, kind: &'a Kind) -> Result<Self, PoolError> {
        let pool = Pool::new(Arc::clone(gpu), gpu.memory_budget());
        let rec = Recorder::new(gpu, &pool);
        let Kind { m, n, k, .. } = *kind;
        let (a, b) = (rec.upload(&values(1, m * k))?, values(2, k * n));
        // Two values a word where it is float16: a buffer for one a word is large enough, and never read beyond.
        let halves = || b.iter().map(|value| f16::from_f32(*value).to_bits()).chain([0]).collect::<Vec<u16>>();
        let b = if kind.half { rec.upload(&halves()[..b.len().next_multiple_of(2)])? } else { rec.upload(&b)? };
        let added = rec.upload(&values(3, if kind.addend { m * n } else { n }))?;
        rec.submit()?;
        Ok(Self { gpu, pool, kind, a, b, added })
    }

    fn record(&self, rec: &mut Recorder, tile: Tile) -> Result<Buf, PoolError> {
        let Kind { m, n, k, chunks, a_transposed, b_transposed, bias, addend, half } = *self.kind;
        let added = |is_added: bool| is_added.then_some(&*self.added);
        let product = Product {
            a: &self.a,
            a_transposed,
            b: &self.b,
            b_transposed,
            m,
            n,
            k,
            bias: added(bias),
            addend: added(addend),
            half,
        };
        product.record_in(rec, chunks, tile)
    }

    /// C, `[chunks, m, n]`; the kernel is compiled and warm after it.
    fn result(&self, tile: Tile) -> Result<Vec<f32>, EngineError> {
        let mut rec = Recorder::new(self.gpu, &self.pool);
        let c = self.record(&mut rec, tile)?;
        let Kind { m, n, chunks, .. } = *self.kind;
        Ok(rec.read(&[(&c, chunks * m * n)])?.pop().unwrap_or_default())
    }

    /// The seconds of one of `repetitions`.
    fn seconds(&self, tile: Tile, repetitions: usize) -> Result<f64, EngineError> {
        let mut rec = Recorder::new(self.gpu, &self.pool);
        for _ in 0..repetitions {
            self.record(&mut rec, tile)?;
        }
        let start = Instant::now();
        rec.submit()?;
        self.gpu.wait()?;
        Ok(start.elapsed().as_secs_f64() / repetitions as f64)
    }

    /// The least of some rounds, of fewer where `deadline` comes before them.
    fn least(&self, tile: Tile, repetitions: usize, deadline: Instant) -> Result<f64, EngineError> {
        let mut least = self.seconds(tile, repetitions)?;
        for _ in 1..ROUNDS {
            if Instant::now() >= deadline {
                break;
            }
            least = least.min(self.seconds(tile, repetitions)?);
        }
        Ok(least)
    }
}

/// Values between -1 and 1 without a pattern that a sum would hide, the same for a seed.
fn values(seed: u32, count: usize) -> Vec<f32> {
    (0..count).map(|index| 2.0 * crate::engine::uniform(seed, 0, index as u32) - 1.0).collect()
}
