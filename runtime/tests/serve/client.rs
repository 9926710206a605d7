//! A small HTTP client that can also be a bad one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_vit::capture::Counts;
use edge_vit::serve::{Hub, Options, Server};
use edge_vit::{Candidate, Observation, Stages};

/// Longer than anything takes, so that a fault ends a test instead of hanging it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a free port of the loopback, and its hub.
pub(crate) fn start(change: impl FnOnce(&mut Options)) -> (Server, Arc<Hub>) {
    let mut options = Options { address: "127.0.0.1:0".parse().unwrap(), ..Options::default() };
    change(&mut options);
    let hub = Arc::new(Hub::new(["cat", "dog"]));
    (Server::start(options, Arc::clone(&hub)).unwrap(), hub)
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The one sentence of an error.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error says why").to_owned()
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends `request` as it is and reads to the end of the connection.
pub(crate) fn send(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = connect(address);
    stream.write_all(request).unwrap();
    read_answer(stream)
}

pub(crate) fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("no whole answer: {:?}", String::from_utf8_lossy(&bytes));
    });
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes.split_off(end + 4) }
}

/// A request of HTTP/1.0: its answer is never sent in chunks.
pub(crate) fn request(method: &str, target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    let mut request = format!("{method} {target} HTTP/1.0\r\nHost: localhost\r\n{length}{headers}\r\n").into_bytes();
    request.extend_from_slice(body);
    request
}

pub(crate) fn get(address: SocketAddr, target: &str) -> Answer {
    send(address, &request("GET", target, "", b""))
}

pub(crate) fn post(address: SocketAddr, body: &[u8]) -> Answer {
    send(address, &request("POST", "/classify", "", body))
}

/// An answer that does not end: its head is read, what follows is not.
pub(crate) fn open(address: SocketAddr, target: &str) -> BufReader<TcpStream> {
    let mut stream = connect(address);
    stream.write_all(&request("GET", target, "", b"")).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains(" 200 "), "{line}");
    while line != "\r\n" {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the head is cut");
    }
    reader
}

/// The next event: its name and its data.
pub(crate) fn next_event(reader: &mut impl BufRead) -> (String, serde_json::Value) {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the events ended");
        match line.trim_end_matches('\n') {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let [name, data] = lines.as_slice() else { panic!("not an event of two lines: {lines:?}") };
    let data = data.strip_prefix("data: ").unwrap();
    (name.strip_prefix("event: ").unwrap().to_owned(), serde_json::from_str(data).unwrap())
}

/// The next part of a multipart stream.
pub(crate) fn next_picture(reader: &mut impl BufRead) -> Vec<u8> {
    let line = |reader: &mut dyn BufRead| {
        let mut line = String::new();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the stream ended");
        line
    };
    while line(reader) != "--frame\r\n" {}
    assert_eq!(line(reader), "Content-Type: image/jpeg\r\n");
    let length = line(reader);
    let length = length.strip_prefix("Content-Length: ").unwrap().trim().parse().unwrap();
    assert_eq!(line(reader), "\r\n");
    let mut picture = vec![0; length];
    reader.read_exact(&mut picture).unwrap();
    assert_eq!(line(reader), "\r\n");
    picture
}

/// Waits until something has become so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "it never came that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An observation of the frame with this number.
pub(crate) fn observation(frame: u64, label: &str) -> Observation {
    Observation {
        source: "camera 0".into(),
        frame,
        time: 1_700_000_000.0 + frame as f64,
        age_ms: 30.0,
        label: label.into(),
        known: label != "unknown",
        changed: false,
        score: 0.75,
        top: vec![Candidate { label: label.into(), score: 0.75 }, Candidate { label: "dog".into(), score: 0.25 }],
        stages: Stages { decode_ms: 2.0, prepare_ms: 3.0, model_ms: 20.0 },
        counts: Counts { captured: 2 * frame, taken: frame, dropped: frame, ..Counts::default() },
    }
}
