//! `gsk cleanup` and pid namespaces: each is cleaned up from within.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::gsk::{SOON, until};
use crate::place::{Place, alive, children, kill};
use crate::standin::Scene;

/// A pid namespace of its own with a shell as its first process, which reads commands. Dropping it ends all in it.
struct Inside {
    unshare: Child,
    out: BufReader<ChildStdout>,
}

impl Inside {
    /// `None` where the system does not let us.
    fn enter(place: &Place) -> Option<Inside> {
        let allowed =
            Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).stderr(Stdio::null()).status();
        if !allowed.is_ok_and(|status| status.success()) {
            println!("skipped: unshare --pid is not allowed here");
            return None;
        }
        let mut command = place.command("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh"]).stdin(Stdio::piped());
        let mut unshare = command.spawn().unwrap();
        let out = BufReader::new(unshare.stdout.take().unwrap());
        Some(Inside { unshare, out })
    }

    fn say(&mut self, line: &str) {
        let stdin = self.unshare.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim().to_string()
    }

    /// An orphan in here: its number out there.
    fn orphan(&mut self) -> u32 {
        let gsk = env!("CARGO_BIN_EXE_gsk");
        self.say(&format!("{gsk} lease run --slots 64 -- sh -c 'sleep 1000 & echo started; wait' &"));
        assert_eq!(self.line(), "started");
        let only = |pid: u32| *children(pid).first().expect("a child");
        let owner = only(only(self.unshare.id()));
        let guard = only(owner);
        let sleep = only(only(guard));
        kill(guard, Signal::STOP);
        for pid in [owner, guard] {
            kill(pid, Signal::KILL);
            until(SOON, "its end", || (!alive(pid)).then_some(()));
        }
        assert!(alive(sleep));
        sleep
    }

    /// A command's document and exit code.
    fn json(&mut self, place: &Place, words: &str) -> (i32, Value) {
        self.say(&format!("{} {words} --json > document; echo code $?", env!("CARGO_BIN_EXE_gsk")));
        let code = self.line();
        let code = code.strip_prefix("code ").and_then(|code| code.parse().ok());
        let text = std::fs::read_to_string(place.home.path().join("document")).unwrap();
        (code.unwrap_or_else(|| panic!("{text}")), serde_json::from_str(&text).unwrap())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // The first process's end takes the namespace with it.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

fn item(document: &Value, key: &str, value: &str) -> Value {
    let items = document["items"].as_array().unwrap();
    items.iter().find(|item| item[key].as_str().is_some_and(|text| text.contains(value))).cloned().unwrap_or_default()
}

#[test]
fn in_a_namespace_of_its_own_it_ends_what_is_in_there() {
    let place = Place::new(Scene::without_driver());
    let Some(mut inside) = Inside::enter(&place) else { return };
    let outer = place.orphan("omega-0");
    let inner = inside.orphan();
    let (code, done) = inside.json(&place, "cleanup --kill --leases");
    assert_eq!((code, alive(inner), alive(outer.pid)), (0, false, true), "{done:#}");
    assert_eq!(item(&done, "slot", "slot-1")["outcome"], "ended", "{done:#}");
    let left = item(&done, "slot", "slot-0");
    assert_eq!((&left["action"], &left["pid"]), (&"leave".into(), &Value::Null), "{done:#}");
    assert!(left["why"].as_str().unwrap().contains("of another pid namespace"), "{left}");
}

#[test]
fn what_another_namespace_left_is_told_and_not_touched() {
    let place = Place::new(Scene::without_driver());
    let Some(mut inside) = Inside::enter(&place) else { return };
    let inner = inside.orphan();
    let (code, done) = place.json(&["cleanup", "--kill"]);
    assert_eq!((code, alive(inner)), (4, true), "{done:#}");
    let left = item(&done, "kind", "zombie");
    assert_eq!((&left["action"], &left["pid"]), (&"leave".into(), &inner.into()), "{done:#}");
    assert!(left["why"].as_str().unwrap().contains("run gsk cleanup there"), "{left}");
    kill(inner, Signal::KILL);
    until(SOON, "its end", || (!place.pool().slots().unwrap()[0].held).then_some(()));
    let (code, done) = place.json(&["cleanup", "--leases"]);
    assert_eq!(code, 4, "{done:#}");
    assert!(place.pool().slots().unwrap()[0].record.is_some());
    let (code, done) = inside.json(&place, "cleanup --leases");
    assert_eq!((code, &item(&done, "slot", "slot-0")["outcome"]), (0, &"cleared".into()), "{done:#}");
    assert!(place.pool().slots().unwrap()[0].record.is_none());
}

/// `/proc` there shows the outer numbers, which are others than those that signals go by.
#[test]
fn with_another_namespaces_proc_nothing_is_ended() {
    let place = Place::new(Scene::without_driver());
    if Inside::enter(&place).is_none() {
        return;
    }
    let orphan = place.orphan("omega-0");
    let mut command = place.command("unshare");
    command.args(["--pid", "--fork", env!("CARGO_BIN_EXE_gsk"), "cleanup"]);
    let mut plan = command.spawn().unwrap();
    let mut text = String::new();
    plan.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(plan.wait().unwrap().success() && text.contains("of another pid namespace"), "{text}");
    let output = command.arg("--kill").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(error.contains("hint: mount it anew") && alive(orphan.pid), "{error}");
}
