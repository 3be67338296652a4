//! `gsk verify-gl --bundle`: what is in it, what is not, and what is left where it is not written.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

mod standin;

use standin::{Board, Scene};

const GSK: &str = env!("CARGO_BIN_EXE_gsk");
const UUID: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

/// What nobody is to read.
const TOKEN: &str = "planted-token-5f3a";
const USER: &str = "planteduser";
const FRIEND: &str = "plantedfriend";
const HOST: &str = "plantedhost";
const ADDRESS: &str = "10.77.66.55";
const ALLOWED: &str = "plantedpeer.example.org";

struct Place {
    scene: Scene,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(USER)).unwrap();
        let mut scene = Scene::of(Board::rtx().uuid(UUID));
        scene.board(Board::h200());
        Place { scene, dir }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join(USER)
    }

    fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle.tar.gz")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir.path()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        self.scene.apply(&mut command);
        let libraries =
            format!("{}:{}/lib:/home/{FRIEND}/lib", self.scene.libraries().display(), self.home().display());
        command
            .env("LD_LIBRARY_PATH", libraries)
            .envs([("USER", USER), ("LOGNAME", USER), ("HOSTNAME", HOST)])
            .envs([("GSK_TOKEN", TOKEN), ("GSK_ALLOW_HOST", ALLOWED), ("GSK_HOST", ADDRESS)])
            .envs([("AWS_SECRET_ACCESS_KEY", TOKEN), ("NVIDIA_VISIBLE_DEVICES", UUID), ("NVIDIA_API_KEY", TOKEN)])
            .env("CUDA_CACHE_PATH", format!("/mnt/{USER}@{HOST}.example.org/{ADDRESS}"))
            .env("GSK_LISTEN", format!("{ADDRESS}:5000"))
            .env("HOME", self.home())
            .env("GSK_LEASE_DIR", self.home().join("leases"));
        command
    }
}

/// The files of an archive by name, every one of them in its one folder and for its owner alone.
fn unpack(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(path).unwrap()));
    let file = |entry: std::io::Result<tar::Entry<_>>| {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o600);
        assert_eq!(entry.header().entry_type(), tar::EntryType::Regular);
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name.strip_prefix("gsk-verify-gl/").unwrap_or_else(|| panic!("{name}")).to_owned(), text)
    };
    archive.entries().unwrap().map(file).collect()
}

#[test]
fn it_holds_what_a_report_needs_and_nothing_that_is_somebodys() {
    let place = Place::new();
    // A host name of our own, where the system lets us have one.
    let script = format!("hostname {HOST} 2>/dev/null; exec \"$@\"");
    let words = ["verify-gl", "--skip", "cycles", "--json", "--bundle"];
    let mut renamed = place.command("unshare");
    renamed.args(["--map-root-user", "--uts", "sh", "-c", &script, "sh", GSK]).args(words).arg(place.bundle());
    let mut output = renamed.output();
    if !output.as_ref().is_ok_and(|output| place.bundle().exists() || output.status.code() == Some(0)) {
        output = place.command(GSK).args(words).arg(place.bundle()).output();
    }
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("look before you send it: tar -xzOf"), "{said}");
    assert_eq!(fs::metadata(place.bundle()).unwrap().mode() & 0o777, 0o600);

    let files = unpack(&place.bundle());
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = ["README.txt", "config.json", "nvenc-status.json", "system.json", "verify-gl.json", "verify-gl.txt"];
    assert_eq!(names, expected);
    expected.iter().for_each(|name| assert!(said.contains(name), "{name}: {said}"));
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for (name, text) in &files {
        let lower = text.to_lowercase();
        for planted in
            [TOKEN, USER, FRIEND, HOST, ADDRESS, ALLOWED, "8932f937", "c12f-20bd9faed9f6", "00000000-0000-4000"]
        {
            assert!(!lower.contains(planted), "{name} has {planted}:\n{text}");
        }
        // A machine that is called as something that stands in every report cannot be looked for.
        assert!(machine.len() < 5 || machine == "localhost" || !text.contains(&machine), "{name} has {machine}");
    }

    let json = |name: &str| -> Value { serde_json::from_str(&files[name]).unwrap() };
    let checks = json("verify-gl.json");
    assert_eq!((&checks["schema"]["name"], &checks["host"]), (&"gsk.verify-gl".into(), &"<host>".into()));
    // The same as was printed, but for what is redacted.
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (printed, kept) in printed["checks"].as_array().unwrap().iter().zip(checks["checks"].as_array().unwrap()) {
        assert_eq!((&printed["id"], &printed["verdict"]), (&kept["id"], &kept["verdict"]));
    }
    let table = &files["verify-gl.txt"];
    assert!(table.contains("What this host can do") && table.contains("gl-to-cuda"), "{table}");

    let system = json("system.json");
    assert_eq!(system["gsk"], env!("CARGO_PKG_VERSION"));
    assert!(system["kernel"].is_string() && system["container"]["inside"].is_boolean());
    assert!(system["devices"].is_array() && system["egl_vendors"].is_array(), "{system:#}");
    let environment = &system["environment"];
    assert_eq!(
        (&environment["GSK_TOKEN"], &environment["NVIDIA_API_KEY"]),
        (&"set (hidden)".into(), &"set (hidden)".into())
    );
    assert!(environment["LD_LIBRARY_PATH"].as_str().unwrap().ends_with(":~/lib:/home/<user>/lib"), "{environment:#}");
    assert!(environment["AWS_SECRET_ACCESS_KEY"].is_null() && environment["PATH"].is_null(), "{environment:#}");
    assert_eq!(environment["GSK_LISTEN"], "ip1:5000");
    // One device has one name everywhere.
    let uuid = environment["NVIDIA_VISIBLE_DEVICES"].as_str().unwrap();
    assert!(uuid.starts_with("GPU-uuid"), "{uuid}");
    assert_eq!(
        checks["devices"].as_array().unwrap().iter().filter(|pair| pair["uuid"] == uuid).count(),
        1,
        "{checks:#}"
    );
    let status = json("nvenc-status.json");
    assert_eq!(status["schema"]["name"], "gsk.nvenc-status");
    let gpus: Vec<&Value> = status["gpus"].as_array().unwrap().iter().map(|gpu| &gpu["uuid"]).collect();
    assert!(gpus.len() == 2 && gpus[0] == uuid && gpus[1] != uuid, "{gpus:?}");

    let config = json("config.json");
    let commands: Vec<&str> = config.as_array().unwrap().iter().filter_map(|one| one["command"].as_str()).collect();
    let expected =
        ["serve", "lease", "nvenc-status", "cleanup", "verify-gl", "view", "bench", "train-nvtx", "nsight", "isaac"];
    assert_eq!(commands, expected);
    let serve = config[0]["values"].as_array().unwrap();
    let value = |key: &str| &serve.iter().find(|row| row["key"] == key).unwrap()["value"];
    assert_eq!((value("token"), value("fps")), (&"set (hidden)".into(), &30.0.into()));
    assert_eq!(value("allow_host"), &serde_json::json!(["<host>"]));
}

#[test]
fn no_file_is_replaced() {
    let place = Place::new();
    fs::write(place.bundle(), "mine").unwrap();
    let run = |path: &Path| {
        let output = place.command(GSK).args(["verify-gl", "--bundle"]).arg(path).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&place.bundle());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("is there already") && said.contains("hint: take another name"), "{said}");
    // Nobody is told to remove a folder.
    let (code, said) = run(place.bundle().parent().unwrap());
    assert!(code == Some(2) && said.contains("is a folder") && !said.contains("rm "), "{said}");
    assert_eq!(fs::read(place.bundle()).unwrap(), b"mine");
    let link = place.dir.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    assert_eq!(run(&link).0, Some(2), "a link that leads nowhere is there too");
    let (code, said) = run(&place.dir.path().join("none/bundle.tar.gz"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("cannot write the bundle"), "{said}");
    assert_eq!(place.scene.events("open").len(), 0, "nothing was tried");
}

#[test]
fn an_end_before_it_is_whole_leaves_nothing() {
    let mut place = Place::new();
    place.scene.hang("cuGraphicsMapResources", 1, None);
    let mut command = place.command(GSK);
    command.args(["verify-gl", "--bundle"]).arg(place.bundle()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    place.scene.wait_for("the hang", |log| log.iter().any(|event| event.name == "hang").then_some(()));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(2));
    let left: Vec<_> = fs::read_dir(place.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [USER], "the home that was there");
}
