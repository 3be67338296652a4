//! What comes from a worker, whichever way: access units, cut out of the bytes of a transport. Pure: bytes in, units out.

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{Codec as SampleEntry, Decode, Moof, Moov, Trun, TrunSamples};

use crate::error::{Error, Kind, Result};
use crate::pipeline::frame::Size;
use crate::pipeline::h264;
use crate::wire::message::{HEADER, Header};

/// The longest unit, box or part that is taken in, bytes.
pub const MAX_UNIT: usize = 64 << 20;
/// The longest line of a part's head, bytes, and the most lines.
const MAX_LINE: usize = 1 << 10;
const MAX_LINES: usize = 32;

/// An access unit: Annex B, or one JPEG.
#[derive(Clone, Debug)]
pub struct Unit {
    pub header: Header,
    /// Whether the header is the server's own: then its times are on the server's clock. Otherwise its capture time is the
    /// stream's timeline, or stays 0.
    pub timed: bool,
    /// [`HEADER`] bytes, and the unit behind them.
    pub message: Bytes,
    /// When it had come whole, µs.
    pub arrived_us: u64,
    /// What the transport says of its size, and of the nominal rate.
    pub size: Option<Size>,
    pub fps: Option<f64>,
}

impl Unit {
    /// A binary message of `gsk.v1`.
    pub fn parse(message: Bytes, arrived_us: u64) -> Option<Unit> {
        let (header, unit) = Header::parse(&message)?;
        let start = message.len() - unit.len();
        // A newer server's header may be longer than the one that is known here.
        let message = if start == HEADER { message } else { wrap(unit) };
        Some(Unit { header, timed: true, message, arrived_us, size: None, fps: None })
    }

    pub fn data(&self) -> &[u8] {
        &self.message[HEADER..]
    }

    fn untimed(message: Bytes, key: bool, sequence: u32, captured_us: u64, size: Option<Size>) -> Unit {
        let header = Header { key, sequence, view: 0, captured_us, encoded_after_us: 0 };
        Unit { header, timed: false, message, arrived_us: 0, size, fps: None }
    }
}

fn wrap(unit: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(HEADER + unit.len());
    message.put_bytes(0, HEADER);
    message.extend_from_slice(unit);
    message.freeze()
}

fn damaged(what: impl Into<String>) -> Error {
    Error::new(Kind::Unreachable, "what comes is not the stream of a worker").cause(what.into())
}

/// Cuts units out of a byte stream that comes in pieces.
pub trait Cut: Send {
    /// Takes a piece, and gives what is whole.
    ///
    /// # Errors
    /// Bytes that are no such stream, and lengths beyond [`MAX_UNIT`].
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<Unit>) -> Result<()>;
}

/// `/stream.mp4`: fragments of one access unit each.
#[derive(Default)]
pub struct Mp4 {
    held: BytesMut,
    sequence: u32,
    size: Option<Size>,
    /// Annex B, in front of each key unit.
    sets: Vec<u8>,
    timescale: u64,
    /// Of the next `mdat`: when it is to be shown, and for how long.
    tick: u64,
    step: Option<u32>,
}

impl Cut for Mp4 {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<Unit>) -> Result<()> {
        self.held.extend_from_slice(bytes);
        while let Some(head) = self.held.first_chunk::<8>() {
            let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let kind: [u8; 4] = [head[4], head[5], head[6], head[7]];
            if !(8..=MAX_UNIT).contains(&length) {
                return Err(damaged(format!("an MP4 box of {length} bytes")));
            }
            if self.held.len() < length {
                return Ok(());
            }
            let whole = self.held.split_to(length).freeze();
            match &kind {
                b"moov" => self.begin(&read::<Moov>(&whole)?)?,
                b"moof" => {
                    let moof = read::<Moof>(&whole)?;
                    let traf = moof.traf.first();
                    let tick = traf.and_then(|traf| traf.tfdt.as_ref()).map(|at| at.base_media_decode_time);
                    self.tick = tick.ok_or_else(|| damaged("an MP4 fragment without its time"))?;
                    self.step = traf.and_then(|traf| duration(traf.trun.first()?));
                }
                b"mdat" => out.push(self.unit(&whole[8..])?),
                _ => {}
            }
        }
        Ok(())
    }
}

fn read<T: Decode>(mut whole: &[u8]) -> Result<T> {
    T::decode(&mut whole).map_err(|error| damaged(error.to_string()))
}

/// How long the first sample of a fragment is to be shown, in ticks.
fn duration(trun: &Trun) -> Option<u32> {
    match &trun.samples {
        TrunSamples::Explicit(entries) => entries.first()?.duration.filter(|&ticks| ticks > 0),
        _ => None,
    }
}

impl Mp4 {
    fn begin(&mut self, moov: &Moov) -> Result<()> {
        let mdia = moov.trak.first().map(|trak| &trak.mdia).ok_or_else(|| damaged("an MP4 stream without a track"))?;
        let entry = mdia.minf.stbl.stsd.codecs.first();
        let Some(SampleEntry::Avc1(avc1)) = entry else {
            return Err(damaged("an MP4 stream that is not H.264"));
        };
        let size = Size::new(avc1.visual.width.into(), avc1.visual.height.into());
        self.size = Some(size.check().map_err(|error| damaged(error.to_string()))?);
        self.timescale = u64::from(mdia.mdhd.timescale.max(1));
        self.sets.clear();
        for set in avc1.avcc.sequence_parameter_sets.iter().chain(&avc1.avcc.picture_parameter_sets) {
            self.sets.extend_from_slice(&[0, 0, 0, 1]);
            self.sets.extend_from_slice(set);
        }
        Ok(())
    }

    fn unit(&mut self, sample: &[u8]) -> Result<Unit> {
        if self.timescale == 0 {
            return Err(damaged("an MP4 sample before its stream's head"));
        }
        let mut nals = Vec::new();
        let mut rest = sample;
        while let Some(length) = rest.first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let nal = rest.get(4..4 + length).filter(|nal| !nal.is_empty());
            nals.push(nal.ok_or_else(|| damaged("an MP4 sample whose lengths do not fit"))?);
            rest = &rest[4 + length..];
        }
        let key = nals.iter().any(|nal| nal[0] & 31 == h264::IDR);
        let mut message = BytesMut::with_capacity(HEADER + self.sets.len() + sample.len());
        message.put_bytes(0, HEADER);
        if key {
            message.extend_from_slice(&self.sets);
        }
        for nal in nals {
            message.extend_from_slice(&[0, 0, 0, 1]);
            message.extend_from_slice(nal);
        }
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let captured_us = (u128::from(self.tick) * 1_000_000 / u128::from(self.timescale)) as u64;
        let unit = Unit::untimed(message.freeze(), key, sequence, captured_us, self.size);
        Ok(Unit { fps: self.step.map(|step| self.timescale as f64 / f64::from(step)), ..unit })
    }
}

/// `/stream.mjpg`: parts with a length.
#[derive(Default)]
pub struct Multipart {
    held: BytesMut,
    sequence: u32,
    lines: usize,
    /// Of the part whose head has been read.
    length: Option<usize>,
    /// Whether the empty line is there, and the picture begins.
    body: bool,
}

impl Cut for Multipart {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<Unit>) -> Result<()> {
        self.held.extend_from_slice(bytes);
        loop {
            if self.body {
                let length = self.length.ok_or_else(|| damaged("a JPEG part without Content-Length"))?;
                if self.held.len() < length {
                    return Ok(());
                }
                let jpeg = self.held.split_to(length);
                let size = jpeg_size(&jpeg).ok_or_else(|| damaged("a part that is no JPEG"))?;
                let sequence = self.sequence;
                self.sequence = sequence.wrapping_add(1);
                out.push(Unit::untimed(wrap(&jpeg), true, sequence, 0, Some(size)));
                (self.body, self.length, self.lines) = (false, None, 0);
            }
            let Some(end) = memchr::memchr(b'\n', &self.held) else {
                let long = self.held.len() > MAX_LINE;
                return if long { Err(damaged("a line of more than 1 KiB between pictures")) } else { Ok(()) };
            };
            let line = self.held.split_to(end + 1);
            self.lines += 1;
            if line.len() > MAX_LINE || self.lines > MAX_LINES {
                return Err(damaged("no head of a JPEG part"));
            }
            self.line(line.trim_ascii())?;
        }
    }
}

impl Multipart {
    fn line(&mut self, line: &[u8]) -> Result<()> {
        if line.is_empty() {
            // One also stands between a picture and the boundary.
            self.body = self.length.is_some();
            return Ok(());
        }
        let Some(at) = memchr::memchr(b':', line) else { return Ok(()) };
        if line[..at].eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(line[at + 1..].trim_ascii()).ok().and_then(|text| text.parse().ok());
            let length = length.filter(|length| (1..=MAX_UNIT).contains(length));
            self.length = Some(length.ok_or_else(|| damaged("a JPEG part of a length that cannot be"))?);
        }
        Ok(())
    }
}

/// Width and height as the frame header of a JPEG has them (ITU-T T.81, B.2.2).
pub fn jpeg_size(jpeg: &[u8]) -> Option<Size> {
    let mut rest = jpeg.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let [0xff, marker, high, low, ..] = *rest else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        // SOF0 to SOF15, without DHT, JPG and DAC.
        if (0xc0..=0xcf).contains(&marker) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let side = |at: usize| Some(u32::from(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?])));
            let size = Size::new(side(7)?, side(5)?);
            let most = *Size::SIDE.end();
            return (size.width.min(size.height) > 0 && size.width.max(size.height) <= most).then_some(size);
        }
        rest = rest.get(2 + length.max(2)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::broadcast::Packet;
    use crate::pipeline::encode::Codec;
    use crate::pipeline::mp4::{Fragmenter, Timeline};

    const SIZE: Size = Size::new(64, 48);

    /// An IDR with parameter sets (the SPS is one of 64x48 only in name: nothing decodes it here), or another picture.
    fn annex_b(key: bool, n: u8) -> Vec<u8> {
        let mut unit = Vec::new();
        if key {
            unit.extend_from_slice(&[0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 9, 0, 0, 0, 1, 0x68, 7]);
        }
        unit.extend_from_slice(&[0, 0, 0, 1, if key { 0x65 } else { 0x41 }, n, 0x80]);
        unit
    }

    fn packet(key: bool, n: u32) -> Packet {
        let header =
            Header { key, sequence: n, view: 0, captured_us: 5_000_000 + u64::from(n) * 40_000, encoded_after_us: 0 };
        Packet::received(Codec::H264, SIZE, &header, wrap(&annex_b(key, n as u8)))
    }

    fn cut(cut: &mut impl Cut, bytes: &[u8], piece: usize) -> Result<Vec<Unit>> {
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            cut.feed(piece, &mut out)?;
        }
        Ok(out)
    }

    #[test]
    fn what_the_fragmenter_writes_is_cut_into_the_same_units() {
        let mut fragmenter = Fragmenter::new(Timeline::Real, 25.0);
        let mut stream = Vec::new();
        for n in 0..4 {
            let (head, sample) = fragmenter.fragment(&packet(n % 2 == 0, n)).unwrap().unwrap();
            stream.extend_from_slice(&head);
            stream.extend_from_slice(&sample);
        }
        for piece in [1, 7, 100, stream.len()] {
            let units = cut(&mut Mp4::default(), &stream, piece).unwrap();
            assert_eq!(units.len(), 4);
            for (n, unit) in units.iter().enumerate() {
                let key = n % 2 == 0;
                assert_eq!((unit.data(), unit.header.key, unit.timed), (&annex_b(key, n as u8)[..], key, false));
                assert_eq!((unit.header.captured_us, unit.size), (n as u64 * 40_000, Some(SIZE)));
                assert_eq!(unit.fps, Some(25.0));
            }
        }
    }

    #[test]
    fn damaged_mp4_is_refused() {
        for bytes in
            [&b"\0\0\0\x07free"[..], b"\xff\xff\xff\xffmdat", b"\0\0\0\x0cmoov\0\0\0\0", b"\0\0\0\x0dmdat\0\0\0\x01a"]
        {
            let error = cut(&mut Mp4::default(), bytes, 5).unwrap_err();
            assert_eq!(error.kind, Kind::Unreachable, "{error}");
        }
        let mut begun = Mp4 { timescale: 1000, ..Mp4::default() };
        assert!(cut(&mut begun, b"\0\0\0\x10mdat\0\0\0\x09abcd", 5).is_err(), "a length beyond the sample");
        assert!(cut(&mut Mp4::default(), b"\0\0\0\x0cskip\0\0\0\0", 3).unwrap().is_empty());
    }

    fn jpeg(width: u8) -> Vec<u8> {
        let mut jpeg = vec![0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xc0, 0, 11, 8, 0, 32, 0, width, 1, 1, 0x11, 0];
        jpeg.extend_from_slice(&[b'\n'; 5]);
        jpeg
    }

    #[test]
    fn parts_are_cut_at_their_lengths() {
        let mut stream = b"--gsk-frame\r\n".to_vec();
        for width in [16, 64] {
            let jpeg = jpeg(width);
            stream.extend_from_slice(
                format!("Content-Type: image/jpeg\r\ncontent-length: {}\r\n\r\n", jpeg.len()).as_bytes(),
            );
            stream.extend_from_slice(&jpeg);
            stream.extend_from_slice(b"\r\n--gsk-frame\r\n");
        }
        for piece in [1, 9, stream.len()] {
            let units = cut(&mut Multipart::default(), &stream, piece).unwrap();
            let seen: Vec<_> = units.iter().map(|unit| (unit.data().to_vec(), unit.size.unwrap().width)).collect();
            assert_eq!(seen, [(jpeg(16), 16), (jpeg(64), 64)]);
        }
    }

    #[test]
    fn what_is_no_multipart_jpeg_is_refused() {
        let long = vec![b'x'; 3000];
        for bytes in [
            &b"Content-Length: 99999999999\r\n\r\n"[..],
            b"Content-Length: 0\r\n\r\n",
            b"Content-Length: 4\r\n\r\nabcd",
            &long,
            &b"a: b\n".repeat(40),
        ] {
            assert!(cut(&mut Multipart::default(), bytes, 16).is_err());
        }
        assert_eq!(jpeg_size(&[0xff, 0xd8, 0xff, 0xe0, 0, 0]), None);
        assert_eq!(jpeg_size(&jpeg(0)), None);
        assert_eq!(jpeg_size(&jpeg(64)[..16]), None);
    }

    #[test]
    fn a_longer_header_is_cut_to_the_known_one() {
        let mut message = vec![0; 40];
        Header { key: true, sequence: 3, view: 0, captured_us: 2, encoded_after_us: 9 }.write(&mut message);
        message[3] = 32;
        message[32..].copy_from_slice(b"a unit !");
        let unit = Unit::parse(message.into(), 7).unwrap();
        assert_eq!((unit.data(), unit.header.sequence, unit.timed, unit.arrived_us), (&b"a unit !"[..], 3, true, 7));
        assert!(Unit::parse(Bytes::from_static(b"nonsense"), 0).is_none());
    }
}
