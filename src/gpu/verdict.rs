//! What an inventory means: whether NVENC can be used, on which GPU, and how many sessions the machine bears.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{Driver, Gpu, Inventory, Session, inventory, sessions, support};
use crate::error::{Error, Kind, Result};
use crate::lease::{Limit, Pool};
use crate::wire::lease::Trial;
use crate::wire::status::Cause;

/// How many encoder sessions the machine bears, all programs together, on the GPUs that gsk would encode on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capacity {
    pub limit: Limit,
    /// Where that comes from, for people: "driver 550.54.14, GeForce boards share 8 (support table)".
    pub from: String,
    /// Indices of the GPUs whose sessions count against the limit; none: those of all.
    pub gpus: Vec<u32>,
    /// UUIDs of the GPUs to encode on, the best first; none: any. Of one that is divided, the PCI address, which its instances
    /// have. Where the limit is that of some boards, only those are here that it is told of.
    pub boards: Vec<String>,
}

impl Capacity {
    /// The pids of the sessions that count; `None` where the driver cannot be asked.
    pub fn pids(&self, time: Duration) -> Option<Vec<u32>> {
        let counts = |session: &Session| self.gpus.is_empty() || self.gpus.contains(&session.gpu);
        Some(sessions(time)?.into_iter().filter(counts).map(|session| session.pid).collect())
    }
}

/// What the machine bears: as many as the user says (`most`), else what its boards and driver tell within `time`. A driver
/// that does not tell in time is an error: what it would have said is no ground to go without a limit. `board`: NVML's
/// UUID of the one to encode on, where one was chosen.
pub fn limit(board: Option<&str>, most: Option<u32>, time: Duration) -> Result<Capacity> {
    let inventory = inventory(time);
    let known = match board {
        Some(board) => capacity_of(&inventory, board),
        None => known_capacity(&inventory),
    };
    if let Some(most) = most {
        let from = format!("{most} by the settings");
        return Ok(Capacity { limit: Limit::Sessions(most), from, gpus: Vec::new(), ..known });
    }
    if inventory.driver == Driver::Hung || inventory.hung.is_some() {
        let call = inventory.hung.map_or("NVML".into(), |hung| hung.call);
        return Err(Error::new(Kind::Unreachable, "the NVIDIA driver does not say what boards there are")
            .cause(format!("{call} has not returned within {}", humantime::format_duration(time)))
            .hint("try again: without persistence mode it is slow at first (sudo nvidia-smi -pm 1)\nor say how many sessions it bears: --slots N"));
    }
    Ok(known)
}

/// What the machine was seen to bear in a trial with this driver, else what the support table says.
pub fn known_capacity(inventory: &Inventory) -> Capacity {
    let by_table = capacity(inventory);
    let tried = || inventory.driver_version.as_ref().and_then(|driver| Pool::existing().ok()??.trial(driver));
    // Boards without an encoder bear none, whatever those before them did.
    let none = by_table.limit == Limit::Sessions(0);
    match if none { None } else { tried().filter(|trial| trial.boards == boards(inventory)) } {
        // What was broken off met no limit.
        Some(Trial { refusal: None, sessions, at, .. }) => {
            Capacity { limit: Limit::Unlimited, from: format!("{sessions} and more tried at {at}"), ..by_table }
        }
        Some(Trial { sessions, driver, at, .. }) => {
            let from = format!("driver {driver}, tried at {at}");
            Capacity { limit: Limit::Sessions(sessions), from, ..by_table }
        }
        None => by_table,
    }
}

/// Whether NVENC can be used here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether a session is worth trying. Only opening one proves that it works.
    pub usable: bool,
    /// The GPU to encode on, by NVML's index; null where NVML does not know.
    pub gpu: Option<u32>,
    /// The same GPU's UUID, which is the way to find it in CUDA, whose indices differ.
    pub uuid: Option<String>,
    /// Why not; null where it is usable.
    pub cause: Option<Cause>,
    pub detail: String,
    /// What to do about it, with the command; null where there is nothing to repair.
    pub remedy: Option<String>,
}

/// What a GPU is worth as an encoder, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    Unlimited,
    /// It has an encoder; whether its sessions are limited is not known.
    MaybeLimited,
    Limited,
    /// It has an encoder, and is divided by MIG: an instance may have got no part of it.
    Divided,
    /// The table does not know the board.
    Unknown,
    NoEngine,
    /// NVML cannot even tell its name.
    Broken,
}

fn worth(gpu: &Gpu) -> Worth {
    match gpu.support() {
        Some(board) if !board.has_encoder() => Worth::NoEngine,
        Some(_) if gpu.mig == Some(true) => Worth::Divided,
        Some(board) => match board.limited {
            Some(false) => Worth::Unlimited,
            None => Worth::MaybeLimited,
            Some(true) => Worth::Limited,
        },
        None if gpu.name.is_none() => Worth::Broken,
        None => Worth::Unknown,
    }
}

/// How many sessions the machine bears, as far as its boards and its driver tell.
pub fn capacity(inventory: &Inventory) -> Capacity {
    capacity_among(inventory, &inventory.gpus.iter().collect::<Vec<_>>())
}

/// The same for one board that was chosen, by NVML's UUID. A GeForce board shares its limit with the machine's others.
pub fn capacity_of(inventory: &Inventory, board: &str) -> Capacity {
    let gpus: Vec<&Gpu> = inventory.gpus.iter().filter(|gpu| gpu.uuid.as_deref() == Some(board)).collect();
    if gpus.len() == inventory.gpus.len() { known_capacity(inventory) } else { capacity_among(inventory, &gpus) }
}

/// `among`: the boards to encode on.
fn capacity_among(inventory: &Inventory, among: &[&Gpu]) -> Capacity {
    let of = |limit, from: String| Capacity { limit, from, gpus: Vec::new(), boards: to_encode_on(among) };
    match inventory.driver {
        Driver::Ready => {}
        Driver::NoGpu => return of(Limit::Sessions(0), "no NVIDIA GPU".into()),
        _ => return of(Limit::Unknown, "the driver does not say what GPUs there are".into()),
    }
    let driver = match &inventory.driver_version {
        Some(version) => format!("driver {version}"),
        None => "driver of unknown version".into(),
    };
    let best = among.iter().min_by_key(|gpu| worth(gpu));
    let Some((best, worth)) = best.map(|gpu| (gpu, worth(gpu))) else {
        return of(Limit::Unknown, format!("{driver}, no GPU was read"));
    };
    match worth {
        Worth::Unlimited => {
            of(Limit::Unlimited, format!("{driver}, {} has no session limit (support table)", best.label()))
        }
        Worth::Limited => {
            let gpus = limited(inventory).map(|gpu| gpu.index).collect();
            match session_limit(inventory) {
                Some(limit) => Capacity {
                    limit: Limit::Sessions(limit.sessions),
                    from: format!("{driver}, GeForce boards share {} (support table)", limit.sessions),
                    gpus,
                    boards: to_encode_on(among),
                },
                None => Capacity { gpus, ..of(Limit::Unknown, format!("{driver}, whose session limit is unknown")) },
            }
        }
        Worth::NoEngine => of(Limit::Sessions(0), format!("no NVENC engine: {}", names(among.iter().copied()))),
        Worth::Divided => of(Limit::Unknown, format!("{driver}, {} is divided by MIG", best.label())),
        Worth::MaybeLimited | Worth::Unknown | Worth::Broken => {
            of(Limit::Unknown, format!("{driver}, {}: session limit unknown", best.label()))
        }
    }
}

/// The GPUs that may have an encoder, the best first; where the best have no limit, only those.
fn to_encode_on(gpus: &[&Gpu]) -> Vec<String> {
    let mut boards: Vec<(Worth, &Gpu)> = gpus.iter().copied().map(|gpu| (worth(gpu), gpu)).collect();
    boards.retain(|(worth, _)| *worth <= Worth::Unknown);
    boards.sort_by_key(|(worth, _)| *worth);
    if boards.first().is_some_and(|(worth, _)| *worth == Worth::Unlimited) {
        boards.retain(|(worth, _)| *worth == Worth::Unlimited);
    }
    // CUDA shows instances of a divided board, whose UUIDs are their own, at the board's address.
    let id = |gpu: &Gpu| gpu.pci.clone().filter(|_| gpu.mig == Some(true)).or_else(|| gpu.uuid.clone());
    boards.into_iter().filter_map(|(_, gpu)| id(gpu)).collect()
}

/// The UUIDs of all GPUs, in NVML's order: what a trial was made on.
pub fn boards(inventory: &Inventory) -> Vec<String> {
    inventory.gpus.iter().filter_map(|gpu| gpu.uuid.clone()).collect()
}

/// Whether NVENC can be used, and where not, why and what to do. `nvenc` is whether `libnvidia-encode.so.1` can be loaded, or
/// the loader's words.
pub fn verdict(inventory: &Inventory, nvenc: Result<(), &str>) -> Verdict {
    if let Some(hung) = &inventory.hung {
        let of = hung.gpu.map_or(String::new(), |gpu| format!(" of GPU {gpu}"));
        let seconds = hung.for_ms as f64 / 1000.0;
        return no(
            Cause::Fault,
            format!("the NVIDIA driver does not answer: {}{of} has not returned for {seconds:.1} s", hung.call),
            "see what the driver reports: sudo dmesg | grep -E 'NVRM|Xid'; a GPU that fell off the bus needs a reboot. If \
             the driver is only slow to start: sudo nvidia-smi -pm 1",
        );
    }
    if inventory.driver != Driver::Ready {
        return without_driver(inventory, nvenc);
    }
    let mut candidates: Vec<&Gpu> = inventory.gpus.iter().filter(|gpu| worth(gpu) <= Worth::Unknown).collect();
    candidates.sort_by_key(|gpu| worth(gpu));
    if candidates.is_empty() {
        return without_engine(inventory);
    }
    if let Err(why) = nvenc {
        return without_library(inventory, why);
    }
    let full = full(inventory);
    match candidates.iter().find(|gpu| full.is_none() || worth(gpu) != Worth::Limited) {
        Some(gpu) => on(inventory, gpu),
        None => full.unwrap_or_else(|| on(inventory, candidates[0])),
    }
}

fn no(cause: Cause, detail: impl Into<String>, remedy: impl Into<String>) -> Verdict {
    let (detail, remedy) = (detail.into(), Some(remedy.into()));
    Verdict { usable: false, gpu: None, uuid: None, cause: Some(cause), detail, remedy }
}

/// It is worth trying, on this GPU.
fn on(inventory: &Inventory, gpu: &Gpu) -> Verdict {
    let (mut detail, mut remedy) = (format!("{} encodes", gpu.label()), None);
    match worth(gpu) {
        Worth::Limited => {
            let used = used(inventory).map_or("an unknown number".into(), |used| used.len().to_string());
            detail += &match session_limit(inventory) {
                Some(limit) => {
                    format!("; {used} of the {} sessions of the system's GeForce boards in use", limit.sessions)
                }
                None => format!("; {used} sessions of a limit that is not known for this driver"),
            };
        }
        Worth::Divided => {
            detail =
                format!("{} is divided by MIG: an instance encodes only if it was made with an encoder", gpu.label());
            remedy = Some(format!("to have the whole board again: sudo nvidia-smi -i {} -mig 0", gpu.index));
        }
        Worth::Unknown => {
            detail = format!(
                "{} is not in gsk's table of boards: opening a session will show whether it encodes",
                gpu.label()
            );
        }
        _ => {}
    }
    let others: Vec<Gpu> = inventory.gpus.iter().filter(|other| worth(other) == Worth::NoEngine).cloned().collect();
    if !others.is_empty() {
        detail += &format!("; no NVENC engine: {}", names(&others));
    }
    Verdict { usable: true, gpu: Some(gpu.index), uuid: gpu.uuid.clone(), cause: None, detail, remedy }
}

const CONTAINER: &str = "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility,video …";

/// NVML does not work.
fn without_driver(inventory: &Inventory, nvenc: Result<(), &str>) -> Verdict {
    let said = inventory.detail.as_deref().unwrap_or("no reason given");
    let library = &inventory.library;
    if library.contains('/') && matches!(inventory.driver, Driver::NoLibrary | Driver::BadLibrary) {
        let detail = format!("GSK_NVML_LIBRARY names no NVML library: {said}");
        return no(Cause::Fault, detail, "unset GSK_NVML_LIBRARY");
    }
    match inventory.driver {
        Driver::NoLibrary if nvenc.is_ok() => Verdict {
            usable: true,
            gpu: None,
            uuid: None,
            cause: None,
            detail: format!("NVENC's library is here, NVML is not ({said}): sessions of other programs cannot be seen"),
            remedy: Some(format!("in a container: {CONTAINER}")),
        },
        Driver::NoLibrary => match &inventory.kernel_module {
            Some(version) => no(
                Cause::NoDriver,
                format!("the kernel has NVIDIA's module {version}, but the driver's libraries are not here: {said}"),
                format!("in a container: {CONTAINER}; on a host install the driver's libraries of version {version}"),
            ),
            None => no(
                Cause::NoDriver,
                format!("no NVIDIA driver: {said}"),
                format!(
                    "Ubuntu: sudo ubuntu-drivers install; Debian: sudo apt install nvidia-driver libnvidia-encode1; in a \
                     container: {CONTAINER}"
                ),
            ),
        },
        Driver::NotLoaded => no(
            Cause::NoDriver,
            format!("the NVIDIA driver's libraries are here, its kernel module is not loaded: {said}"),
            "sudo modprobe nvidia (after a new kernel: sudo dkms autoinstall first)",
        ),
        Driver::Mismatch => {
            let loaded =
                inventory.kernel_module.as_ref().map_or(String::new(), |version| format!(" (loaded: {version})"));
            no(
                Cause::Fault,
                format!(
                    "driver/library version mismatch: the driver was updated, its old kernel module still runs{loaded}"
                ),
                "sudo reboot; or, with every program on the GPU ended: sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && \
                 sudo modprobe nvidia; a container is started anew",
            )
        }
        Driver::NoPermission => no(
            Cause::Fault,
            format!("this user may not open the NVIDIA devices: {said}"),
            format!(
                "see who may: ls -l /dev/nvidia*; often: sudo usermod -aG video,render $USER; in a container: {CONTAINER}"
            ),
        ),
        Driver::NoGpu => no(
            Cause::NoEngine,
            "the NVIDIA driver runs, and finds no GPU",
            format!("see whether the system has one: lspci -d 10de:; in a container: {CONTAINER}"),
        ),
        Driver::BadLibrary => no(
            Cause::Fault,
            format!("{library} cannot be used: {said}"),
            "reinstall the driver's libraries for this architecture; ldconfig -p | grep nvidia-ml shows which are found",
        ),
        Driver::Ready | Driver::Hung | Driver::Fault => {
            no(Cause::Fault, format!("NVML does not work: {said}"), "see what NVIDIA's own tool says: nvidia-smi")
        }
    }
}

/// The driver is here, its NVENC library is not.
fn without_library(inventory: &Inventory, why: &str) -> Verdict {
    let branch = inventory.driver_version.as_deref().and_then(|version| version.split('.').next());
    let ubuntu = branch.map_or(String::new(), |branch| format!("Ubuntu: sudo apt install libnvidia-encode-{branch}; "));
    no(
        Cause::NoDriver,
        format!("the NVIDIA driver is here without its NVENC library: {why}"),
        format!("{ubuntu}Debian: sudo apt install libnvidia-encode1; in a container: {CONTAINER}"),
    )
}

/// No GPU here can encode.
fn without_engine(inventory: &Inventory) -> Verdict {
    if let Some(broken) = inventory.gpus.iter().find(|gpu| worth(gpu) == Worth::Broken) {
        let said = broken.faults.first().map_or("no reason given", String::as_str);
        let detail = format!("{} does not answer: {said}", broken.label());
        return no(Cause::Fault, detail, "see what the driver reports: sudo dmesg | grep -E 'NVRM|Xid'");
    }
    let mut detail = format!("no NVENC engine: {}; that is how these boards are made", names(&inventory.gpus));
    if inventory.gpus.iter().any(|gpu| gpu.mig == Some(true)) {
        detail += "; MIG has no part in it";
    }
    Verdict { usable: false, gpu: None, uuid: None, cause: Some(Cause::NoEngine), detail, remedy: None }
}

/// The verdict where the session limit is reached.
fn full(inventory: &Inventory) -> Option<Verdict> {
    let limit = session_limit(inventory)?;
    let used = used(inventory)?;
    if (used.len() as u64) < u64::from(limit.sessions) {
        return None;
    }
    let mut by_pid = BTreeMap::new();
    for session in &used {
        *by_pid.entry(session.pid).or_insert(0) += 1;
    }
    let holders: Vec<String> = by_pid.iter().map(|(pid, count)| format!("{pid} ({count})")).collect();
    Some(no(
        Cause::Limit,
        format!(
            "{} encoder sessions are open, and the driver allows the system's GeForce boards {}; by process: {}",
            used.len(),
            limit.sessions,
            holders.join(", ")
        ),
        "see who they are: gsk nvenc-status; end one of them, or set --slots if the limit of this driver is higher",
    ))
}

/// GPUs whose sessions count against the limit.
fn limited(inventory: &Inventory) -> impl Iterator<Item = &Gpu> {
    inventory.gpus.iter().filter(|gpu| gpu.support().is_some_and(|board| board.limited == Some(true)))
}

fn session_limit(inventory: &Inventory) -> Option<&'static support::SessionLimit> {
    support::table().limit(inventory.driver_version.as_deref()?)
}

/// The sessions that count against the limit; `None` where a board does not tell them.
fn used(inventory: &Inventory) -> Option<Vec<&Session>> {
    let sessions: Option<Vec<&Vec<Session>>> = limited(inventory).map(|gpu| gpu.sessions.as_ref()).collect();
    Some(sessions?.into_iter().flatten().collect())
}

fn names<'a>(gpus: impl IntoIterator<Item = &'a Gpu>) -> String {
    gpus.into_iter().map(Gpu::label).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
