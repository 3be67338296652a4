//! What a status code of NVENC means on this host, in words. Pure: what must be known beside the code is an argument.

use std::fmt;

use super::api::{NEEDED, Status};
use crate::error::{Error, Kind};
use crate::wire::status::Cause;

/// Why NVENC was refused: the state that it puts an encoder into, and the words.
///
/// [`Cause::Limit`] and [`Cause::Fault`] may pass, and are worth another try later; the other causes stay until the host
/// is changed.
#[derive(Clone, Debug)]
pub struct Refused {
    pub cause: Cause,
    pub error: Error,
}

/// What is said of NVENC where it cannot be used at all.
pub(super) const UNUSABLE: &str = "NVENC cannot be used";

impl Refused {
    /// Why, for one who says himself that it is not used.
    pub fn detail(&self) -> String {
        let Error { what, cause, .. } = &self.error;
        cause.clone().filter(|_| what.ends_with(" cannot be used")).unwrap_or_else(|| self.error.to_string())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Refused {}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        refused.error
    }
}

/// What is known when a call fails; `None` where it is not.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The board's name.
    pub board: Option<String>,
    /// Whether the board has an NVENC engine, by the support table.
    pub engine: Option<bool>,
    /// Free memory of the board, bytes.
    pub free_bytes: Option<u64>,
    /// Bytes that a session needs at the least.
    pub needed_bytes: u64,
    /// Encoder sessions that are open on this machine, ours included.
    pub sessions: Option<u32>,
    /// `NVIDIA_DRIVER_CAPABILITIES`, where the environment has it: the container toolkit sets it.
    pub capabilities: Option<String>,
    /// The newest NVENC API that the driver has: major, minor.
    pub api: Option<(u32, u32)>,
    /// Whether the session was open and had encoded: what fails then is no lack of sessions.
    pub at_work: bool,
    /// The function that failed.
    pub call: &'static str,
    /// The driver's own words.
    pub said: String,
}

/// Whether `NVIDIA_DRIVER_CAPABILITIES` gives a container the encoder's library.
pub(in crate::gpu) fn grants_video(capabilities: &str) -> bool {
    capabilities.split(',').map(str::trim).any(|one| one == "all" || one == "video")
}

/// Names of the codes (`NVENCSTATUS` in nvEncodeAPI.h), from 0.
const NAMES: [&str; 27] = [
    "NV_ENC_SUCCESS",
    "NV_ENC_ERR_NO_ENCODE_DEVICE",
    "NV_ENC_ERR_UNSUPPORTED_DEVICE",
    "NV_ENC_ERR_INVALID_ENCODERDEVICE",
    "NV_ENC_ERR_INVALID_DEVICE",
    "NV_ENC_ERR_DEVICE_NOT_EXIST",
    "NV_ENC_ERR_INVALID_PTR",
    "NV_ENC_ERR_INVALID_EVENT",
    "NV_ENC_ERR_INVALID_PARAM",
    "NV_ENC_ERR_INVALID_CALL",
    "NV_ENC_ERR_OUT_OF_MEMORY",
    "NV_ENC_ERR_ENCODER_NOT_INITIALIZED",
    "NV_ENC_ERR_UNSUPPORTED_PARAM",
    "NV_ENC_ERR_LOCK_BUSY",
    "NV_ENC_ERR_NOT_ENOUGH_BUFFER",
    "NV_ENC_ERR_INVALID_VERSION",
    "NV_ENC_ERR_MAP_FAILED",
    "NV_ENC_ERR_NEED_MORE_INPUT",
    "NV_ENC_ERR_ENCODER_BUSY",
    "NV_ENC_ERR_EVENT_NOT_REGISTERD",
    "NV_ENC_ERR_GENERIC",
    "NV_ENC_ERR_INCOMPATIBLE_CLIENT_KEY",
    "NV_ENC_ERR_UNIMPLEMENTED",
    "NV_ENC_ERR_RESOURCE_REGISTER_FAILED",
    "NV_ENC_ERR_RESOURCE_NOT_REGISTERED",
    "NV_ENC_ERR_RESOURCE_NOT_MAPPED",
    "NV_ENC_ERR_NEED_MORE_OUTPUT",
];

/// A code with its name, as people search for it.
pub(super) fn code_name(code: Status) -> String {
    match NAMES.get(code as usize) {
        Some(name) => format!("{code} ({name})"),
        None => format!("{code}, which NVENC {}.{} does not know", NEEDED.0, NEEDED.1),
    }
}

/// What `code` means, given the facts.
pub fn explain(code: Status, facts: &Facts) -> Refused {
    let board = facts.board.as_deref().unwrap_or("the GPU");
    let (cause, kind, why, hint) = match code {
        1 | 2 => no_engine(board, facts),
        10 => out_of_memory(board, facts),
        21 if !facts.at_work => at_the_limit(facts),
        15 => (Cause::NoDriver, Kind::Missing, too_old(facts), Some("install driver 530 or newer".into())),
        5 => (Cause::Fault, Kind::Failed, format!("{board} was lost"), Some("look at the kernel's log: dmesg".into())),
        13 | 18 => {
            let hint = "see who encodes: gsk nvenc-status".to_owned();
            (Cause::Fault, Kind::Failed, format!("the encoder of {board} is busy"), Some(hint))
        }
        8 | 12 => {
            (Cause::Fault, Kind::Failed, format!("the driver refuses what {board} was asked for"), Some(REPORT.into()))
        }
        _ => (Cause::Fault, Kind::Failed, format!("the encoder of {board} failed"), Some(REPORT.into())),
    };
    let mut cause_text = why;
    if !facts.call.is_empty() {
        cause_text += &format!("; {} returned {}", facts.call, code_name(code));
    }
    if !facts.said.is_empty() {
        cause_text += &format!(": {}", facts.said);
    }
    let what = if kind == Kind::Failed { "NVENC failed" } else { UNUSABLE };
    let mut error = Error::new(kind, what).cause(cause_text);
    error.hint = hint;
    Refused { cause, error }
}

/// For what no setting mends.
const REPORT: &str = "see what the driver reports: sudo dmesg | grep -E 'NVRM|Xid'\nand report it with what this writes: gsk verify-gl --bundle gsk-report.tar.gz";

type Meaning = (Cause, Kind, String, Option<String>);

fn no_engine(board: &str, facts: &Facts) -> Meaning {
    match (facts.engine, &facts.capabilities) {
        (Some(false), _) => {
            let hint = "encode on the CPU: --encoder openh264".to_owned();
            (Cause::NoEngine, Kind::Missing, format!("{board} has no NVENC engine"), Some(hint))
        }
        (_, Some(all)) if !grants_video(all) => {
            let why = format!("the container was not given the encoder: NVIDIA_DRIVER_CAPABILITIES is '{all}'");
            let hint = format!("start it with -e NVIDIA_DRIVER_CAPABILITIES={all},video").replace("=,", "=");
            (Cause::NoDriver, Kind::Missing, why, Some(hint))
        }
        (Some(true), _) => {
            let why = format!("{board} has an NVENC engine, but the driver does not offer it here");
            let hint = "a MIG instance has none; in a container, look at the devices it was given".to_owned();
            (Cause::NoEngine, Kind::Missing, why, Some(hint))
        }
        (None, _) => {
            let why = format!("{board} has no NVENC engine, or the driver does not offer it here");
            let hint = "see what the board has: gsk nvenc-status".to_owned();
            (Cause::NoEngine, Kind::Missing, why, Some(hint))
        }
    }
}

/// Code 10 is a full memory, the session limit of drivers up to 2023, or a driver that cannot encode at all.
fn out_of_memory(board: &str, facts: &Facts) -> Meaning {
    let mib = |bytes: u64| bytes >> 20;
    match (facts.free_bytes, facts.sessions) {
        (free, _) if facts.at_work => {
            let free = free.map_or(String::new(), |free| format!(": {} MiB are free", mib(free)));
            let hint = "free GPU memory: nvidia-smi shows who uses it".into();
            (Cause::Fault, Kind::Capacity, format!("{board} is short of memory{free}"), Some(hint))
        }
        (Some(free), _) if free < facts.needed_bytes => {
            let why = format!("{board} has {} MiB free, and a session needs {}", mib(free), mib(facts.needed_bytes));
            (Cause::Fault, Kind::Capacity, why, Some("free GPU memory: nvidia-smi shows who uses it".into()))
        }
        (Some(free), Some(0)) => {
            let why =
                format!("no session is open and {} MiB are free, yet the driver says that memory is short", mib(free));
            let hint = "update the driver: 515.105.01, 525.60.13 and newer have a fault mended that says so".to_owned();
            (Cause::Fault, Kind::Failed, why, Some(hint))
        }
        _ => at_the_limit(facts),
    }
}

fn at_the_limit(facts: &Facts) -> Meaning {
    let why = match facts.sessions {
        Some(open) => format!("the driver allows no further encoder session; {open} are open on this machine"),
        None => "the driver allows no further encoder session on this machine".into(),
    };
    let hint = "see who holds the sessions: gsk nvenc-status\nand tell gsk how many there are: --slots N".to_owned();
    (Cause::Limit, Kind::Capacity, why, Some(hint))
}

fn too_old(facts: &Facts) -> String {
    let (major, minor) = NEEDED;
    match facts.api {
        Some((has_major, has_minor)) if (has_major, has_minor) < NEEDED => format!(
            "the driver is too old: it has NVENC API {has_major}.{has_minor}, and gsk needs {major}.{minor} (driver 530 or newer)"
        ),
        _ => format!("the driver is too old: gsk needs NVENC API {major}.{minor} (driver 530 or newer)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn facts(engine: Option<bool>, free_mib: Option<u64>, sessions: Option<u32>, capabilities: Option<&str>) -> Facts {
        Facts {
            board: Some("NVIDIA T4".into()),
            engine,
            free_bytes: free_mib.map(|mib| mib * MIB),
            needed_bytes: 100 * MIB,
            sessions,
            capabilities: capabilities.map(Into::into),
            api: Some((12, 0)),
            at_work: false,
            call: "nvEncOpenEncodeSessionEx",
            said: String::new(),
        }
    }

    #[test]
    fn what_fails_at_work_is_no_lack_of_sessions() {
        let at_work = |code| {
            let facts = Facts { at_work: true, ..facts(None, Some(7), None, None) };
            explain(code, &facts)
        };
        let memory = at_work(10);
        assert_eq!((memory.cause, memory.error.kind), (Cause::Fault, Kind::Capacity));
        assert!(memory.to_string().contains("NVIDIA T4 is short of memory: 7 MiB are free"), "{memory}");
        let key = at_work(21);
        assert_eq!((key.cause, key.error.kind), (Cause::Fault, Kind::Failed));
        assert!(key.error.hint.unwrap().contains("gsk verify-gl --bundle"));
    }

    #[test]
    fn every_code_has_its_meaning() {
        use Cause::*;
        let table = [
            (
                2,
                facts(Some(false), None, None, None),
                NoEngine,
                Kind::Missing,
                "NVIDIA T4 has no NVENC engine;",
                "openh264",
            ),
            (
                2,
                facts(Some(false), None, None, Some("compute")),
                NoEngine,
                Kind::Missing,
                "has no NVENC engine;",
                "openh264",
            ),
            (
                2,
                facts(Some(true), None, None, Some("compute,utility")),
                NoDriver,
                Kind::Missing,
                "not given the encoder",
                "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video",
            ),
            (2, facts(None, None, None, Some("")), NoDriver, Kind::Missing, "not given", "CAPABILITIES=video"),
            (2, facts(Some(true), None, None, Some("all")), NoEngine, Kind::Missing, "does not offer it here", "MIG"),
            (2, facts(None, None, None, None), NoEngine, Kind::Missing, "has no NVENC engine, or", "nvenc-status"),
            (
                1,
                facts(None, None, None, Some("compute, video")),
                NoEngine,
                Kind::Missing,
                "no NVENC engine, or",
                "nvenc-status",
            ),
            (
                10,
                facts(Some(true), Some(20), Some(3), None),
                Fault,
                Kind::Capacity,
                "has 20 MiB free, and a session needs 100",
                "nvidia-smi",
            ),
            (
                10,
                facts(Some(true), Some(4000), Some(3), None),
                Limit,
                Kind::Capacity,
                "no further encoder session; 3 are open",
                "--slots",
            ),
            (
                10,
                facts(Some(true), Some(4000), Some(0), None),
                Fault,
                Kind::Failed,
                "no session is open and 4000 MiB are free",
                "525.60.13",
            ),
            (
                10,
                facts(Some(true), Some(4000), None, None),
                Limit,
                Kind::Capacity,
                "no further encoder session on",
                "nvenc-status",
            ),
            (
                10,
                facts(Some(true), None, None, None),
                Limit,
                Kind::Capacity,
                "no further encoder session",
                "nvenc-status",
            ),
            (21, facts(Some(true), Some(20), Some(8), None), Limit, Kind::Capacity, "8 are open", "--slots"),
            (
                15,
                facts(None, None, None, None),
                NoDriver,
                Kind::Missing,
                "it has NVENC API 12.0, and gsk needs 12.1",
                "530",
            ),
            (5, facts(None, None, None, None), Fault, Kind::Failed, "NVIDIA T4 was lost", "dmesg"),
            (
                13,
                facts(None, None, None, None),
                Fault,
                Kind::Failed,
                "busy; nvEncOpenEncodeSessionEx returned 13 (NV_ENC_ERR_LOCK_BUSY)",
                "gsk nvenc-status",
            ),
            (18, facts(None, None, None, None), Fault, Kind::Failed, "busy", "gsk nvenc-status"),
            (8, facts(None, None, None, None), Fault, Kind::Failed, "refuses what NVIDIA T4 was asked for", "--bundle"),
            (20, facts(None, None, None, None), Fault, Kind::Failed, "returned 20 (NV_ENC_ERR_GENERIC)", "--bundle"),
            (
                99,
                facts(None, None, None, None),
                Fault,
                Kind::Failed,
                "returned 99, which NVENC 12.1 does not know",
                "--bundle",
            ),
        ];
        for (code, facts, cause, kind, says, hints) in table {
            let refused = explain(code, &facts);
            assert_eq!((refused.cause, refused.error.kind), (cause, kind), "{code} {facts:?}");
            let (why, hint) = (refused.error.cause.unwrap(), refused.error.hint.unwrap_or_default());
            assert!(why.contains(says) && hint.contains(hints), "{code} {facts:?}: {why} / {hint}");
            assert!(!hint.is_empty(), "{code}");
        }
    }

    #[test]
    fn the_drivers_words_are_handed_on() {
        let facts = Facts { call: "nvEncInitializeEncoder", said: "invalid level".into(), ..Facts::default() };
        let cause = explain(8, &facts).error.cause.unwrap();
        assert!(
            cause.ends_with("nvEncInitializeEncoder returned 8 (NV_ENC_ERR_INVALID_PARAM): invalid level"),
            "{cause}"
        );
    }
}
