//! A program whose standard output carries frames; input events go to its standard input as JSON lines, and its
//! standard error to the log.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::os::fd::OwnedFd;
use std::process::{ChildStderr, ChildStdin};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::pipe::{Frames, Read, Ready, wait};
use super::{Context, End, Info, Next, Options, Source};
use crate::child::Guarded;
use crate::error::{Error, Result};
use crate::pipeline::inputs::Inputs;

/// A running program.
pub struct Program {
    name: String,
    child: Guarded,
    output: Output,
    inputs: Arc<Inputs>,
    writer: Option<JoinHandle<()>>,
}

enum Output {
    Frames(Frames),
    /// It gave something else: read on and forgotten, so that the program runs to its end.
    Discarded(OwnedFd, String),
    /// Closed, with what that says of the last frame.
    Closed(Option<String>),
}

impl Program {
    pub fn start(argv: &[OsString], options: &Options, context: &Context) -> Result<Program> {
        let name = options.spec.name();
        let (child, stdin, stdout, stderr) = Guarded::spawn(argv)?;
        let inputs = context.inputs.clone();
        inputs.reopen();
        let events = inputs.clone();
        let writer = thread("inputs", move || write_inputs(&events, stdin))?;
        let of = name.clone();
        thread("stderr", move || log_lines(&of, stderr))?;
        let frames = Frames::new(stdout.into(), options, &context.stop);
        Ok(Program { name, child, output: Output::Frames(frames), inputs, writer: Some(writer) })
    }

    /// Waits for the program's end.
    fn finish(&mut self, context: &Context, reason: Option<&str>) -> Result<Next> {
        if let Ready::Stopped = wait(&self.child.pidfd()?, &context.stop, None)? {
            self.child.end();
        }
        let ended = self.child.wait()?;
        let mut words = format!("'{}' {}", self.name, ended.words);
        let mut code = ended.code;
        if let Some(reason) = reason {
            words = format!("{words}; {reason}");
            code = code.max(1);
        }
        Ok(Next::End(End::failed(words, code)))
    }
}

impl Source for Program {
    fn info(&self) -> Option<&Info> {
        match &self.output {
            Output::Frames(frames) => frames.info(),
            _ => None,
        }
    }

    fn paced(&self) -> bool {
        false
    }

    fn next(&mut self, context: &Context) -> Result<Next> {
        match &mut self.output {
            Output::Frames(frames) => match frames.next(context) {
                Ok(Read::Frame(frame)) => Ok(Next::Frame(frame)),
                Ok(Read::Stalled(reason)) => Ok(Next::Stalled(format!("'{}': {reason}", self.name))),
                Ok(Read::Stopped) => self.finish(context, None),
                Ok(Read::End(cut)) => {
                    self.output = Output::Closed(cut);
                    Ok(Next::Stalled(format!("'{}' closed its output", self.name)))
                }
                Err(error) => {
                    let fd = frames.try_clone_fd()?;
                    let reason = format!("'{}': {error}", self.name);
                    self.output = Output::Discarded(fd, error.to_string());
                    Ok(Next::Stalled(reason))
                }
            },
            Output::Discarded(fd, reason) => {
                Frames::discard(fd, &context.stop)?;
                let reason = reason.clone();
                self.finish(context, Some(&reason))
            }
            Output::Closed(cut) => {
                let cut = cut.take();
                self.finish(context, cut.as_deref())
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.end();
        self.inputs.close();
        if let Some(writer) = self.writer.take() {
            // It has nobody left to write to.
            let _ = writer.join();
        }
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let started = std::thread::Builder::new().name(name.into()).spawn(run);
    started.map_err(|error| Error::io("cannot start a thread", error))
}

/// One JSON object a line. A program that closes its standard input, or ends, wants no more.
fn write_inputs(inputs: &Inputs, mut stdin: ChildStdin) {
    while let Some(input) = inputs.wait() {
        let Ok(mut line) = serde_json::to_vec(&input) else { continue };
        line.push(b'\n');
        if stdin.write_all(&line).is_err() {
            return;
        }
        inputs.given(input.view);
    }
}

/// A line longer than this is cut into several.
const LOG_LINE: u64 = 2000;

fn log_lines(name: &str, stderr: ChildStderr) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = stderr.by_ref().take(LOG_LINE).read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(&line);
        tracing::info!(program = name, "{}", crate::output::text::sanitise(text.trim_end()));
        line.clear();
    }
}
