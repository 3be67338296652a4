//! `gsk isaac` as its users meet it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::engine::{Answer, GSK, ISAAC, Place, Wants, hear, spawn, until};
use crate::schema;

const GPU: Wants = Wants { disk: None, gpu: true };

/// `gsk isaac start` or `restart` of the stand-in of a version.
fn isaac(place: &Place, verb: &str, version: &str, words: &[&str]) -> Answer {
    let own = ["isaac", verb, "--image", ISAAC, "--tag", version, "--data", "data", "--timeout", "60s"];
    place.gsk(&[&own[..], &["--accept-eula", "--memory-each", "64M"], words].concat())
}

fn document(place: &Place, words: &[&str]) -> (i32, Value) {
    let answer = place.gsk(&[words, &["--json"]].concat());
    let document = answer.json();
    schema::streams(&document);
    (answer.code, document)
}

fn id(place: &Place, instance: u16) -> String {
    place.inspect(&format!("gsk-isaac-{instance}"))["Id"].as_str().unwrap().into()
}

#[test]
fn instances_are_started_restarted_and_stopped() {
    let Some(place) = Place::enter("isaac::instances_are_started_restarted_and_stopped", GPU) else { return };
    let started = isaac(&place, "start", "6.0.0", &["--instances", "2", "--gpu", "0,1", "--json"]);
    assert_eq!(started.code, 0, "{started:?}");
    let document = started.json();
    schema::streams(&document);
    assert_eq!(document["stream"], "isaac");
    for (instance, signal, stream, viewer) in [(0, 49100, 47998, 8210), (1, 49200, 48098, 8211)] {
        let seen = &document["streams"][instance];
        assert_eq!((&seen["name"], &seen["state"]), (&instance.to_string().into(), &"ready".into()));
        let ports: Vec<&Value> = seen["ports"].as_array().unwrap().iter().map(|port| &port["number"]).collect();
        assert_eq!(ports, [&json!(signal), &json!(stream), &json!(viewer)]);
        assert_eq!(hear(signal), format!("signal {signal}\n"), "on the machine's own network");

        let container = place.inspect(&format!("gsk-isaac-{instance}"));
        let host = &container["HostConfig"];
        assert_eq!((&host["NetworkMode"], &container["Config"]["User"]), (&"host".into(), &"1234:1234".into()));
        let request = &host["DeviceRequests"][0];
        assert_eq!(
            (&request["DeviceIDs"], &request["Capabilities"]),
            (&json!([instance.to_string()]), &json!([["gpu"]]))
        );
        assert_eq!(
            (&container["Config"]["Entrypoint"], &container["Config"]["Cmd"]),
            (&json!(["bash"]), &json!(["./runheadless.sh", "-v"]))
        );
        let targets: Vec<&str> =
            host["Mounts"].as_array().unwrap().iter().map(|mount| mount["Target"].as_str().unwrap()).collect();
        let expected = [
            "/isaac-sim/.cache",
            "/isaac-sim/.nv/ComputeCache",
            "/isaac-sim/.nvidia-omniverse/logs",
            "/isaac-sim/.nvidia-omniverse/config",
            "/isaac-sim/.local/share/ov/data",
            "/isaac-sim/.local/share/ov/pkg",
            "/var/cache/hub",
        ];
        assert_eq!(targets, expected);
        let cache = place.home().join(format!("data/6.0.0/{instance}/cache/main/written"));
        assert_eq!(fs::metadata(cache).unwrap().uid(), 1234, "its own cache, by version and instance");
        assert!(
            place.environment(&format!("gsk-isaac-{instance}")).iter().all(|pair| !pair.starts_with("PRIVACY_CONSENT"))
        );
    }
    for words in
        ["gsk-isaac-0: extensions after", "shaders after", "ready after", "port 49200; one viewer", "by a firewall"]
    {
        assert!(started.err.contains(words), "{words}: {}", started.err);
    }

    // Once more; one with other settings; one restarted.
    let (first, second) = (id(&place, 0), id(&place, 1));
    let again = isaac(&place, "start", "6.0.0", &["--instances", "2", "--gpu", "0,1", "--json"]).json();
    assert_eq!((&again["changes"][0]["action"], &again["changes"][1]["action"]), (&"kept".into(), &"kept".into()));
    assert_eq!((id(&place, 0), id(&place, 1)), (first.clone(), second.clone()));
    let changed = isaac(&place, "start", "6.0.0", &["1", "--gpu", "0,1", "--host-ip", "10.0.0.7", "--json"]).json();
    schema::streams(&changed);
    assert_eq!(
        (&changed["changes"][0]["action"], &changed["changes"][0]["why"]),
        (&"recreated".into(), &"its settings changed".into())
    );
    assert!(place.environment("gsk-isaac-1").contains(&"ISAACSIM_HOST=10.0.0.7".into()));
    let third = id(&place, 1);
    assert!(id(&place, 0) == first && third != second);
    let restarted = isaac(&place, "restart", "6.0.0", &["0", "--gpu", "0,1"]);
    assert!(restarted.code == 0 && restarted.err.contains("gsk-isaac-0: it was restarted"), "{restarted:?}");
    assert!(id(&place, 0) != first && id(&place, 1) == third, "the other is left alone");
    isaac(&place, "restart", "6.0.0", &["7"]).refused(2, &["there is no instance 7"]);
    isaac(&place, "restart", "6.0.0", &["--instances", "2"]).refused(2, &["restart takes no --instances"]);
    isaac(&place, "start", "6.0.0", &["1", "--instances", "2"]).refused(2, &["cannot be used with"]);

    // What cannot be started anew runs on: no such image, a folder that is not there, a port that somebody has.
    let zero = id(&place, 0);
    place
        .gsk(&[
            "isaac",
            "restart",
            "0",
            "--image",
            "registry.invalid/none",
            "--tag",
            "6.0.0",
            "--data",
            "data",
            "--accept-eula",
        ])
        .refused(5, &["is not here and cannot be pulled"]);
    let mounts = place.profile("mounts: [{source: /none/such, target: /x}]");
    isaac(&place, "restart", "6.0.0", &["0", "--profile", &mounts])
        .refused(2, &["/none/such: there is no such folder"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let moved = taken.local_addr().unwrap().port();
    let ports = place.profile(&format!("ports: [{{name: signal, number: {moved}, step: 1, protocol: tcp}}, {{name: stream, number: 47998, step: 1, protocol: udp}}]"));
    isaac(&place, "restart", "6.0.0", &["0", "--profile", &ports]).refused(6, &["(signal) is taken"]);
    drop(taken);
    assert_eq!((id(&place, 0), hear(49100).as_str()), (zero, "signal 49100\n"));

    assert!(place.gsk(&["isaac", "logs", "1"]).out.contains("Isaac Sim Full Streaming App is loaded."));
    place.gsk(&["isaac", "stop"]).refused(2, &["there are several: 0, 1", "--all"]);

    // One that is about to be started has not ended.
    let own = place.inspect("gsk-isaac-1")["Config"]["Labels"].clone();
    let mut create = vec!["create".to_string(), "--name".into(), "gsk-isaac-9".into()];
    for (key, value) in own.as_object().unwrap() {
        let value = if key == "gsk.name" { "9" } else { value.as_str().unwrap() };
        create.extend(["--label".into(), format!("{key}={value}")]);
    }
    create.extend([ISAAC_SIX.into(), "true".into()]);
    place.ask(&create.iter().map(String::as_str).collect::<Vec<_>>());
    let (code, plan) = self::document(&place, &["isaac", "cleanup", "--remove"]);
    assert_eq!((code, &plan["changes"]), (0, &json!([])));
    assert_eq!(place.containers(), ["gsk-isaac-0", "gsk-isaac-1", "gsk-isaac-9"]);
    place.ask(&["rm", "gsk-isaac-9"]);

    // What has ended is listed, and removed where asked to; nobody else's.
    place.ask(&["run", "--name", "bystander", "--entrypoint", "true", ISAAC_SIX]);
    place.ask(&["kill", "gsk-isaac-1"]);
    let (code, status) = self::document(&place, &["isaac", "status"]);
    assert_eq!(
        (code, &status["streams"][0]["state"], &status["streams"][1]["state"]),
        (1, &"ready".into(), &"exited".into())
    );
    let (code, plan) = self::document(&place, &["isaac", "cleanup"]);
    assert_eq!((code, plan["changes"].as_array().unwrap().len(), &plan["changes"][0]["done"]), (1, 1, &false.into()));
    assert_eq!(place.containers(), ["bystander", "gsk-isaac-0", "gsk-isaac-1"]);
    let (code, done) = self::document(&place, &["isaac", "cleanup", "--remove"]);
    assert_eq!((code, &done["changes"][0]["container"]), (0, &"gsk-isaac-1".into()));
    assert_eq!(place.containers(), ["bystander", "gsk-isaac-0"]);
    assert_eq!(place.gsk(&["isaac", "stop", "--all"]).code, 0);
    assert_eq!(place.containers(), ["bystander"]);
    assert!(place.home().join("data/6.0.0/0/cache/main/written").exists(), "caches stay");
}

const ISAAC_SIX: &str = "gsk-stand-in/isaac:6.0.0";

#[test]
fn each_version_is_started_in_its_own_way() {
    let Some(place) = Place::enter("isaac::each_version_is_started_in_its_own_way", GPU) else { return };
    isaac(&place, "start", "5.1.0", &["--instances", "2"]).refused(2, &["can run only once", "49100", "--instances 1"]);
    assert_eq!(place.containers(), [""; 0]);
    let five = isaac(&place, "start", "5.1.0", &[]);
    assert_eq!(five.code, 0, "{five:?}");
    assert_eq!(hear(49100), "signal 49100\n");
    assert_eq!(place.gsk(&["isaac", "stop"]).code, 0);
    let four = isaac(&place, "start", "4.2.0", &["--instances", "2", "--privacy-consent"]);
    assert_eq!(four.code, 0, "{four:?}");
    assert!(four.err.contains("http://127.0.0.1:8212/streaming/webrtc-client"), "{}", four.err);
    assert_eq!((hear(8211), hear(8212)), ("signal 8211\n".into(), "signal 8212\n".into()));
    assert!(place.environment("gsk-isaac-0").contains(&"PRIVACY_CONSENT=Y".into()));
    assert_eq!(place.inspect("gsk-isaac-1")["Config"]["User"], "");
}

#[test]
fn what_can_go_wrong_is_told() {
    let Some(place) = Place::enter("isaac::what_can_go_wrong_is_told", GPU) else { return };
    let clean = || assert_eq!(place.containers(), [""; 0]);
    let six = |words: &[&str]| isaac(&place, "start", "6.0.0", words);
    place.gsk(&["isaac", "start", "--image", ISAAC]).refused(2, &["licence has to be accepted", "--accept-eula"]);
    six(&["--memory-each", "900T"]).refused(2, &["cannot be used multiple times"]);
    let own =
        ["isaac", "start", "--image", ISAAC, "--tag", "6.0.0", "--data", "data", "--accept-eula", "--memory-each"];
    place
        .gsk(&[&own[..], &["900T"]].concat())
        .refused(6, &["not enough memory for 1 more", "each takes about", "--memory-each"]);
    six(&["--gpu", "none"]).refused(2, &["does not start without a GPU"]);

    // Errors that the log tells: at once where nothing else can come, else with the end.
    let gpu = place.profile("environment: {STAND: gpu}");
    six(&["--profile", &gpu]).refused(
        3,
        &[
            "gsk-isaac-0 cannot start",
            "finds no CUDA GPU that it can use",
            "no suitable CUDA GPU was found",
            "nvidia-smi",
        ],
    );
    let rtx = place.profile("environment: {STAND: rtx}");
    six(&["--profile", &rtx]).refused(6, &["ended while it started", "the GPU's memory is full", "exit code 1"]);
    let eula = place.profile("environment: {ACCEPT_EULA: \"N\"}");
    six(&["--profile", &eula]).refused(2, &["wants its licence accepted"]);
    clean();

    // A port that somebody has; the second instance's, so that the first is there.
    let taken = TcpListener::bind("127.0.0.1:49200").unwrap();
    let me = format!("process {} (", std::process::id());
    six(&["--instances", "2"]).refused(6, &["port 49200/tcp (signal) is taken", &me]);
    drop(taken);
    assert_eq!(place.containers(), ["gsk-isaac-0"]);
    assert_eq!(place.gsk(&["isaac", "stop"]).code, 0);

    // Killed while it starts.
    let silent = place.profile("environment: {STAND: silent}");
    let words = [
        "isaac",
        "start",
        "--image",
        ISAAC,
        "--tag",
        "6.0.0",
        "--data",
        "data",
        "--accept-eula",
        "--memory-each",
        "1M",
        "--profile",
    ];
    let mut gsk = spawn(place.command(&[&words[..], &[&silent]].concat()));
    until("the container", || (place.docker(&["ps", "-q"]).stdout.len() > 1).then_some(()));
    gsk.kill().unwrap();
    gsk.wait().unwrap();
    until("its removal", || place.containers().is_empty().then_some(()));

    // A user who may ask the engine, but gives no folder away.
    let open = |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(place.dir.path(), 0o755);
    let (folder, gsk) = (place.dir.path().join("theirs"), place.dir.path().join("gsk"));
    fs::create_dir(&folder).unwrap();
    open(&folder, 0o777);
    fs::copy(GSK, &gsk).unwrap();
    place.open_socket();
    let plain = place.command(&[]);
    let mut other = Command::new(&gsk);
    other
        .args(&words[..words.len() - 1])
        .env_clear()
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    other.current_dir(&folder).env("HOME", &folder).uid(65534).gid(65534).stdin(Stdio::null());
    let refused = Answer::of(other.output().unwrap());
    refused.refused(4, &["cannot be given to user 1234", "hint: sudo chown -R 1234:1234 "]);
    clean();
}

/// The web viewer's container is not gsk's to start, and a user's own folder is not gsk's to give away.
#[test]
fn what_is_others_is_left_to_them() {
    let Some(place) = Place::enter("isaac::what_is_others_is_left_to_them", GPU) else { return };
    let viewer = TcpListener::bind("127.0.0.1:8210").unwrap();
    let own = place.dir.path().join("own");
    fs::create_dir(&own).unwrap();
    let targets = [
        "/isaac-sim/.cache",
        "/isaac-sim/.nv/ComputeCache",
        "/isaac-sim/.nvidia-omniverse/logs",
        "/isaac-sim/.nvidia-omniverse/config",
        "/isaac-sim/.local/share/ov/data",
        "/isaac-sim/.local/share/ov/pkg",
        "/var/cache/hub",
    ];
    let mounts =
        targets.iter().enumerate().map(|(at, target)| format!("{{source: '{{cache}}/{at}', target: {target}}}"));
    let mounts = mounts.chain([format!("{{source: {}, target: /own}}", own.display())]).collect::<Vec<_>>();
    let profile = place.profile(&format!("mounts: [{}]", mounts.join(", ")));
    let started = isaac(&place, "start", "6.0.0", &["--profile", &profile, "--json"]);
    assert_eq!(started.code, 0, "{started:?}");
    assert_eq!(started.json()["streams"][0]["ports"][2]["number"], 8210, "it is shown");
    drop(viewer);
    assert_eq!(fs::metadata(&own).unwrap().uid(), rustix::process::geteuid().as_raw());
    assert_eq!(fs::metadata(place.home().join("data/6.0.0/0/6")).unwrap().uid(), 1234);
}

#[test]
fn without_a_gpu_it_is_not_started() {
    let Some(place) = Place::enter("isaac::without_a_gpu_it_is_not_started", Wants::default()) else { return };
    isaac(&place, "start", "6.0.0", &[]).refused(3, &["no GPU can be passed", "nvidia-ctk"]);
    assert_eq!(place.containers(), [""; 0]);
}

#[test]
fn those_that_run_are_told_of_where_another_cannot_start() {
    let Some(place) = Place::enter("isaac::those_that_run_are_told_of_where_another_cannot_start", GPU) else { return };
    let _taken = TcpListener::bind(("0.0.0.0", 49200)).unwrap();
    let answer = isaac(&place, "start", "6.0.0", &["--instances", "2", "--json"]);
    assert_eq!(answer.code, 6, "{answer:?}");
    let document = answer.json();
    schema::streams(&document);
    let streams: Vec<&Value> = document["streams"].as_array().unwrap().iter().map(|seen| &seen["state"]).collect();
    assert_eq!(streams, ["ready"], "{document}");
    assert!(document["errors"][0]["what"].as_str().unwrap().contains("49200"), "{document}");
}
