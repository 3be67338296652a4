//! HEVC bitstream (ITU-T H.265): what MP4 and browsers want to know of the parameter sets. Its NAL units are cut as
//! those of H.264 are.

use bytes::{Bytes, BytesMut};

use super::bits::{Bits, payload};
use super::h264::nals;
use super::sets::Colour;

/// nal_unit_type values (table 7-1).
pub const VPS: u8 = 32;
pub const SPS: u8 = 33;
pub const PPS: u8 = 34;
const AUD: u8 = 35;

/// nal_unit_type of a NAL unit.
pub fn kind(nal: &[u8]) -> u8 {
    nal[0] >> 1 & 63
}

/// Whether a NAL unit of that type is of a picture that decoding can begin with (IRAP).
pub fn is_key(kind: u8) -> bool {
    (16..=23).contains(&kind)
}

/// The parameter sets of a key access unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSets {
    pub vps: Bytes,
    pub sps: Bytes,
    pub pps: Bytes,
    pub info: Info,
}

/// What the SPS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// general_profile_space, 0 to 3.
    pub profile_space: u8,
    pub high_tier: bool,
    pub profile: u8,
    /// general_profile_compatibility_flags, that of profile 0 first.
    pub compatibility: u32,
    /// The 48 bits of general_progressive_source_flag and what follows it.
    pub constraints: [u8; 6],
    /// general_level_idc: thirty times the level.
    pub level: u8,
    /// chroma_format_idc: 1 is 4:2:0.
    pub chroma_format: u8,
    pub luma_depth: u8,
    pub chroma_depth: u8,
    pub temporal_layers: u8,
    pub temporal_nested: bool,
    /// Pixels, the conformance window's.
    pub width: u32,
    pub height: u32,
    pub colour: Option<Colour>,
}

impl ParameterSets {
    /// The first of each of an Annex B access unit.
    pub fn find(unit: &[u8]) -> Option<ParameterSets> {
        let of = |wanted| nals(unit).find(|nal| nal.len() > 2 && kind(nal) == wanted).map(Bytes::copy_from_slice);
        let (vps, sps, pps) = (of(VPS)?, of(SPS)?, of(PPS)?);
        let info = read_sps(&payload(&sps, 2))?;
        Some(ParameterSets { vps, sps, pps, info })
    }

    /// `hvc1.P.C.TL.B` (ISO/IEC 14496-15, annex E.3): profile space and profile, compatibility flags in reverse bit order,
    /// tier and level, and the constraint bytes without the zeros at their end.
    pub fn codec_string(&self) -> String {
        let Info { profile_space, profile, compatibility, high_tier, level, constraints, .. } = &self.info;
        let space = ["", "A", "B", "C"][usize::from(*profile_space & 3)];
        let tier = if *high_tier { 'H' } else { 'L' };
        let mut text = format!("hvc1.{space}{profile}.{:X}.{tier}{level}", compatibility.reverse_bits());
        let told = constraints.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        constraints[..told].iter().for_each(|byte| text += &format!(".{byte:X}"));
        text
    }
}

/// Annex B to four-byte lengths (ISO/IEC 14496-15). Parameter sets and access unit delimiters are left out: they stand in
/// hvcC.
pub fn to_hvcc(unit: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(unit.len());
    for nal in nals(unit).filter(|nal| !matches!(kind(nal), VPS | SPS | PPS | AUD)) {
        out.extend_from_slice(&(nal.len() as u32).to_be_bytes());
        out.extend_from_slice(nal);
    }
    out.freeze()
}

/// 7.3.2.2.1, as far as the colour description.
fn read_sps(rbsp: &[u8]) -> Option<Info> {
    let mut b = Bits::new(rbsp);
    b.skip(4)?; // sps_video_parameter_set_id
    let layers = b.u(3)?;
    let temporal_nested = b.flag()?;
    let mut info = read_profile(&mut b, layers)?;
    info.temporal_layers = layers as u8 + 1;
    info.temporal_nested = temporal_nested;
    b.ue()?; // sps_seq_parameter_set_id
    info.chroma_format = u8::try_from(b.ue()?).ok().filter(|&format| format <= 3)?;
    if info.chroma_format == 3 {
        b.skip(1)?; // separate_colour_plane_flag
    }
    (info.width, info.height) = (b.ue()?, b.ue()?);
    if b.flag()? {
        // In units of chroma samples (table 6-1).
        let (across, down) = [(1, 1), (2, 2), (2, 1), (1, 1)][usize::from(info.chroma_format)];
        let [left, right, top, bottom] = [b.ue()?, b.ue()?, b.ue()?, b.ue()?];
        info.width = info.width.checked_sub(left.checked_add(right)?.checked_mul(across)?)?;
        info.height = info.height.checked_sub(top.checked_add(bottom)?.checked_mul(down)?)?;
    }
    let depth = |code: u32| u8::try_from(code).ok().filter(|&code| code <= 8).map(|code| code + 8);
    (info.luma_depth, info.chroma_depth) = (depth(b.ue()?)?, depth(b.ue()?)?);
    let poc_bits = b.ue()?.checked_add(4).filter(|&bits| bits <= 16)? as usize;
    let told = if b.flag()? { layers + 1 } else { 1 };
    for _ in 0..3 * told {
        b.ue()?; // sizes of the decoded picture buffer
    }
    for _ in 0..6 {
        b.ue()?; // sizes of blocks and depths of trees
    }
    if b.flag()? && b.flag()? {
        skip_scaling_lists(&mut b)?;
    }
    b.skip(2)?; // amp_enabled_flag, sample_adaptive_offset_enabled_flag
    if b.flag()? {
        b.skip(8)?; // depths of PCM samples
        b.ue()?;
        b.ue()?;
        b.skip(1)?;
    }
    skip_picture_sets(&mut b)?;
    if b.flag()? {
        let pictures = b.ue()?;
        for _ in 0..pictures {
            b.skip(poc_bits + 1)?; // lt_ref_pic_poc_lsb_sps, used_by_curr_pic_lt_sps_flag
        }
    }
    b.skip(2)?; // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
    if b.flag()? {
        info.colour = read_vui_colour(&mut b)?;
    }
    Some(info)
}

/// profile_tier_level (7.3.3) of so many temporal layers less one.
fn read_profile(b: &mut Bits, layers: u32) -> Option<Info> {
    let info = Info {
        profile_space: b.u(2)? as u8,
        high_tier: b.flag()?,
        profile: b.u(5)? as u8,
        compatibility: b.u(32)?,
        constraints: {
            let mut constraints = [0; 6];
            for byte in &mut constraints {
                *byte = b.u(8)? as u8;
            }
            constraints
        },
        level: b.u(8)? as u8,
        chroma_format: 0,
        luma_depth: 8,
        chroma_depth: 8,
        temporal_layers: 1,
        temporal_nested: false,
        width: 0,
        height: 0,
        colour: None,
    };
    let mut present = Vec::new();
    for _ in 0..layers {
        present.push((b.flag()?, b.flag()?));
    }
    if layers > 0 {
        b.skip(2 * (8 - layers as usize))?;
    }
    for (profile, level) in present {
        b.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(info)
}

/// scaling_list_data (7.3.4).
fn skip_scaling_lists(b: &mut Bits) -> Option<()> {
    for size in 0..4u32 {
        for _ in (0..6).step_by(if size == 3 { 3 } else { 1 }) {
            if !b.flag()? {
                b.ue()?; // scaling_list_pred_matrix_id_delta
                continue;
            }
            if size > 1 {
                b.se()?; // scaling_list_dc_coef_minus8
            }
            for _ in 0..64.min(1 << (4 + 2 * size)) {
                b.se()?;
            }
        }
    }
    Some(())
}

/// The short-term reference picture sets (7.3.7): how long one is may depend on the one before.
fn skip_picture_sets(b: &mut Bits) -> Option<()> {
    let sets = b.ue().filter(|&sets| sets <= 64)?;
    let mut pictures = 0;
    for set in 0..sets {
        if set > 0 && b.flag()? {
            b.skip(1)?; // delta_rps_sign
            b.ue()?; // abs_delta_rps_minus1
            let mut kept = 0;
            for _ in 0..=pictures {
                // used_by_curr_pic_flag; else use_delta_flag
                if b.flag()? || b.flag()? {
                    kept += 1;
                }
            }
            pictures = kept;
            continue;
        }
        let (before, after) = (b.ue()?, b.ue()?);
        pictures = before.checked_add(after).filter(|&pictures| pictures <= 32)?;
        for _ in 0..pictures {
            b.ue()?; // delta_poc_minus1
            b.skip(1)?; // used_by_curr_pic_flag
        }
    }
    Some(())
}

/// vui_parameters (E.2.1) as far as the colour description.
fn read_vui_colour(b: &mut Bits) -> Option<Option<Colour>> {
    const EXTENDED_SAR: u32 = 255;
    if b.flag()? && b.u(8)? == EXTENDED_SAR {
        b.skip(32)?;
    }
    if b.flag()? {
        b.skip(1)?; // overscan_appropriate_flag
    }
    read_colour(b)
}

/// The colour's part of a VUI, which H.264 and HEVC share, from video_signal_type_present_flag on.
pub(super) fn read_colour(b: &mut Bits) -> Option<Option<Colour>> {
    if !b.flag()? {
        return Some(None);
    }
    b.skip(3)?; // video_format
    let full_range = b.flag()?;
    if !b.flag()? {
        return Some(None);
    }
    let [primaries, transfer, matrix] = [b.u(8)? as u8, b.u(8)? as u8, b.u(8)? as u8];
    Some(Some(Colour { primaries, transfer, matrix, full_range }))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Two frames by x265.
    fn x265(size: &str, pixels: &str, options: &str) -> Vec<u8> {
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
                "libx265",
            ])
            .args(["-x265-params", &format!("log-level=none:{options}"), "-f", "hevc", "-"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn real_streams_say_what_they_are() {
        let bt709 = "colorprim=bt709:transfer=bt709:colormatrix=bt709:range=limited";
        let stream = x265("642x362", "yuv420p", &format!("{bt709}:scaling-list=default:temporal-layers=2"));
        let sets = ParameterSets::find(&stream).unwrap();
        assert_eq!(sets.codec_string(), "hvc1.1.6.L63.90");
        let info = &sets.info;
        assert_eq!((info.width, info.height, info.chroma_format, info.luma_depth), (642, 362, 1, 8));
        let colour = Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false };
        assert_eq!(info.colour, Some(colour));
        let kinds: Vec<u8> = nals(&stream).map(kind).collect();
        assert_eq!(kinds[..3], [VPS, SPS, PPS]);
        assert_eq!(kinds.iter().filter(|&&kind| is_key(kind)).count(), 1);
        let sample = to_hvcc(&stream);
        assert!(sample.len() < stream.len() && kind(&sample[4..]) != VPS);

        let stream = x265("320x240", "yuv422p10le", "colormatrix=smpte170m:level-idc=5.1:high-tier=1:range=full");
        let sets = ParameterSets::find(&stream).unwrap();
        assert!(sets.codec_string().starts_with("hvc1.4.10.H153."), "{}", sets.codec_string());
        assert_eq!((sets.info.chroma_format, sets.info.luma_depth, sets.info.chroma_depth), (2, 10, 10));
        assert_eq!(sets.info.colour, Some(Colour { primaries: 2, transfer: 2, matrix: 6, full_range: true }));
        assert_eq!(ParameterSets::find(&x265("320x240", "yuv420p", "")).unwrap().info.colour, None);
    }

    #[test]
    fn what_is_cut_short_is_none() {
        let stream = x265("320x240", "yuv420p", "");
        let ParameterSets { sps, .. } = ParameterSets::find(&stream).unwrap();
        for end in 0..sps.len() - 8 {
            let _ = read_sps(&payload(&sps[..end], 2));
        }
        assert_eq!(read_sps(&payload(&sps[..20], 2)), None);
        for stream in
            [&[][..], &[0, 0, 1], &[0, 0, 1, 0x42, 1], &[0, 0, 1, 0x40, 1, 1, 0, 0, 1, 0x42, 1, 1, 0, 0, 1, 0x44, 1, 1]]
        {
            assert_eq!(ParameterSets::find(stream), None);
        }
    }
}
