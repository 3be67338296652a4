//! An engine for a test.
//!
//! With `DOCKER_HOST` it is that one. Otherwise, for root, the test runs itself again in network, mount and pid namespaces of
//! its own and starts `dockerd` there, with its own socket, data and bridge: published ports are nobody else's, and when
//! the test ends, however it ends, the kernel ends everything that it started. Elsewhere the test is skipped.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const INSIDE: &str = "GSK_TEST_ENGINE";
pub const GSK: &str = env!("CARGO_BIN_EXE_gsk");
/// The stand-ins' names.
pub const NSIGHT: &str = "gsk-stand-in/nsight:1";
pub const ISAAC: &str = "gsk-stand-in/isaac";
const VERSIONS: [&str; 3] = ["6.0.0", "5.1.0", "4.2.0"];

/// How long an engine on a busy machine may take for what it is asked.
pub const SOON: Duration = Duration::from_secs(40);

pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is special about an engine.
#[derive(Clone, Copy, Default)]
pub struct Wants {
    /// Its data lie on a disk of so many MiB; only where it is the test's own.
    pub disk: Option<u32>,
    /// It can pass GPUs through: there is a runtime `nvidia`, and the hook of NVIDIA's toolkit, which does nothing.
    pub gpu: bool,
}

/// An engine, and a home for those who use it.
pub struct Place {
    pub dir: tempfile::TempDir,
    host: String,
    daemon: Option<Child>,
    /// What was there before.
    before: Vec<String>,
}

/// Everything that an engine of the test's own needs.
fn lacking() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let missing: Vec<&str> =
        ["dockerd", "docker", "iptables", "busybox", "unshare"].into_iter().filter(|program| !there(program)).collect();
    (!missing.is_empty()).then(|| format!("{} missing", missing.join(", ")))
}

impl Place {
    /// The engine for the test `name`; `None` where the test has run elsewhere, or was skipped.
    pub fn enter(name: &str, wants: Wants) -> Option<Place> {
        if let Some(folder) = std::env::var_os(INSIDE) {
            return Some(Place::start(Path::new(&folder), wants));
        }
        if let Ok(host) = std::env::var("DOCKER_HOST") {
            if wants.disk.is_some() || wants.gpu {
                println!("{name}: skipped: the engine at DOCKER_HOST is not one to be changed");
                return None;
            }
            return Some(Place::with(host, None));
        }
        if let Some(why) = lacking() {
            println!("{name}: skipped: no Docker engine: {why}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
        let output = command.env(INSIDE, folder.path()).stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(
            output.status.success(),
            "{said}\n{}",
            fs::read_to_string(folder.path().join("log")).unwrap_or_default()
        );
        None
    }

    fn start(folder: &Path, wants: Wants) -> Place {
        run(Command::new("busybox").args(["ip", "link", "set", "lo", "up"]));
        let (data, tools) = (folder.join("data"), folder.join("tools"));
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(&tools).unwrap();
        if let Some(mib) = wants.disk {
            run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "none"]).arg(&data));
        }
        let log = fs::File::create(folder.join("log")).unwrap();
        let socket = folder.join("sock");
        let host = format!("unix://{}", socket.display());
        let mut daemon = Command::new("dockerd");
        daemon.args(["--storage-driver=vfs", "--log-level=error", "-H", &host, "--data-root"]).arg(&data);
        daemon.arg("--exec-root").arg(folder.join("exec")).arg("--pidfile").arg(folder.join("pid"));
        if wants.gpu {
            let hook = tools.join("nvidia-container-runtime-hook");
            fs::write(&hook, "#!/bin/sh\nexit 0\n").unwrap();
            run(Command::new("chmod").arg("755").arg(&hook));
            daemon.args(["--add-runtime", "nvidia=runc"]);
        }
        let path = std::env::var_os("PATH").unwrap();
        let path = std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path))).unwrap();
        daemon.env("PATH", path).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = daemon.spawn().unwrap();
        Place::with(host, Some(child))
    }

    fn with(host: String, daemon: Option<Child>) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let mut place = Place { dir, host, daemon, before: Vec::new() };
        until("the engine", || place.docker(&["version"]).status.success().then_some(()));
        place.before = place.containers();
        place.import();
        place
    }

    /// Makes the image that stands in for the vendor's: busybox, a script, and an environment.
    fn import(&self) {
        let root = self.dir.path().join("root");
        for folder in ["bin", "etc", "tmp", "stand", "mnt/host", "isaac-sim", "root"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let path = std::env::var_os("PATH").unwrap();
        let busybox = std::env::split_paths(&path).map(|dir| dir.join("busybox")).find(|path| path.is_file()).unwrap();
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for name in "cat echo env httpd id ls mkdir nc printf rm seq sh sleep stat touch true".split(' ') {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        fs::write(root.join("stand/nsight.sh"), include_str!("nsight.sh")).unwrap();
        for script in ["runheadless.sh", "runheadless.webrtc.sh"] {
            let path = root.join("isaac-sim").join(script);
            fs::write(&path, include_str!("isaac.sh")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(root.join("bin/bash"), "#!/bin/sh\nexec sh \"$@\"\n").unwrap();
        fs::set_permissions(root.join("bin/bash"), fs::Permissions::from_mode(0o755)).unwrap();
        let tar = self.dir.path().join("root.tar");
        run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."));
        let changes =
            ["ENTRYPOINT [\"sh\", \"/stand/nsight.sh\"]", "ENV PATH=/bin", "ENV DEVTOOL_CMD=host-linux-x64/nsys-ui"];
        self.import_as(&tar, NSIGHT, &changes);
        for version in VERSIONS {
            let changes = ["WORKDIR /isaac-sim", "ENV PATH=/bin", &format!("ENV ISAAC_VERSION={version}")];
            self.import_as(&tar, &format!("{ISAAC}:{version}"), &changes);
        }
    }

    fn import_as(&self, tar: &Path, name: &str, changes: &[&str]) {
        let mut words = vec!["import"];
        changes.iter().for_each(|change| words.extend(["--change", change]));
        let tar = tar.display().to_string();
        words.extend([tar.as_str(), name]);
        let output = self.docker(&words);
        assert!(output.status.success(), "{output:?}");
    }

    /// The engine's own command.
    pub fn docker(&self, words: &[&str]) -> Output {
        Command::new("docker").args(words).env("DOCKER_HOST", &self.host).stdin(Stdio::null()).output().unwrap()
    }

    /// What it answers.
    pub fn ask(&self, words: &[&str]) -> String {
        let output = self.docker(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().into()
    }

    /// Every container, running or not, that was not there before the test.
    pub fn containers(&self) -> Vec<String> {
        let all = self.ask(&["ps", "-a", "--format", "{{.Names}}"]);
        let mut all: Vec<String> =
            all.lines().filter(|name| !self.before.iter().any(|old| old == name)).map(Into::into).collect();
        all.sort();
        all
    }

    pub fn inspect(&self, container: &str) -> Value {
        let all: Value = serde_json::from_str(&self.ask(&["inspect", container])).unwrap();
        all[0].clone()
    }

    /// The environment that a container was created with.
    pub fn environment(&self, container: &str) -> Vec<String> {
        let seen = self.inspect(container);
        seen["Config"]["Env"].as_array().unwrap().iter().map(|pair| pair.as_str().unwrap().into()).collect()
    }

    /// gsk in an empty home, with this engine.
    pub fn command(&self, words: &[&str]) -> Command {
        let home = self.dir.path().join("home");
        fs::create_dir_all(home.join("profiling_output")).unwrap();
        let mut command = Command::new(GSK);
        command.args(words).current_dir(&home).env_clear().env("HOME", &home).env("DOCKER_HOST", &self.host);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Lets every user ask the engine.
    pub fn open_socket(&self) {
        let socket = Path::new(self.host.strip_prefix("unix://").unwrap());
        fs::set_permissions(socket.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn gsk(&self, words: &[&str]) -> Answer {
        Answer::of(self.command(words).output().unwrap())
    }

    /// An override of the profile, by its YAML.
    pub fn profile(&self, text: &str) -> String {
        fs::create_dir_all(self.home()).unwrap();
        let path = self.home().join("profile.yaml");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.containers();
        if !left.is_empty() {
            let names: Vec<&str> = left.iter().map(String::as_str).collect();
            self.docker(&[&["rm", "-f", "-v"], names.as_slice()].concat());
        }
        if let Some(mut daemon) = self.daemon.take() {
            // So that it takes its own mounts and groups with it.
            let _ =
                rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM);
            let _ = daemon.wait();
        } else {
            self.docker(&["rmi", NSIGHT]);
            VERSIONS.iter().for_each(|version| drop(self.docker(&["rmi", &format!("{ISAAC}:{version}")])));
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// What a command said in the end.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub fn of(output: Output) -> Answer {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Answer { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Ended with `code`, and said all of these on standard error.
    pub fn refused(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        says.iter().for_each(|text| assert!(self.err.contains(text), "no {text:?}:\n{}", self.err));
    }
}

/// A command that runs on its own, as one at a terminal does: in a process group of its own.
pub fn spawn(mut command: Command) -> Child {
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A page's status and body, asked for with a login or without.
pub fn page(port: u16, path: &str, login: Option<&str>) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let authorization = login.map_or(String::new(), |pair| {
        let mut encoder = Command::new("base64");
        let mut child = encoder.arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(pair.as_bytes()).unwrap();
        let encoded = child.wait_with_output().unwrap().stdout;
        format!("Authorization: Basic {}\r\n", String::from_utf8(encoded).unwrap().trim())
    });
    write!(stream, "GET {path} HTTP/1.0\r\n{authorization}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.into())
}

/// What a port says to whoever connects.
pub fn hear(port: u16) -> String {
    let mut text = String::new();
    TcpStream::connect(("127.0.0.1", port)).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// A port that nobody has just now.
pub fn free() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
