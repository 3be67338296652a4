//! What machine it was, and whether it was quiet.

use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::stats::Summary;
use super::yardstick::Yardstick;
use crate::gpu;
use crate::proc::Ticks;

/// The machine at the start, and what else ran on it meanwhile.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    pub cpu: Cpu,
    pub kernel: String,
    /// Bytes.
    pub memory_bytes: Option<u64>,
    /// Processes that ran or waited to, the mean over 1 and 5 minutes before the start.
    pub load: Option<[f64; 2]>,
    pub calibration: Calibration,
    pub gpus: Vec<Gpu>,
    pub driver: Option<String>,
    /// CPU time of others while the run went on, and time that a hypervisor took, % of all cores.
    pub others_percent: Option<f64>,
    pub stolen_percent: Option<f64>,
    pub noisy: bool,
    /// Why.
    pub noise: Vec<String>,
    #[serde(skip)]
    began: Option<Began>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    pub model: Option<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// MHz, of the first core, as it is now.
    pub mhz: Option<f64>,
    pub governor: Option<String>,
}

/// The yardstick, twenty times: how fast the machine is, and how evenly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// ms, the median.
    pub p50_ms: f64,
    /// How far the 95th percentile is beyond it, %.
    pub spread_percent: f64,
}

/// A board, as far as NVML tells of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gpu {
    pub name: String,
    pub uuid: Option<String>,
    #[serde(flatten)]
    pub pace: gpu::Pace,
}

/// How long NVML may take.
const DRIVER: Duration = Duration::from_secs(2);

/// A machine is called noisy where one of these is beyond its limit: load a core at the start, the spread of the
/// calibration, CPU time of others, and time stolen by a hypervisor.
const LOAD: f64 = 0.5;
const SPREAD_PERCENT: f64 = 15.0;
const OTHERS_PERCENT: f64 = 15.0;
const STOLEN_PERCENT: f64 = 2.0;

#[derive(Clone, Copy, Debug)]
struct Began {
    machine: Ticks,
    own: f64,
    at: Instant,
}

impl Environment {
    /// Looks at the machine; takes some hundredths of a second, and what the driver takes.
    pub fn take(yardstick: &Yardstick) -> Environment {
        let load = fs::read_to_string("/proc/loadavg").ok().and_then(|text| {
            let mut words = text.split_ascii_whitespace().map(str::parse);
            Some([words.next()?.ok()?, words.next()?.ok()?])
        });
        let calibration = Calibration::of(yardstick.calibrate());
        let inventory = gpu::inventory(DRIVER);
        let gpus = inventory.gpus.iter().map(|gpu| Gpu { name: gpu.label(), uuid: gpu.uuid.clone(), pace: gpu.pace });
        let mut environment = Environment {
            cpu: Cpu::take(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            memory_bytes: field("/proc/meminfo", "MemTotal:")
                .and_then(|kib| kib.parse::<u64>().ok())
                .map(|kib| kib * 1024),
            load,
            calibration,
            gpus: gpus.collect(),
            driver: inventory.driver_version,
            others_percent: None,
            stolen_percent: None,
            noisy: false,
            noise: Vec::new(),
            began: Ticks::machine().map(|machine| Began { machine, own: own_seconds(), at: Instant::now() }),
        };
        environment.judge();
        environment
    }

    /// What else went on since the start.
    pub fn update(&mut self) {
        if let (Some(began), Some(now)) = (self.began, Ticks::machine()) {
            let whole = began.at.elapsed().as_secs_f64() * now.cores.max(1) as f64;
            // Counted in hundredths of a second: of less than half a second that says nothing.
            if whole > 0.5 {
                let busy = now.busy - began.machine.busy - (own_seconds() - began.own);
                self.others_percent = Some((100.0 * busy / whole).max(0.0));
                self.stolen_percent = Some(100.0 * (now.stolen - began.machine.stolen) / whole);
            }
        }
        self.judge();
    }

    fn judge(&mut self) {
        let Environment { cpu, load, calibration, others_percent, stolen_percent, .. } = &*self;
        let load = load.map(|[minute, _]| minute / cpu.cores.max(1) as f64);
        let found = [
            (load, LOAD, "load a core at the start", ""),
            (Some(calibration.spread_percent), SPREAD_PERCENT, "spread of the calibration", " %"),
            (*others_percent, OTHERS_PERCENT, "CPU time of other programs", " %"),
            (*stolen_percent, STOLEN_PERCENT, "CPU time stolen by the hypervisor", " %"),
        ];
        let beyond = |&(value, limit, what, unit): &(Option<f64>, f64, &str, &str)| {
            let value = value.filter(|value| *value > limit)?;
            Some(format!("{what} {value:.1}{unit}, above {limit}{unit}"))
        };
        self.noise = found.iter().filter_map(beyond).collect();
        self.noisy = !self.noise.is_empty();
    }

    /// In words, for people.
    pub fn verdict(&self) -> String {
        match self.noisy {
            true => format!("noisy: {}", self.noise.join("; ")),
            false => "quiet".into(),
        }
    }
}

impl Cpu {
    fn take() -> Cpu {
        let frequency = "/sys/devices/system/cpu/cpu0/cpufreq";
        let read = |name: &str| Some(fs::read_to_string(format!("{frequency}/{name}")).ok()?.trim().to_string());
        let scaled = read("scaling_cur_freq").and_then(|khz| khz.parse::<f64>().ok()).map(|khz| khz / 1e3);
        Cpu {
            model: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            mhz: scaled.or_else(|| field("/proc/cpuinfo", "cpu MHz")?.parse().ok()),
            governor: read("scaling_governor"),
        }
    }
}

/// The word, or words, behind `name` in a file of `/proc`; a unit at the end is cut off.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let value = line.trim_start_matches([':', ' ', '\t']).trim_end();
    Some(value.strip_suffix(" kB").unwrap_or(value).to_string())
}

impl Calibration {
    fn of(summary: Summary) -> Calibration {
        let spread = if summary.p50 > 0.0 { 100.0 * (summary.p95 / summary.p50 - 1.0) } else { 0.0 };
        Calibration { p50_ms: summary.p50, spread_percent: spread }
    }
}

/// CPU time of this process and of its children that have ended, s.
fn own_seconds() -> f64 {
    let of = |who| {
        // SAFETY: the call fills the whole of a plain struct.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(who, &mut usage);
            usage
        };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        seconds(usage.ru_utime) + seconds(usage.ru_stime)
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}
