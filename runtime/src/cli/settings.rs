//! From a configuration to what the program does, everything checked before anything starts.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::config::{CameraName, Config, Decision, OnLabel, Output, Source};
use super::eye::Eye;
use super::hooks;
#[cfg(all(feature = "camera", target_os = "linux"))]
use crate::capture::sources::Camera;
use crate::capture::sources::{Files, Pipe, PipeFormat, Size, Stdin, Video};
use crate::capture::{self, Open};
use crate::decision;
use crate::signature::PublicKey;
use crate::{Classifier, Segmenter};

/// The size that a camera is asked for: every one has it, and no usual model takes more.
const SIZE: Size = Size { width: 640, height: 480 };
/// The frames a second that a camera is asked for.
const RATE: u32 = 30;
/// A limit that is not reached.
const NEVER: Duration = Duration::from_secs(1 << 32);
/// How many classes are named.
const TOP_K: usize = 3;

/// A checked configuration.
pub(crate) struct Settings {
    pub(crate) model: PathBuf,
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) decision: decision::Options,
    pub(crate) top_k: usize,
    threads: usize,
    pub(crate) output: Output,
    #[cfg(feature = "serve")]
    pub(crate) serve: Option<crate::serve::Options>,
    #[cfg(feature = "mqtt")]
    pub(crate) mqtt: Option<crate::mqtt::Options>,
    pub(crate) on_label: Vec<OnLabel>,
    /// The options that only a file of classification can follow.
    of_classification: Vec<&'static str>,
    source: Option<Place>,
    capture: capture::Options,
}

/// How many threads a model runs on: as many as were asked for, or one for each core.
pub(super) fn threads(asked_for: Option<NonZeroUsize>) -> usize {
    asked_for.or_else(|| available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

/// Where pictures come from.
enum Place {
    Source(Arc<dyn Open>),
    Files(Vec<PathBuf>),
    /// Looked through when it is needed.
    Folder(PathBuf),
}

/// A source, not opened yet, and how it is read.
pub(crate) struct Pictures {
    pub(crate) open: Arc<dyn Open>,
    pub(crate) options: capture::Options,
    /// Whether they are files: each is of something else than the one before, and one that cannot be read is a
    /// failure.
    pub(crate) files: bool,
}

impl Settings {
    /// Checks all of `config`, without a look at the files and devices that it names, but for the keys.
    pub(crate) fn new(config: Config) -> Result<Self> {
        let of_classification = config.of_classification();
        let model = config.model.context("no model: name its file with --model, or `model` in the configuration")?;
        for hook in &config.on_label {
            hooks::words(&hook.command)?;
        }
        #[cfg(not(feature = "serve"))]
        ensure!(config.serve.address.is_none(), "this program is built without the page: `[serve]` cannot be followed");
        #[cfg(not(feature = "mqtt"))]
        ensure!(config.mqtt.broker.is_none(), "this program is built without MQTT: `[mqtt]` cannot be followed");
        Ok(Self {
            model,
            of_classification,
            keys: keys(&config.require_key)?,
            top_k: config.decision.top_k.map_or(TOP_K, |top_k| top_k.get()),
            decision: options(&config.decision)?,
            threads: threads(config.threads),
            output: config.output,
            #[cfg(feature = "serve")]
            serve: serve(&config.serve),
            #[cfg(feature = "mqtt")]
            mqtt: mqtt(&config.mqtt)?,
            on_label: config.on_label,
            source: place(&config.source)?,
            capture: capture(&config.source)?,
        })
    }

    /// An eye with the model `classifier`.
    pub(crate) fn eye(&self, classifier: &Classifier) -> Result<Eye> {
        Eye::new(classifier.clone().with_threads(self.threads)?, &self.decision, self.top_k)
    }

    /// `segmenter` on its threads.
    ///
    /// # Errors
    /// When an option is set that it cannot follow.
    pub(crate) fn segmenter(&self, segmenter: Segmenter) -> Result<Segmenter> {
        let names = self.of_classification.join("`, `");
        ensure!(
            names.is_empty(),
            "this file is of segmentation and cannot follow `{names}`, which are of classification"
        );
        Ok(segmenter.with_threads(self.threads)?)
    }

    /// Whether there is a source.
    pub(crate) fn has_source(&self) -> Result<()> {
        self.source().map(drop)
    }

    fn source(&self) -> Result<&Place> {
        self.source
            .as_ref()
            .context("no source: say --camera, --csi, --pipe, --stdin, --video, --dir or --image (or --self-test)")
    }

    /// The source; a folder is looked through.
    pub(crate) fn pictures(&self) -> Result<Pictures> {
        let (open, files): (Arc<dyn Open>, _) = match self.source()? {
            Place::Source(open) => (Arc::clone(open), false),
            Place::Folder(folder) => (Arc::new(Files::folder(folder)?), true),
            Place::Files(paths) => (Arc::new(Files::list(paths.clone())), true),
        };
        Ok(Pictures { open, options: self.capture, files })
    }
}

fn place(source: &Source) -> Result<Option<Place>> {
    let name = match source.named().as_slice() {
        [] => return Ok(None),
        [name] => *name,
        several => bail!("`{}` exclude each other: keep one of them", several.join("` and `")),
    };
    let belongs = |set: bool, option: &str, to: &[&str]| {
        ensure!(!set || to.contains(&name), "`{option}` belongs to `{}`, and the source is `{name}`", to.join("`, `"));
        Ok(())
    };
    belongs(source.format.is_some(), "format", &["pipe", "stdin"])?;
    belongs(source.size.is_some(), "size", &["camera", "csi"])?;
    belongs(source.rate.is_some(), "rate", &["camera", "csi", "video"])?;
    belongs(source.every_frame, "every_frame", &["pipe", "stdin"])?;
    belongs(source.stall_seconds.is_some(), "stall_seconds", &["camera", "csi", "pipe", "stdin"])?;
    let format = source.format.as_deref().map_or(Ok(PipeFormat::Mjpeg), str::parse).context("`format`")?;
    let size = source.size.as_deref().map_or(Ok(SIZE), str::parse).context("`size`")?;
    let rate = source.rate.unwrap_or(RATE);
    ensure!((1..=1000).contains(&rate), "`rate` has to be 1 to 1000 frames a second, is {rate}");
    let open: Arc<dyn Open> = match source {
        Source { dir: Some(folder), .. } => return Ok(Some(Place::Folder(folder.clone()))),
        Source { image, .. } if !image.is_empty() => return Ok(Some(Place::Files(image.clone()))),
        Source { camera: Some(camera), .. } => self::camera(camera, size, rate)?,
        Source { csi: Some(csi), .. } => Arc::new(csi.pipe(size, rate)),
        Source { pipe: Some(command), .. } => Arc::new(Pipe::new(command, format)?),
        Source { video: Some(film), .. } => Arc::new(Video::new(film, source.rate.map(f64::from))?),
        _ => Arc::new(Stdin::new(format)),
    };
    Ok(Some(Place::Source(open)))
}

#[cfg(all(feature = "camera", target_os = "linux"))]
fn camera(camera: &CameraName, size: Size, rate: u32) -> Result<Arc<dyn Open>> {
    let camera = match camera {
        CameraName::Number(number) => number.to_string(),
        CameraName::Path(path) => path.clone(),
    };
    Ok(Arc::new(Camera::new(camera.parse()?, size, rate)))
}

#[cfg(not(all(feature = "camera", target_os = "linux")))]
fn camera(_: &CameraName, _: Size, _: u32) -> Result<Arc<dyn Open>> {
    bail!("this program is built without V4L2 cameras")
}

fn capture(source: &Source) -> Result<capture::Options> {
    let whole = source.video.is_some() || source.dir.is_some() || !source.image.is_empty();
    let mut options = capture::Options { every_frame: source.every_frame || whole, ..Default::default() };
    // Whoever writes to stdin may have nothing to say for long, and cannot be opened again.
    if source.stdin {
        (options.stall_limit, options.opening_limit) = (NEVER, NEVER);
    }
    if let Some(seconds) = source.stall_seconds {
        options.stall_limit = duration("stall_seconds", seconds)?;
    }
    Ok(options)
}

/// The keys, each a .pub file or its base64 line.
pub(crate) fn keys(keys: &[String]) -> Result<Vec<PublicKey>> {
    keys.iter().map(|key| PublicKey::from_text_or_file(key).with_context(|| format!("the key `{key}`"))).collect()
}

fn options(decision: &Decision) -> Result<decision::Options> {
    let mut options = decision::Options { threshold: decision.threshold, ..Default::default() };
    options.clip = decision.clip.unwrap_or(options.clip);
    if let Some(seconds) = decision.smoothing_seconds {
        options.smoothing = Some(duration("smoothing_seconds", seconds)?);
    }
    if let Some(hysteresis) = decision.hysteresis {
        options.hysteresis = hysteresis;
    }
    if let Some(seconds) = decision.patience_seconds {
        options.patience = duration("patience_seconds", seconds)?;
    }
    options.ignore.clone_from(&decision.ignore);
    options.check()?;
    Ok(options)
}

#[cfg(feature = "serve")]
fn serve(serve: &super::config::Serve) -> Option<crate::serve::Options> {
    let address = serve.address?;
    let token = serve.token.clone().or_else(|| std::env::var("EDGE_VIT_TOKEN").ok()).filter(|token| !token.is_empty());
    Some(crate::serve::Options { address, token, ..Default::default() })
}

#[cfg(feature = "mqtt")]
fn mqtt(mqtt: &super::config::Mqtt) -> Result<Option<crate::mqtt::Options>> {
    let Some(broker) = mqtt.broker.clone() else { return Ok(None) };
    let password = mqtt.password.clone().or_else(|| std::env::var("EDGE_VIT_MQTT_PASSWORD").ok());
    let credentials = match (&mqtt.username, password) {
        (Some(user), password) => Some((user.clone(), password.unwrap_or_default())),
        (None, Some(_)) => bail!("an MQTT password without a user name: say `username` in `[mqtt]`"),
        (None, None) => None,
    };
    let topic = mqtt.topic.clone().unwrap_or_else(|| "edge-vit".to_owned());
    // Two programs of one topic on one machine would be two publishers of one state: they may throw each other out.
    let client_id =
        mqtt.client_id.clone().unwrap_or_else(|| format!("edge-vit-{}-{}", host(), topic.replace('/', "-")));
    Ok(Some(crate::mqtt::Options { broker, topic, client_id, credentials }))
}

/// The machine's name, as far as it says one.
#[cfg(feature = "mqtt")]
fn host() -> String {
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "board".to_owned() } else { name.to_owned() }
}

fn duration(name: &str, seconds: f64) -> Result<Duration> {
    let duration = Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero());
    duration.with_context(|| format!("`{name}` has to be above 0, is {seconds}"))
}
