//! A program whose standard output carries frames; input events go to its standard input as JSON lines, and its
//! standard error to the log.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::process::{ChildStderr, ChildStdin};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::pipe::{Frames, Read, Ready, wait};
use super::{Context, End, Info, Next, Options, Source};
use crate::child::Guarded;
use crate::error::{Error, Result};
use crate::pipeline::inputs::Inputs;

/// A running program.
pub struct Program {
    name: String,
    child: Guarded,
    frames: Frames,
    output: Output,
    /// Whether the log has what is wrong with its output.
    told: bool,
    inputs: Arc<Inputs>,
    stderr: Helper,
    stdin: Helper,
}

enum Output {
    Frames,
    /// It gave something else: read on and forgotten, so that the program runs to its end.
    Discarded(Error),
    /// Closed, with what that says of the last frame.
    Closed(Option<String>),
}

impl Program {
    /// A program that ends closes its output a little earlier, which is not worth a word.
    const ENDING_US: u64 = 200_000;

    pub fn start(argv: &[OsString], options: &Options, context: &Context) -> Result<Program> {
        let name = options.spec.name();
        let (child, stdin, stdout, stderr) = Guarded::spawn(argv)?;
        let of = name.clone();
        let stderr = Helper::start("stderr", move || log_lines(&of, stderr))?;
        let inputs = context.inputs.clone();
        inputs.reopen();
        let events = inputs.clone();
        let stdin = Helper::start("inputs", move || write_inputs(&events, stdin))?;
        let frames = Frames::new(stdout.into(), options, &context.stop);
        Ok(Program { name, child, frames, output: Output::Frames, told: false, inputs, stderr, stdin })
    }

    /// Waits for the program's end.
    fn finish(&mut self, context: &Context) -> Result<Next> {
        if let Ready::Stopped = wait(&self.child, &context.stop, None)? {
            return Ok(Next::End(End::stopped()));
        }
        let ended = self.child.wait();
        // Its last words come before the news of its end.
        self.stderr.finish();
        let words = format!("'{}' {}", self.name, ended.words);
        let end = match &self.output {
            Output::Discarded(error) => {
                let code = if ended.code == 0 { error.kind.code() as u8 } else { ended.code };
                End { hint: error.hint.clone(), ..End::new(format!("{words}; {error}"), code) }
            }
            Output::Closed(Some(cut)) => End::new(format!("{words}; {cut}"), ended.code.max(1)),
            Output::Closed(None) | Output::Frames => End::new(&words, ended.code),
        };
        Ok(Next::End(End { brief: self.told.then_some(words), ..end }))
    }
}

impl Source for Program {
    fn info(&self) -> Option<&Info> {
        self.frames.info()
    }

    fn paced(&self) -> bool {
        false
    }

    fn next(&mut self, context: &Context) -> Result<Next> {
        match &self.output {
            Output::Frames => match self.frames.next(context) {
                Ok(Read::Frame(frame)) => Ok(Next::Frame(frame)),
                Ok(Read::Stalled(reason)) => Ok(Next::Stalled(format!("'{}': {reason}", self.name))),
                Ok(Read::Stopped) => Ok(Next::End(End::stopped())),
                Ok(Read::End(cut)) => {
                    let also = cut.as_ref().map_or_else(String::new, |cut| format!("; {cut}"));
                    self.output = Output::Closed(cut);
                    match wait(&self.child, &context.stop, Some(Program::ENDING_US))? {
                        Ready::TimedOut => {
                            self.told = true;
                            Ok(Next::Stalled(format!("'{}' closed its output{also}", self.name)))
                        }
                        _ => self.finish(context),
                    }
                }
                Err(error) => {
                    let reason = format!("'{}': {error}", self.name);
                    self.output = Output::Discarded(error);
                    self.told = true;
                    Ok(Next::Stalled(reason))
                }
            },
            Output::Discarded(_) => match self.frames.discard()? {
                Read::Stopped => Ok(Next::End(End::stopped())),
                _ => self.finish(context),
            },
            Output::Closed(_) => self.finish(context),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.end();
        self.inputs.close();
        self.stdin.finish();
        self.stderr.finish();
    }
}

/// A thread that ends by itself once the program is gone.
struct Helper {
    thread: Option<JoinHandle<()>>,
    /// Disconnected once the thread is over.
    over: Receiver<()>,
}

impl Helper {
    /// How long its end is waited for: beyond it, some process hangs in the kernel with our pipe in its hands.
    const PATIENCE: Duration = Duration::from_millis(200);

    fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<Helper> {
        let (running, over) = channel();
        let whole = move || {
            run();
            drop(running);
        };
        let started = std::thread::Builder::new().name(name.into()).spawn(whole);
        let thread = started.map_err(|error| Error::io("cannot start a thread", error))?;
        Ok(Helper { thread: Some(thread), over })
    }

    fn finish(&mut self) {
        if self.over.recv_timeout(Helper::PATIENCE) == Err(RecvTimeoutError::Disconnected)
            && let Some(thread) = self.thread.take()
        {
            // A panic there has been reported by its thread.
            let _ = thread.join();
        }
    }
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
