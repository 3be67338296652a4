//! Draws the scene on the CPU, for hosts without OpenGL.

use super::backdrop::Image;
use super::model::{HALF_LINE, Shape};
use super::overlay::{Layers, Sprite};

type Pixel = [u8; 4];

pub struct Renderer {
    backdrop: Image,
    /// The backdrop with what stands still on it.
    ground: Image,
    atlas: Image,
}

impl Renderer {
    pub fn new(backdrop: Image, atlas: Image) -> Renderer {
        Renderer { ground: backdrop.clone(), backdrop, atlas }
    }

    /// Keeps these shapes under those of every picture to come.
    pub fn ground(&mut self, shapes: &[Shape]) {
        self.ground.pixels.copy_from_slice(&self.backdrop.pixels);
        let (width, height) = (self.ground.size.width as usize, self.ground.size.height as usize);
        Canvas { pixels: &mut self.ground.pixels, width, height }.shapes(shapes);
    }

    /// `out`: RGBA, rows top-down, tight.
    pub fn draw(&self, layers: &Layers, out: &mut [u8]) {
        out.copy_from_slice(self.ground.pixels.as_flattened());
        let (width, height) = (self.backdrop.size.width as usize, self.backdrop.size.height as usize);
        let mut canvas = Canvas { pixels: out.as_chunks_mut().0, width, height };
        canvas.shapes(&layers.shapes);
        layers.panels.iter().for_each(|panel| canvas.panel(panel, &self.atlas));
        layers.sprites.iter().for_each(|sprite| canvas.sprite(sprite, &self.atlas));
    }
}

struct Canvas<'a> {
    pixels: &'a mut [Pixel],
    width: usize,
    height: usize,
}

impl Canvas<'_> {
    fn shapes(&mut self, shapes: &[Shape]) {
        for shape in shapes {
            match *shape {
                Shape::Area { corners, colour } => self.area(&corners, colour),
                Shape::Line { ends, colour, opacity } => self.line(ends, colour, opacity),
            }
        }
    }

    /// Fills the pixels whose centres a convex area holds.
    fn area(&mut self, corners: &[[f32; 2]; 4], colour: Pixel) {
        let (low, high) = corners.iter().fold((f32::MAX, f32::MIN), |(low, high), c| (low.min(c[1]), high.max(c[1])));
        for y in first(low, self.height)..first(high, self.height) {
            let line = y as f32 + 0.5;
            let (mut left, mut right) = (f32::MAX, f32::MIN);
            for side in 0..4 {
                let ([x0, y0], [x1, y1]) = (corners[side], corners[(side + 1) % 4]);
                if (y0 <= line) != (y1 <= line) {
                    let x = x0 + (line - y0) / (y1 - y0) * (x1 - x0);
                    (left, right) = (left.min(x), right.max(x));
                }
            }
            let (from, to) = (first(left, self.width), first(right, self.width));
            if from < to {
                let row = &mut self.pixels[y * self.width..][from..to];
                match colour[3] {
                    255 => row.fill(colour),
                    opacity => {
                        row.iter_mut().for_each(|pixel| blend(pixel, [colour[0], colour[1], colour[2]], opacity as u32))
                    }
                }
            }
        }
    }

    /// Steps along the longer way of the line, and covers the pixels across it by their distance from it.
    fn line(&mut self, ends: [[f32; 2]; 2], colour: [u8; 3], opacity: [u8; 2]) {
        let flat = (ends[1][0] - ends[0][0]).abs() >= (ends[1][1] - ends[0][1]).abs();
        let (major, minor) = if flat { (0, 1) } else { (1, 0) };
        let forth = ends[0][major] <= ends[1][major];
        let (from, to) = if forth { (ends[0], ends[1]) } else { (ends[1], ends[0]) };
        let (start, end) = if forth { (opacity[0], opacity[1]) } else { (opacity[1], opacity[0]) };
        let long = (to[major] - from[major]).max(1e-6);
        let slope = (to[minor] - from[minor]) / long;
        let straight = 1.0 / (1.0 + slope * slope).sqrt();
        let (long_side, wide_side) = if flat { (self.width, self.height) } else { (self.height, self.width) };
        let (long_step, wide_step) = if flat { (1, self.width) } else { (self.width, 1) };
        let reach = (HALF_LINE + 0.5) / straight;
        for along in first(from[major], long_side)..first(to[major], long_side) {
            let past = along as f32 + 0.5 - from[major];
            let middle = from[minor] + past * slope;
            let strength = start as f32 + (end as f32 - start as f32) * past / long;
            for across in first(middle - reach, wide_side)..first(middle + reach, wide_side) {
                let off = (across as f32 + 0.5 - middle).abs() * straight;
                let cover = (HALF_LINE + 0.5 - off).clamp(0.0, 1.0) * strength;
                blend(&mut self.pixels[along * long_step + across * wide_step], colour, cover as u32);
            }
        }
    }

    fn panel(&mut self, panel: &Sprite, atlas: &Image) {
        let width = panel.width as usize;
        for y in 0..panel.height {
            let at = (panel.to[1] + y) as usize * self.width + panel.to[0] as usize;
            let from = &atlas.row(panel.from[1] + y)[panel.from[0] as usize..];
            self.pixels[at..at + width].copy_from_slice(&from[..width]);
        }
    }

    fn sprite(&mut self, sprite: &Sprite, atlas: &Image) {
        let width = sprite.width as usize;
        for y in 0..sprite.height {
            let from = &atlas.row(sprite.from[1] + y)[sprite.from[0] as usize..][..width];
            let at = (sprite.to[1] + y) as usize * self.width + sprite.to[0] as usize;
            for (pixel, &[r, g, b, cover]) in self.pixels[at..at + width].iter_mut().zip(from) {
                if cover > 0 {
                    let tint = |value: u8, tint: u8| (value as u32 * tint as u32 / 255) as u8;
                    let colour = [tint(r, sprite.tint[0]), tint(g, sprite.tint[1]), tint(b, sprite.tint[2])];
                    blend(pixel, colour, cover as u32);
                }
            }
        }
    }
}

/// The first pixel whose centre is at or past `edge`, within 0 to `end`.
fn first(edge: f32, end: usize) -> usize {
    ((edge - 0.5).ceil().max(0.0) as usize).min(end)
}

fn blend(pixel: &mut Pixel, colour: [u8; 3], opacity: u32) {
    // 0..=255 becomes 0..=256, so that full opacity is exact.
    let share = opacity + (opacity >> 7);
    for k in 0..3 {
        pixel[k] = ((pixel[k] as u32 * (256 - share) + colour[k] as u32 * share) >> 8) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Pixel = [255, 0, 0, 255];

    fn draw(shape: Shape) -> Vec<Pixel> {
        let mut pixels = vec![[0, 0, 0, 255]; 64];
        let mut canvas = Canvas { pixels: &mut pixels, width: 8, height: 8 };
        canvas.shapes(&[shape]);
        pixels
    }

    #[test]
    fn areas_that_share_a_side_neither_overlap_nor_gape() {
        let point = [3.3, 4.7];
        let corners = [[-2.0, -2.0], [10.0, -2.0], [10.0, 10.0], [-2.0, 10.0]];
        let mut times = [0; 64];
        for side in 0..4 {
            let (a, b) = (corners[side], corners[(side + 1) % 4]);
            let pixels = draw(Shape::Area { corners: [point, a, b, b], colour: RED });
            times.iter_mut().zip(pixels).for_each(|(times, pixel)| *times += (pixel == RED) as u32);
        }
        assert_eq!(times, [1; 64]);
    }

    #[test]
    fn a_line_covers_what_it_crosses_and_no_more() {
        for ends in [[[-5.0, 4.5], [20.0, 4.5]], [[20.0, 4.5], [-5.0, 4.5]]] {
            let pixels = draw(Shape::Line { ends, colour: [255, 0, 0], opacity: [255; 2] });
            assert!((0..8).all(|x| pixels[4 * 8 + x] == RED && pixels[2 * 8 + x][0] == 0 && pixels[6 * 8 + x][0] == 0));
        }
        let outside = draw(Shape::Line { ends: [[-50.0, -9.0], [50.0, -9.0]], colour: [255, 0, 0], opacity: [255; 2] });
        assert!(outside.iter().all(|p| p[0] == 0));
    }
}
