//! Where NVENC and nvJPEG, the GPU's encoders, are looked for: their libraries are opened at run time.

use std::sync::OnceLock;
use std::time::Duration;

use super::{Cause, Open, nvenc, nvjpeg};
use crate::error::Error;
use crate::gpu::{self, Chosen, nvenc::Refused};

/// How long NVML may take to name the boards.
const BOARDS: Duration = Duration::from_millis(500);

/// Opens no session: whether a board takes one is seen when it is opened.
pub fn find_nvenc(gpu: Option<&Chosen>) -> Result<Open, Refused> {
    gpu::nvenc::find()?;
    if let Some(gpu) = gpu {
        let refused = |lack| Refused { cause: Cause::NoEngine, error: Error::missing(lack) };
        return gpu.no_engine.as_ref().map_or(Ok(Open::WithSlot(nvenc::open)), |lack| Err(refused(lack)));
    }
    // Boards stay while we run.
    static LACK: OnceLock<Option<Refused>> = OnceLock::new();
    match LACK.get_or_init(no_engine) {
        Some(refused) => Err(refused.clone()),
        None => Ok(Open::WithSlot(nvenc::open)),
    }
}

/// Why no board here can encode, where the support table knows that of all of them.
fn no_engine() -> Option<Refused> {
    let verdict = gpu::verdict(&gpu::inventory(BOARDS), Ok(()));
    let error = || {
        let error = Error::missing(verdict.detail.clone());
        verdict.remedy.iter().fold(error, |error, remedy| error.hint(remedy))
    };
    (verdict.cause == Some(Cause::NoEngine)).then(|| Refused { cause: Cause::NoEngine, error: error() })
}

/// Asks no board: whether one takes it is seen when it is opened.
pub fn find_nvjpeg(_gpu: Option<&Chosen>) -> Result<Open, Refused> {
    gpu::nvjpeg::find()?;
    Ok(Open::OnGpu(nvjpeg::open))
}
