//! The report of a training run: one HTML page that needs nothing beside itself.
//!
//! [`Report::gather`] reads the run's folder, measures the merged model and the plain backbone through the device's
//! own code, and [`Report::to_html`] writes the page.

pub mod attention;
pub mod believed;
mod card;
pub mod classes;
pub mod confusion;
pub mod curves;
pub mod html;
pub mod latency;
pub mod looks;
pub mod masks;
pub mod measured;
pub mod merging;
mod page;
mod picture;
pub mod run;
pub mod svg;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use edge_vit::{Bundle, Model, ModelFile};
use edge_vit_models::adapter::AdapterError;
use edge_vit_models::file::write_atomic;
use thiserror::Error;

use crate::data::Part;
use crate::evaluate::{EvaluateError, Samples};
use crate::segmentation::{MaskedListing, SegmentationError};
use classes::Classes;
use latency::Latency;
use masks::Masks;
use measured::{Figures, Measured};
use merging::Curve;
use run::Run;

/// Why a report could not be written.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The folder has no log.
    #[error("{} holds no log.jsonl: name a folder that `train --out` has written", path.display())]
    NoLog {
        /// The folder.
        path: PathBuf,
    },
    /// The log has no line that can be read.
    #[error("no line of {} can be read as a training log: the run was stopped before its first step", path.display())]
    EmptyLog {
        /// The log.
        path: PathBuf,
    },
    /// A file of the run, or a model, cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration is no JSON.
    #[error("{} is no JSON: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The run's adapters are damaged.
    #[error("cannot read {}: {source}", path.display())]
    Adapters {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: AdapterError,
    },
    /// A model cannot be opened or cannot take the picture.
    #[error("cannot use the model {}: {source}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What the runtime said.
        source: edge_vit::Error,
    },
    /// The plain backbone and the merged model cannot be timed against each other.
    #[error(
        "cannot time {} against {}: {source}; export the plain backbone at the picture size that the adapters were \
         trained at",
        plain.display(),
        merged.display()
    )]
    Latency {
        /// The plain backbone.
        plain: PathBuf,
        /// The merged model.
        merged: PathBuf,
        /// What the runtime said.
        source: edge_vit::Error,
    },
    /// The pictures cannot be measured.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The pictures with masks cannot be measured.
    #[error(transparent)]
    Segmentation(#[from] SegmentationError),
    /// The page or the card cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The folder that `train --out` wrote.
    pub run: &'a Path,
    /// The merged model.
    pub model: &'a Path,
    /// The plain backbone as ONNX.
    pub plain: &'a Path,
    /// The pictures to measure on; without them, those that the run's adapters name.
    pub data: Option<&'a Path>,
    /// Whether to measure what merging tokens would cost, which folds and measures the training some six times.
    pub token_curve: bool,
}

/// Everything that the page shows.
#[derive(Debug, Clone)]
pub struct Report {
    /// The run's log and configuration.
    pub run: Run,
    /// Name of the merged model's file.
    pub model_name: String,
    /// Its size in bytes.
    pub model_bytes: u64,
    /// What it carries for the device.
    pub bundle: Bundle,
    /// The figures, or none where the run names no pictures and none were given.
    pub measured: Option<Measured>,
    /// Plain backbone against merged model.
    pub latency: Latency,
    /// What merging tokens would cost, or why that cannot be told, where it was asked for.
    pub token_curve: Option<Result<Curve, String>>,
}

impl Report {
    /// Reads the run and measures its model. `progress` hears how many of how many pictures are done, from any thread.
    ///
    /// # Errors
    /// When the folder is no run's, a model cannot be opened or run, or the pictures given cannot be measured.
    pub fn gather(sources: Sources<'_>, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Self, ReportError> {
        let run = Run::read(sources.run)?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| ReportError::Model { path, source }
        };
        let file = ModelFile::open(sources.model).map_err(failed(sources.model))?;
        let plain = Model::open(sources.plain).map_err(failed(sources.plain))?;
        let merged = Model::open(sources.model).map_err(failed(sources.model))?;
        let model_bytes = match fs::metadata(sources.model) {
            Ok(metadata) => metadata.len(),
            Err(source) => return Err(ReportError::Read { path: sources.model.to_owned(), source }),
        };

        let named = run.data().filter(|path| path.exists());
        let data = sources.data.map(Path::to_owned).or(named.clone());
        let bundle = file.bundle().clone();
        let (figures, paths) = match (&file, &data) {
            (_, None) => (None, Vec::new()),
            (ModelFile::Classifier(classifier), Some(data)) => {
                let samples = Samples::find(data, &bundle.labels)?.filmstrips(bundle.preprocessing.frames)?;
                let classes = Classes::measure(&run, classifier, &samples, progress)?;
                let paths = samples.pictures.into_iter().map(|sample| sample.path).collect();
                (Some((Figures::Classes(Box::new(classes)), samples.folder)), paths)
            }
            (ModelFile::Segmenter(segmenter), Some(data)) => {
                let (part, set) = MaskedListing::read(data)?.to_measure(&bundle.labels)?;
                let masks = Masks::measure(segmenter, part, &set, progress)?;
                let paths = set.pictures.into_iter().map(|picture| picture.path).collect();
                (Some((Figures::Masks(masks), set.path)), paths)
            }
        };
        let measured = figures.map(|(figures, folder): (Figures, PathBuf)| {
            let whole = figures.part() == Part::Whole;
            Measured { trained_on: whole && named.is_some_and(|named| same(&named, &folder)), figures }
        });

        let preprocessing = &bundle.preprocessing;
        let picture = picture::any_picture(paths.iter().map(PathBuf::as_path), preprocessing);
        let pixels = preprocessing.apply(&picture);
        let latency = Latency::measure(&plain, &merged, &pixels).map_err(|source| ReportError::Latency {
            plain: sources.plain.to_owned(),
            merged: sources.model.to_owned(),
            source,
        })?;
        let token_curve = sources.token_curve.then(|| Curve::measure(&run, sources.data, &pixels));
        Ok(Self {
            run,
            model_name: sources.model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            model_bytes,
            bundle,
            measured,
            latency,
            token_curve,
        })
    }

    /// The page.
    pub fn to_html(&self) -> String {
        page::page(self)
    }

    /// The model card, as Markdown.
    pub fn to_card(&self) -> String {
        card::card(self)
    }

    /// Writes the page to `path`: wholly or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        write(path, &self.to_html())
    }

    /// Writes the model card to `path`: wholly or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_card(&self, path: &Path) -> Result<(), ReportError> {
        write(path, &self.to_card())
    }
}

fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    let failed = |source| ReportError::Write { path: path.to_owned(), source };
    write_atomic(path, text.as_bytes()).map_err(failed)
}

fn same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::html::tests::assert_well_formed;
    use super::*;
    use crate::evaluate::fixture::{colour_model, paint};

    const HOSTILE: &str = "<img src=x onerror='1'>&\"";
    const LOG: &str = concat!(
        r#"{"kind":"run","version":"1","device":"<b>cpu</b>","train":8,"val":2,"classes":3,"trained_parameters":1234,"unix_time":0}"#,
        "\n",
        r#"{"kind":"skipped","path":"<s>.png","reason":"cut & short"}"#,
        "\n",
        r#"{"kind":"step","epoch":1,"step":1,"loss":2.0,"lr":0.001}"#,
        "\n",
        r#"{"kind":"epoch","epoch":1,"train_loss":2.0,"val_loss":1.5,"val_top1":0.75,"kept":true,"seconds":61.0}"#,
        "\n",
        r#"{"kind":"step","epoch":2,"step":2,"lo"#,
    );

    /// A run, a merged model and a plain one in a folder.
    fn prepared() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::write(dir.path().join("run/log.jsonl"), LOG).unwrap();
        fs::write(dir.path().join("run/config.json"), r#"{"note":"</table><script>"}"#).unwrap();
        fs::write(dir.path().join("merged.onnx"), colour_model(4, Some([HOSTILE, "green", "blue"]))).unwrap();
        fs::write(dir.path().join("plain.onnx"), colour_model(4, None)).unwrap();
        dir
    }

    fn gather(dir: &Path, data: Option<&Path>) -> Result<Report, ReportError> {
        let (run, model, plain) = (dir.join("run"), dir.join("merged.onnx"), dir.join("plain.onnx"));
        Report::gather(Sources { run: &run, model: &model, plain: &plain, data, token_curve: true }, &|_, _| ())
    }

    #[test]
    fn the_page_holds_the_figures_and_no_string_breaks_out() {
        let dir = prepared();
        let data = dir.path().join("data");
        paint(&data.join("test").join(HOSTILE).join("1.png"), [220, 10, 10]);
        paint(&data.join("test").join(HOSTILE).join("2'\"<.png"), [10, 220, 10]);
        let report = gather(dir.path(), Some(&data)).unwrap();
        let page = report.to_html();
        assert_well_formed(&page);
        for hostile in ["<img src=x", "<script", "<b>cpu", "<s>"] {
            assert!(!page.contains(hostile), "{hostile}");
        }
        for outside in ["http:", "https:", "src=\"/", "href="] {
            assert!(!page.contains(outside), "{outside}");
        }
        for figure in
            ["50.0 %", "1 of 2; 95 % interval 9.5 % to 90.5 %", "1,234", "2.5e-7", "test part", "epoch 1 of 1"]
        {
            assert!(page.contains(figure), "{figure}");
        }
        assert_eq!(page.matches("data:image/jpeg;base64,").count(), 1);

        let card = report.to_card();
        assert!(!card.contains("<img") && card.contains("&lt;img src=x"), "{card}");
        for figure in ["**50.0 %** right (1 of 2", "test pictures, which neither", "1234 trained parameters", "2.5e-7"]
        {
            assert!(card.contains(figure), "{figure}: {card}");
        }

        let out = dir.path().join("report.html");
        report.write(&out).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), page);
        let error = report.write(&dir.path().join("gone/report.html")).unwrap_err();
        assert!(matches!(error, ReportError::Write { .. }), "{error}");
    }

    #[test]
    fn without_pictures_the_page_says_so() {
        let page = gather(prepared().path(), None).unwrap().to_html();
        assert_well_formed(&page);
        assert!(page.contains("not measured") && !page.contains("Confusion matrix"));
        assert!(page.contains("No curve: config.json names no backbone."));
    }

    #[test]
    fn what_is_missing_or_does_not_fit_is_named() {
        let dir = prepared();
        let data = dir.path().join("data");
        assert!(matches!(gather(dir.path(), Some(&data)), Err(ReportError::Evaluate(EvaluateError::Data(_)))));
        fs::write(dir.path().join("plain.onnx"), colour_model(8, None)).unwrap();
        assert!(matches!(gather(dir.path(), None), Err(ReportError::Latency { .. })));
        fs::write(dir.path().join("merged.onnx"), colour_model(4, None)).unwrap();
        let error = gather(dir.path(), None).unwrap_err();
        assert!(matches!(&error, ReportError::Model { path, .. } if path.ends_with("merged.onnx")), "{error}");
        fs::remove_file(dir.path().join("run/log.jsonl")).unwrap();
        assert!(matches!(gather(dir.path(), None), Err(ReportError::NoLog { .. })));
    }
}
