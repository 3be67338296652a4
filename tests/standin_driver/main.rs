//! The stand-in NVIDIA driver, held against the crates that gsk uses for the real one, and against FFmpeg's decoder.

mod child;
mod encoder;
mod pictures;
#[path = "../standin/mod.rs"]
mod standin;
