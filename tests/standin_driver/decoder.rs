//! The stand-in libnvcuvid: calls that the real one refuses, and what is not given back.

use std::mem::zeroed;
use std::ptr;

use libloading::Library;
use nvidia_video_codec_sdk::sys::cuviddec::{
    CUVIDDECODECAPS, CUVIDDECODECREATEINFO, CUVIDPROCPARAMS, CUvideodecoder, cudaVideoChromaFormat_enum,
    cudaVideoCodec_enum,
};
use nvidia_video_codec_sdk::sys::nvcuvid::{CUVIDPARSERPARAMS, CUVIDSOURCEDATAPACKET, CUvideoparser};

use crate::child;
use crate::device;
use crate::standin::{Board, Scene};

/// Calls a function of the library: its result as a number.
macro_rules! cuvid {
    ($library:expr, $function:ident($($type:ty = $argument:expr),* $(,)?)) => {
        // SAFETY: the function has its header's type, but for the result, a number; the arguments live through the call, and
        // the stand-in checks handles itself.
        unsafe {
            type Function = unsafe extern "C" fn($($type),*) -> u32;
            $library.get::<Function>(stringify!($function).as_bytes()).unwrap()($($argument),*)
        }
    };
}

#[test]
fn what_is_wrong_or_left_is_told() {
    if child::role().is_none() {
        let scene = Scene::of(Board::rtx());
        child::run(&scene, "decoder::what_is_wrong_or_left_is_told", "misuse");
        let told: Vec<_> = scene
            .violations()
            .iter()
            .map(|event| format!("{} {} {}", event.get("function"), event.get("code"), event.get("what")))
            .collect();
        assert_eq!(
            told,
            [
                "cuvidGetDecoderCaps 201 no current context on this thread",
                "cuvidCreateDecoder 801 a codec that the board does not decode",
                "cuvidCreateDecoder 1 a size that the board does not decode",
                "cuvidMapVideoFrame64 1 nothing was decoded into it",
                "cuvidUnmapVideoFrame64 1 not mapped, or not any more",
                "cuvidDestroyDecoder 201 the decoder's context is not current",
                "cuvidDestroyDecoder 400 no such decoder, or not any more",
                "cuvidCreateVideoParser 1 no callbacks",
                "cuvidParseVideoData 400 no such parser, or not any more",
                "cuvidDestroyVideoParser 400 no such parser, or not any more",
            ]
        );
        let kinds: Vec<_> = scene.leaks().iter().map(|event| event.get("kind").to_owned()).collect();
        assert_eq!(kinds, ["nvdec-parser", "nvdec-decoder"]);
        return;
    }
    // SAFETY: the stand-in's initialisers ask nothing of anyone.
    let library = unsafe { Library::new("libnvcuvid.so.1") }.unwrap();
    // SAFETY: numbers, pointers, functions that may be absent, and enums that have a value 0.
    let (mut caps, mut info, mut how, mut params): (
        CUVIDDECODECAPS,
        CUVIDDECODECREATEINFO,
        CUVIDPROCPARAMS,
        CUVIDPARSERPARAMS,
    ) = unsafe { (zeroed(), zeroed(), zeroed(), zeroed()) };
    assert_eq!(cuvid!(library, cuvidGetDecoderCaps(*mut CUVIDDECODECAPS = &mut caps)), 201);
    let context = device::context();
    let create = |info: &mut CUVIDDECODECREATEINFO, decoder: &mut CUvideodecoder| cuvid!(library, cuvidCreateDecoder(*mut CUvideodecoder = decoder, *mut CUVIDDECODECREATEINFO = info));
    let mut decoder = ptr::null_mut();
    info.ChromaFormat = cudaVideoChromaFormat_enum::cudaVideoChromaFormat_420;
    info.CodecType = cudaVideoCodec_enum::cudaVideoCodec_VP8;
    assert_eq!(create(&mut info, &mut decoder), 801);
    info.CodecType = cudaVideoCodec_enum::cudaVideoCodec_H264;
    assert_eq!(create(&mut info, &mut decoder), 1);
    (info.ulWidth, info.ulHeight, info.ulTargetWidth, info.ulTargetHeight) = (160, 96, 160, 96);
    (info.ulNumDecodeSurfaces, info.ulNumOutputSurfaces) = (2, 1);
    assert_eq!(create(&mut info, &mut decoder), 0);
    let (mut address, mut pitch) = (0, 0);
    let mapped = cuvid!(
        library,
        cuvidMapVideoFrame64(
            CUvideodecoder = decoder,
            i32 = 0,
            *mut u64 = &mut address,
            *mut u32 = &mut pitch,
            *mut CUVIDPROCPARAMS = &mut how,
        )
    );
    assert_eq!(mapped, 1);
    assert_eq!(cuvid!(library, cuvidUnmapVideoFrame64(CUvideodecoder = decoder, u64 = 512)), 1);
    let destroy = |decoder: usize| cuvid!(library, cuvidDestroyDecoder(CUvideodecoder = decoder as CUvideodecoder));
    let at = decoder as usize;
    // No context is current on another thread.
    std::thread::scope(|scope| assert_eq!(scope.spawn(|| destroy(at)).join().unwrap(), 201));
    assert_eq!((destroy(at), destroy(at)), (0, 400));
    let parser = |params: &mut CUVIDPARSERPARAMS| {
        let mut parser: CUvideoparser = ptr::null_mut();
        let code = cuvid!(
            library,
            cuvidCreateVideoParser(*mut CUvideoparser = &mut parser, *mut CUVIDPARSERPARAMS = params)
        );
        (code, parser)
    };
    params.CodecType = cudaVideoCodec_enum::cudaVideoCodec_HEVC;
    params.ulMaxNumDecodeSurfaces = 1;
    assert_eq!(parser(&mut params).0, 1);
    let none = 512 as CUvideoparser;
    // SAFETY: as above.
    let mut packet: CUVIDSOURCEDATAPACKET = unsafe { zeroed() };
    let parsed = cuvid!(library, cuvidParseVideoData(CUvideoparser = none, *mut CUVIDSOURCEDATAPACKET = &mut packet));
    assert_eq!(parsed, 400);
    assert_eq!(cuvid!(library, cuvidDestroyVideoParser(CUvideoparser = none)), 400);
    // What is left behind.
    params.pfnSequenceCallback = Some(on_sequence);
    params.pfnDecodePicture = Some(on_picture);
    assert_eq!((parser(&mut params).0, create(&mut info, &mut decoder)), (0, 0));
    drop(context);
}

unsafe extern "C" fn on_sequence(
    _: *mut std::ffi::c_void,
    _: *mut nvidia_video_codec_sdk::sys::nvcuvid::CUVIDEOFORMAT,
) -> i32 {
    0
}

unsafe extern "C" fn on_picture(
    _: *mut std::ffi::c_void,
    _: *mut nvidia_video_codec_sdk::sys::cuviddec::CUVIDPICPARAMS,
) -> i32 {
    0
}
