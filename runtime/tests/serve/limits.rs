//! Clients that take too much: connections, time, headers, or nothing at all of what is sent to them.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::{PATIENCE, connect, get, observation, open, send, start, until};

#[test]
fn a_client_that_reads_nothing_is_dropped_and_the_others_stay() {
    let (server, hub) = start(|options| options.write_timeout = Duration::from_millis(300));
    let mut reading = open(server.address(), "/stream");
    let mut sleeping = [open(server.address(), "/stream"), open(server.address(), "/events")];
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        let mut sum = 0;
        while let Ok(read @ 1..) = reading.read(&mut buffer) {
            sum += read;
        }
        sum
    });
    let picture: Arc<[u8]> = Arc::from(vec![7; 50_000]);
    let mut answer = observation(1, "cat");
    answer.source = "x".repeat(20_000).into();
    let begun = Instant::now();
    while !get(server.address(), "/metrics").text().contains("edge_vit_http_slow_clients_dropped_total 2\n") {
        assert!(begun.elapsed() < PATIENCE, "a client that reads nothing is served for ever");
        hub.publish(&answer, Some(Arc::clone(&picture)));
        std::thread::sleep(Duration::from_millis(5));
    }
    let metrics = get(server.address(), "/metrics");
    assert!(metrics.text().contains("edge_vit_http_watchers{route=\"stream\"} 1\n"), "{}", metrics.text());
    assert!(metrics.text().contains("edge_vit_http_watchers{route=\"events\"} 0\n"), "{}", metrics.text());
    for client in &mut sleeping {
        // What was under way arrives, then the end.
        let _ = client.read_to_end(&mut Vec::new());
    }
    drop(server);
    assert!(reader.join().unwrap() > 1_000_000, "the client that reads was served all the time");
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let (server, _hub) = start(|options| options.header_timeout = Duration::from_millis(200));
    for begun in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut stream = connect(server.address());
        stream.write_all(begun).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&rest));
    }
    // A connection that was used is not kept open longer than a new one.
    let mut stream = connect(server.address());
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_head_too_large_is_refused() {
    let (server, _hub) = start(|_| ());
    let long = "x".repeat(40_000);
    let answer =
        send(server.address(), format!("GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {long}\r\n\r\n").as_bytes());
    assert_eq!(answer.status, 431);
    let many = "A: b\r\n".repeat(200);
    let answer = send(server.address(), format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n").as_bytes());
    assert_eq!(answer.status, 431);
}

#[test]
fn a_client_beyond_the_connections_is_turned_away() {
    let (server, hub) = start(|options| options.connections = 3);
    let address = server.address();
    let held = [connect(address), connect(address), connect(address)];
    // Held connections count from when the server has accepted them.
    let turned_away = |answer: &crate::client::Answer| {
        assert!([200, 503].contains(&answer.status));
        answer.status == 503 && answer.error() == "too many connections: try again later"
    };
    until("the server is full", || turned_away(&get(address, "/")));
    drop(held);
    until("there is room again", || get(address, "/").status == 200);
    drop(hub);
}

#[test]
fn watchers_leave_a_connection_for_the_others() {
    let (server, _hub) = start(|options| options.connections = 4);
    let watching: Vec<_> = (0..3).map(|_| open(server.address(), "/events")).collect();
    let answer = get(server.address(), "/stream");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(get(server.address(), "/metrics").status, 200);
    drop(watching);
    until("there is room again", || {
        let mut stream = connect(server.address());
        stream.write_all(b"HEAD /events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut head = String::new();
        stream.read_to_string(&mut head).unwrap();
        head.starts_with("HTTP/1.0 200")
    });
}

#[test]
fn no_request_stops_the_server() {
    let (server, _hub) = start(|options| {
        options.header_timeout = Duration::from_millis(300);
        options.body_timeout = Duration::from_millis(300);
    });
    let mut requests: Vec<Vec<u8>> = [
        "GET",
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /?token=%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "POST /classify HTTP/1.1\r\nHost: localhost\r\nExpect: nothing\r\nContent-Length: 1\r\n\r\nx",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    // Whole requests with bytes changed at random (xorshift).
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for _ in 0..300 {
        let mut request = crate::client::request("POST", "/classify?token=x", "Origin: http://localhost\r\n", b"body");
        for _ in 0..3 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let place = state as usize % request.len();
            request[place] = (state >> 32) as u8;
        }
        requests.push(request);
    }
    for request in requests {
        let mut stream = connect(server.address());
        // The server may close on what it has read already.
        let _ = stream.write_all(&request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(get(server.address(), "/").status, 200);
}
