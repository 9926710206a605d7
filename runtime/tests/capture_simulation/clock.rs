//! A clock that drives real threads through simulated time.
//!
//! One thread of a simulation runs at a time. It gives way when it waits: to a thread that is ready, in the order in
//! which they became so, or else to the one that waits for the earliest moment, to which time then jumps. The order of
//! everything is thus the same in every run, and a wait during which no other thread has to run costs no switch.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use edge_vit::capture::{Bell, Clock};

thread_local! {
    /// The place of this thread in its simulation.
    static ME: Cell<usize> = const { Cell::new(0) };
}

/// The clock of a simulation.
#[derive(Clone)]
pub(crate) struct SimulatedClock(Arc<Mutex<Scheduler>>);

#[derive(Default)]
struct Scheduler {
    now: Duration,
    threads: Vec<Option<Member>>,
    ready: VecDeque<usize>,
    bells: u64,
    /// Whether all threads wait and none of them for a moment.
    stuck: bool,
}

/// A thread of the simulation.
struct Member {
    turn: Arc<Turn>,
    /// The bell and the moment that it waits for, if it is not ready.
    wait: Option<(Option<u64>, Option<Duration>)>,
}

/// Lets a thread run.
#[derive(Default)]
struct Turn {
    given: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Turn {
    fn give(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        self.given.store(true, Ordering::Release);
        thread.iter().for_each(Thread::unpark);
    }

    fn await_it(&self) {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(thread::current);
        while !self.given.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

impl SimulatedClock {
    /// A clock at zero, of a simulation whose only and running thread is the calling one.
    pub(crate) fn new() -> Self {
        ME.set(0);
        let me = Member { turn: Arc::default(), wait: None };
        Self(Arc::new(Mutex::new(Scheduler { threads: vec![Some(me)], ..Scheduler::default() })))
    }

    /// Lets `duration` pass.
    pub(crate) fn sleep(&self, duration: Duration) {
        let until = self.now() + duration;
        self.wait(None, Some(until));
    }

    /// How many threads there are, the calling one included.
    pub(crate) fn threads(&self) -> usize {
        self.lock().threads.iter().flatten().count()
    }

    fn lock(&self) -> MutexGuard<'_, Scheduler> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives way to the other threads until `bell` rings or time reaches `until`.
    fn wait(&self, bell: Option<u64>, until: Option<Duration>) {
        let me = ME.get();
        let mut scheduler = self.lock();
        let member = scheduler.threads[me].as_mut().expect("a thread of the simulation");
        member.wait = Some((bell, until));
        let mine = Arc::clone(&member.turn);
        let next = scheduler.next();
        let stuck = scheduler.stuck;
        drop(scheduler);
        if let Some((index, turn)) = next
            && index != me
        {
            turn.give();
            mine.await_it();
        }
        let stuck = stuck || self.lock().stuck;
        assert!(!(stuck && me == 0), "every thread of the simulation waits for another");
    }
}

impl Scheduler {
    /// Who runs next. If nobody can, the test's thread does, to fail.
    fn next(&mut self) -> Option<(usize, Arc<Turn>)> {
        let index = self.ready.pop_front().or_else(|| {
            let moments = self.threads.iter().enumerate().filter_map(|(index, member)| {
                let (_, until) = member.as_ref()?.wait?;
                Some((until?, index))
            });
            let (moment, index) = moments.min()?;
            self.now = self.now.max(moment);
            Some(index)
        });
        self.stuck |= index.is_none();
        let index = index.unwrap_or(0);
        let member = self.threads[index].as_mut()?;
        member.wait = None;
        Some((index, Arc::clone(&member.turn)))
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Duration {
        self.lock().now
    }

    fn bell(&self) -> Arc<dyn Bell> {
        let mut scheduler = self.lock();
        scheduler.bells += 1;
        Arc::new(SimulatedBell { clock: self.clone(), number: scheduler.bells, rings: AtomicU64::new(0) })
    }

    fn spawn(&self, name: String, body: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let turn = Arc::new(Turn::default());
        let member = Member { turn: Arc::clone(&turn), wait: None };
        let mut scheduler = self.lock();
        let free = scheduler.threads.iter().position(Option::is_none);
        let index = free.unwrap_or(scheduler.threads.len());
        if free.is_none() {
            scheduler.threads.push(None);
        }
        scheduler.threads[index] = Some(member);
        scheduler.ready.push_back(index);
        drop(scheduler);
        let clock = self.clone();
        let run = move || {
            ME.set(index);
            turn.await_it();
            body();
            let mut scheduler = clock.lock();
            scheduler.threads[index] = None;
            let next = scheduler.next();
            drop(scheduler);
            next.iter().for_each(|(_, turn)| turn.give());
        };
        thread::Builder::new().name(name).spawn(run).map(drop)
    }
}

struct SimulatedBell {
    clock: SimulatedClock,
    number: u64,
    rings: AtomicU64,
}

impl Bell for SimulatedBell {
    fn rings(&self) -> u64 {
        self.rings.load(Ordering::Acquire)
    }

    fn ring(&self) {
        let mut scheduler = self.clock.lock();
        self.rings.fetch_add(1, Ordering::AcqRel);
        let Scheduler { threads, ready, .. } = &mut *scheduler;
        for (index, member) in threads.iter_mut().enumerate() {
            if let Some(member) = member
                && member.wait.is_some_and(|(bell, _)| bell == Some(self.number))
            {
                member.wait = None;
                ready.push_back(index);
            }
        }
    }

    fn wait(&self, heard: u64, until: Option<Duration>) {
        if self.rings() == heard && until.is_none_or(|until| until > self.clock.now()) {
            self.clock.wait(Some(self.number), until);
        }
    }
}
