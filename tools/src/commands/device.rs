//! A card in a reader, as `flash --device` deals with it: asked about, written, read back.

use std::io::{IsTerminal as _, Write as _, stderr, stdin};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use edge_vit_targets::flash::device::{self, Device, Step};
use indicatif::{ProgressBar, ProgressStyle};

/// A card that its owner has agreed to overwrite.
pub(super) struct Target(Device);

/// Looks at the device, and asks once whether it is the right one.
///
/// # Errors
/// If it may not be written, or the answer is no.
pub(super) fn choose(path: &Path, yes: bool) -> anyhow::Result<Target> {
    let device = Device::inspect(path)?;
    let size = device.size as f64 / 1e9;
    let model = device.model.as_deref().unwrap_or("of no name");
    let kind = if device.removable { "removable" } else { "built in, or a USB disk" };
    let described = format!("{} ({model}, {size:.1} GB, {kind})", path.display());
    if !yes {
        ensure!(stdin().is_terminal(), "all of {described} would be overwritten: --yes says that this is meant");
        eprint!("All that is on {described} will be lost. Type its name to go on: ");
        stderr().flush()?;
        let mut line = String::new();
        stdin().read_line(&mut line)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if ![path.to_string_lossy(), name].contains(&line.trim().into()) {
            bail!("{} is left as it is", path.display());
        }
    }
    Ok(Target(device))
}

impl Target {
    /// The device's node.
    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Writes the image and reads it back, with a bar on stderr.
    ///
    /// # Errors
    /// What stopped it.
    pub(super) fn write(&self, image: &Path) -> anyhow::Result<()> {
        let size = image.metadata().with_context(|| format!("cannot read {}", image.display()))?.len();
        let bar = ProgressBar::new(size)
            .with_style(ProgressStyle::with_template("{msg:8} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")?);
        device::write(&self.0, image, &mut |step, done| {
            bar.set_message(match step {
                Step::Writing => "writing",
                Step::Checking => "checking",
            });
            bar.set_position(done);
        })?;
        bar.finish_and_clear();
        Ok(())
    }
}
