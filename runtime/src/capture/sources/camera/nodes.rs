//! Which `/dev/videoN` is which camera: numbers go to cameras in the order of their coming, and change when one is
//! plugged in again.
//!
//! udev keeps links in `/dev/v4l/by-id` that follow a camera by its serial number; the kernel says in
//! `/sys/class/video4linux/videoN` at which port a node's device hangs (`device`), what it calls itself (`name`), and
//! which of its device's nodes a node is (`index`: a webcam has a second one, for metadata).

use std::fs;
use std::path::{Path, PathBuf};

/// The folders in which the system shows its devices.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    dev: PathBuf,
    sys: PathBuf,
}

impl Default for Nodes {
    fn default() -> Self {
        Self { dev: "/dev".into(), sys: "/sys/class/video4linux".into() }
    }
}

/// What tells a camera from others, whatever its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// udev's link for it, if there is one.
    link: Option<PathBuf>,
    /// The port at which it hangs.
    port: PathBuf,
    /// What it calls itself.
    card: String,
    /// Which of its device's nodes it is.
    index: String,
}

impl Identity {
    pub(super) fn card(&self) -> &str {
        &self.card
    }
}

impl Nodes {
    /// The path of a node.
    pub(super) fn path(&self, number: u32) -> PathBuf {
        self.dev.join(format!("video{number}"))
    }

    /// The number of the node at `path`, or behind the link there, if there is such a node.
    pub(super) fn number(&self, path: &Path) -> Option<u32> {
        let path = fs::canonicalize(path).ok()?;
        (path.parent() == Some(&fs::canonicalize(&self.dev).ok()?)).then(|| number_of(&path)).flatten()
    }

    /// The numbers of all nodes, in order.
    pub(super) fn all(&self) -> Vec<u32> {
        let entries = fs::read_dir(&self.dev).into_iter().flatten().flatten();
        let mut numbers: Vec<_> = entries.filter_map(|entry| number_of(&entry.path())).collect();
        numbers.sort_unstable();
        numbers
    }

    /// A node's path with what its camera calls itself.
    pub(super) fn describe(&self, number: u32) -> String {
        let path = self.path(number).display().to_string();
        match self.attribute(number, "name") {
            Some(card) => format!("{path} ({card})"),
            None => path,
        }
    }

    /// All nodes of the device that this node belongs to, but for this one.
    pub(super) fn siblings(&self, number: u32) -> Vec<u32> {
        let port = self.port(number);
        let mut others = self.all();
        others.retain(|&other| other != number && port.is_some() && self.port(other) == port);
        others
    }

    /// The identity of the camera at a node, if the system tells.
    pub(super) fn identity(&self, number: u32) -> Option<Identity> {
        let links = fs::read_dir(self.dev.join("v4l/by-id")).into_iter().flatten().flatten();
        let mut links: Vec<_> = links.map(|entry| entry.path()).collect();
        links.retain(|link| self.number(link) == Some(number));
        links.sort();
        Some(Identity {
            link: links.into_iter().next(),
            port: self.port(number)?,
            card: self.attribute(number, "name")?,
            index: self.attribute(number, "index").unwrap_or_default(),
        })
    }

    /// Where the camera is now: where its link leads; if it has none, the node of its name at its port, else the only
    /// node of its name.
    pub(super) fn find(&self, camera: &Identity) -> Option<u32> {
        if let Some(link) = &camera.link {
            return self.number(link);
        }
        let alike = |number: &u32| {
            let index = self.attribute(*number, "index").unwrap_or_default();
            index == camera.index && self.attribute(*number, "name").as_deref() == Some(camera.card.as_str())
        };
        let alike: Vec<_> = self.all().into_iter().filter(alike).collect();
        let there = alike.iter().find(|&&number| self.port(number).as_ref() == Some(&camera.port));
        match (there, alike.as_slice()) {
            (Some(&number), _) | (None, &[number]) => Some(number),
            _ => None,
        }
    }

    fn port(&self, number: u32) -> Option<PathBuf> {
        fs::canonicalize(self.sys.join(format!("video{number}/device"))).ok()
    }

    fn attribute(&self, number: u32, name: &str) -> Option<String> {
        let bytes = fs::read(self.sys.join(format!("video{number}")).join(name)).ok()?;
        // A long name is cut by the kernel, maybe inside a character.
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }
}

fn number_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix("video")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A `/dev` and a `/sys` in a temporary folder.
    struct Fake {
        root: tempfile::TempDir,
        nodes: Nodes,
    }

    impl Fake {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let nodes = Nodes { dev: root.path().join("dev"), sys: root.path().join("class") };
            fs::create_dir_all(nodes.dev.join("v4l/by-id")).unwrap();
            fs::write(nodes.dev.join("video-dec0"), "").unwrap();
            Self { root, nodes }
        }

        fn plug(&self, number: u32, port: &str, card: &str, index: u32, id: Option<&str>) {
            let port = self.root.path().join("devices").join(port);
            let node = self.nodes.sys.join(format!("video{number}"));
            fs::create_dir_all(&port).unwrap();
            fs::create_dir_all(&node).unwrap();
            fs::write(self.nodes.path(number), "").unwrap();
            fs::write(node.join("name"), format!("{card}\n")).unwrap();
            fs::write(node.join("index"), format!("{index}\n")).unwrap();
            symlink(port, node.join("device")).unwrap();
            if let Some(id) = id {
                let link = self.nodes.dev.join("v4l/by-id").join(format!("usb-{id}-video-index{index}"));
                let _ = fs::remove_file(&link);
                symlink(format!("../../video{number}"), link).unwrap();
            }
        }

        fn unplug(&self, number: u32) {
            fs::remove_file(self.nodes.path(number)).unwrap();
            for link in fs::read_dir(self.nodes.dev.join("v4l/by-id")).unwrap().flatten() {
                if !link.path().exists() {
                    fs::remove_file(link.path()).unwrap();
                }
            }
            fs::remove_dir_all(self.nodes.sys.join(format!("video{number}"))).unwrap();
        }
    }

    #[test]
    fn a_camera_with_a_serial_number_is_found_at_any_port_and_number() {
        let fake = Fake::new();
        fake.plug(0, "1-1", "Cam", 0, Some("Cam_123"));
        fake.plug(1, "1-1", "Cam", 1, Some("Cam_123"));
        let camera = fake.nodes.identity(0).unwrap();
        assert_eq!(fake.nodes.find(&camera), Some(0));
        fake.unplug(0);
        fake.unplug(1);
        assert_eq!(fake.nodes.find(&camera), None);
        fake.plug(0, "1-1", "Cam", 0, Some("Cam_456"));
        assert_eq!(fake.nodes.find(&camera), None, "another camera of the same make is not it");
        fake.plug(2, "2-4", "Cam", 0, Some("Cam_123"));
        assert_eq!(fake.nodes.find(&camera), Some(2));
    }

    #[test]
    fn a_camera_without_one_is_found_at_its_port_or_as_the_only_one_of_its_name() {
        let fake = Fake::new();
        fake.plug(0, "1-1", "Cam", 0, None);
        fake.plug(1, "1-1", "Cam", 1, None);
        fake.plug(2, "1-2", "Cam", 0, None);
        let camera = fake.nodes.identity(2).unwrap();
        fake.unplug(2);
        fake.unplug(0);
        fake.plug(2, "1-1", "Cam", 0, None);
        fake.plug(3, "1-2", "Cam", 0, None);
        assert_eq!(fake.nodes.find(&camera), Some(3), "the numbers went to each other's port");
        fake.unplug(3);
        assert_eq!(fake.nodes.find(&camera), Some(2), "the only node with pictures of this name");
        fake.plug(3, "1-3", "Cam", 0, None);
        assert_eq!(fake.nodes.find(&camera), None, "two of them at other ports: which is it?");
        fake.unplug(2);
        fake.unplug(3);
        fake.plug(5, "1-2", "Other", 0, None);
        assert_eq!(fake.nodes.find(&camera), None, "another camera at its port is not it");
    }

    #[test]
    fn nodes_are_listed_described_and_told_from_what_else_lies_there() {
        let fake = Fake::new();
        fake.plug(10, "1-1", "Webcam: Webcam", 0, Some("W"));
        fake.plug(2, "1-1", "Webcam: Webcam", 1, None);
        fake.plug(3, "1-3", "Other", 0, None);
        assert_eq!(fake.nodes.all(), [2, 3, 10]);
        assert_eq!(fake.nodes.siblings(2), [10]);
        assert!(fake.nodes.describe(3).ends_with("/dev/video3 (Other)"));
        assert!(fake.nodes.siblings(9).is_empty() && fake.nodes.identity(9).is_none());
        let link = fake.nodes.dev.join("v4l/by-id/usb-W-video-index0");
        assert_eq!(fake.nodes.number(&link), Some(10));
        assert_eq!(fake.nodes.number(&fake.nodes.path(3)), Some(3));
        for path in ["video4", "video-dec0", "v4l", "../class/video3"] {
            assert_eq!(fake.nodes.number(&fake.nodes.dev.join(path)), None, "{path}");
        }
    }
}
