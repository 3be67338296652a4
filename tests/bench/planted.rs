//! A delay of 30 ms that is planted from outside in one stage: it is in that stage's figure and in the total, and nowhere else.
//!
//! A call of the stand-in driver takes so much longer, or a program of the host's; the program under test is as it ships.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

const DELAY: Duration = Duration::from_millis(30);

/// Each frame's time has room for the delay, so that nothing queues.
const SLOWLY: [&str; 8] = ["--size", "320x180", "--fps", "10", "--frames", "20", "--warmup", "5"];

/// A median at most this far from what it is to be, ms: less than half of what is planted, far more than what others on the
/// machine do to it at this size.
const APART: f64 = 14.0;

/// The medians of a run, ms: each of a case, what made it, and a stage.
struct Medians(Vec<(String, f64)>);

impl Medians {
    fn of(command: &mut Command) -> Medians {
        let output = command.arg("--json").output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!((output.status.code(), &json["errors"]), (Some(0), &serde_json::json!([])), "{json:#}");
        let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
        let mut all = Vec::new();
        for row in json["rows"].as_array().unwrap() {
            for stage in row["stages"].as_array().unwrap().iter().filter(|stage| stage["clock"] == "wall") {
                let name = format!("{} {} {}", text(&row["case"]), text(&row["backend"]), text(&stage["stage"]));
                all.push((name, stage["p50"].as_f64().unwrap()));
            }
            if let Some(page) = row["page_ms"].as_f64() {
                all.push((format!("{} {} page", text(&row["case"]), text(&row["backend"])), page));
            }
        }
        Medians(all)
    }

    fn without(mut self, start: &str) -> Medians {
        self.0.retain(|(name, _)| !name.starts_with(start));
        self
    }

    /// These are [`DELAY`] more than those of a run without, and all others are the same.
    fn are_more_than(&self, before: &Medians, planted: &str, those: &[&str]) {
        let told = || -> String {
            let lines =
                before.0.iter().zip(&self.0).map(|((name, was), (_, is))| format!("{name}: {was} and {is} ms\n"));
            lines.collect()
        };
        let names = |medians: &Medians| medians.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(self), names(before));
        let unknown: Vec<_> = those.iter().filter(|one| !self.0.iter().any(|(name, _)| name == *one)).collect();
        assert!(unknown.is_empty(), "{unknown:?} are not measured:\n{}", told());
        for ((name, is), (_, was)) in self.0.iter().zip(&before.0) {
            let due = if those.contains(&name.as_str()) { DELAY.as_secs_f64() * 1e3 } else { 0.0 };
            let more = is - was;
            assert!(
                (more - due).abs() < APART,
                "{planted}: {name} is {more} ms more, and {due} ms are due:\n{}",
                told()
            );
        }
    }
}

#[test]
fn a_call_of_the_driver_that_takes_longer_is_in_its_stage_and_in_the_total() {
    let run = |slow: Option<&str>| {
        let host = Host::new();
        let mut scene = standin::Scene::rtx();
        if let Some(function) = slow {
            scene.slow(function, DELAY);
        }
        let mut command = host.command(&["capture", "convert", "encode", "pipeline", "--encoder", "nvenc"]);
        scene.apply(&mut command).args(SLOWLY).args(["--codec", "h264"]);
        let medians = Medians::of(&mut command);
        assert_eq!(scene.violations(), []);
        medians
    };
    let planted: [(&str, &[&str]); 3] = [
        ("cuGraphicsMapResources", &["capture - capture", "pipeline nvenc capture", "pipeline nvenc total"]),
        (
            "cuLaunchKernel",
            &[
                "convert i420 convert",
                "convert nv12 convert",
                "encode nvenc convert",
                "encode nvenc total",
                "pipeline nvenc convert",
                "pipeline nvenc total",
            ],
        ),
        (
            "nvEncLockBitstream",
            &["encode nvenc encode", "encode nvenc total", "pipeline nvenc encode", "pipeline nvenc total"],
        ),
    ];
    // They wait most of the time, and do not disturb each other.
    std::thread::scope(|scope| {
        let runs = planted.map(|(function, _)| scope.spawn(move || run(Some(function))));
        let before = run(None);
        for ((function, those), slow) in planted.into_iter().zip(runs) {
            slow.join().unwrap().are_more_than(&before, function, those);
        }
    });
}

/// A program in the host's way of finding `name`, which is this Python.
fn program(host: &Host, name: &str, python: &str) -> std::ffi::OsString {
    let folder = host.path("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(name);
    std::fs::write(&file, format!("#!/usr/bin/env python3\n{python}")).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    let before = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<_>>();
    std::env::join_paths([folder].into_iter().chain(before)).unwrap()
}

/// Where a program of this name is, if it is.
fn which(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|file| file.exists())
}

/// Whether a test can be, for lack of a program: never on CI.
fn lacks(name: &str) -> bool {
    let lacks = which(name).is_none();
    assert!(!lacks || std::env::var("CI").as_deref() != Ok("true"), "there is no {name}");
    if lacks {
        println!("skipped: there is no {name}");
    }
    lacks
}

#[test]
fn a_decoder_that_takes_longer_is_in_its_row() {
    if lacks("ffmpeg") {
        return;
    }
    let run = |seconds: f64| {
        let host = Host::new();
        // The real one's pictures, each handed on late.
        let python = format!(
            "import subprocess, sys, time
real = subprocess.Popen([{:?}, *sys.argv[1:]], stdout=subprocess.PIPE)
out = sys.stdout.buffer
out.write(real.stdout.readline())
while line := real.stdout.readline():
    picture = real.stdout.read(320 * 180 * 3 // 2)
    time.sleep({seconds})
    out.write(line + picture)
    out.flush()
",
            which("ffmpeg").unwrap()
        );
        let path = program(&host, "ffmpeg", &python);
        Medians::of(host.command(&["decode", "--codec", "h264"]).args(SLOWLY).env("PATH", path))
    };
    run(DELAY.as_secs_f64()).are_more_than(&run(0.0), "ffmpeg", &["decode ffmpeg decode"]);
}

#[test]
fn a_socket_that_takes_longer_is_in_the_network_and_in_what_is_received() {
    let host = Host::new();
    let shim = host.path("late.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/late.c");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut compile = Command::new(compiler);
    compile.args(["-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-o"]).arg(&shim).arg(source).arg("-ldl");
    assert!(compile.status().unwrap().success());
    let run = |shim: Option<&Path>| {
        let mut command = host.command(&["network"]);
        command.args(SLOWLY).envs(shim.map(|shim| ("LD_PRELOAD", shim)));
        Medians::of(&mut command)
    };
    let those = ["network openh264 network", "network openh264 received"];
    run(Some(&shim)).are_more_than(&run(None), "send", &those);
}

/// The page's painting, by each way that its scripts paint.
#[test]
fn a_page_that_paints_late_is_in_glass_and_in_what_it_shows_itself() {
    if lacks("chromium") {
        return;
    }
    let host = Host::new();
    let extension = host.path("late");
    std::fs::create_dir(&extension).unwrap();
    let manifest = serde_json::json!({
        "manifest_version": 3, "name": "late", "version": "1",
        "content_scripts": [{
            "matches": ["http://127.0.0.1/*"], "js": ["late.js"], "run_at": "document_start", "world": "MAIN",
        }],
    });
    std::fs::write(extension.join("manifest.json"), manifest.to_string()).unwrap();
    let script = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/late.js")).unwrap();
    let script = format!("{script}\nlate({{ paint: {} }});\n", DELAY.as_millis());
    std::fs::write(extension.join("late.js"), script).unwrap();
    let python = format!(
        "import os, sys\nwords = ['--disable-features=DisableLoadExtensionCommandLineSwitch', '--load-extension={}']\n\
         os.execv({:?}, [sys.argv[0], *words, *sys.argv[1:]])\n",
        extension.display(),
        which("chromium").unwrap()
    );
    program(&host, "late-browser", &python);
    let words = ["glass", "--size", "320x180", "--fps", "20", "--frames", "60", "--warmup", "20"];
    // MediaSource paints by itself.
    let run = |command: &mut Command| Medians::of(command).without("glass mse");
    let before = run(&mut host.command(&words));
    let late = run(host.command(&words).arg("--browser").arg(host.path("bin/late-browser")));
    let those = ["glass webcodecs glass", "glass webcodecs page", "glass mjpeg glass", "glass mjpeg page"];
    late.are_more_than(&before, "paint", &those);
}
