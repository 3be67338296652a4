use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use std::sync::Arc;

use super::*;
use crate::error::Kind;
use crate::pipeline::frame::Pool;
use crate::pipeline::source::{Restart, Spec};

const SIZE: Size = Size::new(18, 16);

fn options(size: Option<Size>, format: PixelFormat) -> Options {
    Options { spec: Spec::Stdin, size, format, fps: 30.0, repeat: false, restart: Restart::Never, gpu: None }
}

fn context() -> Context {
    Context { pool: Pool::default(), inputs: Arc::default(), stop: Stop::new().unwrap() }
}

/// A reader whose writer writes what is sent to it, in pieces of so many bytes, and closes when that ends.
fn reader(options: &Options, context: &Context, piece: usize) -> (Frames, Sender<Vec<u8>>) {
    let (from, to) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (send, sent) = channel::<Vec<u8>>();
    std::thread::spawn(move || {
        for bytes in sent {
            for piece in bytes.chunks(piece) {
                if rustix::io::write(&to, piece) != Ok(piece.len()) {
                    return;
                }
            }
        }
    });
    (Frames::new(from, options, &context.stop), send)
}

/// What all of a stream comes to: its frames, and what follows them.
fn read_all(options: &Options, stream: &[u8], piece: usize) -> (Vec<Frame>, Result<Read>) {
    let context = context();
    let (mut frames, send) = reader(options, &context, piece);
    send.send(stream.to_vec()).unwrap();
    drop(send);
    let mut got = Vec::new();
    loop {
        match frames.next(&context) {
            Ok(Read::Frame(frame)) => got.push(frame),
            other => return (got, other),
        }
    }
}

/// Pictures that hold every byte value, newlines and "FRAME" included.
fn pictures(bytes: usize) -> Vec<Vec<u8>> {
    let mut noise = 1u32;
    let mut next = move || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    };
    let mut all: Vec<Vec<u8>> = (0..4).map(|_| (0..bytes).map(|_| next()).collect()).collect();
    all[1][..6].copy_from_slice(b"FRAME\n");
    all[2][bytes - 6..].copy_from_slice(b"\nFRAME");
    all
}

fn y4m(pictures: &[Vec<u8>], parameters: &str) -> Vec<u8> {
    let mut stream = format!("YUV4MPEG2 W{} H{} F25:1 Ip C420jpeg\n", SIZE.width, SIZE.height).into_bytes();
    for picture in pictures {
        stream.extend_from_slice(format!("FRAME{parameters}\n").as_bytes());
        stream.extend_from_slice(picture);
    }
    stream
}

fn i420() -> usize {
    PixelFormat::I420.bytes(SIZE)
}

fn whole(frames: &[Frame], pictures: &[Vec<u8>], format: PixelFormat) {
    assert_eq!(frames.len(), pictures.len());
    let mut last = 0;
    for (n, (frame, picture)) in frames.iter().zip(pictures).enumerate() {
        assert_eq!((frame.sequence, frame.size, frame.format), (n as u64, SIZE, format));
        assert!(frame.host().unwrap() == &picture[..], "{format:?}, frame {n}");
        assert!(frame.captured_us.0 >= last && frame.captured_us.1 >= frame.captured_us.0);
        last = frame.captured_us.1;
    }
}

const PIECES: [usize; 5] = [1, 5, 7, 513, 1 << 20];

#[test]
fn raw_frames_come_through_however_they_are_cut() {
    use PixelFormat::*;
    for format in [Rgb24, Rgba, Bgra, I420, Nv12] {
        let pictures = pictures(format.bytes(SIZE));
        for piece in PIECES {
            let (frames, end) = read_all(&options(Some(SIZE), format), &pictures.concat(), piece);
            whole(&frames, &pictures, format);
            assert!(matches!(end, Ok(Read::End(None))));
        }
    }
}

#[test]
fn raw_frames_may_begin_as_yuv4mpeg2_does() {
    let mut pictures = pictures(i420());
    pictures[0][..8].copy_from_slice(b"YUV4MPEG");
    let (frames, _) = read_all(&options(Some(SIZE), PixelFormat::I420), &pictures.concat(), 3);
    whole(&frames, &pictures, PixelFormat::I420);
}

#[test]
fn yuv4mpeg2_is_recognised_whatever_the_options_say() {
    let pictures = pictures(i420());
    for (size, format) in [(None, PixelFormat::Rgb24), (Some(SIZE), PixelFormat::I420), (Some(SIZE), PixelFormat::Rgba)]
    {
        for (piece, parameters) in PIECES.into_iter().flat_map(|piece| [(piece, ""), (piece, " Ip XLONG=parameter")]) {
            let (frames, end) = read_all(&options(size, format), &y4m(&pictures, parameters), piece);
            whole(&frames, &pictures, PixelFormat::I420);
            assert!(matches!(end, Ok(Read::End(None))));
        }
    }
    let context = context();
    let (mut frames, send) = reader(&options(None, PixelFormat::I420), &context, 100);
    assert_eq!(frames.info(), None);
    send.send(y4m(&pictures, "")).unwrap();
    assert!(matches!(frames.next(&context), Ok(Read::Frame(_))));
    assert_eq!(frames.info(), Some(&Info { detail: "YUV4MPEG2".into(), size: SIZE, fps: 25.0 }));
}

/// What is wrong with a stream; `frames` of it come first.
fn wrong(size: Option<Size>, stream: &[u8], frames: usize) -> Error {
    let (got, end) = read_all(&options(size, PixelFormat::I420), stream, 11);
    assert_eq!(got.len(), frames);
    match end {
        Err(error) => error,
        Ok(Read::End(Some(reason))) => Error::failed(reason),
        Ok(_) => panic!("nothing is wrong with {}", stream.escape_ascii()),
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let pictures = pictures(i420());
    let stream = y4m(&pictures, "");
    let cases = [
        (None, &b"hello, this is no picture\n"[..], 0, r#"begins with "hello, this ": not YUV4MPEG2"#),
        (None, b"\x1b[31mred", 0, r#"begins with "\x1b[31mred""#),
        (None, b"YUV4", 0, r#"begins with "YUV4""#),
        (None, b"YUV4MPEG2 W18 H16", 0, "does not end: no newline in 17 bytes"),
        (None, b"YUV4MPEG2 W18\n", 0, "W or H is missing"),
        (Some(Size::new(32, 32)), &stream, 0, "the stream is 18x16, and --size says 32x32"),
        (Some(SIZE), &pictures.concat()[..i420() + 7], 1, "ended inside frame 2: 7 of 432 bytes"),
        (None, &stream[..stream.len() - 1], 3, "ended inside frame 4: 431 of 432 bytes"),
        (None, &stream[..stream.len() - i420() - 2], 3, "ended inside frame 4: 0 of 432 bytes"),
        (None, &stream[..stream.len() - i420()], 3, "ended inside frame 4: 0 of 432 bytes"),
    ];
    for (size, stream, frames, says) in cases {
        let error = wrong(size, stream, frames).to_string();
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(wrong(Some(Size::new(32, 32)), &stream, 0).kind, Kind::Usage);
    assert!(wrong(None, b"hello, this is no picture\n", 0).hint.unwrap().contains("--size"));
}

#[test]
fn a_header_that_lies_is_found_at_the_next_frame() {
    let short: Vec<_> = pictures(i420()).into_iter().map(|mut picture| picture.split_off(10)).collect();
    let error = wrong(None, &y4m(&short, ""), 1).to_string();
    assert!(error.contains("after frame 1 comes") && error.contains("FRAME was due"), "{error}");
    let error = wrong(None, b"YUV4MPEG2 W18 H16 F25:1\nFRAMES\n", 0).to_string();
    assert!(error.contains(r#"after the header comes "FRAMES" where"#), "{error}");
    let mut endless = b"YUV4MPEG2 W18 H16\nFRAME ".to_vec();
    endless.resize(4096, b'x');
    assert!(wrong(None, &endless, 0).to_string().contains("FRAME was due"));
    let mut endless = b"YUV4MPEG2 ".to_vec();
    endless.resize(4096, b'x');
    assert!(wrong(None, &endless, 0).to_string().contains("no newline in 1024 bytes"));
}

fn soon(began: Instant) {
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn a_hang_is_told_once_and_soon_and_then_the_frame_goes_on() {
    let (context, pictures) = (context(), pictures(i420()));
    let stream = y4m(&pictures, "");
    let (mut frames, send) = reader(&options(None, PixelFormat::I420), &context, 1 << 20);
    let cut = stream.len() - i420() + 100;
    send.send(stream[..cut].to_vec()).unwrap();
    for _ in 0..3 {
        assert!(matches!(frames.next(&context), Ok(Read::Frame(_))));
    }
    let began = Instant::now();
    let Ok(Read::Stalled(reason)) = frames.next(&context) else { panic!("no stall") };
    soon(began);
    assert!(reason.contains("100 of 432 bytes of frame 4"), "{reason}");
    send.send(stream[cut..].to_vec()).unwrap();
    let Ok(Read::Frame(frame)) = frames.next(&context) else { panic!("no frame") };
    assert!(frame.host().unwrap() == &pictures[3][..]);
    let Ok(Read::Stalled(reason)) = frames.next(&context) else { panic!("no stall") };
    assert!(reason.contains("after frame 4"), "{reason}");
    drop(send);
    assert!(matches!(frames.next(&context), Ok(Read::End(None))));
}

#[test]
fn a_few_bytes_and_then_nothing_are_judged_soon() {
    let context = context();
    let (mut frames, _send) = reader(&options(None, PixelFormat::I420), &context, 1);
    _send.send(b"hi\n".to_vec()).unwrap();
    let began = Instant::now();
    let error = frames.next(&context).err().expect("an error");
    soon(began);
    assert!(error.what.contains(r#"begins with "hi\n""#), "{error}");
    let (mut frames, send) = reader(&options(None, PixelFormat::I420), &context, 1);
    let stream = y4m(&pictures(i420()), "");
    send.send(stream[..14].to_vec()).unwrap();
    let began = Instant::now();
    assert!(matches!(frames.next(&context), Ok(Read::Stalled(_))));
    soon(began);
    send.send(stream[14..].to_vec()).unwrap();
    assert!(matches!(frames.next(&context), Ok(Read::Frame(_))));
}

#[test]
fn an_empty_stream_ends_at_once() {
    for size in [None, Some(SIZE)] {
        let (frames, end) = read_all(&options(size, PixelFormat::Rgba), b"", 1);
        assert!(frames.is_empty() && matches!(end, Ok(Read::End(None))));
    }
}

#[test]
fn a_stop_ends_every_wait() {
    let stream = y4m(&pictures(i420()), "");
    for cut in [0, 5, 100] {
        let context = context();
        let (mut frames, send) = reader(&options(None, PixelFormat::I420), &context, 1 << 20);
        send.send(stream[..cut].to_vec()).unwrap();
        let stop = context.stop.clone();
        let stopper = std::thread::spawn(move || stop.stop());
        assert!(matches!(frames.next(&context), Ok(Read::Stopped)));
        stopper.join().unwrap();
        assert!(matches!(frames.discard(), Ok(Read::Stopped)));
    }
}

#[test]
fn a_frame_bears_the_event_that_was_given_before_it_began() {
    let (context, pictures) = (context(), pictures(i420()));
    let (mut frames, send) = reader(&options(Some(SIZE), PixelFormat::I420), &context, 1 << 20);
    for view in [0, 7] {
        context.inputs.given(view);
        send.send(pictures[0].clone()).unwrap();
        let Ok(Read::Frame(frame)) = frames.next(&context) else { panic!("no frame") };
        assert_eq!(frame.view, view);
    }
}
