//! Pure types of what crosses a process: `/status`, `gsk.v1` messages, input events, lease records.

pub mod input;
pub mod lease;
pub mod message;
pub mod status;
