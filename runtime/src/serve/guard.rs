//! Who is answered: the checks before every request, and the headers on every answer.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Options;
use super::routes::refuse;

/// Routes that tell nothing of the pictures: whether the device works, and the page's icon, which browsers fetch
/// without the page's token.
const OPEN: [&str; 2] = ["/healthz", "/icon.svg"];

/// What a request must have.
#[derive(Debug)]
pub(super) struct Guard {
    loopback: bool,
    /// The SHA-256 of the token: comparing hashes takes a time that tells nothing of the token.
    token: Option<[u8; 32]>,
    /// What the page may load.
    policy: HeaderValue,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

impl Guard {
    /// `policy` is the page's content security policy.
    pub(super) fn new(options: &Options, policy: HeaderValue) -> Self {
        let token = options.token.as_ref().map(|token| Sha256::digest(token).into());
        Self { loopback: options.is_loopback(), token, policy }
    }

    /// Why the request is not answered.
    fn refusal(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
            (Some(Ok(host)), None) => host,
            _ => return Some(refuse(StatusCode::BAD_REQUEST, "a request needs one Host header")),
        };
        if self.loopback && !is_loopback(host) {
            let sentence = "this address is the loopback: ask for localhost, 127.0.0.1 or [::1]";
            return Some(refuse(StatusCode::FORBIDDEN, sentence));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) && !same_origin(headers, host) {
            return Some(refuse(StatusCode::FORBIDDEN, "the request comes from another site's page"));
        }
        let expected = self.token.as_ref()?;
        if OPEN.contains(&request.uri().path()) || self.shows(expected, request) {
            return None;
        }
        let sentence =
            "the token is missing or wrong: send `Authorization: Bearer TOKEN`, or `?token=TOKEN` in the address";
        let mut response = refuse(StatusCode::UNAUTHORIZED, sentence);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(response)
    }

    /// Whether the request carries the token.
    fn shows(&self, expected: &[u8; 32], request: &Request) -> bool {
        let header = request.headers().get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        let query = Query::<Token>::try_from_uri(request.uri()).ok().map(|Query(query)| query.token);
        let shown = |given: &[u8]| {
            let given: [u8; 32] = Sha256::digest(given).into();
            given.iter().zip(expected).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
        };
        header.is_some_and(shown) || query.is_some_and(|token| shown(token.as_bytes()))
    }
}

/// Checks the request, has it answered, and sets the headers that every answer has.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.refusal(&request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, guard.policy.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The page's address holds the token.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // No other site may show the picture, not even without reading it.
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// The token of an `Authorization` header with the scheme `Bearer`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether `host`, with or without a port, is a name or an address of the loopback. Any other name may have been made
/// to point here by the site that uses it (DNS rebinding).
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((name, rest))) => (name, rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
        Some(None) => return false,
        None => host.split_once(':').map_or((host, Some("")), |(name, port)| (name, Some(port))),
    };
    port.is_some_and(|port| port.bytes().all(|digit| digit.is_ascii_digit()))
        && (name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback()))
}

/// Whether the request comes from no page, or from one of this server.
fn same_origin(headers: &HeaderMap, host: &str) -> bool {
    headers.get_all(ORIGIN).iter().all(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let site = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        site.is_some_and(|site| site.eq_ignore_ascii_case(host))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_addresses_of_the_loopback_are_hosts() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.1.2.3:1", "[::1]", "[::1]:8080"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org:80",
            "127.0.0.1:80:80",
            "127.0.0.1:evil",
            "[::1",
            "[::1]evil",
            "[::2]:80",
            "::1",
            "192.168.1.2",
            "evil@localhost",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_told_apart() {
        let from = |origins: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(ORIGIN, HeaderValue::from_static(origin));
            }
            same_origin(&headers, "localhost:8080")
        };
        assert!(from(&[]));
        assert!(from(&["http://localhost:8080"]));
        assert!(from(&["https://LOCALHOST:8080"]));
        assert!(!from(&["http://localhost"]));
        assert!(!from(&["http://evil.example"]));
        assert!(!from(&["null"]));
        assert!(!from(&["http://localhost:8080", "http://evil.example"]));
    }

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bear"), None);
    }
}
