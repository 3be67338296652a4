//! The one monotonic clock, and a pacer that reads no clock itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds on the system's monotonic clock (CLOCK_MONOTONIC): the same for all processes of this boot.
pub fn now_us() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000
}

/// Nanoseconds on the same clock.
pub fn now_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Wall-clock milliseconds since 1970.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// The time now as RFC 3339 in UTC, to the millisecond.
pub fn rfc3339_now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// What RFC 3339 text says, with whatever offset from UTC; none where it is no such text.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let Some(at) = text.rfind(['+', '-']).filter(|&at| text[..at].contains('T')) else {
        return humantime::parse_rfc3339_weak(text).ok();
    };
    let (hours, minutes) = text[at + 1..].split_once(':')?;
    let seconds = hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60;
    let local = humantime::parse_rfc3339_weak(&text[..at]).ok()?;
    let offset = Duration::from_secs(seconds);
    if text.as_bytes()[at] == b'+' { local.checked_sub(offset) } else { local.checked_add(offset) }
}

/// Deadlines at a fixed rate that do not drift: each is counted from the first, not from the last.
#[derive(Clone, Debug)]
pub struct Pacer {
    start_us: u64,
    tick: u64,
    fps: f64,
}

impl Pacer {
    pub fn new(now_us: u64, fps: f64) -> Pacer {
        Pacer { start_us: now_us, tick: 0, fps }
    }

    /// When the next frame is due, µs. Never behind `now_us` by more than one period: missed ticks are skipped, not made up.
    pub fn next(&mut self, now_us: u64) -> u64 {
        let period = 1e6 / self.fps;
        let passed = (now_us.saturating_sub(self.start_us) as f64 / period) as u64;
        self.tick = (self.tick + 1).max(passed);
        self.start_us + (self.tick as f64 * period).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_from_utc_is_taken_off() {
        let utc = parse_rfc3339("2026-11-21T08:00:00.5Z");
        assert!(utc.is_some());
        for same in ["2026-11-21T10:00:00.5+02:00", "2026-11-21T02:30:00.5-05:30", "2026-11-21T08:00:00.500000000Z"] {
            assert_eq!(parse_rfc3339(same), utc, "{same}");
        }
        for wrong in ["", "2026-11-21", "2026-11-21T08:00:00+", "2026-11-21T08:00:00+2", "yesterday-T+01:00"] {
            assert_eq!(parse_rfc3339(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn deadlines_do_not_drift_and_skip_what_is_missed() {
        let mut pacer = Pacer::new(1_000_000, 30.0);
        let mut now = 1_000_000;
        for n in 1..=3000 {
            let due = pacer.next(now);
            assert_eq!(due, 1_000_000 + (n as f64 * 1e6 / 30.0).round() as u64);
            now = due + 700;
        }
        let late = now + 10_000_000;
        let due = pacer.next(late);
        assert!(due <= late && late - due < 33_334, "one frame is drawn at once");
        assert!(pacer.next(late) > late, "and the missed ones are not");
    }
}
