//! Where NVENC and nvJPEG, the GPU's encoders, are looked for: their libraries are opened at run time.

use super::{Cause, Open};

pub fn find_nvenc() -> Result<Open, (Cause, String)> {
    find("libnvidia-encode.so.1")
}

pub fn find_nvjpeg() -> Result<Open, (Cause, String)> {
    find("libnvjpeg.so.12")
}

fn find(library: &str) -> Result<Open, (Cause, String)> {
    // SAFETY: NVIDIA's libraries have no initialisers that depend on anything of ours.
    match unsafe { libloading::Library::new(library) } {
        Err(_) => Err((Cause::NoDriver, format!("{library} is not on this host"))),
        Ok(_) => {
            let version = env!("CARGO_PKG_VERSION");
            Err((Cause::NoEngine, format!("{library} is here, but gsk {version} encodes on the CPU only")))
        }
    }
}
