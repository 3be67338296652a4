//! Tests of whole pictures, by both renderers.

use super::*;

const HD: Size = Size::new(1280, 720);

/// Both renderers, or the CPU's alone where there is no OpenGL.
fn scenes(size: Size) -> Vec<Scene> {
    let mut scenes = vec![Scene::open_with(size, Backend::Cpu).unwrap()];
    match Scene::open_with(size, Backend::Gl) {
        Ok(scene) => scenes.push(scene),
        Err(error) => eprintln!("skipped: OpenGL at {size}: {error}"),
    }
    scenes
}

fn draw(scene: &mut Scene, now_us: u64, wall_ms: u64) -> Option<Vec<u8>> {
    let mut out = vec![7; scene.size.pixels() * 4];
    let drawn = scene.draw(now_us, wall_ms).unwrap();
    scene.read(&mut out).unwrap();
    drawn.then_some(out)
}

fn drag(dx: f32) -> Event {
    Event::Pointer { x: 0.5, y: 0.5, dx, dy: 0.0, buttons: 1, shift: false }
}

fn key(key: &str, down: bool) -> Event {
    Event::Key { key: key.into(), down }
}

/// Mean colour of a patch of 80x40 pixels.
fn mean(rgba: &[u8], left: usize, top: usize) -> [f32; 3] {
    let mut sum = [0.0; 3];
    for y in top..top + 40 {
        for x in left..left + 80 {
            (0..3).for_each(|k| sum[k] += rgba[(y * 1280 + x) * 4 + k] as f32 / 3200.0);
        }
    }
    sum
}

#[test]
fn pictures_of_every_size_are_whole_and_bear_a_readable_mark() {
    for (width, height) in [(16, 16), (16, 200), (320, 180), (640, 360), (854, 480), (720, 1280), (1280, 720)] {
        let size = Size::new(width, height);
        for mut scene in scenes(size) {
            for (n, wall) in [0, 0xf_ffff, 1_790_000_123_456].into_iter().enumerate() {
                let picture = draw(&mut scene, n as u64 * 33_333, wall).unwrap();
                assert!(picture.iter().skip(3).step_by(4).all(|&alpha| alpha == 255), "{size} {}", scene.renderer());
                let mark = mark::fits(size).then_some((wall % (1 << 20)) as u32);
                assert_eq!(read_mark(&picture, size), mark, "{size} {}", scene.renderer());
            }
        }
    }
}

#[test]
fn the_animation_is_a_function_of_unpaused_time() {
    for mut scene in scenes(HD) {
        let first = draw(&mut scene, 5_000_000, 1).unwrap();
        let second = draw(&mut scene, 5_500_000, 1).unwrap();
        assert_ne!(first, second);
        scene.input(&key(" ", true));
        scene.input(&key(" ", true));
        assert!(draw(&mut scene, 6_000_000, 2).is_none(), "paused, and once however long the key is held");
        scene.input(&key(" ", false));
        assert!(draw(&mut scene, 90_000_000, 3).is_none());
        scene.input(&key(" ", true));
        let third = draw(&mut scene, 90_500_000, 1).unwrap();

        let mut other = scenes(HD).into_iter().find(|other| other.name == scene.name).unwrap();
        for now in [0, 100_000] {
            draw(&mut other, now, 1);
        }
        assert!(draw(&mut other, 1_000_000, 1).unwrap() == third, "half a second, a pause, and another half");
    }
}

#[test]
fn a_drag_moves_the_picture_even_when_paused() {
    for mut scene in scenes(HD) {
        let before = draw(&mut scene, 0, 1).unwrap();
        scene.input(&key(" ", true));
        assert!(draw(&mut scene, 10_000, 2).is_none());
        scene.input(&drag(0.1));
        let after = draw(&mut scene, 20_000, 3).unwrap();
        assert_eq!(read_mark(&after, HD), Some(3), "what is drawn is marked anew");
        let moved = before.chunks(4).zip(after.chunks(4)).filter(|(a, b)| a[0].abs_diff(b[0]) > 8).count();
        assert!(moved > 10_000, "{moved}");
        assert!(draw(&mut scene, 30_000, 4).is_none());
        scene.input(&key("+", true));
        assert!(draw(&mut scene, 40_000, 5).is_some(), "the zoom glides");
        assert!(draw(&mut scene, 3_000_000, 6).is_some());
        assert!(draw(&mut scene, 3_100_000, 7).is_none(), "and comes to rest");
    }
}

#[test]
fn both_renderers_show_the_same_scene() {
    let mut scenes = scenes(HD);
    for (now, event) in [(0, drag(0.0)), (1_700_000, drag(0.2)), (4_000_000, drag(-0.4))] {
        let pictures: Vec<_> = scenes
            .iter_mut()
            .map(|scene| {
                scene.input(&event);
                draw(scene, now, 12_345).unwrap()
            })
            .collect();
        let [cpu, gl] = &pictures[..] else { return };
        for top in (0..720).step_by(40) {
            for left in (0..1280).step_by(80) {
                // The card names the renderer.
                if (32..160).contains(&top) && left >= 720 {
                    continue;
                }
                let (a, b) = (mean(cpu, left, top), mean(gl, left, top));
                assert!(
                    (0..3).all(|k| (a[k] - b[k]).abs() < 3.0),
                    "at {left}, {top}: {a:?} on the CPU, {b:?} by OpenGL"
                );
            }
        }
    }
}

#[test]
fn the_wrong_length_is_refused() {
    let mut scene = Scene::open_with(HD, Backend::Cpu).unwrap();
    assert!(scene.draw(0, 0).unwrap() && scene.read(&mut [0; 16]).is_err());
    assert!(scene.fallback().is_none() && scene.renderer() == "CPU");
}

#[test]
fn open_takes_opengl_or_says_why_not() {
    let scene = Scene::open(HD, None);
    assert_eq!(scene.fallback().is_none(), scene.renderer().starts_with("OpenGL, "), "{:?}", scene.fallback());
}
