//! Benches: where the time of a frame goes, over the very objects that a worker streams with.
//!
//! - `run` drives the [cases](Case) one after another over a [`pipeline::Source`](crate::pipeline::source::Source), the encoders of
//!   [`pipeline::encode`](crate::pipeline::encode), the decoders of [`pipeline::decode`](crate::pipeline::decode), a whole
//!   [`Pipeline`](crate::pipeline::Pipeline), and the slots of [`lease`](crate::lease): one file a case in `cases`.
//! - [`stats`] and [`gate`] are pure: what samples say, and when a run fails.
//! - [`report`] is what a run found; `show`, `plot` and `html` write it for people. [`save`] keeps it in files as it grows.
//! - `environment` says what machine it was, and whether it was quiet enough to believe; the `yardstick` measures the machine's
//!   own pace again and again, so that comparisons can take it off.
//!
//! Every sample is kept, in the order in which it was taken. Those of the warm-up are reported apart; outliers are marked and
//! left in.

mod browser;
mod budget;
mod cases;
mod environment;
pub mod gate;
mod html;
mod live;
mod material;
mod plot;
mod quality;
pub mod report;
mod run;
pub mod save;
mod show;
pub mod stats;
mod svg;
mod worker;
mod yardstick;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use self::budget::Target;
pub use self::report::Report;
pub use self::run::{Live, run};
pub use self::save::Files;
use crate::error::{Error, Result};
use crate::gpu::Chosen;
use crate::output::text;
use crate::pipeline::encode::{Choice, Codec};
use crate::pipeline::frame::Size;
use crate::pipeline::rate::Quality;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// A source's frames, at the frame rate.
    Capture,
    /// Colour conversion to what encoders take, frame after frame.
    Convert,
    /// Each encoder that this host has: frame in to unit out.
    Encode,
    /// Each decoder that this host has: unit in to picture out.
    Decode,
    /// A running pipeline with one viewer in this process: capture start to the unit in the viewer's hands.
    Pipeline,
    /// A worker of its own and viewers over loopback: the whole unit to its arrival.
    Network,
    /// A worker of its own and a headless Chromium: the time that the picture shows to its painting in the page, by each way.
    Glass,
    /// As many workers as hold the frame rate, a viewer each.
    Density,
    /// Taking an encoder slot, and giving it back.
    Lease,
}

impl Case {
    pub const ALL: [(&'static str, Case); 9] = [
        ("capture", Case::Capture),
        ("convert", Case::Convert),
        ("encode", Case::Encode),
        ("decode", Case::Decode),
        ("pipeline", Case::Pipeline),
        ("network", Case::Network),
        ("glass", Case::Glass),
        ("density", Case::Density),
        ("lease", Case::Lease),
    ];

    pub fn name(self) -> &'static str {
        Case::ALL.iter().find(|(_, case)| *case == self).map_or("", |(name, _)| name)
    }

    /// Whether frames come as they come, and its warm-up ends with [`run::Runner::warm`].
    fn streams(self) -> bool {
        matches!(self, Case::Pipeline | Case::Network | Case::Glass | Case::Density)
    }

    /// What it measures, its main stage first.
    pub fn stages(self) -> &'static [&'static str] {
        match self {
            Case::Capture => &["capture", "cpu"],
            Case::Convert => &["convert", "cpu"],
            Case::Encode => &["encode", "convert", "total", "cpu"],
            Case::Decode => &["decode", "cpu"],
            Case::Pipeline => &["total", "capture", "wait", "convert", "encode", "publish", "gap"],
            Case::Network => &["network", "received", "encoded"],
            Case::Glass => &["glass"],
            Case::Density => &["received", "network"],
            Case::Lease => &["take", "give"],
        }
    }
}

/// The stages of a case by its name; none of a name that is no case's.
fn stages(case: &str) -> &'static [&'static str] {
    Case::ALL.iter().find(|(name, _)| *name == case).map_or(&[], |(_, case)| case.stages())
}

/// The stage that a case is meant by where none is named.
fn main_stage(case: &str) -> &'static str {
    stages(case).first().copied().unwrap_or_default()
}

/// Where pictures come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The demo scene, by the best renderer of this host.
    Scene,
    /// A YUV4MPEG2 file, in its own size and at its own rate.
    File(PathBuf),
    /// Every pixel at random, each picture anew: the hardest that there is.
    Noise,
    /// One picture of noise that stands still: the easiest.
    Still,
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Source> {
        match spec {
            "scene" => Ok(Source::Scene),
            "noise" => Ok(Source::Noise),
            "still" => Ok(Source::Still),
            path if path.to_ascii_lowercase().ends_with(".y4m") => Ok(Source::File(path.into())),
            other => {
                let hint = match text::nearest(other, ["scene", "noise", "still"]) {
                    Some(near) => format!("did you mean '{near}'?"),
                    None => "write scene, noise, still, or FILE.y4m".into(),
                };
                Err(Error::usage(format!("'{other}' is not a source for a bench")).hint(hint))
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Scene => f.write_str("scene"),
            Source::Noise => f.write_str("noise"),
            Source::Still => f.write_str("still"),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A picture's size: `WxH`, or one of the names of [`SIZES`].
pub fn size(text: &str) -> Result<Size> {
    match SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        Some((_, size)) => Ok(*size),
        None => text.parse().map_err(|error: Error| match error.what.contains("is not a size") {
            true => error.hint("write 720p, 1080p, 1440p, 4K, or WIDTHxHEIGHT such as 1280x720"),
            false => error,
        }),
    }
}

/// Sizes that have names.
pub const SIZES: [(&str, Size); 4] = [
    ("720p", Size::new(1280, 720)),
    ("1080p", Size::new(1920, 1080)),
    ("1440p", Size::new(2560, 1440)),
    ("4K", Size::new(3840, 2160)),
];

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// In the order in which they are run.
    pub cases: Vec<Case>,
    pub source: Source,
    /// Of the pictures; a file has its own.
    pub sizes: Vec<Size>,
    /// Frames a second, 1 to 240.
    pub fps: f64,
    /// Frames of each case that count.
    pub frames: usize,
    /// Frames before them that do not.
    pub warmup: usize,
    /// How often all cases are run, one pass after another, their samples put together.
    pub passes: usize,
    pub encoder: Choice,
    /// None: all.
    pub codec: Option<Codec>,
    /// bit/s.
    pub bitrate: u32,
    /// Of JPEG pictures.
    pub quality: Quality,
    pub gpu: Option<Chosen>,
    /// Encoder sessions that this machine bears, where the user says so.
    pub slots: Option<u32>,
    /// Viewers of `network`, 1 to 1000.
    pub viewers: u32,
    /// The most streams that `density` tries, 1 to 256.
    pub streams: u32,
    /// The Chromium of `glass`; None: the first of this host.
    pub browser: Option<PathBuf>,
    pub budget: Vec<Target>,
    /// Whether a target that is missed is a bad answer.
    pub hold_budget: bool,
    pub rules: Vec<gate::Rule>,
    pub baseline: Option<save::Baseline>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_names() {
        assert_eq!(size("4k").unwrap(), Size::new(3840, 2160));
        assert_eq!(size("64x48").unwrap(), Size::new(64, 48));
        assert!(size("721p").unwrap_err().hint.unwrap().contains("1440p"));
        assert!(size("65x48").unwrap_err().what.contains("odd"));
    }

    #[test]
    fn sources_are_read_and_refused() {
        for text in ["scene", "noise", "still", "/a/b.Y4M"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        for (text, hint) in [("nois", "did you mean 'noise'?"), ("-", "FILE.y4m"), ("film.mp4", "FILE.y4m")] {
            assert!(text.parse::<Source>().unwrap_err().hint.unwrap().contains(hint), "{text}");
        }
    }

    #[test]
    fn a_case_and_its_name_are_one() {
        for (name, case) in Case::ALL {
            assert_eq!((case.name(), stages(name), main_stage(name)), (name, case.stages(), case.stages()[0]));
        }
        assert!(stages("zebra").is_empty());
    }
}
