//! Fragmented MP4 (ISO/IEC 14496-12), one fragment for each access unit. Pure: units in, bytes out.

use bytes::Bytes;
use mp4_atom::{
    Av01, Av1c, Avc1, Avcc, Codec, Colr, Dinf, Dref, Encode, FourCC, Ftyp, Hdlr, Hvc1, HvcCArray, Hvcc, Mdhd, Mdia,
    Mehd, Mfhd, Minf, Moof, Moov, Mvex, Mvhd, Stbl, Stco, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun, TrunEntry,
    TrunSamples, Url, Visual, Vmhd,
};

use super::broadcast::Packet;
use super::frame::Size;
use super::sets::{Colour, Sets};
use super::{av1, hevc};
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
    sets: Option<Sets>,
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
    pub fn sets(&self) -> Option<&Sets> {
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
        let sample = packet.sample().clone();
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

/// The sample entry: what the track's samples are.
fn entry(visual: Visual, sets: &Sets) -> Result<Codec> {
    let colr = sets.colour().map(|Colour { primaries, transfer, matrix, full_range }| Colr::Nclx {
        colour_primaries: primaries.into(),
        transfer_characteristics: transfer.into(),
        matrix_coefficients: matrix.into(),
        full_range_flag: full_range,
    });
    Ok(match sets {
        Sets::H264(sets) => {
            let short = |error| Error::bug("the SPS is too short").cause(error);
            let avcc = Avcc::new(&sets.sps, &sets.pps).map_err(short)?;
            Avc1 { visual, avcc, colr, ..Default::default() }.into()
        }
        Sets::Hevc(sets) => Hvc1 { visual, hvcc: hvcc(sets), colr, ..Default::default() }.into(),
        Sets::Av1(sequence) => Av01 { visual, av1c: av1c(sequence), colr, ..Default::default() }.into(),
    })
}

/// HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1).
fn hvcc(sets: &hevc::ParameterSets) -> Hvcc {
    let info = &sets.info;
    let array =
        |kind: u8, nal: &Bytes| HvcCArray { completeness: true, nal_unit_type: kind, nalus: vec![nal.to_vec()] };
    Hvcc {
        configuration_version: 1,
        general_profile_space: info.profile_space,
        general_tier_flag: info.high_tier,
        general_profile_idc: info.profile,
        general_profile_compatibility_flags: info.compatibility.to_be_bytes(),
        general_constraint_indicator_flags: info.constraints,
        general_level_idc: info.level,
        chroma_format_idc: info.chroma_format,
        bit_depth_luma_minus8: info.luma_depth - 8,
        bit_depth_chroma_minus8: info.chroma_depth - 8,
        num_temporal_layers: info.temporal_layers,
        temporal_id_nested: info.temporal_nested,
        length_size_minus_one: 3,
        arrays: vec![array(hevc::VPS, &sets.vps), array(hevc::SPS, &sets.sps), array(hevc::PPS, &sets.pps)],
        ..Default::default()
    }
}

/// AV1CodecConfigurationRecord (AV1-ISOBMFF, 2.3.3).
fn av1c(sequence: &av1::Sequence) -> Av1c {
    Av1c {
        seq_profile: sequence.profile,
        seq_level_idx_0: sequence.level,
        seq_tier_0: sequence.high_tier,
        high_bitdepth: sequence.depth > 8,
        twelve_bit: sequence.depth == 12,
        monochrome: sequence.monochrome,
        chroma_subsampling_x: sequence.subsampling.0,
        chroma_subsampling_y: sequence.subsampling.1,
        chroma_sample_position: sequence.chroma_position,
        initial_presentation_delay: None,
        config_obus: sequence.obu.to_vec(),
    }
}

fn init(size: Size, sets: &Sets, file: bool) -> Result<Init> {
    let side = |side: u32| u16::try_from(side).expect("sizes end at 8192");
    let (width, height) = (side(size.width), side(size.height));
    let visual = Visual { data_reference_index: 1, width, height, ..Default::default() };
    let brand = match sets {
        Sets::H264(_) => b"avc1",
        Sets::Hevc(_) => b"hvc1",
        Sets::Av1(_) => b"av01",
    };
    let stbl =
        Stbl { stsd: Stsd { codecs: vec![entry(visual, sets)?] }, stco: Some(Stco::default()), ..Default::default() };
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
        compatible_brands: [b"iso5", b"iso6", b"mp41", brand].map(FourCC::new).into(),
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

    /// The page looks there whether a fragment can be begun with.
    #[test]
    fn a_samples_flags_stand_behind_the_runs_offset() {
        for (key, flags) in [(true, SYNC), (false, NOT_SYNC)] {
            let mut bytes = Vec::new();
            encode(&moof(1, 2, 3000, key, 4, 5), &mut bytes).unwrap();
            let run = &bytes[bytes.windows(4).position(|window| window == b"trun").unwrap() + 4..];
            assert_eq!(run[3] & 4, 4, "first-sample-flags-present");
            assert_eq!(run[12..16], flags.to_be_bytes());
        }
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
