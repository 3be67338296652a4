//! The stand-in NVIDIA driver for tests: libnvidia-ml, libnvidia-encode and libcuda as small shared libraries, which act out a
//! scene. The scene's format, what the libraries check and what they log stand in `scene.h`.
//!
//! A [`Scene`] is a folder with a scene file and links to the libraries that this scene's host has. Programs get it through
//! [`Scene::apply`]; every method that changes a scene replaces its file at once, and programs that run follow at their
//! next call into the driver.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const NVML: &str = "libnvidia-ml.so.1";
const NVENC: &str = "libnvidia-encode.so.1";
const CUDA: &str = "libcuda.so.1";
/// Each library's sources beside those of the core. The last is no library but the program that lists sessions.
const TARGETS: [(&str, &[&str]); 4] = [
    (NVML, &["nvml.c"]),
    (NVENC, &["nvenc.c", "nvenc_config.c", "nvenc_buffer.c", "nvenc_picture.c", "h264.c"]),
    (CUDA, &["cuda.c", "cuda_memory.c", "cuda_stream.c"]),
    ("sessions", &["sessions.c"]),
];
const CORE: [&str; 2] = ["scene.c", "state.c"];
const FLAGS: [&str; 6] = ["-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-fvisibility=hidden"];

/// The libraries, built.
pub struct Driver {
    dir: PathBuf,
}

impl Driver {
    /// Builds them where the sources have changed since: once, however many tests begin at a time.
    pub fn build() -> &'static Driver {
        static DRIVER: OnceLock<Driver> = OnceLock::new();
        DRIVER.get_or_init(|| {
            let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/standin");
            let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let dir = base.join(format!("standin-{:016x}", fingerprint(&sources)));
            let lock = File::create(base.join("standin.lock")).expect("the target folder can be written");
            lock.lock().expect("the build's lock");
            if !dir.exists() {
                let fresh = base.join("standin.new");
                let _ = fs::remove_dir_all(&fresh);
                fs::create_dir(&fresh).expect("the target folder can be written");
                compile(&sources, &fresh);
                fs::rename(&fresh, &dir).expect("the target folder can be written");
            }
            Driver { dir }
        })
    }
}

fn fingerprint(sources: &Path) -> u64 {
    let mut files: Vec<PathBuf> = fs::read_dir(sources).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    (TARGETS, CORE, FLAGS).hash(&mut hasher);
    for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "c" || kind == "h")) {
        (file, fs::read(file).unwrap()).hash(&mut hasher);
    }
    hasher.finish()
}

fn compile(sources: &Path, into: &Path) {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    for (name, files) in TARGETS {
        let mut command = Command::new(&compiler);
        command.args(FLAGS).arg("-o").arg(into.join(name));
        if name.starts_with("lib") {
            // Never unloaded: what leaks is told at the process's exit, however the library was opened.
            command.args(["-shared", "-Wl,-z,nodelete"]).arg(format!("-Wl,-soname,{name}"));
        }
        command.args(files.iter().chain(&CORE).map(|file| sources.join(file))).args(["-ldl", "-lpthread"]);
        let output = command.output().unwrap_or_else(|error| panic!("{compiler:?}: {error}"));
        assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Video {
    H264,
    Hevc,
    Av1,
}

impl Video {
    fn name(self) -> &'static str {
        match self {
            Video::H264 => "h264",
            Video::Hevc => "hevc",
            Video::Av1 => "av1",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Mig {
    Off,
    On,
}

/// A line `board`: a GPU.
#[derive(Clone, Debug)]
pub struct Board(String);

impl Board {
    /// An Ampere board with one engine and nothing special.
    pub fn new(name: &str) -> Board {
        Board(format!("board name=\"{name}\""))
    }

    pub fn geforce() -> Board {
        Board::new("NVIDIA GeForce RTX 4090")
            .cc(8, 9)
            .engines(2)
            .codecs(&[Video::H264, Video::Hevc, Video::Av1])
            .memory_mib(24_564, 1_000)
    }

    pub fn rtx() -> Board {
        Board::new("NVIDIA RTX 6000 Ada Generation")
            .cc(8, 9)
            .engines(3)
            .codecs(&[Video::H264, Video::Hevc, Video::Av1])
            .memory_mib(49_140, 1_000)
    }

    pub fn a100() -> Board {
        Board::new("NVIDIA A100-SXM4-80GB").cc(8, 0).engines(0).memory_mib(81_920, 1_000).mig(Mig::Off)
    }

    pub fn h200() -> Board {
        Board::new("NVIDIA H200").cc(9, 0).engines(0).memory_mib(143_771, 1_000).mig(Mig::Off)
    }

    fn with(mut self, key: &str, value: impl std::fmt::Display) -> Board {
        self.0.push_str(&format!(" {key}={value}"));
        self
    }

    pub fn uuid(self, uuid: &str) -> Board {
        self.with("uuid", uuid)
    }

    /// As `00000000:01:00.0`.
    pub fn pci(self, address: &str) -> Board {
        self.with("pci", address)
    }

    pub fn cc(self, major: u32, minor: u32) -> Board {
        self.with("cc", format_args!("{major}.{minor}"))
    }

    pub fn engines(self, engines: u32) -> Board {
        self.with("engines", engines)
    }

    pub fn codecs(self, codecs: &[Video]) -> Board {
        self.with("codecs", codecs.iter().map(|codec| codec.name()).collect::<Vec<_>>().join(","))
    }

    pub fn encoder_util(self, percent: u32) -> Board {
        self.with("encoder-util", percent)
    }

    pub fn decoder_util(self, percent: u32) -> Board {
        self.with("decoder-util", percent)
    }

    pub fn capacity(self, percent: u32) -> Board {
        self.with("capacity", percent)
    }

    pub fn memory_mib(self, total: u64, used: u64) -> Board {
        self.with("mem-total", total).with("mem-used", used)
    }

    /// What one encoder session takes of the memory, MiB. Where less is free, opening one answers 10, limit or not.
    pub fn session_mib(self, mib: u64) -> Board {
        self.with("session-mem", mib)
    }

    /// How long a picture takes from `nvEncEncodePicture` to its end.
    pub fn encode_time(self, time: Duration) -> Board {
        self.with("encode-us", time.as_micros())
    }

    pub fn mig(self, mig: Mig) -> Board {
        self.with("mig", if matches!(mig, Mig::On) { "on" } else { "off" })
    }

    /// NVML functions that answer NOT_SUPPORTED for this board, by their exported names.
    pub fn unsupported(self, functions: &[&str]) -> Board {
        self.with("unsupported", functions.join(","))
    }
}

/// A line `foreign`: an encoder session of a program that is not here.
#[derive(Clone, Debug)]
pub struct Foreign(String);

impl Foreign {
    /// H.264, 1920x1080, 60 pictures a second of 2000 µs each.
    pub fn new(board: u32, pid: u32) -> Foreign {
        Foreign(format!("foreign board={board} pid={pid}"))
    }

    fn with(mut self, key: &str, value: impl std::fmt::Display) -> Foreign {
        self.0.push_str(&format!(" {key}={value}"));
        self
    }

    pub fn codec(self, codec: Video) -> Foreign {
        self.with("codec", codec.name())
    }

    /// A codec as NVML numbers it, known or not.
    pub fn codec_number(self, codec: u32) -> Foreign {
        self.with("codec", codec)
    }

    pub fn size(self, width: u32, height: u32) -> Foreign {
        self.with("size", format_args!("{width}x{height}"))
    }

    pub fn fps(self, fps: u32) -> Foreign {
        self.with("fps", fps)
    }

    pub fn latency_us(self, latency: u32) -> Foreign {
        self.with("latency", latency)
    }

    pub fn session(self, id: u32) -> Foreign {
        self.with("session", id)
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `open`, `refused`, `leak` and so on.
    pub name: String,
    pub pid: u32,
    pub fields: BTreeMap<String, String>,
}

impl Event {
    fn parse(line: &str) -> Event {
        let mut words = words(line).into_iter();
        let name = words.next().expect("an event has a name");
        let mut fields: BTreeMap<String, String> = words
            .map(|word| {
                let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("{word} in {line}"));
                (key.to_owned(), value.to_owned())
            })
            .collect();
        let pid = fields.remove("pid").and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("no pid: {line}"));
        Event { name, pid, fields }
    }

    /// A field's value; empty if there is none.
    pub fn get(&self, key: &str) -> &str {
        self.fields.get(key).map_or("", String::as_str)
    }

    pub fn number(&self, key: &str) -> i64 {
        self.get(key).parse().unwrap_or_else(|_| panic!("no number {key}: {self:?}"))
    }
}

/// Words separated by blanks; what stands in double quotes has blanks of its own.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.chars().chain([' ']) {
        match letter {
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(letter),
        }
    }
    all
}

/// An encoder session that is open in some process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: u32,
    pub pid: u32,
    pub board: u32,
    /// Zero, as what follows, until the encoder is initialised.
    pub width: u32,
    pub height: u32,
    /// As set: numerator and denominator.
    pub fps: (u32, u32),
    /// As set, bits a second.
    pub bitrate: u32,
    pub max_bitrate: u32,
    /// As set, bits.
    pub vbv: u32,
    pub gop: u32,
    pub frames: u64,
    /// Pictures of the last second, as NVML says.
    pub measured_fps: u32,
    pub latency_us: u32,
}

impl Session {
    fn parse(line: &str) -> Session {
        // Its words are those of the log; `fps` and `size` are pairs.
        let event = Event::parse(&format!("session {line}"));
        let pair = |key: &str, between: char| {
            let (a, b) = event.get(key).split_once(between).unwrap_or_else(|| panic!("{key} in {line}"));
            (a.parse().unwrap(), b.parse().unwrap())
        };
        let number = |key: &str| event.number(key) as u32;
        let (width, height) = pair("size", 'x');
        Session {
            id: number("session"),
            pid: event.pid,
            board: number("board"),
            width,
            height,
            fps: pair("fps", '/'),
            bitrate: number("bitrate"),
            max_bitrate: number("max-bitrate"),
            vbv: number("vbv"),
            gop: number("gop"),
            frames: event.number("frames") as u64,
            measured_fps: number("measured-fps"),
            latency_us: number("latency-us"),
        }
    }
}

/// A host: its driver, boards, and what goes wrong on it. Dropping it removes its files.
pub struct Scene {
    dir: tempfile::TempDir,
    lines: Vec<String>,
    /// Whether there is a driver at all.
    driver: bool,
}

impl Scene {
    /// A driver without boards.
    pub fn new() -> Scene {
        let driver = Driver::build();
        let scene = Scene { dir: tempfile::tempdir().unwrap(), lines: Vec::new(), driver: true };
        fs::create_dir(scene.libraries()).unwrap();
        for library in [NVML, NVENC, CUDA] {
            std::os::unix::fs::symlink(driver.dir.join(library), scene.libraries().join(library)).unwrap();
        }
        scene.write();
        scene
    }

    /// A host without a driver.
    pub fn without_driver() -> Scene {
        let mut scene = Scene::new();
        scene.without_nvml().without_nvenc_library().without_cuda();
        scene.driver = false;
        scene
    }

    /// One GeForce board that refuses what is beyond `limit` with 21.
    pub fn geforce(limit: u32) -> Scene {
        let mut scene = Scene::new();
        scene.limit(limit, 21).board(Board::geforce());
        scene
    }

    /// Two GeForce boards that share one limit.
    pub fn two_geforce(limit: u32) -> Scene {
        let mut scene = Scene::geforce(limit);
        scene.board(Board::new("NVIDIA GeForce RTX 3060").memory_mib(12_288, 500));
        scene
    }

    pub fn h200() -> Scene {
        Scene::of(Board::h200())
    }

    pub fn a100() -> Scene {
        Scene::of(Board::a100())
    }

    /// A professional board, which has no limit.
    pub fn rtx() -> Scene {
        Scene::of(Board::rtx())
    }

    /// An A100 without an engine (board 0) beside an RTX (board 1).
    pub fn a100_and_rtx() -> Scene {
        let mut scene = Scene::a100();
        scene.board(Board::rtx());
        scene
    }

    pub fn of(board: Board) -> Scene {
        let mut scene = Scene::new();
        scene.board(board);
        scene
    }

    // --- what the host is ---

    /// Driver version.
    pub fn version(&mut self, version: &str) -> &mut Scene {
        self.set("driver", format!("driver {version}"))
    }

    /// CUDA driver version: 1000 * major + 10 * minor.
    pub fn cuda(&mut self, version: u32) -> &mut Scene {
        self.set("cuda", format!("cuda {version}"))
    }

    /// Newest NVENC API of the driver; gsk asks for 12.1.
    pub fn nvenc_api(&mut self, major: u32, minor: u32) -> &mut Scene {
        self.set("nvenc-api", format!("nvenc-api {major}.{minor}"))
    }

    /// Sessions on all GeForce boards together, foreign ones included; `code` is 10 or 21.
    pub fn limit(&mut self, sessions: u32, code: u32) -> &mut Scene {
        self.set("limit", format!("limit {sessions} code={code}"))
    }

    /// Boards are numbered in the order of their coming; add none while programs run.
    pub fn board(&mut self, board: Board) -> &mut Scene {
        self.add(board.0)
    }

    pub fn without_nvml(&mut self) -> &mut Scene {
        self.without(NVML)
    }

    pub fn without_nvenc_library(&mut self) -> &mut Scene {
        self.without(NVENC)
    }

    pub fn without_cuda(&mut self) -> &mut Scene {
        self.without(CUDA)
    }

    fn without(&mut self, library: &str) -> &mut Scene {
        fs::remove_file(self.libraries().join(library)).unwrap();
        self
    }

    // --- who else is there ---

    pub fn foreign(&mut self, foreign: Foreign) -> &mut Scene {
        self.add(foreign.0)
    }

    /// All foreign sessions end.
    pub fn foreign_ends(&mut self) -> &mut Scene {
        self.remove("foreign")
    }

    /// A program with memory on a board.
    pub fn process(&mut self, board: u32, pid: u32, mib: u64, graphics: bool) -> &mut Scene {
        let kind = if graphics { "graphics" } else { "compute" };
        self.add(format!("process board={board} pid={pid} mem={mib} type={kind}"))
    }

    // --- what goes wrong ---

    /// The `call`-th call of a function (from 1, in each process) answers `code`.
    pub fn fault(&mut self, function: &str, call: u64, code: u32) -> &mut Scene {
        self.add(format!("fault {function} call={call} code={code}"))
    }

    /// That call and all after it.
    pub fn fault_from(&mut self, function: &str, call: u64, code: u32) -> &mut Scene {
        self.add(format!("fault {function} call={call}+ code={code}"))
    }

    pub fn faults_end(&mut self) -> &mut Scene {
        self.remove("fault")
    }

    /// The `call`-th call of a function blocks, for ever without a time.
    pub fn hang(&mut self, function: &str, call: u64, time: Option<Duration>) -> &mut Scene {
        let time = time.map_or(String::new(), |time| format!(" ms={}", time.as_millis()));
        self.add(format!("hang {function} call={call}{time}"))
    }

    /// The first `fetches` of each process that fetch the session list are told that they bring too little room.
    pub fn race_insufficient(&mut self, fetches: u64) -> &mut Scene {
        self.add(format!("race insufficient={fetches}"))
    }

    /// A fetch of the session list brings so many sessions fewer than its count said.
    pub fn race_fewer(&mut self, sessions: u32) -> &mut Scene {
        self.add(format!("race fewer={sessions}"))
    }

    /// A line as `scene.h` describes it.
    pub fn line(&mut self, line: &str) -> &mut Scene {
        self.add(line.to_owned())
    }

    fn add(&mut self, line: String) -> &mut Scene {
        self.lines.push(line);
        self.write();
        self
    }

    /// In the place of the line of this word, or first.
    fn set(&mut self, word: &str, line: String) -> &mut Scene {
        self.lines.retain(|line| line.split(' ').next() != Some(word));
        self.lines.insert(0, line);
        self.write();
        self
    }

    fn remove(&mut self, word: &str) -> &mut Scene {
        self.lines.retain(|line| line.split(' ').next() != Some(word));
        self.write();
        self
    }

    fn write(&self) {
        let fresh = self.dir.path().join("scene.new");
        let text: String = self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        fs::write(&fresh, text).unwrap();
        fs::rename(&fresh, self.path()).unwrap();
    }

    // --- for the programs ---

    /// The scene file: what `GSK_STANDIN` names.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("scene")
    }

    /// The folder with the libraries that this host has, by their real names.
    pub fn libraries(&self) -> PathBuf {
        self.dir.path().join("lib")
    }

    /// The environment in which a program meets this scene.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut all = vec![("LD_LIBRARY_PATH", self.libraries().into())];
        if self.driver {
            all.push(("GSK_STANDIN", self.path().into()));
        }
        all
    }

    /// Gives a program this scene, and nothing of a CUDA setting that may be around.
    pub fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env_remove("CUDA_VISIBLE_DEVICES").env_remove("GSK_STANDIN").envs(self.environment())
    }

    // --- what happened ---

    /// The log so far.
    pub fn log(&self) -> Vec<Event> {
        let path = self.dir.path().join("scene.log");
        fs::read_to_string(path).unwrap_or_default().lines().map(Event::parse).collect()
    }

    pub fn events(&self, name: &str) -> Vec<Event> {
        self.log().into_iter().filter(|event| event.name == name).collect()
    }

    /// Handles that were not given back by processes that have ended, or with a session that was closed.
    pub fn leaks(&self) -> Vec<Event> {
        self.events("leak")
    }

    /// Calls that the driver refused as wrong.
    pub fn violations(&self) -> Vec<Event> {
        self.events("violation")
    }

    /// Looks at the log again and again until `look` sees what it waits for.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&[Event]) -> Option<T>) -> T {
        const BOUND: Duration = Duration::from_secs(10);
        let start = Instant::now();
        loop {
            let log = self.log();
            if let Some(seen) = look(&log) {
                return seen;
            }
            assert!(start.elapsed() < BOUND, "{what}: not within {BOUND:?}: {log:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The sessions that are open now, those of the scene's foreign programs not among them.
    pub fn sessions(&self) -> Vec<Session> {
        let output =
            Command::new(Driver::build().dir.join("sessions")).env("GSK_STANDIN", self.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(Session::parse).collect()
    }
}
