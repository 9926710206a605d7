//! The run's log: `log.jsonl`, one [`Record`] a line, `log.csv`, one epoch a line, and a file of events for TensorBoard.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use edge_vit_models::Task;
use edge_vit_models::file::write_atomic;

use super::probe::Probe;
use super::record::Record;
use super::{TrainError, events};

const CSV_HEADER: &str = "epoch,train_loss,val_loss,val_top1,kept,seconds";
/// What the lines of a segmentation have behind that.
const CSV_OF_MASKS: &str = ",val_miou";

/// The files, open for appending. Every record is on its way to the disk before the next step begins.
#[derive(Debug)]
pub(super) struct RunLog {
    jsonl: Sink<File>,
    csv: Sink<File>,
    events: Sink<File>,
    /// Of the last step written.
    steps: u64,
    probe: Option<Probe>,
}

impl RunLog {
    /// Opens the log in `folder` after the records of the first `steps` steps and `epochs` epochs; later ones, of a run
    /// that was killed after its last saved state, are taken out.
    pub(super) fn open(folder: &Path, task: Task, steps: u64, epochs: u32) -> Result<Self, TrainError> {
        let (jsonl, csv) = (folder.join("log.jsonl"), folder.join("log.csv"));
        let mut lines = String::new();
        let mut table = csv_header(task);
        let mut probe = None;
        if steps > 0 {
            let old = fs::read_to_string(&jsonl).map_err(|source| TrainError::Read { path: jsonl.clone(), source })?;
            // A killed run may have left half a line at the end.
            for (line, record) in old.lines().filter_map(|line| Some((line, serde_json::from_str(line).ok()?))) {
                if belongs(&record, steps, epochs) {
                    lines.extend([line, "\n"]);
                    table.extend(csv_line(&record));
                    if let Record::Probe(found) = record {
                        probe = Some(found);
                    }
                }
            }
        }
        for (path, text) in [(&jsonl, &lines), (&csv, &table)] {
            write_atomic(path, text.as_bytes()).map_err(|source| TrainError::Write { path: path.clone(), source })?;
        }
        let events = folder.join(events_name(steps));
        write_atomic(&events, &events::opening(now(), steps))
            .map_err(|source| TrainError::Write { path: events.clone(), source })?;
        let [jsonl, csv, events] = [jsonl, csv, events].map(Sink::append);
        Ok(Self { jsonl: jsonl?, csv: csv?, events: events?, steps, probe })
    }

    /// The linear probe of the part of the run that is kept.
    pub(super) fn probe(&self) -> Option<Probe> {
        self.probe
    }

    /// Appends a record.
    pub(super) fn write(&mut self, record: &Record) -> Result<(), TrainError> {
        let line = serde_json::to_string(record).map_err(TrainError::Json)?;
        self.jsonl.write(format!("{line}\n").as_bytes())?;
        if let Record::Step { step, .. } = record {
            self.steps = *step;
        }
        if let Some(bytes) = events::of(record, now(), self.steps) {
            self.events.write(&bytes)?;
        }
        csv_line(record).map_or(Ok(()), |line| self.csv.write(line.as_bytes()))
    }
}

/// TensorBoard reads the files of a folder in the order of their names.
fn events_name(steps: u64) -> String {
    format!("events.out.tfevents.{steps:010}.edge-vit")
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Whether a record is of the part of the run that the state covers.
fn belongs(record: &Record, steps: u64, epochs: u32) -> bool {
    match record {
        Record::Step { step, .. } => *step <= steps,
        Record::Epoch { epoch, .. } => *epoch <= epochs,
        Record::Run { .. } | Record::Probe(_) => true,
        // A resumed run reads the pictures again and names those that it skips.
        Record::Skipped { .. } => false,
    }
}

fn csv_header(task: Task) -> String {
    let more = if task == Task::Segmentation { CSV_OF_MASKS } else { "" };
    format!("{CSV_HEADER}{more}\n")
}

fn csv_line(record: &Record) -> Option<String> {
    let Record::Epoch { epoch, train_loss, val_loss, val_top1, val_miou, kept, seconds } = record else { return None };
    let miou = val_miou.map_or(String::new(), |miou| format!(",{miou}"));
    Some(format!("{epoch},{train_loss},{val_loss},{val_top1},{kept},{seconds:.2}{miou}\n"))
}

/// A file that is written to, and its name for the error.
#[derive(Debug)]
struct Sink<W> {
    path: PathBuf,
    to: W,
}

impl Sink<File> {
    fn append(path: PathBuf) -> Result<Self, TrainError> {
        match OpenOptions::new().append(true).open(&path) {
            Ok(to) => Ok(Self { path, to }),
            Err(source) => Err(TrainError::Write { path, source }),
        }
    }
}

impl<W: Write> Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), TrainError> {
        let written: io::Result<()> = self.to.write_all(bytes).and_then(|()| self.to.flush());
        written.map_err(|source| TrainError::Write { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Record {
        Record::Step { epoch: 1, step, loss: 0.5, lr: 1e-3 }
    }

    fn epoch(epoch: u32) -> Record {
        Record::Epoch {
            epoch,
            train_loss: 0.5,
            val_loss: 0.25,
            val_top1: 0.75,
            val_miou: None,
            kept: true,
            seconds: 1.5,
        }
    }

    #[test]
    fn what_a_killed_run_wrote_after_its_state_is_taken_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RunLog::open(folder.path(), Task::Classification, 0, 0).unwrap();
        let probe = Probe { val_top1: 0.5, val_loss: 1.25, seconds: 0.5 };
        for record in [Record::Probe(probe), step(1), step(2), epoch(1), step(3), epoch(2)] {
            log.write(&record).unwrap();
        }
        log.jsonl.write(b"{\"kind\":\"st").unwrap();
        let mut log = RunLog::open(folder.path(), Task::Classification, 2, 1).unwrap();
        log.write(&step(3)).unwrap();
        assert_eq!(log.probe(), Some(probe));
        let text = fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
        let records: Vec<Record> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records, [Record::Probe(probe), step(1), step(2), epoch(1), step(3)]);
        let csv = fs::read_to_string(folder.path().join("log.csv")).unwrap();
        assert_eq!(csv, format!("{CSV_HEADER}\n1,0.5,0.25,0.75,true,1.50\n"));
    }

    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
            println!("skipped: this system has no /dev/full");
            return;
        };
        let mut sink = Sink { path: "run/log.jsonl".into(), to: full };
        let error = sink.write(b"a line\n").unwrap_err();
        assert!(error.to_string().contains("run/log.jsonl"), "{error}");
    }
}
