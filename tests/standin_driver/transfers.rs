//! Memory between processes, copies as they are counted, streams of the encoder, and OpenGL's devices.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::ptr;

use cudarc::driver::sys;
use gsk::gpu::egl;

use crate::child;
use crate::device::{Memory, context, cuda, stream};
use crate::encoder::{Encoder, NV12, Nvenc, call};
use crate::standin::Scene;

/// The one flag that opening takes.
const LAZY: u32 = sys::CUipcMem_flags::CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS as u32;

fn hex(handle: sys::CUipcMemHandle) -> String {
    handle.reserved.iter().map(|&byte| format!("{:02x}", byte as u8)).collect()
}

fn handle_of(hex: &str) -> sys::CUipcMemHandle {
    let byte = |at: usize| u8::from_str_radix(&hex[at * 2..][..2], 16).unwrap() as _;
    sys::CUipcMemHandle { reserved: std::array::from_fn(byte) }
}

fn export(memory: &Memory) -> sys::CUipcMemHandle {
    let mut handle = sys::CUipcMemHandle { reserved: [0; 64] };
    cuda!(cuIpcGetMemHandle(&mut handle, memory.at)).unwrap();
    handle
}

fn open(handle: sys::CUipcMemHandle) -> Result<sys::CUdeviceptr, u32> {
    let mut at = 0;
    cuda!(cuIpcOpenMemHandle_v2(&mut at, handle, LAZY)).map(|()| at)
}

#[test]
fn memory_is_opened_by_another_process() {
    let test = "transfers::memory_is_opened_by_another_process";
    match child::role().as_deref() {
        None => {}
        Some("export") => {
            let _context = context();
            let memory = Memory::of(b"from one process");
            let handle = export(&memory);
            assert_eq!(open(handle), Err(201), "it is for other processes");
            let mut none = sys::CUipcMemHandle { reserved: [0; 64] };
            assert_eq!(cuda!(cuIpcGetMemHandle(&mut none, memory.at + 1)), Err(1));
            let freed = export(&Memory::new(16));
            println!("\n{} {}", hex(handle), hex(freed));
            child::stay();
            assert_eq!(memory.bytes(), b"to another again");
            return;
        }
        Some("import") => {
            let _context = context();
            let line = std::io::stdin().lines().next().unwrap().unwrap();
            let (handle, freed) = line.split_once(' ').unwrap();
            assert_eq!(open(handle_of(freed)), Err(400), "its memory is gone");
            assert_eq!(open(sys::CUipcMemHandle { reserved: [0; 64] }), Err(1));
            let at = open(handle_of(handle)).unwrap();
            assert_eq!(open(handle_of(handle)), Ok(at), "open is open");
            let mut bytes = [0u8; 16];
            cuda!(cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), at, 16)).unwrap();
            assert_eq!(&bytes, b"from one process");
            let beyond = cuda!(cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), at + 1, 16));
            assert_eq!(beyond, Err(1), "its size is known");
            cuda!(cuMemcpyHtoD_v2(at, b"to another again".as_ptr().cast(), 16)).unwrap();
            assert_eq!(cuda!(cuMemFree_v2(at)), Err(1), "it is closed, not freed");
            cuda!(cuIpcCloseMemHandle(at)).unwrap();
            cuda!(cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), at, 16)).unwrap();
            cuda!(cuIpcCloseMemHandle(at)).unwrap();
            assert_eq!(cuda!(cuIpcCloseMemHandle(at)), Err(1));
            return;
        }
        Some(_) => {
            let _context = context();
            let line = std::io::stdin().lines().next().unwrap().unwrap();
            open(handle_of(line.split_once(' ').unwrap().0)).unwrap();
            return;
        }
    }
    let scene = Scene::rtx();
    let mut exporter = child::command(&scene, test, "export").stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(exporter.stdout.take().unwrap()).lines();
    let handles = lines.by_ref().map(Result::unwrap).find(|line| line.len() == 257).expect("two handles");
    let import = |role| {
        let mut importer = child::command(&scene, test, role).stdin(Stdio::piped()).spawn().unwrap();
        importer.stdin.take().unwrap().write_all(format!("{handles}\n").as_bytes()).unwrap();
        let output = importer.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", child::text(&output));
    };
    import("import");
    assert_eq!(scene.leaks(), []);
    import("leave open");
    assert_eq!(scene.leaks().iter().map(|leak| leak.get("kind")).collect::<Vec<_>>(), ["imported-memory"]);
    drop(exporter.stdin.take());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(exporter.wait().unwrap().success(), "{rest:#?}");
    let seen = scene.violations();
    let seen: Vec<_> = seen.iter().map(|one| (one.get("function"), one.number("code"), one.get("what"))).collect();
    let expected = [
        ("cuIpcOpenMemHandle_v2", 201, "opened by the process that made it"),
        ("cuIpcGetMemHandle", 1, "not the beginning of an allocation of this context"),
        ("cuIpcOpenMemHandle_v2", 1, "not a handle of memory"),
        ("cuMemcpyDtoH_v2", 1, "beyond device memory"),
        ("cuMemFree_v2", 1, "not the beginning of an allocation"),
        ("cuIpcCloseMemHandle", 1, "not memory that was opened"),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn copies_are_counted_by_what_their_sides_are() {
    let test = "transfers::copies_are_counted_by_what_their_sides_are";
    if child::role().is_none() {
        let scene = Scene::rtx();
        let pid = child::run(&scene, test, "copy");
        let copies = scene.events("copies");
        let counts = ["htod", "htod-bytes", "dtoh", "dtoh-bytes", "dtod", "dtod-bytes"];
        assert_eq!((copies.len(), copies[0].pid), (1, pid));
        assert_eq!(counts.map(|count| copies[0].number(count)), [1, 100, 3, 100 + 60 + 20, 2, 100 + 60]);
        assert_eq!((scene.leaks(), scene.violations()), (vec![], vec![]));
        return;
    }
    let _context = context();
    let (from, to) = (Memory::of(&[7; 100]), Memory::new(100));
    cuda!(cuMemcpyDtoD_v2(to.at, from.at, 100)).unwrap();
    assert_eq!(to.bytes(), [7; 100]);
    let stream = stream();
    let mut rows = [0u8; 60];
    let plane = |kind, host: *mut u8, device| sys::CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        srcHost: ptr::null(),
        srcDevice: from.at,
        srcArray: ptr::null_mut(),
        srcPitch: 10,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: kind,
        dstHost: host.cast(),
        dstDevice: device,
        dstArray: ptr::null_mut(),
        dstPitch: 6,
        WidthInBytes: 6,
        Height: 10,
    };
    let down = plane(sys::CUmemorytype::CU_MEMORYTYPE_HOST, rows.as_mut_ptr(), 0);
    cuda!(cuMemcpy2DAsync_v2(&down, stream)).unwrap();
    let across = plane(sys::CUmemorytype::CU_MEMORYTYPE_DEVICE, ptr::null_mut(), to.at);
    cuda!(cuMemcpy2D_v2(&across)).unwrap();
    // Pinned memory is the host's, by whichever address; from there to the host nothing crosses.
    let mut pinned = ptr::null_mut();
    cuda!(cuMemAllocHost_v2(&mut pinned, 20)).unwrap();
    cuda!(cuMemcpyDtoDAsync_v2(pinned as u64, to.at, 20, stream)).unwrap();
    cuda!(cuMemcpy(rows.as_mut_ptr() as u64, pinned as u64, 20)).unwrap();
    cuda!(cuMemsetD8_v2(to.at, 0, 100)).unwrap();
    cuda!(cuMemFreeHost(pinned)).unwrap();
    cuda!(cuStreamDestroy_v2(stream)).unwrap();
    assert_eq!(rows, [7; 60]);
}

#[test]
fn a_stream_that_is_gone_takes_no_work() {
    let test = "transfers::a_stream_that_is_gone_takes_no_work";
    if child::role().is_none() {
        let scene = Scene::rtx();
        child::run(&scene, test, "work");
        assert_eq!(scene.leaks(), []);
        let seen = scene.violations();
        let seen: Vec<_> = seen.iter().map(|one| (one.get("function"), one.number("code"))).collect();
        let expected = [
            ("cuMemcpyDtoDAsync_v2", 400),
            ("cuMemsetD8Async", 400),
            ("cuStreamWaitEvent", 400),
            ("cuEventRecord", 400),
            ("nvEncSetIOCudaStreams", 8),
            ("nvEncSetIOCudaStreams", 8),
            ("nvEncSetIOCudaStreams", 6),
            ("nvEncEncodePicture", 8),
        ];
        assert_eq!(seen, expected);
        return;
    }
    let nvenc = Nvenc::load().unwrap();
    let memory = Memory::new(16);
    let (alive, dead) = (stream(), stream());
    cuda!(cuStreamDestroy_v2(dead)).unwrap();
    assert_eq!(cuda!(cuMemcpyDtoDAsync_v2(memory.at, memory.at, 16, dead)), Err(400));
    assert_eq!(cuda!(cuMemsetD8Async(memory.at, 0, 16, dead)), Err(400));
    let mut event = ptr::null_mut();
    cuda!(cuEventCreate(&mut event, 0)).unwrap();
    cuda!(cuStreamWaitEvent(alive, event, 0)).unwrap();
    cuda!(cuEventDestroy_v2(event)).unwrap();
    assert_eq!(cuda!(cuStreamWaitEvent(alive, event, 0)), Err(400));
    assert_eq!(cuda!(cuEventRecord(event, alive)), Err(400));

    let mut encoder = Encoder::new(&nvenc, (640, 360), NV12, |_| {});
    let set = |input: sys::CUstream, output: sys::CUstream| {
        let (mut input, mut output) = (input, output);
        let pointers = (ptr::from_mut(&mut input).cast(), ptr::from_mut(&mut output).cast());
        call!(nvenc.api, nvEncSetIOCudaStreams(encoder.handle, pointers.0, pointers.1))
    };
    assert_eq!(set(dead, alive), Err(8));
    assert_eq!(set(alive, dead), Err(8));
    let nothing = call!(nvenc.api, nvEncSetIOCudaStreams(encoder.handle, ptr::null_mut(), ptr::null_mut()));
    assert_eq!(nothing, Err(6));
    set(alive, ptr::null_mut()).unwrap();
    set(alive, alive).unwrap();
    encoder.encode(&vec![80; 640 * 360 * 3 / 2], 0);
    cuda!(cuStreamDestroy_v2(alive)).unwrap();
    assert_eq!(encoder.submit(0), Err(8));
    encoder.close();
}

#[test]
fn an_encoder_takes_memory_of_its_own_context_only() {
    let test = "transfers::an_encoder_takes_memory_of_its_own_context_only";
    if child::role().is_none() {
        let scene = Scene::rtx();
        child::run(&scene, test, "register");
        let seen = scene.violations();
        let wrong = "not device memory of the encoder's context, or less than the picture takes";
        assert_eq!(seen.iter().map(|one| one.get("what")).collect::<Vec<_>>(), [wrong; 3]);
        assert_eq!(scene.leaks(), []);
        return;
    }
    use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;
    let nvenc = Nvenc::load().unwrap();
    let encoder = Encoder::new(&nvenc, (640, 360), NV12, |_| {});
    let size = 640 * 360 * 3 / 2;
    let register = |at: u64| {
        let mut resource = NV_ENC_REGISTER_RESOURCE {
            version: NV_ENC_REGISTER_RESOURCE_VER,
            resourceType: NV_ENC_INPUT_RESOURCE_TYPE::NV_ENC_INPUT_RESOURCE_TYPE_CUDADEVICEPTR,
            width: 640,
            height: 360,
            pitch: 640,
            resourceToRegister: at as *mut _,
            bufferFormat: NV12,
            ..Default::default()
        };
        call!(nvenc.api, nvEncRegisterResource(encoder.handle, &mut resource)).map(|()| resource.registeredResource)
    };
    let own = Memory::new(size);
    let registered = register(own.at).unwrap();
    call!(nvenc.api, nvEncUnregisterResource(encoder.handle, registered)).unwrap();
    assert_eq!(register(own.at + 16), Err(23));
    let mut pinned = ptr::null_mut();
    cuda!(cuMemAllocHost_v2(&mut pinned, size)).unwrap();
    assert_eq!(register(pinned as u64), Err(23));
    cuda!(cuMemFreeHost(pinned)).unwrap();
    let mut other = ptr::null_mut();
    cuda!(cuCtxCreate_v2(&mut other, 0, 0)).unwrap();
    let foreign = Memory::new(size);
    assert_eq!(register(foreign.at), Err(23));
    drop(foreign);
    cuda!(cuCtxDestroy_v2(other)).unwrap();
    encoder.close();
}

#[test]
fn opengl_has_devices_where_its_context_is_current() {
    let test = "transfers::opengl_has_devices_where_its_context_is_current";
    if child::role().is_none() {
        let scene = Scene::a100_and_rtx();
        child::run(&scene, test, "ask");
        let seen = scene.violations();
        assert_eq!(
            seen.iter().map(|one| one.get("what")).collect::<Vec<_>>(),
            ["no current OpenGL context on this thread"]
        );
        return;
    }
    let _context = context();
    // SAFETY: the library is there, as a context was made; the symbol has this type in cudaGL.h.
    let ask = unsafe {
        sys::culib().get::<unsafe extern "C" fn(*mut u32, *mut i32, u32, u32) -> u32>(b"cuGLGetDevices_v2\0").unwrap()
    };
    let ask = |room: u32| {
        let (mut count, mut list) = (0, [-1; 3]);
        // SAFETY: the list has room for three.
        let code = unsafe { ask(&mut count, list.as_mut_ptr(), room, 1) };
        (code, count, list)
    };
    assert_eq!(ask(3).0, 219);
    match egl::Context::open(None) {
        Ok(_opengl) => {
            assert_eq!(ask(3), (0, 2, [0, 1, -1]));
            assert_eq!(ask(1), (0, 2, [0, -1, -1]));
        }
        Err(cause) => println!("skipped: no OpenGL: {cause}"),
    }
}
