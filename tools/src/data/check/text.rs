//! Findings for eyes.

use std::fmt::Write as _;

use super::{Finding, Kind, MAX_DISTANCE, MIN_CORRELATION, Weight};
use crate::evaluate::printable;

/// How many findings of a kind are written out.
const LISTED: usize = 20;

/// The findings, by kinds, with what would mend each, and how many there are of both weights.
pub fn to_text(findings: &[Finding]) -> String {
    // Writing to a String cannot fail.
    let mut text = String::new();
    let mut rest = findings;
    while let Some(first) = rest.first() {
        let same = |finding: &&Finding| (finding.kind, finding.weight) == (first.kind, first.weight);
        let count = rest.iter().take_while(same).count();
        let (kind, more) = rest.split_at(count);
        rest = more;
        let weight = if first.weight == Weight::Spoils { "spoils the training" } else { "warning" };
        let _ = writeln!(text, "{}: {count} ({weight})", heading(first.kind));
        for finding in &kind[..count.min(LISTED)] {
            one(&mut text, finding);
        }
        if count > LISTED {
            let _ = writeln!(text, "  and {} more; --json lists all", count - LISTED);
        }
        text.push('\n');
    }
    let spoils = findings.iter().filter(|finding| finding.weight == Weight::Spoils).count();
    let _ = match findings.len() {
        0 => writeln!(text, "nothing found"),
        all => writeln!(text, "{spoils} finding(s) that spoil a training, {} warning(s)", all - spoils),
    };
    text
}

fn one(text: &mut String, finding: &Finding) {
    let distance = match finding.distance {
        Some(distance) => format!(" (distance {distance} of 64)"),
        None => String::new(),
    };
    let paths: Vec<String> = finding
        .pictures
        .iter()
        .map(|shown| {
            let of_film = shown.film.as_ref().map(|film| format!("{}: ", film.display())).unwrap_or_default();
            format!(
                "{} [{}, {}]",
                printable(&format!("{of_film}{}", shown.path.display())),
                shown.part.name(),
                printable(&shown.label)
            )
        })
        .collect();
    let _ = match paths.is_empty() {
        true => writeln!(text, "  {}", printable(&finding.message)),
        false => writeln!(text, "  {}: {}{distance}", paths.join(" and "), printable(&finding.message)),
    };
    let _ = writeln!(text, "    {}", printable(&finding.fix));
}

fn heading(kind: Kind) -> String {
    let near = || format!("near: at most {MAX_DISTANCE} of 64 bits, correlation from {MIN_CORRELATION}");
    match kind {
        Kind::Classes => "classes that do not fit".to_owned(),
        Kind::Conflict => format!("one picture, two labels ({})", near()),
        Kind::Leak => format!("one picture or group in two parts ({})", near()),
        Kind::Few => "classes with few pictures".to_owned(),
        Kind::Imbalance => "imbalance".to_owned(),
        Kind::Broken => "broken files".to_owned(),
        Kind::Duplicate => format!("one picture twice ({})", near()),
        Kind::Ending => "endings that lie".to_owned(),
        Kind::Shape => "unusual pictures".to_owned(),
        Kind::Suspect => "labels that look wrong, the most suspect first".to_owned(),
    }
}
