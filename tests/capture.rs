//! From an OpenGL texture to a decoded picture, over the stand-in driver: what Mesa draws is captured by CUDA, made NV12 by the
//! kernels' own text, encoded as NVENC would, and decoded by FFmpeg. No pixel passes through host memory on the way.

use gsk::error::Result;
use gsk::pipeline::convert::ToI420;
use gsk::pipeline::encode::Unit;
use gsk::pipeline::frame::{Frame, PixelFormat, Range, Size};
use gsk::pipeline::h264;
use gsk::pipeline::source::scene::{Backend, Scene as Demo};
use gsk::wire::message::HEADER;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal, RefNal};

use crate::host::{config, decode, host, host_with, inside, leaks, open};
use crate::standin::{Board, Scene};

mod host;
mod standin;

const SIZE: Size = Size::new(322, 182);
const LARGER: Size = Size::new(640, 360);

/// The drawn scene, frame by frame at 60 a second; and what OpenGL itself reads of each picture.
struct Drawn {
    demo: Demo,
    size: Size,
    n: u64,
}

impl Drawn {
    fn open(size: Size) -> Drawn {
        Drawn { demo: Demo::open_with(size, Backend::Gl).expect("Mesa's OpenGL"), size, n: 0 }
    }

    fn next(&mut self) -> Result<(Frame, Vec<u8>)> {
        let at = self.n * 16_667;
        assert!(self.demo.draw(at, at / 1000)?, "the content moves");
        let picture = self.demo.capture()?.expect("OpenGL draws");
        let mut read = vec![0; PixelFormat::Rgba.bytes(self.size)];
        self.demo.read(&mut read)?;
        self.n += 1;
        let frame = Frame {
            sequence: self.n,
            size: self.size,
            format: PixelFormat::Rgba,
            range: Range::Full,
            captured_us: (at + 1, at + 2),
            view: 0,
            pixels: picture.into(),
        };
        Ok((frame, read))
    }
}

/// ITU-R BT.709-6, items 3.2 to 3.5, at eight bits and 4:2:0: planes one after another, of the mean of four pixels' colours.
fn bt709(rgba: &[u8], size: Size) -> Vec<f64> {
    let (width, height) = (size.width as usize, size.height as usize);
    let pixel = |x: usize, y: usize| {
        let at = (y * width + x) * 4;
        [0, 1, 2].map(|channel| f64::from(rgba[at + channel]) / 255.0)
    };
    let luma = |[r, g, b]: [f64; 3]| 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let mut planes: Vec<f64> =
        (0..height).flat_map(|y| (0..width).map(move |x| 16.0 + 219.0 * luma(pixel(x, y)))).collect();
    let mut chroma = [Vec::new(), Vec::new()];
    for y in (0..height).step_by(2) {
        for x in (0..width).step_by(2) {
            let four = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
            let mean = [0, 1, 2].map(|channel| four.iter().map(|pixel| pixel[channel]).sum::<f64>() / 4.0);
            chroma[0].push(128.0 + 224.0 * (mean[2] - luma(mean)) / 1.8556);
            chroma[1].push(128.0 + 224.0 * (mean[0] - luma(mean)) / 1.5748);
        }
    }
    planes.extend(chroma.concat());
    planes
}

/// The largest difference between a decoded picture and what was drawn.
fn off(picture: &[u8], rgba: &[u8], size: Size) -> f64 {
    let expected = bt709(rgba, size);
    assert_eq!(picture.len(), expected.len());
    picture.iter().zip(expected).map(|(&got, want)| (f64::from(got) - want).abs()).fold(0.0, f64::max)
}

fn keys(units: &[Unit]) -> Vec<usize> {
    (0..units.len()).filter(|&n| units[n].key).collect()
}

fn sps(unit: &Unit) -> SeqParameterSet {
    let sets = h264::ParameterSets::find(&unit.data[HEADER..]).expect("parameter sets");
    SeqParameterSet::from_bits(RefNal::new(&sets.sps, &[], true).rbsp_bits()).unwrap()
}

#[test]
fn what_opengl_draws_is_what_ffmpeg_decodes() {
    let Some(dir) = inside() else {
        let scene = Scene::rtx();
        host(&scene, "what_opengl_draws_is_what_ffmpeg_decodes");
        let changes = scene.events("reconfigure");
        let seen: Vec<_> = changes.iter().map(|e| ["size", "fps", "bitrate"].map(|key| e.get(key))).collect();
        let (before, after) = ("322x182", "640x360");
        assert_eq!(seen[0], [before, "60000/1000", "3000000"]);
        assert_eq!(seen[1], [before, "30000/1000", "3000000"]);
        assert_eq!(seen[2], [after, "30000/1000", "3000000"]);
        let copies = scene.events("copies");
        assert_eq!(copies.len(), 1);
        let count = |key: &str| copies[0].number(key);
        assert_eq!((count("htod"), count("dtoh")), (0, 0), "no pixel passes through host memory: {copies:?}");
        assert_eq!(count("dtod"), 310, "one copy a frame");
        return;
    };
    let mut drawn = Drawn::open(SIZE);
    let (mut encoder, out) = open(&dir, SIZE);
    let mut settings = config(SIZE);
    let mut pictures = Vec::new();
    for n in 0..300 {
        let (frame, read) = drawn.next().unwrap();
        pictures.push(read);
        match n {
            150 => settings.bitrate = 3_000_000,
            200 => settings.fps = 30.0,
            _ => {}
        }
        if n == 150 || n == 200 {
            encoder.reconfigure(&settings).unwrap();
        }
        encoder.submit(frame, [0, 100, 250].contains(&n)).unwrap();
    }
    // Another size: another texture, the same session.
    let mut drawn = Drawn::open(LARGER);
    settings.size = LARGER;
    encoder.reconfigure(&settings).unwrap();
    for _ in 0..10 {
        let (frame, read) = drawn.next().unwrap();
        pictures.push(read);
        encoder.submit(frame, false).unwrap();
    }
    drop(encoder);
    let mut units = out.units();
    assert_eq!(keys(&units), [0, 100, 250, 300], "an IDR where one was asked for, and with a new size");
    for (n, unit) in units.iter().enumerate() {
        let kinds: Vec<u8> = h264::nals(&unit.data[HEADER..]).map(|nal| nal[0] & 31).collect();
        assert_eq!(kinds, if unit.key { vec![h264::SPS, h264::PPS, h264::IDR] } else { vec![1] }, "unit {n}");
    }
    let rate = |unit: &Unit| {
        let timing = sps(unit).vui_parameters.unwrap().timing_info.unwrap();
        f64::from(timing.time_scale) / f64::from(2 * timing.num_units_in_tick)
    };
    assert_eq!([0, 100, 250].map(|n| rate(&units[n])), [60.0, 60.0, 30.0]);
    let larger = units.split_off(300);
    for (units, first, size) in [(&units, 0, SIZE), (&larger, 300, LARGER)] {
        let sps = sps(&units[0]);
        assert_eq!(sps.pixel_dimensions().unwrap(), (size.width, size.height));
        let signal = sps.vui_parameters.unwrap().video_signal_type.unwrap();
        let colour = signal.colour_description.unwrap();
        assert_eq!((signal.video_full_range_flag, colour.matrix_coefficients), (false, 1));
        let decoded = decode(&dir, units, size);
        assert_eq!(decoded.len(), units.len());
        for (n, picture) in decoded.iter().enumerate() {
            let off = off(picture, &pictures[first + n], size);
            assert!(off <= 2.0, "picture {}: off by {off}", first + n);
        }
    }
}

/// The same pictures for encoders on the CPU: the device converts, and only what they need crosses.
#[test]
fn encoders_on_the_cpu_get_the_same_picture() {
    let Some(_) = inside() else {
        let scene = Scene::h200();
        host(&scene, "encoders_on_the_cpu_get_the_same_picture");
        let copies = scene.events("copies");
        let bytes = PixelFormat::I420.bytes(SIZE) as i64;
        assert_eq!(
            (copies[0].number("dtoh"), copies[0].number("dtoh-bytes")),
            (3 * 5, bytes * 5),
            "I420, plane by plane"
        );
        return;
    };
    let mut drawn = Drawn::open(SIZE);
    let mut convert = ToI420::default();
    for n in 0..5 {
        let (frame, read) = drawn.next().unwrap();
        let planes: Vec<u8> =
            convert.planes(&frame).unwrap().into_iter().flat_map(|(plane, _)| plane.to_vec()).collect();
        let off = off(&planes, &read, SIZE);
        assert!(off <= 1.0, "picture {n}: off by {off}");
    }
}

/// A scene drawn by one board, and the only engine on another.
#[test]
fn a_picture_of_another_board_is_encoded_all_the_same() {
    let Some(dir) = inside() else {
        let mut scene = Scene::of(Board::a100());
        scene.board(Board::rtx());
        host(&scene, "a_picture_of_another_board_is_encoded_all_the_same");
        assert_eq!(scene.events("open").iter().map(|event| event.number("board")).collect::<Vec<_>>(), [1]);
        return;
    };
    let mut drawn = Drawn::open(SIZE);
    let (mut encoder, out) = open(&dir, SIZE);
    let mut pictures = Vec::new();
    for n in 0..5 {
        let (frame, read) = drawn.next().unwrap();
        pictures.push(read);
        encoder.submit(frame, n == 0).unwrap();
    }
    drop(encoder);
    let decoded = decode(&dir, &out.units(), SIZE);
    assert_eq!(decoded.len(), 5);
    for (picture, read) in decoded.iter().zip(&pictures) {
        assert!(off(picture, read, SIZE) <= 2.0);
    }
}

/// Whatever of CUDA fails in capturing is told, and nothing is left behind.
#[test]
fn a_capture_that_fails_gives_all_back() {
    let Some(_) = inside() else {
        for (function, calls) in [
            ("cuDevicePrimaryCtxRetain", 1),
            ("cuGLGetDevices_v2", 1),
            ("cuModuleLoadData", 1),
            ("cuGraphicsGLRegisterImage", 1),
            ("cuStreamCreate", 1),
            ("cuMemAlloc_v2", 1),
            ("cuGraphicsMapResources", 2),
            ("cuGraphicsSubResourceGetMappedArray", 2),
            ("cuMemcpy2DAsync_v2", 2),
            ("cuStreamSynchronize", 2),
        ] {
            for call in 1..=calls {
                let mut scene = Scene::rtx();
                // CUDA_ERROR_UNKNOWN.
                scene.fault(function, call, 999);
                host_with(&scene, "a_capture_that_fails_gives_all_back", &[("GSK_TEST_FUNCTION", function)]);
                assert_eq!(leaks(&scene), [], "{function}, call {call}");
            }
        }
        return;
    };
    let mut drawn = Drawn::open(SIZE);
    let function = std::env::var("GSK_TEST_FUNCTION").unwrap();
    let error = (0..3).find_map(|_| drawn.next().err()).expect("the fault");
    let function = function.trim_end_matches("_v2");
    assert!(error.cause.as_ref().unwrap().contains(&format!("{function} returned 999")), "{error}");
    // The next one begins anew.
    drawn.next().unwrap();
}
