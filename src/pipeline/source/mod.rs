//! Sources: where frames come from.
//!
//! Some are drawn by us at deadlines, and only while somebody watches (the scene, a file); others feed us at their own
//! pace and are always read (standard input, a program), so that their writer never blocks.

mod file;
mod pipe;
mod program;
pub mod scene;
mod scene_source;
pub mod y4m;

use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::frame::{Frame, PixelFormat, Pool, Size};
use super::inputs::Inputs;
use crate::error::{Error, Result};
use crate::gpu::Chosen;
use crate::output::text;

/// Where the pictures come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// The demo scene.
    Scene,
    /// Frames on standard input.
    Stdin,
    /// A program and its arguments; never empty.
    Program(Vec<OsString>),
    /// A YUV4MPEG2 file.
    File(PathBuf),
}

impl Spec {
    /// The short name in `/status`: `scene`, `-`, the program's or the file's name.
    pub fn name(&self) -> String {
        let last = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        match self {
            Spec::Scene | Spec::Stdin => self.to_string(),
            Spec::Program(words) => words.first().map_or_else(String::new, |word| last(word.as_ref())),
            Spec::File(path) => last(path),
        }
    }
}

/// `scene`, `-`, or the path of a `.y4m` file. A program has no such text: its words follow `--`.
impl FromStr for Spec {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Spec> {
        match spec {
            "scene" => Ok(Spec::Scene),
            "-" => Ok(Spec::Stdin),
            path if path.to_ascii_lowercase().ends_with(".y4m") => Ok(Spec::File(path.into())),
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

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spec::Scene => f.write_str("scene"),
            Spec::Stdin => f.write_str("-"),
            Spec::Program(words) => f.write_str(&words.join(" ".as_ref()).to_string_lossy()),
            Spec::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// When to start a source's program again after it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Not at all: its end is ours.
    #[default]
    Never,
    /// After any end but exit code 0.
    OnFailure,
    /// After any end.
    Always,
}

/// How to open a source.
#[derive(Clone, Debug)]
pub struct Options {
    pub spec: Spec,
    /// The scene's size, and that of raw frames (which need it); a Y4M stream's must agree.
    pub size: Option<Size>,
    /// Of raw frames.
    pub format: PixelFormat,
    /// Drawn frames a second, and what raw frames declare.
    pub fps: f64,
    /// A file begins again at its end.
    pub repeat: bool,
    pub restart: Restart,
    /// The GPU to draw on, where one was chosen.
    pub gpu: Option<Chosen>,
}

/// What an open source is.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// In words, such as "drawn by OpenGL, llvmpipe".
    pub detail: String,
    pub size: Size,
    pub fps: f64,
}

/// What [`Source::next`] gives.
pub enum Next {
    Frame(Frame),
    /// The picture is that of the last frame.
    Unchanged,
    /// Nothing came for longer than the source's rate allows; it may still go on.
    Stalled(String),
    End(End),
}

/// How a source ended.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    pub reason: String,
    /// The exit code that `gsk serve` hands on; 0 is a good end.
    pub code: u8,
    pub hint: Option<String>,
    /// The reason without the fault that [`Next::Stalled`] told of, where one did.
    pub brief: Option<String>,
}

impl End {
    pub fn new(reason: impl Into<String>, code: u8) -> End {
        End { reason: reason.into(), code, hint: None, brief: None }
    }

    /// What standard error has yet to be told: a fault that the log holds is not said again.
    pub fn news(&self) -> &str {
        match &self.brief {
            Some(brief) if tracing::enabled!(target: LOG, tracing::Level::WARN) => brief,
            _ => &self.reason,
        }
    }

    /// That of a source that was told to stop.
    pub(super) fn stopped() -> End {
        End::new("stopped", 0)
    }
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        End { hint: error.hint.clone(), ..End::new(error.to_string(), error.kind.code() as u8) }
    }
}

/// The log's target for how a source fares.
pub(super) const LOG: &str = "gsk::pipeline";

/// What a source works with.
pub struct Context {
    pub pool: Pool,
    pub inputs: Arc<Inputs>,
    pub stop: Stop,
}

/// Readable once the pipeline stops: what a blocking read polls beside its own descriptor.
#[derive(Clone)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    pub fn new() -> Result<Stop> {
        let fd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)
            .map_err(|e| Error::io("cannot make an eventfd", e.into()))?;
        Ok(Stop(Arc::new(fd)))
    }

    pub fn stop(&self) {
        // An eventfd takes this write unless it holds 2^64 - 2 already, and then it is readable anyway.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A source of frames, used from the one thread that opened it.
pub trait Source {
    /// What it is, once that is known (a pipe's first bytes tell).
    fn info(&self) -> Option<&Info>;

    /// Whether frames are drawn at our deadlines, and only on demand; otherwise `next` blocks until one comes.
    fn paced(&self) -> bool;

    /// Nobody watches what is drawn: gives back the memory of a GPU that pictures take. The next frame is a new one, and not
    /// [`Next::Unchanged`].
    fn rest(&mut self) {}

    /// The next frame. Returns [`Next::End`] soon after the context's stop.
    fn next(&mut self, context: &Context) -> Result<Next>;
}

/// Opens a source on the thread that will use it. Returns at once: first bytes are waited for by [`Source::next`].
pub fn open(options: &Options, context: &Context) -> Result<Box<dyn Source>> {
    options.size.map(Size::check).transpose()?;
    Ok(match &options.spec {
        Spec::Scene => Box::new(scene_source::SceneSource::open(options)),
        Spec::Stdin => Box::new(pipe::Stdin::open(options, context)?),
        Spec::Program(argv) => Box::new(program::Program::start(argv, options, context)?),
        Spec::File(path) => Box::new(file::File::open(path, options)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_refused() {
        let cases = [
            ("scene", Ok(Spec::Scene)),
            ("-", Ok(Spec::Stdin)),
            ("/a/b.Y4M", Ok(Spec::File("/a/b.Y4M".into()))),
            ("scen", Err("did you mean 'scene'?")),
            ("film.mp4", Err("FILE.y4m")),
        ];
        for (text, expected) in cases {
            match (text.parse::<Spec>(), expected) {
                (Ok(source), Ok(expected)) => assert_eq!((&source, source.to_string()), (&expected, text.to_string())),
                (Err(error), Err(hint)) => assert!(error.hint.unwrap().contains(hint), "{text}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }
}
