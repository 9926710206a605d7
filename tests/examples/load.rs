//! A camera loop at ten frames a second with the page's clients upon it: what it does to the loop, the memory and the
//! clients. `cargo run --release -p edge-vit-tests --example load -- [SECONDS [ROUNDS]]`
//!
//! The clients run in a process of their own, so that the memory is the server's: a hundred pages (`/events` and
//! `/stream`), of which ten never read, and fifty posted pictures a second.

use std::error::Error;
use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use edge_vit::capture::{Counts, Health};
use edge_vit::serve::{Hub, Options, Server, preview};
use edge_vit::{Candidate, Classifier, Observation, Stages};
use image::{ImageFormat, Rgb, RgbImage};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The camera's rate, in frames a second.
const RATE: u32 = 10;
const PAGES: usize = 100;
/// Pages that open their connections and never read.
const SLEEPERS: usize = 10;
/// Posted pictures a second.
const POSTS: u32 = 50;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["clients", address, seconds] => clients(address.parse()?, Duration::from_secs(seconds.parse()?)),
        [seconds, rounds] => run(seconds.parse()?, rounds.parse()?),
        [seconds] => run(seconds.parse()?, 2),
        _ => run(60, 2),
    }
}

fn run(seconds: u64, rounds: u32) -> Fallible<()> {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/tests/fixtures/tiny.onnx");
    let classifier = Arc::new(Classifier::open(model)?);
    let hub = Arc::new(Hub::new(classifier.bundle().labels.iter().map(String::as_str)));
    let second = Arc::clone(&classifier);
    hub.set_classify(Arc::new(move |bytes| {
        let answer = edge_vit::decode_picture(bytes).and_then(|picture| second.classify(&picture));
        answer.map(|answer| answer[0].label.as_str().into()).map_err(|error| error.to_string())
    }));
    let server =
        Server::start(Options { address: ([127, 0, 0, 1], 0).into(), ..Options::default() }, Arc::clone(&hub))?;
    hub.set_health(Health::Live);

    let stop = Arc::new(AtomicBool::new(false));
    let beats = Arc::new(Mutex::new(Beats::default()));
    let camera = {
        let (hub, stop, beats) = (Arc::clone(&hub), Arc::clone(&stop), Arc::clone(&beats));
        thread::spawn(move || camera(&hub, &classifier, &stop, &beats))
    };
    thread::sleep(Duration::from_secs(2));
    let measure = |name: &str, during: &mut dyn FnMut() -> Fallible<()>| {
        *lock(&beats) = Beats::default();
        let begun = Instant::now();
        during()?;
        let beats = std::mem::take(&mut *lock(&beats));
        println!("{name}: {}; resident {:.1} MiB", beats.tell(begun.elapsed()), resident_mib(server.address())?);
        Ok::<_, Box<dyn Error>>(())
    };
    let quiet = Duration::from_secs((seconds / 3).max(5));
    measure("without load", &mut || {
        thread::sleep(quiet);
        Ok(())
    })?;
    for round in 1..=rounds {
        measure(&format!("with load, round {round}"), &mut || {
            let arguments = ["clients", &server.address().to_string(), &seconds.to_string()];
            let status = Command::new(std::env::current_exe()?).args(arguments).status()?;
            if status.success() { Ok(()) } else { Err(format!("the clients failed: {status}").into()) }
        })?;
    }
    measure("after the load", &mut || {
        thread::sleep(quiet);
        Ok(())
    })?;
    let metrics = ask(server.address(), "/metrics")?;
    for name in ["slow_clients_dropped", "turned_away", "watchers", "connections"] {
        for line in metrics.lines().filter(|line| line.starts_with(&format!("edge_vit_http_{name}"))) {
            println!("{line}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    camera.join().map_err(|_| "the camera loop panicked".into())
}

/// What a camera loop did.
#[derive(Default)]
struct Beats {
    frames: u32,
    /// Seconds of work a frame.
    work: Vec<f64>,
}

impl Beats {
    fn tell(&self, elapsed: Duration) -> String {
        let rate = f64::from(self.frames) / elapsed.as_secs_f64();
        let [median, high, most] = quantiles(self.work.clone()).map(|seconds| 1e3 * seconds);
        format!("{rate:.2} frames/s, work p50 {median:.2} p99 {high:.2} max {most:.2} ms a frame")
    }
}

/// Classifies and publishes ten pictures a second; a beat that is missed is lost, as a camera's is.
fn camera(hub: &Hub, classifier: &Classifier, stop: &AtomicBool, beats: &Mutex<Beats>) {
    let period = Duration::from_secs(1) / RATE;
    let pictures: Vec<_> = (0..20).map(picture).collect();
    let mut due = Instant::now();
    for (frame, picture) in (0..).zip(pictures.iter().cycle()) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        due += period;
        match due.checked_duration_since(Instant::now()) {
            Some(left) => thread::sleep(left),
            None => due = Instant::now(),
        }
        let begun = Instant::now();
        let Ok(answers) = classifier.classify(picture) else { continue };
        let model_ms = 1e3 * begun.elapsed().as_secs_f64();
        let jpeg = hub.wants_preview().then(|| preview(&picture.into()).into());
        let top: Vec<_> = answers
            .iter()
            .map(|answer| Candidate { label: answer.label.as_str().into(), score: answer.score })
            .collect();
        let observation = Observation {
            source: "load".into(),
            frame,
            time: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64()),
            age_ms: model_ms,
            label: Arc::clone(&top[0].label),
            known: true,
            changed: false,
            score: top[0].score,
            top,
            stages: Stages { model_ms, ..Stages::default() },
            counts: Counts { captured: frame, taken: frame, ..Counts::default() },
        };
        hub.publish(&observation, jpeg);
        let mut beats = lock(beats);
        beats.frames += 1;
        beats.work.push(begun.elapsed().as_secs_f64());
    }
}

/// A picture of noise on a slope, so that its JPEG is as large as a camera's.
fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(640, 480, |x, y| {
        let noise = (x * 7919 + y * 104_729 + seed * 1_299_709).wrapping_mul(2_654_435_761) >> 28;
        Rgb([(x / 3 + noise) as u8, (y / 3 + noise) as u8, (seed * 12 + noise) as u8])
    })
}

/// What the clients' process has seen.
#[derive(Default)]
struct Seen {
    events: AtomicUsize,
    pictures: AtomicUsize,
    /// Connections of pages that read and were ended by the server all the same.
    lost: AtomicUsize,
    /// Connections of pages that do not read and were ended by the server.
    dropped: AtomicUsize,
    /// Seconds until the answer of each posted picture that was classified.
    posts: Mutex<Vec<f64>>,
    /// Posted pictures for which the server had no room.
    busy: AtomicUsize,
    /// Posted pictures without an answer, or with another.
    failed: AtomicUsize,
}

fn clients(address: SocketAddr, time: Duration) -> Fallible<()> {
    let seen = Seen::default();
    let end = Instant::now() + time;
    let mut jpeg = Vec::new();
    picture(3).write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg)?;
    let next = &AtomicUsize::new(0);
    thread::scope(|scope| {
        for page in 0..PAGES {
            for target in ["/events", "/stream"] {
                let (seen, sleeps) = (&seen, page < SLEEPERS);
                scope.spawn(
                    move || if sleeps { sleep(address, target, end, seen) } else { watch(address, target, end, seen) },
                );
            }
        }
        let begun = Instant::now();
        for _ in 0..16 {
            let (seen, jpeg) = (&seen, &jpeg);
            scope.spawn(move || {
                loop {
                    let due = begun + next.fetch_add(1, Ordering::Relaxed) as u32 * (Duration::from_secs(1) / POSTS);
                    if due >= end {
                        return;
                    }
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let sent = Instant::now();
                    match post(address, jpeg) {
                        Ok(200) => lock(&seen.posts).push(sent.elapsed().as_secs_f64()),
                        Ok(503) => _ = seen.busy.fetch_add(1, Ordering::Relaxed),
                        _ => _ = seen.failed.fetch_add(1, Ordering::Relaxed),
                    }
                }
            });
        }
    });
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let posts = seen.posts.into_inner()?;
    let answered = posts.len();
    let [median, high, most] = quantiles(posts).map(|seconds| 1e3 * seconds);
    let a_page = |sum: usize| sum as f64 / (PAGES - SLEEPERS) as f64 / time.as_secs_f64();
    println!(
        "  {:.2} events and {:.2} pictures a second and page that reads, {} of their connections lost; {} of {} \
         connections that do not read dropped",
        a_page(count(&seen.events)),
        a_page(count(&seen.pictures)),
        count(&seen.lost),
        count(&seen.dropped),
        2 * SLEEPERS
    );
    println!(
        "  {:.1} posts/s answered: p50 {median:.1} p99 {high:.1} max {most:.1} ms; {} busy, {} failed",
        answered as f64 / time.as_secs_f64(),
        count(&seen.busy),
        count(&seen.failed)
    );
    Ok(())
}

/// Reads an answer that does not end, as a browser does.
fn watch(address: SocketAddr, target: &str, end: Instant, seen: &Seen) {
    let counter = if target == "/events" { &seen.events } else { &seen.pictures };
    let mark: &[u8] = if target == "/events" { b"event: observation\n" } else { b"Content-Type: image/jpeg\r\n" };
    let read = || -> Fallible<()> {
        let mut reader = BufReader::with_capacity(1 << 16, open(address, target)?);
        let mut line = Vec::new();
        while Instant::now() < end {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return Err("the server ended it".into());
            }
            if line == mark {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    if read().is_err() {
        seen.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks for an answer that does not end and never reads it, then looks whether the connection was ended.
fn sleep(address: SocketAddr, target: &str, end: Instant, seen: &Seen) {
    let Ok(mut stream) = open(address, target) else { return };
    thread::sleep(end.saturating_duration_since(Instant::now()));
    let mut rest = [0; 1 << 16];
    let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
    let from = Instant::now();
    // What had been sent comes first; a connection that still lives brings something new for ever.
    while from.elapsed() < Duration::from_secs(2) {
        match stream.read(&mut rest) {
            Ok(1..) => (),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Ok(0) | Err(_) => {
                seen.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

fn open(address: SocketAddr, target: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    Ok(stream)
}

/// Posts a picture and gives the status of the answer.
fn post(address: SocketAddr, jpeg: &[u8]) -> Fallible<u16> {
    let mut stream = TcpStream::connect(address)?;
    let head = format!("POST /classify HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", jpeg.len());
    stream.write_all(&[head.as_bytes(), jpeg].concat())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split(' ').nth(1).ok_or("no status")?.parse()?)
}

fn ask(address: SocketAddr, target: &str) -> Fallible<String> {
    let mut answer = String::new();
    open(address, target)?.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Memory of this process, as `/metrics` tells it.
fn resident_mib(address: SocketAddr) -> Fallible<f64> {
    let metrics = ask(address, "/metrics")?;
    let bytes = metrics.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    Ok(bytes.ok_or("no memory is told")?.parse::<f64>()? / (1 << 20) as f64)
}

/// Median, 99th of a hundred, and the most; zeros of nothing.
fn quantiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get((share * values.len() as f64) as usize).or(values.last()).copied().unwrap_or(0.0);
    [at(0.5), at(0.99), at(1.0)]
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
