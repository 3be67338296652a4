//! Fragmented MP4 (ISO/IEC 14496-12), one fragment for each access unit. Pure: units in, bytes out.

use bytes::Bytes;
use mp4_atom::{
    Avc1, Avcc, Colr, Dinf, Dref, Encode, FourCC, Ftyp, Hdlr, Mdhd, Mdia, Mehd, Mfhd, Minf, Moof, Moov, Mvex, Mvhd,
    Stbl, Stco, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun, TrunEntry, TrunSamples, Url, Visual, Vmhd,
};

use super::broadcast::Packet;
use super::frame::Size;
use super::h264::ParameterSets;
use crate::error::{Error, Result};

/// Ticks a second: the common clock of video, a whole number of them in a frame at 24, 25, 30 and 60 fps.
const TIMESCALE: u64 = 90_000;

/// Ticks a second of durations of the whole.
const MOVIE_TIMESCALE: u32 = 1000;

/// Where a file's duration stands, eight bytes big-endian, by the head of its first fragment: in `mehd` (ISO/IEC 14496-12,
/// 8.8.2), version 1. None in the head of a stream.
pub fn room(head: &[u8]) -> Option<usize> {
    // The box's type, then four bytes of version and flags.
    memchr::memmem::find(head, b"mehd").map(|at| at + 8).filter(|at| at + 8 <= head.len())
}

/// What the time between two fragments is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timeline {
    /// The time between the captures.
    #[default]
    Real,
    /// At most 1.5 frame times, however long the picture stood still. A SourceBuffer takes a gap of more than two
    /// frame times for a discontinuity and wants a key frame after it (Media Source Extensions, "coded frame
    /// processing", step 1.6).
    Packed,
}

/// Writes one viewer's file.
pub struct Fragmenter {
    timeline: Timeline,
    /// Whether it has an end, and room in its header for its duration.
    file: bool,
    /// Ticks from one frame to the next at the nominal rate.
    step: u64,
    sequence: u32,
    sets: Option<ParameterSets>,
    /// That of the last fragment.
    last: Option<Place>,
}

impl Fragmenter {
    pub fn new(timeline: Timeline, fps: f64) -> Fragmenter {
        let step = (TIMESCALE as f64 / fps) as u64;
        Fragmenter { timeline, file: false, step, sequence: 0, sets: None, last: None }
    }

    /// For a file that ends: what [`duration`](Fragmenter::duration) says belongs where [`room`] is.
    pub fn file(fps: f64) -> Fragmenter {
        Fragmenter { file: true, ..Fragmenter::new(Timeline::Real, fps) }
    }

    /// From the first unit to the end of the last, in thousandths of a second, as [`room`] wants it.
    pub fn duration(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| (last.tick + self.step) * u64::from(MOVIE_TIMESCALE) / TIMESCALE)
    }

    /// The parameter sets of what was written last.
    pub fn sets(&self) -> Option<&ParameterSets> {
        self.sets.as_ref()
    }

    /// A unit's fragment: its head (before the first, and where the parameter sets change, with the file's header) and
    /// its sample. Units before the first key unit give nothing.
    pub fn fragment(&mut self, packet: &Packet) -> Result<Option<(Bytes, Bytes)>> {
        let mut head = Vec::with_capacity(1024);
        if let Some(sets) = packet.sets.as_ref().filter(|sets| self.sets.as_ref() != Some(sets)) {
            encode(&init(packet.size, sets, self.file)?, &mut head)?;
            self.sets = Some(sets.clone());
        }
        if self.sets.is_none() {
            return Ok(None);
        }
        let tick = self.tick(packet.captured_us);
        self.sequence += 1;
        let sample = packet.avcc().clone();
        let mut moof = moof(self.sequence, tick, self.step as u32, packet.key, sample.len() as u32, 0);
        let mut sized = Vec::with_capacity(256);
        encode(&moof, &mut sized)?;
        set_offset(&mut moof, sized.len() as i32 + 8);
        encode(&moof, &mut head)?;
        head.extend_from_slice(&(sample.len() as u32 + 8).to_be_bytes());
        head.extend_from_slice(b"mdat");
        Ok(Some((head.into(), sample)))
    }

    fn tick(&mut self, captured_us: u64) -> u64 {
        let Some(last) = &mut self.last else {
            self.last = Some(Place { captured_us, ticks_100: 0, tick: 0 });
            return 0;
        };
        // 1 µs is 9/100 of a tick: hundredths add up without rounding.
        let passed = captured_us.saturating_sub(last.captured_us) * (TIMESCALE / 10_000);
        last.captured_us = captured_us;
        last.ticks_100 += match self.timeline {
            Timeline::Real => passed,
            Timeline::Packed => passed.min(self.step * 150),
        };
        // Decode times grow strictly.
        last.tick = (last.ticks_100 / 100).max(last.tick + 1);
        last.tick
    }
}

/// Where a fragment stands.
struct Place {
    captured_us: u64,
    /// Time since the first, in hundredths of a tick.
    ticks_100: u64,
    tick: u64,
}

fn encode(boxed: &impl Encode, out: &mut Vec<u8>) -> Result<()> {
    boxed.encode(out).map_err(|error| Error::bug("MP4 box cannot be written").cause(error))
}

/// The file's header: `ftyp` and `moov`.
struct Init(Ftyp, Moov);

impl Encode for Init {
    fn encode<B: mp4_atom::BufMut>(&self, out: &mut B) -> mp4_atom::Result<()> {
        self.0.encode(out)?;
        self.1.encode(out)
    }
}

fn init(size: Size, sets: &ParameterSets, file: bool) -> Result<Init> {
    let side = |side: u32| u16::try_from(side).expect("sizes end at 8192");
    let (width, height) = (side(size.width), side(size.height));
    let avcc = Avcc::new(&sets.sps, &sets.pps).map_err(|error| Error::bug("the SPS is too short").cause(error))?;
    let visual = Visual { data_reference_index: 1, width, height, ..Default::default() };
    let colr =
        Colr::Nclx { colour_primaries: 1, transfer_characteristics: 1, matrix_coefficients: 1, full_range_flag: false };
    let avc1 = Avc1 { visual, avcc, colr: Some(colr), ..Default::default() };
    let stbl = Stbl { stsd: Stsd { codecs: vec![avc1.into()] }, stco: Some(Stco::default()), ..Default::default() };
    let dinf = Dinf { dref: Dref { entries: vec![Url { location: String::new() }.into()] } };
    let mdia = Mdia {
        mdhd: Mdhd { timescale: TIMESCALE as u32, language: "und".into(), ..Default::default() },
        hdlr: Hdlr { handler: FourCC::new(b"vide"), name: "gsk".into() },
        minf: Minf { vmhd: Some(Vmhd::default()), dinf, stbl, ..Default::default() },
    };
    let tkhd = Tkhd {
        track_id: 1,
        enabled: true,
        in_movie: true,
        width: width.into(),
        height: height.into(),
        ..Default::default()
    };
    let trex = Trex { track_id: 1, default_sample_description_index: 1, ..Default::default() };
    let moov = Moov {
        mvhd: Mvhd {
            timescale: MOVIE_TIMESCALE,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: 2,
            ..Default::default()
        },
        mvex: Some(Mvex { mehd: file.then(Mehd::default), trex: vec![trex] }),
        trak: vec![Trak { tkhd, mdia, ..Default::default() }],
        ..Default::default()
    };
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso5"),
        minor_version: 512,
        compatible_brands: [b"iso5", b"iso6", b"mp41", b"avc1"].map(FourCC::new).into(),
    };
    Ok(Init(ftyp, moov))
}

/// Sample flags (8.8.3.1): a sync sample that depends on none, and one that is neither.
const SYNC: u32 = 0x0200_0000;
const NOT_SYNC: u32 = 0x0101_0000;

fn moof(sequence: u32, tick: u64, duration: u32, key: bool, size: u32, data_offset: i32) -> Moof {
    let entry = TrunEntry {
        duration: Some(duration),
        size: Some(size),
        flags: Some(if key { SYNC } else { NOT_SYNC }),
        cts: None,
    };
    Moof {
        mfhd: Mfhd { sequence_number: sequence },
        traf: vec![Traf {
            tfhd: Tfhd { track_id: 1, default_base_is_moof: true, ..Default::default() },
            tfdt: Some(Tfdt { base_media_decode_time: tick }),
            trun: vec![Trun { data_offset: Some(data_offset), samples: TrunSamples::Explicit(vec![entry]) }],
            ..Default::default()
        }],
    }
}

/// The sample begins behind `moof` and the eight bytes of `mdat`'s head.
fn set_offset(moof: &mut Moof, offset: i32) {
    moof.traf[0].trun[0].data_offset = Some(offset);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(timeline: Timeline, captured_us: &[u64]) -> Vec<u64> {
        let mut fragmenter = Fragmenter::new(timeline, 30.0);
        captured_us.iter().map(|&us| fragmenter.tick(us)).collect()
    }

    #[test]
    fn the_real_timeline_is_that_of_the_captures() {
        let frames: Vec<u64> = (0..=9000).map(|n| 5_000_000 + n * 1_000_000 / 30).collect();
        let ticks = ticks(Timeline::Real, &frames);
        assert_eq!(ticks[0], 0);
        assert!(ticks.last().unwrap().abs_diff(300 * TIMESCALE) <= 2, "no drift in five minutes");
    }

    #[test]
    fn the_packed_timeline_has_no_gap_that_a_source_buffer_minds() {
        let ticks = ticks(Timeline::Packed, &[0, 33_333, 10_033_333, 10_033_333, 10_066_666]);
        for pair in ticks.windows(2) {
            assert!(pair[1] > pair[0] && pair[1] - pair[0] <= 4500, "{ticks:?}");
        }
    }
}
