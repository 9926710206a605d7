//! A robot's loop at a fixed rate that never waits for the classifier.
//!
//!     control_loop MODEL PICTURE
//!
//! A camera (here: the picture, again and again) puts each frame into a slot, over the one that nobody took. The
//! classifier takes the newest frame and puts its result into another slot, over the older one. The loop wakes 50
//! times a second, looks whether there is a newer result, and acts on the newest that it has; when that is too old,
//! it stops the robot. It runs for two seconds and says how it went.

use std::error::Error;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use edge_vit::Classifier;
use edge_vit::frame::{FrameLayout, Matrix, PixelFormat, Range};

/// The loop's period: 50 Hz.
const PERIOD: Duration = Duration::from_millis(20);
/// How long the loop runs.
const TICKS: u32 = 100;
/// The camera's period: 30 Hz.
const FRAME_PERIOD: Duration = Duration::from_micros(33_333);
/// A result of an older frame than this says nothing about the world any more.
const STALE: Duration = Duration::from_millis(500);

/// One place for the newest value, between two threads.
struct Slot<T> {
    inside: Mutex<Inside<T>>,
    filled: Condvar,
}

struct Inside<T> {
    value: Option<T>,
    closed: bool,
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self { inside: Mutex::new(Inside { value: None, closed: false }), filled: Condvar::new() }
    }

    /// A value is whole whenever the lock is free, so another thread's panic does no harm.
    fn lock(&self) -> MutexGuard<'_, Inside<T>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what is there; says whether the slot is still open.
    fn put(&self, value: T) -> bool {
        let mut inside = self.lock();
        inside.value = Some(value);
        self.filled.notify_one();
        !inside.closed
    }

    /// Waits for a value; nothing once the slot is closed.
    fn take(&self) -> Option<T> {
        let waiting = |inside: &mut Inside<T>| inside.value.is_none() && !inside.closed;
        let mut inside = self.filled.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        if inside.closed { None } else { inside.value.take() }
    }

    /// The value if there is one and nobody holds the lock: never waits.
    fn take_now(&self) -> Option<T> {
        self.inside.try_lock().ok()?.value.take()
    }

    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }
}

/// A frame with the time it was taken.
struct Shot {
    bytes: Vec<u8>,
    taken: Instant,
}

/// What the classifier saw.
struct Sighting {
    class: usize,
    logit: f32,
    taken: Instant,
}

/// How the loop went.
#[derive(Default)]
struct Report {
    missed: u32,
    stopped: u32,
    sightings: u32,
    last: Option<Sighting>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(model), Some(picture)) = (arguments.next(), arguments.next()) else {
        return Err("usage: control_loop MODEL PICTURE".into());
    };
    let classifier = Classifier::open(model)?;
    let picture = edge_vit::open_picture(picture)?;
    let layout = FrameLayout {
        format: PixelFormat::Rgb,
        width: picture.width(),
        height: picture.height(),
        stride: 0,
        range: Range::Full,
        matrix: Matrix::Bt601,
    };

    // The first frame is classified before the loop begins: it takes the memory that all later ones use again.
    let mut workspace = classifier.workspace();
    classifier.frame_logits(&layout.frame(&picture)?, &mut workspace)?;

    let (shots, sightings) = (Slot::new(), Slot::new());
    let report = thread::scope(|scope| {
        scope.spawn(|| film(&picture, &shots));
        scope.spawn(|| {
            while let Some(shot) = shots.take() {
                let frame = layout.frame(&shot.bytes);
                match frame.and_then(|frame| classifier.frame_logits(&frame, &mut workspace).map(best)) {
                    Ok((class, logit)) => _ = sightings.put(Sighting { class, logit, taken: shot.taken }),
                    // A bad frame is no reason to stop: the next may be good, and the loop notices if none is.
                    Err(error) => eprintln!("frame skipped: {error}"),
                }
            }
        });
        let report = control(&sightings);
        shots.close();
        report
    });

    println!(
        "{TICKS} ticks, {} deadlines missed, {} sightings, stopped for {} ticks",
        report.missed, report.sightings, report.stopped
    );
    match report.last {
        Some(Sighting { class, logit, .. }) => println!("last: {} ({logit:.3})", classifier.bundle().labels[class]),
        None => println!("last: nothing"),
    }
    Ok(())
}

/// The camera: a frame 30 times a second until the slot is closed.
fn film(pixels: &[u8], shots: &Slot<Shot>) {
    while shots.put(Shot { bytes: pixels.to_vec(), taken: Instant::now() }) {
        thread::sleep(FRAME_PERIOD);
    }
}

/// The loop itself. Its period is kept by absolute times, so that small delays do not add up.
fn control(sightings: &Slot<Sighting>) -> Report {
    let mut report = Report::default();
    let mut deadline = Instant::now();
    for _ in 0..TICKS {
        deadline += PERIOD;
        if let Some(sighting) = sightings.take_now() {
            report.sightings += 1;
            report.last = Some(sighting);
        }
        match &report.last {
            Some(sighting) if sighting.taken.elapsed() < STALE => steer(sighting),
            _ => report.stopped += 1,
        }
        match deadline.checked_duration_since(Instant::now()) {
            Some(rest) => thread::sleep(rest),
            None => {
                // What was missed is not made up for: a burst of late commands helps no motor.
                report.missed += 1;
                deadline = Instant::now();
            }
        }
    }
    report
}

/// Where the robot's own code goes: motors, a gripper, a warning light.
fn steer(_sighting: &Sighting) {}

/// The best class with its logit.
fn best(logits: &[f32]) -> (usize, f32) {
    let indexed = logits.iter().copied().enumerate();
    indexed.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, f32::NEG_INFINITY))
}
