//! What a key unit says of the stream, whatever the codec: its parameter sets, and what is told of them.

use bytes::Bytes;

use super::encode::Codec;
use super::{av1, h264, hevc};

/// Parameter sets of a key unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sets {
    H264(h264::ParameterSets),
    Hevc(hevc::ParameterSets),
    Av1(av1::Sequence),
}

/// What a picture's numbers mean: code points of ITU-T H.273, as the parameter sets have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    pub primaries: u8,
    pub transfer: u8,
    pub matrix: u8,
    pub full_range: bool,
}

impl Sets {
    /// Those of a unit, as its encoder gave it.
    pub fn find(codec: Codec, unit: &[u8]) -> Option<Sets> {
        match codec {
            Codec::H264 => h264::ParameterSets::find(unit).map(Sets::H264),
            Codec::Hevc => hevc::ParameterSets::find(unit).map(Sets::Hevc),
            Codec::Av1 => av1::Sequence::find(unit).map(Sets::Av1),
            Codec::Jpeg => None,
        }
    }

    /// As `VideoDecoder`, `MediaSource` and MP4's readers take it.
    pub fn codec_string(&self) -> String {
        match self {
            Sets::H264(sets) => sets.codec_string(),
            Sets::Hevc(sets) => sets.codec_string(),
            Sets::Av1(sequence) => sequence.codec_string(),
        }
    }

    /// `None` where the stream does not say.
    pub fn colour(&self) -> Option<Colour> {
        match self {
            Sets::H264(sets) => sets.colour(),
            Sets::Hevc(sets) => sets.info.colour,
            Sets::Av1(sequence) => sequence.colour,
        }
    }
}

/// Whether decoding can begin with a unit.
pub fn is_key(codec: Codec, unit: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264::nals(unit).any(|nal| nal[0] & 31 == h264::IDR),
        Codec::Hevc => h264::nals(unit).any(|nal| hevc::is_key(hevc::kind(nal))),
        Codec::Av1 => av1::is_key(unit),
        Codec::Jpeg => true,
    }
}

/// A unit as an MP4 sample: what stands in the file's header is left out.
pub fn to_sample(codec: Codec, unit: &[u8]) -> Bytes {
    match codec {
        Codec::H264 => h264::to_avcc(unit),
        Codec::Hevc => hevc::to_hvcc(unit),
        Codec::Av1 => av1::to_sample(unit),
        Codec::Jpeg => Bytes::copy_from_slice(unit),
    }
}
