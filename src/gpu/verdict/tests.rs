use super::*;
use crate::gpu::{Codec, Compute, Hung};

fn gpu(index: u32, name: &str, compute: (u32, u32)) -> Gpu {
    let compute = Compute { major: compute.0, minor: compute.1 };
    Gpu {
        index,
        uuid: Some(format!("GPU-{index}")),
        name: Some(name.into()),
        compute: Some(compute),
        architecture: compute.architecture(),
        sessions: Some(Vec::new()),
        ..Gpu::default()
    }
}

fn h200(index: u32) -> Gpu {
    gpu(index, "NVIDIA H200", (9, 0))
}

fn a100(index: u32) -> Gpu {
    gpu(index, "NVIDIA A100-SXM4-40GB", (8, 0))
}

fn rtx(index: u32) -> Gpu {
    gpu(index, "NVIDIA RTX A4000", (8, 6))
}

fn geforce(index: u32) -> Gpu {
    gpu(index, "NVIDIA GeForce RTX 3080", (8, 6))
}

/// With sessions of these processes.
fn busy(mut gpu: Gpu, pids: &[u32]) -> Gpu {
    let session = |(id, &pid)| Session {
        gpu: gpu.index,
        id: id as u32,
        pid,
        codec: Codec::Av1,
        width: 1920,
        height: 1080,
        average_fps: 60,
        average_latency_us: 2000,
    };
    gpu.sessions = Some(pids.iter().enumerate().map(session).collect());
    gpu
}

fn divided(gpu: Gpu) -> Gpu {
    Gpu { mig: Some(true), sessions: None, ..gpu }
}

fn ready(driver_version: &str, gpus: Vec<Gpu>) -> Inventory {
    Inventory {
        driver: Driver::Ready,
        library: "libnvidia-ml.so.1".into(),
        driver_version: Some(driver_version.into()),
        gpus,
        ..Inventory::default()
    }
}

fn closed(driver: Driver, detail: &str) -> Inventory {
    Inventory { driver, detail: Some(detail.into()), library: "libnvidia-ml.so.1".into(), ..Inventory::default() }
}

struct Case {
    host: &'static str,
    inventory: Inventory,
    nvenc: Result<(), &'static str>,
    /// The cause, or the GPU to encode on.
    expected: Result<Option<u32>, Cause>,
    /// What detail and remedy must say.
    says: &'static [&'static str],
    limit: Limit,
}

const LOADER: &str = "libnvidia-encode.so.1: cannot open shared object file: No such file or directory";

fn cases() -> Vec<Case> {
    let missing = "libnvidia-ml.so.1: cannot open shared object file: No such file or directory";
    let case = |host, inventory, nvenc, expected, says, limit| Case { host, inventory, nvenc, expected, says, limit };
    use Cause::{Fault, NoDriver, NoEngine};
    vec![
        case(
            "no driver",
            closed(Driver::NoLibrary, missing),
            Err(LOADER),
            Err(NoDriver),
            &["no NVIDIA driver", "libnvidia-ml.so.1: cannot open", "sudo apt install nvidia-driver"],
            Limit::Unknown,
        ),
        case(
            "a container that was given no GPU",
            Inventory { kernel_module: Some("550.54.14".into()), ..closed(Driver::NoLibrary, missing) },
            Err(LOADER),
            Err(NoDriver),
            &["module 550.54.14", "--gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"],
            Limit::Unknown,
        ),
        case(
            "a container with NVENC and without NVML",
            closed(Driver::NoLibrary, missing),
            Ok(()),
            Ok(None),
            &["NVML is not", "utility"],
            Limit::Unknown,
        ),
        case(
            "a wrong GSK_NVML_LIBRARY",
            Inventory { library: "/nowhere/libnvidia-ml.so".into(), ..closed(Driver::NoLibrary, missing) },
            Ok(()),
            Err(Fault),
            &["GSK_NVML_LIBRARY", "unset GSK_NVML_LIBRARY"],
            Limit::Unknown,
        ),
        case(
            "no library of this architecture",
            closed(Driver::BadLibrary, "wrong ELF class: ELFCLASS32"),
            Err(LOADER),
            Err(Fault),
            &["cannot be used: wrong ELF class", "ldconfig -p"],
            Limit::Unknown,
        ),
        case(
            "module not loaded",
            closed(Driver::NotLoaded, "NVIDIA driver is not loaded"),
            Ok(()),
            Err(NoDriver),
            &["kernel module is not loaded", "sudo modprobe nvidia"],
            Limit::Unknown,
        ),
        case(
            "version mismatch",
            Inventory { kernel_module: Some("535.54.03".into()), ..closed(Driver::Mismatch, "mismatch") },
            Ok(()),
            Err(Fault),
            &["driver/library version mismatch", "loaded: 535.54.03", "sudo reboot", "sudo rmmod nvidia_uvm"],
            Limit::Unknown,
        ),
        case(
            "no permission",
            closed(Driver::NoPermission, "not permitted"),
            Ok(()),
            Err(Fault),
            &["may not open", "usermod -aG video"],
            Limit::Unknown,
        ),
        case(
            "no GPU",
            closed(Driver::NoGpu, "not found"),
            Ok(()),
            Err(NoEngine),
            &["finds no GPU", "lspci -d 10de:"],
            Limit::Sessions(0),
        ),
        case(
            "NVML fails otherwise",
            closed(Driver::Fault, "an internal driver error occurred"),
            Ok(()),
            Err(Fault),
            &["an internal driver error occurred", "nvidia-smi"],
            Limit::Unknown,
        ),
        case(
            "driver without NVENC's library",
            ready("550.54.14", vec![geforce(0)]),
            Err(LOADER),
            Err(NoDriver),
            &["without its NVENC library", LOADER, "apt install libnvidia-encode-550", "compute,utility,video"],
            Limit::Sessions(8),
        ),
        case(
            "H200",
            ready("570.86.15", vec![h200(0)]),
            Ok(()),
            Err(NoEngine),
            &["no NVENC engine: GPU 0 (NVIDIA H200)", "how these boards are made"],
            Limit::Sessions(0),
        ),
        case(
            "H200, and no NVENC library, which would not help",
            ready("570.86.15", vec![h200(0), h200(1)]),
            Err(LOADER),
            Err(NoEngine),
            &["GPU 0 (NVIDIA H200), GPU 1 (NVIDIA H200)"],
            Limit::Sessions(0),
        ),
        case(
            "GeForce with 2",
            ready("418.43", vec![gpu(0, "GeForce GTX 1080", (6, 1))]),
            Ok(()),
            Ok(Some(0)),
            &["GPU 0 (GeForce GTX 1080) encodes; 0 of the 2 sessions"],
            Limit::Sessions(2),
        ),
        case(
            "GeForce with 3",
            ready("460.67", vec![busy(geforce(0), &[9])]),
            Ok(()),
            Ok(Some(0)),
            &["1 of the 3 sessions"],
            Limit::Sessions(3),
        ),
        case(
            "GeForce with 8, all taken by others",
            ready("550.54.14", vec![busy(geforce(0), &[70, 71, 70, 70, 70, 70, 70, 70])]),
            Ok(()),
            Err(Cause::Limit),
            &["8 encoder sessions are open", "GeForce boards 8", "70 (7), 71 (1)", "gsk nvenc-status"],
            Limit::Sessions(8),
        ),
        case(
            "two GeForce boards share one limit",
            ready("418.43", vec![busy(geforce(0), &[5]), busy(geforce(1), &[6])]),
            Ok(()),
            Err(Cause::Limit),
            &["2 encoder sessions are open", "5 (1), 6 (1)"],
            Limit::Sessions(2),
        ),
        case(
            "GeForce whose sessions cannot be listed",
            ready("550.54.14", vec![Gpu { sessions: None, ..geforce(0) }]),
            Ok(()),
            Ok(Some(0)),
            &["an unknown number of the 8 sessions"],
            Limit::Sessions(8),
        ),
        case(
            "GeForce under a driver that does not say its version",
            Inventory { driver_version: None, ..ready("", vec![geforce(0)]) },
            Ok(()),
            Ok(Some(0)),
            &["a limit that is not known"],
            Limit::Unknown,
        ),
        case(
            "A100 beside an RTX",
            ready("550.54.14", vec![a100(0), rtx(1)]),
            Ok(()),
            Ok(Some(1)),
            &["GPU 1 (NVIDIA RTX A4000) encodes; no NVENC engine: GPU 0 (NVIDIA A100-SXM4-40GB)"],
            Limit::Unlimited,
        ),
        case(
            "a full GeForce beside a professional board",
            ready("418.43", vec![busy(geforce(0), &[5, 6]), rtx(1)]),
            Ok(()),
            Ok(Some(1)),
            &["GPU 1 (NVIDIA RTX A4000) encodes"],
            Limit::Unlimited,
        ),
        case(
            "a full GeForce beside an unknown board",
            ready("418.43", vec![busy(geforce(0), &[5, 6]), gpu(1, "NVIDIA Something", (8, 6))]),
            Ok(()),
            Ok(Some(1)),
            &["not in gsk's table"],
            Limit::Sessions(2),
        ),
        case(
            "MIG on an A100",
            ready("550.54.14", vec![divided(a100(0))]),
            Ok(()),
            Err(NoEngine),
            &["no NVENC engine", "MIG has no part in it"],
            Limit::Sessions(0),
        ),
        case(
            "MIG on a board with encoders",
            ready("580.65.06", vec![divided(gpu(0, "NVIDIA RTX PRO 6000 Blackwell Server Edition", (12, 0)))]),
            Ok(()),
            Ok(Some(0)),
            &["divided by MIG", "sudo nvidia-smi -i 0 -mig 0"],
            Limit::Unknown,
        ),
        case(
            "an unknown board",
            ready("550.54.14", vec![gpu(0, "NVIDIA Something", (8, 6))]),
            Ok(()),
            Ok(Some(0)),
            &["GPU 0 (NVIDIA Something) is not in gsk's table"],
            Limit::Unknown,
        ),
        case(
            "a board that may be limited",
            ready("550.54.14", vec![gpu(0, "NVIDIA T1000", (7, 5))]),
            Ok(()),
            Ok(Some(0)),
            &["GPU 0 (NVIDIA T1000) encodes"],
            Limit::Unknown,
        ),
        case(
            "a GPU that fell off the bus",
            ready(
                "550.54.14",
                vec![Gpu { index: 0, faults: vec!["device fell off the bus".into()], ..Gpu::default() }],
            ),
            Ok(()),
            Err(Fault),
            &["GPU 0 does not answer: device fell off the bus", "dmesg"],
            Limit::Unknown,
        ),
        case(
            "NVML that hangs on a GPU",
            Inventory {
                hung: Some(Hung { call: "nvmlDeviceGetEncoderSessions".into(), gpu: Some(0), for_ms: 2040 }),
                ..ready("550.54.14", vec![geforce(0)])
            },
            Ok(()),
            Err(Fault),
            &["does not answer: nvmlDeviceGetEncoderSessions of GPU 0 has not returned for 2.0 s", "dmesg"],
            Limit::Sessions(8),
        ),
        case(
            "NVML that hangs from the start",
            Inventory {
                hung: Some(Hung { call: "nvmlInit_v2".into(), gpu: None, for_ms: 500 }),
                ..Inventory::default()
            },
            Ok(()),
            Err(Fault),
            &["nvmlInit_v2 has not returned for 0.5 s"],
            Limit::Unknown,
        ),
    ]
}

#[test]
fn every_host_has_its_own_verdict_and_remedy() {
    let mut seen: Vec<(&str, Verdict)> = Vec::new();
    for Case { host, inventory, nvenc, expected, says, limit } in cases() {
        let verdict = verdict(&inventory, nvenc);
        let got = if verdict.usable { Ok(verdict.gpu) } else { Err(verdict.cause.expect("a cause")) };
        assert_eq!(got, expected, "{host}: {verdict:?}");
        assert_eq!(verdict.usable, verdict.cause.is_none(), "{host}");
        assert_eq!(verdict.uuid, verdict.gpu.map(|index| format!("GPU-{index}")), "{host}");
        let text = format!("{} | {}", verdict.detail, verdict.remedy.as_deref().unwrap_or_default());
        for part in says {
            assert!(text.contains(part), "{host}: {part:?} is not in {text:?}");
        }
        // What can be repaired has a command; that a board has no engine cannot.
        let repairable = !verdict.usable && (verdict.cause != Some(Cause::NoEngine) || inventory.gpus.is_empty());
        assert!(!repairable || verdict.remedy.is_some(), "{host}");
        assert_eq!(capacity(&inventory).limit, limit, "{host}: {:?}", capacity(&inventory));
        if let Some((other, _)) = seen.iter().find(|(_, other)| other.detail == verdict.detail) {
            panic!("{host} and {other} are told the same: {}", verdict.detail);
        }
        seen.push((host, verdict));
    }
}

#[test]
fn a_capacity_says_where_it_comes_from_and_which_gpus_count() {
    let both = capacity(&ready("550.54.14", vec![a100(0), geforce(1), geforce(2)]));
    assert_eq!(both.from, "driver 550.54.14, GeForce boards share 8 (support table)");
    assert_eq!(both.gpus, [1, 2]);
    let none = capacity(&ready("550.54.14", vec![h200(0)]));
    assert_eq!(none.from, "no NVENC engine: GPU 0 (NVIDIA H200)");
    let mixed = capacity(&ready("550.54.14", vec![geforce(0), rtx(1)]));
    assert_eq!((mixed.limit, mixed.gpus.len()), (Limit::Unlimited, 0));
    assert_eq!(mixed.from, "driver 550.54.14, GPU 1 (NVIDIA RTX A4000) has no session limit (support table)");
}

#[test]
fn an_inventory_is_json_with_null_for_what_is_not_known() {
    let inventory = ready("550.54.14", vec![busy(geforce(0), &[7])]);
    let json = serde_json::to_value(&inventory).unwrap();
    assert_eq!(json["driver"], "ready");
    let gpu = &json["gpus"][0];
    assert_eq!((&gpu["compute"], &gpu["architecture"]), (&"8.6".into(), &"Ampere".into()));
    assert_eq!(gpu["sessions"][0]["codec"], "av1");
    for null in ["mig", "memory", "encoder_utilization", "encoder_stats", "processes"] {
        assert!(gpu[null].is_null(), "{null}");
    }
    assert!(gpu["encoder_capacity"]["av1"].is_null());
    assert_eq!(Codec::Unknown(7).to_string(), "unknown(7)");
}

#[test]
fn a_chosen_board_has_its_own_capacity() {
    let both = ready("550.54.14", vec![geforce(0), rtx(1), a100(2), busy(geforce(3), &[7])]);
    let of = |board: &str| capacity_of(&both, board);
    let limited = of("GPU-0");
    assert_eq!((limited.limit, limited.boards), (Limit::Sessions(8), vec!["GPU-0".to_string()]));
    assert_eq!(limited.gpus, [0, 3], "sessions on the other GeForce board count too");
    assert_eq!((of("GPU-1").limit, of("GPU-1").boards), (Limit::Unlimited, vec!["GPU-1".to_string()]));
    assert_eq!(of("GPU-2").limit, Limit::Sessions(0));
    assert_eq!(of("GPU-2").from, "no NVENC engine: GPU 2 (NVIDIA A100-SXM4-40GB)");
    assert_eq!(of("GPU-9").limit, Limit::Unknown, "a board that is gone");
}

/// CUDA gives an instance a UUID of its own, which is not NVML's of the board.
#[test]
fn a_divided_board_is_found_by_its_address() {
    let board = Gpu { pci: Some("00000000:41:00.0".into()), ..rtx(0) };
    let boards = |board| capacity(&ready("550.54.14", vec![board])).boards;
    assert_eq!(boards(divided(board.clone())), ["00000000:41:00.0"]);
    assert_eq!(boards(divided(Gpu { pci: None, ..board.clone() })), ["GPU-0"]);
    assert_eq!(boards(board), ["GPU-0"]);
}
