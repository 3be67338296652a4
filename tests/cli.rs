//! The command line as a person meets it: the real program, in an empty directory and environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const GSK: &str = env!("CARGO_BIN_EXE_gsk");

/// A directory with a home, and the program run in it.
struct Place {
    dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    fn with(self, path: &str, text: &str) -> Place {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Place {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(GSK);
        command.args(words).current_dir(self.dir.path()).stdin(Stdio::null()).env_clear();
        command.env("HOME", self.dir.path()).envs(self.variables.iter().cloned());
        command
    }

    fn run(&self, words: &[&str]) -> Answer {
        Answer::from(self.command(words).output().unwrap())
    }

    fn config(&self, words: &[&str]) -> Value {
        let answer = self.run(&[&["serve", "--print-config", "--json"], words].concat());
        assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""), "{words:?}");
        serde_json::from_str(&answer.out).unwrap()
    }
}

#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Answer {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Answer { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Value, layer and place of one key of `--print-config`.
fn setting(config: &Value, key: &str) -> (Value, String, Value) {
    let row = config["values"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap();
    (row["value"].clone(), row["layer"].as_str().unwrap().into(), row["place"].clone())
}

/// Ends with 2, nothing on standard output, and all of `says` on standard error.
fn refused(place: &Place, words: &[&str], says: &[&str]) {
    let answer = place.run(words);
    assert_eq!((answer.code, answer.out.as_str()), (Some(2), ""), "{words:?}: {answer:?}");
    for text in says {
        assert!(answer.err.contains(text), "{words:?} lacks {text:?}:\n{}", answer.err);
    }
}

#[test]
fn what_is_unknown_or_wrong_is_refused_with_a_suggestion() {
    let here = Place::new();
    refused(&here, &["serve", "--bitrat", "4M"], &["--bitrat", "'--bitrate'"]);
    refused(&here, &["serv"], &["'serv'", "'serve'"]);
    refused(&here, &["serve", "--encoder", "nvec"], &["'nvec'", "'nvenc'"]);
    refused(
        &here,
        &["serve", "--size", "641x480"],
        &["error: wrong value for --size <WxH>\n  cause: 641x480", "\n\nhint: use 640 or 642"],
    );
    refused(&here, &["serve", "--fps", "0"], &["--fps", "outside 1 to 240"]);
    refused(&here, &["serve", "--bitrate", "1"], &["--bitrate", "outside 100k to 200M"]);
    refused(&here, &["serve", "--max-viewers", "0"], &["--max-viewers", "1..=10000"]);
    refused(
        &here,
        &["serve", "--jpeg-quality", "101"],
        &["--jpeg-quality", "neither auto nor a quality from 1 to 100"],
    );
    refused(&here, &["serve", "--listen", "gpu1:1"], &["--listen", "hint: write an IP address"]);
    refused(&here, &["serve", "--source", "film.mp4"], &["--source", "FILE.y4m"]);
    refused(&here, &["serve", "--source", "-", "--", "sh"], &["cannot be used with"]);
    refused(&here, &["-q", "-v", "serve"], &["cannot be used with"]);
    refused(&here, &["--json", "--format", "csv", "serve"], &["cannot be used with"]);
}

#[test]
fn flags_without_effect_are_refused_and_settings_without_effect_are_told() {
    let here = Place::new();
    refused(
        &here,
        &["serve", "--loop"],
        &["--loop does nothing for the source 'scene'", "cause: only a file", "hint: gsk serve"],
    );
    refused(&here, &["serve", "--restart", "always"], &["--restart does nothing", "-- CMD"]);
    refused(&here, &["serve", "--pixel-format", "nv12"], &["--pixel-format does nothing", "only raw frames"]);
    let fixed = ["serve", "--encoder", "jpeg", "--jpeg-quality", "50", "--bitrate", "2M"];
    refused(&here, &fixed, &["--bitrate does nothing for --encoder jpeg", "cause: --jpeg-quality is fixed"]);
    let there = Place::new().with("gsk.yaml", "serve:\n  restart: always\n");
    let answer = there.run(&["serve", "--source", "missing.y4m"]);
    assert!(
        answer.err.contains("warning: 'restart' (./gsk.yaml:2) does nothing for the source 'missing.y4m'"),
        "{answer:?}"
    );
}

#[test]
fn files_are_refused_with_the_place_of_the_fault() {
    let file = |text: &str| Place::new().with("gsk.yaml", text);
    let serve = &["serve", "--print-config"];
    refused(
        &file("serve:\n  bit_rate: 4M\n"),
        serve,
        &["./gsk.yaml:2:3: unknown key 'bit_rate' in 'serve'", "hint: did you mean 'bitrate'?"],
    );
    refused(&file("fps: 30\n"), serve, &["./gsk.yaml:1:1: unknown key 'fps'", "indent it below 'bench:' or 'serve:'"]);
    refused(&file("colour: never\n"), serve, &["./gsk.yaml:1:1: unknown key 'colour'", "did you mean 'color'?"]);
    refused(
        &file("serve:\n  fps: fast\n"),
        serve,
        &["./gsk.yaml:2:8: wrong value for 'fps'", "cause: 'fast' is not a number"],
    );
    refused(
        &file("serve:\n  size: 7x7\n"),
        serve,
        &["./gsk.yaml:2:9: wrong value for 'size'", "cause: 7x7: the width"],
    );
    refused(&file("serve: [\n"), serve, &["./gsk.yaml:"]);
    refused(&Place::new(), &["serve", "--config", "none.yaml"], &["none.yaml: there is no such file"]);
    refused(&Place::new().with("gsk.yaml/x", ""), serve, &["./gsk.yaml: the file cannot be read", "cause: "]);
    refused(&Place::new().variable("GSK_FPS", "fast"), serve, &["GSK_FPS: wrong value for 'fps'"]);
    refused(&Place::new().variable("GSK_LOG", "gsk=loud"), &["serve", "--listen", "0"], &["GSK_LOG"]);
}

#[test]
fn a_file_found_by_itself_may_not_open_or_run_anything() {
    for line in [
        "listen: 0.0.0.0:80",
        "command: [sh]",
        "token_file: t",
        "allow_host: [x]",
        "allow_origin: ['http://x']",
        "input: all",
    ] {
        let key = line.split(':').next().unwrap();
        let place = Place::new().with("gsk.yaml", &format!("serve:\n  fps: 20\n  {line}\n"));
        let says = [
            &format!("./gsk.yaml:3:3: '{key}' may not be set here"),
            "hint: if you trust it, name it: --config ./gsk.yaml",
        ];
        refused(&place, &["serve", "--print-config"], &says);
        let named = place.config(&["--config", "./gsk.yaml"]);
        assert_eq!(setting(&named, key).1, "file", "named, it is trusted with {key}");
    }
}

#[test]
fn a_file_found_by_itself_may_not_choose_what_a_container_is() {
    let cases = [
        (
            "nsight",
            ["nsight_image: x", "reports: /", "docker_compose: c.yaml", "nsight_profile: p.yaml", "bind: 0.0.0.0"],
        ),
        ("isaac", ["isaac_image: x", "data: /", "accept_eula: true", "isaac_profile: p.yaml", "isaac_tag: x"]),
    ];
    for (command, lines) in cases {
        for line in lines {
            let place = Place::new().with("gsk.yaml", &format!("{command}:\n  {line}\n"));
            let says = [&format!("./gsk.yaml:2:3: '{}' may not be set here", line.split(':').next().unwrap())[..]];
            refused(&place, &[command, "start", "--print-config"], &says);
            let named = place.run(&[command, "start", "--print-config", "--config", "gsk.yaml"]);
            assert_eq!(named.code, Some(0), "named, it is trusted: {named:?}");
        }
    }
}

#[test]
fn each_layer_outranks_those_below() {
    let bare = Place::new();
    let fps = |place: &Place, words: &[&str]| setting(&place.config(words), "fps");
    assert_eq!(fps(&bare, &[]), (30.0.into(), "default".into(), Value::Null));

    let users = bare.with(".config/gsk/gsk.yaml", "serve: {fps: 41}");
    let path = users.dir.path().join(".config/gsk/gsk.yaml:1").display().to_string();
    assert_eq!(fps(&users, &[]), (41.0.into(), "file".into(), path.into()));

    let local = users.with("gsk.yaml", "serve:\n  fps: 42\n").with("other.yaml", "serve: {fps: 43}");
    assert_eq!(fps(&local, &[]), (42.0.into(), "file".into(), "./gsk.yaml:2".into()));
    assert_eq!(fps(&local, &["--config", "other.yaml"]), (43.0.into(), "file".into(), "other.yaml:1".into()));

    let env = local.variable("GSK_FPS", "44");
    assert_eq!(fps(&env, &[]), (44.0.into(), "environment".into(), "GSK_FPS".into()));
    assert_eq!(fps(&env, &["--fps", "45"]), (45.0.into(), "flag".into(), "--fps".into()));
}

#[test]
fn what_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"\xff");
    let place = Place::new();
    for words in [&[][..], &["train-nvtx", "--no-nsys", "1", "4096", "--output-dir"]] {
        let answer = Answer::from(place.command(words).arg(odd).output().unwrap());
        assert_eq!((answer.code, answer.out.as_str()), (Some(2), ""), "{words:?}: {answer:?}");
        assert!(answer.err.contains("error: ") && !answer.err.contains("panicked"), "{words:?}: {answer:?}");
    }
}

#[test]
fn print_config_has_every_value_and_no_secret() {
    let place = Place::new().variable("GSK_TOKEN", "hunter2").variable("GSK_LISTEN", "[::1]:7000");
    let config = place.config(&["--bitrate", "2.5M", "--", "sh", "-c", "x y"]);
    assert_eq!(config["schema"], serde_json::json!({"name": "gsk.config", "version": 1}));
    assert_eq!((&config["gsk"], &config["command"]), (&env!("CARGO_PKG_VERSION").into(), &"serve".into()));
    assert!(config["host"].is_string() && config["errors"] == serde_json::json!([]));
    let value = |key| setting(&config, key).0;
    assert_eq!(value("format"), "json");
    assert_eq!(value("color"), "auto");
    assert_eq!(value("listen"), "[::1]:7000");
    assert_eq!(value("bitrate"), 2_500_000);
    assert_eq!((value("source"), value("size")), (Value::Null, Value::Null));
    assert_eq!(value("command"), serde_json::json!(["sh", "-c", "x y"]));
    assert_eq!(value("token"), "set (hidden)");
    for format in ["table", "json", "jsonl", "csv"] {
        let answer = place.run(&["serve", "--print-config", "--format", format]);
        assert!(
            answer.code == Some(0) && answer.out.contains("GSK_TOKEN") && !answer.out.contains("hunter2"),
            "{answer:?}"
        );
    }
    let csv = place.run(&["serve", "--print-config", "--format", "csv"]).out;
    assert!(csv.starts_with("key,value,from\nformat,csv,--format\n"), "{csv}");
}

#[test]
fn a_slip_in_a_variables_name_is_told() {
    let place = Place::new().variable("GSK_BITRAT", "4M").variable("GSK_OTHER_PROGRAM", "1");
    let answer = place.run(&["serve", "--print-config"]);
    assert_eq!(
        (answer.code, answer.err.as_str()),
        (Some(0), "warning: nothing reads GSK_BITRAT; did you mean GSK_BITRATE?\n")
    );
    assert_eq!(place.run(&["-q", "serve", "--print-config"]).err, "");
}

#[test]
fn a_failure_is_a_document_where_json_is_read() {
    let place = Place::new().with("gsk.yaml", "serve: {fps: fast}");
    let answer = place.run(&["serve", "--json"]);
    let json: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(
        (answer.code, &json["schema"]["name"], &json["errors"][0]["kind"]),
        (Some(2), &"gsk.error".into(), &"usage".into())
    );
    assert_eq!(json["errors"][0]["cause"], "'fast' is not a number");
    assert!(answer.err.starts_with("error: ./gsk.yaml:1:14: wrong value"), "{}", answer.err);
}

#[test]
fn a_closed_standard_output_ends_quietly() {
    for words in [&["serve", "--print-config"][..], &["serve", "--print-config", "--json"], &["--help"], &["--version"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let answer = Answer::from(Place::new().command(words).stdout(writer).output().unwrap());
        assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""), "{words:?}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let answer = Answer::from(Place::new().command(&["serve", "--print-config"]).stdout(full).output().unwrap());
    assert_eq!(answer.code, Some(1));
    assert!(answer.err.starts_with("error: standard output cannot be written\n  cause: "), "{}", answer.err);
}

#[test]
fn color_is_used_where_it_is_asked_for_only() {
    let escapes = |place: &Place, words: &[&str]| place.run(words).err.contains('\x1b');
    for words in [&["serve", "--loop"][..], &["serve", "--fps", "0"], &["serve", "--nonsense"]] {
        assert!(!escapes(&Place::new(), words), "{words:?}: no terminal");
        assert!(escapes(&Place::new(), &[&["--color", "always"], words].concat()), "{words:?}");
        assert!(escapes(&Place::new().variable("GSK_COLOR", "always"), words), "{words:?}");
        assert!(
            !escapes(&Place::new().variable("GSK_COLOR", "always"), &[&["--color=never"], words].concat()),
            "{words:?}"
        );
    }
}

/// On a terminal, which util-linux's `script` provides.
#[test]
fn no_color_is_heeded_on_a_terminal() {
    let colored = |place: Place| {
        let mut script = Command::new("script");
        script.args(["-qec", &format!("{GSK} serve --print-config"), "/dev/null"]).stdin(Stdio::null());
        script
            .current_dir(place.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("TERM", "xterm")
            .envs(place.variables.iter().cloned());
        Answer::from(script.output().unwrap()).out.contains("\x1b[1m")
    };
    assert!(colored(Place::new()));
    assert!(!colored(Place::new().variable("NO_COLOR", "1")));
    assert!(colored(Place::new().variable("NO_COLOR", "")), "empty counts as unset");
    assert!(!colored(Place::new().variable("TERM", "dumb")));
}

#[test]
fn outside_text_reaches_no_terminal_as_it_is() {
    let place = Place::new().with("gsk.yaml", "serve: {\"a\\e]0;owned\\a\\e[31mb\": 1}");
    let answer = place.run(&["serve", "--print-config"]);
    assert!(!answer.err.contains(['\x1b', '\x07']) && answer.err.contains("'ab'"), "{:?}", answer.err);
}

/// Compares with a file of the repository byte for byte; `GSK_BLESS=1` writes it.
fn matches(path: &Path, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("GSK_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{} differs; GSK_BLESS=1 cargo nextest run --test cli writes it. Now:\n{text}",
        path.display()
    );
}

#[test]
fn help_reads_as_it_was_agreed() {
    let cases: [(&str, &[&str]); 16] = [
        ("help", &["--help"]),
        ("help-short", &["-h"]),
        ("serve-help", &["serve", "--help"]),
        ("serve-help-short", &["serve", "-h"]),
        ("lease-run-help", &["lease", "run", "--help"]),
        ("nvenc-status-help", &["nvenc-status", "--help"]),
        ("cleanup-help", &["cleanup", "--help"]),
        ("verify-gl-help", &["verify-gl", "--help"]),
        ("view-help", &["view", "--help"]),
        ("bench-help", &["bench", "--help"]),
        ("train-nvtx-help", &["train-nvtx", "--help"]),
        ("nsight-help", &["nsight", "--help"]),
        ("nsight-start-help", &["nsight", "start", "--help"]),
        ("isaac-help", &["isaac", "--help"]),
        ("isaac-start-help", &["isaac", "start", "--help"]),
        ("serve-print-config", &["serve", "--print-config"]),
    ];
    for (name, words) in cases {
        let answer = Place::new().run(words);
        assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""), "{words:?}");
        matches(&Path::new("tests/snapshots").join(name).with_extension("txt"), &answer.out);
    }
    let bare = Place::new().run(&[]);
    assert_eq!((bare.code, bare.out.as_str()), (Some(2), ""));
    assert!(bare.err.contains("Usage: gsk"));
    assert!(Place::new().run(&["-V"]).out.starts_with(&format!("gsk {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn completions_and_man_pages_are_those_of_this_definition() {
    let place = Place::new();
    let answer = place.run(&["generate", "out"]);
    assert_eq!((answer.code, answer.out.as_str(), answer.err.as_str()), (Some(0), "", ""));
    let mut names = Vec::new();
    for folder in ["completions", "man"] {
        let listed = |root: PathBuf| {
            let entries = std::fs::read_dir(root.join(folder)).map(|e| e.map(|e| e.unwrap().file_name()).collect());
            let mut names: Vec<_> = entries.unwrap_or_default();
            names.sort();
            names
        };
        let made = listed(place.dir.path().join("out"));
        for name in &made {
            let path = Path::new(folder).join(name);
            matches(&path, &std::fs::read_to_string(place.dir.path().join("out").join(&path)).unwrap());
        }
        assert_eq!(listed(env!("CARGO_MANIFEST_DIR").into()), made, "nothing is left from commands that are gone");
        names.extend(made);
    }
    assert_eq!(
        names,
        [
            "_gsk",
            "_gsk.ps1",
            "gsk.bash",
            "gsk.fish",
            "gsk-bench.1",
            "gsk-cleanup.1",
            "gsk-isaac-cleanup.1",
            "gsk-isaac-logs.1",
            "gsk-isaac-restart.1",
            "gsk-isaac-start.1",
            "gsk-isaac-status.1",
            "gsk-isaac-stop.1",
            "gsk-isaac.1",
            "gsk-lease-run.1",
            "gsk-lease.1",
            "gsk-nsight-logs.1",
            "gsk-nsight-open.1",
            "gsk-nsight-start.1",
            "gsk-nsight-status.1",
            "gsk-nsight-stop.1",
            "gsk-nsight.1",
            "gsk-nvenc-status.1",
            "gsk-serve.1",
            "gsk-train-nvtx.1",
            "gsk-verify-gl.1",
            "gsk-view.1",
            "gsk.1"
        ]
    );
}
