//! What a slot file says of its holder: one block of fixed length, written by one call, with a checksum.

use serde::{Deserialize, Serialize};

/// The length of the block in bytes, whatever it holds.
pub const BLOCK: usize = 1024;

const MAGIC: &str = "gsk-lease 1";

/// The longest text that a field keeps, in bytes; what is longer is cut.
const FIELD: usize = 120;

/// The holder of an encoder slot, in its own words: any user of the machine could have written them, so that they name
/// a holder for people and prove nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub pid: u32,
    /// When that process started, clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start: u64,
    /// Inode number of the pid namespace that `pid` counts in.
    pub pid_namespace: u64,
    pub instance_id: String,
    /// The program that was started with the slot; null for a worker's own encoder.
    pub label: Option<String>,
    pub source: Option<String>,
    pub codec: Option<String>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    /// RFC 3339.
    pub since: String,
}

impl Record {
    /// The block to write: a head line with the checksum (CRC-32, ISO-HDLC) and length of the JSON behind it, then spaces.
    pub fn block(&self) -> [u8; BLOCK] {
        let json = self.json();
        let head = format!("{MAGIC} {:08x} {:04}\n", crc32fast::hash(&json), json.len());
        let mut block = [b' '; BLOCK];
        block[..head.len()].copy_from_slice(head.as_bytes());
        block[head.len()..head.len() + json.len()].copy_from_slice(&json);
        block[BLOCK - 1] = b'\n';
        block
    }

    /// The block of a slot that nobody holds.
    pub fn none() -> [u8; BLOCK] {
        let mut block = [b' '; BLOCK];
        block[BLOCK - 1] = b'\n';
        block
    }

    /// The record in a block; `None` where there is none, or not a whole one.
    pub fn parse(block: &[u8]) -> Option<Record> {
        let block: &[u8; BLOCK] = block.try_into().ok()?;
        let end = block.iter().position(|&b| b == b'\n')?;
        let head = std::str::from_utf8(&block[..end]).ok()?.strip_prefix(MAGIC)?;
        let (sum, len) = head.trim_start().split_once(' ')?;
        let json = block[end + 1..].get(..len.parse().ok()?)?;
        let sum = u32::from_str_radix(sum, 16).ok()?;
        if crc32fast::hash(json) != sum { None } else { serde_json::from_slice(json).ok() }
    }

    /// As JSON that fits into the block: the texts that people choose are cut.
    fn json(&self) -> Vec<u8> {
        let mut record = self.clone();
        let texts =
            [Some(&mut record.instance_id), record.label.as_mut(), record.source.as_mut(), record.codec.as_mut()];
        for text in texts.into_iter().flatten() {
            cut(text);
        }
        serde_json::to_vec(&record).expect("plain data")
    }
}

/// Cuts to [`FIELD`] bytes as JSON writes them: a control character takes six.
fn cut(text: &mut String) {
    let mut left = FIELD;
    let end = text.char_indices().find_map(|(at, c)| {
        let bytes = if c.is_control() { 6 } else { c.len_utf8() + usize::from(matches!(c, '"' | '\\')) };
        let fits = left.checked_sub(bytes);
        left = fits.unwrap_or(0);
        fits.is_none().then_some(at)
    });
    text.truncate(end.unwrap_or(text.len()));
}

/// How many sessions a machine was seen to bear, by opening them until one was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The driver's version: another may bear more or fewer.
    pub driver: String,
    /// UUIDs of the GPUs that there were.
    pub boards: Vec<String>,
    /// All that were open when the next was refused, those of other programs included.
    pub sessions: u32,
    /// How the driver refused the next; null where it did not, and the trial was broken off.
    pub refusal: Option<String>,
    /// RFC 3339.
    pub at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            pid: 4_194_303,
            start: u64::MAX,
            pid_namespace: 4_026_531_836,
            instance_id: "omega-0".into(),
            label: Some("ffmpeg".into()),
            source: Some("film.y4m".into()),
            codec: Some("h264".into()),
            width: Some(1280),
            height: Some(720),
            since: "2026-11-21T09:00:00.000Z".into(),
        }
    }

    #[test]
    fn a_record_comes_back() {
        assert_eq!(Record::parse(&record().block()), Some(record()));
        assert_eq!(Record::parse(&Record::none()), None);
        assert_eq!(Record::parse(b""), None);
        assert_eq!(Record::parse(&[0; BLOCK]), None);
    }

    #[test]
    fn half_a_record_is_none() {
        let (old, new) = (record().block(), Record { instance_id: "omega-1".into(), ..record() }.block());
        let differ = (0..BLOCK).filter(|&at| old[at] != new[at]).collect::<Vec<_>>();
        for cut in 1..BLOCK {
            let torn = [&new[..cut], &old[cut..]].concat();
            let mixed = differ.iter().any(|&at| at < cut) && differ.iter().any(|&at| at >= cut);
            assert_eq!(Record::parse(&torn).is_none(), mixed, "torn at {cut}");
        }
    }

    #[test]
    fn the_longest_words_fit() {
        let nasty = |c: char| Some(c.to_string().repeat(5000));
        for c in ['x', '"', '\u{1}', '\u{7f}', 'ü', '\u{1f600}', '\u{85}'] {
            let record = Record {
                instance_id: nasty(c).unwrap(),
                label: nasty(c),
                source: nasty(c),
                codec: nasty(c),
                ..record()
            };
            let back = Record::parse(&record.block()).unwrap();
            assert!(!back.instance_id.is_empty() && back.instance_id.len() <= FIELD, "{c:?}");
        }
    }
}
