//! Pictures that cannot be read or stand out by their files alone.

use super::{Finding, Fix, Kind, Seen, Weight};

/// The longer side of a picture is at most this many times the shorter.
const MAX_ASPECT: u32 = 3;
/// A picture's shorter side is at least the median's divided by this.
const MIN_SHARE: u32 = 4;

/// Findings about single pictures: broken ones, lying endings, unusual shapes.
pub(super) fn findings(seen: &[Seen], fix: &Fix<'_>) -> Vec<Finding> {
    let mut shorter: Vec<u32> =
        seen.iter().filter_map(|seen| seen.content.as_ref().ok()?.size.into_iter().min()).collect();
    shorter.sort_unstable();
    let median = shorter.get(shorter.len() / 2).copied().unwrap_or_default();
    let mut findings = Vec::new();
    for seen in seen {
        let mut tell = |kind, message: String, fix: String| {
            let pictures = vec![seen.into()];
            findings.push(Finding { kind, weight: Weight::Warns, message, pictures, distance: None, fix });
        };
        let content = match &seen.content {
            Ok(content) => content,
            Err(reason) => {
                let message = format!("cannot be read and takes no part in the training: {reason}");
                tell(Kind::Broken, message, fix.remove(seen.file()));
                continue;
            }
        };
        if let Some(ending) = content.true_ending {
            let message = format!("holds another format than its name says; {ending} is right");
            tell(Kind::Ending, message, fix.rename(&seen.path, ending));
        }
        let [width, height] = content.size;
        let (short, long) = (width.min(height), width.max(height));
        let unusual = if content.print.is_none() {
            Some("is of one colour all over".to_owned())
        } else if long > MAX_ASPECT * short {
            Some(format!("is {width}x{height}: made square, it loses its proportions or most of itself"))
        } else if short < median / MIN_SHARE {
            Some(format!("is {width}x{height}, the shorter side of the median picture is {median}"))
        } else {
            None
        };
        if let Some(message) = unusual {
            let fix = fix.remove(seen.file());
            tell(Kind::Shape, message, format!("look at it; cut out what it shows, or {fix}"));
        }
    }
    findings
}
