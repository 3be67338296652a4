//! Tests of what calls the driver, on a scene's host, and NVENC sessions for them.
//!
//! Libraries stay loaded in a process, so that each test runs itself again in a process of its own ([`host`]), which meets the
//! host of a scene; what the driver saw of it is then read from the scene's log.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use gsk::error::Result;
use gsk::lease::{Limit, Pool as Slots, Slot};
use gsk::pipeline::encode::{Codec, Config, Encoder, Unit, nvenc};
use gsk::pipeline::frame::{PixelFormat, Size};
use gsk::pipeline::rate::Quality;
use gsk::wire::message::HEADER;
use gsk::wire::status::Cause;

use crate::standin::{Event, Scene};

/// The folder of this test where it runs on a scene's host.
pub fn inside() -> Option<PathBuf> {
    std::env::var_os("GSK_TEST_INSIDE").map(Into::into)
}

/// Runs a test again on a scene's host, with more environment, and gives the folder that it wrote to. Nothing may have been
/// left open or called wrongly.
pub fn host_with(scene: &Scene, name: &str, environment: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env("GSK_TEST_INSIDE", dir.path());
    command.env_remove("NVIDIA_DRIVER_CAPABILITIES").env_remove("GSK_NVML_LIBRARY");
    command.env_remove("GSK_NVJPEG_LIBRARY").env_remove("GSK_NVCUVID_LIBRARY");
    let output = scene.apply(&mut command).envs(environment.iter().copied()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}\n{:#?}", scene.log());
    assert_eq!(scene.violations(), [], "{said}");
    dir
}

pub fn host(scene: &Scene, name: &str) -> tempfile::TempDir {
    let dir = host_with(scene, name, &[]);
    assert_eq!((leaks(scene), scene.sessions()), (vec![], vec![]));
    dir
}

/// What was not given back; NVML stays open while a program runs.
pub fn leaks(scene: &Scene) -> Vec<Event> {
    scene.leaks().into_iter().filter(|event| event.get("kind") != "nvml-init").collect()
}

/// What the encoder gave, in order.
#[derive(Clone, Default)]
pub struct Out(pub Arc<Mutex<Vec<Result<Unit>>>>);

impl Out {
    pub fn take(&self) -> Vec<Result<Unit>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub fn units(&self) -> Vec<Unit> {
        self.take().into_iter().map(|unit| unit.expect("an access unit")).collect()
    }
}

pub fn config(size: Size) -> Config {
    let (quality, nvenc) = (Quality::Auto, Default::default());
    Config { codec: Codec::H264, size, fps: 60.0, bitrate: 6_000_000, quality, nvenc, near: None }
}

pub fn slots(dir: &Path) -> Slots {
    Slots::at(&dir.join("slots")).unwrap()
}

/// The only slot there is: it is free exactly when the last session is closed.
pub fn slot(dir: &Path) -> Slot {
    slots(dir).take(Limit::Sessions(1), || None, Default::default()).expect("the slot is free")
}

pub fn slot_is_free(dir: &Path) -> bool {
    slots(dir).peek(Limit::Sessions(1), || None).is_ok()
}

pub fn open(dir: &Path, size: Size) -> (Box<dyn Encoder>, Out) {
    open_as(dir, &config(size))
}

pub fn open_as(dir: &Path, config: &Config) -> (Box<dyn Encoder>, Out) {
    let out = Out::default();
    let into = out.clone();
    let output = Box::new(move |unit| into.0.lock().unwrap().push(unit));
    (nvenc::open(config, slot(dir), &[], output).expect("a session"), out)
}

/// Pictures that FFmpeg makes of a stream of H.264.
pub fn decode(dir: &Path, units: &[Unit], size: Size) -> Vec<Vec<u8>> {
    decode_as(Codec::H264, dir, units, size)
}

pub fn decode_as(codec: Codec, dir: &Path, units: &[Unit], size: Size) -> Vec<Vec<u8>> {
    let path = dir.join("stream");
    let format = if codec == Codec::Av1 { "obu" } else { codec.name() };
    fs::write(&path, units.iter().flat_map(|unit| unit.data[HEADER..].to_vec()).collect::<Vec<u8>>()).unwrap();
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-f", format, "-i"])
        .arg(&path)
        .args(["-fps_mode", "drop", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    output.stdout.chunks(PixelFormat::I420.bytes(size)).map(<[u8]>::to_vec).collect()
}

/// The scene of this process: what it was, and one line more.
pub struct Stage {
    path: PathBuf,
    base: String,
    /// Bytes of the log that were read.
    seen: usize,
}

impl Stage {
    pub fn new() -> Stage {
        let path = PathBuf::from(std::env::var_os("GSK_STANDIN").expect("a scene"));
        Stage { base: fs::read_to_string(&path).unwrap(), path, seen: 0 }
    }

    pub fn set(&self, line: &str) {
        let fresh = self.path.with_extension("fresh");
        fs::write(&fresh, format!("{}{line}\n", self.base)).unwrap();
        fs::rename(fresh, &self.path).unwrap();
    }

    /// What the driver has logged since the last time.
    pub fn news(&mut self) -> Vec<Event> {
        let log = fs::read_to_string(self.path.with_file_name("scene.log")).unwrap_or_default();
        let news = log[self.seen..].lines().map(Event::parse).collect();
        self.seen = log.len();
        news
    }
}

/// Compares a refusal that a test wrote down: its cause, its error's kind, some of its words; and that it has a hint, unless it
/// merely failed.
pub fn expect_refusal(said: &Path, cause: Cause, kind: &str, says: &str) {
    let said: serde_json::Value = serde_json::from_slice(&fs::read(said).unwrap()).unwrap();
    let error = &said["error"];
    let why = format!("{}: {}", error["what"], error["cause"]);
    assert!(why.contains(says), "{why} is not {says}");
    assert_eq!((&said["cause"], &error["kind"]), (&serde_json::json!(cause), &kind.into()), "{why}");
    assert!(error["hint"].is_string() || kind == "failed", "{why}");
}
