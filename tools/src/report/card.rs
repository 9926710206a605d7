//! The model card: what a stranger needs to know before using the model, as Markdown (Mitchell et al., "Model Cards for
//! Model Reporting", arXiv 1810.03993; the front matter is Hugging Face's).

use std::fmt::Write as _;

use edge_vit::Task;

use super::Report;
use super::measured::{Figures, Measured};
use super::run::flatten;
use crate::data::Part;
use crate::evaluate::{Evaluation, Share};
use crate::segmentation::SegmentationFigures;

/// Settings of the recipe that say how the model came to be, in the order in which the card lists them.
const SETTINGS: [&str; 9] =
    ["epochs", "batch_size", "lr", "weight_decay", "label_smoothing", "dropout", "drop_path", "val_fraction", "seed"];

/// How many classes are listed one by one.
const LISTED: usize = 60;
/// Of fewer pictures the recall of a class says little.
const FEW: usize = 10;

/// The card of a report's model.
pub(super) fn card(report: &Report) -> String {
    let mut text = front_matter(report);
    // Writing to a String cannot fail.
    let _ = write!(text, "# {}\n\n", escaped(&report.model_name));
    text += &what(report);
    text += &figures(report);
    text += &limits(report);
    text += &training(report);
    text += &use_of(report);
    text
}

fn front_matter(report: &Report) -> String {
    let base = quoted(&report.bundle.provenance.backbone);
    let task = match report.bundle.task {
        Task::Classification => "image-classification",
        Task::Segmentation { .. } => "image-segmentation",
    };
    format!(
        "---\nlibrary_name: edge-vit\npipeline_tag: {task}\ntags:\n  - onnx\n  - edge-vit\nbase_model: {base}\n---\n\n"
    )
}

fn what(report: &Report) -> String {
    let provenance = &report.bundle.provenance;
    let labels: Vec<String> = report.bundle.labels.iter().take(LISTED).map(|label| escaped(label)).collect();
    let more = match report.bundle.labels.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let [height, width] = report.bundle.preprocessing.image_size;
    let kind = match report.bundle.task {
        Task::Classification => "An image classifier",
        Task::Segmentation { .. } => "A segmenter, which tells the class of each pixel,",
    };
    format!(
        "{kind} of {} classes for small boards: the backbone {} adapted to pictures, the adaptation folded into its \
         weights. One ONNX file of {:.1} MB; pictures of any size are brought to {width}x{height} pixels.\n\n\
         **Classes:** {}{more}.\n\n\
         The backbone's licence applies to these weights too; its file has the SHA-256 `{}`.\n\n",
        report.bundle.labels.len(),
        escaped(&provenance.backbone),
        report.model_bytes as f64 / 1e6,
        labels.join(", "),
        code(&provenance.backbone_sha256),
    )
}

fn figures(report: &Report) -> String {
    let text = "## How good it is\n\n".to_owned();
    let Some(Measured { figures, trained_on }) = &report.measured else {
        return text + "It was not measured: no labelled pictures were at hand.\n\n";
    };
    let on = match (figures.part(), trained_on) {
        (Part::Test, _) => "test pictures, which neither training nor any choice has seen",
        (Part::Val, _) => "validation pictures, by which the epoch was chosen: somewhat too good",
        (Part::Train, _) | (Part::Whole, true) => "the pictures that it was trained on: no measure for new ones",
        (Part::Whole, false) => "pictures of which it is not known whether training saw some",
    };
    text + &match figures {
        Figures::Classes(classes) => of_pictures(&classes.evaluation, on),
        Figures::Masks(masks) => of_pixels(&masks.figures, on),
    }
}

fn of_pictures(evaluation: &Evaluation, on: &str) -> String {
    let Share { correct, of, share, low, high } = evaluation.top1;
    let mut text = format!(
        "**{:.1} %** right ({correct} of {of}; 95 % interval {:.1} to {:.1} %) on {on}, through the device's own code.\n\n",
        100.0 * share,
        100.0 * low,
        100.0 * high
    );
    text += "| class | pictures | recall | precision |\n|---|---:|---:|---:|\n";
    for class in evaluation.classes.iter().take(LISTED) {
        let (recall, precision) = (percent(class.recall), percent(class.precision));
        let _ = writeln!(text, "| {} | {} | {recall} | {precision} |", escaped(&class.label), class.count);
    }
    text.push('\n');
    if let Some(calibration) = &evaluation.calibration {
        let _ = write!(
            text,
            "Scores are off by {:.1} % on average (expected calibration error). Below a score of {:.2} the answer is *unknown*: \
             so are {:.1} % of these pictures, and {:.1} % of the others are right.\n\n",
            100.0 * calibration.ece_calibrated,
            calibration.threshold,
            100.0 * calibration.rejected.share,
            100.0 * calibration.accepted_top1.share
        );
    }
    text
}

fn of_pixels(figures: &SegmentationFigures, on: &str) -> String {
    let mut text = format!(
        "Mean intersection over union **{:.1} %**, {:.1} % of the pixels right, of {} {on}, through the device's own code.\n\n",
        100.0 * figures.mean_iou,
        100.0 * figures.pixel_accuracy,
        figures.pictures
    );
    text += "| class | of the pixels | intersection over union |\n|---|---:|---:|\n";
    for class in figures.classes.iter().take(LISTED) {
        let (share, iou) = (percent(Some(class.share)), percent(class.iou));
        let _ = writeln!(text, "| {} | {share} | {iou} |", escaped(&class.label));
    }
    text.push('\n');
    text
}

fn percent(share: Option<f64>) -> String {
    share.map_or("none".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

fn limits(report: &Report) -> String {
    let mut text = "## Limits\n\n".to_owned();
    text += match report.bundle.task {
        Task::Classification => {
            "- It knows its classes alone. A picture of something else is called *unknown* only as far as its score is low.\n"
        }
        Task::Segmentation { .. } => {
            "- It knows its classes alone, and calls every pixel one of them. Borders are as fine as patches let them be.\n"
        }
    };
    text += "- The figures hold for pictures like those measured: other cameras, light and distances can be worse.\n";
    if let Some(Measured { figures: Figures::Classes(classes), .. }) = &report.measured {
        let evaluation = &classes.evaluation;
        match evaluation.classes.iter().filter(|class| class.count < FEW).count() {
            0 => {}
            few => {
                let _ = writeln!(text, "- Of {few} classes fewer than {FEW} pictures were measured.");
            }
        }
        if let Some(&(truth, called, count)) = evaluation.confused_pairs().first() {
            let [truth, called] = [truth, called].map(|class| escaped(&evaluation.labels[class]));
            let _ = writeln!(text, "- Its most frequent confusion: {truth} called {called} ({count} pictures).");
        }
    }
    text.push('\n');
    text
}

fn training(report: &Report) -> String {
    let mut text = "## How it was made\n\n".to_owned();
    if let Some(start) = &report.run.start {
        let _ = write!(
            text,
            "{} trained parameters (adapters and head) on {} pictures, the epoch chosen on {} others; {}.\n\n",
            start.trained_parameters,
            start.train,
            start.val,
            escaped(&start.device)
        );
    }
    if let (Some(probe), Some((_, epoch))) = (&report.run.probe, report.run.kept()) {
        let _ = write!(
            text,
            "On the validation pictures it reaches {:.1} %, a linear head on the frozen backbone {:.1} %.\n\n",
            100.0 * epoch.val_top1,
            100.0 * probe.val_top1
        );
    }
    let rows = report.run.config.as_ref().map(flatten).unwrap_or_default();
    let value = |key: &str| {
        let found = rows.iter().find(|(path, _)| path.strip_prefix("config.") == Some(key));
        found.map(|(_, value)| escaped(value))
    };
    let settings: Vec<String> =
        SETTINGS.iter().filter_map(|&key| Some(format!("| `{key}` | {} |", value(key)?))).collect();
    if !settings.is_empty() {
        let _ = write!(text, "| setting | value |\n|---|---|\n{}\n\n", settings.join("\n"));
    }
    if let Some(error) = report.bundle.provenance.fold_error {
        let _ = write!(text, "Folded and unfolded model differ by {error:.1e} of the largest logit. ");
    }
    let _ = write!(
        text,
        "On the machine that wrote this a picture takes {:.1} ms on one thread, {:.3} of the plain backbone's time.\n\n",
        report.latency.merged_median(),
        report.latency.ratio()
    );
    text
}

fn use_of(report: &Report) -> String {
    let file = code(&report.model_name);
    format!(
        "## How to use it\n\n```sh\nedge-vit --model '{file}' --image photo.jpg\nedge-vit --model '{file}' --camera 0\n\
         edge-vit --model '{file}' --self-test\n```\n\nWritten by edge-vit-tools {}.\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// A text from outside in which no character means anything to Markdown or HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c if "\\`*_{}[]()#+!|~$".contains(c) => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// A text between backticks or quotes, which it cannot end.
fn code(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !"`'".contains(*c)).collect()
}

/// A text as YAML reads it between double quotes, which are JSON's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_taken_for_markup() {
        assert_eq!(escaped("a|b *c* <d> `e`\n[f](g)"), "a\\|b \\*c\\* &lt;d&gt; \\`e\\`\u{fffd}\\[f\\]\\(g\\)");
        assert_eq!(code("it's `x`\n"), "its x");
        assert_eq!(quoted("a\"b: c\n"), "\"a\\\"b: c\\n\"");
    }
}
