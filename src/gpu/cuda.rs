//! libcuda: found at run time, its devices, and contexts that are given back.
//!
//! cudarc loads a function when it is first called and panics where there is none; its `CUresult` is a Rust `enum` that a
//! newer driver's code would not fit into. So the few functions that are used here are looked up once, by cudarc's
//! library handle, and their results are plain numbers.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Mutex;

use cudarc::driver::sys::{self, CUcontext, CUdevice, CUuuid};

use crate::error::{Error, Kind, Result};

pub(super) type CUresult = u32;

const UNUSABLE: &str = "CUDA cannot be used";

/// `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: CUresult = 100;

/// `CUDA_SUCCESS`.
const SUCCESS: CUresult = 0;

/// Declares `Functions` of libcuda by their names in cuda.h, for a module to look up at once; behind `of a context:`, with
/// the way to them for who has one.
macro_rules! functions {
    (of a context: $($all:tt)+) => {
        functions! { $($all)+ }

        impl Functions {
            /// Of the library that the context has come from.
            fn get(_: &Context) -> Result<&'static Functions> {
                static FUNCTIONS: std::sync::OnceLock<Result<Functions, &'static str>> = std::sync::OnceLock::new();
                // SAFETY: a context exists, so the library is there; the types are those of cuda.h.
                let functions = FUNCTIONS.get_or_init(|| unsafe { Functions::load() });
                functions.as_ref().map_err(|name| $crate::gpu::memory::lacks(name))
            }
        }
    };
    ($($name:ident: $type:ty),+ $(,)?) => {
        #[allow(non_snake_case)]
        struct Functions { $($name: $type),+ }

        impl Functions {
            /// The first name that the library lacks is the error.
            ///
            /// # Safety
            /// libcuda is on this host, and each type is the one that its header declares for the name.
            unsafe fn load() -> Result<Functions, &'static str> {
                // SAFETY: as the caller promises.
                unsafe {
                    let library = cudarc::driver::sys::culib();
                    Ok(Functions {
                        $($name: *library.get(concat!(stringify!($name), "\0").as_bytes()).map_err(|_| stringify!($name))?),+
                    })
                }
            }
        }
    };
}

pub(super) use functions;

// In the versions that CUDA 11.4 brought.
functions! {
    cuInit: unsafe extern "C" fn(c_uint) -> CUresult,
    cuGetErrorName: unsafe extern "C" fn(CUresult, *mut *const c_char) -> CUresult,
    cuDeviceGetCount: unsafe extern "C" fn(*mut c_int) -> CUresult,
    cuDeviceGet: unsafe extern "C" fn(*mut CUdevice, c_int) -> CUresult,
    cuDeviceGetName: unsafe extern "C" fn(*mut c_char, c_int, CUdevice) -> CUresult,
    cuDeviceGetUuid_v2: unsafe extern "C" fn(*mut CUuuid, CUdevice) -> CUresult,
    cuDeviceGetPCIBusId: unsafe extern "C" fn(*mut c_char, c_int, CUdevice) -> CUresult,
    cuDevicePrimaryCtxSetFlags_v2: unsafe extern "C" fn(CUdevice, c_uint) -> CUresult,
    cuDevicePrimaryCtxRetain: unsafe extern "C" fn(*mut CUcontext, CUdevice) -> CUresult,
    cuDevicePrimaryCtxRelease_v2: unsafe extern "C" fn(CUdevice) -> CUresult,
    cuCtxPushCurrent_v2: unsafe extern "C" fn(CUcontext) -> CUresult,
    cuCtxPopCurrent_v2: unsafe extern "C" fn(*mut CUcontext) -> CUresult,
    cuMemGetInfo_v2: unsafe extern "C" fn(*mut usize, *mut usize) -> CUresult,
}

impl Functions {
    /// The loaded driver. Only success is kept: a driver may come while the program runs.
    fn loaded() -> Result<&'static Functions> {
        static LOADED: Mutex<Option<&'static Functions>> = Mutex::new(None);
        let mut loaded = LOADED.lock().unwrap();
        if let Some(api) = *loaded {
            return Ok(api);
        }
        // SAFETY: libcuda's initialisers depend on nothing of ours.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::missing(UNUSABLE)
                .cause("libcuda.so.1 is not on this host")
                .hint("install the NVIDIA driver; in a container, start it with --gpus all"));
        }
        // SAFETY: the library is there, as was just found; the types are those of cuda.h.
        let api = unsafe { Functions::load() }.map_err(|name| {
            Error::missing(UNUSABLE)
                .cause(format!("libcuda has no {name}: the driver is older than CUDA 11.4"))
                .hint("install driver 530 or newer")
        })?;
        // Never unloaded: it holds the process's contexts.
        let api: &'static Functions = Box::leak(Box::new(api));
        *loaded = Some(api);
        Ok(api)
    }

    /// The loaded driver, initialised; `None` where it has no device for this process.
    fn ready() -> Result<Option<&'static Functions>> {
        static READY: Mutex<bool> = Mutex::new(false);
        let api = Functions::loaded()?;
        let mut ready = READY.lock().unwrap();
        if !*ready {
            // SAFETY: the function has the type that cuda.h declares; 0 is the one value its argument may have.
            let code = unsafe { (api.cuInit)(0) };
            if code == NO_DEVICE {
                return Ok(None);
            }
            api.check("cuInit", code)?;
            *ready = true;
        }
        Ok(Some(api))
    }

    fn check(&self, call: &str, code: CUresult) -> Result<()> {
        if code == SUCCESS {
            return Ok(());
        }
        let (kind, hint) = explain(code);
        let mut error = Error::new(kind, UNUSABLE).cause(format!("{call} returned {}", self.code_name(code)));
        error.hint = hint.map(Into::into);
        Err(error)
    }

    fn code_name(&self, code: CUresult) -> String {
        let mut name = ptr::null();
        // SAFETY: the driver writes the address of a static string, or null for a code that it does not know.
        let name = unsafe {
            (self.cuGetErrorName)(code, &mut name);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy())
        };
        name.map_or_else(|| code.to_string(), |name| format!("{code} ({name})"))
    }
}

/// What a code of libcuda (`cudaError_enum` in cuda.h) means for the user.
pub(super) fn explain(code: CUresult) -> (Kind, Option<&'static str>) {
    match code {
        2 => (Kind::Capacity, Some("free GPU memory: nvidia-smi shows who uses it")),
        34 => (Kind::Missing, Some("that is the toolkit's stub of libcuda: take its folder out of LD_LIBRARY_PATH")),
        803 => (Kind::Missing, Some("kernel module and libraries differ: load the new module, or restart the machine")),
        100 => (
            Kind::Missing,
            Some(
                "look at CUDA_VISIBLE_DEVICES; in a container, start it with --gpus all; nvidia-smi -L shows the devices",
            ),
        ),
        46 => (
            Kind::Failed,
            Some("another process has the GPU for itself, or nobody may compute on it: sudo nvidia-smi -c 0"),
        ),
        // Those that JIT compilation of the kernels meets.
        209 | 218 | 222 => (Kind::Missing, Some("the driver is older than CUDA 12.0: install driver 525 or newer")),
        221 => (
            Kind::Missing,
            Some("libnvidia-ptxjitcompiler.so.1, which is part of the driver, is not on this host: install it"),
        ),
        // Of these the driver says that all further work of the process fails.
        700 | 702 | 710 | 714..=719 => (
            Kind::Failed,
            Some(
                "CUDA is lost for this process: start it again, and see what the driver reports: sudo dmesg | grep -E 'NVRM|Xid'",
            ),
        ),
        802 => {
            (Kind::Missing, Some("boards with NVSwitch need their manager: sudo systemctl start nvidia-fabricmanager"))
        }
        804 => (Kind::Missing, Some("the driver is too old for the CUDA compatibility libraries that were found")),
        _ => (Kind::Failed, Some("see what the driver reports: sudo dmesg | grep -E 'NVRM|Xid'")),
    }
}

/// A CUDA device.
#[derive(Clone)]
pub struct Device {
    /// CUDA's number of it, which `CUDA_VISIBLE_DEVICES` changes.
    pub ordinal: u32,
    pub name: String,
    /// As NVML and nvidia-smi write it: `GPU-` and 32 hexadecimal digits in groups.
    pub uuid: String,
    /// domain:bus:device.function, such as `0000:65:00.0`.
    pub pci: String,
    handle: CUdevice,
    api: &'static Functions,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({} {} {} {})", self.ordinal, self.name, self.uuid, self.pci)
    }
}

impl Device {
    fn at(api: &'static Functions, ordinal: c_int) -> Result<Device> {
        /// Longer than any name or address that the driver gives.
        const TEXT: usize = 256;
        let (mut handle, mut uuid) = (0, CUuuid { bytes: [0; 16] });
        let (mut name, mut pci) = ([0; TEXT], [0; TEXT]);
        // SAFETY: each place is of the type that the function writes, and the texts' length goes with them.
        unsafe {
            api.check("cuDeviceGet", (api.cuDeviceGet)(&mut handle, ordinal))?;
            api.check("cuDeviceGetName", (api.cuDeviceGetName)(name.as_mut_ptr(), TEXT as c_int, handle))?;
            api.check("cuDeviceGetUuid", (api.cuDeviceGetUuid_v2)(&mut uuid, handle))?;
            api.check("cuDeviceGetPCIBusId", (api.cuDeviceGetPCIBusId)(pci.as_mut_ptr(), TEXT as c_int, handle))?;
        }
        Ok(Device {
            ordinal: ordinal as u32,
            name: text(&name),
            uuid: format_uuid(uuid.bytes.map(|byte| byte as u8)),
            pci: text(&pci),
            handle,
            api,
        })
    }

    pub(super) fn handle(&self) -> CUdevice {
        self.handle
    }

    /// As [`Context::check`].
    pub(super) fn check(&self, call: &str, code: CUresult) -> Result<()> {
        self.api.check(call, code)
    }

    /// Whether `id` names this device: by UUID, or by PCI address with a domain of any length (NVML writes eight digits).
    pub fn is(&self, id: &str) -> bool {
        names(id, &self.uuid, &self.pci)
    }
}

/// Whether libcuda is on this host and whole. Asks no device.
pub fn find() -> Result<()> {
    Functions::loaded().map(|_| ())
}

/// The devices that CUDA shows to this process, in its order.
pub fn devices() -> Result<Vec<Device>> {
    let Some(api) = Functions::ready()? else { return Ok(Vec::new()) };
    let mut count = 0;
    // SAFETY: the argument is a place for one int.
    api.check("cuDeviceGetCount", unsafe { (api.cuDeviceGetCount)(&mut count) })?;
    (0..count).map(|ordinal| Device::at(api, ordinal)).collect()
}

fn names(id: &str, uuid: &str, pci: &str) -> bool {
    let without_zeros = |address: &str| address.trim_start_matches('0').to_ascii_lowercase();
    id.eq_ignore_ascii_case(uuid) || without_zeros(id) == without_zeros(pci)
}

/// A C string in a buffer of the driver's.
fn text(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn format_uuid(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("GPU-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A device's primary context, shared by all of this process that use the device.
pub struct Context {
    api: &'static Functions,
    device: CUdevice,
    ordinal: u32,
    raw: CUcontext,
}

// SAFETY: a context is not tied to a thread; it may be current on several at once (CUDA driver API, section 6.8).
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    pub fn retain(device: &Device) -> Result<Context> {
        let api = device.api;
        let mut raw = ptr::null_mut();
        /// `CU_CTX_SCHED_BLOCKING_SYNC`: who waits for the device sleeps, and leaves the core to others.
        const SLEEP: c_uint = 4;
        // SAFETY: plain numbers. A context that is at work keeps what it has, which is no reason not to use it.
        unsafe { (api.cuDevicePrimaryCtxSetFlags_v2)(device.handle, SLEEP) };
        // SAFETY: the argument is a place for one handle.
        api.check("cuDevicePrimaryCtxRetain", unsafe { (api.cuDevicePrimaryCtxRetain)(&mut raw, device.handle) })?;
        Ok(Context { api, device: device.handle, ordinal: device.ordinal, raw })
    }

    /// Makes the context current on this thread until the guard is dropped; what was current before is so again then.
    pub fn current(&self) -> Result<Current<'_>> {
        // SAFETY: the context is retained for as long as `self` lives, and the guard borrows it.
        self.api.check("cuCtxPushCurrent", unsafe { (self.api.cuCtxPushCurrent_v2)(self.raw) })?;
        Ok(Current { context: self, here: PhantomData })
    }

    /// Memory of the device that is free now, bytes.
    pub fn free_memory(&self) -> Result<u64> {
        let _current = self.current()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both are places for one size_t, and a context is current.
        self.api.check("cuMemGetInfo", unsafe { (self.api.cuMemGetInfo_v2)(&mut free, &mut total) })?;
        Ok(free as u64)
    }

    /// Turns a result of one of the driver's functions into an error with its name.
    pub(super) fn check(&self, call: &str, code: CUresult) -> Result<()> {
        self.api.check(call, code)
    }

    /// A result's number and name.
    pub(super) fn code_name(&self, code: CUresult) -> String {
        self.api.code_name(code)
    }

    /// Whether both are the same device's.
    pub fn same(&self, other: &Context) -> bool {
        self.device == other.device
    }

    /// [`Device::ordinal`] of its device.
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    pub(super) fn raw(&self) -> CUcontext {
        self.raw
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was retained once, and this is the one release.
        let code = unsafe { (self.api.cuDevicePrimaryCtxRelease_v2)(self.device) };
        if let Err(error) = self.api.check("cuDevicePrimaryCtxRelease", code) {
            tracing::debug!("{error}");
        }
    }
}

/// A context that is current on the thread that holds this, and on no other by it.
pub struct Current<'a> {
    context: &'a Context,
    /// The stack of current contexts is a thread's own.
    here: PhantomData<*const ()>,
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let mut popped = ptr::null_mut();
        // SAFETY: guards are dropped in the reverse order of their making, so that it is this one's push that is undone.
        unsafe { (self.context.api.cuCtxPopCurrent_v2)(&mut popped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_uuid_and_by_both_forms_of_its_address() {
        let uuid = format_uuid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]);
        assert_eq!(uuid, "GPU-00010203-0405-0607-0809-0a0b0c0d0eff");
        let is = |id| names(id, &uuid, "0000:6A:00.0");
        for id in ["GPU-00010203-0405-0607-0809-0A0B0C0D0EFF", "0000:6a:00.0", "00000000:6A:00.0"] {
            assert!(is(id), "{id}");
        }
        for id in ["", "0", "GPU-00010203-0405-0607-0809-0a0b0c0d0efe", "0001:6a:00.0", "6a:00.0"] {
            assert!(!is(id), "{id}");
        }
    }

    #[test]
    fn a_host_without_the_driver_is_told_so() {
        // SAFETY: as in `Functions::loaded`.
        if unsafe { sys::is_culib_present() } {
            return eprintln!("skipped: this host has libcuda");
        }
        let error = devices().unwrap_err();
        assert_eq!((error.kind, error.cause.as_deref()), (Kind::Missing, Some("libcuda.so.1 is not on this host")));
        assert!(error.hint.is_some());
    }
}
