//! The solids of the scene: flat faces of four corners (a triangle has its last corner twice) and the edges between them.

use std::collections::HashMap;
use std::f32::consts::TAU;

use super::vector::{Vec3, add, cross, dot, scale, sub, unit};

/// A closed solid, its points relative to its centre.
pub struct Mesh {
    pub points: Vec<Vec3>,
    pub faces: Vec<Face>,
    pub edges: Vec<Edge>,
}

/// Corners go round anticlockwise as seen from outside.
pub struct Face {
    pub corners: [u16; 4],
    /// Outward, of length 1.
    pub normal: Vec3,
    pub middle: Vec3,
    /// Reflected part of light, red, green, blue, linear.
    pub colour: Vec3,
}

/// Where two faces meet.
pub struct Edge {
    pub ends: [u16; 2],
    pub faces: [u16; 2],
}

impl Mesh {
    fn new(points: Vec<Vec3>, faces: &[[u16; 4]], colour: impl Fn(usize) -> Vec3) -> Mesh {
        let mut open: HashMap<(u16, u16), u16> = HashMap::new();
        let mut edges = Vec::new();
        let mut made = Vec::with_capacity(faces.len());
        for (index, corners) in faces.iter().enumerate() {
            let at = corners.map(|corner| points[corner as usize]);
            let normal = unit(cross(sub(at[2], at[0]), sub(at[3], at[1])));
            let middle = scale(add(add(at[0], at[1]), add(at[2], at[3])), 0.25);
            made.push(Face { corners: *corners, normal, middle, colour: colour(index) });
            for side in 0..4 {
                let (from, to) = (corners[side], corners[(side + 1) % 4]);
                if from == to {
                    continue;
                }
                // The neighbour runs along the same edge the other way.
                match open.remove(&(to, from)) {
                    Some(other) => edges.push(Edge { ends: [from, to], faces: [index as u16, other] }),
                    None => {
                        open.insert((from, to), index as u16);
                    }
                }
            }
        }
        debug_assert!(open.is_empty(), "the solid is closed");
        Mesh { points, faces: made, edges }
    }

    /// A cube whose sides are `side` long.
    pub fn cube(side: f32, colour: Vec3) -> Mesh {
        let bit = |n: usize, k: usize| if n >> k & 1 == 1 { side / 2.0 } else { -side / 2.0 };
        let points = (0..8).map(|n| [bit(n, 0), bit(n, 1), bit(n, 2)]).collect();
        let faces = [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]];
        Mesh::new(points, &faces, |_| colour)
    }

    /// An icosahedron whose points are `radius` from its centre.
    pub fn icosahedron(radius: f32, colour: Vec3) -> Mesh {
        let golden = (1.0 + 5f32.sqrt()) / 2.0;
        let mut points = Vec::new();
        for (a, b) in [(1.0, golden), (-1.0, golden), (1.0, -golden), (-1.0, -golden)] {
            points.extend([[0.0, a, b], [a, b, 0.0], [b, 0.0, a]].map(|p| scale(unit(p), radius)));
        }
        let side = dot(sub(points[0], points[3]), sub(points[0], points[3])) * 1.01;
        let near = |a: usize, b: usize| dot(sub(points[a], points[b]), sub(points[a], points[b])) < side;
        let mut faces = Vec::new();
        for a in 0..12 {
            for b in a + 1..12 {
                for c in b + 1..12 {
                    if near(a, b) && near(b, c) && near(a, c) {
                        let out = dot(cross(sub(points[b], points[a]), sub(points[c], points[a])), points[a]) > 0.0;
                        let (b, c) = if out { (b, c) } else { (c, b) };
                        faces.push([a as u16, b as u16, c as u16, c as u16]);
                    }
                }
            }
        }
        Mesh::new(points, &faces, |_| colour)
    }

    /// A tube along the trefoil knot on a torus, `around` faces along it and `across` round it. Its colour goes once
    /// through `colours` and back to the first.
    pub fn knot(around: usize, across: usize, scale_by: f32, tube: f32, colours: &[Vec3]) -> Mesh {
        let along = |t: f32| {
            let ring = 2.0 + (3.0 * t).cos();
            scale([ring * (2.0 * t).cos(), ring * (2.0 * t).sin(), (3.0 * t).sin()], scale_by)
        };
        let mut points = Vec::with_capacity(around * across);
        for i in 0..around {
            let t = TAU * i as f32 / around as f32;
            let (at, ahead) = (along(t), along(t + 1e-2));
            let forward = unit(sub(ahead, at));
            // The two other axes come from the torus that the knot lies on, so that they close up.
            let side = unit(cross(forward, at));
            let out = cross(side, forward);
            for j in 0..across {
                let (sin, cos) = (TAU * j as f32 / across as f32).sin_cos();
                points.push(add(at, add(scale(out, tube * cos), scale(side, tube * sin))));
            }
        }
        let mut faces = Vec::with_capacity(around * across);
        for i in 0..around {
            for j in 0..across {
                let point = |i: usize, j: usize| (i % around * across + j % across) as u16;
                faces.push([point(i, j), point(i, j + 1), point(i + 1, j + 1), point(i + 1, j)]);
            }
        }
        let mix = |index: usize| {
            let at = (index / across) as f32 / around as f32 * colours.len() as f32;
            let (first, share) = (at as usize, at.fract());
            let smooth = share * share * (3.0 - 2.0 * share);
            let (a, b) = (colours[first % colours.len()], colours[(first + 1) % colours.len()]);
            add(scale(a, 1.0 - smooth), scale(b, smooth))
        };
        Mesh::new(points, &faces, mix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solids_are_closed_and_face_outward() {
        let white = [1.0; 3];
        for (mesh, points, edges, faces) in [
            (Mesh::cube(2.0, white), 8, 12, 6),
            (Mesh::icosahedron(1.0, white), 12, 30, 20),
            (Mesh::knot(90, 8, 0.5, 0.2, &[white]), 720, 1440, 720),
        ] {
            assert_eq!((mesh.points.len(), mesh.edges.len(), mesh.faces.len()), (points, edges, faces));
            // By the divergence theorem, a closed solid whose faces point outward has a positive volume.
            let volume: f32 = mesh
                .faces
                .iter()
                .map(|face| {
                    let at = face.corners.map(|c| mesh.points[c as usize]);
                    dot(at[0], cross(at[1], at[2])) + dot(at[0], cross(at[2], at[3]))
                })
                .sum();
            assert!(volume > 0.0, "{volume}");
        }
    }
}
