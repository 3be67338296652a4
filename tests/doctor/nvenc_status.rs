//! `gsk nvenc-status`: the matrix of workers, and hosts of all kinds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::gsk::{Gsk, SOON, until};
use crate::place::{Bystander, Place};
use crate::standin::{Board, Foreign, Scene, Video};
use crate::viewer::Viewer;

/// As many consecutive ports as nobody has, below those that the system gives out.
fn free_ports(count: u16) -> u16 {
    let first = 20_000 + (std::process::id() % 1000) as u16 * 10;
    let all_free = |base: &u16| (0..count).all(|i| TcpListener::bind(("127.0.0.1", base + i)).is_ok());
    (first..32_000).step_by(usize::from(count)).find(all_free).expect("consecutive free ports")
}

/// A server that answers every request with these bytes; none: it never does.
fn server(answer: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut hung = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            match answer {
                None => hung.push(stream),
                Some(answer) => {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let mut line = String::new();
                    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                        line.clear();
                    }
                    // Who asked may have hung up.
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        }
    });
    addr
}

fn rows<'a>(document: &'a Value, table: &str) -> &'a Vec<Value> {
    document[table].as_array().unwrap_or_else(|| panic!("{table}: {document:#}"))
}

/// The cells of a row of CSV without quotes in it.
fn csv<'a>(text: &'a str, table: &str, key: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.starts_with(&format!("{table},")) && line.contains(key));
    line.unwrap_or_else(|| panic!("no {key} in {table}:\n{text}")).split(',').collect()
}

/// Done when: five workers with a viewer each on two slots.
#[test]
fn five_workers_on_two_slots_are_shown_right_in_each_cell() {
    let place = Place::new(Scene::geforce(2));
    let base = free_ports(5);
    let workers: Vec<Gsk> =
        (0..5).map(|i| place.worker(i, &["--slots", "2", "--listen", &(base + i as u16).to_string()])).collect();
    let _viewers: Vec<Viewer> = workers.iter().map(|worker| Viewer::join(worker.addr, "/ws")).collect();
    let states = until(SOON, "two that stream and three that wait", || {
        let states: Vec<Value> = workers.iter().map(Gsk::status).collect();
        let of = |state: &str| states.iter().filter(|status| status["state"] == state).count();
        let measured = |status: &Value| status["state"] != "streaming" || status["frames_fps"].is_f64();
        (of("streaming") == 2 && of("no-slot") == 3 && states.iter().all(measured)).then_some(states)
    });
    let words = ["nvenc-status", "--workers", "5", "--base-port", &base.to_string(), "--slots", "2"];
    let (code, shown) = place.json(&words);
    assert_eq!(code, 0, "{shown:#}");
    assert_eq!(shown["schema"], json!({"name": "gsk.nvenc-status", "version": 1}));
    let limit = json!({"kind": "sessions", "sessions": 2, "from": "--slots"});
    assert_eq!((&shown["limit"], &shown["sessions_used"]), (&limit, &2.into()));
    let gpu = &rows(&shown, "gpus")[0];
    assert_eq!(
        (&gpu["name"], &gpu["engines"], &gpu["sessions"]),
        (&"NVIDIA GeForce RTX 4090".into(), &2.into(), &2.into())
    );

    let holders: Vec<&Gsk> =
        workers.iter().zip(&states).filter(|(_, s)| s["state"] == "streaming").map(|(w, _)| w).collect();
    let user = gsk::proc::user_name(rustix::process::getuid().as_raw()).unwrap();
    for session in rows(&shown, "sessions") {
        let holder = holders.iter().find(|holder| session["pid"] == holder.pid()).expect("a holder's");
        assert_eq!((&session["program"], &session["user"]), (&"gsk".into(), &user.clone().into()), "{session:#}");
        assert_eq!(
            (&session["codec"], &session["width"], &session["height"]),
            (&"h264".into(), &160.into(), &96.into())
        );
        assert_eq!(session["ours"], true);
        let slot = format!("slot-{}", place.slot_of(holder.pid()));
        assert_eq!(session["lease"], slot);
        let lease = rows(&shown, "leases").iter().find(|lease| lease["slot"] == slot).unwrap();
        assert_eq!((&lease["held"], &lease["alive"]), (&true.into(), &true.into()));
        assert_eq!((&lease["holder"]["pid"], &lease["holder"]["source"]), (&holder.pid().into(), &"sh".into()));
    }
    assert_eq!((rows(&shown, "sessions").len(), rows(&shown, "leases").len()), (2, 2));
    for (i, (worker, state)) in rows(&shown, "workers").iter().zip(&states).enumerate() {
        assert_eq!((&worker["port"], &worker["instance"]), (&(base + i as u16).into(), &format!("omega-{i}").into()));
        assert_eq!(
            (&worker["state"], &worker["viewers"], &worker["state_derived"]),
            (&state["state"], &1.into(), &false.into())
        );
        assert_eq!(worker["backend"], state["stream_backend"]);
        assert_eq!(worker["fps"].is_f64(), state["state"] == "streaming", "{worker:#}");
        match state["state"] == "streaming" {
            true => assert!(worker["slot"].as_str().unwrap().starts_with("slot-")),
            false => assert!(worker["reason"].as_str().unwrap().starts_with("2 of 2 held by omega-"), "{worker:#}"),
        }
    }

    let table = place.gsk(&words);
    assert_eq!((table.code, table.err.as_str()), (0, ""));
    println!("{}", table.out);
    for heading in [
        "GPUs: driver 550.54.14; 2 of 2 encoder sessions in use\n",
        "\nSessions: 2\n",
        "\nLeases: 2 of 2 held, in ",
        "\nWorkers: 5\n",
    ] {
        assert!(table.out.contains(heading), "{heading}: {}", table.out);
    }
    let text = place.gsk(&[&words[..], &["--format", "csv"]].concat()).out;
    let gpu = csv(&text, "gpus", "RTX 4090");
    assert_eq!(gpu[..6], ["gpus", "0", "NVIDIA GeForce RTX 4090", "2", "2", "2"], "{text}");
    assert_eq!(gpu.last(), Some(&"--slots"));
    for holder in &holders {
        let (pid, slot) = (holder.pid().to_string(), format!("slot-{}", place.slot_of(holder.pid())));
        let session = csv(&text, "sessions", &pid);
        assert_eq!(session[..7], ["sessions", "0", &pid, "gsk", &user, "h264", "160x96"], "{text}");
        assert_eq!(session[10..], ["ours", &slot], "{text}");
        let lease = csv(&text, "leases", &slot);
        assert!(
            lease[2] == "held" && lease[3].contains(&pid) && lease[4] == "h264 160x96 from sh" && lease[5] == "yes",
            "{text}"
        );
    }
}

#[test]
fn each_kind_of_worker_is_a_row() {
    let place = Place::new(Scene::geforce(3));
    let live = place.worker(0, &[]);
    live.await_state(SOON, "idle");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hung = server(None);
    let nonsense = server(Some("220 mail.example ESMTP\r\n"));
    let page = server(Some("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>"));
    let elsewhere = server(Some("HTTP/1.1 301 Moved\r\nlocation: http://example/\r\ncontent-length: 0\r\n\r\n"));
    let metabonk = server(Some(concat!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n",
        "{\"worker_id\": \"omega-7\", \"streaming\": true, \"stream_backend\": \"gst:cuda_appsrc:nvh264enc\", ",
        "\"stream_active_clients\": 2, \"frames_fps\": 41.25, \"stream_target_fps\": 60, \"frames_dropped\": 3}"
    )));
    let all = [live.addr, gone, hung, nonsense, page, elsewhere, metabonk].map(|addr| format!("http://{addr}"));
    let mut words = vec!["nvenc-status", "--timeout", "700ms"];
    all.iter().for_each(|url| words.extend(["--worker", url]));
    let began = Instant::now();
    let (code, shown) = place.json(&words);
    assert!(began.elapsed() < Duration::from_millis(700 * 3), "asked one after the other: {:?}", began.elapsed());
    assert_eq!(code, 0, "{shown:#}");
    let expected = [
        ("omega-0", "idle", ""),
        ("", "unreachable", "nothing listens there"),
        ("", "unreachable", "connected, but no answer within 0.7 s"),
        ("", "unreachable", "does not speak HTTP"),
        ("", "unreachable", "not JSON"),
        ("", "unreachable", "sends on to http://example/ (301)"),
        ("omega-7", "streaming", "concluded"),
    ];
    for (row, (instance, state, words)) in rows(&shown, "workers").iter().zip(expected) {
        let reason = row["reason"].as_str().unwrap();
        assert_eq!((row["instance"].as_str().unwrap_or(""), &row["state"]), (instance, &state.into()), "{row:#}");
        assert!(reason.contains(words), "{row:#}");
        assert!(state != "unreachable" || row["viewers"].is_null() && row["fps"].is_null(), "{row:#}");
    }
    let metabonk = &rows(&shown, "workers")[6];
    assert_eq!(
        (&metabonk["fps"], &metabonk["viewers"], &metabonk["frames_dropped"]),
        (&41.25.into(), &2.into(), &3.into())
    );
    let text = place.gsk(&[&words[..], &["--format", "csv"]].concat()).out;
    assert!(text.contains(",unreachable,-,-,-,-,nothing listens there\n"), "{text}");
}

#[test]
fn workers_get_the_token_from_the_environment_and_from_nowhere_else() {
    let place = Place::new(Scene::geforce(3));
    let worker = Gsk::with(&["--listen", "0.0.0.0:0", "--instance-id", "omega-4"], |command| {
        command.env("GSK_TOKEN", "a-token-of-some-length").env("GSK_LEASE_DIR", place.leases());
    });
    let url = format!("http://127.0.0.1:{}", worker.addr.port());
    let ask = |token: &str| {
        let mut command = place.command(env!("CARGO_BIN_EXE_gsk"));
        command.env("GSK_TOKEN", token).args(["nvenc-status", "--json", "--worker", &url]);
        serde_json::from_slice::<Value>(&command.output().unwrap().stdout).unwrap()["workers"][0].clone()
    };
    assert_eq!(ask("a-token-of-some-length")["instance"], "omega-4");
    for token in ["", "another-token-of-some-length"] {
        let row = ask(token);
        assert_eq!(row["state"], "unreachable");
        assert!(row["reason"].as_str().unwrap().contains("GSK_TOKEN"), "{row:#}");
    }
    std::fs::write(place.home.path().join("gsk.yaml"), format!("nvenc-status:\n  worker: [\"{url}\"]\n")).unwrap();
    let answer = place.gsk(&["nvenc-status"]);
    assert!(answer.code == 2 && answer.err.contains("'worker' may not be set here"), "{answer:?}");
}

#[test]
fn without_a_driver_leases_and_workers_are_shown_all_the_same() {
    let place = Place::new(Scene::without_driver());
    let lease = place.lease("omega-1");
    let worker = place.worker(0, &[]);
    worker.await_state(SOON, "idle");
    let url = format!("http://{}", worker.addr);
    let (code, shown) = place.json(&["nvenc-status", "--worker", &url]);
    assert_eq!((code, &shown["driver"]["state"]), (3, &"no-library".into()), "{shown:#}");
    assert_eq!((&shown["sessions"], &shown["sessions_used"]), (&Value::Null, &Value::Null));
    assert_eq!(rows(&shown, "leases")[0]["holder"]["pid"], lease.owner.id());
    assert_eq!(rows(&shown, "workers")[0]["state"], "idle");
    let table = place.gsk(&["nvenc-status"]);
    assert!(table.out.starts_with("GPUs: no NVIDIA driver\n") && table.out.contains("omega-1 (pid "), "{table:?}");
    assert!(
        table.err.starts_with("note: no encoding on a GPU: no NVIDIA driver: ") && table.err.contains("sudo apt"),
        "{table:?}"
    );
}

#[test]
fn a_host_with_no_gpu_and_one_with_two() {
    let mut none = Scene::new();
    none.version("550.54.14");
    let (code, shown) = Place::new(none).json(&["nvenc-status"]);
    assert_eq!((code, &shown["driver"]["state"], rows(&shown, "gpus").len()), (3, &"no-gpu".into(), 0), "{shown:#}");

    let mut scene = Scene::two_geforce(8);
    let mut obs = Bystander::start(&["obs"]);
    scene.foreign(Foreign::new(1, obs.pid()).codec(Video::Av1).size(1920, 1080).fps(60).latency_us(2500).session(7));
    let place = Place::new(scene);
    let (code, shown) = place.json(&["nvenc-status"]);
    assert_eq!(code, 0, "{shown:#}");
    let sessions: Vec<&Value> = rows(&shown, "gpus").iter().map(|gpu| &gpu["sessions"]).collect();
    assert_eq!(sessions, [&json!(0), &json!(1)], "{shown:#}");
    assert!(rows(&shown, "gpus").iter().all(|gpu| gpu["limited"] == true));
    assert!(shown["limit"]["from"].as_str().unwrap().contains("support table"), "{shown:#}");
    let session = &rows(&shown, "sessions")[0];
    let told = ["gpu", "pid", "program", "codec", "width", "height", "fps", "latency_ms", "ours", "lease"]
        .map(|key| &session[key]);
    assert_eq!(json!(told), json!([1, obs.pid(), "sleep", "av1", 1920, 1080, 60, 2.5, false, null]), "{session:#}");
    assert!(obs.is_alive());
}

#[test]
fn boards_without_an_engine_and_professional_ones() {
    let (code, shown) = Place::new(Scene::h200()).json(&["nvenc-status"]);
    let gpu = &rows(&shown, "gpus")[0];
    assert_eq!((code, &gpu["engines"], &gpu["sessions"]), (0, &0.into(), &0.into()), "{shown:#}");
    assert_eq!(shown["limit"]["sessions"], 0, "{shown:#}");
    assert_eq!(
        (&shown["verdict"]["usable"], &shown["verdict"]["cause"]),
        (&false.into(), &"no-engine".into()),
        "{shown:#}"
    );
    let (code, shown) = Place::new(Scene::of(Board::rtx())).json(&["nvenc-status"]);
    assert_eq!(
        (code, &shown["limit"]["kind"], &shown["limit"]["sessions"]),
        (0, &"unlimited".into(), &Value::Null),
        "{shown:#}"
    );
}

#[test]
fn what_is_wrong_ends_with_1() {
    let mut scene = Scene::geforce(8);
    for id in 1..=3 {
        scene.foreign(Foreign::new(0, 4_194_000 + id).session(id));
    }
    let place = Place::new(scene);
    let with_limit = |limit: &str| {
        let mut command = place.command(env!("CARGO_BIN_EXE_gsk"));
        command.arg("nvenc-status").env("GSK_NVENC_MAX_SESSIONS", limit).output().unwrap()
    };
    let output = with_limit("2");
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("3 of 2 encoder sessions") && table.contains("GSK_NVENC_MAX_SESSIONS"), "{table}");
    assert_eq!(with_limit("3").status.code(), Some(0));

    let place = Place::new(Scene::without_driver());
    let orphan = place.orphan("omega-2");
    let (code, shown) = place.json(&["nvenc-status"]);
    assert_eq!(code, 1, "worse than the missing driver: {shown:#}");
    let lease = &rows(&shown, "leases")[0];
    assert_eq!((&lease["alive"], &lease["held_by"][0]["pid"]), (&false.into(), &orphan.pid.into()), "{lease:#}");
    let table = place.gsk(&["nvenc-status"]).out;
    assert!(table.contains("orphaned") && table.contains(&format!("held by pid {} (sleep of ", orphan.pid)), "{table}");
    let failing =
        server(Some("HTTP/1.1 200 OK\r\ncontent-length: 36\r\n\r\n{\"state\":\"error\",\"reason\":\"no card\"}"));
    let place = Place::new(Scene::geforce(3));
    assert_eq!(place.gsk(&["nvenc-status", "--worker", &format!("http://{failing}")]).code, 1);
}

#[test]
fn a_driver_that_hangs_is_told_in_time_with_what_is_known() {
    let mut scene = Scene::geforce(3);
    scene.hang("nvmlDeviceGetEncoderUtilization", 1, None);
    let place = Place::new(scene);
    let lease = place.lease("omega-1");
    let began = Instant::now();
    let (code, shown) = place.json(&["nvenc-status", "--timeout", "400ms"]);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!((code, &shown["driver"]["hung"]["call"]), (5, &"nvmlDeviceGetEncoderUtilization".into()), "{shown:#}");
    assert_eq!(rows(&shown, "gpus")[0]["name"], "NVIDIA GeForce RTX 4090");
    assert_eq!(rows(&shown, "leases")[0]["holder"]["pid"], lease.owner.id());
}

#[test]
fn watching_prints_one_object_a_line_until_it_is_interrupted() {
    let place = Place::new(Scene::geforce(3));
    let mut command = place.command(env!("CARGO_BIN_EXE_gsk"));
    let mut watch = command.args(["nvenc-status", "--json", "--watch=0.1"]).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let times: Vec<String> = lines
        .take(3)
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()["at"].as_str().unwrap().into())
        .collect();
    assert!(times.is_sorted() && times[0] < times[2], "{times:?}");
    // Its standard output is closed by now, so that it may end by itself too.
    let _ = kill_process(Pid::from_child(&watch), Signal::INT);
    let status = watch.wait().unwrap();
    assert!(status.signal() == Some(2) || status.success(), "{status:?}");
}

/// On a terminal, which util-linux's `script` provides: the second table is drawn over the first.
#[test]
fn watching_redraws_a_table_on_a_terminal_and_ctrl_c_ends_it() {
    let place = Place::new(Scene::geforce(3));
    let mut command: Command = place.command("script");
    let words = format!("stty cols 160; exec {} nvenc-status --watch=0.1", env!("CARGO_BIN_EXE_gsk"));
    command.args(["-qefc", &words, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::piped());
    let mut script = command.spawn().unwrap();
    let mut out = script.stdout.take().unwrap();
    let (mut seen, mut part) = (String::new(), [0; 4096]);
    while seen.matches("\x1b[H").count() < 2 {
        let n = out.read(&mut part).unwrap();
        assert!(n > 0, "{seen:?}");
        seen += &String::from_utf8_lossy(&part[..n]);
    }
    script.stdin.take().unwrap().write_all(b"\x03").unwrap();
    out.read_to_string(&mut seen).unwrap();
    assert_eq!(script.wait().unwrap().code(), Some(130));
    assert!(seen.contains("GPUs: driver 550.54.14") && seen.contains("\x1b[J"), "{seen:?}");
}

#[test]
fn addresses_are_judged_before_anybody_is_asked() {
    let place = Place::new(Scene::without_driver());
    for (words, says) in [
        (vec!["--worker", "https://gpu1:5000"], "only http:// is spoken here"),
        (vec!["--host", "http://gpu1"], "write the name alone"),
        (vec!["--workers", "10", "--base-port", "65530"], "go beyond port 65535"),
        (vec!["--timeout", "fast"], "write it with its unit"),
        (vec!["--watch=0"], "outside 0.1 to 3600"),
    ] {
        let answer = place.gsk(&[&["nvenc-status"], &words[..]].concat());
        assert!(answer.code == 2 && answer.err.contains(says), "{words:?}: {answer:?}");
    }
}
