//! Pure types of what crosses a process: `/status`, `gsk.v1` messages, input events.

pub mod input;
pub mod message;
pub mod status;
