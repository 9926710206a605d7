//! What a capture does when a source stalls, is lost, hangs, ends or panics: one rule a test, in simulated time.

#![cfg(feature = "capture")]
#![allow(clippy::unwrap_used)] // A helper of a test may fail as a test does.

#[path = "capture_simulation/clock.rs"]
mod clock;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use clock::SimulatedClock;
use edge_vit::capture::{
    Bell, Capture, Clock, Counts, Health, Next, Open, Options, Payload, Shot, Source, SourceError, SystemClock,
};

const INTERVAL: Duration = Duration::from_millis(40);

/// What a source does next.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// So many shots, one an interval.
    Shots(u64),
    /// So many damaged ones.
    Damaged(u64),
    /// Nothing for so long, unless it is interrupted.
    Hang(Duration),
    /// It is gone.
    Lost,
    /// It has come to its end.
    End,
    Panic,
}

const FOR_EVER: Duration = Duration::from_secs(1 << 40);

/// What an opening comes to.
#[derive(Clone)]
enum Opening {
    Works(Vec<Act>),
    Fails,
    TakesFor(Duration, Vec<Act>),
}

/// Opens as it is written; when nothing is written any more, it fails.
struct Script {
    clock: Arc<dyn Clock>,
    openings: Mutex<VecDeque<Opening>>,
    /// When it was opened.
    opened: Mutex<Vec<Duration>>,
    interruptible: bool,
}

impl Script {
    fn new(clock: &SimulatedClock, interruptible: bool, openings: impl Into<VecDeque<Opening>>) -> Arc<Self> {
        let openings = Mutex::new(openings.into());
        Arc::new(Self { clock: Arc::new(clock.clone()), openings, opened: Mutex::default(), interruptible })
    }

    fn opened(&self) -> Vec<Duration> {
        self.opened.lock().unwrap().clone()
    }
}

impl Open for Script {
    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        let opening = self.openings.lock().unwrap().pop_front().unwrap_or(Opening::Fails);
        self.opened.lock().unwrap().push(self.clock.now());
        let bell = self.clock.bell();
        let acts = match opening {
            Opening::Works(acts) => acts,
            Opening::Fails => return Err(SourceError::Open("there is no camera 0".to_owned())),
            Opening::TakesFor(duration, acts) => {
                bell.wait(0, Some(self.clock.now() + duration));
                acts
            }
        };
        Ok(Box::new(Scripted { clock: self.clock.clone(), bell, acts: acts.into(), interruptible: self.interruptible }))
    }

    fn name(&self) -> Arc<str> {
        "camera 0".into()
    }
}

struct Scripted {
    clock: Arc<dyn Clock>,
    bell: Arc<dyn Bell>,
    acts: VecDeque<Act>,
    interruptible: bool,
}

impl Scripted {
    /// Waits; gives whether it was interrupted.
    fn wait(&self, duration: Duration) -> bool {
        self.bell.wait(0, Some(self.clock.now() + duration));
        self.bell.rings() > 0
    }
}

impl Source for Scripted {
    fn next(&mut self) -> Result<Option<Shot>, SourceError> {
        loop {
            match self.acts.front_mut() {
                None | Some(Act::End) => return Ok(None),
                Some(Act::Lost) => {
                    let reason = "no such device".to_owned();
                    return Err(SourceError::Lost { source_name: "camera 0".to_owned(), reason });
                }
                Some(Act::Panic) => panic!("a source that panics, as a test wants it"),
                Some(&mut Act::Hang(duration)) => {
                    self.acts.pop_front();
                    if self.wait(duration) {
                        return Ok(None);
                    }
                }
                Some(Act::Shots(0) | Act::Damaged(0)) => drop(self.acts.pop_front()),
                Some(Act::Shots(left)) => {
                    *left -= 1;
                    self.wait(INTERVAL);
                    let payload = Payload::Encoded(vec![0; 10]);
                    return Ok(Some(Shot { payload, name: "camera 0".into(), time: SystemTime::UNIX_EPOCH }));
                }
                Some(Act::Damaged(left)) => {
                    *left -= 1;
                    self.wait(INTERVAL);
                    return Err(SourceError::Damaged("it stops in the middle".to_owned()));
                }
            }
        }
    }

    fn interrupter(&self) -> Option<Box<dyn Fn() + Send>> {
        let bell = Arc::clone(&self.bell);
        self.interruptible.then(|| Box::new(move || bell.ring()) as _)
    }
}

/// A capture of `openings` that has begun, with its clock.
fn begin(
    interruptible: bool,
    options: Options,
    openings: impl Into<VecDeque<Opening>>,
) -> (SimulatedClock, Arc<Script>, Capture) {
    let clock = SimulatedClock::new();
    let script = Script::new(&clock, interruptible, openings);
    let capture = Capture::start(script.clone(), options, Arc::new(clock.clone())).unwrap();
    (clock, script, capture)
}

fn every_frame() -> Options {
    Options { every_frame: true, ..Options::default() }
}

fn works(acts: impl Into<Vec<Act>>) -> Opening {
    Opening::Works(acts.into())
}

/// The number of the next shot.
fn shot(capture: &Capture) -> u64 {
    match capture.take(Duration::from_secs(100)) {
        Next::Shot(taken) => taken.sequence,
        next => panic!("{next:?}"),
    }
}

fn failure(capture: &Capture) -> String {
    match capture.take(Duration::from_secs(1000)) {
        Next::Failed(reason) => reason,
        next => panic!("{next:?}"),
    }
}

fn waiting(capture: &Capture) -> String {
    match capture.health() {
        Health::Waiting(reason) => reason,
        health => panic!("{health:?}"),
    }
}

#[test]
fn the_newest_shot_wins_and_an_end_comes_after_the_last() {
    let (clock, _, capture) = begin(false, Options::default(), [works([Act::Shots(10), Act::End])]);
    assert_eq!(capture.health(), Health::Starting);
    assert_eq!(shot(&capture), 0);
    assert_eq!(capture.health(), Health::Live);
    assert!(matches!(capture.take(Duration::ZERO), Next::Nothing));
    clock.sleep(INTERVAL * 5 + INTERVAL / 2);
    assert_eq!(shot(&capture), 5);
    clock.sleep(Duration::from_secs(5));
    assert_eq!(shot(&capture), 9);
    assert!(matches!(capture.take(Duration::ZERO), Next::Ended(reason) if reason == "camera 0 has come to its end"));
    assert_eq!(capture.counts(), Counts { captured: 10, taken: 3, dropped: 7, ..Counts::default() });
    assert!(matches!(capture.health(), Health::Ended(_)));
}

#[test]
fn with_every_frame_the_source_waits_for_the_consumer_and_that_is_no_stall() {
    let (clock, script, capture) =
        begin(false, every_frame(), [works([Act::Shots(2), Act::Damaged(1), Act::Shots(2)])]);
    for sequence in 0..4 {
        clock.sleep(Duration::from_secs(20));
        assert_eq!(shot(&capture), sequence);
    }
    assert!(matches!(capture.take(Duration::ZERO), Next::Nothing | Next::Ended(_)));
    assert!(matches!(capture.take(Duration::from_secs(1)), Next::Ended(_)));
    assert_eq!(capture.counts(), Counts { captured: 4, taken: 4, damaged: 1, ..Counts::default() });
    assert_eq!(script.opened().len(), 1);
}

#[test]
fn what_would_begin_again_is_not_opened_again() {
    let (_, script, capture) = begin(false, every_frame(), [works([Act::Shots(1), Act::Lost]), works([])]);
    assert_eq!(shot(&capture), 0);
    assert!(failure(&capture).contains("camera 0 is gone: no such device"));
    assert_eq!(script.opened().len(), 1);
}

#[test]
fn a_first_opening_that_fails_or_hangs_is_an_error() {
    let clock = SimulatedClock::new();
    let start = |openings: Vec<Opening>| {
        let script = Script::new(&clock, false, openings);
        Capture::start(script, Options::default(), Arc::new(clock.clone())).map(drop).unwrap_err().to_string()
    };
    assert_eq!(start(vec![Opening::Fails]), "there is no camera 0");
    assert_eq!(clock.now(), Duration::ZERO);
    let error = start(vec![Opening::TakesFor(Duration::from_secs(30), Vec::new())]);
    assert!(error.contains("camera 0 does not open within 10.0 s"), "{error}");
    assert!(clock.now() <= Duration::from_secs(11), "{:?}", clock.now());
    // The thread that hung ends when it can.
    clock.sleep(Duration::from_secs(30));
    assert_eq!(clock.threads(), 1);
}

#[test]
fn a_stall_is_noticed_and_interrupted_and_the_source_opened_again() {
    let stalls = works([Act::Shots(1), Act::Hang(FOR_EVER)]);
    let (clock, script, capture) = begin(true, Options::default(), [stalls, works([Act::Shots(1000)])]);
    assert_eq!(shot(&capture), 0);
    clock.sleep(Duration::from_millis(1499));
    assert_eq!(capture.health(), Health::Live);
    clock.sleep(Duration::from_millis(2));
    assert_eq!(waiting(&capture), "camera 0: no frame for 1.5 s");
    assert_eq!(shot(&capture), 1);
    assert_eq!(capture.health(), Health::Live);
    assert_eq!(script.opened(), [0, 40 + 1500 + 250].map(Duration::from_millis));
    // It was interrupted, so that no thread was left behind.
    assert_eq!(capture.counts(), Counts { captured: 2, taken: 2, stalls: 1, reopened: 1, ..Counts::default() });
}

#[test]
fn a_late_shot_of_a_thread_left_behind_is_discarded_and_the_thread_ends() {
    let hangs = works([Act::Shots(1), Act::Hang(Duration::from_secs(3)), Act::Shots(1000)]);
    let (clock, _, capture) = begin(false, Options::default(), [hangs, works([Act::Hang(Duration::from_secs(8))])]);
    assert_eq!(shot(&capture), 0);
    clock.sleep(Duration::from_secs(2));
    assert_eq!((capture.counts().abandoned, clock.threads()), (1, 4));
    assert!(matches!(capture.take(Duration::from_secs(2)), Next::Nothing));
    assert_eq!((capture.counts().captured, clock.threads()), (1, 3));
}

#[test]
fn too_many_threads_that_hang_are_the_end() {
    let hangs = works([Act::Shots(1), Act::Hang(FOR_EVER)]);
    let (_, script, capture) = begin(false, Options::default(), vec![hangs; 9]);
    (0..4).for_each(|sequence| assert_eq!(shot(&capture), sequence));
    let reason = failure(&capture);
    assert!(reason.contains("4 of its threads hang") && reason.contains("start the program again"), "{reason}");
    assert_eq!(capture.health(), Health::Ended(reason));
    assert_eq!(script.opened().len(), 4);
    let counts = capture.counts();
    assert_eq!((counts.stalls, counts.reopened, counts.abandoned), (4, 3, 4));
}

#[test]
fn a_device_that_a_hanging_thread_may_hold_is_the_end_after_a_minute() {
    let hangs = works([Act::Shots(1), Act::Hang(FOR_EVER)]);
    let (clock, _, capture) = begin(false, Options::default(), [hangs]);
    assert_eq!(shot(&capture), 0);
    let reason = failure(&capture);
    assert!(reason.contains("1 of its threads hang") && reason.contains("there is no camera 0"), "{reason}");
    assert!((60..=66).contains(&clock.now().as_secs()), "{:?}", clock.now());
}

#[test]
fn a_lost_source_is_opened_again_without_end_and_ever_more_rarely() {
    let mut openings = vec![works([Act::Shots(1), Act::Lost])];
    openings.extend(vec![Opening::Fails; 1000]);
    openings.extend([works([Act::Shots(1), Act::Lost]), works([Act::Shots(10)])]);
    let (_, script, capture) = begin(false, Options::default(), openings);
    assert_eq!(shot(&capture), 0);
    assert!(matches!(capture.take(Duration::from_secs(4900)), Next::Nothing));
    assert_eq!(waiting(&capture), "there is no camera 0");
    assert_eq!([shot(&capture), shot(&capture)], [1, 2]);
    let opened = script.opened();
    let pauses: Vec<u128> = opened.windows(2).map(|two| (two[1] - two[0]).as_millis()).collect();
    assert_eq!(pauses[..8], [290, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
    assert_eq!(pauses[1000..], [5000, 290]);
    assert_eq!(capture.counts(), Counts { captured: 3, taken: 3, reopened: 2, ..Counts::default() });
}

#[test]
fn an_opening_that_hangs_is_a_stall() {
    let slow = Opening::TakesFor(Duration::from_secs(12), vec![Act::Shots(9)]);
    let (clock, _, capture) = begin(false, Options::default(), [works([Act::Lost]), slow, works([Act::Shots(1)])]);
    clock.sleep(Duration::from_millis(10_300));
    assert_eq!(waiting(&capture), "camera 0: it does not open within 10.0 s");
    assert_eq!(shot(&capture), 0);
    let counts = capture.counts();
    assert_eq!((counts.stalls, counts.reopened, counts.abandoned, counts.captured), (1, 1, 1, 1));
}

#[test]
fn an_open_source_that_gives_nothing_is_a_stall() {
    let silent = works([Act::Hang(FOR_EVER)]);
    let (clock, _, capture) = begin(true, Options::default(), [silent, works([Act::Shots(1)])]);
    clock.sleep(Duration::from_millis(10_100));
    assert_eq!(waiting(&capture), "camera 0: it was opened and gives no frame for 10.0 s");
    assert_eq!(shot(&capture), 0);
}

#[test]
fn damaged_shots_are_skipped_and_a_long_row_of_them_is_a_stall() {
    let row = works([Act::Shots(1), Act::Damaged(10), Act::Shots(1), Act::Damaged(100)]);
    let (clock, _, capture) = begin(false, Options::default(), [row, works([Act::Shots(1)])]);
    assert_eq!([shot(&capture), shot(&capture)], [0, 1]);
    assert_eq!((capture.counts().damaged, capture.counts().stalls), (10, 0));
    clock.sleep(Duration::from_millis(1501));
    assert_eq!(waiting(&capture), "camera 0: only damaged frames for 1.5 s");
    assert_eq!(shot(&capture), 2);
    // Those that came after the limit are not counted.
    assert_eq!((capture.counts().damaged, capture.counts().abandoned), (10 + 37, 0));
}

#[test]
fn a_source_of_which_nothing_can_be_decoded_is_opened_again() {
    let (clock, script, capture) = begin(false, Options::default(), vec![works([Act::Shots(1000)]); 2]);
    shot(&capture);
    capture.count_damaged();
    // The consumer does something else, and that row is one shot long.
    clock.sleep(Duration::from_secs(10));
    shot(&capture);
    clock.sleep(Duration::from_secs(10));
    assert_eq!(capture.counts().stalls, 0);
    let mut undecodable = 1;
    while script.opened().len() == 1 {
        shot(&capture);
        capture.count_damaged();
        undecodable += 1;
        assert!(undecodable < 100, "{:?}", capture.counts());
    }
    assert_eq!((capture.counts().damaged, capture.counts().stalls), (undecodable, 1));
}

#[test]
fn a_source_that_panics_costs_its_stream_only() {
    let (_, _, capture) =
        begin(false, Options::default(), [works([Act::Shots(1), Act::Panic]), works([Act::Shots(1)])]);
    assert_eq!([shot(&capture), shot(&capture)], [0, 1]);
    assert_eq!((capture.counts().reopened, capture.counts().stalls), (1, 0));
}

#[test]
fn the_end_interrupts_a_source_and_leaves_one_behind_that_hangs() {
    let hangs = || works([Act::Shots(1), Act::Hang(Duration::from_secs(5))]);
    for (interruptible, limit) in [(true, Duration::ZERO), (false, Duration::from_secs(1))] {
        let (clock, _, capture) = begin(interruptible, Options::default(), [hangs()]);
        shot(&capture);
        let before = clock.now();
        drop(capture);
        assert_eq!(clock.now() - before, limit);
        assert_eq!(clock.threads() == 1, interruptible);
        clock.sleep(Duration::from_secs(6));
        assert_eq!(clock.threads(), 1);
    }
    let (clock, _, capture) = begin(false, every_frame(), [works([Act::Shots(9)])]);
    clock.sleep(Duration::from_secs(1));
    drop(capture);
    assert_eq!(clock.threads(), 1);
}

/// Gives numbered shots as fast as they are taken, of real time.
struct Fast(u64);

impl Source for Fast {
    fn next(&mut self) -> Result<Option<Shot>, SourceError> {
        self.0 += 1;
        let payload = Payload::Encoded(self.0.to_le_bytes().to_vec());
        let shot = Shot { payload, name: "film".into(), time: SystemTime::UNIX_EPOCH };
        Ok((self.0 <= 1000).then_some(shot))
    }
}

struct Film;

impl Open for Film {
    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(Fast(0)))
    }

    fn name(&self) -> Arc<str> {
        "film".into()
    }
}

#[test]
fn the_threads_of_the_system_lose_nothing() {
    let capture = Capture::start(Arc::new(Film), every_frame(), Arc::new(SystemClock::new())).unwrap();
    for number in 1..=1000_u64 {
        let Next::Shot(taken) = capture.take(Duration::from_secs(600)) else { panic!("{number}") };
        let Payload::Encoded(bytes) = taken.shot.payload else { panic!("{number}") };
        assert_eq!((bytes, taken.sequence), (number.to_le_bytes().to_vec(), number - 1));
    }
    assert!(matches!(capture.take(Duration::from_secs(600)), Next::Ended(_)));
    let capture = Capture::start(Arc::new(Film), Options::default(), Arc::new(SystemClock::new())).unwrap();
    while matches!(capture.take(Duration::from_secs(600)), Next::Shot(_)) {}
    let counts = capture.counts();
    assert_eq!((counts.captured, counts.taken + counts.dropped), (1000, 1000));
}
