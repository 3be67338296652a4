//! Pictures to convert and encode: taken from the source once, held in memory, and played to and fro, so that motion goes on.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::MemfdFlags;

use super::stats::Random;
use super::{Options, Source};
use crate::clock::{Pacer, now_us};
use crate::error::{Error, Result};
use crate::pipeline::frame::{Frame, PixelFormat, Pool, Size};
use crate::pipeline::inputs::Inputs;
use crate::pipeline::source::{self, Context, Next, Restart, Spec, Stop};

/// Bytes of pictures that are held; never less than [`LEAST`] of them.
const HELD: usize = 256 << 20;
const LEAST: usize = 8;
/// No more of them than that.
const MOST: usize = 30;

/// A source as the pipeline opens it, and the file behind one that is made here.
pub struct Opening {
    pub options: source::Options,
    _file: Option<OwnedFd>,
}

impl Opening {
    pub fn new(options: &Options, size: Option<Size>) -> Result<Opening> {
        let made = |count| -> Result<(Spec, Option<OwnedFd>)> {
            let file = noise(size.unwrap_or(super::SIZES[0].1), options.fps, count)?;
            // The kernel's name for it, as good as a file's.
            let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            Ok((Spec::File(path), Some(file)))
        };
        let (spec, file) = match &options.source {
            Source::Scene => (Spec::Scene, None),
            Source::File(path) => (Spec::File(path.clone()), None),
            Source::Noise => made(LEAST)?,
            Source::Still => made(1)?,
        };
        let options = source::Options {
            spec,
            size,
            format: PixelFormat::Rgba,
            fps: options.fps,
            repeat: true,
            restart: Restart::Never,
            gpu: options.gpu.clone(),
        };
        Ok(Opening { options, _file: file })
    }
}

/// What a source on this thread works with.
pub fn context() -> Result<Context> {
    Ok(Context { pool: Pool::default(), inputs: Arc::<Inputs>::default(), stop: Stop::new()? })
}

/// A YUV4MPEG2 file in memory: so many pictures of noise, every pixel anew.
fn noise(size: Size, fps: f64, count: usize) -> Result<OwnedFd> {
    let failed = |error: std::io::Error| Error::io("cannot make a file in memory", error);
    let file = rustix::fs::memfd_create("gsk-noise", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let mut out = BufWriter::new(File::from(file.as_fd().try_clone_to_owned().map_err(failed)?));
    let mut write = || -> std::io::Result<()> {
        writeln!(out, "YUV4MPEG2 W{} H{} F{}:1000 Ip C420jpeg", size.width, size.height, (fps * 1000.0).round())?;
        let mut random = Random::default();
        let mut pixels = vec![0; PixelFormat::I420.bytes(size)];
        for _ in 0..count {
            pixels.chunks_mut(8).for_each(|part| part.copy_from_slice(&random.number().to_le_bytes()[..part.len()]));
            out.write_all(b"FRAME\n")?;
            out.write_all(&pixels)?;
        }
        out.flush()
    };
    write().map_err(failed)?;
    Ok(file)
}

/// A source at its frame rate: what a worker's source thread does, on this one.
pub struct Paced {
    source: Box<dyn source::Source>,
    context: Context,
    pacer: Pacer,
}

impl Paced {
    pub fn open(opening: &Opening) -> Result<Paced> {
        let context = context()?;
        let source = source::open(&opening.options, &context)?;
        let fps = source.info().map_or(opening.options.fps, |info| info.fps);
        Ok(Paced { source, context, pacer: Pacer::new(now_us(), fps) })
    }

    pub fn info(&self) -> Option<&source::Info> {
        self.source.info()
    }

    /// The next frame, once it is due.
    pub fn next(&mut self) -> Result<Frame> {
        let now = now_us();
        std::thread::sleep(Duration::from_micros(self.pacer.next(now).saturating_sub(now)));
        match self.source.next(&self.context)? {
            Next::Frame(frame) => Ok(frame),
            Next::End(end) => Err(Error::failed(end.reason)),
            Next::Unchanged | Next::Stalled(_) => Err(Error::bug("a source of a bench gave no frame")),
        }
    }
}

/// Pictures of one source at one size.
pub struct Material {
    pub info: source::Info,
    frames: Vec<Frame>,
    began_us: u64,
    // Frames on a device stay valid as long as what drew them.
    _source: Paced,
}

impl Material {
    /// Takes them from the source at its rate, so that motion is as large from one to the next as it will be for viewers.
    pub fn new(opening: &Opening, wanted: usize, stop: impl Fn() -> bool) -> Result<Material> {
        let mut source = Paced::open(opening)?;
        let info = source.info().cloned().ok_or_else(|| Error::bug("a source that says nothing of itself"))?;
        let most = (HELD / PixelFormat::Rgba.bytes(info.size)).clamp(LEAST, MOST).min(wanted.max(1));
        let mut frames = Vec::new();
        while frames.len() < most && (frames.is_empty() || !stop()) {
            frames.push(source.next()?);
        }
        Ok(Material { info, frames, began_us: now_us(), _source: source })
    }

    /// CUDA's number of the device that they lie on, if on any.
    pub fn device(&self) -> Option<u32> {
        Some(self.frames.first()?.picture()?.context().ordinal())
    }

    /// Frame `n` of an endless stream: to and fro, captured at the frame rate.
    pub fn frame(&self, n: usize) -> Frame {
        let period = (2 * self.frames.len() - 2).max(1);
        let at = n % period;
        let at = if at < self.frames.len() { at } else { period - at };
        let captured = self.began_us + (n as f64 * 1e6 / self.info.fps) as u64;
        Frame { sequence: n as u64, captured_us: (captured, captured), ..self.frames[at].clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_go_to_and_fro() {
        let size = Size::new(64, 48);
        let file = noise(size, 30.0, 4).unwrap();
        let options = source::Options {
            spec: Spec::File(format!("/proc/self/fd/{}", file.as_raw_fd()).into()),
            size: Some(size),
            format: PixelFormat::Rgba,
            fps: 30.0,
            repeat: true,
            restart: Restart::Never,
            gpu: None,
        };
        let material = Material::new(&Opening { options, _file: Some(file) }, 4, || false).unwrap();
        assert_eq!((material.info.size, material.info.fps, material.frames.len()), (size, 30.0, 4));
        let shown: Vec<usize> =
            (0..9).map(|n| material.frames.iter().position(|frame| frame.shows(&material.frame(n))).unwrap()).collect();
        assert_eq!(shown, [0, 1, 2, 3, 2, 1, 0, 1, 2]);
        let (first, later) = (material.frame(0), material.frame(3));
        assert_eq!((later.sequence, later.captured_us.0 - first.captured_us.0), (3, 100_000));
    }
}
