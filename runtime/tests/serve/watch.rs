//! Those who watch: events and pictures.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use edge_vit::capture::Health;

use crate::client::{get, next_event, next_picture, observation, open, start, until};

#[test]
fn events_begin_with_the_state_and_go_on_with_each_change() {
    let (server, hub) = start(|_| ());
    let mut early = open(server.address(), "/events");
    let (name, health) = next_event(&mut early);
    assert_eq!((name.as_str(), &health["state"]), ("health", &"starting".into()));

    hub.set_health(Health::Live);
    hub.publish(&observation(7, "cat"), None);
    let events = [next_event(&mut early), next_event(&mut early)];
    assert_eq!(events[0].0, "health");
    assert_eq!(events[0].1["state"], "live");
    assert_eq!(events[1].0, "observation");
    assert_eq!(events[1].1, serde_json::to_value(observation(7, "cat")).unwrap());

    let mut late = open(server.address(), "/events");
    assert_eq!(next_event(&mut late).1["state"], "live");
    assert_eq!(next_event(&mut late).1["frame"], 7);

    hub.set_health(Health::Waiting("line one\nline two".to_owned()));
    for reader in [&mut early, &mut late] {
        let (name, health) = next_event(reader);
        assert_eq!((name.as_str(), &health["reason"]), ("health", &"line one\nline two".into()));
    }
}

#[test]
fn without_anything_new_the_health_is_the_heartbeat() {
    let (server, _hub) = start(|options| options.heartbeat = Duration::from_millis(20));
    let mut events = open(server.address(), "/events");
    for _ in 0..5 {
        assert_eq!(next_event(&mut events).0, "health");
    }
}

#[test]
fn a_client_that_slept_gets_the_newest_answer_and_skips_the_others() {
    const ANSWERS: u64 = 20_000;
    let (server, hub) = start(|_| ());
    let mut events = open(server.address(), "/events");
    // About 800 bytes each: 16 MB, far beyond what sockets hold.
    let mut answer = observation(0, "cat");
    answer.source = "x".repeat(500).into();
    for frame in 1..=ANSWERS {
        answer.frame = frame;
        hub.publish(&answer, None);
    }
    let (mut read, mut newest) = (0, 0);
    while newest < ANSWERS {
        let (name, event) = next_event(&mut events);
        if name == "observation" {
            let frame = event["frame"].as_u64().unwrap();
            assert!(frame > newest, "{frame} after {newest}");
            (read, newest) = (read + 1, frame);
        }
    }
    assert!(read < ANSWERS / 2, "{read} of {ANSWERS} were kept for a client that did not read");
}

#[test]
fn the_stream_shows_each_picture_and_pictures_are_made_only_while_somebody_watches() {
    let (server, hub) = start(|_| ());
    assert!(!hub.wants_preview());
    let mut stream = open(server.address(), "/stream");
    until("the watcher is seen", || hub.wants_preview());
    for number in 0..3u8 {
        let picture = [b"\xff\xd8 --frame\r\n ", &[number][..], b"\xff\xd9"].concat();
        hub.publish(&observation(number.into(), "cat"), Some(Arc::from(&picture[..])));
        assert_eq!(next_picture(&mut stream), picture);
    }
    drop(stream);
    thread::sleep(Duration::from_millis(100));
    until("nobody watches", || !hub.wants_preview());
}

#[test]
fn one_picture_is_made_for_whoever_asks_for_one() {
    let (server, hub) = start(|_| ());
    let loop_hub = Arc::clone(&hub);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let camera = thread::spawn(move || {
        let mut made = 0;
        while stopped.recv_timeout(Duration::from_millis(5)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let preview = loop_hub.wants_preview().then(|| Arc::from(&b"\xff\xd8picture\xff\xd9"[..]));
            made += usize::from(preview.is_some());
            loop_hub.publish(&observation(1, "cat"), preview);
        }
        made
    });
    let answer = get(server.address(), "/frame.jpg");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("image/jpeg")));
    assert_eq!(answer.body, b"\xff\xd8picture\xff\xd9");
    drop(stop);
    assert_eq!(camera.join().unwrap(), 1);
}

#[test]
fn without_a_picture_the_client_is_told_to_come_back() {
    let (server, _hub) = start(|_| ());
    let answer = get(server.address(), "/frame.jpg");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(answer.error().contains("/healthz"));
}
