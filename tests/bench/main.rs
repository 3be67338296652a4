//! `gsk bench` from end to end, with small pictures, and its gates over samples that were recorded on a real machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

#[path = "../standin/mod.rs"]
mod standin;

mod gates;
mod planted;
mod run;
mod workers;

const GSK: &str = env!("CARGO_BIN_EXE_gsk");

/// A host without a GPU, and a folder to work in.
struct Host {
    home: tempfile::TempDir,
}

impl Host {
    fn new() -> Host {
        Host { home: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(GSK);
        command.current_dir(self.home.path()).env_clear().env("HOME", self.home.path());
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("GSK_LEASE_DIR", self.path("leases"));
        command.arg("bench").args(words).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Of a run that answers: its code and its document.
    fn json(&self, words: &[&str]) -> (i32, Value) {
        let output = self.run(&[words, &["--json"]].concat());
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!(json["schema"], serde_json::json!({"name": "gsk.bench", "version": 1}));
        (output.status.code().unwrap(), json)
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Standard error of a run that is refused as wrong use.
fn refused(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}
