//! The cases that start workers of their own: the network, glass, density.

use super::*;

const SMALL: [&str; 6] = ["--size", "320x180", "--frames", "30", "--warmup", "5"];

fn words<'a>(case: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[case], more, &SMALL].concat()
}

fn rows(json: &Value) -> &Vec<Value> {
    json["rows"].as_array().unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Workers and browsers that have outlived the run: their home is this one.
fn left(host: &Host) -> Vec<String> {
    let home = format!("HOME={}", host.home.path().display());
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == home.as_bytes())
    })
    .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " "))
    .collect()
}

#[test]
fn the_network_is_measured_and_what_viewers_cost() {
    let host = Host::new();
    let (code, json) = host.json(&words("network", &["--viewers", "8"]));
    assert_eq!((code, rows(&json).len()), (0, 1), "{json:#}");
    let row = &rows(&json)[0];
    assert_eq!((&row["backend"], &row["codec"], &row["size"]), (&"openh264".into(), &"h264".into(), &"320x180".into()));
    let [network, received, encoded] = ["network", "received", "encoded"].map(|name| {
        let stage = row["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == name).unwrap();
        // 8 viewers of 30 frames, which the clock counts.
        let n = stage["n"].as_u64().unwrap();
        assert!((160..=320).contains(&n), "{name}: {n}");
        stage["samples_us"].as_array().unwrap().iter().map(number).collect::<Vec<_>>()
    });
    let adds_up = |i: &usize| (received[*i] - network[*i] - encoded[*i]).abs() <= 1.0 || network[*i] == 0.0;
    assert_eq!((0..network.len()).find(|i| !adds_up(i)), None, "received is encoded and network");
    let load = &row["load"];
    assert_eq!((&load["viewers"], &row["drops"]["missing"]), (&8.into(), &0.into()), "{row:#}");
    assert!(number(&load["cpu_percent"]) > 0.0 && number(&load["memory_bytes"]) > 1e6, "{load:#}");
    assert!(load["memory_bytes_a_viewer"].is_u64() && load["cpu_percent_a_viewer"].is_number(), "{load:#}");
    assert!(number(&row["fps"]) > 10.0, "{row:#}");
    let held = json["budget"].as_array().unwrap().iter().find(|held| held["stage"] == "network").unwrap();
    assert!(held["met"].is_boolean(), "{held:#}");
    assert_eq!(left(&host), Vec::<String>::new());
}

#[test]
fn one_viewer_adds_nothing_to_itself_and_each_codec_is_its_own() {
    let host = Host::new();
    let (code, json) = host.json(&words("network", &["--codec", "jpeg"]));
    let row = &rows(&json)[0];
    assert_eq!((code, &row["codec"], &row["backend"]), (0, &"jpeg".into(), &"jpeg".into()), "{json:#}");
    assert_eq!(row["load"]["cpu_percent_a_viewer"], Value::Null);
}

#[test]
fn density_says_how_many_and_that_no_more_were_tried() {
    let host = Host::new();
    let (code, json) = host.json(&words("density", &["--streams", "2", "--fps", "10"]));
    assert_eq!((code, rows(&json).len()), (0, 1), "{json:#}");
    let row = &rows(&json)[0];
    let (load, words) = (&row["load"], row["detail"].as_str().unwrap());
    match load["gave_out"]["what"].as_str() {
        None => {
            assert_eq!(load["streams"], 2, "{row:#}");
            assert!(
                words.starts_with("this host holds 2 streams of 320x180 at 10 fps; more were not tried"),
                "{words}"
            );
        }
        // Others on the machine leave no room for a second.
        Some(what) => assert!(load["streams"] == 1 && what.starts_with("CPU, "), "{row:#}"),
    }
    assert!(number(&load["others_percent"]) >= 0.0, "{row:#}");
    assert!(number(&row["fps"]) >= 9.7, "{row:#}");
    assert_eq!(left(&host), Vec::<String>::new());
}

#[test]
fn density_says_what_gave_out() {
    // One stream takes more than any host's time: 4K at 240 frames a second on the CPU.
    let host = Host::new();
    let (code, json) = host.json(&["density", "--size", "4K", "--fps", "240", "--encoder", "openh264"]);
    let absent = json["absent"].as_array().unwrap();
    assert_eq!((code, absent.len()), (3, 1), "{json:#}");
    let reason = absent[0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("not even one stream holds the frame rate: "), "{reason}");
    assert!(reason.contains("fps of the slowest"), "{reason}");
    // It is not in a run that does not name it.
    let (_, json) = host.json(&["--source", "noise", "--size", "64x48", "--frames", "3", "--warmup", "0"]);
    let has = |case: &str| json["absent"].as_array().unwrap().iter().any(|row| row["case"] == case);
    assert!(!has("density") && has("network") && has("glass"), "{json:#}");
}

#[test]
fn an_interrupt_ends_the_workers_too() {
    let host = Host::new();
    let child = host
        .command(&["network", "--size", "320x180", "--frames", "3000", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let began = std::time::Instant::now();
    while !left(&host).iter().any(|line| line.contains(" serve ")) {
        assert!(began.elapsed().as_secs() < 20, "no worker");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(2), "{output:?}");
    assert_eq!(left(&host), Vec::<String>::new());
}

#[test]
fn without_chromium_glass_says_so() {
    let host = Host::new();
    let output = host.command(&words("glass", &["--json"])).env("PATH", host.home.path()).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), rows(&json).len()), (Some(3), 0), "{json:#}");
    assert_eq!(json["absent"][0]["reason"], "there is no Chromium on this host");
    let (code, json) = host.json(&words("glass", &["--browser", "/dev/null"]));
    assert_eq!((code, &json["absent"][0]["reason"]), (3, &"'/dev/null' is no program".into()));
    let (_, json) = host.json(&words("glass", &["--source", "noise"]));
    assert!(json["absent"][0]["reason"].as_str().unwrap().contains("only the scene's pictures"), "{json:#}");
}

#[test]
fn glass_agrees_with_what_the_page_shows() {
    let host = Host::new();
    let names = ["chromium", "google-chrome"];
    let folders = std::env::var_os("PATH").unwrap();
    if !names.iter().any(|name| std::env::split_paths(&folders).any(|folder| folder.join(name).exists())) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "there is no Chromium");
        println!("skipped: there is no Chromium");
        return;
    }
    // Both are medians of the same pictures over nearly the same time; whatever else runs may come in between once or twice.
    let agrees = |attempt: i32| {
        let (code, json) = host.json(&["glass", "--size", "640x360", "--frames", "150", "--warmup", "60"]);
        let ways: Vec<&str> = rows(&json).iter().map(|row| row["backend"].as_str().unwrap()).collect();
        assert_eq!((code, &ways[..]), (0, &["webcodecs", "mse", "mjpeg"][..]), "{json:#}");
        let apart: Vec<f64> = rows(&json).iter().filter_map(apart).collect();
        println!("attempt {attempt}: {apart:.1?} ms apart");
        apart.len() == 2 && apart.iter().all(|apart| apart.abs() < 5.0)
    };
    assert!((1..=3).any(agrees));
    assert_eq!(left(&host), Vec::<String>::new());
}

/// How much more a row of glass has than the page itself shows, ms; none where the page shows nothing.
fn apart(row: &Value) -> Option<f64> {
    let glass = &row["stages"][0];
    assert_eq!(glass["stage"], "glass");
    assert!(glass["n"].as_u64().unwrap() > 20 && number(&glass["min"]) > 0.0, "{glass:#}");
    let words = row["detail"].as_str().unwrap();
    assert!(words.contains("composition and display are not in it") && words.contains("known to 0.1 ms"), "{words}");
    // The page does not measure what it hands to MediaSource.
    assert_eq!(row["page_ms"].is_null(), row["backend"] == "mse");
    Some(number(&glass["p50"]) - row["page_ms"].as_f64()?)
}
