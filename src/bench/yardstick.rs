//! The same work again and again, to tell the machine's pace from gsk's: neighbours on the same cores and memory slow it as
//! they slow an encoder.

use std::hint::black_box;

use super::quality::Quality;
use super::stats::{Random, Summary};
use crate::clock::now_us;
use crate::pipeline::frame::Size;

/// Of the pictures that are compared: some 2 MB in all, and some ms.
const SIZE: Size = super::SIZES[0].1;

pub struct Yardstick {
    a: Vec<u8>,
    b: Vec<u8>,
}

impl Yardstick {
    pub fn new() -> Yardstick {
        let mut random = Random::default();
        let mut plane = || (0..SIZE.pixels()).map(|_| random.number() as u8).collect();
        Yardstick { a: plane(), b: plane() }
    }

    /// How long comparing two pictures takes, µs.
    pub fn once(&self) -> u64 {
        let began = now_us();
        let mut quality = Quality::default();
        quality.add(black_box(&self.a), black_box(&self.b), SIZE.width as usize);
        black_box(quality.ssim());
        now_us() - began
    }

    /// The median of three, for one round.
    pub fn round(&self) -> u64 {
        let mut three = [self.once(), self.once(), self.once()];
        three.sort_unstable();
        three[1]
    }

    /// Of twenty.
    pub fn calibrate(&self) -> Summary {
        Summary::of(&(0..20).map(|_| self.once()).collect::<Vec<_>>()).unwrap_or_default()
    }
}
