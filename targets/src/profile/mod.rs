//! What is known of a board: one TOML file each, shipped with this crate or kept elsewhere.

mod error;
mod estimate;
mod read;
mod validate;
mod version;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use error::ProfileError;
pub use estimate::Estimate;
pub use read::{BOARDS_VARIABLE, all, find, folders};
pub use version::Version;

/// Debian's name of an architecture, which is the first word of a target triple. `None` if no board is of it.
pub(crate) fn debian_arch(architecture: &str) -> Option<&'static str> {
    let of = |triple: &str| triple.split('-').next() == Some(architecture);
    validate::TARGETS.iter().find(|(triple, _)| of(triple)).map(|(_, debian_arch)| *debian_arch)
}

/// One board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The name it is asked for by: the file's, without its ending.
    pub id: String,
    /// The name on the box.
    pub name: String,
    /// Rust's target triple.
    pub triple: String,
    /// Debian's name of the architecture.
    pub debian_arch: String,
    /// The oldest glibc of the systems that the board is supported with.
    pub glibc: Version,
    /// What the program is compiled for.
    pub cpu: Cpu,
    /// Number of cores.
    pub cores: u32,
    /// Memory of the smallest board of this name.
    pub memory_mib: u32,
    /// Cameras that the board takes.
    pub camera: Camera,
    /// Models that suit the board, the best first.
    pub models: Vec<Model>,
    /// The ways to a card, the best first; none where the board's system is installed otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Recipe>,
}

/// The processor of a board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// What `rustc -C target-cpu` takes.
    pub target: String,
    /// What `rustc -C target-feature` takes: what the board has beyond its `target` (`+name`) or lacks of it (`-name`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// The instructions for which the inference engine has kernels of their own, and which the board has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<Instructions>,
    /// The clock of a core at full load.
    pub mhz: u32,
    /// Floating point operations in single precision that a core can finish in a cycle.
    pub flops_per_cycle: u32,
}

/// Instructions for which the inference engine chooses other kernels at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instructions {
    /// Arithmetic in half precision (`asimdhp` in `/proc/cpuinfo`).
    Fp16,
    /// Dot products of bytes (`asimddp` in `/proc/cpuinfo`).
    DotProd,
}

/// Cameras that a board takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// The camera on the board's own connector, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csi: Option<Csi>,
    /// Whether USB cameras can be plugged in.
    pub usb: bool,
}

/// What `edge-vit --csi` is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Csi {
    /// Through `rpicam-vid`.
    Pi,
    /// Through `nvarguscamerasrc`.
    Jetson,
}

impl Csi {
    /// The word that `edge-vit --csi` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pi => "pi",
            Self::Jetson => "jetson",
        }
    }
}

/// A model that suits a board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// timm's name of the architecture.
    pub architecture: String,
    /// Side of the picture in pixels.
    pub size: u32,
}

/// How a card for a board comes to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "recipe", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Recipe {
    /// A stock Raspberry Pi OS image, customised through its boot partition.
    RaspberryPiOs {
        /// Releases of Debian whose Raspberry Pi OS runs on the board, the best first.
        releases: Vec<String>,
    },
    /// An image of Debian's packages alone.
    Debian {
        /// The release.
        release: String,
        /// The kernel and what the board needs to start it.
        packages: Vec<String>,
    },
    /// A system that the vendor's tool writes; the package is installed on it.
    JetsonLinux {
        /// Version of JetPack.
        jetpack: u32,
        /// Version of Jetson Linux in it.
        l4t: String,
    },
}

impl Profile {
    /// Reads a profile and checks every field.
    ///
    /// # Errors
    /// [`ProfileError::Syntax`] or [`ProfileError::Field`], with `origin` as the file.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text)
            .map_err(|source| ProfileError::Syntax { origin: origin.to_owned(), source: Box::new(source) })?;
        validate::profile(&profile, origin)?;
        Ok(profile)
    }
}
