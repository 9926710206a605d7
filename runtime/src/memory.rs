//! What this process takes of the machine's memory.

/// Bytes that lie in RAM now.
pub(crate) fn resident_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// The most bytes that have lain in RAM so far.
#[cfg(feature = "cli")]
pub(crate) fn peak_bytes() -> Option<u64> {
    status("VmHWM:")
}

#[cfg(target_os = "linux")]
fn status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(not(target_os = "linux"))]
fn status(_: &str) -> Option<u64> {
    None
}
