//! Classes, by how many pictures each has.

use std::collections::BTreeMap;

use super::{Finding, Kind, Seen, Weight};
use crate::data::{Listing, Part, PictureSet};

/// A class with fewer pictures to train on is told.
const FEW: usize = 10;
/// The largest class may be this many times as large as the smallest.
const IMBALANCE: usize = 10;

/// Findings about classes of which there is too little, and of which one part knows nothing.
pub(super) fn findings(listing: &Listing, seen: &[Seen]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(train) = listing.train() else {
        let message = format!("{} has no pictures to train on", listing.path.display());
        findings.push(finding(Kind::Classes, Weight::Spoils, message, "name the data set that holds them too"));
        return findings;
    };
    if train.labels.len() < 2 {
        let message = format!("{} class(es) to train on, at least 2 are needed", train.labels.len());
        findings.push(finding(Kind::Classes, Weight::Spoils, message, "add pictures of another class"));
    }
    for (part, set) in &listing.parts {
        findings.extend(strangers(*part, set, &train.labels));
    }
    findings.extend(sizes(listing, train, seen));
    findings
}

/// Classes of other parts that are not trained.
fn strangers(part: Part, set: &PictureSet, known: &[String]) -> Vec<Finding> {
    let weight = if part == Part::Test { Weight::Warns } else { Weight::Spoils };
    let strangers = set.labels.iter().filter(|label| !known.contains(label));
    let told = |label: &String| {
        let message = format!("class `{label}` of {} is not among the classes trained on", part.name());
        let fix = format!("add training pictures of `{label}`, or take the class out of {}", part.name());
        finding(Kind::Classes, weight, message, &fix)
    };
    strangers.map(told).collect()
}

fn sizes(listing: &Listing, train: &PictureSet, seen: &[Seen]) -> Vec<Finding> {
    let mut counts: BTreeMap<&str, usize> = train.labels.iter().map(|label| (label.as_str(), 0)).collect();
    let trained = |seen: &&Seen| matches!(seen.part, Part::Train | Part::Whole) && seen.content.is_ok();
    for seen in seen.iter().filter(trained) {
        *counts.entry(&seen.label).or_default() += 1;
    }
    // Without validation pictures, a class gives one of its own.
    let needed = if listing.parts.contains_key(&Part::Val) { 1 } else { 2 };
    let mut findings = Vec::new();
    for (label, &count) in counts.iter().filter(|(_, count)| **count < FEW) {
        let weight = if count < needed { Weight::Spoils } else { Weight::Warns };
        let message = format!("class `{label}` has {count} readable picture(s) to train on");
        findings.push(finding(Kind::Few, weight, message, &format!("add pictures of `{label}`")));
    }
    let smallest = counts.iter().min_by_key(|(_, count)| **count);
    let largest = counts.iter().max_by_key(|(_, count)| **count);
    if let Some(((small, &few), (large, &many))) =
        smallest.zip(largest).filter(|((_, few), (_, many))| **many > IMBALANCE * **few)
    {
        let message = format!("class `{large}` has {many} pictures to train on, class `{small}` {few}");
        let fix = format!("add pictures of `{small}`, or take some of `{large}` out");
        findings.push(finding(Kind::Imbalance, Weight::Warns, message, &fix));
    }
    findings
}

fn finding(kind: Kind, weight: Weight, message: String, fix: &str) -> Finding {
    Finding { kind, weight, message, pictures: Vec::new(), distance: None, fix: fix.to_owned() }
}
