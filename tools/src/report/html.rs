//! Elements of HTML and SVG, written so that no string can break out of its place.
//!
//! What is written is HTML and well-formed XML at once. Names of elements and attributes are the program's own; every
//! text and every attribute's value is escaped.

use std::fmt::{self, Display, Write as _};

/// Elements that have no content and no end tag.
const VOID: [&str; 4] = ["br", "img", "meta", "link"];

/// An element with its attributes and content.
#[derive(Debug, Clone)]
pub struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    content: Vec<Content>,
}

#[derive(Debug, Clone)]
enum Content {
    Element(Element),
    Text(String),
}

impl Element {
    /// An element without attributes or content.
    pub fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), content: Vec::new() }
    }

    /// With an attribute.
    #[must_use]
    pub fn attr(mut self, name: &'static str, value: impl Display) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// With a class.
    #[must_use]
    pub fn class(self, class: &str) -> Self {
        self.attr("class", class)
    }

    /// With a text after what is there.
    #[must_use]
    pub fn text(mut self, text: impl Display) -> Self {
        self.content.push(Content::Text(text.to_string()));
        self
    }

    /// With an element after what is there.
    #[must_use]
    pub fn child(mut self, child: Self) -> Self {
        self.content.push(Content::Element(child));
        self
    }

    /// With elements after what is there.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.content.extend(children.into_iter().map(Content::Element));
        self
    }
}

/// A name that came from outside: its direction of writing is kept from the text around it.
pub fn name(text: impl Display) -> Element {
    Element::new("bdi").text(text)
}

/// The head of a table: columns of words, then columns of numbers.
pub fn head(words: &[&str], numbers: &[&str]) -> Element {
    let cell = |heading: &&str| Element::new("th").attr("scope", "col").text(heading);
    let row = Element::new("tr").children(words.iter().map(cell));
    Element::new("thead").child(row.children(numbers.iter().map(|heading| cell(heading).class("num"))))
}

/// A table of two columns: a heading a row, and its value.
pub fn pairs<K: Display, V: Display>(caption: &str, rows: impl IntoIterator<Item = (K, V)>) -> Element {
    let row = |(key, value): (K, V)| {
        let key = Element::new("th").attr("scope", "row").child(name(key));
        Element::new("tr").child(key).child(Element::new("td").child(name(value)))
    };
    let caption = Element::new("caption").text(caption);
    Element::new("table").class("pairs").child(caption).child(Element::new("tbody").children(rows.into_iter().map(row)))
}

/// A section of the page under its heading.
pub(super) fn section(heading: &str) -> Element {
    Element::new("section").child(Element::new("h2").text(heading))
}

/// A paragraph.
pub(super) fn sentence(text: impl Display) -> Element {
    Element::new("p").text(text)
}

/// A figure with what it is and what else is to be known of it, as one of a list.
pub(super) fn card(class: &str, what: &str, value: impl Display, more: impl Display) -> Element {
    let value = Element::new("dd").class("value").text(value);
    let more = Element::new("dd").class("more").text(more);
    Element::new("div").class(class).child(Element::new("dt").text(what)).child(value).child(more)
}

/// A cell of a table with a share, 0 to 1, as a bar and in percent.
pub(super) fn bar(share: Option<f64>) -> Element {
    let cell = Element::new("td").class("num");
    match share {
        None => cell.text("–"),
        Some(share) => {
            let fill = Element::new("span").class("fill").attr("style", format!("width:{:.1}%", share * 100.0));
            let bar = Element::new("span").class("bar").attr("aria-hidden", "true").child(fill);
            cell.child(bar).text(format!("{:.1} %", share * 100.0))
        }
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}", self.name)?;
        for (name, value) in &self.attributes {
            write!(f, " {name}=\"")?;
            escape(value, f)?;
            f.write_char('"')?;
        }
        if VOID.contains(&self.name) {
            return f.write_str("/>");
        }
        f.write_char('>')?;
        for content in &self.content {
            match content {
                Content::Element(element) => element.fmt(f)?,
                Content::Text(text) => escape(text, f)?,
            }
        }
        write!(f, "</{}>", self.name)
    }
}

/// Characters that XML has no place for become the replacement character.
fn escape(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for c in text.chars() {
        match c {
            '&' => f.write_str("&amp;")?,
            '<' => f.write_str("&lt;")?,
            '>' => f.write_str("&gt;")?,
            '"' => f.write_str("&quot;")?,
            '\'' => f.write_str("&#39;")?,
            '\n' | '\t' => f.write_char(c)?,
            '\u{fffe}' | '\u{ffff}' => f.write_char(char::REPLACEMENT_CHARACTER)?,
            c if c.is_control() => f.write_char(char::REPLACEMENT_CHARACTER)?,
            c => f.write_char(c)?,
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Checks that `text` is well-formed: tags nest, attributes are quoted, and every `&` begins a known entity.
    pub(crate) fn assert_well_formed(text: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find('<') {
            assert_text(&rest[..start]);
            let end = start + rest[start..].find('>').expect("a tag ends");
            let tag = &rest[start + 1..end];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "tags nest");
            } else if !tag.starts_with('!') {
                let (tag, void) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
                let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
                assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "an element's name: {name:?}");
                let quoted: Vec<&str> = attributes.split('"').collect();
                assert!(quoted.len() % 2 == 1, "quotes pair: {tag}");
                for pair in quoted.chunks_exact(2) {
                    let key = pair[0].trim().strip_suffix('=').expect("a key before each value");
                    assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "an attribute's name: {key:?}");
                    assert_text(pair[1]);
                }
                if !void {
                    open.push(name);
                }
            }
            rest = &rest[end + 1..];
        }
        assert_text(rest);
        assert!(open.is_empty(), "left open: {open:?}");
    }

    fn assert_text(text: &str) {
        assert!(!text.contains(['<', '>', '"', '\'']), "unescaped: {text:?}");
        for (at, _) in text.match_indices('&') {
            let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
            assert!(known.iter().any(|entity| text[at..].starts_with(entity)), "no entity: {:?}", &text[at..]);
        }
        assert!(!text.chars().any(|c| c.is_control() && !"\n\t".contains(c)), "a control character: {text:?}");
    }

    #[test]
    fn hostile_strings_stay_in_their_place() {
        let hostile = "</td><script>alert(\"1\" & '2')</script>\u{0}\u{1b}[2J\u{ffff}<!--";
        let element = Element::new("p").attr("title", hostile).text(hostile).child(name(hostile));
        let text = pairs(hostile, [(hostile, element.to_string())]).child(element).to_string();
        assert_well_formed(&text);
        assert!(!text.contains("<script") && !text.contains("<!--"), "{text}");
        assert!(text.contains("&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)"), "{text}");
    }

    #[test]
    fn elements_without_content_have_no_end_tag() {
        let text = Element::new("p").child(Element::new("img").attr("alt", "")).child(Element::new("b")).to_string();
        assert_eq!(text, "<p><img alt=\"\"/><b></b></p>");
    }
}
