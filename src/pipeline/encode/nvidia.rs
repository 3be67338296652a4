//! Where NVENC and nvJPEG, the GPU's encoders, are looked for: their libraries are opened at run time.

use super::{Cause, Open};
use crate::gpu::nvenc;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Opens no session, and asks no board: whether one takes a session is seen when it is opened.
pub fn find_nvenc() -> Result<Open, (Cause, String)> {
    nvenc::find().map_err(|refused| (refused.cause, refused.to_string()))?;
    Err((Cause::NoSlot, format!("gsk {VERSION} takes no encoder slots yet, and encodes on the CPU only")))
}

pub fn find_nvjpeg() -> Result<Open, (Cause, String)> {
    let library = "libnvjpeg.so.12";
    // SAFETY: NVIDIA's libraries have no initialisers that depend on anything of ours.
    match unsafe { libloading::Library::new(library) } {
        Err(_) => Err((Cause::NoDriver, format!("{library} is not on this host"))),
        Ok(_) => Err((Cause::NoEngine, format!("{library} is here, but gsk {VERSION} encodes on the CPU only"))),
    }
}
