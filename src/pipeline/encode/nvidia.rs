//! Where NVENC and nvJPEG, the GPU's encoders, are looked for: their libraries are opened at run time.

use std::sync::OnceLock;
use std::time::Duration;

use super::{Cause, Codec, Open, nvenc, nvjpeg};
use crate::error::Error;
use crate::gpu::{self, Chosen, nvenc::Refused, support};

/// How long NVML may take to name the boards.
const BOARDS: Duration = Duration::from_millis(500);

/// Opens no session: whether a board takes one is seen when it is opened.
pub fn find_nvenc(codec: Codec, gpu: Option<&Chosen>) -> Result<Open, Refused> {
    gpu::nvenc::find()?;
    if let Some(gpu) = gpu {
        let refused = |lack| Refused { cause: Cause::NoEngine, error: Error::missing(lack) };
        return gpu.no_engine.as_ref().map_or(Ok(Open::WithSlot(nvenc::open)), |lack| Err(refused(lack)));
    }
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

/// Asks no board: whether one takes it is seen when it is opened.
pub fn find_nvjpeg(_: Codec, _gpu: Option<&Chosen>) -> Result<Open, Refused> {
    gpu::nvjpeg::find()?;
    Ok(Open::OnGpu(nvjpeg::open))
}
