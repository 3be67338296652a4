//! A YUV4MPEG2 file, played at its own rate while somebody watches.

use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Context, End, Info, Next, Options, Source, y4m};
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::pipeline::frame::{Frame, PixelFormat};
use crate::pipeline::timing::Stage;
use crate::range;

pub struct File {
    name: String,
    file: BufReader<fs::File>,
    /// Where the first frame begins.
    start: u64,
    header: y4m::Header,
    info: Info,
    repeat: bool,
    sequence: u64,
}

impl File {
    pub fn open(path: &Path, options: &Options) -> Result<File> {
        let name = path.display().to_string();
        let failed = |error| Error::io(format!("cannot read '{name}'"), error);
        // Opening a named pipe would wait for its writer, deaf to a stop.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(Error::usage(format!("'{name}' is not a regular file"))
                .hint(format!("hand it on: gsk serve --source - < '{name}'")));
        }
        let mut file = BufReader::with_capacity(1 << 16, fs::File::open(path).map_err(failed)?);
        let line = line(&mut file).map_err(failed)?;
        let header = y4m::Header::parse(line.trim_ascii_end()).map_err(|error| {
            Error::usage(format!("'{name}' is no YUV4MPEG2 file"))
                .cause(error)
                .hint(format!("convert it: ffmpeg -i '{name}' -pix_fmt yuv420p out.y4m"))
        })?;
        if options.size.is_some_and(|size| size != header.size) {
            return Err(Error::usage(format!("'{name}' is {}, and --size says otherwise", header.size))
                .hint("leave --size out: YUV4MPEG2 says it itself"));
        }
        let start = file.stream_position().map_err(failed)?;
        let info = Info { detail: "YUV4MPEG2 file".into(), size: header.size, fps: header.fps };
        Ok(File { name, file, start, header, info, repeat: options.repeat, sequence: 0 })
    }

    /// Reads one frame; `false` at the end of the file.
    fn read(&mut self, pixels: &mut [u8]) -> Result<bool> {
        let failed = |error| Error::io(format!("cannot read '{}'", self.name), error);
        let line = line(&mut self.file).map_err(failed)?;
        if line.is_empty() {
            return Ok(false);
        }
        let wrong = || Error::failed(format!("'{}' does not hold what its header says", self.name));
        if !y4m::begins_frame(&line) {
            return Err(wrong().cause(format!("FRAME is missing before frame {}", self.sequence + 1)));
        }
        self.file.read_exact(pixels).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => wrong().cause(format!("it ends inside frame {}", self.sequence + 1)),
            _ => failed(error),
        })?;
        Ok(true)
    }
}

fn line(file: &mut BufReader<fs::File>) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    file.by_ref().take(y4m::MAX_LINE as u64).read_until(b'\n', &mut line)?;
    Ok(line)
}

impl Source for File {
    fn info(&self) -> Option<&Info> {
        Some(&self.info)
    }

    fn paced(&self) -> bool {
        true
    }

    fn next(&mut self, context: &Context) -> Result<Next> {
        let _range = range::open(Stage::Capture.name());
        let began_us = now_us();
        let mut pixels = context.pool.take(PixelFormat::I420.bytes(self.header.size));
        if !self.read(&mut pixels)? {
            if self.sequence == 0 {
                return Err(Error::failed(format!("'{}' holds no frame", self.name)));
            }
            if !self.repeat {
                return Ok(Next::End(End::new(format!("'{}' ended", self.name), 0)));
            }
            let failed = |error| Error::io(format!("cannot read '{}' again", self.name), error);
            self.file.seek(SeekFrom::Start(self.start)).map_err(failed)?;
            if !self.read(&mut pixels)? {
                return Err(Error::failed(format!("'{}' lost its frames", self.name)));
            }
        }
        let y4m::Header { size, range, .. } = self.header;
        let sequence = self.sequence;
        self.sequence += 1;
        Ok(Next::Frame(Frame {
            sequence,
            size,
            format: PixelFormat::I420,
            range,
            captured_us: (began_us, now_us()),
            view: 0,
            pixels: pixels.into(),
        }))
    }
}
