//! The files of a package.

use super::{Options, PackageError, manual};
use crate::model::Model;
use crate::profile::{Csi, Profile};

/// A file of the package.
pub(super) struct Entry {
    /// Where it lies, without the first `/`.
    pub(super) path: &'static str,
    pub(super) bytes: Vec<u8>,
    /// Its permissions.
    pub(super) mode: u32,
}

/// Files that belong to the user once they are installed: an upgrade asks before it replaces a changed one.
pub(super) const CONFIGURATION: [&str; 2] = ["etc/default/edge-vit", "etc/edge-vit/edge-vit.toml"];

/// Scripts that the package manager runs.
pub(super) const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", include_str!("../../package/postinst")),
    ("postrm", include_str!("../../package/postrm")),
    ("prerm", include_str!("../../package/prerm")),
];

/// All files of the package, by path.
pub(super) fn entries(
    board: &Profile,
    options: &Options,
    binary: Vec<u8>,
    model: Option<Model>,
) -> Result<Vec<Entry>, PackageError> {
    let file = |path, bytes| Entry { path, bytes, mode: 0o644 };
    let text = |path, text: &str| file(path, text.as_bytes().to_vec());
    let mut entries = vec![
        Entry { path: "usr/bin/edge-vit", bytes: binary, mode: 0o755 },
        // It is made for secrets.
        Entry { mode: 0o600, ..text("etc/default/edge-vit", include_str!("../../package/default")) },
        text("etc/edge-vit/edge-vit.toml", include_str!("../../package/edge-vit.toml")),
        text("lib/systemd/system/edge-vit.service", include_str!("../../package/edge-vit.service")),
        text("usr/share/doc/edge-vit/copyright", include_str!("../../package/copyright")),
        file("usr/share/doc/edge-vit/changelog.gz", manual::changelog(options)?),
        text("usr/share/lintian/overrides/edge-vit", include_str!("../../package/lintian-overrides")),
    ];
    let camera = board.camera.csi.map(|csi| match csi {
        Csi::Pi => include_str!("../../package/csi-pi.conf"),
        Csi::Jetson => include_str!("../../package/csi-jetson.conf"),
    });
    if let Some(unit) = camera {
        entries.push(text("lib/systemd/system/edge-vit.service.d/csi.conf", unit));
        entries.push(text("lib/udev/rules.d/60-edge-vit.rules", include_str!("../../package/60-edge-vit.rules")));
    }
    if let Some(model) = model {
        entries.push(file("usr/share/edge-vit/model.onnx", model.bytes));
        entries.extend(model.signature.map(|signature| text("usr/share/edge-vit/model.onnx.minisig", &signature)));
    }
    entries.extend(manual::pages()?.into_iter().map(|(path, bytes)| file(path, bytes)));
    entries.sort_by_key(|entry| entry.path);
    Ok(entries)
}
