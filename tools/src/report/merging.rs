//! What merging tokens would cost and save: the same training folded with more and more merged tokens, measured on the validation
//! pictures of the training and timed in turns.

use std::path::Path;

use edge_vit::{Measured, Model, TokenMerging};
use edge_vit_models::{backbone, tokens};

use super::html::{Element, head};
use super::latency::{ROUNDS, times};
use super::run::Run;
use super::svg::{Axis, Chart, figure};
use crate::evaluate::{Share, median};
use crate::merge::Merge;
use crate::quantize::{Bits, Quantize};

/// How many numbers of merged tokens are tried, from a few to as many as a block can merge.
const TRIED: usize = 5;
/// What is refused elsewhere is shown here: all accuracy may be lost.
const ANY_DROP: f64 = 100.0;

/// The curve of one training.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// How many pictures the accuracies are of.
    pub pictures: usize,
    /// The points, the one of all tokens first.
    pub points: Vec<Point>,
}

/// The model with some number of merged tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Tokens that a block merges away; 0 for all tokens.
    pub per_block: usize,
    /// Tokens behind the last block.
    pub tokens_left: usize,
    /// Operations of a picture, in 10^9.
    pub gflop: f64,
    /// Share of the pictures that are called right.
    pub accuracy: f64,
    /// Milliseconds a picture, the median of the rounds.
    pub milliseconds: f64,
}

impl Curve {
    /// Folds the run's adapters once for each number of merged tokens and times each model on `pixels`, on one thread.
    /// `pictures` is where the fold is checked; the accuracy is of the validation pictures that the run names.
    ///
    /// # Errors
    /// Why there is no curve, in words that follow "No curve:".
    pub(super) fn measure(run: &Run, pictures: Option<&Path>, pixels: &[f32]) -> Result<Self, String> {
        let path = run.backbone()?;
        let size = run.adapters.as_ref().ok_or("the run kept no adapters")?.meta.image_size;
        let backbone = backbone::load(path, Some(size)).map_err(|error| error.to_string())?;
        let most = tokens::most(&backbone.graph).map_err(|error| error.to_string())?;
        let adapters = run.adapters_path();
        let merge = |merge_tokens, quantize| {
            let (backbone, adapters) = (path, adapters.as_path());
            let merge =
                Merge { backbone, adapters, pictures, strength: 1.0, free_batch: false, merge_tokens, quantize };
            let merged = merge.run().map_err(|error| error.to_string())?;
            let model = Model::from_bytes(&merged.bytes).map_err(|error| error.to_string())?;
            Ok::<_, String>((model, merged.token_merging))
        };
        let mut models = vec![merge(None, None)?.0];
        let mut records = Vec::new();
        for per_block in numbers(most) {
            log::info!("merging {per_block} of at most {most} tokens in each block");
            let measured = Quantize { bits: Bits::F32, calibrate: None, max_drop: ANY_DROP };
            let (model, record) = merge(Some(per_block), Some(measured))?;
            models.push(model);
            records.extend(record);
        }
        let times = times(&models.iter().collect::<Vec<_>>(), pixels).map_err(|error| error.to_string())?;
        let medians: Vec<f64> = times.into_iter().map(|mut times| median(&mut times)).collect();
        Self::of(&records, &medians).ok_or_else(|| "no block can merge a token".to_owned())
    }

    /// The curve of what the files say, and the times of all tokens and of each file.
    fn of(records: &[TokenMerging], milliseconds: &[f64]) -> Option<Self> {
        let (first, (&whole, merged)) = records.first().zip(milliseconds.split_first())?;
        let all = Point {
            per_block: 0,
            tokens_left: first.tokens,
            gflop: first.gflop_unmerged,
            accuracy: first.measured.float32_accuracy,
            milliseconds: whole,
        };
        let point = |(record, &milliseconds): (&TokenMerging, &f64)| {
            let &TokenMerging { per_block, tokens_left, gflop, measured: Measured { accuracy, .. }, .. } = record;
            Point { per_block, tokens_left, gflop, accuracy, milliseconds }
        };
        let points = [all].into_iter().chain(records.iter().zip(merged).map(point)).collect();
        Some(Self { pictures: first.measured.pictures, points })
    }

    /// What the curve shows, in a sentence, and the table and the chart.
    pub(super) fn section(&self) -> (String, [Element; 2]) {
        let text = format!(
            "The same training folded by fold --merge-tokens N, in float32, on one thread of this machine, {ROUNDS} rounds in turns. \
             Right are shares of the {} validation pictures of the training, which chose its epoch too; one picture is {:.1} points, \
             and the interval of 95 % is what so few pictures can tell.",
            self.pictures,
            100.0 / self.pictures.max(1) as f64
        );
        (text, [Element::new("div").class("scroll").child(self.table()), self.chart()])
    }

    fn table(&self) -> Element {
        let row = |point: &Point| {
            let Share { share, low, high, .. } = self.share(point);
            let cells = [
                point.tokens_left.to_string(),
                format!("{:.2}", point.gflop),
                format!("{:.1}", point.milliseconds),
                format!("{:.1} %", 100.0 * share),
                format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high),
            ];
            let header = Element::new("th").attr("scope", "row").text(point.per_block);
            Element::new("tr").child(header).children(cells.map(|cell| Element::new("td").class("num").text(cell)))
        };
        Element::new("table")
            .child(Element::new("caption").text("Tokens that a block merges"))
            .child(head(&["Merged"], &["Tokens left", "GFLOP", "ms", "Right", "95 %"]))
            .child(Element::new("tbody").children(self.points.iter().map(row)))
    }

    fn chart(&self) -> Element {
        let title = "Right answers against time";
        let shares: Vec<(f64, Share)> =
            self.points.iter().map(|point| (point.milliseconds, self.share(point))).collect();
        let points: Vec<(f64, f64)> = shares.iter().map(|(ms, share)| (*ms, share.share)).collect();
        let text = match (self.points.first(), self.points.last()) {
            (Some(all), Some(fewest)) => format!(
                "From {:.1} ms and {:.1} % with all tokens to {:.1} ms and {:.1} % with {} merged in each block.",
                all.milliseconds,
                100.0 * all.accuracy,
                fewest.milliseconds,
                100.0 * fewest.accuracy,
                fewest.per_block
            ),
            _ => String::new(),
        };
        let x = Axis::over(points.iter().map(|point| point.0).chain([0.0]));
        let y = Axis::over(shares.iter().flat_map(|(_, share)| [share.low, share.high])).at_most(1.0);
        let mut chart = Chart::new("merging", (title, &text), "milliseconds a picture", x, y, true);
        for (ms, share) in &shares {
            chart = chart.path("faint", &[(*ms, share.low), (*ms, share.high)]);
        }
        let chart = chart.path("line a", &points).dots("dot a", &points);
        figure(title, &[("line a", "right"), ("faint", "95 % interval")], chart.finish())
    }

    fn share(&self, point: &Point) -> Share {
        Share::new((point.accuracy * self.pictures as f64).round() as usize, self.pictures)
    }
}

/// Up to [`TRIED`] numbers from 1 to `most`, evenly apart.
fn numbers(most: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (1..=TRIED).map(|step| (most * step).div_ceil(TRIED)).collect();
    numbers.dedup();
    numbers.retain(|&number| number > 0);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::tests::assert_well_formed;

    fn record(per_block: usize, accuracy: f64) -> TokenMerging {
        let measured = Measured { pictures: 40, float32_accuracy: 0.9, accuracy, agreement: 0.95, drop: 0.0 };
        TokenMerging {
            per_block,
            blocks: 11,
            tokens: 65,
            tokens_left: 65 - 11 * per_block,
            gflop_unmerged: 2.87,
            gflop: 2.87 - 0.27 * per_block as f64,
            measured,
            ..TokenMerging::default()
        }
    }

    #[test]
    fn numbers_reach_from_few_to_the_most() {
        assert_eq!(numbers(16), [4, 7, 10, 13, 16]);
        assert_eq!(numbers(5), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(2), [1, 2]);
        assert_eq!(numbers(0), [0; 0]);
    }

    #[test]
    fn all_tokens_come_first_and_each_file_has_its_time() {
        let curve = Curve::of(&[record(2, 0.875), record(5, 0.75)], &[40.0, 36.0, 28.0]).unwrap();
        let points: Vec<_> =
            curve.points.iter().map(|point| (point.per_block, point.tokens_left, point.milliseconds)).collect();
        assert_eq!(points, [(0, 65, 40.0), (2, 43, 36.0), (5, 10, 28.0)]);
        assert_eq!(curve.points[0].accuracy, 0.9);
        let (text, parts) = curve.section();
        assert!(text.contains("the 40 validation pictures") && text.contains("one picture is 2.5 points"), "{text}");
        let parts = parts.map(|part| part.to_string()).concat();
        assert_well_formed(&parts);
        assert!(parts.contains("<td class=\"num\">87.5 %</td>"), "{parts}");
        assert_eq!(parts.matches("<circle").count(), 3);
        assert!(
            parts.contains("From 40.0 ms and 90.0 % with all tokens to 28.0 ms and 75.0 % with 5 merged"),
            "{parts}"
        );
    }

    #[test]
    fn without_a_file_there_is_no_curve() {
        assert_eq!(Curve::of(&[], &[40.0]), None);
    }
}
