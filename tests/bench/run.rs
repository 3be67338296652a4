//! What a run prints and writes, and how it ends.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;

use super::*;

/// Small and quick: noise is made without a renderer.
const QUICK: [&str; 8] = ["--source", "noise", "--size", "64x48", "--frames", "12", "--warmup", "3"];

fn quick<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [words, &QUICK].concat()
}

fn stage<'a>(json: &'a Value, case: &str, backend: &str, stage: &str) -> &'a Value {
    let rows = json["rows"].as_array().unwrap();
    let is = |row: &&Value| row["case"] == case && (backend.is_empty() || row["backend"] == backend);
    let row = rows.iter().find(is).unwrap_or_else(|| panic!("no row {case} {backend}: {json:#}"));
    let stages = row["stages"].as_array().unwrap();
    stages.iter().find(|known| known["stage"] == stage).unwrap_or_else(|| panic!("no stage {stage}: {row:#}"))
}

#[test]
fn everything_is_measured_and_what_is_not_here_is_said() {
    let host = Host::new();
    let (code, json) = host.json(&quick(&["--fps", "120"]));
    assert_eq!(code, 0, "{json:#}");
    assert_eq!((&json["complete"], &json["errors"]), (&true.into(), &serde_json::json!([])));
    for (case, backend, stages) in [
        ("capture", "", &["capture", "cpu"][..]),
        ("convert", "i420", &["convert", "cpu"]),
        ("convert", "rgb", &["convert", "cpu"]),
        ("encode", "openh264", &["encode", "convert", "total", "cpu"]),
        ("encode", "jpeg", &["encode", "convert", "total", "cpu"]),
        ("decode", "openh264", &["decode", "cpu"]),
        ("decode", "jpeg", &["decode", "cpu"]),
        ("pipeline", "openh264", &["total", "capture", "wait", "convert", "encode", "publish", "gap"]),
        ("lease", "", &["take", "give"]),
    ] {
        for name in stages {
            let got = stage(&json, case, backend, name);
            let samples = got["samples_us"].as_array().unwrap();
            let n = got["n"].as_u64().unwrap();
            assert!(samples.len() as u64 == n && n > 0, "{case} {backend} {name}: {got:#}");
            // A pipeline's frames are counted by the clock.
            assert!(n == 12 || case == "pipeline", "{case} {backend} {name}: {got:#}");
            let at = |key: &str| got[key].as_f64().unwrap();
            let grows = ["min", "p50", "p90", "p95", "p99", "max"].map(at);
            assert!(grows.is_sorted(), "{case} {backend} {name}: {grows:?}");
            assert_eq!(got["clock"], if *name == "cpu" { "cpu" } else { "wall" });
            assert!(got["warmup"]["n"] == 3 || case == "pipeline", "{got:#}");
        }
    }
    let row = |case: &str, backend: &str| {
        let rows = json["rows"].as_array().unwrap();
        rows.iter().find(|row| row["case"] == case && row["backend"] == backend).unwrap().clone()
    };
    for (backend, least) in [("openh264", 0.3), ("jpeg", 0.9)] {
        let encode = row("encode", backend);
        let ssim = encode["ssim"].as_f64().unwrap();
        assert!((least..=1.0).contains(&ssim) && encode["psnr_db"].as_f64().unwrap() > 10.0, "{encode:#}");
        let (bytes, rate) = (encode["bytes"].as_f64().unwrap(), encode["bitrate_bps"].as_f64().unwrap());
        assert!((rate - bytes * 8.0 * 120.0 / 12.0).abs() < 1.0, "{encode:#}");
    }
    let pipeline = row("pipeline", "openh264");
    assert!(pipeline["drops"]["slow-viewer"] == 0 && pipeline["fps"].as_f64().unwrap() > 20.0, "{pipeline:#}");
    let absent = json["absent"].as_array().unwrap();
    for (case, what, says) in [
        ("encode", "nvenc", "libnvidia-encode.so.1 is not on this host"),
        ("encode", "nvjpeg", "libnvjpeg.so.12 is not on this host"),
        ("decode", "nvdec", "libnvcuvid.so.1 is not on this host"),
        ("convert", "nv12", "libcuda"),
    ] {
        let found = absent.iter().find(|row| row["case"] == case && row["backend"] == what);
        let reason = found.unwrap_or_else(|| panic!("{what}: {absent:#?}"))["reason"].as_str().unwrap();
        assert!(reason.contains(says), "{reason}");
    }
    let environment = &json["environment"];
    assert!(environment["cpu"]["cores"].as_u64().unwrap() > 0 && environment["load"][0].is_number(), "{environment:#}");
    assert_eq!(environment["noisy"], !environment["noise"].as_array().unwrap().is_empty());
}

#[test]
fn passes_put_their_samples_together() {
    let words =
        ["encode", "--encoder", "jpeg", "--source", "noise", "--size", "64x48", "--frames", "20", "--passes", "3"];
    let (code, json) = Host::new().json(&words);
    assert_eq!((code, json["rows"].as_array().unwrap().len()), (0, 1), "{json:#}");
    let row = &json["rows"][0];
    let encode = stage(&json, "encode", "jpeg", "encode");
    assert_eq!((&encode["n"], encode["samples_us"].as_array().unwrap().len()), (&60.into(), 60));
    assert_eq!(row["rounds"], serde_json::json!([0, 10, 20, 30, 40, 50]));
    assert_eq!((row["yards_us"].as_array().unwrap().len(), &encode["warmup"]["n"]), (6, &60.into()));
}

#[test]
fn a_pipelines_stages_add_up_to_its_total() {
    let (_, json) = Host::new().json(&quick(&["pipeline", "--fps", "60"]));
    let samples = |name: &str| -> Vec<u64> {
        let samples = stage(&json, "pipeline", "openh264", name)["samples_us"].as_array().unwrap().iter();
        samples.map(|sample| sample.as_u64().unwrap()).collect()
    };
    let parts = ["capture", "wait", "convert", "encode", "publish"].map(samples);
    for (n, total) in samples("total").into_iter().enumerate() {
        assert_eq!(parts.iter().map(|part| part[n]).sum::<u64>(), total, "frame {n}");
    }
}

#[test]
fn the_table_and_csv_say_the_same() {
    let host = Host::new();
    let output = host.run(&quick(&["encode", "lease"]));
    let table = String::from_utf8(output.stdout).unwrap();
    for words in [
        "Times, ms: 12 frames of noise",
        "encode openh264 h264",
        "Costs:",
        "Not on this host",
        "Budget, ms",
        "not measured",
        "Machine: ",
    ] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("note: encode openh264 h264 64x48: 12 frames, p50 "), "{said}");
    let quiet = host.run(&quick(&["lease", "-q"]));
    assert_eq!((quiet.status.code(), quiet.stderr.as_slice()), (Some(0), &b""[..]));
    let csv = String::from_utf8(host.run(&quick(&["encode", "--csv"])).stdout).unwrap();
    let heading = csv.lines().next().unwrap();
    assert_eq!(heading, "table,case,size,stage,n,min,p50,p90,p95,p99,max,jitter,stalls,outliers");
    let encode = csv.lines().find(|line| line.starts_with("times,encode jpeg,64x48,encode,12,")).expect(&csv);
    assert_eq!(encode.split(',').count(), heading.split(',').count());
}

#[test]
fn pictures_and_pages_are_well_formed_and_need_nothing_else() {
    let host = Host::new();
    let output = host.run(&quick(&["encode", "pipeline", "--fps", "60", "--plot", "a.svg", "--html", "a.html"]));
    assert!(output.status.success(), "{output:?}");
    let well_formed = "import sys, xml.dom.minidom\nxml.dom.minidom.parse(sys.argv[1])";
    let parsed = Command::new("python3").args(["-c", well_formed]).arg(host.path("a.svg")).output().unwrap();
    assert!(parsed.status.success(), "{parsed:?}");
    let svg = std::fs::read_to_string(host.path("a.svg")).unwrap();
    let html = std::fs::read_to_string(host.path("a.html")).unwrap();
    for text in [&svg, &html] {
        for words in
            ["prefers-color-scheme:dark", "encode openh264 h264 64x48", "pipeline openh264 h264 64x48", ">ms<", "p99"]
        {
            assert!(text.contains(words), "{words}");
        }
        for outside in ["src=", "href=", "@import", "url("] {
            assert!(!text.contains(outside), "{outside}");
        }
        // A namespace is a name and nothing that is fetched.
        assert!(text.matches("http").count() == text.matches("http://www.w3.org/2000/svg").count());
    }
    assert!(html.starts_with("<!doctype html>") && html.contains("<table>") && html.ends_with("</html>\n"));
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
}

#[test]
fn a_file_gives_its_pictures_its_size_and_its_rate() {
    let host = Host::new();
    let mut y4m = b"YUV4MPEG2 W96 H64 F50:1\n".to_vec();
    for n in 0..5u8 {
        y4m.extend_from_slice(b"FRAME\n");
        y4m.extend((0..96 * 64 * 3 / 2).map(|at| (at % 96) as u8 + n * 16));
    }
    std::fs::write(host.path("film.y4m"), y4m).unwrap();
    let (code, json) = host.json(&["capture", "encode", "--source", "film.y4m", "--frames", "10", "--warmup", "2"]);
    assert_eq!(code, 0, "{json:#}");
    for row in json["rows"].as_array().unwrap() {
        assert_eq!(row["size"], "96x64");
    }
    let capture = &json["rows"][0];
    // At the file's rate, not at the default one; how well that is held is no matter here.
    assert!((1.0..55.0).contains(&capture["fps"].as_f64().unwrap()), "{capture:#}");
    for (words, says) in [
        (["--source", "film.y4m", "--size", "64x48"], "is 96x64"),
        (["--source", "none.y4m", "--fps", "25"], "none.y4m"),
    ] {
        let error = refused(&host.run(&words));
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn ctrl_c_prints_what_there_is_and_keeps_it() {
    let host = Host::new();
    let mut command = host.command(&["capture", "pipeline", "--source", "noise", "--size", "64x48", "--json"]);
    command.args(["--frames", "60", "--fps", "60", "--save-baseline", "b.json", "--html", "b.html"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The first row is done, and the second, which goes on for a second, has begun.
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().contains("capture 64x48: 60 frames"));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGINT), "{output:?}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["complete"], &json["rows"][0]["case"]), (&false.into(), &"capture".into()));
    let kept = read(&host.path("b.json"));
    assert_eq!(kept["rows"], json["rows"]);
    assert!(std::fs::read_to_string(host.path("b.html")).unwrap().contains("This run is not complete"));
}

#[test]
fn a_budget_is_held_where_it_is_asked_for() {
    let host = Host::new();
    let encode = |words: &[&str]| host.json(&quick(&[&["encode", "--encoder", "jpeg"], words].concat()));
    let (code, json) = encode(&["--target", "encode=0.0001"]);
    let held = json["budget"].as_array().unwrap().iter().find(|held| held["stage"] == "encode").unwrap().clone();
    assert_eq!((code, &held["met"]), (0, &false.into()), "only told: {held:#}");
    assert!(held["spare_ms"].as_f64().unwrap() < 0.0 && held["target_ms"] == 0.0001);
    assert_eq!(encode(&["--target", "encode=0.0001", "--budget"]).0, 1);
    let (code, json) = encode(&["--target", "encode=10000", "--budget"]);
    assert_eq!(code, 0, "{json:#}");
    std::fs::write(host.path("gsk.yaml"), "bench:\n  budget: [encode=0.0001]\n").unwrap();
    assert_eq!(encode(&["--budget"]).0, 1, "from the file");
    std::fs::write(host.path("gsk.yaml"), "bench:\n  budget: [encod=1]\n").unwrap();
    let error = refused(&host.run(&["lease"]));
    assert!(error.contains("gsk.yaml:2:11") && error.contains("did you mean 'encode'?"), "{error}");
}

#[test]
fn an_encoder_that_is_not_here_is_3() {
    let (code, json) = Host::new().json(&quick(&["encode", "--encoder", "nvenc"]));
    assert_eq!((code, json["rows"].as_array().unwrap().len()), (3, 0), "{json:#}");
    assert!(json["absent"][0]["reason"].as_str().unwrap().contains("libnvidia-encode.so.1"));
}

#[test]
fn nonsense_is_refused_before_anything_is_measured() {
    let host = Host::new();
    std::fs::write(host.path("junk.json"), "{}").unwrap();
    for (words, says) in [
        (&["encod"][..], "encode"),
        (&["--size", "721p"], "720p, 1080p"),
        (&["--size", "65x48"], "odd"),
        (&["--fps", "0"], "outside 1 to 240"),
        (&["--frames", "0"], "1..=100000"),
        (&["--passes", "0"], "1..=1000"),
        (&["--codec", "vp9"], "h264"),
        (&["--source", "film.mp4"], "FILE.y4m"),
        (&["--fail-on", "encode.p98>+10%"], "one of min, mean"),
        (&["--fail-on", "encode.p99>+10%"], "--baseline FILE"),
        (&["--target", "encod=3"], "did you mean 'encode'?"),
        (&["--baseline", "nowhere.json"], "--save-baseline"),
        (&["--baseline", "junk.json"], "no baseline"),
        (&["--plot", "no/such/folder/a.svg"], "cannot write"),
    ] {
        let error = refused(&host.run(words));
        assert!(error.contains(says), "{words:?}: {error}");
    }
}

#[test]
fn a_rule_with_nothing_to_judge_is_no_pass() {
    let (code, json) = Host::new().json(&quick(&["lease", "--fail-on", "encode.p99>8ms"]));
    assert_eq!((code, &json["verdicts"][0]["judged"]), (2, &Value::Null), "{json:#}");
}

/// NVENC, CUDA capture and NVML over the stand-in driver.
#[test]
fn a_gpu_has_rows_of_its_own() {
    let host = Host::new();
    let scene = standin::Scene::of(standin::Board::rtx());
    let mut command = host.command(&["convert", "encode", "decode", "--json", "--source", "noise", "--size", "160x64"]);
    let output = scene.apply(&mut command).args(["--frames", "12", "--warmup", "3"]).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(output.status.code(), Some(0), "{json:#}");
    assert_eq!(stage(&json, "encode", "nvenc", "encode")["n"], 12);
    assert_eq!(stage(&json, "convert", "nv12", "convert")["n"], 12);
    let rows = json["rows"].as_array().unwrap();
    let nvenc = rows.iter().find(|row| row["backend"] == "nvenc").unwrap();
    // I_PCM loses nothing: what differs from the source is nothing.
    assert_eq!((&nvenc["ssim"], &nvenc["psnr_db"]), (&1.0.into(), &Value::Null), "{nvenc:#}");
    let decode = rows.iter().find(|row| row["case"] == "decode" && row["backend"] == "openh264").unwrap();
    assert_eq!(decode["detail"], "of what nvenc wrote");
    let nvdec = |codec: &str| rows.iter().find(|row| row["backend"] == "nvdec" && row["codec"] == codec);
    let detail = nvdec("h264").unwrap()["detail"].as_str().unwrap();
    assert!(detail.starts_with("of what nvenc wrote; to the picture in the GPU's memory"), "{detail}");
    assert_eq!(stage(&json, "decode", "nvdec", "decode")["n"], 12);
    assert!(nvdec("hevc").is_none(), "it decodes none so small");
    let absent = json["absent"].as_array().unwrap();
    let small = absent.iter().find(|row| row["backend"] == "nvdec" && row["codec"] == "hevc").unwrap();
    let reason = small["reason"].as_str().unwrap();
    assert!(reason.contains("decodes HEVC of 144x144 to 4096x4096, and this is 160x64"), "{reason}");
    let gpu = &json["environment"]["gpus"][0];
    assert_eq!((&gpu["performance_state"], &gpu["video_mhz"]), (&0.into(), &1190.into()), "{gpu:#}");
    assert!(json["environment"]["driver"].is_string());
    assert_eq!(scene.violations(), []);
}

/// HEVC and AV1 are decoded by NVDEC, and by FFmpeg where that is installed; of neither is there a decoder in gsk.
#[test]
fn each_codec_of_the_gpu_is_decoded() {
    let host = Host::new();
    let mut board = standin::Board::rtx();
    let run = |board: standin::Board| {
        let scene = standin::Scene::of(board);
        let words = ["encode", "decode", "--json", "--source", "noise", "--size", "160x160", "--encoder", "nvenc"];
        let mut command = host.command(&words);
        let output = scene.apply(&mut command).args(["--frames", "10", "--warmup", "2"]).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!((output.status.code(), &json["errors"]), (Some(0), &serde_json::json!([])), "{json:#}");
        assert_eq!((scene.violations(), scene.events("nvdec-unread")), (vec![], vec![]));
        json
    };
    let json = run(board.clone());
    let rows = json["rows"].as_array().unwrap();
    let has = |backend: &str, codec: &str| {
        let row = |row: &&Value| row["case"] == "decode" && row["backend"] == backend && row["codec"] == codec;
        rows.iter().find(row).is_some_and(|row| row["stages"][0]["n"] == 10 && row["bytes"].as_u64() > Some(0))
    };
    let ffmpeg = Command::new("ffmpeg").arg("-version").output().is_ok();
    for codec in ["h264", "hevc", "av1"] {
        assert!(has("nvdec", codec), "{codec}: {json:#}");
        assert_eq!(has("ffmpeg", codec), ffmpeg, "{codec}: {json:#}");
    }
    assert!(has("openh264", "h264") && !has("openh264", "hevc"), "{json:#}");
    board = board.decodes(&[standin::Video::H264]);
    let json = run(board);
    let absent = json["absent"].as_array().unwrap();
    for (codec, name) in [("hevc", "HEVC"), ("av1", "AV1")] {
        let row = absent.iter().find(|row| row["backend"] == "nvdec" && row["codec"] == codec).unwrap();
        let reason = row["reason"].as_str().unwrap();
        assert!(reason.ends_with(&format!("NVIDIA RTX 6000 Ada Generation does not decode {name}")), "{reason}");
    }
}

/// A run beside one whose every time was made a tenth, or tenfold: what is planted is far beyond any noise.
#[test]
fn what_is_slower_than_its_baseline_fails_and_what_is_not_does_not() {
    let host = Host::new();
    let rule = ["--fail-on", "encode.p50>+20%", "--baseline", "b.json"];
    let words = quick(&["encode", "--encoder", "jpeg"]);
    let (code, _) = host.json(&[&words[..], &["--save-baseline", "b.json"]].concat());
    assert_eq!(code, 0);
    let kept = read(&host.path("b.json"));
    for (by, failed) in [(0.1, true), (10.0, false)] {
        let mut baseline = kept.clone();
        for stage in baseline["rows"][0]["stages"].as_array_mut().unwrap() {
            for sample in stage["samples_us"].as_array_mut().unwrap() {
                *sample = ((sample.as_f64().unwrap() * by) as u64 + 1).into();
            }
        }
        std::fs::write(host.path("b.json"), baseline.to_string()).unwrap();
        let (code, json) = host.json(&[&words[..], &rule].concat());
        let verdict = &json["verdicts"][0];
        assert_eq!((code, &verdict["failed"]), (i32::from(failed), &failed.into()), "{json:#}");
        let ratios = json["comparison"]["ratios"].as_array().unwrap();
        let p50 = ratios.iter().find(|row| row["stage"] == "encode" && row["statistic"] == "p50").unwrap();
        let (ratio, low, high) = (&p50["ratio"], &p50["ratio_interval"]["low"], &p50["ratio_interval"]["high"]);
        assert!(low.as_f64() <= ratio.as_f64() && ratio.as_f64() <= high.as_f64(), "{p50:#}");
        assert_eq!(ratio.as_f64().unwrap() > 1.2, failed, "{p50:#}");
        let table = host.run(&[&words[..], &rule].concat());
        let said = String::from_utf8(table.stdout).unwrap();
        assert!(said.contains(if failed { "FAILED" } else { "passed" }) && said.contains("Beside b.json"), "{said}");
    }
    let (_, json) = host.json(&[&words[..], &["--bitrate", "1M", "--baseline", "b.json"]].concat());
    let cautions = json["comparison"]["cautions"].to_string();
    assert!(cautions.contains("the bit rate was 4000000 and is 1000000"), "{cautions}");
}
