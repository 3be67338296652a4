//! Modules of kernels, and launching them.

use std::ffi::{CStr, c_char, c_uint, c_void};
use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys::{CUfunction, CUmodule, CUstream};

use super::cuda::{CUresult, Context, functions};
use super::memory::Stream;
use crate::error::Result;

type Launch = unsafe extern "C" fn(
    CUfunction,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    CUstream,
    *mut *mut c_void,
    *mut *mut c_void,
) -> CUresult;

functions! { of a context:
    cuModuleLoadData: unsafe extern "C" fn(*mut CUmodule, *const c_void) -> CUresult,
    cuModuleUnload: unsafe extern "C" fn(CUmodule) -> CUresult,
    cuModuleGetFunction: unsafe extern "C" fn(*mut CUfunction, CUmodule, *const c_char) -> CUresult,
    cuLaunchKernel: Launch,
}

/// A PTX, compiled by the driver for a device.
pub(super) struct Module {
    context: Arc<Context>,
    api: &'static Functions,
    raw: CUmodule,
}

// SAFETY: modules belong to the context and to no thread.
unsafe impl Send for Module {}
// SAFETY: as above; launching changes nothing of them.
unsafe impl Sync for Module {}

/// A kernel of a module, which it lives no longer than.
#[derive(Clone, Copy)]
pub(super) struct Function(CUfunction);

// SAFETY: functions belong to the context and to no thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Module {
    /// `ptx` ends with a zero.
    pub fn load(context: &Arc<Context>, ptx: &'static str) -> Result<Module> {
        debug_assert!(ptx.ends_with('\0'));
        let api = Functions::get(context)?;
        let _current = context.current()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the first argument is a place for one handle, the second a text that ends with a zero.
        context.check("cuModuleLoadData", unsafe { (api.cuModuleLoadData)(&mut raw, ptx.as_ptr().cast()) })?;
        Ok(Module { context: context.clone(), api, raw })
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub fn function(&self, name: &CStr) -> Result<Function> {
        let _current = self.context.current()?;
        let mut function = ptr::null_mut();
        // SAFETY: the module is loaded, the first argument a place for one handle.
        let code = unsafe { (self.api.cuModuleGetFunction)(&mut function, self.raw, name.as_ptr()) };
        self.context.check("cuModuleGetFunction", code)?;
        Ok(Function(function))
    }

    /// Queues a kernel on a grid of blocks of threads, each so wide and high.
    ///
    /// # Safety
    /// The function is this module's; the arguments are its own in number, order and size, and what they point to on the
    /// device has room for all that the launch reads and writes until the stream has done it.
    pub unsafe fn launch(
        &self,
        stream: &Stream,
        function: Function,
        grid: (u32, u32),
        block: (u32, u32),
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        let _current = self.context.current()?;
        // SAFETY: as the caller promises.
        let code = unsafe {
            (self.api.cuLaunchKernel)(
                function.0,
                grid.0,
                grid.1,
                1,
                block.0,
                block.1,
                1,
                0,
                stream.raw(),
                arguments.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        self.context.check("cuLaunchKernel", code)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let _current = self.context.current();
        // SAFETY: the module is loaded, and this is its last use: launches are waited for by who made them.
        let code = unsafe { (self.api.cuModuleUnload)(self.raw) };
        if let Err(error) = self.context.check("cuModuleUnload", code) {
            tracing::debug!("{error}");
        }
    }
}

/// A kernel's argument: the driver copies it when the kernel is launched.
pub(super) fn argument<T>(value: &mut T) -> *mut c_void {
    ptr::from_mut(value).cast()
}
