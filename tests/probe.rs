//! `gsk nvenc-status --probe` over the stand-in driver.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use standin::{Board, Foreign, Scene};

#[path = "standin/mod.rs"]
mod standin;

/// A driver, and a lease directory that nobody else uses.
struct Machine {
    scene: Scene,
    home: tempfile::TempDir,
}

impl Machine {
    fn new(scene: Scene) -> Machine {
        Machine { scene, home: tempfile::tempdir().unwrap() }
    }

    fn leases(&self) -> PathBuf {
        self.home.path().join("leases")
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gsk"));
        command.args(words).current_dir(self.home.path()).stdin(Stdio::null()).env_clear();
        self.scene.apply(&mut command).env("HOME", self.home.path()).env("GSK_LEASE_DIR", self.leases());
        command.env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap()
    }

    fn limit(&self, words: &[&str]) -> Value {
        let done = self.run(&[&["nvenc-status", "--json"], words].concat());
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice::<Value>(&done.stdout).unwrap()["limit"].clone()
    }
}

/// A GeForce driver that bears more or fewer than the table says.
fn bears(sessions: u32, code: u32) -> Scene {
    let mut scene = Scene::geforce(sessions);
    scene.limit(sessions, code);
    scene
}

#[test]
fn it_counts_until_the_driver_refuses_and_the_answer_is_used() {
    for code in [10, 21] {
        let mut scene = bears(5, code);
        scene.foreign(Foreign::new(0, 4242));
        let machine = Machine::new(scene);
        let before = machine.limit(&[]);
        assert_ne!(before["sessions"], 5);
        let done = machine.run(&["nvenc-status", "--probe"]);
        let words = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(0), "{words}");
        assert!(
            words.contains("bears 5 encoder sessions; the next: ") && words.contains(&format!("returned {code} ")),
            "{words}"
        );
        assert_eq!(machine.scene.events("open").len(), 4, "one was another program's");
        assert_eq!((machine.scene.sessions().len(), machine.scene.events("close").len()), (0, 4));
        let after = machine.limit(&[]);
        assert_eq!((&after["kind"], &after["sessions"]), (&"sessions".into(), &5.into()));
        assert!(after["from"].as_str().unwrap().contains("tried at 20"), "{after}");
        // What is set outranks what was seen.
        assert_eq!(machine.limit(&["--slots", "2"])["sessions"], 2);
    }
}

#[test]
fn another_drivers_answer_is_not_this_ones() {
    let mut machine = Machine::new(bears(5, 21));
    machine.limit(&["--probe"]);
    machine.scene.version("470.57.02");
    let limit = machine.limit(&[]);
    assert_eq!(limit["sessions"], 3);
    assert!(limit["from"].as_str().unwrap().contains("support table"), "{limit}");
}

#[test]
fn an_answer_that_anybody_could_have_written_is_not_believed() {
    let machine = Machine::new(bears(5, 21));
    machine.limit(&["--probe"]);
    let trial = machine.leases().join("trial");
    std::fs::set_permissions(&trial, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert_ne!(machine.limit(&[])["sessions"], 5);
    std::fs::set_permissions(&trial, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(machine.limit(&[])["sessions"], 5);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&trial, Some(65_534), None).unwrap();
        assert_ne!(machine.limit(&[])["sessions"], 5);
    }
}

#[test]
fn without_a_limit_it_is_broken_off() {
    let machine = Machine::new(Scene::rtx());
    let limit = machine.limit(&["--probe"]);
    assert_eq!(limit["kind"], "unlimited");
    assert_eq!(machine.scene.events("open").len(), 24);
    assert!(machine.scene.sessions().is_empty());
}

#[test]
fn what_cannot_be_tried_is_told() {
    let mut short = Scene::of(Board::geforce().memory_mib(8192, 8000).session_mib(512));
    short.limit(3, 10);
    for (scene, says) in [
        (Scene::h200(), "has no NVENC engine"),
        (Scene::without_driver(), "there are no encoder sessions to try"),
        (short, "memory"),
    ] {
        let machine = Machine::new(scene);
        let done = machine.run(&["nvenc-status", "--probe"]);
        let words = String::from_utf8(done.stderr).unwrap();
        assert!(words.contains(says) && words.contains("hint: "), "{words}");
        assert!(matches!(done.status.code(), Some(1 | 3 | 6)), "{:?}: {words}", done.status);
        assert!(!machine.leases().join("trial").exists() && machine.scene.sessions().is_empty());
    }
}

#[test]
fn other_boards_are_another_machine() {
    let mut machine = Machine::new(bears(5, 21));
    assert_eq!(machine.limit(&["--probe"])["sessions"], 5);
    let file = std::fs::read(machine.leases().join("trial")).unwrap();
    machine.scene = Scene::h200();
    std::fs::write(machine.leases().join("trial"), file).unwrap();
    assert_eq!(machine.limit(&[])["sessions"], 0);
    let done = machine.run(&["lease", "run", "--wait", "60s", "--", "true"]);
    let words = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(3), "{words}");
    assert!(words.contains("no NVENC engine") && !words.contains("--wait"), "{words}");
    machine.scene = bears(5, 21);
    machine.scene.board(Board::geforce());
    assert_ne!(machine.limit(&[])["sessions"], 5, "one board more");
}
