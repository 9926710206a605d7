//! The arguments.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::config::{Config, OnLabel};
use crate::capture::sources::Csi;

/// Classifies what a camera sees, or pictures, with one model file as `edge-vit-tools fold` writes it; with a file of
/// segmentation, says what share of each picture every class has.
///
/// Results go to stdout, a line a picture; logs go to stderr. Every option can also stand in a configuration file
/// (--config), and an option given here goes before the file's. Exit code 0: all done; 1: something failed; 2: wrong
/// arguments or configuration.
#[derive(Debug, Parser)]
#[command(name = "edge-vit", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) classify: Classify,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say whether a configuration file (with the options given beside it) is sound, and what it comes to
    CheckConfig(Box<Classify>),
    /// Measure how long a picture takes on this machine, stage by stage, and what memory
    Bench(BenchArguments),
    /// Install, list and switch the models of a folder of models
    Model(ModelArguments),
}

/// Everything that classification can be told.
#[derive(Debug, Args)]
pub(crate) struct Classify {
    /// Read options from this TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The model file, or a folder of models that `edge-vit model install` keeps
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Refuse a model that is not signed by this key (minisign; a .pub file or its base64 line); repeatable
    #[arg(long, value_name = "KEY")]
    require_key: Vec<String>,

    /// Run the model on so many threads (default: one for each processor core)
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Prove that this machine computes what the desktop computed, on pictures that the model file carries
    #[arg(long, conflicts_with = "source")]
    pub(crate) self_test: bool,

    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    decision: Decision,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Where pictures come from (one of)")]
struct Source {
    /// Classify these pictures
    #[arg(long, value_name = "FILE", num_args = 1.., group = "source")]
    image: Vec<PathBuf>,

    /// Classify every picture in this folder and the folders in it
    #[arg(long, value_name = "FOLDER", group = "source")]
    dir: Option<PathBuf>,

    /// Classify every frame of this film (with ffmpeg)
    #[arg(long, value_name = "FILE", group = "source")]
    video: Option<PathBuf>,

    /// Classify what this camera sees, until stopped: a number, /dev/videoN or a link in /dev/v4l
    #[cfg(all(feature = "camera", target_os = "linux"))]
    #[arg(long, value_name = "CAMERA", group = "source")]
    camera: Option<String>,

    /// Classify what the board's CSI camera sees, through the board's own program: `pi` (rpicam-vid) or `jetson`
    /// (nvarguscamerasrc of GStreamer)
    #[arg(long, value_name = "BOARD", group = "source")]
    csi: Option<Csi>,

    /// Classify the frames that this command writes to its stdout; split into words as a shell does, run without one
    #[arg(long, value_name = "COMMAND", group = "source")]
    pipe: Option<String>,

    /// Classify the frames that come on stdin
    #[arg(long, group = "source")]
    stdin: bool,

    /// How frames of --pipe and --stdin lie: mjpeg, y4m, or i420, nv12, yuyv, rgb, bgr, grey with a size (rgb:640x480)
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// The size to ask a camera for
    #[arg(long, value_name = "WxH")]
    size: Option<String>,

    /// The frames a second to ask a camera for, or to take from a film
    #[arg(long, value_name = "N")]
    rate: Option<u32>,

    /// Classify every frame of --pipe or --stdin in its order; without it the newest frame is taken and older ones dropped
    #[arg(long)]
    every_frame: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What is decided")]
struct Decision {
    /// How many classes to name, best first
    #[arg(long, value_name = "K")]
    top_k: Option<NonZeroUsize>,

    /// The score, 0 to 1, below which the answer is `unknown`; without it what the model file says
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f32>,

    /// Decide on the mean of the last N pictures' logits of a live source or a film
    #[arg(long, value_name = "N")]
    clip: Option<NonZeroUsize>,

    /// Seconds over which scores of a live source are smoothed (time constant)
    #[arg(long, value_name = "SECONDS")]
    smoothing: Option<f64>,

    /// By how much another label has to be better before it takes over, 0 to 1
    #[arg(long, value_name = "SCORE")]
    hysteresis: Option<f32>,

    /// The longest that the answer may be another than what the scores say
    #[arg(long, value_name = "SECONDS")]
    patience: Option<f64>,

    /// Never answer this class; `prefix*` takes a group of them; repeatable
    #[arg(long, value_name = "LABEL")]
    ignore: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Where answers go")]
struct Output {
    /// Write one JSON object a line
    #[arg(long)]
    json: bool,

    /// Write a line only when the label changes
    #[arg(long)]
    changes_only: bool,

    /// Write the mask of each picture to this folder, as a PNG with a palette whose places are the classes (files of
    /// segmentation)
    #[arg(long, value_name = "DIR")]
    mask_out: Option<PathBuf>,

    /// Serve the live page, events and metrics here; beyond loopback a token is needed (EDGE_VIT_TOKEN)
    #[cfg(feature = "serve")]
    #[arg(long, value_name = "ADDRESS:PORT")]
    serve: Option<std::net::SocketAddr>,

    /// Publish to this MQTT broker (user and password: configuration file or EDGE_VIT_MQTT_PASSWORD)
    #[cfg(feature = "mqtt")]
    #[arg(long, value_name = "HOST[:PORT]")]
    mqtt: Option<String>,

    /// The topic above those that are published
    #[cfg(feature = "mqtt")]
    #[arg(long, value_name = "TOPIC")]
    mqtt_topic: Option<String>,

    /// Run COMMAND when the label becomes LABEL (`*`: any). It is run without a shell; `{label}`, `{score}` and
    /// `{source}` are replaced within its words, and stand in EDGE_VIT_LABEL, _SCORE and _SOURCE; repeatable
    #[arg(long, num_args = 2, value_names = ["LABEL", "COMMAND"])]
    on_label: Vec<String>,
}

impl Classify {
    /// The options given, in the form of the file.
    pub(crate) fn overlay(&self) -> Config {
        let mut config = Config {
            model: self.model.clone(),
            require_key: self.require_key.clone(),
            threads: self.threads,
            ..Config::default()
        };
        let source = &mut config.source;
        source.image.clone_from(&self.source.image);
        source.dir.clone_from(&self.source.dir);
        source.video.clone_from(&self.source.video);
        #[cfg(all(feature = "camera", target_os = "linux"))]
        source.camera.clone_from(&self.source.camera.clone().map(super::config::CameraName::Path));
        source.csi = self.source.csi;
        source.pipe.clone_from(&self.source.pipe);
        source.stdin = self.source.stdin;
        source.format.clone_from(&self.source.format);
        source.size.clone_from(&self.source.size);
        source.rate = self.source.rate;
        source.every_frame = self.source.every_frame;
        let decision = &mut config.decision;
        decision.top_k = self.decision.top_k;
        decision.threshold = self.decision.threshold;
        decision.clip = self.decision.clip;
        decision.smoothing_seconds = self.decision.smoothing;
        decision.hysteresis = self.decision.hysteresis;
        decision.patience_seconds = self.decision.patience;
        decision.ignore.clone_from(&self.decision.ignore);
        config.output.json = self.output.json;
        config.output.changes_only = self.output.changes_only;
        config.output.mask_out.clone_from(&self.output.mask_out);
        #[cfg(feature = "serve")]
        {
            config.serve.address = self.output.serve;
        }
        #[cfg(feature = "mqtt")]
        {
            config.mqtt.broker.clone_from(&self.output.mqtt);
            config.mqtt.topic.clone_from(&self.output.mqtt_topic);
        }
        config.on_label = (self.output.on_label.chunks_exact(2))
            .map(|pair| OnLabel { label: pair[0].clone(), command: pair[1].clone() })
            .collect();
        config
    }
}

/// `edge-vit bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// The model file, or a folder of models that `edge-vit model install` keeps
    #[arg(long, value_name = "FILE")]
    pub(crate) model: PathBuf,

    /// Refuse a model that is not signed by this key (minisign; a .pub file or its base64 line); repeatable
    #[arg(long, value_name = "KEY")]
    pub(crate) require_key: Vec<String>,

    /// Run the model on so many threads (default: one for each processor core)
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Classify the pictures in this folder and the folders in it; without it one JPEG of 1280x720 that is made for this
    #[arg(long, value_name = "FOLDER")]
    pub(crate) pictures: Option<PathBuf>,

    /// How often each picture is classified
    #[arg(long, value_name = "N", default_value = "30")]
    pub(crate) rounds: NonZeroUsize,

    /// Write one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Compare with the last line of this file, which an earlier run wrote with --json: exit code 1 if a stage became slower
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,

    /// How many times the earlier median a stage may take, above 0
    #[arg(long, value_name = "FACTOR", default_value_t = 1.1, requires = "compare", value_parser = factor)]
    pub(crate) factor: f64,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor > 0.0);
    factor.ok_or_else(|| "it has to be a number above 0".to_owned())
}

/// `edge-vit model`.
#[derive(Debug, Args)]
pub(crate) struct ModelArguments {
    /// The folder of models
    #[arg(long, value_name = "FOLDER", global = true, default_value = "/var/lib/edge-vit/models")]
    pub(crate) store: PathBuf,

    /// Refuse a model that is not signed by this key (minisign; a .pub file or its base64 line); repeatable
    #[arg(long, value_name = "KEY", global = true)]
    pub(crate) require_key: Vec<String>,

    #[command(subcommand)]
    pub(crate) action: ModelAction,
}

/// What is done to a folder of models.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelAction {
    /// Verify a model, prove it on its golden cases, and switch to it; a program that runs takes it over by itself
    Install {
        /// The model file; its signature lies beside it as FILE.minisig
        file: PathBuf,
        /// Install it even if it was returned from before
        #[arg(long)]
        force: bool,
    },
    /// Name the models of the folder, the latest installed first
    List {
        /// Write one JSON object a model
        #[arg(long)]
        json: bool,
    },
    /// Return to the last good model
    Rollback,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
