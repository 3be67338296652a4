//! Where NVENC and nvJPEG, the GPU's encoders, are looked for: their libraries are opened at run time.

use super::{Cause, Open, Unfit};
use crate::error::Error;

pub fn find_nvenc() -> Result<Open, Unfit> {
    find("libnvidia-encode.so.1")
}

pub fn find_nvjpeg() -> Result<Open, Unfit> {
    find("libnvjpeg.so.12")
}

fn find(library: &str) -> Result<Open, Unfit> {
    let unfit = |cause, what| Err(Unfit { cause, error: Error::missing(what) });
    // SAFETY: NVIDIA's libraries have no initialisers that depend on anything of ours.
    match unsafe { libloading::Library::new(library) } {
        Err(_) => unfit(Cause::NoDriver, format!("{library} is not on this host")),
        Ok(_) => {
            let version = env!("CARGO_PKG_VERSION");
            unfit(Cause::NoEngine, format!("{library} is here, but gsk {version} encodes on the CPU only"))
        }
    }
}
