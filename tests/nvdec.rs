//! NVDEC, over the stand-in driver, whose decoder reads what its encoder writes: what goes in as pictures comes out as pictures.

use std::fs;
use std::path::Path;
use std::process::Command;

use gsk::error::{Error, Kind};
use gsk::gpu::nvdec;
use gsk::gpu::support::Codec as Video;
use gsk::pipeline::decode::{self, TABLE};
use gsk::pipeline::encode::{Codec, Config};
use gsk::pipeline::frame::{Frame, PixelFormat, Pool, Range, Size};
use gsk::wire::message::HEADER;

use crate::host::{config, host, host_with, inside, open_as};
use crate::standin::{Board, Scene, Video as Able};

mod host;
mod standin;

/// Neither side is a multiple of a block's.
const SIZE: Size = Size::new(322, 182);
const SMALLER: Size = Size::new(160, 144);

/// Noise, of which each picture changes another part.
fn picture(n: u64, size: Size) -> Frame {
    let mut pixels = Pool::default().take(PixelFormat::Nv12.bytes(size));
    let mut state = 1u32;
    for (at, pixel) in pixels.iter_mut().enumerate() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let moves = at as u64 / 4000 % 5 == n % 5;
        *pixel = (state >> 24) as u8 ^ if moves { n as u8 } else { 0 };
    }
    let captured_us = (1000 * n + 1, 1000 * n + 2);
    Frame {
        sequence: n,
        size,
        format: PixelFormat::Nv12,
        range: Range::Limited,
        captured_us,
        view: 0,
        pixels: pixels.into(),
    }
}

/// What NVENC writes of pictures whose sizes these are.
fn written(dir: &Path, codec: Codec, sizes: &[Size]) -> Vec<Vec<u8>> {
    let mut settings = Config { codec, ..config(sizes[0]) };
    let (mut encoder, out) = open_as(dir, &settings);
    for (n, &size) in sizes.iter().enumerate() {
        let changed = size != settings.size;
        if changed {
            settings.size = size;
            encoder.reconfigure(&settings).unwrap();
        }
        encoder.submit(picture(n as u64, size), n == 0 || changed).unwrap();
    }
    drop(encoder);
    out.units().into_iter().map(|unit| unit.data[HEADER..].to_vec()).collect()
}

/// Decodes units, and compares each picture with what it was made of.
fn compare(codec: Video, units: &[Vec<u8>], sizes: &[Size]) {
    let mut decoder = nvdec::open(codec, None).unwrap();
    assert_eq!(units.len(), sizes.len());
    for (n, (unit, &size)) in units.iter().zip(sizes).enumerate() {
        let picture_seen = decoder.decode(unit).unwrap();
        assert_eq!(picture_seen.size(), (size.width, size.height), "{codec:?} {n}");
        let mut seen = vec![0; picture_seen.bytes()];
        picture_seen.download(&mut seen).unwrap();
        let fed = picture(n as u64, size);
        let same = fed.host().unwrap() == seen;
        assert!(same, "{codec:?}: picture {n} is another");
    }
}

#[test]
fn pictures_that_go_in_come_out() {
    let name = "pictures_that_go_in_come_out";
    let Some(dir) = inside() else {
        let scene = Scene::rtx();
        host(&scene, name);
        let opened: Vec<_> = scene.events("nvdec-open").iter().map(|event| event.get("size").to_owned()).collect();
        // One of each size; sizes are those of whole blocks, but of AV1.
        assert_eq!(opened, ["336x192", "160x144", "336x192", "336x192", "160x144", "322x182", "160x144"]);
        assert_eq!(scene.events("nvdec-close").len(), opened.len());
        let pictures: i64 = scene.events("nvdec-close").iter().map(|event| event.number("pictures")).sum();
        assert_eq!((pictures, scene.events("nvdec-unread")), (300 + 60 + 16, vec![]));
        return;
    };
    let sizes = |count: usize| -> Vec<Size> {
        (0..count).map(|n| if (count / 2..count * 3 / 4).contains(&n) { SMALLER } else { SIZE }).collect()
    };
    let all = sizes(300);
    compare(Video::H264, &written(&dir, Codec::H264, &all), &all);
    for (codec, video, count) in [(Codec::Hevc, Video::Hevc, 60), (Codec::Av1, Video::Av1, 16)] {
        let some: Vec<Size> = (0..count).map(|n| if n < count / 2 { SIZE } else { SMALLER }).collect();
        compare(video, &written(&dir, codec, &some), &some);
    }
}

/// As `gsk bench` has it: frames in host memory, whose times are those of decoding.
#[test]
fn the_pipelines_decoder_gives_frames() {
    let Some(dir) = inside() else { return drop(host(&Scene::rtx(), "the_pipelines_decoder_gives_frames")) };
    let units = written(&dir, Codec::H264, &[SIZE; 6]);
    let backend = TABLE.iter().find(|row| row.name == "nvdec" && row.codec == Codec::H264).unwrap();
    assert!(backend.hardware);
    let open = |size| backend.open(&decode::Config { codec: Codec::H264, size, fps: 30.0, gpu: None }).unwrap();
    let (mut decoder, pool, mut ended_us) = (open(SIZE), Pool::default(), 0);
    for (n, unit) in units.iter().enumerate() {
        let frame = decoder.decode(unit, &pool).unwrap();
        assert_eq!((frame.sequence, frame.format, frame.range), (n as u64, PixelFormat::Nv12, Range::Limited));
        assert!(ended_us <= frame.captured_us.0 && frame.captured_us.0 <= frame.captured_us.1);
        ended_us = frame.captured_us.1;
        assert!(frame.host().unwrap() == picture(n as u64, SIZE).host().unwrap(), "picture {n}");
    }
    let error = open(SMALLER).decode(&units[0], &pool).unwrap_err();
    assert_eq!(error.cause.as_deref(), Some("it is 322x182, and 160x144 was expected"));
    // JPEG is not its.
    assert!(TABLE.iter().all(|row| row.name != "nvdec" || row.codec != Codec::Jpeg));
}

#[test]
fn what_has_no_picture_is_an_error_and_not_the_end() {
    let name = "what_has_no_picture_is_an_error_and_not_the_end";
    let Some(dir) = inside() else { return drop(host(&Scene::rtx(), name)) };
    let units = written(&dir, Codec::H264, &[SIZE; 3]);
    let mut decoder = nvdec::open(Video::H264, None).unwrap();
    let none = |error: Error| {
        assert_eq!((error.kind, error.what.as_str()), (Kind::Failed, "NVDEC gave no picture"), "{error:?}");
    };
    // Junk, nothing, and what comes before the parameters.
    for unit in [&b"junk"[..], b"", &[0, 0, 1], &units[1]] {
        none(decoder.decode(unit).map(drop).unwrap_err());
    }
    assert_eq!(decoder.decode(&units[0]).unwrap().size(), (322, 182));
    none(decoder.decode(b"junk").map(drop).unwrap_err());
    let picture_seen = decoder.decode(&units[1]).unwrap();
    let error = picture_seen.download(&mut [0; 7]).unwrap_err();
    assert_eq!(error.kind, Kind::Bug);
}

/// What the board, or gsk, does not decode.
#[test]
fn what_is_not_decoded_is_said() {
    let name = "what_is_not_decoded_is_said";
    let Some(dir) = inside() else {
        let board = || Board::rtx().decodes(&[Able::H264]).decode_most(320, 320);
        host(&Scene::of(board()), name);
        return;
    };
    let refused = |error: Error, kind: Kind, cause: &str, hint: &str| {
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.cause.as_ref().unwrap().contains(cause), "{error:?}");
        assert!(error.hint.as_ref().unwrap().contains(hint), "{error:?}");
    };
    let elsewhere = "decode on the CPU";
    let hevc = nvdec::open(Video::Hevc, None).map(drop).unwrap_err();
    refused(hevc, Kind::Missing, "NVIDIA RTX 6000 Ada Generation does not decode HEVC", elsewhere);
    let units = written(&dir, Codec::H264, &[SIZE; 2]);
    let mut decoder = nvdec::open(Video::H264, None).unwrap();
    let large = decoder.decode(&units[0]).map(drop).unwrap_err();
    refused(large, Kind::Missing, "decodes H.264 of 48x16 to 320x320, and this is 336x192", elsewhere);
    // It did not begin: neither does what follows.
    assert_eq!(decoder.decode(&units[1]).map(drop).unwrap_err().kind, Kind::Failed);
    if let Some(deep) = ten_bits(&dir) {
        let mut decoder = nvdec::open(Video::H264, None).unwrap();
        let deep = decoder.decode(&deep).map(drop).unwrap_err();
        refused(deep, Kind::Missing, "the stream has 10 bits of 4:2:0, and gsk takes 8 bits of 4:2:0", elsewhere);
    }
}

/// A picture by x264, if FFmpeg has it.
fn ten_bits(dir: &Path) -> Option<Vec<u8>> {
    let path = dir.join("deep.h264");
    let source = "testsrc=size=160x144:rate=1:duration=1";
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p10le", "-c:v", "libx264"]).arg(&path);
    if !command.status().is_ok_and(|status| status.success()) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "FFmpeg cannot write H.264 of 10 bits");
        println!("skipped: FFmpeg cannot write H.264 of 10 bits");
        return None;
    }
    Some(fs::read(path).unwrap())
}

/// Hosts without what it stands on: what is missing, and what to do.
#[test]
fn hosts_that_lack_something() {
    let name = "hosts_that_lack_something";
    let Some(_) = inside() else {
        let changed = |change: &dyn Fn(&mut Scene)| {
            let mut scene = Scene::rtx();
            change(&mut scene);
            scene
        };
        let no_library = || changed(&|scene| _ = scene.without_nvcuvid());
        let no_engine = || Scene::of(Board::rtx().decoders(0));
        let named = standin::Driver::build();
        let path = named.path("libnvcuvid.so.1").to_string_lossy().into_owned();
        for (scene, environment, says) in [
            (no_library(), vec![], "libnvcuvid.so.1 is not on this host|libnvcuvid1 on Debian"),
            (
                no_library(),
                vec![("NVIDIA_DRIVER_CAPABILITIES", "compute")],
                "libnvcuvid.so.1 is not on this host|-e NVIDIA_DRIVER_CAPABILITIES=compute,video",
            ),
            (no_library(), vec![("GSK_NVCUVID_LIBRARY", path.as_str())], "works"),
            (Scene::rtx(), vec![("GSK_NVCUVID_LIBRARY", "")], "works"),
            (
                Scene::rtx(),
                vec![("GSK_NVCUVID_LIBRARY", "/nowhere/lib.so")],
                "GSK_NVCUVID_LIBRARY cannot be opened|unset GSK_NVCUVID_LIBRARY",
            ),
            (
                changed(&|scene| _ = scene.without_cuda()),
                vec![],
                "libcuda.so.1 is not on this host|install the NVIDIA driver",
            ),
            (Scene::new(), vec![], "CUDA shows no device|CUDA_VISIBLE_DEVICES"),
            (no_engine(), vec![], "has no NVDEC engine, or the driver does not offer it|MIG"),
            (
                no_engine(),
                vec![("NVIDIA_DRIVER_CAPABILITIES", "compute,utility")],
                "not given the decoder|NVIDIA_DRIVER_CAPABILITIES=compute,utility,video",
            ),
        ] {
            let mut environment = environment;
            environment.push(("GSK_TEST_SAYS", says));
            host_with(&scene, name, &environment);
            assert_eq!((host::leaks(&scene), scene.sessions()), (vec![], vec![]), "{says}");
        }
        return;
    };
    let says = std::env::var("GSK_TEST_SAYS").unwrap();
    let opened = nvdec::open(Video::H264, None).map(drop);
    let Some((cause, hint)) = says.split_once('|') else { return opened.unwrap() };
    let error = opened.unwrap_err();
    assert_eq!(error.kind, Kind::Missing, "{error:?}");
    assert!(error.cause.as_ref().is_some_and(|it| it.contains(cause)), "{error:?}");
    assert!(error.hint.as_ref().is_some_and(|it| it.contains(hint)), "{error:?}");
}

/// The first device that decodes it, or the one that is named.
#[test]
fn a_device_is_chosen() {
    let name = "a_device_is_chosen";
    let Some(dir) = inside() else {
        let mut scene = Scene::of(Board::a100().decoders(0));
        scene.board(Board::rtx());
        scene.board(Board::new("NVIDIA RTX A4000"));
        host(&scene, name);
        let boards: Vec<_> = scene.events("nvdec-open").iter().map(|event| event.number("board")).collect();
        assert_eq!(boards, [1, 2]);
        return;
    };
    let units = written(&dir, Codec::H264, &[SIZE]);
    let uuid = |board: u32| format!("GPU-00000000-0000-4000-8000-{board:012x}");
    for named in [None, Some(uuid(2))] {
        let mut decoder = nvdec::open(Video::H264, named.as_deref()).unwrap();
        assert_eq!(decoder.decode(&units[0]).unwrap().size(), (322, 182));
    }
    let engineless = nvdec::open(Video::H264, Some(&uuid(0))).map(drop).unwrap_err();
    assert!(engineless.cause.unwrap().contains("NVIDIA A100-SXM4-80GB has no NVDEC engine"));
    let unknown = nvdec::open(Video::H264, Some(&uuid(7))).map(drop).unwrap_err();
    assert!(unknown.cause.unwrap().contains(&format!("CUDA does not show {}", uuid(7))));
}
