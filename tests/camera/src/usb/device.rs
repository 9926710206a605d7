//! The camera at work: one thread answers the host, one sends frames.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Mode;
use super::control::{Control, PAYLOAD};
use super::protocol::{self, Command};

/// Bits of a payload header (UVC 2.4.3.3): the header's end, the frame's end; bit 0 changes with every frame.
const END_OF_HEADER: u8 = 1 << 7;
const END_OF_FRAME: u8 = 1 << 1;
/// Bytes of the shortest payload header: its length and its bits.
const HEADER: usize = 2;

/// Room that the host has given for a piece of a frame.
struct Room {
    sequence: u32,
    length: u32,
}

/// What both threads share. A transfer leaves `rooms` and is answered under one lock, so that it is never both
/// answered and taken back.
struct State {
    socket: UnixStream,
    control: Control,
    rooms: VecDeque<Room>,
    stalled: bool,
    closed: bool,
}

pub(super) struct Device {
    state: Mutex<State>,
    changed: Condvar,
}

impl Device {
    pub(super) fn new(socket: UnixStream, modes: Vec<Mode>) -> Self {
        let control = Control::new(modes);
        let state = State { socket, control, rooms: VecDeque::new(), stalled: false, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn show(&self, frames: &[Arc<[u8]>]) {
        self.lock().control.show(frames);
    }

    pub(super) fn stall(&self, stalled: bool) {
        self.lock().stalled = stalled;
        self.changed.notify_all();
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Answers the host until the connection ends.
    pub(super) fn answer(&self, mut socket: UnixStream) {
        while let Ok(command) = Command::read(&mut socket) {
            if let Err(error) = self.obey(command) {
                eprintln!("the emulated camera cannot answer: {error}");
                break;
            }
            self.changed.notify_all();
        }
        self.close();
    }

    fn obey(&self, command: Command) -> io::Result<()> {
        let state = &mut *self.lock();
        match command {
            Command::Control { sequence, setup, data, to_host } => {
                let answer = state.control.answer(setup, &data);
                let received = (!to_host).then_some(data.len());
                protocol::write_control(&mut state.socket, sequence, answer.as_deref(), received)
            }
            Command::Receive { sequence, length } => {
                state.rooms.push_back(Room { sequence, length });
                Ok(())
            }
            Command::Unlink { sequence, victim } => {
                let place = state.rooms.iter().position(|room| room.sequence == victim);
                let in_time = place.and_then(|place| state.rooms.remove(place)).is_some();
                protocol::write_unlinked(&mut state.socket, sequence, in_time)
            }
        }
    }

    /// Sends frames at the chosen mode's rate whenever the host gives room for them, until the connection ends.
    pub(super) fn send(&self) {
        let (mut number, mut toggle, mut due) = (0, 0, Instant::now());
        while let Some(mode) = self.wait_for_room() {
            let now = Instant::now();
            if let Some(early) = due.checked_duration_since(now) {
                std::thread::sleep(early);
            } else {
                due = now;
            }
            due += Duration::from_nanos(100 * u64::from(mode.interval()));
            let frame = mode.frames.get(number % mode.frames.len().max(1));
            if frame.is_some_and(|frame| self.send_frame(frame, toggle)) {
                number += 1;
                toggle ^= 1;
            }
        }
    }

    /// Sends one frame in payloads; gives whether it got to its end.
    fn send_frame(&self, frame: &[u8], toggle: u8) -> bool {
        let mut pieces = frame.chunks(PAYLOAD as usize - HEADER).peekable();
        while let Some(piece) = pieces.next() {
            let end = if pieces.peek().is_none() { END_OF_FRAME } else { 0 };
            let payload = [&[HEADER as u8, END_OF_HEADER | end | toggle], piece].concat();
            let mut state = self.lock();
            // A host that takes no more has ended the stream: what is left of the frame is of no use to it.
            let patience = Duration::from_millis(300);
            while state.rooms.is_empty() {
                let (woken, waited) = self.wait(state, patience);
                state = woken;
                if waited || state.closed {
                    return false;
                }
            }
            let Some(room) = state.rooms.pop_front().filter(|room| room.length as usize >= payload.len()) else {
                return false;
            };
            if protocol::write_data(&mut state.socket, room.sequence, &payload).is_err() {
                return false;
            }
        }
        true
    }

    /// Waits until a frame can be sent and gives the mode to send it in; nothing once the connection has ended.
    fn wait_for_room(&self) -> Option<Mode> {
        let mut state = self.lock();
        while !state.closed && (state.stalled || state.rooms.is_empty()) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (!state.closed).then(|| state.control.committed().clone())
    }

    /// Waits for a change; gives whether there was none within `limit`.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> (MutexGuard<'a, State>, bool) {
        let (state, outcome) = self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner);
        (state, outcome.timed_out())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
