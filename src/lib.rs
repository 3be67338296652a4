//! gsk: any GPU worker's pixels in any browser.

pub mod child;
pub mod clock;
pub mod error;
pub mod exit;
pub mod output;
pub mod pipeline;
pub mod wire;
