//! The real server on a free port, asked over TCP: every route, every limit, and clients that misbehave.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod classify;
mod client;
mod limits;
mod metrics;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use client::{get, request, send, start};
use edge_vit::capture::Health;
use edge_vit::serve::{Hub, Options, ServeError, Server};

#[test]
fn every_answer_forbids_what_a_page_could_be_abused_for() {
    let (server, _hub) = start(|_| ());
    for target in ["/", "/icon.svg", "/healthz", "/metrics", "/nothing"] {
        let answer = get(server.address(), target);
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{target}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{target}");
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"), "{target}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{target}");
        assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none';"), "{target}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{target}");
    }
}

#[test]
fn the_page_is_html_with_nothing_outside_it() {
    let (server, _hub) = start(|_| ());
    let page = get(server.address(), "/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().starts_with("<!doctype html>") && page.text().contains("aria-live"));
    let head = send(server.address(), &request("HEAD", "/", "", b""));
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(get(server.address(), "/icon.svg").header("content-type"), Some("image/svg+xml"));
}

#[test]
fn a_route_that_is_not_there_and_a_method_that_is_not_taken_are_told_apart() {
    let (server, _hub) = start(|_| ());
    for target in ["/nothing", "/stream/", "/../etc/passwd", "//", "/%00"] {
        let answer = get(server.address(), target);
        assert_eq!(answer.status, 404, "{target}");
        assert!(answer.error().contains("the page is at /"), "{target}");
    }
    let answer = send(server.address(), &request("POST", "/events", "", b""));
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")));
    assert_eq!(answer.error(), "/events does not take POST");
    let answer = get(server.address(), "/classify");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
}

#[test]
fn health_is_200_only_while_pictures_are_classified() {
    let (server, hub) = start(|_| ());
    let health = || get(server.address(), "/healthz");
    assert_eq!((health().status, health().json()["state"].clone()), (503, "starting".into()));
    hub.set_health(Health::Live);
    assert_eq!((health().status, health().json()["state"].clone()), (200, "live".into()));
    hub.set_health(Health::Waiting("camera 0 is gone: No such device".to_owned()));
    let waiting = health();
    assert_eq!(waiting.status, 503);
    assert_eq!(waiting.json()["reason"], "camera 0 is gone: No such device");
    hub.set_health(Health::Ended("the film is over".to_owned()));
    assert_eq!((health().status, health().json()["state"].clone()), (503, "ended".into()));
}

#[test]
fn the_token_opens_every_route_and_health_needs_none() {
    let (server, hub) = start(|options| options.token = Some("correct-horse+battery".to_owned()));
    hub.set_health(Health::Live);
    let address = server.address();
    assert_eq!(get(address, "/healthz").status, 200);
    for target in ["/", "/stream", "/frame.jpg", "/events", "/metrics", "/nothing", "/healthz/x"] {
        let answer = get(address, target);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{target}");
        assert!(answer.error().contains("?token="), "{}", answer.error());
    }
    let with = |headers: &str| send(address, &request("GET", "/metrics", headers, b"")).status;
    assert_eq!(with("Authorization: Bearer correct-horse+battery\r\n"), 200);
    assert_eq!(with("Authorization: bearer correct-horse+battery\r\n"), 200);
    assert_eq!(with("Authorization: Bearer correct-horse+batterx\r\n"), 401);
    assert_eq!(with("Authorization: Bearer \r\n"), 401);
    assert_eq!(with("Authorization: Basic correct-horse+battery\r\n"), 401);
    // In a query `+` is a space.
    assert_eq!(get(address, "/metrics?token=correct-horse%2Bbattery").status, 200);
    assert_eq!(get(address, "/metrics?token=correct-horse+battery").status, 401);
    assert_eq!(get(address, "/metrics?token=").status, 401);
    assert_eq!(get(address, "/metrics?token=%ff%fe").status, 401);
}

#[test]
fn the_loopback_answers_to_its_own_names_alone() {
    let (server, _hub) = start(|_| ());
    let ask = |headers: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        send(server.address(), request.as_bytes()).status
    };
    for host in ["localhost", "localhost:8080", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(ask(&format!("Host: {host}\r\n")), 200, "{host}");
    }
    for host in ["rebound.example", "rebound.example:80", "localhost.rebound.example", "192.168.1.7", "[::1"] {
        assert_eq!(ask(&format!("Host: {host}\r\n")), 403, "{host}");
    }
    assert_eq!(ask(""), 400);
    assert_eq!(ask("Host: localhost\r\nHost: rebound.example\r\n"), 400);
    assert_eq!(ask("Host: \u{fc}ber\r\n"), 400);
}

#[test]
fn another_sites_page_cannot_post() {
    let (server, hub) = start(|_| ());
    hub.set_classify(Arc::new(|_| Ok(serde_json::json!({}))));
    let post = |origin: &str| send(server.address(), &request("POST", "/classify", origin, b"picture")).status;
    assert_eq!(post(""), 200);
    assert_eq!(post("Origin: http://localhost\r\n"), 200);
    assert_eq!(post("Origin: http://evil.example\r\n"), 403);
    assert_eq!(post("Origin: null\r\n"), 403);
}

#[test]
fn a_server_that_cannot_start_says_what_to_do() {
    let hub = || Arc::new(Hub::new(["cat"]));
    let open = Options { address: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
    let error = Server::start(open.clone(), hub()).unwrap_err();
    assert!(matches!(error, ServeError::NoToken { .. }));
    assert!(error.to_string().contains("set a token") && error.to_string().contains("ssh -L"), "{error}");
    let server = Server::start(Options { token: Some("correct-horse".to_owned()), ..open }, hub()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], server.address().port()));
    assert_eq!(get(address, "/").status, 401);

    let error = Server::start(Options { address, ..Options::default() }, hub()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot serve on {address}: another program has this port; stop it, or choose another port")
    );
    // An address of the range that is kept for documentation.
    let address = "192.0.2.1:0".parse().unwrap();
    let token = Some("correct-horse".to_owned());
    let error = Server::start(Options { address, token, ..Options::default() }, hub()).unwrap_err();
    assert!(error.to_string().contains("no such address"), "{error}");
}

#[test]
fn dropping_the_server_ends_its_connections_and_frees_its_port() {
    use std::io::Read;
    let (server, hub) = start(|_| ());
    let address = server.address();
    let mut idle = client::connect(address);
    let mut events = client::open(address, "/events");
    client::next_event(&mut events);
    drop(server);
    for (name, reader) in [("idle", &mut idle as &mut dyn Read), ("events", &mut events)] {
        let mut rest = Vec::new();
        // Closed in order or reset: both are an end.
        let _ = reader.read_to_end(&mut rest);
        assert!(!rest.windows(5).any(|window| window == b"event"), "{name} goes on");
    }
    let again = Server::start(Options { address, ..Options::default() }, hub).unwrap();
    assert_eq!(get(again.address(), "/").status, 200);
}
