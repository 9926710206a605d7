//! The thread that owns a source, from its opening to its loss.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::shared::Shared;
use super::state::Outcome;
use super::{Open, SourceError};

/// Starts thread `run`, which opens the source and hands its shots over until the source ends or is not wanted any
/// more. A thread that hangs ends when it no longer does.
pub(super) fn start(shared: &Arc<Shared>, open: &Arc<dyn Open>, run: u64) {
    let (threads, source) = (Arc::clone(shared), Arc::clone(open));
    let body = move || {
        // A decoder that panics costs its stream, not the program. Nothing of the source is used afterwards.
        let outcome = catch_unwind(AssertUnwindSafe(|| drive(&threads, &*source, run)))
            .unwrap_or_else(|_| Outcome::Failed(lost(&*source, "it panicked")));
        threads.finished(run, outcome);
    };
    if let Err(error) = shared.clock.spawn(format!("source {run}"), Box::new(body)) {
        let reason = format!("no thread can be started for {}: {error}", open.name());
        shared.finished(run, Outcome::Failed(SourceError::Open(reason)));
    }
}

fn lost(open: &dyn Open, reason: &str) -> SourceError {
    SourceError::Lost { source_name: open.name().to_string(), reason: reason.to_owned() }
}

/// The life of a source. It is closed before its end is told, so that the next may open the same device.
fn drive(shared: &Shared, open: &dyn Open, run: u64) -> Outcome {
    let mut source = match open.open() {
        Ok(source) => source,
        Err(error) => return Outcome::Failed(error),
    };
    shared.opened(run, source.interrupter());
    while shared.wanted(run) {
        match source.next() {
            Ok(Some(shot)) => shared.deliver(run, shot),
            Ok(None) => return Outcome::Exhausted,
            Err(SourceError::Damaged(reason)) => shared.damaged(run, &reason),
            Err(error) => return Outcome::Failed(error),
        }
    }
    Outcome::Dismissed
}
