//! Counters and histograms, and their text for Prometheus (exposition format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use crate::capture::Counts;
use crate::memory::resident_bytes;
use crate::{Observation, UNKNOWN};

/// Upper bounds of the histograms' buckets, in seconds.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// What the server itself has seen.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    connections: AtomicUsize,
    /// Clients that were dropped because they did not read.
    pub(super) slow: AtomicU64,
    /// Clients for which there was no connection left.
    pub(super) turned_away: AtomicU64,
    /// Posted pictures that were classified.
    pub(super) classified: AtomicU64,
    /// Posted pictures that could not be classified.
    pub(super) refused: AtomicU64,
    /// Posted pictures for which the queue had no room.
    pub(super) busy: AtomicU64,
}

/// Counts a connection as long as it lives.
pub(super) struct Connection<'a>(&'a AtomicUsize);

impl Traffic {
    pub(super) fn connection(&self) -> Connection<'_> {
        self.connections.fetch_add(1, Relaxed);
        Connection(&self.connections)
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// What the observations added up to.
#[derive(Debug)]
pub(super) struct Metrics {
    counts: Counts,
    labels: BTreeMap<Arc<str>, u64>,
    decode: Histogram,
    prepare: Histogram,
    model: Histogram,
    age: Histogram,
    /// Seconds after the Unix epoch at which the newest classified picture was taken.
    newest: Option<f64>,
}

#[derive(Debug, Default)]
struct Histogram {
    /// One more than there are bounds: the last is for what is above them all.
    buckets: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    fn add(&mut self, milliseconds: f64) {
        let seconds = milliseconds / 1000.0;
        self.buckets[BOUNDS.partition_point(|&bound| bound < seconds)] += 1;
        self.sum += seconds;
    }
}

impl Metrics {
    pub(super) fn new(labels: impl Iterator<Item = Arc<str>>) -> Self {
        Self {
            counts: Counts::default(),
            labels: labels.chain([UNKNOWN.into()]).map(|label| (label, 0)).collect(),
            decode: Histogram::default(),
            prepare: Histogram::default(),
            model: Histogram::default(),
            age: Histogram::default(),
            newest: None,
        }
    }

    pub(super) fn observe(&mut self, observation: &Observation) {
        self.counts = observation.counts;
        match self.labels.get_mut(&observation.label) {
            Some(count) => *count += 1,
            // The model was exchanged for one with other labels.
            None => _ = self.labels.insert(Arc::clone(&observation.label), 1),
        }
        self.decode.add(observation.stages.decode_ms);
        self.prepare.add(observation.stages.prepare_ms);
        self.model.add(observation.stages.model_ms);
        self.age.add(observation.age_ms);
        self.newest = Some(observation.time);
    }

    pub(super) fn set_counts(&mut self, counts: Counts) {
        self.counts = counts;
    }

    /// The text that Prometheus reads. `watchers` are the clients of `/events` and of `/stream`.
    pub(super) fn render(&self, live: bool, watchers: [usize; 2], traffic: &Traffic) -> String {
        let mut text = Text::default();
        text.family("edge_vit_build_info", "gauge", "The program's version.");
        text.sample("edge_vit_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        text.family("edge_vit_source_live", "gauge", "1 while pictures come and are classified, else 0.");
        text.sample("edge_vit_source_live", &[], u8::from(live));
        let Counts { captured, taken, dropped, damaged, stalls, reopened, abandoned } = self.counts;
        for (name, help, value) in [
            ("edge_vit_frames_captured_total", "Whole pictures that the source gave.", captured),
            ("edge_vit_frames_taken_total", "Pictures that were taken for classification.", taken),
            ("edge_vit_frames_dropped_total", "Pictures that a newer one replaced before they were taken.", dropped),
            ("edge_vit_frames_damaged_total", "Pictures that could not be decoded.", damaged),
            ("edge_vit_source_stalls_total", "Times that no picture came for longer than the limit.", stalls),
            ("edge_vit_source_reopened_total", "Times that the source was opened again.", reopened),
            ("edge_vit_source_abandoned_total", "Threads that hang in a driver and were left behind.", abandoned),
            (
                "edge_vit_http_slow_clients_dropped_total",
                "Clients that were dropped because they did not read.",
                traffic.slow.load(Relaxed),
            ),
            (
                "edge_vit_http_turned_away_total",
                "Clients for which there was no connection left.",
                traffic.turned_away.load(Relaxed),
            ),
        ] {
            text.family(name, "counter", help);
            text.sample(name, &[], value);
        }
        text.family("edge_vit_labels_total", "counter", "Pictures by their decided label.");
        for (label, count) in &self.labels {
            text.sample("edge_vit_labels_total", &[("label", label)], count);
        }
        text.family("edge_vit_posted_total", "counter", "Pictures that were posted, by what became of them.");
        for (result, count) in
            [("classified", &traffic.classified), ("refused", &traffic.refused), ("busy", &traffic.busy)]
        {
            text.sample("edge_vit_posted_total", &[("result", result)], count.load(Relaxed));
        }
        text.family("edge_vit_stage_seconds", "histogram", "Where the time of a picture went.");
        for (stage, histogram) in [("decode", &self.decode), ("prepare", &self.prepare), ("model", &self.model)] {
            text.histogram("edge_vit_stage_seconds", Some(("stage", stage)), histogram);
        }
        text.family("edge_vit_age_seconds", "histogram", "From a picture's arrival to its answer.");
        text.histogram("edge_vit_age_seconds", None, &self.age);
        if let Some(newest) = self.newest {
            let name = "edge_vit_newest_picture_timestamp_seconds";
            text.family(name, "gauge", "When the newest classified picture was taken.");
            text.sample(name, &[], newest);
        }
        text.family("edge_vit_http_watchers", "gauge", "Open answers that do not end, by route.");
        for (route, count) in ["events", "stream"].into_iter().zip(watchers) {
            text.sample("edge_vit_http_watchers", &[("route", route)], count);
        }
        text.family("edge_vit_http_connections", "gauge", "Open connections.");
        text.sample("edge_vit_http_connections", &[], traffic.connections.load(Relaxed));
        if let Some(bytes) = resident_bytes() {
            text.family("process_resident_memory_bytes", "gauge", "Memory of this process that lies in RAM.");
            text.sample("process_resident_memory_bytes", &[], bytes);
        }
        text.0
    }
}

/// Text in the exposition format.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (key, label)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{key}=\"{}\"", escaped(label));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn histogram(&mut self, name: &str, label: Option<(&str, &str)>, histogram: &Histogram) {
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut count = 0;
        for (bound, bucket) in bounds.zip(histogram.buckets) {
            count += bucket;
            let labels: Vec<_> = label.into_iter().chain([("le", bound.as_str())]).collect();
            self.sample(&format!("{name}_bucket"), &labels, count);
        }
        let labels: Vec<_> = label.into_iter().collect();
        self.sample(&format!("{name}_sum"), &labels, histogram.sum);
        self.sample(&format!("{name}_count"), &labels, count);
    }
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_that_reaches_it() {
        let mut histogram = Histogram::default();
        for milliseconds in [0.0, 1.0, 1.1, 60.0, 9000.0] {
            histogram.add(milliseconds);
        }
        assert_eq!(histogram.buckets, [2, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert!((histogram.sum - 9.0621).abs() < 1e-9);
    }

    #[test]
    fn a_label_cannot_leave_its_quotes() {
        let mut text = Text::default();
        text.sample("name", &[("label", "a\"} 1\nforged\\")], 2);
        assert_eq!(text.0, "name{label=\"a\\\"} 1\\nforged\\\\\"} 2\n");
    }
}
