//! Writes a ViT-S/14 for pictures of 98 pixels, or another backbone, seven times, with golden cases that this machine computed, and a picture:
//! plain.onnx, merged.onnx, simplified.onnx, unmerged.onnx, the simplified one with all layers in eight bits, int8.onnx, and with its matrices in
//! sixteen, f16.onnx, and multiplied so where the processor can, f16-compute.onnx, and picture.png.
//! Weights are random and the same every time; those of the adapters follow from a seed.
//! `cargo run -p edge-vit-tests --example board_models -- FOLDER [SEED [NAME SIDE]]`, NAME one of `edge-vit-tools models`.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use edge_vit::{Activation, Bundle, GoldenCase, HalfProducts, Preprocessing, Provenance};
use edge_vit_models::backbone::{self, Architecture};
use edge_vit_models::onnx::{self, Batch, Precision, Precisions};
use edge_vit_models::quant;
use edge_vit_tests::variants;
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::Engine as _;
use image::{Rgb, RgbImage};

const LABELS: [&str; 5] = ["bolt", "nut", "washer", "screw", "pin"];

/// How far a processor's logits may be from the golden ones in eight bits, where it rounds some values to another step.
const INT8_TOLERANCE: f32 = 0.2;

/// The same of products in sixteen bits.
const HALF_TOLERANCE: f32 = 0.02;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("say the folder to write to")?);
    let seed = std::env::args().nth(2).map_or(Ok(3), |seed| seed.parse())?;
    let name = std::env::args().nth(3).unwrap_or_else(|| "vit_small_patch14_dinov2".to_owned());
    let side = std::env::args().nth(4).map_or(Ok(98), |side| side.parse())?;
    let preprocessing = Preprocessing::imagenet([side, side]);
    let picture = RgbImage::from_fn(128, 96, |x, y| Rgb([(2 * x) as u8, (x * y / 48) as u8, (255 - 2 * y) as u8]));
    picture.save(folder.join("picture.png"))?;
    let input = preprocessing.apply(&picture);
    let mut graph = backbone::with_head(&Architecture::named(&name)?.config([side, side]).graph(), LABELS.len())?;
    // A head of zeros would say nothing of how alike two models compute.
    graph.weights.clear();
    let graphs = variants(graph, seed)?;
    let (_, simplified) = graphs.iter().find(|(name, _)| *name == "simplified").ok_or("there is no simplified one")?;
    let rounded = quant::round_to_f16(simplified)?;
    let shorter = [("int8", simplified.clone()), ("f16", rounded.clone()), ("f16-compute", rounded)];
    for (name, graph) in graphs.into_iter().chain(shorter) {
        let layers = if name == "int8" { onnx::int8_layers(&graph) } else { Vec::new() };
        let logits = match layers.is_empty() {
            true => CpuEngine::<f32>::new(&graph, &BTreeSet::new())?.forward(&input, 1)?,
            false => CpuEngine::<f32>::quantized(&graph, &layers)?.forward(&input, 1)?,
        };
        let bundle = Bundle {
            labels: LABELS.map(str::to_owned).to_vec(),
            preprocessing: preprocessing.clone(),
            activation: Activation::Softmax,
            provenance: Provenance {
                backbone: "random".to_owned(),
                backbone_sha256: "0".repeat(64),
                adapters_sha256: "0".repeat(64),
                tool: "board_models".to_owned(),
                ..Provenance::default()
            },
            golden: vec![GoldenCase::new(&picture, &preprocessing, logits)?],
            rejection: None,
            task: edge_vit::Task::Classification,
            golden_tolerance: match name {
                "int8" => Some(INT8_TOLERANCE),
                "f16-compute" => Some(HALF_TOLERANCE),
                _ => None,
            },
            half_products: if name == "f16-compute" { HalfProducts::WhereNative } else { HalfProducts::Never },
        };
        let precisions: Precisions = match name {
            "f16" | "f16-compute" => onnx::all_f16(&graph),
            _ => layers.into_iter().map(|layer| (layer, Precision::Int8)).collect(),
        };
        fs::write(
            folder.join(format!("{name}.onnx")),
            onnx::to_bytes_at(&graph, Batch::One, &precisions, &bundle.to_metadata()?)?,
        )?;
    }
    Ok(())
}
