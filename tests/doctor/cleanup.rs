//! What `gsk cleanup` ends and clears, and, above all, what it does not.

use gsk::wire::lease::Record;
use rustix::process::{Signal, geteuid};
use serde_json::Value;

use crate::gsk::{SOON, until};
use crate::place::{Bystander, Place, alive, kill, record, start_of};
use crate::standin::{Foreign, Scene};
use crate::viewer::Viewer;

/// Kind, action and outcome of what the document says about a process.
fn about(document: &Value, pid: u32) -> Option<(String, String, Option<String>)> {
    let item = document["items"].as_array().unwrap().iter().find(|item| item["pid"] == pid)?;
    let word = |key: &str| item[key].as_str().map(String::from);
    Some((word("kind").unwrap(), word("action").unwrap(), word("outcome")))
}

fn words(kind: &str, action: &str, outcome: Option<&str>) -> Option<(String, String, Option<String>)> {
    Some((kind.into(), action.into(), outcome.map(String::from)))
}

#[test]
fn nothing_is_made_where_there_is_nothing() {
    let place = Place::new(Scene::without_driver());
    let answer = place.gsk(&["cleanup"]);
    assert_eq!((answer.code, answer.out.as_str(), answer.err.as_str()), (0, "Nothing to clean up\n", ""));
    assert_eq!(place.gsk(&["cleanup", "--kill", "--leases"]).code, 0);
    assert!(!place.leases().exists());
}

/// The scene of many, of which exactly one is an orphan.
#[test]
fn exactly_the_orphan_is_ended() {
    let mut place = Place::new(Scene::geforce(8));
    let worker = place.worker(0, &["--slots", "8"]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    viewer.unit();
    let editor = place.lease("omega-1");
    let orphan = place.orphan("omega-2");
    let mut obs = Bystander::start(&["obs"]);
    place.scene.foreign(Foreign::new(0, obs.pid()).session(77));
    place.scene.foreign(Foreign::new(0, orphan.pid).session(78));
    let mut recycled = Bystander::start(&["sleep"]);
    let mut named_so = Bystander::start(&["gsk serve", "ffmpeg -c:v h264_nvenc", "gsk-guard"]);
    let mut accused = Bystander::start(&["sleep"]);
    // Only looks at a slot's file, which it has open without the lock.
    let slot = place.slot_of(orphan.owner);
    let path = place.leases().join(format!("slot-{slot}"));
    let mut looker = place.command("sleep").arg("1000").stdin(std::fs::File::open(path).unwrap()).spawn().unwrap();
    // Free slots whose records name live processes: one of another start time, one forged to the tick.
    drop(place.pool().take(gsk::lease::Limit::Unknown, || None, Record::default()).unwrap());
    let free = place.pool().slots().unwrap().iter().find(|seen| !seen.held).unwrap().index;
    place.forge(free, &record(recycled.pid(), start_of(recycled.pid()) - 1));
    let other = free + 1;
    std::fs::write(place.leases().join(format!("slot-{other}")), "").unwrap();
    place.forge(other, &record(accused.pid(), start_of(accused.pid())));

    let (code, plan) = place.json(&["cleanup"]);
    assert_eq!(code, 1, "{plan:#}");
    assert_eq!(about(&plan, orphan.pid), words("zombie", "end", None), "{plan:#}");
    let ends = plan["items"].as_array().unwrap().iter().filter(|item| item["action"] == "end").count();
    assert_eq!((ends, &plan["carried_out"], &plan["freed"]), (1, &false.into(), &Value::Null), "{plan:#}");
    assert!(plan["items"].as_array().unwrap().iter().all(|item| !item["why"].as_str().unwrap().is_empty()));
    assert!(alive(orphan.pid), "a plan touches nothing");
    let why = plan["items"][0]["why"].as_str().unwrap();
    let owner = format!("from its owner omega-2 (pid {}), which is gone", orphan.owner);
    assert!(why.contains(&owner) && why.contains("NVML lists a session of it"), "{why}");

    let (code, done) = place.json(&["cleanup", "--kill", "--leases"]);
    assert_eq!(about(&done, orphan.pid), words("zombie", "end", Some("ended")), "{done:#}");
    assert_eq!(about(&done, worker.pid()), words("holder", "leave", None), "{done:#}");
    assert_eq!(about(&done, editor.inheritor), words("holder", "leave", None), "{done:#}");
    assert_eq!(about(&done, obs.pid()), words("foreign-session", "leave", None), "{done:#}");
    for pid in [named_so.pid(), accused.pid(), recycled.pid(), looker.id()] {
        assert_eq!(about(&done, pid), None, "{done:#}");
    }
    assert_eq!((code, &done["carried_out"]), (0, &true.into()), "{done:#}");
    assert_eq!(done["freed"]["slots"], serde_json::json!([format!("slot-{slot}")]), "{done:#}");
    assert!(!alive(orphan.pid));
    for bystander in [&mut obs, &mut recycled, &mut named_so, &mut accused] {
        assert!(bystander.is_alive());
    }
    assert!(alive(editor.inheritor) && alive(editor.owner.id()) && looker.try_wait().unwrap().is_none());
    viewer.unit();
    let slots = place.pool().slots().unwrap();
    assert!(slots.iter().all(|seen| seen.held == seen.record.is_some()), "{slots:?}");
    assert_eq!(slots.iter().filter(|seen| seen.held).count(), 2, "the worker's and the editor's");
    looker.kill().unwrap();
    looker.wait().unwrap();
}

#[test]
fn a_record_that_names_a_bystander_ends_the_orphan_and_not_the_bystander() {
    let place = Place::new(Scene::without_driver());
    let (orphan, mut bystander) = (place.orphan("omega-0"), Bystander::start(&["sleep"]));
    let slot = place.slot_of(orphan.owner);
    place.forge(slot, &record(bystander.pid(), start_of(bystander.pid())));
    let (code, plan) = place.json(&["cleanup", "--kill"]);
    assert_eq!(about(&plan, orphan.pid), words("holder", "leave", None), "its owner seems to be alive: {plan:#}");
    assert_eq!((code, alive(orphan.pid)), (0, true));
    place.forge(slot, &record(bystander.pid(), start_of(bystander.pid()) - 1));
    let (code, done) = place.json(&["cleanup", "--kill"]);
    assert_eq!(about(&done, orphan.pid), words("zombie", "end", Some("ended")), "{done:#}");
    assert_eq!((code, about(&done, bystander.pid()), alive(orphan.pid)), (0, None, false));
    assert!(bystander.is_alive());
}

#[test]
fn a_record_that_names_a_dead_process_makes_no_live_holder_a_target() {
    let place = Place::new(Scene::geforce(8));
    let worker = place.worker(0, &["--slots", "8"]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    viewer.unit();
    let editor = place.lease("omega-1");
    for owner in [worker.pid(), editor.owner.id()] {
        place.forge(place.slot_of(owner), &record(owner, start_of(owner) - 1));
    }
    let (code, done) = place.json(&["cleanup", "--kill"]);
    assert_eq!(code, 0, "{done:#}");
    for pid in [worker.pid(), editor.owner.id(), editor.inheritor] {
        assert_eq!(about(&done, pid), words("holder", "leave", None), "{done:#}");
        assert!(alive(pid));
    }
    viewer.unit();
}

#[test]
fn who_does_not_heed_sigterm_is_killed_after_the_grace() {
    let place = Place::new(Scene::without_driver());
    let orphan = place.orphan("omega-0");
    kill(orphan.pid, Signal::STOP);
    let answer = place.gsk(&["cleanup", "--kill", "--grace", "50ms"]);
    assert!(answer.code == 0 && answer.out.contains("killed"), "{answer:?}");
    assert!(answer.err.contains("1 process ended; freed: slot-0; NVML cannot be asked for sessions"), "{answer:?}");
    assert!(!alive(orphan.pid));
}

#[test]
fn what_became_free_is_said_once_the_driver_knows() {
    let mut place = Place::new(Scene::geforce(8));
    let orphan = place.orphan("omega-0");
    place.scene.foreign(Foreign::new(0, orphan.pid).session(1));
    place.scene.foreign(Foreign::new(0, 4_194_000).session(2));
    let mut command = place.command(env!("CARGO_BIN_EXE_gsk"));
    let cleanup = command.args(["cleanup", "--kill"]).spawn().unwrap();
    until(SOON, "the orphan's end", || (!alive(orphan.pid)).then_some(()));
    // The driver takes its time.
    place.scene.foreign_ends();
    place.scene.foreign(Foreign::new(0, 4_194_000).session(2));
    let output = cleanup.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("freed: slot-0; encoder sessions by NVML: 2 before, 1 now"), "{said}");
}

#[test]
fn records_are_cleared_only_where_nobody_holds_the_slot() {
    let place = Place::new(Scene::without_driver());
    let orphan = place.orphan("omega-0");
    let answer = place.gsk(&["cleanup", "--leases"]);
    assert_eq!(answer.code, 1, "the zombie is still there: {answer:?}");
    assert!(answer.err.contains("gsk cleanup --kill"), "{answer:?}");
    kill(orphan.pid, Signal::KILL);
    until(SOON, "the orphan's end", || (!place.pool().slots().unwrap()[0].held).then_some(()));
    let answer = place.gsk(&["cleanup"]);
    assert!(answer.code == 1 && answer.out.contains("nobody holds slot-0"), "{answer:?}");
    assert!(answer.err.contains("to do it: gsk cleanup --leases"), "{answer:?}");
    let answer = place.gsk(&["cleanup", "--leases"]);
    assert!(answer.code == 0 && answer.out.contains("cleared"), "{answer:?}");
    assert_eq!(place.gsk(&["cleanup"]).out, "Nothing to clean up\n");
}

/// What is not ours to end is said to be so: here a process of root's, by another user.
#[test]
fn without_permission_it_ends_with_4() {
    if !geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let place = Place::new(Scene::without_driver());
    let orphan = place.orphan("omega-0");
    std::fs::set_permissions(place.home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // The program lies where others may not look.
    let gsk = place.home.path().join("gsk");
    std::fs::copy(env!("CARGO_BIN_EXE_gsk"), &gsk).unwrap();
    let mut command = place.command(gsk.to_str().unwrap());
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    let output = command.args(["cleanup", "--kill", "--json"]).output().unwrap();
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(4), "{done:#}");
    assert!(
        done["items"][0]["why"].as_str().unwrap().contains("only be looked into with its user's rights"),
        "{done:#}"
    );
    assert!(alive(orphan.pid));
}

#[test]
fn a_gate_that_stays_locked_is_told_in_time() {
    let place = Place::new(Scene::without_driver());
    drop(place.pool().take(gsk::lease::Limit::Unknown, || None, Record::default()).unwrap());
    let gate = std::fs::File::open(place.leases().join("gate")).unwrap();
    rustix::fs::flock(&gate, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let answer = place.gsk(&["cleanup"]);
    assert!(answer.code == 5 && answer.err.contains("gate") && answer.err.contains("hint: "), "{answer:?}");
    let answer = place.gsk(&["nvenc-status", "--timeout", "200ms"]);
    assert!(answer.code == 5 && answer.out.contains("Leases: not known"), "{answer:?}");
}
