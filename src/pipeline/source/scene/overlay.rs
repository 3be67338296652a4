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

impl Sprite {
    /// In the atlas's own colours.
    pub fn plain(to: [u32; 2], from: [u32; 2], width: u32, height: u32) -> Sprite {
        Sprite { to, from, width, height, tint: [255; 3] }
    }
}

/// What a picture holds, from the bottom to the top; below it all is the ground.
#[derive(Default)]
pub struct Layers {
    pub shapes: Vec<Shape>,
    /// Opaque parts of the atlas, copied as they are.
    pub panels: Vec<Sprite>,
    /// Parts of the atlas that are laid over what is there by their opacity.
    pub sprites: Vec<Sprite>,
}

const BRIGHT: [u8; 3] = [236, 241, 250];
const SOFT: [u8; 3] = [150, 166, 192];
/// Smallest height of capitals that is still read easily.
const LEAST_CAP: u32 = 7;
/// The first letter in the atlas, and how many there are.
const FIRST: char = ' ';
const LETTERS: u32 = 95;

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
    /// Panels that never change.
    panels: Vec<Sprite>,
    /// Where the atlas has a white square for the time mark.
    white: [u32; 2],
    slots: Option<Slots>,
}

impl Overlay {
    /// `renderer`: as [`super::Scene::renderer`] says it.
    pub fn new(size: Size, renderer: &str) -> Overlay {
        let unit = (size.width as f32 / 1280.0).min(size.height as f32 / 720.0);
        let cap = |at_720: f32| ((at_720 * unit).round() as u32).max(LEAST_CAP);
        let faces = [Face::new(cap(11.0), false), Face::new(cap(24.0), true)];
        let mut panels = panels(size);
        let slots = Slots::new(size, faces);
        if mark::fits(size) {
            panels.push(plate(size));
        }
        panels.extend(slots.as_ref().map(|slots| slots.card(renderer, size)));
        let wide = panels.iter().map(|panel| panel.0.size.width).max().unwrap_or(0).max(16 * faces[1].advance);
        let wide = wide.max(mark::largest(size).width);
        let letters = faces.map(|face| Letters { face, top: 0, per_row: wide / face.advance });
        let mut overlay = Overlay {
            size,
            atlas: Image::new(Size::new(wide, 1), [0; 4]),
            letters,
            panels: Vec::new(),
            white: [0; 2],
            slots,
        };
        overlay.pack(panels);
        overlay
    }

    /// The image that sprites are copied from.
    pub fn atlas(&self) -> &Image {
        &self.atlas
    }

    /// Lays letters, panels and the white square out in the atlas, one below the other.
    fn pack(&mut self, panels: Vec<(Image, [u32; 2])>) {
        let wide = self.atlas.size.width;
        let mut top = 0;
        for letters in &mut self.letters {
            letters.top = top;
            top += LETTERS.div_ceil(letters.per_row) * letters.face.height;
        }
        let white = mark::largest(self.size);
        let high = top + white.height + panels.iter().map(|panel| panel.0.size.height).sum::<u32>();
        let mut atlas = Image::new(Size::new(wide, high), [0; 4]);
        for letters in &self.letters {
            for letter in FIRST..='~' {
                letters.face.write(&mut atlas, letters.place(letter), letter, None);
            }
        }
        let mut put = |image: &Image| {
            let from = [0, top];
            for y in 0..image.size.height {
                image.row(y).iter().enumerate().for_each(|(x, pixel)| atlas.set(x as u32, top + y, *pixel));
            }
            top += image.size.height;
            from
        };
        for (panel, to) in panels {
            self.panels.push(Sprite::plain(to, put(&panel), panel.size.width, panel.size.height));
        }
        self.white = put(&Image::new(white, [255; 4]));
        self.atlas = atlas;
    }

    /// Fills in the panels, the time mark and the captions.
    pub fn draw(&self, frame: u64, seconds: f64, wall_ms: u64, layers: &mut Layers) {
        let Layers { panels, sprites, .. } = layers;
        panels.clear();
        sprites.clear();
        panels.extend_from_slice(&self.panels);
        if mark::fits(self.size) {
            let white = mark::squares(self.size, wall_ms).1.filter(|square| square.1);
            panels.extend(white.map(|(at, _)| Sprite::plain([at.left, at.top], self.white, at.width(), at.height())));
        }
        let Some(slots) = &self.slots else { return };
        let mut spell = |slot: &Slot, text: &str| self.letters[slot.large as usize].spell(text, slot, sprites);
        spell(&slots.clock, &clock(seconds));
        if let Some(slot) = &slots.frame {
            spell(slot, &format!("frame {frame:06}"));
        }
    }
}

/// The captions' places on a card to the right of the time mark.
struct Slots {
    card: Rect,
    faces: [Face; 2],
    /// Left and right end of every line.
    sides: [u32; 2],
    title: Option<Slot>,
    clock: Slot,
    frame: Option<Slot>,
    /// Tops of the lower two lines.
    lower: [u32; 2],
}

impl Slots {
    /// None where not even a clock fits.
    fn new(size: Size, faces: [Face; 2]) -> Option<Slots> {
        let card = scaled(size, 752, 32, 1248, 160);
        let [small, large] = faces;
        let pad = (card.height() / 8).max(small.cap / 2);
        let sides = [card.left + pad, card.right.saturating_sub(pad)];
        let fits = |text: &str, face: Face| face.width(text) <= sides[1].saturating_sub(sides[0]);
        if !fits("00:00.000", small) || card.height() < 2 * pad + 4 * small.cap + small.above {
            return None;
        }
        let line = |share: u32| card.top + pad + (card.height() - 2 * pad - small.cap) * share / 100;
        let big = fits("gsk scene 00:00.000", large);
        let slot = |top, right, large, tint| Slot { edge: sides[right as usize], right, top, large, tint };
        Some(Slots {
            card,
            faces,
            sides,
            title: (big || fits("gsk scene 00:00.000", small)).then(|| slot(line(0), false, big, BRIGHT)),
            clock: slot(line(0), true, big, BRIGHT),
            frame: fits("frame 000000", small).then(|| slot(line(62), true, false, SOFT)),
            lower: [line(62), line(100)],
        })
    }

    /// The card with the captions that never change, and where it goes.
    fn card(&self, renderer: &str, size: Size) -> (Image, [u32; 2]) {
        let mut card = Image::new(Size::new(self.card.width(), self.card.height()), backdrop::CARD);
        let small = self.faces[0];
        let room = (self.sides[1] - self.sides[0]) / small.advance;
        let mut write = |text: &str, top: u32, face: Face, tint: [u8; 3]| {
            for (n, letter) in text.chars().enumerate() {
                let left = self.sides[0] - self.card.left + n as u32 * face.advance;
                face.write(&mut card, [left, top - self.card.top - face.above], letter, Some(tint));
            }
        };
        if let Some(Slot { top, large, tint, .. }) = self.title {
            write("gsk scene", top, self.faces[large as usize], tint);
        }
        let size = size.to_string();
        if size.len() + " frame 000000".len() <= room as usize {
            write(&size, self.lower[0], small, SOFT);
        }
        let mut name: String = renderer.chars().take(room as usize).collect();
        if name != renderer {
            name.truncate(name.char_indices().rev().nth(1).map_or(0, |(at, _)| at));
            name.push_str("..");
        }
        write(&name, self.lower[1], small, SOFT);
        (card, [self.card.left, self.card.top])
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

/// The time mark with all its squares black, and where it goes.
fn plate(size: Size) -> (Image, [u32; 2]) {
    let (border, squares) = mark::squares(size, 0);
    let mut plate = Image::new(Size::new(border.width(), border.height()), mark::BORDER);
    for (at, _) in squares {
        (at.top..at.bottom).for_each(|y| {
            (at.left..at.right).for_each(|x| plate.set(x - border.left, y - border.top, [0, 0, 0, 255]));
        });
    }
    (plate, [border.left, border.top])
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
            let mut layers = Layers::default();
            overlay.draw(1234567, 5999.999, 7, &mut layers);
            for sprite in layers.panels.iter().chain(&layers.sprites) {
                let Size { width, height } = overlay.atlas.size;
                assert!(sprite.to[0] + sprite.width <= w && sprite.to[1] + sprite.height <= h, "{size} {sprite:?}");
                assert!(
                    sprite.from[0] + sprite.width <= width && sprite.from[1] + sprite.height <= height,
                    "{size} {sprite:?}"
                );
            }
            assert_eq!(layers.sprites.is_empty(), overlay.slots.is_none(), "{size}");
        }
    }
}
