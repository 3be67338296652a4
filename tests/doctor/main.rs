//! `gsk nvenc-status` and `gsk cleanup` among real processes, over the stand-in driver.

mod cleanup;
mod namespaces;
mod nvenc_status;
mod place;

#[path = "../serve/gsk.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod gsk;
#[path = "../serve/http.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod http;
#[path = "../standin/mod.rs"]
mod standin;
#[path = "../serve/viewer.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod viewer;
