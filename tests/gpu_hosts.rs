//! `gsk::gpu` on scripted hosts, over the loader and the stand-in driver. NVML is opened once a process, so that each host
//! is met by a process of its own: this program again, with one test.

use std::process::Command;
use std::time::{Duration, Instant};

use gsk::gpu;
use serde_json::{Value, json};

mod standin;

use standin::{Board, Foreign, Mig, Scene, Video};

const ANSWER: &str = "answer: ";

/// What the processes do: run by the tests below, each on its host.
#[test]
fn process() {
    let Ok(part) = std::env::var("GSK_TEST_PART") else { return };
    let answer = match part.as_str() {
        "look" => look(),
        "hang" => hang(),
        other => panic!("{other}"),
    };
    println!("{ANSWER}{answer}");
}

/// Everything that is known of the host.
fn look() -> Value {
    let limit = Duration::from_secs(10);
    let inventory = gpu::inventory(limit);
    // SAFETY: what the stand-in's library, or the vendor's, runs when it is loaded asks nothing of its caller.
    let nvenc =
        unsafe { libloading::Library::new("libnvidia-encode.so.1") }.map(drop).map_err(|error| error.to_string());
    json!({
        "verdict": gpu::verdict(&inventory, nvenc.as_ref().map(|_| ()).map_err(String::as_str)),
        "capacity": gpu::capacity(&inventory),
        "inventory": inventory,
        "sessions": gpu::sessions(limit),
        "recent": gpu::recent_sessions(limit),
    })
}

/// Asks a driver that hangs, until it answers.
fn hang() -> Value {
    fn timed<T>(ask: impl FnOnce() -> T) -> (T, u64) {
        let start = Instant::now();
        let answer = ask();
        (answer, start.elapsed().as_millis() as u64)
    }
    let limit = Duration::from_millis(150);
    let (first, first_ms) = timed(|| gpu::inventory(limit));
    // Long limits: they are not used up.
    let long = Duration::from_secs(60);
    let (second, second_ms) = timed(|| gpu::inventory(long));
    let (sessions, sessions_ms) = timed(|| gpu::sessions(long));
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let ours =
        |path: &std::path::Path| std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "gsk-nvml");
    let threads = threads.filter(|task| ours(&task.path())).count();
    let start = Instant::now();
    let last = loop {
        let inventory = gpu::inventory(long);
        if inventory.hung.is_none() {
            break inventory;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it came back, and is not asked");
        std::thread::sleep(Duration::from_millis(5));
    };
    json!({
        "first": first, "first_ms": first_ms, "first_verdict": gpu::verdict(&first, Ok(())),
        "second": second, "second_ms": second_ms,
        "sessions": sessions, "sessions_ms": sessions_ms,
        "threads": threads, "last": last, "last_sessions": gpu::sessions(long),
    })
}

/// Runs a part of this program on a scene's host.
fn on(scene: &Scene, part: &str, environment: &[(&str, &str)]) -> Value {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "process", "--nocapture"]).env_remove("GSK_NVML_LIBRARY").env("GSK_TEST_PART", part);
    scene.apply(&mut command).envs(environment.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let answer = text.lines().find_map(|line| line.split_once(ANSWER)).unwrap_or_else(|| panic!("{text}")).1;
    serde_json::from_str(answer).unwrap()
}

fn seen(scene: &Scene) -> Value {
    on(scene, "look", &[])
}

/// Whether this machine has a driver of its own, which the loader finds where a scene has none.
fn has_driver() -> bool {
    // SAFETY: what NVML runs when it is loaded asks nothing of its caller.
    unsafe { libloading::Library::new("libnvidia-ml.so.1") }.is_ok()
}

/// A host's verdict: usable on a GPU, or a cause, and what its text says.
fn expect(host: &str, seen: &Value, driver: &str, verdict: Result<u64, &str>, says: &[&str]) {
    assert_eq!(seen["inventory"]["driver"], driver, "{host}: {seen:#}");
    match verdict {
        Ok(gpu) => {
            assert_eq!(
                (&seen["verdict"]["usable"], &seen["verdict"]["gpu"]),
                (&true.into(), &gpu.into()),
                "{host}: {seen:#}"
            );
            assert_eq!(seen["verdict"]["uuid"], seen["inventory"]["gpus"][gpu as usize]["uuid"], "{host}: {seen:#}");
        }
        Err(cause) => assert_eq!(
            (&seen["verdict"]["usable"], &seen["verdict"]["cause"]),
            (&false.into(), &cause.into()),
            "{host}: {seen:#}"
        ),
    }
    let text = format!("{} {}", seen["verdict"]["detail"], seen["verdict"]["remedy"]);
    for part in says {
        assert!(text.contains(part), "{host}: {part:?} is not in {text}");
    }
}

#[test]
fn hosts_without_a_driver_that_works() {
    if has_driver() {
        eprintln!("skipped: the host without a driver, since this machine has one");
    } else {
        let scene = Scene::without_driver();
        let seen = seen(&scene);
        expect(
            "no driver",
            &seen,
            "no-library",
            Err("no-driver"),
            &["libnvidia-ml.so.1: cannot open", "sudo apt install"],
        );
        assert!(seen["sessions"].is_null() && seen["recent"].is_null());
        assert_eq!(seen["capacity"]["limit"], "unknown");
    }
    let mut scene = Scene::geforce(8);
    scene.without_nvenc_library();
    if !has_driver() {
        let seen = seen(&scene);
        let says =
            ["without its NVENC library: libnvidia-encode.so.1", "libnvidia-encode-550", "NVIDIA_DRIVER_CAPABILITIES"];
        expect("no NVENC library", &seen, "ready", Err("no-driver"), &says);
    }
    for (host, code, driver, cause, says) in [
        ("version mismatch", 18, "mismatch", "fault", "sudo reboot"),
        ("module not loaded", 9, "not-loaded", "no-driver", "sudo modprobe nvidia"),
        ("no permission", 4, "no-permission", "fault", "ls -l /dev/nvidia*"),
        ("an error without a name", 999, "fault", "fault", "nvidia-smi"),
    ] {
        let mut scene = Scene::geforce(8);
        scene.fault_from("nvmlInit_v2", 1, code);
        let seen = seen(&scene);
        expect(host, &seen, driver, Err(cause), &[says]);
        assert!(seen["sessions"].is_null(), "{host}");
    }
    for nothing in [Scene::new(), {
        let mut scene = Scene::new();
        scene.fault_from("nvmlInit_v2", 1, 6);
        scene
    }] {
        let seen = seen(&nothing);
        expect("no GPU", &seen, "no-gpu", Err("no-engine"), &["lspci -d 10de:"]);
        assert_eq!(seen["inventory"]["driver_version"], "550.54.14");
        assert_eq!((&seen["capacity"]["limit"]["sessions"], &seen["sessions"]), (&0.into(), &json!([])));
    }
}

#[test]
fn the_library_is_where_the_environment_says() {
    let scene = Scene::geforce(8);
    let path = scene.libraries().join("libnvidia-ml.so.1").to_string_lossy().into_owned();
    let at = |library: &str| on(&scene, "look", &[("GSK_NVML_LIBRARY", library), ("LD_LIBRARY_PATH", "/nowhere")]);
    let there = at(&path);
    assert_eq!((&there["inventory"]["driver"], &there["inventory"]["library"]), (&"ready".into(), &path.into()));
    expect(
        "a path to nowhere",
        &at("/nowhere/libnvidia-ml.so.1"),
        "no-library",
        Err("fault"),
        &["unset GSK_NVML_LIBRARY"],
    );
    let text = scene.path().to_string_lossy().into_owned();
    expect("a file that is no library", &at(&text), "bad-library", Err("fault"), &["unset GSK_NVML_LIBRARY"]);
    let no_nvml = scene.libraries().join("libcuda.so.1").to_string_lossy().into_owned();
    expect("another library", &at(&no_nvml), "bad-library", Err("fault"), &["nvmlInit_v2", "unset GSK_NVML_LIBRARY"]);
    // Empty is unset.
    let unset = on(&scene, "look", &[("GSK_NVML_LIBRARY", "")]);
    assert_eq!(unset["inventory"]["library"], "libnvidia-ml.so.1");
    assert_eq!(unset["inventory"]["driver"], "ready");
}

#[test]
fn hosts_without_an_engine() {
    let seen_h200 = seen(&Scene::h200());
    expect("H200", &seen_h200, "ready", Err("no-engine"), &["GPU 0 (NVIDIA H200)", "how these boards are made"]);
    let gpu = &seen_h200["inventory"]["gpus"][0];
    assert_eq!((&gpu["compute"], &gpu["architecture"], &gpu["mig"]), (&"9.0".into(), &"Hopper".into(), &false.into()));
    assert_eq!(gpu["encoder_capacity"], json!({ "h264": null, "hevc": null, "av1": null }));
    assert_eq!(seen_h200["capacity"]["limit"]["sessions"], 0);

    let divided = seen(&Scene::of(Board::a100().mig(Mig::On).unsupported(&["nvmlDeviceGetEncoderSessions"])));
    expect("MIG", &divided, "ready", Err("no-engine"), &["MIG has no part in it"]);
    assert_eq!(divided["inventory"]["gpus"][0]["mig"], true);
    assert!(divided["inventory"]["gpus"][0]["sessions"].is_null());
    assert_eq!(divided["sessions"], json!([]), "a board without an encoder has no sessions");

    let both = seen(&Scene::a100_and_rtx());
    let says = ["GPU 1 (NVIDIA RTX 6000 Ada Generation) encodes", "no NVENC engine: GPU 0 (NVIDIA A100"];
    expect("A100 beside an RTX", &both, "ready", Ok(1), &says);
    assert_eq!(both["capacity"]["limit"], "unlimited");
}

#[test]
fn geforce_hosts_have_the_limit_of_their_driver() {
    for (limit, version) in [(2, "418.43"), (3, "460.67"), (5, "530.41.03"), (8, "550.54.14"), (12, "591.59")] {
        let mut scene = Scene::geforce(limit);
        scene.version(version);
        let free = seen(&scene);
        expect(version, &free, "ready", Ok(0), &[&format!("0 of the {limit} sessions")]);
        assert_eq!(free["capacity"]["limit"]["sessions"], limit, "{version}");
        assert_eq!(free["capacity"]["gpus"], json!([0]));
        for i in 0..limit {
            scene.foreign(Foreign::new(0, 7000 + i % 2));
        }
        let full = seen(&scene);
        expect(
            version,
            &full,
            "ready",
            Err("limit"),
            &[&format!("GeForce boards {limit}"), "7000 (", "gsk nvenc-status"],
        );
        assert_eq!(full["sessions"].as_array().unwrap().len() as u32, limit);
    }
    let mut scene = Scene::two_geforce(2);
    scene.version("418.43").foreign(Foreign::new(0, 71)).foreign(Foreign::new(1, 72));
    let shared = seen(&scene);
    expect("two boards share one limit", &shared, "ready", Err("limit"), &["71 (1), 72 (1)"]);
    assert_eq!(shared["capacity"]["gpus"], json!([0, 1]));
}

#[test]
fn everything_that_a_gpu_tells_is_read() {
    let mut scene = Scene::of(
        Board::geforce()
            .uuid("GPU-5a5a5a5a-0000-1111-2222-333344445555")
            .pci("00000000:41:00.0")
            .encoder_util(37)
            .decoder_util(5)
            .capacity(80)
            .memory_mib(24_564, 1_000),
    );
    let large = 3_000_000_000;
    scene.foreign(Foreign::new(0, large).codec(Video::Av1).size(3840, 2160).fps(59).latency_us(1800).session(77));
    scene
        .foreign(Foreign::new(0, 12).codec_number(9))
        .process(0, 40, 512, false)
        .process(0, 40, 512, true)
        .process(0, 39, 1, true);
    let seen = seen(&scene);
    let gpu = &seen["inventory"]["gpus"][0];
    let mib = 1 << 20;
    for (key, value) in [
        ("index", json!(0)),
        ("uuid", json!("GPU-5a5a5a5a-0000-1111-2222-333344445555")),
        ("pci", json!("00000000:41:00.0")),
        ("name", json!("NVIDIA GeForce RTX 4090")),
        ("compute", json!("8.9")),
        ("architecture", json!("Ada")),
        ("mig", json!(null)),
        ("memory", json!({ "total": 24_564u64 * mib, "used": 1_000 * mib })),
        ("encoder_utilization", json!(37)),
        ("decoder_utilization", json!(5)),
        ("encoder_capacity", json!({ "h264": 80, "hevc": 80, "av1": 80 })),
        ("encoder_stats", json!({ "sessions": 2, "average_fps": 59, "average_latency_us": 1900 })),
        ("processes", json!([{ "pid": 39, "memory": mib }, { "pid": 40, "memory": 512 * mib }])),
        ("faults", json!([])),
    ] {
        assert_eq!(gpu[key], value, "{key}");
    }
    // The process of another namespace is listed as it is; so is a codec that NVML did not have.
    let first = json!({
        "gpu": 0, "id": 77, "pid": large, "codec": "av1", "width": 3840, "height": 2160, "average_fps": 59, "average_latency_us": 1800
    });
    assert_eq!((&gpu["sessions"][0], &gpu["sessions"][1]["codec"]), (&first, &"unknown(9)".into()));
    assert_eq!((&seen["sessions"], &seen["recent"]), (&gpu["sessions"], &gpu["sessions"]));
    assert_eq!(
        (&seen["inventory"]["driver_version"], &seen["inventory"]["cuda_version"]),
        (&"550.54.14".into(), &"12.4".into())
    );
}

#[test]
fn a_list_of_sessions_that_changes_while_it_is_read() {
    let busy = |sessions: u32| {
        let mut scene = Scene::rtx();
        for i in 0..sessions {
            scene.foreign(Foreign::new(0, 100 + i));
        }
        scene
    };
    let count = |seen: &Value| seen["inventory"]["gpus"][0]["sessions"].as_array().map(Vec::len);
    let mut grew = busy(3);
    grew.race_insufficient(4);
    assert_eq!(count(&seen(&grew)), Some(3));
    let mut ended = busy(3);
    ended.race_fewer(1);
    assert_eq!(count(&seen(&ended)), Some(2));
    // More than there is room for at first.
    assert_eq!(count(&seen(&busy(50))), Some(50));
    let mut never = busy(3);
    never.race_insufficient(1000);
    let never = seen(&never);
    assert_eq!((count(&never), &never["sessions"]), (None, &json!(null)));
    assert!(never["inventory"]["gpus"][0]["faults"][0].as_str().unwrap().starts_with("nvmlDeviceGetEncoderSessions: "));
    // The rest of the board is known.
    assert_eq!(never["verdict"]["usable"], true);
}

#[test]
fn one_gpu_that_is_lost_leaves_the_others() {
    let mut scene = Scene::new();
    scene.board(Board::rtx()).board(Board::rtx()).foreign(Foreign::new(1, 5));
    // The first call of each question is for GPU 0.
    scene.fault("nvmlDeviceGetHandleByIndex_v2", 1, 15).fault("nvmlDeviceGetHandleByIndex_v2", 3, 15);
    let seen = seen(&scene);
    expect("a GPU that fell off the bus", &seen, "ready", Ok(1), &["GPU 1"]);
    assert!(seen["inventory"]["gpus"][0]["name"].is_null());
    assert!(seen["inventory"]["gpus"][0]["faults"][0].as_str().unwrap().contains("fell off the bus"));
    assert_eq!(seen["sessions"].as_array().unwrap().len(), 1);
}

#[test]
fn a_call_that_hangs_is_named_and_waited_for_once() {
    let mut scene = Scene::two_geforce(8);
    scene.foreign(Foreign::new(0, 5)).hang("nvmlDeviceGetEncoderUtilization", 1, Some(Duration::from_millis(1500)));
    let seen = on(&scene, "hang", &[]);
    let ms = |key: &str| seen[key].as_u64().unwrap();
    let first = &seen["first"];
    assert_eq!((&first["hung"]["call"], &first["hung"]["gpu"]), (&"nvmlDeviceGetEncoderUtilization".into(), &0.into()));
    // Bounds on liveness: far from what they are, and from the time of the hang.
    assert!((150..1000).contains(&ms("first_ms")), "{}", ms("first_ms"));
    assert!(ms("second_ms") < 500 && ms("sessions_ms") < 500, "{} {}", ms("second_ms"), ms("sessions_ms"));
    // What was known by then.
    assert_eq!((&first["driver"], &first["driver_version"]), (&"ready".into(), &"550.54.14".into()));
    assert_eq!(first["gpus"][0]["name"], "NVIDIA GeForce RTX 4090");
    assert_eq!(first["gpus"][0]["sessions"].as_array().map(Vec::len), Some(1));
    assert!(first["gpus"][0]["decoder_utilization"].is_null() && first["gpus"][1]["name"].is_null());
    assert_eq!(seen["first_verdict"]["cause"], "fault");
    assert!(seen["first_verdict"]["remedy"].as_str().unwrap().contains("dmesg"));
    let second = &seen["second"];
    assert_eq!(second["gpus"], first["gpus"]);
    assert!(second["hung"]["for_ms"].as_u64() >= first["hung"]["for_ms"].as_u64());
    assert!(seen["sessions"].is_null());
    assert_eq!(seen["threads"], 1);
    // It came back: all is known.
    assert_eq!(seen["last"]["gpus"][1]["name"], "NVIDIA GeForce RTX 3060");
    assert_eq!(seen["last"]["gpus"][0]["encoder_utilization"], 0);
    assert_eq!(seen["last_sessions"].as_array().map(Vec::len), Some(1));

    let mut scene = Scene::geforce(8);
    scene.hang("nvmlInit_v2", 1, Some(Duration::from_millis(1500)));
    let seen = on(&scene, "hang", &[]);
    assert_eq!((&seen["first"]["driver"], &seen["first"]["hung"]["call"]), (&"hung".into(), &"nvmlInit_v2".into()));
    assert_eq!(seen["last"]["driver"], "ready");
}
