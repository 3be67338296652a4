//! A test in two processes: it starts itself again, in a role, with a scene's driver.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};

use crate::standin::Scene;

const ROLE: &str = "STANDIN_ROLE";

/// What this process is to do, if it is not the test itself.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// The test of this name again, in a role.
pub fn command(scene: &Scene, test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    scene.apply(&mut command).env(ROLE, role).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end, which is a good one. Its pid.
pub fn run(scene: &Scene, test: &str, role: &str) -> u32 {
    succeed(command(scene, test, role))
}

pub fn succeed(mut command: Command) -> u32 {
    let child = command.spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", text(&output));
    let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(ran, "no such test: {command:?}\n{}", text(&output));
    pid
}

pub fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A child that does its part, then stays until it is told to go or killed.
pub struct Staying(Child);

impl Staying {
    pub fn start(scene: &Scene, test: &str, role: &str) -> Staying {
        Staying(command(scene, test, role).stdin(Stdio::piped()).spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// `kill -9`. The process is not waited for: dead, but still in the table.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
    }

    /// Tells it to go, and waits for its good end.
    pub fn end(mut self) {
        drop(self.0.stdin.take());
        let (mut out, mut err) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(self.0.wait().unwrap().success(), "{out}\n{err}");
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child's side of [`Staying`]: returns when it is told to go.
pub fn stay() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
