//! An evaluation as a table for a terminal.

use std::fmt::Write as _;

use super::{Evaluation, Share};
use crate::data::Part;

/// Above this many classes the confusion matrix is given as its most frequent pairs.
const MATRIX_CLASSES: usize = 20;
/// How many pairs, mistakes and skipped pictures are listed.
const LISTED: usize = 10;

/// The figures as text, without colours, ending in a newline.
pub fn to_text(evaluation: &Evaluation) -> String {
    // Writing to a String cannot fail.
    let mut text = String::new();
    let part = match evaluation.part {
        Part::Test => "test part",
        Part::Val => "validation part: it may have chosen the epoch",
        Part::Train => "training part",
        Part::Whole => "no parts",
    };
    let _ = writeln!(text, "data           {} ({part})", printable(&evaluation.folder));
    let (one, all) = match evaluation.frames {
        None => ("picture", format!("pictures       {}", evaluation.top1.of)),
        Some(frames) => ("clip", format!("clips          {} (of {frames} frames)", evaluation.top1.of)),
    };
    let _ = writeln!(text, "{all}");
    let _ = writeln!(text, "top-1          {}", share(&evaluation.top1));
    if let Some(top5) = &evaluation.top5 {
        let _ = writeln!(text, "top-5          {}", share(top5));
    }
    let _ = writeln!(text, "cross-entropy  {:.4} nats a {one}", evaluation.mean_cross_entropy);
    if let Some(calibration) = &evaluation.calibration {
        let _ = writeln!(
            text,
            "unknown        {} below a score of {:.4}, fitted to give up {:.1} %",
            share(&calibration.rejected),
            calibration.threshold,
            calibration.false_rejection_rate * 100.0
        );
        let _ = writeln!(text, "top-1 of known {}", share(&calibration.accepted_top1));
        let _ = writeln!(
            text,
            "calibration    expected error {:.2} % at temperature {:.3}, {:.2} % without",
            calibration.ece_calibrated * 100.0,
            calibration.temperature,
            calibration.ece_plain * 100.0
        );
    }
    let at_once = evaluation.threads;
    let _ = writeln!(text, "time           {:.1} ms a {one} (median, {at_once} at once)", evaluation.median_ms);
    class_table(evaluation, &mut text);
    if evaluation.labels.len() <= MATRIX_CLASSES {
        matrix(evaluation, &mut text);
    }
    lists(evaluation, &mut text);
    text
}

fn share(share: &Share) -> String {
    let Share { correct, of, share, low, high } = share;
    format!("{:.2} %  ({correct} of {of}; 95 % interval {:.2} to {:.2})", share * 100.0, low * 100.0, high * 100.0)
}

fn class_table(evaluation: &Evaluation, text: &mut String) {
    let labels: Vec<String> = evaluation.labels.iter().map(|label| printable(label)).collect();
    let counted = if evaluation.frames.is_some() { "clips" } else { "pictures" };
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max("class".len());
    let percent = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{:.1}", value * 100.0));
    let _ = writeln!(text, "\n{:width$}  {counted:>8}  precision  recall", "class");
    for (label, class) in labels.iter().zip(&evaluation.classes) {
        let (precision, recall) = (percent(class.precision), percent(class.recall));
        let _ = writeln!(text, "{label:width$}  {:>8}  {precision:>9}  {recall:>6}", class.count);
    }
}

fn matrix(evaluation: &Evaluation, text: &mut String) {
    let width = evaluation.confusion.iter().flatten().map(|count| count.to_string().len()).max().unwrap_or(1).max(2);
    let _ = writeln!(text, "\nconfusion (rows: truth, columns: prediction, in the order of the table)");
    let columns: Vec<String> = (0..evaluation.labels.len()).map(|class| format!("{class:>width$}")).collect();
    let _ = writeln!(text, "     {}", columns.join(" "));
    for (class, row) in evaluation.confusion.iter().enumerate() {
        let cell = |&count: &usize| if count == 0 { format!("{:>width$}", ".") } else { format!("{count:>width$}") };
        let cells: Vec<String> = row.iter().map(cell).collect();
        let _ = writeln!(text, "{class:>4} {}  {}", cells.join(" "), printable(&evaluation.labels[class]));
    }
}

fn lists(evaluation: &Evaluation, text: &mut String) {
    let label = |class: usize| printable(&evaluation.labels[class]);
    let pairs = evaluation.confused_pairs();
    let lines =
        pairs.iter().map(|&(truth, called, count)| format!("{} called {}: {count}", label(truth), label(called)));
    list("most frequent confusions", pairs.len(), lines, text);
    let mistake = |mistake: &super::Mistake| {
        let confidence = mistake.confidence * 100.0;
        format!("{}: {} at {confidence:.1} %", printable(&mistake.path), printable(&mistake.prediction))
    };
    list("worst mistakes", evaluation.mistakes.len(), evaluation.mistakes.iter().map(mistake), text);
    let skipped = evaluation.skipped.iter().map(|one| format!("{}: {}", printable(&one.path), printable(&one.reason)));
    list("pictures skipped", evaluation.skipped.len(), skipped, text);
    let unknown = evaluation.unknown_folders.iter();
    let unknown = unknown.map(|folder| format!("{} ({} pictures)", printable(&folder.name), folder.pictures));
    list("folders that are no label of the model, left out", evaluation.unknown_folders.len(), unknown, text);
    let missing = evaluation.missing_labels.iter().map(|label| printable(label));
    list("labels without a picture here", evaluation.missing_labels.len(), missing, text);
}

fn list(title: &str, count: usize, lines: impl Iterator<Item = String>, text: &mut String) {
    if count == 0 {
        return;
    }
    let _ = writeln!(text, "\n{title}: {count}");
    for line in lines.take(LISTED) {
        let _ = writeln!(text, "  {line}");
    }
    if count > LISTED {
        let _ = writeln!(text, "  and {} more", count - LISTED);
    }
}

/// A name as a terminal may show it: control characters, which could move the cursor or colour the text, are replaced.
pub(crate) fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Skipped;
    use crate::evaluate::figures::tests::evaluation_of;

    #[test]
    fn clips_are_called_so() {
        let mut evaluation = evaluation_of(&[(0, &[1.0, 0.5]), (1, &[1.0, 0.25])]);
        evaluation.frames = Some(9);
        let text = to_text(&evaluation);
        assert!(text.contains("\nclips          2 (of 9 frames)\n") && text.contains(" nats a clip\n"), "{text}");
        assert!(text.contains("     clips  precision"), "{text}");
    }

    #[test]
    fn the_table_holds_the_figures_and_what_was_left_out() {
        let mut evaluation = evaluation_of(&[(0, &[1.0, 0.5]), (1, &[1.0, 0.25]), (1, &[0.0, 3.0])]);
        evaluation.skipped.push(Skipped { path: "b/\u{1b}[2Jx.png".into(), reason: "cut short".into() });
        evaluation.missing_labels.push("zebra".into());
        let text = to_text(&evaluation);
        assert!(text.contains("top-1          66.67 %  (2 of 3; 95 % interval 20.77 to 93.85)"), "{text}");
        // At temperature 2 the scores are 0.56, 0.59 and 0.82: none is below 0.55.
        assert!(
            text.contains("unknown        0.00 %  (0 of 3; 95 % interval 0.00 to 56.15) below a score of 0.5500"),
            "{text}"
        );
        assert!(text.contains("top-1 of known 66.67 %"), "{text}");
        assert!(text.contains("at temperature 2.000, "), "{text}");
        assert!(text.contains("\na             1       50.0   100.0\n"), "{text}");
        assert!(text.contains("   1  1  1  b\n"), "{text}");
        assert!(text.contains("b called a: 1"), "{text}");
        assert!(text.contains("pictures skipped: 1\n  b/\u{fffd}[2Jx.png: cut short\n"), "{text}");
        assert!(text.contains("labels without a picture here: 1\n  zebra\n"), "{text}");
    }
}
