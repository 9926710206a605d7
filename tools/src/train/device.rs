//! Where to compute.

use std::collections::BTreeSet;

use edge_vit_models::Graph;
use edge_vit_models::adapter::Attached;

use crate::cpu::CpuEngine;
use crate::engine::{Engine, EngineError, MethodEngine, Precision};
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
    Gpu(Option<String>, Precision),
}

impl DeviceChoice {
    /// Decides, and says in the log why.
    ///
    /// # Errors
    /// When the processor would compute, which has float32 alone, in another precision.
    pub(crate) fn decide(&self, precision: Precision) -> Result<Device, EngineError> {
        let device = match self {
            Self::Cpu => Device::Cpu,
            Self::Gpu(selection) => Device::Gpu(selection.clone(), precision),
            Self::Auto => {
                let adapters = gpu::adapters();
                let found: Vec<(usize, &str, bool)> =
                    adapters.iter().map(|adapter| (adapter.index, adapter.name.as_str(), adapter.software)).collect();
                let (device, reason) = automatic(&found, precision);
                log::info!("{reason}");
                device
            }
        };
        if (&device, precision) == (&Device::Cpu, Precision::F16) {
            return Err(EngineError::Device(
                "the processor trains in float32 alone; leave out --precision f16, or name a GPU with --device gpu"
                    .to_owned(),
            ));
        }
        Ok(device)
    }
}

impl DeviceChoice {
    /// Decides, and makes an engine for `graph` there.
    ///
    /// # Errors
    /// As the engines' own.
    pub(crate) fn engine(&self, graph: &Graph, trainable: &BTreeSet<String>) -> Result<Box<dyn Engine>, EngineError> {
        self.decide(Precision::F32)?.engine(graph, trainable)
    }
}

/// The first real GPU among `(index, name, software)`, or the processor; and why.
fn automatic(adapters: &[(usize, &str, bool)], precision: Precision) -> (Device, String) {
    if let Some((index, name, _)) = adapters.iter().find(|(.., software)| !software) {
        return (Device::Gpu(Some(index.to_string()), precision), format!("training on the GPU {name}"));
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
            Self::Gpu(selection, precision) => {
                Box::new(GpuEngine::in_precision(selection.as_deref(), graph, trainable, *precision)?)
            }
        })
    }

    /// An engine that trains `graph`, with what a method of weights attaches to it, and with activation checkpointing where
    /// `is_checkpointing`.
    pub(crate) fn trainer(
        &self,
        graph: &Graph,
        trainable: &BTreeSet<String>,
        attached: Option<Attached>,
        is_checkpointing: bool,
    ) -> Result<Box<dyn Engine>, EngineError> {
        let mut engine = self.engine(graph, trainable)?;
        if is_checkpointing {
            engine.checkpoint_activations();
        }
        match attached {
            Some(attached) => Ok(Box::new(MethodEngine::new(engine, graph, attached)?)),
            None => Ok(engine),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_gpu_is_taken_before_the_processor_and_that_before_a_software_gpu() {
        let (device, reason) = automatic(&[(0, "llvmpipe", true), (1, "A real one", false)], Precision::F16);
        assert_eq!(device, Device::Gpu(Some("1".to_owned()), Precision::F16));
        assert!(reason.contains("A real one"));
        let (device, reason) = automatic(&[(0, "llvmpipe", true)], Precision::F32);
        assert_eq!(device, Device::Cpu);
        assert!(reason.contains("llvmpipe"));
        assert_eq!(automatic(&[], Precision::F32).0, Device::Cpu);
    }

    #[test]
    fn the_processor_refuses_half_precision_with_the_remedy() {
        let error = DeviceChoice::Cpu.decide(Precision::F16).unwrap_err().to_string();
        assert!(error.contains("--precision f16") && error.contains("--device gpu"), "{error}");
        assert_eq!(DeviceChoice::Cpu.decide(Precision::F32).unwrap(), Device::Cpu);
    }
}
