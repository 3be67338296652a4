//! The level that the driver wrote into the parameter sets, as its own settings number it. Pure.

use crate::gpu::support::Codec;

/// Ten times the number in H.264 (`level_idc`, 7.3.2.1.1), thirty times in HEVC (`general_level_idc`, H.265, 7.3.3), and
/// `seq_level_idx` in AV1 (5.5.1). `None` where it is not found.
pub(super) fn level(codec: Codec, sets: &[u8]) -> Option<u32> {
    match codec {
        Codec::H264 => {
            // Start code, NAL unit header with type 7, profile_idc, constraint flags, level_idc.
            let sps = sets.windows(7).find(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] & 31 == 7)?;
            Some(sps[6].into())
        }
        Codec::Hevc => {
            // Start code, NAL unit header with type 33, a byte, then the profile, tier and level: the twelfth byte of it.
            let at = sets.windows(4).position(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] >> 1 == 33)?;
            unescaped(&sets[at + 5..]).nth(12).map(u32::from)
        }
        Codec::Av1 => av1(sets),
    }
}

/// Without emulation_prevention_three_byte (H.265, 7.3.1.1).
fn unescaped(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let mut zeros = 0;
    bytes.iter().copied().filter(move |&byte| {
        let prevents = zeros >= 2 && byte == 3;
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        !prevents
    })
}

/// The first operating point's, of a sequence header without timing information.
fn av1(mut obus: &[u8]) -> Option<u32> {
    loop {
        // obu_type, obu_extension_flag, obu_has_size_field (5.3.2); then the size, of one byte in a header as short as this.
        let (&[head, size], rest) = obus.split_first_chunk::<2>()?;
        if head & 0b110 != 0b010 || size > 127 {
            return None;
        }
        let payload = rest.get(..size.into())?;
        if head >> 3 == 1 {
            // seq_profile, still_picture, reduced_still_picture_header, timing_info_present_flag: five bits and one, then a
            // flag, the number of operating points (5) and the first one's layers (12).
            let plain = payload.first()? & 0b1100 == 0;
            return payload.get(3).filter(|_| plain).map(|byte| u32::from(byte >> 3));
        }
        obus = &rest[size.into()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_found_where_they_stand() {
        assert_eq!(level(Codec::H264, &[0, 0, 0, 1, 0x67, 100, 0, 42, 9]), Some(42));
        // A main profile's flags are zeros, among which emulation is prevented.
        let hevc = [0, 0, 0, 1, 0x42, 1, 1, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 93, 0xA0];
        assert_eq!(level(Codec::Hevc, &hevc), Some(93));
        // As libaom writes it behind a temporal delimiter.
        let av1 = [0x12, 0, 0x0a, 0x0e, 0, 0, 0, 0x0c, 0xc5, 3, 0x69, 0x36, 0xbe, 0x44, 4, 4, 4, 0x10];
        assert_eq!((level(Codec::Av1, &av1), level(Codec::Av1, &av1[2..])), (Some(1), Some(1)));
        for codec in [Codec::H264, Codec::Hevc, Codec::Av1] {
            for bytes in [&[][..], &[0, 0, 1], &[0x0a], &[0x0a, 0x0e, 0, 0], &[0, 0, 1, 0x42, 1]] {
                assert_eq!(level(codec, bytes), None, "{codec:?} {bytes:?}");
            }
        }
    }
}
