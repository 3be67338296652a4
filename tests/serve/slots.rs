//! Workers that share the machine's encoder slots, over the stand-in driver.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gsk::lease::{Limit, Pool};
use serde_json::Value;

use crate::gsk::{Gsk, SOON, until};
use crate::http;
use crate::standin::{Board, Foreign, Scene};
use crate::viewer::{Got, Viewer};

/// A machine of its own: a driver, and a lease directory that nobody else uses.
pub struct Machine {
    pub scene: Scene,
    home: tempfile::TempDir,
}

/// Draws 160x96 raw pictures, and counts them in a file, whether anybody takes them or not.
const DRAWS: &str = "n=0; while :; do head -c 46080 /dev/urandom; n=$((n+1)); echo $n > counter.new; mv counter.new counter; \
                     sleep 0.03; done";

impl Machine {
    pub fn new(scene: Scene) -> Machine {
        Machine { scene, home: tempfile::tempdir().unwrap() }
    }

    fn leases(&self) -> PathBuf {
        self.home.path().join("leases")
    }

    pub fn worker(&self, number: usize, words: &[&str]) -> Gsk {
        let instance = format!("omega-{number}");
        let mut all = vec!["--instance-id", &instance, "--size", "160x96", "--pixel-format", "rgb24"];
        all.extend(words);
        all.extend(["--", "sh", "-c", DRAWS]);
        Gsk::with(&all, |command| {
            self.scene.apply(command).env("GSK_LEASE_DIR", self.leases());
        })
    }

    pub fn pool(&self) -> Pool {
        Pool::at(&self.leases()).unwrap()
    }
}

fn counter(gsk: &Gsk) -> u64 {
    until(SOON, "a counter", || fs::read_to_string(gsk.dir.path().join("counter")).ok()?.trim().parse().ok())
}

fn state(gsk: &Gsk) -> String {
    gsk.status()["state"].as_str().unwrap().into()
}

/// Waits until each worker streams or says that it has no slot; those that stream first.
fn parted<'a>(workers: &'a [Gsk], streaming: usize) -> (Vec<&'a Gsk>, Vec<&'a Gsk>) {
    until(SOON, "each worker in its state", || {
        let settled = |status: Value| match &status["state"] {
            // Demand makes a stream of it; whether there is a slot is seen when the encoder is opened.
            state if state == "streaming" && status["encoders"][0]["open"] == false => "opening".into(),
            state => state.as_str().unwrap().to_string(),
        };
        let states: Vec<String> = workers.iter().map(|worker| settled(worker.status())).collect();
        let of = |wanted: &str| -> Vec<&'a Gsk> {
            let those = workers.iter().zip(&states).filter(|(_, state)| *state == wanted);
            those.map(|(worker, _)| worker).collect()
        };
        let (stream, lack) = (of("streaming"), of("no-slot"));
        (stream.len() == streaming && lack.len() == workers.len() - streaming).then_some((stream, lack))
    })
}

fn names(workers: &[&Gsk]) -> Vec<String> {
    let name = |gsk: &&Gsk| format!("{} (pid {})", gsk.status()["instance_id"].as_str().unwrap(), gsk.pid());
    let mut names: Vec<String> = workers.iter().map(name).collect();
    names.sort();
    names
}

fn sorted(list: &Value) -> Vec<String> {
    let mut list: Vec<String> = list.as_array().unwrap().iter().map(|item| item.as_str().unwrap().into()).collect();
    list.sort();
    list
}

/// `count` workers with a viewer each on a machine that bears two sessions.
fn matrix(count: usize) {
    let machine = Machine::new(Scene::geforce(2));
    let workers: Vec<Gsk> = (0..count).map(|number| machine.worker(number, &["--slots", "2"])).collect();
    let mut viewers: Vec<Viewer> = workers.iter().map(|worker| Viewer::join(worker.addr, "/ws")).collect();
    let (stream, lack) = parted(&workers, count.min(2));
    let holders = names(&stream);
    for worker in &stream {
        let status = worker.status();
        let encoder = &status["encoders"][0];
        assert_eq!((&encoder["backend"], &encoder["hardware"]), (&"nvenc".into(), &true.into()), "{status:#}");
        assert!(encoder["slot"].as_str().unwrap().starts_with("slot-") && encoder["fallback"].is_null());
        assert_eq!(status["stream_backend"], "gsk:sh:nvenc");
    }
    let before: Vec<u64> = lack.iter().map(|worker| counter(worker)).collect();
    for worker in &lack {
        let status = worker.status();
        let reason = status["reason"].as_str().unwrap();
        assert!(reason.starts_with("2 of 2 held by ") && holders.iter().all(|name| reason.contains(name)), "{reason}");
        assert_eq!(status["stream_error"], Value::Null);
        // It is asked for once a second.
        worker.await_status(SOON, "the sessions", |status| (status["nvenc_sessions_used"] == 2).then_some(()));
        for path in ["/stream.mp4", "/stream.h264"] {
            let head = http::request(worker.addr, "HEAD", path, &[]);
            assert_eq!((head.code, head.header("retry-after")), (503, Some("2")), "HEAD {path}");
            let get = http::get(worker.addr, path);
            assert_eq!((get.code, get.header("retry-after")), (503, Some("2")), "{path}");
            let body = get.json();
            assert_eq!((&body["state"], sorted(&body["holders"])), (&"no-slot".into(), holders.clone()), "{body}");
            assert!(body["reason"].as_str().unwrap().starts_with("2 of 2 held by "), "{body}");
        }
        assert_eq!(http::get(worker.addr, "/healthz").code, 200);
        // JPEG needs no slot.
        assert_eq!(http::get(worker.addr, "/frame.jpg").code, 200);
    }
    for (worker, before) in lack.iter().zip(before) {
        until(SOON, "the program runs on", || (counter(worker) > before + 10).then_some(()));
    }
    assert_eq!((machine.scene.sessions().len(), machine.scene.events("refused").len()), (count.min(2), 0));
    for (worker, viewer) in workers.iter().zip(&mut viewers) {
        match state(worker).as_str() {
            "streaming" => assert!(viewer.unit().data.starts_with(&[0, 0, 0, 1])),
            _ => assert_eq!(hears(viewer, "state")["state"], "no-slot"),
        }
    }
}

/// The next message of that type that speaks of slots.
fn hears(viewer: &mut Viewer, kind: &str) -> Value {
    loop {
        let said = viewer.said(kind);
        if said["state"] == "no-slot" {
            return said;
        }
    }
}

#[test]
fn two_workers_on_two_slots_stream() {
    matrix(2);
}

#[test]
fn of_three_workers_one_waits() {
    matrix(3);
}

#[test]
fn of_five_workers_three_wait() {
    matrix(5);
}

#[test]
fn a_freed_slot_streams_within_a_second_for_who_waits() {
    let machine = Machine::new(Scene::geforce(1));
    let first = machine.worker(0, &["--slots", "1"]);
    Viewer::join(first.addr, "/ws").unit();
    let second = machine.worker(1, &["--slots", "1"]);
    let mut waiting = Viewer::join(second.addr, "/ws");
    hears(&mut waiting, "state");
    // The kernel frees what the dead held.
    drop(first);
    let freed = Instant::now();
    let unit = waiting.unit();
    assert!(unit.key && freed.elapsed() < Duration::from_secs(1), "{:?}", freed.elapsed());
    assert_eq!(state(&second), "streaming");
}

#[test]
fn an_encoder_that_nobody_watches_gives_its_slot_back() {
    let machine = Machine::new(Scene::geforce(1));
    let first = machine.worker(0, &["--slots", "1"]);
    Viewer::join(first.addr, "/ws").unit();
    // Its one viewer has left.
    assert!(machine.pool().slots().unwrap()[0].held);
    let second = machine.worker(1, &["--slots", "1"]);
    assert!(Viewer::join(second.addr, "/ws").unit().key);
    assert_eq!(state(&first), "idle");
    assert_eq!(machine.scene.events("open").len(), 2);
}

#[test]
fn the_record_says_who_holds_a_slot() {
    let machine = Machine::new(Scene::geforce(3));
    let worker = machine.worker(7, &[]);
    let _viewer = Viewer::join(worker.addr, "/ws").unit();
    let record = machine.pool().slots().unwrap().remove(0).record.unwrap();
    let told = (record.pid, &*record.instance_id, record.source.as_deref(), record.codec.as_deref());
    assert_eq!(told, (worker.pid(), "omega-7", Some("sh"), Some("h264")));
    assert_eq!((record.width, record.height), (Some(160), Some(96)));
}

#[test]
fn foreign_sessions_take_from_the_limit_that_the_driver_is_known_for() {
    let mut scene = Scene::geforce(3);
    // A driver whose limit the support table has.
    scene.version("470.57.02");
    for session in 1..=3 {
        scene.foreign(Foreign::new(0, 4242).session(session));
    }
    let mut machine = Machine::new(scene);
    let worker = machine.worker(0, &[]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    let said = hears(&mut viewer, "state");
    assert_eq!(said["reason"], "3 of 3 used by programs that take no slots");
    machine.scene.foreign_ends();
    let freed = Instant::now();
    assert!(viewer.unit().key && freed.elapsed() < Duration::from_secs(1), "{:?}", freed.elapsed());
}

#[test]
fn a_limit_that_only_the_driver_knows_is_a_lack_of_slots_too() {
    for code in [10, 21] {
        let mut scene = Scene::geforce(1);
        scene.limit(1, code);
        let machine = Machine::new(scene);
        let workers = [machine.worker(0, &["--slots", "5"]), machine.worker(1, &["--slots", "5"])];
        let _viewers = workers.each_ref().map(|worker| Viewer::join(worker.addr, "/ws"));
        let (stream, lack) = parted(&workers, 1);
        let answer = http::get(lack[0].addr, "/stream.mp4");
        assert_eq!(answer.code, 503);
        assert_eq!(sorted(&answer.json()["holders"]), names(&stream), "code {code}");
        assert!(machine.pool().slots().unwrap().iter().filter(|seen| seen.held).count() <= 2);
    }
}

#[test]
fn software_stands_in_and_steps_back() {
    let machine = Machine::new(Scene::geforce(1));
    let taken = machine.pool().take(Limit::Sessions(1), || None, Default::default()).unwrap();
    let worker = machine.worker(0, &["--slots", "1", "--when-full", "software"]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    assert!(viewer.unit().key);
    let status = worker.status();
    let encoder = &status["encoders"][0];
    assert_eq!((&status["state"], &encoder["backend"]), (&"streaming".into(), &"openh264".into()));
    assert_eq!(status["stream_backend"], "gsk:sh:openh264");
    let fallback = &encoder["fallback"];
    assert_eq!((&fallback["from"], &fallback["cause"]), (&"nvenc".into(), &"no-slot".into()));
    assert!(fallback["detail"].as_str().unwrap().contains("1 of 1 held by"), "{fallback}");
    drop(taken);
    let config = loop {
        let config = viewer.said("config");
        if config["backend"] == "nvenc" {
            break config;
        }
    };
    assert_eq!((&config["hardware"], &config["fallback"]), (&true.into(), &Value::Null));
    assert!(viewer.unit().key, "the new encoder begins with an IDR");
}

#[test]
fn who_is_to_wait_waits() {
    let machine = Machine::new(Scene::geforce(1));
    let taken = machine.pool().take(Limit::Sessions(1), || None, Default::default()).unwrap();
    let worker = machine.worker(0, &["--slots", "1", "--when-full", "wait"]);
    let addr = worker.addr;
    let request = std::thread::spawn(move || http::get(addr, "/stream.mp4").code);
    worker.await_state(SOON, "no-slot");
    assert_eq!(http::request(addr, "HEAD", "/stream.mp4", &[]).code, 200, "as GET would in the end");
    assert!(!request.is_finished());
    drop(taken);
    assert_eq!(request.join().unwrap(), 200);
}

#[test]
fn a_lease_directory_that_cannot_be_used_is_told() {
    let machine = Machine::new(Scene::geforce(1));
    fs::write(machine.leases(), "").unwrap();
    let worker = machine.worker(0, &["--slots", "1"]);
    assert!(Viewer::join(worker.addr, "/ws").unit().key);
    let fallback = worker.status()["encoders"][0]["fallback"].clone();
    assert_eq!((&fallback["from"], &fallback["cause"]), (&"nvenc".into(), &"fault".into()));
    assert!(fallback["detail"].as_str().unwrap().contains("lease directory"), "{fallback}");
    let strict = machine.worker(1, &["--slots", "1", "--encoder", "nvenc"]);
    let mut viewer = Viewer::join(strict.addr, "/ws");
    let reason = strict.await_state(SOON, "error");
    assert!(reason.contains("not safe to share"), "{reason}");
    while !matches!(viewer.next(), Got::Said(_)) {}
}

#[test]
fn settings_that_do_nothing_are_refused() {
    for (words, says) in [
        (["--slots", "2", "--encoder", "openh264"], "--slots does nothing for --encoder openh264"),
        (["--when-full", "wait", "--encoder", "jpeg"], "--when-full does nothing for --encoder jpeg"),
        (["--when-full", "software", "--encoder", "nvenc"], "--when-full does nothing for --encoder nvenc"),
    ] {
        let (code, _, err) = crate::gsk::run(&[&["serve"], &words[..]].concat(), |_| {});
        assert_eq!(code, 2);
        assert!(err.contains(says) && err.contains("hint: "), "{err}");
    }
}

/// The next `config` that names this back end, and how long it took.
pub fn config_of(viewer: &mut Viewer, backend: &str) -> (Value, Duration) {
    let began = Instant::now();
    loop {
        let config = viewer.said("config");
        if config["backend"] == backend {
            return (config, began.elapsed());
        }
    }
}

#[test]
fn an_encoder_that_fails_in_flight_is_replaced_within_a_second_and_tried_again() {
    for function in ["nvEncLockBitstream", "nvEncEncodePicture", "nvEncMapInputResource"] {
        let mut scene = Scene::geforce(1);
        // NV_ENC_ERR_GENERIC.
        scene.fault_from(function, 20, 20);
        let mut machine = Machine::new(scene);
        let worker = machine.worker(0, &["--slots", "1"]);
        let mut viewer = Viewer::join(worker.addr, "/ws");
        let (config, _) = config_of(&mut viewer, "nvenc");
        assert_eq!(config["fallback"], Value::Null);
        machine.scene.wait_for("the fault", |events| events.iter().any(|event| event.name == "fault").then_some(()));
        let (config, took) = config_of(&mut viewer, "openh264");
        // At once, and not when the failed one would be tried again.
        assert!(took < Duration::from_millis(700), "{function}: {took:?}");
        let fallback = &config["fallback"];
        assert_eq!((&fallback["from"], &fallback["cause"]), (&"nvenc".into(), &"fault".into()), "{config}");
        assert!(!fallback["detail"].as_str().unwrap().is_empty());
        assert!(viewer.unit().key, "from a fresh IDR");
        assert_eq!(state(&worker), "streaming");
        until(SOON, "the slot is free", || (!machine.pool().slots().unwrap()[0].held).then_some(()));
        assert!(machine.scene.sessions().is_empty());
        machine.scene.faults_end();
        let (config, took) = config_of(&mut viewer, "nvenc");
        assert!(took > Duration::from_secs(3), "{function}: not at once: {took:?}");
        assert_eq!((&config["fallback"], viewer.unit().key), (&Value::Null, true));
        assert!(machine.scene.violations().is_empty(), "{:?}", machine.scene.violations());
    }
}

#[test]
fn an_encoder_that_alone_may_do_it_is_tried_again() {
    let mut scene = Scene::geforce(1);
    scene.fault("nvEncLockBitstream", 20, 20);
    let machine = Machine::new(scene);
    let worker = machine.worker(0, &["--slots", "1", "--encoder", "nvenc"]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    viewer.unit();
    let reason = worker.await_state(SOON, "error");
    assert!(reason.contains("nvEncLockBitstream") || reason.contains("NVENC"), "{reason}");
    worker.await_state(SOON, "streaming");
    assert_eq!(machine.scene.events("open").len(), 2);
}

#[test]
fn beside_a_board_without_a_limit_it_is_that_one() {
    let mut scene = Scene::geforce(3);
    scene.board(Board::rtx());
    let machine = Machine::new(scene);
    let worker = machine.worker(0, &[]);
    Viewer::join(worker.addr, "/ws").unit();
    let boards: Vec<u32> = machine.scene.sessions().iter().map(|session| session.board).collect();
    assert_eq!(boards, [1]);
}

#[test]
fn a_driver_that_is_slow_at_first_is_no_ground_to_go_without_its_limit() {
    let mut scene = Scene::geforce(3);
    scene.version("470.57.02").hang("nvmlInit_v2", 1, Some(Duration::from_secs(3)));
    for session in 1..=3 {
        scene.foreign(Foreign::new(0, 4242).session(session));
    }
    let machine = Machine::new(scene);
    let worker = machine.worker(0, &[]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    // Until it answers, that is the reason; then it is the limit.
    loop {
        if hears(&mut viewer, "state")["reason"] == "3 of 3 used by programs that take no slots" {
            break;
        }
    }
    assert!(machine.scene.events("open").is_empty());
}

#[test]
fn an_encoder_that_does_not_answer_is_told() {
    let mut scene = Scene::geforce(1);
    scene.hang("nvEncEncodePicture", 20, None);
    let machine = Machine::new(scene);
    let worker = machine.worker(0, &["--slots", "1"]);
    let _viewer = Viewer::join(worker.addr, "/ws");
    assert_eq!(worker.await_state(SOON, "error"), "nvenc does not answer");
}

#[test]
fn what_stood_in_for_a_driver_that_was_slow_steps_back() {
    let mut scene = Scene::geforce(3);
    scene.hang("nvmlInit_v2", 1, Some(Duration::from_secs(3)));
    let machine = Machine::new(scene);
    let worker = machine.worker(0, &["--when-full", "software"]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    assert_eq!(config_of(&mut viewer, "openh264").0["fallback"]["cause"], "fault");
    assert_eq!(config_of(&mut viewer, "nvenc").0["fallback"], Value::Null);
}

#[test]
fn workers_that_are_killed_at_work_leave_nothing_held() {
    let machine = Machine::new(Scene::geforce(2));
    for number in 0..20 {
        let worker = machine.worker(number, &["--slots", "2"]);
        Viewer::join(worker.addr, "/ws").unit();
        assert_eq!(machine.scene.sessions().len(), 1);
        // At once, by SIGKILL.
        drop(worker);
        until(SOON, "the slot is free", || (!machine.pool().slots().unwrap()[0].held).then_some(()));
        until(SOON, "the session is gone", || machine.scene.sessions().is_empty().then_some(()));
    }
    assert_eq!(machine.scene.events("refused").len(), 0);
    assert_eq!(machine.pool().slots().unwrap().len(), 1, "no second slot was ever needed");
}
