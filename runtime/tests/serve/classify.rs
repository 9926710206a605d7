//! Pictures that are posted: answered, refused, too large, too many, or never sent whole.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::client::{connect, get, post, read_answer, request, send, start, until};

#[test]
fn a_picture_is_answered_and_a_bad_one_is_told_why() {
    let (server, hub) = start(|_| ());
    let answer = post(server.address(), b"early");
    assert_eq!(answer.status, 501, "{}", answer.text());
    hub.set_classify(Arc::new(|bytes| match bytes {
        b"cat" => Ok(serde_json::json!({ "label": "cat" })),
        b"panic" => panic!("a test of what a panic does"),
        bytes => Err(format!("{} bytes that are no picture", bytes.len())),
    }));
    let answer = post(server.address(), b"cat");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.json(), serde_json::json!({ "label": "cat" }));
    let answer = post(server.address(), b"mouse");
    assert_eq!((answer.status, answer.error().as_str()), (422, "5 bytes that are no picture"));
    assert_eq!(post(server.address(), b"").status, 422);
    assert_eq!(post(server.address(), b"panic").status, 500);
    assert_eq!(post(server.address(), b"cat").status, 200, "one panic does not end the thread");
}

#[test]
fn a_body_sent_in_chunks_is_one_picture() {
    let (server, hub) = start(|_| ());
    hub.set_classify(Arc::new(|bytes| Ok(serde_json::json!(String::from_utf8_lossy(bytes)))));
    let head = "POST /classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = send(server.address(), format!("{head}3\r\npic\r\n4\r\nture\r\n0\r\n\r\n").as_bytes());
    assert_eq!((answer.status, answer.json()), (200, "picture".into()));
    let answer = send(server.address(), format!("{head}3\r\npic\r\nnonsense\r\n").as_bytes());
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[test]
fn a_body_beyond_the_limit_is_refused_and_the_answer_is_seen() {
    let (server, hub) = start(|options| options.body_limit = 100_000);
    hub.set_classify(Arc::new(|bytes| Ok(bytes.len().into())));
    assert_eq!(post(server.address(), &vec![0; 100_000]).json(), 100_000);
    let answer = post(server.address(), &vec![0; 100_001]);
    assert_eq!(answer.status, 413);
    assert_eq!(answer.error(), "a picture may have at most 100000 bytes");

    let head = "POST /classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..11 {
        chunked.extend_from_slice(b"2710\r\n");
        chunked.extend_from_slice(&[0; 10_000]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(send(server.address(), &chunked).status, 413);

    // Who waits to be asked is refused without sending anything.
    let mut stream = connect(server.address());
    let asked = format!("{head}Expect: 100-continue\r\nContent-Length: 4000000000\r\n\r\n");
    stream.write_all(asked.as_bytes()).unwrap();
    let answer = read_answer(stream);
    assert_eq!(answer.status, 413, "{}", answer.head);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let (server, hub) = start(|options| options.body_timeout = Duration::from_millis(100));
    hub.set_classify(Arc::new(|_| Ok(().into())));
    let mut stream = connect(server.address());
    stream.write_all(b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nbegun").unwrap();
    let answer = read_answer(stream);
    assert_eq!(answer.status, 408);
    assert_eq!(answer.error(), "the body was not sent within 0.1 s");
}

/// With one place in the queue: one picture is being classified, one waits, all others are turned away.
#[test]
fn a_full_queue_turns_pictures_away() {
    let (server, hub) = start(|options| options.classify_queue = 1);
    let address = server.address();
    let (begun, begins) = channel();
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    hub.set_classify(Arc::new(move |_| {
        begun.send(()).unwrap();
        let _ = gate.lock().unwrap().recv();
        Ok("done".into())
    }));
    let first = thread::spawn(move || post(address, b"first"));
    begins.recv().unwrap();
    let (answered, answers) = channel();
    for _ in 0..4 {
        let answered = answered.clone();
        thread::spawn(move || answered.send(post(address, b"another")));
    }
    for _ in 0..3 {
        let busy = answers.recv().unwrap();
        assert_eq!((busy.status, busy.header("retry-after")), (503, Some("1")), "{}", busy.text());
    }
    assert_eq!(get(address, "/healthz").status, 503, "the server answers meanwhile");
    drop(go);
    assert_eq!(first.join().unwrap().json(), "done");
    assert_eq!(answers.recv().unwrap().json(), "done");
}

#[test]
fn the_bodies_that_are_held_are_bounded() {
    let (server, hub) = start(|options| options.body_limit = 1000);
    hub.set_classify(Arc::new(|_| Ok(().into())));
    let begin = |length: usize| {
        let mut stream = connect(server.address());
        let head = format!("POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let held = [begin(1000), begin(1000)];
    until("the room is taken", || post(server.address(), b"picture").status == 503);
    drop(held);
    until("the room is free again", || post(server.address(), b"picture").status == 200);
}

#[test]
fn a_client_that_has_gone_is_not_classified_for() {
    let (server, hub) = start(|_| ());
    let address = server.address();
    let (begun, begins) = channel();
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    hub.set_classify(Arc::new(move |bytes| {
        count.fetch_add(1, Ordering::SeqCst);
        if bytes == b"first" {
            begun.send(()).unwrap();
            let _ = gate.lock().unwrap().recv();
        }
        Ok("done".into())
    }));
    let first = thread::spawn(move || post(address, b"first"));
    begins.recv().unwrap();
    let mut gone = connect(address);
    gone.write_all(&request("POST", "/classify", "", b"gone")).unwrap();
    let connections = || get(address, "/metrics").text().contains("edge_vit_http_connections 3\n");
    until("the second request is there", connections);
    drop(gone);
    until("it is gone", || get(address, "/metrics").text().contains("edge_vit_http_connections 2\n"));
    drop(go);
    assert_eq!(first.join().unwrap().status, 200);
    assert_eq!(post(address, b"last").status, 200);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}
