//! Which GPU: what a user names it by, and the same device in NVML and in CUDA.
//!
//! NVML, CUDA and EGL each number the GPUs in an order of their own, and `CUDA_VISIBLE_DEVICES` changes CUDA's. So a choice
//! is brought to a board by NVML, the board to a CUDA device by UUID or PCI address, and EGL's device is the one that says
//! it has that CUDA device's number: an index never goes from one of them to another.
//!
//! [`Wanted`] is the pure part; [`choose`] asks the driver.

use std::fmt;
use std::str::FromStr;
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Driver, Gpu, Inventory, cuda, inventory};
use crate::error::{Error, Kind, Result};

const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// What a user names a GPU by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Choice {
    /// NVML's, which is nvidia-smi's.
    Index(u32),
    /// `GPU-` and the digits of its UUID, or the first of them as long as no other GPU begins so; in lower case.
    Uuid(String),
    /// An instance of a divided GPU, in either of the forms that `CUDA_VISIBLE_DEVICES` takes (MIG User Guide, "Device
    /// Enumeration"): `MIG-UUID`, or before driver 470 `MIG-GPU-UUID/INSTANCE/COMPUTE-INSTANCE`.
    Mig(String),
    Pci(Address),
}

/// A PCI address. NVML writes eight digits of the domain, CUDA four, people often none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl FromStr for Address {
    type Err = ();

    /// `[DOMAIN:]BUS:DEVICE[.FUNCTION]`, hexadecimal.
    fn from_str(text: &str) -> Result<Address, ()> {
        fn hex<T: TryFrom<u32>>(text: &str) -> Result<T, ()> {
            let digits = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = if digits { u32::from_str_radix(text, 16).map_err(drop)? } else { return Err(()) };
            T::try_from(number).map_err(drop)
        }
        let (place, function) = text.split_once('.').unwrap_or((text, "0"));
        let (rest, device) = place.rsplit_once(':').ok_or(())?;
        let (domain, bus) = rest.split_once(':').unwrap_or(("0", rest));
        Ok(Address { domain: hex(domain)?, bus: hex(bus)?, device: hex(device)?, function: hex(function)? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { domain, bus, device, function } = self;
        write!(f, "{domain:08x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Choice> {
        let lower = text.trim().to_ascii_lowercase();
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let uuid = |text: &str| (1..=36).contains(&text.len()) && digits(text);
        if let Ok(index) = lower.parse() {
            return Ok(Choice::Index(index));
        }
        if lower.strip_prefix("gpu-").is_some_and(uuid) {
            return Ok(Choice::Uuid(format!("GPU-{}", &lower[4..])));
        }
        if let Some(rest) = lower.strip_prefix("mig-") {
            let old = rest.strip_prefix("gpu-").and_then(|rest| rest.split_once('/'));
            match old {
                Some((board, instance)) if uuid(board) && instance.split('/').all(|n| n.parse::<u32>().is_ok()) => {
                    return Ok(Choice::Mig(format!("MIG-GPU-{board}/{instance}")));
                }
                None if uuid(rest) => return Ok(Choice::Mig(format!("MIG-{rest}"))),
                _ => {}
            }
        }
        lower.parse().map(Choice::Pci).map_err(|()| {
            Error::usage(format!("'{text}' does not name a GPU"))
                .hint("write an index, a UUID or a PCI address, as nvidia-smi -L and nvidia-smi show them: 0, GPU-8932f937…, 65:00.0")
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Index(index) => index.fmt(f),
            Choice::Uuid(text) | Choice::Mig(text) => f.write_str(text),
            Choice::Pci(address) => address.fmt(f),
        }
    }
}

/// Whether `text` begins with `start`, whatever their case.
fn begins(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

fn at(pci: Option<&str>, address: Address) -> bool {
    pci.and_then(|pci| pci.parse().ok()) == Some(address)
}

/// What NVML knows of the chosen board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Board {
    label: String,
    uuid: Option<String>,
    pci: Option<String>,
    divided: bool,
}

/// A choice that the machine has been asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    choice: Choice,
    /// `None` where NVML does not list boards, and for an instance, which it lists under its board.
    board: Option<Board>,
}

/// A device as CUDA shows it to this process.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    pub name: &'a str,
    /// `GPU-…`, also where the device is an instance of a divided board: then that instance's.
    pub uuid: &'a str,
    pub pci: &'a str,
}

impl Wanted {
    /// Brings a choice to a board by NVML. One that the machine does not have, or that more than one board may be, is refused
    /// with those that there are.
    pub fn new(choice: Choice, inventory: &Inventory) -> Result<Wanted> {
        let boards = &inventory.gpus;
        if boards.is_empty() {
            return match (&inventory.driver, &choice) {
                (Driver::NoGpu, _) => Err(Error::missing(format!("there is no GPU {choice}"))
                    .cause("the NVIDIA driver finds no GPU")
                    .hint("gsk verify-gl")),
                _ => Ok(Wanted { choice, board: None }),
            };
        }
        let is = |gpu: &&Gpu| match &choice {
            Choice::Index(index) => gpu.index == *index,
            Choice::Uuid(start) => gpu.uuid.as_deref().is_some_and(|uuid| begins(uuid, start)),
            Choice::Pci(address) => at(gpu.pci.as_deref(), *address),
            Choice::Mig(text) => {
                let board = text[4..].split('/').next().filter(|board| begins(board, "GPU-"));
                board.is_some_and(|board| gpu.uuid.as_deref().is_some_and(|uuid| begins(uuid, board)))
            }
        };
        let list = |gpus: &mut dyn Iterator<Item = &Gpu>| {
            let row = |gpu: &Gpu| match &gpu.uuid {
                Some(uuid) => format!("{} {uuid}", gpu.label()),
                None => gpu.label(),
            };
            gpus.map(row).collect::<Vec<_>>().join(", ")
        };
        let found: Vec<&Gpu> = boards.iter().filter(is).collect();
        match (found.as_slice(), &choice) {
            ([gpu], _) => Ok(Wanted { choice, board: Some(Board::of(gpu)) }),
            // NVML lists no instances: CUDA knows them.
            ([], Choice::Mig(text)) if !begins(text, "MIG-GPU-") => Ok(Wanted { choice, board: None }),
            ([], _) => Err(Error::usage(format!("there is no GPU {choice}"))
                .cause(format!("this machine has {}", list(&mut boards.iter())))
                .hint("nvidia-smi -L")),
            (several, _) => Err(Error::usage(format!("{choice} is more than one GPU"))
                .cause(list(&mut several.iter().copied()))
                .hint("write more of its UUID")),
        }
    }

    /// NVML's UUID of the board, where that is known.
    pub fn board(&self) -> Option<&str> {
        self.board.as_ref()?.uuid.as_deref()
    }

    /// The GPU among the devices that CUDA shows to this process.
    pub fn device<'a>(&self, devices: &'a [cuda::Device]) -> Result<&'a cuda::Device> {
        let show = |device: &'a cuda::Device| Shown { name: &device.name, uuid: &device.uuid, pci: &device.pci };
        let shown: Vec<Shown> = devices.iter().map(show).collect();
        let visible = std::env::var_os(VISIBLE).map(|value| value.to_string_lossy().into_owned());
        self.among(&shown, visible.as_deref()).map(|place| &devices[place])
    }

    /// The place of the GPU among the devices that CUDA shows; where it is not there, why and what to set. `visible`: the
    /// value of `CUDA_VISIBLE_DEVICES`.
    pub fn among(&self, shown: &[Shown], visible: Option<&str>) -> Result<usize> {
        if let Some(place) = self.place(shown, visible)? {
            return Ok(place);
        }
        let all: Vec<String> = shown.iter().map(|device| format!("{} ({})", device.name, device.uuid)).collect();
        let all = if all.is_empty() { "nothing".into() } else { all.join(", ") };
        let what = format!("CUDA does not show {} to this process", self.label());
        let set = format!("export {VISIBLE}={}", self.setting());
        Err(match (visible, &self.choice, &self.board) {
            (Some(list), _, _) => Error::usage(what)
                .cause(format!("{VISIBLE}={list} leaves it out; CUDA shows {all}"))
                .hint(format!("{set}\nor unset {VISIBLE}")),
            (None, Choice::Mig(_), _) => {
                Error::usage(what).cause(format!("of instances it shows the first alone: {all}")).hint(set)
            }
            (None, _, Some(_)) => Error::missing(what)
                .cause(format!("CUDA shows {all}"))
                .hint("gsk verify-gl; in a container, start it with --gpus all"),
            (None, _, None) => {
                Error::usage(what).cause(format!("CUDA shows {all}")).hint("nvidia-smi -L; gsk verify-gl")
            }
        })
    }

    fn place(&self, shown: &[Shown], visible: Option<&str>) -> Result<Option<usize>> {
        let first = |is: &dyn Fn(&Shown) -> bool| shown.iter().position(is);
        if let Choice::Mig(text) = &self.choice {
            // CUDA gives an instance's UUID with the prefix of a whole board's.
            let by_uuid = first(&|device| begins(&device.uuid[device.uuid.len().min(4)..], &text[4..]));
            // The old form is no UUID: that CUDA shows one device where it alone was asked for is all there is to see.
            let alone = || {
                (shown.len() == 1 && visible.is_some_and(|list| list.trim().eq_ignore_ascii_case(text))).then_some(0)
            };
            return Ok(by_uuid.or_else(alone));
        }
        if let Some(board) = &self.board {
            let uuid = |device: &Shown| board.uuid.as_ref().is_some_and(|uuid| device.uuid.eq_ignore_ascii_case(uuid));
            // An instance of the board has a UUID of its own, at the board's address.
            let address = board.pci.as_ref().and_then(|pci| pci.parse().ok());
            let by_address = || first(&|device| address.is_some_and(|address| at(Some(device.pci), address)));
            return Ok(first(&uuid).or_else(by_address));
        }
        match &self.choice {
            Choice::Pci(address) => Ok(first(&|device| at(Some(device.pci), *address))),
            Choice::Uuid(start) => {
                let several = shown.iter().filter(|device| begins(device.uuid, start)).count() > 1;
                match several {
                    true => Err(Error::usage(format!("{start} is more than one GPU")).hint("write more of its UUID")),
                    false => Ok(first(&|device| begins(device.uuid, start))),
                }
            }
            // Where there is one GPU, it has index 0 in any order.
            Choice::Index(0) if shown.len() == 1 && visible.is_none() => Ok(Some(0)),
            Choice::Index(index) => Err(Error::missing(format!("nothing says which GPU has index {index}"))
                .cause("indices are NVML's, and NVML lists no GPU here")
                .hint("name it by UUID or PCI address")),
            Choice::Mig(_) => Ok(None),
        }
    }

    /// For people.
    fn label(&self) -> String {
        match (&self.choice, &self.board) {
            (Choice::Mig(text), _) => text.clone(),
            (_, Some(board)) => board.label.clone(),
            (Choice::Index(index), None) => format!("GPU {index}"),
            (choice, None) => choice.to_string(),
        }
    }

    /// What `CUDA_VISIBLE_DEVICES` calls it; CUDA's own numbers are in an order that NVML does not know.
    fn setting(&self) -> String {
        match (&self.choice, &self.board) {
            (Choice::Mig(text), _) => text.clone(),
            (_, Some(Board { divided: true, .. })) => "MIG-… (an instance of it: nvidia-smi -L)".into(),
            (choice, board) => board.as_ref().and_then(|board| board.uuid.clone()).unwrap_or(choice.to_string()),
        }
    }
}

impl Board {
    fn of(gpu: &Gpu) -> Board {
        Board { label: gpu.label(), uuid: gpu.uuid.clone(), pci: gpu.pci.clone(), divided: gpu.mig == Some(true) }
    }
}

/// The GPU that was chosen, as NVML and CUDA know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// For people: index and name.
    pub label: String,
    /// NVML's UUID of the board; `None` where NVML does not know it.
    pub board: Option<String>,
    /// CUDA's number of it in this process.
    pub ordinal: u32,
    /// CUDA's UUID of it: of the instance, where the board is divided.
    pub uuid: String,
    /// Why it cannot encode, where the support table knows that.
    pub no_engine: Option<String>,
}

/// Finds a choice among the devices that CUDA shows to this process. Asks NVML and initialises CUDA, which takes seconds on a
/// driver that no program uses, and is given `limit` for each.
pub fn choose(choice: &Choice, limit: Duration) -> Result<Chosen> {
    let inventory = inventory(limit);
    let wanted = Wanted::new(choice.clone(), &inventory)?;
    let (tell, told) = mpsc::channel();
    let asks = wanted.clone();
    // A driver that hangs is left behind with its thread.
    std::thread::Builder::new()
        .name("gsk-cuda".into())
        .spawn(move || tell.send(cuda::devices().and_then(|devices| asks.device(&devices).cloned())))
        .map_err(|error| Error::io("cannot start a thread", error))?;
    let device = told.recv_timeout(limit).map_err(|_| {
        Error::new(Kind::Unreachable, "the NVIDIA driver does not say what devices CUDA has")
            .cause(format!("cuInit has not returned within {}", humantime::format_duration(limit)))
            .hint("gsk verify-gl")
    })??;
    let gpu = inventory.gpus.iter().find(|gpu| gpu.uuid.is_some() && gpu.uuid.as_deref() == wanted.board());
    let engineless = gpu.is_some_and(|gpu| gpu.support().is_some_and(|board| !board.has_encoder()));
    let label = gpu.map_or_else(|| device.name.clone(), Gpu::label);
    Ok(Chosen {
        no_engine: engineless.then(|| format!("no NVENC engine: {label}")),
        label,
        board: wanted.board().map(Into::into),
        ordinal: device.ordinal,
        uuid: device.uuid,
    })
}

#[cfg(test)]
mod tests;
