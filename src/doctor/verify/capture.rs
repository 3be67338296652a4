//! Pictures taken and converted as a stream's are: whether they are right, and how long taking one lasts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::draw::Canvas;
use super::probe::{DRIVER, begin, failed};
use super::{Finding, Id};
use crate::error::{Error, Result};
use crate::gpu::interop::Capture;
use crate::gpu::{cuda, egl};
use crate::pipeline::convert::ToI420;
use crate::pipeline::frame::{Frame, PixelFormat, Pixels, Pool, Range, Size};

const SIZES: [Size; 2] = [Size::new(1920, 1080), Size::new(3840, 2160)];

/// Captures that are timed, and those before them that are not.
const TIMED: usize = 600;
const WARM_UP: usize = 60;

/// How long timing may last for each size, warm-up included.
const BOUND: Duration = Duration::from_millis(500);

/// What two roundings differ by.
const ROUNDING: u8 = 1;

/// `context` is current on this thread, and draws on `device`.
pub fn check(context: &egl::Context, device: &cuda::Device) -> Finding {
    match tried(context, device) {
        Ok(Ok(seen)) => Finding::pass(seen),
        Ok(Err(wrong)) => Finding::fail(wrong, DRIVER),
        Err(error) => failed(&error, DRIVER),
    }
}

/// What was seen, or what is wrong with the picture.
fn tried(context: &egl::Context, device: &cuda::Device) -> Result<Result<String, String>> {
    let opengl = |words: String| Error::failed("OpenGL failed").cause(words);
    let cuda = Arc::new(cuda::Context::retain(device)?);
    let mut seen = Vec::new();
    for size in SIZES {
        begin(Id::Capture, &format!("OpenGL at {size}"));
        let canvas = Canvas::new(context, size.width as usize, size.height as usize).map_err(opengl)?;
        canvas.draw(context.es).map_err(opengl)?;
        begin(Id::Capture, &format!("cuGraphicsMapResources at {size}"));
        let mut capture = Capture::new(&cuda, canvas.texture.0.get(), size.width, size.height)?;
        if size == SIZES[0] {
            let mut read = Pool::default().take(PixelFormat::Rgba.bytes(size));
            read.copy_from_slice(&canvas.read().map_err(opengl)?);
            let taken = capture.take()?;
            begin(Id::Capture, "cuLaunchKernel");
            let off = difference(size, taken.into(), read.into())?;
            if off > ROUNDING {
                return Ok(Err(format!("the GPU's conversion to YUV is off by {off} of 255")));
            }
            seen.push(format!("YUV equals the CPU's within {off}"));
        }
        seen.push(timed(size, &mut capture)?);
    }
    Ok(Ok(seen.join("; ")))
}

/// The largest difference of two pictures as YUV.
fn difference(size: Size, device: Pixels, host: Pixels) -> Result<u8> {
    let mut converted = Vec::new();
    for pixels in [device, host] {
        let (format, range) = (PixelFormat::Rgba, Range::Full);
        let frame = Frame { sequence: 0, size, format, range, captured_us: (0, 0), view: 0, pixels };
        let mut convert = ToI420::default();
        converted.push(convert.planes(&frame)?.map(|(plane, _)| plane.to_vec()).concat());
    }
    Ok(converted[0].iter().zip(&converted[1]).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0))
}

/// Percentiles of the time from a finished texture to the picture in the device's memory.
fn timed(size: Size, capture: &mut Capture) -> Result<String> {
    let until = Instant::now() + BOUND;
    let mut us = Vec::new();
    for n in 0..WARM_UP + TIMED {
        let began = Instant::now();
        capture.take()?;
        us.push(began.elapsed().as_micros() as u64);
        if Instant::now() > until && n > 0 {
            break;
        }
    }
    // Where time was short, the first alone is not counted.
    let warm_up = if us.len() > WARM_UP { WARM_UP } else { 1 };
    let counted = &mut us[warm_up..];
    counted.sort_unstable();
    let ms = |percent: usize| counted[(counted.len() * percent).div_ceil(100).max(1) - 1] as f64 / 1000.0;
    Ok(format!("{size}: p50 {:.2}, p95 {:.2}, p99 {:.2} ms of {}", ms(50), ms(95), ms(99), counted.len()))
}
