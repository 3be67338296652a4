//! Pictures that lie on a device, or are to: brought to the host for encoders on the CPU, or made NV12 where NVENC reads it,
//! or planes where nvJPEG does.

use std::sync::Arc;

use super::{ToRgb, to_nv12, to_planes, to_rgba};
use crate::error::Result;
use crate::gpu::convert::{Converter, Matrix};
use crate::gpu::cuda::Context;
use crate::gpu::memory::{Pinned, Stream};
use crate::gpu::picture::{Picture, Planar, Surface};
use crate::pipeline::frame::{Frame, PixelFormat, Pool};

/// Brings pictures to the host. What that takes is made for the first, and again for one of another device or size.
#[derive(Default)]
pub struct FromDevice {
    tools: Option<Tools>,
}

struct Tools {
    planar: Planar,
    /// Room for RGBA.
    pinned: Pinned,
    converter: Converter,
    stream: Stream,
}

impl FromDevice {
    /// I420, planes and rows tightly packed. Of all that the device and the CPU could share, this crosses least.
    pub fn i420(&mut self, picture: &Picture, matrix: &Matrix) -> Result<&[u8]> {
        let Tools { planar, pinned, converter, stream } = self.tools(picture)?;
        converter.i420_to_host(stream, picture, planar, matrix, pinned)?;
        Ok(&pinned[..picture.bytes() * 3 / 8])
    }

    /// RGBA, rows tightly packed.
    pub fn rgba(&mut self, picture: &Picture) -> Result<&[u8]> {
        let Tools { pinned, stream, .. } = self.tools(picture)?;
        picture.download(stream, pinned)?;
        Ok(&pinned[..picture.bytes()])
    }

    fn tools(&mut self, picture: &Picture) -> Result<&mut Tools> {
        let (context, size) = (picture.context(), (picture.width(), picture.height()));
        let fit = |tools: &Tools| tools.planar.size() == size && tools.stream.context().same(context);
        if !self.tools.as_ref().is_some_and(fit) {
            self.tools = None;
            self.tools = Some(Tools {
                planar: Planar::new(context, size.0, size.1)?,
                pinned: Pinned::new(context, picture.bytes())?,
                converter: Converter::new(context)?,
                stream: Stream::new(context)?,
            });
        }
        Ok(self.tools.as_mut().expect("just made"))
    }
}

/// Makes what NVENC reads in a device's memory of frames that lie anywhere: NV12, BT.709 limited range, or RGBA.
pub struct ToSurface {
    stream: Stream,
    /// Of frames on this device.
    converter: Option<Converter>,
    /// Of frames in host memory.
    staging: Option<Pinned>,
    /// Of frames on another device.
    elsewhere: FromDevice,
    pool: Pool,
    rgb: ToRgb,
}

impl ToSurface {
    pub fn new(context: &Arc<Context>) -> Result<ToSurface> {
        let (stream, elsewhere, pool) = (Stream::new(context)?, FromDevice::default(), Pool::default());
        Ok(ToSurface { stream, converter: None, staging: None, elsewhere, pool, rgb: ToRgb::default() })
    }

    /// Writes a frame of the size of `out`, which is of this one's device; it is there when this returns.
    pub fn write(&mut self, frame: &Frame, out: &mut Surface) -> Result<()> {
        match frame.picture() {
            Some(picture) if picture.context().same(self.stream.context()) => {
                let out = match out {
                    Surface::Nv12(out) => out,
                    Surface::Rgba(out) => return out.copy(&self.stream, picture),
                };
                let converter = converter(&mut self.converter, self.stream.context())?;
                converter.nv12(&self.stream, picture, out, &Matrix::BT709_LIMITED)
            }
            Some(picture) => {
                let rgba = self.elsewhere.rgba(picture)?;
                let mut buffer = self.pool.take(rgba.len());
                buffer.copy_from_slice(rgba);
                let frame = Frame { pixels: buffer.into(), ..frame.clone() };
                self.upload(&frame, out)
            }
            None => self.upload(frame, out),
        }
    }

    fn upload(&mut self, frame: &Frame, out: &mut Surface) -> Result<()> {
        let bytes = match out {
            Surface::Nv12(out) => out.bytes(),
            Surface::Rgba(out) => out.bytes(),
        };
        let staging = staging(&mut self.staging, self.stream.context(), bytes)?;
        match out {
            Surface::Nv12(out) => {
                to_nv12(frame, staging, out.pitch())?;
                out.upload(&self.stream, staging)
            }
            Surface::Rgba(out) => {
                let (pixels, format) = self.rgb.pixels(frame)?;
                to_rgba(pixels, format, &mut staging[..bytes]);
                out.upload(&self.stream, staging)
            }
        }
    }
}

/// Makes planes, BT.601 full range, in a device's memory of frames that lie anywhere.
#[derive(Default)]
pub struct ToPlanar {
    /// Of frames on this device.
    converter: Option<Converter>,
    /// Of all others.
    staging: Option<Pinned>,
    rgb: ToRgb,
}

impl ToPlanar {
    /// Writes a frame of the size of `out`, which is of the stream's device; it is there when this returns.
    pub fn write(&mut self, frame: &Frame, stream: &Stream, out: &mut Planar) -> Result<()> {
        let context = stream.context();
        if let Some(picture) = frame.picture().filter(|picture| picture.context().same(context)) {
            return converter(&mut self.converter, context)?.i420(stream, picture, out, &Matrix::BT601_FULL);
        }
        let bytes = PixelFormat::I420.bytes(frame.size);
        let staging = staging(&mut self.staging, context, bytes)?;
        let (pixels, format) = self.rgb.pixels(frame)?;
        to_planes(pixels, format, frame.size, &mut staging[..bytes])?;
        out.upload(stream, staging)
    }
}

/// The one there is, or a new one.
fn converter<'a>(kept: &'a mut Option<Converter>, context: &Arc<Context>) -> Result<&'a Converter> {
    if kept.is_none() {
        *kept = Some(Converter::new(context)?);
    }
    Ok(kept.as_ref().expect("just made"))
}

/// The same, with room for so many bytes.
fn staging<'a>(kept: &'a mut Option<Pinned>, context: &Arc<Context>, bytes: usize) -> Result<&'a mut Pinned> {
    if kept.as_ref().is_none_or(|staging| staging.len() < bytes) {
        *kept = Some(Pinned::new(context, bytes)?);
    }
    Ok(kept.as_mut().expect("just made"))
}
