//! Where the scene is seen from, and how a viewer's input moves that.

use std::f32::consts::PI;

use super::vector::{Vec3, add, cross, dot, scale, sub, unit};
use crate::pipeline::frame::Size;
use crate::wire::input::Event;

/// A camera that looks at `target` from `distance`, in the scene's units; angles in radians.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    pub yaw: f32,
    /// Above the horizon. Never below the floor.
    pub pitch: f32,
    pub distance: f32,
    pub target: Vec3,
}

impl Camera {
    pub const HOME: Camera = Camera { yaw: 0.5, pitch: 0.3, distance: 9.6, target: [0.0, 1.75, 0.0] };

    fn orbit(&mut self, yaw: f32, pitch: f32) {
        self.yaw += yaw;
        self.pitch = (self.pitch + pitch).clamp(0.04, 1.5);
    }

    fn zoom(&mut self, factor: f32) {
        self.distance = (self.distance * factor).clamp(3.0, 30.0);
    }

    /// Moves the target so that what is there follows the pointer; `right`, `down` in pixels of `lens`.
    fn pan(&mut self, right: f32, down: f32, lens: &Lens) {
        let view = self.view();
        let unit = self.distance / lens.focal;
        let to = add(self.target, add(scale(view.right, -right * unit), scale(view.up, down * unit)));
        self.target = [to[0].clamp(-12.0, 12.0), to[1].clamp(0.2, 8.0), to[2].clamp(-12.0, 12.0)];
    }

    fn between(self, goal: Camera, share: f32) -> Camera {
        let mix = |a: f32, b: f32| a + (b - a) * share;
        Camera {
            yaw: mix(self.yaw, goal.yaw),
            pitch: mix(self.pitch, goal.pitch),
            distance: mix(self.distance, goal.distance),
            target: std::array::from_fn(|i| mix(self.target[i], goal.target[i])),
        }
    }

    fn near(self, goal: Camera) -> bool {
        let far = [self.yaw - goal.yaw, self.pitch - goal.pitch, self.distance - goal.distance];
        far.iter().chain(&sub(self.target, goal.target)).all(|d| d.abs() < 1e-3)
    }

    pub fn view(&self) -> View {
        let out = [self.yaw.sin() * self.pitch.cos(), self.pitch.sin(), self.yaw.cos() * self.pitch.cos()];
        let forward = scale(out, -1.0);
        let right = unit(cross(forward, [0.0, 1.0, 0.0]));
        View { eye: add(self.target, scale(out, self.distance)), right, up: cross(right, forward), forward }
    }
}

/// A camera's place and axes, in the scene's coordinates.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub eye: Vec3,
    pub right: Vec3,
    pub up: Vec3,
    pub forward: Vec3,
}

impl View {
    /// Right, up and depth of a point as seen from the eye.
    pub fn see(&self, point: Vec3) -> Vec3 {
        let from = sub(point, self.eye);
        [dot(from, self.right), dot(from, self.up), dot(from, self.forward)]
    }
}

/// How a view falls onto a picture, in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Lens {
    pub size: Size,
    pub focal: f32,
    pub centre: [f32; 2],
}

impl Lens {
    /// Nearest depth that is drawn.
    pub const NEAR: f32 = 0.2;

    pub fn new(size: Size) -> Lens {
        let (w, h) = (size.width as f32, size.height as f32);
        // The centre is below the picture's, as its upper part has the captions.
        Lens { size, focal: 1.42 * h.min(w * 0.8), centre: [w / 2.0, h * 0.58] }
    }

    /// Where a point that [`View::see`] gave is in the picture, x right and y down. Its depth is at least [`Lens::NEAR`].
    pub fn project(&self, seen: Vec3) -> [f32; 2] {
        let by = self.focal / seen[2];
        [self.centre[0] + seen[0] * by, self.centre[1] - seen[1] * by]
    }

    /// Whether a shape of these points may be in the picture.
    pub fn shows(&self, points: &[[f32; 2]]) -> bool {
        let side = [self.size.width as f32 + 1.0, self.size.height as f32 + 1.0];
        (0..2).all(|k| points.iter().any(|p| p[k] > -1.0) && points.iter().any(|p| p[k] < side[k]))
    }
}

/// The camera under a viewer's hand: drags move it at once, steps (keys, wheel) glide.
#[derive(Clone, Debug)]
pub struct Rig {
    pub camera: Camera,
    goal: Camera,
    lens: Lens,
}

impl Rig {
    /// Time in which a glide covers 63 % of its way, seconds.
    const GLIDE: f32 = 0.06;
    const STEP: f32 = PI / 36.0;

    pub fn new(lens: Lens) -> Rig {
        Rig { camera: Camera::HOME, goal: Camera::HOME, lens }
    }

    pub fn input(&mut self, event: &Event) {
        match event {
            Event::Pointer { dx, dy, buttons, shift, .. } => {
                self.drag(bounded(*dx, 1.0), bounded(*dy, 1.0), *buttons, *shift)
            }
            Event::Wheel { dy, .. } => self.goal.zoom((bounded(*dy, 1000.0) * 0.0012).exp()),
            Event::Key { key, down: true } => self.key(key),
            Event::Key { .. } | Event::Resize { .. } => {}
        }
    }

    fn drag(&mut self, dx: f32, dy: f32, buttons: u8, shift: bool) {
        let (right, down) = (dx * self.lens.size.width as f32, dy * self.lens.size.height as f32);
        for camera in [&mut self.camera, &mut self.goal] {
            if buttons & 6 != 0 || (buttons & 1 != 0 && shift) {
                camera.pan(right, down, &self.lens);
            } else if buttons & 1 != 0 {
                camera.orbit(-dx * 2.0 * PI, dy * PI);
            }
        }
    }

    fn key(&mut self, key: &str) {
        match key {
            "ArrowLeft" => self.goal.orbit(-Self::STEP, 0.0),
            "ArrowRight" => self.goal.orbit(Self::STEP, 0.0),
            "ArrowUp" => self.goal.orbit(0.0, Self::STEP),
            "ArrowDown" => self.goal.orbit(0.0, -Self::STEP),
            "+" | "=" => self.goal.zoom(0.9),
            "-" | "_" => self.goal.zoom(1.0 / 0.9),
            "0" | "Home" => {
                // The short way round.
                self.camera.yaw =
                    (self.camera.yaw - Camera::HOME.yaw + PI).rem_euclid(2.0 * PI) - PI + Camera::HOME.yaw;
                self.goal = Camera::HOME;
            }
            _ => {}
        }
    }

    /// Lets glides go on for this long.
    pub fn advance(&mut self, seconds: f32) {
        self.camera = self.camera.between(self.goal, 1.0 - (-seconds / Self::GLIDE).exp());
        if self.camera.near(self.goal) {
            self.camera = self.goal;
        }
    }
}

/// What comes from outside may be anything; a camera that is not a number never comes back.
fn bounded(value: f32, most: f32) -> f32 {
    if value.is_finite() { value.clamp(-most, most) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(dx: f32, dy: f32, buttons: u8, shift: bool) -> Event {
        Event::Pointer { x: 0.5, y: 0.5, dx, dy, buttons, shift }
    }

    fn after(events: &[Event]) -> Camera {
        let mut rig = Rig::new(Lens::new(Size::new(1280, 720)));
        events.iter().for_each(|event| rig.input(event));
        rig.advance(10.0);
        rig.camera
    }

    fn key(key: &str) -> Event {
        Event::Key { key: key.into(), down: true }
    }

    #[test]
    fn input_moves_the_camera() {
        let home = Camera::HOME;
        assert_eq!(after(&[pointer(0.1, 0.1, 0, false), key("q")]), home, "hovering does nothing");
        let orbit = after(&[pointer(0.1, 0.1, 1, false)]);
        assert!(orbit.yaw < home.yaw && orbit.pitch > home.pitch && orbit.target == home.target);
        for pan in [pointer(0.1, 0.0, 2, false), pointer(0.1, 0.0, 4, false), pointer(0.1, 0.0, 1, true)] {
            let pan = after(&[pan]);
            assert!(pan.yaw == home.yaw && pan.target != home.target);
        }
        assert!(after(&[Event::Wheel { x: 0.5, y: 0.5, dx: 0.0, dy: 100.0 }]).distance > home.distance);
        assert!(after(&[key("+")]).distance < home.distance);
        assert!(after(&[key("ArrowRight")]).yaw > home.yaw);
        assert_eq!(after(&[key("+"), key("ArrowUp"), pointer(0.4, 0.0, 2, false), key("Home")]), home);
    }

    #[test]
    fn a_pan_carries_the_target_with_the_pointer() {
        let lens = Lens::new(Size::new(1280, 720));
        let before = lens.project(Camera::HOME.view().see(Camera::HOME.target));
        let after = lens.project(after(&[pointer(0.1, 0.05, 4, false)]).view().see(Camera::HOME.target));
        assert!((after[0] - before[0] - 128.0).abs() < 0.1, "{before:?} {after:?}");
        assert!((after[1] - before[1] - 36.0).abs() < 0.1, "{before:?} {after:?}");
    }

    #[test]
    fn no_input_takes_the_camera_out_of_bounds() {
        let mut events = Vec::new();
        for n in [f32::NAN, f32::INFINITY, -1e30, 1e30] {
            for buttons in [1, 2] {
                events.extend([pointer(n, n, buttons, false), Event::Wheel { x: n, y: n, dx: n, dy: n }]);
            }
        }
        let camera = after(&events);
        assert!(
            camera.yaw.is_finite() && camera.view().eye[1] > 0.0 && (3.0..=30.0).contains(&camera.distance),
            "{camera:?}"
        );
    }

    #[test]
    fn keys_glide_and_come_to_rest() {
        let mut rig = Rig::new(Lens::new(Size::new(1280, 720)));
        rig.input(&key("ArrowLeft"));
        assert_eq!(rig.camera, Camera::HOME);
        rig.advance(0.03);
        assert!(rig.camera.yaw < Camera::HOME.yaw && rig.camera.yaw > Camera::HOME.yaw - Rig::STEP);
        (0..60).for_each(|_| rig.advance(0.03));
        assert_eq!(rig.camera, rig.goal);
    }
}
