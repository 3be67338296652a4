//! NVENC, the encoder of NVIDIA's boards, fed with pictures in their memory: H.264 on each that has one, HEVC and AV1 where
//! the board has them.
//!
//! A session is opened with an encoder slot in hand, which it keeps until the driver has closed it: no code path opens
//! one without. It has two halves, for two threads, since NVENC on Linux tells of a finished picture only to who waits
//! in `nvEncLockBitstream`: [`Session`] takes pictures, [`Collector`] waits for their access units. Whichever is dropped
//! last closes the session, and gives all back that was taken from the driver, as does an opening that fails half-way.
//!
//! What the driver answers becomes a state and words by [`explain`].

mod api;
mod encoder;
mod explain;
mod input;
mod level;
mod session;
mod settings;

use std::time::Duration;

pub use self::encoder::no_codec;
pub(super) use self::explain::grants_video;
pub use self::explain::{Facts, Refused, explain};
pub use self::session::{Coded, Collector, Pending, SURFACES, Session};
pub use self::settings::{Config, Options, PictureFormat, Preset};
use super::cuda;
use crate::error::{Error, Kind};
use crate::wire::status::Cause;

/// How long NVML is asked why a board refuses.
const ASKING: Duration = Duration::from_secs(1);

/// Whether this host's driver has an encoder library that can be used, and libcuda with it. Opens no session and asks no
/// board.
pub fn find() -> Result<(), Refused> {
    api::Api::get()?;
    cuda::find().map_err(from_cuda)
}

/// Whether this host's driver has an encoder library that can be used, or why not. Touches nothing of CUDA, and no board.
pub fn library() -> Result<(), String> {
    let why = |refused: Refused| refused.error.cause.unwrap_or(refused.error.what);
    api::Api::get().map(drop).map_err(why)
}

/// The devices to try: those that are wanted, in that order, or any where none is; that of CUDA's number `near` comes first.
fn candidates(wanted: &[String], near: Option<u32>) -> Result<Vec<cuda::Device>, Refused> {
    let mut devices = cuda::devices().map_err(from_cuda)?;
    let rank = |device: &cuda::Device| wanted.iter().position(|wanted| device.is(wanted));
    devices.retain(|device| wanted.is_empty() || rank(device).is_some());
    devices.sort_by_key(|device| (near != Some(device.ordinal), rank(device)));
    if devices.is_empty() && !wanted.is_empty() {
        let error = Error::missing(format!("no CUDA device is {}", wanted.join(" or ")))
            .hint("see the devices: nvidia-smi -L\nand look at CUDA_VISIBLE_DEVICES");
        return Err(Refused { cause: Cause::NoEngine, error });
    }
    Ok(devices)
}

/// What is known of a device beside what a session on it says.
fn facts(device: &cuda::Device) -> Facts {
    let inventory = super::inventory(ASKING);
    let board = inventory.gpus.iter().find(|gpu| gpu.uuid.as_deref().is_some_and(|uuid| device.is(uuid)));
    let sessions = inventory.gpus.iter().filter_map(|gpu| gpu.sessions.as_ref().map(Vec::len));
    Facts {
        engine: board.and_then(|gpu| gpu.support()).map(|row| row.engines != Some(0)),
        sessions: sessions.reduce(|a, b| a + b).map(|all| all as u32),
        capabilities: std::env::var("NVIDIA_DRIVER_CAPABILITIES").ok(),
        ..Facts::default()
    }
}

fn no_device() -> Refused {
    let error = Error::missing(explain::UNUSABLE)
        .cause("CUDA shows no device to this process")
        .hint("look at CUDA_VISIBLE_DEVICES; in a container, start it with --gpus all");
    Refused { cause: Cause::NoEngine, error }
}

fn from_cuda(error: Error) -> Refused {
    let cause = if error.kind == Kind::Missing { Cause::NoDriver } else { Cause::Fault };
    Refused { cause, error }
}
