//! The thread that notices that no shot comes, and opens the source again.
//!
//! It is a thread of its own because the consumer may be busy with a model for seconds, and the source's thread may
//! hang. It sleeps until the limit of the last shot that it knows, not until the next shot.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::shared::{Shared, say};
use super::state::Step;
use super::{Open, driver};

/// Starts the supervisor of a source that was opened.
///
/// # Errors
/// What the operating system says where it gives no further thread.
pub(super) fn start(shared: &Arc<Shared>, open: Arc<dyn Open>) -> io::Result<()> {
    shared.state().supervise(true);
    let supervised = Arc::clone(shared);
    let body = move || {
        // An interrupter is foreign code. Without a supervisor the consumer would wait for ever.
        if catch_unwind(AssertUnwindSafe(|| watch(&supervised, &open))).is_err() {
            supervised.state().unsupervised();
        }
        supervised.state().supervise(false);
        supervised.consumer.ring();
    };
    let started = shared.clock.spawn("supervisor".to_owned(), Box::new(body));
    if started.is_err() {
        shared.state().supervise(false);
    }
    started
}

fn watch(shared: &Arc<Shared>, open: &Arc<dyn Open>) {
    loop {
        let heard = shared.supervisor.rings();
        let now = shared.now();
        let step = shared.state().step(now);
        match step {
            Step::Wait(until) => shared.supervisor.wait(heard, until),
            Step::Interrupt(interrupter, remark) => {
                say(remark);
                interrupter.iter().for_each(|interrupt| interrupt());
            }
            Step::Open(run, remark) => {
                say(remark);
                driver::start(shared, open, run);
            }
            Step::Stop(interrupter) => {
                interrupter.iter().for_each(|interrupt| interrupt());
                return;
            }
        }
    }
}
