//! H.264 bitstream: Annex B NAL units, and what MP4 and browsers want to know of the parameter sets.

use bytes::{Bytes, BytesMut};

use super::bits::{Bits, payload};
use super::hevc::read_colour;
use super::sets::Colour;

/// nal_unit_type values (H.264 table 7-1).
pub const IDR: u8 = 5;
pub const SPS: u8 = 7;
pub const PPS: u8 = 8;

/// The NAL units of an Annex B stream (B.1.1), without start codes.
pub fn nals(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(stream);
    std::iter::from_fn(move || {
        let all = rest?;
        let (nal, next) = match find_start_code(all) {
            Some(at) => (&all[..at], after_start_code(&all[at..])),
            None => (all, None),
        };
        rest = next;
        // A four-byte start code's first zero, and trailing_zero_8bits, end the NAL before it; a NAL itself never ends in zero.
        let end = nal.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        Some(&nal[..end])
    })
    .filter(|nal| !nal.is_empty())
}

fn find_start_code(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|w| w == [0, 0, 1])
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    find_start_code(bytes).map(|at| &bytes[at + 3..])
}

/// The parameter sets of a key access unit, as MP4's avcC and WebCodecs' codec string need them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSets {
    pub sps: Bytes,
    pub pps: Bytes,
}

impl ParameterSets {
    /// The first SPS and PPS of an Annex B access unit.
    pub fn find(unit: &[u8]) -> Option<ParameterSets> {
        let of = |kind| nals(unit).find(|nal| nal[0] & 31 == kind).map(Bytes::copy_from_slice);
        Some(ParameterSets { sps: of(SPS).filter(|sps| sps.len() > 3)?, pps: of(PPS)? })
    }

    /// `avc1.PPCCLL` (RFC 6381): profile, constraint flags and level as the SPS has them.
    pub fn codec_string(&self) -> String {
        format!("avc1.{:02X}{:02X}{:02X}", self.sps[1], self.sps[2], self.sps[3])
    }

    /// What the VUI says; `None` where it says nothing.
    pub fn colour(&self) -> Option<Colour> {
        vui_colour(&payload(&self.sps, 1)).flatten()
    }
}

/// seq_parameter_set_data (7.3.2.1.1) as far as the VUI's colour description (E.1.1).
fn vui_colour(rbsp: &[u8]) -> Option<Option<Colour>> {
    /// Profiles whose SPS speaks of the chroma format.
    const HIGH: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
    const EXTENDED_SAR: u32 = 255;
    let b = &mut Bits::new(rbsp);
    let profile = b.u(8)?;
    b.skip(16)?;
    b.ue()?; // seq_parameter_set_id
    if HIGH.contains(&profile) {
        let chroma_format = b.ue()?;
        if chroma_format == 3 {
            b.skip(1)?;
        }
        b.ue()?; // bit depths
        b.ue()?;
        b.skip(1)?;
        if b.flag()? {
            for list in 0..if chroma_format == 3 { 12 } else { 8 } {
                if b.flag()? {
                    skip_scaling_list(b, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    b.ue()?; // log2_max_frame_num_minus4
    match b.ue()? {
        0 => drop(b.ue()?),
        1 => {
            b.skip(1)?;
            b.se()?;
            b.se()?;
            for _ in 0..b.ue()? {
                b.se()?;
            }
        }
        _ => {}
    }
    b.ue()?; // max_num_ref_frames
    b.skip(1)?;
    b.ue()?; // size
    b.ue()?;
    if !b.flag()? {
        b.skip(1)?; // mb_adaptive_frame_field_flag
    }
    b.skip(1)?;
    if b.flag()? {
        for _ in 0..4 {
            b.ue()?; // cropping
        }
    }
    if !b.flag()? {
        return Some(None);
    }
    if b.flag()? && b.u(8)? == EXTENDED_SAR {
        b.skip(32)?;
    }
    if b.flag()? {
        b.skip(1)?; // overscan_appropriate_flag
    }
    read_colour(b)
}

/// scaling_list (7.3.2.1.1.1).
fn skip_scaling_list(b: &mut Bits, size: usize) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..size {
        if next != 0 {
            next = (last + b.se()?) & 255;
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// Annex B to the length-prefixed form of ISO/IEC 14496-15 (four-byte lengths). Parameter sets and access unit delimiters
/// are left out: they stand in avcC.
pub fn to_avcc(unit: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(unit.len());
    for nal in nals(unit).filter(|nal| !matches!(nal[0] & 31, SPS | PPS | 9)) {
        out.extend_from_slice(&(nal.len() as u32).to_be_bytes());
        out.extend_from_slice(nal);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nal_units_are_cut_at_both_start_codes() {
        let stream = [0, 0, 0, 1, 0x67, 0x42, 0xC0, 0x1F, 9, 0, 0, 0, 1, 0x68, 7, 0, 0, 1, 0x65, 0, 0, 3, 1, 0, 0];
        let found: Vec<_> = nals(&stream).collect();
        assert_eq!(found, [&[0x67, 0x42, 0xC0, 0x1F, 9][..], &[0x68, 7], &[0x65, 0, 0, 3, 1]]);
        let sets = ParameterSets::find(&stream).unwrap();
        assert_eq!(sets.codec_string(), "avc1.42C01F");
        assert_eq!(&to_avcc(&stream)[..], [0, 0, 0, 5, 0x65, 0, 0, 3, 1]);
    }

    #[test]
    fn the_colour_is_the_vuis() {
        let x264 = |options: &str| {
            let source = "testsrc2=size=322x182:rate=30";
            let output = std::process::Command::new("ffmpeg")
                .args(["-v", "error", "-f", "lavfi", "-i", source, "-frames:v", "1", "-pix_fmt", "yuv420p"])
                .args(["-c:v", "libx264", "-x264-params", options, "-f", "h264", "-"])
                .output()
                .unwrap();
            ParameterSets::find(&output.stdout).expect("parameter sets").colour()
        };
        let colour = |matrix, full_range| Some(Colour { primaries: 1, transfer: 1, matrix, full_range });
        let bt709 = "colorprim=bt709:transfer=bt709:colormatrix=bt709";
        assert_eq!(x264(bt709), colour(1, false));
        let lists = "cqm=jvt:sar=4/3:overscan=show:colorprim=bt709:transfer=bt709:colormatrix=smpte170m:fullrange=on";
        assert_eq!(x264(lists), colour(6, true));
        assert_eq!(x264(""), None);
    }

    #[test]
    fn streams_without_nal_units_are_empty() {
        for stream in [&[][..], &[0, 0], &[0, 0, 1], &[1, 2, 3, 4]] {
            assert_eq!(nals(stream).count(), 0);
            assert_eq!(ParameterSets::find(stream), None);
        }
    }
}
