//! H.264, HEVC and AV1 by the `ffmpeg` program, as a reference from elsewhere.
//!
//! Units go in by a pipe, each in a frame of IVF, so that FFmpeg knows where it ends without waiting for the next one;
//! pictures come back as YUV4MPEG2. What is measured includes both pipes.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::{Config, Decoder, picture};
use crate::child::Guarded;
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::pipeline::encode::Codec;
use crate::pipeline::frame::{Frame, PixelFormat, Pool, Size};
use crate::pipeline::source::y4m;

/// The most that FFmpeg may take for anything, its start included.
const ANSWER: Duration = Duration::from_secs(5);

pub fn open(config: &Config) -> Result<Box<dyn Decoder>> {
    let program = find()
        .ok_or_else(|| Error::missing("there is no ffmpeg on this host").hint("install it: apt install ffmpeg"))?;
    // Its reader of IVF has no name for HEVC.
    let named = if config.codec == Codec::Hevc { "-c:v hevc" } else { "" };
    let words = "-threads 1 -flags low_delay -probesize 32 -analyzeduration 0 -f ivf -i pipe:0 \
                 -vsync passthrough -pix_fmt yuv420p -f yuv4mpegpipe -flush_packets 1 pipe:1";
    let words = ["-nostdin -v quiet", named, words].into_iter().flat_map(str::split_ascii_whitespace);
    let argv: Vec<OsString> = std::iter::once(program.into()).chain(words.map(OsString::from)).collect();
    let (guarded, stdin, stdout, _) = Guarded::spawn(&argv)?;
    for pipe in [stdin.as_fd(), stdout.as_fd()] {
        rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK)
            .map_err(|error| Error::io("cannot set up ffmpeg's pipes", error.into()))?;
    }
    let mut ffmpeg = FFmpeg { input: stdin, output: stdout, size: config.size, sequence: 0, _guarded: guarded };
    ffmpeg.send(&ivf_header(config))?;
    Ok(Box::new(ffmpeg))
}

fn find() -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &PathBuf| path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join("ffmpeg")).find(runs)
}

/// IVF's file header (libvpx, `ivfenc.c`).
fn ivf_header(&Config { codec, size, fps, .. }: &Config) -> [u8; 32] {
    let mut header = [0; 32];
    header[..4].copy_from_slice(b"DKIF");
    header[6..8].copy_from_slice(&32u16.to_le_bytes());
    header[8..12].copy_from_slice(match codec {
        Codec::Hevc => b"HEVC",
        Codec::Av1 => b"AV01",
        Codec::H264 | Codec::Jpeg => b"H264",
    });
    // Sides are at most 8192.
    header[12..14].copy_from_slice(&(size.width as u16).to_le_bytes());
    header[14..16].copy_from_slice(&(size.height as u16).to_le_bytes());
    header[16..20].copy_from_slice(&((fps * 1000.0).round() as u32).to_le_bytes());
    header[20..24].copy_from_slice(&1000u32.to_le_bytes());
    header
}

struct FFmpeg {
    input: ChildStdin,
    output: ChildStdout,
    size: Size,
    sequence: u64,
    /// Ends the program when it is dropped.
    _guarded: Guarded,
}

impl Decoder for FFmpeg {
    fn decode(&mut self, unit: &[u8], pool: &Pool) -> Result<Frame> {
        let began_us = now_us();
        // IVF's frame header: length, and a time stamp in ticks.
        let mut head = [0; 12];
        head[..4].copy_from_slice(&(unit.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&self.sequence.to_le_bytes());
        self.send(&head)?;
        self.send(unit)?;
        if self.sequence == 0 {
            let line = self.line()?;
            let header = y4m::Header::parse(line.trim_ascii_end())?;
            if header.size != self.size {
                return Err(failed().cause(format!("it is {}, and {} was expected", header.size, self.size)));
            }
        }
        if !y4m::begins_frame(&self.line()?) {
            return Err(failed().cause("it did not write YUV4MPEG2"));
        }
        let mut pixels = pool.take(PixelFormat::I420.bytes(self.size));
        self.receive(&mut pixels)?;
        Ok(picture(self.size, PixelFormat::I420, &mut self.sequence, began_us, pixels))
    }
}

fn failed() -> Error {
    Error::failed("ffmpeg gave no picture")
}

impl FFmpeg {
    fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.input.write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) => wait(&self.input, PollFlags::OUT, error)?,
            }
        }
        Ok(())
    }

    fn receive(&mut self, mut bytes: &mut [u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.output.read(bytes) {
                Ok(0) => return Err(failed().cause("it has ended")),
                Ok(read) => bytes = &mut bytes[read..],
                Err(error) => wait(&self.output, PollFlags::IN, error)?,
            }
        }
        Ok(())
    }

    /// One line of YUV4MPEG2, its newline included.
    fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            if line.len() > y4m::MAX_LINE {
                return Err(failed().cause("it did not write YUV4MPEG2"));
            }
            let mut byte = [0];
            self.receive(&mut byte)?;
            line.extend(byte);
        }
        Ok(line)
    }
}

/// After a pipe's error: waits until it is ready, if that is all that is wrong.
fn wait(pipe: impl AsFd, ready: PollFlags, error: io::Error) -> Result<()> {
    if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
        return Err(failed().cause(error));
    }
    let time = Timespec { tv_sec: ANSWER.as_secs() as i64, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&pipe, ready)], Some(&time)) {
        Ok(0) => Err(failed().cause(format!("it did not answer within {} s", ANSWER.as_secs()))),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(failed().cause(error)),
    }
}
