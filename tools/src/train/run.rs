//! The loop over epochs and steps.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use edge_vit_models::file::write_atomic;
use edge_vit_models::{Task, adapter};
use serde_json::{Value, json};

use super::choice::{Choice, Validated};
use super::device::Device;
use super::loader::{Batch, Draw, Loader};
use super::masks::Fit;
use super::options::differences;
use super::prepare::{Prepared, prepare};
use super::probe::Probe;
use super::random::{Purpose, stream};
use super::record::Record;
use super::run_log::RunLog;
use super::schedule::{Schedule, drop_path_rates, noise_seed};
use super::state::{Progress, Saved};
use super::{Options, Recipe, TrainError};
use crate::engine::{Average, Engine, Hyper, Noise, Step, targets};
use crate::evaluate::calibration::{self, FEW, Judged};

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The epoch whose adapters were kept; none where the run was stopped within the first.
    pub kept: Option<Validated>,
    /// Epochs trained and validated, over all resumptions.
    pub epochs: u32,
    /// Steps taken, over all resumptions.
    pub steps: u64,
    /// Whether the run was stopped before its last epoch's end.
    pub interrupted: bool,
    /// Pictures that could not be read.
    pub skipped: usize,
    /// The device in words.
    pub device: String,
    /// The most bytes of activations, gradients and scratch that were held at a time.
    pub peak_bytes: u64,
    /// The kept epoch's adapters.
    pub adapters: PathBuf,
}

/// Trains, and hands every line of the log to `records` as it is written.
///
/// The run's folder holds `adapters.safetensors` (of the last epoch that the validation pictures cannot tell from the best), `last.safetensors` (the
/// state to resume from), `log.jsonl`, `log.csv` and `config.json`.
///
/// # Errors
/// What stopped the run; the files of the last saved state are then whole. A run that is stopped by
/// [`Options::stop`] is no error: its state is saved.
pub fn run(options: &Options, records: &mut dyn FnMut(Record)) -> Result<Outcome, TrainError> {
    options.recipe.check()?;
    let saved = open_folder(options)?;
    let device = options.device.decide(options.recipe.precision)?;
    let mut prepared = prepare(options, &device)?;
    let attached = prepared.attached.take();
    let mut engine =
        device.trainer(&prepared.cut.tail, &prepared.trainable, attached, options.checkpoint_activations)?;
    let config = prepared.config.to_value()?;
    let (mut steps, mut progress) = (0, Progress::default());
    let mut average = None;
    if let Some(saved) = saved {
        let differences = differences(&saved.config, &config);
        if !differences.is_empty() {
            return Err(TrainError::Differs { path: options.out.clone(), differences });
        }
        if saved.device != engine.device() {
            log::warn!("the run began on {}; on {} it goes on, but not to the bit", saved.device, engine.device());
        }
        engine.restore(&saved.engine)?;
        average = saved.average;
        (steps, progress) = (saved.engine.steps, saved.progress);
    }
    if let Some(decay) = options.recipe.ema {
        let stands_at = average.map_or_else(|| engine.weights(), Ok)?;
        engine.keep_average(Average::new(decay, stands_at))?;
    }
    let log = RunLog::open(&options.out, options.recipe.task, steps, progress.epochs)?;
    let (loader, owed) = (Loader::default(), VecDeque::new());
    let mut run = Run { options, prepared, engine, config, loader, steps, owed, progress, log, records };
    run.begin(&device)?;
    let finished = run.epochs()?;
    let peak_bytes = run.engine.peak_bytes();
    log::info!("most held at a time for a step: {:.1} MB beside the weights", peak_bytes as f64 / 1e6);
    Ok(Outcome {
        kept: run.progress.choice.kept,
        epochs: run.progress.epochs,
        steps: run.steps,
        interrupted: !finished,
        skipped: run.prepared.skipped.len(),
        device: run.engine.device(),
        peak_bytes,
        adapters: run.file("adapters.safetensors"),
    })
}

/// Makes the run's folder, and reads the state that is to be resumed.
fn open_folder(options: &Options) -> Result<Option<Saved>, TrainError> {
    let out = &options.out;
    let last = out.join("last.safetensors");
    match (options.resume, last.exists()) {
        (true, true) => return Saved::read(&last).map(Some),
        (true, false) => return Err(TrainError::NothingToResume { path: out.clone() }),
        (false, true) => return Err(TrainError::RunThere { path: out.clone() }),
        (false, false) => {}
    }
    fs::create_dir_all(out).map_err(|source| TrainError::Write { path: out.clone(), source })?;
    Ok(None)
}

fn write_config(
    options: &Options,
    prepared: &Prepared,
    config: &Value,
    device: &str,
    probe: Option<&Probe>,
) -> Result<(), TrainError> {
    let file = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "backbone": options.backbone,
        "backbone_name": prepared.backbone,
        "data": options.data,
        "device": device,
        "cache_limit": options.cache_limit,
        "probe": probe,
        "config": config,
    });
    let path = options.out.join("config.json");
    let text = serde_json::to_string_pretty(&file).map_err(TrainError::Json)?;
    write_atomic(&path, text.as_bytes()).map_err(|source| TrainError::Write { path, source })
}

/// The model of an epoch on the validation pictures.
struct Validation {
    /// Share of pictures whose best class is right, 0 to 1; in segmentation, of their pixels.
    top1: f32,
    /// In segmentation, the mean overlap, 0 to 1.
    miou: Option<f32>,
    /// Mean cross-entropy.
    loss: f32,
    /// The pictures' logits, where they have labels.
    judged: Judged,
}

struct Run<'a> {
    options: &'a Options,
    prepared: Prepared,
    engine: Box<dyn Engine>,
    config: Value,
    loader: Loader,
    /// Steps handed to the engine.
    steps: u64,
    /// The steps whose loss the engine owes, oldest first.
    owed: VecDeque<Owed>,
    progress: Progress,
    log: RunLog,
    records: &'a mut dyn FnMut(Record),
}

/// A step whose loss has not come back.
struct Owed {
    /// Counted from 1.
    epoch: u32,
    /// Counted from 1 through the whole run.
    step: u64,
    lr: f32,
}

impl Run<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.options.out.join(name)
    }

    fn emit(&mut self, record: Record) -> Result<(), TrainError> {
        self.log.write(&record)?;
        (self.records)(record);
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.options.stop.load(Ordering::Relaxed)
    }

    fn begin(&mut self, device: &Device) -> Result<(), TrainError> {
        let (val, classes) = (self.prepared.val.len(), self.prepared.config.labels.len());
        let task = self.options.recipe.task;
        if val < FEW && task == Task::Classification {
            log::warn!(
                "{val} validation pictures of {classes} classes are few: the scores and the threshold for `unknown` that \
                 are fitted to them are rough; {FEW} or more say more"
            );
        }
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.emit(Record::Run {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: self.engine.device(),
            train: self.prepared.train.len(),
            val,
            classes,
            task,
            trained_parameters: self.prepared.trained_parameters,
            unix_time: since_1970.map_or(0, |since| since.as_secs()),
        })?;
        for (path, reason) in self.prepared.skipped.clone() {
            self.emit(Record::Skipped { path: path.display().to_string(), reason })?;
        }
        let mut probe = self.log.probe();
        if probe.is_none() && self.options.probe && self.steps == 0 && task == Task::Classification {
            let found = Probe::train(&mut self.prepared, device, &self.options.stop)?;
            self.emit(Record::Probe(found))?;
            probe = Some(found);
        }
        write_config(self.options, &self.prepared, &self.config, &self.engine.device(), probe.as_ref())
    }

    /// Runs the epochs that are left; false where it was stopped before their end.
    fn epochs(&mut self) -> Result<bool, TrainError> {
        let recipe = &self.options.recipe;
        let per_epoch = self.prepared.train.len().div_ceil(recipe.batch_size) as u64;
        let total = per_epoch * u64::from(recipe.epochs);
        let warmup = (recipe.warmup() * per_epoch as f64).round() as u64;
        let schedule = Schedule { peak: recipe.lr, first: recipe.warmup_lr, last: recipe.min_lr, warmup, total };
        let drop_path = self.drop_path();
        let labels = self.prepared.inputs.labels(&self.prepared.train);
        while self.progress.epochs < recipe.epochs && !self.out_of_patience() {
            let (epoch, before) = (self.progress.epochs, self.progress.seconds);
            let began = Instant::now();
            let seconds = || before + began.elapsed().as_secs_f64();
            let order = recipe.sampler.order(recipe.seed, epoch, &labels);
            let done = self.steps - u64::from(epoch) * per_epoch;
            let batch_of = |epoch: u32, number: usize, ids: &[usize]| Batch {
                ids: ids.iter().map(|&position| self.prepared.train[position]).collect(),
                draw: Draw { seed: recipe.seed, epoch, first: number * recipe.batch_size },
            };
            let mut batches: Vec<Batch> =
                order.chunks(recipe.batch_size).enumerate().map(|(number, ids)| batch_of(epoch, number, ids)).collect();
            // While the epoch is judged, the first pictures of the next are made ready.
            if epoch + 1 < recipe.epochs {
                let next = recipe.sampler.order(recipe.seed, epoch + 1, &labels);
                batches.extend(next.chunks(recipe.batch_size).take(1).map(|ids| batch_of(epoch + 1, 0, ids)));
            }
            for number in done as usize..per_epoch as usize {
                if self.stopped() {
                    self.settle()?;
                    self.progress.seconds = seconds();
                    self.save()?;
                    return Ok(false);
                }
                self.step(&batches[number], batches.get(number + 1), schedule.lr(self.steps), &drop_path)?;
            }
            self.settle()?;
            let Some((this, choice)) = self.judge(epoch)? else {
                self.progress.seconds = seconds();
                self.save()?;
                return Ok(false);
            };
            let train_loss = (self.progress.loss_sum / per_epoch as f64) as f32;
            let seconds = seconds();
            self.progress = Progress { epochs: epoch + 1, loss_sum: 0.0, seconds: 0.0, choice };
            let kept = choice.keeps(&this);
            let Validated { epoch, val_top1, val_miou, val_loss } = this;
            self.emit(Record::Epoch { epoch, train_loss, val_loss, val_top1, val_miou, kept, seconds })?;
            self.save()?;
        }
        Ok(true)
    }

    /// Whether as many epochs as the recipe waits for were no better than the best.
    fn out_of_patience(&self) -> bool {
        let waited = self.progress.choice.best.map_or(0, |best| self.progress.epochs - best.epoch);
        self.options.recipe.patience.is_some_and(|patience| waited >= patience)
    }

    /// The model of an epoch, counted from 0, on the validation pictures, and the choice after it, whose adapters are written;
    /// `None` where it was stopped. It is the model of the averages where there are some.
    fn judge(&mut self, epoch: u32) -> Result<Option<(Validated, Choice)>, TrainError> {
        let own = match self.engine.average()? {
            None => None,
            Some(average) => {
                let own = self.engine.weights()?;
                self.engine.set_weights(&average)?;
                Some(own)
            }
        };
        let mut judged = None;
        if let Some(Validation { top1: val_top1, miou: val_miou, loss: val_loss, judged: answers }) = self.validate()? {
            let this = Validated { epoch: epoch + 1, val_top1, val_miou, val_loss };
            let choice = self.progress.choice.after(this, self.prepared.val.len());
            if choice.keeps(&this) {
                self.keep(&this, &answers)?;
            }
            judged = Some((this, choice));
        }
        if let Some(own) = own {
            self.engine.set_weights(&own)?;
        }
        Ok(judged)
    }

    /// The rates of the residual sums that the tail holds.
    fn drop_path(&self) -> Vec<f32> {
        let before = self.prepared.cut.residuals;
        let behind = self.prepared.cut.tail.nodes.iter().filter(|node| node.op == edge_vit_models::Op::Add).count();
        drop_path_rates(self.options.recipe.drop_path, before + behind).into_iter().skip(before).collect()
    }

    /// What is learned from `batch`: the tail's input, and the targets `[pictures, classes]` or `[pictures, patches, classes]`. The
    /// pixels of `next` are begun with.
    fn batch(&mut self, batch: &Batch, next: Option<&Batch>) -> Result<(Vec<f32>, Vec<f32>), TrainError> {
        let Recipe { augment, label_smoothing, seed, .. } = &self.options.recipe;
        let Prepared { config, inputs, masks, .. } = &mut self.prepared;
        let Batch { ids, .. } = batch;
        let mut pixels = self.loader.take(batch, || inputs.work(batch))?;
        inputs.keep_sources(ids, std::mem::take(&mut pixels.sources));
        if let Some(next) = next {
            self.loader.begin(next.clone(), inputs.work(next));
        }
        let mut targets = match masks {
            Some(masks) => masks.targets(ids, &pixels.flipped, *label_smoothing),
            None => targets(&inputs.labels(ids), config.labels.len(), *label_smoothing),
        };
        if !augment.is_on() {
            return Ok((inputs.filled(ids, pixels)?, targets));
        }
        if masks.is_none() {
            let mut rng = stream(*seed, Purpose::Mix, self.steps);
            augment.mix.apply(&mut pixels.values, &mut targets, ids.len(), config.input_size, &mut rng);
        }
        Ok((inputs.through_prefix(pixels.values, ids.len())?, targets))
    }

    fn step(&mut self, batch: &Batch, next: Option<&Batch>, lr: f32, drop_path: &[f32]) -> Result<(), TrainError> {
        let (input, targets) = self.batch(batch, next)?;
        let recipe = &self.options.recipe;
        let noise =
            Noise { seed: noise_seed(recipe.seed, self.steps), dropout: recipe.dropout, drop_path: drop_path.to_vec() };
        let hyper = Hyper { lr, weight_decay: recipe.weight_decay, ..Hyper::default() };
        let losses = self.engine.submit_step(&Step { input: &input, targets: &targets, hyper, noise: &noise })?;
        self.steps += 1;
        self.owed.push_back(Owed { epoch: batch.draw.epoch + 1, step: self.steps, lr });
        self.take_in(losses)
    }

    /// Waits for the losses that the engine owes. What is validated or saved stands behind it, so that nothing is kept of a run
    /// that has diverged.
    fn settle(&mut self) -> Result<(), TrainError> {
        let losses = self.engine.late_losses()?;
        self.take_in(losses)
    }

    /// Takes in `losses`, those of the oldest steps that were owed.
    fn take_in(&mut self, losses: Vec<f32>) -> Result<(), TrainError> {
        for loss in losses {
            let Some(Owed { epoch, step, lr }) = self.owed.pop_front() else { break };
            if !loss.is_finite() {
                return Err(TrainError::Diverged { loss, step, lr: self.options.recipe.lr });
            }
            self.progress.loss_sum += f64::from(loss);
            self.emit(Record::Step { epoch, step, loss, lr })?;
        }
        Ok(())
    }

    /// The model as it is now on the validation pictures; `None` where it was stopped.
    fn validate(&mut self) -> Result<Option<Validation>, TrainError> {
        let classes = self.prepared.config.labels.len();
        if self.prepared.masks.is_some() {
            return self.validate_masks(classes);
        }
        let (mut right, mut loss, mut judged) = (0usize, 0.0, Judged::default());
        for ids in self.prepared.val.chunks(self.options.recipe.batch_size) {
            if self.options.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let input = self.prepared.inputs.batch(ids)?;
            let logits = self.engine.forward(&input, ids.len())?;
            let labels = self.prepared.inputs.labels(ids);
            for (logits, &label) in logits.chunks(classes).zip(&labels) {
                let (hit, cross_entropy) = judge(logits, label as usize);
                right += usize::from(hit);
                loss += cross_entropy;
            }
            judged.logits.extend(logits);
            judged.truths.extend(labels.iter().map(|&label| label as usize));
        }
        let count = self.prepared.val.len() as f64;
        let (top1, loss) = ((right as f64 / count) as f32, (loss / count) as f32);
        Ok(Some(Validation { top1, miou: None, loss, judged }))
    }

    /// [`Run::validate`] where each patch answers: pixel by pixel at the masks' own size.
    fn validate_masks(&mut self, classes: usize) -> Result<Option<Validation>, TrainError> {
        let mut fit = Fit::new(classes);
        for ids in self.prepared.val.chunks(self.options.recipe.batch_size) {
            if self.options.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let input = self.prepared.inputs.batch(ids)?;
            let logits = self.engine.forward(&input, ids.len())?;
            if let Some(masks) = &self.prepared.masks {
                fit = fit.merge(&masks.fit(ids, &logits)?);
            }
        }
        // Where no pixel has a class, nothing was right.
        let share = |share: Option<f64>| share.unwrap_or(0.0) as f32;
        Ok(Some(Validation {
            top1: share(fit.confusion.accuracy()),
            miou: Some(share(fit.confusion.mean_iou())),
            loss: fit.mean_loss() as f32,
            judged: Judged::default(),
        }))
    }

    /// Writes the adapters as they are now, with the rejection that fits their logits on the validation pictures.
    fn keep(&mut self, kept: &Validated, judged: &Judged) -> Result<(), TrainError> {
        let Prepared { config, preprocessing, backbone, train, val, .. } = &self.prepared;
        let training = json!({
            "tool": concat!("edge-vit-tools ", env!("CARGO_PKG_VERSION")),
            "device": self.engine.device(),
            "data": fs::canonicalize(&self.options.data).unwrap_or_else(|_| self.options.data.clone()),
            "train_pictures": train.len(),
            "val_pictures": val.len(),
            "epoch": kept.epoch,
            "val_top1": kept.val_top1,
            "val_miou": kept.val_miou,
            "val_loss": kept.val_loss,
            "rejection": calibration::fit(judged, config.recipe.false_rejection_rate),
            "recipe": config.recipe,
        });
        let meta = adapter::Meta {
            format_version: adapter::Meta::version(config.recipe.task),
            task: config.recipe.task,
            method: config.recipe.adapters.method().to_owned(),
            spec: config.recipe.adapters.clone(),
            backbone_name: backbone.clone(),
            backbone_sha256: config.backbone_sha256.clone(),
            image_size: config.input_size,
            labels: config.labels.clone(),
            preprocessing: serde_json::to_value(preprocessing).map_err(TrainError::Json)?,
            training,
        };
        let tensors = self.engine.weights()?;
        let path = self.file("adapters.safetensors");
        Ok(adapter::File { meta, tensors }.write(&path)?)
    }

    /// Writes the state to resume from.
    fn save(&mut self) -> Result<(), TrainError> {
        let saved = Saved {
            engine: self.engine.state()?,
            average: self.engine.average()?,
            progress: self.progress.clone(),
            device: self.engine.device(),
            config: self.config.clone(),
        };
        saved.write(&self.file("last.safetensors"))
    }
}

/// Whether the highest logit is that of `label`, and the cross-entropy.
pub(super) fn judge(logits: &[f32], label: usize) -> (bool, f64) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - highest).exp()).sum();
    let best = logits.iter().position(|&logit| logit == highest);
    (best == Some(label), sum.ln() - f64::from(logits[label] - highest))
}
