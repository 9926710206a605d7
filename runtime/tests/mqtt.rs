//! The binary and a real broker: what is published, what is retained, and what the broker says when the program dies.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

use common::fixture;

/// The longest that a message may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker of the test's own, if the program is there.
struct Broker {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Broker {
    fn start() -> Option<Self> {
        let program =
            ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].into_iter().find(|path| Path::new(path).exists())?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("mosquitto.conf");
        std::fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
        let mut broker = Command::new(program);
        let child = broker.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "mosquitto does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, port, _folder: folder })
    }

    /// Everything below `topic` from now on, and what is retained there: (topic, retained, payload).
    fn subscribe(&self, name: &str, topic: &str) -> Receiver<(String, bool, String)> {
        let (client, mut connection) = Client::new(MqttOptions::new(name, "127.0.0.1", self.port), 16);
        client.subscribe(format!("{topic}/#"), QoS::AtLeastOnce).unwrap();
        let (send, receive) = channel();
        thread::spawn(move || {
            let _alive = client;
            for event in connection.iter() {
                let Ok(event) = event else { return };
                if let Event::Incoming(Packet::Publish(message)) = event {
                    let payload = String::from_utf8(message.payload.to_vec()).unwrap();
                    if send.send((message.topic, message.retain, payload)).is_err() {
                        return;
                    }
                }
            }
        });
        receive
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The next payload of `topic`.
fn next(messages: &Receiver<(String, bool, String)>, topic: &str) -> (bool, String) {
    let begun = Instant::now();
    loop {
        let (got, retained, payload) = messages.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())).unwrap();
        if got == topic {
            return (retained, payload);
        }
    }
}

#[test]
fn the_state_is_retained_and_the_last_will_is_said() {
    let Some(broker) = Broker::start() else {
        eprintln!("skipped: there is no mosquitto on this machine");
        return;
    };
    let messages = broker.subscribe("early", "shop/door");
    let mut program = Command::new(env!("CARGO_BIN_EXE_edge-vit"))
        .args(["--stdin", "--json", "--mqtt-topic", "shop/door", "--mqtt", &format!("127.0.0.1:{}", broker.port)])
        .arg("--model")
        .arg(fixture("tiny.onnx"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(next(&messages, "shop/door/availability").1, "online");

    let picture = std::fs::read(fixture("orientation_1.jpg")).unwrap();
    let mut stdin = program.stdin.take().unwrap();
    stdin.write_all(&picture).unwrap();
    // The end of a picture without marked length shows when the next one begins.
    stdin.write_all(&picture).unwrap();
    stdin.flush().unwrap();
    let observation: Value = serde_json::from_str(&next(&messages, "shop/door/observation").1).unwrap();
    assert!(observation["label"].is_string() && observation["age_ms"].as_f64().unwrap() >= 0.0, "{observation}");

    let late = broker.subscribe("late", "shop/door");
    let (retained, state) = next(&late, "shop/door/state");
    let state: Value = serde_json::from_str(&state).unwrap();
    assert!(retained);
    assert_eq!((&state["label"], &state["changed"]), (&observation["label"], &Value::Bool(true)));

    program.kill().unwrap();
    program.wait().unwrap();
    let after_death = next(&late, "shop/door/availability");
    // The retained `online` comes first to who subscribed before the death.
    let after_death = if after_death.1 == "online" { next(&late, "shop/door/availability") } else { after_death };
    assert_eq!(after_death.1, "offline");
    drop(stdin);
}

#[test]
fn a_program_that_ends_says_so() {
    let Some(broker) = Broker::start() else {
        eprintln!("skipped: there is no mosquitto on this machine");
        return;
    };
    let mut program = Command::new(env!("CARGO_BIN_EXE_edge-vit"))
        .args(["--stdin", "--mqtt-topic", "a", "--mqtt", &format!("127.0.0.1:{}", broker.port)])
        .arg("--model")
        .arg(fixture("tiny.onnx"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let messages = broker.subscribe("reader", "a");
    assert_eq!(next(&messages, "a/availability").1, "online");
    drop(program.stdin.take());
    assert_eq!(program.wait().unwrap().code(), Some(0));
    assert_eq!(next(&messages, "a/availability").1, "offline");
}
