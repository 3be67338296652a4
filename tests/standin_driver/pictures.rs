//! What the stand-in encodes, decoded by FFmpeg: the same pixels.

use std::io::Write;
use std::process::{Command, Stdio};

use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal, RefNal, UnitType};
use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use crate::child;
use crate::encoder::{ABGR, ARGB, Encoder, IDR, IYUV, NV12, Nvenc, Unit, call};
use crate::standin::Scene;

/// Planar 4:2:0 pixels of a picture: noise, but for a frame's number of rows that change from one picture to the next.
fn i420(width: usize, height: usize, n: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut picture: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Runs of zeros and ones, so that emulation prevention has its work.
        if state >> 30 == 0 { (state >> 29 & 1) as u8 } else { (state >> 24) as u8 }
    })
    .take(width * height * 3 / 2)
    .collect();
    for row in 0..n * 8 {
        picture[row * width..][..width].fill(n as u8 * 40);
    }
    picture
}

fn nv12_of(i420: &[u8], width: usize, height: usize) -> Vec<u8> {
    let (luma, chroma) = i420.split_at(width * height);
    let (cb, cr) = chroma.split_at(chroma.len() / 2);
    let mut picture = luma.to_vec();
    picture.extend(cb.iter().zip(cr).flat_map(|(cb, cr)| [*cb, *cr]));
    picture
}

/// All of a stream, by another's decoder that stops at the first fault.
fn decode(stream: &[u8]) -> Vec<u8> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args([
        "-v",
        "warning",
        "-xerror",
        "-err_detect",
        "explode",
        "-f",
        "h264",
        "-i",
        "-",
        "-fps_mode",
        "passthrough",
    ]);
    ffmpeg.args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]);
    let mut child = ffmpeg.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(stream).unwrap());
        child.wait_with_output().unwrap()
    });
    assert_eq!((output.status.success(), String::from_utf8_lossy(&output.stderr).as_ref()), (true, ""));
    output.stdout
}

fn units(bytes: &[u8]) -> Vec<RefNal<'_>> {
    let starts: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, w)| *w == [0, 0, 0, 1]).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(&start, end)| RefNal::new(&bytes[start + 4..end], &[], true)).collect()
}

fn types(unit: &Unit) -> Vec<UnitType> {
    units(&unit.bytes).iter().map(|nal| nal.header().unwrap().nal_unit_type()).collect()
}

fn sps(unit: &Unit) -> SeqParameterSet {
    let nals = units(&unit.bytes);
    let sps = nals.iter().find(|nal| nal.header().unwrap().nal_unit_type() == UnitType::SeqParameterSet).unwrap();
    SeqParameterSet::from_bits(sps.rbsp_bits()).unwrap()
}

fn joined(units: &[Unit]) -> Vec<u8> {
    units.iter().flat_map(|unit| unit.bytes.iter().copied()).collect()
}

/// Runs the test's other half with a GeForce board's driver; nothing of it is left over, nor was wrong.
fn with_geforce(test: &str) -> Scene {
    let scene = Scene::geforce(3);
    child::run(&scene, test, "encode");
    assert_eq!((scene.leaks(), scene.violations()), (vec![], vec![]));
    scene
}

#[test]
fn yuv_pictures_come_back_exactly() {
    if child::role().is_none() {
        with_geforce("pictures::yuv_pictures_come_back_exactly");
        return;
    }
    let nvenc = Nvenc::load().unwrap();
    for (width, height, format) in [(1280, 720, NV12), (642, 362, NV12), (642, 362, IYUV), (146, 50, IYUV)] {
        let pictures: Vec<Vec<u8>> = [0, 1, 2, 2, 3].iter().map(|&n| i420(width, height, n)).collect();
        let mut encoder = Encoder::new(&nvenc, (width as u32, height as u32), format, |_| {});
        let coded: Vec<Unit> = pictures
            .iter()
            .enumerate()
            .map(|(n, picture)| {
                let packed = if format == NV12 { nv12_of(picture, width, height) } else { picture.clone() };
                encoder.encode(&packed, if n == 4 { IDR } else { 0 })
            })
            .collect();
        encoder.close();
        use UnitType::{
            PicParameterSet as Pps, SeqParameterSet as Sps, SliceLayerWithoutPartitioningIdr as Idr,
            SliceLayerWithoutPartitioningNonIdr as P,
        };
        let expected = [vec![Sps, Pps, Idr], vec![P], vec![P], vec![P], vec![Sps, Pps, Idr]];
        assert_eq!(coded.iter().map(types).collect::<Vec<_>>(), expected);
        assert_eq!(coded.iter().map(|unit| unit.idr).collect::<Vec<_>>(), [true, false, false, false, true]);
        assert!(coded[3].bytes.len() < 32, "a picture that did not change takes {} bytes", coded[3].bytes.len());
        assert!(coded[1].bytes.len() < coded[0].bytes.len() / 2, "{}", coded[1].bytes.len());
        assert_eq!(sps(&coded[0]).pixel_dimensions().unwrap(), (width as u32, height as u32));
        assert!(decode(&joined(&coded)) == pictures.concat(), "{width}x{height} {format:?}");
    }
}

#[test]
fn rgb_pictures_come_back_as_bt601() {
    if child::role().is_none() {
        with_geforce("pictures::rgb_pictures_come_back_as_bt601");
        return;
    }
    let (width, height) = (642usize, 362usize);
    // Patches of 2x2 pixels, so that the mean of four is their own colour.
    let colour = |x: usize, y: usize| [(x / 2 * 7) as u8, (y / 2 * 5) as u8, ((x / 2 + y / 2) * 3) as u8];
    let nvenc = Nvenc::load().unwrap();
    for format in [ARGB, ABGR] {
        let packed: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| {
                let [r, g, b] = colour(x, y);
                if format == ARGB { [b, g, r, 255] } else { [r, g, b, 255] }
            })
            .collect();
        let mut encoder = Encoder::new(&nvenc, (width as u32, height as u32), format, |_| {});
        let decoded = decode(&encoder.encode(&packed, 0).bytes);
        encoder.close();
        let (luma, chroma) = decoded.split_at(width * height);
        let (cb, cr) = chroma.split_at(chroma.len() / 2);
        for y in 0..height {
            for x in 0..width {
                let [r, g, b] = colour(x, y).map(f64::from);
                let small = y / 2 * (width / 2) + x / 2;
                // ITU-R BT.601, limited range.
                let expected = [
                    16.0 + (65.481 * r + 128.553 * g + 24.966 * b) / 255.0,
                    128.0 + (-37.797 * r - 74.203 * g + 112.0 * b) / 255.0,
                    128.0 + (112.0 * r - 93.786 * g - 18.214 * b) / 255.0,
                ];
                let got = [luma[y * width + x], cb[small], cr[small]].map(f64::from);
                assert!(
                    got.iter().zip(expected).all(|(got, want)| (got - want).abs() <= 1.5),
                    "{format:?} at {x},{y}: {got:?} for {expected:?}"
                );
            }
        }
    }
}

#[test]
fn pictures_in_device_memory_come_back_exactly() {
    if child::role().is_none() {
        with_geforce("pictures::pictures_in_device_memory_come_back_exactly");
        return;
    }
    let (width, height) = (642usize, 362usize);
    let nvenc = Nvenc::load().unwrap();
    let picture = i420(width, height, 3);
    let stream = nvenc.cuda.default_stream();
    let memory = stream.clone_htod(&nv12_of(&picture, width, height)).unwrap();
    let mut encoder = Encoder::new(&nvenc, (width as u32, height as u32), NV12, |_| {});
    let pointer = {
        use cudarc::driver::DevicePtr;
        memory.device_ptr(&stream).0
    };
    let mut resource = NV_ENC_REGISTER_RESOURCE {
        version: NV_ENC_REGISTER_RESOURCE_VER,
        resourceType: NV_ENC_INPUT_RESOURCE_TYPE::NV_ENC_INPUT_RESOURCE_TYPE_CUDADEVICEPTR,
        width: width as u32,
        height: height as u32,
        pitch: width as u32,
        resourceToRegister: pointer as *mut _,
        bufferFormat: NV12,
        ..Default::default()
    };
    call!(nvenc.api, nvEncRegisterResource(encoder.handle, &mut resource)).unwrap();
    let mut map = NV_ENC_MAP_INPUT_RESOURCE {
        version: NV_ENC_MAP_INPUT_RESOURCE_VER,
        registeredResource: resource.registeredResource,
        ..Default::default()
    };
    call!(nvenc.api, nvEncMapInputResource(encoder.handle, &mut map)).unwrap();
    encoder.submit_from(map.mappedResource, 0).unwrap();
    let unit = encoder.collect().unwrap();
    call!(nvenc.api, nvEncUnmapInputResource(encoder.handle, map.mappedResource)).unwrap();
    call!(nvenc.api, nvEncUnregisterResource(encoder.handle, resource.registeredResource)).unwrap();
    encoder.close();
    assert!(decode(&unit.bytes) == picture);
}

#[test]
fn the_stream_says_what_was_asked_for() {
    if child::role().is_none() {
        with_geforce("pictures::the_stream_says_what_was_asked_for");
        return;
    }
    let nvenc = Nvenc::load().unwrap();
    let picture = nv12_of(&i420(1280, 720, 0), 1280, 720);
    let mut encoder = Encoder::new(&nvenc, (1280, 720), NV12, |config| {
        config.profileGUID = NV_ENC_H264_PROFILE_BASELINE_GUID;
        config.rcParams.averageBitRate = 4_000_000;
        config.rcParams.maxBitRate = 4_000_000;
        // SAFETY: an encoder of H.264 reads this member of the union.
        let h264 = unsafe { &mut config.encodeCodecConfig.h264Config };
        h264.set_outputAUD(1);
        h264.sliceMode = 3;
        h264.sliceModeData = 4;
        let vui = &mut h264.h264VUIParameters;
        vui.videoSignalTypePresentFlag = 1;
        vui.videoFormat = NV_ENC_VUI_VIDEO_FORMAT::NV_ENC_VUI_VIDEO_FORMAT_UNSPECIFIED;
        vui.colourDescriptionPresentFlag = 1;
        vui.colourPrimaries = NV_ENC_VUI_COLOR_PRIMARIES::NV_ENC_VUI_COLOR_PRIMARIES_BT709;
        vui.transferCharacteristics = NV_ENC_VUI_TRANSFER_CHARACTERISTIC::NV_ENC_VUI_TRANSFER_CHARACTERISTIC_BT709;
        vui.colourMatrix = NV_ENC_VUI_MATRIX_COEFFS::NV_ENC_VUI_MATRIX_COEFFS_BT709;
        vui.bitstreamRestrictionFlag = 1;
    });
    let unit = encoder.encode(&picture, 0);
    use UnitType::{
        AccessUnitDelimiter as Aud, PicParameterSet as Pps, SeqParameterSet as Sps,
        SliceLayerWithoutPartitioningIdr as Idr,
    };
    assert_eq!(types(&unit), [Aud, Sps, Pps, Idr, Idr, Idr, Idr]);
    let sps = sps(&unit);
    // 3600 macroblocks at 60 a second: level 3.2 (Table A-1). Constrained baseline.
    assert_eq!((sps.rfc6381().to_string(), sps.level_idc), ("avc1.42C020".into(), 32));
    let vui = sps.vui_parameters.unwrap();
    let signal = vui.video_signal_type.unwrap();
    let colour = signal.colour_description.unwrap();
    assert!(!signal.video_full_range_flag);
    assert_eq!((colour.colour_primaries, colour.transfer_characteristics, colour.matrix_coefficients), (1, 1, 1));
    let restrictions = vui.bitstream_restrictions.unwrap();
    assert_eq!((restrictions.max_num_reorder_frames, restrictions.max_dec_frame_buffering), (0, 1));
    assert!(
        vui.timing_info.is_none()
            && vui.overscan_appropriate == h264_reader::nal::sps::OverscanAppropriate::Unspecified
    );
    let p = encoder.encode(&picture, 0);
    assert!(decode(&joined(&[unit, p])).len() == 2 * 1280 * 720 * 3 / 2);
    encoder.close();
}

#[test]
fn a_running_encoder_takes_another_rate_and_size() {
    let test = "pictures::a_running_encoder_takes_another_rate_and_size";
    if child::role().is_none() {
        let scene = Scene::geforce(3);
        let child = child::Staying::start(&scene, test, "encode");
        scene.wait_for("the last picture", |log| log.iter().find(|event| event.name == "force-idr").cloned());
        let session = scene.sessions().remove(0);
        assert_eq!((session.pid, session.width, session.height, session.fps), (child.pid(), 640, 360, (30, 1)));
        assert_eq!((session.bitrate, session.max_bitrate, session.vbv), (900_000, 1_000_000, 30_000));
        let all = scene.events("reconfigure");
        let fields: Vec<_> =
            all.iter().map(|event| (event.get("bitrate"), event.get("size"), event.get("fps"))).collect();
        assert_eq!(fields, [("2000000", "1280x720", "60/1"), ("900000", "640x360", "30/1")]);
        child.end();
        assert_eq!((scene.leaks(), scene.violations()), (vec![], vec![]));
        assert_eq!(scene.sessions(), []);
        return;
    }
    let nvenc = Nvenc::load().unwrap();
    let pictures = [i420(1280, 720, 0), i420(640, 360, 1)];
    let mut encoder = Encoder::new(&nvenc, (1280, 720), IYUV, |_| {});
    let mut stream = encoder.encode(&pictures[0], 0).bytes;
    encoder.reconfigure(|_, config| config.rcParams.averageBitRate = 2_000_000).unwrap();
    let next = encoder.encode(&pictures[0], 0);
    assert!(!next.idr && next.bytes.len() < 32, "another rate costs no key frame");
    stream.extend(next.bytes);
    encoder
        .reconfigure(|parameters, config| {
            (parameters.encodeWidth, parameters.encodeHeight, parameters.frameRateNum) = (640, 360, 30);
            config.rcParams.averageBitRate = 900_000;
            config.rcParams.maxBitRate = 1_000_000;
            config.rcParams.vbvBufferSize = 30_000;
        })
        .unwrap();
    call!(nvenc.api, nvEncDestroyInputBuffer(encoder.handle, encoder.input)).unwrap();
    encoder.input = crate::encoder::create_input(&nvenc, encoder.handle, (640, 360), IYUV).unwrap();
    let changed = encoder.encode(&pictures[1], 0);
    assert!(changed.idr && sps(&changed).pixel_dimensions().unwrap() == (640, 360));
    assert!(decode(&stream) == [pictures[0].clone(), pictures[0].clone()].concat());
    assert!(decode(&changed.bytes) == pictures[1]);
    assert!(encoder.encode(&pictures[1], IDR).idr);
    child::stay();
    encoder.close();
}

#[test]
fn key_frames_come_by_the_gop_too() {
    if child::role().is_none() {
        with_geforce("pictures::key_frames_come_by_the_gop_too");
        return;
    }
    let nvenc = Nvenc::load().unwrap();
    let picture = nv12_of(&i420(146, 50, 0), 146, 50);
    let mut encoder = Encoder::new(&nvenc, (146, 50), NV12, |config| {
        config.gopLength = 3;
        // SAFETY: an encoder of H.264 reads this member of the union.
        let h264 = unsafe { &mut config.encodeCodecConfig.h264Config };
        h264.idrPeriod = 3;
        h264.set_repeatSPSPPS(0);
    });
    // More than frame_num's 256 would hold, were it not set back.
    let coded: Vec<Unit> = (0..300).map(|_| encoder.encode(&picture, 0)).collect();
    let keys: Vec<usize> = coded.iter().enumerate().filter(|(_, unit)| unit.idr).map(|(n, _)| n).collect();
    assert_eq!(keys, (0..300).step_by(3).collect::<Vec<_>>());
    assert_eq!(
        types(&coded[3]),
        [UnitType::SliceLayerWithoutPartitioningIdr],
        "parameter sets come once if not asked for again"
    );
    assert_eq!(decode(&joined(&coded)).len(), 300 * 146 * 50 * 3 / 2);
    encoder.close();

    // An endless GOP: frame_num wraps.
    let mut encoder = Encoder::new(&nvenc, (146, 50), NV12, |_| {});
    let coded: Vec<Unit> = (0..300).map(|_| encoder.encode(&picture, 0)).collect();
    assert_eq!(coded.iter().filter(|unit| unit.idr).count(), 1);
    assert_eq!(decode(&joined(&coded)).len(), 300 * 146 * 50 * 3 / 2);
    encoder.close();
}
