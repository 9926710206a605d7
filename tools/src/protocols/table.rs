//! Tables in Markdown.

use crate::evaluate::printable;

/// A table whose first column holds names and whose others hold figures, padded so that it reads as text too.
pub(super) fn markdown(header: &[String], rows: &[Vec<String>]) -> String {
    let cell = |text: &String| printable(text).replace('|', "\\|");
    let lines: Vec<Vec<String>> = std::iter::once(header)
        .chain(rows.iter().map(Vec::as_slice))
        .map(|line| line.iter().map(cell).collect())
        .collect();
    let width = |column: usize| {
        let widths = lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count());
        widths.max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths.iter().enumerate().map(|(column, &width)| match column {
        0 => "-".repeat(width),
        _ => format!("{}:", "-".repeat(width - 1)),
    });
    let rule = format!("| {} |\n", rule.collect::<Vec<_>>().join(" | "));
    let mut lines = lines.iter().map(line);
    lines.next().into_iter().chain([rule]).chain(lines).collect()
}

/// A figure in percent, or a dash.
pub(super) fn percent(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let table = markdown(&row(["task", "ours"]), &[row(["a|b\u{1b}", "7.0"]), row(["mean of all", "12.25"])]);
        let expected = "| task        |  ours |\n| ----------- | ----: |\n| a\\|b\u{fffd}       |   7.0 |\n| mean of all | 12.25 |\n";
        assert_eq!(table, expected);
    }
}
