//! Kernels by themselves, against loops in float64.

use std::sync::Arc;

use super::{gpu, open, relative, values};
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

/// Products on odd shapes with C cut into `tiles`: within rounding of float64, and the same to the bit in all of them.
fn check_products(gpu: &Arc<Gpu>, tiles: &[Tile]) {
    for size in [[1, 1, 1], [5, 7, 3], [70, 36, 20], [9, 130, 66], [33, 8, 260], [131, 260, 36]] {
        let [m, n, k] = size;
        let (a, b) = (values(1, m * k), values(2, k * n));
        let (bias, addend) = (values(3, n), values(4, m * n));
        let expected = product(size, &a, &b, &bias, &addend);
        let (a_t, b_t) = (transposed(&a, m, k), transposed(&b, k, n));
        for (a_transposed, b_transposed) in [(false, true), (false, false), (true, false), (true, true)] {
            let a = if a_transposed { &a_t } else { &a };
            let b = if b_transposed { &b_t } else { &b };
            let mut first: Option<Vec<f32>> = None;
            for &tile in tiles {
                let got = run(gpu, &[a, b, &bias, &addend], m * n, |rec, operands| {
                    Product {
                        a: &operands[0],
                        a_transposed,
                        b: &operands[1],
                        b_transposed,
                        m,
                        n,
                        k,
                        bias: Some(&operands[2]),
                        addend: Some(&operands[3]),
                    }
                    .record_in(rec, 1, tile)
                });
                let error = relative(&got, &expected);
                assert!(error < SUM_TOLERANCE, "{tile:?} {size:?} {a_transposed} {b_transposed}: {error:.2e}");
                assert_eq!(first.get_or_insert_with(|| got.clone()), &got, "{tile:?} {size:?} {a_transposed} {b_transposed}");
            }
        }
    }
}

#[test]
fn every_tile_in_registers_gives_the_same_product() {
    let Some(mut gpu) = open(|limits| limits) else { return };
    gpu.tuning.shared_tiles = false;
    let tiles = gpu.tuning.tiles(&gpu.limits);
    check_products(&Arc::new(gpu), &tiles);
}

#[test]
fn every_shared_tile_gives_the_same_product() {
    let Some(mut gpu) = open(|limits| limits) else { return };
    let mut info = gpu.info.clone();
    info.software = false;
    gpu.tuning = Tuning::of(&info, &gpu.limits);
    assert!(gpu.tuning.shared_tiles);
    let tiles = gpu.tuning.tiles(&gpu.limits);
    assert!(tiles.len() > 10, "{tiles:?}");
    check_products(&Arc::new(gpu), &tiles);
}

#[test]
fn the_rule_takes_larger_shared_tiles_where_there_are_many() {
    let Some(mut gpu) = open(|limits| limits) else { return };
    gpu.tuning.shared_tiles = true;
    gpu.tuning.enough_tiles = 4;
    let of = |m| Kind { m, n: 128, k: 9, chunks: 1, a_transposed: false, b_transposed: true, bias: false, addend: false };
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
        let product =
            Product { a, a_transposed: true, b, b_transposed: false, m, n, k: rows, bias: None, addend: None };
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
