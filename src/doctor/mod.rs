//! Who holds the encoder sessions, and why: [`picture`], and what to do about those that dead owners left: [`cleanup`].
//! Whether OpenGL's pixels reach CUDA here, and what does not work: [`verify`]; all of it for a bug report: [`bundle`].
//!
//! Three things are said of a session, in falling order of trust: what the kernel says of locks and processes
//! ([`holders`]), what NVML says of sessions, and what slot files and workers say of themselves. Only the first decides
//! what is ended.

pub mod bundle;
pub mod cleanup;
pub mod holders;
pub mod picture;
pub mod probe;
mod show;
pub mod sweep;
pub mod verify;
