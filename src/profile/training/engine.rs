//! What multiplies matrices: the CPU, or a CUDA device.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::gpu::cuda::{self, Context};
use crate::gpu::product::{Matrix, Product};

/// Where a matrix is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Input,
    Hidden,
    HiddenError,
    OutputError,
    FirstWeights,
    SecondWeights,
}

const PLACES: usize = 6;

/// Matrices by their places, rows tightly packed, and their products.
pub trait Engine {
    /// Puts a matrix of so many rows and columns in its place.
    fn put(&mut self, place: Place, rows: usize, columns: usize, values: &[f32]) -> Result<()>;

    /// The product of two matrices, each of which may be taken transposed, row by row.
    fn product(&mut self, a: (Place, bool), b: (Place, bool), into: &mut [f32]) -> Result<()>;
}

/// How long the driver may take to come up.
const DRIVER: Duration = Duration::from_secs(15);

/// The first CUDA device, else the CPU: with its name, and why there is no device. No matrix has more than `values`.
pub fn best(values: usize) -> (Box<dyn Engine>, String, Option<Error>) {
    match device().and_then(|device| Ok((Device::new(&device, values)?, device.name))) {
        Ok((engine, name)) => (Box::new(engine), name, None),
        Err(error) => (Box::new(Host::default()), "CPU".into(), Some(error)),
    }
}

fn device() -> Result<cuda::Device> {
    cuda::find()?;
    let (tell, told) = mpsc::channel();
    // A driver that hangs is left behind with its thread.
    std::thread::Builder::new()
        .name("gsk-cuda".into())
        .spawn(move || tell.send(cuda::devices()))
        .map_err(|error| Error::io("cannot start a thread", error))?;
    let devices = told.recv_timeout(DRIVER).map_err(|_| {
        Error::new(Kind::Unreachable, "CUDA cannot be used").cause("the driver does not answer").hint("gsk verify-gl")
    })??;
    devices.into_iter().next().ok_or_else(|| Error::missing("CUDA has no device"))
}

/// The CPU.
#[derive(Default)]
pub struct Host {
    places: [(usize, Vec<f32>); PLACES],
}

impl Engine for Host {
    fn put(&mut self, place: Place, rows: usize, columns: usize, values: &[f32]) -> Result<()> {
        debug_assert_eq!(values.len(), rows * columns);
        let (width, kept) = &mut self.places[place as usize];
        *width = columns;
        kept.clear();
        kept.extend_from_slice(values);
        Ok(())
    }

    fn product(&mut self, (a, turn_a): (Place, bool), (b, turn_b): (Place, bool), into: &mut [f32]) -> Result<()> {
        let ((a_width, a), (b_width, b)) = (&self.places[a as usize], &self.places[b as usize]);
        let steps = |width: usize, turned| if turned { (1, width) } else { (width, 1) };
        let ((a_row, a_column), (a_width, b_width)) = (steps(*a_width, turn_a), (*a_width, *b_width));
        let depth = if turn_a { a.len() / a_width } else { a_width };
        let columns = if turn_b { b.len() / b_width } else { b_width };
        for (row, into) in into.chunks_exact_mut(columns).enumerate() {
            match turn_b {
                // Rows of `b` are columns of what it is taken for.
                true => {
                    for (value, b) in into.iter_mut().zip(b.chunks_exact(b_width)) {
                        *value = (0..depth).map(|k| a[row * a_row + k * a_column] * b[k]).sum();
                    }
                }
                false => {
                    into.fill(0.0);
                    for (k, b) in b.chunks_exact(b_width).enumerate() {
                        let factor = a[row * a_row + k * a_column];
                        // Much of a picture is black, and half of what is hidden is cut off.
                        if factor != 0.0 {
                            into.iter_mut().zip(b).for_each(|(value, b)| *value += factor * b);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// A CUDA device.
struct Device {
    context: Arc<Context>,
    places: [Option<Matrix>; PLACES],
    product: Product,
    result: Option<Matrix>,
}

impl Device {
    fn new(device: &cuda::Device, values: usize) -> Result<Device> {
        let context = Arc::new(Context::retain(device)?);
        Ok(Device { product: Product::new(&context, values)?, context, places: Default::default(), result: None })
    }
}

/// A matrix of that shape: what is there, or a new one.
fn shaped<'a>(
    context: &Arc<Context>,
    place: &'a mut Option<Matrix>,
    rows: usize,
    columns: usize,
) -> Result<&'a mut Matrix> {
    if place.as_ref().is_none_or(|matrix| (matrix.rows(), matrix.columns()) != (rows, columns)) {
        *place = None;
        *place = Some(Matrix::new(context, rows, columns)?);
    }
    Ok(place.as_mut().expect("just made"))
}

impl Engine for Device {
    fn put(&mut self, place: Place, rows: usize, columns: usize, values: &[f32]) -> Result<()> {
        let matrix = shaped(&self.context, &mut self.places[place as usize], rows, columns)?;
        self.product.write(values, matrix)
    }

    fn product(&mut self, (a, turn_a): (Place, bool), (b, turn_b): (Place, bool), into: &mut [f32]) -> Result<()> {
        let empty = || Error::bug("a product of a matrix that was not put in its place");
        let a = self.places[a as usize].as_ref().ok_or_else(empty)?;
        let b = self.places[b as usize].as_ref().ok_or_else(empty)?;
        let rows = if turn_a { a.columns() } else { a.rows() };
        let columns = if turn_b { b.rows() } else { b.columns() };
        let result = shaped(&self.context, &mut self.result, rows, columns)?;
        self.product.multiply((a, turn_a), (b, turn_b), result)?;
        self.product.read(result, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_textbook_whichever_side_is_turned() {
        use Place::{FirstWeights as B, Input as A};
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
        let expected = [58.0, 64.0, 139.0, 154.0];
        let turned = |values: [f32; 6], columns: usize| -> Vec<f32> {
            (0..6).map(|i| values[i % (6 / columns) * columns + i / (6 / columns)]).collect()
        };
        for (turn_a, turn_b) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut host = Host::default();
            if turn_a { host.put(A, 3, 2, &turned(a, 3)) } else { host.put(A, 2, 3, &a) }.unwrap();
            if turn_b { host.put(B, 2, 3, &turned(b, 2)) } else { host.put(B, 3, 2, &b) }.unwrap();
            let mut into = [0.0; 4];
            host.product((A, turn_a), (B, turn_b), &mut into).unwrap();
            assert_eq!(into, expected, "{turn_a} {turn_b}");
        }
    }
}
