//! A camera loop's months in a minute: the real threads of a capture in simulated time, before a camera that stalls, is
//! unplugged, hangs while it opens, and gives damaged frames.

#![cfg(all(feature = "capture", target_os = "linux"))]
#![allow(clippy::unwrap_used)] // A helper of a test may fail as a test does.

mod camera;
mod clock;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use camera::{Account, Dice, FakeCamera, INTERVAL, JITTER};
use clock::SimulatedClock;
use edge_vit::capture::{Capture, Clock, Counts, Health, Next, Options};

const FRAMES: u64 = 1_000_000;
/// Frames after which everything that is kept was allocated.
const WARM: u64 = 10_000;
/// By how much the process may have grown since then.
const GROWTH: u64 = 2 << 20;
/// How long after its last frame a camera that stalls is known to do so, at the latest.
const NOTICED: Duration = Duration::from_millis(1600);

/// Counts what is logged, by what it says.
struct Journal {
    live_again: AtomicU64,
    lines: AtomicU64,
}

static JOURNAL: Journal = Journal { live_again: AtomicU64::new(0), lines: AtomicU64::new(0) };

impl log::Log for Journal {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            let live = record.args().to_string().contains("live again");
            self.live_again.fetch_add(u64::from(live), Ordering::Relaxed);
            self.lines.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// The memory that the process has in RAM, in bytes.
fn resident() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// How long the model takes: as on a fast board, on a slow one, and on one that does something else for seconds.
fn inference(dice: &mut Dice, take: u64) -> Duration {
    match (take / 500) % 4 {
        _ if dice.below(5000) == 0 => dice.millis(1_000, 6_000),
        0 => dice.millis(2, 20),
        1 => dice.millis(20, 60),
        _ => dice.millis(80, 500),
    }
}

/// Looks at the health of the capture whenever a stall has to be known.
fn watch(clock: &SimulatedClock, camera: &Arc<FakeCamera>, capture: &Arc<Capture>) -> impl FnOnce() + Send + 'static {
    let (clock, camera, capture) = (clock.clone(), Arc::clone(camera), Arc::clone(capture));
    move || {
        while !OVER.load(Ordering::Relaxed) {
            let heard = camera.stalled.rings();
            for last in camera.stalls() {
                clock.sleep((last + NOTICED).saturating_sub(clock.now()));
                let health = capture.health();
                if !matches!(health, Health::Waiting(_)) && !OVER.load(Ordering::Relaxed) {
                    MISSED
                        .lock()
                        .unwrap()
                        .push(format!("the last frame came at {last:?}, and the source is {health:?}"));
                }
                WATCHED.fetch_add(1, Ordering::Relaxed);
            }
            camera.stalled.wait(heard, None);
        }
    }
}

static OVER: AtomicBool = AtomicBool::new(false);
static WATCHED: AtomicU64 = AtomicU64::new(0);
static MISSED: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[test]
fn a_million_frames_with_faults_leave_memory_flat_ages_bounded_and_sums_exact() {
    log::set_logger(&JOURNAL).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let began = Instant::now();
    let clock = SimulatedClock::new();
    let options = Options::default();
    let camera = FakeCamera::new(&clock, options, 0x0ed6_e517);
    let capture = Arc::new(Capture::start(camera.clone(), options, Arc::new(clock.clone())).unwrap());
    clock.spawn("watcher".to_owned(), Box::new(watch(&clock, &camera, &capture))).unwrap();

    let mut dice = Dice::new(1);
    let (mut taken, mut undecodable, mut oldest) = (0, 0, Duration::ZERO);
    let (mut busy, mut sequence, mut warm) = (Duration::ZERO, None, 0);
    loop {
        match capture.take(Duration::from_millis(500)) {
            Next::Shot(shot) => {
                let now = clock.now();
                let (exposed, whole) = FakeCamera::read(&shot.shot);
                let age = now - exposed;
                assert!(age <= busy + INTERVAL + JITTER, "a frame of {age:?} after {busy:?} of inference");
                assert!(sequence.is_none_or(|before| before < shot.sequence), "{sequence:?}, {}", shot.sequence);
                assert!(shot.arrived < now || capture.health() == Health::Live, "{:?}", capture.health());
                sequence = Some(shot.sequence);
                oldest = oldest.max(age);
                taken += 1;
                if whole {
                    clock.sleep(inference(&mut dice, taken));
                } else {
                    undecodable += 1;
                    capture.count_damaged();
                }
                busy = clock.now() - now;
            }
            Next::Nothing => busy = Duration::ZERO,
            next => panic!("{next:?} after {:?}", capture.counts()),
        }
        let captured = capture.counts().captured;
        if warm == 0 && captured >= WARM {
            warm = resident();
        }
        if captured >= FRAMES && camera.is_live() {
            break;
        }
    }
    let grown = resident().saturating_sub(warm);
    let waiting = u64::from(matches!(capture.take(Duration::ZERO), Next::Shot(_)));
    let (counts, account) = (capture.counts(), camera.account());
    let Account { whole, damaged, stalls, reopened, abandoned, .. } = account;
    println!("{counts:?}\n{account:?}\noldest frame {oldest:?}, grown by {grown} bytes");
    println!("{:?} simulated in {:?}", clock.now(), began.elapsed());
    let expected = Counts {
        captured: whole,
        taken: taken + waiting,
        dropped: whole - taken - waiting,
        damaged: damaged + undecodable,
        stalls,
        reopened,
        abandoned,
    };
    assert_eq!(counts, expected);
    assert!(grown <= GROWTH, "{warm} bytes after {WARM} frames, {grown} more after {FRAMES}");
    assert_eq!(*MISSED.lock().unwrap(), Vec::<String>::new());
    assert_eq!(JOURNAL.live_again.load(Ordering::Relaxed), account.outages);
    // Two lines an outage that ends at once; openings that fail alike are one line more, a thread that hangs another.
    let lines = JOURNAL.lines.load(Ordering::Relaxed);
    assert!(lines <= 5 * account.outages + damaged, "{lines} lines for {account:?}");
    let happened = [stalls, abandoned, account.late, account.unplugged, account.refused, undecodable, counts.dropped];
    assert!(happened.iter().all(|&times| times > 50), "{happened:?}");
    assert!(WATCHED.load(Ordering::Relaxed) > 50);

    OVER.store(true, Ordering::Relaxed);
    camera.stalled.ring();
    drop(capture);
    // All that hangs ends by itself; then only this thread is left.
    clock.sleep(Duration::from_secs(60));
    assert_eq!(clock.threads(), 1);
}
