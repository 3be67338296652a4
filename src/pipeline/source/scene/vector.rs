//! The few vectors that the scene needs.

pub type Vec3 = [f32; 3];
/// Rows of a rotation.
pub type Turn = [Vec3; 3];

pub fn add(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub fn sub(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub fn scale(a: Vec3, by: f32) -> Vec3 {
    [a[0] * by, a[1] * by, a[2] * by]
}

pub fn dot(a: Vec3, b: Vec3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// `a` at length 1; `a` is not zero.
pub fn unit(a: Vec3) -> Vec3 {
    scale(a, 1.0 / dot(a, a).sqrt())
}

/// A turn by `angle` radians about an axis of length 1.
pub fn turn(axis: Vec3, angle: f32) -> Turn {
    let (sin, cos) = angle.sin_cos();
    let [x, y, z] = axis;
    let c = 1.0 - cos;
    [
        [cos + x * x * c, x * y * c - z * sin, x * z * c + y * sin],
        [y * x * c + z * sin, cos + y * y * c, y * z * c - x * sin],
        [z * x * c - y * sin, z * y * c + x * sin, cos + z * z * c],
    ]
}

pub fn apply(turn: &Turn, a: Vec3) -> Vec3 {
    [dot(turn[0], a), dot(turn[1], a), dot(turn[2], a)]
}

/// The turn `a` and then the turn `b`.
pub fn then(a: &Turn, b: &Turn) -> Turn {
    std::array::from_fn(|row| std::array::from_fn(|k| (0..3).map(|i| b[row][i] * a[i][k]).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_keeps_lengths_and_goes_by_the_right_hand() {
        let quarter = turn([0.0, 0.0, 1.0], std::f32::consts::FRAC_PI_2);
        let to = apply(&quarter, [1.0, 0.0, 0.0]);
        assert!(to[0].abs() < 1e-6 && (to[1] - 1.0).abs() < 1e-6, "{to:?}");
        let spin = turn(unit([1.0, 2.0, 3.0]), 0.7);
        let to = apply(&spin, [3.0, -4.0, 12.0]);
        assert!((dot(to, to).sqrt() - 13.0).abs() < 1e-4);
    }
}
