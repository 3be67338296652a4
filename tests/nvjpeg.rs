//! The nvJPEG back end, over the stand-in driver and a stand-in libnvjpeg that writes real JPEG.

use std::fs;
use std::path::Path;
use std::process::Command;

use gsk::error::Result;
use gsk::gpu::nvenc::Refused;
use gsk::pipeline::convert::ToRgb;
use gsk::pipeline::encode::{Codec, Config, Encoder, Unit, nvjpeg};
use gsk::pipeline::frame::{Frame, PixelFormat, Pool, Range, Size};
use gsk::pipeline::rate::{CEILING, FLOOR, Quality, budget};
use gsk::pipeline::source::scene::{Backend, Scene as Demo};
use gsk::wire::message::HEADER;
use gsk::wire::status::Cause;

use crate::host::{Out, expect_refusal, host, host_with, inside, leaks};
use crate::standin::{Board, Scene};

mod host;
mod standin;

/// Neither side is a multiple of a block's.
const SIZE: Size = Size::new(322, 182);

/// One that quantises next to nothing.
const FINEST: Quality = Quality::Fixed(100);

/// What rounding twice, in the conversion and in the transform, may come to at that quality.
const ROUNDING: f64 = 3.0;

fn config(size: Size, quality: Quality) -> Config {
    Config { codec: Codec::Jpeg, size, fps: 30.0, bitrate: 6_000_000, quality, nvenc: Default::default(), near: None }
}

fn open(config: &Config) -> Result<(Box<dyn Encoder>, Out), Refused> {
    let out = Out::default();
    let into = out.clone();
    let encoder = nvjpeg::open(config, None, Box::new(move |unit| into.0.lock().unwrap().push(unit)))?;
    Ok((encoder, out))
}

/// The host of a board that has no engine for video.
fn h200() -> Scene {
    let mut scene = Scene::h200();
    scene.with_nvjpeg();
    scene
}

/// Picture `n`: a gradient, with a square that wanders over it.
fn frame(n: u64, size: Size, format: PixelFormat, range: Range) -> Frame {
    let mut pixels = Pool::default().take(format.bytes(size));
    let row = pixels.len() / size.height as usize;
    for (at, byte) in pixels.iter_mut().enumerate() {
        let (x, y) = ((at % row) * size.width as usize / row, at / row);
        let square = (x as u64).wrapping_sub(10 + 9 * n) < 90 && (y as u64).wrapping_sub(20 + 5 * n) < 90;
        *byte = if square { 200 } else { (16 + (x + y) / 5 % 220) as u8 };
    }
    let captured = 1_000_000 + n * 16_667;
    Frame { sequence: n, size, format, range, captured_us: (captured, captured + 100), view: 0, pixels: pixels.into() }
}

/// The hardest picture there is.
fn noise(n: u64, size: Size) -> Frame {
    let mut pixels = Pool::default().take(PixelFormat::Rgba.bytes(size));
    let mut state = n as u32 + 1;
    for byte in pixels.iter_mut() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    Frame { pixels: pixels.into(), ..frame(n, size, PixelFormat::Rgba, Range::Full) }
}

/// ITU-R BT.601-7, 2.5, full range (JFIF 1.02) at 4:2:0: planes one after another, of the mean of four pixels' colours.
fn jfif(pixels: &[u8], format: PixelFormat, size: Size) -> Vec<f64> {
    let (width, height) = (size.width as usize, size.height as usize);
    let bytes = format.bytes(size) / size.pixels();
    let pixel = |x: usize, y: usize| {
        let at = (y * width + x) * bytes;
        let [a, b, c] = [0, 1, 2].map(|channel| f64::from(pixels[at + channel]));
        if format == PixelFormat::Bgra { [c, b, a] } else { [a, b, c] }
    };
    let luma = |[r, g, b]: [f64; 3]| 0.299 * r + 0.587 * g + 0.114 * b;
    let mut planes: Vec<f64> = (0..height).flat_map(|y| (0..width).map(move |x| luma(pixel(x, y)))).collect();
    let mut chroma = [Vec::new(), Vec::new()];
    for y in (0..height).step_by(2) {
        for x in (0..width).step_by(2) {
            let four = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
            let mean = [0, 1, 2].map(|channel| four.iter().map(|pixel| pixel[channel]).sum::<f64>() / 4.0);
            chroma[0].push(128.0 + (mean[2] - luma(mean)) / 1.772);
            chroma[1].push(128.0 + (mean[0] - luma(mean)) / 1.402);
        }
    }
    planes.extend(chroma.concat());
    planes
}

/// The planes that FFmpeg makes of a JPEG.
fn decode(dir: &Path, unit: &Unit, size: Size) -> Vec<u8> {
    let path = dir.join("picture.jpg");
    fs::write(&path, &unit.data[HEADER..]).unwrap();
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-f", "mjpeg", "-i"])
        .arg(&path)
        .args(["-f", "rawvideo", "-pix_fmt", "yuvj420p", "-"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.stdout.len(), PixelFormat::I420.bytes(size));
    output.stdout
}

/// The largest difference.
fn off(picture: &[u8], expected: &[f64]) -> f64 {
    assert_eq!(picture.len(), expected.len());
    picture.iter().zip(expected).map(|(&got, want)| (f64::from(got) - want).abs()).fold(0.0, f64::max)
}

#[test]
fn every_format_comes_out_as_the_picture_that_it_was() {
    let formats = [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Rgb24, PixelFormat::Rgba, PixelFormat::Bgra];
    let Some(dir) = inside() else {
        let scene = h200();
        host(&scene, "every_format_comes_out_as_the_picture_that_it_was");
        let values = |event: &str| scene.events(event).iter().map(|event| event.number("value")).collect::<Vec<_>>();
        let times = formats.len() + 1;
        assert_eq!(values("nvjpeg-sampling"), [2].repeat(times), "4:2:0");
        assert_eq!(values("nvjpeg-huffman"), [0].repeat(times));
        assert_eq!(values("nvjpeg-quality"), [100].repeat(times), "told once");
        assert_eq!((scene.events("nvjpeg-open").len(), scene.events("nvjpeg-close").len()), (times, times));
        assert_eq!(scene.events("open").len(), 0, "no session, no slot");
        return;
    };
    let ranges = formats.map(|format| (format, Range::Limited));
    for (format, range) in ranges.into_iter().chain([(PixelFormat::I420, Range::Full)]) {
        let (mut encoder, out) = open(&config(SIZE, FINEST)).unwrap();
        let frames: Vec<Frame> = (0..3).map(|n| frame(n, SIZE, format, range)).collect();
        frames.iter().for_each(|frame| encoder.submit(frame.clone(), false).unwrap());
        drop(encoder);
        let units = out.units();
        assert!(units.iter().map(|unit| unit.frame.sequence).eq(0..3), "one for each, in order");
        for (unit, frame) in units.iter().zip(&frames) {
            assert!(unit.key && unit.data[HEADER..].starts_with(&[0xff, 0xd8]) && unit.data.ends_with(&[0xff, 0xd9]));
            assert!(unit.data[..HEADER].iter().all(|&byte| byte == 0), "room for the header");
            assert!(unit.started_us <= unit.converted_us && unit.converted_us <= unit.encoded_us);
            let mut rgb = ToRgb::default();
            let (pixels, as_rgb) = rgb.pixels(frame).unwrap();
            let off = off(&decode(&dir, unit, SIZE), &jfif(pixels, as_rgb, SIZE));
            assert!(off <= ROUNDING, "{format:?} {range:?}: off by {off}");
        }
    }
}

/// The drawn scene at 60 frames a second, and what OpenGL itself reads of each picture.
fn drawn(demo: &mut Demo, size: Size, n: u64) -> (Frame, Vec<u8>) {
    let at = n * 16_667;
    assert!(demo.draw(at, at / 1000).unwrap(), "the content moves");
    let picture = demo.capture().unwrap().expect("OpenGL draws");
    let mut read = vec![0; PixelFormat::Rgba.bytes(size)];
    demo.read(&mut read).unwrap();
    (Frame { pixels: picture.into(), ..frame(n, size, PixelFormat::Rgba, Range::Full) }, read)
}

#[test]
fn what_opengl_draws_stays_on_the_gpu_until_it_is_jpeg() {
    let Some(dir) = inside() else {
        let scene = h200();
        host(&scene, "what_opengl_draws_stays_on_the_gpu_until_it_is_jpeg");
        let copies = scene.events("copies");
        let count = |key: &str| copies[0].number(key);
        assert_eq!((count("htod"), count("dtoh")), (0, 0), "no pixel passes through host memory: {copies:?}");
        assert_eq!(scene.events("nvjpeg-open").len(), 2, "another size, another engine");
        return;
    };
    let (mut encoder, out) = open(&config(SIZE, FINEST)).unwrap();
    let larger = Size::new(640, 360);
    for (size, pictures) in [(SIZE, 20), (larger, 3)] {
        let mut demo = Demo::open_with(size, Backend::Gl).expect("Mesa's OpenGL");
        let mut read = Vec::new();
        for n in 0..pictures {
            let (frame, pixels) = drawn(&mut demo, size, n);
            read.push(jfif(&pixels, PixelFormat::Rgba, size));
            encoder.submit(frame, n == 0).unwrap();
        }
        let units = out.units();
        assert_eq!(units.len(), read.len());
        for (unit, expected) in units.iter().zip(&read) {
            let off = off(&decode(&dir, unit, size), expected);
            assert!(off <= ROUNDING, "{size}: off by {off}");
        }
    }
    drop(encoder);
}

/// A scene drawn on another device than the encoder was opened on.
#[test]
fn it_works_where_its_pictures_lie() {
    let Some(_) = inside() else {
        let mut scene = Scene::of(Board::a100());
        scene.board(Board::h200()).with_nvjpeg();
        host(&scene, "it_works_where_its_pictures_lie");
        return;
    };
    let devices = gsk::gpu::cuda::devices().unwrap();
    let config = config(SIZE, FINEST);
    let out = Out::default();
    let into = out.clone();
    let sink = Box::new(move |unit| into.0.lock().unwrap().push(unit));
    let mut encoder = nvjpeg::open(&config, Some(&devices[1].uuid), sink).unwrap();
    let mut demo = Demo::open_with(SIZE, Backend::Gl).expect("Mesa's OpenGL");
    let (frame, read) = drawn(&mut demo, SIZE, 0);
    let expected = jfif(&read, PixelFormat::Rgba, SIZE);
    encoder.submit(frame.clone(), false).unwrap();
    drop(encoder);
    let unit = &out.units()[0];
    assert!(off(&decode(&inside().unwrap(), unit, SIZE), &expected) <= ROUNDING);
    let refused = nvjpeg::open(&config, Some("GPU-3"), Box::new(|_| panic!("a unit"))).map(drop).unwrap_err();
    assert_eq!(refused.cause, Cause::NoEngine);
    assert!(refused.detail().contains("GPU-3"), "{refused}");
}

#[test]
fn quality_follows_the_bit_rate() {
    let Some(_) = inside() else {
        let scene = h200();
        host(&scene, "quality_follows_the_bit_rate");
        return;
    };
    let settings = config(SIZE, Quality::Auto);
    let (mut encoder, out) = open(&settings).unwrap();
    // A picture that is larger than there is room for at first.
    for n in 0..20 {
        encoder.submit(noise(n, SIZE), false).unwrap();
    }
    let sizes: Vec<usize> = out.units().iter().map(|unit| unit.data.len() - HEADER).collect();
    assert!(sizes[0] > SIZE.pixels() / 4, "{sizes:?}");
    let most = budget(settings.bitrate, settings.fps) as usize;
    assert!(sizes[0] > sizes[19] && sizes[19] < 2 * most, "{sizes:?}: the floor, for {most}");
    // Easy pictures are as fine as is of use, and a smaller rate makes them coarser in place.
    let easy = |encoder: &mut Box<dyn Encoder>| {
        (0..60).for_each(|n| encoder.submit(frame(n % 3, SIZE, PixelFormat::Rgba, Range::Full), false).unwrap());
        out.units().last().unwrap().data.len()
    };
    let fine = easy(&mut encoder);
    encoder.reconfigure(&Config { bitrate: 100_000, ..settings.clone() }).unwrap();
    let coarse = easy(&mut encoder);
    encoder.reconfigure(&Config { quality: Quality::Fixed(CEILING), ..settings.clone() }).unwrap();
    assert_eq!(easy(&mut encoder), fine, "that was the ceiling's");
    encoder.reconfigure(&Config { quality: Quality::Fixed(FLOOR), ..settings }).unwrap();
    assert_eq!(easy(&mut encoder), coarse, "and that the floor's");
    assert!(coarse < fine);
}

const REFUSED: &str = "refusals";

#[test]
fn refusals() {
    let name = REFUSED;
    if let Some(dir) = inside() {
        let Err(refused) = open(&config(SIZE, FINEST)).map(drop) else { panic!("an encoder") };
        let said = serde_json::json!({ "cause": refused.cause, "error": refused.error });
        return fs::write(dir.join("said"), said.to_string()).unwrap();
    }
    let a = |function: &str, code: u32| {
        let mut scene = h200();
        scene.fault(function, 1, code);
        scene
    };
    let mut without_cuda = h200();
    without_cuda.without_cuda();
    let mut boardless = Scene::new();
    boardless.with_nvjpeg();
    use Cause::*;
    let table = [
        (Scene::h200(), NoDriver, "missing", "libnvjpeg.so.12 is not on this host"),
        (without_cuda, NoDriver, "missing", "libcuda.so.1 is not on this host"),
        (boardless, NoEngine, "missing", "no device"),
        (
            a("nvjpegGetProperty", 2),
            NoDriver,
            "missing",
            "nvjpegGetProperty returned 2 (NVJPEG_STATUS_INVALID_PARAMETER)",
        ),
        (
            a("nvjpegCreateSimple", 1),
            NoDriver,
            "missing",
            "nvjpegCreateSimple returned 1 (NVJPEG_STATUS_NOT_INITIALIZED)",
        ),
        (a("nvjpegCreateSimple", 6), NoDriver, "missing", "returned 6 (NVJPEG_STATUS_EXECUTION_FAILED)"),
        (
            a("nvjpegCreateSimple", 7),
            NoEngine,
            "missing",
            "nvjpegCreateSimple returned 7 (NVJPEG_STATUS_ARCH_MISMATCH)",
        ),
        (a("nvjpegEncoderStateCreate", 5), Fault, "capacity", "returned 5 (NVJPEG_STATUS_ALLOCATOR_FAILURE)"),
        (a("nvjpegEncoderParamsCreate", 8), Fault, "failed", "nvjpegEncoderParamsCreate returned 8"),
        (
            a("nvjpegEncoderParamsSetSamplingFactors", 6),
            Fault,
            "failed",
            "nvjpegEncoderParamsSetSamplingFactors returned 6",
        ),
        (
            a("nvjpegEncoderParamsSetOptimizedHuffman", 77),
            Fault,
            "failed",
            "returned 77, which nvJPEG 12.4 does not know",
        ),
        (a("cuMemAlloc_v2", 2), Fault, "capacity", "cuMemAlloc returned 2"),
        (a("cuStreamCreate", 999), Fault, "failed", "cuStreamCreate returned 999"),
    ];
    for (scene, cause, kind, says) in table {
        let dir = host(&scene, name);
        expect_refusal(&dir.path().join("said"), cause, kind, says);
    }
}

#[test]
fn the_library_is_found_where_toolkits_and_pip_put_it() {
    let name = "the_library_is_found_where_toolkits_and_pip_put_it";
    if let Some(dir) = inside() {
        let found = gsk::gpu::nvjpeg::library().unwrap();
        assert_eq!(found.1, "12.4.0");
        return fs::write(dir.join("found"), found.0.to_str().unwrap()).unwrap();
    }
    let home = tempfile::tempdir().unwrap();
    let put = |folder: &str| {
        let folder = home.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(Scene::nvjpeg(), folder.join("libnvjpeg.so.12")).unwrap();
        folder.join("libnvjpeg.so.12")
    };
    for (variable, value, folder) in [
        ("CUDA_HOME", "cuda", "cuda/lib64"),
        ("VIRTUAL_ENV", "venv", "venv/lib/python3.11/site-packages/nvidia/nvjpeg/lib"),
        ("CONDA_PREFIX", "conda", "conda/lib"),
        ("HOME", "home", "home/.local/lib/python3.12/site-packages/nvidia/nvjpeg/lib"),
        ("GSK_NVJPEG_LIBRARY", "named/libnvjpeg.so.12", "named"),
    ] {
        let (path, value) = (put(folder), home.path().join(value));
        let dir = host_with(&Scene::h200(), name, &[(variable, value.to_str().unwrap()), ("CUDA_PATH", "")]);
        assert_eq!(fs::read_to_string(dir.path().join("found")).unwrap(), path.to_str().unwrap(), "{variable}");
    }
    let mut scene = Scene::h200();
    scene.with_nvjpeg();
    let dir = host_with(&scene, name, &[("GSK_NVJPEG_LIBRARY", "")]);
    assert_eq!(fs::read_to_string(dir.path().join("found")).unwrap(), "libnvjpeg.so.12", "empty counts as unset");
}

#[test]
fn a_failure_in_flight_is_told_and_gives_all_back() {
    let name = "a_failure_in_flight_is_told_and_gives_all_back";
    let Some(_) = inside() else {
        for (function, code) in [
            ("nvjpegEncoderParamsSetQuality", 2),
            ("nvjpegEncodeYUV", 6),
            ("nvjpegEncodeRetrieveBitstream", 6),
            ("cuMemcpy2DAsync_v2", 719),
            ("cuStreamSynchronize", 719),
        ] {
            for call in 1..=3 {
                let mut scene = h200();
                scene.fault_from(function, call, code);
                host_with(&scene, name, &[("GSK_TEST_FUNCTION", function), ("GSK_TEST_CODE", &code.to_string())]);
                assert_eq!(leaks(&scene), [], "{function}, call {call}");
            }
        }
        return;
    };
    let variable = |name: &str| std::env::var(name).unwrap();
    let (mut encoder, out) = open(&config(SIZE, Quality::Auto)).unwrap();
    let error = (0..9).find_map(|n| {
        encoder.reconfigure(&config(SIZE, Quality::Fixed(50 + n))).unwrap();
        encoder.submit(frame(n.into(), SIZE, PixelFormat::Rgba, Range::Full), false).err()
    });
    let error = error.expect("the fault");
    let function = variable("GSK_TEST_FUNCTION");
    let says = format!("{} returned {}", function.trim_end_matches("_v2"), variable("GSK_TEST_CODE"));
    assert!(error.cause.as_ref().unwrap().starts_with(&says), "{error}");
    drop(encoder);
    assert!(out.units().len() < 9);
}

#[test]
fn encoders_open_and_close_without_end() {
    let Some(_) = inside() else {
        let scene = h200();
        host(&scene, "encoders_open_and_close_without_end");
        assert_eq!((scene.events("nvjpeg-open").len(), scene.events("nvjpeg-close").len()), (64, 64));
        return;
    };
    for n in 0..64 {
        let (mut encoder, out) = open(&config(SIZE, Quality::Auto)).unwrap();
        (0..n % 4).for_each(|n| encoder.submit(frame(n, SIZE, PixelFormat::Nv12, Range::Limited), false).unwrap());
        drop(encoder);
        assert_eq!(out.units().len() as u64, n % 4);
    }
}
