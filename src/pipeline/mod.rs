//! The shared pipeline: source, slot, encoder, broadcast.

pub mod frame;
pub mod source;
