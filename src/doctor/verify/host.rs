//! Judgements of what was read of the host: pure but for the reading of files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::{CudaDevice, EglDevice, Finding};
use crate::gpu::{self, Driver, Inventory};

const CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";
const WITH_GRAPHICS: &str = "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=graphics,compute,utility,video …";

// --- driver ---

fn remedy(inventory: &Inventory) -> (String, String) {
    let verdict = gpu::verdict(inventory, Ok(()));
    (verdict.detail, verdict.remedy.unwrap_or_else(|| "see what NVIDIA's own tool says: nvidia-smi".into()))
}

/// `cuda`: whether CUDA works all the same.
pub fn driver(inventory: &Inventory, cuda: bool) -> Finding {
    let known = [("driver", &inventory.driver_version), ("kernel module", &inventory.kernel_module)];
    let known: Vec<String> =
        known.iter().filter_map(|(what, version)| Some(format!("{what} {}", version.as_ref()?))).collect();
    let nothing = known.is_empty() && inventory.driver == Driver::NoLibrary && !cuda;
    // Without libcuda the remedy is a driver's; NVENC's library has no say in it.
    let verdict = gpu::verdict(inventory, if nothing { Err("") } else { Ok(()) });
    let hint = verdict.remedy.clone().unwrap_or_else(|| "nvidia-smi".into());
    match inventory.driver {
        _ if nothing => Finding::fail(verdict.detail, hint),
        Driver::Mismatch | Driver::NotLoaded => Finding::fail(verdict.detail, hint).seen(known.join(", ")),
        _ if !known.is_empty() => Finding::pass(known.join(", ")),
        _ => Finding::warn("the driver does not say its version", hint),
    }
}

pub fn nvml(inventory: &Inventory) -> Finding {
    let gpus: Vec<String> = inventory
        .gpus
        .iter()
        .map(|gpu| format!("{}{}", gpu.label(), if gpu.mig == Some(true) { " divided by MIG" } else { "" }))
        .collect();
    let seen = gpus.join(", ");
    if inventory.driver != Driver::Ready || inventory.hung.is_some() {
        let (because, remedy) = remedy(inventory);
        return Finding::fail(because, remedy).seen(seen);
    }
    match inventory.gpus.iter().find_map(|gpu| gpu.faults.first()) {
        Some(fault) => Finding::warn(fault, "sudo dmesg | grep -E 'NVRM|Xid'").seen(seen),
        None => Finding::pass(seen),
    }
}

/// Whether this machine has an NVIDIA GPU: by its driver, by CUDA (`None`: it did not come to an answer), by its bus.
pub fn has_gpu(inventory: &Inventory, cuda: Option<usize>, on_bus: bool) -> bool {
    let none = matches!(inventory.driver, Driver::NoLibrary | Driver::NoGpu);
    !(none && cuda == Some(0) && !on_bus && inventory.kernel_module.is_none())
}

/// Whether the PCI bus has a display controller (class 03) of NVIDIA's (vendor 10de).
pub fn on_bus(devices: &Path) -> bool {
    let starts = |path: PathBuf, with: &str| std::fs::read_to_string(path).is_ok_and(|text| text.starts_with(with));
    let Ok(entries) = std::fs::read_dir(devices) else { return false };
    entries
        .flatten()
        .any(|entry| starts(entry.path().join("vendor"), "0x10de") && starts(entry.path().join("class"), "0x03"))
}

/// The files of `dev`. `answers`: whether NVML or CUDA shows a device.
pub fn device_files(dev: &Path, answers: bool) -> Finding {
    let names = std::fs::read_dir(dev).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.retain(|name| {
        name.strip_prefix("nvidia").is_some_and(|rest| rest == "ctl" || rest == "-uvm" || rest.parse::<u32>().is_ok())
    });
    names.sort();
    if names.is_empty() {
        return match answers {
            true => Finding::skip("there are no /dev/nvidia*, and the driver answers without them, as in WSL"),
            false => Finding::fail(
                "there are no /dev/nvidia*",
                "sudo nvidia-modprobe -u -c 0; in a container: docker run --gpus all …",
            ),
        };
    }
    let seen = names.join(", ");
    let may = |name: &&String| rustix::fs::access(dev.join(name), Access::READ_OK | Access::WRITE_OK).is_ok();
    let closed: Vec<&String> = names.iter().filter(|name| !may(name)).collect();
    if let Some(name) = closed.first() {
        let because = format!("this user may not open {}", dev.join(name).display());
        return Finding::fail(because, "ls -l /dev/nvidia*; often: sudo usermod -aG video,render $USER").seen(seen);
    }
    match ["nvidiactl", "nvidia-uvm"].iter().find(|&&name| !names.iter().any(|have| have == name)) {
        Some(name) => {
            Finding::warn(format!("there is no {}", dev.join(name).display()), "sudo nvidia-modprobe -u -c 0")
                .seen(seen)
        }
        None => Finding::pass(seen),
    }
}

// --- container ---

/// Whether we run in a container, as far as its engine shows.
pub fn in_container() -> bool {
    std::env::var_os(CAPABILITIES).is_some()
        || std::env::var_os("container").is_some()
        || ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists())
}

pub fn container(inside: bool, capabilities: Option<&str>) -> Finding {
    if !inside {
        return Finding::skip("not in a container");
    }
    // What the NVIDIA container toolkit gives where nothing is asked for.
    let have = capabilities.filter(|all| !all.is_empty()).unwrap_or("compute,utility");
    let has = |wanted: &str| have.split(',').map(str::trim).any(|one| one == wanted || one == "all");
    let lacking: Vec<&str> = ["graphics", "compute", "utility", "video"].into_iter().filter(|one| !has(one)).collect();
    let seen = format!("{CAPABILITIES}={}", capabilities.unwrap_or_default());
    match lacking.as_slice() {
        [] => Finding::pass(seen),
        lacking => {
            Finding::warn(format!("the container was not given {}", lacking.join(", ")), WITH_GRAPHICS).seen(seen)
        }
    }
}

// --- EGL ---

/// The vendors that libglvnd's EGL would load: name of the file and its library (libglvnd, src/EGL/icd_enumeration.md).
fn vendors(variable: impl Fn(&str) -> Option<String>, default: &[&str]) -> Vec<(PathBuf, String)> {
    let paths = |text: String| text.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect::<Vec<_>>();
    let files = match (variable(VENDOR_FILES), variable("__EGL_VENDOR_LIBRARY_DIRS")) {
        (Some(files), _) => paths(files),
        (None, dirs) => {
            let dirs = dirs.map_or_else(|| default.iter().map(PathBuf::from).collect(), paths);
            // Of files of one name, the first folder's counts.
            let mut by_name = BTreeMap::new();
            for entry in dirs.iter().flat_map(std::fs::read_dir).flatten().flatten() {
                if entry.path().extension().is_some_and(|kind| kind == "json") {
                    by_name.entry(entry.file_name()).or_insert(entry.path());
                }
            }
            by_name.into_values().collect()
        }
    };
    let library = |path: PathBuf| {
        let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).ok()?).ok()?;
        Some((path, json["ICD"]["library_path"].as_str()?.to_owned()))
    };
    files.into_iter().filter_map(library).collect()
}

const VENDOR_FILES: &str = "__EGL_VENDOR_LIBRARY_FILENAMES";

/// The vendors of this process: name of the file and its library.
pub fn vendor_files() -> Vec<(PathBuf, String)> {
    vendors(|name| std::env::var(name).ok(), &["/etc/glvnd/egl_vendor.d", "/usr/share/glvnd/egl_vendor.d"])
}

/// `loaded`: whether libEGL is here. Reads the vendors' files.
pub fn vendor(loaded: Result<(), String>, nvidia: bool) -> Finding {
    if let Err(why) = loaded {
        return Finding::fail(format!("libEGL.so.1 cannot be used: {why}"), "sudo apt install libegl1 libgl1-mesa-dri");
    }
    let vendors = vendor_files();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/libEGL.so"));
    judge_vendors(path.unwrap_or("libEGL.so.1"), &vendors, nvidia, std::env::var_os(VENDOR_FILES).is_some())
}

fn judge_vendors(path: &str, vendors: &[(PathBuf, String)], nvidia: bool, forced: bool) -> Finding {
    let names: Vec<String> = vendors.iter().map(|(file, library)| format!("{} → {library}", file.display())).collect();
    let seen = match names.as_slice() {
        [] => format!("{path}, no vendor's file"),
        names => format!("{path}; {}", names.join(", ")),
    };
    let has_nvidia = vendors.iter().any(|(_, library)| library.contains("libEGL_nvidia"));
    match (nvidia && !has_nvidia, forced) {
        (false, _) => Finding::pass(seen),
        (true, forced) => {
            let because = match forced {
                true => "__EGL_VENDOR_LIBRARY_FILENAMES leaves NVIDIA's EGL out",
                false => "no vendor's file names libEGL_nvidia.so.0: OpenGL will be Mesa's",
            };
            Finding::warn(because, way_to_nvidia(vendors, forced)).seen(seen)
        }
    }
}

/// What to do where OpenGL is not NVIDIA's. `forced`: whether a variable names the vendors' files.
fn way_to_nvidia(vendors: &[(PathBuf, String)], forced: bool) -> String {
    match vendors.iter().find(|(_, library)| library.contains("libEGL_nvidia")) {
        Some((file, _)) => format!("export {VENDOR_FILES}={}", file.display()),
        None if forced => format!("unset {VENDOR_FILES}"),
        None => {
            format!("sudo apt install libnvidia-gl-NNN (NNN: the driver's branch); in a container: {WITH_GRAPHICS}")
        }
    }
}

/// The same for this process.
pub fn to_nvidia() -> String {
    way_to_nvidia(&vendor_files(), std::env::var_os(VENDOR_FILES).is_some())
}

pub fn egl_devices(devices: &[EglDevice], extensions: &str, nvidia: bool) -> Finding {
    let names: Vec<String> = devices.iter().map(|device| format!("{} {}", device.index, device.kind)).collect();
    let missing: Vec<&str> = ["EGL_EXT_platform_device", "EGL_EXT_device_enumeration"]
        .into_iter()
        // EGL_EXT_device_base is enumeration and query in one.
        .filter(|&name| {
            !(extensions.contains(name) || name.ends_with("enumeration") && extensions.contains("EGL_EXT_device_base"))
        })
        .collect();
    match (devices, missing.as_slice()) {
        ([_, ..], []) => Finding::pass(names.join(", ")),
        (_, missing) => {
            let lacks = if missing.is_empty() { String::new() } else { format!(" (without {})", missing.join(", ")) };
            let hint = if nvidia { WITH_GRAPHICS } else { "sudo apt install libgl1-mesa-dri" };
            Finding::warn(format!("EGL lists no devices{lacks}"), hint).seen(names.join(", "))
        }
    }
}

/// Whether EGL has the chosen CUDA device.
pub fn egl_cuda(chosen: &CudaDevice, devices: &[EglDevice]) -> Finding {
    let CudaDevice { ordinal, name, .. } = chosen;
    if let Some(device) = devices.iter().find(|device| device.cuda == Some(*ordinal)) {
        return Finding::pass(format!("EGL device {} is CUDA device {ordinal} ({name})", device.index));
    }
    let others: Vec<String> =
        devices.iter().filter_map(|device| Some(format!("EGL {} is CUDA {}", device.index, device.cuda?))).collect();
    match others.as_slice() {
        [] => Finding::warn(
            format!("no EGL device is NVIDIA's: OpenGL is Mesa's, and not on CUDA device {ordinal} ({name})"),
            to_nvidia(),
        ),
        others => Finding::fail(
            format!("no EGL device is CUDA device {ordinal} ({name})"),
            "look at the container's devices and at EGL_VISIBLE_DEVICES; gsk verify-gl --gpu for one that EGL has",
        )
        .seen(others.join(", ")),
    }
}

/// `names`: vendor, renderer, version.
pub fn renderer(names: &[String; 3], es: bool, nvidia: bool) -> Finding {
    let [vendor, renderer, version] = names;
    let kind = if es { "OpenGL ES" } else { "OpenGL" };
    let seen = format!("{renderer} ({vendor}), {kind} {version}");
    if nvidia && !vendor.contains("NVIDIA") {
        let because = format!("{renderer} draws, not the NVIDIA GPU");
        return Finding::warn(because, to_nvidia()).seen(seen);
    }
    Finding::pass(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::verify::Verdict;

    #[test]
    fn vendors_are_found_as_glvnd_finds_them() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, library: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("{{\"ICD\": {{\"library_path\": \"{library}\"}}}}")).unwrap();
            path.display().to_string()
        };
        let nvidia = put("etc/10_nvidia.json", "libEGL_nvidia.so.0");
        put("usr/10_nvidia.json", "another");
        let mesa = put("usr/50_mesa.json", "libEGL_mesa.so.0");
        std::fs::write(dir.path().join("usr/60_bad.json"), "{").unwrap();
        let dirs = format!("{0}/etc:{0}/usr:{0}/none", dir.path().display());
        let libraries = |name: &'static str, value: &str| {
            let found = vendors(|asked| (asked == name).then(|| value.to_owned()), &[]);
            found.into_iter().map(|(_, library)| library).collect::<Vec<_>>()
        };
        assert_eq!(libraries("__EGL_VENDOR_LIBRARY_DIRS", &dirs), ["libEGL_nvidia.so.0", "libEGL_mesa.so.0"]);
        assert_eq!(libraries("__EGL_VENDOR_LIBRARY_FILENAMES", &mesa), ["libEGL_mesa.so.0"]);
        assert!(libraries("nothing", &nvidia).is_empty());
        let judged =
            |library: &str, forced| judge_vendors("libEGL.so.1", &[("file".into(), library.into())], true, forced);
        assert_eq!(judged("libEGL_nvidia.so.0", true).verdict, Verdict::Pass);
        assert!(judged("libEGL_mesa.so.0", true).remedy.unwrap().starts_with("unset"));
        assert!(judged("libEGL_mesa.so.0", false).remedy.unwrap().contains("graphics,compute"));
        // A file is named only where it is.
        let both = [("a.json".into(), "libEGL_mesa.so.0".into()), ("n.json".into(), "libEGL_nvidia.so.0".into())];
        assert_eq!(way_to_nvidia(&both, false), "export __EGL_VENDOR_LIBRARY_FILENAMES=n.json");
    }

    #[test]
    fn capabilities_of_a_container() {
        let judged = |inside, have| container(inside, have);
        assert_eq!(judged(false, None).verdict, Verdict::Skip);
        assert_eq!(judged(true, Some("all")).verdict, Verdict::Pass);
        assert_eq!(judged(true, Some("video, compute,utility,graphics")).verdict, Verdict::Pass);
        let default = judged(true, None);
        assert_eq!(
            (default.verdict, default.because.as_deref()),
            (Verdict::Warn, Some("the container was not given graphics, video"))
        );
        assert!(default.remedy.is_some());
    }

    #[test]
    fn device_files_as_they_may_be() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(device_files(dir.path(), true).verdict, Verdict::Skip);
        assert_eq!(device_files(dir.path(), false).verdict, Verdict::Fail);
        for name in ["nvidia0", "nvidiactl", "nvidia-modeset", "null"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let lacking = device_files(dir.path(), true);
        assert_eq!((lacking.verdict, lacking.seen.as_deref()), (Verdict::Warn, Some("nvidia0, nvidiactl")));
        std::fs::write(dir.path().join("nvidia-uvm"), "").unwrap();
        assert_eq!(device_files(dir.path(), true).verdict, Verdict::Pass);
    }

    #[test]
    fn an_egl_device_is_the_cuda_device_by_number() {
        let chosen = CudaDevice { ordinal: 1, name: "b".into(), uuid: "u".into(), pci: "p".into() };
        let egl = |index, cuda| EglDevice { index, kind: "device".into(), cuda };
        let matched = egl_cuda(&chosen, &[egl(0, Some(1)), egl(1, Some(0))]);
        assert_eq!(matched.seen.as_deref(), Some("EGL device 0 is CUDA device 1 (b)"));
        assert_eq!(egl_cuda(&chosen, &[egl(0, None), egl(1, None)]).verdict, Verdict::Warn);
        let other = egl_cuda(&chosen, &[egl(1, Some(0))]);
        assert_eq!((other.verdict, other.seen.as_deref()), (Verdict::Fail, Some("EGL 1 is CUDA 0")));
    }

    #[test]
    fn who_draws() {
        let names = |vendor: &str, renderer: &str| [vendor.to_owned(), renderer.to_owned(), "4.6".into()];
        assert_eq!(renderer(&names("NVIDIA Corporation", "H200"), false, true).verdict, Verdict::Pass);
        for software in ["llvmpipe (LLVM 15)", "zink Vulkan 1.3", "softpipe"] {
            assert_eq!(renderer(&names("Mesa", software), true, true).verdict, Verdict::Warn, "{software}");
            assert_eq!(renderer(&names("Mesa", software), true, false).verdict, Verdict::Pass, "no GPU to prefer");
        }
    }

    #[test]
    fn a_machine_without_any_sign_of_a_gpu_has_none() {
        let of = |driver| Inventory { driver, ..Inventory::default() };
        assert!(!has_gpu(&of(Driver::NoLibrary), Some(0), false));
        assert!(!has_gpu(&of(Driver::NoGpu), Some(0), false));
        for (inventory, cuda, bus) in [
            (of(Driver::NoLibrary), Some(0), true),
            (of(Driver::NoLibrary), None, false),
            (of(Driver::NoLibrary), Some(1), false),
            (of(Driver::Hung), Some(0), false),
            (Inventory { kernel_module: Some("550".into()), ..of(Driver::NoLibrary) }, Some(0), false),
        ] {
            assert!(has_gpu(&inventory, cuda, bus), "{inventory:?}");
        }
    }
}
