//! EGL's devices, and an OpenGL context without a window system: on the GPU's EGL device where there is one, else on Mesa.

use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

use khronos_egl as egl;

type Egl = egl::DynamicInstance<egl::EGL1_4>;
type DeviceHandle = *mut c_void;

/// What an EGL device stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A GPU under NVIDIA's driver, which is a CUDA device as well.
    Nvidia,
    Hardware,
    /// Mesa's renderer on the CPU.
    Software,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Nvidia => "NVIDIA's EGL device",
            Kind::Hardware => "an EGL device",
            Kind::Software => "Mesa's software device",
        }
    }
}

/// One of EGL's devices, which live as long as the process.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its place in `eglQueryDevicesEXT`'s list, by which other programs name it. CUDA's numbers are in another order.
    pub index: usize,
    pub kind: Kind,
    pub extensions: String,
    /// CUDA's number of it (`EGL_CUDA_DEVICE_NV` of EGL_NV_device_cuda), which `CUDA_VISIBLE_DEVICES` changes.
    pub cuda: Option<u32>,
    handle: DeviceHandle,
}

const PLATFORM_DEVICE: u32 = 0x313F;
const PLATFORM_SURFACELESS: u32 = 0x31DD;
const EXTENSIONS: i32 = 0x3055;
/// EGL_NV_device_cuda.
const CUDA_DEVICE: i32 = 0x323A;
const CONTEXT_MAJOR_VERSION: i32 = 0x3098;
const CONTEXT_MINOR_VERSION: i32 = 0x30FB;
const OPENGL_ES3_BIT: i32 = 0x40;

/// A context that is current on the thread that opened it. The thread must be the one to drop it.
pub struct Context {
    egl: &'static Egl,
    display: egl::Display,
    context: egl::Context,
    /// Only where the display cannot do without a surface.
    surface: Option<egl::Surface>,
    /// The EGL device that it stands on; `None` on a display that was not opened by its device.
    pub device: Option<Device>,
    /// Why it does not stand on the CUDA device that was asked for.
    pub astray: Option<String>,
    /// Whether this is OpenGL ES (3.0 or later) rather than OpenGL (3.3 or later).
    pub es: bool,
}

/// The loaded library. It is never unloaded, and displays are never terminated: both are the whole process's, and another
/// thread may be using them.
fn library() -> Result<&'static Egl, String> {
    static EGL: OnceLock<Result<Egl, String>> = OnceLock::new();
    let load = || {
        // SAFETY: libEGL.so.1 is the system's EGL by its well-known name; its initialisers have no preconditions.
        unsafe { Egl::load_required_from_filename("libEGL.so.1") }.map_err(|error| match error {
            egl::LoadError::Library(error) => error.to_string(),
            egl::LoadError::InvalidVersion { provided, .. } => {
                format!("libEGL.so.1 has EGL {provided:?}, older than 1.4")
            }
        })
    };
    EGL.get_or_init(load).as_ref().map_err(Clone::clone)
}

/// Whether `libEGL.so.1` is here and can be used.
pub fn find() -> Result<(), String> {
    library().map(drop)
}

/// The extensions that hold for no display in particular; none where EGL does not tell them.
pub fn client_extensions() -> Result<String, String> {
    Ok(client(library()?))
}

/// EGL's devices, in its order; none where EGL cannot list them.
pub fn devices() -> Result<Vec<Device>, String> {
    library().map(list)
}

/// The device that is CUDA's of this number, or why there is none.
fn twin(devices: &[Device], cuda: u32) -> Result<&Device, String> {
    devices.iter().find(|device| device.cuda == Some(cuda)).ok_or_else(|| {
        let all: Vec<String> = devices
            .iter()
            .filter_map(|device| Some(format!("EGL device {} is CUDA device {}", device.index, device.cuda?)))
            .collect();
        match all.as_slice() {
            [] => format!("none of EGL's devices is NVIDIA's, so none is CUDA device {cuda}"),
            all => format!("no EGL device is CUDA device {cuda}: {}", all.join(", ")),
        }
    })
}

impl Context {
    /// Opens a context on this device and makes it current.
    pub fn open_on(device: &Device) -> Result<Context, String> {
        let egl = library()?;
        let display = platform_display(egl, PLATFORM_DEVICE, device.handle);
        let display = display.ok_or("eglGetPlatformDisplayEXT has no display for the device")?;
        let mut context = Context::on(egl, display)?;
        context.device = Some(device.clone());
        Ok(context)
    }

    /// Opens a context and makes it current: on the EGL device that is CUDA's of this number, else on the best display that
    /// there is, with [`Context::astray`] set. The error says what each display that was tried lacks.
    pub fn open(cuda: Option<u32>) -> Result<Context, String> {
        let Some(cuda) = cuda else { return Context::open_best() };
        let on_twin = library().map(list).and_then(|devices| {
            let device = twin(&devices, cuda)?;
            Context::open_on(device).map_err(|cause| format!("EGL device {}: {cause}", device.index))
        });
        on_twin.or_else(|why| {
            let mut context = Context::open_best()?;
            context.astray = Some(why);
            Ok(context)
        })
    }

    fn open_best() -> Result<Context, String> {
        let egl = library()?;
        let mut causes = Vec::new();
        for (name, device, display) in displays(egl) {
            match Context::on(egl, display) {
                Ok(mut context) => {
                    context.device = device;
                    return Ok(context);
                }
                Err(cause) => causes.push(format!("{name}: {cause}")),
            }
        }
        Err(if causes.is_empty() { "EGL has no display".into() } else { causes.join("; ") })
    }

    fn on(egl: &'static Egl, display: egl::Display) -> Result<Context, String> {
        let failed = |call: &'static str| move |error: egl::Error| format!("{call}: {error}");
        egl.initialize(display).map_err(failed("eglInitialize"))?;
        let extensions =
            egl.query_string(Some(display), EXTENSIONS).map_err(failed("eglQueryString"))?.to_string_lossy();
        let surfaceless = extensions.contains("EGL_KHR_surfaceless_context");
        let mut cause = String::new();
        for (es, api, renderable, [major, minor]) in
            [(false, egl::OPENGL_API, egl::OPENGL_BIT, [3, 3]), (true, egl::OPENGL_ES_API, OPENGL_ES3_BIT, [3, 0])]
        {
            let attributes = [egl::SURFACE_TYPE, egl::PBUFFER_BIT, egl::RENDERABLE_TYPE, renderable, egl::NONE];
            let version = [CONTEXT_MAJOR_VERSION, major, CONTEXT_MINOR_VERSION, minor, egl::NONE];
            let opened = egl.bind_api(api).map_err(failed("eglBindAPI")).and_then(|()| {
                let config = egl.choose_first_config(display, &attributes).map_err(failed("eglChooseConfig"))?;
                let config = config.ok_or("eglChooseConfig: no configuration")?;
                let context =
                    egl.create_context(display, config, None, &version).map_err(failed("eglCreateContext"))?;
                let mut made = Context { egl, display, context, surface: None, device: None, astray: None, es };
                if !surfaceless {
                    let small = [egl::WIDTH, 16, egl::HEIGHT, 16, egl::NONE];
                    let surface = egl.create_pbuffer_surface(display, config, &small);
                    made.surface = Some(surface.map_err(failed("eglCreatePbufferSurface"))?);
                }
                made.make_current()?;
                Ok(made)
            });
            match opened {
                Ok(context) => return Ok(context),
                Err(error) => cause = error,
            }
        }
        Err(cause)
    }

    /// Makes this the thread's context, unless it is already.
    pub fn make_current(&self) -> Result<(), String> {
        if self.egl.get_current_context() == Some(self.context) {
            return Ok(());
        }
        let current = self.egl.make_current(self.display, self.surface, self.surface, Some(self.context));
        current.map_err(|error| format!("eglMakeCurrent: {error}"))
    }

    /// The address of an OpenGL function, null where there is none of that name.
    pub fn function(&self, name: &str) -> *const c_void {
        self.egl.get_proc_address(name).map_or(std::ptr::null(), |function| function as *const c_void)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // A context that is current lives on until it no longer is. Errors here have nobody to go to.
        if self.egl.get_current_context() == Some(self.context) {
            let _ = self.egl.make_current(self.display, None, None, None);
        }
        if let Some(surface) = self.surface {
            let _ = self.egl.destroy_surface(self.display, surface);
        }
        let _ = self.egl.destroy_context(self.display, self.context);
    }
}

/// Every display that this host may have, best first, with a name for error texts.
fn displays(egl: &Egl) -> Vec<(&'static str, Option<Device>, egl::Display)> {
    let extensions = client(egl);
    let mut displays = Vec::new();
    if extensions.contains("EGL_EXT_platform_device") {
        let mut devices = list(egl);
        devices.sort_by_key(|device| device.kind);
        for device in devices {
            let display = platform_display(egl, PLATFORM_DEVICE, device.handle);
            displays.extend(display.map(|display| (device.kind.name(), Some(device), display)));
        }
    }
    if extensions.contains("EGL_MESA_platform_surfaceless") {
        let display = platform_display(egl, PLATFORM_SURFACELESS, std::ptr::null_mut());
        displays.extend(display.map(|display| ("Mesa without a surface", None, display)));
    }
    // SAFETY: the default display needs no native one.
    let default = unsafe { egl.get_display(egl::DEFAULT_DISPLAY) };
    displays.extend(default.map(|display| ("the default display", None, display)));
    displays
}

/// `native` is one of EGL's devices, or null for a platform that needs none.
fn platform_display(egl: &Egl, platform: u32, native: *mut c_void) -> Option<egl::Display> {
    let open = function(egl, "eglGetPlatformDisplayEXT")?;
    // SAFETY: the function of this name has this signature (EGL_EXT_platform_base); `native` is what the platform asks
    // for, and no attributes may be null. What is not null is a display.
    unsafe {
        let open: unsafe extern "system" fn(u32, *mut c_void, *const i32) -> *mut c_void = std::mem::transmute(open);
        let display = open(platform, native, std::ptr::null());
        (!display.is_null()).then(|| egl::Display::from_ptr(display))
    }
}

fn client(egl: &Egl) -> String {
    egl.query_string(None, EXTENSIONS).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

fn list(egl: &Egl) -> Vec<Device> {
    type Query = unsafe extern "system" fn(i32, *mut DeviceHandle, *mut i32) -> u32;
    type Describe = unsafe extern "system" fn(DeviceHandle, i32) -> *const c_char;
    type Attribute = unsafe extern "system" fn(DeviceHandle, i32, *mut isize) -> u32;
    let (Some(query), Some(describe)) = (function(egl, "eglQueryDevicesEXT"), function(egl, "eglQueryDeviceStringEXT"))
    else {
        return Vec::new();
    };
    // SAFETY: the functions of these names have these signatures (EGL_EXT_device_enumeration, EGL_EXT_device_query).
    let (query, describe, attribute) = unsafe {
        let attribute = function(egl, "eglQueryDeviceAttribEXT")
            .map(|attribute| std::mem::transmute::<extern "system" fn(), Attribute>(attribute));
        (
            std::mem::transmute::<extern "system" fn(), Query>(query),
            std::mem::transmute::<extern "system" fn(), Describe>(describe),
            attribute,
        )
    };
    let mut found = [std::ptr::null_mut(); 64];
    let mut count = 0;
    // SAFETY: `found` has room for as many devices as the call is told of, and `count` is written before it is read.
    if unsafe { query(found.len() as i32, found.as_mut_ptr(), &mut count) } != egl::TRUE {
        return Vec::new();
    }
    let found = &found[..count.clamp(0, found.len() as i32) as usize];
    let device = |(index, &handle): (usize, &DeviceHandle)| {
        // SAFETY: `handle` is a device that EGL listed; the text that it points to lives as long as the device.
        let extensions = unsafe {
            let text = describe(handle, EXTENSIONS);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        let kind = match &extensions {
            text if text.contains("EGL_NV_device_cuda") => Kind::Nvidia,
            text if text.contains("EGL_MESA_device_software") => Kind::Software,
            _ => Kind::Hardware,
        };
        let number = attribute.filter(|_| kind == Kind::Nvidia).and_then(|attribute| {
            let mut number = -1;
            // SAFETY: as above; the device has the extension that defines the attribute, and `number` is an EGLAttrib.
            let told = unsafe { attribute(handle, CUDA_DEVICE, &mut number) } == egl::TRUE;
            told.then(|| u32::try_from(number).ok()).flatten()
        });
        Device { index, kind, extensions, cuda: number, handle }
    };
    found.iter().enumerate().map(device).collect()
}

fn function(egl: &Egl, name: &str) -> Option<extern "system" fn()> {
    egl.get_proc_address(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_cudas_number_and_by_nothing_else() {
        let device = |index, cuda| Device {
            index,
            kind: Kind::Nvidia,
            extensions: String::new(),
            cuda,
            handle: std::ptr::null_mut(),
        };
        let crossed = [device(0, Some(1)), device(1, Some(0)), device(2, None)];
        assert_eq!(twin(&crossed, 0).unwrap().index, 1);
        assert_eq!(twin(&crossed, 1).unwrap().index, 0);
        let why = twin(&crossed, 2).unwrap_err();
        assert_eq!(why, "no EGL device is CUDA device 2: EGL device 0 is CUDA device 1, EGL device 1 is CUDA device 0");
        assert!(twin(&[device(0, None)], 0).unwrap_err().contains("none of EGL's devices is NVIDIA's"));
    }

    #[test]
    fn a_context_knows_its_device_and_that_it_went_astray() {
        let Ok(context) = Context::open(None) else { return eprintln!("skipped: no OpenGL here") };
        assert_eq!(context.astray, None);
        let number = context.device.as_ref().and_then(|device| device.cuda);
        drop(context);
        // A number that no device has; and the one that the best device has, where it is a GPU's.
        let context = Context::open(Some(4096)).unwrap();
        assert!(context.astray.as_ref().is_some_and(|why| why.contains("CUDA device 4096")), "{:?}", context.astray);
        drop(context);
        if number.is_some() {
            let context = Context::open(number).unwrap();
            assert_eq!((context.device.as_ref().unwrap().cuda, &context.astray), (number, &None));
        }
    }
}
