//! `gsk nsight` as its users meet it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engine::{Answer, NSIGHT, Place, Wants, free, hear, page, spawn, until};
use crate::schema;

const CONTAINER: &str = "gsk-nsight-nsys";

/// Two free ports, as flags.
struct Ports {
    http: u16,
    turn: u16,
}

impl Ports {
    fn new() -> Ports {
        Ports { http: free(), turn: free() }
    }

    fn start(&self, place: &Place, words: &[&str]) -> Answer {
        place.gsk(&self.words(words).iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let (http, turn) = (self.http.to_string(), self.turn.to_string());
        let own = ["nsight", "start", "--image", NSIGHT, "--port", &http, "--turn-port", &turn, "--timeout", "60s"];
        own.iter().chain(words).map(|word| word.to_string()).collect()
    }
}

fn reports(place: &Place, names: &[&str]) {
    let dir = place.home().join("profiling_output");
    fs::create_dir_all(&dir).unwrap();
    names.iter().for_each(|name| fs::write(dir.join(name), "report").unwrap());
}

fn document(place: &Place, words: &[&str]) -> (i32, Value) {
    let answer = place.gsk(&[words, &["--json"]].concat());
    let document = answer.json();
    schema::streams(&document);
    (answer.code, document)
}

#[test]
fn a_viewer_is_started_watched_and_stopped() {
    let Some(place) = Place::enter("nsight::a_viewer_is_started_watched_and_stopped", Wants::default()) else { return };
    reports(&place, &["first.nsys-rep", "other.ncu-rep"]);
    let ports = Ports::new();
    let started = ports.start(&place, &["--json"]);
    assert_eq!(started.code, 0, "{started:?}");
    let document = started.json();
    schema::streams(&document);
    let seen = &document["streams"][0];
    assert_eq!(
        (&seen["state"], &seen["container"], &seen["gpu"]),
        (&"ready".into(), &CONTAINER.into(), &"none".into())
    );
    assert_eq!(document["changes"][0]["action"], "created");
    assert_eq!(seen["reports"]["files"][0]["name"], "first.nsys-rep");
    assert_eq!(seen["reports"]["files"].as_array().unwrap().len(), 1, "only this tool's");
    assert_eq!(seen["page"], format!("http://127.0.0.1:{}/", ports.http));
    let tunnel = seen["tunnel"].as_str().unwrap();
    let forwards = format!("ssh -N -L {0}:127.0.0.1:{0} -L {1}:127.0.0.1:{1} ", ports.http, ports.turn);
    assert!(tunnel.starts_with(&forwards), "{tunnel}");
    assert!(started.err.contains("no GPU for gsk-nsight-nsys"), "{}", started.err);
    assert!(started.err.contains("ready after") && started.err.contains("Firefox"), "{}", started.err);

    // The page, behind the password that was made.
    let password = seen["login"]["password"].as_str().unwrap();
    let login = format!("gsk:{password}");
    assert_eq!(page(ports.http, "/", Some(&login)), (200, "a page\n".into()));
    for wrong in [None, Some("gsk:nvidia"), Some("nvidia:nvidia")] {
        assert_eq!(page(ports.http, "/", wrong).0, 401, "{wrong:?}");
    }
    assert_eq!(page(ports.http, "/reports", Some(&login)).1, "first.nsys-rep\nother.ncu-rep\n");
    assert_eq!(page(ports.http, "/tool", Some(&login)).1, "host-linux-x64/nsys-ui\n");
    assert_eq!(hear(ports.turn), "turn\n", "the pictures' port");

    // Kept for its owner alone, and nowhere else.
    let file = seen["login"]["file"].as_str().unwrap();
    assert_eq!(fs::read_to_string(file).unwrap().trim(), password);
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let inspected = place.inspect(CONTAINER);
    assert!(!inspected["Config"]["Labels"].to_string().contains(password));
    let bindings = &inspected["HostConfig"]["PortBindings"];
    let turn = format!("{}/tcp", ports.turn);
    assert_eq!(bindings[&turn][0]["HostPort"], ports.turn.to_string());
    assert!(bindings.to_string().matches("127.0.0.1").count() == 2, "{bindings}");
    let env = place.environment(CONTAINER);
    for pair in ["NVIDIA_VISIBLE_DEVICES=void", "ENCODER=vp9enc", "HOST_IP=127.0.0.1"] {
        assert!(env.iter().any(|one| one == pair), "{pair}: {env:?}");
    }
    assert!(!started.out.contains("nvidia:nvidia"));

    // Once more.
    let again = ports.start(&place, &[]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.err.contains("gsk-nsight-nsys: it runs already\n"), "{}", again.err);
    assert!(again.out.contains(&format!("http://127.0.0.1:{}/", ports.http)) && !again.out.contains(password));
    assert_eq!(place.inspect(CONTAINER)["Id"], inspected["Id"]);
    let other = ports.start(&place, &["--max-resolution", "1280x720"]);
    assert!(other.code == 0 && other.err.contains("runs with other settings"), "{other:?}");
    assert_eq!(place.inspect(CONTAINER)["Id"], inspected["Id"]);

    let (code, status) = self::document(&place, &["nsight", "status"]);
    assert_eq!((code, &status["streams"][0]["state"]), (0, &"ready".into()));
    assert_eq!(status["streams"][0]["login"]["password"], Value::Null);
    assert!(place.gsk(&["nsight", "status"]).out.contains("ready"), "a table too");
    let logs = place.gsk(&["nsight", "logs"]);
    assert!(logs.code == 0 && logs.out.contains("selkies: listening\n"), "{logs:?}");
    let log = place.gsk(&["nsight", "logs", "--tail", "1", "--json"]).json();
    schema::log(&log);
    assert_eq!(log["lines"].as_array().unwrap().len(), 1);
    for words in [&["nsight", "open"][..], &["nsight", "open", "--tool", "nsys"]] {
        let open = place.gsk(words);
        assert!(open.code == 0 && open.err.contains("no display here"), "{open:?}");
    }
    place.gsk(&["nsight", "open", "--tool", "ncu"]).refused(1, &["no viewer is ready"]);

    // Somebody else's container is left alone.
    place.ask(&["run", "-d", "--name", "bystander", "--entrypoint", "sleep", NSIGHT, "1000"]);
    let (code, stopped) = self::document(&place, &["nsight", "stop"]);
    assert_eq!((code, &stopped["changes"][0]["action"]), (0, &"removed".into()));
    assert_eq!(stopped["streams"], serde_json::json!([]));
    assert_eq!(place.containers(), ["bystander"]);
    assert!(!fs::exists(file).unwrap(), "the password is forgotten");
    let again = place.gsk(&["nsight", "stop"]);
    assert!(again.code == 0 && again.err.contains("nothing to stop"), "{again:?}");
    assert_eq!(place.containers(), ["bystander"]);
}

#[test]
fn several_run_at_once_by_name() {
    let Some(place) = Place::enter("nsight::several_run_at_once_by_name", Wants::default()) else { return };
    for name in ["a", "b"] {
        let started = Ports::new().start(&place, &["--name", name, "--username", ""]);
        assert!(started.code == 0 && started.err.contains("no login"), "{started:?}");
    }
    assert_eq!(place.containers(), ["gsk-nsight-a", "gsk-nsight-b"]);
    place.gsk(&["nsight", "stop"]).refused(2, &["there are several: a, b", "--name a", "--all"]);
    let (_, stopped) = document(&place, &["nsight", "stop", "--name", "a"]);
    assert_eq!(
        (&stopped["changes"][0]["container"], &stopped["streams"][0]["name"]),
        (&"gsk-nsight-a".into(), &"b".into())
    );
    assert_eq!(place.gsk(&["nsight", "stop", "--all"]).code, 0);
    assert_eq!(place.containers(), [""; 0]);
}

#[test]
fn a_start_that_is_killed_leaves_nothing() {
    let Some(place) = Place::enter("nsight::a_start_that_is_killed_leaves_nothing", Wants::default()) else { return };
    let never = place.profile("environment: {STAND: never}");
    for signal in [libc::SIGKILL, libc::SIGINT] {
        let ports = Ports::new();
        let words = ports.words(&["--profile", &never]);
        let mut gsk = spawn(place.command(&words.iter().map(String::as_str).collect::<Vec<_>>()));
        let running = || place.docker(&["ps", "-q"]).stdout.len() > 1;
        until("the container", || running().then_some(()));
        let password = place.home().join(".local/state/gsk/gsk-nsight-nsys.password");
        assert!(password.exists());
        let (_, status) = document(&place, &["nsight", "status"]);
        assert_eq!(status["streams"][0]["state"], "starting");
        // SAFETY: the process is our child, not yet waited for.
        unsafe { libc::kill(gsk.id() as i32, signal) };
        gsk.wait().unwrap();
        until("its removal", || place.containers().is_empty().then_some(()));
        until("its password's", || (!password.exists()).then_some(()));
    }
}

#[test]
fn a_start_whose_container_is_taken_away_ends_and_leaves_nothing() {
    let name = "nsight::a_start_whose_container_is_taken_away_ends_and_leaves_nothing";
    let Some(place) = Place::enter(name, Wants::default()) else { return };
    let never = place.profile("environment: {STAND: never}");
    let ports = Ports::new();
    let words = ports.words(&["--profile", &never]);
    let mut gsk = spawn(place.command(&words.iter().map(String::as_str).collect::<Vec<_>>()));
    until("the container", || (place.docker(&["ps", "-q"]).stdout.len() > 1).then_some(()));
    let began = Instant::now();
    assert!(place.docker(&["rm", "-f", CONTAINER]).status.success());
    assert!(!gsk.wait().unwrap().success());
    // Much less than the keeper would look for a container that was never created.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(!place.home().join(".local/state/gsk/gsk-nsight-nsys.password").exists());
    assert!(place.containers().is_empty());
}

#[test]
fn a_report_is_opened() {
    let Some(place) = Place::enter("nsight::a_report_is_opened", Wants::default()) else { return };
    reports(&place, &["one.nsys-rep", "two.nsys-rep"]);
    let ports = Ports::new();
    let login = ["--username", ""];
    let first = ports.start(&place, &[&login[..], &["--open", "profiling_output/one.nsys-rep"]].concat());
    assert_eq!(first.code, 0, "{first:?}");
    assert_eq!(page(ports.http, "/tool", None).1, "host-linux-x64/nsys-ui /mnt/host/reports/one.nsys-rep\n");
    // Another report is another start, in the same place.
    let mut words = ports.words(&login);
    words[1] = "open".into();
    words.push("profiling_output/two.nsys-rep".into());
    let second = place.gsk(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(page(ports.http, "/tool", None).1, "host-linux-x64/nsys-ui /mnt/host/reports/two.nsys-rep\n");
    assert_eq!(place.containers(), [CONTAINER]);
}

#[test]
fn a_compose_file_says_what_to_run() {
    let Some(place) = Place::enter("nsight::a_compose_file_says_what_to_run", Wants::default()) else { return };
    reports(&place, &["one.nsys-rep"]);
    let ports = Ports::new();
    let text = format!(
        "services:\n  nsight-streamer:\n    image: {NSIGHT}\n    ports: ['{}:8080', '{1}:{1}']\n    environment:\n      - TURN_PORT={1}\n      - WEB_USERNAME=nvidia\n      - WEB_PASSWORD=nvidia\n      - STAND_REPORTS=/mnt/host/volumes/reports\n    volumes:\n      - ./profiling_output:/mnt/host/volumes/reports\n      - logs:/logs\n    restart: unless-stopped\n",
        ports.http, ports.turn
    );
    fs::write(place.home().join("docker-compose.yml"), text).unwrap();
    let started =
        place.gsk(&["nsight", "start", "--docker-compose", "docker-compose.yml", "--json", "--timeout", "60s"]);
    assert_eq!(started.code, 0, "{started:?}");
    assert!(started.err.contains("password is not used"), "{}", started.err);
    let password = started.json()["streams"][0]["login"]["password"].as_str().unwrap().to_string();
    assert_eq!(page(ports.http, "/reports", Some(&format!("gsk:{password}"))).1, "one.nsys-rep\n");
    assert_eq!(page(ports.http, "/", Some("nvidia:nvidia")).0, 401);
    let mounts = place.inspect(CONTAINER)["HostConfig"]["Mounts"].clone();
    assert_eq!(mounts.as_array().unwrap().len(), 2, "{mounts}");
    assert!(mounts.to_string().contains("home_logs"), "as Compose calls it: {mounts}");
    place.gsk(&["nsight", "stop"]);
    place.docker(&["volume", "rm", "home_logs"]);
}

#[test]
fn a_gpu_is_passed_through_where_the_engine_can() {
    let wants = Wants { gpu: true, ..Wants::default() };
    let Some(place) = Place::enter("nsight::a_gpu_is_passed_through_where_the_engine_can", wants) else { return };
    let ports = Ports::new();
    let started = ports.start(&place, &["--json"]);
    assert!(started.code == 0 && !started.err.contains("no GPU"), "{started:?}");
    assert_eq!(started.json()["streams"][0]["gpu"], "all");
    let requests = &place.inspect(CONTAINER)["HostConfig"]["DeviceRequests"];
    assert_eq!((&requests[0]["Count"], &requests[0]["Capabilities"]), (&(-1).into(), &serde_json::json!([["gpu"]])));
    assert!(!place.environment(CONTAINER).iter().any(|pair| pair.starts_with("ENCODER=")), "software is not chosen");
    place.gsk(&["nsight", "stop"]);
    assert_eq!(ports.start(&place, &["--gpu", "1"]).code, 0);
    assert_eq!(place.inspect(CONTAINER)["HostConfig"]["DeviceRequests"][0]["DeviceIDs"], serde_json::json!(["1"]));
    place.gsk(&["nsight", "stop"]);
    assert_eq!(ports.start(&place, &["--gpu", "none"]).code, 0);
    assert_eq!(place.inspect(CONTAINER)["HostConfig"]["DeviceRequests"], Value::Null);
}

#[test]
fn a_dead_container_is_told_and_made_anew() {
    let Some(place) = Place::enter("nsight::a_dead_container_is_told_and_made_anew", Wants::default()) else { return };
    let ports = Ports::new();
    assert_eq!(ports.start(&place, &[]).code, 0);
    place.ask(&["kill", CONTAINER]);
    let (code, status) = document(&place, &["nsight", "status"]);
    let seen = &status["streams"][0];
    assert_eq!((code, &seen["state"], &seen["reason"]), (1, &"exited".into(), &"it ended with exit code 137".into()));
    assert!(place.gsk(&["nsight", "logs"]).out.contains("listening"), "its log can still be read");
    place.gsk(&["nsight", "open"]).refused(1, &["no viewer is ready"]);
    // The vendor's image cannot be started a second time, and says so.
    place.ask(&["start", CONTAINER]);
    until("its end", || (place.inspect(CONTAINER)["State"]["Running"] == false).then_some(()));
    let (_, status) = document(&place, &["nsight", "status"]);
    let reason = status["streams"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("exit code 1: the image was started a second time"), "{reason}");
    let (code, started) = {
        let answer = ports.start(&place, &["--json"]);
        (answer.code, answer.json())
    };
    assert_eq!((code, &started["changes"][0]["why"]), (0, &"it had ended".into()));
    assert_eq!(place.containers(), [CONTAINER]);
}

#[test]
fn a_password_of_ones_own_is_used_and_left() {
    let Some(place) = Place::enter("nsight::a_password_of_ones_own_is_used_and_left", Wants::default()) else { return };
    fs::create_dir_all(place.home()).unwrap();
    let file = place.home().join("password");
    fs::write(&file, "my-own-password-7\n").unwrap();
    let ports = Ports::new();
    let started = ports.start(&place, &["--password-file", "password", "--username", "ada", "--json"]);
    assert_eq!(started.code, 0, "{started:?}");
    assert_eq!(started.json()["streams"][0]["login"]["password"], Value::Null, "its owner knows it");
    assert!(!started.out.contains("my-own") && !started.err.contains("my-own"), "{started:?}");
    assert_eq!(page(ports.http, "/", Some("ada:my-own-password-7")).0, 200);
    // Status knows that it is there without reading the file.
    fs::write(&file, "not the password that it has\n").unwrap();
    assert_eq!(document(&place, &["nsight", "status"]).1["streams"][0]["state"], "ready");
    fs::write(place.home().join("other"), "my-other-password-8\n").unwrap();
    let kept = ports.start(&place, &["--password-file", "other", "--username", "ada"]);
    assert!(kept.code == 0 && kept.err.contains("home/password, not for that in"), "{kept:?}");
    assert_eq!(place.gsk(&["nsight", "stop"]).code, 0);
    assert!(file.exists(), "it is not ours to remove");
}

/// What a person sees at a terminal: figures while it starts, drawn over each other.
#[test]
fn progress_is_drawn_on_a_terminal() {
    let Some(place) = Place::enter("nsight::progress_is_drawn_on_a_terminal", Wants::default()) else { return };
    let profile = place.profile("environment: {STAND_DELAY: \"1\"}");
    let ports = Ports::new();
    let words = ports.words(&["--profile", &profile, "--username", "''"]).join(" ");
    let plain = place.command(&[]);
    let mut script = Command::new("script");
    script.args(["-qec", &format!("{} {words}", crate::engine::GSK), "/dev/null"]).current_dir(place.home());
    script.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
    let shown = Answer::of(script.stdin(std::process::Stdio::null()).output().unwrap());
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.out.contains("container, 0 s") && shown.out.contains("ready after"), "{shown:?}");
}

/// Containers inherit their image's labels, and an image that is made of our container has ours.
#[test]
fn an_image_with_our_labels_makes_no_container_ours() {
    let Some(place) = Place::enter("nsight::an_image_with_our_labels_makes_no_container_ours", Wants::default()) else {
        return;
    };
    let ports = Ports::new();
    assert_eq!(ports.start(&place, &[]).code, 0);
    let probed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    probed.set_nonblocking(true).unwrap();
    let probe = format!("LABEL gsk.probe=\"http {} /\"", probed.local_addr().unwrap().port());
    place.ask(&["commit", "--change", &probe, CONTAINER, LABELLED]);
    assert_eq!(place.gsk(&["nsight", "stop"]).code, 0);

    // By our name with the image's labels, and by another's name with a start of its own.
    let run = ["run", "-d", "--entrypoint", "sleep"];
    place.ask(&[&run[..], &["--name", CONTAINER, LABELLED, "1000"]].concat());
    place.ask(&[&run[..], &["--name", "bystander", "--label", "gsk.start=x", LABELLED, "1000"]].concat());
    let labels = place.inspect(CONTAINER)["Config"]["Labels"].clone();
    assert_eq!((&labels["gsk.managed"], &labels["gsk.name"]), (&"true".into(), &"nsys".into()));
    let (code, status) = document(&place, &["nsight", "status"]);
    assert_eq!((code, &status["streams"]), (0, &serde_json::json!([])));
    assert!(probed.accept().is_err(), "nobody asks where a label says");
    let stopped = place.gsk(&["nsight", "stop", "--all"]);
    assert!(stopped.code == 0 && stopped.err.contains("nothing to stop"), "{stopped:?}");
    ports.start(&place, &[]).refused(2, &["the container gsk-nsight-nsys is not gsk's"]);
    assert_eq!(place.containers(), ["bystander", CONTAINER]);

    // One that gsk starts of that image is ours.
    place.ask(&["rm", "-f", CONTAINER]);
    let again = place.profile("entrypoint: [sh, -c, 'rm -rf /started /www; exec sh /stand/nsight.sh']");
    let words = ports.words(&["--profile", &again, "--json"]);
    let words = words.iter().map(|word| if word == NSIGHT { LABELLED } else { word.as_str() });
    let started = place.gsk(&words.collect::<Vec<_>>());
    assert_eq!(started.code, 0, "{started:?}");
    assert_eq!(started.json()["streams"][0]["container"], CONTAINER);
    assert_eq!(place.gsk(&["nsight", "stop"]).code, 0);
    assert_eq!(place.containers(), ["bystander"]);
    place.ask(&["rm", "-f", "bystander"]);
    place.ask(&["rmi", LABELLED]);
}

const LABELLED: &str = "gsk-stand-in/labelled:1";
