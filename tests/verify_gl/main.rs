//! `gsk verify-gl` on hosts of all kinds: the stand-in driver's boards, Mesa's OpenGL, and neither.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

#[path = "../form/mod.rs"]
mod form;
mod hosts;
mod schema;
#[path = "../standin/mod.rs"]
mod standin;

use standin::{Board, Foreign, Mig, Scene, Video};

const GSK: &str = env!("CARGO_BIN_EXE_gsk");

struct Host {
    scene: Scene,
    home: tempfile::TempDir,
}

struct Answer {
    code: i32,
    json: Value,
}

impl Host {
    fn new(scene: Scene) -> Host {
        Host { scene, home: tempfile::tempdir().unwrap() }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.home.path()).env_clear().env("HOME", self.home.path());
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("GSK_LEASE_DIR", self.home.path().join("leases"));
        command.env("NVIDIA_DRIVER_CAPABILITIES", "all");
        self.scene.apply(&mut command);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(GSK).arg("verify-gl").args(words).output().unwrap()
    }

    /// Handles that were not given back. NVML stays open for as long as a process lives.
    fn leaks(&self) -> Vec<standin::Event> {
        let leaks = self.scene.leaks().into_iter();
        leaks.filter(|leak| leak.get("kind") != "nvml-init").collect()
    }

    fn json(&self, words: &[&str]) -> Answer {
        Answer::from(self.run(&[words, &["--json"]].concat()))
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Answer {
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        schema::check(&json);
        for check in json["checks"].as_array().unwrap() {
            let verdict = check["verdict"].as_str().unwrap();
            assert!(check["id"].is_string() && check["title"].is_string(), "{check}");
            assert_eq!(check["because"].is_null(), verdict == "pass", "{check}");
            assert_eq!(check["remedy"].is_string(), ["warn", "fail"].contains(&verdict), "{check}");
        }
        Answer { code: output.status.code().unwrap(), json }
    }
}

impl Answer {
    fn check(&self, id: &str) -> &Value {
        let checks = self.json["checks"].as_array().unwrap();
        checks.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("no {id}: {:#}", self.json))
    }

    /// That a check has this verdict, and these words in what it says.
    fn has(&self, id: &str, verdict: &str, says: &[&str]) {
        let check = self.check(id);
        assert_eq!(check["verdict"], verdict, "{id}: {:#}", self.json);
        for text in says {
            assert!(check.to_string().contains(text), "{id} lacks {text:?}: {check:#}");
        }
    }

    fn capability(&self, name: &str) -> &Value {
        let rows = self.json["capabilities"].as_array().unwrap();
        &rows.iter().find(|row| row["name"].as_str().unwrap().contains(name)).unwrap()["usable"]
    }
}

/// Whether this machine has a driver of its own, which the loader finds where a scene has none.
fn has_driver() -> bool {
    // SAFETY: what NVML runs when it is loaded asks nothing of its caller.
    unsafe { libloading::Library::new("libnvidia-ml.so.1") }.is_ok()
}

const INTEROP: [&str; 3] = ["gl-to-cuda", "cuda-to-gl", "cycles"];
const MESA: [&str; 4] = ["egl-devices", "context", "draw", "egl-vendor"];

#[test]
fn pixels_go_both_ways_and_nothing_is_left_behind() {
    let host = Host::new(Scene::rtx());
    let all = host.json(&[]);
    assert_eq!(all.code, 0, "{:#}", all.json);
    for id in ["driver", "nvml", "cuda", "container", "egl-devices", "draw", "nvenc"] {
        all.has(id, "pass", &[]);
    }
    all.has("gl-to-cuda", "pass", &["253080 bytes, all equal"]);
    all.has("cuda-to-gl", "pass", &["253080 bytes, all equal"]);
    all.has("cycles", "pass", &["1000 cycles"]);
    // Its OpenGL is Mesa's, and it says so.
    all.has("egl-vendor", "warn", &["libEGL.so", "libEGL_nvidia.so.0"]);
    all.has("egl-cuda", "warn", &["no EGL device is NVIDIA's", "libnvidia-gl-NNN"]);
    all.has("context", "warn", &["draws, not the NVIDIA GPU"]);
    assert_eq!(all.capability("pixels in CUDA"), &Value::Bool(true));
    assert_eq!(all.capability("NVENC"), &Value::Bool(true));
    assert!(host.leaks().is_empty(), "{:#?}", host.leaks());
    assert!(host.scene.violations().is_empty(), "{:#?}", host.scene.violations());
    assert_eq!(host.scene.events("open").len(), 1);
    // The same in a table.
    let table = String::from_utf8(host.run(&[]).stdout).unwrap();
    for text in ["What this host can do", "gl-to-cuda", "Devices: EGL's beside CUDA's", "253080 bytes"] {
        assert!(table.contains(text), "{text}:\n{table}");
    }
}

#[test]
fn hosts_without_a_gpu() {
    if has_driver() {
        return eprintln!("skipped: this machine has a driver");
    }
    let mesa = Host::new(Scene::without_driver()).json(&[]);
    // A machine with a board and without its driver lacks something that should work.
    let expected = if mesa.json["nvidia"] == true { 1 } else { 3 };
    assert_eq!(mesa.code, expected, "{:#}", mesa.json);
    mesa.has("driver", "fail", &["no NVIDIA driver", "sudo apt install"]);
    for id in ["nvml", "cuda", "devices", "egl-cuda", "gl-to-cuda", "cycles", "nvenc", "nvdec", "nvjpeg"] {
        mesa.has(id, "skip", &["driver failed"]);
    }
    MESA.iter().for_each(|id| mesa.has(id, if expected == 3 { "pass" } else { "warn" }, &[]));
    let none = Host::new(Scene::new()).json(&[]);
    assert_eq!(none.code, 3, "{:#}", none.json);
    none.has("nvml", "fail", &["finds no GPU"]);
    none.has("cuda", "fail", &["no device"]);
}

/// libEGL is hidden in a mount namespace.
#[test]
fn a_bare_machine() {
    let host = Host::new(Scene::without_driver());
    let hide = "for f in $(ldconfig -p | sed -n 's/.*=> \\(.*libEGL\\.so\\.1\\)$/\\1/p'); do mount --bind /dev/null $f || exit 99; done";
    let script = format!("PATH=$PATH:/sbin:/usr/sbin; {hide}; exec {GSK} verify-gl --json");
    let output = host.command("unshare").args(["--map-root-user", "--mount", "sh", "-c", &script]).output();
    match output {
        Ok(output) if !output.stdout.is_empty() && !has_driver() => {
            let bare = Answer::from(output);
            assert_ne!(bare.code, 0);
            bare.has("egl-vendor", "fail", &["libEGL.so.1 cannot be used", "sudo apt install libegl1"]);
            ["egl-devices", "context", "draw"].iter().for_each(|id| bare.has(id, "skip", &["egl-vendor failed"]));
            assert_eq!(bare.capability("without a window"), &Value::Bool(false));
        }
        other => eprintln!("skipped: no mount namespace here, or a driver: {other:?}"),
    }
}

#[test]
fn hosts_with_boards_of_all_kinds() {
    let scripted = |scene: Scene, code, nvenc: (&str, &[&str])| {
        let host = Host::new(scene);
        let answer = host.json(&["--skip", "cycles"]);
        answer.has("nvenc", nvenc.0, nvenc.1);
        assert_eq!(answer.code, code, "{:#}", answer.json);
        answer.has("cycles", "skip", &["left out by --skip"]);
        assert!(host.leaks().is_empty() && host.scene.sessions().is_empty());
        answer
    };
    scripted(Scene::h200(), 0, ("skip", &["no NVENC engine", "NVIDIA H200"])).has("gl-to-cuda", "pass", &[]);
    scripted(Scene::geforce(2), 0, ("pass", &["0 of the 8 sessions"]));
    scripted(Scene::a100_and_rtx(), 0, ("pass", &["GPU 1 (NVIDIA RTX"]));
    let divided = Scene::of(Board::a100().mig(Mig::On).unsupported(&["nvmlDeviceGetEncoderSessions"]));
    scripted(divided, 0, ("skip", &["no NVENC engine"])).has("nvml", "pass", &["divided by MIG"]);
    let two = scripted(Scene::two_geforce(8), 0, ("pass", &[]));
    assert_eq!(two.json["devices"].as_array().unwrap().iter().filter(|pair| pair["cuda"].is_u64()).count(), 2);
    let mut full = Scene::two_geforce(2);
    full.version("418.43").foreign(Foreign::new(0, 71)).foreign(Foreign::new(1, 72));
    scripted(full, 0, ("warn", &["no slot", "gsk nvenc-status"]));
    if !has_driver() {
        let mut lacking = Scene::geforce(8);
        lacking.without_nvenc_library();
        scripted(lacking, 1, ("fail", &["without its NVENC library", "libnvidia-encode-550"]));
    }
}

#[test]
fn drivers_that_hang_crash_or_fail() {
    let broken = |breaks: &dyn Fn(&mut Scene) -> &mut Scene| {
        let mut scene = Scene::rtx();
        breaks(&mut scene);
        let host = Host::new(scene);
        let answer = host.json(&["--timeout", "2s", "--skip", "cycles"]);
        assert_eq!(answer.code, 1, "{:#}", answer.json);
        answer
    };
    let without_cuda = |answer: &Answer| {
        ["egl-cuda", "gl-to-cuda", "cuda-to-gl", "nvenc"]
            .iter()
            .for_each(|id| answer.has(id, "skip", &["cuda failed"]));
        answer.has("draw", "pass", &[]);
    };
    let hung = broken(&|scene| scene.hang("cuInit", 1, None));
    hung.has("cuda", "fail", &["cuInit did not return within 2.0 s", "dmesg"]);
    without_cuda(&hung);
    let crashed = broken(&|scene| scene.crash("cuInit", 1));
    crashed.has("cuda", "fail", &["cuInit ended the process by SIGSEGV", "dmesg"]);
    without_cuda(&crashed);
    let refused = broken(&|scene| scene.fault("cuInit", 1, 803));
    refused.has("cuda", "fail", &["803 (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)", "restart the machine"]);
    let nvml = broken(&|scene| scene.crash("nvmlInit_v2", 1));
    nvml.has("nvml", "fail", &["NVML ended the process by SIGSEGV", "dmesg"]);
    nvml.has("nvenc", "skip", &["nvml failed"]);
    nvml.has("gl-to-cuda", "pass", &[]);
    let nvml = broken(&|scene| scene.hang("nvmlInit_v2", 1, None));
    nvml.has("nvml", "fail", &["does not answer"]);
    nvml.has("nvenc", "skip", &["nvml failed"]);
    nvml.has("gl-to-cuda", "pass", &[]);
    let mismatch = broken(&|scene| scene.fault_from("nvmlInit_v2", 1, 18));
    mismatch.has("driver", "fail", &["mismatch", "sudo reboot"]);
    mismatch.has("cuda", "skip", &["driver failed"]);
    // In the middle of the steps: what came before stands, what stands on it is skipped.
    let stuck = broken(&|scene| scene.hang("cuGraphicsMapResources", 1, None));
    stuck.has("draw", "pass", &[]);
    stuck.has("gl-to-cuda", "fail", &["cuGraphicsMapResources did not return within 0.4 s"]);
    stuck.has("cuda-to-gl", "skip", &["gl-to-cuda failed"]);
    stuck.has("nvenc", "pass", &[]);
    let dead = broken(&|scene| scene.crash("cuGraphicsGLRegisterImage", 2));
    dead.has("gl-to-cuda", "pass", &[]);
    dead.has("cuda-to-gl", "fail", &["SIGSEGV"]);
    let encoder = broken(&|scene| scene.crash("nvEncOpenEncodeSessionEx", 1));
    encoder.has("nvenc", "fail", &["SIGSEGV"]);
    let library = broken(&|scene| scene.crash("NvEncodeAPICreateInstance", 1));
    library.has("nvenc", "fail", &["SIGSEGV"]);
    INTEROP[..2].iter().for_each(|id| encoder.has(id, "pass", &[]));
}

#[test]
fn nvjpeg_encodes_a_picture_or_says_what_is_missing() {
    const PIP: &str = "pip install nvidia-nvjpeg-cu12";
    let check = |scene: Scene| {
        let host = Host::new(scene);
        let answer = host.json(&["--timeout", "2s", "--only", "nvjpeg,nvdec"]);
        assert_eq!((host.leaks(), host.scene.violations()), (vec![], vec![]));
        answer
    };
    let with = |breaks: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::h200();
        scene.with_nvjpeg();
        breaks(&mut scene);
        check(scene)
    };
    let good = with(&|_| {});
    good.has("nvjpeg", "pass", &["libnvjpeg.so.12, nvJPEG 12.4.0: 320x240 in ", " bytes"]);
    assert_eq!(good.capability("nvJPEG"), &Value::Bool(true));
    let lacks = check(Scene::h200());
    lacks.has("nvjpeg", "warn", &["libnvjpeg.so.12 is not on this host", PIP]);
    assert_eq!(lacks.code, 0, "the CPU makes JPEG: {:#}", lacks.json);
    let refused = with(&|scene| _ = scene.fault("nvjpegEncodeYUV", 1, 6));
    refused.has("nvjpeg", "fail", &["nvjpegEncodeYUV returned 6 (NVJPEG_STATUS_EXECUTION_FAILED)", "dmesg"]);
    assert_eq!((refused.code, refused.capability("nvJPEG")), (1, &Value::Bool(false)));
    let old = with(&|scene| _ = scene.fault("nvjpegCreateSimple", 1, 7));
    old.has("nvjpeg", "fail", &["ARCH_MISMATCH", "nvidia-nvjpeg-cu11"]);
    let crashed = with(&|scene| _ = scene.crash("nvjpegEncoderStateCreate", 1));
    crashed.has("nvjpeg", "fail", &["nvjpegCreateSimple ended the process by SIGSEGV"]);
    crashed.check("nvdec");
    let hung = with(&|scene| _ = scene.hang("nvjpegEncodeRetrieveBitstream", 1, None));
    hung.has("nvjpeg", "fail", &["nvjpegEncodeYUV did not return within"]);
    let mut without_driver = Scene::without_driver();
    without_driver.with_nvjpeg();
    if !has_driver() {
        check(without_driver).has("nvjpeg", "skip", &["driver failed"]);
    }
}

#[test]
fn nvdec_says_what_it_decodes_or_what_is_missing() {
    let check = |scene: Scene| {
        let host = Host::new(scene);
        let answer = host.json(&["--timeout", "2s", "--only", "nvdec"]);
        assert_eq!((host.leaks(), host.scene.violations()), (vec![], vec![]));
        answer
    };
    let board = || Board::rtx().decode_most(8192, 8192);
    let good = check(Scene::of(board()));
    good.has("nvdec", "pass", &["8 bits of 4:2:0: H.264 to 8192x8192, HEVC to 8192x8192, AV1 to 8192x8192"]);
    assert_eq!(good.capability("NVDEC"), &Value::Bool(true));
    check(Scene::of(board().decodes(&[Video::H264]))).has("nvdec", "pass", &["4:2:0: H.264 to 8192x8192"]);
    let none = check(Scene::of(board().decoders(0)));
    none.has("nvdec", "warn", &["NVIDIA RTX 6000 Ada Generation has no NVDEC engine for", "CAPABILITIES=all"]);
    assert_eq!((none.code, none.capability("NVDEC")), (0, &Value::Bool(false)));
    let mut scene = Scene::rtx();
    scene.without_nvcuvid();
    let lacks = check(scene);
    lacks.has("nvdec", "warn", &["libnvcuvid.so.1 is not on this host", "libnvcuvid1"]);
    assert_eq!(lacks.code, 0, "nothing streams by it: {:#}", lacks.json);
    let mut scene = Scene::rtx();
    scene.fault("cuvidGetDecoderCaps", 2, 999);
    let refused = check(scene);
    refused.has("nvdec", "fail", &["cuvidGetDecoderCaps returned 999 (CUDA_ERROR_UNKNOWN)", "dmesg"]);
    let mut scene = Scene::rtx();
    scene.crash("cuvidGetDecoderCaps", 1);
    check(scene).has("nvdec", "fail", &["cuvidGetDecoderCaps ended the process by SIGSEGV"]);
}

#[test]
fn a_driver_that_is_slow_is_a_warning() {
    let mut scene = Scene::h200();
    scene.hang("cuInit", 1, Some(Duration::from_millis(600)));
    let slow = Host::new(scene).json(&["--timeout", "2s", "--only", "cuda"]);
    slow.has("cuda", "warn", &["to initialise", "sudo nvidia-smi -pm 1"]);
    assert_eq!(slow.code, 0, "{:#}", slow.json);
}

#[test]
fn a_limit_that_no_driver_meets_is_refused() {
    let host = Host::new(Scene::h200());
    for short in ["0", "999ms"] {
        let output = host.run(&["--timeout", short, "--only", "cuda"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("error: --timeout: ") && said.contains("the least is 1s"), "{said}");
    }
}

#[test]
fn what_to_run_stands_whole_on_a_line() {
    let output = Host::new(Scene::h200()).run(&["--only", "egl-vendor"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let (checks, rest) = said.split_once("\n\nWhat to do\n").unwrap_or_else(|| panic!("{said}"));
    assert!(!checks.contains("apt install"), "{said}");
    assert!(rest.lines().any(|line| line.starts_with("egl-vendor") && line.contains("sudo apt install libnvidia-gl")));
}

#[test]
fn refusals_of_graphics_are_explained() {
    for (code, says) in [(101, "another GPU"), (219, "eglMakeCurrent"), (304, "10_nvidia.json"), (999, "VirtualGL")] {
        let mut scene = Scene::rtx();
        scene.fault("cuGraphicsGLRegisterImage", 1, code);
        let host = Host::new(scene);
        let answer = host.json(&["--only", "gl-to-cuda"]);
        answer.has("gl-to-cuda", "fail", &[&format!("cuGraphicsGLRegisterImage returned {code}"), says]);
        assert!(answer.json["checks"].as_array().unwrap().iter().all(|check| check["id"] != "nvenc"));
        assert!(host.leaks().is_empty(), "{:?}", host.leaks());
    }
}

#[test]
fn every_step_that_fails_gives_all_back() {
    for function in ["cuGraphicsMapResources", "cuGraphicsSubResourceGetMappedArray", "cuMemcpy2D_v2"] {
        for call in [1, 2] {
            let mut scene = Scene::rtx();
            scene.fault(function, call, 999);
            let host = Host::new(scene);
            let answer = host.json(&["--only", "cuda-to-gl"]);
            answer.has(["gl-to-cuda", "cuda-to-gl"][call as usize - 1], "fail", &["999 (CUDA_ERROR_UNKNOWN)"]);
            assert!(host.leaks().is_empty(), "{function} {call}: {:?}", host.leaks());
            assert!(host.scene.violations().is_empty(), "{function} {call}: {:?}", host.scene.violations());
        }
    }
}

#[test]
fn a_gpu_is_chosen_and_exported() {
    let host = Host::new(Scene::a100_and_rtx());
    let uuid = "GPU-00000000-0000-4000-8000-000000000001";
    for name in ["1", uuid, "gpu-00000000-0000-4000-8000-000000000001", "00000000:02:00.0", "2:0.0"] {
        let output = host.run(&["--exports", "--gpu", name]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, format!("export CUDA_VISIBLE_DEVICES={uuid}\n"), "{name}");
        // Mesa's EGL has no device of that GPU.
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains("EGL does not have this GPU"));
    }
    let engineless = host.json(&["--only", "nvenc", "--gpu", "0"]);
    engineless.has("nvenc", "skip", &["no NVENC engine: GPU 0 (NVIDIA A100"]);
    assert_eq!(engineless.code, 0);
    let hidden = host
        .command(GSK)
        .args(["verify-gl", "--only", "cuda", "--gpu", "1", "--json"])
        .env("CUDA_VISIBLE_DEVICES", "0")
        .output();
    let says = ["CUDA does not show GPU 1 (NVIDIA RTX", &format!("export CUDA_VISIBLE_DEVICES={uuid}")];
    Answer::from(hidden.unwrap()).has("cuda", "fail", &says);
    let unknown = host.run(&["--gpu", "7"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("there is no GPU 7"));
    let typo = host.run(&["--only", "drow"]);
    assert_eq!(typo.status.code(), Some(2));
    let text = String::from_utf8(typo.stderr).unwrap();
    assert!(text.contains("'draw'"), "{text}");
}

#[test]
fn what_a_container_was_not_given() {
    let host = Host::new(Scene::h200());
    let mut command = host.command(GSK);
    command.args(["verify-gl", "--only", "container", "--json"]);
    let output = command.env("NVIDIA_DRIVER_CAPABILITIES", "compute,utility").output().unwrap();
    Answer::from(output).has("container", "warn", &["graphics, video", "NVIDIA_DRIVER_CAPABILITIES=graphics"]);
}
