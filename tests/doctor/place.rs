//! A machine of its own: a driver, a lease directory, and processes that hold slots in all the ways there are.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use gsk::lease::Pool;
use gsk::proc;
use gsk::wire::lease::Record;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::gsk::{Gsk, SOON, until};
use crate::standin::Scene;

pub struct Place {
    pub scene: Scene,
    pub home: tempfile::TempDir,
}

/// What a command said in the end.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Place {
    pub fn new(scene: Scene) -> Place {
        Place { scene, home: tempfile::tempdir().unwrap() }
    }

    pub fn leases(&self) -> PathBuf {
        self.home.path().join("leases")
    }

    pub fn pool(&self) -> Pool {
        Pool::at(&self.leases()).unwrap()
    }

    /// A command with this machine's environment and nothing else of ours in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.home.path()).env_clear().env("HOME", self.home.path());
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("GSK_LEASE_DIR", self.leases());
        self.scene.apply(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn gsk(&self, words: &[&str]) -> Answer {
        let output = self.command(env!("CARGO_BIN_EXE_gsk")).args(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Answer { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    pub fn json(&self, words: &[&str]) -> (i32, Value) {
        let answer = self.gsk(&[words, &["--json"]].concat());
        (answer.code, answer.json())
    }

    /// A worker that draws 160x96 pictures.
    pub fn worker(&self, number: usize, words: &[&str]) -> Gsk {
        let instance = format!("omega-{number}");
        let draws = "while :; do head -c 46080 /dev/urandom; sleep 0.03; done";
        let mut all = vec!["--instance-id", &instance, "--size", "160x96", "--pixel-format", "rgb24"];
        all.extend(words);
        all.extend(["--", "sh", "-c", draws]);
        Gsk::with(&all, |command| {
            self.scene.apply(command).env("GSK_LEASE_DIR", self.leases());
        })
    }

    /// `gsk lease run` with a shell that starts a `sleep` and waits for it: its owner, and an inheritor of the lock.
    pub fn lease(&self, instance: &str) -> Lease {
        let mut command = self.command(env!("CARGO_BIN_EXE_gsk"));
        command.args(["lease", "run", "--slots", "64", "--instance-id", instance, "--", "sh", "-c"]);
        command.arg("sleep 1000 & echo $!; wait");
        let mut owner = command.spawn().unwrap();
        let inheritor = first_number(&mut owner);
        Lease { owner, inheritor }
    }

    /// An inheritor whose owner is dead.
    pub fn orphan(&self, instance: &str) -> Orphan {
        let mut lease = self.lease(instance);
        lease.owner_dies();
        Orphan { owner: lease.owner.id(), pid: lease.inheritor }
    }

    /// Writes a record into a slot's file, as any user of the machine could.
    pub fn forge(&self, slot: u32, record: &Record) {
        let file = std::fs::File::options().write(true).open(self.leases().join(format!("slot-{slot}"))).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &record.block(), 0).unwrap();
    }

    /// The slot that a process has in its record.
    pub fn slot_of(&self, owner: u32) -> u32 {
        let slots = self.pool().slots().unwrap();
        slots.iter().find(|seen| seen.record.as_ref().is_some_and(|record| record.pid == owner)).unwrap().index
    }
}

fn first_number(child: &mut Child) -> u32 {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim().parse().unwrap_or_else(|_| panic!("no number: {line:?}"))
}

/// A record that names a process by this start.
pub fn record(pid: u32, start: u64) -> Record {
    Record { pid, start, pid_namespace: proc::own_namespace(), instance_id: "omega-9".into(), ..Record::default() }
}

pub fn start_of(pid: u32) -> u64 {
    proc::stat(pid).unwrap().start
}

pub fn alive(pid: u32) -> bool {
    proc::stat(pid).is_some_and(|stat| !stat.ended)
}

pub fn kill(pid: u32, signal: Signal) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), signal);
}

pub fn children(pid: u32) -> Vec<u32> {
    proc::pids().into_iter().filter(|&child| proc::stat(child).is_some_and(|stat| stat.parent == pid)).collect()
}

/// A holder by `gsk lease run`. Dropping it ends all of it.
pub struct Lease {
    pub owner: Child,
    pub inheritor: u32,
}

impl Lease {
    /// As after the kernel has killed it for memory: neither gsk nor its guard come to do anything.
    pub fn owner_dies(&mut self) {
        let guards = children(self.owner.id());
        guards.iter().for_each(|&guard| kill(guard, Signal::STOP));
        self.owner.kill().unwrap();
        self.owner.wait().unwrap();
        for &guard in &guards {
            kill(guard, Signal::KILL);
            until(SOON, "the guard's end", || (!alive(guard)).then_some(()));
        }
        assert!(alive(self.inheritor));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.owner.kill();
        let _ = self.owner.wait();
    }
}

pub struct Orphan {
    /// Its dead owner.
    pub owner: u32,
    pub pid: u32,
}

impl Drop for Orphan {
    fn drop(&mut self) {
        kill(self.pid, Signal::KILL);
    }
}

/// A process that has nothing to do with any of this. Dropping it ends it.
pub struct Bystander(Child);

impl Bystander {
    /// Its command line holds these words.
    pub fn start(words: &[&str]) -> Bystander {
        let mut command = Command::new("sleep");
        command.arg0(words.join(" ")).arg("1000").stdin(Stdio::null()).stdout(Stdio::null());
        Bystander(command.spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
