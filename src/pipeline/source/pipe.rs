//! Frames from a descriptor: raw, or YUV4MPEG2 where the stream says so itself.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Context, End, Info, Next, Options, Source, Stop, y4m};
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::pipeline::frame::{Buffer, Frame, PixelFormat, Range, Size};

/// Reads whole frames.
pub struct Frames {
    fd: OwnedFd,
    stop: Stop,
    options: Options,
    /// Known once the stream's first bytes are.
    layout: Option<Layout>,
    info: Option<Info>,
    /// Bytes that were read to learn what the stream is, and belong to the first frame.
    ahead: Vec<u8>,
    partial: Partial,
    sequence: u64,
    stalled: bool,
}

/// The frame that is being read.
#[derive(Default)]
struct Partial {
    buffer: Option<Buffer>,
    have: usize,
    /// When its first byte came.
    began_us: u64,
    /// Of Y4M: the bytes of the FRAME line so far, and whether it is behind us.
    line: Vec<u8>,
    begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Layout {
    y4m: bool,
    size: Size,
    format: PixelFormat,
    range: Range,
    fps: f64,
}

/// What reading came to.
pub enum Read {
    Frame(Frame),
    Stalled(String),
    /// The stream ended, between two frames (`None`) or inside one.
    End(Option<String>),
    Stopped,
}

pub enum Ready {
    Readable,
    TimedOut,
    Stopped,
}

/// Waits until `fd` can be read or has ended, for `timeout_us` at most.
pub fn wait(fd: &OwnedFd, stop: &Stop, timeout_us: Option<u64>) -> Result<Ready> {
    let mut fds = [PollFd::new(fd, PollFlags::IN), PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN)];
    let timeout =
        timeout_us.map(|us| Timespec { tv_sec: (us / 1_000_000) as i64, tv_nsec: (us % 1_000_000 * 1000) as _ });
    loop {
        match poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(Error::io("cannot wait for frames", error.into())),
            Ok(0) => return Ok(Ready::TimedOut),
            Ok(_) if !fds[1].revents().is_empty() => return Ok(Ready::Stopped),
            Ok(_) => return Ok(Ready::Readable),
        }
    }
}

/// `Ok(0)` is the end of the stream.
fn read(fd: &OwnedFd, into: &mut [u8]) -> Result<usize> {
    loop {
        match rustix::io::read(fd, &mut *into) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(Error::io("cannot read frames", error.into())),
            Ok(n) => return Ok(n),
        }
    }
}

/// The shortest silence that counts as a stall, µs.
const PATIENCE_US: u64 = 800_000;

/// Bytes that are shown of a stream that is not what it should be.
const QUOTED: usize = 12;

enum Took {
    Bytes(usize),
    Instead(Read),
}

enum Learnt {
    Layout(Layout),
    Nothing(Read),
}

/// What a stream begins with, fit for a message.
fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes[..bytes.len().min(QUOTED)].escape_ascii())
}

impl Frames {
    pub fn new(fd: OwnedFd, options: &Options, stop: &Stop) -> Frames {
        // A larger pipe takes a frame in fewer turns. Not all inputs are pipes, and users' limits may forbid it.
        let _ = rustix::pipe::fcntl_setpipe_size(&fd, 1 << 20);
        Frames {
            fd,
            stop: stop.clone(),
            options: options.clone(),
            layout: None,
            info: None,
            ahead: Vec::new(),
            partial: Partial::default(),
            sequence: 0,
            stalled: false,
        }
    }

    pub fn info(&self) -> Option<&Info> {
        self.info.as_ref()
    }

    pub fn try_clone_fd(&self) -> Result<OwnedFd> {
        self.fd.try_clone().map_err(|error| Error::io("cannot read on", error))
    }

    /// The next frame.
    pub fn next(&mut self, context: &Context) -> Result<Read> {
        let layout = match self.layout {
            Some(layout) => layout,
            None => match self.learn()? {
                Learnt::Layout(layout) => layout,
                Learnt::Nothing(read) => return Ok(read),
            },
        };
        let bytes = layout.format.bytes(layout.size);
        loop {
            if layout.y4m && !self.partial.begun {
                let mut byte = [0];
                match self.take(&mut byte, layout)? {
                    Took::Bytes(_) => self.frame_line(byte[0])?,
                    Took::Instead(read) => return Ok(read),
                }
                continue;
            }
            let mut buffer = self.partial.buffer.take().unwrap_or_else(|| context.pool.take(bytes));
            let have = self.partial.have;
            let took = self.take(&mut buffer[have..], layout)?;
            self.partial.buffer = Some(buffer);
            match took {
                Took::Bytes(n) => self.partial.have += n,
                Took::Instead(read) => return Ok(read),
            }
            if self.partial.have == bytes {
                return Ok(Read::Frame(self.complete(layout, context.inputs.view())));
            }
        }
    }

    fn complete(&mut self, layout: Layout, view: u32) -> Frame {
        let partial = std::mem::take(&mut self.partial);
        let sequence = self.sequence;
        self.sequence += 1;
        Frame {
            sequence,
            size: layout.size,
            format: layout.format,
            range: layout.range,
            captured_us: (partial.began_us, now_us()),
            view,
            pixels: Arc::new(partial.buffer.expect("a whole frame")),
        }
    }

    /// Reads what there is, waiting for it as long as the stream's rate allows.
    fn take(&mut self, into: &mut [u8], layout: Layout) -> Result<Took> {
        if !self.ahead.is_empty() {
            let n = self.ahead.len().min(into.len());
            into[..n].copy_from_slice(&self.ahead[..n]);
            self.ahead.drain(..n);
            return Ok(Took::Bytes(n));
        }
        let patience_us = ((3e6 / layout.fps) as u64).max(PATIENCE_US);
        // After a stall there is nothing to say until something comes.
        match wait(&self.fd, &self.stop, (!self.stalled).then_some(patience_us))? {
            Ready::Stopped => return Ok(Took::Instead(Read::Stopped)),
            Ready::TimedOut => {
                self.stalled = true;
                return Ok(Took::Instead(Read::Stalled(self.silence(patience_us))));
            }
            Ready::Readable => {}
        }
        if self.partial.began_us == 0 {
            self.partial.began_us = now_us();
        }
        self.stalled = false;
        Ok(match read(&self.fd, into)? {
            0 => Took::Instead(Read::End(self.cut())),
            n => Took::Bytes(n),
        })
    }

    /// Every frame of a Y4M stream begins with a line "FRAME", parameters behind it passed over.
    fn frame_line(&mut self, byte: u8) -> Result<()> {
        let line = &mut self.partial.line;
        line.push(byte);
        let expected = b"FRAME";
        if !expected.starts_with(&line[..line.len().min(expected.len())]) || line.len() > y4m::MAX_LINE {
            return Err(Error::failed("the YUV4MPEG2 stream does not hold what its header says").cause(format!(
                "after frame {} comes {} where FRAME was due",
                self.sequence,
                quoted(line)
            )));
        }
        if byte == b'\n' && line.len() > expected.len() {
            line.clear();
            self.partial.begun = true;
        }
        Ok(())
    }

    fn silence(&self, patience_us: u64) -> String {
        let (have, bytes) = (self.partial.have, self.frame_bytes());
        let for_s = patience_us as f64 / 1e6;
        match have {
            0 => format!("no frame for {for_s:.1} s, after frame {}", self.sequence),
            _ => format!("no data for {for_s:.1} s: {have} of {bytes} bytes of frame {} came", self.sequence + 1),
        }
    }

    /// What is wrong with the stream's end: nothing between two frames.
    fn cut(&self) -> Option<String> {
        let (have, bytes) = (self.partial.have, self.frame_bytes());
        let whole = have == 0 && self.partial.line.is_empty() && !self.partial.begun;
        (!whole).then(|| format!("the stream ended inside frame {}: {have} of {bytes} bytes came", self.sequence + 1))
    }

    fn frame_bytes(&self) -> usize {
        self.layout.map_or(0, |layout| layout.format.bytes(layout.size))
    }

    /// Waits for the stream's first bytes, as long as they take, and learns from them what it carries.
    fn learn(&mut self) -> Result<Learnt> {
        let header = loop {
            let known = self.ahead.len().min(y4m::MAGIC.len());
            if self.ahead[..known] != y4m::MAGIC[..known] {
                if self.options.size.is_some() || self.ahead.len() >= QUOTED {
                    break None;
                }
            } else if self.ahead.len() > known && self.ahead.ends_with(b"\n") {
                let line = std::mem::take(&mut self.ahead);
                break Some(y4m::Header::parse(line.trim_ascii_end())?);
            } else if self.ahead.len() > y4m::MAX_LINE {
                return Err(Error::failed("the YUV4MPEG2 header does not end")
                    .cause(format!("no newline in {} bytes", y4m::MAX_LINE)));
            }
            let mut byte = [0];
            if let Ready::Stopped = wait(&self.fd, &self.stop, None)? {
                return Ok(Learnt::Nothing(Read::Stopped));
            }
            if read(&self.fd, &mut byte)? == 0 {
                if self.ahead.is_empty() {
                    return Ok(Learnt::Nothing(Read::End(None)));
                }
                break None;
            }
            self.ahead.push(byte[0]);
        };
        let layout = Layout::of(header, &self.options, &self.ahead)?;
        let detail = match layout.y4m {
            true => "YUV4MPEG2".into(),
            false => format!("raw {:?} frames", layout.format).to_lowercase(),
        };
        self.partial.began_us = now_us();
        self.info = Some(Info { detail, size: layout.size, fps: layout.fps });
        self.layout = Some(layout);
        Ok(Learnt::Layout(layout))
    }

    /// Reads on to the end and forgets it all, so that the writer is not blocked. Returns early on stop.
    pub fn discard(fd: &OwnedFd, stop: &Stop) -> Result<()> {
        let mut bytes = vec![0; 1 << 16];
        loop {
            match wait(fd, stop, None)? {
                Ready::Stopped => return Ok(()),
                _ if read(fd, &mut bytes)? == 0 => return Ok(()),
                _ => {}
            }
        }
    }
}

impl Layout {
    fn of(header: Option<y4m::Header>, options: &Options, ahead: &[u8]) -> Result<Layout> {
        match (header, options.size) {
            (Some(y4m::Header { size, .. }), Some(asked)) if size != asked => {
                Err(Error::usage(format!("the stream is {size}, and --size says {asked}"))
                    .hint("leave --size out: YUV4MPEG2 says it itself"))
            }
            (Some(y4m::Header { size, fps, range }), _) => {
                Ok(Layout { y4m: true, size, format: PixelFormat::I420, range, fps })
            }
            (None, Some(size)) => {
                Ok(Layout { y4m: false, size, format: options.format, range: Range::Limited, fps: options.fps })
            }
            (None, None) => Err(Error::usage(format!(
                "the stream begins with {}: not YUV4MPEG2, and raw frames need --size",
                quoted(ahead)
            ))
            .hint("say --size WIDTHxHEIGHT and --pixel-format, or write YUV4MPEG2 (ffmpeg -f yuv4mpegpipe)")),
        }
    }
}

/// Frames on standard input.
pub struct Stdin(Frames);

impl Stdin {
    pub fn open(options: &Options, context: &Context) -> Result<Stdin> {
        let fd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
            .map_err(|error| Error::io("cannot read standard input", error.into()))?;
        Ok(Stdin(Frames::new(fd, options, &context.stop)))
    }
}

impl Source for Stdin {
    fn info(&self) -> Option<&Info> {
        self.0.info()
    }

    fn paced(&self) -> bool {
        false
    }

    fn next(&mut self, context: &Context) -> Result<Next> {
        Ok(match self.0.next(context)? {
            Read::Frame(frame) => Next::Frame(frame),
            Read::Stalled(reason) => Next::Stalled(reason),
            Read::Stopped | Read::End(None) => Next::End(End::good("standard input ended")),
            Read::End(Some(reason)) => Next::End(End::failed(reason, 1)),
        })
    }
}
