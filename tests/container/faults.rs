//! The table of what can go wrong: each with its exit code, its cause and a hint, and nothing left behind.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::engine::{Answer, GSK, NSIGHT, Place, Wants, free};

/// `gsk nsight start` of the stand-in on free ports.
fn start(place: &Place, words: &[&str]) -> Answer {
    let (http, turn) = (free().to_string(), free().to_string());
    let mut all = vec!["nsight", "start"];
    for (flag, value) in
        [("--username", ""), ("--image", NSIGHT), ("--port", &http), ("--turn-port", &turn), ("--timeout", "60s")]
    {
        if !words.contains(&flag) {
            all.extend([flag, value]);
        }
    }
    all.extend(words);
    place.gsk(&all)
}

#[test]
fn what_can_go_wrong_is_told_and_leaves_nothing() {
    let Some(place) = Place::enter("faults::what_can_go_wrong_is_told_and_leaves_nothing", Wants::default()) else {
        return;
    };
    let clean = || assert_eq!(place.containers(), [""; 0]);

    // A port that a process has, and one that a container has.
    let mine = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mine.local_addr().unwrap().port().to_string();
    let me = format!("process {} (", std::process::id());
    start(&place, &["--port", &port])
        .refused(6, &[&format!("port {port}/tcp (http) is taken"), &me, "hint: choose another: --port"]);
    start(&place, &["--turn-port", &port]).refused(6, &["(turn) is taken", &me, "--turn-port PORT"]);
    clean();
    let other = free().to_string();
    place.ask(&[
        "run",
        "-d",
        "--name",
        "squatter",
        "-p",
        &format!("127.0.0.1:{other}:1"),
        "--entrypoint",
        "sleep",
        NSIGHT,
        "1000",
    ]);
    start(&place, &["--port", &other]).refused(6, &["the container squatter has it"]);
    place.ask(&["rm", "-f", "squatter"]);

    // One that ends at once, with the end of its log, less what a terminal would obey.
    let exits = place.profile("environment: {STAND: exit}");
    let refused = start(&place, &["--profile", &exits]);
    refused.refused(
        1,
        &[
            "gsk-nsight-nsys ended while it started",
            "it ended with exit code 3",
            "Xvfb: starting",
            "selkies: cannot go on",
            "hint: ",
        ],
    );
    assert!(!refused.err.contains('\x1b'));
    clean();

    // One whose log has an error that is known.
    let known = place.profile("environment: {STAND: exit}\nerrors: [{log: [cannot go ON], kind: missing, cause: it lacks a screen, hint: buy one}]");
    start(&place, &["--profile", &known]).refused(3, &["cause: it lacks a screen", "hint: buy one"]);
    let fatal = place.profile("environment: {STAND: never}\nerrors: [{log: [waiting for nothing], kind: failed, cause: it dreams, fatal: true}]");
    start(&place, &["--profile", &fatal]).refused(1, &["gsk-nsight-nsys cannot start", "cause: it dreams"]);
    clean();

    // One that is never ready: by its page, and by its log.
    let never = place.profile("environment: {STAND: never}");
    start(&place, &["--profile", &never, "--timeout", "1s"])
        .refused(5, &["not ready within 1s", "closes the connection", "waiting for nothing", "--timeout"]);
    let silent = place.profile("environment: {STAND: never}\nready: {log: [App is loaded]}");
    start(&place, &["--profile", &silent, "--timeout", "1s"]).refused(5, &["no line of its log has 'App is loaded'"]);
    clean();

    // No image, no registry; no reports; a GPU that cannot be passed on; an address that is not ours.
    start(&place, &["--image", "registry.invalid/none:1"])
        .refused(5, &["the image registry.invalid/none:1 is not here and cannot be pulled", "docker load"]);
    start(&place, &["--reports", "none"]).refused(2, &["the reports' folder", "mkdir -p", "home/none"]);
    start(&place, &["--reports", "profile.yaml"]).refused(2, &["is not a folder"]);
    start(&place, &["--gpu", "0"]).refused(3, &["no GPU can be passed", "nvidia-ctk"]);
    start(&place, &["--bind", "192.0.2.7", "--username", "a", "--host-ip", "x"])
        .refused(2, &["192.0.2.7 is no address of this machine"]);
    clean();

    // The image's user cannot have what the profile says.
    let wrong = place.profile("mounts: [{source: /none/such, target: /x}]");
    start(&place, &["--profile", &wrong]).refused(2, &["/none/such: there is no such folder", "mkdir -p /none/such"]);
    let unknown = place.profile("environment: {A: \"{nonsense}\"}");
    start(&place, &["--profile", &unknown]).refused(2, &["asks for {nonsense}, which is not known", "there are"]);
    clean();

    // A name that somebody else has.
    place.ask(&["run", "-d", "--name", "gsk-nsight-nsys", "--entrypoint", "sleep", NSIGHT, "1000"]);
    start(&place, &[]).refused(2, &["the container gsk-nsight-nsys is not gsk's", "--name NAME"]);
    let stopped = place.gsk(&["nsight", "stop"]);
    assert!(stopped.code == 0 && stopped.err.contains("nothing to stop"), "{stopped:?}");
    assert_eq!(place.containers(), ["gsk-nsight-nsys"]);
    place.gsk(&["nsight", "logs"]).refused(2, &["there is no such nsight container of gsk's"]);
}

#[test]
fn a_full_disk_is_told() {
    let wants = Wants { disk: Some(40), ..Wants::default() };
    let Some(place) = Place::enter("faults::a_full_disk_is_told", wants) else { return };
    let root = place.ask(&["info", "--format", "{{.DockerRootDir}}"]);
    let filler = fs::File::create(format!("{root}/filler")).unwrap();
    let free = rustix::fs::statvfs(root.as_str()).unwrap();
    let bytes = free.f_bavail * free.f_frsize;
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, bytes - (1 << 19)).unwrap();
    start(&place, &[]).refused(6, &["no space left on device", "docker system df"]);
    assert_eq!(place.containers(), [""; 0]);
}

/// As another user, without an engine that would have them.
#[test]
fn an_engine_that_is_not_there_or_not_ours_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let command = |host: Option<String>| {
        let mut command = Command::new(GSK);
        command.args(["nsight", "status"]).env_clear().env("HOME", dir.path()).stdin(Stdio::null());
        host.map(|host| command.env("DOCKER_HOST", host));
        command
    };
    let ask = |mut command: Command| Answer::of(command.output().unwrap());
    let unix = |name: &str| Some(format!("unix://{}", dir.path().join(name).display()));
    ask(command(unix("none"))).refused(3, &["there is no container engine at unix://", "(DOCKER_HOST)", "hint: "]);
    let closed = UnixListener::bind(dir.path().join("closed")).unwrap();
    drop(closed);
    ask(command(unix("closed"))).refused(3, &["nothing listens there", "systemctl start docker"]);
    // It takes connections, and never says a word.
    let _mute = UnixListener::bind(dir.path().join("mute")).unwrap();
    ask(command(unix("mute"))).refused(5, &["does not answer", "within 5 s"]);
    ask(command(Some("ssh://gpu1".into()))).refused(2, &["cannot speak", "ssh -NL"]);

    if !rustix::process::geteuid().is_root() {
        println!(
            "an_engine_that_is_not_there_or_not_ours_is_told: skipped in part: not root, who could become another user"
        );
        return;
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let _theirs = UnixListener::bind(dir.path().join("theirs")).unwrap();
    fs::set_permissions(dir.path().join("theirs"), fs::Permissions::from_mode(0o600)).unwrap();
    let gsk = dir.path().join("gsk");
    fs::copy(GSK, &gsk).unwrap();
    let mut other = Command::new(&gsk);
    other.args(["nsight", "status"]).env_clear().env("HOME", dir.path()).env("DOCKER_HOST", unix("theirs").unwrap());
    ask(std::mem::replace(other.uid(65534).gid(65534), Command::new("true")))
        .refused(4, &["may not be asked", "usermod -aG docker"]);
}
