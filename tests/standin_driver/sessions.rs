//! Sessions as processes share them: limits, deaths, those of others, faults, leaks.

use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::child::{self, Staying};
use crate::encoder::{Encoder, NV12, Nvenc, call};
use crate::standin::{Board, Foreign, Scene, Video};

const SIZE: (u32, u32) = (640, 360);

/// A session as NVML lists it.
#[derive(Debug, PartialEq)]
struct Listed {
    id: u32,
    pid: u32,
    codec: u32,
    size: (u32, u32),
    fps: u32,
    latency_us: u32,
}

/// NVML's own session list of a board, raw: the code, how many it says there are, and those it brought.
fn raw_sessions(nvml: &Nvml, index: u32, room: u32) -> (u32, u32, Vec<Listed>) {
    let device = nvml.device_by_index(index).unwrap();
    // SAFETY: plain numbers, for which all zeros are values.
    let mut sessions = vec![unsafe { std::mem::zeroed() }; room as usize];
    let mut count = room;
    // SAFETY: the handle is used while its `Nvml` lives, and the room is that of the vector.
    let code = unsafe {
        nvml.lib().nvmlDeviceGetEncoderSessions.as_ref().unwrap()(device.handle(), &mut count, sessions.as_mut_ptr())
    };
    sessions.truncate(if code == 0 { count as usize } else { 0 });
    let listed = sessions.into_iter().map(|s| Listed {
        id: s.sessionId,
        pid: s.pid,
        codec: s.codecType,
        size: (s.hResolution, s.vResolution),
        fps: s.averageFps,
        latency_us: s.averageLatency,
    });
    (code, count, listed.collect())
}

/// Opens so many sessions, each to be answered with `expected`, and lets them go.
fn open_all(nvenc: &Nvenc, expected: &[Result<(), u32>]) {
    let opened: Vec<_> = expected.iter().map(|_| nvenc.open()).collect();
    assert_eq!(opened.iter().map(|one| one.map(|_| ())).collect::<Vec<_>>(), expected);
    for encoder in opened.into_iter().flatten() {
        call!(nvenc.api, nvEncDestroyEncoder(encoder)).unwrap();
    }
}

#[test]
fn the_limit_is_the_machines_and_a_kill_frees_a_session() {
    let test = "sessions::the_limit_is_the_machines_and_a_kill_frees_a_session";
    match child::role().as_deref() {
        None => {}
        Some("hold") => {
            let nvenc = Nvenc::load().unwrap();
            let encoder = Encoder::new(&nvenc, SIZE, NV12, |_| {});
            child::stay();
            encoder.close();
            return;
        }
        Some("one more") => return open_all(&Nvenc::load().unwrap(), &[Ok(()), Err(21)]),
        Some(_) => return open_all(&Nvenc::load().unwrap(), &[Err(21)]),
    }
    let scene = Scene::geforce(2);
    let mut holders: Vec<Staying> = (0..2).map(|_| Staying::start(&scene, test, "hold")).collect();
    scene.wait_for("two sessions", |log| {
        (log.iter().filter(|event| event.name == "initialize").count() == 2).then_some(())
    });
    child::run(&scene, test, "none");
    let refused = scene.events("refused").remove(0);
    assert_eq!((refused.get("code"), refused.get("reason")), ("21", "limit"));

    // Dead and not waited for: free at once.
    let mut dead = holders.remove(0);
    let pid = dead.pid();
    dead.kill();
    scene.wait_for("the dead one's session ends", |_| (scene.sessions().len() == 1).then_some(()));
    child::run(&scene, test, "one more");
    let vanished = scene.events("vanished").remove(0);
    assert_eq!(vanished.number("holder"), i64::from(pid));
    assert_eq!(scene.sessions()[0].pid, holders[0].pid());

    holders.remove(0).end();
    assert_eq!((scene.sessions(), scene.leaks(), scene.violations()), (vec![], vec![], vec![]));
}

#[test]
fn the_limit_holds_however_holders_die() {
    let test = "sessions::the_limit_holds_however_holders_die";
    if child::role().is_some() {
        let nvenc = Nvenc::load().unwrap();
        while nvenc.open().is_err() {
            std::thread::sleep(Duration::from_millis(2));
        }
        return child::stay();
    }
    let scene = Scene::geforce(2);
    let mut all: Vec<Staying> = (0..4).map(|_| Staying::start(&scene, test, "hold")).collect();
    for _ in 0..20 {
        let holders = scene.wait_for("two holders", |_| {
            let open = scene.sessions();
            assert!(open.len() <= 2, "{open:?}");
            (open.len() == 2).then_some(open)
        });
        let dead = all.iter().position(|one| one.pid() == holders[0].pid).unwrap();
        all[dead].kill();
        all.push(Staying::start(&scene, test, "hold"));
        all.remove(dead);
    }
    drop(all);
    assert_eq!((scene.sessions(), scene.violations()), (vec![], vec![]));
}

#[test]
fn what_a_board_answers_to_an_open() {
    let test = "sessions::what_a_board_answers_to_an_open";
    match child::role().as_deref() {
        None => {}
        Some("both boards") => {
            let (first, second) = (Nvenc::on_device(0).unwrap(), Nvenc::on_device(1).unwrap());
            let encoder = first.open().unwrap();
            open_all(&second, &[Ok(()), Err(21)]);
            call!(first.api, nvEncDestroyEncoder(encoder)).unwrap();
            return;
        }
        Some("ten") => return open_all(&Nvenc::load().unwrap(), &[Ok(()), Err(10)]),
        Some("out of memory") => return open_all(&Nvenc::load().unwrap(), &[Ok(()), Ok(()), Err(10)]),
        Some("many") => return open_all(&Nvenc::on_device(1).unwrap(), &[Ok(()); 40]),
        Some("no engine") => return open_all(&Nvenc::load().unwrap(), &[Err(2)]),
        Some(_) => return assert_eq!(Nvenc::load().err(), Some(15)),
    }
    child::run(&Scene::two_geforce(2), test, "both boards");
    child::run(&Scene::h200(), test, "no engine");
    let both = Scene::a100_and_rtx();
    child::run(&both, test, "no engine");
    child::run(&both, test, "many");
    // A foreign session counts, on a GeForce; with the older driver's code.
    let mut foreign = Scene::two_geforce(2);
    foreign.limit(2, 10).foreign(Foreign::new(1, 4_000_000));
    child::run(&foreign, test, "ten");
    let short_of_memory = Scene::of(Board::geforce().memory_mib(1_000, 400).session_mib(250));
    child::run(&short_of_memory, test, "out of memory");
    assert_eq!(short_of_memory.events("refused")[0].get("reason"), "memory");
    let mut old = Scene::geforce(3);
    old.nvenc_api(11, 1);
    child::run(&old, test, "too old");
}

#[test]
fn sessions_of_others_are_listed() {
    let test = "sessions::sessions_of_others_are_listed";
    if child::role().is_none() {
        let mut scene = Scene::two_geforce(8);
        scene.foreign(Foreign::new(0, 4_242).codec(Video::Hevc).size(3840, 2160).fps(30).latency_us(5_500).session(7));
        child::run(&scene, test, "hevc");
        scene.foreign(Foreign::new(0, 4_194_305).codec(Video::Av1).size(800, 600));
        child::run(&scene, test, "av1");
        scene.foreign_ends();
        child::run(&scene, test, "gone");
        return;
    }
    let nvml = Nvml::init().unwrap();
    let device = nvml.device_by_index(0).unwrap();
    match child::role().unwrap().as_str() {
        "hevc" => {
            let listed = device.encoder_sessions().unwrap();
            assert_eq!((listed[0].session_id, listed[0].pid, listed[0].average_latency), (7, 4_242, 5_500));
            // One of our own beside it.
            let nvenc = Nvenc::load().unwrap();
            let mut encoder = Encoder::new(&nvenc, SIZE, NV12, |_| {});
            for _ in 0..5 {
                encoder.encode(&vec![16; 640 * 360 * 3 / 2], 0);
            }
            let (_, _, all) = raw_sessions(&nvml, 0, 8);
            let [other, own] = all.as_slice() else { panic!("{all:?}") };
            assert_eq!(*other, Listed { id: 7, pid: 4_242, codec: 1, size: (3840, 2160), fps: 30, latency_us: 5_500 });
            assert_eq!((own.pid, own.codec, own.size, own.fps), (std::process::id(), 0, SIZE, 5));
            assert!(own.latency_us > 0, "measured");
            assert_eq!(raw_sessions(&nvml, 1, 8).1, 0, "the other board has none");
            assert_eq!(device.encoder_stats().unwrap().session_count, 2);
            encoder.close();
        }
        "av1" => {
            assert!(
                matches!(device.encoder_sessions(), Err(NvmlError::UnexpectedVariant(2))),
                "as known of nvml-wrapper 0.13"
            );
            let (code, _, all) = raw_sessions(&nvml, 0, 8);
            assert_eq!((code, all[1].pid, all[1].codec, all[1].size), (0, 4_194_305, 2, (800, 600)));
        }
        _ => assert_eq!(raw_sessions(&nvml, 0, 8).1, 0),
    }
}

#[test]
fn a_program_that_runs_sees_the_scene_change() {
    let test = "sessions::a_program_that_runs_sees_the_scene_change";
    if child::role().is_none() {
        let mut scene = Scene::geforce(1);
        let child = Staying::start(&scene, test, "look");
        scene.wait_for("the refusal", |log| log.iter().find(|event| event.name == "refused").cloned());
        scene.limit(2, 21).foreign(Foreign::new(0, 77));
        child.end();
        assert_eq!(scene.events("refused").len(), 2);
        return;
    }
    let nvml = Nvml::init().unwrap();
    let nvenc = Nvenc::load().unwrap();
    open_all(&nvenc, &[Ok(()), Err(21)]);
    let start = Instant::now();
    while raw_sessions(&nvml, 0, 4).1 == 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "the foreign session does not show");
        std::thread::yield_now();
    }
    open_all(&nvenc, &[Ok(()), Err(21)]);
    child::stay();
}

#[test]
fn the_list_may_change_between_count_and_fetch() {
    let test = "sessions::the_list_may_change_between_count_and_fetch";
    if child::role().is_none() {
        let mut scene = Scene::geforce(8);
        scene.foreign(Foreign::new(0, 1)).foreign(Foreign::new(0, 2)).foreign(Foreign::new(0, 3));
        child::run(&scene, test, "too little room");
        scene.race_insufficient(2);
        child::run(&scene, test, "insufficient");
        let mut scene = Scene::geforce(8);
        scene.foreign(Foreign::new(0, 1)).foreign(Foreign::new(0, 2)).race_fewer(1);
        child::run(&scene, test, "fewer");
        return;
    }
    let nvml = Nvml::init().unwrap();
    let outline = |room| {
        let (code, count, sessions) = raw_sessions(&nvml, 0, room);
        (code, count, sessions.len())
    };
    match child::role().unwrap().as_str() {
        "too little room" => assert_eq!([outline(2), outline(3)], [(7, 3, 0), (0, 3, 3)]),
        "insufficient" => assert_eq!([outline(8), outline(8), outline(8)], [(7, 3, 0), (7, 3, 0), (0, 3, 3)]),
        _ => assert_eq!(outline(8), (0, 1, 1)),
    }
}

#[test]
fn calls_fail_and_hang_as_the_scene_says() {
    let test = "sessions::calls_fail_and_hang_as_the_scene_says";
    if child::role().is_none() {
        let mut scene = Scene::geforce(3);
        scene.fault("nvEncEncodePicture", 3, 8).fault_from("nvmlDeviceGetEncoderUtilization", 2, 15);
        scene.hang("nvmlDeviceGetDecoderUtilization", 1, Some(Duration::from_millis(200)));
        child::run(&scene, test, "fault");
        let faults = scene.events("fault");
        let seen: Vec<_> =
            faults.iter().map(|event| (event.get("function"), event.get("call"), event.get("code"))).collect();
        let nvml = "nvmlDeviceGetEncoderUtilization";
        assert_eq!(seen, [("nvEncEncodePicture", "3", "8"), (nvml, "2", "15"), (nvml, "3", "15")]);
        assert_eq!((scene.leaks(), scene.violations()), (vec![], vec![]));
        scene.hang("nvmlInit_v2", 1, None);
        let hung = Staying::start(&scene, test, "hang");
        scene.wait_for("the call that hangs", |log| {
            log.iter().find(|event| event.name == "hang" && event.pid == hung.pid()).cloned()
        });
        return;
    }
    let nvml = Nvml::init().unwrap();
    assert_ne!(child::role().unwrap(), "hang", "blocked for ever");
    let nvenc = Nvenc::load().unwrap();
    let mut encoder = Encoder::new(&nvenc, SIZE, NV12, |_| {});
    let picture = vec![80; 640 * 360 * 3 / 2];
    encoder.encode(&picture, 0);
    encoder.encode(&picture, 0);
    encoder.fill(&picture);
    assert_eq!(encoder.submit(0), Err(8));
    encoder.submit(0).unwrap();
    encoder.collect().unwrap();
    encoder.close();
    let device = nvml.device_by_index(0).unwrap();
    device.encoder_utilization().unwrap();
    assert!(matches!(device.encoder_utilization(), Err(NvmlError::GpuLost)));
    assert!(matches!(device.encoder_utilization(), Err(NvmlError::GpuLost)));
    let start = Instant::now();
    device.decoder_utilization().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn what_is_not_given_back_is_told() {
    let test = "sessions::what_is_not_given_back_is_told";
    if child::role().is_none() {
        let scene = Scene::geforce(3);
        let kinds = |pid| {
            let mut kinds: Vec<_> = scene
                .leaks()
                .iter()
                .filter(|event| event.pid == pid)
                .map(|event| event.get("kind").to_owned())
                .collect();
            kinds.sort();
            // cudarc keeps events of its own beside an allocation.
            kinds.dedup();
            kinds
        };
        let pid = child::run(&scene, test, "all");
        let all = [
            "bitstream-buffer",
            "event",
            "input-buffer",
            "locked-bitstream",
            "locked-input",
            "memory",
            "nvml-init",
            "primary-context",
            "session",
        ];
        assert_eq!(kinds(pid), all);
        assert_eq!(scene.sessions(), [], "the process is gone, and so is its session");
        let pid = child::run(&scene, test, "buffers");
        assert_eq!(kinds(pid), ["bitstream-buffer", "input-buffer"]);
        return;
    }
    let nvenc = Nvenc::load().unwrap();
    let mut encoder = Encoder::new(&nvenc, SIZE, NV12, |_| {});
    if child::role().unwrap() == "buffers" {
        call!(nvenc.api, nvEncDestroyEncoder(encoder.handle)).unwrap();
        return;
    }
    encoder.submit(0).unwrap();
    encoder.lock_bitstream().unwrap();
    encoder.lock_input().unwrap();
    let stream = nvenc.cuda.default_stream();
    std::mem::forget(stream.alloc_zeros::<u8>(1_000).unwrap());
    std::mem::forget(nvenc.cuda.new_event(None).unwrap());
    std::mem::forget(Nvml::init().unwrap());
    std::mem::forget(nvenc);
}

#[test]
fn a_picture_takes_its_time() {
    let test = "sessions::a_picture_takes_its_time";
    const TIME: Duration = Duration::from_millis(40);
    if child::role().is_none() {
        let scene = Scene::of(Board::geforce().encode_time(TIME));
        child::run(&scene, test, "encode");
        assert_eq!(scene.violations(), []);
        return;
    }
    let nvenc = Nvenc::load().unwrap();
    let mut encoder = Encoder::new(&nvenc, SIZE, NV12, |_| {});
    encoder.fill(&vec![80; 640 * 360 * 3 / 2]);
    let start = Instant::now();
    encoder.submit(0).unwrap();
    let submitted = start.elapsed();
    encoder.collect().unwrap();
    assert!(submitted < start.elapsed() && start.elapsed() >= TIME);
    let latency = raw_sessions(&Nvml::init().unwrap(), 0, 4).2[0].latency_us;
    assert!(u128::from(latency) >= TIME.as_micros(), "{latency}");
    encoder.close();
}
