//! Ctrl-C and its like, while a program is profiled: they go to the program first.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::process::{Pid, Signal};

use crate::error::Result;
use crate::{exit, proc, signals};

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nobody: the program is over, and what is left to do is short. The first is noted, one more ends us.
    Nobody,
    /// It asks the built-in run to end; a second one ends us.
    Run,
    /// It goes to a program, by its process, and what that started; a second one ends them all.
    Program(u32),
    /// It goes to what nsys, whose process this is, started; a second one ends them all.
    Nsys(u32),
    /// It ends a program that only reads a report.
    Reader(u32),
}

/// The signals that were caught, from its making to the process's end.
pub struct Interrupts {
    stop: Arc<AtomicBool>,
    state: Mutex<State>,
}

struct State {
    target: Target,
    /// The first signal that the target was sent.
    sent: Option<Signal>,
    /// It came to a process of the program.
    arrived: bool,
    /// The last of all.
    came: Option<Signal>,
    /// The one that made an end of a program that had been asked to end.
    forced: Option<Signal>,
}

impl Interrupts {
    /// Catches them. They ask what watches [`Interrupts::stop`] to end, until there is a program.
    pub fn catch() -> Result<Arc<Interrupts>> {
        let state = State { target: Target::Run, sent: None, arrived: false, came: None, forced: None };
        let interrupts = Arc::new(Interrupts { stop: Arc::default(), state: Mutex::new(state) });
        let caught = interrupts.clone();
        signals::each(move |signal| caught.state().take(signal, &caught.stop))?;
        Ok(interrupts)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Set when the built-in run is to end.
    pub fn stop(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// The last signal that came.
    pub fn came(&self) -> Option<Signal> {
        self.state().came
    }

    /// The signal that made an end of a program that had been asked to end.
    pub fn forced(&self) -> Option<Signal> {
        self.state().forced
    }

    /// From now on signals go to `target`, until what this gives is dropped; from then on to [`Target::Nobody`].
    pub fn pass_to(&self, target: Target) -> Passing<'_> {
        let mut state = self.state();
        // One that came before there was a program is its.
        let early = state.sent.take().filter(|_| state.target == Target::Run);
        state.target = target;
        if let Some(signal) = early {
            state.take(signal, &self.stop);
        }
        Passing(self)
    }
}

impl State {
    fn take(&mut self, signal: Signal, stop: &AtomicBool) {
        self.came = Some(signal);
        let again = self.sent.is_some();
        self.sent.get_or_insert(signal);
        match self.target {
            Target::Run | Target::Nobody if again => exit::by_signal(signal),
            Target::Nobody => {}
            Target::Run => stop.store(true, SeqCst),
            Target::Reader(pid) => send(pid, Signal::KILL),
            Target::Program(pid) => {
                self.pass(pid, family(pid), again, signal);
            }
            Target::Nsys(nsys) => {
                let trained = |&pid: &u32| pid != nsys && !is_nsys(pid);
                let all: Vec<u32> = family(nsys).into_iter().filter(trained).collect();
                let none = all.is_empty();
                match self.pass(nsys, all, again, signal) {
                    false => {}
                    true if none => {
                        tracing::warn!("nsys starts the program, or writes its report: once more gives it up")
                    }
                    true => tracing::warn!(
                        "the program is asked to end; nsys then writes its report: once more gives it up"
                    ),
                }
            }
        }
    }

    /// Sends it to `all` of a program; but makes an end of `first`, and so of what that started, where an earlier one
    /// came to some of them, or neither finds any; then it gives `false`.
    fn pass(&mut self, first: u32, all: Vec<u32>, again: bool, signal: Signal) -> bool {
        if again && (self.arrived || all.is_empty()) {
            self.forced = Some(signal);
            // Its guard then ends what it started.
            send(first, Signal::KILL);
            return false;
        }
        self.arrived |= !all.is_empty();
        all.into_iter().for_each(|pid| send(pid, signal));
        true
    }
}

/// While signals go to a program.
pub struct Passing<'a>(&'a Interrupts);

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.target, state.sent, state.arrived) = (Target::Nobody, None, false);
    }
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        // One that has ended needs no signal.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A guarded program and all that it started. What lost its parent has the guard for one.
fn family(program: u32) -> Vec<u32> {
    let Some(guard) = proc::parent(program) else { return Vec::new() };
    let below = |&pid: &u32| pid != guard && proc::line(pid, proc::parent).any(|above| above == guard);
    proc::pids().into_iter().filter(below).collect()
}

/// Whether a process is one of nsys's own, by the file that it runs.
fn is_nsys(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|file| is_nsys_file(&file))
}

fn is_nsys_file(file: &Path) -> bool {
    let text = file.to_string_lossy().to_ascii_lowercase();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    text.contains("nsight-systems") || text.contains("nsight_systems") || name.starts_with("nsys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nsys_is_known_by_where_it_lies_and_its_name() {
        for ours in [
            "/opt/nvidia/nsight-systems/2025.3.1/target-linux-x64/nsys",
            "/opt/nvidia/nsight-systems/2025.3.1/target-linux-x64/QuadDDaemon",
            "/usr/lib/x86_64-linux-gnu/nsight_systems/nsys-launcher",
            "/usr/local/bin/nsys",
        ] {
            assert!(is_nsys_file(Path::new(ours)), "{ours}");
        }
        for other in ["/usr/bin/python3.11", "/home/a/nsight/train", "/usr/bin/sh"] {
            assert!(!is_nsys_file(Path::new(other)), "{other}");
        }
    }
}
