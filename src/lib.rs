//! gsk: any GPU worker's pixels in any browser.

pub mod clock;
pub mod error;
pub mod exit;
pub mod pipeline;
pub mod wire;
