//! Starting the probes, hearing them out, and outliving them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::probe::{self, Job, Line, Part};
use super::{CudaDevice, EglDevice, Exports, Finding, Id, Options, Pair, Report, Verdict};
use super::{capabilities, host, pairs, settle, wanted};
use crate::error::{Error, Result};
use crate::gpu::choose::{Address, Wanted};
use crate::gpu::{self, Driver, Inventory};
use crate::wire::status::Cause;

/// A step has this part of the time that the driver's initialisation has.
const STEP: u32 = 5;

/// How long a killed process is waited for: beyond it, it hangs in the kernel.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a probe told.
#[derive(Debug, Default)]
struct Heard {
    inventory: Option<Inventory>,
    findings: BTreeMap<Id, Finding>,
    cuda: Vec<CudaDevice>,
    /// CUDA's number of the one that was chosen.
    chosen: Option<u32>,
    egl: Vec<EglDevice>,
    died: bool,
}

/// Makes the checks.
pub fn run(options: &Options) -> Result<Report> {
    let wanted = wanted(&options.only);
    let job = Job {
        part: Part::Cuda,
        wanted: wanted.iter().copied().filter(|id| !options.skip.contains(id)).collect(),
        gpu: None,
        nvidia: true,
        cuda: false,
        slots: options.slots,
        limit_ms: options.timeout.as_millis() as u64,
        slow_ms: (options.timeout / STEP).as_millis() as u64,
    };
    let limits = (options.timeout, options.timeout / STEP);
    let (inventory, fault, gpu, cuda, libraries) = thread::scope(|scope| {
        let inventory = scope.spawn(|| inventory(&job, limits));
        let libraries = scope.spawn(|| hear(&Job { part: Part::Libraries, ..job.clone() }, limits));
        // The GPU is known to NVML by another number: what was asked for is looked up when NVML has answered.
        let (inventory, fault) = inventory.join().expect("a probe is heard without a panic")?;
        let gpu = options.gpu.clone().map(|choice| Wanted::new(choice, &inventory)).transpose()?;
        let cuda = hear(&Job { gpu: gpu.clone(), ..job.clone() }, limits)?;
        Ok::<_, Error>((inventory, fault, gpu, cuda, libraries.join().expect("a probe is heard without a panic")?))
    })?;
    let answered = (!cuda.died).then_some(cuda.cuda.len());
    let on_bus = host::on_bus(Path::new("/sys/bus/pci/devices"));
    let nvidia = host::has_gpu(&inventory, answered, on_bus);
    let usable = |heard: &Heard| {
        heard.findings.get(&Id::Cuda).is_some_and(|f| matches!(f.verdict, Verdict::Pass | Verdict::Warn))
    };
    let cuda_works = usable(&cuda);
    let job = Job { nvidia, cuda: cuda_works, gpu, ..job };
    // One after the other: an encoder session would disturb the figures of memory.
    let graphics = hear(&Job { part: Part::Graphics, ..job.clone() }, limits)?;
    let nvenc = match nvenc_is_not_tried(&inventory, fault.is_some()) {
        Some(finding) => Heard { findings: [(Id::Nvenc, finding)].into(), ..Heard::default() },
        None if cuda_works => hear(&Job { part: Part::Nvenc, ..job.clone() }, limits)?,
        None => Heard::default(),
    };
    let mut found = BTreeMap::new();
    found.insert(Id::Driver, host::driver(&inventory, cuda_works));
    let nvml_fault = fault.as_ref().and_then(|finding| finding.because.clone());
    found.insert(Id::Nvml, fault.unwrap_or_else(|| host::nvml(&inventory)));
    let answers = cuda_works || !inventory.gpus.is_empty();
    found.insert(Id::Devices, host::device_files(Path::new("/dev"), answers));
    let given = std::env::var("NVIDIA_DRIVER_CAPABILITIES").ok();
    let container = match nvidia {
        true => host::container(host::in_container(), given.as_deref()),
        false => Finding::skip("there is no NVIDIA GPU"),
    };
    found.insert(Id::Container, container);
    let mut devices = pairs(&graphics.egl, &cuda.cuda);
    devices.iter_mut().for_each(|pair| name_instance(pair, &inventory));
    let chosen = devices.iter().find(|pair| pair.cuda.is_some() && pair.cuda == cuda.chosen);
    let exports = chosen.map(Exports::of);
    for heard in [cuda, libraries, graphics, nvenc] {
        found.extend(heard.findings);
    }
    let checks = settle(&wanted, &options.skip, found);
    Ok(Report { capabilities: capabilities(&checks), checks, devices, exports, nvml_fault, nvidia })
}

/// An instance of a divided board is called `MIG-…` wherever it is to be chosen; CUDA gives it a whole board's prefix.
fn name_instance(pair: &mut Pair, inventory: &Inventory) {
    let Some(uuid) = &mut pair.uuid else { return };
    let address = |text: &str| text.parse::<Address>().ok();
    let at = pair.pci.as_deref().and_then(address);
    let on = |gpu: &&gpu::Gpu| at.is_some() && gpu.pci.as_deref().and_then(address) == at;
    let board = inventory.gpus.iter().find(on).filter(|gpu| gpu.mig == Some(true));
    if board.is_some_and(|board| board.uuid.as_ref() != Some(&*uuid)) {
        *uuid = uuid.replacen("GPU-", "MIG-", 1);
    }
}

/// What NVML says, and where it ended its process before it came to that, how.
fn inventory(job: &Job, limits: (Duration, Duration)) -> Result<(Inventory, Option<Finding>)> {
    let job = Job { part: Part::Nvml, wanted: vec![Id::Nvml], ..job.clone() };
    // NVML's own limit comes first: its answer names the call that hangs.
    let mut heard = hear(&job, (limits.0 + limits.1.max(PATIENCE), limits.1))?;
    if let Some(inventory) = heard.inventory {
        return Ok((inventory, None));
    }
    let fault = heard.findings.remove(&Id::Nvml);
    let detail = fault.as_ref().and_then(|finding| finding.because.clone());
    Ok((Inventory { driver: Driver::Fault, detail, ..Inventory::default() }, fault))
}

/// Why no session is opened: no board has an engine for it, or the driver hangs.
fn nvenc_is_not_tried(inventory: &Inventory, crashed: bool) -> Option<Finding> {
    if inventory.hung.is_some() || crashed {
        return Some(Finding::skip("nvml failed"));
    }
    let verdict = gpu::verdict(inventory, Ok(()));
    (verdict.cause == Some(Cause::NoEngine)).then(|| Finding::skip(verdict.detail))
}

/// Runs a probe to its end, whatever that is. `limits`: for initialisation, and for each other step.
fn hear(job: &Job, limits: (Duration, Duration)) -> Result<Heard> {
    let mut heard = Heard::default();
    let due: Vec<Id> = job.part.checks().iter().copied().filter(|id| job.wanted.contains(id)).collect();
    let Some(&first) = due.first() else { return Ok(heard) };
    let text = serde_json::to_string(job).map_err(|error| Error::bug("a job is plain data").cause(error))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(probe::NAME).arg(text).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| Error::io("cannot start a probe", error))?;
    let out = child.stdout.take().expect("piped");
    let (lines, told) = mpsc::channel();
    // It ends with the probe; one that cannot be ended leaves it behind as well.
    thread::spawn(move || {
        let read = BufReader::new(out).lines().map_while(|line| line.ok());
        for line in read.filter_map(|line| serde_json::from_str::<Line>(&line).ok()) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    let (mut at, mut call, mut limit) = (first, "its start".to_owned(), limits.0);
    let because = loop {
        match told.recv_timeout(limit) {
            Ok(Line::Begin { check, call: name, slow }) => {
                (at, call, limit) = (check, name, if slow { limits.0 } else { limits.1 });
            }
            Ok(Line::End { check, finding }) => drop(heard.findings.insert(check, finding)),
            Ok(Line::Nvml(inventory)) => heard.inventory = Some(*inventory),
            Ok(Line::Cuda(devices)) => heard.cuda = devices,
            Ok(Line::Chosen(ordinal)) => heard.chosen = Some(ordinal),
            Ok(Line::Egl(devices)) => heard.egl = devices,
            Err(RecvTimeoutError::Timeout) => {
                let left = end(&mut child);
                break Some(format!("{call} did not return within {:.1} s{left}", limit.as_secs_f64()));
            }
            Err(RecvTimeoutError::Disconnected) => break crashed(&mut child, limits.1, &call),
        }
    };
    if let Some(because) = because {
        heard.died = true;
        let remedy = "see what the driver reports: sudo dmesg | grep -E 'NVRM|Xid|segfault'";
        heard.findings.insert(at, Finding::fail(because, remedy));
        for &id in due.iter().filter(|&&id| id > at) {
            heard.findings.entry(id).or_insert_with(|| Finding::skip(format!("{} failed", at.name())));
        }
    }
    Ok(heard)
}

/// How a probe that says no more has ended; `None`: as it should.
fn crashed(child: &mut Child, limit: Duration, call: &str) -> Option<String> {
    match wait(child, limit) {
        None => Some(format!("the process did not end after {call}{}", end(child))),
        Some(status) if status.success() => None,
        Some(status) => Some(match (status.signal(), status.code()) {
            (Some(signal), _) => format!("{call} ended the process by {}", signal_name(signal)),
            (None, code) => format!("{call} ended the process with exit code {}", code.unwrap_or_default()),
        }),
    }
}

fn signal_name(signal: i32) -> String {
    match signal {
        libc::SIGSEGV => "SIGSEGV".into(),
        libc::SIGABRT => "SIGABRT".into(),
        libc::SIGBUS => "SIGBUS".into(),
        libc::SIGILL => "SIGILL".into(),
        libc::SIGFPE => "SIGFPE".into(),
        libc::SIGKILL => "SIGKILL".into(),
        other => format!("signal {other}"),
    }
}

/// Ends a probe; what it says is for one that cannot be ended.
fn end(child: &mut Child) -> String {
    // It may have ended by itself.
    let _ = child.kill();
    match wait(child, PATIENCE) {
        Some(_) => String::new(),
        None => format!("; process {} hangs in the kernel and was left behind", child.id()),
    }
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            _ if Instant::now() >= until => return None,
            _ => thread::sleep(Duration::from_millis(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_called_as_it_is_chosen() {
        let gpu = |mig| gpu::Gpu {
            uuid: Some("GPU-0a".into()),
            pci: Some("00000000:01:00.0".into()),
            mig,
            ..gpu::Gpu::default()
        };
        let named = |uuid: &str, mig| {
            let (uuid, pci) = (Some(uuid.into()), Some("0000:01:00.0".into()));
            let mut pair = Pair { egl: None, kind: None, cuda: Some(0), name: None, uuid, pci };
            name_instance(&mut pair, &Inventory { gpus: vec![gpu(mig)], ..Inventory::default() });
            pair.uuid.unwrap()
        };
        assert_eq!(named("GPU-0b", Some(true)), "MIG-0b");
        assert_eq!(named("GPU-0a", Some(true)), "GPU-0a", "the board itself");
        assert_eq!(named("GPU-0a", Some(false)), "GPU-0a");
    }
}
