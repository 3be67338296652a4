//! AV1 bitstream (AV1 Bitstream & Decoding Process Specification): temporal units in the low-overhead format, and what MP4
//! and browsers want to know of the sequence header.

use bytes::{Bytes, BytesMut};

use super::bits::Bits;
use super::sets::Colour;

/// obu_type values (6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

/// An open bitstream unit.
struct Obu<'a> {
    kind: u8,
    payload: &'a [u8],
    /// With header and size.
    whole: &'a [u8],
}

/// The units of a temporal unit (5.3), as far as they are sound. One without a size goes to the end.
fn obus(mut rest: &[u8]) -> impl Iterator<Item = Obu<'_>> {
    std::iter::from_fn(move || {
        let head = *rest.first()?;
        let start = if head & 0b100 == 0 { 1 } else { 2 };
        let (size, at) = match head & 0b10 == 0 {
            true => (rest.len().checked_sub(start)?, start),
            false => {
                let (size, bytes) = leb128(rest.get(start..)?)?;
                (size, start + bytes)
            }
        };
        let end = at.checked_add(size)?;
        let obu = Obu { kind: head >> 3 & 15, payload: rest.get(at..end)?, whole: &rest[..end] };
        rest = &rest[end..];
        Some(obu)
    })
}

/// leb128() (4.10.5): the number and its bytes.
fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 127) << (7 * at);
        if byte & 128 == 0 {
            return Some((u32::try_from(value).ok()? as usize, at + 1));
        }
    }
    None
}

/// A sequence header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The OBU, with its header and size: what av1C holds.
    pub obu: Bytes,
    pub profile: u8,
    /// seq_level_idx of the first operating point: 0 is level 2.0, 4 steps a level.
    pub level: u8,
    pub high_tier: bool,
    pub depth: u8,
    pub monochrome: bool,
    pub subsampling: (bool, bool),
    pub chroma_position: u8,
    /// Pixels.
    pub width: u32,
    pub height: u32,
    pub colour: Option<Colour>,
    reduced_still: bool,
}

impl Sequence {
    /// The first of a temporal unit.
    pub fn find(unit: &[u8]) -> Option<Sequence> {
        let obu = obus(unit).find(|obu| obu.kind == SEQUENCE_HEADER)?;
        read(obu.payload).map(|sequence| Sequence { obu: Bytes::copy_from_slice(obu.whole), ..sequence })
    }

    /// `av01.P.LLT.DD` and, where something of it is not as assumed otherwise, the rest (AV1 Codec ISO Media File Format
    /// Binding, "Codecs Parameter String"): monochrome, subsampling, then colour primaries, transfer, matrix and range.
    pub fn codec_string(&self) -> String {
        let tier = if self.high_tier { 'H' } else { 'M' };
        let short = format!("av01.{}.{:02}{tier}.{:02}", self.profile, self.level, self.depth);
        let (x, y) = (u8::from(self.subsampling.0), u8::from(self.subsampling.1));
        let position = if (x, y) == (1, 1) { self.chroma_position } else { 0 };
        let colour = self.colour.unwrap_or(Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false });
        let assumed = Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false };
        if (self.monochrome, x, y, position, colour) == (false, 1, 1, 0, assumed) {
            return short;
        }
        let Colour { primaries, transfer, matrix, full_range } = colour;
        format!(
            "{short}.{}.{x}{y}{position}.{primaries:02}.{transfer:02}.{matrix:02}.{}",
            u8::from(self.monochrome),
            u8::from(full_range)
        )
    }
}

/// Whether decoding can begin with a temporal unit: it has a sequence header, and a key frame that is shown.
pub fn is_key(unit: &[u8]) -> bool {
    let sequence = Sequence::find(unit);
    let frame = obus(unit).find(|obu| matches!(obu.kind, FRAME | FRAME_HEADER));
    match (sequence, frame.and_then(|frame| frame.payload.first().copied())) {
        (Some(sequence), Some(_)) if sequence.reduced_still => true,
        // show_existing_frame, frame_type (2 bits, 0 is KEY_FRAME), show_frame (5.9.2).
        (Some(_), Some(first)) => first >> 4 == 0b0001,
        _ => false,
    }
}

/// A temporal unit as an MP4 sample (AV1-ISOBMFF, 2.4), which has no temporal delimiter, tile list or padding.
pub fn to_sample(unit: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(unit.len());
    for obu in obus(unit).filter(|obu| !matches!(obu.kind, TEMPORAL_DELIMITER | TILE_LIST | PADDING)) {
        out.extend_from_slice(obu.whole);
    }
    out.freeze()
}

/// sequence_header_obu() (5.5.1).
fn read(payload: &[u8]) -> Option<Sequence> {
    let b = &mut Bits::new(payload);
    let profile = b.u(3)? as u8;
    b.skip(1)?; // still_picture
    let reduced_still = b.flag()?;
    let (level, high_tier) = match reduced_still {
        true => (b.u(5)? as u8, false),
        false => read_operating_points(b)?,
    };
    let (width_bits, height_bits) = (b.u(4)? as usize + 1, b.u(4)? as usize + 1);
    let (width, height) = (b.u(width_bits)? + 1, b.u(height_bits)? + 1);
    if !reduced_still && b.flag()? {
        b.skip(7)?; // lengths of frame ids
    }
    b.skip(3)?; // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
    if !reduced_still {
        b.skip(4)?; // enable_interintra_compound to enable_dual_filter
        if b.flag()? {
            b.skip(2)?; // of order hints
            skip_tools(b)?;
            b.skip(3)?; // order_hint_bits_minus_1
        } else {
            skip_tools(b)?;
        }
    }
    b.skip(3)?; // enable_superres, enable_cdef, enable_restoration
    let mut sequence = Sequence {
        obu: Bytes::new(),
        profile,
        level,
        high_tier,
        depth: 8,
        monochrome: false,
        subsampling: (true, true),
        chroma_position: 0,
        width,
        height,
        colour: None,
        reduced_still,
    };
    read_colour(b, &mut sequence)?;
    Some(sequence)
}

/// Level and tier of the first operating point.
fn read_operating_points(b: &mut Bits) -> Option<(u8, bool)> {
    let mut decoder_model = None;
    if b.flag()? {
        b.skip(64)?; // timing_info()
        if b.flag()? {
            b.ue()?; // num_ticks_per_picture_minus_1
        }
        if b.flag()? {
            decoder_model = Some(b.u(5)? as usize + 1); // buffer_delay_length_minus_1
            b.skip(32 + 10)?;
        }
    }
    let delays = b.flag()?;
    let mut first = None;
    for _ in 0..=b.u(5)? {
        b.skip(12)?; // operating_point_idc
        let level = b.u(5)? as u8;
        let high_tier = level > 7 && b.flag()?;
        if let Some(bits) = decoder_model
            && b.flag()?
        {
            b.skip(2 * bits + 1)?; // operating_parameters_info()
        }
        if delays && b.flag()? {
            b.skip(4)?;
        }
        first = first.or(Some((level, high_tier)));
    }
    first
}

/// seq_force_screen_content_tools and seq_force_integer_mv.
fn skip_tools(b: &mut Bits) -> Option<()> {
    // seq_choose_screen_content_tools; else the choice, 0 being none.
    let some = b.flag()? || b.flag()?;
    if some && !b.flag()? {
        b.skip(1)?;
    }
    Some(())
}

/// color_config() (5.5.2).
fn read_colour(b: &mut Bits, sequence: &mut Sequence) -> Option<()> {
    const SRGB: [u8; 3] = [1, 13, 0];
    let high = b.flag()?;
    let twelve = high && sequence.profile == 2 && b.flag()?;
    sequence.depth = if twelve {
        12
    } else if high {
        10
    } else {
        8
    };
    sequence.monochrome = sequence.profile != 1 && b.flag()?;
    let described = match b.flag()? {
        true => Some([b.u(8)? as u8, b.u(8)? as u8, b.u(8)? as u8]),
        false => None,
    };
    let colour =
        |full_range| described.map(|[primaries, transfer, matrix]| Colour { primaries, transfer, matrix, full_range });
    if sequence.monochrome {
        sequence.colour = colour(b.flag()?);
        return Some(());
    }
    if described == Some(SRGB) {
        (sequence.subsampling, sequence.colour) = ((false, false), colour(true));
        return Some(());
    }
    let full_range = b.flag()?;
    sequence.colour = colour(full_range);
    sequence.subsampling = match sequence.profile {
        0 => (true, true),
        1 => (false, false),
        _ if twelve => {
            let x = b.flag()?;
            (x, x && b.flag()?)
        }
        _ => (true, false),
    };
    if sequence.subsampling == (true, true) {
        sequence.chroma_position = b.u(2)? as u8;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Frames by FFmpeg: its encoder, and options for it.
    fn ffmpeg(size: &str, pixels: &str, options: &[&str]) -> Vec<u8> {
        let source = format!("testsrc2=size={size}:rate=30");
        let output = Command::new("ffmpeg")
            .args([
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                &source,
                "-frames:v",
                "3",
                "-pix_fmt",
                pixels,
                "-c:v",
                "libaom-av1",
            ])
            .args(["-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0"])
            .args(options)
            .args(["-f", "obu", "-"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A stream's temporal units.
    fn units(stream: &[u8]) -> Vec<Vec<u8>> {
        let mut units: Vec<Vec<u8>> = Vec::new();
        for obu in obus(stream) {
            if obu.kind == TEMPORAL_DELIMITER {
                units.push(Vec::new());
            }
            units.last_mut().expect("a delimiter comes first").extend_from_slice(obu.whole);
        }
        units
    }

    #[test]
    fn real_streams_say_what_they_are() {
        let bt709 = ["-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709", "-color_range", "tv"];
        let stream = ffmpeg("642x362", "yuv420p", &bt709);
        let units = units(&stream);
        assert_eq!(units.iter().map(|unit| is_key(unit)).collect::<Vec<_>>(), [true, false, false]);
        let sequence = Sequence::find(&units[0]).unwrap();
        assert_eq!((sequence.width, sequence.height, sequence.depth), (642, 362, 8));
        assert_eq!(sequence.colour, Some(Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false }));
        assert_eq!(sequence.codec_string(), format!("av01.0.{:02}M.08", sequence.level));
        let sample = to_sample(&units[0]);
        assert_eq!(sample.len() + 2, units[0].len(), "all but the delimiter");
        assert_eq!(Sequence::find(&sample), Some(sequence));

        let smpte = ["-colorspace", "smpte170m", "-color_range", "pc"];
        let sequence = Sequence::find(&ffmpeg("320x240", "yuv420p10le", &smpte)).unwrap();
        assert_eq!(sequence.codec_string(), format!("av01.0.{:02}M.10.0.110.02.02.06.1", sequence.level));
        let sequence = Sequence::find(&ffmpeg("320x240", "yuv444p", &[])).unwrap();
        assert_eq!((sequence.profile, sequence.subsampling), (1, (false, false)));
    }

    #[test]
    fn what_is_cut_short_is_none() {
        let stream = ffmpeg("320x240", "yuv420p", &[]);
        let header = Sequence::find(&stream).unwrap().obu;
        for end in 0..header.len() {
            assert_eq!(Sequence::find(&header[..end]), None, "{end}");
            assert_eq!(read(&header[2..][..end.min(8)]), None);
        }
        assert!(!is_key(&header) && !is_key(&[]) && !is_key(&[0x32, 0]));
        assert_eq!(leb128(&[0x80, 1]), Some((128, 2)));
        assert_eq!(leb128(&[0xff; 9]), None);
    }
}
