//! The same picture twice: by its bytes, or by what it looks like.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rayon::prelude::*;

use super::{Finding, Fix, Kind, Seen, Weight};
use crate::data::{Listing, Part};

/// Pictures look the same whose perceptual hashes differ in no more of 64 bits, ...
pub const MAX_DISTANCE: u32 = 6;
/// ... and whose thumbnails correlate at least so well.
pub const MIN_CORRELATION: f32 = 0.97;

/// Findings about pairs of pictures that are, or look, the same. Pictures of one group and class may: a film's
/// frames do as long as nothing moves.
pub(super) fn findings(seen: &[Seen], fix: &Fix<'_>) -> Vec<Finding> {
    let (first, exact) = exact(seen);
    let near = near(seen, &first);
    let of_one_clip = |pair: &Pair| {
        let [a, b] = pair.at.map(|at| &seen[at]);
        a.group.is_some() && (&a.group, &a.label, a.part) == (&b.group, &b.label, b.part)
    };
    // Two films are told of once, by the first of their frames; those of the same bytes come before the others.
    let mut told = HashSet::new();
    let is_new = |pair: &Pair| {
        let [a, b] = pair.at.map(|at| &seen[at]);
        (a.film.is_none() && b.film.is_none()) || told.insert((a.file(), b.file()))
    };
    let pairs = exact.into_iter().chain(near).filter(|pair| !of_one_clip(pair)).filter(is_new);
    pairs.map(|pair| pair.judge(seen, fix)).collect()
}

/// Two positions, the first one's before the second's, and the distance of the hashes; `None` for the same bytes.
struct Pair {
    at: [usize; 2],
    distance: Option<u32>,
}

/// The first picture of each content, and for each other picture the pair of the first of its content with it.
fn exact(seen: &[Seen]) -> (Vec<usize>, Vec<Pair>) {
    let mut by_bytes: HashMap<[u8; 32], usize> = HashMap::new();
    let (mut first, mut pairs) = (Vec::new(), Vec::new());
    for (at, seen) in seen.iter().enumerate() {
        let Ok(content) = &seen.content else { continue };
        match by_bytes.get(&content.sha256) {
            Some(&before) => pairs.push(Pair { at: [before, at], distance: None }),
            None => {
                by_bytes.insert(content.sha256, at);
                first.push(at);
            }
        }
    }
    (first, pairs)
}

fn near(seen: &[Seen], among: &[usize]) -> Vec<Pair> {
    let print = |at: usize| Some((at, seen[at].content.as_ref().ok()?.print.as_ref()?));
    let prints: Vec<_> = among.iter().filter_map(|&at| print(at)).collect();
    let pairs_of = |number: usize| {
        let (at, print) = prints[number];
        prints[number + 1..].iter().filter_map(move |(other, other_print)| {
            let distance = print.distance(other_print);
            let same = distance <= MAX_DISTANCE && print.correlation(other_print) >= MIN_CORRELATION;
            same.then_some(Pair { at: [at, *other], distance: Some(distance) })
        })
    };
    (0..prints.len()).into_par_iter().flat_map_iter(pairs_of).collect()
}

impl Pair {
    fn judge(&self, seen: &[Seen], fix: &Fix<'_>) -> Finding {
        let [a, b] = self.at.map(|at| &seen[at]);
        let alike = if self.distance.is_some() { "look the same" } else { "are the same file" };
        let (kind, message, fix) = if a.label != b.label {
            let message = format!("{alike}, and are called `{}` and `{}`", a.label, b.label);
            let [a, b] = [a, b].map(|seen| fix.remove(seen.file()));
            (Kind::Conflict, message, format!("keep the one whose label is right: {a}, or {b}"))
        } else if a.part != b.part {
            let message = format!("{alike}, in {} and {}", a.part.name(), b.part.name());
            // What is measured or chosen by stays as it is.
            let taken = if a.part < b.part { a } else { b };
            (Kind::Leak, message, fix.remove(taken.file()))
        } else {
            (Kind::Duplicate, format!("{alike}, in {}", a.part.name()), fix.remove(b.file()))
        };
        // Looks deceive where two things of a kind are photographed alike; the same bytes are one picture.
        let spoils = kind != Kind::Duplicate && self.distance.is_none() || kind == Kind::Leak;
        Finding {
            kind,
            weight: if spoils { Weight::Spoils } else { Weight::Warns },
            message,
            pictures: vec![a.into(), b.into()],
            distance: self.distance,
            fix,
        }
    }
}

/// Findings about groups that the data set names and that are in two parts.
pub(super) fn groups(listing: &Listing) -> Vec<Finding> {
    let mut parts: BTreeMap<&str, BTreeSet<Part>> = BTreeMap::new();
    for (part, set) in &listing.parts {
        for group in set.pictures.iter().filter_map(|picture| picture.group.as_deref()) {
            parts.entry(group).or_default().insert(*part);
        }
    }
    let torn = parts.into_iter().filter(|(_, parts)| parts.len() > 1);
    let told = |(group, parts): (&str, BTreeSet<Part>)| Finding {
        kind: Kind::Leak,
        weight: Weight::Spoils,
        message: format!(
            "the group `{group}` is in {}",
            parts.into_iter().map(Part::name).collect::<Vec<_>>().join(" and ")
        ),
        pictures: Vec::new(),
        distance: None,
        fix: format!("give all pictures of `{group}` the same split in {}", listing.path.display()),
    };
    torn.map(told).collect()
}
