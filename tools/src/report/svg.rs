//! Charts as inline SVG, drawn with the colours of the page: a frame with axes and grid, lines and marks in it.

use super::html::Element;

/// Width of a chart in its own units; the page scales it.
const WIDTH: f64 = 460.0;
/// Height of a chart.
const HEIGHT: f64 = 280.0;
/// Room left of the plot for the labels of the vertical axis.
const LEFT: f64 = 62.0;
/// Room at the other sides; notes stand in the upper one.
const RIGHT: f64 = 20.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 44.0;
/// How many intervals an axis aims at.
const INTERVALS: f64 = 5.0;

/// An `svg` element that a screen reader takes for one picture, with a title and a description.
pub fn picture(id: &str, width: f64, height: f64, title: &str, description: &str) -> Element {
    let (title_id, description_id) = (format!("{id}-title"), format!("{id}-desc"));
    Element::new("svg")
        .attr("viewBox", format!("0 0 {} {}", number(width), number(height)))
        .attr("role", "img")
        .attr("aria-labelledby", format!("{title_id} {description_id}"))
        .child(Element::new("title").attr("id", title_id).text(title))
        .child(Element::new("desc").attr("id", description_id).text(description))
}

/// A coordinate, with no more digits than can be seen.
pub fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// A text at a point. `class` says how it looks and to which side it runs.
pub fn label(x: f64, y: f64, class: &str, text: &str) -> Element {
    Element::new("text").class(class).attr("x", number(x)).attr("y", number(y)).text(text)
}

/// A straight line.
pub fn line(class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> Element {
    let element = Element::new("line").class(class).attr("x1", number(x1)).attr("y1", number(y1));
    element.attr("x2", number(x2)).attr("y2", number(y2))
}

/// Shortens a text to at most `most` characters.
pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The values of an axis: from a round number below to a round number above, in steps of 1, 2 or 5 times a power of ten.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    low: f64,
    step: f64,
    intervals: u32,
}

impl Axis {
    /// An axis over all finite `values`; over 0 to 1 where there is none.
    pub fn over(values: impl IntoIterator<Item = f64>) -> Self {
        let finite = values.into_iter().filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return Self::between(0.0, 1.0);
        }
        Self::between(low, high)
    }

    /// An axis that holds `low` and `high`.
    fn between(low: f64, high: f64) -> Self {
        let span = if high > low { high - low } else { low.abs().max(1.0) };
        let rough = (span / INTERVALS).max(f64::MIN_POSITIVE);
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|&step| step >= rough * 0.999);
        let step = step.unwrap_or(rough);
        let first = (low / step + 1e-9).floor() * step;
        let intervals = ((high - first) / step - 1e-9).ceil().clamp(1.0, 100.0);
        Self { low: first, step, intervals: intervals as u32 }
    }

    /// The same axis ending no higher than `most`, for shares.
    #[must_use]
    pub fn at_most(mut self, most: f64) -> Self {
        while self.intervals > 1 && self.high() > most + self.step * 1e-6 {
            self.intervals -= 1;
        }
        self
    }

    fn high(&self) -> f64 {
        self.low + self.step * f64::from(self.intervals)
    }

    /// Where `value` stands: 0 at the lower end, 1 at the upper.
    pub(super) fn place(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high() - self.low)).clamp(0.0, 1.0)
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        (0..=self.intervals).map(|at| self.low + self.step * f64::from(at))
    }

    /// A tick's value with as many digits as the step needs.
    pub(super) fn tick(&self, value: f64, percent: bool) -> String {
        let (value, step) = if percent { (value * 100.0, self.step * 100.0) } else { (value, self.step) };
        let unit = if percent { " %" } else { "" };
        if value == 0.0 || value.abs() < step * 1e-6 {
            return format!("0{unit}");
        }
        if !percent && !(1e-4..1e6).contains(&step) {
            let text = format!("{value:.1e}");
            return text.replace(".0e", "e").replace('-', "−");
        }
        let digits = (-step.log10()).ceil().clamp(0.0, 9.0) as usize;
        format!("{value:.digits$}{unit}").replace('-', "−")
    }
}

/// A plot with two axes, to which lines and marks are added.
#[derive(Debug)]
pub struct Chart {
    element: Element,
    x: Axis,
    y: Axis,
}

impl Chart {
    /// An empty chart. `x_title` stands below; `percent` writes the vertical axis in percent.
    pub fn new(id: &str, (title, description): (&str, &str), x_title: &str, x: Axis, y: Axis, percent: bool) -> Self {
        let mut chart = Self { element: picture(id, WIDTH, HEIGHT, title, description), x, y };
        let (left, right) = (LEFT, WIDTH - RIGHT);
        let floor = HEIGHT - BOTTOM;
        let mut marks = Vec::new();
        for value in chart.y.ticks() {
            let (_, y) = chart.at(chart.x.low, value);
            marks.push(line("grid", (left, y), (right, y)));
            marks.push(label(left - 7.0, y + 4.0, "tick end", &chart.y.tick(value, percent)));
        }
        for value in chart.x.ticks() {
            let (x, _) = chart.at(value, chart.y.low);
            marks.push(line("axis", (x, floor), (x, floor + 4.0)));
            marks.push(label(x, floor + 18.0, "tick middle", &chart.x.tick(value, false)));
        }
        marks.push(line("axis", (left, floor), (right, floor)));
        marks.push(label((left + right) / 2.0, HEIGHT - 6.0, "tick middle", x_title));
        chart.element = chart.element.children(marks);
        chart
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        (LEFT + self.x.place(x) * width, HEIGHT - BOTTOM - self.y.place(y) * height)
    }

    /// With a line through `points`; it breaks where a value is no finite number.
    #[must_use]
    pub fn path(mut self, class: &str, points: &[(f64, f64)]) -> Self {
        let mut data = String::new();
        let mut drawing = false;
        for &(x, y) in points {
            if !(x.is_finite() && y.is_finite()) {
                drawing = false;
                continue;
            }
            let (x, y) = self.at(x, y);
            data.push(if drawing { 'L' } else { 'M' });
            data.push_str(&format!("{} {}", number(x), number(y)));
            drawing = true;
        }
        self.element = self.element.child(Element::new("path").class(class).attr("d", data));
        self
    }

    /// With a dot at each of `points`.
    #[must_use]
    pub fn dots(mut self, class: &str, points: &[(f64, f64)]) -> Self {
        let finite = points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
        let dots: Vec<Element> = finite
            .map(|&(x, y)| {
                let (x, y) = self.at(x, y);
                Element::new("circle").class(class).attr("cx", number(x)).attr("cy", number(y)).attr("r", 3)
            })
            .collect();
        self.element = self.element.children(dots);
        self
    }

    /// With an upright line at `x` and a note above it.
    #[must_use]
    pub fn upright(mut self, x: f64, note: &str) -> Self {
        let (at, _) = self.at(x, self.y.low);
        let mark = line("mark", (at, TOP), (at, HEIGHT - BOTTOM));
        // A note at the edge would leave the picture if it stood in the middle.
        let side = if at > WIDTH / 2.0 { "note end" } else { "note start" };
        self.element = self.element.child(mark).child(label(at, TOP - 8.0, side, note));
        self
    }

    /// The finished chart.
    pub fn finish(self) -> Element {
        self.element
    }
}

/// A chart with its heading and the key to its lines: (class of the line, what it is).
pub fn figure(heading: &str, keys: &[(&str, &str)], chart: Element) -> Element {
    let key = |&(class, text): &(&str, &str)| {
        let line = line(class, (0.0, 5.0), (18.0, 5.0));
        let sample =
            Element::new("svg").class("key").attr("viewBox", "0 0 18 10").attr("aria-hidden", "true").child(line);
        Element::new("span").child(sample).text(text)
    };
    let keys = Element::new("span").class("keys").children(keys.iter().map(key));
    let caption = Element::new("figcaption").child(Element::new("strong").text(heading)).child(keys);
    Element::new("figure").child(caption).child(chart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::tests::assert_well_formed;

    #[test]
    fn axes_are_round_and_hold_their_values() {
        for (low, high) in [(0.0, 1.0), (0.013, 2.31), (-3.0, 7e6), (1e-9, 3e-9), (5.0, 5.0), (0.0, 0.0)] {
            let axis = Axis::over([low, high, f64::NAN]);
            assert!(axis.low <= low + axis.step * 1e-6 && axis.high() >= high - axis.step * 1e-6, "{axis:?}");
            assert!((1..=12).contains(&axis.intervals), "{axis:?}");
        }
        let axis = Axis::over([0.0, 2.31]);
        let ticks: Vec<String> = axis.ticks().map(|value| axis.tick(value, false)).collect();
        assert_eq!(ticks, ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"].map(|tick| tick.replace("0.0", "0")));
        let shares = Axis::over([0.62, 0.99]).at_most(1.0);
        assert_eq!(shares.tick(shares.high(), true), "100 %");
    }

    #[test]
    fn a_chart_is_well_formed_and_leaves_out_what_is_no_number() {
        let points = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0), (3.0, f64::INFINITY)];
        let x = Axis::over(points.map(|point| point.0));
        let y = Axis::over(points.map(|point| point.1));
        let chart = Chart::new("loss", ("<Loss>", "a & b"), "step", x, y, false).path("a", &points).dots("b", &points);
        let text = figure("Loss", &[("a", "train")], chart.upright(2.0, "best").finish()).to_string();
        assert_well_formed(&text);
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        assert_eq!(text.matches("<circle").count(), 2);
    }

    #[test]
    fn a_chart_of_nothing_is_drawn() {
        let chart = Chart::new("none", ("", ""), "step", Axis::over([]), Axis::over([]), false).path("a", &[]);
        assert_well_formed(&chart.finish().to_string());
    }
}
