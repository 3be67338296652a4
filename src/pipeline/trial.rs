//! What JPEG would come to, of the picture that H.264's viewers see now.

use std::sync::mpsc;

use super::Pipeline;
use super::encode::{self, Codec, Failure, Past};
use super::lane::Trial;
use super::rate::{FLOOR, Quality};
use crate::error::Error;

impl Pipeline {
    /// Encodes the newest picture of H.264's stream by the back end that JPEG's would have, at the coarsest quality, and gives
    /// the pixels of it too. Takes the time of two pictures, and of opening a back end.
    pub fn try_jpeg(&self) -> Result<(Trial, usize), Failure> {
        let shared = &self.shared;
        let newest = self.stream(Codec::H264).newest();
        let frame = newest.ok_or_else(|| Error::failed("there is no picture to try JPEG with"))?;
        let pixels = frame.size.pixels();
        let config = encode::Config { quality: Quality::Fixed(FLOOR), ..shared.encode_config(Codec::Jpeg, &frame) };
        let (sender, units) = mpsc::channel();
        let output = || -> encode::Output {
            let sender = sender.clone();
            Box::new(move |unit| drop(sender.send(unit)))
        };
        let (mut encoder, _) = encode::open(shared.choice, &config, &shared.slots, Past::default(), output)?;
        // The first one warms caches and pays for what is made once.
        encoder.submit(frame.clone(), true)?;
        encoder.submit(frame, true)?;
        drop((encoder, sender));
        let last = units.iter().last().ok_or_else(|| Error::bug("no JPEG came of a picture"))??;
        let bytes = last.data.len() - crate::wire::message::HEADER;
        Ok((Trial { bytes, cost_us: last.encoded_us.saturating_sub(last.started_us) }, pixels))
    }
}
