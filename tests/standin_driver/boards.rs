//! Boards as NVML and CUDA see them, through the crates that gsk uses.

use cudarc::driver::{CudaContext, DriverError, sys};
use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::EncoderType;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;

use crate::child;
use crate::encoder::{Nvenc, call};
use crate::standin::{Board, Mig, Scene};

const MIB: u64 = 1024 * 1024;

#[test]
fn nvml_tells_of_the_boards() {
    let test = "boards::nvml_tells_of_the_boards";
    if child::role().is_none() {
        let mut scene = Scene::new();
        scene.version("535.183.01").cuda(12_020);
        scene.board(
            Board::geforce()
                .uuid("GPU-11111111-2222-3333-4444-555555555555")
                .pci("00000000:65:00.0")
                .encoder_util(37)
                .decoder_util(5)
                .capacity(63)
                .memory_mib(1_000, 300),
        );
        scene.board(Board::a100().mig(Mig::On).unsupported(&["nvmlDeviceGetEncoderUtilization"]));
        scene.process(0, 31, 100, false).process(0, 32, 200, true);
        child::run(&scene, test, "look");
        assert_eq!((scene.leaks(), scene.violations()), (vec![], vec![]));
        return;
    }
    let nvml = Nvml::init().unwrap();
    assert_eq!(
        (nvml.sys_driver_version().unwrap(), nvml.sys_nvml_version().unwrap()),
        ("535.183.01".into(), "12.535.183.01".into())
    );
    assert_eq!((nvml.sys_cuda_driver_version().unwrap(), nvml.device_count().unwrap()), (12_020, 2));
    let geforce = nvml.device_by_uuid("GPU-11111111-2222-3333-4444-555555555555").unwrap();
    assert_eq!(geforce.name().unwrap(), "NVIDIA GeForce RTX 4090");
    let pci = geforce.pci_info().unwrap();
    assert_eq!((pci.bus_id.as_str(), pci.bus, pci.domain), ("00000000:65:00.0", 0x65, 0));
    assert_eq!(nvml.device_by_pci_bus_id(pci.bus_id).unwrap().index().unwrap(), 0);
    let cc = geforce.cuda_compute_capability().unwrap();
    assert_eq!((cc.major, cc.minor), (8, 9));
    assert_eq!(
        (geforce.encoder_utilization().unwrap().utilization, geforce.decoder_utilization().unwrap().utilization),
        (37, 5)
    );
    assert_eq!(geforce.encoder_capacity(EncoderType::H264).unwrap(), 63);
    let memory = geforce.memory_info().unwrap();
    assert_eq!((memory.total, memory.used, memory.free), (1_000 * MIB, 300 * MIB, 700 * MIB));
    let compute = geforce.running_compute_processes().unwrap();
    assert_eq!((compute.len(), compute[0].pid), (1, 31));
    assert!(matches!(compute[0].used_gpu_memory, UsedGpuMemory::Used(bytes) if bytes == 100 * MIB));
    assert_eq!(geforce.running_graphics_processes().unwrap()[0].pid, 32);
    assert!(matches!(geforce.mig_mode(), Err(NvmlError::NotSupported)));

    let a100 = nvml.device_by_index(1).unwrap();
    assert_eq!(a100.mig_mode().unwrap().current, 1);
    assert!(matches!(a100.encoder_utilization(), Err(NvmlError::NotSupported)));
    assert!(matches!(a100.encoder_capacity(EncoderType::H264), Err(NvmlError::NotSupported)));
    assert!(matches!(nvml.device_by_index(2), Err(NvmlError::InvalidArg)));
}

#[test]
fn cuda_sees_the_boards_that_are_visible() {
    let test = "boards::cuda_sees_the_boards_that_are_visible";
    let names = || -> Vec<String> {
        let count = CudaContext::device_count().unwrap();
        (0..count).map(|ordinal| CudaContext::new(ordinal as usize).unwrap().name().unwrap()).collect()
    };
    let (a100, rtx) = ("NVIDIA A100-SXM4-80GB", "NVIDIA RTX 6000 Ada Generation");
    match child::role().as_deref() {
        None => {}
        Some("all") => {
            assert_eq!(names(), [a100, rtx]);
            let context = CudaContext::new(1).unwrap();
            assert_eq!(context.compute_capability().unwrap(), (8, 9));
            assert_eq!(context.uuid().unwrap().bytes[15], 1);
            let (free, total) = context.mem_get_info().unwrap();
            assert_eq!((free as u64, total as u64), (48_140 * MIB, 49_140 * MIB));
            return;
        }
        Some("one") => return assert_eq!(names(), [rtx]),
        Some(_) => {
            return assert_eq!(CudaContext::new(0).err(), Some(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)));
        }
    }
    let scene = Scene::a100_and_rtx();
    child::run(&scene, test, "all");
    for (visible, role) in [
        ("1", "one"),
        ("GPU-00000000-0000-4000-8000-000000000001", "one"),
        ("1,7,0", "one"),
        ("", "none"),
        ("9", "none"),
        ("-1", "none"),
    ] {
        let mut command = child::command(&scene, test, role);
        command.env("CUDA_VISIBLE_DEVICES", visible);
        child::succeed(command);
    }
    assert_eq!((scene.leaks(), scene.violations()), (vec![], vec![]));
}

#[test]
fn memory_is_kept_counted_and_checked() {
    let test = "boards::memory_is_kept_counted_and_checked";
    if child::role().is_none() {
        let scene = Scene::of(Board::geforce().memory_mib(64, 16));
        child::run(&scene, test, "memory");
        assert_eq!(scene.leaks(), []);
        let all = scene.violations();
        assert_eq!(
            all.iter().map(|event| (event.get("function"), event.get("what"))).collect::<Vec<_>>(),
            [("cuMemcpyDtoH_v2", "beyond device memory")]
        );
        return;
    }
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    let there = stream.clone_htod(&[7u8, 8, 9]).unwrap();
    let mut copy = stream.alloc_zeros::<u8>(3).unwrap();
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), [0, 0, 0]);
    stream.memcpy_dtod(&there, &mut copy).unwrap();
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), [7, 8, 9]);

    // One pitch to another, by the two-dimensional copy.
    use cudarc::driver::DevicePtr;
    let mut rows = [0u8; 8];
    let plane = sys::CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        srcHost: std::ptr::null(),
        srcDevice: there.device_ptr(&stream).0,
        srcArray: std::ptr::null_mut(),
        srcPitch: 1,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
        dstHost: rows.as_mut_ptr().cast(),
        dstDevice: 0,
        dstArray: std::ptr::null_mut(),
        dstPitch: 3,
        WidthInBytes: 1,
        Height: 3,
    };
    // SAFETY: both planes hold three rows of one byte at these pitches.
    unsafe { sys::cuMemcpy2D_v2(&plane) }.result().unwrap();
    assert_eq!(rows, [7, 0, 0, 8, 0, 0, 9, 0]);

    let all = stream.alloc_zeros::<u8>(40 * MIB as usize).unwrap();
    let nvml = Nvml::init().unwrap();
    let device = nvml.device_by_index(0).unwrap();
    assert_eq!(device.memory_info().unwrap().used, 56 * MIB + 6);
    let processes = device.running_compute_processes().unwrap();
    assert_eq!((processes.len(), processes[0].pid), (1, std::process::id()));
    assert_eq!(
        stream.alloc_zeros::<u8>(40 * MIB as usize).err(),
        Some(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY))
    );
    drop(all);
    assert_eq!(device.memory_info().unwrap().used, 16 * MIB + 6);
    let mut beyond = [0u8; 4];
    // SAFETY: the destination holds four bytes; that the source does not is what is checked.
    let code = unsafe { sys::cuMemcpyDtoH_v2(beyond.as_mut_ptr().cast(), there.device_ptr(&stream).0, 4) };
    assert_eq!(code, sys::CUresult::CUDA_ERROR_INVALID_VALUE);
}

#[test]
fn symbols_are_found_by_name_and_version() {
    let test = "boards::symbols_are_found_by_name_and_version";
    if child::role().is_none() {
        child::run(&Scene::rtx(), test, "find");
        return;
    }
    let find = |name: &std::ffi::CStr| {
        let (mut function, mut status) =
            (std::ptr::null_mut(), sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SUCCESS);
        // SAFETY: the name ends with a zero, and both results are written to.
        let code = unsafe { sys::cuGetProcAddress_v2(name.as_ptr(), &mut function, 12_020, 0, &mut status) };
        (code, !function.is_null(), status as u32)
    };
    assert_eq!(find(c"cuMemAlloc"), (sys::CUresult::CUDA_SUCCESS, true, 0));
    assert_eq!(find(c"cuInit"), (sys::CUresult::CUDA_SUCCESS, true, 0));
    assert_eq!(find(c"cuNoSuchFunction"), (sys::CUresult::CUDA_ERROR_NOT_FOUND, false, 1));
}

#[test]
fn an_encoder_tells_what_it_can() {
    let test = "boards::an_encoder_tells_what_it_can";
    if child::role().is_none() {
        child::run(&Scene::rtx(), test, "ask");
        return;
    }
    let nvenc = Nvenc::load().unwrap();
    let encoder = nvenc.open().unwrap();
    let mut count = 0;
    call!(nvenc.api, nvEncGetEncodeGUIDCount(encoder, &mut count)).unwrap();
    let mut codecs = vec![GUID::default(); count as usize];
    call!(nvenc.api, nvEncGetEncodeGUIDs(encoder, codecs.as_mut_ptr(), count, &mut count)).unwrap();
    assert_eq!(codecs, [NV_ENC_CODEC_H264_GUID, NV_ENC_CODEC_HEVC_GUID, NV_ENC_CODEC_AV1_GUID]);
    call!(nvenc.api, nvEncGetEncodePresetCount(encoder, NV_ENC_CODEC_H264_GUID, &mut count)).unwrap();
    let mut presets = vec![GUID::default(); count as usize];
    call!(
        nvenc.api,
        nvEncGetEncodePresetGUIDs(encoder, NV_ENC_CODEC_H264_GUID, presets.as_mut_ptr(), count, &mut count)
    )
    .unwrap();
    assert_eq!((presets.len(), presets[0], presets[6]), (7, NV_ENC_PRESET_P1_GUID, NV_ENC_PRESET_P7_GUID));
    let ask = |caps| {
        let mut parameters = NV_ENC_CAPS_PARAM { version: NV_ENC_CAPS_PARAM_VER, capsToQuery: caps, reserved: [0; 62] };
        let mut value = -1;
        call!(nvenc.api, nvEncGetEncodeCaps(encoder, NV_ENC_CODEC_H264_GUID, &mut parameters, &mut value)).unwrap();
        value
    };
    assert_eq!(ask(NV_ENC_CAPS::NV_ENC_CAPS_NUM_ENCODER_ENGINES), 3);
    assert_eq!(ask(NV_ENC_CAPS::NV_ENC_CAPS_WIDTH_MAX), 4096);
    assert_eq!(ask(NV_ENC_CAPS::NV_ENC_CAPS_SUPPORT_DYN_BITRATE_CHANGE), 1);
    call!(nvenc.api, nvEncDestroyEncoder(encoder)).unwrap();
    // SAFETY: the symbol is of this type, and the version is written to.
    let newest = unsafe {
        let mut version = 0u32;
        let ask =
            nvenc.library.get::<unsafe extern "C" fn(*mut u32) -> u32>(b"NvEncodeAPIGetMaxSupportedVersion\0").unwrap();
        assert_eq!(ask(&mut version), 0);
        version
    };
    assert_eq!((newest >> 4, newest & 15), (12, 2));
}

#[test]
fn without_a_scene_there_is_no_device() {
    let test = "boards::without_a_scene_there_is_no_device";
    match child::role().as_deref() {
        None => {}
        Some("no scene") => {
            assert!(matches!(Nvml::init(), Err(NvmlError::DriverNotLoaded)));
            assert_eq!(CudaContext::new(0).err(), Some(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)));
            // SAFETY: the stand-in's library runs nothing when it is loaded, and the symbol is of this type.
            let code = unsafe {
                let library = libloading::Library::new("libnvidia-encode.so.1").unwrap();
                let create = library
                    .get::<unsafe extern "C" fn(*mut NV_ENCODE_API_FUNCTION_LIST) -> u32>(
                        b"NvEncodeAPICreateInstance\0",
                    )
                    .unwrap();
                create(&mut NV_ENCODE_API_FUNCTION_LIST {
                    version: NV_ENCODE_API_FUNCTION_LIST_VER,
                    ..Default::default()
                })
            };
            return assert_eq!(code, 1);
        }
        Some(_) => {
            assert!(matches!(Nvml::init(), Err(NvmlError::LibloadingError(_))));
            // SAFETY: nothing of a library that is not there is run.
            return assert!(unsafe { libloading::Library::new("libnvidia-encode.so.1") }.is_err());
        }
    }
    let scene = Scene::geforce(3);
    let mut command = child::command(&scene, test, "no scene");
    command.env_remove("GSK_STANDIN");
    child::succeed(command);
    let mut bare = Scene::geforce(3);
    bare.without_nvml().without_nvenc_library();
    child::run(&bare, test, "no libraries");
    child::run(&Scene::without_driver(), test, "no libraries");
}
