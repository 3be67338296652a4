//! One worker over the network.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::error::{Error, Result};
use crate::output::{Printer, text};
use crate::pipeline::frame::{PixelFormat, Size};

/// Where the pictures come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// The demo scene.
    Scene,
    /// Frames on standard input.
    Stdin,
    /// A program and its arguments; never empty.
    Program(Vec<OsString>),
    /// A YUV4MPEG2 file.
    File(PathBuf),
}

/// `scene`, `-`, or the path of a `.y4m` file. A program has no such text: its words follow `--`.
impl FromStr for SourceSpec {
    type Err = Error;

    fn from_str(spec: &str) -> Result<SourceSpec> {
        match spec {
            "scene" => Ok(SourceSpec::Scene),
            "-" => Ok(SourceSpec::Stdin),
            path if path.to_ascii_lowercase().ends_with(".y4m") => Ok(SourceSpec::File(path.into())),
            other => {
                let hint = match text::nearest(other, ["scene"]) {
                    Some(near) => format!("did you mean '{near}'?"),
                    None => "write scene, - for standard input, or FILE.y4m; a program follows after --".into(),
                };
                Err(Error::usage(format!("'{other}' is not a source")).hint(hint))
            }
        }
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceSpec::Scene => f.write_str("scene"),
            SourceSpec::Stdin => f.write_str("-"),
            SourceSpec::Program(words) => f.write_str(&words.join(" ".as_ref()).to_string_lossy()),
            SourceSpec::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Which encoder to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderChoice {
    /// The first that works of those below, for each codec.
    Auto,
    /// H.264 by the GPU's encoder.
    Nvenc,
    /// JPEG by the GPU.
    Nvjpeg,
    /// H.264 by the CPU.
    Openh264,
    /// JPEG by the CPU.
    Jpeg,
}

/// When to start a source's program again after it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Not at all: its end is ours.
    Never,
    /// After any end but exit code 0.
    OnFailure,
    /// After any end.
    Always,
}

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
    pub source: SourceSpec,
    pub encoder: EncoderChoice,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_refused() {
        let cases = [
            ("scene", Ok(SourceSpec::Scene)),
            ("-", Ok(SourceSpec::Stdin)),
            ("/a/b.Y4M", Ok(SourceSpec::File("/a/b.Y4M".into()))),
            ("scen", Err("did you mean 'scene'?")),
            ("film.mp4", Err("FILE.y4m")),
        ];
        for (text, expected) in cases {
            match (text.parse::<SourceSpec>(), expected) {
                (Ok(source), Ok(expected)) => assert_eq!((&source, source.to_string()), (&expected, text.to_string())),
                (Err(error), Err(hint)) => assert!(error.hint.unwrap().contains(hint), "{text}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }
}
