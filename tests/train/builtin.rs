//! The built-in run: it learns, tells NVTX what it records, and leaves a trace.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::place::{Answer, GSK, Place, injection};
use crate::standin::Scene;

fn numbers(document: &Value, part: &str, key: &str) -> Vec<f64> {
    let rows = document.pointer(part).unwrap().as_array().unwrap();
    rows.iter().map(|row| row[key].as_f64().unwrap()).collect()
}

/// Counts of ranges by name.
fn counts(document: &Value) -> BTreeMap<String, u64> {
    let rows = document["ranges"].as_array().unwrap().iter();
    rows.map(|row| (row["range"].as_str().unwrap().into(), row["count"].as_u64().unwrap())).collect()
}

/// What issue 6 promises of `gsk train-nvtx 2 64 demo 2` on a bare machine.
#[test]
fn it_learns_and_says_so() {
    let place = Place::new();
    let (answer, document) = place.json(&["2", "64", "demo", "2", "--no-nsys"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let loss = numbers(&document, "/training/epochs", "loss");
    assert!(loss.len() == 2 && loss[1] < loss[0], "{loss:?}");
    let accuracy = numbers(&document, "/training/epochs", "accuracy");
    assert!(accuracy[1] >= 0.9, "{accuracy:?}");
    assert!(answer.err.contains("epoch 1: loss") && answer.err.contains("epoch 2: loss"), "{}", answer.err);
    assert_eq!((&document["training"]["device"], &document["collector"]), (&"CPU".into(), &"gsk".into()));
    let expected = [
        ("epoch", 2),
        ("batch", 128),
        ("data wait", 128),
        ("load", 128),
        ("transfer", 136),
        ("forward", 136),
        ("loss", 128),
        ("backward", 128),
        ("optimiser", 128),
        ("validation", 2),
    ];
    assert_eq!(counts(&document), expected.map(|(name, count)| (name.to_owned(), count)).into());
    // What nests takes no longer than what it is in.
    let total = |name: &str| {
        let rows = document["ranges"].as_array().unwrap();
        rows.iter().find(|row| row["range"] == name).unwrap()["total_ms"].as_f64().unwrap()
    };
    assert!(total("batch") + total("validation") <= total("epoch"));
    let parts = ["data wait", "loss", "backward", "optimiser"].map(total);
    assert!(parts.iter().sum::<f64>() <= total("batch"));
    trace(
        &fs::read(place.path("profiling_output").join(document["files"]["trace"].as_str().unwrap())).unwrap(),
        &document,
    );
}

/// The required fields of the Trace Event Format, and ranges of a thread that nest.
fn trace(bytes: &[u8], document: &Value) {
    let trace: Value = serde_json::from_slice(bytes).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut threads: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    let (mut names, mut seen) = (Vec::new(), BTreeMap::new());
    for event in events {
        assert!(event["pid"].is_u64() && event["tid"].is_u64() && event["name"].is_string(), "{event}");
        match event["ph"].as_str().unwrap() {
            "M" => {
                assert!(["process_name", "thread_name"].contains(&event["name"].as_str().unwrap()), "{event}");
                names.push(event["args"]["name"].as_str().unwrap().to_owned());
            }
            "X" => {
                let (start, length) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
                assert!(start >= 0.0 && length >= 0.0 && event["cat"].is_string(), "{event}");
                threads.entry(event["tid"].as_u64().unwrap()).or_default().push((start, start + length));
                *seen.entry(event["name"].as_str().unwrap().to_owned()).or_insert(0) += 1;
            }
            other => panic!("no phase '{other}' is expected"),
        }
    }
    names.sort();
    assert_eq!(names, ["demo", "loader", "loader", "training"]);
    assert_eq!(seen, counts(document));
    for ranges in threads.values_mut() {
        // Those that begin first, and of these the longest, are around the others.
        ranges.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut open: Vec<f64> = Vec::new();
        for &(start, end) in ranges.iter() {
            while open.last().is_some_and(|&until| until <= start) {
                open.pop();
            }
            assert!(open.last().is_none_or(|&until| end <= until), "a range crosses another's end");
            open.push(end);
        }
    }
}

/// Ranges as an injection library saw them: counts by name, and names of threads.
fn arrived(seen: &str) -> (BTreeMap<String, u64>, Vec<String>) {
    let (mut open, mut counts, mut threads): (BTreeMap<&str, Vec<&str>>, _, _) =
        (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for line in seen.lines() {
        let mut words = line.splitn(3, ' ');
        let (what, thread, name) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        match what {
            "push" => open.entry(thread).or_default().push(name),
            "pop" => {
                let name = open.get_mut(thread).and_then(Vec::pop).expect("a range that was begun");
                *counts.entry(name.to_owned()).or_insert(0) += 1;
            }
            _ => threads.push(name.to_owned()),
        }
    }
    assert!(open.values().all(Vec::is_empty), "all were ended: {open:?}");
    threads.sort();
    (counts, threads)
}

#[test]
fn what_arrives_at_a_profiler_is_what_is_recorded() {
    let place = Place::new();
    let library = injection(&place.path(""));
    let mut command = place.gsk(&["1", "1024", "told", "3", "--no-nsys", "--json"]);
    command.env("NVTX_INJECTION64_PATH", library).env("NVTX_SEEN", place.path("nvtx"));
    let answer = Answer::of(command.output().unwrap());
    let document: Value = serde_json::from_str(&answer.out).unwrap();
    let (seen, threads) = arrived(&fs::read_to_string(place.path("nvtx")).unwrap());
    assert_eq!(seen, counts(&document));
    assert_eq!((seen["batch"], seen["epoch"]), (4, 1));
    assert_eq!(threads, ["loader", "loader", "loader", "training"]);
}

/// The pipeline's stages bear the names that its timing has.
#[test]
fn the_pipelines_stages_are_ranges_too() {
    let place = Place::new();
    let library = injection(&place.path(""));
    let mut command = place.command(GSK);
    command.args([
        "bench",
        "pipeline",
        "--size",
        "320x240",
        "--frames",
        "12",
        "--warmup",
        "0",
        "--encoder",
        "openh264",
    ]);
    command.env("NVTX_INJECTION64_PATH", library).env("NVTX_SEEN", place.path("nvtx"));
    let answer = Answer::of(command.output().unwrap());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let (seen, _) = arrived(&fs::read_to_string(place.path("nvtx")).unwrap());
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["capture", "convert", "encode", "publish"]);
    // Where the machine is busy, frames are dropped before the encoder.
    let encoded = seen["encode"];
    assert!(encoded > 0 && seen["capture"] >= encoded, "{seen:?}");
    assert!(seen["convert"] == encoded && seen["publish"] == encoded, "{seen:?}");
}

#[test]
fn on_a_device_it_learns_the_same() {
    let place = Place::new();
    let words = ["1", "1024", "cuda", "1", "--no-nsys", "--json"];
    let scene = Scene::rtx();
    let mut command = place.gsk(&words);
    let answer = Answer::of(scene.apply(&mut command).output().unwrap());
    let document: Value = serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!((answer.code, scene.violations()), (Some(0), vec![]), "{answer:?}");
    assert_eq!(scene.leaks().iter().filter(|leak| leak.get("kind") != "nvml-init").count(), 0);
    assert!(document["training"]["device"].as_str().unwrap().contains("RTX"), "{}", document["training"]);
    assert_eq!(document["training"]["no_cuda"], Value::Null);
    assert!(document["hardware"]["gpus"][0]["name"].as_str().unwrap().contains("RTX"));
    let (_, host) = place.json(&words[..5]);
    for key in ["loss", "accuracy"] {
        let (device, host) =
            (numbers(&document, "/training/epochs", key)[0], numbers(&host, "/training/epochs", key)[0]);
        assert!((device - host).abs() < 0.01, "{key}: {device} {host}");
    }
}

#[test]
fn a_device_that_fails_is_told_and_the_cpu_learns() {
    let place = Place::new();
    let mut scene = Scene::rtx();
    scene.cuda(11_080);
    let mut command = place.gsk(&["1", "4096", "cuda", "0", "--no-nsys", "--json"]);
    let answer = Answer::of(scene.apply(&mut command).output().unwrap());
    let document: Value = serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!((answer.code, &document["training"]["device"]), (Some(0), &"CPU".into()));
    assert!(document["training"]["no_cuda"].as_str().unwrap().contains("cuModuleLoadData returned 222"), "{document}");
    assert!(answer.err.contains("trained on the CPU"), "{}", answer.err);
}

#[test]
fn a_run_that_breaks_off_keeps_what_it_recorded() {
    let place = Place::new();
    let mut scene = Scene::rtx();
    scene.fault_from("cuLaunchKernel", 20, 700);
    let mut command = place.gsk(&["3", "1024", "broken", "0", "--no-nsys", "--json"]);
    let answer = Answer::of(scene.apply(&mut command).output().unwrap());
    let document: Value = serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert!(answer.code.is_some_and(|code| code != 0) && answer.err.contains("returned 700"), "{answer:?}");
    assert_eq!((document["exit_code"].as_i64(), &document["training"]), (answer.code.map(Into::into), &Value::Null));
    assert!(document["errors"][0].to_string().contains("returned 700"), "{document:#}");
    assert!(counts(&document)["batch"] >= 1, "{document:#}");
    assert_eq!(place.manifest(&document), document);
    let trace = document["files"]["trace"].as_str().unwrap();
    let text = fs::read(place.path("profiling_output").join(trace)).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap();
}

#[test]
fn what_it_cannot_do_is_refused() {
    let place = Place::new();
    for (words, says) in [
        (&["5", "5000"][..], "4096 pictures an epoch"),
        (&["5", "64", "x", "65"], "65 loaders are too many"),
        (&["0"], "1..=1000000"),
        (&["5", "64", "a/b"], "[JOB]"),
        (&["--force"], "--stamp"),
        (&["--list", "--", "true"], "cannot be used with"),
        (&["--list", "5"], "cannot be used with"),
        (&["--capture-range", "epoch"], "nvtx:RANGE"),
        (&["--nsys", "x", "--no-nsys"], "exclude each other"),
    ] {
        let answer = place.run(words);
        assert_eq!((answer.code, answer.out.as_str()), (Some(2), ""), "{words:?}: {answer:?}");
        assert!(answer.err.contains(says), "{words:?}: {}", answer.err);
    }
    assert_eq!(place.files(), [""; 0]);
}
