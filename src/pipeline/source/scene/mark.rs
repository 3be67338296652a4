//! The time mark: wall-clock milliseconds as black and white squares, that a program reads back off the picture.
//!
//! 14x2 squares of 48 px whose corner is at (48, 48) of a 1280x720 picture, scaled with the picture: a white one, a black
//! one, 20 bits (highest first) of the time modulo 2^20, and 6 check bits, on a grey border of 16 px.

use crate::pipeline::frame::Size;

const COLUMNS: u32 = 14;
const CELLS: usize = 28;
const BITS: u32 = 20;
/// Squares smaller than this, in pixels, do not outlive an encoder.
const LEAST: u32 = 4;
pub const BORDER: [u8; 4] = [0x80, 0x80, 0x80, 0xff];

/// A rectangle of whole pixels; `right` and `bottom` are just outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    pub left: u32,
    pub top: u32,
    pub right: u32,
    pub bottom: u32,
}

impl Rect {
    pub fn width(self) -> u32 {
        self.right - self.left
    }

    pub fn height(self) -> u32 {
        self.bottom - self.top
    }
}

/// A rectangle of the 1280x720 layout in a picture of `size`. Its sides are rounded one by one, so that neighbours meet
/// and no error adds up along a row.
pub fn scaled(size: Size, left: u32, top: u32, right: u32, bottom: u32) -> Rect {
    let x = |v: u32| ((v as u64 * size.width as u64 + 640) / 1280) as u32;
    let y = |v: u32| ((v as u64 * size.height as u64 + 360) / 720) as u32;
    Rect { left: x(left), top: y(top), right: x(right), bottom: y(bottom) }
}

fn cell(size: Size, index: usize) -> Rect {
    let (x, y) = (48 + index as u32 % COLUMNS * 48, 48 + index as u32 / COLUMNS * 48);
    scaled(size, x, y, x + 48, y + 48)
}

/// Whether a picture of this size has a mark.
pub fn fits(size: Size) -> bool {
    (0..CELLS).all(|i| cell(size, i).width().min(cell(size, i).height()) >= LEAST)
}

/// What the largest square measures; they differ by a pixel where the picture's size makes them.
pub fn largest(size: Size) -> Size {
    let most = |side: fn(Rect) -> u32| (0..CELLS).map(|i| side(cell(size, i))).max().unwrap_or(0);
    Size::new(most(Rect::width), most(Rect::height))
}

/// The grey border, and then every square with whether it is white.
pub fn squares(size: Size, wall_ms: u64) -> (Rect, impl Iterator<Item = (Rect, bool)>) {
    let value = (wall_ms % (1 << BITS)) as u32;
    let code = 1 << (CELLS - 1) | value << 6 | check(value);
    let cells = (0..CELLS).map(move |i| (cell(size, i), code >> (CELLS - 1 - i) & 1 == 1));
    (scaled(size, 32, 32, 736, 160), cells)
}

fn check(value: u32) -> u32 {
    (value ^ value >> 6 ^ value >> 12 ^ value >> 18 ^ 0x2a) & 63
}

/// Reads the mark off a picture (RGBA, rows top-down, tight): milliseconds modulo 2^20. None where there is no mark,
/// or no clear one: a square between black and white, or check bits that do not fit.
pub fn read(rgba: &[u8], size: Size) -> Option<u32> {
    let fits = rgba.len() == size.pixels() * 4;
    let value = |at: usize| u32::from(rgba[at * 4]) + 2 * u32::from(rgba[at * 4 + 1]) + u32::from(rgba[at * 4 + 2]);
    if fits { read_by(size, value) } else { None }
}

/// The same by any measure of how light the pixel of an index is (rows top-down), 0 to 1020.
pub fn read_by(size: Size, value: impl Fn(usize) -> u32) -> Option<u32> {
    if !fits(size) {
        return None;
    }
    let light = |index: usize| {
        let Rect { left, top, right, bottom } = cell(size, index);
        // The middle of the square: an encoder blurs its rim.
        let (dx, dy) = ((right - left) / 4, (bottom - top) / 4);
        let (mut sum, mut count) = (0, 0);
        for y in top + dy..bottom - dy {
            for x in left + dx..right - dx {
                sum += i64::from(value(y as usize * size.width as usize + x as usize));
                count += 4;
            }
        }
        sum as f32 / count as f32
    };
    let (white, black) = (light(0), light(1));
    if white - black < 80.0 {
        return None;
    }
    let mut code = 0;
    for index in 2..CELLS {
        let over = light(index) - (white + black) / 2.0;
        if over.abs() < (white - black) / 5.0 {
            return None;
        }
        code = code << 1 | (over > 0.0) as u32;
    }
    let value = code >> 6;
    (check(value) == code & 63).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(size: Size, wall_ms: u64) -> Vec<u8> {
        let mut rgba = vec![30; size.pixels() * 4];
        let mut fill = |r: Rect, colour: [u8; 4]| {
            for y in r.top..r.bottom {
                let at = (y * size.width) as usize;
                rgba[(at + r.left as usize) * 4..(at + r.right as usize) * 4].as_chunks_mut().0.fill(colour);
            }
        };
        let (border, cells) = squares(size, wall_ms);
        fill(border, BORDER);
        cells.for_each(|(at, white)| fill(at, [if white { 255 } else { 0 }; 4]));
        rgba
    }

    #[test]
    fn a_mark_is_read_as_it_was_drawn() {
        for (w, h) in [(1280, 720), (1920, 1080), (320, 180), (848, 480), (1366, 768), (720, 1280), (3840, 2160)] {
            for wall in [0, 1, 0x5_5555, 0xa_aaaa, 0xf_ffff, 1_790_000_123_456] {
                let size = Size::new(w, h);
                assert_eq!(read(&picture(size, wall), size), Some((wall % (1 << 20)) as u32), "{size}");
            }
        }
    }

    #[test]
    fn squares_lie_where_the_1280x720_layout_has_them() {
        let (border, cells) = squares(Size::new(1280, 720), 1);
        let cells: Vec<_> = cells.collect();
        assert_eq!(border, Rect { left: 32, top: 32, right: 736, bottom: 160 });
        assert_eq!(cells[0], (Rect { left: 48, top: 48, right: 96, bottom: 96 }, true));
        assert_eq!(cells[27].0, Rect { left: 672, top: 96, right: 720, bottom: 144 });
        assert!(!cells[1].1 && !cells[20].1 && cells[21].1, "the guards, and 1 with its highest bit first");
        assert_eq!(cells[22..].iter().fold(0, |v, c| v << 1 | c.1 as u32), 0x2a ^ 1);
    }

    #[test]
    fn what_is_no_mark_is_none() {
        let size = Size::new(320, 180);
        assert_eq!(read(&vec![40; size.pixels() * 4], size), None);
        assert_eq!(read(&[0; 16], size), None);
        assert_eq!(read(&vec![0; 16 * 16 * 4], Size::new(16, 16)), None);
        let mut grey = picture(size, 77);
        let at = cell(size, 5);
        for y in at.top..at.bottom {
            grey[((y * 320 + at.left) * 4) as usize..((y * 320 + at.right) * 4) as usize].fill(128);
        }
        assert_eq!(read(&grey, size), None, "a grey square");
        let mut flipped = picture(size, 77);
        for y in at.top..at.bottom {
            flipped[((y * 320 + at.left) * 4) as usize..((y * 320 + at.right) * 4) as usize]
                .iter_mut()
                .for_each(|v| *v = !*v);
        }
        assert_eq!(read(&flipped, size), None, "a wrong bit");
    }
}
