//! The wgpu engine.

/// Prints the adapters at hand with their limits.
///
/// # Errors
/// When there is none: the sentence names the driver package to install.
pub fn list() -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
