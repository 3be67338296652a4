//! What the scene holds and how it moves: from a time and a camera to flat coloured shapes in pixels, in drawing order.
//! Both renderers draw these, so that they show the same scene.

use std::f32::consts::TAU;

use super::camera::{Lens, View};
use super::mesh::Mesh;
use super::vector::{Turn, Vec3, add, apply, dot, scale, sub, then, turn, unit};

/// Half the width of every line, pixels.
pub const HALF_LINE: f32 = 0.6;

/// Something to draw, in pixels: x right, y down, a pixel's centre at half numbers. Later shapes cover earlier ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A convex area of one colour (red, green, blue, opacity).
    Area { corners: [[f32; 2]; 4], colour: [u8; 4] },
    /// A straight line, [`HALF_LINE`] to either side with soft rims; its opacity goes from one value to the other.
    Line { ends: [[f32; 2]; 2], colour: [u8; 3], opacity: [u8; 2] },
}

/// A solid at one instant.
struct Body<'a> {
    mesh: &'a Mesh,
    turn: Turn,
    at: Vec3,
    /// What its edges are lightened by; None draws only its outline, in its own colours.
    edge: Option<f32>,
}

pub struct Model {
    solids: Solids,
    work: Work,
}

struct Solids {
    knot: Mesh,
    cube: Mesh,
    gem: Mesh,
}

/// What is worked out for one picture; kept for its memory.
struct Work {
    lens: Lens,
    /// Shapes by depth, before they are in order.
    depths: Vec<(f32, Shape)>,
    seen: Vec<Option<[f32; 2]>>,
    lit: Vec<Option<(f32, [u8; 3])>>,
}

/// Teal, blue, violet, coral, amber.
const COLOURS: [Vec3; 5] = [[0.02, 0.55, 0.52], [0.05, 0.26, 0.88], [0.34, 0.12, 0.80], [0.95, 0.22, 0.14], AMBER];
const AMBER: Vec3 = [0.98, 0.56, 0.10];
const PEARL: Vec3 = [0.70, 0.74, 0.80];
const CUBES: usize = 14;
const GEMS: usize = 3;
/// The floor's lines reach this far from the middle.
const FLOOR: i32 = 15;

impl Model {
    pub fn new(lens: Lens) -> Model {
        let solids = Solids {
            knot: Mesh::knot(96, 9, 0.56, 0.36, &COLOURS),
            cube: Mesh::cube(0.26, AMBER),
            gem: Mesh::icosahedron(0.34, PEARL),
        };
        Model { solids, work: Work { lens, depths: Vec::new(), seen: Vec::new(), lit: Vec::new() } }
    }

    /// Appends what stands still while the camera does: the floor.
    pub fn ground(&self, view: &View, shapes: &mut Vec<Shape>) {
        floor(view, &self.work.lens, shapes);
        shadow(view, &self.work.lens, shapes);
    }

    /// Appends what moves, as it is `seconds` into the animation.
    pub fn draw(&mut self, seconds: f64, view: &View, shapes: &mut Vec<Shape>) {
        bodies(seconds, &self.solids).iter().for_each(|body| self.work.body(body, view));
        self.work.depths.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        shapes.extend(self.work.depths.drain(..).map(|(_, shape)| shape));
    }
}

impl Work {
    /// Adds a solid's visible faces and edges.
    fn body(&mut self, body: &Body, view: &View) {
        let place = |p: Vec3| add(apply(&body.turn, p), body.at);
        let lens = self.lens;
        self.seen.clear();
        self.seen.extend(body.mesh.points.iter().map(|point| {
            let seen = view.see(place(*point));
            (seen[2] >= Lens::NEAR).then(|| lens.project(seen))
        }));
        self.lit.clear();
        for face in &body.mesh.faces {
            let middle = place(face.middle);
            let normal = apply(&body.turn, face.normal);
            let toward = sub(view.eye, middle);
            let depth = -dot(toward, view.forward);
            if dot(normal, toward) <= 0.0 || depth < Lens::NEAR {
                self.lit.push(None);
                continue;
            }
            let [red, green, blue] = light(face.colour, normal, unit(toward)).map(|v| v as u8);
            self.lit.push(Some((depth, [red, green, blue])));
            if let [Some(a), Some(b), Some(c), Some(d)] = face.corners.map(|corner| self.seen[corner as usize])
                && lens.shows(&[a, b, c, d])
            {
                self.depths.push((depth, Shape::Area { corners: [a, b, c, d], colour: [red, green, blue, 255] }));
            }
        }
        for edge in &body.mesh.edges {
            let [first, second] = edge.faces.map(|face| self.lit[face as usize]);
            let (depth, colour, outline) = match (first, second) {
                (Some(a), Some(b)) => (a.0.min(b.0), if a.1[1] > b.1[1] { a.1 } else { b.1 }, false),
                (Some(a), None) | (None, Some(a)) => (a.0, a.1, true),
                (None, None) => continue,
            };
            let [Some(from), Some(to)] = edge.ends.map(|end| self.seen[end as usize]) else { continue };
            let (lighter, opacity) = match body.edge {
                Some(by) => (by, if outline { 230 } else { 150 }),
                None if outline => (0.0, 200),
                None => continue,
            };
            if !lens.shows(&[from, to]) {
                continue;
            }
            let colour = colour.map(|v| (v as f32 + (255.0 - v as f32) * lighter) as u8);
            // After both faces that it borders on.
            self.depths.push((depth - 1e-3, Shape::Line { ends: [from, to], colour, opacity: [opacity; 2] }));
        }
    }
}

fn bodies(seconds: f64, solids: &Solids) -> Vec<Body<'_>> {
    let Solids { knot, cube, gem } = solids;
    // Whole turns are dropped while there are digits to spare: a scene may run for weeks.
    let phase = |rate: f64| (seconds * rate).rem_euclid(std::f64::consts::TAU) as f32;
    let share = |n: usize, of: usize| n as f32 / of as f32 * TAU;
    let mut bodies = Vec::with_capacity(1 + CUBES + GEMS);
    let spin = then(&turn([0.0, 1.0, 0.0], phase(0.55)), &turn([1.0, 0.0, 0.0], 0.35 * phase(0.37).sin()));
    bodies.push(Body { mesh: knot, turn: spin, at: [0.0, 2.05 + 0.08 * phase(0.9).sin(), 0.0], edge: None });
    let tilt = turn(unit([1.0, 0.0, 0.4]), 0.16);
    for place in (0..CUBES).map(|n| share(n, CUBES)) {
        let (sin, cos) = (place + phase(0.4)).sin_cos();
        let ring = apply(&tilt, [2.75 * cos, 0.16 * (3.0 * place + phase(1.3)).sin(), 2.75 * sin]);
        let axis = unit([place.sin(), 1.3, place.cos()]);
        let turn = turn(axis, phase(1.1) + place);
        bodies.push(Body { mesh: cube, turn, at: add(ring, [0.0, 2.05, 0.0]), edge: Some(0.45) });
    }
    for place in (0..GEMS).map(|n| share(n, GEMS)) {
        let (sin, cos) = (place - phase(0.21)).sin_cos();
        let at = [2.8 * sin, 0.6 + 0.12 * (phase(0.8) + place).sin(), 2.8 * cos];
        let turn = turn(unit([0.4, 1.0, 0.2]), phase(0.7) + place);
        bodies.push(Body { mesh: gem, turn, at, edge: Some(0.5) });
    }
    bodies
}

/// The colour of a lit face, 0 to 255: light from above, a bright lamp with its gleam, and a rim of cool light.
fn light(albedo: Vec3, normal: Vec3, toward: Vec3) -> Vec3 {
    // A lamp at the upper left, [-0.48, 0.72, 0.5] at length 1.
    const LAMP: Vec3 = [-0.480, 0.720, 0.500];
    let sky = 0.5 + 0.5 * normal[1];
    let lamp = dot(normal, LAMP).max(0.0);
    let half = unit(add(LAMP, toward));
    let gleam = dot(normal, half).max(0.0).powi(40) * 0.7;
    let rim = (1.0 - dot(normal, toward).max(0.0)).powi(4) * 0.28;
    let cool = [0.45, 0.65, 1.0];
    std::array::from_fn(|i| {
        let linear = albedo[i] * (0.07 + 0.20 * sky + 0.85 * lamp) + gleam + rim * cool[i];
        linear.min(1.0).sqrt() * 255.0
    })
}

/// Lines on the floor that fade away from the middle.
fn floor(view: &View, lens: &Lens, shapes: &mut Vec<Shape>) {
    for step in -FLOOR * 2..=FLOOR * 2 {
        let (minor, place) = (step % 2 != 0, step as f32 / 2.0);
        let reach = if minor { 6.0 } else { FLOOR as f32 };
        let base = if minor { 46.0 } else { 104.0 };
        if place.abs() >= reach {
            continue;
        }
        let pieces = if minor { 4 } else { 8 };
        for across in [false, true] {
            for piece in 0..pieces {
                let at = [piece, piece + 1].map(|n| reach * (2.0 * n as f32 / pieces as f32 - 1.0));
                let ends = at.map(|along| if across { [along, 0.0, place] } else { [place, 0.0, along] });
                let opacity = ends.map(|p| base * (1.0 - dot(p, p) / (reach * reach)).max(0.0).powi(2));
                if opacity[0].max(opacity[1]) >= 1.0 {
                    line(view, lens, ends, [124, 156, 204], opacity, shapes);
                }
            }
        }
    }
}

/// The soft shadow of all that hangs over the middle of the floor: rings that grow fainter outward.
fn shadow(view: &View, lens: &Lens, shapes: &mut Vec<Shape>) {
    const SIDES: usize = 28;
    const RINGS: usize = 9;
    let point = |ring: usize, n: usize| {
        let (sin, cos) = (n as f32 / SIDES as f32 * TAU).sin_cos();
        let radius = 2.9 * ring as f32 / RINGS as f32;
        let seen = view.see([radius * sin, 0.0, radius * cos]);
        (seen[2] >= Lens::NEAR).then(|| lens.project(seen))
    };
    for ring in 0..RINGS {
        let off = (ring as f32 + 0.5) / RINGS as f32;
        let opacity = (205.0 * (1.0 - off * off).powi(2)) as u8;
        for n in 0..SIDES {
            let corners = [point(ring, n), point(ring, n + 1), point(ring + 1, n + 1), point(ring + 1, n)];
            if let [Some(a), Some(b), Some(c), Some(d)] = corners
                && lens.shows(&[a, b, c, d])
            {
                shapes.push(Shape::Area { corners: [a, b, c, d], colour: [2, 3, 8, opacity] });
            }
        }
    }
}

/// Adds what the picture shows of a line in the scene.
fn line(view: &View, lens: &Lens, ends: [Vec3; 2], colour: [u8; 3], opacity: [f32; 2], shapes: &mut Vec<Shape>) {
    let [from, to] = ends.map(|end| view.see(end));
    // The shares of the line that are in front of the eye.
    let cut = (Lens::NEAR - from[2]) / (to[2] - from[2]);
    let (start, end) = match (from[2] >= Lens::NEAR, to[2] >= Lens::NEAR) {
        (true, true) => (0.0, 1.0),
        (true, false) => (0.0, cut),
        (false, true) => (cut, 1.0),
        (false, false) => return,
    };
    let way = sub(to, from);
    let flat = [start, end].map(|share| {
        let mut at = add(from, scale(way, share));
        at[2] = at[2].max(Lens::NEAR);
        (lens.project(at), opacity[0] + (opacity[1] - opacity[0]) * share)
    });
    if let Some([a, b]) = clip(flat, lens) {
        shapes.push(Shape::Line { ends: [a.0, b.0], colour, opacity: [a.1 as u8, b.1 as u8] });
    }
}

/// The part of a line within the picture and a little around it; lines run far outside it near the eye.
fn clip(ends: [([f32; 2], f32); 2], lens: &Lens) -> Option<[([f32; 2], f32); 2]> {
    let [(from, first), (to, second)] = ends;
    let (mut start, mut end) = (0f32, 1f32);
    for (k, side) in [lens.size.width as f32, lens.size.height as f32].into_iter().enumerate() {
        let way = to[k] - from[k];
        let (low, high) = (-2.0 - from[k], side + 2.0 - from[k]);
        if way.abs() < 1e-6 {
            if low > 0.0 || high < 0.0 {
                return None;
            }
            continue;
        }
        let (near, far) = if way > 0.0 { (low / way, high / way) } else { (high / way, low / way) };
        (start, end) = (start.max(near), end.min(far));
    }
    let at = |share: f32| {
        ([from[0] + (to[0] - from[0]) * share, from[1] + (to[1] - from[1]) * share], first + (second - first) * share)
    };
    (start < end).then(|| [at(start), at(end)])
}

#[cfg(test)]
mod tests {
    use super::super::camera::Camera;
    use super::*;
    use crate::pipeline::frame::Size;

    const SIZE: Size = Size::new(1280, 720);

    fn shapes(seconds: f64, camera: Camera) -> Vec<Shape> {
        let mut shapes = Vec::new();
        let mut model = Model::new(Lens::new(SIZE));
        model.ground(&camera.view(), &mut shapes);
        model.draw(seconds, &camera.view(), &mut shapes);
        shapes
    }

    #[test]
    fn the_scene_moves_with_time_and_only_with_time() {
        assert_eq!(shapes(1.5, Camera::HOME), shapes(1.5, Camera::HOME));
        assert_ne!(shapes(1.5, Camera::HOME), shapes(1.6, Camera::HOME));
    }

    #[test]
    fn everything_is_finite_from_everywhere() {
        for yaw in 0..8 {
            for pitch in [0.04, 0.3, 1.5] {
                for distance in [3.0, 9.0, 30.0] {
                    for target in [[0.0, 1.7, 0.0], [12.0, 0.2, -12.0], [3.0, 0.5, 1.0]] {
                        let camera = Camera { yaw: yaw as f32, pitch, distance, target };
                        for shape in shapes(yaw as f64, camera) {
                            let points = match shape {
                                Shape::Area { corners, .. } => corners.to_vec(),
                                Shape::Line { ends, .. } => ends.to_vec(),
                            };
                            assert!(points.iter().flatten().all(|v| v.is_finite()), "{camera:?} {shape:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_scene_fills_the_middle_of_the_picture() {
        for seconds in [0.0, 2.0, 7.0] {
            let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
            for shape in shapes(seconds, Camera::HOME) {
                if let Shape::Area { corners, .. } = shape {
                    for corner in corners {
                        low = std::array::from_fn(|k| low[k].min(corner[k]));
                        high = std::array::from_fn(|k| high[k].max(corner[k]));
                    }
                }
            }
            assert!(low[0] > 100.0 && high[0] < 1180.0 && high[0] - low[0] > 500.0, "{low:?} {high:?}");
        }
    }

    #[test]
    fn lines_are_cut_at_the_picture() {
        let lens = Lens::new(SIZE);
        let cut = clip([([-1000.0, 100.0], 0.0), ([1000.0, 100.0], 100.0)], &lens).unwrap();
        assert_eq!(cut[0].0, [-2.0, 100.0]);
        assert!((cut[0].1 - 49.9).abs() < 0.01, "the opacity is cut with it");
        assert!(clip([([-10.0, -50.0], 0.0), ([2000.0, -50.0], 1.0)], &lens).is_none());
    }
}
