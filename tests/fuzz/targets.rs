//! What reads bytes from outside: of streams and files that are shown, of viewers and workers elsewhere, and of what other
//! processes of this machine left.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use super::try_all;
use crate::cli::serve::ServeArgs;
use crate::client::Status;
use crate::client::view::unit::{Cut, Mp4, Multipart, Unit, jpeg_size};
use crate::config::{Known, Layers, resolve};
use crate::container::compose;
use crate::pipeline::decode::{Config, reference};
use crate::pipeline::encode::Codec;
use crate::pipeline::frame::{Pool, Size};
use crate::pipeline::sets::{Sets, is_key, to_sample};
use crate::pipeline::source::y4m;
use crate::profile::summary::Reports;
use crate::wire::lease::Record;
use crate::wire::message::{Client, HEADER, Header, Told};

/// The first line of what is played, and those before its pictures.
#[test]
fn y4m() {
    try_all("y4m", |bytes| {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let _ = y4m::begins_frame(line);
            if let Ok(header) = y4m::Header::parse(line.trim_ascii_end()) {
                assert!(header.size.check().is_ok() && (0.1..=1000.0).contains(&header.fps), "{header:?}");
            }
        }
    });
}

/// Binary messages of `/ws`, as `gsk view` takes them.
#[test]
fn messages() {
    try_all("messages", |bytes| {
        let Some((header, unit)) = Header::parse(bytes) else { return };
        let mut again = vec![0; HEADER];
        header.write(&mut again);
        again.extend_from_slice(unit);
        assert_eq!(Header::parse(&again), Some((header, unit)));
        assert_eq!(Unit::parse(Bytes::copy_from_slice(bytes), 0).unwrap().data(), unit);
    });
}

/// What viewers say, and what workers do, as text.
#[test]
fn texts() {
    try_all("texts", |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let _ = serde_json::from_str::<Told>(text);
        if let Ok(said) = serde_json::from_str::<Client>(text) {
            let again = serde_json::to_string(&said).unwrap();
            assert!(serde_json::from_str::<Client>(&again).is_ok(), "{said:?}");
        }
    });
}

/// What `nsys stats` prints, taken as each of the reports that are read.
#[test]
fn nsys() {
    try_all("nsys", |bytes| {
        let mut reports = Reports::default();
        let _ = (reports.sum(bytes), reports.trace(bytes), reports.projected(bytes));
        let rows = reports.rows();
        assert!(rows.iter().all(|row| row.range.len() <= bytes.len()), "{rows:?}");
    });
}

/// A Compose file that names the streamer.
#[test]
fn compose() {
    try_all("compose", |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let variables = |name: &str| (name == "HOME").then(|| "/home/you".into());
        let _ = compose::parse(Path::new("compose.yml"), text, Path::new("/srv/lab"), &variables);
    });
}

/// Everything that is read of a unit on its way to viewers.
fn unit(codec: Codec, bytes: &[u8]) {
    let _ = is_key(codec, bytes);
    if let Some(sets) = Sets::find(codec, bytes) {
        assert!(sets.codec_string().is_ascii());
        let _ = sets.colour();
    }
    let sample = to_sample(codec, bytes);
    // A length takes at most a byte more than a start code, and a byte must be in between.
    assert!(sample.len() <= 2 * bytes.len(), "{} of {}", sample.len(), bytes.len());
}

#[test]
fn h264() {
    try_all("h264", |bytes| unit(Codec::H264, bytes));
}

#[test]
fn hevc() {
    try_all("hevc", |bytes| unit(Codec::Hevc, bytes));
}

#[test]
fn av1() {
    try_all("av1", |bytes| unit(Codec::Av1, bytes));
}

/// In one piece and in many, what is cut out is the same.
fn cut<C: Cut + Default>(bytes: &[u8]) {
    let mut whole = Vec::new();
    let fine = C::default().feed(bytes, &mut whole).is_ok();
    let (mut cutter, mut pieces) = (C::default(), Vec::new());
    let fine_too = bytes.chunks(37).all(|piece| cutter.feed(piece, &mut pieces).is_ok());
    let told = |units: &[Unit]| -> Vec<_> {
        units.iter().map(|unit| (unit.header, unit.size, unit.data().to_vec())).collect()
    };
    assert_eq!((fine, told(&whole)), (fine_too, told(&pieces)));
}

#[test]
fn mp4() {
    try_all("mp4", cut::<Mp4>);
}

#[test]
fn multipart() {
    try_all("multipart", cut::<Multipart>);
}

/// Of the pictures of the corpus.
const SIZE: Size = Size::new(64, 48);

/// What decoders are given, which are written in C and C++: a key unit and what follows it.
fn decode(codec: Codec, bytes: &[u8]) {
    let mut decoder = reference(&Config { codec, size: SIZE, fps: 30.0, gpu: None }).unwrap();
    for _ in 0..2 {
        if let Ok(frame) = decoder.decode(bytes, &Pool::default()) {
            assert_eq!(frame.size, SIZE);
        }
    }
}

/// What is kept begins with pictures of that size: else the targets below would try nothing.
fn decodes(name: &str, codec: Codec) {
    let keys: Vec<Vec<u8>> = super::corpus(name).into_iter().filter(|unit| is_key(codec, unit)).collect();
    assert!(!keys.is_empty());
    for key in keys {
        let mut decoder = reference(&Config { codec, size: SIZE, fps: 30.0, gpu: None }).unwrap();
        assert_eq!(decoder.decode(&key, &Pool::default()).unwrap().size, SIZE);
    }
}

#[test]
fn h264_pictures() {
    decodes("h264", Codec::H264);
    try_all("h264", |bytes| decode(Codec::H264, bytes));
}

#[test]
fn jpeg_pictures() {
    decodes("jpeg", Codec::Jpeg);
    try_all("jpeg", |bytes| {
        let _ = jpeg_size(bytes);
        decode(Codec::Jpeg, bytes);
    });
}

/// Slots' records: as they lie there, and with a checksum that is right for what they became.
#[test]
fn leases() {
    try_all("leases", |bytes| {
        let read = |block: &[u8]| {
            if let Some(record) = Record::parse(block) {
                assert!(Record::parse(&record.block()).is_some(), "{record:?}");
            }
        };
        read(bytes);
        let Some(start) = bytes.iter().position(|byte| *byte == b'\n') else { return };
        let json = bytes[start + 1..].trim_ascii_end();
        let mut block = Record::none();
        let head = format!("gsk-lease 1 {:08x} {:04}\n", crc32fast::hash(json), json.len());
        let Some(room) = block.get_mut(head.len()..head.len() + json.len()) else { return };
        room.copy_from_slice(json);
        block[..head.len()].copy_from_slice(head.as_bytes());
        read(&block);
    });
}

/// A worker's `/status`.
#[test]
fn statuses() {
    try_all("statuses", |bytes| {
        if let Ok(status) = Status::parse(bytes) {
            serde_json::to_string(&status).unwrap();
        }
    });
}

/// A `gsk.yaml`, with the settings of `gsk serve`.
#[test]
fn settings() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fuzzed.yaml");
    let known = Known::default().with::<ServeArgs>().unwrap();
    try_all("settings", |bytes| {
        std::fs::write(&file, bytes).unwrap();
        if let Ok(layers) = Layers::from(BTreeMap::new(), folder.path(), Some(&file), known.clone()) {
            let _ = resolve(&ServeArgs::default(), &layers);
        }
    });
}
