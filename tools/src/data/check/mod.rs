//! What in a data set would spoil a training, or deserves a look.
//!
//! [`look`] reads every picture once, [`findings`] judges what was seen, [`suspects`] asks a frozen backbone which labels look
//! wrong. Nothing is changed: each [`Finding`] comes with what would mend it.

mod counts;
mod duplicates;
mod finding;
mod fix;
mod hash;
mod probe;
mod seen;
mod shapes;
mod suspects;
#[cfg(test)]
mod tests;
mod text;

use super::Listing;

pub use duplicates::{MAX_DISTANCE, MIN_CORRELATION};
pub use finding::{Finding, Kind, Shown, Weight};
pub use seen::{Seen, look};
pub use suspects::{SuspectError, suspects};
pub use text::to_text;

use fix::Fix;

/// All findings but the suspects, the worst kinds first.
pub fn findings(listing: &Listing, seen: &[Seen]) -> Vec<Finding> {
    let fix = Fix::of(listing);
    let mut findings = counts::findings(listing, seen);
    findings.extend(duplicates::findings(seen, &fix));
    findings.extend(duplicates::groups(listing));
    findings.extend(shapes::findings(seen, &fix));
    // Sorting keeps the order within a kind.
    findings.sort_by_key(|finding| (finding.weight, finding.kind));
    findings
}
