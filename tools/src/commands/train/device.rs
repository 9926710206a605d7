//! The arguments that say where to compute.

use clap::ValueEnum;

use crate::engine::Precision;
use crate::train::DeviceChoice;

/// The processor, or a GPU.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct DeviceArgs {
    /// Where to compute; `auto` takes a real GPU where there is one
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    device: DeviceName,
    /// The GPU to compute on: its index in --list-gpus, or a part of its name
    #[arg(long, value_name = "NAME|INDEX")]
    gpu: Option<String>,
}

/// [`DeviceChoice`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DeviceName {
    Auto,
    Gpu,
    Cpu,
}

impl DeviceArgs {
    /// The device that is asked for; a clash of arguments ends the process as clap does.
    pub(in crate::commands) fn checked(&self) -> DeviceChoice {
        if self.device == DeviceName::Cpu && self.gpu.is_some() {
            let message = "`--gpu` names a GPU, `--device cpu` asks for none; leave one of them out";
            clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, format!("{message}\n")).exit();
        }
        match (self.device, &self.gpu) {
            (DeviceName::Auto, None) => DeviceChoice::Auto,
            (DeviceName::Cpu, _) => DeviceChoice::Cpu,
            (_, gpu) => DeviceChoice::Gpu(gpu.clone()),
        }
    }
}

/// [`Precision`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::commands) enum PrecisionName {
    F32,
    F16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::F32 => Self::F32,
            PrecisionName::F16 => Self::F16,
        }
    }
}
