//! Every encoder, opened as a worker opens it, one frame in it at a time: the frame is handed over, and its unit waited for.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;

use super::{choices, codecs, cpu_us};
use crate::bench::material::Material;
use crate::bench::quality::Quality;
use crate::bench::run::{Runner, row_of};
use crate::bench::{Case, Options};
use crate::error::{Error, Kind, Result};
use crate::pipeline::convert::ToI420;
use crate::pipeline::decode;
use crate::pipeline::encode::{self, Choice, Codec, Encoder, Past, Slots, Unit, WhenFull};
use crate::pipeline::frame::Pool;
use crate::wire::message::HEADER;

/// What an encoder may take for one frame.
const ANSWER: Duration = Duration::from_secs(5);

/// Bytes of units that are kept, to be decoded afterwards.
const KEPT: usize = 256 << 20;

/// Pictures that quality is judged by, evenly spread.
const JUDGED: usize = 24;

pub fn run(runner: &mut Runner, material: &Material) -> Result<()> {
    for codec in codecs(runner.options) {
        let asked = runner.options.encoder;
        for &choice in choices(codec).iter().filter(|choice| asked == Choice::Auto || asked == **choice) {
            if runner.stopping() {
                return Ok(());
            }
            let name = choice.to_possible_value().map_or_else(String::new, |value| value.get_name().into());
            let row = row_of(Case::Encode, &name, codec.name(), material.info.size);
            if let Err(mut error) = measure(runner, material, choice, codec) {
                // That it was named is our own doing.
                if error.what.starts_with("--encoder") {
                    error.what = error.cause.take().unwrap_or(error.what);
                }
                runner.failed(Case::Encode, Some(row), None, error)?;
            }
        }
    }
    Ok(())
}

/// One encoder at work.
pub struct One {
    encoder: Box<dyn Encoder>,
    pub info: encode::Info,
    units: Receiver<Result<Unit>>,
}

impl One {
    pub fn open(options: &Options, material: &Material, choice: Choice, codec: Codec) -> Result<One> {
        let info = &material.info;
        let config = encode::Config {
            codec,
            size: info.size,
            fps: info.fps,
            bitrate: options.bitrate,
            quality: options.quality,
            nvenc: encode::NvencOptions::default(),
            near: material.device(),
        };
        let mut slots = Slots::new(options.slots, WhenFull::Refuse, "bench".into(), options.source.to_string());
        slots.gpu.clone_from(&options.gpu);
        let (sender, units) = mpsc::channel();
        let output = || -> encode::Output {
            let sender = sender.clone();
            // Nobody waits for what comes after the end.
            Box::new(move |unit| drop(sender.send(unit)))
        };
        let (encoder, info) = encode::open(choice, &config, &slots, Past::default(), output)?;
        Ok(One { encoder, info, units })
    }

    /// Encodes frame `n`; the first is an IDR.
    pub fn encode(&mut self, material: &Material, n: usize) -> Result<Unit> {
        self.encoder.submit(material.frame(n), n == 0)?;
        match self.units.recv_timeout(ANSWER) {
            Ok(unit) => unit,
            Err(RecvTimeoutError::Timeout) => {
                Err(Error::failed(format!("{} gave no unit within {} s", self.info.backend, ANSWER.as_secs())))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::failed(format!("{} ended", self.info.backend))),
        }
    }
}

fn measure(runner: &mut Runner, material: &Material, choice: Choice, codec: Codec) -> Result<()> {
    let mut one = One::open(runner.options, material, choice, codec)?;
    let mut row = row_of(Case::Encode, one.info.backend, codec.name(), material.info.size);
    row.detail = Some(if one.info.hardware { "the GPU's encoder" } else { "on the CPU" }.into());
    let rounds = runner.rounds();
    runner.begin(row, material.info.fps, rounds.iter().sum());
    let (mut units, mut kept, mut bytes, mut counted) = (Vec::new(), 0, 0, 0u32);
    for (round, frames) in rounds.into_iter().enumerate() {
        if runner.stopping() {
            break;
        }
        if round > 0 {
            // The last one is closed first: it may hold the only slot.
            drop(one);
            one = One::open(runner.options, material, choice, codec)?;
        }
        runner.round();
        for n in 0..frames {
            if runner.stopping() {
                break;
            }
            let (before, counts) = (cpu_us(), runner.counts());
            let unit = one.encode(material, n)?;
            let cpu = cpu_us() - before;
            let (convert, encode) = (unit.converted_us - unit.started_us, unit.encoded_us - unit.converted_us);
            runner.frame(&[("encode", encode), ("convert", convert), ("total", convert + encode), ("cpu", cpu)]);
            let data = unit.data.freeze().slice(HEADER..);
            if counts {
                (bytes, counted) = (bytes + data.len() as u64, counted + 1);
            }
            kept += data.len();
            if kept <= KEPT {
                units.push((n, data));
            }
        }
    }
    runner.weigh();
    drop(one);
    let quality = judge(material, codec, &units)?;
    let row = runner.row();
    if counted > 0 {
        row.bytes = Some(bytes);
        row.bitrate_bps = Some(bytes as f64 * 8.0 * material.info.fps / f64::from(counted));
    }
    (row.ssim, row.psnr_db) = (quality.ssim(), quality.psnr_db());
    row.judged = Some(quality.pictures).filter(|pictures| *pictures > 0);
    runner.end()
}

/// Decodes all units, each with the number of its frame, and compares some of the pictures with what the encoder was given.
fn judge(material: &Material, codec: Codec, units: &[(usize, Bytes)]) -> Result<Quality> {
    let info = &material.info;
    let mut decoder = match decode::reference(&decode::Config { codec, size: info.size, fps: info.fps, gpu: None }) {
        Ok(decoder) => decoder,
        // Then nobody here can tell.
        Err(error) if error.kind == Kind::Missing => return Ok(Quality::default()),
        Err(error) => return Err(error),
    };
    let (pool, mut given, mut seen) = (Pool::default(), ToI420::default(), ToI420::default());
    let mut quality = Quality::default();
    let step = units.len().div_ceil(JUDGED).max(1);
    for (at, (n, unit)) in units.iter().enumerate() {
        let judged = at % step == step - 1;
        // A JPEG stands alone.
        if !judged && codec == Codec::Jpeg {
            continue;
        }
        let picture = decoder.decode(unit, &pool)?;
        if judged {
            let frame = material.frame(*n);
            let [(was, width), ..] = given.planes(&frame)?;
            let [(is, _), ..] = seen.planes(&picture)?;
            quality.add(was, is, width);
        }
    }
    Ok(quality)
}
