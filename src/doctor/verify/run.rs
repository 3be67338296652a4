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
use super::{CudaDevice, EglDevice, Exports, Finding, Id, Options, Report, Verdict};
use super::{capabilities, host, pairs, settle, wanted};
use crate::error::{Error, Kind, Result};
use crate::gpu::{self, Inventory};
use crate::wire::status::Cause;

/// A step has this part of the time that the driver's initialisation has.
const STEP: u32 = 5;

/// How long a killed process is waited for: beyond it, it hangs in the kernel.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a probe told.
#[derive(Debug, Default)]
struct Heard {
    findings: BTreeMap<Id, Finding>,
    cuda: Vec<CudaDevice>,
    egl: Vec<EglDevice>,
    died: bool,
}

/// Makes the checks.
pub fn run(options: &Options) -> Result<Report> {
    let wanted = wanted(&options.only);
    let job = Job {
        part: Part::Cuda,
        wanted: wanted.iter().copied().filter(|id| !options.skip.contains(id)).collect(),
        gpu: options.gpu.clone(),
        nvidia: true,
        cuda: false,
        slots: options.slots,
        slow_ms: (options.timeout / STEP).as_millis() as u64,
    };
    let limits = (options.timeout, options.timeout / STEP);
    let (inventory, cuda, libraries) = thread::scope(|scope| {
        let inventory = scope.spawn(|| gpu::inventory(options.timeout));
        let libraries = scope.spawn(|| hear(&Job { part: Part::Libraries, ..job.clone() }, limits));
        // The GPU is known to NVML by another number: what was asked for is looked up when NVML has answered.
        let inventory = inventory.join().expect("NVML is asked without a panic");
        let gpu = named(options.gpu.as_deref(), &inventory)?;
        let cuda = hear(&Job { gpu, ..job.clone() }, limits)?;
        Ok::<_, Error>((inventory, cuda, libraries.join().expect("a probe is heard without a panic")?))
    })?;
    let answered = (!cuda.died).then_some(cuda.cuda.len());
    let on_bus = host::on_bus(Path::new("/sys/bus/pci/devices"));
    let nvidia = host::has_gpu(&inventory, answered, on_bus);
    let usable = |heard: &Heard| {
        heard.findings.get(&Id::Cuda).is_some_and(|f| matches!(f.verdict, Verdict::Pass | Verdict::Warn))
    };
    let cuda_works = usable(&cuda);
    let job = Job { nvidia, cuda: cuda_works, gpu: named(options.gpu.as_deref(), &inventory)?, ..job };
    // One after the other: an encoder session would disturb the figures of memory.
    let graphics = hear(&Job { part: Part::Graphics, ..job.clone() }, limits)?;
    let nvenc = match nvenc_is_not_tried(&inventory) {
        Some(finding) => Heard { findings: [(Id::Nvenc, finding)].into(), ..Heard::default() },
        None if cuda_works => hear(&Job { part: Part::Nvenc, ..job.clone() }, limits)?,
        None => Heard::default(),
    };
    let mut found = BTreeMap::new();
    found.insert(Id::Driver, host::driver(&inventory, cuda_works));
    found.insert(Id::Nvml, host::nvml(&inventory));
    let answers = cuda_works || !inventory.gpus.is_empty();
    found.insert(Id::Devices, host::device_files(Path::new("/dev"), answers));
    let given = std::env::var("NVIDIA_DRIVER_CAPABILITIES").ok();
    let container = match nvidia {
        true => host::container(host::in_container(), given.as_deref()),
        false => Finding::skip("there is no NVIDIA GPU"),
    };
    found.insert(Id::Container, container);
    let devices = pairs(&graphics.egl, &cuda.cuda);
    let chosen = job.gpu.as_deref();
    let chosen = devices.iter().filter(|pair| pair.cuda.is_some()).filter(|pair| match chosen {
        Some(wanted) => {
            is(pair.uuid.as_deref(), wanted) || pair.cuda.is_some_and(|number| wanted == number.to_string())
        }
        None => pair.cuda == Some(0),
    });
    let exports = chosen.map(Exports::of).next();
    for heard in [cuda, libraries, graphics, nvenc] {
        found.extend(heard.findings);
    }
    let checks = settle(&wanted, &options.skip, found);
    Ok(Report { capabilities: capabilities(&checks), checks, devices, exports, nvidia })
}

fn is(id: Option<&str>, wanted: &str) -> bool {
    id.is_some_and(|id| id.eq_ignore_ascii_case(wanted))
}

/// The GPU that was asked for, as CUDA can find it: its UUID where NVML knows it.
fn named(wanted: Option<&str>, inventory: &Inventory) -> Result<Option<String>> {
    let Some(wanted) = wanted else { return Ok(None) };
    if inventory.gpus.is_empty() {
        return Ok(Some(wanted.into()));
    }
    let bare = |address: &str| address.trim_start_matches('0').to_ascii_lowercase();
    let found = inventory.gpus.iter().find(|gpu| {
        wanted.parse() == Ok(gpu.index)
            || is(gpu.uuid.as_deref(), wanted)
            || gpu.pci.as_deref().is_some_and(|pci| bare(pci) == bare(wanted))
    });
    match found {
        Some(gpu) => Ok(Some(gpu.uuid.clone().unwrap_or_else(|| wanted.into()))),
        None => {
            let all: Vec<String> = inventory.gpus.iter().map(gpu::Gpu::label).collect();
            Err(Error::new(Kind::Usage, format!("there is no GPU {wanted}"))
                .cause(all.join(", "))
                .hint("nvidia-smi -L"))
        }
    }
}

/// Why no session is opened: no board has an engine for it, or the driver hangs.
fn nvenc_is_not_tried(inventory: &Inventory) -> Option<Finding> {
    if inventory.hung.is_some() {
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
            Ok(Line::Cuda(devices)) => heard.cuda = devices,
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
    fn a_gpu_is_named_in_three_ways() {
        let gpu = gpu::Gpu {
            index: 1,
            uuid: Some("GPU-0a".into()),
            pci: Some("00000000:01:00.0".into()),
            ..gpu::Gpu::default()
        };
        let inventory = Inventory { gpus: vec![gpu], ..Inventory::default() };
        for wanted in ["1", "gpu-0A", "0000:01:00.0"] {
            assert_eq!(named(Some(wanted), &inventory).unwrap().as_deref(), Some("GPU-0a"), "{wanted}");
        }
        assert_eq!(named(Some("0"), &inventory).unwrap_err().kind, Kind::Usage);
        assert_eq!(named(Some("0"), &Inventory::default()).unwrap().as_deref(), Some("0"));
        assert_eq!(named(None, &inventory).unwrap(), None);
    }
}
