//! Exit codes, files that are never overwritten, manifests, and the list of runs.

use std::fs;

use serde_json::{Value, json};

use crate::place::{Answer, Place, example};

#[test]
fn a_programs_exit_code_is_handed_on() {
    let place = Place::with_nsys();
    for nsys in [&["--no-nsys"][..], &[]] {
        for (more, code) in [(&[][..], 0), (&["--target", "0.0001"], 3)] {
            let (answer, document) = place.json(&[&["1", "32", "t", "0"], nsys, &example(), more].concat());
            assert_eq!((answer.code, &document["exit_code"]), (Some(code), &code.into()), "{answer:?}");
        }
        let kill = ["--", "python3", "-c", "import os; os.kill(os.getpid(), 2)"];
        let (answer, _) = place.json(&[&["1", "32", "t", "0"], nsys, &kill].concat());
        assert_eq!((answer.code, answer.signal), (None, Some(2)), "{answer:?}");
    }
    let (answer, document) = place.json(&["1", "32", "t", "0", "--no-nsys", "--", "sh", "-c", "kill -SEGV $$"]);
    assert_eq!((answer.code, &document["signal"], &document["exit_code"]), (Some(139), &11.into(), &Value::Null));
    let names: Vec<String> = place.files();
    assert_eq!(names.iter().filter(|name| name.ends_with(".run.json")).count(), 7, "{names:?}");
}

#[test]
fn a_closed_output_changes_no_exit_code() {
    let place = Place::new();
    let mut run = place.gsk(&["1", "1", "t", "0", "--no-nsys", "--json", "--", "sh", "-c", "exit 3"]).spawn().unwrap();
    drop(run.stdout.take());
    assert_eq!(run.wait().unwrap().code(), Some(3));
}

#[test]
fn a_program_that_is_not_there_leaves_nothing() {
    let place = Place::new();
    let answer = place.run(&["1", "32", "t", "0", "--no-nsys", "--", "/no/such/program"]);
    assert!(answer.code == Some(2) && answer.err.contains("cannot start '/no/such/program'"), "{answer:?}");
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn nothing_is_overwritten_unless_that_is_asked_for() {
    let place = Place::with_nsys();
    let words = |more: &[&'static str]| [&["1", "1", "same", "0", "--stamp", "v1"], more].concat();
    let (_, first) = place.json(&words(&["--", "true"]));
    assert_eq!(first["name"], "same_1ep_v1");
    let report = place.path("profiling_output/same_1ep_v1.nsys-rep");
    fs::write(&report, "precious").unwrap();
    let answer = place.run(&words(&["--", "true"]));
    assert!(answer.code == Some(2) && answer.err.contains("there is a run 'same_1ep_v1'"), "{answer:?}");
    assert!(answer.err.contains("overwrite it: --force"), "{}", answer.err);
    assert_eq!(fs::read_to_string(&report).unwrap(), "precious");
    assert_eq!(place.manifest(&first), first);
    // A report without its manifest is as precious.
    fs::remove_file(place.path("profiling_output/same_1ep_v1.run.json")).unwrap();
    assert_eq!(place.run(&words(&["--", "true"])).code, Some(2));
    assert_eq!(fs::read_to_string(&report).unwrap(), "precious");

    let (answer, forced) = place.json(&words(&["--force", "--", "true"]));
    assert_eq!((answer.code, &forced["name"]), (Some(0), &"same_1ep_v1".into()));
    assert_eq!(fs::read_to_string(&report).unwrap(), "report\n");
    assert!(place.seen().last().unwrap().last().unwrap().ends_with("same_1ep_v1.nsys-rep"));
    assert!(place.seen().iter().any(|call| call.contains(&"--force-overwrite=true".into())));
}

#[test]
fn a_run_is_overwritten_once_another_has_begun() {
    let place = Place::with_nsys();
    let words = |more: &[&'static str]| [&["1", "1", "same", "0", "--stamp", "v1"], more].concat();
    let (_, first) = place.json(&words(&["--", "true"]));
    let before = place.files();
    let answer = place.run(&words(&["--force", "--no-nsys", "--", "no-such-program"]));
    assert!(answer.code == Some(2) && answer.err.contains("cannot start 'no-such-program'"), "{answer:?}");
    assert_eq!((place.files(), place.manifest(&first)), (before.clone(), first));
    let report = place.path("profiling_output/same_1ep_v1.nsys-rep");
    assert_eq!(fs::read_to_string(&report).unwrap(), "report\n");

    // A run that goes on is not to be had.
    rustix::fs::mknodat(rustix::fs::CWD, place.path("gate"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let going_on = ["--force", "--no-nsys", "--json", "--", "sh", "-c", "read -r _ <gate"];
    let run = place.gsk(&words(&going_on)).spawn().unwrap();
    // Opened once the program is at it.
    let gate = fs::File::options().write(true).open(place.path("gate")).unwrap();
    let answer = place.run(&words(&["--force", "--no-nsys", "--", "true"]));
    assert!(answer.code == Some(2) && answer.err.contains("the run 'same_1ep_v1' in"), "{answer:?}");
    drop(gate);
    let answer = Answer::of(run.wait_with_output().unwrap());
    let document: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((answer.code, place.manifest(&document)), (Some(1), document), "{answer:?}");
    assert_eq!(place.files(), ["same_1ep_v1.run.json"], "of the first run nothing is left");
    assert_eq!(place.run(&words(&["--force", "--no-nsys", "--", "true"])).code, Some(0));
}

/// Runs that begin in the same second have names of their own.
#[test]
fn runs_at_once_have_names_of_their_own() {
    let place = Place::new();
    let words = ["1", "1", "at-once", "0", "--no-nsys", "--json", "--", "true"];
    let runs: Vec<_> = (0..4).map(|_| place.gsk(&words).spawn().unwrap()).collect();
    let mut names: Vec<Value> = Vec::new();
    for run in runs {
        let answer = Answer::of(run.wait_with_output().unwrap());
        let document: Value = serde_json::from_str(&answer.out).unwrap();
        names.push(document["name"].clone());
    }
    names.sort_by_key(|name| name.to_string());
    names.dedup();
    assert_eq!((names.len(), place.files().len()), (4, 4), "{names:?}");
}

#[test]
fn the_manifest_says_what_a_run_depends_on() {
    let place = Place::new();
    fs::create_dir(place.path(".git")).unwrap();
    fs::write(place.path(".git/HEAD"), format!("{}\n", "a".repeat(40))).unwrap();
    let mut command = place.gsk(&["2", "32", "kept", "1", "--no-nsys", "--json", "--", "sh", "-c", "exit 7"]);
    command.env("OMP_NUM_THREADS", "3").env("GSK_TOKEN", "s3cret-token").env("CUDA_API_KEY", "s3cret-key");
    let answer = Answer::of(command.output().unwrap());
    let document: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(place.manifest(&document), document);
    assert!(!answer.out.contains("s3cret"), "{}", answer.out);
    assert_eq!(document["schema"], json!({"name": "gsk.profile", "version": 1}));
    let kinds = [
        ("gsk", "string"),
        ("host", "string"),
        ("name", "string"),
        ("folder", "string"),
        ("job", "string"),
        ("epochs", "number"),
        ("batch", "number"),
        ("workers", "number"),
        ("program", "array"),
        ("command", "array"),
        ("collector", "null"),
        ("nsys", "null"),
        ("no_nsys", "string"),
        ("directory", "string"),
        ("environment", "object"),
        ("hardware", "object"),
        ("git", "object"),
        ("process", "object"),
        ("started", "string"),
        ("ended", "string"),
        ("seconds", "number"),
        ("exit_code", "number"),
        ("signal", "null"),
        ("interrupted", "null"),
        ("files", "object"),
        ("training", "null"),
        ("ranges", "null"),
        ("warnings", "array"),
        ("errors", "array"),
    ];
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let seen: Vec<(&str, &str)> =
        document.as_object().unwrap().iter().skip(1).map(|(key, value)| (key.as_str(), kind(value))).collect();
    assert_eq!(seen, kinds);
    assert_eq!((&document["exit_code"], &document["git"]["commit"]), (&7.into(), &"a".repeat(40).into()));
    assert_eq!(document["environment"]["OMP_NUM_THREADS"], "3");
    assert_eq!(document["command"], document["program"]);
}

#[test]
fn runs_are_listed_newest_first() {
    let place = Place::new();
    let empty = place.run(&["--list"]);
    assert_eq!((empty.code, empty.out.as_str()), (Some(0), "No runs in profiling_output\n"));
    for (job, program) in [("one", "true"), ("two", "exit 4"), ("three", "kill -TERM $$")] {
        place.run(&["1", "1", job, "0", "--no-nsys", "--", "sh", "-c", program]);
    }
    place.run(&["1", "4096", "four", "0", "--no-nsys"]);
    let (answer, document) = place.json(&["--list"]);
    assert_eq!((answer.code, &document["schema"]["name"]), (Some(0), &"gsk.profiles".into()));
    let runs = document["runs"].as_array().unwrap();
    let seen: Vec<_> = runs.iter().map(|run| (run["exit_code"].as_i64(), run["signal"].as_i64())).collect();
    assert_eq!(seen, [(Some(0), None), (None, Some(15)), (Some(4), None), (Some(0), None)], "{document:#}");
    assert!(runs[0]["name"].as_str().unwrap().starts_with("four_1ep_") && runs[0]["accuracy"].is_f64());
    assert_eq!(
        (&runs[0]["state"], &runs[0]["collector"], &runs[1]["collector"]),
        (&"ended".into(), &"gsk".into(), &Value::Null)
    );
    let table = place.run(&["--list"]).out;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0] == "Runs in profiling_output, times in UTC" && lines[1].starts_with("NAME"), "{table}");
    assert!(
        lines[2].contains("built-in") && lines[3].contains("signal 15") && lines[4].contains("sh -c exit 4"),
        "{table}"
    );

    // A run whose gsk was killed, and what is no manifest.
    let path = place.path("profiling_output").join(format!("{}.run.json", runs[3]["name"].as_str().unwrap()));
    let mut broken: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    broken["ended"] = Value::Null;
    fs::write(&path, broken.to_string()).unwrap();
    fs::write(place.path("profiling_output/odd.run.json"), "{").unwrap();
    let (answer, document) = place.json(&["--list"]);
    assert_eq!((answer.code, &document["runs"][3]["state"]), (Some(1), &"broken".into()), "{document:#}");
    assert!(document["errors"][0]["what"].as_str().unwrap().contains("odd.run.json"), "{document:#}");
    // Of another machine in the same folder: whether it still runs is not known here.
    broken["host"] = "elsewhere".into();
    fs::write(&path, broken.to_string()).unwrap();
    assert_eq!(place.json(&["--list"]).1["runs"][3]["state"], "elsewhere");
}
