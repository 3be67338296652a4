//! `gsk verify-gl`: the checks, in order, from the driver to pixels that OpenGL drew and CUDA has.
//!
//! `host` judges what can be read without calling a driver, `probe` is what runs in child processes, `run` starts those
//! and outlives them; what a failed check means for those after it is settled here, without I/O.

mod capture;
mod draw;
mod host;
pub mod probe;
mod run;
mod show;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use host::{in_container, vendor_files};
pub use run::run;

use crate::exit::Code;
use crate::gpu;

/// What to look at, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    pub gpu: Option<gpu::Choice>,
    /// For the driver's initialisation; each other step has a fifth of it.
    pub timeout: Duration,
    /// The session limit where it was set.
    pub slots: Option<u32>,
    /// These and what they need; empty: all.
    pub only: Vec<Id>,
    pub skip: Vec<Id>,
}

/// A check's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Id {
    Driver,
    Nvml,
    Cuda,
    Devices,
    Container,
    EglVendor,
    EglDevices,
    EglCuda,
    Context,
    Draw,
    GlToCuda,
    CudaToGl,
    Cycles,
    Capture,
    Nvenc,
    Nvdec,
    Nvjpeg,
}

impl Id {
    pub fn all() -> &'static [Id] {
        <Id as clap::ValueEnum>::value_variants()
    }

    /// As documents and flags have it.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn title(self) -> &'static str {
        match self {
            Id::Driver => "driver and kernel module",
            Id::Nvml => "NVML lists the GPUs",
            Id::Cuda => "libcuda and its devices",
            Id::Devices => "device files",
            Id::Container => "the container's driver capabilities",
            Id::EglVendor => "libEGL and its vendors",
            Id::EglDevices => "EGL's devices",
            Id::EglCuda => "EGL device of the CUDA device",
            Id::Context => "OpenGL without a window",
            Id::Draw => "draw and read back",
            Id::GlToCuda => "OpenGL draws, CUDA reads",
            Id::CudaToGl => "CUDA writes, OpenGL reads",
            Id::Cycles => "1,000 registrations without growth",
            Id::Capture => "capture and conversion on the GPU",
            Id::Nvenc => "NVENC opens",
            Id::Nvdec => "NVDEC and what it decodes",
            Id::Nvjpeg => "nvJPEG encodes",
        }
    }

    /// What has to work before this is worth a try.
    fn needs(self) -> &'static [Id] {
        match self {
            Id::Driver | Id::Container | Id::EglVendor => &[],
            Id::Nvml | Id::Cuda | Id::Devices => &[Id::Driver],
            Id::EglDevices | Id::Context => &[Id::EglVendor],
            Id::EglCuda => &[Id::Cuda, Id::EglDevices],
            Id::Draw => &[Id::Context],
            Id::GlToCuda => &[Id::EglCuda, Id::Draw],
            Id::CudaToGl | Id::Cycles | Id::Capture => &[Id::GlToCuda],
            Id::Nvenc | Id::Nvdec | Id::Nvjpeg => &[Id::Cuda],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    /// It works, or need not here; something is to be known about it.
    Warn,
    Fail,
    /// It was not tried.
    Skip,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub verdict: Verdict,
    /// Why; null where it passed.
    pub because: Option<String>,
    pub seen: Option<String>,
    /// What to run or set; there is one with every warning and failure.
    pub remedy: Option<String>,
}

impl Finding {
    fn pass(seen: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Pass, because: None, seen: Some(seen.into()), remedy: None }
    }

    fn warn(because: impl Into<String>, remedy: impl Into<String>) -> Finding {
        let (because, remedy) = (Some(because.into()), Some(remedy.into()));
        Finding { verdict: Verdict::Warn, because, seen: None, remedy }
    }

    fn fail(because: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Fail, ..Finding::warn(because, remedy) }
    }

    fn skip(because: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Skip, because: Some(because.into()), seen: None, remedy: None }
    }

    fn seen(self, seen: impl Into<String>) -> Finding {
        Finding { seen: Some(seen.into()), ..self }
    }
}

/// A row of the answer.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub id: Id,
    pub title: &'static str,
    #[serde(flatten)]
    pub finding: Finding,
}

/// Something that a host may be able to do.
#[derive(Clone, Debug, Serialize)]
pub struct Capability {
    pub name: &'static str,
    /// Null where it was not tried.
    pub usable: Option<bool>,
    pub why: String,
}

/// One of EGL's devices beside the CUDA device that it is; null where it is none, or has no such number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// EGL's index.
    pub egl: Option<usize>,
    pub kind: Option<String>,
    /// CUDA's number.
    pub cuda: Option<u32>,
    pub name: Option<String>,
    pub uuid: Option<String>,
    pub pci: Option<String>,
}

/// A CUDA device, as a child process tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CudaDevice {
    ordinal: u32,
    name: String,
    uuid: String,
    pci: String,
}

/// An EGL device, as a child process tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EglDevice {
    index: usize,
    kind: String,
    cuda: Option<u32>,
}

/// Every device of both lists, matched by CUDA's number and by nothing else.
fn pairs(egl: &[EglDevice], cuda: &[CudaDevice]) -> Vec<Pair> {
    let pair = |device: Option<&EglDevice>, twin: Option<&CudaDevice>| Pair {
        egl: device.map(|device| device.index),
        kind: device.map(|device| device.kind.clone()),
        cuda: twin.map(|twin| twin.ordinal),
        name: twin.map(|twin| twin.name.clone()),
        uuid: twin.map(|twin| twin.uuid.clone()),
        pci: twin.map(|twin| twin.pci.clone()),
    };
    let twin = |device: &EglDevice| cuda.iter().find(|twin| Some(twin.ordinal) == device.cuda);
    let alone = cuda.iter().filter(|twin| egl.iter().all(|device| device.cuda != Some(twin.ordinal)));
    egl.iter().map(|device| pair(Some(device), twin(device))).chain(alone.map(|twin| pair(None, Some(twin)))).collect()
}

/// Variables by which other programs choose the same GPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exports(pub BTreeMap<&'static str, String>);

impl Exports {
    fn of(chosen: &Pair) -> Exports {
        let egl = chosen.egl.map(|index| index.to_string());
        let all = [
            ("MUJOCO_EGL_DEVICE_ID", egl.clone()),
            ("EGL_VISIBLE_DEVICES", egl),
            ("CUDA_VISIBLE_DEVICES", chosen.uuid.clone()),
        ];
        Exports(all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }

    /// For a shell.
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(|(name, value)| format!("export {name}={value}")).collect()
    }
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub checks: Vec<Check>,
    pub capabilities: Vec<Capability>,
    pub devices: Vec<Pair>,
    /// For the chosen GPU; null without one.
    pub exports: Option<Exports>,
    /// How NVML ended the process that asked it.
    #[serde(skip)]
    nvml_fault: Option<String>,
    /// Whether there is an NVIDIA GPU, as far as the system, its driver and CUDA tell.
    pub nvidia: bool,
}

impl Report {
    /// How NVML ended the process that asked it.
    pub fn nvml_fault(&self) -> Option<&str> {
        self.nvml_fault.as_deref()
    }

    pub fn code(&self) -> Code {
        let failed = self.checks.iter().any(|check| check.finding.verdict == Verdict::Fail);
        match (self.nvidia, failed) {
            (false, _) => Code::Missing,
            (true, true) => Code::Bad,
            (true, false) => Code::Good,
        }
    }
}

/// The checks that are asked for, with all that they need.
fn wanted(only: &[Id]) -> Vec<Id> {
    fn add(id: Id, all: &mut Vec<Id>) {
        if !all.contains(&id) {
            all.push(id);
            id.needs().iter().for_each(|&need| add(need, all));
        }
    }
    let mut all = Vec::new();
    let from = if only.is_empty() { Id::all() } else { only };
    from.iter().for_each(|&id| add(id, &mut all));
    all.sort();
    all
}

/// The rows: what was found, and for what stands on a check that failed or was left out, that.
fn settle(wanted: &[Id], left_out: &[Id], mut found: BTreeMap<Id, Finding>) -> Vec<Check> {
    let mut stopped: BTreeMap<Id, String> = BTreeMap::new();
    let mut rows = Vec::new();
    for &id in wanted {
        let by = id.needs().iter().find_map(|need| stopped.get(need)).cloned();
        let finding = match (left_out.contains(&id), by, found.remove(&id)) {
            (true, ..) => Finding::skip("left out by --skip"),
            (_, Some(by), _) => Finding::skip(by),
            (_, None, Some(finding)) => finding,
            (_, None, None) => Finding::skip("its probe ended before it came to this"),
        };
        match finding.verdict {
            Verdict::Fail => drop(stopped.insert(id, format!("{} failed", id.name()))),
            Verdict::Skip if left_out.contains(&id) => drop(stopped.insert(id, format!("{} was left out", id.name()))),
            Verdict::Skip => drop(stopped.insert(id, finding.because.clone().unwrap_or_default())),
            Verdict::Pass | Verdict::Warn => {}
        }
        rows.push(Check { id, title: id.title(), finding });
    }
    rows
}

/// What the rows come to.
fn capabilities(checks: &[Check]) -> Vec<Capability> {
    let of = |id: Id| checks.iter().find(|check| check.id == id).map(|check| &check.finding);
    let by = |name, ids: &[Id]| {
        // A warning that has nothing to show is of something that is missing.
        let lacks = |f: &&Finding| match f.verdict {
            Verdict::Pass => false,
            Verdict::Warn => f.seen.is_none(),
            Verdict::Fail | Verdict::Skip => true,
        };
        let worst = ids.iter().filter_map(|&id| of(id)).find(lacks);
        let last = ids.last().and_then(|&id| of(id))?;
        let words = |finding: &Finding| finding.because.clone().or(finding.seen.clone()).unwrap_or_default();
        let left_out = worst.is_some_and(|f| f.because.as_ref().is_some_and(|words| words.contains("left out")));
        let usable = (!left_out).then_some(worst.is_none());
        Some(Capability { name, usable, why: words(worst.unwrap_or(last)) })
    };
    let on_gpu = || {
        let context = of(Id::Context)?;
        let usable = of(Id::Draw)?.verdict == Verdict::Pass && context.seen.as_ref()?.contains("NVIDIA");
        let why = context.seen.clone()?;
        Some(Capability { name: "OpenGL on the NVIDIA GPU", usable: Some(usable), why })
    };
    [
        by("CUDA", &[Id::Cuda]),
        by("OpenGL without a window", &[Id::Context, Id::Draw]),
        on_gpu(),
        by("OpenGL's pixels in CUDA", &[Id::GlToCuda, Id::CudaToGl, Id::Cycles]),
        by("H.264 by NVENC", &[Id::Nvenc]),
        by("video decoding by NVDEC", &[Id::Nvdec]),
        by("JPEG by nvJPEG", &[Id::Nvjpeg]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests;
