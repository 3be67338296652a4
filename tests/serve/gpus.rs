//! `gsk serve --gpu`: one GPU for the encoder and the scene, whatever each library's numbers are.

use serde_json::Value;

use crate::gsk::{self, Gsk, SOON};
use crate::standin::{Board, Scene};
use crate::viewer::Viewer;

const FIRST: &str = "GPU-11111111-0000-4000-8000-000000000001";
const SECOND: &str = "GPU-22222222-0000-4000-8000-000000000002";

fn two_boards() -> Scene {
    let mut scene = Scene::of(Board::rtx().uuid(FIRST).pci("00000000:41:00.0"));
    scene.board(Board::rtx().uuid(SECOND).pci("00000000:42:00.0"));
    scene
}

/// Opens an encoder with these words and settings, and gives the board that the driver saw it on, and what was said.
fn opened(scene: &Scene, words: &[&str], environment: &[(&str, &str)]) -> (Option<i64>, Value, String) {
    let before = scene.events("open").len();
    let words = [&["--size", "320x240"], words].concat();
    let gsk = Gsk::with(&words, |command| {
        scene.apply(command).env("GSK_LEASE_DIR", scene.libraries().with_file_name("leases"));
        command.envs(environment.iter().copied());
    });
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    viewer.unit();
    let status = gsk.status();
    let board = scene.events("open").get(before).map(|event| event.number("board"));
    (board, status, gsk.err())
}

#[test]
fn the_encoder_is_opened_on_the_chosen_board() {
    let scene = two_boards();
    for (gpu, board) in
        [("0", 0), ("1", 1), (SECOND, 1), ("GPU-2", 1), ("gpu-11111111", 0), ("42:00.0", 1), ("00000000:41:00.0", 0)]
    {
        let (seen, status, said) = opened(&scene, &["--gpu", gpu], &[]);
        assert_eq!(seen, Some(board), "{gpu}: {said}");
        assert_eq!(status["encoders"][0]["backend"], "nvenc", "{gpu}: {status:#}");
    }
    // CUDA numbers the second board 0 here: the choice is not CUDA's number, but still NVML's.
    let (seen, _, _) = opened(&scene, &["--gpu", "1"], &[("CUDA_VISIBLE_DEVICES", "1,0")]);
    assert_eq!(seen, Some(1));
    let (seen, _, _) = opened(&scene, &["--gpu", "1"], &[("CUDA_VISIBLE_DEVICES", "GPU-2222")]);
    assert_eq!(seen, Some(1));
    let (seen, _, _) = opened(&scene, &[], &[("GSK_GPU", "1")]);
    assert_eq!(seen, Some(1), "by the environment");
    let (seen, _, _) = opened(&scene, &[], &[]);
    assert_eq!(seen, Some(0), "by default");
    assert_eq!(scene.violations(), []);
}

#[test]
fn the_scene_says_where_it_is_drawn() {
    let scene = two_boards();
    let (_, _, said) = opened(&scene, &["--gpu", "1"], &[]);
    if said.contains("drawn by CPU") {
        return eprintln!("skipped: no OpenGL here");
    }
    // Mesa's EGL has no device of a GPU: it draws all the same, and that is told.
    for text in ["not on GPU 1 (NVIDIA RTX 6000 Ada Generation)", "none of EGL's devices is NVIDIA's", "CUDA device 1"]
    {
        assert!(said.contains(text), "{text}: {said}");
    }
}

#[test]
fn a_chosen_board_without_an_engine_is_not_passed_over() {
    let scene = Scene::a100_and_rtx();
    let (seen, status, said) = opened(&scene, &["--gpu", "0"], &[]);
    assert_eq!((seen, &status["encoders"][0]["backend"]), (None, &"openh264".into()));
    let fallback = &status["encoders"][0]["fallback"];
    assert_eq!(fallback["cause"], "no-engine", "{fallback}");
    assert_eq!(fallback["detail"], "no NVENC engine: GPU 0 (NVIDIA A100-SXM4-80GB)");
    assert!(said.contains("not nvenc: no NVENC engine: GPU 0"), "as it starts: {said}");
    let (seen, _, _) = opened(&scene, &["--gpu", "1"], &[]);
    assert_eq!(seen, Some(1));
}

#[test]
fn what_cannot_be_had_is_refused_before_anything_starts() {
    let scene = two_boards();
    let refused = |scene: &Scene, words: &[&str], environment: &[(&str, &str)], code: i32, says: &[&str]| {
        let words = [&["serve", "--listen", "0"], words].concat();
        let (seen, out, err) = gsk::run(&words, |command| {
            scene.apply(command).envs(environment.iter().copied());
        });
        assert_eq!((seen, out.as_str()), (code, ""), "{words:?}: {err}");
        says.iter().for_each(|text| assert!(err.contains(text), "{words:?} lacks {text:?}: {err}"));
    };
    refused(
        &scene,
        &["--gpu", "2"],
        &[],
        2,
        &["there is no GPU 2", "GPU 0 (NVIDIA RTX", FIRST, SECOND, "nvidia-smi -L"],
    );
    refused(&scene, &["--gpu", "GPU-3"], &[], 2, &["there is no GPU GPU-3", FIRST]);
    refused(&scene, &["--gpu", "first"], &[], 2, &["'first' does not name a GPU", "65:00.0"]);
    let hidden =
        ["CUDA does not show GPU 1 (NVIDIA RTX 6000 Ada Generation)", "leaves it out", "unset CUDA_VISIBLE_DEVICES"];
    let setting = format!("export CUDA_VISIBLE_DEVICES={SECOND}");
    for list in ["0", FIRST, "GPU-1111", "7,1"] {
        refused(&scene, &["--gpu", "1"], &[("CUDA_VISIBLE_DEVICES", list)], 2, &hidden);
        refused(&scene, &["--gpu", "1"], &[("CUDA_VISIBLE_DEVICES", list)], 2, &[&setting]);
    }
    refused(&scene, &["--gpu", "MIG-c7384736"], &[], 2, &["export CUDA_VISIBLE_DEVICES=MIG-c7384736"]);
    refused(&scene, &["--gpu", "0", "--encoder", "jpeg", "--source", "-"], &[], 2, &["--gpu does nothing"]);
    refused(&Scene::new(), &["--gpu", "0"], &[], 3, &["the NVIDIA driver finds no GPU"]);
}

#[test]
fn a_driver_that_hangs_does_not_keep_ctrl_c_waiting() {
    let mut scene = two_boards();
    scene.hang("cuInit", 1, None);
    let dir = tempfile::tempdir().unwrap();
    let mut command = gsk::command(&dir, &["serve", "--listen", "0", "--gpu", "1"]);
    let mut child = scene.apply(&mut command).spawn().unwrap();
    scene.wait_for("cuInit", |log| log.iter().any(|event| event.name == "hang").then_some(()));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let status = gsk::until(SOON, "its end", || child.try_wait().unwrap());
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2));
}
