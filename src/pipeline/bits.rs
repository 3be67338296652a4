//! The bits of parameter sets: fixed fields, and Exp-Golomb codes (H.264, 9.1; H.265, 9.2).

/// A reader whose answers are `None` from where the bits end.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, at: 0 }
    }

    /// An unsigned number of `width` bits, 32 at most.
    pub fn u(&mut self, width: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..width {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    pub fn flag(&mut self) -> Option<bool> {
        Some(self.u(1)? == 1)
    }

    pub fn skip(&mut self, bits: usize) -> Option<()> {
        self.at += bits;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// ue(v).
    pub fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        (zeros < 32).then_some(())?;
        Some(((1u64 << zeros) - 1) as u32 + self.u(zeros)?)
    }

    /// se(v).
    pub fn se(&mut self) -> Option<i32> {
        let code = i64::from(self.ue()?);
        Some((if code % 2 == 1 { code / 2 + 1 } else { -code / 2 }) as i32)
    }
}

/// A NAL unit's payload: without its header of so many bytes and without emulation_prevention_three_byte.
pub(super) fn payload(nal: &[u8], header: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for &byte in nal.get(header..).unwrap_or_default() {
        let prevents = zeros >= 2 && byte == 3;
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        if !prevents {
            out.push(byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_until_the_bits_end() {
        // 1, 010, 011, 00100, 00101: 0, 1, 2, 3, 4.
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut bits = Bits::new(&bytes);
        assert_eq!(
            [bits.ue(), bits.ue(), bits.ue(), bits.ue(), bits.ue()],
            [Some(0), Some(1), Some(2), Some(3), Some(4)]
        );
        assert_eq!(bits.ue(), None);
        let mut bits = Bits::new(&bytes);
        assert_eq!(
            [bits.se(), bits.se(), bits.se(), bits.se(), bits.se()],
            [Some(0), Some(1), Some(-1), Some(2), Some(-2)]
        );
        assert_eq!((bits.skip(7), bits.flag()), (Some(()), None));
        assert_eq!(Bits::new(&[0; 16]).ue(), None);
        assert_eq!(payload(&[0x42, 1, 0, 0, 3, 0, 0, 3, 1, 3], 2), [0, 0, 0, 0, 1, 3]);
        assert!(payload(&[0x42], 2).is_empty());
    }
}
