//! Writes a ViT-S/14 for pictures of 98 pixels, or another backbone, some times, with golden cases that this machine computed, and a picture:
//! plain.onnx, merged.onnx, simplified.onnx, unmerged.onnx; the simplified one with all layers in eight bits, int8.onnx, with its matrices in
//! sixteen, f16.onnx, multiplied in sixteen where the processor can, f16-compute.onnx, and, of a transformer that can do without some of its
//! tokens, with those merged, merged-tokens.onnx; picture.png.
//! Weights are random and the same every time; those of the adapters follow from a seed.
//! `cargo run -p edge-vit-tests --example board_models -- FOLDER [SEED [NAME SIDE]]`, NAME one of `edge-vit-tools models`.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use edge_vit::{Activation, Bundle, GoldenCase, HalfProducts, Preprocessing, Provenance};
use edge_vit_models::backbone::{self, Architecture};
use edge_vit_models::onnx::{self, Batch, Precision, Precisions};
use edge_vit_models::{Graph, quant, tokens};
use edge_vit_tests::variants;
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::Engine as _;
use image::{Rgb, RgbImage};

const LABELS: [&str; 5] = ["bolt", "nut", "washer", "screw", "pin"];

/// How far a processor's logits may be from the golden ones where it rounds some values to another step or merges other tokens.
const TURNED_TOLERANCE: f32 = 0.2;

/// The same of products in sixteen bits.
const HALF_TOLERANCE: f32 = 5e-3;

/// How many tokens each block merges away.
const MERGED_TOKENS: usize = 3;

/// A model file.
struct Model {
    name: &'static str,
    /// What the golden logits are computed of.
    graph: Graph,
    /// The layers in eight bits.
    int8: Vec<String>,
    precisions: Precisions,
    tolerance: Option<f32>,
    half_products: HalfProducts,
}

impl Model {
    /// In float32.
    fn plain(name: &'static str, graph: Graph) -> Self {
        let (int8, precisions) = (Vec::new(), Precisions::new());
        Self { name, graph, int8, precisions, tolerance: None, half_products: HalfProducts::Never }
    }

    /// The graph in eight bits and sixteen, and with fewer tokens.
    fn shortened(graph: &Graph) -> Result<Vec<Self>, Box<dyn Error>> {
        let int8 = onnx::int8_layers(graph);
        let eight = int8.iter().map(|layer| (layer.clone(), Precision::Int8)).collect();
        let (rounded, sixteen) = (quant::round_to_f16(graph)?, onnx::all_f16(graph));
        let mut models = vec![
            Self { int8, precisions: eight, tolerance: Some(TURNED_TOLERANCE), ..Self::plain("int8", graph.clone()) },
            Self { precisions: sixteen.clone(), ..Self::plain("f16", rounded.clone()) },
            Self {
                precisions: sixteen,
                tolerance: Some(HALF_TOLERANCE),
                half_products: HalfProducts::WhereNative,
                ..Self::plain("f16-compute", rounded)
            },
        ];
        if let Ok(merged) = tokens::merge(graph, MERGED_TOKENS) {
            models.push(Self { tolerance: Some(TURNED_TOLERANCE), ..Self::plain("merged-tokens", merged.graph) });
        }
        Ok(models)
    }
}

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
    let shortened = Model::shortened(simplified)?;
    for model in graphs.into_iter().map(|(name, graph)| Model::plain(name, graph)).chain(shortened) {
        let Model { name, graph, int8, precisions, tolerance, half_products } = model;
        let logits = CpuEngine::<f32>::quantized(&graph, &int8)?.forward(&input, 1)?;
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
            golden_tolerance: tolerance,
            half_products,
        };
        fs::write(
            folder.join(format!("{name}.onnx")),
            onnx::to_bytes_at(&graph, Batch::One, &precisions, &bundle.to_metadata()?)?,
        )?;
    }
    Ok(())
}
