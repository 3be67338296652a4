//! The thread that makes the calls, and what it makes of their answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nvml_wrapper::bitmasks::InitFlags;
use nvml_wrapper::enum_wrappers::device::Clock;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

use super::{Ask, Call, Question, Shared, library, lock};
use crate::gpu::{Capacities, Codec, Compute, Driver, EncoderStats, Gpu, Inventory, Memory, Pace, Process, Session};

/// More GPUs than any machine has: a count beyond it is a driver's fault, and is not followed.
const MOST_GPUS: u32 = 256;

/// More encoder sessions than any GPU bears, likewise.
const MOST_SESSIONS: u32 = 4096;

/// Room for sessions at the first try: 1 KiB.
const FIRST_SESSIONS: u32 = 32;

/// How often a list is asked for again that grew while it was listed.
const LIST_TRIES: u32 = 8;

/// The thread that talks to the driver.
pub(super) struct Worker {
    nvml: Option<Nvml>,
    shared: Arc<Shared>,
    /// Of the question in hand.
    given_up: Arc<AtomicBool>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Worker {
        Worker { nvml: None, shared, given_up: Arc::default() }
    }

    pub(super) fn answer(&mut self, question: Question) {
        // A reply fails where nobody waits for it any more, which is no fault.
        match question {
            Question::Inventory(ask) => {
                if self.begin(&ask) {
                    self.take_inventory();
                    let _ = ask.reply.send(lock(&self.shared.known).clone());
                }
            }
            Question::Sessions(ask) => {
                if self.begin(&ask) {
                    let _ = ask.reply.send(self.all_sessions());
                }
            }
        }
    }

    /// Whether anybody still waits for the answer.
    fn begin<T>(&mut self, ask: &Ask<T>) -> bool {
        self.given_up = ask.given_up.clone();
        !self.given_up.load(Ordering::Relaxed)
    }

    /// Makes one call into the driver, under its name. Once nobody waits for the answer none is made any more: a driver that
    /// came back from one long call need not go through the others.
    fn call<T>(&self, name: &'static str, gpu: Option<u32>, call: impl FnOnce() -> Result<T, NvmlError>) -> Read<T> {
        if self.given_up.load(Ordering::Relaxed) {
            return Read::Failed(format!("{name}: not asked"));
        }
        *lock(&self.shared.call) = Some(Call { name, gpu, since: Instant::now(), given_up: false });
        let result = call();
        *lock(&self.shared.call) = None;
        match result {
            Ok(value) => Read::Known(value),
            // A symbol that the library lacks: the driver is older than the call.
            Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => Read::NotSupported,
            Err(error) => Read::Failed(format!("{name}: {error}")),
        }
    }

    /// Writes into the record, unless the question was given up: what stands there then is worth more than what was not
    /// asked.
    fn know(&self, change: impl FnOnce(&mut Inventory)) {
        if !self.given_up.load(Ordering::Relaxed) {
            change(&mut lock(&self.shared.known));
        }
    }

    /// Opens NVML, or says in the record why it cannot be opened.
    fn open(&mut self) -> bool {
        if self.nvml.is_some() {
            return true;
        }
        let path = library();
        let kernel_module =
            std::fs::read_to_string("/proc/driver/nvidia/version").ok().and_then(|s| module_version(&s));
        self.know(|known| {
            *known = Inventory { library: path.to_string_lossy().into_owned(), kernel_module, ..Inventory::default() };
        });
        let mut failure = None;
        let opened = self.call("nvmlInit_v2", None, || {
            let mut result = Nvml::builder().lib_path(&path).init();
            if matches!(result, Err(NvmlError::NotFound)) {
                // No GPU, which is a fault to this call alone.
                result = Nvml::builder().lib_path(&path).flags(InitFlags::NO_GPUS).init();
            }
            result.inspect_err(|error| failure = Some(classify(error)))
        });
        match (opened, failure) {
            (Read::Known(nvml), _) => {
                self.nvml = Some(nvml);
                self.know(|known| known.driver = Driver::Ready);
                true
            }
            (_, Some((driver, detail))) => {
                self.know(|known| (known.driver, known.detail) = (driver, Some(detail)));
                false
            }
            // Not asked: nobody waits.
            (_, None) => false,
        }
    }

    /// Reads everything into the record.
    fn take_inventory(&mut self) {
        if !self.open() {
            return;
        }
        let Some(nvml) = &self.nvml else { return };
        self.know(|known| known.gpus.iter_mut().for_each(forget_figures));
        let version = self.call("nvmlSystemGetDriverVersion", None, || nvml.sys_driver_version()).value();
        let cuda = self.call("nvmlSystemGetCudaDriverVersion_v2", None, || nvml.sys_cuda_driver_version()).value();
        self.know(|known| {
            known.driver_version = version.or(known.driver_version.take());
            // 12040 is 12.4 (nvml.h, NVML_CUDA_DRIVER_VERSION_MAJOR).
            let cuda = cuda.map(|number| format!("{}.{}", number / 1000, number % 1000 / 10));
            known.cuda_version = cuda.or(known.cuda_version.take());
        });
        let count = match self.call("nvmlDeviceGetCount_v2", None, || nvml.device_count()) {
            Read::Known(count) => count.min(MOST_GPUS),
            Read::NotSupported => 0,
            Read::Failed(why) => return self.know(|known| known.detail = Some(why)),
        };
        self.know(|known| {
            known.driver = if count == 0 { Driver::NoGpu } else { Driver::Ready };
            known.detail = None;
            known.gpus.truncate(count as usize);
            for index in known.gpus.len() as u32..count {
                known.gpus.push(Gpu { index, ..Gpu::default() });
            }
        });
        (0..count).for_each(|index| self.take_gpu(nvml, index));
    }

    /// Reads one GPU into the record, each figure as soon as it is known: first what tells the board, for a call that hangs
    /// is most likely one of the later ones.
    fn take_gpu(&self, nvml: &Nvml, index: u32) {
        let mut faults = Vec::new();
        let device = self.call("nvmlDeviceGetHandleByIndex_v2", Some(index), || nvml.device_by_index(index));
        if let Some(device) = device.or_fault(&mut faults) {
            self.take_board(&device, index, &mut faults);
            self.take_figures(nvml, &device, index, &mut faults);
        }
        self.know(|known| known.gpus[index as usize].faults = faults);
    }

    fn take_board(&self, device: &Device, index: u32, faults: &mut Vec<String>) {
        let gpu = Some(index);
        let name = self.call("nvmlDeviceGetName", gpu, || device.name()).or_fault(faults);
        self.set(index, |gpu| gpu.name = name);
        let compute = self.call("nvmlDeviceGetCudaComputeCapability", gpu, || device.cuda_compute_capability());
        let compute = compute.or_fault(faults).and_then(|compute| {
            Some(Compute { major: compute.major.try_into().ok()?, minor: compute.minor.try_into().ok()? })
        });
        self.set(index, |gpu| (gpu.compute, gpu.architecture) = (compute, compute.and_then(Compute::architecture)));
        let uuid = self.call("nvmlDeviceGetUUID", gpu, || device.uuid()).or_fault(faults);
        self.set(index, |gpu| gpu.uuid = uuid);
        let pci = self.call("nvmlDeviceGetPciInfo_v3", gpu, || device.pci_info()).or_fault(faults);
        self.set(index, |gpu| gpu.pci = pci.map(|pci| pci.bus_id));
        let mig = self.call("nvmlDeviceGetMigMode", gpu, || device.mig_mode()).or_fault(faults);
        // NVML_DEVICE_MIG_ENABLE is 1 (nvml.h).
        self.set(index, |gpu| gpu.mig = mig.map(|mode| mode.current == 1));
    }

    fn take_figures(&self, nvml: &Nvml, device: &Device, index: u32, faults: &mut Vec<String>) {
        let gpu = Some(index);
        let sessions = self.call("nvmlDeviceGetEncoderSessions", gpu, || read_sessions(nvml, device, index));
        let sessions = sessions.or_fault(faults);
        self.set(index, |gpu| gpu.sessions = sessions);
        let memory = self.call("nvmlDeviceGetMemoryInfo_v2", gpu, || device.memory_info()).or_fault(faults);
        self.set(index, |gpu| gpu.memory = memory.map(|memory| Memory { total: memory.total, used: memory.used }));
        // Drivers do without some of them, and what they say then differs: none of that is a fault.
        let state = self.call("nvmlDeviceGetPerformanceState", gpu, || device.performance_state()).value();
        let clock = |of| self.call("nvmlDeviceGetClockInfo", gpu, || device.clock_info(of)).value();
        let pace = Pace {
            performance_state: state.and_then(|state| u8::try_from(state.as_c()).ok()).filter(|state| *state < 16),
            graphics_mhz: clock(Clock::Graphics),
            memory_mhz: clock(Clock::Memory),
            video_mhz: clock(Clock::Video),
        };
        self.set(index, |gpu| gpu.pace = pace);
        let encoder = self.call("nvmlDeviceGetEncoderUtilization", gpu, || device.encoder_utilization());
        let encoder = encoder.or_fault(faults).map(|figure| figure.utilization);
        self.set(index, |gpu| gpu.encoder_utilization = encoder);
        let decoder = self.call("nvmlDeviceGetDecoderUtilization", gpu, || device.decoder_utilization());
        let decoder = decoder.or_fault(faults).map(|figure| figure.utilization);
        self.set(index, |gpu| gpu.decoder_utilization = decoder);
        // The drivers that do not know a codec say so by INVALID_ARGUMENT, which here is no fault.
        let capacity =
            |codec| self.call("nvmlDeviceGetEncoderCapacity", gpu, || read_capacity(nvml, device, codec)).value();
        let capacities = Capacities { h264: capacity(0), hevc: capacity(1), av1: capacity(2) };
        self.set(index, |gpu| gpu.encoder_capacity = capacities);
        let stats = self.call("nvmlDeviceGetEncoderStats", gpu, || device.encoder_stats()).or_fault(faults);
        self.set(index, |gpu| {
            gpu.encoder_stats = stats.map(|stats| EncoderStats {
                sessions: stats.session_count,
                average_fps: stats.average_fps,
                average_latency_us: stats.average_latency,
            });
        });
        let compute =
            self.call("nvmlDeviceGetComputeRunningProcesses_v3", gpu, || listed(|| device.running_compute_processes()));
        let graphics = self
            .call("nvmlDeviceGetGraphicsRunningProcesses_v3", gpu, || listed(|| device.running_graphics_processes()));
        let processes = match (compute.or_fault(faults), graphics.or_fault(faults)) {
            (None, None) => None,
            (compute, graphics) => Some(merge(compute.into_iter().chain(graphics).flatten())),
        };
        self.set(index, |gpu| gpu.processes = processes);
    }

    fn set(&self, index: u32, change: impl FnOnce(&mut Gpu)) {
        self.know(|known| change(&mut known.gpus[index as usize]));
    }

    /// The sessions of all GPUs. A GPU that has no encoder, or that is gone, has none; one that fails otherwise makes the
    /// whole unknown, since a count without it would be too low.
    fn all_sessions(&mut self) -> Option<Vec<Session>> {
        if !self.open() {
            return None;
        }
        let nvml = self.nvml.as_ref()?;
        let count = self.call("nvmlDeviceGetCount_v2", None, || nvml.device_count()).value()?;
        let mut all = Vec::new();
        for index in 0..count.min(MOST_GPUS) {
            let device = self.call("nvmlDeviceGetHandleByIndex_v2", Some(index), || gone(nvml.device_by_index(index)));
            let Some(device) = device.value()? else { continue };
            let sessions =
                self.call("nvmlDeviceGetEncoderSessions", Some(index), || gone(read_sessions(nvml, &device, index)));
            match sessions {
                Read::Known(sessions) => all.extend(sessions.into_iter().flatten()),
                Read::NotSupported => {}
                Read::Failed(_) => return None,
            }
        }
        Some(all)
    }
}

/// What came of one call.
enum Read<T> {
    Known(T),
    NotSupported,
    /// The call's name and the error.
    Failed(String),
}

impl<T> Read<T> {
    fn value(self) -> Option<T> {
        match self {
            Read::Known(value) => Some(value),
            _ => None,
        }
    }

    fn or_fault(self, faults: &mut Vec<String>) -> Option<T> {
        match self {
            Read::Known(value) => return Some(value),
            Read::NotSupported => {}
            Read::Failed(why) => faults.push(why),
        }
        None
    }
}

/// A GPU that fell off the bus is `None`: whatever it did, it does no more.
fn gone<T>(result: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match result {
        Err(NvmlError::GpuLost) => Ok(None),
        other => other.map(Some),
    }
}

/// Takes out what changes from one second to the next, and leaves what tells the board.
fn forget_figures(gpu: &mut Gpu) {
    let Gpu { index, uuid, pci, name, compute, architecture, mig, .. } = std::mem::take(gpu);
    *gpu = Gpu { index, uuid, pci, name, compute, architecture, mig, ..Gpu::default() };
}

/// What it means that NVML cannot be initialised.
fn classify(error: &NvmlError) -> (Driver, String) {
    let driver = match error {
        NvmlError::LibloadingError(_) if error.to_string().contains("No such file") => Driver::NoLibrary,
        NvmlError::LibloadingError(_) | NvmlError::FailedToLoadSymbol(_) => Driver::BadLibrary,
        NvmlError::DriverNotLoaded => Driver::NotLoaded,
        NvmlError::LibRmVersionMismatch => Driver::Mismatch,
        NvmlError::NoPermission => Driver::NoPermission,
        NvmlError::NotFound => Driver::NoGpu,
        _ => Driver::Fault,
    };
    (driver, error.to_string().replace("a libloading error occurred: ", ""))
}

/// The version in `/proc/driver/nvidia/version`, whose first line is such as "NVRM version: NVIDIA UNIX x86_64 Kernel Module
/// 550.54.14  Thu Feb 22 …", or with "Open Kernel Module for x86_64" for the open one.
fn module_version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
    let is_version = |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    line.split_whitespace().find(is_version).map(String::from)
}

/// The sessions of one GPU, by the raw call: nvml-wrapper's own gives up the whole list for one AV1 session, and for a
/// session that begins between its two calls.
fn read_sessions(nvml: &Nvml, device: &Device, gpu: u32) -> Result<Vec<Session>, NvmlError> {
    let symbol = nvml_sym(nvml.lib().nvmlDeviceGetEncoderSessions.as_ref())?;
    let mut room = FIRST_SESSIONS;
    for _ in 0..LIST_TRIES {
        // SAFETY: the entries are structures of plain integers (nvml.h), for which all zeros is a value.
        let mut list: Vec<_> = std::iter::repeat_with(|| unsafe { std::mem::zeroed() }).take(room as usize).collect();
        let mut count = room;
        // SAFETY: the handle is of this NVML, which is never shut down, and `list` has the `count` entries that NVML takes as
        // the bound of what it writes.
        let result = nvml_try(unsafe { symbol(device.handle(), &mut count, list.as_mut_ptr()) });
        match result {
            Ok(()) => {
                list.truncate(count as usize);
                let sessions = list.into_iter().map(|raw| Session {
                    gpu,
                    id: raw.sessionId,
                    pid: raw.pid,
                    codec: Codec::from_raw(raw.codecType),
                    width: raw.hResolution,
                    height: raw.vResolution,
                    average_fps: raw.averageFps,
                    average_latency_us: raw.averageLatency,
                });
                return Ok(sessions.collect());
            }
            // Sessions began meanwhile: room for those, and for some that begin until the next try.
            Err(NvmlError::InsufficientSize(_)) if count <= MOST_SESSIONS => room = count.max(room) + FIRST_SESSIONS,
            Err(error) => return Err(error),
        }
    }
    Err(NvmlError::InsufficientSize(Some(room as usize)))
}

/// `nvmlDeviceGetEncoderCapacity` by the raw call, since nvml-wrapper knows no AV1 (`codec` is of `nvmlEncoderType_t`).
fn read_capacity(nvml: &Nvml, device: &Device, codec: u32) -> Result<u32, NvmlError> {
    let symbol = nvml_sym(nvml.lib().nvmlDeviceGetEncoderCapacity.as_ref())?;
    let mut percent = 0;
    // SAFETY: the handle is of this NVML, which is never shut down, and `percent` outlives the call.
    nvml_try(unsafe { symbol(device.handle(), codec, &mut percent) })?;
    Ok(percent)
}

/// A list that may grow while it is read.
fn listed<T>(mut read: impl FnMut() -> Result<Vec<T>, NvmlError>) -> Result<Vec<T>, NvmlError> {
    for _ in 1..LIST_TRIES {
        match read() {
            Err(NvmlError::InsufficientSize(_)) => {}
            other => return other,
        }
    }
    read()
}

/// Each process once, though it may be listed for computing and for drawing; both show the same memory.
fn merge(processes: impl Iterator<Item = ProcessInfo>) -> Vec<Process> {
    let mut by_pid = BTreeMap::new();
    for process in processes {
        let memory = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        let known = by_pid.entry(process.pid).or_insert(None);
        *known = memory.max(*known);
    }
    by_pid.into_iter().map(|(pid, memory)| Process { pid, memory }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_modules_version_is_found() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\nGCC version:  \
                      gcc version 12.2.0 (Debian 12.2.0-14)";
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.104.05  Release Build  (dvs-builder@U16)";
        assert_eq!(module_version(closed).as_deref(), Some("550.54.14"));
        assert_eq!(module_version(open).as_deref(), Some("535.104.05"));
        assert_eq!(module_version("GCC version: 12.2.0"), None);
        assert_eq!(module_version(""), None);
    }

    #[test]
    fn a_process_that_computes_and_draws_is_one() {
        let process = |pid, used_gpu_memory| ProcessInfo {
            pid,
            used_gpu_memory,
            gpu_instance_id: None,
            compute_instance_id: None,
        };
        let list = [
            process(7, UsedGpuMemory::Used(100)),
            process(3, UsedGpuMemory::Unavailable),
            process(7, UsedGpuMemory::Used(100)),
        ];
        let expected = [Process { pid: 3, memory: None }, Process { pid: 7, memory: Some(100) }];
        assert_eq!(merge(list.into_iter()), expected);
    }

    #[test]
    fn a_list_that_never_stops_growing_ends() {
        let mut tries = 0;
        let result = listed(|| -> Result<Vec<()>, _> {
            tries += 1;
            Err(NvmlError::InsufficientSize(None))
        });
        assert!(matches!(result, Err(NvmlError::InsufficientSize(_))));
        assert_eq!(tries, LIST_TRIES);
    }
}
