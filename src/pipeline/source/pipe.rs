//! Frames from a descriptor: raw, or YUV4MPEG2 where the stream says so itself.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

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
    /// Bytes that were read to learn what the stream is, and belong to its frames.
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
    /// When its first byte came, and the newest input event that was given by then.
    began: Option<(u64, u32)>,
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
pub fn wait(fd: &impl AsFd, stop: &Stop, timeout_us: Option<u64>) -> Result<Ready> {
    let mut fds = [PollFd::new(fd, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
    let timeout =
        timeout_us.map(|us| Timespec { tv_sec: (us / 1_000_000) as i64, tv_nsec: (us % 1_000_000 * 1000) as _ });
    loop {
        match poll(&mut fds, timeout.as_ref()) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(Error::io("cannot wait for frames", error.into())),
            Ok(0) => return Ok(Ready::TimedOut),
            Ok(_) if !fds[1].revents().is_empty() => return Ok(Ready::Stopped),
            Ok(_) => return Ok(Ready::Readable),
        }
    }
}

/// The shortest silence that counts as a stall, µs.
const PATIENCE_US: u64 = 800_000;

/// Bytes that are shown of a stream that is not what it should be.
const QUOTED: usize = 12;

/// The shortest line that begins a frame.
const FRAME_LINE: usize = b"FRAME\n".len();

enum Took {
    Bytes(usize),
    Silence,
    End,
    Stopped,
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

    /// The next frame.
    pub fn next(&mut self, context: &Context) -> Result<Read> {
        let layout = match self.layout {
            Some(layout) => layout,
            None => match self.learn(context)? {
                Ok(layout) => layout,
                Err(instead) => return Ok(instead),
            },
        };
        let bytes = layout.format.bytes(layout.size);
        let patience_us = ((3e6 / layout.fps) as u64).max(PATIENCE_US);
        loop {
            let took = if layout.y4m && !self.partial.begun {
                // No more than what is sure to be part of the line.
                let mut some = [0; FRAME_LINE];
                let some = &mut some[..FRAME_LINE.saturating_sub(self.partial.line.len()).max(1)];
                let took = self.take(some, patience_us, context)?;
                if let Took::Bytes(n) = took {
                    self.frame_line(&some[..n])?;
                }
                took
            } else {
                let mut buffer = self.partial.buffer.take().unwrap_or_else(|| context.pool.take(bytes));
                let took = self.take(&mut buffer[self.partial.have..], patience_us, context);
                self.partial.buffer = Some(buffer);
                let took = took?;
                if let Took::Bytes(n) = took {
                    self.partial.have += n;
                    if self.partial.have == bytes {
                        return Ok(Read::Frame(self.complete(layout)));
                    }
                }
                took
            };
            match took {
                Took::Bytes(_) => {}
                Took::Silence => return Ok(Read::Stalled(self.silence(patience_us))),
                Took::End => return Ok(Read::End(self.cut())),
                Took::Stopped => return Ok(Read::Stopped),
            }
        }
    }

    fn complete(&mut self, layout: Layout) -> Frame {
        let partial = std::mem::take(&mut self.partial);
        let (began_us, view) = partial.began.expect("a whole frame");
        let sequence = self.sequence;
        self.sequence += 1;
        Frame {
            sequence,
            size: layout.size,
            format: layout.format,
            range: layout.range,
            captured_us: (began_us, now_us()),
            view,
            pixels: partial.buffer.expect("a whole frame").into(),
        }
    }

    /// Takes what was read ahead, or else reads.
    fn take(&mut self, into: &mut [u8], patience_us: u64, context: &Context) -> Result<Took> {
        if self.ahead.is_empty() {
            return self.read(into, Some(patience_us), context);
        }
        self.partial.begin(context);
        let n = self.ahead.len().min(into.len());
        into[..n].copy_from_slice(&self.ahead[..n]);
        self.ahead.drain(..n);
        Ok(Took::Bytes(n))
    }

    /// Reads what there is, and waits for it if need be. Of one silence the news is given once.
    fn read(&mut self, into: &mut [u8], patience_us: Option<u64>, context: &Context) -> Result<Took> {
        loop {
            match wait(&self.fd, &self.stop, patience_us.filter(|_| !self.stalled))? {
                Ready::Stopped => return Ok(Took::Stopped),
                Ready::TimedOut => {
                    self.stalled = true;
                    return Ok(Took::Silence);
                }
                Ready::Readable => {}
            }
            self.partial.begin(context);
            match rustix::io::read(&self.fd, &mut *into) {
                // Standard input may be non-blocking, and shared.
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(error) => return Err(Error::io("cannot read frames", error.into())),
                Ok(0) => return Ok(Took::End),
                Ok(n) => {
                    self.stalled = false;
                    return Ok(Took::Bytes(n));
                }
            }
        }
    }

    /// Every frame of a Y4M stream begins with such a line.
    fn frame_line(&mut self, bytes: &[u8]) -> Result<()> {
        let line = &mut self.partial.line;
        line.extend_from_slice(bytes);
        if y4m::begins_frame(line) {
            line.clear();
            self.partial.begun = true;
            return Ok(());
        }
        let known = line.len().min(FRAME_LINE);
        if line[..known] == b"FRAME "[..known] && !line.ends_with(b"\n") && line.len() < y4m::MAX_LINE {
            return Ok(());
        }
        let after = match self.sequence {
            0 => "the header".to_string(),
            n => format!("frame {n}"),
        };
        Err(Error::failed("the YUV4MPEG2 stream does not hold what its header says")
            .cause(format!("after {after} comes {} where FRAME was due", quoted(line))))
    }

    fn silence(&self, patience_us: u64) -> String {
        let (have, bytes) = (self.partial.have, self.frame_bytes());
        let for_s = patience_us as f64 / 1e6;
        match (have, self.sequence) {
            (0, 0) => format!("no frame for {for_s:.1} s after the header"),
            (0, n) => format!("no frame for {for_s:.1} s, after frame {n}"),
            (_, n) => format!("no data for {for_s:.1} s: {have} of {bytes} bytes of frame {} came", n + 1),
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
    fn learn(&mut self, context: &Context) -> Result<Result<Layout, Read>> {
        let mut more = true;
        let header = loop {
            if let Some(header) = self.recognise(more)? {
                break header;
            }
            let mut some = [0; 512];
            // The first byte may take its time; then the rest is due.
            match self.read(&mut some, (!self.ahead.is_empty()).then_some(PATIENCE_US), context)? {
                Took::Bytes(n) => self.ahead.extend_from_slice(&some[..n]),
                Took::Stopped => return Ok(Err(Read::Stopped)),
                Took::End if self.ahead.is_empty() => return Ok(Err(Read::End(None))),
                Took::Silence if self.ahead.starts_with(&y4m::MAGIC[..self.ahead.len().min(y4m::MAGIC.len())]) => {
                    return Ok(Err(Read::Stalled(format!("no data after {}", quoted(&self.ahead)))));
                }
                Took::End | Took::Silence => more = false,
            }
        };
        let layout = Layout::of(header, &self.options, &self.ahead)?;
        let detail = match layout.y4m {
            true => "YUV4MPEG2".into(),
            false => format!("raw {:?} frames", layout.format).to_lowercase(),
        };
        self.info = Some(Info { detail, size: layout.size, fps: layout.fps });
        self.layout = Some(layout);
        Ok(Ok(layout))
    }

    /// What the first bytes say: YUV4MPEG2 and its header, which is taken off; something else; or nothing yet, where
    /// `more` may come.
    fn recognise(&mut self, more: bool) -> Result<Option<Option<y4m::Header>>> {
        let known = self.ahead.len().min(y4m::MAGIC.len());
        if self.ahead[..known] != y4m::MAGIC[..known] || (known < y4m::MAGIC.len() && !more) {
            let enough = !more || self.options.size.is_some() || self.ahead.len() >= QUOTED;
            return Ok(enough.then_some(None));
        }
        let line = &self.ahead[..self.ahead.len().min(y4m::MAX_LINE)];
        let Some(end) = memchr::memchr(b'\n', line) else {
            if more && line.len() < y4m::MAX_LINE {
                return Ok(None);
            }
            return Err(
                Error::failed("the YUV4MPEG2 header does not end").cause(format!("no newline in {} bytes", line.len()))
            );
        };
        let header = y4m::Header::parse(&line[..end])?;
        self.ahead.drain(..=end);
        Ok(Some(Some(header)))
    }

    /// Reads on to the end and forgets it all, so that the writer is not blocked.
    pub fn discard(&mut self) -> Result<Read> {
        let mut bytes = vec![0; 1 << 16];
        loop {
            if let Ready::Stopped = wait(&self.fd, &self.stop, None)? {
                return Ok(Read::Stopped);
            }
            match rustix::io::read(&self.fd, &mut bytes) {
                Err(Errno::INTR | Errno::AGAIN) | Ok(1..) => {}
                Err(_) | Ok(0) => return Ok(Read::End(None)),
            }
        }
    }
}

impl Partial {
    fn begin(&mut self, context: &Context) {
        self.began.get_or_insert_with(|| (now_us(), context.inputs.view()));
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
            Read::Stopped => Next::End(End::stopped()),
            Read::End(Some(reason)) => Next::End(End::new(reason, 1)),
            // What should have written to us failed, most likely.
            Read::End(None) if self.0.sequence == 0 => Next::End(End::new("standard input ended without a frame", 1)),
            Read::End(None) => Next::End(End::new("standard input ended", 0)),
        })
    }
}

#[cfg(test)]
mod tests;
