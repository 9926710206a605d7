//! What a run's folder says: its log, line by line, and its configuration.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use edge_vit_models::{adapter, checkpoint};
use serde::Serialize;
use serde_json::Value;

use super::ReportError;
use crate::evaluate::Skipped;
use crate::train::Probe;
use crate::train::record::Record;

/// Name of the log in a run's folder.
const LOG: &str = "log.jsonl";
/// Name of the configuration in a run's folder.
const CONFIG: &str = "config.json";
/// Name of the adapters that were kept in a run's folder.
const ADAPTERS: &str = "adapters.safetensors";

/// One optimiser step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Mean cross-entropy of the batch.
    pub loss: f32,
    /// Learning rate.
    pub lr: f32,
}

/// One epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Epoch {
    /// Mean of the step losses.
    pub train_loss: f32,
    /// Mean cross-entropy on the validation pictures.
    pub val_loss: f32,
    /// Share of validation pictures that are right.
    pub val_top1: f32,
    /// In segmentation, where [`val_top1`](Self::val_top1) is of pixels, the mean intersection over union.
    pub val_miou: Option<f32>,
    /// Whether its adapters were kept, and those of the epoch before it given up.
    pub kept: bool,
    /// Seconds it took.
    pub seconds: f64,
}

/// The facts a run states when it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Version of the tools.
    pub version: String,
    /// The device in words.
    pub device: String,
    /// Number of pictures trained on.
    pub train: usize,
    /// Number of pictures that chose the epoch.
    pub val: usize,
    /// Trained parameters.
    pub trained_parameters: usize,
    /// Seconds since 1970.
    pub unix_time: u64,
}

/// The adapters that a run kept, without their weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapters {
    /// What their file says about itself.
    pub meta: adapter::Meta,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
}

/// A run's folder, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The folder.
    pub folder: PathBuf,
    /// What the run stated when it was last started, if its log has that line.
    pub start: Option<Start>,
    /// How often it was started: more than once where it was resumed.
    pub starts: usize,
    /// The steps by number. A step that was taken again after a resume counts as it was taken last.
    pub steps: BTreeMap<u64, Step>,
    /// The epochs by number; of an epoch gone through again, the last.
    pub epochs: BTreeMap<u32, Epoch>,
    /// The linear probe on the frozen backbone, where the run made one.
    pub probe: Option<Probe>,
    /// Pictures that training left out.
    pub skipped: Vec<Skipped>,
    /// Numbers, from 1, of the log's lines that cannot be read: the last of a killed run, or one of a diverged loss.
    pub unreadable: Vec<usize>,
    /// The configuration, if there is one.
    pub config: Option<Value>,
    /// The adapters that were kept, if the run came so far.
    pub adapters: Option<Adapters>,
}

impl Run {
    /// Reads `log.jsonl`, `config.json` and what `adapters.safetensors` says of itself in a folder that `train` wrote.
    ///
    /// # Errors
    /// When there is no log, it has no line that can be read, the configuration is no JSON, or the adapters are damaged.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let log = folder.join(LOG);
        let bytes = fs::read(&log).map_err(|source| match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => ReportError::NoLog { path: folder.to_owned() },
            _ => ReportError::Read { path: log.clone(), source },
        })?;
        let mut run = Self {
            folder: folder.to_owned(),
            start: None,
            starts: 0,
            steps: BTreeMap::new(),
            epochs: BTreeMap::new(),
            probe: None,
            skipped: Vec::new(),
            unreadable: Vec::new(),
            config: read_config(&folder.join(CONFIG))?,
            adapters: read_adapters(&folder.join(ADAPTERS))?,
        };
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(line) {
                Ok(record) => run.take(record),
                Err(_) => run.unreadable.push(number),
            }
        }
        if run.starts == 0 && run.steps.is_empty() && run.epochs.is_empty() {
            return Err(ReportError::EmptyLog { path: log });
        }
        Ok(run)
    }

    /// The epoch whose adapters were kept, with its number.
    pub fn kept(&self) -> Option<(u32, &Epoch)> {
        self.epochs.iter().rev().find(|(_, epoch)| epoch.kept).map(|(&number, epoch)| (number, epoch))
    }

    /// Where the kept adapters are.
    pub fn adapters_path(&self) -> PathBuf {
        self.folder.join(ADAPTERS)
    }

    /// The folder of pictures that the run was trained with, as its adapters name it.
    pub fn data(&self) -> Option<PathBuf> {
        self.adapters.as_ref()?.meta.training.get("data")?.as_str().map(PathBuf::from)
    }

    /// The backbone's file, as the configuration names it, or why it is not there.
    pub(super) fn backbone(&self) -> Result<&Path, String> {
        let path = self.config.as_ref().and_then(|config| config.get("backbone")).and_then(Value::as_str);
        let path = path.map(Path::new).ok_or("config.json names no backbone")?;
        match path.is_file() {
            true => Ok(path),
            false => Err(format!("the backbone is not at {} any more", path.display())),
        }
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Run { version, device, train, val, trained_parameters, unix_time, .. } => {
                self.starts += 1;
                self.start = Some(Start { version, device, train, val, trained_parameters, unix_time });
            }
            Record::Probe(probe) => self.probe = Some(probe),
            Record::Skipped { path, reason } => {
                let skipped = Skipped { path, reason };
                if !self.skipped.contains(&skipped) {
                    self.skipped.push(skipped);
                }
            }
            Record::Step { step, loss, lr, .. } => {
                self.steps.insert(step, Step { loss, lr });
            }
            Record::Epoch { epoch, train_loss, val_loss, val_top1, val_miou, kept, seconds } => {
                self.epochs.insert(epoch, Epoch { train_loss, val_loss, val_top1, val_miou, kept, seconds });
            }
        }
    }
}

fn read_config(path: &Path) -> Result<Option<Value>, ReportError> {
    match fs::read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(config) => Ok(Some(config)),
            Err(source) => Err(ReportError::Config { path: path.to_owned(), source }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReportError::Read { path: path.to_owned(), source }),
    }
}

fn read_adapters(path: &Path) -> Result<Option<Adapters>, ReportError> {
    if !path.exists() {
        return Ok(None);
    }
    let failed = |source| ReportError::Adapters { path: path.to_owned(), source };
    let sha256 = checkpoint::read(path).map_err(|error| failed(error.into()))?.sha256;
    let meta = adapter::File::read(path).map_err(failed)?.meta;
    Ok(Some(Adapters { meta, sha256 }))
}

/// Any value as JSON, through its text: a float32 keeps the digits that it is written with.
pub fn as_json(value: &impl Serialize) -> Value {
    serde_json::to_string(value).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// A JSON value as rows of a path and a text: `{"a": {"b": [1, 2]}}` gives `a.b` and `1, 2`.
pub fn flatten(value: &Value) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    flatten_into("", value, &mut rows);
    rows
}

fn flatten_into(path: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, inner) in object {
                flatten_into(&below(key), inner, rows);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, inner) in items.iter().enumerate() {
                flatten_into(&below(&index.to_string()), inner, rows);
            }
        }
        Value::Array(items) => {
            rows.push((path.to_owned(), items.iter().map(scalar).collect::<Vec<_>>().join(", ")));
        }
        Value::Object(_) => rows.push((path.to_owned(), "none".to_owned())),
        _ => rows.push((path.to_owned(), scalar(value))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            // A float32 that went through a float64 drags digits along that it never had.
            Some(value) if number.is_f64() && f64::from(value as f32) == value => (value as f32).to_string(),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use edge_vit_models::{Task, Tensor};

    use super::*;

    fn run_of(log: &str, config: Option<&str>) -> Result<Run, ReportError> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOG), log).unwrap();
        if let Some(config) = config {
            fs::write(dir.path().join(CONFIG), config).unwrap();
        }
        Run::read(dir.path())
    }

    #[test]
    fn a_resumed_run_counts_each_step_once_and_a_cut_line_is_named() {
        let start = r#"{"kind":"run","version":"1","device":"cpu","train":8,"val":2,"classes":2,"trained_parameters":5,"unix_time":0}"#;
        let step =
            |step: u64, loss: f32| serde_json::to_string(&Record::Step { epoch: 1, step, loss, lr: 0.1 }).unwrap();
        let skipped = r#"{"kind":"skipped","path":"a.png","reason":"cut short"}"#;
        let probe = r#"{"kind":"probe","val_top1":0.25,"val_loss":1.5,"seconds":2.0}"#;
        let epoch = r#"{"kind":"epoch","epoch":1,"train_loss":1,"val_loss":1,"val_top1":0.5,"kept":true,"seconds":1}"#;
        let log = [
            start,
            skipped,
            probe,
            &step(1, 3.0),
            &step(2, 9.0),
            start,
            skipped,
            &step(2, 2.0),
            epoch,
            "{\"kind\":\"st",
        ];
        let run = run_of(&log.join("\n"), None).unwrap();
        assert_eq!(run.steps.values().map(|step| step.loss).collect::<Vec<_>>(), [3.0, 2.0]);
        assert_eq!((run.starts, run.skipped.len(), run.unreadable.as_slice()), (2, 1, [10].as_slice()));
        assert_eq!(run.probe.map(|probe| probe.val_top1), Some(0.25));
        assert_eq!(run.kept().map(|(number, _)| number), Some(1));
        assert_eq!((run.data(), run.adapters), (None, None));
    }

    #[test]
    fn the_adapters_name_the_pictures_and_damaged_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOG), r#"{"kind":"step","epoch":1,"step":1,"loss":1,"lr":1}"#).unwrap();
        let path = dir.path().join(ADAPTERS);
        let meta = adapter::Meta {
            format_version: adapter::Meta::version(Task::Classification),
            task: Task::Classification,
            method: adapter::METHOD.to_owned(),
            spec: adapter::Adaptation::Adapters(adapter::Spec::default()),
            backbone_name: "b".into(),
            backbone_sha256: "00".into(),
            image_size: [28, 28],
            labels: vec!["orange".into(), "vase".into()],
            preprocessing: Value::Null,
            training: serde_json::json!({ "data": "pictures" }),
        };
        let tensor = |shape: &[usize]| Tensor::full(shape, 0.0).unwrap();
        let tensors = [("head.bias".to_owned(), tensor(&[2])), ("head.weight".to_owned(), tensor(&[2, 4]))];
        adapter::File { meta, tensors: tensors.into() }.write(&path).unwrap();
        let run = Run::read(dir.path()).unwrap();
        assert_eq!(run.data(), Some(PathBuf::from("pictures")));
        assert_eq!(run.adapters.map(|adapters| adapters.sha256.len()), Some(64));

        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(Run::read(dir.path()), Err(ReportError::Adapters { .. })));
    }

    #[test]
    fn a_folder_that_is_no_run_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        let error = Run::read(dir.path()).unwrap_err();
        assert!(matches!(error, ReportError::NoLog { .. }) && error.to_string().contains("log.jsonl"), "{error}");
        assert!(matches!(Run::read(&dir.path().join("gone")), Err(ReportError::NoLog { .. })));
        assert!(matches!(run_of("", None), Err(ReportError::EmptyLog { .. })));
        assert!(matches!(run_of("\u{0}\u{1}\n{}\n", None), Err(ReportError::EmptyLog { .. })));
        let start = r#"{"kind":"step","epoch":1,"step":1,"loss":1,"lr":1}"#;
        assert!(matches!(run_of(start, Some("{")), Err(ReportError::Config { .. })));
    }

    #[test]
    fn json_is_flattened_to_rows() {
        let value: Value = serde_json::from_str(r#"{"a":{"b":[1,2],"c":null},"d":[{"e":true}],"f":{}}"#).unwrap();
        assert_eq!(flatten(&as_json(&[0.485f32])), [(String::new(), "0.485".to_owned())]);
        assert_eq!(scalar(&Value::from(f64::from(0.002f32))), "0.002");
        assert_eq!(scalar(&Value::from(0.002f64)), "0.002");
        let rows = flatten(&value);
        let rows: Vec<(&str, &str)> = rows.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(rows, [("a.b", "1, 2"), ("a.c", "none"), ("d.0.e", "yes"), ("f", "none")]);
    }
}
