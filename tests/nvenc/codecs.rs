//! HEVC, AV1, presets, intra refresh and RGB input.

use gsk::gpu::nvenc::{Options, PictureFormat, Preset};
use gsk::pipeline::encode::{Codec, Config, Encoder, Unit, nvenc};
use gsk::pipeline::frame::{Frame, PixelFormat, Pool, Range, Size};
use gsk::pipeline::sets::{Colour, Sets, is_key};
use gsk::pipeline::{h264, hevc};
use gsk::wire::message::HEADER;
use gsk::wire::status::Cause;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal, RefNal};

use crate::host::{config, decode_as, host, inside, open_as, slot, slot_is_free};
use crate::standin::{Board, Scene, Video};
use crate::{SIZE, frame, i420, keys, nv12};

const BOTH: [Codec; 2] = [Codec::Hevc, Codec::Av1];

fn sets(codec: Codec, unit: &Unit) -> Sets {
    Sets::find(codec, &unit.data[HEADER..]).expect("parameter sets")
}

/// Width and height, and the level.
fn told(sets: &Sets) -> ((u32, u32), u8) {
    match sets {
        Sets::H264(sets) => {
            let sps = SeqParameterSet::from_bits(RefNal::new(&sets.sps, &[], true).rbsp_bits()).unwrap();
            (sps.pixel_dimensions().unwrap(), sps.level_idc)
        }
        Sets::Hevc(sets) => ((sets.info.width, sets.info.height), sets.info.level),
        Sets::Av1(sequence) => ((sequence.width, sequence.height), sequence.level),
    }
}

#[test]
fn hevc_and_av1_come_out_as_they_were_converted() {
    let Some(dir) = inside() else {
        let scene = Scene::rtx();
        host(&scene, "codecs::hevc_and_av1_come_out_as_they_were_converted");
        let made: Vec<_> = scene.events("initialize");
        let fields = ["codec", "size", "preset", "tuning", "bframes", "gop", "refresh"];
        let seen: Vec<String> = made.iter().map(|event| fields.map(|key| event.get(key)).join(" ")).collect();
        let rest = "642x362 P3 3 0 4294967295 0/0";
        assert_eq!(seen, [format!("hevc {rest}"), format!("av1 {rest}")]);
        let forced: Vec<i64> = scene.events("force-idr").iter().map(|event| event.number("frame")).collect();
        assert_eq!(forced, [0, 17, 0, 17]);
        return;
    };
    for codec in BOTH {
        let (mut encoder, out) = open_as(&dir, &Config { codec, ..config(SIZE) });
        assert!(!slot_is_free(&dir), "it has a slot as any");
        let frames: Vec<Frame> = (0..30).map(nv12).collect();
        for frame in &frames {
            encoder.submit(frame.clone(), [0, 17].contains(&frame.sequence)).unwrap();
        }
        drop(encoder);
        assert!(slot_is_free(&dir));
        let units = out.units();
        assert_eq!(keys(&units), [0, 17], "{codec:?}");
        assert!(units.iter().all(|unit| is_key(codec, &unit.data[HEADER..]) == unit.key));
        let strings = match codec {
            Codec::Hevc => "hvc1.1.6.L90.90",
            _ => "av01.0.",
        };
        for key in [0, 17] {
            let sets = sets(codec, &units[key]);
            assert_eq!(told(&sets).0, (642, 362));
            let colour = Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false };
            assert_eq!(sets.colour(), Some(colour), "{codec:?}");
            assert!(sets.codec_string().starts_with(strings), "{}", sets.codec_string());
        }
        assert_eq!(Sets::find(codec, &units[1].data[HEADER..]), None);
        let pictures = decode_as(codec, &dir, &units, SIZE);
        assert_eq!(pictures.len(), 30);
        for (picture, frame) in pictures.iter().zip(&frames) {
            assert!(*picture == i420(frame), "{codec:?}: picture {}", frame.sequence);
        }
        // A stream can be begun at the second.
        let pictures = decode_as(codec, &dir, &units[17..], SIZE);
        assert!(pictures.len() == 13 && pictures[12] == i420(&frames[29]), "{codec:?}");
    }
}

#[test]
fn settings_of_hevc_and_av1_change_in_place() {
    let Some(dir) = inside() else {
        let scene = Scene::rtx();
        host(&scene, "codecs::settings_of_hevc_and_av1_change_in_place");
        assert_eq!(scene.events("open").len(), 2);
        let seen: Vec<_> = scene
            .events("reconfigure")
            .iter()
            .map(|event| {
                ["size", "fps", "bitrate", "vbv", "reset", "idr"].map(|key| event.get(key).to_owned()).join(" ")
            })
            .collect();
        let once = [
            "642x362 60000/1000 3000000 50000 0 0",
            "642x362 30000/1000 3000000 100000 0 0",
            "642x362 30000/1000 40000000 1333333 0 0",
            "1280x720 30000/1000 40000000 1333333 1 1",
        ];
        assert_eq!(seen, [once, once].concat());
        return;
    };
    for codec in BOTH {
        let mut settings = Config { codec, ..config(SIZE) };
        let (mut encoder, out) = open_as(&dir, &settings);
        let changes: [fn(&mut Config); 3] = [|c| c.bitrate = 3_000_000, |c| c.fps = 30.0, |c| c.bitrate = 40_000_000];
        let mut number = 0..;
        let mut submit = |encoder: &mut Box<dyn Encoder>, size, idr| {
            encoder.submit(frame(number.next().unwrap(), size, PixelFormat::I420, Range::Limited), idr).unwrap();
        };
        submit(&mut encoder, SIZE, true);
        for change in changes {
            change(&mut settings);
            encoder.reconfigure(&settings).unwrap();
            submit(&mut encoder, SIZE, false);
        }
        submit(&mut encoder, SIZE, true);
        settings.size = Size::new(1280, 720);
        encoder.reconfigure(&settings).unwrap();
        submit(&mut encoder, settings.size, false);
        submit(&mut encoder, settings.size, false);
        drop(encoder);
        let mut units = out.units();
        assert_eq!(keys(&units), [0, 4, 5], "{codec:?}");
        let (first, fourth) = (told(&sets(codec, &units[0])), told(&sets(codec, &units[4])));
        assert_eq!(first, fourth, "the level stays");
        let larger = units.split_off(5);
        assert_eq!(told(&sets(codec, &larger[0])).0, (1280, 720));
        for (units, size) in [(units, SIZE), (larger, settings.size)] {
            let pictures = decode_as(codec, &dir, &units, size);
            assert_eq!(pictures.len(), units.len());
            for (picture, unit) in pictures.iter().zip(&units) {
                assert!(*picture == i420(&unit.frame), "{codec:?}: picture {}", unit.frame.sequence);
            }
        }
    }
}

#[test]
fn what_a_board_cannot_do_is_refused_in_words() {
    let Some(dir) = inside() else {
        // It has the driver's word against the table's, which takes this board for one with AV1.
        let older = Board::rtx().codecs(&[Video::H264, Video::Hevc]);
        let scene = Scene::of(older.without_intra_refresh());
        host(&scene, "codecs::what_a_board_cannot_do_is_refused_in_words");
        assert_eq!(scene.events("initialize").len(), 0);
        return;
    };
    let refresh = Options { intra_refresh: Some(30), ..Options::default() };
    let cases = [
        (Codec::Av1, Options::default(), "NVIDIA RTX 6000 Ada Generation encodes h264 and hevc, not av1"),
        (Codec::H264, refresh, "NVIDIA RTX 6000 Ada Generation has no intra refresh of H.264"),
        (Codec::Hevc, refresh, "NVIDIA RTX 6000 Ada Generation has no intra refresh of HEVC"),
    ];
    for (codec, nvenc, says) in cases {
        let config = Config { codec, nvenc, ..config(SIZE) };
        let refused = nvenc::open(&config, slot(&dir), &[], Box::new(|_| panic!("a unit"))).map(drop).unwrap_err();
        assert_eq!((refused.cause, refused.error.what.as_str()), (Cause::NoEngine, says));
        assert!(refused.error.hint.is_some());
        assert!(slot_is_free(&dir));
    }
}

#[test]
fn presets_are_those_of_the_driver() {
    let presets = [Preset::P1, Preset::P2, Preset::P3, Preset::P4, Preset::P5, Preset::P6, Preset::P7];
    let Some(dir) = inside() else {
        let scene = Scene::rtx();
        host(&scene, "codecs::presets_are_those_of_the_driver");
        let seen: Vec<_> = scene.events("initialize").iter().map(|event| event.get("preset").to_owned()).collect();
        let all = ["P1", "P2", "P3", "P4", "P5", "P6", "P7"];
        assert_eq!(seen, [all, all, all].concat());
        assert!(scene.events("initialize").iter().all(|event| event.get("bframes") == "0"));
        return;
    };
    for codec in [Codec::H264, Codec::Hevc, Codec::Av1] {
        for preset in presets {
            let nvenc = Options { preset, ..Options::default() };
            let (mut encoder, out) = open_as(&dir, &Config { codec, nvenc, ..config(SIZE) });
            encoder.submit(nv12(0), true).unwrap();
            drop(encoder);
            assert_eq!(keys(&out.units()), [0]);
        }
    }
}

/// Numbers of the units that say, by a recovery point SEI message, that a wave of intra coding begins.
fn recovery_points(codec: Codec, units: &[Unit]) -> Vec<usize> {
    let tells = |nal: &[u8]| match codec {
        Codec::H264 => nal[0] & 31 == 6 && nal[1] == 6,
        _ => hevc::kind(nal) == 39 && nal[2] == 6,
    };
    (0..units.len()).filter(|&n| h264::nals(&units[n].data[HEADER..]).any(tells)).collect()
}

#[test]
fn intra_refresh_goes_over_the_picture_in_waves() {
    let Some(dir) = inside() else {
        let scene = Scene::rtx();
        host(&scene, "codecs::intra_refresh_goes_over_the_picture_in_waves");
        let seen: Vec<_> = scene.events("initialize").iter().map(|event| event.get("refresh").to_owned()).collect();
        assert_eq!(seen, ["9/10", "9/10", "9/10"]);
        return;
    };
    for codec in [Codec::H264, Codec::Hevc, Codec::Av1] {
        let nvenc = Options { intra_refresh: Some(10), ..Options::default() };
        let (mut encoder, out) = open_as(&dir, &Config { codec, nvenc, ..config(SIZE) });
        // The picture stands still: what is coded anew is the wave's.
        for n in 0..30 {
            encoder.submit(Frame { captured_us: (n + 1, n + 1), ..nv12(0) }, [0, 15].contains(&n)).unwrap();
        }
        drop(encoder);
        let units = out.units();
        assert_eq!(keys(&units), [0, 15], "an IDR when it is asked for, and no other");
        if codec != Codec::Av1 {
            assert_eq!(recovery_points(codec, &units), [1, 11, 16, 26], "{codec:?}");
            let size = |n: usize| units[n].data.len();
            let wave: usize = (1..10).map(size).sum();
            assert!(wave > size(0) * 9 / 10 && size(10) * 20 < size(1), "{codec:?}: {wave} {} {}", size(0), size(10));
        }
        let pictures = decode_as(codec, &dir, &units, SIZE);
        assert_eq!(pictures.len(), 30);
        assert!(pictures.iter().all(|picture| *picture == i420(&nv12(0))), "{codec:?}");
    }
}

/// ITU-R BT.601-7, items 2.5.1 to 2.5.3, at eight bits, limited range.
fn bt601([r, g, b]: [f64; 3]) -> [f64; 3] {
    let y = 0.299 * r + 0.587 * g + 0.114 * b;
    [16.0 + 219.0 * y / 255.0, 128.0 + 224.0 * (b - y) / 1.772 / 255.0, 128.0 + 224.0 * (r - y) / 1.402 / 255.0]
}

#[test]
fn rgb_goes_in_as_it_is_and_the_stream_says_what_the_engine_makes_of_it() {
    let Some(dir) = inside() else {
        let name = "codecs::rgb_goes_in_as_it_is_and_the_stream_says_what_the_engine_makes_of_it";
        return drop(host(&Scene::rtx(), name));
    };
    for codec in [Codec::H264, Codec::Hevc, Codec::Av1] {
        for format in [PixelFormat::Bgra, PixelFormat::Rgba, PixelFormat::Rgb24] {
            let nvenc = Options { input: PictureFormat::Argb, ..Options::default() };
            let (mut encoder, out) = open_as(&dir, &Config { codec, nvenc, ..config(SIZE) });
            // Blocks of four pixels have one colour, so that chroma has it too.
            let bytes = format.bytes(Size::new(2, 2)) / 4;
            let colour =
                |x: usize, y: usize| [(x / 2 * 3 % 256) as u8, (y / 2 * 5 % 256) as u8, ((x / 2 + y / 2) % 256) as u8];
            let mut pixels = Pool::default().take(format.bytes(SIZE));
            for (at, pixel) in pixels.chunks_mut(bytes).enumerate() {
                let [r, g, b] = colour(at % SIZE.width as usize, at / SIZE.width as usize);
                let bgr = format == PixelFormat::Bgra;
                pixel[..3].copy_from_slice(&if bgr { [b, g, r] } else { [r, g, b] });
            }
            let shown = Frame { pixels: pixels.into(), ..frame(0, SIZE, format, Range::Full) };
            encoder.submit(shown, true).unwrap();
            drop(encoder);
            let units = out.units();
            let colours = Colour { primaries: 1, transfer: 1, matrix: 6, full_range: false };
            assert_eq!(sets(codec, &units[0]).colour(), Some(colours), "{codec:?}");
            let picture = &decode_as(codec, &dir, &units, SIZE)[0];
            let (width, height) = (SIZE.width as usize, SIZE.height as usize);
            for (x, y) in (0..height).step_by(6).flat_map(|y| (0..width).step_by(6).map(move |x| (x, y))) {
                let chroma = width * height + y / 2 * (width / 2) + x / 2;
                let seen = [picture[y * width + x], picture[chroma], picture[chroma + width * height / 4]];
                let wanted = bt601(colour(x, y).map(f64::from));
                for (seen, wanted) in seen.into_iter().zip(wanted) {
                    assert!((f64::from(seen) - wanted).abs() <= 2.0, "{codec:?} {format:?} {x},{y}: {seen} {wanted}");
                }
            }
        }
    }
}
