//! Where to compute.

use std::collections::BTreeSet;

use edge_vit_models::Graph;

use crate::cpu::CpuEngine;
use crate::engine::{Engine, EngineError};
use crate::gpu::{self, GpuEngine};

/// Where to compute, as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU where there is one, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A GPU: the one of this index or with this in its name, or the best one.
    Gpu(Option<String>),
}

/// Where to compute, as decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Device {
    Cpu,
    Gpu(Option<String>),
}

impl DeviceChoice {
    /// Decides, and says in the log why.
    pub(crate) fn decide(&self) -> Device {
        match self {
            Self::Cpu => Device::Cpu,
            Self::Gpu(selection) => Device::Gpu(selection.clone()),
            Self::Auto => {
                let adapters = gpu::adapters();
                let found: Vec<(usize, &str, bool)> =
                    adapters.iter().map(|adapter| (adapter.index, adapter.name.as_str(), adapter.software)).collect();
                let (device, reason) = automatic(&found);
                log::info!("{reason}");
                device
            }
        }
    }
}

impl DeviceChoice {
    /// Decides, and makes an engine for `graph` there.
    ///
    /// # Errors
    /// As the engines' own.
    pub(crate) fn engine(&self, graph: &Graph, trainable: &BTreeSet<String>) -> Result<Box<dyn Engine>, EngineError> {
        self.decide().engine(graph, trainable)
    }
}

/// The first real GPU among `(index, name, software)`, or the processor; and why.
fn automatic(adapters: &[(usize, &str, bool)]) -> (Device, String) {
    if let Some((index, name, _)) = adapters.iter().find(|(.., software)| !software) {
        return (Device::Gpu(Some(index.to_string())), format!("training on the GPU {name}"));
    }
    let reason = match adapters.first() {
        Some((_, name, _)) => {
            format!("only a software Vulkan adapter ({name}): training on the CPU, which is faster")
        }
        None => "no GPU: training on the CPU (`--list-gpus` says what a GPU would need)".to_owned(),
    };
    (Device::Cpu, reason)
}

impl Device {
    /// An engine for `graph`.
    pub(crate) fn engine(&self, graph: &Graph, trainable: &BTreeSet<String>) -> Result<Box<dyn Engine>, EngineError> {
        Ok(match self {
            Self::Cpu => Box::new(CpuEngine::<f32>::new(graph, trainable)?),
            Self::Gpu(selection) => Box::new(GpuEngine::new(selection.as_deref(), graph, trainable)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_gpu_is_taken_before_the_processor_and_that_before_a_software_gpu() {
        let (device, reason) = automatic(&[(0, "llvmpipe", true), (1, "A real one", false)]);
        assert_eq!(device, Device::Gpu(Some("1".to_owned())));
        assert!(reason.contains("A real one"));
        let (device, reason) = automatic(&[(0, "llvmpipe", true)]);
        assert_eq!(device, Device::Cpu);
        assert!(reason.contains("llvmpipe"));
        assert_eq!(automatic(&[]).0, Device::Cpu);
    }
}
