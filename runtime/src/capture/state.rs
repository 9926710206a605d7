//! What the threads of a capture share: plain data and the rules by which it changes. Nothing here waits, logs or
//! calls foreign code, so that the lock around it is held for moments only.

use std::time::Duration;

use log::Level;

use super::mailbox::Mailbox;
use super::{Counts, Health, Options, Shot, SourceError, Taken};

/// For how long a source may stay away while a thread that hangs in its driver may be what holds the device: only the
/// end of the process takes the device from that thread.
const HELD_LIMIT: Duration = Duration::from_secs(60);

/// Makes a blocked source return.
pub(super) type Interrupter = Box<dyn Fn() + Send>;

/// A sentence for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Remark(pub(super) Level, pub(super) String);

/// How a thread that owned a source ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The source has no more shots.
    Exhausted,
    /// It could not be opened, or was lost.
    Failed(SourceError),
    /// It was told that its shots are not wanted any more.
    Dismissed,
}

/// Why no more shots come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The source came to its end.
    Exhausted(String),
    /// It was given up.
    GivenUp(String),
}

/// Whether a thread's next shot is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It is.
    Now,
    /// Not before its last one was taken.
    Later,
    /// The thread is left behind, or everything ends: it has to end too.
    Never,
}

/// What becomes of a shot.
pub(super) struct Delivery {
    /// Whether it waits in the mailbox now. One from a thread that was left behind does not.
    pub(super) accepted: bool,
    /// It, or the one that it replaced, to be freed.
    pub(super) discarded: Option<Shot>,
    /// What is to be said if it is the first after none came.
    pub(super) live: Option<Remark>,
}

/// What the supervisor has to do now.
pub(super) enum Step {
    /// Wait, for a ring or until a moment.
    Wait(Option<Duration>),
    /// Interrupt the source that gives nothing.
    Interrupt(Option<Interrupter>, Option<Remark>),
    /// Open the source on a new thread, which has this number.
    Open(u64, Option<Remark>),
    /// Interrupt the source if there is one, and end.
    Stop(Option<Interrupter>),
}

/// Where the source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its thread opens it.
    Opening { since: Duration },
    /// It is open and has given no whole shot yet.
    Opened { since: Duration },
    /// Shots come; the last whole one came at `last`.
    Live { last: Duration },
    /// No thread has it. It is opened again at `until`.
    Waiting { until: Duration },
    /// No more shots come.
    Over,
}

/// A thread that is no longer waited for and has not ended.
struct Left {
    run: u64,
    counted: bool,
}

/// A time without shots.
struct Outage {
    since: Duration,
    /// The last reason that was logged: a camera that is unplugged for a month is one line.
    told: String,
}

/// A row of taken shots none of which could be decoded.
struct Undecodable {
    first: Duration,
    last: Duration,
    /// Whether the newest shot that was taken belongs to it, as far as is known.
    open: bool,
}

/// The state of a capture. Threads that open the source are numbered; only the newest, `run`, may deliver.
pub(super) struct State {
    options: Options,
    name: String,
    mailbox: Mailbox,
    sums: Counts,
    health: Health,
    phase: Phase,
    run: u64,
    running: bool,
    supervised: bool,
    stopping: bool,
    ever_opened: bool,
    first_error: Option<SourceError>,
    interrupter: Option<Interrupter>,
    left: Vec<Left>,
    outage: Option<Outage>,
    pause: Duration,
    /// Damaged shots since the last whole one.
    damaged_row: u64,
    undecodable: Option<Undecodable>,
    end: Option<End>,
}

impl State {
    /// The state before the first thread, whose number is 0, starts at `now`.
    pub(super) fn new(name: &str, options: Options, now: Duration) -> Self {
        Self {
            options,
            name: name.to_owned(),
            mailbox: Mailbox::default(),
            sums: Counts::default(),
            health: Health::Starting,
            phase: Phase::Opening { since: now },
            run: 0,
            running: true,
            supervised: false,
            stopping: false,
            ever_opened: false,
            first_error: None,
            interrupter: None,
            left: Vec::new(),
            outage: None,
            pause: options.backoff.first,
            damaged_row: 0,
            undecodable: None,
            end: None,
        }
    }

    fn current(&self, run: u64) -> bool {
        run == self.run && !self.stopping
    }

    /// Whether the next shot of thread `run` is wanted.
    pub(super) fn wanted(&self, run: u64) -> Wanted {
        match self.current(run) {
            false => Wanted::Never,
            true if self.options.every_frame && !self.mailbox.is_empty() => Wanted::Later,
            true => Wanted::Now,
        }
    }

    /// Thread `run` has opened its source.
    pub(super) fn opened(&mut self, run: u64, interrupter: Option<Interrupter>, now: Duration) {
        if self.current(run) {
            self.phase = Phase::Opened { since: now };
            self.interrupter = interrupter;
            self.sums.reopened += u64::from(self.ever_opened);
            self.ever_opened = true;
        }
    }

    /// How the first opening went, when it has come to something.
    pub(super) fn first_opening(&mut self) -> Option<Result<(), SourceError>> {
        self.first_error.take().map(Err).or_else(|| self.ever_opened.then_some(Ok(())))
    }

    /// Thread `run` has a whole shot.
    pub(super) fn deliver(&mut self, run: u64, shot: Shot, now: Duration) -> Delivery {
        if !self.current(run) {
            return Delivery { accepted: false, discarded: Some(shot), live: None };
        }
        let live = match self.outage.take() {
            Some(outage) => {
                let gone = seconds(now.saturating_sub(outage.since));
                Some(Remark(Level::Info, format!("{}: live again, after {gone} without a frame", self.name)))
            }
            None if self.health == Health::Starting => Some(Remark(Level::Info, format!("{}: live", self.name))),
            None => None,
        };
        if live.is_some() {
            self.health = Health::Live;
            self.pause = self.options.backoff.first;
        }
        self.phase = Phase::Live { last: now };
        self.damaged_row = 0;
        Delivery { accepted: true, discarded: self.mailbox.put(shot, now), live }
    }

    /// Thread `run` has a damaged shot.
    pub(super) fn damaged(&mut self, run: u64, reason: &str) -> Option<Remark> {
        if !self.current(run) {
            return None;
        }
        self.sums.damaged += 1;
        self.damaged_row += 1;
        // A broken cable would fill the log; of files, each is one that somebody has to mend.
        let level = if self.damaged_row == 1 || self.options.every_frame { Level::Warn } else { Level::Debug };
        Some(Remark(level, format!("{}: a damaged frame is skipped: {reason}", self.name)))
    }

    /// Thread `run` ends, and has let go of its source.
    pub(super) fn finished(&mut self, run: u64, outcome: Outcome, now: Duration) -> Option<Remark> {
        if run != self.run || !self.running {
            self.left.retain(|left| left.run != run);
            return None;
        }
        self.running = false;
        self.interrupter = None;
        if self.stopping {
            return None;
        }
        match outcome {
            Outcome::Dismissed => None,
            Outcome::Exhausted => {
                self.over(End::Exhausted(format!("{} has come to its end", self.name)));
                None
            }
            Outcome::Failed(error) if !self.ever_opened => {
                self.over(End::GivenUp(error.to_string()));
                self.first_error = Some(error);
                None
            }
            Outcome::Failed(error) if self.options.every_frame => {
                self.over(End::GivenUp(error.to_string()));
                None
            }
            Outcome::Failed(error) => self.wait(error.to_string(), now),
        }
    }

    /// Takes the shot that waits; says why none will come if none will.
    pub(super) fn take(&mut self) -> Option<Result<Taken, End>> {
        match self.mailbox.take() {
            Some(taken) => {
                // One that was not called undecodable until the next is taken was decoded.
                self.undecodable = self.undecodable.take().filter(|row| row.open);
                self.undecodable.iter_mut().for_each(|row| row.open = false);
                Some(Ok(taken))
            }
            None => self.end.clone().map(Err),
        }
    }

    /// The shot that was taken last could not be decoded. Gives whether the supervisor has to act on it.
    pub(super) fn undecodable(&mut self, now: Duration) -> bool {
        self.sums.damaged += 1;
        let row = self.undecodable.get_or_insert(Undecodable { first: now, last: now, open: true });
        (row.last, row.open) = (now, true);
        self.undecodable_for() >= self.options.stall_limit
    }

    /// For how long no shot that was taken could be decoded.
    fn undecodable_for(&self) -> Duration {
        self.undecodable.as_ref().map_or(Duration::ZERO, |row| row.last.saturating_sub(row.first))
    }

    /// What the supervisor has to do at `now`.
    pub(super) fn step(&mut self, now: Duration) -> Step {
        let Options { stall_limit, opening_limit, every_frame, .. } = self.options;
        let (deadline, reason) = match self.phase {
            _ if self.stopping => return Step::Stop(self.interrupter.take()),
            Phase::Over => return Step::Stop(None),
            Phase::Waiting { until } if now >= until => return self.reopen(now),
            Phase::Waiting { until } => return Step::Wait(Some(until)),
            _ if every_frame => return Step::Wait(None),
            Phase::Opening { since } => (since.saturating_add(opening_limit), "it does not open within"),
            Phase::Opened { since } => (since.saturating_add(opening_limit), "it was opened and gives no frame for"),
            Phase::Live { .. } if self.undecodable_for() >= stall_limit => (now, "no frame can be decoded for"),
            Phase::Live { last } if self.damaged_row > 0 => {
                (last.saturating_add(stall_limit), "only damaged frames for")
            }
            Phase::Live { last } => (last.saturating_add(stall_limit), "no frame for"),
        };
        if now < deadline {
            return Step::Wait(Some(deadline));
        }
        let limit = if matches!(self.phase, Phase::Live { .. }) { stall_limit } else { opening_limit };
        self.stall(format!("{}: {reason} {}", self.name, seconds(limit)), now)
    }

    /// Leaves the thread behind whose source gives nothing.
    fn stall(&mut self, reason: String, now: Duration) -> Step {
        self.sums.stalls += 1;
        self.running = false;
        self.left.push(Left { run: self.run, counted: false });
        Step::Interrupt(self.interrupter.take(), self.wait(reason, now))
    }

    /// Waits for the next opening; gives what is to be logged if the reason is a new one.
    fn wait(&mut self, reason: String, now: Duration) -> Option<Remark> {
        let since = match self.phase {
            Phase::Live { last } => last,
            _ => now,
        };
        self.run += 1;
        self.phase = Phase::Waiting { until: now.saturating_add(self.pause) };
        self.pause = self.pause.saturating_mul(2).min(self.options.backoff.last);
        self.undecodable = None;
        self.damaged_row = 0;
        self.health = Health::Waiting(reason.clone());
        let outage = self.outage.get_or_insert(Outage { since, told: String::new() });
        if outage.told == reason {
            return None;
        }
        outage.told.clone_from(&reason);
        Some(Remark(Level::Warn, format!("{reason}; it is opened again")))
    }

    /// Opens the source again, unless too many threads hang in its driver.
    fn reopen(&mut self, now: Duration) -> Step {
        let fresh = self.left.iter_mut().filter(|left| !left.counted);
        let fresh = fresh.map(|left| left.counted = true).count();
        self.sums.abandoned += fresh as u64;
        let hanging = self.left.len();
        let (since, told) = self.outage.as_ref().map_or((now, ""), |outage| (outage.since, outage.told.as_str()));
        let held = hanging > 0 && now.saturating_sub(since) >= HELD_LIMIT;
        if hanging > self.options.abandoned_limit || held {
            let reason = format!(
                "{} is given up: {hanging} of its threads hang in the driver, which may hold the device until this \
                 program ends; start the program again (the last was: {told})",
                self.name
            );
            self.over(End::GivenUp(reason));
            return Step::Stop(None);
        }
        self.running = true;
        self.phase = Phase::Opening { since: now };
        let hangs = format!("{}: a thread hangs in the driver and is left behind; {hanging} do now", self.name);
        Step::Open(self.run, (fresh > 0).then_some(Remark(Level::Warn, hangs)))
    }

    /// No more shots come. The consumer is told, and says so: nothing is logged.
    fn over(&mut self, end: End) {
        let (End::Exhausted(reason) | End::GivenUp(reason)) = &end;
        self.phase = Phase::Over;
        self.health = Health::Ended(reason.clone());
        self.end = Some(end);
    }

    /// The supervisor starts, or ends.
    pub(super) fn supervise(&mut self, supervised: bool) {
        self.supervised = supervised;
    }

    /// The supervisor failed, and without one no more shots can be promised.
    pub(super) fn unsupervised(&mut self) {
        self.run += 1;
        self.over(End::GivenUp(format!("{}: its supervisor failed; start the program again", self.name)));
    }

    /// Tells all threads to end.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether no thread is left but those that hang.
    pub(super) fn idle(&self) -> bool {
        !self.running && !self.supervised
    }

    /// What has happened so far.
    pub(super) fn counts(&self) -> Counts {
        let [captured, taken, dropped] = self.mailbox.counts();
        Counts { captured, taken, dropped, ..self.sums }
    }

    /// Whether shots come.
    pub(super) fn health(&self) -> Health {
        self.health.clone()
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
