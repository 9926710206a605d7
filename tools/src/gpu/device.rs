//! The adapters at hand, the choice among them, and an opened one.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Write as _, stdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::autotune::Autotune;
use super::kernels::{HALF, Kernel, Tuning};
use super::template;
use crate::engine::EngineError;

/// Share of a device's memory, in percent, that allocations may fill before they are refused, where the driver tells.
const MEMORY_SHARE: u8 = 90;

/// The sentence for a machine without any adapter.
const NO_ADAPTER: &str = "no graphics adapter was found; install a Vulkan driver: the package mesa-vulkan-drivers for \
    Intel and AMD graphics or to compute on the CPU (software Vulkan), the vendor's driver (nvidia-driver) for NVIDIA";

/// An adapter and what it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its place in the list, as `--gpu` takes it.
    pub index: usize,
    /// The device's name.
    pub name: String,
    /// The interface it is reached through: `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// Whether a CPU does the work.
    pub software: bool,
    /// The largest buffer, in bytes.
    pub max_buffer_size: u64,
    /// The largest part of a buffer that a kernel can be given, in bytes.
    pub max_storage_binding: u64,
    /// The most invocations of a workgroup.
    pub max_workgroup_invocations: u32,
    /// The most bytes of workgroup memory.
    pub max_workgroup_storage: u32,
    /// Whether kernels can use float16.
    pub float16: bool,
}

/// The adapters at hand, real ones before software ones; empty where there is none.
pub fn adapters() -> Vec<AdapterInfo> {
    enumerate().into_iter().map(|(info, _)| info).collect()
}

/// Prints the adapters at hand with their limits, one a line, on stdout.
///
/// # Errors
/// When there is none: the sentence names the driver package to install; when stdout cannot be written.
pub fn list() -> anyhow::Result<()> {
    let adapters = adapters();
    anyhow::ensure!(!adapters.is_empty(), NO_ADAPTER);
    write!(stdout(), "{}", table(&adapters))?;
    Ok(())
}

fn table(adapters: &[AdapterInfo]) -> String {
    let name_width = adapters.iter().map(|adapter| adapter.name.len()).max().unwrap_or(0).max(4);
    let mut text = format!(
        "{:>5}  {:name_width$}  {:8}  {:8}  {:>12}  {:>13}  {:>9}  {:7}  driver\n",
        "index", "name", "backend", "kind", "buffer [MiB]", "binding [MiB]", "workgroup", "float16"
    );
    for adapter in adapters {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:>5}  {:name_width$}  {:8}  {:8}  {:>12}  {:>13}  {:>9}  {:7}  {}",
            adapter.index,
            adapter.name,
            adapter.backend,
            if adapter.software { "software" } else { "gpu" },
            adapter.max_buffer_size >> 20,
            adapter.max_storage_binding >> 20,
            adapter.max_workgroup_invocations,
            if adapter.float16 { "yes" } else { "no" },
            adapter.driver
        );
    }
    text
}

fn enumerate() -> Vec<(AdapterInfo, wgpu::Adapter)> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.flags = wgpu::InstanceFlags::empty();
    descriptor.memory_budget_thresholds.for_resource_creation = Some(MEMORY_SHARE);
    let instance = wgpu::Instance::new(descriptor);
    let mut found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    found.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => 2,
        wgpu::DeviceType::Cpu => 3,
    });
    found.into_iter().enumerate().map(|(index, adapter)| (describe(index, &adapter), adapter)).collect()
}

fn describe(index: usize, adapter: &wgpu::Adapter) -> AdapterInfo {
    let info = adapter.get_info();
    let limits = adapter.limits();
    AdapterInfo {
        index,
        name: info.name,
        backend: info.backend.to_string(),
        driver: [info.driver, info.driver_info].join(" ").trim().to_owned(),
        software: info.device_type == wgpu::DeviceType::Cpu,
        max_buffer_size: limits.max_buffer_size,
        max_storage_binding: limits.max_storage_buffer_binding_size,
        max_workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        max_workgroup_storage: limits.max_compute_workgroup_storage_size,
        float16: adapter.features().contains(wgpu::Features::SHADER_F16),
    }
}

/// The place of the adapter that `selection` means among `adapters`: an index, or a part of a name in any case; the
/// first where there is no selection.
fn select(adapters: &[AdapterInfo], selection: Option<&str>) -> Result<usize, EngineError> {
    if adapters.is_empty() {
        return Err(EngineError::Device(NO_ADAPTER.to_owned()));
    }
    let Some(selection) = selection.map(str::trim) else { return Ok(0) };
    let chosen = match selection.parse::<usize>() {
        Ok(index) if index < adapters.len() => Some(index),
        _ => {
            let part = selection.to_lowercase();
            adapters.iter().position(|adapter| !part.is_empty() && adapter.name.to_lowercase().contains(&part))
        }
    };
    chosen.ok_or_else(|| EngineError::Mismatch {
        what: "graphics adapter",
        expected: adapters
            .iter()
            .map(|adapter| format!("{} ({})", adapter.index, adapter.name))
            .collect::<Vec<_>>()
            .join(" or "),
        got: format!("`{selection}`"),
    })
}

/// An opened adapter with its compiled kernels.
pub(crate) struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) limits: wgpu::Limits,
    pub(crate) info: AdapterInfo,
    pub(crate) tuning: Tuning,
    pub(crate) autotune: Autotune,
    pipelines: Mutex<HashMap<Kernel, wgpu::ComputePipeline>>,
    /// Uniform buffers of [`Gpu::PARAMS_BYTES`], used anew by every submission.
    params: Mutex<Vec<wgpu::Buffer>>,
    failure: Arc<Mutex<Option<String>>>,
}

/// The value behind a lock; a thread that panicked while holding one of these left it whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// Size of one uniform buffer.
    pub(crate) const PARAMS_BYTES: u64 = 16 << 10;

    /// Opens the adapter that `selection` means, with its own limits, to choose by measurement how products are cut.
    ///
    /// # Errors
    /// When there is no such adapter or the driver refuses.
    pub(crate) fn open_measured(selection: Option<&str>) -> Result<Self, EngineError> {
        let mut gpu = Self::open(selection, |limits| limits)?;
        gpu.autotune = Autotune::of_environment(&gpu);
        Ok(gpu)
    }

    /// Opens the adapter that `selection` means, with its own limits as `restrict` leaves them; products are cut by rule.
    ///
    /// # Errors
    /// When there is no such adapter or the driver refuses.
    pub(crate) fn open(
        selection: Option<&str>,
        restrict: impl FnOnce(wgpu::Limits) -> wgpu::Limits,
    ) -> Result<Self, EngineError> {
        let (infos, mut adapters): (Vec<_>, Vec<_>) = enumerate().into_iter().unzip();
        let index = select(&infos, selection)?;
        let adapter = adapters.swap_remove(index);
        let limits = restrict(adapter.limits());
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("edge-vit"),
            required_features: adapter.features() & wgpu::Features::SHADER_F16,
            required_limits: limits.clone(),
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|error| EngineError::Device(format!("`{}` could not be opened: {error}", infos[index].name)))?;
        let failure = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&failure);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&slot).get_or_insert_with(|| error.to_string());
        }));
        let info = infos[index].clone();
        let (pipelines, params) = (Mutex::default(), Mutex::default());
        let tuning = Tuning::of(&info, &limits);
        Ok(Self { device, queue, limits, info, tuning, autotune: Autotune::off(), pipelines, params, failure })
    }

    /// The largest tensor in bytes: what a binding takes and what 32-bit indices reach.
    pub(crate) fn largest_binding(&self) -> u64 {
        self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size).min(u64::from(u32::MAX))
    }

    /// The most bytes that activations may take: half of what the system has left where the device shares its memory
    /// with the system and the system tells; no bound elsewhere, where the driver itself refuses what does not fit.
    pub(crate) fn memory_budget(&self) -> u64 {
        if !self.info.software {
            return u64::MAX;
        }
        let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_bytes(&text));
        available.map_or(u64::MAX, |bytes| bytes / 2)
    }

    /// What the device reported outside of any call, once.
    ///
    /// # Errors
    /// That report.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        match lock(&self.failure).take() {
            Some(message) => Err(EngineError::Device(format!("`{}` failed: {message}", self.info.name))),
            None => Ok(()),
        }
    }

    /// The compiled `kernel`, compiled once.
    ///
    /// # Errors
    /// When the driver refuses it.
    pub(crate) fn pipeline(&self, kernel: &Kernel) -> Result<wgpu::ComputePipeline, EngineError> {
        if let Some(pipeline) = lock(&self.pipelines).get(kernel) {
            return Ok(pipeline.clone());
        }
        let refused = |reason: String| {
            EngineError::Device(format!("kernel {} {:?} cannot be compiled: {reason}", kernel.name, kernel.constants))
        };
        let mut source = String::new();
        if kernel.constants.contains(&(HALF, 1)) {
            source.push_str("enable f16;\n");
        }
        source.push_str(&template::declarations(&kernel.constants));
        source.push_str(if kernel.vector { "alias V = vec4<f32>;\n" } else { "alias V = f32;\n" });
        for part in kernel.parts {
            source.push_str(&template::expand(part, &kernel.constants).map_err(refused)?);
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let module = self.shader(kernel.name, source);
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(refused(error.to_string()));
        }
        lock(&self.pipelines).insert(kernel.clone(), pipeline.clone());
        Ok(pipeline)
    }

    /// The `chunk`-th uniform buffer of a submission.
    pub(crate) fn params_buffer(&self, chunk: usize) -> wgpu::Buffer {
        self.params_among(&mut lock(&self.params), chunk)
    }

    fn params_among(&self, buffers: &mut Vec<wgpu::Buffer>, chunk: usize) -> wgpu::Buffer {
        while buffers.len() <= chunk {
            buffers.push(self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size: Self::PARAMS_BYTES,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }));
        }
        buffers[chunk].clone()
    }

    /// Hands `commands` to the device behind all earlier ones, with `params` in the uniform buffers. No other thread's
    /// uniform data comes between.
    ///
    /// # Errors
    /// When the device has reported a failure.
    pub(crate) fn submit(
        &self,
        params: &[u8],
        commands: wgpu::CommandBuffer,
    ) -> Result<wgpu::SubmissionIndex, EngineError> {
        let submission = {
            let mut buffers = lock(&self.params);
            for (chunk, bytes) in params.chunks(Self::PARAMS_BYTES as usize).enumerate() {
                self.queue.write_buffer(&self.params_among(&mut buffers, chunk), 0, bytes);
            }
            self.queue.submit([commands])
        };
        self.check().map(|()| submission)
    }

    /// Waits for all submitted work.
    ///
    /// # Errors
    /// When the device is lost or has reported a failure.
    pub(crate) fn wait(&self) -> Result<(), EngineError> {
        self.poll(wgpu::PollType::wait_indefinitely())
    }

    /// Waits for `submission` and what was submitted before it.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub(crate) fn wait_for(&self, submission: wgpu::SubmissionIndex) -> Result<(), EngineError> {
        self.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None })
    }

    fn poll(&self, until: wgpu::PollType) -> Result<(), EngineError> {
        self.device
            .poll(until)
            .map_err(|error| EngineError::Device(format!("`{}` does not answer: {error}", self.info.name)))?;
        self.check()
    }

    #[allow(unsafe_code)]
    fn shader(&self, name: &str, source: String) -> wgpu::ShaderModule {
        let mut checks = wgpu::ShaderRuntimeChecks::checked();
        checks.force_loop_bounding = false;
        checks.int_div_checks = false;
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(source.into()) };
        // SAFETY: the sources are this crate's own. Every loop in them counts up to a bound, or halves down to zero, and
        // every divisor is a dimension, which the shape inference of the graph has found to be positive. Bounds of
        // buffers stay checked. The counters that wgpu would add to each loop keep drivers from unrolling it.
        unsafe { self.device.create_shader_module_trusted(descriptor, checks) }
    }
}

/// `MemAvailable` of Linux's `/proc/meminfo`, in bytes.
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_available_memory_is_read() {
        assert_eq!(available_bytes("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available_bytes("MemTotal: 9 kB\n"), None);
    }

    fn info(index: usize, name: &str) -> AdapterInfo {
        AdapterInfo {
            index,
            name: name.to_owned(),
            backend: "vulkan".to_owned(),
            driver: "driver 1".to_owned(),
            software: false,
            max_buffer_size: 1 << 30,
            max_storage_binding: 1 << 27,
            max_workgroup_invocations: 256,
            max_workgroup_storage: 16 << 10,
            float16: true,
        }
    }

    #[test]
    fn an_adapter_is_chosen_by_index_or_by_part_of_its_name() {
        let adapters = [info(0, "NVIDIA GeForce RTX 4090"), info(1, "llvmpipe (LLVM 15)")];
        assert_eq!(select(&adapters, None).unwrap(), 0);
        assert_eq!(select(&adapters, Some("1")).unwrap(), 1);
        assert_eq!(select(&adapters, Some("LLVMpipe")).unwrap(), 1);
        assert_eq!(select(&adapters, Some("4090")).unwrap(), 0, "a number that is no index may be part of a name");
        let error = select(&adapters, Some("radeon")).unwrap_err().to_string();
        assert!(error.contains("0 (NVIDIA GeForce RTX 4090) or 1 (llvmpipe (LLVM 15)), got `radeon`"), "{error}");
        assert!(select(&adapters, Some("")).is_err());
    }

    #[test]
    fn without_an_adapter_the_package_is_named() {
        let error = select(&[], None).unwrap_err().to_string();
        assert!(error.contains("mesa-vulkan-drivers") && error.contains("NVIDIA"), "{error}");
    }

    #[test]
    fn the_table_has_a_line_an_adapter() {
        let text = table(&[info(0, "one"), info(1, "another")]);
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().nth(2).unwrap().trim_start().starts_with("1  another"), "{text}");
    }
}
