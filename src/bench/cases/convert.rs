//! Colour conversion, as each kind of encoder has it done: to I420 for OpenH264, to RGB for JPEG.

use super::{codecs, cpu_us};
use crate::bench::Case;
use crate::bench::material::Material;
use crate::bench::report::{Row, Size};
use crate::bench::run::Runner;
use crate::clock::now_us;
use crate::error::Result;
use crate::pipeline::convert::{ToI420, ToRgb};
use crate::pipeline::encode::Codec;
use crate::pipeline::frame::Frame;

pub fn run(runner: &mut Runner, material: &Material) -> Result<()> {
    for codec in codecs(runner.options) {
        let (mut i420, mut rgb) = (ToI420::default(), ToRgb::default());
        match codec {
            Codec::H264 | Codec::Hevc | Codec::Av1 => {
                to(runner, material, "i420", |frame| i420.planes(frame).map(drop))?
            }
            Codec::Jpeg => to(runner, material, "rgb", |frame| rgb.pixels(frame).map(drop))?,
        }
    }
    Ok(())
}

fn to(
    runner: &mut Runner,
    material: &Material,
    format: &str,
    mut convert: impl FnMut(&Frame) -> Result<()>,
) -> Result<()> {
    let from = material.frame(0);
    let place = if from.picture().is_some() { "on the device" } else { "in host memory" };
    let detail = Some(format!("from {} {place}", format!("{:?}", from.format).to_lowercase()));
    let size = material.info.size;
    let row =
        Row { backend: Some(format.into()), size: Some(Size(size)), detail, ..Row::new(Case::Convert, Some(size)) };
    runner.begin(row, material.info.fps);
    for n in 0..runner.frames() {
        if runner.stopping() {
            break;
        }
        let frame = material.frame(n);
        let (began, before) = (now_us(), cpu_us());
        convert(&frame)?;
        let (ended, cpu) = (now_us(), cpu_us() - before);
        runner.frame(&[("convert", ended - began), ("cpu", cpu)]);
    }
    runner.weigh();
    runner.end()
}
