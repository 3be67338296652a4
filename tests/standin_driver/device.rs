//! libcuda by its plain functions: device memory, modules and launches, with results as numbers.

use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::Arc;

use cudarc::driver::{CudaContext, sys};

/// The kernels that gsk brings along.
pub const PTX: &str = include_str!("../../src/gpu/kernels/convert.ptx");

/// The product of matrices, a module of its own.
pub const PRODUCT: &str = include_str!("../../src/gpu/kernels/product.ptx");

/// A status that is not success, as a number.
pub type Code = u32;

/// Calls a function of libcuda.
macro_rules! cuda {
    ($function:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: the function has cuda.h's type, and the arguments are those of the caller, which live through the call; the
        // stand-in checks handles and device memory itself.
        match unsafe { cudarc::driver::sys::$function($($argument),*) } as u32 {
            0 => Ok(()),
            code => Err(code),
        }
    };
}
pub(crate) use cuda;

/// The first device's primary context, current on this thread.
pub fn context() -> Arc<CudaContext> {
    CudaContext::new(0).unwrap()
}

/// Memory of the current context.
pub struct Memory {
    pub at: sys::CUdeviceptr,
    pub size: usize,
}

impl Memory {
    pub fn new(size: usize) -> Memory {
        let mut at = 0;
        cuda!(cuMemAlloc_v2(&mut at, size)).unwrap();
        Memory { at, size }
    }

    pub fn of(bytes: &[u8]) -> Memory {
        let memory = Memory::new(bytes.len());
        cuda!(cuMemcpyHtoD_v2(memory.at, bytes.as_ptr().cast(), bytes.len())).unwrap();
        memory
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; self.size];
        cuda!(cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), self.at, self.size)).unwrap();
        bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        cuda!(cuMemFree_v2(self.at)).unwrap();
    }
}

pub fn load(ptx: &str) -> Result<sys::CUmodule, Code> {
    let text = CString::new(ptx).unwrap();
    let mut module = ptr::null_mut();
    cuda!(cuModuleLoadData(&mut module, text.as_ptr().cast()))?;
    Ok(module)
}

pub fn function(module: sys::CUmodule, name: &str) -> Result<sys::CUfunction, Code> {
    let name = CString::new(name).unwrap();
    let mut function = ptr::null_mut();
    cuda!(cuModuleGetFunction(&mut function, module, name.as_ptr()))?;
    Ok(function)
}

pub fn stream() -> sys::CUstream {
    let mut stream = ptr::null_mut();
    cuda!(cuStreamCreate(&mut stream, 1)).unwrap();
    stream
}

/// A launch for a picture of this size: 32 x 8 threads a block, 2 x 2 pixels a thread.
pub fn launch(
    function: sys::CUfunction,
    size: (u32, u32),
    stream: sys::CUstream,
    mut parameters: Vec<*mut c_void>,
) -> Result<(), Code> {
    let grid = (size.0.div_ceil(64), size.1.div_ceil(16));
    let parameters = parameters.as_mut_ptr();
    cuda!(cuLaunchKernel(function, grid.0, grid.1, 1, 32, 8, 1, 0, stream, parameters, ptr::null_mut()))
}

/// The address of a kernel's parameter.
pub fn parameter<T>(value: &T) -> *mut c_void {
    ptr::from_ref(value).cast_mut().cast()
}
