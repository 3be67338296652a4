//! What may crash or hang, in a process of its own: this program again, which tells each call before it makes it.
//!
//! A line of JSON on standard output for each step, so that a death is laid to the call that was told last.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::draw::{self, Canvas};
use super::{CudaDevice, EglDevice, Finding, Id, capture, host};
use crate::error::Error;
use crate::gpu::choose::Wanted;
use crate::gpu::interop::{Access, Image};
use crate::gpu::nvenc::{Config, Refused, Session};
use crate::gpu::picture::Planar;
use crate::gpu::{self, Inventory, cuda, egl, nvdec, nvjpeg};
use crate::lease::{Denied, Pool};
use crate::wire::lease::Record;
use crate::wire::status::Cause;

/// The `argv[0]` of such a process; its one argument is a [`Job`].
pub const NAME: &str = "gsk-probe";

/// What is growth and not noise, bytes: a thousand leaks of the least that a driver allocates come to more.
const GROWTH: u64 = 4 << 20;

const CYCLES: u32 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    Nvml,
    Cuda,
    Graphics,
    Nvenc,
    Libraries,
}

impl Part {
    /// The checks that it makes, in its order.
    pub fn checks(self) -> &'static [Id] {
        match self {
            Part::Nvml => &[Id::Nvml],
            Part::Cuda => &[Id::Cuda],
            Part::Graphics => &[
                Id::EglVendor,
                Id::EglDevices,
                Id::EglCuda,
                Id::Context,
                Id::Draw,
                Id::GlToCuda,
                Id::CudaToGl,
                Id::Cycles,
                Id::Capture,
            ],
            Part::Nvenc => &[Id::Nvenc],
            Part::Libraries => &[Id::Nvdec, Id::Nvjpeg],
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub part: Part,
    pub wanted: Vec<Id>,
    pub gpu: Option<Wanted>,
    /// Whether an NVIDIA GPU is expected.
    pub nvidia: bool,
    /// Whether CUDA works.
    pub cuda: bool,
    pub slots: Option<u32>,
    /// ms that the driver's initialisation may take.
    pub limit_ms: u64,
    /// ms that it may take before that is worth a word.
    pub slow_ms: u64,
}

/// What such a process tells.
#[derive(Debug, Serialize, Deserialize)]
pub enum Line {
    Begin {
        check: Id,
        call: String,
        /// Whether the driver may initialise itself in it.
        slow: bool,
    },
    End {
        check: Id,
        finding: Finding,
    },
    Nvml(Box<Inventory>),
    Cuda(Vec<CudaDevice>),
    /// CUDA's number.
    Chosen(u32),
    Egl(Vec<EglDevice>),
}

fn tell(line: &Line) {
    let mut out = std::io::stdout().lock();
    // Nobody reads it where gsk itself is gone: then this process ends too.
    let _ = serde_json::to_string(line).map(|line| writeln!(out, "{line}").and_then(|()| out.flush()));
}

pub(super) fn begin(check: Id, call: &str) {
    tell(&Line::Begin { check, call: call.into(), slow: false });
}

fn begin_slow(check: Id, call: &str) {
    tell(&Line::Begin { check, call: call.into(), slow: true });
}

/// Does the job that this process was started for, if any.
pub fn if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    if args.next()? != NAME {
        return None;
    }
    let Some(job) = args.next().and_then(|text| serde_json::from_str::<Job>(text.to_str()?).ok()) else {
        return Some(crate::exit::Code::Bug.into());
    };
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    // A crash is what this process is for: it leaves no core.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    match job.part {
        Part::Nvml => {
            begin_slow(Id::Nvml, "NVML");
            tell(&Line::Nvml(Box::new(gpu::inventory(Duration::from_millis(job.limit_ms)))));
        }
        Part::Cuda => {
            let finding = look_at_cuda(&job);
            tell(&Line::End { check: Id::Cuda, finding });
        }
        Part::Graphics => graphics(&job),
        Part::Nvenc => {
            begin_slow(Id::Nvenc, "opening an NVENC session");
            let finding = open_nvenc(&job);
            tell(&Line::End { check: Id::Nvenc, finding });
        }
        Part::Libraries => libraries(&job),
    }
    Some(ExitCode::SUCCESS)
}

/// An error's words as a failure, with a hint of ours where it has none.
pub(super) fn failed(error: &Error, hint: &str) -> Finding {
    let because = error.cause.clone().map_or(error.what.clone(), |cause| format!("{}: {cause}", error.what));
    Finding::fail(because, error.hint.clone().unwrap_or_else(|| hint.to_owned()))
}

// --- CUDA ---

const SMI: &str = "see what NVIDIA's own tool says: nvidia-smi";

fn look_at_cuda(job: &Job) -> Finding {
    begin(Id::Cuda, "dlopen of libcuda.so.1");
    if let Err(error) = cuda::find() {
        return failed(&error, SMI);
    }
    begin_slow(Id::Cuda, "cuInit");
    let start = Instant::now();
    let devices = match cuda::devices() {
        Ok(devices) => devices,
        Err(error) => return failed(&error, SMI),
    };
    let took = start.elapsed();
    tell(&Line::Cuda(devices.iter().map(told).collect()));
    if devices.is_empty() {
        let hint = match std::env::var("CUDA_VISIBLE_DEVICES") {
            Ok(_) => "unset CUDA_VISIBLE_DEVICES",
            Err(_) => "nvidia-smi -L; in a container, start it with --gpus all",
        };
        return Finding::fail("CUDA shows no device to this process", hint);
    }
    let names: Vec<String> =
        devices.iter().map(|device| format!("{} {} ({})", device.ordinal, device.name, device.pci)).collect();
    let seen = names.join(", ");
    let device = match choose(job, &devices) {
        Ok(device) => device,
        Err(error) => return failed(&error, SMI).seen(seen),
    };
    tell(&Line::Chosen(device.ordinal));
    begin_slow(Id::Cuda, "cuDevicePrimaryCtxRetain");
    match cuda::Context::retain(device).and_then(|context| context.free_memory()) {
        Err(error) => failed(&error, SMI).seen(seen),
        Ok(_) if took > Duration::from_millis(job.slow_ms) => {
            let because = format!("CUDA took {:.1} s to initialise", took.as_secs_f64());
            Finding::warn(because, "keep the driver loaded: sudo nvidia-smi -pm 1").seen(seen)
        }
        Ok(free) => Finding::pass(format!("{seen}; {} MiB free", free >> 20)),
    }
}

fn told(device: &cuda::Device) -> CudaDevice {
    let cuda::Device { ordinal, name, uuid, pci, .. } = device.clone();
    CudaDevice { ordinal, name, uuid, pci }
}

fn choose<'a>(job: &Job, devices: &'a [cuda::Device]) -> Result<&'a cuda::Device, Error> {
    match &job.gpu {
        None => devices.first().ok_or_else(|| Error::missing("CUDA shows no device to this process")),
        Some(wanted) => wanted.device(devices),
    }
}

// --- EGL and OpenGL ---

/// Tells a check's finding; `false` where those that stand on it are not worth a try.
fn end(job: &Job, check: Id, finding: Finding) -> bool {
    let on = !matches!(finding.verdict, super::Verdict::Fail | super::Verdict::Skip);
    if job.wanted.contains(&check) {
        tell(&Line::End { check, finding });
    }
    on
}

fn graphics(job: &Job) {
    begin(Id::EglVendor, "dlopen of libEGL.so.1");
    if !end(job, Id::EglVendor, host::vendor(egl::find(), job.nvidia)) {
        return;
    }
    let (device, chosen) = match job.wanted.iter().any(|id| matches!(id, Id::EglDevices | Id::EglCuda)) || job.cuda {
        true => look_at_egl(job),
        false => (None, None),
    };
    if !job.wanted.contains(&Id::Context) {
        return;
    }
    begin_slow(Id::Context, "eglInitialize and eglCreateContext");
    let opened = match &device {
        Some(device) => egl::Context::open_on(device),
        None => egl::Context::open(None),
    };
    let context = match opened {
        Ok(context) => context,
        Err(error) => {
            let hint = if job.nvidia { host::to_nvidia() } else { "sudo apt install libegl1 libgl1-mesa-dri".into() };
            end(job, Id::Context, Finding::fail(format!("no OpenGL context: {error}"), hint));
            return;
        }
    };
    let canvas = match Canvas::new(&context, draw::WIDTH, draw::HEIGHT) {
        Ok(canvas) => canvas,
        Err(error) => {
            end(job, Id::Context, Finding::fail(error, "update the OpenGL driver; see which it is: eglinfo -B"));
            return;
        }
    };
    end(job, Id::Context, host::renderer(&canvas.names(), context.es, job.nvidia));
    if !job.wanted.contains(&Id::Draw) {
        return;
    }
    begin(Id::Draw, "glDrawArrays and glReadPixels");
    let drawn = canvas.draw(context.es).and_then(|()| draw::compare(&draw::pattern(), &canvas.read()?));
    if !end(job, Id::Draw, bytes(drawn, "update the OpenGL driver; see which it is: eglinfo -B")) {
        return;
    }
    if let Some(device) = chosen.filter(|_| job.wanted.contains(&Id::GlToCuda)) {
        interop(job, &canvas, &device);
        if job.wanted.contains(&Id::Capture) {
            end(job, Id::Capture, capture::check(&context, &device));
        }
    }
}

/// EGL's devices, and the one that is the chosen CUDA device; with it that device, where OpenGL's textures are worth a try.
fn look_at_egl(job: &Job) -> (Option<egl::Device>, Option<cuda::Device>) {
    begin_slow(Id::EglDevices, "eglQueryDevicesEXT");
    let devices = egl::devices().unwrap_or_default();
    let extensions = egl::client_extensions().unwrap_or_default();
    let tell_of =
        |device: &egl::Device| EglDevice { index: device.index, kind: device.kind.name().into(), cuda: device.cuda };
    let list: Vec<EglDevice> = devices.iter().map(tell_of).collect();
    tell(&Line::Egl(list.clone()));
    if !end(job, Id::EglDevices, host::egl_devices(&list, &extensions, job.nvidia)) || !job.cuda {
        return (None, None);
    }
    begin_slow(Id::EglCuda, "cuInit");
    let all = match cuda::devices() {
        Ok(all) => all,
        Err(error) => {
            end(job, Id::EglCuda, failed(&error, SMI));
            return (None, None);
        }
    };
    let Ok(chosen) = choose(job, &all) else { return (None, None) };
    let device = devices.into_iter().find(|device| device.cuda == Some(chosen.ordinal));
    match end(job, Id::EglCuda, host::egl_cuda(&told(chosen), &list)) {
        true => (device, Some(chosen.clone())),
        false => (None, None),
    }
}

/// A comparison of bytes as a finding.
fn bytes(compared: Result<(), String>, hint: &str) -> Finding {
    match compared {
        Ok(()) => Finding::pass(format!("{} bytes, all equal", draw::ROW * draw::HEIGHT)),
        Err(words) => Finding::fail(words, hint),
    }
}

pub(super) const DRIVER: &str = "report it to NVIDIA with: sudo nvidia-bug-report.sh";

fn interop(job: &Job, canvas: &Canvas, device: &cuda::Device) {
    begin_slow(Id::GlToCuda, "cuDevicePrimaryCtxRetain");
    let context = match cuda::Context::retain(device) {
        Ok(context) => Arc::new(context),
        Err(error) => {
            end(job, Id::GlToCuda, failed(&error, SMI));
            return;
        }
    };
    let finding = |done: Result<Vec<u8>, Error>, expected: &[u8]| match done {
        Ok(found) => bytes(draw::compare(expected, &found), DRIVER),
        Err(error) => failed(&error, DRIVER),
    };
    let read = || {
        begin(Id::GlToCuda, "cuGraphicsGLRegisterImage");
        let mut image = Image::register(&context, canvas.texture.0.get(), Access::Read)?;
        begin(Id::GlToCuda, "cuGraphicsMapResources");
        let mapped = image.map()?;
        let mut pixels = vec![0; draw::ROW * draw::HEIGHT];
        begin(Id::GlToCuda, "cuMemcpy2D");
        mapped.read(draw::ROW, &mut pixels)?;
        mapped.unmap()?;
        image.unregister()?;
        Ok(pixels)
    };
    if !end(job, Id::GlToCuda, finding(read(), &draw::pattern())) {
        return;
    }
    if job.wanted.contains(&Id::CudaToGl) {
        let write = || {
            begin(Id::CudaToGl, "cuMemcpy2D into a mapped texture");
            let mut image = Image::register(&context, canvas.texture.0.get(), Access::Overwrite)?;
            let mapped = image.map()?;
            mapped.write(draw::ROW, &draw::negative())?;
            mapped.unmap()?;
            image.unregister()?;
            canvas.read().map_err(|words| Error::failed("glReadPixels failed").cause(words))
        };
        end(job, Id::CudaToGl, finding(write(), &draw::negative()));
    }
    if job.wanted.contains(&Id::Cycles) {
        end(job, Id::Cycles, cycles(canvas, &context));
    }
}

/// Registers and unregisters; memory that grows in two rounds is lost, and not somebody else's.
fn cycles(canvas: &Canvas, context: &Arc<cuda::Context>) -> Finding {
    let round = || {
        let before = (context.free_memory()?, resident());
        for cycle in 0..CYCLES {
            if cycle % 100 == 0 {
                begin(Id::Cycles, &format!("cuGraphicsGLRegisterImage, cycle {cycle}"));
            }
            Image::register(context, canvas.texture.0.get(), Access::Read)?.unregister()?;
        }
        let (free, resident) = (context.free_memory()?, resident());
        Ok((before.0.saturating_sub(free), resident.saturating_sub(before.1)))
    };
    let grown = |(device, host): (u64, u64)| device > GROWTH || host > GROWTH;
    // The first one also fills caches.
    let rounds = round().and_then(|first| if grown(first) { round() } else { Ok(first) });
    match rounds {
        Err(error) => failed(&error, DRIVER),
        Ok((device, host)) => {
            let seen = format!("{CYCLES} cycles; grown: {} KiB on the device, {} KiB here", device >> 10, host >> 10);
            match grown((device, host)) {
                true => Finding::fail(format!("registering textures loses memory: {seen}"), DRIVER),
                false => Finding::pass(seen),
            }
        }
    }
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

// --- encoders and decoders ---

/// Small, so that memory is not what it fails by.
const PICTURE: Config = Config::h264(320, 240, 30.0, 500_000);

/// How long the driver may take to list boards and sessions.
const ASKING: Duration = Duration::from_secs(1);

fn open_nvenc(job: &Job) -> Finding {
    let inventory = gpu::inventory(ASKING);
    let library = gpu::nvenc::library();
    let verdict = gpu::verdict(&inventory, library.as_ref().map(|_| ()).map_err(String::as_str));
    if let Err(why) = library {
        return Finding::fail(
            if verdict.usable { why } else { verdict.detail },
            verdict.remedy.unwrap_or_else(|| "sudo apt install libnvidia-encode1".into()),
        );
    }
    let board = job.gpu.as_ref().and_then(Wanted::board);
    let named = inventory.gpus.iter().find(|gpu| gpu.uuid.is_some() && gpu.uuid.as_deref() == board);
    if let Some(gpu) = named.filter(|gpu| gpu.support().is_some_and(|board| !board.has_encoder())) {
        return Finding::skip(format!("no NVENC engine: {}", gpu.label()));
    }
    let record = Record { instance_id: "verify-gl".into(), ..Record::default() };
    let take = || -> Result<_, Denied> {
        let chosen = match &job.gpu {
            Some(wanted) => Some(wanted.device(&cuda::devices()?)?.uuid.clone()),
            None => None,
        };
        let capacity = gpu::limit(board, job.slots, ASKING)?;
        let slot = Pool::open()?.take(capacity.limit, || capacity.pids(ASKING), record)?;
        Ok((slot, chosen.map_or(capacity.boards, |gpu| vec![gpu])))
    };
    let (slot, wanted) = match take() {
        Ok(taken) => taken,
        Err(Denied::Full(refusal)) => return Finding::warn(format!("no slot: {refusal}"), "gsk nvenc-status"),
        Err(Denied::Failed(error)) => return failed(&error, "gsk nvenc-status"),
    };
    match Session::open(slot, &wanted, &PICTURE) {
        Ok(_) => Finding::pass(verdict.detail),
        Err(Refused { cause: Cause::Limit, error }) => {
            Finding { verdict: super::Verdict::Warn, ..failed(&error, "gsk nvenc-status") }
        }
        Err(Refused { error, .. }) => failed(&error, "gsk nvenc-status"),
    }
}

fn libraries(job: &Job) {
    if job.wanted.contains(&Id::Nvdec) {
        end(job, Id::Nvdec, ask_decoder(job));
    }
    if job.wanted.contains(&Id::Nvjpeg) {
        end(job, Id::Nvjpeg, encode_jpeg(job));
    }
}

/// Asks NVDEC what it decodes. gsk streams without it: that it is missing is no fault.
fn ask_decoder(job: &Job) -> Finding {
    begin(Id::Nvdec, "dlopen of libnvcuvid.so.1");
    if let Err(error) = nvdec::library() {
        return Finding { verdict: super::Verdict::Warn, ..failed(&error, SMI) };
    }
    begin_slow(Id::Nvdec, "cuDevicePrimaryCtxRetain");
    let ask = || {
        let devices = cuda::devices()?;
        let device = choose(job, &devices)?;
        begin(Id::Nvdec, "cuvidGetDecoderCaps");
        Ok((device.name.clone(), nvdec::abilities(device)?))
    };
    match ask() {
        Ok((name, able)) if able.is_empty() => Finding::warn(
            format!("{name} has no NVDEC engine for H.264, HEVC or AV1, or the driver does not offer it here"),
            "a MIG instance may have none; in a container: -e NVIDIA_DRIVER_CAPABILITIES=all",
        ),
        Ok((_, able)) => {
            let of = |(codec, able): &(gpu::support::Codec, nvdec::Able)| {
                format!("{} to {}x{}", codec.title(), able.most.0, able.most.1)
            };
            Finding::pass(format!("8 bits of 4:2:0: {}", able.iter().map(of).collect::<Vec<_>>().join(", ")))
        }
        Err(error) => failed(&error, SMI),
    }
}

/// Encodes a small picture by nvJPEG. Without the library JPEG is made on the CPU, which is no fault.
fn encode_jpeg(job: &Job) -> Finding {
    begin(Id::Nvjpeg, "dlopen of libnvjpeg.so.12");
    let (path, version) = match nvjpeg::library() {
        Ok(found) => found,
        Err(Refused { error, .. }) => {
            return Finding { verdict: super::Verdict::Warn, ..failed(&error, nvjpeg::REMEDY) };
        }
    };
    begin_slow(Id::Nvjpeg, "cuDevicePrimaryCtxRetain");
    let encode = || -> Result<usize, Error> {
        let devices = cuda::devices()?;
        let context = Arc::new(cuda::Context::retain(choose(job, &devices)?)?);
        begin(Id::Nvjpeg, "nvjpegCreateSimple");
        let mut encoder = nvjpeg::Encoder::open(&context)?;
        let picture = Planar::new(&context, PICTURE.width, PICTURE.height)?;
        let mut jpeg = bytes::BytesMut::new();
        begin(Id::Nvjpeg, "nvjpegEncodeYUV");
        encoder.encode(&picture, 75, &mut jpeg)?;
        let whole = jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]);
        let broken = || Error::failed("nvJPEG gave no JPEG").cause(format!("{} bytes without its markers", jpeg.len()));
        whole.then_some(jpeg.len()).ok_or_else(broken)
    };
    let path = path.display();
    match encode() {
        Ok(bytes) => {
            let Config { width, height, .. } = PICTURE;
            Finding::pass(format!("{path}, nvJPEG {version}: {width}x{height} in {bytes} bytes"))
        }
        Err(error) => failed(&error, nvjpeg::REMEDY).seen(format!("{path}, nvJPEG {version}")),
    }
}
