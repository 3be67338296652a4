//! One worker over the network.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::error::{Error, Result};
use crate::output::Printer;
use crate::pipeline::encode::Choice;
use crate::pipeline::frame::{PixelFormat, Size};
use crate::pipeline::source::{Restart, Spec};

/// Whose input events reach the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// Every viewer's.
    All,
    /// Nobody's: viewers only watch.
    None,
}

/// Where the access token comes from.
#[derive(Clone, Debug)]
pub enum Token {
    /// None was given: on loopback none is needed, elsewhere one is made at random.
    Unset,
    /// From `GSK_TOKEN`.
    Given(Secret),
    /// The file that holds it, not read yet.
    File(PathBuf),
}

/// What one worker is to do: every value settled and within its range.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Port 0 lets the system choose.
    pub listen: SocketAddr,
    pub source: Spec,
    pub encoder: Choice,
    /// None where it was not given: the scene then takes 1280x720, and raw input lacks it.
    pub size: Option<Size>,
    /// Frames per second, 1 to 240.
    pub fps: f64,
    /// Bits per second, 100 000 to 200 000 000.
    pub bitrate: u32,
    /// The layout of raw frames; None where it was not given.
    pub pixel_format: Option<PixelFormat>,
    /// Whether a file starts again at its end.
    pub looped: bool,
    pub restart: Restart,
    /// 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'.
    pub instance_id: String,
    pub token: Token,
    /// Host names that are accepted beside our own, in lower case.
    pub allow_host: Vec<String>,
    /// Origins that are accepted beside our own, in lower case, such as `https://example.org`.
    pub allow_origin: Vec<String>,
    pub input: Input,
    /// 1 to 10 000.
    pub max_viewers: u32,
    /// 1 to 100.
    pub jpeg_quality: u8,
}

/// Serves until the source ends or a signal comes.
pub fn run(_settings: Settings, _printer: &Printer) -> Result<ExitCode> {
    Err(Error::bug("not built yet"))
}
