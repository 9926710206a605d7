//! The virtual machine's modules and devices.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::usb::{Camera, Mode};

/// How long the kernel may take to do what it does by the way.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits until `done`.
///
/// # Errors
/// If it is not in time: with `what`.
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + LIMIT;
    while !done() {
        if Instant::now() > end {
            return Err(format!("waited {} s in vain: {what}", LIMIT.as_secs()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Plugs a camera in, the one before it being gone, and waits for its device.
///
/// # Errors
/// If the controller does not take it, or the driver makes no device of it.
pub(crate) fn plug(modes: Vec<Mode>) -> Result<Camera, String> {
    let mut outcome = Err("not tried".to_owned());
    // The port of an unplugged device is free a little later.
    let plugged = wait_for("the port is free", || {
        outcome = Camera::plug(0, modes.clone()).map_err(|error| format!("cannot plug the camera in: {error}"));
        outcome.is_ok()
    });
    let camera = outcome?;
    plugged?;
    wait_for("the camera has a device", || !devices().is_empty())?;
    Ok(camera)
}

/// The nodes of cameras.
pub(crate) fn devices() -> Vec<PathBuf> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.to_string_lossy().starts_with("/dev/video")).collect()
}

/// The file of a kernel module.
///
/// # Errors
/// If there is none.
pub(crate) fn module(name: &str) -> Result<PathBuf, String> {
    let mut entries = fs::read_dir("/modules").into_iter().flatten().flatten().map(|entry| entry.path());
    let ending = format!("-{name}.ko");
    entries.find(|path| path.to_string_lossy().ends_with(&ending)).ok_or_else(|| format!("there is no module {name}"))
}

/// Runs a command to its end.
///
/// # Errors
/// If it cannot be run or fails.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}
