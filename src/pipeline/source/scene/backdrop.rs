//! Pictures that are made once: the backdrop, and the panels of fine patterns to judge a stream by.

use crate::pipeline::frame::Size;

/// An image, RGBA, rows top-down.
#[derive(Clone, Debug)]
pub struct Image {
    pub size: Size,
    pub pixels: Vec<[u8; 4]>,
}

impl Image {
    pub fn new(size: Size, pixel: [u8; 4]) -> Image {
        Image { size, pixels: vec![pixel; size.pixels()] }
    }

    pub fn row(&self, y: u32) -> &[[u8; 4]] {
        &self.pixels[y as usize * self.size.width as usize..][..self.size.width as usize]
    }

    pub fn set(&mut self, x: u32, y: u32, pixel: [u8; 4]) {
        self.pixels[y as usize * self.size.width as usize + x as usize] = pixel;
    }
}

/// What lies under captions and between patterns.
pub const CARD: [u8; 4] = [12, 15, 22, 255];

/// The backdrop's colour at a point of the picture (pixels), 0 to 255: a pool of light in a dark room.
fn colour(size: Size, at: [f32; 2]) -> [f32; 3] {
    let (u, v) = (at[0] / size.width as f32 - 0.5, at[1] / size.height as f32 - 0.56);
    let glow = 1.0 / (1.0 + 5.5 * u * u + 7.5 * v * v);
    let glow = glow * glow * glow;
    let floor = (v * 2.2).clamp(0.0, 1.0);
    [8.0 + 32.0 * glow - 2.0 * floor, 10.0 + 42.0 * glow - 1.0 * floor, 16.0 + 60.0 * glow + 4.0 * floor]
}

/// The whole backdrop, with a fine grain that hides the steps between its few dark shades.
pub fn image(size: Size) -> Image {
    let mut image = Image::new(size, CARD);
    for (y, row) in image.pixels.chunks_exact_mut(size.width as usize).enumerate() {
        for (x, pixel) in row.iter_mut().enumerate() {
            let [r, g, b] = colour(size, [x as f32 + 0.5, y as f32 + 0.5]);
            let grain = (52.982_918 * (0.067_110_56 * x as f32 + 0.005_837_15 * y as f32).fract()).fract();
            *pixel = [(r + grain) as u8, (g + grain) as u8, (b + grain) as u8, 255];
        }
    }
    image
}

/// Fine detail, in the picture's own pixels: a zone plate (rings ever closer, to just short of one pixel), then lines
/// of 1, 2, 3 and 4 pixels, upright above and level below. `height` is at least 16; the width follows from it.
pub fn detail(height: u32) -> Image {
    let (bar, gap) = (height / 2, height / 8);
    let mut image = Image::new(Size::new(height + 4 * (bar + gap), height), CARD);
    let grey = |v: f32| [v as u8, v as u8, v as u8, 255];
    let middle = height as f32 / 2.0;
    for y in 0..height {
        for x in 0..height {
            let (dx, dy) = (x as f32 + 0.5 - middle, y as f32 + 0.5 - middle);
            let phase = 0.94 * std::f32::consts::PI * (dx * dx + dy * dy) / height as f32;
            image.set(x, y, grey(127.5 + 100.0 * phase.cos()));
        }
    }
    for pitch in 1..=4 {
        let left = height + gap + (pitch - 1) * (bar + gap);
        for y in (0..height).filter(|y| !(bar - gap / 2..bar + gap / 2).contains(y)) {
            for x in 0..bar {
                let step = if y < bar { x } else { y };
                image.set(left + x, y, grey(if step / pitch % 2 == 0 { 228.0 } else { 27.0 }));
            }
        }
    }
    image
}

/// Flat colours: eleven greys from black to white above, the colours of television's bars below.
pub fn colours(width: u32, height: u32) -> Image {
    let mut image = Image::new(Size::new(width, height), CARD);
    const BARS: [[u8; 3]; 8] = [
        [191, 191, 191],
        [191, 191, 0],
        [0, 191, 191],
        [0, 191, 0],
        [191, 0, 191],
        [191, 0, 0],
        [0, 0, 191],
        [16, 16, 16],
    ];
    let gap = height / 16;
    for y in (0..height).filter(|y| !(height / 2 - gap..height / 2 + gap).contains(y)) {
        for x in 0..width {
            let [r, g, b] =
                if y < height / 2 { [(x * 11 / width * 51 / 2) as u8; 3] } else { BARS[(x * 8 / width) as usize] };
            image.set(x, y, [r, g, b, 255]);
        }
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backdrop_is_dark_and_brightest_in_the_middle() {
        let size = Size::new(320, 180);
        let image = image(size);
        let middle = image.row(100)[160];
        assert!(image.pixels.iter().all(|p| p[0] < 64 && p[1] < 64 && p[2] < 96 && p[3] == 255));
        assert!(middle[2] > image.row(0)[0][2] + 20);
    }

    #[test]
    fn panels_have_what_they_promise() {
        let detail = detail(88);
        let row = detail.row(4);
        let one = 88 + 11;
        assert!((one..one + 43).all(|x| row[x][0].abs_diff(row[x + 1][0]) > 200), "lines of one pixel");
        let colours = colours(352, 88);
        assert_eq!((colours.row(0)[0][0], colours.row(0)[351][0]), (0, 255));
        assert_eq!(colours.row(87)[100], [0, 191, 191, 255]);
    }
}
