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
    // Boards stay while we run.
    static INVENTORY: OnceLock<gpu::Inventory> = OnceLock::new();
    let inventory = INVENTORY.get_or_init(|| gpu::inventory(BOARDS));
    let refused = |lack: &String| Refused { cause: Cause::NoEngine, error: Error::missing(lack.clone()) };
    let lack = match gpu {
        Some(gpu) => gpu.no_engine.as_ref().map(refused),
        None => no_engine(inventory),
    };
    let wanted = |board: &&gpu::Gpu| gpu.is_none_or(|gpu| gpu.board.is_some() && gpu.board == board.uuid);
    let boards: Vec<_> = inventory.gpus.iter().filter(wanted).collect();
    match lack.or_else(|| no_codec(&boards, nvenc::codec(codec)?)) {
        Some(refused) => Err(refused),
        None => Ok(Open::WithSlot(nvenc::open)),
    }
}

/// Why none of these boards encodes a codec, where the support table knows that of all of them.
fn no_codec(boards: &[&gpu::Gpu], codec: support::Codec) -> Option<Refused> {
    let rows = boards.iter().map(|gpu| Some((gpu, gpu.support()?))).collect::<Option<Vec<_>>>()?;
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
