//! The stand-in NVIDIA driver for tests: libnvidia-ml, libnvidia-encode, libnvcuvid and libcuda as small shared libraries, and libnvjpeg,
//! which comes with the toolkit and not with the driver. They act out a scene. The scene's format, what the libraries check and what they log stand in `scene.h`.
//!
//! A [`Scene`] is a folder with a scene file and links to the libraries that this scene's host has. Programs get it through
//! [`Scene::apply`]; every method that changes a scene replaces its file at once, and programs that run follow at their
//! next call into the driver.
#![allow(dead_code, unused_imports, reason = "each test crate uses its part")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

mod board;
mod seen;

pub use board::{Board, Foreign, Mig, Video};
pub use seen::{Event, Session};

const NVML: &str = "libnvidia-ml.so.1";
const NVENC: &str = "libnvidia-encode.so.1";
const NVCUVID: &str = "libnvcuvid.so.1";
const CUDA: &str = "libcuda.so.1";
const NVJPEG: &str = "libnvjpeg.so.12";
/// Each library's sources beside those of the core. The last is no library but the program that lists sessions.
const TARGETS: [(&str, &[&str]); 6] = [
    (NVML, &["nvml.c"]),
    (NVENC, &["nvenc.c", "nvenc_config.c", "nvenc_buffer.c", "nvenc_picture.c", "h264.c", "hevc.c", "av1.c", "bits.c"]),
    (NVCUVID, &["nvcuvid.c", "h264_read.c", "hevc_read.c", "av1_read.c"]),
    (
        CUDA,
        &[
            "cuda.c",
            "cuda_memory.c",
            "cuda_ipc.c",
            "cuda_stream.c",
            "cuda_graphics.c",
            "cuda_kernel.c",
            "cuda_convert.cc",
            "cuda_product.cc",
        ],
    ),
    (NVJPEG, &["nvjpeg.c", "jpeg.c"]),
    ("sessions", &["sessions.c"]),
];
/// What `cuda_convert.cc` and `cuda_product.cc` compile as C++.
const KERNELS: [&str; 2] = ["src/gpu/kernels/convert.cu", "src/gpu/kernels/product.cu"];
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

    /// Where one of its libraries is.
    pub fn path(&self, library: &str) -> PathBuf {
        self.dir.join(library)
    }
}

fn fingerprint(sources: &Path) -> u64 {
    let is_source = |file: &PathBuf| file.extension().is_some_and(|kind| kind == "c" || kind == "cc" || kind == "h");
    let mut files: Vec<PathBuf> = fs::read_dir(sources).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(is_source);
    files.extend(KERNELS.map(|kernels| Path::new(env!("CARGO_MANIFEST_DIR")).join(kernels)));
    files.sort();
    let mut hasher = DefaultHasher::new();
    (TARGETS, CORE, FLAGS).hash(&mut hasher);
    for file in &files {
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
        command.args(files.iter().chain(&CORE).map(|file| sources.join(file))).args(["-ldl", "-lm", "-lpthread"]);
        if name == NVENC || name == NVCUVID {
            command.arg("-laom");
        }
        let output = command.output().unwrap_or_else(|error| panic!("{compiler:?}: {error}"));
        assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
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
        for library in [NVML, NVENC, NVCUVID, CUDA] {
            std::os::unix::fs::symlink(driver.dir.join(library), scene.libraries().join(library)).unwrap();
        }
        scene.write();
        scene
    }

    /// A host without a driver.
    pub fn without_driver() -> Scene {
        let mut scene = Scene::new();
        scene.without_nvml().without_nvenc_library().without_nvcuvid().without_cuda();
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

    pub fn without_nvcuvid(&mut self) -> &mut Scene {
        self.without(NVCUVID)
    }

    pub fn without_cuda(&mut self) -> &mut Scene {
        self.without(CUDA)
    }

    /// The toolkit's libnvjpeg is on this host, where the loader finds it.
    pub fn with_nvjpeg(&mut self) -> &mut Scene {
        let library = Scene::nvjpeg();
        std::os::unix::fs::symlink(library, self.libraries().join(NVJPEG)).unwrap();
        self
    }

    /// Where libnvjpeg is that no scene has by itself.
    pub fn nvjpeg() -> PathBuf {
        Driver::build().path(NVJPEG)
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

    /// Each call of a function takes so much longer.
    pub fn slow(&mut self, function: &str, time: Duration) -> &mut Scene {
        self.add(format!("hang {function} call=1+ ms={}", time.as_millis()))
    }

    /// The `call`-th call of a function ends its process by SIGSEGV.
    pub fn crash(&mut self, function: &str, call: u64) -> &mut Scene {
        self.add(format!("crash {function} call={call}"))
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
