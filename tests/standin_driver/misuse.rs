//! Calls that the real driver refuses: the stand-in refuses them too, and says so in its log.

use std::ptr;

use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use crate::child;
use crate::encoder::{EOS, Encoder, NV12, Nvenc, call, create_input, parameters};
use crate::standin::Scene;

const SIZE: (u32, u32) = (640, 360);

/// Runs the test's other half, and returns what its violations were about.
fn violations(test: &str) -> Vec<(String, i64, String)> {
    let scene = Scene::geforce(3);
    child::run(&scene, test, "misuse");
    let all = scene.violations();
    all.iter()
        .map(|event| (event.get("function").to_owned(), event.number("code"), event.get("what").to_owned()))
        .collect()
}

fn expect(test: &str, expected: &[(&str, i64, &str)]) {
    let seen = violations(test);
    assert_eq!(
        seen.iter().map(|(function, code, what)| (function.as_str(), *code, what.as_str())).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn calls_out_of_order_are_refused() {
    if child::role().is_none() {
        expect(
            "misuse::calls_out_of_order_are_refused",
            &[
                ("nvEncCreateInputBuffer", 11, "not initialised"),
                ("nvEncInitializeEncoder", 9, "initialised twice"),
                ("nvEncLockBitstream", 9, "nothing was encoded into it"),
                ("nvEncLockInputBuffer", 9, "locked twice"),
                ("nvEncEncodePicture", 9, "the input is still locked"),
                ("nvEncUnlockInputBuffer", 9, "not locked"),
                ("nvEncEncodePicture", 18, "the bitstream buffer holds a picture that was not read"),
                ("nvEncLockBitstream", 9, "locked twice"),
                ("nvEncEncodePicture", 9, "the bitstream buffer is still locked"),
                ("nvEncDestroyBitstreamBuffer", 9, "destroyed while locked"),
                ("nvEncEncodePicture", 9, "a picture after the end of the stream"),
                ("nvEncDestroyEncoder", 3, "no such encoder, or not any more"),
            ],
        );
        return;
    }
    let nvenc = Nvenc::load().unwrap();
    let early = nvenc.open().unwrap();
    assert_eq!(create_input(&nvenc, early, SIZE, NV12), Err(11));
    call!(nvenc.api, nvEncDestroyEncoder(early)).unwrap();

    let mut encoder = Encoder::new(&nvenc, SIZE, NV12, |_| {});
    let handle = encoder.handle;
    let mut config = encoder.config;
    assert_eq!(call!(nvenc.api, nvEncInitializeEncoder(handle, &mut parameters(640, 360, &mut config))), Err(9));
    assert_eq!(nvenc.last_error(handle), "nvEncInitializeEncoder: initialised twice");
    assert_eq!(encoder.lock_bitstream().err(), Some(9));
    encoder.lock_input().unwrap();
    assert_eq!(encoder.lock_input(), Err(9));
    assert_eq!(encoder.submit(0), Err(9));
    call!(nvenc.api, nvEncUnlockInputBuffer(handle, encoder.input)).unwrap();
    assert_eq!(call!(nvenc.api, nvEncUnlockInputBuffer(handle, encoder.input)), Err(9));
    encoder.submit(0).unwrap();
    assert_eq!(encoder.submit(0), Err(18));
    encoder.lock_bitstream().unwrap();
    assert_eq!(encoder.lock_bitstream().err(), Some(9));
    assert_eq!(encoder.submit(0), Err(9));
    assert_eq!(call!(nvenc.api, nvEncDestroyBitstreamBuffer(handle, encoder.bitstream)), Err(9));
    call!(nvenc.api, nvEncUnlockBitstream(handle, encoder.bitstream)).unwrap();
    encoder.submit_from(ptr::null_mut(), EOS).unwrap();
    assert_eq!(encoder.submit(0), Err(9));
    encoder.close();
    assert_eq!(call!(nvenc.api, nvEncDestroyEncoder(handle)), Err(3));
}

#[test]
fn wrong_words_are_refused() {
    if child::role().is_none() {
        expect(
            "misuse::wrong_words_are_refused",
            &[
                ("nvEncOpenEncodeSessionEx", 15, "version word"),
                ("nvEncOpenEncodeSessionEx", 15, "apiVersion"),
                ("nvEncOpenEncodeSessionEx", 4, "no such context"),
                ("nvEncGetEncodePresetConfigEx", 15, "version word of presetCfg"),
                ("nvEncInitializeEncoder", 15, "version word of the parameters"),
                ("nvEncInitializeEncoder", 8, "odd size"),
                ("nvEncInitializeEncoder", 12, "the stand-in writes no B pictures: frameIntervalP is 1"),
                ("nvEncReconfigureEncoder", 8, "larger than maxEncodeWidth and maxEncodeHeight"),
                ("nvEncEncodePicture", 8, "size is not the encoder's"),
                ("nvEncEncodePicture", 15, "version word of parameters"),
            ],
        );
        return;
    }
    let nvenc = Nvenc::load().unwrap();
    let right = NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS {
        version: NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS_VER,
        deviceType: NV_ENC_DEVICE_TYPE::NV_ENC_DEVICE_TYPE_CUDA,
        device: nvenc.cuda.cu_ctx().cast(),
        apiVersion: NVENCAPI_VERSION,
        ..Default::default()
    };
    let open = |mut wrong: NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS| {
        let mut encoder = ptr::null_mut();
        call!(nvenc.api, nvEncOpenEncodeSessionEx(&mut wrong, &mut encoder))
    };
    assert_eq!(open(NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS { version: 1, ..right }), Err(15));
    assert_eq!(open(NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS { apiVersion: 13, ..right }), Err(15));
    assert_eq!(open(NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS { device: ptr::dangling_mut(), ..right }), Err(4));

    let handle = nvenc.open().unwrap();
    let mut preset = NV_ENC_PRESET_CONFIG { version: NV_ENC_PRESET_CONFIG_VER, ..Default::default() };
    let tuning = NV_ENC_TUNING_INFO::NV_ENC_TUNING_INFO_LOW_LATENCY;
    let (codec, p3) = (NV_ENC_CODEC_H264_GUID, NV_ENC_PRESET_P3_GUID);
    assert_eq!(call!(nvenc.api, nvEncGetEncodePresetConfigEx(handle, codec, p3, tuning, &mut preset)), Err(15));
    let mut config = nvenc.preset(handle).unwrap();
    let initialize = |change: &dyn Fn(&mut NV_ENC_INITIALIZE_PARAMS), config: &mut NV_ENC_CONFIG| {
        let mut parameters = parameters(640, 360, config);
        change(&mut parameters);
        call!(nvenc.api, nvEncInitializeEncoder(handle, &mut parameters))
    };
    assert_eq!(initialize(&|parameters| parameters.version = 6, &mut config), Err(15));
    assert_eq!(initialize(&|parameters| parameters.encodeWidth = 641, &mut config), Err(8));
    config.frameIntervalP = 3;
    assert_eq!(initialize(&|_| {}, &mut config), Err(12));
    call!(nvenc.api, nvEncDestroyEncoder(handle)).unwrap();

    let mut encoder = Encoder::new(&nvenc, SIZE, NV12, |_| {});
    assert_eq!(encoder.reconfigure(|parameters, _| parameters.encodeWidth = 1922), Err(8));
    encoder.size.0 = 638;
    assert_eq!(encoder.submit(0), Err(8));
    encoder.size.0 = 640;
    let mut picture = NV_ENC_PIC_PARAMS { version: 0, ..Default::default() };
    assert_eq!(call!(nvenc.api, nvEncEncodePicture(encoder.handle, &mut picture)), Err(15));
    encoder.close();
}

#[test]
fn a_scene_that_is_not_understood_ends_its_program() {
    let test = "misuse::a_scene_that_is_not_understood_ends_its_program";
    if child::role().is_some() {
        let _ = nvml_wrapper::Nvml::init();
        return;
    }
    for (line, what) in [
        ("bord name=x", "no such statement: bord"),
        ("board name=x colour=red", "no such key of a board: colour=red"),
        ("board cc=8.9", "a board has a name: board"),
        ("foreign board=3 pid=1", "no such board above this line: 3"),
        ("limit many", "not a number: many"),
        ("fault nvmlInit_v2 call=0 code=1", "call (from 1) and, of a fault, code are required: nvmlInit_v2"),
        ("board name=\"x", "a quote is not closed: name=x"),
    ] {
        let mut scene = Scene::geforce(1);
        scene.line(line);
        let output = child::command(&scene, test, "read").output().unwrap();
        let place = format!("{}:3: {what}", scene.path().display());
        assert!(!output.status.success() && child::text(&output).contains(&place), "{line}: {}", child::text(&output));
    }
}
