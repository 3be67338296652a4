//! Colour conversion on the CPU: whatever a source gives, to what an encoder takes.
//!
//! H.264 is BT.709 limited range (its VUI says so), JPEG is BT.601 full range (JFIF): for JPEG, YUV frames go back to
//! RGB here, and the JPEG library converts them.

use yuv::{
    BufferStoreMut, YuvBiPlanarImage, YuvConversionMode, YuvPlanarImage, YuvPlanarImageMut, YuvRange, YuvStandardMatrix,
};

use super::frame::{Frame, PixelFormat, Range, Size};
use crate::error::{Error, Result};

/// Planes Y (w×h), U and V (w/2×h/2), each with its stride in bytes.
pub type Planes<'a> = [(&'a [u8], usize); 3];

const MATRIX: YuvStandardMatrix = YuvStandardMatrix::Bt709;

fn split(pixels: &[u8], size: Size) -> Planes<'_> {
    let (luma, chroma) = (size.pixels(), size.pixels() / 4);
    let (width, half) = (size.width as usize, size.width as usize / 2);
    [(&pixels[..luma], width), (&pixels[luma..luma + chroma], half), (&pixels[luma + chroma..luma + 2 * chroma], half)]
}

/// To I420, BT.709 limited range. What is that already is passed through.
#[derive(Default)]
pub struct ToI420 {
    scratch: Vec<u8>,
}

impl ToI420 {
    pub fn planes<'a>(&'a mut self, frame: &'a Frame) -> Result<Planes<'a>> {
        let size = frame.size;
        if frame.format == PixelFormat::I420 && frame.range == Range::Limited {
            return Ok(split(&frame.pixels, size));
        }
        self.scratch.resize(PixelFormat::I420.bytes(size), 0);
        match frame.format {
            PixelFormat::I420 => limit(&frame.pixels, &mut self.scratch, size.pixels()),
            PixelFormat::Nv12 => deinterleave(&frame.pixels, &mut self.scratch, size.pixels()),
            PixelFormat::Rgb24 => self.take_rgb(frame, 3, yuv::rgb_to_yuv420)?,
            PixelFormat::Rgba => self.take_rgb(frame, 4, yuv::rgba_to_yuv420)?,
            PixelFormat::Bgra => self.take_rgb(frame, 4, yuv::bgra_to_yuv420)?,
        }
        Ok(split(&self.scratch, size))
    }

    fn take_rgb(&mut self, frame: &Frame, bytes: u32, convert: FromRgb) -> Result<()> {
        let Size { width, height } = frame.size;
        let (y, chroma) = self.scratch.split_at_mut(frame.size.pixels());
        let (u, v) = chroma.split_at_mut(frame.size.pixels() / 4);
        let mut image = YuvPlanarImageMut {
            y_plane: BufferStoreMut::Borrowed(y),
            y_stride: width,
            u_plane: BufferStoreMut::Borrowed(u),
            u_stride: width / 2,
            v_plane: BufferStoreMut::Borrowed(v),
            v_stride: width / 2,
            width,
            height,
        };
        convert(&mut image, &frame.pixels, width * bytes, YuvRange::Limited, MATRIX, YuvConversionMode::Balanced)
            .map_err(failed)
    }
}

type FromRgb = fn(
    &mut YuvPlanarImageMut<u8>,
    &[u8],
    u32,
    YuvRange,
    YuvStandardMatrix,
    YuvConversionMode,
) -> Result<(), yuv::YuvError>;

fn failed(error: yuv::YuvError) -> Error {
    Error::bug("colour conversion failed").cause(error)
}

/// Full to limited range (BT.709 has 219 steps of luma and 224 of chroma), rounded to nearest.
fn limit(from: &[u8], to: &mut [u8], luma: usize) {
    let (to_y, to_c) = to.split_at_mut(luma);
    for (to, &from) in to_y.iter_mut().zip(&from[..luma]) {
        *to = (16 + (u32::from(from) * 219 + 127) / 255) as u8;
    }
    for (to, &from) in to_c.iter_mut().zip(&from[luma..]) {
        *to = (16 + (u32::from(from) * 224 + 127) / 255) as u8;
    }
}

fn deinterleave(from: &[u8], to: &mut [u8], luma: usize) {
    let (to_y, chroma) = to.split_at_mut(luma);
    to_y.copy_from_slice(&from[..luma]);
    let (to_u, to_v) = chroma.split_at_mut(luma / 4);
    for ((pair, u), v) in from[luma..].as_chunks::<2>().0.iter().zip(to_u).zip(to_v) {
        [*u, *v] = *pair;
    }
}

/// To full-range RGB for a JPEG encoder; RGB in any order is passed through.
#[derive(Default)]
pub struct ToRgb {
    scratch: Vec<u8>,
}

impl ToRgb {
    /// Pixels, tightly packed, and their format: one of the RGB formats.
    pub fn pixels<'a>(&'a mut self, frame: &'a Frame) -> Result<(&'a [u8], PixelFormat)> {
        let Size { width, height } = frame.size;
        let range = match frame.range {
            Range::Limited => YuvRange::Limited,
            Range::Full => YuvRange::Full,
        };
        if !matches!(frame.format, PixelFormat::I420 | PixelFormat::Nv12) {
            return Ok((&frame.pixels, frame.format));
        }
        self.scratch.resize(PixelFormat::Rgba.bytes(frame.size), 0);
        if frame.format == PixelFormat::I420 {
            let [(y, _), (u, _), (v, _)] = split(&frame.pixels, frame.size);
            let (y_stride, half) = (width, width / 2);
            let image = YuvPlanarImage {
                y_plane: y,
                y_stride,
                u_plane: u,
                u_stride: half,
                v_plane: v,
                v_stride: half,
                width,
                height,
            };
            yuv::yuv420_to_rgba(&image, &mut self.scratch, width * 4, range, MATRIX).map_err(failed)?;
        } else {
            let (y_plane, uv_plane) = frame.pixels.split_at(frame.size.pixels());
            let image = YuvBiPlanarImage { y_plane, y_stride: width, uv_plane, uv_stride: width, width, height };
            let mode = YuvConversionMode::Balanced;
            yuv::yuv_nv12_to_rgba(&image, &mut self.scratch, width * 4, range, MATRIX, mode).map_err(failed)?;
        }
        Ok((&self.scratch, PixelFormat::Rgba))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pipeline::frame::Pool;

    fn frame(format: PixelFormat, range: Range, fill: impl Fn(&mut [u8])) -> Frame {
        let size = Size::new(32, 16);
        let mut pixels = Pool::default().take(format.bytes(size));
        fill(&mut pixels);
        Frame { sequence: 0, size, format, range, captured_us: (0, 0), view: 0, pixels: Arc::new(pixels) }
    }

    fn flat(format: PixelFormat, pixel: &[u8]) -> Frame {
        frame(format, Range::Limited, |out| out.chunks_mut(pixel.len()).for_each(|p| p.copy_from_slice(pixel)))
    }

    fn first_yuv(frame: &Frame) -> [u8; 3] {
        ToI420::default().planes(frame).unwrap().map(|(plane, _)| plane[0])
    }

    /// ITU-R BT.709-6, items 3.2 to 3.5, at eight bits.
    fn bt709(rgb: [u8; 3]) -> [f64; 3] {
        let [r, g, b] = rgb.map(|c| f64::from(c) / 255.0);
        let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        [16.0 + 219.0 * y, 128.0 + 224.0 * (b - y) / 1.8556, 128.0 + 224.0 * (r - y) / 1.5748]
    }

    #[test]
    fn rgb_in_any_order_becomes_bt709_limited() {
        for rgb in [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [191, 64, 128]] {
            let [r, g, b] = rgb;
            for frame in [
                flat(PixelFormat::Rgb24, &rgb),
                flat(PixelFormat::Rgba, &[r, g, b, 255]),
                flat(PixelFormat::Bgra, &[b, g, r, 255]),
            ] {
                for (got, want) in first_yuv(&frame).into_iter().zip(bt709(rgb)) {
                    assert!((f64::from(got) - want).abs() <= 1.0, "{:?} {rgb:?}: {got} for {want}", frame.format);
                }
            }
        }
    }

    #[test]
    fn planes_are_split_and_interleaved_chroma_is_parted() {
        let luma = 32 * 16;
        let nv12 = frame(PixelFormat::Nv12, Range::Limited, |out| {
            out[..luma].fill(50);
            out[luma..].chunks_mut(2).for_each(|uv| uv.copy_from_slice(&[60, 70]));
        });
        let mut convert = ToI420::default();
        let planes = convert.planes(&nv12).unwrap();
        for ((plane, stride), (value, len, width)) in
            planes.into_iter().zip([(50, luma, 32), (60, luma / 4, 16), (70, luma / 4, 16)])
        {
            assert!(plane.iter().all(|&b| b == value) && plane.len() == len && stride == width);
        }
    }

    #[test]
    fn full_range_is_limited() {
        for (full, [y, c]) in [(0, [16, 16]), (255, [235, 240]), (128, [126, 128])] {
            let got = first_yuv(&frame(PixelFormat::I420, Range::Full, |out| out.fill(full)));
            assert_eq!(got, [y, c, c]);
        }
    }

    #[test]
    fn yuv_comes_back_as_the_rgb_it_was() {
        let rgb = [200, 40, 90];
        let yuv = first_yuv(&flat(PixelFormat::Rgb24, &rgb));
        let luma = 32 * 16;
        let i420 = frame(PixelFormat::I420, Range::Limited, |out| {
            out[..luma].fill(yuv[0]);
            out[luma..luma * 5 / 4].fill(yuv[1]);
            out[luma * 5 / 4..].fill(yuv[2]);
        });
        let nv12 = frame(PixelFormat::Nv12, Range::Limited, |out| {
            out[..luma].fill(yuv[0]);
            out[luma..].chunks_mut(2).for_each(|uv| uv.copy_from_slice(&yuv[1..]));
        });
        for frame in [i420, nv12] {
            let mut convert = ToRgb::default();
            let (pixels, format) = convert.pixels(&frame).unwrap();
            assert_eq!(format, PixelFormat::Rgba);
            for (got, want) in pixels.iter().zip(rgb) {
                assert!(got.abs_diff(want) <= 2, "{:?}: {got} for {want}", frame.format);
            }
        }
    }
}
