//! `edge-vit bench`: how long a picture takes on this machine, where its time goes, and what of the machine it takes.

mod compare;
mod machine;
mod report;

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Cursor, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use sha2::{Digest, Sha256};

use super::arguments::BenchArguments;
use super::eye::milliseconds;
use super::model::Model;
use super::settings;
use crate::capture::sources::Files;
use crate::frame::Decoder;
use crate::golden::hex;
use crate::{Mask, ModelFile, Workspace, memory};
use compare::Earlier;
use machine::{Machine, Watch};
use report::{Identity, Memory, Pictures, Report, Stage, Stages};

/// The size of the picture that is made where none are given, in pixels: what a camera of high definition sends.
const MADE: [u32; 2] = [1280, 720];
/// Its quality as a JPEG, of 100.
const QUALITY: u8 = 85;

/// Measures, and writes what came out. Gives whether no stage is slower than in the run that it is compared with.
pub(crate) fn run(arguments: &BenchArguments) -> Result<bool> {
    let earlier = arguments.compare.as_deref().map(Earlier::read).transpose()?;
    let keys = settings::keys(&arguments.require_key)?;
    let pictures = pictures(arguments.pictures.as_deref())?;
    let start = Instant::now();
    let (model, file) = Model::open(&arguments.model, keys)?;
    let report = measure(arguments, file, &pictures, start, model.path());
    // That it was opened to be measured says nothing about a model.
    model.stopping();
    let mut report = report?;
    if let Some(earlier) = earlier {
        report.compared = Some(earlier.compare(&report, arguments.factor)?);
    }
    let text = if arguments.json { serde_json::to_string(&report)? } else { report.to_string() };
    let mut stdout = io::stdout().lock();
    stdout.write_all(format!("{}\n", text.trim_end()).as_bytes())?;
    stdout.flush()?;
    Ok(report.compared.is_none_or(|compared| compared.slower.is_empty()))
}

fn measure(
    arguments: &BenchArguments,
    file: ModelFile,
    pictures: &[(String, Vec<u8>)],
    start: Instant,
    path: &Path,
) -> Result<Report> {
    let threads = settings::threads(arguments.threads);
    let mut running = Running {
        workspace: Workspace::new(file.bundle().preprocessing.clone()),
        file: file.with_threads(threads)?,
        decoder: Decoder::new(),
        times: Vec::new(),
    };
    let opened = start.elapsed();
    let Some((name, first)) = pictures.first() else { anyhow::bail!("there is no picture") };
    running.picture(first).with_context(|| name.clone())?;
    let first_result = start.elapsed();
    running.times.clear();

    let machine = Machine::new("/".as_ref());
    let mut watch = Watch::new(&machine);
    for _ in 0..arguments.rounds.get() {
        for (name, bytes) in pictures {
            running.picture(bytes).with_context(|| name.clone())?;
            watch.look();
        }
    }
    let memory = Memory { resident_bytes: memory::resident_bytes(), peak_bytes: memory::peak_bytes() };
    let Running { file, times, .. } = running;
    let seconds: f64 = times.iter().map(|times| times.whole.as_secs_f64()).sum();
    let per_picture = seconds / times.len() as f64;
    let stages = Stages {
        decode: stage(times.iter().map(|times| times.decode)),
        prepare: stage(times.iter().map(|times| times.prepare)),
        model: stage(times.iter().map(|times| times.model)),
        mask: matches!(file, ModelFile::Segmenter(_)).then(|| stage(times.iter().map(|times| times.mask))),
        whole: stage(times.iter().map(|times| times.whole)),
    };
    let mut hasher = Sha256::new();
    pictures.iter().for_each(|(_, bytes)| hasher.update(bytes));
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: Identity { name: path.display().to_string(), sha256: digest(path)? },
        machine: machine.kind(),
        threads,
        pictures: Pictures { count: pictures.len(), sha256: hex(&hasher.finalize()) },
        rounds: arguments.rounds.get(),
        stages,
        pictures_per_second: 1.0 / per_picture,
        open_ms: milliseconds(opened),
        first_result_ms: milliseconds(first_result),
        memory,
        kernels: file.model().kernels(),
        operators: file.model().operators(),
        processor: watch.processor(),
        power: watch.power(per_picture),
        compared: None,
    })
}

/// A model with the memory that it works in, and how long it took so far.
struct Running {
    file: ModelFile,
    decoder: Decoder,
    workspace: Workspace,
    times: Vec<Times>,
}

/// Where a picture's time went.
struct Times {
    decode: Duration,
    prepare: Duration,
    model: Duration,
    /// Nothing where the model is of classification.
    mask: Duration,
    whole: Duration,
}

impl Running {
    fn picture(&mut self, bytes: &[u8]) -> Result<()> {
        let start = Instant::now();
        let frame = self.decoder.decode(bytes)?;
        let decoded = Instant::now();
        self.workspace.prepare(self.file.model(), &self.file.bundle().preprocessing, &frame)?;
        let prepared = Instant::now();
        let logits = black_box(self.workspace.run(self.file.model())?);
        let modelled = Instant::now();
        if let ModelFile::Segmenter(segmenter) = &self.file {
            black_box(Mask::from_logits(logits, segmenter.grid(), [frame.height(), frame.width()])?);
        }
        let done = Instant::now();
        self.times.push(Times {
            decode: decoded - start,
            prepare: prepared - decoded,
            model: modelled - prepared,
            mask: done - modelled,
            whole: done - start,
        });
        Ok(())
    }
}

/// Percentiles of `times`, by the nearest rank.
fn stage(times: impl Iterator<Item = Duration>) -> Stage {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    let percentile = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).copied().map_or(f64::NAN, milliseconds)
    };
    Stage { p50_ms: percentile(50), p90_ms: percentile(90), p99_ms: percentile(99) }
}

/// The names and bytes of the pictures in `folder`, or of the one that is made.
fn pictures(folder: Option<&Path>) -> Result<Vec<(String, Vec<u8>)>> {
    let Some(folder) = folder else { return Ok(vec![("the picture that was made".to_owned(), made()?)]) };
    let files = Files::folder(folder)?;
    let read = |path: &std::path::PathBuf| {
        let name = path.display().to_string();
        let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
        Ok((name, bytes))
    };
    files.paths().iter().map(read).collect()
}

/// A JPEG of surfaces, edges and noise, so that its data are about as many as those of a photo.
fn made() -> Result<Vec<u8>> {
    let [width, height] = MADE;
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let noise = x.wrapping_mul(2_654_435_761).wrapping_add(y.wrapping_mul(2_246_822_519)).rotate_left(13) % 23;
        let edge = if (x / 97 + y / 61) % 2 == 0 { 60 } else { 0 };
        Rgb([x * 140 / width + edge, y * 140 / height + edge, (x + y) * 70 / width + edge]
            .map(|value| (value + noise) as u8))
    });
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(Cursor::new(&mut bytes), QUALITY).encode_image(&picture)?;
    Ok(bytes)
}

/// SHA-256 (hex) of the file at `path`.
fn digest(path: &Path) -> Result<String> {
    let failed = || format!("cannot read {}", path.display());
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path).with_context(failed)?, &mut hasher).with_context(failed)?;
    Ok(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_ranks() {
        let Stage { p50_ms, p90_ms, p99_ms } = stage((1..=200).rev().map(Duration::from_millis));
        assert_eq!([p50_ms, p90_ms, p99_ms], [100.0, 180.0, 198.0]);
        let Stage { p50_ms, p90_ms, p99_ms } = stage([Duration::from_millis(7)].into_iter());
        assert_eq!([p50_ms, p90_ms, p99_ms], [7.0; 3]);
    }

    #[test]
    fn the_picture_that_is_made_is_one() {
        let bytes = made().unwrap();
        let frame_size = Decoder::new().decode(&bytes).map(|frame| [frame.width(), frame.height()]).unwrap();
        assert_eq!(frame_size, MADE);
        assert!((50_000..500_000).contains(&bytes.len()), "{}", bytes.len());
    }
}
