//! What the machine has: GPUs, their encoders, and who uses them.
//!
//! Everything here is found at run time. NVML (`libnvidia-ml.so.1`) is opened when it is first asked for, by the loader's
//! usual search, or at the path in `GSK_NVML_LIBRARY` (empty counts as unset), and stays open until the process ends. A
//! machine without it is not an error but an [`Inventory`] whose [`Driver`] says so.
//!
//! - [`inventory`] asks for everything, [`sessions`] only for the encoder sessions, [`recent_sessions`] for those of the last
//!   second. None of them panics, and none takes longer than the time it is given: a driver that hangs is named in
//!   [`Inventory::hung`], beside all that was known before it did ([`nvml`] says how).
//! - [`support`] is a table of boards: engines, codecs, and the session limit of GeForce boards by driver version. Its rows
//!   say where they come from, and whether that was seen or inferred. A board that no row names is unknown, never "none".
//! - [`choose`](choose()) finds the GPU that a user names, in NVML and in CUDA.
//! - [`capacity`] and [`verdict`] are pure functions of an inventory: how many sessions the machine bears, and whether
//!   it can encode at all, with the cause and the command to run where it cannot.
//!
//! - [`nvenc`] encodes H.264, HEVC and AV1 on boards with an engine, [`nvjpeg`] JPEG on the others too; [`nvdec`] decodes;
//!   [`cuda`] is what they stand on. [`egl`] opens OpenGL contexts, on a GPU or on Mesa, and [`interop`] takes their textures into CUDA as
//!   [`picture`]s, which [`convert`] makes the encoders' planes of. [`product`] multiplies matrices.
//!
//! A figure that the driver does not give is null, never 0.
//!
//! # The session limit
//!
//! The driver lets GeForce boards (and the smallest professional ones) have a number of encoder sessions that changed over
//! the years: 2, 3, 5, 8, 12. It holds for the system, all such boards together, whoever opens the sessions; no call
//! returns it. What is assumed beyond that, and was not tried on such a machine: in a system with both kinds, sessions on
//! professional boards neither count nor are limited, so gsk encodes on those.
//!
//! # Process ids
//!
//! NVML's process ids are those of the host's namespace, or of ours, depending on the driver's version: in a container they
//! may name nobody, or somebody else. They are shown, and prove nothing.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub mod choose;
pub mod convert;
pub mod cuda;
pub mod egl;
pub mod gl;
pub mod interop;
mod kernel;
mod library;
pub mod memory;
pub mod nvdec;
pub mod nvenc;
pub mod nvjpeg;
pub mod nvml;
pub mod picture;
pub mod product;
pub mod support;
mod verdict;

pub use choose::{Choice, Chosen, choose};
pub use nvml::{inventory, recent_sessions, sessions};
pub use verdict::{Capacity, Verdict, boards, capacity, capacity_of, known_capacity, limit, verdict};

/// How far the way to the GPUs is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// NVML answers.
    Ready,
    /// There is no NVML library: no driver, or a container that was not given one.
    NoLibrary,
    /// There is a file of that name, but it cannot be used: another architecture, or not NVML.
    BadLibrary,
    /// The library is there, the kernel module is not loaded (`NVML_ERROR_DRIVER_NOT_LOADED`).
    NotLoaded,
    /// Library and kernel module are of different versions (`NVML_ERROR_LIB_RM_VERSION_MISMATCH`, 18).
    Mismatch,
    /// The device files may not be opened (`NVML_ERROR_NO_PERMISSION`).
    NoPermission,
    /// The driver runs and has no GPU.
    NoGpu,
    /// NVML did not come to an answer in time, not even to its first.
    #[default]
    Hung,
    /// NVML cannot be initialised, for a reason that [`Inventory::detail`] has.
    Fault,
}

/// All that is known of the machine's GPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    pub driver: Driver,
    /// The error's own words, where `driver` is not `ready`.
    pub detail: Option<String>,
    /// The library that was asked for: a name for the loader's search, or the path from `GSK_NVML_LIBRARY`.
    pub library: String,
    /// Such as "550.54.14".
    pub driver_version: Option<String>,
    /// The loaded kernel module's version, from `/proc/driver/nvidia/version`; known also where NVML does not work.
    pub kernel_module: Option<String>,
    /// The newest CUDA that the driver bears, such as "12.4".
    pub cuda_version: Option<String>,
    pub gpus: Vec<Gpu>,
    /// The call that did not come back in time. What had not been read by then is null.
    pub hung: Option<Hung>,
}

/// A call into the driver that has not returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hung {
    pub call: String,
    /// The GPU that it was about.
    pub gpu: Option<u32>,
    /// ms since it began.
    pub for_ms: u64,
}

/// One GPU, as NVML shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// NVML's, which is `nvidia-smi`'s; CUDA's may differ.
    pub index: u32,
    pub uuid: Option<String>,
    /// Such as "00000000:01:00.0".
    pub pci: Option<String>,
    pub name: Option<String>,
    pub compute: Option<Compute>,
    /// Such as "Ampere"; taken from `compute`.
    #[serde(skip_deserializing)]
    pub architecture: Option<&'static str>,
    /// Whether the board is divided into instances (Multi-Instance GPU); null where it cannot be.
    pub mig: Option<bool>,
    pub memory: Option<Memory>,
    pub pace: Pace,
    /// %, over the driver's own sampling period.
    pub encoder_utilization: Option<u32>,
    /// %, over the driver's own sampling period.
    pub decoder_utilization: Option<u32>,
    pub encoder_capacity: Capacities,
    pub encoder_stats: Option<EncoderStats>,
    pub processes: Option<Vec<Process>>,
    pub sessions: Option<Vec<Session>>,
    /// Calls that failed for a reason other than that the board does not support them.
    pub faults: Vec<String>,
}

impl Gpu {
    /// Its row in the support table; `None` for a board that the table does not know.
    pub fn support(&self) -> Option<&'static support::Board> {
        support::table().board(self.name.as_deref(), self.compute)
    }

    /// How people call it: index and name.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("GPU {} ({name})", self.index),
            None => format!("GPU {}", self.index),
        }
    }
}

/// CUDA compute capability; "8.9" in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Compute {
    pub major: u32,
    pub minor: u32,
}

impl Compute {
    /// The architecture's name (CUDA C++ Programming Guide, "Compute Capabilities"); `None` for one that came later.
    pub fn architecture(self) -> Option<&'static str> {
        Some(match (self.major, self.minor) {
            (3, _) => "Kepler",
            (5, _) => "Maxwell",
            (6, _) => "Pascal",
            (7, 5) => "Turing",
            (7, _) => "Volta",
            (8, 9) => "Ada",
            (8, _) => "Ampere",
            (9, _) => "Hopper",
            (10..=12, _) => "Blackwell",
            _ => return None,
        })
    }
}

impl std::fmt::Display for Compute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for Compute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How fast a GPU runs just now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// 0, the fastest, to 15: `nvidia-smi`'s P0 to P15.
    pub performance_state: Option<u8>,
    /// Clocks, MHz: of graphics, of memory, and of the video engines.
    pub graphics_mhz: Option<u32>,
    pub memory_mhz: Option<u32>,
    pub video_mhz: Option<u32>,
}

impl<'de> Deserialize<'de> for Compute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Compute, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (major, minor) = text.split_once('.').ok_or_else(|| de::Error::custom("no compute capability"))?;
        let number = |text: &str| text.parse().map_err(de::Error::custom);
        Ok(Compute { major: number(major)?, minor: number(minor)? })
    }
}

/// Bytes of a GPU's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub total: u64,
    pub used: u64,
}

/// What is left of the encoder, % by codec, as the driver says; many drivers say 100 whatever is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacities {
    pub h264: Option<u32>,
    pub hevc: Option<u32>,
    pub av1: Option<u32>,
}

/// The encoder's figures over all of a GPU's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderStats {
    pub sessions: u32,
    pub average_fps: u32,
    /// µs.
    pub average_latency_us: u32,
}

/// A process that has a context on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    /// Bytes of GPU memory.
    pub memory: Option<u64>,
}

/// An open encoder session, whoever opened it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The GPU's index.
    pub gpu: u32,
    pub id: u32,
    pub pid: u32,
    pub codec: Codec,
    pub width: u32,
    pub height: u32,
    pub average_fps: u32,
    /// µs.
    pub average_latency_us: u32,
}

/// What a session encodes; in JSON "h264", "hevc", "av1" or "unknown(7)".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    H264,
    Hevc,
    Av1,
    /// A number that NVML did not have when this was written.
    Unknown(u32),
}

impl Codec {
    /// From `nvmlEncoderType_t` (nvml.h).
    fn from_raw(raw: u32) -> Codec {
        match raw {
            0 => Codec::H264,
            1 => Codec::Hevc,
            2 => Codec::Av1,
            other => Codec::Unknown(other),
        }
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Codec::H264 => f.write_str("h264"),
            Codec::Hevc => f.write_str("hevc"),
            Codec::Av1 => f.write_str("av1"),
            Codec::Unknown(number) => write!(f, "unknown({number})"),
        }
    }
}

impl Serialize for Codec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Codec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Codec, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = (0..3).map(Codec::from_raw).find(|codec| codec.to_string() == text);
        let number = || text.strip_prefix("unknown(")?.strip_suffix(')')?.parse().ok().map(Codec::Unknown);
        known.or_else(number).ok_or_else(|| de::Error::custom("no codec"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_is_read_back_as_it_was_written() {
        let session = |codec| Session {
            gpu: 0,
            id: 1,
            pid: 2,
            codec,
            width: 3,
            height: 4,
            average_fps: 5,
            average_latency_us: 6,
        };
        let codecs = [Codec::H264, Codec::Hevc, Codec::Av1, Codec::Unknown(7)];
        let gpu = Gpu {
            uuid: Some("GPU-0".into()),
            compute: Some(Compute { major: 8, minor: 9 }),
            mig: Some(false),
            memory: Some(Memory { total: 2, used: 1 }),
            sessions: Some(codecs.map(session).to_vec()),
            processes: Some(vec![Process { pid: 7, memory: None }]),
            ..Gpu::default()
        };
        let hung = Some(Hung { call: "nvmlInit_v2".into(), gpu: None, for_ms: 9 });
        for driver in [Driver::Ready, Driver::NoLibrary, Driver::Hung] {
            let inventory = Inventory { driver, gpus: vec![gpu.clone()], hung: hung.clone(), ..Inventory::default() };
            let text = serde_json::to_string(&inventory).unwrap();
            assert_eq!(serde_json::from_str::<Inventory>(&text).unwrap(), inventory);
        }
        assert!(serde_json::from_str::<Codec>("\"vp9\"").is_err());
        assert!(serde_json::from_str::<Compute>("\"8\"").is_err());
    }
}
