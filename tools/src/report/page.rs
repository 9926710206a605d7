//! The page: its sections in order, and the sentences between the figures.

use edge_vit::{Quantization, Task, TokenMerging};

use super::html::{Element, card, name, pairs, section, sentence};
use super::run::{Epoch, as_json, flatten};
use super::words::{date, duration, grouped, percent};
use super::{Measured, Report, curves};
use crate::data::Part;
use crate::evaluate::Skipped;

/// The look of the page. It holds no character that would have to be escaped.
const STYLE: &str = include_str!("style.css");
/// Nothing may be loaded and no script may run, whatever a label holds.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let title = format!("Training report: {}", report.model_name);
    let meta =
        |key: &'static str, value: &str, content: &str| Element::new("meta").attr(key, value).attr("content", content);
    let page_head = Element::new("head")
        .child(Element::new("meta").attr("charset", "utf-8"))
        .child(meta("http-equiv", "Content-Security-Policy", POLICY))
        .child(meta("name", "viewport", "width=device-width, initial-scale=1"))
        .child(meta("name", "color-scheme", "light dark"))
        .child(Element::new("title").text(title))
        .child(Element::new("style").text(STYLE.trim()));
    let mut main = Element::new("main").child(header(report)).child(cards(report)).child(how_measured(report));
    main = main.child(
        section("How training went").child(Element::new("div").class("two").children(curves::charts(&report.run))),
    );
    main = main.children(report.measured.iter().flat_map(|measured| measured.figures.sections()));
    main = main.child(latency(report)).children(token_curve(report)).child(fold(report)).child(origin(report));
    main = main.children(configuration(report)).children(left_out(report));
    let version = env!("CARGO_PKG_VERSION");
    main = main.child(Element::new("footer").text(format!("Written by edge-vit-tools {version}.")));
    let html = Element::new("html").attr("lang", "en").child(page_head).child(Element::new("body").child(main));
    format!("<!DOCTYPE html>\n{html}\n")
}

fn header(report: &Report) -> Element {
    let mut facts = vec![format!("{} classes", report.bundle.labels.len())];
    if let Some(start) = &report.run.start {
        facts.push(format!("trained on {}", start.device));
        facts.push(date(start.unix_time));
    }
    Element::new("header").child(Element::new("h1").text("Training report")).child(
        Element::new("p").class("soft").child(name(&report.model_name)).text(format!(" · {}", facts.join(" · "))),
    )
}

fn cards(report: &Report) -> Element {
    let mut cards = Vec::new();
    match &report.measured {
        Some(measured) => cards.extend(measured.figures.cards()),
        None => cards.push(card("card main", "Accuracy", "not measured", "no pictures were named")),
    }
    if let (Some(probe), Some((_, epoch))) = (&report.run.probe, report.run.kept()) {
        let adapted = format!("validation; adapted {}", percent(f64::from(epoch.val_top1)));
        cards.push(card("card", "Linear probe", percent(f64::from(probe.val_top1)), adapted));
    }
    if let Some(start) = &report.run.start {
        cards.push(card("card", "Trained parameters", grouped(start.trained_parameters), "adapters and head"));
    }
    let seconds: f64 = report.run.epochs.values().map(|epoch| epoch.seconds).sum();
    let epochs = report.run.epochs.len();
    if epochs > 0 {
        cards.push(card("card", "Training time", duration(seconds), format!("{epochs} epochs, validation included")));
    }
    if let Some(error) = fold_error(report) {
        cards.push(card("card", "Fold error", format!("{error:.1e}"), "relative, folded against unfolded"));
    }
    let megabytes = format!("{:.1} MB", report.model_bytes as f64 / 1e6);
    cards.push(card("card", "Model file", megabytes, "the whole deployment"));
    let ratio = format!("{:.3} of the plain backbone's", report.latency.ratio());
    cards.push(card("card", "Time a picture", format!("{:.1} ms", report.latency.merged_median()), ratio));
    Element::new("dl").class("cards").children(cards)
}

fn how_measured(report: &Report) -> Element {
    let mut section = section("What was measured");
    section = match &report.measured {
        None => section.child(sentence(
            "The run names no folder of pictures that is here now, and none was given: no figure was measured.",
        )),
        Some(measured) => {
            let figures = &measured.figures;
            let begin = format!("The merged model was run on {} pictures of ", grouped(figures.pictures()));
            let place = name(figures.folder());
            let paragraph = Element::new("p")
                .text(begin)
                .child(place)
                .text(" by the very code that the device runs: its own decoder, preprocessing and arithmetic. ");
            let (warn, verdict) = match (figures.part(), measured.trained_on) {
                (Part::Test, _) => {
                    (false, "This is the data set's test part: neither training nor the choice of the epoch reads it.")
                }
                (Part::Val, _) => (
                    true,
                    "This is the data set's validation part, and the epoch was chosen on it: the figure is somewhat \
                     too good. Add a test folder for one that is not.",
                ),
                (Part::Train, _) | (Part::Whole, true) => (
                    true,
                    "The run was trained on pictures of this very folder: the figure says how well they were learnt, \
                     not how well new ones are told apart. Add a test folder for that.",
                ),
                (Part::Whole, false) => {
                    (false, "It has no parts: whether training saw some of its pictures cannot be told from here.")
                }
            };
            let verdict = if warn { Element::new("p").class("warn").text(verdict) } else { sentence(verdict) };
            section.child(paragraph).child(verdict)
        }
    };
    section.child(chosen(report)).children(other_adapters(report))
}

/// A warning where the model was not folded from this run's adapters.
fn other_adapters(report: &Report) -> Option<Element> {
    let own = &report.run.adapters.as_ref()?.sha256;
    let folded = &report.bundle.provenance.adapters_sha256;
    let text = "The model file was not folded from the adapters in this run's folder: the curves and the figures belong \
                to different trainings. Fold again.";
    (!own.eq_ignore_ascii_case(folded)).then(|| Element::new("p").class("warn").text(text))
}

/// How the epoch was chosen.
fn chosen(report: &Report) -> Element {
    let run = &report.run;
    let pictures = run.start.as_ref().map(|start| {
        format!(
            " Training saw {} pictures; {} others were kept for validation.",
            grouped(start.train),
            grouped(start.val)
        )
    });
    let text = match run.kept() {
        Some((number, epoch)) => format!(
            "The adapters are those of epoch {number} of {}, chosen on the validation pictures alone, where they reach \
             {}.",
            run.epochs.len(),
            reached(epoch)
        ),
        None => "The log marks no epoch as kept: the run was stopped before its first validation.".to_owned(),
    };
    let probe = run.probe.map_or_else(String::new, |probe| {
        format!(
            " A linear head on the frozen backbone, fitted in {}, reaches {} there.",
            duration(probe.seconds),
            percent(f64::from(probe.val_top1))
        )
    });
    let resumed =
        if run.starts > 1 { format!(" The run was resumed {} times.", run.starts - 1) } else { String::new() };
    sentence(format!("{text}{probe}{}{resumed}", pictures.unwrap_or_default()))
}

/// What an epoch reached on the validation pictures.
fn reached(epoch: &Epoch) -> String {
    let right = percent(f64::from(epoch.val_top1));
    match epoch.val_miou {
        Some(miou) => format!("a mean IoU of {} with {right} of the pixels right", percent(f64::from(miou))),
        None => right,
    }
}

fn latency(report: &Report) -> Element {
    let latency = &report.latency;
    let text = format!(
        "Both models were run through the device's code on this machine, on one thread and the same preprocessed \
         picture, {} rounds turn about. The merged model takes {:.3} of the plain backbone's time (ratio of medians).",
        latency.plain.len(),
        latency.ratio()
    );
    let parts = Element::new("div").class("two").children(latency.section());
    section("Latency: plain backbone against merged model").child(sentence(text)).child(parts)
}

/// What merging tokens would cost and save, where that was asked for.
fn token_curve(report: &Report) -> Option<Element> {
    let section = section("Fewer tokens: right answers against time");
    Some(match report.token_curve.as_ref()? {
        Ok(curve) => {
            let (text, parts) = curve.section();
            section.child(sentence(text)).child(Element::new("div").class("two").children(parts))
        }
        Err(reason) => section.child(sentence(format!("No curve: {reason}."))),
    })
}

fn fold(report: &Report) -> Element {
    let section = section("The fold");
    let section = match fold_error(report) {
        Some(error) => section.child(sentence(format!(
            "The adapters were folded into the backbone's weights in float64. The largest logit difference between the \
             folded and the unfolded model, measured on pictures when the file was written, is {error:.2e} relative to \
             the largest logit.",
        ))),
        None => section.child(sentence("The file states no fold error.")),
    };
    let provenance = &report.bundle.provenance;
    section
        .children(provenance.token_merging.as_ref().map(|of| sentence(token_merging(of))))
        .children(provenance.quantization.as_ref().map(|of| sentence(quantization(report.bundle.task, of))))
}

/// What merged tokens cost and save, in words.
fn token_merging(of: &TokenMerging) -> String {
    let TokenMerging { per_block, blocks, tokens, tokens_left, gflop_unmerged, gflop, measured, .. } = of;
    format!(
        "Each of {blocks} blocks merges {per_block} tokens into those most like them, so that {tokens_left} of {tokens} are left \
         and a picture takes {gflop:.2} GFLOP instead of {gflop_unmerged:.2}.{}",
        // Tokens are merged in classification alone.
        right(Task::Classification, measured)
    )
}

/// What labelled pictures say of the model as it is written, as a further sentence.
fn right(task: Task, measured: &edge_vit::Measured) -> String {
    let pictures = measured.pictures;
    let [own, float32, alike] = [measured.accuracy, measured.float32_accuracy, measured.agreement].map(percent);
    match task {
        Task::Classification => format!(
            " Of {pictures} labelled pictures it calls {own} right, the float32 model {float32}; both call {alike} the same."
        ),
        Task::Segmentation { .. } => format!(
            " On {pictures} labelled pictures its mean IoU is {own}, the float32 model's {float32}; both call {alike} of the patches \
             the same."
        ),
    }
}

/// What fewer bits cost, in words.
fn quantization(task: Task, of: &Quantization) -> String {
    let Quantization { precision, int8_layers, layers, error, measured } = of;
    let layers = match layers {
        0 => String::new(),
        _ => format!(" in {int8_layers} of {layers} layers"),
    };
    let cost = measured.as_ref().map(|measured| right(task, measured)).unwrap_or_default();
    format!(
        "The file's weights are {precision}{layers}, which changes logits by up to {error:.2e} of the largest.{cost}"
    )
}

fn origin(report: &Report) -> Element {
    let provenance = flatten(&as_json(&report.bundle.provenance));
    let preprocessing = flatten(&as_json(&report.bundle.preprocessing));
    section("Where the model comes from")
        .child(Element::new("div").class("scroll").child(pairs("Provenance, from the model file", provenance)))
        .child(Element::new("div").class("scroll").child(pairs("Preprocessing, from the model file", preprocessing)))
}

fn configuration(report: &Report) -> Option<Element> {
    let config = report.run.config.as_ref()?;
    let table = Element::new("div").class("scroll").child(pairs("config.json of the run", flatten(config)));
    Some(section("Configuration").child(table))
}

/// Pictures, folders and log lines that the figures do not count.
fn left_out(report: &Report) -> Option<Element> {
    let mut parts = Vec::new();
    let list = |caption: &str, skipped: &[Skipped]| {
        let rows = skipped.iter().map(|one| (&one.path, &one.reason));
        Element::new("div").class("scroll").child(pairs(&format!("{caption}: {}", skipped.len()), rows))
    };
    if !report.run.skipped.is_empty() {
        parts.push(list("Pictures that training skipped", &report.run.skipped));
    }
    if let Some(Measured { figures, .. }) = &report.measured {
        if !figures.skipped().is_empty() {
            parts.push(list("Pictures that could not be measured", figures.skipped()));
        }
        parts.extend(figures.left_out().into_iter().map(|table| Element::new("div").class("scroll").child(table)));
    }
    if let Some(first) = report.run.unreadable.first() {
        let count = report.run.unreadable.len();
        parts.push(sentence(format!("{count} lines of log.jsonl cannot be read, the first of them line {first}.")));
    }
    (!parts.is_empty()).then(|| section("What was left out").children(parts))
}

fn fold_error(report: &Report) -> Option<f64> {
    report.bundle.provenance.fold_error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fewer_bits_cost_is_told_as_far_as_it_is_known() {
        let half = Quantization { precision: "f16".into(), error: 4.2e-4, ..Quantization::default() };
        let told = "The file's weights are f16, which changes logits by up to 4.20e-4 of the largest.";
        assert_eq!(quantization(Task::Classification, &half), told);
        let measured =
            edge_vit::Measured { pictures: 200, float32_accuracy: 0.9, accuracy: 0.895, agreement: 0.98, drop: 0.5 };
        let int8 =
            Quantization { precision: "int8".into(), int8_layers: 47, layers: 48, measured: Some(measured), ..half };
        let text = quantization(Task::Classification, &int8);
        assert!(text.contains("int8 in 47 of 48 layers"), "{text}");
        assert!(
            text.ends_with("it calls 89.5 % right, the float32 model 90.0 %; both call 98.0 % the same."),
            "{text}"
        );
        let text = quantization(Task::Segmentation { grid: [4, 4] }, &int8);
        assert!(text.contains("its mean IoU is 89.5 %, the float32 model's 90.0 %"), "{text}");
    }

    #[test]
    fn what_merged_tokens_cost_and_save_is_told() {
        let merging = TokenMerging {
            per_block: 16,
            blocks: 11,
            tokens: 197,
            tokens_left: 21,
            gflop_unmerged: 9.2,
            gflop: 5.1,
            measured: edge_vit::Measured {
                pictures: 200,
                float32_accuracy: 0.9,
                accuracy: 0.89,
                agreement: 0.97,
                drop: 1.0,
            },
            ..TokenMerging::default()
        };
        assert_eq!(
            token_merging(&merging),
            "Each of 11 blocks merges 16 tokens into those most like them, so that 21 of 197 are left and a picture takes 5.10 \
             GFLOP instead of 9.20. Of 200 labelled pictures it calls 89.0 % right, the float32 model 90.0 %; both call 97.0 % \
             the same."
        );
    }

    #[test]
    fn the_style_needs_no_escaping() {
        assert!(!STYLE.contains(['<', '>', '&', '"', '\'']));
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
