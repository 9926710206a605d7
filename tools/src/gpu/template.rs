//! WGSL with constants, unrolled loops and chosen parts.
//!
//! Lines that begin with `//:` are directives: `for NAME in COUNT` repeats the lines up to its `end` with `{NAME}`
//! replaced by 0, 1, ..; `if NAME`, `else`, `end` choose by whether the constant is not zero. COUNT is a number or a
//! constant. Constants themselves are declared to the WGSL by [`declarations`]. Loops over registers have to be unrolled
//! in the source, because a driver that leaves a loop over a private array alone keeps that array in memory.

use std::fmt::Write as _;

/// Names and values; a name stands once.
pub(crate) type Constants = [(&'static str, u32)];

/// The constants as WGSL declarations.
pub(crate) fn declarations(constants: &Constants) -> String {
    let mut text = String::new();
    for (name, value) in constants {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    }
    text
}

/// `source` with its directives carried out.
///
/// # Errors
/// A sentence on the directive that cannot be read.
pub(crate) fn expand(source: &str, constants: &Constants) -> Result<String, String> {
    let lines: Vec<&str> = source.lines().collect();
    let mut text = String::with_capacity(2 * source.len());
    expand_lines(&lines, constants, &mut text)?;
    Ok(text)
}

fn directive(line: &str) -> Option<Vec<&str>> {
    line.trim_start().strip_prefix("//:").map(|rest| rest.split_whitespace().collect())
}

fn expand_lines(lines: &[&str], constants: &Constants, text: &mut String) -> Result<(), String> {
    let mut at = 0;
    while at < lines.len() {
        let Some(words) = directive(lines[at]) else {
            text.push_str(lines[at]);
            text.push('\n');
            at += 1;
            continue;
        };
        let (middle, end) = block_end(lines, at)?;
        match words.as_slice() {
            ["for", name, "in", count] => {
                let place = format!("{{{name}}}");
                for i in 0..value(count, constants)? {
                    let body: Vec<String> =
                        lines[at + 1..end].iter().map(|line| line.replace(&place, &i.to_string())).collect();
                    let body: Vec<&str> = body.iter().map(String::as_str).collect();
                    expand_lines(&body, constants, text)?;
                }
            }
            ["if", name] if value(name, constants)? != 0 => {
                expand_lines(&lines[at + 1..middle.unwrap_or(end)], constants, text)?;
            }
            ["if", _] => {
                if let Some(middle) = middle {
                    expand_lines(&lines[middle + 1..end], constants, text)?;
                }
            }
            _ => return Err(format!("`{}` is no directive", lines[at])),
        }
        at = end + 1;
    }
    Ok(())
}

/// Where the `else`, if any, and the `end` of the block that begins at `at` stand.
fn block_end(lines: &[&str], at: usize) -> Result<(Option<usize>, usize), String> {
    let mut depth = 0;
    let mut middle = None;
    for (i, line) in lines.iter().enumerate().skip(at) {
        match directive(line).as_deref().and_then(|words| words.first().copied()) {
            Some("for" | "if") => depth += 1,
            Some("else") if depth == 1 => middle = Some(i),
            Some("end") if depth == 1 => return Ok((middle, i)),
            Some("end") => depth -= 1,
            _ => {}
        }
    }
    Err(format!("`{}` has no end", lines[at]))
}

fn value(word: &str, constants: &Constants) -> Result<u32, String> {
    if let Ok(number) = word.parse() {
        return Ok(number);
    }
    let found = constants.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value).ok_or_else(|| format!("`{word}` is neither a number nor a constant"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_nest_and_choices_are_made() {
        let source = "//: for r in ROWS\n//: for c in 2\na{r}{c}\n//: end\n//: if ON\non{r}\n//: else\noff{r}\n//: end\n//: end\n";
        let on = expand(source, &[("ROWS", 2), ("ON", 1)]).unwrap();
        assert_eq!(on, "a00\na01\non0\na10\na11\non1\n");
        let off = expand(source, &[("ROWS", 1), ("ON", 0)]).unwrap();
        assert_eq!(off, "a00\na01\noff0\n");
    }

    #[test]
    fn a_directive_that_cannot_be_read_is_quoted() {
        assert!(expand("//: if A\n//: end\n", &[]).unwrap_err().contains("`A`"));
        assert!(expand("//: for i in 3\n", &[]).unwrap_err().contains("no end"));
        assert!(expand("//: end\n", &[]).unwrap_err().contains("no end"));
    }
}
