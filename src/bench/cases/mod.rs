//! One file a case.

pub mod capture;
pub mod convert;
pub mod decode;
pub mod density;
pub mod encode;
pub mod glass;
pub mod lease;
pub mod network;
pub mod pipeline;

use rustix::time::{ClockId, clock_gettime};

use crate::pipeline::encode::{Choice, Codec};

use super::Options;

/// CPU time of this process, all its threads, µs.
fn cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// Every encoder of a codec.
fn choices(codec: Codec) -> &'static [Choice] {
    match codec {
        Codec::H264 => &[Choice::Nvenc, Choice::Openh264],
        Codec::Hevc | Codec::Av1 => &[Choice::Nvenc],
        Codec::Jpeg => &[Choice::Nvjpeg, Choice::Jpeg],
    }
}

/// The codecs that are asked for.
fn codecs(options: &Options) -> impl Iterator<Item = Codec> {
    let (codec, choice) = (options.codec, options.encoder);
    let asked = move |of: &Codec| codec.is_none_or(|codec| codec == *of);
    // An encoder that was named makes its own codec.
    let made = move |of: &Codec| choice == Choice::Auto || choices(*of).contains(&choice);
    Codec::ALL.into_iter().filter(asked).filter(made)
}
