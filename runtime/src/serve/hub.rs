//! The place between the loop that classifies and the clients that watch: it holds the newest of everything.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use serde::Serialize;
use tokio::sync::watch;

use super::metrics::{Metrics, Traffic};
use crate::Observation;
use crate::capture::{Counts, Health};

/// The least time from one picture of the live view to the next: more of them would cost the board time and show little.
/// It is well below a tenth of a second, so that a loop of ten pictures a second shows each of them even if its beat is
/// not even.
const PREVIEW_INTERVAL: Duration = Duration::from_millis(60);
/// How long a source may be called live without any answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What classifies a posted picture: the bytes of its file to the answer, or to one sentence that says why there is
/// none.
pub type Classify = dyn Fn(&[u8]) -> Result<serde_json::Value, String> + Send + Sync;

/// The newest answer, picture and health, for all clients alike. Nothing queues here, and nothing here waits for a
/// client.
pub struct Hub {
    board: watch::Sender<Board>,
    previews: watch::Sender<Option<Preview>>,
    metrics: Mutex<Metrics>,
    classify: Mutex<Option<Arc<Classify>>>,
    traffic: Traffic,
}

/// What `/events` tells of. The numbers grow with each change, so that a client that slept sees what is new to it.
#[derive(Debug, Clone)]
pub(super) struct Board {
    /// The newest observation as a whole event.
    pub(super) answer: Option<Bytes>,
    pub(super) answers: u64,
    pub(super) health: Health,
    pub(super) healths: u64,
    /// When the newest observation came.
    answered: Option<Instant>,
    /// When the health became what it is.
    since: Instant,
}

/// A picture of the live view, as a part of the multipart stream.
#[derive(Debug, Clone)]
pub(super) struct Preview {
    part: Bytes,
    jpeg: std::ops::Range<usize>,
    made: Instant,
}

/// The state of the source as clients read it.
#[derive(Debug, Serialize)]
pub(super) struct HealthReport<'a> {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<std::borrow::Cow<'a, str>>,
    /// Seconds since the newest answer.
    answer_age_s: Option<f64>,
}

impl Hub {
    /// A hub without an answer yet, for a model with these `labels`.
    pub fn new(labels: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        let board = Board {
            answer: None,
            answers: 0,
            health: Health::Starting,
            healths: 0,
            answered: None,
            since: Instant::now(),
        };
        Self {
            board: watch::Sender::new(board),
            previews: watch::Sender::new(None),
            metrics: Mutex::new(Metrics::new(labels.into_iter().map(Into::into))),
            classify: Mutex::new(None),
            traffic: Traffic::default(),
        }
    }

    /// Shows an answer, and the picture that it was given for, as JPEG, to everybody who watches.
    pub fn publish(&self, observation: &Observation, preview: Option<Arc<[u8]>>) {
        lock(&self.metrics).observe(observation);
        let event = event("observation", observation);
        self.board.send_modify(|board| {
            board.answer = Some(event);
            board.answers += 1;
            board.answered = Some(Instant::now());
        });
        if let Some(jpeg) = preview {
            self.previews.send_replace(Some(Preview::new(&jpeg)));
        }
    }

    /// Whether somebody watches the live picture, and the newest one has been there long enough for another.
    pub fn wants_preview(&self) -> bool {
        self.previews.receiver_count() > 0
            && self.previews.borrow().as_ref().is_none_or(|preview| preview.made.elapsed() >= PREVIEW_INTERVAL)
    }

    /// Says whether the source gives pictures.
    pub fn set_health(&self, health: Health) {
        self.board.send_if_modified(|board| {
            let changed = board.health != health;
            if changed {
                board.health = health;
                board.healths += 1;
                board.since = Instant::now();
            }
            changed
        });
    }

    /// Says what has happened to the source while no answer tells it: it stalled, was opened again, gave damaged
    /// pictures.
    pub fn set_counts(&self, counts: Counts) {
        lock(&self.metrics).set_counts(counts);
    }

    /// Sets what classifies posted pictures; without it they are refused.
    pub fn set_classify(&self, classify: Arc<Classify>) {
        *lock(&self.classify) = Some(classify);
    }

    pub(super) fn classify(&self) -> Option<Arc<Classify>> {
        lock(&self.classify).clone()
    }

    pub(super) fn board(&self) -> watch::Receiver<Board> {
        self.board.subscribe()
    }

    pub(super) fn previews(&self) -> watch::Receiver<Option<Preview>> {
        self.previews.subscribe()
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// How many clients read `/events`, and how many the live picture.
    pub(super) fn watchers(&self) -> [usize; 2] {
        [self.board.receiver_count(), self.previews.receiver_count()]
    }

    /// Whether pictures are classified, and the state as JSON.
    pub(super) fn health(&self) -> (bool, String) {
        let board = self.board.borrow();
        let report = board.report();
        (report.state == LIVE, serde_json::to_string(&report).unwrap_or_default())
    }

    /// The metrics as Prometheus text.
    pub(super) fn metrics(&self) -> String {
        let live = self.board.borrow().report().state == LIVE;
        lock(&self.metrics).render(live, self.watchers(), &self.traffic)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("health", &self.board.borrow().health).finish_non_exhaustive()
    }
}

/// The only state that is called healthy.
const LIVE: &str = "live";

impl Board {
    fn report(&self) -> HealthReport<'_> {
        let silence = self.answered.map_or(self.since, |answered| answered.max(self.since)).elapsed();
        let (state, reason) = match &self.health {
            Health::Starting => ("starting", Some("no picture has come yet".into())),
            Health::Live if silence > ANSWER_LIMIT => {
                ("waiting", Some(format!("pictures come, and none was classified for {} s", silence.as_secs()).into()))
            }
            Health::Live => (LIVE, None),
            Health::Waiting(reason) => ("waiting", Some(reason.as_str().into())),
            Health::Ended(reason) => ("ended", Some(reason.as_str().into())),
        };
        HealthReport { state, reason, answer_age_s: self.answered.map(|answered| answered.elapsed().as_secs_f64()) }
    }

    /// The health as a whole event.
    pub(super) fn health_event(&self) -> Bytes {
        event("health", &self.report())
    }
}

impl Preview {
    /// The line that stands before the first part of the stream, and the end of every part: a browser shows a part when
    /// it has seen the line that follows it.
    pub(super) const BOUNDARY: &'static [u8] = b"--frame\r\n";

    fn new(jpeg: &[u8]) -> Self {
        let head = format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
        let part = [head.as_bytes(), jpeg, b"\r\n", Self::BOUNDARY].concat();
        Self { part: part.into(), jpeg: head.len()..head.len() + jpeg.len(), made: Instant::now() }
    }

    /// Head, JPEG and the boundary after it.
    pub(super) fn part(&self) -> Bytes {
        self.part.clone()
    }

    /// The JPEG alone.
    pub(super) fn jpeg(&self) -> Bytes {
        self.part.slice(self.jpeg.clone())
    }

    /// Whether the picture still shows what the camera sees.
    pub(super) fn is_fresh(&self) -> bool {
        self.made.elapsed() < Duration::from_secs(1)
    }
}

/// A server-sent event. JSON has no line breaks outside its strings and escapes those inside them, so `data` is one
/// line.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    let mut event = format!("event: {name}\ndata: ").into_bytes();
    // Neither structs of strings and numbers nor a growing vector can fail to be written.
    let _ = serde_json::to_writer(&mut event, data);
    event.extend_from_slice(b"\n\n");
    event.into()
}

/// A panic while the lock was held leaves numbers that are still numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_wanted_only_while_somebody_watches_and_not_too_often() {
        let hub = Hub::new(["cat"]);
        assert!(!hub.wants_preview());
        let watcher = hub.previews();
        assert!(hub.wants_preview());
        let mut fresh = Preview::new(b"jpeg");
        hub.previews.send_replace(Some(fresh.clone()));
        assert!(!hub.wants_preview());
        fresh.made -= PREVIEW_INTERVAL;
        hub.previews.send_replace(Some(fresh));
        assert!(hub.wants_preview());
        drop(watcher);
        assert!(!hub.wants_preview());
    }

    #[test]
    fn a_part_holds_the_picture_once_and_ends_with_the_boundary() {
        let preview = Preview::new(b"\xff\xd8 picture \xff\xd9");
        assert_eq!(&preview.jpeg()[..], b"\xff\xd8 picture \xff\xd9");
        assert!(preview.part().ends_with(b"\xff\xd9\r\n--frame\r\n"));
    }

    #[test]
    fn a_live_source_without_answers_is_not_healthy() {
        let hub = Hub::new(["cat"]);
        assert!(!hub.health().0);
        hub.set_health(Health::Live);
        assert!(hub.health().0);
        hub.board.send_modify(|board| board.since -= 2 * ANSWER_LIMIT);
        let (healthy, report) = hub.health();
        assert!(!healthy && report.contains("none was classified for 60 s"), "{report}");
    }

    #[test]
    fn line_breaks_in_a_reason_stay_inside_the_data_line() {
        let hub = Hub::new(["cat"]);
        hub.set_health(Health::Waiting("first\nevent: forged\n\n".to_owned()));
        let event = hub.board.borrow().health_event();
        let text = std::str::from_utf8(&event).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.starts_with("event: health\ndata: {\"state\":\"waiting\",\"reason\":\"first\\nevent"), "{text}");
    }
}
