//! `/metrics` against the rules of the text format, and against what was published.

use std::collections::{BTreeMap, HashSet};

use edge_vit::capture::{Counts, Health};
use edge_vit::serve::{Hub, Options, Server};

use crate::client::{get, observation};

/// Samples by name and labels, of a text that keeps the rules of the exposition format 0.0.4.
#[derive(Debug, Default)]
struct Samples(BTreeMap<(String, Vec<(String, String)>), f64>);

impl Samples {
    /// Panics where the text breaks a rule.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends");
        let mut samples = Self::default();
        let mut finished = HashSet::new();
        let mut family: Option<(String, String)> = None;
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect("help has words");
                assert!(!words.is_empty() && is_name(name), "{line}");
                let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect("a type follows the help");
                let (named, kind) = kind.split_once(' ').unwrap();
                assert_eq!(named, name);
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
                if let Some((last, _)) = family.replace((name.to_owned(), kind.to_owned())) {
                    assert!(finished.insert(last), "one family twice");
                }
                assert!(!finished.contains(name), "{name} comes twice");
                continue;
            }
            assert!(!line.starts_with('#') && !line.is_empty(), "{line:?}");
            let (name, labels, value) = sample(line);
            let (of, kind) = family.as_ref().expect("a family before its samples");
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.iter().any(|suffix| format!("{of}{suffix}") == name), "{name} in {of}");
            assert!(samples.0.insert((name, labels), value).is_none(), "twice: {line}");
        }
        samples
    }

    fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        *self.0.get(&(name.to_owned(), labels)).unwrap_or_else(|| panic!("no {name}: {self:#?}"))
    }
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|next| next.is_ascii_alphanumeric() || next == '_')
}

/// `name{key="value",...} number`.
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (key, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(key), "{line}");
            let mut value = String::new();
            let mut characters = after.char_indices();
            let close = loop {
                match characters.next().expect("the quotes are closed") {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match characters.next().unwrap().1 {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        other => panic!("\\{other} is no escape: {line}"),
                    }),
                    (_, other) => value.push(other),
                }
            };
            labels.push((key.to_owned(), value));
            rest = &after[close + 1..];
            match rest.split_at(1) {
                (",", more) => rest = more,
                ("}", more) => break rest = more,
                other => panic!("{other:?} after a label: {line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap_or_else(|_| panic!("{line}"));
    (name.to_owned(), labels, value)
}

#[test]
fn metrics_keep_the_format_and_add_up() {
    let odd = "a \"cat\"\\\nor so";
    let hub = std::sync::Arc::new(Hub::new(["cat", odd, "never seen"]));
    let options = Options { address: "127.0.0.1:0".parse().unwrap(), ..Options::default() };
    let server = Server::start(options, std::sync::Arc::clone(&hub)).unwrap();
    let scrape = || {
        let answer = get(server.address(), "/metrics");
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Samples::parse(answer.text())
    };
    assert_eq!(scrape().get("edge_vit_source_live", &[]), 0.0);

    hub.set_health(Health::Live);
    for (frame, label) in ["cat", odd, odd, "unknown", "of another model"].into_iter().enumerate() {
        hub.publish(&observation(frame as u64, label), None);
    }
    let samples = scrape();
    assert_eq!(samples.get("edge_vit_source_live", &[]), 1.0);
    for (label, count) in [("cat", 1.0), (odd, 2.0), ("never seen", 0.0), ("unknown", 1.0), ("of another model", 1.0)] {
        assert_eq!(samples.get("edge_vit_labels_total", &[("label", label)]), count, "{label}");
    }
    assert_eq!(samples.get("edge_vit_frames_captured_total", &[]), 8.0);
    assert_eq!(samples.get("edge_vit_frames_taken_total", &[]), 4.0);
    assert_eq!(samples.get("edge_vit_frames_dropped_total", &[]), 4.0);
    assert!(samples.get("edge_vit_http_connections", &[]) >= 1.0);

    let stage = |bound| samples.get("edge_vit_stage_seconds_bucket", &[("stage", "model"), ("le", bound)]);
    assert_eq!([stage("0.01"), stage("0.025"), stage("+Inf")], [0.0, 5.0, 5.0]);
    assert_eq!(samples.get("edge_vit_stage_seconds_count", &[("stage", "model")]), 5.0);
    assert!((samples.get("edge_vit_stage_seconds_sum", &[("stage", "model")]) - 0.1).abs() < 1e-9);
    assert!((samples.get("edge_vit_age_seconds_sum", &[]) - 0.15).abs() < 1e-9);
    let mut last = BTreeMap::new();
    for ((name, labels), value) in samples.0.iter().filter(|((name, _), _)| name == "edge_vit_age_seconds_bucket") {
        last.insert((name, labels[0].1.parse::<f64>().unwrap().to_bits()), *value);
    }
    assert!(last.values().is_sorted(), "buckets are cumulative: {last:?}");

    hub.set_counts(Counts { stalls: 3, reopened: 2, ..Counts::default() });
    hub.set_health(Health::Waiting("unplugged".to_owned()));
    let samples = scrape();
    assert_eq!(samples.get("edge_vit_source_live", &[]), 0.0);
    assert_eq!(samples.get("edge_vit_source_stalls_total", &[]), 3.0);
    assert_eq!(samples.get("edge_vit_source_reopened_total", &[]), 2.0);
    if cfg!(target_os = "linux") {
        assert!(samples.get("process_resident_memory_bytes", &[]) > 1e6);
    }
}
