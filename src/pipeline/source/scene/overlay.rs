//! What lies flat on the picture: the time mark, captions, panels; all placed in the 1280x720 layout and scaled with it.

use super::backdrop::{self, Image};
use super::font::Face;
use super::mark::{self, Rect, scaled};
use super::model::Shape;
use crate::pipeline::frame::Size;

/// A copy of a part of the atlas, tinted, to whole pixels of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sprite {
    /// Left and top, pixels of the picture.
    pub to: [u32; 2],
    /// Left and top, pixels of the atlas.
    pub from: [u32; 2],
    pub width: u32,
    pub height: u32,
    pub tint: [u8; 3],
}

const WHITE: [u8; 3] = [255, 255, 255];
const BRIGHT: [u8; 3] = [236, 241, 250];
const SOFT: [u8; 3] = [150, 166, 192];
const CARD: [u8; 4] = [9, 12, 18, 176];
/// Smallest height of capitals that is still read easily.
const LEAST_CAP: u32 = 7;
/// What the letters that change each frame may be.
const FIRST: char = ' ';

/// The letters of one face within the atlas, from [`FIRST`] on, in one or more rows.
struct Letters {
    face: Face,
    top: u32,
    per_row: u32,
}

/// A caption's place: `edge` is its left side, or its right one where `right` is set.
struct Slot {
    edge: u32,
    right: bool,
    /// Top of its capitals.
    top: u32,
    large: bool,
    tint: [u8; 3],
}

pub struct Overlay {
    size: Size,
    atlas: Image,
    letters: [Letters; 2],
    /// Sprites that never change.
    fixed: Vec<Sprite>,
    card: Option<Rect>,
    frame: Option<Slot>,
    clock: Option<Slot>,
}

impl Overlay {
    /// `renderer`: as [`super::Scene::renderer`] says it.
    pub fn new(size: Size, renderer: &str) -> Overlay {
        let unit = (size.width as f32 / 1280.0).min(size.height as f32 / 720.0);
        let cap = |at_720: f32| ((at_720 * unit).round() as u32).max(LEAST_CAP);
        let faces = [Face::new(cap(11.0), false), Face::new(cap(24.0), true)];
        let panels = panels(size);
        let wide = panels.iter().map(|panel| panel.0.size.width).max().unwrap_or(0).max(16 * faces[1].advance);
        let mut overlay = Overlay {
            size,
            atlas: Image::new(Size::new(wide, 1)),
            letters: faces.map(|face| Letters { face, top: 0, per_row: wide / face.advance }),
            fixed: Vec::new(),
            card: None,
            frame: None,
            clock: None,
        };
        overlay.pack(panels);
        overlay.captions(renderer);
        overlay
    }

    pub fn atlas(&self) -> &Image {
        &self.atlas
    }

    /// Lays letters and panels out in the atlas, one below the other.
    fn pack(&mut self, panels: Vec<(Image, [u32; 2])>) {
        let wide = self.atlas.size.width;
        let mut top = 0;
        for letters in &mut self.letters {
            letters.top = top;
            top += 95u32.div_ceil(letters.per_row) * letters.face.height;
        }
        let below = top;
        let high = top + panels.iter().map(|panel| panel.0.size.height).sum::<u32>();
        let mut atlas = Image::new(Size::new(wide, high));
        for letters in &self.letters {
            for letter in FIRST..='~' {
                let [left, top] = letters.place(letter);
                for (i, cover) in letters.face.letter(letter).into_iter().enumerate() {
                    let (x, y) = (i as u32 % letters.face.advance, i as u32 / letters.face.advance);
                    atlas.set(left + x, top + y, [255, 255, 255, cover]);
                }
            }
        }
        top = below;
        for (panel, to) in panels {
            let Size { width, height } = panel.size;
            for y in 0..height {
                panel.row(y).iter().enumerate().for_each(|(x, pixel)| atlas.set(x as u32, top + y, *pixel));
            }
            self.fixed.push(Sprite { to, from: [0, top], width, height, tint: WHITE });
            top += height;
        }
        self.atlas = atlas;
    }

    /// Captions on a card to the right of the time mark: whichever fit.
    fn captions(&mut self, renderer: &str) {
        let card = scaled(self.size, 752, 32, 1248, 160);
        let [small, large] = [self.letters[0].face, self.letters[1].face];
        let pad = (card.height() / 8).max(small.cap / 2);
        let (left, right) = (card.left + pad, card.right.saturating_sub(pad));
        let wide = right.saturating_sub(left);
        let fits = |text: &str, face: Face| face.width(text) <= wide;
        let between = |share: u32| card.top + pad + card.height().saturating_sub(2 * pad + small.cap) * share / 100;
        if !fits("00:00.000", small) || card.height() < 2 * pad + 4 * small.cap + small.height {
            return;
        }
        self.card = Some(card);
        let slot = |top, right_side, large, tint| Slot {
            edge: if right_side { right } else { left },
            right: right_side,
            top,
            large,
            tint,
        };
        let big = fits("gsk scene 00:00.000", large);
        let title = if big { large } else { small };
        if fits("gsk scene 00:00.000", title) {
            self.write("gsk scene", &slot(between(0), false, big, BRIGHT));
        }
        self.clock = Some(slot(between(0), true, big, BRIGHT));
        let size = self.size.to_string();
        self.frame = fits("frame 000000", small).then(|| slot(between(54), true, false, SOFT));
        if fits(&format!("{size} frame 000000"), small) {
            self.write(&size, &slot(between(54), false, false, SOFT));
        }
        let most = (wide / small.advance) as usize;
        let name: String = match renderer.chars().count() {
            count if count > most => renderer.chars().take(most.saturating_sub(2)).chain("..".chars()).collect(),
            _ => renderer.into(),
        };
        self.write(&name, &slot(between(100), false, false, SOFT));
    }

    fn write(&mut self, text: &str, slot: &Slot) {
        let mut sprites = std::mem::take(&mut self.fixed);
        self.letters[slot.large as usize].spell(text, slot, &mut sprites);
        self.fixed = sprites;
    }

    /// Appends the flat areas (the card, the mark) and the sprites that lie on them.
    pub fn draw(&self, frame: u64, seconds: f64, wall_ms: u64, shapes: &mut Vec<Shape>, sprites: &mut Vec<Sprite>) {
        shapes.extend(self.card.map(|card| area(card, CARD)));
        if mark::fits(self.size) {
            let (border, squares) = mark::squares(self.size, wall_ms);
            shapes.push(area(border, mark::BORDER));
            shapes.extend(squares.map(|(at, white)| area(at, if white { [255; 4] } else { [0, 0, 0, 255] })));
        }
        sprites.extend_from_slice(&self.fixed);
        let mut spell = |slot: &Option<Slot>, text: &str| {
            if let Some(slot) = slot {
                self.letters[slot.large as usize].spell(text, slot, sprites);
            }
        };
        spell(&self.frame, &format!("frame {frame:06}"));
        spell(&self.clock, &clock(seconds));
    }
}

impl Letters {
    fn place(&self, letter: char) -> [u32; 2] {
        let index = letter as u32 - FIRST as u32;
        [index % self.per_row * self.face.advance, self.top + index / self.per_row * self.face.height]
    }

    fn spell(&self, text: &str, slot: &Slot, sprites: &mut Vec<Sprite>) {
        let start = if slot.right { slot.edge.saturating_sub(self.face.width(text)) } else { slot.edge };
        for (n, letter) in text.chars().enumerate().filter(|(_, letter)| *letter != ' ') {
            let letter = if (FIRST..='~').contains(&letter) { letter } else { '?' };
            sprites.push(Sprite {
                to: [start + n as u32 * self.face.advance, slot.top.saturating_sub(self.face.above)],
                from: self.place(letter),
                width: self.face.advance,
                height: self.face.height,
                tint: slot.tint,
            });
        }
    }
}

/// The panels along the lower side and where they go: whichever fit.
fn panels(size: Size) -> Vec<(Image, [u32; 2])> {
    let left = scaled(size, 32, 608, 640, 688);
    let right = scaled(size, 928, 608, 1248, 688);
    let height = left.height();
    if height < 32 {
        return Vec::new();
    }
    let mut panels = vec![(backdrop::detail(height), [left.left, left.top])];
    if left.left + panels[0].0.size.width < right.left {
        panels.push((backdrop::colours(right.width(), height), [right.left, right.top]));
    }
    panels.retain(|(image, to)| to[0] + image.size.width <= size.width);
    panels
}

fn area(at: Rect, colour: [u8; 4]) -> Shape {
    let [left, top, right, bottom] = [at.left, at.top, at.right, at.bottom].map(|v| v as f32);
    Shape::Area { corners: [[left, top], [right, top], [right, bottom], [left, bottom]], colour }
}

/// Minutes, seconds and milliseconds.
fn clock(seconds: f64) -> String {
    let ms = (seconds * 1000.0) as u64;
    format!("{:02}:{:02}.{:03}", ms / 60_000, ms / 1000 % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reads_like_one() {
        assert_eq!(clock(0.0), "00:00.000");
        assert_eq!(clock(12.345), "00:12.345");
        assert_eq!(clock(3725.5), "62:05.500");
    }

    #[test]
    fn all_lies_within_the_picture_at_any_size() {
        for (w, h) in [
            (16, 16),
            (16, 8192),
            (8192, 16),
            (64, 36),
            (320, 180),
            (640, 360),
            (720, 1280),
            (1280, 720),
            (1366, 768),
            (2560, 1440),
        ] {
            let size = Size::new(w, h);
            let overlay = Overlay::new(size, "OpenGL, llvmpipe (LLVM 15.0.6, 256 bits)");
            let (mut shapes, mut sprites) = (Vec::new(), Vec::new());
            overlay.draw(1234567, 5999.999, 7, &mut shapes, &mut sprites);
            for sprite in &sprites {
                let Size { width, height } = overlay.atlas.size;
                assert!(sprite.to[0] + sprite.width <= w && sprite.to[1] + sprite.height <= h, "{size} {sprite:?}");
                assert!(
                    sprite.from[0] + sprite.width <= width && sprite.from[1] + sprite.height <= height,
                    "{size} {sprite:?}"
                );
            }
            assert_eq!(shapes.len(), mark::fits(size) as usize * 29 + overlay.card.is_some() as usize, "{size}");
            assert_eq!(sprites.is_empty(), w < 320 || h < 180, "{size}");
        }
    }
}
