//! A folder with a scripted nsys, and gsk run in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub const GSK: &str = env!("CARGO_BIN_EXE_gsk");
/// The folder of the tests' own files.
const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/train");

pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// Without nsys.
    pub fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    /// With the script as nsys on the PATH.
    pub fn with_nsys() -> Place {
        let place = Place::new();
        fs::create_dir(place.path("bin")).unwrap();
        fs::copy(format!("{HERE}/nsys.sh"), place.path("bin/nsys")).unwrap();
        fs::set_permissions(place.path("bin/nsys"), fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command in this place's folder and an environment of its own. A group of its own, as a shell makes one.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir.path()).env_clear().env("HOME", self.dir.path()).process_group(0);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        command.env("NSYS_SEEN", self.path("seen")).env("NSYS_REPORTS", format!("{HERE}/reports"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn gsk(&self, words: &[&str]) -> Command {
        let mut command = self.command(GSK);
        command.arg("train-nvtx").args(words);
        command
    }

    pub fn run(&self, words: &[&str]) -> Answer {
        Answer::of(self.gsk(words).output().unwrap())
    }

    /// The same as a JSON document.
    pub fn json(&self, words: &[&str]) -> (Answer, Value) {
        let answer = Answer::of(self.gsk(&[&["--json"], words].concat()).output().unwrap());
        let document = serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        (answer, document)
    }

    /// As nsys in a mode.
    pub fn mode(&self, mode: &str, words: &[&str]) -> (Answer, Value) {
        let mut command = self.gsk(&[&["--json"], words].concat());
        let answer = Answer::of(command.env("NSYS_MODE", mode).output().unwrap());
        let document = serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        (answer, document)
    }

    /// What nsys was told, call by call.
    pub fn seen(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.path("seen")).unwrap_or_default();
        text.split("\n\n")
            .map(|call| call.lines().map(Into::into).collect())
            .filter(|call: &Vec<_>| !call.is_empty())
            .collect()
    }

    /// The files of the runs.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("profiling_output")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Of a run, by its name in a document.
    pub fn manifest(&self, run: &Value) -> Value {
        let name = format!("profiling_output/{}.run.json", run["name"].as_str().unwrap());
        serde_json::from_slice(&fs::read(self.path(&name)).unwrap()).unwrap()
    }
}

#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub fn of(output: Output) -> Answer {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let signal = output.status.signal();
        Answer { code: output.status.code(), signal, out: text(output.stdout), err: text(output.stderr) }
    }
}

/// The example's program, as words behind `--`.
pub fn example() -> Vec<&'static str> {
    vec!["--", "python3", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/train.py")]
}

/// Builds the library that NVTX is to tell its ranges.
pub fn injection(into: &Path) -> PathBuf {
    let library = into.join("libinjection.so");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden", "-o"];
    let status = Command::new(compiler).args(flags).arg(&library).arg(format!("{HERE}/injection.c")).status();
    assert!(status.unwrap().success());
    library
}
