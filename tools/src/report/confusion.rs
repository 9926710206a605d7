//! The confusion matrix as a heat map, and the figures of each class.

use super::html::{Element, bar, head, name};
use super::svg::{label, number, picture, shorten};
use crate::evaluate::{ClassFigures, Evaluation};

/// Longest label written beside the matrix, in characters.
const LABEL: usize = 16;
/// Width of a character of such a label.
const CHARACTER: f64 = 6.6;
/// Side of the whole matrix that cells are fitted to.
const SIDE: f64 = 560.0;
/// Smallest cell that a count is written in.
const COUNT_CELL: f64 = 20.0;
/// Smallest cell that a label is written beside.
const LABEL_CELL: f64 = 11.0;
/// How many confused pairs are listed.
const PAIRS: usize = 10;
/// Up to how many classes one table holds.
const TABLE: usize = 60;
/// How many of more classes are listed as the worst.
const WORST: usize = 30;

/// The heat map of which class was called which, with the numbers of pictures.
pub fn of_pictures(evaluation: &Evaluation) -> Element {
    let text = format!(
        "Of {} pictures of {} classes {} were called right. Rows are the truth, columns what was called.",
        evaluation.top1.of,
        evaluation.labels.len(),
        evaluation.top1.correct
    );
    let counts: Vec<Vec<u64>> =
        evaluation.confusion.iter().map(|row| row.iter().map(|&count| count as u64).collect()).collect();
    heat_map(&evaluation.labels, &counts, &text, |count, _| count.to_string())
}

/// The heat map of `confusion` `[truth][called]`: the colour is the share of the row. `text` tells what is shown, `written` what stands
/// in a cell, of its count and its share.
pub fn heat_map(
    labels: &[String],
    confusion: &[Vec<u64>],
    text: &str,
    written: impl Fn(u64, f64) -> String,
) -> Element {
    let classes = labels.len();
    let cell = (SIDE / classes.max(1) as f64).clamp(5.0, 40.0);
    let side = cell * classes as f64;
    let longest = labels.iter().map(|label| label.chars().count().min(LABEL)).max().unwrap_or(0);
    let labelled = cell >= LABEL_CELL;
    let margin = 26.0 + if labelled { longest as f64 * CHARACTER + 8.0 } else { 0.0 };
    let (width, height) = (margin + side + 8.0, margin + side + 8.0);

    let mut marks = vec![
        label(margin + side / 2.0, 14.0, "tick middle", "called"),
        label(14.0, margin + side / 2.0, "tick middle", "truth")
            .attr("transform", format!("rotate(-90 14 {})", number(margin + side / 2.0))),
    ];
    if labelled {
        for (class, text) in labels.iter().enumerate() {
            let middle = margin + (class as f64 + 0.5) * cell;
            let short = shorten(text, LABEL);
            marks.push(label(margin - 6.0, middle + 4.0, "tick end", &short));
            let turned = format!("rotate(-90 {} {})", number(middle + 4.0), number(margin - 6.0));
            marks.push(label(middle + 4.0, margin - 6.0, "tick start", &short).attr("transform", turned));
        }
    }
    for (truth, row) in confusion.iter().enumerate() {
        let total: u64 = row.iter().sum();
        for (called, &count) in row.iter().enumerate().filter(|&(_, &count)| count > 0) {
            let share = count as f64 / total as f64;
            let tip = format!("{} called {}: {count}", labels[truth], labels[called]);
            let (x, y) = (margin + called as f64 * cell, margin + truth as f64 * cell);
            let kind = if truth == called { "hit" } else { "miss" };
            let strength = if truth == called { share } else { share.sqrt().max(0.18) };
            let square = Element::new("rect").class(kind).attr("x", number(x)).attr("y", number(y));
            let square = square.attr("width", number(cell)).attr("height", number(cell));
            let square = square.attr("fill-opacity", format!("{:.2}", 0.06 + 0.94 * strength));
            let mut group = Element::new("g").child(Element::new("title").text(tip)).child(square);
            if cell >= COUNT_CELL {
                let class = if strength > 0.55 { "count middle on" } else { "count middle" };
                group = group.child(label(x + cell / 2.0, y + cell / 2.0 + 4.0, class, &written(count, share)));
            }
            marks.push(group);
        }
    }
    let frame = Element::new("rect").class("frame").attr("x", number(margin)).attr("y", number(margin));
    marks.push(frame.attr("width", number(side)).attr("height", number(side)));

    let chart = picture("confusion", width, height, "Confusion matrix", text).children(marks);
    let chart =
        chart.attr("style", format!("min-width:{}px;max-width:{}px", number(width.min(620.0) * 0.72), number(width)));
    Element::new("div").class("scroll").attr("tabindex", 0).child(chart)
}

/// The most frequent confusions as a table, or nothing where there is none.
pub fn pairs_table(evaluation: &Evaluation) -> Option<Element> {
    let pairs = evaluation.confused_pairs();
    if pairs.is_empty() {
        return None;
    }
    let row = |&(truth, called, count): &(usize, usize, usize)| {
        let cell = |class: usize| Element::new("td").child(name(&evaluation.labels[class]));
        let share = count as f64 / evaluation.classes[truth].count.max(1) as f64;
        Element::new("tr")
            .child(cell(truth))
            .child(cell(called))
            .child(Element::new("td").class("num").text(count))
            .child(Element::new("td").class("num").text(format!("{:.1} %", share * 100.0)))
    };
    let body = Element::new("tbody").children(pairs.iter().take(PAIRS).map(row));
    let caption = Element::new("caption").text("Most frequent confusions");
    let table = Element::new("table").child(caption).child(head(&["Truth", "Called"], &["Pictures", "Of its class"]));
    Some(Element::new("div").class("scroll").child(table.child(body)))
}

/// Pictures, precision and recall of each class; of many classes those told worst, and all of them folded up.
pub fn class_table(evaluation: &Evaluation) -> Element {
    let all: Vec<&ClassFigures> = evaluation.classes.iter().collect();
    if all.len() <= TABLE {
        return table("Figures by class", &all);
    }
    let mut worst: Vec<&ClassFigures> = all.iter().copied().filter(|class| class.recall.is_some()).collect();
    // The sort is stable: among equals the first output stays first.
    worst.sort_by(|a, b| a.recall.unwrap_or(1.0).total_cmp(&b.recall.unwrap_or(1.0)));
    worst.truncate(WORST);
    let summary = Element::new("summary").text(format!("All {} classes", all.len()));
    let folded = Element::new("details").child(summary).child(table("Figures by class", &all));
    let caption = format!("The {} classes with the lowest recall", worst.len());
    Element::new("div").child(table(&caption, &worst)).child(folded)
}

fn table(caption: &str, classes: &[&ClassFigures]) -> Element {
    let rows = classes.iter().map(|class| {
        let header = Element::new("th").attr("scope", "row").child(name(&class.label));
        let count = Element::new("td").class("num").text(class.count);
        let right = Element::new("td").class("num").text(class.correct);
        Element::new("tr").child(header).child(count).child(right).child(bar(class.precision)).child(bar(class.recall))
    });
    let table = Element::new("table")
        .child(Element::new("caption").text(caption))
        .child(head(&["Class"], &["Pictures", "Right", "Precision", "Recall"]))
        .child(Element::new("tbody").children(rows));
    Element::new("div").class("scroll").child(table)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::data::Part;
    use crate::evaluate::{Outcome, Sample, Samples};
    use crate::report::html::tests::assert_well_formed;

    /// Two pictures a class; one of every seventh class is called as the next.
    fn evaluation(classes: usize) -> Evaluation {
        let labels: Vec<String> = (0..classes).map(|class| format!("class number {class}")).collect();
        let outcome = |sample: usize| {
            let truth = sample / 2;
            let called =
                if truth.is_multiple_of(7) && sample.is_multiple_of(2) { (truth + 1) % classes } else { truth };
            let logits: Vec<f32> = (0..classes).map(|class| if class == called { 9.0 } else { 0.0 }).collect();
            Outcome::score(sample, truth, &logits, 1.0, 1.0).unwrap()
        };
        let outcomes: Vec<Outcome> = (0..2 * classes).map(outcome).collect();
        let pictures = (0..2 * classes).map(|at| Sample {
            path: PathBuf::from(format!("{at}.png")),
            class: at / 2,
            group: None,
            film: None,
        });
        let samples = Samples {
            folder: "pictures".into(),
            part: Part::Test,
            pictures: pictures.collect(),
            unknown_folders: Vec::new(),
            missing_labels: Vec::new(),
        };
        Evaluation::new(&labels, &samples, &outcomes, Vec::new(), None)
    }

    #[test]
    fn few_classes_stand_in_one_table() {
        let text = class_table(&evaluation(TABLE)).to_string();
        assert_well_formed(&text);
        assert_eq!((text.matches("<tr>").count(), text.matches("<details>").count()), (TABLE + 1, 0));
    }

    #[test]
    fn a_thousand_classes_are_folded_up_and_their_matrix_stays_small() {
        let evaluation = evaluation(1000);
        let table = class_table(&evaluation).to_string();
        assert_well_formed(&table);
        assert_eq!((table.matches("<tr>").count(), table.matches("<details>").count()), (WORST + 1000 + 2, 1));
        let first = table.find("class number 7<").unwrap();
        assert!(first < table.find("class number 1<").unwrap(), "the worst come first");
        let matrix = of_pictures(&evaluation).to_string();
        assert_well_formed(&matrix);
        // One square for each class and one for each of 143 confusions, and no label beside them.
        assert_eq!(matrix.matches("class=\"hit\"").count() + matrix.matches("class=\"miss\"").count(), 1143);
        assert!(matrix.len() < 400_000 && matrix.matches("<text").count() == 2, "{}", matrix.len());
    }
}
