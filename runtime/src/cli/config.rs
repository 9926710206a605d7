//! The configuration file: every option by name, each optional, none unknown.
//!
//! Options of the command line take the same form and go before those of the file.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::capture::sources::Csi;

/// The longest configuration that is read, in bytes.
const MAX_LEN: usize = 1 << 20;

/// All of it, as it lies in the file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// A model file, or a folder of models.
    pub(crate) model: Option<PathBuf>,
    /// Public keys of which one has to have signed the model.
    pub(crate) require_key: Vec<String>,
    /// Threads that the model runs on.
    pub(crate) threads: Option<NonZeroUsize>,
    pub(crate) source: Source,
    pub(crate) decision: Decision,
    pub(crate) output: Output,
    pub(crate) serve: Serve,
    pub(crate) mqtt: Mqtt,
    pub(crate) on_label: Vec<OnLabel>,
}

/// `[source]`: where pictures come from, one of the first seven.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Source {
    pub(crate) camera: Option<CameraName>,
    pub(crate) csi: Option<Csi>,
    pub(crate) pipe: Option<String>,
    pub(crate) stdin: bool,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) image: Vec<PathBuf>,
    pub(crate) video: Option<PathBuf>,
    pub(crate) format: Option<String>,
    pub(crate) size: Option<String>,
    pub(crate) rate: Option<u32>,
    pub(crate) every_frame: bool,
    /// Seconds without a frame after which the source is opened anew.
    pub(crate) stall_seconds: Option<f64>,
}

/// A camera by number or by path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum CameraName {
    Number(u32),
    Path(String),
}

/// `[decision]`: what is made of the scores.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Decision {
    pub(crate) top_k: Option<NonZeroUsize>,
    pub(crate) threshold: Option<f32>,
    pub(crate) clip: Option<NonZeroUsize>,
    pub(crate) smoothing_seconds: Option<f64>,
    pub(crate) hysteresis: Option<f32>,
    pub(crate) patience_seconds: Option<f64>,
    pub(crate) ignore: Vec<String>,
}

/// `[output]`: what is written to stdout.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) changes_only: bool,
    /// The folder that masks are written to.
    pub(crate) mask_out: Option<PathBuf>,
}

/// `[serve]`: the page and the HTTP interface.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Serve {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) token: Option<String>,
}

/// `[mqtt]`: the broker.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mqtt {
    pub(crate) broker: Option<String>,
    pub(crate) topic: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

/// `[[on_label]]`: a command that is run when the label becomes another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnLabel {
    pub(crate) label: String,
    pub(crate) command: String,
}

impl Config {
    /// Reads the file at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// The configuration that `text` says. Errors name the line.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        anyhow::ensure!(text.len() <= MAX_LEN, "a configuration of more than {MAX_LEN} bytes is not read");
        Ok(toml::from_str(text)?)
    }

    /// `self` where it says something, `below` elsewhere. A source named in `self` replaces the one named below, and
    /// lists replace lists.
    pub(crate) fn over(self, below: Self) -> Self {
        let list = |above: Vec<String>, below: Vec<String>| if above.is_empty() { below } else { above };
        Self {
            model: self.model.or(below.model),
            require_key: list(self.require_key, below.require_key),
            threads: self.threads.or(below.threads),
            source: self.source.over(below.source),
            decision: Decision {
                top_k: self.decision.top_k.or(below.decision.top_k),
                threshold: self.decision.threshold.or(below.decision.threshold),
                clip: self.decision.clip.or(below.decision.clip),
                smoothing_seconds: self.decision.smoothing_seconds.or(below.decision.smoothing_seconds),
                hysteresis: self.decision.hysteresis.or(below.decision.hysteresis),
                patience_seconds: self.decision.patience_seconds.or(below.decision.patience_seconds),
                ignore: list(self.decision.ignore, below.decision.ignore),
            },
            output: Output {
                json: self.output.json || below.output.json,
                changes_only: self.output.changes_only || below.output.changes_only,
                mask_out: self.output.mask_out.or(below.output.mask_out),
            },
            serve: Serve {
                address: self.serve.address.or(below.serve.address),
                token: self.serve.token.or(below.serve.token),
            },
            mqtt: Mqtt {
                broker: self.mqtt.broker.or(below.mqtt.broker),
                topic: self.mqtt.topic.or(below.mqtt.topic),
                client_id: self.mqtt.client_id.or(below.mqtt.client_id),
                username: self.mqtt.username.or(below.mqtt.username),
                password: self.mqtt.password.or(below.mqtt.password),
            },
            on_label: if self.on_label.is_empty() { below.on_label } else { self.on_label },
        }
    }
}

impl Config {
    /// The names of the options that are set and that only a file of classification can follow.
    pub(crate) fn of_classification(&self) -> Vec<&'static str> {
        let Self { decision, output, mqtt, on_label, .. } = self;
        [
            (decision.top_k.is_some(), "top_k"),
            (decision.threshold.is_some(), "threshold"),
            (decision.smoothing_seconds.is_some(), "smoothing_seconds"),
            (decision.hysteresis.is_some(), "hysteresis"),
            (decision.patience_seconds.is_some(), "patience_seconds"),
            (!decision.ignore.is_empty(), "ignore"),
            (output.changes_only, "changes_only"),
            (mqtt.broker.is_some(), "[mqtt]"),
            (!on_label.is_empty(), "[[on_label]]"),
        ]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect()
    }
}

impl Source {
    /// The names of the sources that are set.
    pub(crate) fn named(&self) -> Vec<&'static str> {
        [
            (self.camera.is_some(), "camera"),
            (self.csi.is_some(), "csi"),
            (self.pipe.is_some(), "pipe"),
            (self.stdin, "stdin"),
            (self.dir.is_some(), "dir"),
            (!self.image.is_empty(), "image"),
            (self.video.is_some(), "video"),
        ]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect()
    }

    fn over(self, below: Self) -> Self {
        let place = if self.named().is_empty() { below.clone() } else { self.clone() };
        Self {
            format: self.format.or(below.format),
            size: self.size.or(below.size),
            rate: self.rate.or(below.rate),
            every_frame: self.every_frame || below.every_frame,
            stall_seconds: self.stall_seconds.or(below.stall_seconds),
            ..place
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_of_the_command_line_goes_before_the_files() {
        let file = Config::parse(
            r#"
            model = "a.onnx"
            [source]
            camera = 2
            rate = 15
            [decision]
            threshold = 0.5
            ignore = ["a", "b"]
            [[on_label]]
            label = "orange"
            command = "beep"
            "#,
        )
        .unwrap();
        assert_eq!(file.source.camera, Some(CameraName::Number(2)));
        let mut above = Config::default();
        above.source.pipe = Some("rpicam-vid".to_owned());
        above.decision.threshold = Some(0.75);
        let both = above.over(file.clone());
        assert_eq!(both.source.named(), ["pipe"]);
        assert_eq!((both.source.rate, both.decision.threshold), (Some(15), Some(0.75)));
        assert_eq!((both.decision.ignore.len(), both.on_label.len()), (2, 1));
        assert_eq!(Config::default().over(file.clone()), file);
    }

    #[test]
    fn an_unknown_name_is_refused_with_its_line() {
        let error = format!("{:#}", Config::parse("model = 'a'\n[source]\ncamra = 0\n").unwrap_err());
        assert!(error.contains("line 3") && error.contains("camra") && error.contains("camera"), "{error}");
        let error = format!("{:#}", Config::parse("[serve]\naddress = 'here'\n").unwrap_err());
        assert!(error.contains("line 2"), "{error}");
        assert!(Config::parse(&" ".repeat(MAX_LEN + 1)).is_err());
    }
}
