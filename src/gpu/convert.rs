//! Colour conversion on the device: RGBA to NV12 or I420, by the kernels in `kernels/convert.cu`.
//!
//! Their PTX is part of the program, so that the driver alone loads it; it asks for compute capability 5.2 and PTX 8.0
//! (CUDA 12.0).

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use cudarc::driver::sys::CUdeviceptr;

use super::cuda::Context;
use super::kernel::{Function, Module, argument};
use super::memory::{Pinned, Stream};
use super::picture::{Nv12, Picture, Planar};
use crate::error::{Error, Result};

const PTX: &str = concat!(include_str!("kernels/convert.ptx"), "\0");

/// Threads of a block, each of which makes four pixels (two by two).
const BLOCK: (u32, u32) = (32, 8);

/// How RGB becomes Y, U and V: the kernels' `Matrix`. Weights of R, G and B in units of 1/65536; U and V are around 128.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    y: [c_int; 3],
    u: [c_int; 3],
    v: [c_int; 3],
    y_offset: c_int,
}

impl Matrix {
    /// BT.709, limited range: what H.264 is declared to be.
    pub const BT709_LIMITED: Matrix = Matrix::new(0.2126, 0.0722, true);
    /// BT.601, full range: what JFIF is.
    pub const BT601_FULL: Matrix = Matrix::new(0.299, 0.114, false);

    /// By the weights of red and blue in luma (ITU-R BT.709-6, item 3.2; BT.601-7, 2.5.1), and the quantisation of items
    /// 3.4 and 3.5: 219 and 224 steps of 255 in limited range.
    const fn new(red: f64, blue: f64, limited: bool) -> Matrix {
        let (luma, chroma) = if limited { (219.0 / 255.0, 224.0 / 255.0) } else { (1.0, 1.0) };
        let green = 1.0 - red - blue;
        let (cb, cr) = (chroma / (2.0 * (1.0 - blue)), chroma / (2.0 * (1.0 - red)));
        Matrix {
            y: row([red * luma, green * luma, blue * luma], luma),
            u: row([-red * cb, -green * cb, (1.0 - blue) * cb], 0.0),
            v: row([(1.0 - red) * cr, -green * cr, -blue * cr], 0.0),
            y_offset: if limited { 16 } else { 0 },
        }
    }
}

/// In fixed point, with a sum that is right: green, which weighs the most, takes what rounding leaves.
const fn row(weights: [f64; 3], sum: f64) -> [c_int; 3] {
    let [red, _, blue] = [fixed(weights[0]), 0, fixed(weights[2])];
    [red, fixed(sum) - red - blue, blue]
}

const fn fixed(weight: f64) -> c_int {
    let scaled = weight * 65536.0;
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as c_int
}

/// The kernels, loaded for a device.
pub struct Converter {
    module: Module,
    to_nv12: Function,
    to_i420: Function,
}

impl Converter {
    pub fn new(context: &Arc<Context>) -> Result<Converter> {
        let module = Module::load(context, PTX)?;
        Ok(Converter { to_nv12: module.function(c"rgba_to_nv12")?, to_i420: module.function(c"rgba_to_i420")?, module })
    }

    /// Converts to NV12 of the same size, and has it done when it returns.
    pub fn nv12(&self, stream: &Stream, from: &Picture, to: &mut Nv12, matrix: &Matrix) -> Result<()> {
        self.check(stream, from, to.context(), to.size())?;
        let (mut rgba, mut rgba_pitch) = (from.pointer(), from.pitch() as c_uint);
        let mut luma = to.pointer();
        let mut chroma = luma + (to.pitch() * from.height() as usize) as CUdeviceptr;
        let mut pitch = to.pitch() as c_uint;
        let (mut width, mut height, mut matrix) = (from.width(), from.height(), *matrix);
        let mut arguments = [
            argument(&mut rgba),
            argument(&mut rgba_pitch),
            argument(&mut luma),
            argument(&mut chroma),
            argument(&mut pitch),
            argument(&mut width),
            argument(&mut height),
            argument(&mut matrix),
        ];
        // SAFETY: the arguments are those of the kernel, in number, order and size; both pictures are of one size and device,
        // and borrowed until it is done.
        unsafe { self.queue(stream, self.to_nv12, from, &mut arguments)? };
        stream.finish()
    }

    /// Converts to planes of the same size, and has it done when it returns.
    pub fn i420(&self, stream: &Stream, from: &Picture, to: &mut Planar, matrix: &Matrix) -> Result<()> {
        // SAFETY: both pictures are borrowed until it is done.
        unsafe { self.queue_i420(stream, from, to, matrix)? };
        stream.finish()
    }

    /// The same, and copies the planes to the host: one after another, rows tightly packed. All is waited for once.
    pub fn i420_to_host(
        &self,
        stream: &Stream,
        from: &Picture,
        to: &mut Planar,
        matrix: &Matrix,
        host: &mut Pinned,
    ) -> Result<()> {
        // SAFETY: both pictures are borrowed until it is done, which is waited for in any case.
        unsafe { self.queue_i420(stream, from, to, matrix)? };
        to.download(stream, host)
    }

    /// # Safety
    /// Both pictures stay as they are until the stream has done it.
    unsafe fn queue_i420(&self, stream: &Stream, from: &Picture, to: &mut Planar, matrix: &Matrix) -> Result<()> {
        self.check(stream, from, to.context(), to.size())?;
        let [mut y, mut u, mut v] = to.planes().map(|plane| plane.pointer);
        let [mut y_pitch, mut chroma_pitch, _] = to.planes().map(|plane| plane.pitch as c_uint);
        let (mut rgba, mut rgba_pitch) = (from.pointer(), from.pitch() as c_uint);
        let (mut width, mut height, mut matrix) = (from.width(), from.height(), *matrix);
        let mut arguments = [
            argument(&mut rgba),
            argument(&mut rgba_pitch),
            argument(&mut y),
            argument(&mut y_pitch),
            argument(&mut u),
            argument(&mut v),
            argument(&mut chroma_pitch),
            argument(&mut width),
            argument(&mut height),
            argument(&mut matrix),
        ];
        // SAFETY: as in `nv12`, and as the caller promises.
        unsafe { self.queue(stream, self.to_i420, from, &mut arguments) }
    }

    /// Whether all is of one device and one size.
    fn check(&self, stream: &Stream, from: &Picture, to: &Context, size: (u32, u32)) -> Result<()> {
        if size != (from.width(), from.height()) {
            return Err(Error::bug(format!("{from:?} was to become a picture of {size:?}")));
        }
        match [from.context(), stream.context(), to].into_iter().all(|context| self.module.context().same(context)) {
            true => Ok(()),
            false => Err(Error::bug("a picture of another device than the kernels'")),
        }
    }

    /// Queues a kernel.
    ///
    /// # Safety
    /// The arguments are those of the kernel, and what they point to on the device has room for a picture of that size until
    /// the stream has done it.
    unsafe fn queue(
        &self,
        stream: &Stream,
        kernel: Function,
        from: &Picture,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        let grid = ((from.width() / 2).div_ceil(BLOCK.0), (from.height() / 2).div_ceil(BLOCK.1));
        // SAFETY: as the caller promises; the function is this module's.
        unsafe { self.module.launch(stream, kernel, grid, BLOCK, arguments) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// White, black and the primaries, by the standards' own formulas.
    #[test]
    fn the_weights_are_those_of_the_standards() {
        let value = |row: [c_int; 3], rgb: [c_int; 3], offset: c_int| {
            let sum: c_int = row.iter().zip(rgb).map(|(weight, part)| weight * part).sum();
            offset + ((sum + 32768) >> 16)
        };
        let yuv = |m: &Matrix, rgb| [value(m.y, rgb, m.y_offset), value(m.u, rgb, 128), value(m.v, rgb, 128)];
        for (matrix, rgb, expected) in [
            (Matrix::BT709_LIMITED, [255, 255, 255], [235, 128, 128]),
            (Matrix::BT709_LIMITED, [0, 0, 0], [16, 128, 128]),
            (Matrix::BT709_LIMITED, [255, 0, 0], [63, 102, 240]),
            (Matrix::BT709_LIMITED, [0, 0, 255], [32, 240, 118]),
            (Matrix::BT601_FULL, [255, 255, 255], [255, 128, 128]),
            (Matrix::BT601_FULL, [0, 255, 0], [150, 44, 21]),
        ] {
            assert_eq!(yuv(&matrix, rgb), expected, "{matrix:?} {rgb:?}");
        }
    }
}
