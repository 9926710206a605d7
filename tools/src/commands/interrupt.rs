//! Ctrl-C during work whose state is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

/// Exit status of a run stopped by Ctrl-C: 128 and the signal's number.
const INTERRUPTED: i32 = 130;

/// A flag that the first Ctrl-C sets; the second ends the process.
pub(super) fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
        eprintln!("stopping after this step (Ctrl-C again to stop at once)");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

/// Ends the process as one that Ctrl-C stopped; `what` has become of its work.
pub(super) fn exit(what: &str) -> ! {
    eprintln!("{what}: give the same command with --resume to go on");
    std::process::exit(INTERRUPTED);
}
