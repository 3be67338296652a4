//! Ctrl-C and its like, while a program is profiled: they go to the program first.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal};

use crate::error::Result;
use crate::{exit, proc, signals};

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// It ends us.
    Us,
    /// It asks the built-in run to end; a second one ends us.
    Run,
    /// It goes to a program and what that started; a second one ends them all.
    Program(u32),
    /// It goes to what nsys, whose process this is, started; a second one ends them all.
    Nsys(u32),
}

/// The signals that were caught, from its making to the process's end.
pub struct Interrupts {
    stop: Arc<AtomicBool>,
    came: AtomicI32,
    /// A second one came, which ended what was to end by itself.
    forced: AtomicBool,
    target: Mutex<Target>,
}

impl Interrupts {
    /// Catches them. They ask what watches [`Interrupts::stop`] to end, until there is a program.
    pub fn catch() -> Result<Arc<Interrupts>> {
        let interrupts = Arc::new(Interrupts {
            stop: Arc::default(),
            came: AtomicI32::new(0),
            forced: AtomicBool::new(false),
            target: Mutex::new(Target::Run),
        });
        let caught = interrupts.clone();
        signals::each(move |signal| caught.take(signal))?;
        Ok(interrupts)
    }

    fn take(&self, signal: Signal) {
        let again = self.came.swap(signal.as_raw(), SeqCst) != 0;
        let target = *self.target.lock().unwrap();
        match target {
            Target::Us => exit::by_signal(signal),
            Target::Run if again => exit::by_signal(signal),
            Target::Run => self.stop.store(true, SeqCst),
            // Its guard then ends what it started.
            Target::Program(pid) | Target::Nsys(pid) if again => {
                self.forced.store(true, SeqCst);
                send(pid, Signal::KILL);
            }
            Target::Program(pid) => family(pid).into_iter().for_each(|pid| send(pid, signal)),
            Target::Nsys(nsys) => {
                match family(nsys).into_iter().filter(|&pid| pid != nsys && !is_nsys(pid)).collect() {
                    // It has not started the program yet, or writes its report.
                    all if Vec::is_empty(&all) => send(nsys, signal),
                    all => all.into_iter().for_each(|pid| send(pid, signal)),
                }
            }
        }
    }

    /// Set when the built-in run is to end.
    pub fn stop(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// The last signal that came.
    pub fn came(&self) -> Option<Signal> {
        Signal::from_named_raw(self.came.load(SeqCst))
    }

    /// The signal that came again, and made an end of the program.
    pub fn forced(&self) -> Option<Signal> {
        self.came().filter(|_| self.forced.load(SeqCst))
    }

    /// From now on signals go to a program, until what this gives is dropped; from then on they end us.
    pub fn pass_to(&self, pid: u32, nsys: bool) -> Passing<'_> {
        *self.target.lock().unwrap() = if nsys { Target::Nsys(pid) } else { Target::Program(pid) };
        // One may have come before.
        if let Some(signal) = self.came() {
            self.came.store(0, SeqCst);
            self.take(signal);
        }
        Passing(self)
    }
}

/// While signals go to a program.
pub struct Passing<'a>(&'a Interrupts);

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        *self.0.target.lock().unwrap() = Target::Us;
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
