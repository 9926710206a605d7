//! The thread that classifies posted pictures, one at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::{io, thread};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Hub;

/// A posted picture on its way to the thread.
struct Job {
    body: Vec<u8>,
    reply: oneshot::Sender<Verdict>,
    /// The room that the body takes among those that are held.
    _room: OwnedSemaphorePermit,
}

/// What became of a posted picture.
pub(super) enum Verdict {
    /// It was classified.
    Answer(serde_json::Value),
    /// It is no picture, or none that can be classified: why.
    Refused(String),
    /// Nobody set what classifies.
    Nobody,
    /// The queue is full.
    Busy,
    /// What classifies has failed.
    Failed,
}

/// The way to the thread. The thread ends when the last of these is gone.
#[derive(Clone)]
pub(super) struct Worker(SyncSender<Job>);

impl Worker {
    /// Starts the thread with room for `queue` pictures that wait.
    pub(super) fn start(hub: Arc<Hub>, queue: usize) -> io::Result<Self> {
        let (jobs, inbox) = sync_channel(queue);
        thread::Builder::new().name("serve-classify".to_owned()).spawn(move || work(&hub, &inbox))?;
        Ok(Self(jobs))
    }

    /// Has the picture in `body` classified.
    pub(super) async fn classify(&self, body: Vec<u8>, room: OwnedSemaphorePermit) -> Verdict {
        let (reply, verdict) = oneshot::channel();
        match self.0.try_send(Job { body, reply, _room: room }) {
            Ok(()) => verdict.await.unwrap_or(Verdict::Failed),
            Err(TrySendError::Full(_)) => Verdict::Busy,
            Err(TrySendError::Disconnected(_)) => Verdict::Failed,
        }
    }
}

fn work(hub: &Hub, inbox: &Receiver<Job>) {
    for job in inbox {
        // A client that has gone away needs no answer.
        if job.reply.is_closed() {
            continue;
        }
        let verdict = match hub.classify() {
            // A decoder's or a model's panic on one picture must not take the others with it. The closure is `Fn`:
            // what it may have left half-changed is behind its own locks.
            Some(classify) => match catch_unwind(AssertUnwindSafe(|| classify(&job.body))) {
                Ok(Ok(answer)) => Verdict::Answer(answer),
                Ok(Err(reason)) => Verdict::Refused(reason),
                Err(_) => Verdict::Failed,
            },
            None => Verdict::Nobody,
        };
        let _ = job.reply.send(verdict);
    }
}
