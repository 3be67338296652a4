//! Where NVENC and nvJPEG, the GPU's encoders, are looked for: their libraries are opened at run time.

use std::sync::OnceLock;
use std::time::Duration;

use super::{Cause, Codec, Open, nvenc};
use crate::error::Error;
use crate::gpu::{self, nvenc::Refused, support};

/// How long NVML may take to name the boards.
const BOARDS: Duration = Duration::from_millis(500);

/// Opens no session: whether a board takes one is seen when it is opened.
pub fn find_nvenc(codec: Codec) -> Result<Open, Refused> {
    gpu::nvenc::find()?;
    // Boards stay while we run.
    static LACKS: OnceLock<[Option<Refused>; Codec::ALL.len()]> = OnceLock::new();
    let lacks = LACKS.get_or_init(|| {
        let inventory = gpu::inventory(BOARDS);
        let no_engine = no_engine(&inventory);
        Codec::ALL.map(|codec| no_engine.clone().or_else(|| no_codec(&inventory, nvenc::codec(codec)?)))
    });
    match &lacks[codec as usize] {
        Some(refused) => Err(refused.clone()),
        None => Ok(Open::WithSlot(nvenc::open)),
    }
}

/// Why no board here encodes a codec, where the support table knows that of all of them.
fn no_codec(inventory: &gpu::Inventory, codec: support::Codec) -> Option<Refused> {
    let rows = inventory.gpus.iter().map(|gpu| Some((gpu, gpu.support()?))).collect::<Option<Vec<_>>>()?;
    if rows.iter().any(|(_, row)| row.codecs.contains(&codec)) {
        return None;
    }
    let (gpu, row) = rows.iter().find(|(_, row)| row.has_encoder())?;
    let board = gpu.name.clone().unwrap_or_else(|| gpu.label());
    Some(gpu::nvenc::no_codec(codec, &row.codecs, &board))
}

/// Why no board here can encode, where the support table knows that of all of them.
fn no_engine(inventory: &gpu::Inventory) -> Option<Refused> {
    let verdict = gpu::verdict(inventory, Ok(()));
    let error = || {
        let error = Error::missing(verdict.detail.clone());
        verdict.remedy.iter().fold(error, |error, remedy| error.hint(remedy))
    };
    (verdict.cause == Some(Cause::NoEngine)).then(|| Refused { cause: Cause::NoEngine, error: error() })
}

pub fn find_nvjpeg(_: Codec) -> Result<Open, Refused> {
    let library = "libnvjpeg.so.12";
    let refused = |cause, what| Err(Refused { cause, error: Error::missing(what) });
    // SAFETY: NVIDIA's libraries have no initialisers that depend on anything of ours.
    match unsafe { libloading::Library::new(library) } {
        Err(_) => refused(Cause::NoDriver, format!("{library} is not on this host")),
        Ok(_) => {
            let version = env!("CARGO_PKG_VERSION");
            refused(Cause::NoEngine, format!("{library} is here, but gsk {version} makes JPEG on the CPU only"))
        }
    }
}
