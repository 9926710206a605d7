//! What is shown of a model that segments.

use std::path::Path;

use edge_vit::{Mask, Segmenter, class_color};

use super::html::{Element, bar, card, head, name, section, sentence};
use super::words::{file_name, grouped, percent};
use super::{ReportError, confusion, picture};
use crate::data::Part;
use crate::segmentation::{self, ClassOverlap, MaskedSet, Seen, SegmentationFigures};

/// How many pictures are shown at most.
const SHOWN: usize = 8;

/// The figures of a segmenter, with what the page shows of the pictures.
#[derive(Debug, Clone)]
pub struct Masks {
    /// The figures.
    pub figures: SegmentationFigures,
    /// The pictures whose masks overlap least with the truth, the worst first.
    pub worst: Vec<Worst>,
}

/// One picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Worst {
    /// Its file.
    pub path: String,
    /// The mean intersection over union of the classes in it, 0 to 1.
    pub mean_iou: f64,
    /// It under its own mask and under the one that the model gives, as `data:` addresses of small JPEGs.
    pub shown: [String; 2],
}

impl Masks {
    /// Measures `segmenter` on the pictures of `set`.
    pub(super) fn measure(
        segmenter: &Segmenter,
        part: Part,
        set: &MaskedSet,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, ReportError> {
        let (seen, skipped) = segmentation::look(segmenter, set, &|done| progress(done, set.pictures.len()))?;
        let mut worst: Vec<(f64, &Seen)> =
            seen.iter().filter_map(|seen| Some((seen.confusion.mean_iou()?, seen))).collect();
        worst.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let shown = |(mean_iou, seen): &(f64, &Seen)| {
            let masked = &set.pictures[seen.picture];
            let truth = masked.read_mask(segmenter.bundle().labels.len()).ok()?;
            let [truth, said] = shown(segmenter, &masked.path, &truth)?;
            Some(Worst { path: masked.path.display().to_string(), mean_iou: *mean_iou, shown: [truth, said] })
        };
        let worst = worst.iter().take(SHOWN).filter_map(shown).collect();
        Ok(Self { figures: segmentation::figures(&segmenter.bundle().labels, part, set, &seen, skipped)?, worst })
    }

    pub(super) fn cards(&self) -> Vec<Element> {
        let SegmentationFigures { part, pictures, mean_iou, pixel_accuracy, classes, .. } = &self.figures;
        let what = match part {
            Part::Test => "Test mean IoU",
            Part::Val => "Validation mean IoU",
            Part::Train | Part::Whole => "Mean IoU",
        };
        let counted = classes.iter().filter(|class| class.iou.is_some()).count();
        vec![
            card("card main", what, percent(*mean_iou), format!("intersection over union, mean of {counted} classes")),
            card("card", "Pixels right", percent(*pixel_accuracy), "of those that have a class"),
            card("card", "Pictures measured", grouped(*pictures), "at each mask's own size"),
        ]
    }

    pub(super) fn sections(&self) -> Vec<Element> {
        let SegmentationFigures { classes, confusion, .. } = &self.figures;
        let labels: Vec<String> = classes.iter().map(|class| class.label.clone()).collect();
        let text = "Pixels by their class (rows) and by what they were called (columns); a cell is its share of the row in percent.";
        let map = confusion::heat_map(&labels, confusion, text, |_, share| format!("{:.0}", 100.0 * share));
        let confusion = section("Confusion of pixels").child(sentence(text)).child(map);
        vec![section("Class by class").child(class_table(classes)), confusion, self.worst()]
    }

    fn worst(&self) -> Element {
        let section = section("The masks that fit least");
        if self.worst.is_empty() {
            return section.child(sentence("No picture can be shown."));
        }
        let text = format!(
            "The {} pictures with the lowest mean overlap of their classes: each under its own mask, and beside it under the model's.",
            self.worst.len()
        );
        let item = |worst: &Worst| {
            let file = file_name(&worst.path);
            let [truth, said] = [("truth", &worst.shown[0]), ("model", &worst.shown[1])]
                .map(|(what, address)| Element::new("img").attr("src", address).attr("alt", format!("{file}, {what}")));
            let overlap = Element::new("p").text(format!("mean IoU {}", percent(worst.mean_iou)));
            Element::new("li")
                .child(Element::new("div").class("pair").child(truth).child(said))
                .child(overlap)
                .child(Element::new("p").class("file").child(name(file)))
        };
        let items = self.worst.iter().map(item);
        section.child(sentence(text)).child(Element::new("ul").class("gallery wide").children(items))
    }
}

/// The picture at `path` under `truth` and under what the model says, small; `None` where it cannot be read any more.
fn shown(segmenter: &Segmenter, path: &Path, truth: &Mask) -> Option<[String; 2]> {
    let picture = edge_vit::open_picture(path).ok()?;
    let said = segmenter.segment(&picture).ok()?;
    let under = |mask: &Mask| {
        let mut picture = picture.clone();
        mask.lay_over(&mut picture);
        picture::small(picture)
    };
    Some([under(truth)?, under(&said)?])
}

fn class_table(classes: &[ClassOverlap]) -> Element {
    let row = |(class, of): (usize, &ClassOverlap)| {
        let [r, g, b] = class_color(u8::try_from(class).unwrap_or(u8::MAX));
        let colour = Element::new("span").class("colour").attr("style", format!("background:#{r:02x}{g:02x}{b:02x}"));
        let header = Element::new("th").attr("scope", "row").child(colour).child(name(&of.label));
        let share = Element::new("td").class("num").text(percent(of.share));
        Element::new("tr").child(header).child(share).child(bar(of.iou))
    };
    let table = Element::new("table")
        .child(Element::new("caption").text("Overlap with the truth by class, in the colours of the masks"))
        .child(head(&["Class"], &["Of pixels", "IoU"]))
        .child(Element::new("tbody").children(classes.iter().enumerate().map(row)));
    Element::new("div").class("scroll").child(table)
}
