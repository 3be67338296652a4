//! Products of matrices of floats on a device, by the kernel in `kernels/product.cu`.
//!
//! Its PTX is part of the program, so that the driver alone loads it; it asks for compute capability 5.2 and PTX 8.0
//! (CUDA 12.0).

use std::ffi::c_uint;
use std::sync::Arc;

use super::cuda::Context;
use super::kernel::{Function, Module, argument};
use super::memory::{Memory, Pinned, Side, Stream};
use crate::error::{Error, Result};

const PTX: &str = concat!(include_str!("kernels/product.ptx"), "\0");

/// Threads of a block, each of which makes [`TILE`] x [`TILE`] values.
const BLOCK: (u32, u32) = (16, 16);
const TILE: u32 = 2;

const FLOAT: usize = size_of::<f32>();

/// A matrix in a device's memory, rows tightly packed; its content is unspecified until it is written.
pub struct Matrix {
    memory: Memory,
    rows: u32,
    columns: u32,
}

impl Matrix {
    /// Neither may be 0.
    pub fn new(context: &Arc<Context>, rows: usize, columns: usize) -> Result<Matrix> {
        let sides = (u32::try_from(rows), u32::try_from(columns));
        let ((Ok(high @ 1..), Ok(wide @ 1..)), Some(values)) = (sides, rows.checked_mul(columns)) else {
            return Err(Error::bug(format!("a matrix of {rows}x{columns}")));
        };
        Ok(Matrix { memory: Memory::new(context, values * FLOAT)?, rows: high, columns: wide })
    }

    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    pub fn columns(&self) -> usize {
        self.columns as usize
    }

    fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// As a side of a copy of one row.
    fn side(&self) -> Side {
        Side::Device(self.memory.pointer(), self.bytes())
    }
}

/// The kernel, loaded for a device, with what copies to it and back.
pub struct Product {
    module: Module,
    function: Function,
    stream: Stream,
    staging: Pinned,
    room: usize,
}

impl Product {
    /// For matrices of up to so many values.
    pub fn new(context: &Arc<Context>, values: usize) -> Result<Product> {
        let module = Module::load(context, PTX)?;
        let room = values.max(1) * FLOAT;
        Ok(Product {
            function: module.function(c"product")?,
            stream: Stream::new(context)?,
            staging: Pinned::new(context, room)?,
            room,
            module,
        })
    }

    /// Writes a matrix from the host, row by row; it is there when this returns.
    pub fn write(&mut self, from: &[f32], to: &mut Matrix) -> Result<()> {
        self.check(from.len(), to)?;
        let bytes = to.bytes();
        for (bytes, value) in self.staging.chunks_exact_mut(FLOAT).zip(from) {
            bytes.copy_from_slice(&value.to_ne_bytes());
        }
        let host = self.staging.side(0, bytes);
        // SAFETY: both sides hold one row of `bytes` bytes, and stay until it is done, which is waited for in any case.
        let queued = unsafe { self.stream.copy(host, to.side(), bytes, 1) };
        let done = self.stream.finish();
        queued.and(done)
    }

    /// Reads a matrix, row by row, when all before it is done.
    pub fn read(&mut self, from: &Matrix, to: &mut [f32]) -> Result<()> {
        self.check(to.len(), from)?;
        let bytes = from.bytes();
        let host = self.staging.side(0, bytes);
        // SAFETY: as in `write`.
        let queued = unsafe { self.stream.copy(from.side(), host, bytes, 1) };
        let done = self.stream.finish();
        queued.and(done)?;
        for (value, bytes) in to.iter_mut().zip(self.staging.chunks_exact(FLOAT)) {
            *value = f32::from_ne_bytes(bytes.try_into().expect("four bytes"));
        }
        Ok(())
    }

    /// Whether a matrix is this device's, and holds so many values that there is room for.
    fn check(&self, values: usize, matrix: &Matrix) -> Result<()> {
        let fits = values * FLOAT == matrix.bytes() && matrix.bytes() <= self.room;
        match fits && self.module.context().same(matrix.memory.context()) {
            true => Ok(()),
            false => Err(Error::bug(format!("{values} values for a matrix of {}x{}", matrix.rows, matrix.columns))),
        }
    }

    /// `to` becomes the product of `a` and `b`, each of which may be taken transposed; it is there when this returns.
    pub fn multiply(&self, (a, turn_a): (&Matrix, bool), (b, turn_b): (&Matrix, bool), to: &mut Matrix) -> Result<()> {
        let shape = |matrix: &Matrix, turned| match turned {
            true => (matrix.columns, matrix.rows),
            false => (matrix.rows, matrix.columns),
        };
        let ((rows, depth), (inner, columns)) = (shape(a, turn_a), shape(b, turn_b));
        let here = [a, b, to].into_iter().all(|matrix| self.module.context().same(matrix.memory.context()));
        if !here || depth != inner || (rows, columns) != (to.rows, to.columns) {
            let of = |matrix: &Matrix| format!("{}x{}", matrix.rows, matrix.columns);
            return Err(Error::bug(format!("{} times {} is no {}", of(a), of(b), of(to))));
        }
        let steps = |matrix: &Matrix, turned| if turned { (1, matrix.columns) } else { (matrix.columns, 1) };
        let ((mut a_row, mut a_column), (mut b_row, mut b_column)) = (steps(a, turn_a), steps(b, turn_b));
        let [mut first, mut second, mut into] = [a, b, to].map(|matrix| matrix.memory.pointer());
        let (mut rows, mut columns, mut depth): (c_uint, c_uint, c_uint) = (rows, columns, depth);
        let mut arguments = [
            argument(&mut first),
            argument(&mut a_row),
            argument(&mut a_column),
            argument(&mut second),
            argument(&mut b_row),
            argument(&mut b_column),
            argument(&mut into),
            argument(&mut rows),
            argument(&mut columns),
            argument(&mut depth),
        ];
        let grid = (columns.div_ceil(BLOCK.0 * TILE), rows.div_ceil(BLOCK.1 * TILE));
        // SAFETY: the arguments are those of the kernel, in number, order and size; the matrices are this device's, of the
        // shapes that the steps say, and borrowed until it is done, which is waited for.
        let queued = unsafe { self.module.launch(&self.stream, self.function, grid, BLOCK, &mut arguments) };
        let done = self.stream.finish();
        queued.and(done)
    }
}
