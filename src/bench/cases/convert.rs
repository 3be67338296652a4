//! Colour conversion, as each kind of encoder has it done: to I420 for OpenH264, to NV12 on the device for NVENC, to RGB for JPEG.

use std::sync::Arc;

use super::{codecs, cpu_us};
use crate::bench::Case;
use crate::bench::material::Material;
use crate::bench::report::Row;
use crate::bench::run::Runner;
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::gpu::cuda;
use crate::gpu::picture::{Nv12, Surface};
use crate::pipeline::convert::{ToI420, ToRgb, ToSurface};
use crate::pipeline::encode::Codec;
use crate::pipeline::frame::{Frame, PixelFormat};

pub fn run(runner: &mut Runner, material: &Material) -> Result<()> {
    for codec in codecs(runner.options) {
        match codec {
            Codec::H264 => {
                to(runner, material, "i420", || {
                    let mut convert = ToI420::default();
                    Ok(move |frame: &Frame| convert.planes(frame).map(drop))
                })?;
                nv12(runner, material)?;
            }
            // They take the same NV12.
            Codec::Hevc | Codec::Av1 => {}
            // What is RGB already is handed on as it is.
            Codec::Jpeg if is_rgb(&material.frame(0)) => {}
            Codec::Jpeg => to(runner, material, "rgb", || {
                let mut convert = ToRgb::default();
                Ok(move |frame: &Frame| convert.pixels(frame).map(drop))
            })?,
        }
    }
    Ok(())
}

/// On the device that drew the pictures, else on the one that was chosen, else on CUDA's first.
fn nv12(runner: &mut Runner, material: &Material) -> Result<()> {
    let size = material.info.size;
    let context = || -> Result<Arc<cuda::Context>> {
        match (material.frame(0).picture(), &runner.options.gpu) {
            (Some(picture), _) => Ok(picture.context().clone()),
            (None, chosen) => {
                let (devices, ordinal) = (cuda::devices()?, chosen.as_ref().map_or(0, |gpu| gpu.ordinal as usize));
                let device = devices.get(ordinal).ok_or_else(|| Error::missing("CUDA has no device"))?;
                Ok(Arc::new(cuda::Context::retain(device)?))
            }
        }
    };
    match context() {
        Ok(context) => to(runner, material, "nv12", || {
            let mut convert = ToSurface::new(&context)?;
            let mut out = Surface::Nv12(Nv12::new(&context, size.width, size.height)?);
            Ok(move |frame: &Frame| convert.write(frame, &mut out))
        }),
        Err(error) => {
            let row = Row { backend: Some("nv12".into()), ..Row::new(Case::Convert, Some(size)) };
            runner.failed(Case::Convert, Some(row), None, error)
        }
    }
}

fn is_rgb(frame: &Frame) -> bool {
    frame.picture().is_none() && !matches!(frame.format, PixelFormat::I420 | PixelFormat::Nv12)
}

/// Measures what `open` makes, anew for each round.
fn to<F: FnMut(&Frame) -> Result<()>>(
    runner: &mut Runner,
    material: &Material,
    format: &str,
    open: impl Fn() -> Result<F>,
) -> Result<()> {
    let from = material.frame(0);
    let place = if from.picture().is_some() { "on the device" } else { "in host memory" };
    let detail = Some(format!("from {} {place}", format!("{:?}", from.format).to_lowercase()));
    let size = material.info.size;
    let row = Row { backend: Some(format.into()), detail, ..Row::new(Case::Convert, Some(size)) };
    let rounds = runner.rounds();
    runner.begin(row, material.info.fps, rounds.iter().sum());
    for frames in rounds {
        let mut convert = open()?;
        runner.round();
        for n in 0..frames {
            if runner.stopping() {
                break;
            }
            let frame = material.frame(n);
            let (began, before) = (now_us(), cpu_us());
            convert(&frame)?;
            let (ended, cpu) = (now_us(), cpu_us() - before);
            runner.frame(&[("convert", ended - began), ("cpu", cpu)]);
        }
    }
    runner.weigh();
    runner.end()
}
