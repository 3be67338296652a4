//! Pictures that stay on the device, from the scene to the encoder, over the stand-in driver.

use std::time::Duration;

use crate::gsk::{Gsk, SOON, until};
use crate::standin::{Event, Scene};
use crate::viewer::Viewer;
use rustix::process::Signal;

/// `gsk serve` of the scene, small, on a scene's host.
fn worker(scene: &Scene, leases: &tempfile::TempDir, words: &[&str]) -> Gsk {
    let mut all = vec!["--size", "320x180"];
    all.extend(words);
    Gsk::with(&all, |command| {
        scene.apply(command).env("GSK_LEASE_DIR", leases.path());
    })
}

/// Ends a worker, and gives the copies that it made.
fn copies(mut worker: Gsk, scene: &Scene) -> Event {
    worker.signal(Signal::TERM);
    assert_eq!(worker.end(Duration::from_secs(5)).0, 143);
    assert_eq!((scene.violations(), scene.sessions()), (vec![], vec![]));
    scene
        .events("copies")
        .pop()
        .unwrap_or_else(|| panic!("{:#?}", scene.log().iter().rev().take(6).collect::<Vec<_>>()))
}

#[test]
fn no_pixel_of_the_scene_crosses_to_host_memory() {
    let (scene, leases) = (Scene::rtx(), tempfile::tempdir().unwrap());
    let worker = worker(&scene, &leases, &[]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    let config = viewer.said("config");
    assert_eq!((&config["backend"], &config["hardware"]), (&"nvenc".into(), &true.into()), "{config}");
    (0..30).for_each(|_| drop(viewer.unit()));
    let status = worker.status();
    let detail = status["source_detail"].as_str().unwrap();
    assert!(detail.starts_with("drawn by OpenGL") && !detail.contains("read back"), "{detail}");
    let copies = copies(worker, &scene);
    assert_eq!((copies.number("dtoh"), copies.number("htod")), (0, 0), "{copies:?}");
    assert!(copies.number("dtod") >= 30, "{copies:?}");
}

#[test]
fn without_an_engine_the_device_converts_for_the_cpu() {
    let (scene, leases) = (Scene::h200(), tempfile::tempdir().unwrap());
    let worker = worker(&scene, &leases, &[]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    let config = viewer.said("config");
    assert_eq!((&config["backend"], &config["fallback"]["cause"]), (&"openh264".into(), &"no-engine".into()));
    (0..30).for_each(|_| drop(viewer.unit()));
    let copies = copies(worker, &scene);
    let pictures = copies.number("dtoh") / 3;
    assert!(pictures >= 30, "{copies:?}");
    assert_eq!(copies.number("dtoh-bytes"), pictures * 320 * 180 * 3 / 2, "I420, and nothing else");
}

#[test]
fn a_capture_that_fails_is_told_and_pictures_are_read_back() {
    let (mut scene, leases) = (Scene::rtx(), tempfile::tempdir().unwrap());
    // CUDA_ERROR_UNKNOWN.
    scene.fault_from("cuGraphicsMapResources", 10, 999);
    let worker = worker(&scene, &leases, &[]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    let began = viewer.unit().at;
    let mut last = began;
    for _ in 0..40 {
        let at = viewer.unit().at;
        assert!(at - last < Duration::from_secs(1), "the stream goes on");
        last = at;
    }
    worker.await_status(SOON, "the reason", |status| {
        let detail = status["source_detail"].as_str().unwrap();
        detail.contains("(read back: CUDA cannot use OpenGL's texture").then_some(())
    });
    let told = worker.err().matches("pictures are read back").count();
    assert_eq!(told, 1, "{}", worker.err());
    let copies = copies(worker, &scene);
    assert_eq!(copies.number("dtoh"), 0, "{copies:?}");
    assert!(copies.number("htod") >= 30, "NVENC's pictures are uploaded: {copies:?}");
}

/// As on a driver of CUDA 11, which has all that capturing takes and cannot load the kernels.
#[test]
fn where_the_kernels_cannot_be_loaded_pictures_are_read_back() {
    for scene in [Scene::rtx(), Scene::h200()] {
        let (mut scene, leases) = (scene, tempfile::tempdir().unwrap());
        // CUDA_ERROR_UNSUPPORTED_PTX_VERSION.
        scene.fault_from("cuModuleLoadData", 1, 222);
        let worker = worker(&scene, &leases, &[]);
        let mut viewer = Viewer::join(worker.addr, "/ws");
        (0..10).for_each(|_| drop(viewer.unit()));
        let status = worker.status();
        let detail = status["source_detail"].as_str().unwrap();
        assert!(
            detail.contains("(read back: CUDA cannot use OpenGL's texture: cuModuleLoadData returned 222"),
            "{detail}"
        );
        assert_eq!(status["stream_error"], serde_json::Value::Null, "{status}");
        assert_eq!(copies(worker, &scene).number("dtoh"), 0);
    }
}

#[test]
fn an_idle_worker_has_no_memory_of_the_gpu() {
    let (scene, leases) = (Scene::rtx(), tempfile::tempdir().unwrap());
    let worker = worker(&scene, &leases, &[]);
    for round in 1..=2 {
        let mut viewer = Viewer::join(worker.addr, "/ws");
        (0..10).for_each(|_| drop(viewer.unit()));
        assert!(!worker.status()["source_detail"].as_str().unwrap().contains("read back"));
        drop(viewer);
        // The encoder stays a while for one who comes back; what ends last is the context.
        until(Duration::from_secs(10), "the context's end", || (scene.events("copies").len() == round).then_some(()));
        assert_eq!((scene.sessions(), scene.leaks()), (vec![], vec![]));
    }
    copies(worker, &scene);
}

/// Where memory was short for a while, pictures are left on the device again.
#[test]
fn a_capture_that_had_worked_is_tried_again() {
    let (mut scene, leases) = (Scene::rtx(), tempfile::tempdir().unwrap());
    // CUDA_ERROR_OUT_OF_MEMORY.
    scene.fault("cuGraphicsMapResources", 10, 2);
    let worker = worker(&scene, &leases, &[]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    let read_back =
        |status: &serde_json::Value| status["source_detail"].as_str().is_some_and(|text| text.contains("read back"));
    worker.await_status(SOON, "the reason", |status| read_back(status).then_some(()));
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while read_back(&worker.status()) {
        assert!(std::time::Instant::now() < until, "{}", worker.err());
        viewer.unit();
    }
    (0..10).for_each(|_| drop(viewer.unit()));
    copies(worker, &scene);
}

/// A driver that hangs in capturing: that is told, and the worker ends all the same.
#[test]
fn a_capture_that_hangs_is_told() {
    let (mut scene, leases) = (Scene::rtx(), tempfile::tempdir().unwrap());
    scene.hang("cuGraphicsMapResources", 10, None);
    let mut worker = worker(&scene, &leases, &[]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    viewer.unit();
    let reason = worker.await_state(Duration::from_secs(10), "error");
    assert!(reason.contains("does not answer"), "{reason}");
    worker.signal(Signal::TERM);
    assert_eq!(worker.end(Duration::from_secs(10)).0, 143);
}
