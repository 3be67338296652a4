//! Encodes a Y4M file with one of gsk's encoders and prints a JSON line: CPU time and latency per frame, bytes.
//!
//!     perf-encode IN.y4m OUT.h264 BACKEND BITRATE

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex};

use gsk::clock::now_us;
use gsk::error::Error;
use gsk::pipeline::encode;
use gsk::pipeline::frame::{Frame, PixelFormat, Pool};
use gsk::pipeline::rate::Quality;
use gsk::pipeline::source::y4m;
use gsk::wire::message::HEADER;

fn cpu_us() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, from, to, backend, bitrate] = &args[..] else {
        return Err("use: perf-encode IN.y4m OUT.h264 BACKEND BITRATE".into());
    };
    let mut from = BufReader::new(File::open(from)?);
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    let header = y4m::Header::parse(line.trim_ascii_end())?;
    let done = Arc::new(Mutex::new((File::create(to)?, Vec::new(), 0usize)));
    let slots = encode::Slots::new(None, encode::WhenFull::Refuse, "perf-encode".into(), args[1].clone());
    let choice = <encode::Choice as clap::ValueEnum>::from_str(backend, true)?;
    let config = encode::Config {
        codec: choice.codec(),
        size: header.size,
        fps: header.fps,
        bitrate: bitrate.parse()?,
        quality: Quality::Fixed(80),
        nvenc: Default::default(),
        near: None,
    };
    let sink = || -> encode::Output {
        let sink = done.clone();
        Box::new(move |unit| {
            let unit = unit.expect("an access unit");
            let mut done = sink.lock().unwrap();
            done.1.push(unit.encoded_us - unit.started_us);
            done.2 += unit.data.len() - HEADER;
            done.0.write_all(&unit.data[HEADER..]).expect("written");
        })
    };
    let (mut encoder, _) = encode::open(choice, &config, &slots, encode::Past::default(), sink).map_err(Error::from)?;
    let pool = Pool::default();
    let (mut cpu, mut frames) = (0, 0u64);
    // Each frame is read right before it is encoded, as a pipe's is and FFmpeg's: what it is made of lies in the caches.
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let mut pixels = pool.take(PixelFormat::I420.bytes(header.size));
        from.read_exact(&mut pixels)?;
        let at = (frames as f64 * 1e6 / header.fps) as u64;
        let frame = Frame {
            sequence: frames,
            size: header.size,
            format: PixelFormat::I420,
            range: header.range,
            captured_us: (at, at),
            view: 0,
            pixels: pixels.into(),
        };
        let before = cpu_us();
        encoder.submit(frame, frames == 0)?;
        cpu += cpu_us() - before;
        frames += 1;
    }
    let began = now_us();
    drop(encoder);
    let mut done = done.lock().unwrap();
    done.1.sort_unstable();
    let pick = |q: f64| done.1[((done.1.len() - 1) as f64 * q) as usize] as f64 / 1e3;
    println!(
        "{{\"backend\":\"{backend}\",\"frames\":{},\"cpu_ms\":{:.3},\"p50_ms\":{:.3},\"p99_ms\":{:.3},\"max_ms\":{:.3},\"kbps\":{:.0},\"close_ms\":{:.3}}}",
        frames,
        cpu as f64 / 1e3 / frames as f64,
        pick(0.5),
        pick(0.99),
        pick(1.0),
        done.2 as f64 * 8.0 * header.fps / frames as f64 / 1e3,
        (now_us() - began) as f64 / 1e3
    );
    Ok(())
}
