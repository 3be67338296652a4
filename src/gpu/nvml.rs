//! NVML, asked within a time limit.
//!
//! A call into the driver can hang (a GPU that fell off the bus, a reset that is under way), and a thread inside it cannot be
//! stopped. So one thread a process makes all calls. It writes what it learns into a shared record and says which call it is
//! in. Whoever asks waits for its answer as long as he may; then he takes the record as it is, and the call's name. As long as
//! that call has not returned nobody waits for it again, and no second thread is sent after it; when it does return, what was
//! asked meanwhile and given up is skipped, and the next question is answered as ever.
//!
//! NVML is initialised once and never shut down. Where that failed it is tried again with the next question, so that a
//! driver which is loaded later is found.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper::bitmasks::InitFlags;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

use super::{Capacities, Codec, Compute, Driver, EncoderStats, Gpu, Hung, Inventory, Memory, Process, Session};

/// The name that the loader is asked for (nvidia-smi's own).
const LIBRARY: &str = "libnvidia-ml.so.1";

/// How old the answer of [`recent_sessions`] may be.
const RECENT: Duration = Duration::from_secs(1);

/// More GPUs than any machine has: a count beyond it is a driver's fault, and is not followed.
const MOST_GPUS: u32 = 256;

/// More encoder sessions than any GPU bears, likewise.
const MOST_SESSIONS: u32 = 4096;

/// Room for sessions at the first try: 1 KiB.
const FIRST_SESSIONS: u32 = 32;

/// How often a list is asked for again that grew while it was listed.
const LIST_TRIES: u32 = 8;

/// Everything that NVML says of this machine, within `limit`.
pub fn inventory(limit: Duration) -> Inventory {
    match ask(limit, Question::Inventory) {
        Ok(inventory) => inventory,
        Err(unanswered) => unanswered.into_inventory(),
    }
}

/// The encoder sessions of all GPUs as they are now, within `limit`; `None` where they cannot be known. Asks for nothing
/// else, for it is called while others wait for a lock.
pub fn sessions(limit: Duration) -> Option<Vec<Session>> {
    ask(limit, Question::Sessions).ok().flatten()
}

/// [`sessions`], at most 1 s old.
pub fn recent_sessions(limit: Duration) -> Option<Vec<Session>> {
    type Recent = Option<(Instant, Option<Vec<Session>>)>;
    static LAST: Mutex<Recent> = Mutex::new(None);
    let mut last = lock(&LAST);
    if let Some((at, sessions)) = &*last
        && at.elapsed() < RECENT
    {
        return sessions.clone();
    }
    let sessions = sessions(limit);
    *last = Some((Instant::now(), sessions.clone()));
    sessions
}

/// What is asked of the NVML thread, with the way back of the answer.
enum Question {
    Inventory(Ask<Inventory>),
    Sessions(Ask<Option<Vec<Session>>>),
}

/// The way back of an answer.
struct Ask<T> {
    reply: SyncSender<T>,
    /// Nobody waits for it any more.
    given_up: Arc<AtomicBool>,
}

/// What the NVML thread and those who ask it share.
#[derive(Default)]
struct Shared {
    /// What is known. Figures that change are taken out of it when it is asked for anew, so that none is older than the
    /// question.
    known: Mutex<Inventory>,
    call: Mutex<Option<Call>>,
}

/// The call into the driver that is under way.
struct Call {
    name: &'static str,
    gpu: Option<u32>,
    since: Instant,
    /// Somebody has waited for it in vain.
    given_up: bool,
}

impl Call {
    fn hung(&self) -> Hung {
        Hung { call: self.name.into(), gpu: self.gpu, for_ms: self.since.elapsed().as_millis() as u64 }
    }
}

/// The thread's mailbox, and the record.
struct Clerk {
    questions: mpsc::Sender<Question>,
    shared: Arc<Shared>,
}

/// Why there is no answer.
enum Unanswered {
    /// It did not come in time: what is known without it.
    Late(Box<Inventory>),
    /// There is no thread to ask.
    NoThread(String),
}

impl Unanswered {
    fn into_inventory(self) -> Inventory {
        match self {
            Unanswered::Late(inventory) => *inventory,
            Unanswered::NoThread(why) => Inventory {
                driver: Driver::Fault,
                detail: Some(why),
                library: library().to_string_lossy().into_owned(),
                ..Inventory::default()
            },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The library to open: `GSK_NVML_LIBRARY`, unless that is empty (an empty name would open this program itself).
fn library() -> OsString {
    std::env::var_os("GSK_NVML_LIBRARY").filter(|path| !path.is_empty()).unwrap_or_else(|| LIBRARY.into())
}

/// The thread's mailbox; the thread begins with the first question.
fn clerk() -> Result<&'static Clerk, &'static str> {
    static CLERK: OnceLock<Result<Clerk, String>> = OnceLock::new();
    let clerk = CLERK.get_or_init(|| {
        let (questions, inbox) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        lock(&shared.known).library = library().to_string_lossy().into_owned();
        let mut worker = Worker { nvml: None, shared: shared.clone(), given_up: Arc::default() };
        std::thread::Builder::new()
            .name("gsk-nvml".into())
            .spawn(move || inbox.into_iter().for_each(|question| worker.answer(question)))
            .map_err(|error| format!("no thread for NVML: {error}"))?;
        Ok(Clerk { questions, shared })
    });
    clerk.as_ref().map_err(String::as_str)
}

fn ask<T>(limit: Duration, question: fn(Ask<T>) -> Question) -> Result<T, Unanswered> {
    let begun = Instant::now();
    let clerk = clerk().map_err(|why| Unanswered::NoThread(why.into()))?;
    let hung = lock(&clerk.shared.call).as_ref().filter(|call| call.given_up).map(Call::hung);
    if let Some(hung) = hung {
        return Err(clerk.late(hung));
    }
    let (reply, answer) = mpsc::sync_channel(1);
    let given_up = Arc::new(AtomicBool::new(false));
    let gone = || Unanswered::NoThread("the thread for NVML has ended".into());
    clerk.questions.send(question(Ask { reply, given_up: given_up.clone() })).map_err(|_| gone())?;
    match answer.recv_timeout(limit.saturating_sub(begun.elapsed())) {
        Ok(answer) => Ok(answer),
        Err(RecvTimeoutError::Disconnected) => Err(gone()),
        Err(RecvTimeoutError::Timeout) => {
            given_up.store(true, Ordering::Relaxed);
            let hung = lock(&clerk.shared.call).as_mut().map(|call| {
                call.given_up = true;
                call.hung()
            });
            // Between two calls: the time was too short for all of them, and none of them is to blame.
            let for_ms = begun.elapsed().as_millis() as u64;
            Err(clerk.late(hung.unwrap_or(Hung { call: "several calls".into(), gpu: None, for_ms })))
        }
    }
}

impl Clerk {
    fn late(&self, hung: Hung) -> Unanswered {
        let known = lock(&self.shared.known).clone();
        Unanswered::Late(Box::new(Inventory { hung: Some(hung), ..known }))
    }
}

/// The thread that talks to the driver.
struct Worker {
    nvml: Option<Nvml>,
    shared: Arc<Shared>,
    /// Of the question in hand.
    given_up: Arc<AtomicBool>,
}

impl Worker {
    fn answer(&mut self, question: Question) {
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

    fn know(&self, change: impl FnOnce(&mut Inventory)) {
        change(&mut lock(&self.shared.known));
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
            let sessions = self.call("nvmlDeviceGetEncoderSessions", Some(index), || {
                match nvml.device_by_index(index).and_then(|device| read_sessions(nvml, &device, index)) {
                    Err(NvmlError::GpuLost) => Ok(Vec::new()),
                    other => other,
                }
            });
            match sessions {
                Read::Known(sessions) => all.extend(sessions),
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
    (driver, error.to_string())
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
