//! `edge-vit-tools bench train`.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use edge_vit_models::Graph;
use edge_vit_models::adapter::Adapted;
use edge_vit_models::backbone::{self, Architecture};
use serde_json::json;

use crate::commands::train::{DeviceArgs, MethodArgs, PrecisionName};
use crate::measure::{self, Batch, Work};
use crate::train::{Recipe, check_precision, checked_side};

/// Classes of the head.
const CLASSES: usize = 10;
/// Side of the pictures where none is given, if the backbone takes it.
const SIDE: usize = 224;

/// Arguments of `bench train`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Side of the pictures in pixels [default: the file's own; 224, or the next that the architecture takes]
    #[arg(long, value_name = "PIXELS", value_parser = at_least_1())]
    image_size: Option<usize>,
    /// Pictures of a step
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_1())]
    batch_size: usize,
    /// Steps that are timed, behind one that is not
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_1())]
    steps: usize,
    #[command(flatten)]
    device: DeviceArgs,
    /// How exact a GPU computes, as `train` takes it
    #[arg(long, value_enum, default_value_t = PrecisionName::F32)]
    precision: PrecisionName,
    /// Compute activations again in the backward, as `train` does with this flag
    #[arg(long)]
    activation_checkpointing: bool,
    #[command(flatten)]
    method: MethodArgs,
    /// Print one JSON object in place of the lines
    #[arg(long)]
    json: bool,
}

/// A file, or an architecture at random weights.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct ModelArgs {
    /// The backbone's weights, as train takes them
    #[arg(long, value_name = "FILE")]
    backbone: Option<PathBuf>,
    /// A backbone at random weights, by its name in `edge-vit-tools models`
    #[arg(long, value_name = "NAME")]
    architecture: Option<String>,
}

fn at_least_1() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// A backbone with its head, and what it is called.
struct Model {
    name: String,
    side: usize,
    graph: Graph,
}

impl ModelArgs {
    fn load(&self, side: Option<usize>) -> anyhow::Result<Model> {
        if let Some(path) = &self.backbone {
            let mut backbone = backbone::load(path, None)?;
            if let Some(side) = side {
                let side = checked_side(side, backbone.config.image_step())?;
                backbone = backbone::load(path, Some([side, side]))?;
            }
            let [side, _] = backbone.config.image_size();
            return Ok(Model { name: backbone.name, side, graph: backbone::with_head(&backbone.graph, CLASSES)? });
        }
        let name = self.architecture.clone().unwrap_or_default();
        let architecture = Architecture::named(&name)?;
        let step = architecture.config([SIDE, SIDE]).image_step();
        let side = checked_side(side.unwrap_or(SIDE.next_multiple_of(step)), step)?;
        let mut graph = backbone::with_head(&architecture.config([side, side]).graph(), CLASSES)?;
        measure::fill(&mut graph)?;
        Ok(Model { name, side, graph })
    }
}

/// What was measured.
struct Measured {
    device: String,
    trained_parameters: usize,
    /// The shortest first.
    seconds: Vec<f64>,
    /// Of a picture.
    work: Work,
    /// Operations a second of a product by itself.
    product_rate: f64,
    peak_bytes: u64,
}

/// Measures and prints.
///
/// # Errors
/// When the backbone cannot be read or adapted so, or the device fails.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let model = args.model.load(args.image_size)?;
    let measured = measure(args, &model)?;
    match args.json {
        true => writeln!(stdout(), "{}", measured.to_json(args, &model))?,
        false => write!(stdout(), "{}", measured.to_text(args, &model))?,
    }
    Ok(())
}

fn measure(args: &Args, model: &Model) -> anyhow::Result<Measured> {
    let adapted = args.method.checked().begin(&model.graph, 0)?;
    let trained_parameters = adapted.trained_parameters();
    let Adapted { graph, trainable, attached } = adapted;
    let precision = args.precision.into();
    check_precision(precision, attached.as_ref(), args.method.checked().method())?;
    let device = args.device.checked().decide(precision)?;
    let mut engine = device.trainer(&graph, &trainable, attached, args.activation_checkpointing)?;
    let shapes = graph.shapes()?;
    let batch = Batch::new(args.batch_size, shapes.first().map_or(&[], Vec::as_slice), CLASSES)?;
    Ok(Measured {
        seconds: measure::steps(engine.as_mut(), &graph, &batch, CLASSES, &Recipe::default(), args.steps)?,
        device: engine.device(),
        trained_parameters,
        work: Work::of(&graph, &trainable)?,
        peak_bytes: engine.peak_bytes(),
        product_rate: measure::product_rate(&device)?,
    })
}

impl Measured {
    fn fastest(&self) -> f64 {
        self.seconds.first().copied().unwrap_or(f64::NAN)
    }

    fn median(&self) -> f64 {
        self.seconds.get(self.seconds.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Operations a second of a whole batch's step.
    fn rate(&self, args: &Args) -> f64 {
        self.work.total() as f64 * args.batch_size as f64 / self.median()
    }

    fn to_json(&self, args: &Args, model: &Model) -> serde_json::Value {
        let pictures = args.batch_size as f64;
        json!({
            "device": self.device,
            "model": model.name,
            "image_size": model.side,
            "batch_size": args.batch_size,
            "method": args.method.checked().method(),
            "trained_parameters": self.trained_parameters,
            "steps": args.steps,
            "median_s": self.median(),
            "fastest_s": self.fastest(),
            "median_pictures_per_s": pictures / self.median(),
            "fastest_pictures_per_s": pictures / self.fastest(),
            "forward_gflop": self.work.forward as f64 * pictures / 1e9,
            "backward_gflop": self.work.backward as f64 * pictures / 1e9,
            "gflop_per_s": self.rate(args) / 1e9,
            "product_gflop_per_s": self.product_rate / 1e9,
            "share_of_product": self.rate(args) / self.product_rate,
            "peak_bytes": self.peak_bytes,
        })
    }

    fn to_text(&self, args: &Args, model: &Model) -> String {
        let Model { name, side, .. } = model;
        let (pictures, method) = (args.batch_size as f64, args.method.checked().method());
        let (median, fastest) = (self.median(), self.fastest());
        let [forward, backward] = [self.work.forward, self.work.backward].map(|work| work as f64 * pictures / 1e9);
        let (rate, peak) = (self.rate(args), self.product_rate);
        let lines = [
            ("device", self.device.clone()),
            ("model", format!("{name}, {side} x {side}, batch {}", args.batch_size)),
            ("trained", format!("{} parameters by {method}", self.trained_parameters)),
            ("step", format!("{:.2} ms, fastest of {} {:.2} ms", 1e3 * median, args.steps, 1e3 * fastest)),
            ("speed", format!("{:.1} pictures/s, fastest {:.1}", pictures / median, pictures / fastest)),
            ("work", format!("{:.2} GFLOP a step, {forward:.2} forward, {backward:.2} backward", forward + backward)),
            (
                "rate",
                format!("{:.1} GFLOP/s, {:.0} % of a product's {:.1}", rate / 1e9, 100.0 * rate / peak, peak / 1e9),
            ),
            ("memory", format!("{:.1} MiB", self.peak_bytes as f64 / 1_048_576.0)),
        ];
        lines.map(|(what, value)| format!("{what:<9} {value}\n")).concat()
    }
}
