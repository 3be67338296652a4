//! When to encode: fresh pictures at once, unchanged ones only to keep a stream alive, IDRs on demand but not too
//! often. Pure: the time is an argument.

/// What the encoder's thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Encode {
        idr: bool,
    },
    /// Nothing until then (µs), or until something happens.
    Wait(Option<u64>),
}

#[derive(Clone, Debug, Default)]
pub struct Cadence {
    idr_asked: bool,
    last_idr_us: Option<u64>,
    last_unit_us: Option<u64>,
}

impl Cadence {
    /// IDRs on demand are at least this far apart, µs: joiners in between share the next one.
    pub const IDR_GAP_US: u64 = 200_000;
    /// A picture that stands still is encoded again this often, µs.
    pub const KEEPALIVE_US: u64 = 2_000_000;

    pub fn ask_idr(&mut self) {
        self.idr_asked = true;
    }

    /// `changed`: a picture waits that differs from the last encoded one. `have`: there is any picture to encode.
    pub fn next(&self, now_us: u64, changed: bool, have: bool) -> Step {
        if !have {
            return Step::Wait(None);
        }
        let idr_at = self.last_idr_us.map_or(now_us, |at| at + Cadence::IDR_GAP_US);
        let idr = self.last_idr_us.is_none() || (self.idr_asked && now_us >= idr_at);
        let keep_at = self.last_unit_us.map_or(now_us, |at| at + Cadence::KEEPALIVE_US);
        if changed || idr || now_us >= keep_at {
            return Step::Encode { idr };
        }
        Step::Wait(Some(if self.idr_asked { keep_at.min(idr_at) } else { keep_at }))
    }

    /// A unit was made.
    pub fn encoded(&mut self, now_us: u64, key: bool) {
        self.last_unit_us = Some(now_us);
        if key {
            self.last_idr_us = Some(now_us);
            self.idr_asked = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCODE: Step = Step::Encode { idr: false };
    const IDR: Step = Step::Encode { idr: true };

    #[test]
    fn the_first_unit_is_an_idr_and_the_rest_only_on_demand() {
        let mut cadence = Cadence::default();
        assert_eq!(cadence.next(0, false, false), Step::Wait(None));
        assert_eq!(cadence.next(0, true, true), IDR);
        cadence.encoded(0, true);
        for frame in 1..10_000 {
            assert_eq!(cadence.next(frame * 33_333, true, true), ENCODE);
            cadence.encoded(frame * 33_333, false);
        }
    }

    #[test]
    fn a_joiner_gets_an_idr_at_once_from_a_picture_that_stands_still() {
        let mut cadence = Cadence::default();
        cadence.encoded(0, true);
        cadence.ask_idr();
        assert_eq!(cadence.next(1_000_000, false, true), IDR);
    }

    #[test]
    fn a_storm_of_asks_is_one_idr_each_gap() {
        let (mut cadence, mut idrs) = (Cadence::default(), 0);
        for ms in 0..1000 {
            cadence.ask_idr();
            let now = ms * 1000;
            if let Step::Encode { idr } = cadence.next(now, ms % 33 == 0, true) {
                idrs += u32::from(idr);
                cadence.encoded(now, idr);
            }
        }
        assert_eq!(idrs, 5);
    }

    #[test]
    fn a_still_picture_is_kept_alive() {
        let mut cadence = Cadence::default();
        cadence.encoded(0, true);
        assert_eq!(cadence.next(1, false, true), Step::Wait(Some(Cadence::KEEPALIVE_US)));
        assert_eq!(cadence.next(Cadence::KEEPALIVE_US, false, true), ENCODE);
        cadence.ask_idr();
        assert_eq!(cadence.next(1, false, true), Step::Wait(Some(Cadence::IDR_GAP_US)));
    }
}
