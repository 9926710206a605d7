//! The page, put together into one file, and the policy that lets it load nothing but itself.

use axum::body::Bytes;
use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page as it is sent.
pub(super) struct Page {
    /// The whole document.
    pub(super) html: Bytes,
    /// Its content security policy: its own style and script, known by their hashes, and requests to this server.
    pub(super) policy: HeaderValue,
}

impl Page {
    /// The sign in the browser's tab.
    pub(super) const ICON: &'static str = include_str!("page/icon.svg");

    /// Puts style and script into the document.
    pub(super) fn new() -> Self {
        let html = HTML.replace("{style}", STYLE).replace("{script}", SCRIPT);
        let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
        let policy = format!(
            "default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'sha256-{}'; script-src 'sha256-{}'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(STYLE),
            hash(SCRIPT)
        );
        // Base64 and the text above are ASCII; a browser without a policy would be told to load nothing at all.
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { html: html.into(), policy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_names_no_outside_resource() {
        let page = Page::new();
        let html = std::str::from_utf8(&page.html).unwrap();
        assert!(html.contains(STYLE) && html.contains(SCRIPT));
        assert!(!html.contains("{style}") && !html.contains("{script}"));
        // The namespace of SVG is a name, not an address that is loaded.
        let html = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!html.contains("http:") && !html.contains("https:") && !html.contains("//cdn"), "an outside resource");
        assert!(!html.contains("style=\""), "the policy forbids style attributes");
    }

    #[test]
    fn the_policy_allows_only_what_the_page_has() {
        let policy = Page::new().policy;
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("data:"), "{policy}");
    }
}
