//! What a viewer keeps: a recording of the stream, and one picture.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use flate2::{Compression, write::ZlibEncoder};
use serde::Serialize;

use super::unit::Unit;
use crate::error::{Error, Result};
use crate::pipeline::broadcast::Packet;
use crate::pipeline::convert::ToRgb;
use crate::pipeline::encode::Codec;
use crate::pipeline::frame::{Frame, PixelFormat, Size};
use crate::pipeline::mp4::{self, Fragmenter};

/// Units that may wait for the disk: about half a minute.
const MOST_WAITING: usize = 1024;

/// What a recording is written as, by its name's ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Fragmented MP4: what is on the disk can be played whatever ends the recording.
    Mp4,
    /// Bare units, one after another: Annex B, AV1's temporal units, or JPEG pictures.
    Bare,
}

impl Container {
    /// # Errors
    /// An ending that is not known, or that is not for this codec.
    pub fn of(path: &Path, codec: Codec) -> Result<Container> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        match (ending.as_str(), codec) {
            ("mp4", Codec::H264 | Codec::Hevc | Codec::Av1) => Ok(Container::Mp4),
            ("h264" | "264", Codec::H264) | ("h265" | "hevc", Codec::Hevc) | ("obu", Codec::Av1) => Ok(Container::Bare),
            ("mjpeg" | "mjpg", Codec::Jpeg) => Ok(Container::Bare),
            (_, codec) => {
                let fits = match codec {
                    Codec::H264 => "FILE.mp4 or FILE.h264",
                    Codec::Hevc => "FILE.mp4 or FILE.h265",
                    Codec::Av1 => "FILE.mp4 or FILE.obu",
                    Codec::Jpeg => "FILE.mjpeg",
                };
                let what = format!("'{}' cannot hold {}", path.display(), codec.name());
                Err(Error::usage(what)
                    .cause("a recording's form is told by its name's ending")
                    .hint(format!("--record {fits}")))
            }
        }
    }
}

/// What a recording came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recorded {
    pub file: String,
    pub frames: u64,
    /// From the first picture to the end of the last, by the captures' times; none where the stream has no times.
    pub seconds: Option<f64>,
    pub bytes: u64,
    /// Why it ended before the viewer did.
    pub ended: Option<String>,
}

/// A recording on a thread of its own, so that the disk never delays what arrives.
pub struct Recording {
    units: Option<SyncSender<(Unit, Size)>>,
    thread: Option<JoinHandle<Result<Recorded>>>,
    slow: bool,
}

impl Recording {
    /// Opens the file, which replaces one of that name.
    pub fn start(path: &Path, codec: Codec, fps: f64) -> Result<Recording> {
        let container = Container::of(path, codec)?;
        let file =
            File::create(path).map_err(|error| Error::io(format!("cannot write '{}'", path.display()), error))?;
        let (units, from) = sync_channel(MOST_WAITING);
        let writer = Writer {
            path: path.into(),
            file: BufWriter::new(file),
            codec,
            form: (container == Container::Mp4).then(|| Fragmenter::file(fps)),
            room: None,
            size: None,
            frames: 0,
            bytes: 0,
            times: None,
        };
        let thread = std::thread::Builder::new().name("record".into()).spawn(move || writer.run(&from));
        let thread = thread.map_err(|error| Error::io("cannot start a thread", error))?;
        Ok(Recording { units: Some(units), thread: Some(thread), slow: false })
    }

    /// Never waits: where the disk is half a minute behind, the recording ends there.
    pub fn feed(&mut self, unit: &Unit, size: Size) {
        let Some(units) = &self.units else { return };
        match units.try_send((unit.clone(), size)) {
            Ok(()) => {}
            Err(error) => {
                self.slow = matches!(error, TrySendError::Full(_));
                self.units = None;
            }
        }
    }

    /// Writes what waits, and closes the file.
    pub fn finish(mut self) -> Result<Recorded> {
        self.units = None;
        let thread = self.thread.take().ok_or_else(|| Error::bug("a recording was finished twice"))?;
        let mut recorded = thread.join().map_err(|_| Error::bug("the recording ended by a fault of gsk"))??;
        if self.slow {
            recorded.ended = Some("the disk did not keep up".into());
        }
        Ok(recorded)
    }
}

struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    codec: Codec,
    /// Of MP4.
    form: Option<Fragmenter>,
    /// Where the duration belongs.
    room: Option<u64>,
    size: Option<Size>,
    frames: u64,
    bytes: u64,
    /// Capture times of the first unit and the last, µs.
    times: Option<(u64, u64)>,
}

impl Writer {
    fn run(mut self, units: &Receiver<(Unit, Size)>) -> Result<Recorded> {
        let mut ended = None;
        while let Ok((unit, size)) = units.recv() {
            if let Some(reason) = self.write(&unit, size)? {
                ended = Some(reason);
                break;
            }
        }
        self.finish(ended)
    }

    /// Writes a unit; `Some`: why it cannot go on.
    fn write(&mut self, unit: &Unit, size: Size) -> Result<Option<String>> {
        if self.size.is_none() && !unit.header.key {
            return Ok(None);
        }
        if *self.size.get_or_insert(size) != size {
            return Ok(Some(format!("the picture changed to {size}")));
        }
        match &mut self.form {
            None => {
                self.put(unit.data())?;
            }
            Some(form) => {
                let packet = Packet::received(self.codec, size, &unit.header, unit.message.clone());
                if form.sets().is_some() && packet.sets.as_ref().is_some_and(|sets| Some(sets) != form.sets()) {
                    return Ok(Some("the encoder changed".into()));
                }
                let Some((head, sample)) = form.fragment(&packet)? else { return Ok(None) };
                if self.frames == 0 {
                    self.room = mp4::room(&head).map(|at| at as u64);
                }
                self.put(&head)?;
                self.put(&sample)?;
            }
        }
        self.frames += 1;
        let at = unit.header.captured_us;
        self.times = Some((self.times.map_or(at, |(first, _)| first), at));
        Ok(None)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        let path = self.path.display();
        self.file.write_all(bytes).map_err(|error| Error::io(format!("cannot write '{path}'"), error))
    }

    fn finish(mut self, ended: Option<String>) -> Result<Recorded> {
        let duration = self.form.as_ref().map(|form| form.duration() as f64 / 1000.0);
        let done = self.file.flush().and_then(|()| match (self.room, &self.form) {
            (Some(room), Some(form)) => {
                self.file.seek(SeekFrom::Start(room))?;
                self.file.write_all(&form.duration().to_be_bytes())?;
                self.file.flush()
            }
            _ => Ok(()),
        });
        let file = self.path.display().to_string();
        done.map_err(|error| Error::io(format!("cannot write '{file}'"), error))?;
        let spanned = self.times.filter(|(first, last)| last > first).map(|(first, last)| (last - first) as f64 / 1e6);
        let seconds = duration.filter(|_| self.frames > 0).or(spanned);
        Ok(Recorded { file, frames: self.frames, seconds, bytes: self.bytes, ended })
    }
}

/// What a picture is saved as, by its name's ending.
///
/// # Errors
/// An ending that is neither PNG's nor JPEG's.
pub fn picture_form(path: &Path) -> Result<PictureForm> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "png" => Ok(PictureForm::Png),
        "jpg" | "jpeg" => Ok(PictureForm::Jpeg),
        _ => {
            let what = format!("'{}' is no name of a picture", path.display());
            Err(Error::usage(what)
                .cause("its form is told by its name's ending")
                .hint("--snapshot FILE.png or FILE.jpg"))
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureForm {
    Png,
    Jpeg,
}

/// Writes a picture to a file, which replaces one of that name.
pub fn picture(path: &Path, frame: &Frame) -> Result<()> {
    let form = picture_form(path)?;
    let mut convert = ToRgb::default();
    let (pixels, format) = convert.pixels(frame)?;
    let rgb: Vec<u8> = match format {
        PixelFormat::Rgb24 => pixels.to_vec(),
        PixelFormat::Bgra => pixels.chunks_exact(4).flat_map(|p| [p[2], p[1], p[0]]).collect(),
        _ => pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
    };
    let bytes = match form {
        PictureForm::Png => png(&rgb, frame.size).map_err(|error| Error::io("cannot compress the picture", error))?,
        PictureForm::Jpeg => crate::pipeline::encode::still(&rgb, frame.size)?.to_vec(),
    };
    std::fs::write(path, bytes).map_err(|error| Error::io(format!("cannot write '{}'", path.display()), error))
}

/// A PNG of 8-bit RGB (PNG specification, third edition, clauses 5 and 11), each row as it is.
fn png(rgb: &[u8], size: Size) -> std::io::Result<Vec<u8>> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    for row in rgb.chunks_exact(size.width as usize * 3) {
        packed.write_all(&[0])?;
        packed.write_all(row)?;
    }
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        out.extend_from_slice(&(data.len() as u32).to_be_bytes());
        let from = out.len();
        out.extend_from_slice(kind);
        out.extend_from_slice(data);
        out.extend_from_slice(&crc32fast::hash(&out[from..]).to_be_bytes());
    };
    // Eight bits a sample, RGB; deflate, adaptive filters, not interlaced.
    chunk(b"IHDR", &[&size.width.to_be_bytes()[..], &size.height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat());
    chunk(b"IDAT", &packed.finish()?);
    chunk(b"IEND", &[]);
    Ok(out)
}
