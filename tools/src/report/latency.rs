//! The plain backbone against the merged model on this machine, through the device's own code.

use std::time::Instant;

use edge_vit::Model;

use super::html::{Element, head};
use super::svg::{Axis, label, line, number, picture};
use crate::evaluate::median;

/// Rounds before the clock counts.
const WARM_UP: usize = 3;
/// Rounds that count.
pub const ROUNDS: usize = 21;

/// Times of one picture, round by round, in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency {
    /// The plain backbone.
    pub plain: Vec<f64>,
    /// The merged model.
    pub merged: Vec<f64>,
}

impl Latency {
    /// Runs both models on the same preprocessed picture, see [`times`].
    ///
    /// # Errors
    /// What the runtime says where a model cannot take the picture.
    pub fn measure(plain: &Model, merged: &Model, pixels: &[f32]) -> Result<Self, edge_vit::Error> {
        let mut times = times(&[plain, merged], pixels)?.into_iter();
        let mut next = || times.next().unwrap_or_default();
        Ok(Self { plain: next(), merged: next() })
    }

    /// Median of the plain backbone, in milliseconds.
    pub fn plain_median(&self) -> f64 {
        median(&mut self.plain.clone())
    }

    /// Median of the merged model, in milliseconds.
    pub fn merged_median(&self) -> f64 {
        median(&mut self.merged.clone())
    }

    /// The merged model's median over the plain one's.
    pub fn ratio(&self) -> f64 {
        self.merged_median() / self.plain_median()
    }

    /// The table and the chart.
    pub fn section(&self) -> [Element; 2] {
        let row = |what: &str, times: &[f64]| {
            let mut sorted = times.to_vec();
            let middle = median(&mut sorted);
            let ends = [sorted.first(), sorted.last()].map(|end| end.copied().unwrap_or(0.0));
            let numbers = [middle, ends[0], ends[1]].map(|ms| Element::new("td").class("num").text(format!("{ms:.2}")));
            let header = Element::new("th").attr("scope", "row").text(what);
            Element::new("tr").child(header).children(numbers)
        };
        let body = [row("plain backbone", &self.plain), row("merged model", &self.merged)];
        let table = Element::new("table")
            .child(Element::new("caption").text("Milliseconds a picture"))
            .child(head(&["Model"], &["Median", "Fastest", "Slowest"]))
            .child(Element::new("tbody").children(body));
        [Element::new("div").class("scroll").child(table), Element::new("figure").child(self.chart())]
    }

    /// A dot a round, and an upright stroke at the median.
    fn chart(&self) -> Element {
        const WIDTH: f64 = 460.0;
        const HEIGHT: f64 = 140.0;
        // A round that the system interrupted would squeeze the others together: it stands at the right edge.
        let most = 2.0 * self.plain_median().max(self.merged_median());
        let axis = Axis::over(self.plain.iter().chain(&self.merged).map(|&ms| ms.min(most)));
        let x = |ms: f64| 70.0 + axis.place(ms) * (WIDTH - 70.0 - 20.0);
        let text = format!(
            "{} interleaved rounds; medians {:.2} and {:.2} milliseconds.",
            self.plain.len(),
            self.plain_median(),
            self.merged_median()
        );
        let mut marks = Vec::new();
        for value in axis.ticks() {
            marks.push(line("grid", (x(value), 10.0), (x(value), 98.0)));
            marks.push(label(x(value), 114.0, "tick middle", &axis.tick(value, false)));
        }
        marks.push(label(WIDTH / 2.0 + 25.0, HEIGHT - 6.0, "tick middle", "milliseconds a picture, a dot a round"));
        for (y, class, what, times) in [(34.0, "a", "plain", &self.plain), (74.0, "b", "merged", &self.merged)] {
            marks.push(label(60.0, y + 4.0, "tick end", what));
            for &ms in times {
                let dot = Element::new("circle").class(&format!("dot see {class}")).attr("cx", number(x(ms)));
                marks.push(dot.attr("cy", number(y)).attr("r", 4));
            }
            let middle = x(median(&mut times.clone()));
            marks.push(line(&format!("line {class}"), (middle, y - 14.0), (middle, y + 14.0)));
        }
        picture("latency", WIDTH, HEIGHT, "Latency of plain backbone and merged model", &text).children(marks)
    }
}

/// The times of each model on the same preprocessed picture, in milliseconds: in turns, the one that begins changing with each of
/// [`ROUNDS`], so that a drift of the clock rate touches all alike.
///
/// # Errors
/// What the runtime says where a model cannot take the picture.
pub fn times(models: &[&Model], pixels: &[f32]) -> Result<Vec<Vec<f64>>, edge_vit::Error> {
    let mut times = vec![Vec::with_capacity(ROUNDS); models.len()];
    for round in 0..WARM_UP + ROUNDS {
        for turn in 0..models.len() {
            let at = (round + turn) % models.len();
            let milliseconds = time(models[at], pixels)?;
            if round >= WARM_UP {
                times[at].push(milliseconds);
            }
        }
    }
    Ok(times)
}

fn time(model: &Model, pixels: &[f32]) -> Result<f64, edge_vit::Error> {
    let start = Instant::now();
    model.run(pixels)?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::tests::assert_well_formed;

    #[test]
    fn medians_and_their_ratio_are_shown() {
        let latency = Latency { plain: vec![10.0, 12.0, 11.0], merged: vec![11.0, 90.0, 11.0] };
        assert_eq!((latency.plain_median(), latency.merged_median(), latency.ratio()), (11.0, 11.0, 1.0));
        let text = latency.section().map(|element| element.to_string()).concat();
        assert_well_formed(&text);
        assert!(text.contains("<td class=\"num\">11.00</td><td class=\"num\">10.00</td>"), "{text}");
        assert_eq!(text.matches("<circle").count(), 6);
    }
}
