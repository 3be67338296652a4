//! Runs below nsys, or with the wrong one.

use std::fs;

use serde_json::{Value, json};

use crate::place::{Answer, GSK, Place, example};

fn row<'a>(document: &'a Value, range: &str) -> &'a Value {
    let rows = document["ranges"].as_array().unwrap();
    rows.iter().find(|row| row["range"] == range).unwrap_or_else(|| panic!("no range '{range}': {document:#}"))
}

#[test]
fn nsys_is_told_what_to_do_and_its_reports_are_summed_up() {
    let place = Place::with_nsys();
    let words = [&["3", "64", "clouds", "0"], &example()[..], &["--epochs", "{epochs}", "--batch={batch}"]].concat();
    let (answer, document) = place.json(&words);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let name = document["name"].as_str().unwrap();
    assert!(name.starts_with("clouds_3ep_2"), "{name}");
    let seen = place.seen();
    assert_eq!(seen[0], ["--version"]);
    let output = place.path("profiling_output").join(name);
    let mut expected: Vec<String> = [
        "profile",
        "--trace=cuda,nvtx,osrt",
        "--sample=none",
        "--cpuctxsw=none",
        "--cuda-graph-trace=node",
        "--kill=none",
        "--force-overwrite=false",
    ]
    .map(Into::into)
    .into();
    expected.push(format!("--output={}", output.canonicalize().unwrap_or(output.clone()).display()));
    expected.extend(example()[1..].iter().map(|word| word.to_string()));
    expected.extend(["--epochs", "3", "--batch=64"].map(Into::into));
    assert_eq!(seen[1], expected);
    let stats = |name: &str| seen.iter().find(|call| call[0] == "stats" && call[2] == name).unwrap();
    let report = format!("{}.nsys-rep", output.display());
    assert!(stats("nvtx_sum").contains(&"--force-export=true".into()) && stats("nvtx_sum")[4] == "csv");
    for name in ["nvtx_sum", "nvtx_pushpop_trace", "nvtx_gpu_proj_sum"] {
        assert!(stats(name).last().unwrap().ends_with(report.rsplit('/').next().unwrap()));
    }

    // Figures of tests/train/reports.
    let order: Vec<&str> =
        document["ranges"].as_array().unwrap().iter().map(|row| row["range"].as_str().unwrap()).collect();
    let xla = "TSL:XlaCompile:#module=jit_step,program_id=4#";
    assert_eq!(order, [xla, "backward", "prefetch", "forward", "load, \"quoted\""]);
    let forward = json!({
        "range": "forward", "style": "push-pop", "count": 20, "total_ms": 59.0, "mean_ms": 2.95, "p50_ms": 2.95,
        "p95_ms": 3.8, "gpu_ms": 64.418878,
    });
    assert_eq!(*row(&document, "forward"), forward);
    assert_eq!(row(&document, "backward")["gpu_ms"], 140.740510);
    assert_eq!((&row(&document, xla)["count"], &row(&document, xla)["gpu_ms"]), (&3.into(), &Value::Null));
    let prefetch = row(&document, "prefetch");
    assert_eq!((&prefetch["style"], &prefetch["p95_ms"]), (&"start-end".into(), &Value::Null));

    assert_eq!(document["files"]["report"], format!("{name}.nsys-rep"));
    assert_eq!(document["nsys"]["version"], "2025.3.1.90");
    assert!(answer.err.contains("epoch 3: loss"), "the program's own words are on standard error: {}", answer.err);
    assert_eq!(document, place.manifest(&document), "the answer is what is kept");
}

#[test]
fn the_built_in_run_is_nsyss_child() {
    let place = Place::with_nsys();
    let (answer, document) = place.json(&["1", "2048", "demo", "0"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!((&document["collector"], &document["program"]), (&"nsys".into(), &Value::Null));
    assert_eq!(document["training"]["epochs"].as_array().unwrap().len(), 1);
    let profile = &place.seen()[1];
    assert_eq!(profile[8..10], [GSK.to_string(), "gsk-training".into()], "{profile:?}");
    assert!(answer.err.contains("epoch 1: loss"), "{}", answer.err);
    assert_eq!(row(&document, "forward")["count"], 20);
    let ends = place.files().into_iter().map(|file| file.split_once('.').unwrap().1.to_owned());
    assert_eq!(ends.collect::<Vec<_>>(), ["nsys-rep", "run.json", "sqlite"]);
}

#[test]
fn the_built_in_run_says_its_words_to_nobody() {
    let place = Place::with_nsys();
    let mut run = place.gsk(&["1", "4096", "deaf", "0"]).spawn().unwrap();
    drop(run.stderr.take());
    let answer = Answer::of(run.wait_with_output().unwrap());
    assert!(answer.code == Some(0) && answer.out.contains("Training on"), "{answer:?}");
}

#[test]
fn a_duration_ends_no_program() {
    let place = Place::with_nsys();
    place.run(&["--nsys-arg=--duration=9", "1", "1", "x", "0", "--", "true"]);
    let profile = &place.seen()[1];
    assert!(profile.contains(&"--kill=none".into()) && profile.contains(&"--duration=9".into()), "{profile:?}");
}

#[test]
fn a_table_is_for_people_and_the_program_writes_before_it() {
    let place = Place::with_nsys();
    let answer = place.run(&[&["1", "64", "people", "0"], &example()[..]].concat());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let at = |text: &str| answer.out.find(text).unwrap_or_else(|| panic!("no {text:?}: {}", answer.out));
    assert!(at("epoch 1: loss") < at("Run people_1ep_") && at("Run people_1ep_") < at("Ranges, ms"));
    assert!(answer.out.contains("exit code 0 after") && answer.out.contains(".nsys-rep"), "{}", answer.out);
    let forward = answer.out.lines().find(|line| line.starts_with("forward")).unwrap();
    let cells: Vec<&str> = forward.split_whitespace().collect();
    assert_eq!(cells, ["forward", "20", "59.000", "2.950", "2.950", "3.800", "64.419"]);
    assert!(answer.err.contains("note: nsys 2025.3.1.90 at"), "{}", answer.err);
}

#[test]
fn options_are_handed_on() {
    let place = Place::with_nsys();
    let words = ["1", "1", "x", "0", "--cublas", "--cudnn", "--capture-range", "nvtx:step@train"];
    let more = ["--nsys-arg=--sample=process-tree", "--nsys-arg", "--duration=9", "--", "sh", "-c"];
    let script = "echo $NSYS_NVTX_PROFILER_REGISTER_ONLY $GSK_EPOCHS $GSK_BATCH $GSK_JOB $GSK_WORKERS";
    // Only root may do this where the kernel is strict: see preflight.
    let strict =
        fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").map_or(4, |text| text.trim().parse().unwrap());
    if strict > 2 && !rustix::process::geteuid().is_root() {
        return println!("skipped: the CPU may not be sampled here");
    }
    let answer = place.run(&[&words[..], &more, &[script]].concat());
    assert!(answer.out.starts_with("0 1 1 x 0\n"), "{answer:?}");
    let profile = &place.seen()[1];
    for word in [
        "--trace=cuda,nvtx,osrt,cublas,cudnn",
        "--capture-range=nvtx",
        "--nvtx-capture=step@train",
        "--capture-range-end=stop",
        "--kill=none",
        "--sample=process-tree",
        "--duration=9",
    ] {
        assert!(profile.iter().any(|one| one == word), "{word}: {profile:?}");
    }
    assert!(!profile.iter().any(|word| word == "--sample=none"), "{profile:?}");
    let (_, document) = place.json(&["--no-nsys", "--cublas", "1", "1", "x", "0", "--", "true"]);
    assert!(document["warnings"][0].as_str().unwrap().contains("does nothing: there is no nsys"), "{document:#}");
    let refused = place.run(&["--nsys-arg=-o", "--nsys-arg=x"]);
    assert!(refused.code == Some(2) && refused.err.contains("gsk names the report"), "{refused:?}");
}

#[test]
fn what_is_missing_is_told_and_changes_no_exit_code() {
    let place = Place::with_nsys();
    let words = [&["1", "64", "odd", "0"], &example()[..]].concat();
    let warned = |document: &Value, says: &str| {
        let warnings = document["warnings"].as_array().unwrap();
        assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains(says), "{warnings:?}");
    };
    let (answer, document) = place.mode("no-report", &words);
    warned(&document, "nsys wrote no report");
    assert!(answer.code == Some(0) && answer.err.contains("warning: nsys wrote no report"), "{answer:?}");
    assert_eq!((&document["files"]["report"], &document["ranges"]), (&Value::Null, &Value::Null));

    let (answer, document) = place.mode("no-report", &[&["--capture-range=cuda"], &words[..]].concat());
    warned(&document, "was the capture range 'cuda' ever entered?");
    assert_eq!(answer.code, Some(0));

    let (answer, document) = place.mode("no-nvtx", &words);
    warned(&document, "no NVTX range was seen");
    assert_eq!((answer.code, &document["ranges"]), (Some(0), &json!([])));

    let (answer, document) = place.mode("no-gpu", &words);
    assert_eq!((answer.code, &document["warnings"]), (Some(0), &json!([])));
    assert!(document["ranges"].as_array().unwrap().iter().all(|row| row["gpu_ms"].is_null()));
    assert_eq!(row(&document, "forward")["p95_ms"], 3.8);

    let (answer, document) = place.mode("broken-stats", &words);
    warned(&document, "the database is locked");
    assert_eq!((answer.code, &document["ranges"]), (Some(0), &Value::Null));
    assert!(document["files"]["report"].is_string());

    let (answer, document) = place.mode("killed-stats", &words);
    warned(&document, "nsys stats was ended by signal 9");
    assert_eq!((answer.code, &document["ranges"]), (Some(0), &Value::Null));

    let (answer, document) = place.mode("half-stats", &words);
    let warnings = document["warnings"].as_array().unwrap();
    assert!(warnings.len() == 3 && warnings[0].as_str().unwrap().contains("exit code 4"), "{warnings:?}");
    assert_eq!((answer.code, row(&document, "forward")["count"].as_u64()), (Some(0), Some(20)));

    let (answer, document) = place.mode("", &[&["--nsys-arg=--trace=cuda"], &words[..]].concat());
    assert_eq!((answer.code, &document["ranges"], &document["warnings"]), (Some(0), &Value::Null, &json!([])));
}

#[test]
fn an_nsys_that_cannot_be_used_is_passed_over_or_refused() {
    let place = Place::with_nsys();
    let named = place.path("bin/nsys");
    let mut command = place.gsk(&["--nsys", named.to_str().unwrap(), "--", "true"]);
    let answer = Answer::of(command.env("NSYS_MODE", "old").output().unwrap());
    assert_eq!(answer.code, Some(3), "{answer:?}");
    assert!(answer.err.contains("it is version 2022.4.2.18, and 2023.1 or newer is needed"), "{answer:?}");
    let answer = place.run(&["--nsys", "/no/such/nsys", "--", "true"]);
    assert!(answer.code == Some(3) && answer.err.contains("there is no nsys at '/no/such/nsys'"), "{answer:?}");
    assert_eq!(place.files(), [""; 0], "nothing was begun");

    // A folder will do, as will a name; and NSYS_PATH goes before the PATH.
    for nsys in [place.path("bin").to_str().unwrap(), "nsys"] {
        let (_, document) = place.json(&["--nsys", nsys, "1", "1", "x", "0", "--", "true"]);
        assert_eq!(document["collector"], "nsys", "{document:#}");
    }
    fs::create_dir(place.path("other")).unwrap();
    fs::rename(place.path("bin/nsys"), place.path("other/nsys")).unwrap();
    let mut command = place.gsk(&["--json", "1", "1", "x", "0", "--", "true"]);
    let answer = Answer::of(command.env("NSYS_PATH", place.path("other")).output().unwrap());
    let document: Value = serde_json::from_str(&answer.out).unwrap();
    assert!(document["nsys"]["path"].as_str().unwrap().ends_with("other/nsys"), "{document:#}");

    let mut command = place.gsk(&["--json", "1", "1", "x", "0", "--", "true"]);
    command.env("NSYS_PATH", place.path("other")).env("NSYS_MODE", "old");
    let answer = Answer::of(command.output().unwrap());
    let document: Value = serde_json::from_str(&answer.out).unwrap();
    if document["collector"] == "nsys" {
        return println!("skipped: this machine has nsys");
    }
    assert_eq!((answer.code, &document["collector"]), (Some(0), &Value::Null));
    assert!(document["no_nsys"].as_str().unwrap().contains("version 2022.4.2.18"), "{document:#}");
    assert!(answer.err.contains("note: the program runs without being profiled: "), "{}", answer.err);
}

#[test]
fn a_cloned_folder_may_not_choose_the_program_that_runs() {
    let place = Place::with_nsys();
    fs::write(place.path("gsk.yaml"), "train-nvtx:\n  nsys: ./bin/nsys\n").unwrap();
    let answer = place.run(&["1", "1", "x", "0", "--", "true"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.err.contains("'nsys'") && place.seen().is_empty(), "{answer:?}");
    let path = place.path("gsk.yaml");
    let answer = place.run(&["--config", path.to_str().unwrap(), "1", "1", "x", "0", "--", "true"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
}

/// What a real nsys makes of the built-in run's ranges.
#[test]
fn a_real_nsys_counts_the_same_ranges() {
    let place = Place::new();
    let (answer, document) = place.json(&["1", "1024", "real", "1"]);
    if document["collector"] != "nsys" {
        return println!("skipped: {}", document["no_nsys"]);
    }
    assert_eq!(answer.code, Some(0), "{answer:?}");
    for (name, count) in [("epoch", 1), ("batch", 4), ("forward", 8), ("optimiser", 4), ("load", 4)] {
        assert_eq!(row(&document, name)["count"], count, "{document:#}");
    }
}
