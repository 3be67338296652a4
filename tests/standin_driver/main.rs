//! The stand-in NVIDIA driver, held against the crates that gsk uses for the real one, and against FFmpeg's decoder.

mod boards;
mod child;
mod decoder;
mod device;
mod encoder;
mod kernels;
mod misuse;
mod pictures;
mod sessions;
#[path = "../standin/mod.rs"]
mod standin;
mod transfers;
