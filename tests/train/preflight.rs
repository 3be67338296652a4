//! What spoils a run is found before it begins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use crate::place::{Answer, GSK, Place};

/// A user without rights.
const NOBODY: u32 = 65534;

/// gsk where others may run it, and a home that they may see.
fn as_nobody(place: &Place) -> String {
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(GSK, place.path("gsk")).unwrap();
    place.path("gsk").display().to_string()
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    let answer = place.run(&["--output-dir", "file/below", "1", "1", "x", "0", "--no-nsys", "--", "touch", "ran"]);
    assert!(answer.code != Some(0) && answer.err.contains("cannot make the folder 'file/below'"), "{answer:?}");
    assert!(answer.err.contains("--output-dir DIR"), "{answer:?}");
    assert!(!place.path("ran").exists());
    if !geteuid().is_root() {
        return println!("skipped: only root can become another user");
    }
    let gsk = as_nobody(&place);
    let mut command = place.command(&gsk);
    command.args(["train-nvtx", "1", "1", "x", "0", "--no-nsys", "--", "true"]).uid(NOBODY);
    let answer = Answer::of(command.output().unwrap());
    assert_eq!(answer.code, Some(4), "{answer:?}");
    fs::create_dir(place.path("profiling_output")).unwrap();
    let mut command = place.command(&gsk);
    command.args(["train-nvtx", "1", "1", "x", "0", "--no-nsys", "--", "true"]).uid(NOBODY);
    let answer = Answer::of(command.output().unwrap());
    assert_eq!(answer.code, Some(4), "{answer:?}");
    assert!(answer.err.contains("cannot write to the folder 'profiling_output'"), "{answer:?}");
}

/// Runs gsk in a mount namespace of its own, behind a line of shell; `None` where the system does not let us.
fn apart(place: &Place, line: &str, gsk: &[&str]) -> Option<Answer> {
    let allowed = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("skipped: unshare --mount is not allowed here");
        return None;
    }
    let mut command = place.command("unshare");
    command.args(["--mount", "sh", "-c", &format!("{line} \"$@\""), "sh"]).args(gsk);
    Some(Answer::of(command.output().unwrap()))
}

#[test]
fn a_full_disk_is_refused() {
    let place = Place::new();
    fs::create_dir(place.path("profiling_output")).unwrap();
    let line = "mount -t tmpfs -o size=8m none profiling_output &&";
    let run = ["1", "1", "x", "0", "--no-nsys", "--", "touch", "ran"];
    let Some(answer) = apart(&place, line, &[&[GSK, "train-nvtx"], &run[..]].concat()) else { return };
    assert_eq!(answer.code, Some(6), "{answer:?}");
    assert!(answer.err.contains("the disk is full") && answer.err.contains("8 MiB are free"), "{answer:?}");
    assert!(!place.path("ran").exists());
    // Enough for a run, too little to be sure of nsys's report.
    let place = Place::with_nsys();
    fs::create_dir(place.path("profiling_output")).unwrap();
    let line = "mount -t tmpfs -o size=100m none profiling_output &&";
    let answer =
        apart(&place, line, &[&[GSK, "train-nvtx"], &["1", "1", "x", "0", "--", "true"][..]].concat()).unwrap();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.err.contains("warning: 100 MiB are free on the disk"), "{answer:?}");
}

/// What the program came to is handed on, and shown.
#[test]
fn a_disk_that_fills_up_loses_no_answer() {
    let place = Place::new();
    fs::create_dir(place.path("profiling_output")).unwrap();
    let line = "mount -t tmpfs -o size=100m none profiling_output &&";
    let script = "head -c 200M /dev/zero >profiling_output/all; exit 3";
    let run = ["--json", "1", "1", "x", "0", "--no-nsys", "--", "sh", "-c", script];
    let Some(answer) = apart(&place, line, &[&[GSK, "train-nvtx"], &run[..]].concat()) else { return };
    assert_eq!(answer.code, Some(3), "{answer:?}");
    let document: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(document["exit_code"], 3);
    assert!(document["warnings"][0].as_str().unwrap().contains("No space left on device"), "{document:#}");
}

#[test]
fn sampling_that_the_kernel_forbids_is_refused() {
    let place = Place::with_nsys();
    fs::write(place.path("paranoid"), "4\n").unwrap();
    let gsk = as_nobody(&place);
    fs::create_dir(place.path("out")).unwrap();
    fs::set_permissions(place.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(place.path("seen"), "").unwrap();
    fs::set_permissions(place.path("seen"), fs::Permissions::from_mode(0o666)).unwrap();
    let line =
        "mount --bind paranoid /proc/sys/kernel/perf_event_paranoid && exec setpriv --reuid 65534 --clear-groups";
    let words = |nsys_arg: &'static str| {
        [gsk.as_str(), "train-nvtx", "--output-dir", "out", nsys_arg, "1", "1", "x", "0", "--", "true"]
    };
    let Some(answer) = apart(&place, line, &words("--nsys-arg=--sample=process-tree")) else { return };
    assert_eq!(answer.code, Some(4), "{answer:?}");
    assert!(answer.err.contains("kernel.perf_event_paranoid is 4, and nsys needs 2 or less"), "{answer:?}");
    assert!(answer.err.contains("sudo sysctl kernel.perf_event_paranoid=2"), "{answer:?}");
    let answer = apart(&place, line, &words("--nsys-arg=--stats=false")).unwrap();
    assert_eq!(answer.code, Some(0), "nothing is sampled unless asked: {answer:?}");
}
