//! Every scripted host, with its verdict, its remedy and its exit code.

use crate::standin::{Board, Foreign, Mig, Scene, Video};
use crate::{Host, has_driver};

/// A check, its verdict, and words of what it says.
type Row = (&'static str, &'static str, &'static [&'static str]);

struct Case {
    name: &'static str,
    scene: Scene,
    code: i32,
    rows: &'static [Row],
}

fn case(
    name: &'static str,
    mut scene: Scene,
    change: impl FnOnce(&mut Scene),
    code: i32,
    rows: &'static [Row],
) -> Case {
    change(&mut scene);
    Case { name, scene, code, rows }
}

const SAME: fn(&mut Scene) = |_| {};

/// Asks the whole host but for the thousand cycles, and compares.
fn hold(cases: Vec<Case>) {
    for Case { name, scene, code, rows } in cases {
        let host = Host::new(scene);
        let answer = host.json(&["--skip", "cycles,capture", "--timeout", "3s"]);
        println!("{name}");
        for (id, verdict, says) in rows {
            answer.has(id, verdict, says);
        }
        assert_eq!(answer.code, code, "{name}: {:#}", answer.json);
        assert_eq!(answer.json["nvidia"], true, "{name}");
        assert!(host.scene.sessions().is_empty(), "{name}");
        assert_eq!(host.scene.violations(), [], "{name}");
    }
}

#[test]
fn geforce_boards_and_their_limits() {
    let limited = |limit: u32, version: &str| {
        let mut scene = Scene::geforce(limit);
        scene.version(version);
        scene
    };
    let full = |limit: u32, version: &str| {
        let mut scene = limited(limit, version);
        (0..limit).for_each(|n| {
            scene.foreign(Foreign::new(0, 7000 + n));
        });
        scene
    };
    hold(vec![
        case("limit 2", limited(2, "418.43"), SAME, 0, &[("nvenc", "pass", &["0 of the 2 sessions"])]),
        case("limit 3", limited(3, "460.67"), SAME, 0, &[("nvenc", "pass", &["0 of the 3 sessions"])]),
        case("limit 8", limited(8, "550.54.14"), SAME, 0, &[("nvenc", "pass", &["0 of the 8 sessions"])]),
        case("full 2", full(2, "418.43"), SAME, 0, &[("nvenc", "warn", &["no slot", "2 of 2", "gsk nvenc-status"])]),
        case("full 8", full(8, "550.54.14"), SAME, 0, &[("nvenc", "warn", &["no slot", "8 of 8", "gsk nvenc-status"])]),
        case(
            "a limit that the table does not know of",
            limited(1, "550.54.14"),
            |scene| {
                scene.foreign(Foreign::new(0, 7000));
            },
            0,
            &[("nvenc", "warn", &["the driver allows no further encoder session", "gsk nvenc-status"])],
        ),
    ]);
}

#[test]
fn boards_and_sessions_of_all_kinds() {
    hold(vec![
        case("an RTX", Scene::rtx(), SAME, 0, &[("nvml", "pass", &["GPU 0 (NVIDIA RTX"]), ("nvenc", "pass", &[])]),
        case(
            "an A100 divided by MIG",
            Scene::of(Board::a100().mig(Mig::On).unsupported(&["nvmlDeviceGetEncoderSessions"])),
            SAME,
            0,
            &[("nvml", "pass", &["divided by MIG"]), ("nvenc", "skip", &["MIG has no part in it"])],
        ),
        case(
            "a board that no table knows",
            Scene::of(Board::new("NVIDIA Fictional 9000").cc(15, 0)),
            SAME,
            0,
            &[("nvenc", "pass", &["not in gsk's table"])],
        ),
        case(
            "sessions that vanish while they are listed",
            Scene::geforce(8),
            |scene| {
                scene.foreign(Foreign::new(0, 71)).foreign(Foreign::new(0, 72)).race_insufficient(2);
            },
            0,
            &[("nvml", "pass", &[]), ("nvenc", "pass", &["2 of the 8 sessions"])],
        ),
        case(
            "a list that is shorter than it was said to be",
            Scene::geforce(8),
            |scene| {
                scene.foreign(Foreign::new(0, 71)).foreign(Foreign::new(0, 72)).race_fewer(1);
            },
            0,
            &[("nvml", "pass", &[]), ("nvenc", "pass", &["of the 8 sessions"])],
        ),
        case(
            "an AV1 session, and a pid of another namespace",
            Scene::geforce(8),
            |scene| {
                scene.foreign(Foreign::new(0, 4_000_000_000).codec(Video::Av1));
            },
            0,
            &[("nvml", "pass", &[]), ("nvenc", "pass", &["1 of the 8 sessions"])],
        ),
        case(
            "memory that is full",
            Scene::of(Board::rtx().memory_mib(8192, 8180).session_mib(64)),
            SAME,
            1,
            &[("nvenc", "fail", &["12 MiB free", "nvidia-smi shows who uses it"])],
        ),
    ]);
}

#[test]
fn drivers_that_do_not_work() {
    let broken = |function: &'static str, code: u32| {
        let mut scene = Scene::rtx();
        scene.fault_from(function, 1, code);
        scene
    };
    let mut cases = vec![
        case(
            "a driver without its kernel module",
            broken("nvmlInit_v2", 9),
            SAME,
            1,
            &[
                ("driver", "fail", &["kernel module is not loaded", "sudo modprobe nvidia"]),
                ("cuda", "skip", &["driver failed"]),
                ("gl-to-cuda", "skip", &["driver failed"]),
                ("draw", "pass", &[]),
            ],
        ),
        case(
            "device files that may not be opened",
            broken("nvmlInit_v2", 4),
            SAME,
            1,
            &[("nvml", "fail", &["may not open the NVIDIA devices", "usermod -aG video"]), ("gl-to-cuda", "pass", &[])],
        ),
        case(
            "an error without a name",
            broken("nvmlInit_v2", 999),
            SAME,
            1,
            &[("nvml", "fail", &["NVML does not work", "nvidia-smi"]), ("cuda", "pass", &[])],
        ),
        case(
            "a call about one board that hangs",
            Scene::rtx(),
            |scene| {
                scene.hang("nvmlDeviceGetEncoderSessions", 1, None);
            },
            1,
            &[
                ("nvml", "fail", &["nvmlDeviceGetEncoderSessions of GPU 0 has not returned", "dmesg"]),
                ("nvenc", "skip", &["nvml failed"]),
                ("gl-to-cuda", "pass", &[]),
            ],
        ),
        case(
            "NVML that crashes at a board",
            Scene::rtx(),
            |scene| {
                scene.crash("nvmlDeviceGetName", 1);
            },
            1,
            &[
                ("nvml", "fail", &["ended the process by SIGSEGV", "dmesg"]),
                ("nvenc", "skip", &["nvml failed"]),
                ("cuda", "pass", &[]),
            ],
        ),
        case(
            "a driver that is too old for NVENC",
            Scene::rtx(),
            |scene| {
                scene.nvenc_api(12, 0);
            },
            1,
            &[("nvenc", "fail", &["NVENC API 12.0", "driver 530"]), ("cuda", "pass", &[])],
        ),
        case(
            "an encoder that the driver does not offer",
            broken("nvEncOpenEncodeSessionEx", 2),
            SAME,
            1,
            &[("nvenc", "fail", &["has an NVENC engine, but the driver does not offer it", "MIG instance"])],
        ),
        case(
            "an encoder that hangs",
            Scene::rtx(),
            |scene| {
                scene.hang("nvEncOpenEncodeSessionEx", 1, None);
            },
            1,
            &[("nvenc", "fail", &["opening an NVENC session did not return within 3.0 s", "dmesg"])],
        ),
    ];
    if !has_driver() {
        cases.push(case(
            "a driver without libcuda",
            Scene::rtx(),
            |scene| {
                scene.without_cuda();
            },
            1,
            &[
                ("cuda", "fail", &["libcuda.so.1 is not on this host", "install the NVIDIA driver"]),
                ("egl-cuda", "skip", &["cuda failed"]),
                ("draw", "pass", &[]),
            ],
        ));
    }
    hold(cases);
}

/// A bundle is written where the driver crashes, too: that is what it is for.
#[test]
fn a_driver_that_crashes_does_not_keep_a_bundle_from_being_written() {
    let mut scene = Scene::rtx();
    scene.crash("nvmlInit_v2", 1);
    let host = Host::new(scene);
    let path = host.home.path().join("bundle.tar.gz");
    let output = host.run(&["--skip", "cycles,capture", "--timeout", "3s", "--bundle", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()));
    let status = archive
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path().unwrap().ends_with("nvenc-status.json"));
    let status: serde_json::Value = serde_json::from_reader(status.unwrap()).unwrap();
    assert!(status["error"]["cause"].as_str().unwrap().contains("SIGSEGV"), "{status}");
}
