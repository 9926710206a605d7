//! Kernels by themselves, against loops in float64.

use std::sync::Arc;

use half::f16;

use super::{gpu, has_float16, open, relative, values};
use crate::engine::Noise;
use edge_vit_models::Activation;

use crate::gpu::device::Gpu;
use crate::gpu::kernels::elementwise::{activation, dropout};
use crate::gpu::kernels::matmul::{Kind, Product};
use crate::gpu::kernels::reduce::{Parts, accumulate, column_sums};
use crate::gpu::kernels::tile::Tile;
use crate::gpu::kernels::unfold::Unfold;
use crate::gpu::kernels::{Drop, Tuning};
use crate::gpu::pool::{Buf, Pool, PoolError};
use crate::gpu::recorder::Recorder;

/// float32 sums of a few hundred products against float64, relative to the largest.
const SUM_TOLERANCE: f64 = 1e-5;

/// Runs what `record` records on the uploaded operands and reads `count` values of its result.
fn run(
    gpu: &Arc<Gpu>,
    operands: &[&[f32]],
    count: usize,
    record: impl FnOnce(&mut Recorder, &[Buf]) -> Result<Buf, PoolError>,
) -> Vec<f32> {
    let pool = Pool::new(Arc::clone(gpu), u64::MAX);
    let mut rec = Recorder::new(gpu, &pool);
    let operands: Vec<Buf> = operands.iter().map(|values| rec.upload(values).unwrap()).collect();
    let result = record(&mut rec, &operands).unwrap();
    rec.read(&[(&result, count)]).unwrap().remove(0)
}

fn transposed(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| values[r * cols + c])).collect()
}

/// `a` [m, k] times `b` [k, n] plus `bias` [n] plus `addend` [m, n].
fn product([m, n, k]: [usize; 3], a: &[f32], b: &[f32], bias: &[f32], addend: &[f32]) -> Vec<f32> {
    let mut c = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j])).sum();
            c.push((sum + f64::from(bias[j]) + f64::from(addend[i * n + j])) as f32);
        }
    }
    c
}

const TRANSPOSITIONS: [(bool, bool); 4] = [(false, true), (false, false), (true, false), (true, true)];

/// A product with C cut into `tile`, with B and the rounding of A as `half` says.
fn multiplied(
    gpu: &Arc<Gpu>,
    tile: Tile,
    [m, n, k]: [usize; 3],
    (a_transposed, b_transposed): (bool, bool),
    half: bool,
) -> Vec<f32> {
    let (a, b) = (values(1, m * k), values(2, k * n));
    let a = if a_transposed { transposed(&a, m, k) } else { a };
    let b = if b_transposed { transposed(&b, k, n) } else { b };
    let b = if half { halves(&b) } else { b };
    run(gpu, &[&a, &b, &values(3, n), &values(4, m * n)], m * n, |rec, operands| {
        let (bias, addend) = (Some(&*operands[2]), Some(&*operands[3]));
        let (a, b) = (&operands[0], &operands[1]);
        Product { a, a_transposed, b, b_transposed, m, n, k, bias, addend, half }.record_in(rec, 1, tile)
    })
}

/// The same in float64, of operands that `round` has rounded.
fn exactly([m, n, k]: [usize; 3], round: impl Fn(f32) -> f32) -> Vec<f32> {
    let rounded = |values: Vec<f32>| values.into_iter().map(&round).collect::<Vec<_>>();
    let (a, b) = (rounded(values(1, m * k)), rounded(values(2, k * n)));
    product([m, n, k], &a, &b, &values(3, n), &values(4, m * n))
}

/// Two float16 values a word.
fn halves(values: &[f32]) -> Vec<f32> {
    let bits = |value: Option<&f32>| u32::from(f16::from_f32(value.copied().unwrap_or(0.0)).to_bits());
    values.chunks(2).map(|pair| f32::from_bits(bits(pair.first()) | bits(pair.get(1)) << 16)).collect()
}

fn check_products(gpu: &Arc<Gpu>, tile: Tile, sizes: &[[usize; 3]]) {
    for &size in sizes {
        let expected = exactly(size, |value| value);
        for transposed in TRANSPOSITIONS {
            let error = relative(&multiplied(gpu, tile, size, transposed, false), &expected);
            assert!(error < SUM_TOLERANCE, "{tile:?} {size:?} {transposed:?}: {error:.2e}");
        }
    }
}

/// All tiles of a family: within rounding of float64, and the same as its first to the bit.
fn check_family(gpu: &Arc<Gpu>) {
    let tiles = gpu.tuning.tiles(&gpu.limits);
    let size = [131, 260, 36];
    let expected = exactly(size, |value| value);
    let first = multiplied(gpu, tiles[0], size, (false, true), false);
    for &tile in &tiles {
        let got = multiplied(gpu, tile, size, (false, true), false);
        let error = relative(&got, &expected);
        assert!(error < SUM_TOLERANCE, "{tile:?}: {error:.2e}");
        assert_eq!(got, first, "{tile:?} gives other bits than {:?}", tiles[0]);
    }
}

/// A device that cuts work as `software` says, whatever it is.
fn cut_for(software: bool) -> Option<Arc<Gpu>> {
    let mut gpu = open(|limits| limits)?;
    let mut info = gpu.info.clone();
    info.software = software;
    gpu.tuning = Tuning::of(&info, &gpu.limits);
    assert_eq!(gpu.tuning.shared_tiles, !software);
    Some(Arc::new(gpu))
}

const ODD_SIZES: [[usize; 3]; 5] = [[1, 1, 1], [5, 7, 3], [70, 36, 20], [9, 130, 66], [33, 8, 260]];

#[test]
fn products_in_registers() {
    let Some(gpu) = cut_for(true) else { return };
    check_products(&gpu, gpu.tuning.tiles(&gpu.limits)[0], &ODD_SIZES);
}

#[test]
fn products_in_shared_tiles() {
    let Some(gpu) = cut_for(false) else { return };
    for tile in &gpu.tuning.tiles(&gpu.limits)[..2] {
        check_products(&gpu, *tile, &ODD_SIZES);
    }
}

#[test]
fn every_tile_in_registers_gives_the_same_product() {
    let Some(gpu) = cut_for(true) else { return };
    check_family(&gpu);
}

#[test]
fn every_shared_tile_gives_the_same_product() {
    let Some(gpu) = cut_for(false) else { return };
    assert!(gpu.tuning.tiles(&gpu.limits).len() > 10);
    check_family(&gpu);
}

/// The reference rounds the operands and sums in float64: what is left is float32's rounding of sums.
#[test]
fn products_in_half_precision_round_the_operands_and_nothing_else() {
    for software in [true, false] {
        let Some(gpu) = cut_for(software).filter(|gpu| has_float16(gpu)) else { return };
        let tile = gpu.tuning.tiles(&gpu.limits)[0];
        for (size, transposed) in [([70, 36, 20], (false, true)), ([9, 131, 67], (false, false))] {
            let expected = exactly(size, |value| f16::from_f32(value).to_f32());
            let error = relative(&multiplied(&gpu, tile, size, transposed, true), &expected);
            assert!(error < SUM_TOLERANCE, "{tile:?} {size:?} {transposed:?}: {error:.2e}");
        }
    }
}

#[test]
fn what_half_precision_does_not_hold_becomes_infinite() {
    for software in [true, false] {
        let Some(gpu) = cut_for(software).filter(|gpu| has_float16(gpu)) else { return };
        let tile = gpu.tuning.tiles(&gpu.limits)[0];
        let a = [65504.0, 65520.0, -1e9, f32::INFINITY];
        let got = run(&gpu, &[&a, &halves(&[1.0])], 4, |rec, operands| {
            let (a, b) = (&operands[0], &operands[1]);
            let (m, n, k) = (4, 1, 1);
            let (bias, addend) = (None, None);
            Product { a, a_transposed: false, b, b_transposed: true, m, n, k, bias, addend, half: true }
                .record_in(rec, 1, tile)
        });
        assert_eq!(got, [65504.0, f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY], "{tile:?}");
    }
}

/// A linear layer's product without a bias.
fn of_linear([m, n, k]: [usize; 3]) -> Kind {
    let (a_transposed, b_transposed) = (false, true);
    Kind { m, n, k, chunks: 1, a_transposed, b_transposed, bias: false, addend: false, half: false }
}

#[test]
fn the_rule_takes_larger_shared_tiles_where_there_are_many() {
    let Some(mut gpu) = open(|limits| limits) else { return };
    gpu.tuning.shared_tiles = true;
    gpu.tuning.enough_tiles = 4;
    let of = |m| of_linear([m, 128, 9]);
    let rows = |m| match gpu.tuning.tile(&of(m)) {
        Tile::Shared { rows, .. } => rows,
        Tile::Registers { .. } => 0,
    };
    assert_eq!((rows(64), rows(65)), (32, 64));
}

#[test]
fn a_product_over_many_rows_is_summed_in_chunks() {
    let Some(gpu) = gpu() else { return };
    let (rows, m, n) = (1000, 6, 10);
    let (a, b) = (values(1, rows * m), values(2, rows * n));
    let expected = product([m, n, rows], &transposed(&a, rows, m), &b, &vec![0.0; n], &vec![0.0; m * n]);
    let got = run(&gpu, &[&a, &b, &vec![0.0; m * n]], m * n, |rec, operands| {
        let (a, b) = (&operands[0], &operands[1]);
        let product = Product {
            a,
            a_transposed: true,
            b,
            b_transposed: false,
            m,
            n,
            k: rows,
            bias: None,
            addend: None,
            half: false,
        };
        let (parts, chunks) = product.record_split(rec)?;
        assert!(chunks > 1);
        accumulate(rec, &Parts { values: &parts, chunks, rows: m, columns: n, groups: 1 }, 1.0, &operands[2])?;
        Ok(operands[2].clone())
    });
    assert!(relative(&got, &expected) < SUM_TOLERANCE);
}

#[test]
fn the_diagonal_blocks_of_a_grouped_weight_are_added() {
    let Some(gpu) = gpu() else { return };
    // Two chunks of [4 rows, 2 groups x 1 column]; rows 0 and 1 read column 0, rows 2 and 3 column 1.
    let parts = [1., 2., 3., 4., 5., 6., 7., 8., 10., 20., 30., 40., 50., 60., 70., 80.];
    let got = run(&gpu, &[&parts, &[1.0; 4]], 4, |rec, operands| {
        let parts = Parts { values: &operands[0], chunks: 2, rows: 4, columns: 1, groups: 2 };
        accumulate(rec, &parts, 0.5, &operands[1])?;
        Ok(operands[1].clone())
    });
    assert_eq!(got, [1.0 + 5.5, 1.0 + 16.5, 1.0 + 33.0, 1.0 + 44.0]);
}

#[test]
fn columns_are_summed() {
    let Some(gpu) = gpu() else { return };
    for width in [5, 8] {
        let x = values(1, 150 * width);
        let expected: Vec<f32> =
            (0..width).map(|c| (0..150).map(|r| f64::from(x[r * width + c])).sum::<f64>() as f32).collect();
        let got = run(&gpu, &[&x, &vec![0.0; width]], width, |rec, operands| {
            let (parts, chunks) = column_sums(rec, &operands[0], 150, width)?;
            accumulate(rec, &Parts { values: &parts, chunks, rows: 1, columns: width, groups: 1 }, 1.0, &operands[1])?;
            Ok(operands[1].clone())
        });
        assert!(relative(&got, &expected) < SUM_TOLERANCE);
    }
}

#[test]
fn dropout_is_the_hash_of_the_other_engines_bit_for_bit() {
    let Some(gpu) = gpu() else { return };
    let noise = Noise { seed: 0x9e37_79b9, dropout: 0.3, drop_path: Vec::new() };
    let count = 4099;
    let first_index = u32::MAX - 1000;
    let got = run(&gpu, &[&vec![1.0; count]], count, |rec, operands| {
        let drop = Drop { seed: noise.seed, stream: 17, rate: noise.dropout };
        dropout(rec, &operands[0], count, first_index, drop)
    });
    let expected: Vec<f32> = (0..count as u32).map(|i| noise.dropout_factor(17, first_index.wrapping_add(i))).collect();
    assert_eq!(got, expected);
    assert!(got.contains(&0.0));
}

#[test]
fn gelu_is_exact_within_its_approximation() {
    let Some(gpu) = gpu() else { return };
    let x: Vec<f32> = (-1200..1200).map(|i| i as f32 * 0.005).collect();
    let got = run(&gpu, &[&x], x.len(), |rec, operands| activation(rec, Activation::Gelu, &operands[0], None, x.len()));
    for (&x, got) in x.iter().zip(got) {
        let exact = f64::from(x) * 0.5 * (1.0 + libm::erf(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2));
        // Half of erf's 5e-7 times x, and rounding.
        let tolerance = 3e-7 * f64::from(x.abs()) + 1e-7;
        assert!((f64::from(got) - exact).abs() < tolerance, "gelu({x}) = {got}, exactly {exact}");
    }
}

#[test]
fn patches_are_rows() {
    let Some(gpu) = gpu() else { return };
    let (channels, height, width, p) = (2, 4, 6, 2);
    let pixels: Vec<f32> = (0..2 * channels * height * width).map(|i| i as f32).collect();
    let got = run(&gpu, &[&pixels], pixels.len(), |rec, operands| {
        Unfold::patches(2, [channels, height, width], p).forward(rec, &operands[0])
    });
    let mut expected = Vec::new();
    for picture in 0..2 {
        for (row, column) in (0..height / p).flat_map(|row| (0..width / p).map(move |column| (row, column))) {
            for (c, y, x) in (0..channels).flat_map(|c| (0..p).flat_map(move |y| (0..p).map(move |x| (c, y, x)))) {
                let at = ((picture * channels + c) * height + row * p + y) * width + column * p + x;
                expected.push(at as f32);
            }
        }
    }
    assert_eq!(got, expected);
}

#[test]
fn thin_tiles_are_tried_for_narrow_products_alone() {
    let kind = |m, n| of_linear([m, n, 384]);
    let tile = |rows, cols| Tile::Shared { rows, cols, row_quads: 1, col_quads: 1, depth: 16 };
    assert!(kind(1040, 8).suits(tile(128, 8)) && kind(1040, 8).suits(tile(32, 32)));
    assert!(!kind(1040, 384).suits(tile(128, 8)) && kind(1040, 384).suits(tile(128, 128)));
    assert!(!kind(1040, 8).suits(tile(128, 128)) && !kind(8, 384).suits(tile(128, 8)));
}
