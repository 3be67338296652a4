//! Colour conversion: whatever a source gives, to what an encoder takes. Frames in host memory are converted by the CPU, those
//! on a device by the device.
//!
//! H.264 is BT.709 limited range (its VUI says so), JPEG is BT.601 full range (JFIF): for JPEG, YUV frames go back to
//! RGB here, and the JPEG library converts them, or for a GPU's encoder this module does.

use yuv::{
    BufferStoreMut, YuvBiPlanarImage, YuvBiPlanarImageMut, YuvConversionMode, YuvPlanarImage, YuvPlanarImageMut,
    YuvRange, YuvStandardMatrix,
};

mod device;

use self::device::FromDevice;
pub use self::device::{ToPlanar, ToSurface};
use super::frame::{Frame, PixelFormat, Range, Size};
use crate::error::{Error, Result};
use crate::gpu::convert::Matrix;

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
    device: FromDevice,
}

impl ToI420 {
    pub fn planes<'a>(&'a mut self, frame: &'a Frame) -> Result<Planes<'a>> {
        let size = frame.size;
        if let Some(picture) = frame.picture() {
            return Ok(split(self.device.i420(picture, &Matrix::BT709_LIMITED)?, size));
        }
        if frame.format == PixelFormat::I420 && frame.range == Range::Limited {
            return Ok(split(frame.host()?, size));
        }
        self.scratch.resize(PixelFormat::I420.bytes(size), 0);
        match frame.format {
            PixelFormat::I420 | PixelFormat::Nv12 => match frame.range {
                Range::Limited => yuv_to_i420(frame, &mut self.scratch, |y| y, |c| c)?,
                Range::Full => yuv_to_i420(frame, &mut self.scratch, limit_luma, limit_chroma)?,
            },
            PixelFormat::Rgb24 => self.take_rgb(frame, 3, yuv::rgb_to_yuv420)?,
            PixelFormat::Rgba => self.take_rgb(frame, 4, yuv::rgba_to_yuv420)?,
            PixelFormat::Bgra => self.take_rgb(frame, 4, yuv::bgra_to_yuv420)?,
        }
        Ok(split(&self.scratch, size))
    }

    fn take_rgb<'a>(
        &'a mut self,
        frame: &Frame,
        bytes: u32,
        convert: FromRgb<YuvPlanarImageMut<'a, u8>>,
    ) -> Result<()> {
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
        convert(&mut image, frame.host()?, width * bytes, YuvRange::Limited, MATRIX, YuvConversionMode::Balanced)
            .map_err(failed)
    }
}

/// One of the yuv crate's conversions from RGB to an image of planes.
type FromRgb<Image> =
    fn(&mut Image, &[u8], u32, YuvRange, YuvStandardMatrix, YuvConversionMode) -> Result<(), yuv::YuvError>;

/// Writes a frame of host memory as NV12, BT.709 limited range: luma rows `pitch` bytes apart, then rows of interleaved chroma as far
/// apart.
///
/// # Panics
/// If `out` holds less than a picture at that pitch.
fn to_nv12(frame: &Frame, out: &mut [u8], pitch: usize) -> Result<()> {
    let (y, uv) = out[..pitch * frame.size.height as usize * 3 / 2].split_at_mut(pitch * frame.size.height as usize);
    match frame.format {
        PixelFormat::Rgb24 => rgb_to_nv12(frame, 3, y, uv, pitch, yuv::rgb_to_yuv_nv12),
        PixelFormat::Rgba => rgb_to_nv12(frame, 4, y, uv, pitch, yuv::rgba_to_yuv_nv12),
        PixelFormat::Bgra => rgb_to_nv12(frame, 4, y, uv, pitch, yuv::bgra_to_yuv_nv12),
        PixelFormat::I420 | PixelFormat::Nv12 => match frame.range {
            Range::Limited => yuv_to_nv12(frame, y, uv, pitch, |y| y, |c| c),
            Range::Full => yuv_to_nv12(frame, y, uv, pitch, limit_luma, limit_chroma),
        },
    }
}

fn rgb_to_nv12<'a>(
    frame: &Frame,
    bytes: u32,
    y: &'a mut [u8],
    uv: &'a mut [u8],
    pitch: usize,
    convert: FromRgb<YuvBiPlanarImageMut<'a, u8>>,
) -> Result<()> {
    let Size { width, height } = frame.size;
    let mut image = YuvBiPlanarImageMut {
        y_plane: BufferStoreMut::Borrowed(y),
        y_stride: pitch as u32,
        uv_plane: BufferStoreMut::Borrowed(uv),
        uv_stride: pitch as u32,
        width,
        height,
    };
    convert(&mut image, frame.host()?, width * bytes, YuvRange::Limited, MATRIX, YuvConversionMode::Balanced)
        .map_err(failed)
}

#[inline]
fn yuv_to_i420(frame: &Frame, out: &mut [u8], luma: impl Fn(u8) -> u8, chroma: impl Fn(u8) -> u8) -> Result<()> {
    let (from_y, from_c) = frame.host()?.split_at(frame.size.pixels());
    let (y, c) = out.split_at_mut(frame.size.pixels());
    map(from_y, y, luma);
    if frame.format == PixelFormat::I420 {
        map(from_c, c, chroma);
        return Ok(());
    }
    let (u, v) = c.split_at_mut(frame.size.pixels() / 4);
    for ((&[from_u, from_v], u), v) in from_c.as_chunks::<2>().0.iter().zip(u).zip(v) {
        (*u, *v) = (chroma(from_u), chroma(from_v));
    }
    Ok(())
}

#[inline]
fn yuv_to_nv12(
    frame: &Frame,
    y: &mut [u8],
    uv: &mut [u8],
    pitch: usize,
    luma: impl Fn(u8) -> u8,
    chroma: impl Fn(u8) -> u8,
) -> Result<()> {
    let width = frame.size.width as usize;
    let (from_y, from_c) = frame.host()?.split_at(frame.size.pixels());
    for (to, from) in y.chunks_mut(pitch).zip(from_y.chunks_exact(width)) {
        map(from, to, &luma);
    }
    if frame.format == PixelFormat::Nv12 {
        for (to, from) in uv.chunks_mut(pitch).zip(from_c.chunks_exact(width)) {
            map(from, to, &chroma);
        }
        return Ok(());
    }
    let (from_u, from_v) = from_c.split_at(frame.size.pixels() / 4);
    let rows = from_u.chunks_exact(width / 2).zip(from_v.chunks_exact(width / 2));
    for (to, (u, v)) in uv.chunks_mut(pitch).zip(rows) {
        for ((pair, &u), &v) in to.as_chunks_mut::<2>().0.iter_mut().zip(u).zip(v) {
            *pair = [chroma(u), chroma(v)];
        }
    }
    Ok(())
}

/// Writes RGB pixels, tightly packed, as I420 in BT.601 full range (JFIF): planes one after another, rows tightly packed.
fn to_planes(pixels: &[u8], format: PixelFormat, size: Size, out: &mut [u8]) -> Result<()> {
    let (y, chroma) = out.split_at_mut(size.pixels());
    let (u, v) = chroma.split_at_mut(size.pixels() / 4);
    let mut image = YuvPlanarImageMut {
        y_plane: BufferStoreMut::Borrowed(y),
        y_stride: size.width,
        u_plane: BufferStoreMut::Borrowed(u),
        u_stride: size.width / 2,
        v_plane: BufferStoreMut::Borrowed(v),
        v_stride: size.width / 2,
        width: size.width,
        height: size.height,
    };
    let convert = match format {
        PixelFormat::Rgb24 => yuv::rgb_to_yuv420,
        PixelFormat::Bgra => yuv::bgra_to_yuv420,
        _ => yuv::rgba_to_yuv420,
    };
    let row = (format.bytes(size) / size.height as usize) as u32;
    let mode = YuvConversionMode::Balanced;
    convert(&mut image, pixels, row, YuvRange::Full, YuvStandardMatrix::Bt601, mode).map_err(failed)
}

/// As many values as there are in `from`.
#[inline]
fn map(from: &[u8], to: &mut [u8], value: impl Fn(u8) -> u8) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = value(from);
    }
}

fn failed(error: yuv::YuvError) -> Error {
    Error::bug("colour conversion failed").cause(error)
}

/// Full to limited range, rounded to nearest: BT.709 has 219 steps of luma...
fn limit_luma(full: u8) -> u8 {
    (16 + (u32::from(full) * 219 + 127) / 255) as u8
}

/// ... and 224 of chroma.
fn limit_chroma(full: u8) -> u8 {
    (16 + (u32::from(full) * 224 + 127) / 255) as u8
}

/// To full-range RGB for a JPEG encoder; RGB in any order is passed through.
#[derive(Default)]
pub struct ToRgb {
    scratch: Vec<u8>,
    device: FromDevice,
}

impl ToRgb {
    /// Pixels, tightly packed, and their format: one of the RGB formats.
    pub fn pixels<'a>(&'a mut self, frame: &'a Frame) -> Result<(&'a [u8], PixelFormat)> {
        if let Some(picture) = frame.picture() {
            return Ok((self.device.rgba(picture)?, PixelFormat::Rgba));
        }
        let Size { width, height } = frame.size;
        let pixels = frame.host()?;
        let range = match frame.range {
            Range::Limited => YuvRange::Limited,
            Range::Full => YuvRange::Full,
        };
        if !matches!(frame.format, PixelFormat::I420 | PixelFormat::Nv12) {
            return Ok((pixels, frame.format));
        }
        self.scratch.resize(PixelFormat::Rgba.bytes(frame.size), 0);
        if frame.format == PixelFormat::I420 {
            let [(y, _), (u, _), (v, _)] = split(pixels, frame.size);
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
            let (y_plane, uv_plane) = pixels.split_at(frame.size.pixels());
            let image = YuvBiPlanarImage { y_plane, y_stride: width, uv_plane, uv_stride: width, width, height };
            let mode = YuvConversionMode::Balanced;
            yuv::yuv_nv12_to_rgba(&image, &mut self.scratch, width * 4, range, MATRIX, mode).map_err(failed)?;
        }
        Ok((&self.scratch, PixelFormat::Rgba))
    }
}

/// Writes pixels of an RGB format as R, G, B and a byte that nobody looks at.
fn to_rgba(pixels: &[u8], format: PixelFormat, out: &mut [u8]) {
    let out = out.as_chunks_mut::<4>().0;
    match format {
        PixelFormat::Rgb24 => {
            out.iter_mut().zip(pixels.as_chunks::<3>().0).for_each(|(to, &[r, g, b])| *to = [r, g, b, 255]);
        }
        PixelFormat::Bgra => {
            out.iter_mut().zip(pixels.as_chunks::<4>().0).for_each(|(to, &[b, g, r, a])| *to = [r, g, b, a]);
        }
        _ => out.as_flattened_mut().copy_from_slice(pixels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::frame::Pool;

    fn frame(format: PixelFormat, range: Range, fill: impl Fn(&mut [u8])) -> Frame {
        let size = Size::new(32, 16);
        let mut pixels = Pool::default().take(format.bytes(size));
        fill(&mut pixels);
        Frame { sequence: 0, size, format, range, captured_us: (0, 0), view: 0, pixels: pixels.into() }
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
    fn whatever_comes_becomes_rgba() {
        for frame in [
            flat(PixelFormat::Rgb24, &[10, 100, 200]),
            flat(PixelFormat::Rgba, &[10, 100, 200, 7]),
            flat(PixelFormat::Bgra, &[200, 100, 10, 7]),
        ] {
            let mut out = vec![9; 32 * 16 * 4];
            to_rgba(frame.host().unwrap(), frame.format, &mut out);
            assert!(out.chunks(4).all(|pixel| pixel[..3] == [10, 100, 200]), "{:?}", frame.format);
        }
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

    /// The picture that both ways make, plane by plane, and whether the bytes between the rows are left as they were.
    #[test]
    fn nv12_at_a_pitch_is_what_i420_is() {
        let (size, pitch) = (Size::new(34, 18), 48);
        for format in [PixelFormat::Rgb24, PixelFormat::Rgba, PixelFormat::Bgra, PixelFormat::I420, PixelFormat::Nv12] {
            for range in [Range::Limited, Range::Full] {
                let mut pixels = Pool::default().take(format.bytes(size));
                let mut state = 1u32;
                for byte in pixels.iter_mut() {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte = (state >> 24) as u8;
                }
                let frame =
                    Frame { sequence: 0, size, format, range, captured_us: (0, 0), view: 0, pixels: pixels.into() };
                let mut out = vec![7; pitch * 27];
                to_nv12(&frame, &mut out, pitch).unwrap();
                let mut convert = ToI420::default();
                let [y, u, v] = convert.planes(&frame).unwrap().map(|(plane, _)| plane);
                let rows: Vec<&[u8]> = out.chunks(pitch).collect();
                for (n, row) in rows.iter().enumerate() {
                    let expected: Vec<u8> = if n < 18 {
                        y[n * 34..][..34].to_vec()
                    } else {
                        let at = (n - 18) * 17;
                        u[at..at + 17].iter().zip(&v[at..at + 17]).flat_map(|(&u, &v)| [u, v]).collect()
                    };
                    assert_eq!(row[..34], expected, "{format:?} {range:?} row {n}");
                    assert_eq!(row[34..], [7; 14], "{format:?} {range:?} row {n}");
                }
            }
        }
    }
}
