//! Every decoder, fed what the preferred encoder of its codec wrote.

use super::{codecs, cpu_us};
use crate::bench::Case;
use crate::bench::cases::encode::One;
use crate::bench::material::Material;
use crate::bench::run::{Runner, row_of};
use crate::error::Result;
use crate::pipeline::decode::{self, Backend};
use crate::pipeline::encode::Codec;
use crate::pipeline::frame::Pool;
use crate::wire::message::HEADER;

use bytes::Bytes;

pub fn run(runner: &mut Runner, material: &Material) -> Result<()> {
    for codec in codecs(runner.options) {
        let (units, from) = match written(runner, material, codec) {
            Ok(written) => written,
            Err(error) => {
                let mut row = row_of(Case::Decode, "", codec.name(), material.info.size);
                row.backend = None;
                runner.failed(Case::Decode, Some(row), None, error)?;
                continue;
            }
        };
        for backend in decode::TABLE.iter().filter(|backend| backend.codec == codec) {
            if runner.stopping() {
                return Ok(());
            }
            if let Err(error) = measure(runner, material, backend, &units, from) {
                let row = row_of(Case::Decode, backend.name, codec.name(), material.info.size);
                runner.failed(Case::Decode, Some(row), None, error)?;
            }
        }
    }
    Ok(())
}

/// Units of as many frames as a round has, and what wrote them.
fn written(runner: &Runner, material: &Material, codec: Codec) -> Result<(Vec<Bytes>, &'static str)> {
    let mut encoder = One::open(runner.options, material, runner.options.encoder, codec)?;
    let mut units = Vec::new();
    // Every round decodes the same ones.
    for n in 0..runner.rounds().into_iter().max().unwrap_or_default() {
        if runner.stopping() {
            break;
        }
        units.push(encoder.encode(material, n)?.data.freeze().slice(HEADER..));
    }
    Ok((units, encoder.info.backend))
}

fn measure(runner: &mut Runner, material: &Material, backend: &Backend, units: &[Bytes], from: &str) -> Result<()> {
    let info = &material.info;
    let gpu = runner.options.gpu.as_ref().map(|gpu| gpu.uuid.clone());
    let config = decode::Config { codec: backend.codec, size: info.size, fps: info.fps, gpu };
    let mut decoder = backend.open(&config)?;
    let mut row = row_of(Case::Decode, backend.name, backend.codec.name(), info.size);
    // What a program of its own spends is not this process's.
    let elsewhere = backend.name == "ffmpeg";
    let how = match (elsewhere, backend.hardware) {
        (true, _) => "; a program of its own, its pipes included",
        (_, true) => "; to the picture in the GPU's memory, but for cpu, which has its way to the host too",
        _ => "",
    };
    row.detail = Some(format!("of what {from} wrote{how}"));
    let rounds = runner.rounds();
    runner.begin(row, info.fps, rounds.iter().sum());
    let mut bytes = 0;
    for (round, frames) in rounds.into_iter().enumerate() {
        if round > 0 {
            decoder = backend.open(&config)?;
        }
        let pool = Pool::default();
        runner.round();
        for unit in units.iter().take(frames) {
            if runner.stopping() {
                break;
            }
            let (before, counts) = (cpu_us(), runner.counts());
            let (began, ended) = decoder.decode(unit, &pool)?.captured_us;
            let cpu = cpu_us() - before;
            match elsewhere {
                true => runner.frame(&[("decode", ended - began)]),
                false => runner.frame(&[("decode", ended - began), ("cpu", cpu)]),
            }
            bytes += if counts { unit.len() as u64 } else { 0 };
        }
    }
    runner.weigh();
    runner.row().bytes = Some(bytes);
    runner.end()
}
