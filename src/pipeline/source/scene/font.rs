//! A stroke font of our own and the image that its letters are drawn into, sharp at any size.

use super::backdrop::Image;

/// Letters of printable ASCII from '!' on. A stroke is a run of points, two hexadecimal digits each: x 0..6, y 0 (lowest
/// descender), 3 (base line), 8 (height of x), b (height of capitals). `(` begins an open curve, `o` a closed one.
const STROKES: [&str; 94] = [
    "3b36 3333",                        // !
    "2b29 4b49",                        // "
    "2b13 5b43 0969 0565",              // #
    "(696b0b0767630305 3c32",           // $
    "036b o08282b0b o43636646",         // %
    "(63191b4b4805034366",              // &
    "3b39",                             // '
    "(4c2a2442",                        // (
    "(2c4a4422",                        // )
    "3a36 1957 5917",                   // *
    "3a34 0767",                        // +
    "3321",                             // ,
    "1757",                             // -
    "3333",                             // .
    "026c",                             // /
    "o0363676b0b07 2549",               // 0
    "193b33 1353",                      // 1
    "(090b6b6803 0363",                 // 2
    "(090b6b6727 (2767630305",          // 3
    "434b0565",                         // 4
    "5b0b07 (072868630304",             // 5
    "o03636808 (5b1b0905",              // 6
    "0b6b23",                           // 7
    "o03636707 o17575b1b",              // 8
    "o06666b0b (13536569",              // 9
    "3838 3434",                        // :
    "3838 3421",                        // ;
    "5a1754",                           // <
    "0868 0565",                        // =
    "1a5714",                           // >
    "(090b6b683735 3333",               // ?
    "o25454929 (4944646b0b0353",        // @
    "033b63 1656",                      // A
    "030b (0b3b5b573707 (073767633303", // B
    "(696b3b0b0703336365",              // C
    "030b (0b3b6b67633303",             // D
    "6b0b0363 0757",                    // E
    "6b0b03 0757",                      // F
    "(696b3b0b0703336367 6737",         // G
    "030b 636b 0767",                   // H
    "333b 1353 1b5b",                   // I
    "(6b6563330305",                    // J
    "030b 6b06 2863",                   // K
    "0b0363",                           // L
    "030b366b63",                       // M
    "030b636b",                         // N
    "o0363676b0b07",                    // O
    "030b (0b3b6b663606",               // P
    "o0363676b0b07 4562",               // Q
    "030b (0b3b6b663606 3663",          // R
    "(696b0b0767630305",                // S
    "0b6b 3b33",                        // T
    "(0b05033363656b",                  // U
    "0b336b",                           // V
    "0b1339536b",                       // W
    "036b 0b63",                        // X
    "0b376b 3733",                      // Y
    "0b6b0363",                         // Z
    "4c2c2242",                         // [
    "0c62",                             // \
    "2c4c4222",                         // ]
    "193b59",                           // ^
    "0262",                             // _
    "2b49",                             // `
    "o03636808 6863",                   // a
    "0b03 o03636808",                   // b
    "(676808036364",                    // c
    "6b63 o03636808",                   // d
    "0666 (666808036364",               // e
    "(5b2b2923 0858",                   // f
    "o03636808 (6862600001",            // g
    "0b03 (0608686563",                 // h
    "183833 1353 3b3b",                 // i
    "2848 (48424010 4b4b",              // j
    "0b03 5805 2653",                   // k
    "1b3b33 1353",                      // l
    "0803 (0608383633 (3638686663",     // m
    "0803 (0608686563",                 // n
    "o03636808",                        // o
    "0800 o03636808",                   // p
    "6860 o03636808",                   // q
    "1813 (15186867",                   // r
    "(6768080566630304",                // s
    "0858 (2b25235354",                 // t
    "6863 (6563030608",                 // u
    "083368",                           // v
    "0813375368",                       // w
    "0368 0863",                        // x
    "0833 6810",                        // y
    "08680363",                         // z
    "(4c3c3717 (17373242",              // {
    "3c32",                             // |
    "(2c3c3757 (57373222",              // }
    "(06096568",                        // ~
];

/// The shape of a font at one size, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face {
    /// Height of capitals.
    pub cap: u32,
    /// Width of a stroke.
    pub weight: u32,
    /// From one letter to the next; all letters are as wide.
    pub advance: u32,
    /// Height of a letter's cell, from the highest stroke to the lowest.
    pub height: u32,
    /// From the top of the cell to the top of capitals.
    pub above: u32,
}

impl Face {
    pub fn new(cap: u32, bold: bool) -> Face {
        let weight = ((cap as f32 * if bold { 0.15 } else { 0.115 }).round() as u32).max(1);
        let wide = (cap as f32 * 0.3).round() as u32 * 2;
        let above = cap.div_ceil(6) + weight.div_ceil(2);
        let below = (cap * 3).div_ceil(8) + weight.div_ceil(2) + 1;
        Face {
            cap,
            weight,
            advance: wide + weight + (cap as f32 * 0.16).round() as u32,
            height: above + cap + below,
            above,
        }
    }

    /// Width of `text`, pixels.
    pub fn width(self, text: &str) -> u32 {
        self.advance * text.chars().count() as u32
    }

    /// How much of each pixel of a letter's cell its strokes cover, 0 to 255: rows of `advance`, top-down.
    /// What is not printable ASCII gets a question mark.
    pub fn letter(self, letter: char) -> Vec<u8> {
        let mut cell = vec![0; (self.advance * self.height) as usize];
        let index = match letter {
            ' ' => return cell,
            '!'..='~' => letter as usize - '!' as usize,
            _ => '?' as usize - '!' as usize,
        };
        for stroke in STROKES[index].split(' ') {
            let points: Vec<_> = outline(stroke).into_iter().map(|at| self.place(at)).collect();
            for pair in points.windows(2) {
                self.ink(&mut cell, pair[0], pair[1]);
            }
        }
        cell
    }

    /// Draws a letter with its cell's corner at `to`: over what is there in `tint`, or else as white of more or less
    /// opacity.
    pub fn write(self, image: &mut Image, to: [u32; 2], letter: char, tint: Option<[u8; 3]>) {
        for (i, cover) in self.letter(letter).into_iter().enumerate() {
            let (x, y) = (to[0] + i as u32 % self.advance, to[1] + i as u32 / self.advance);
            let pixel = match tint {
                Some(tint) => {
                    let under = image.row(y)[x as usize];
                    let mix = |k: usize| under[k] as f32 + (tint[k] as f32 - under[k] as f32) * cover as f32 / 255.0;
                    [mix(0) as u8, mix(1) as u8, mix(2) as u8, 255]
                }
                None => [255, 255, 255, cover],
            };
            image.set(x, y, pixel);
        }
    }

    /// From the font's units to pixels of the cell. The lines that letters stand on and reach to fall on whole pixels.
    fn place(self, [x, y]: [f32; 2]) -> [f32; 2] {
        let cap = self.cap as f32;
        let half = (cap * 0.3).round();
        let lean = self.weight as f32 / 2.0;
        let middle = (cap * 5.0 / 8.0).round();
        let rise = match y {
            y if y <= 3.0 => (y - 3.0) * cap / 8.0,
            y if y <= 8.0 => (y - 3.0) * middle / 5.0,
            y => middle + (y - 8.0) * (cap - middle) / 3.0,
        };
        // Strokes lie inside the height of capitals: `cap` counts their thickness.
        let rise = rise * (cap - self.weight as f32) / cap;
        let grid = |v: f32| if self.weight > 1 { v } else { (v - 0.5).round() + 0.5 };
        let line = self.above as f32 + cap - lean - rise;
        [lean + x * half / 3.0, if y == 3.0 || y == 8.0 || y == 11.0 { grid(line) } else { line }]
    }

    /// Covers the pixels within half a stroke of the segment.
    fn ink(self, cell: &mut [u8], from: [f32; 2], to: [f32; 2]) {
        let reach = self.weight as f32 / 2.0;
        let span = |a: f32, b: f32, end: u32| {
            let low = (a.min(b) - reach - 1.0).max(0.0) as u32;
            low..((a.max(b) + reach + 2.0).max(0.0) as u32).min(end)
        };
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let long = (dx * dx + dy * dy).max(1e-9);
        for y in span(from[1], to[1], self.height) {
            for x in span(from[0], to[0], self.advance) {
                let (px, py) = (x as f32 + 0.5 - from[0], y as f32 + 0.5 - from[1]);
                let along = ((px * dx + py * dy) / long).clamp(0.0, 1.0);
                let off = (px - along * dx).hypot(py - along * dy);
                let cover = ((reach + 0.5 - off).clamp(0.0, 1.0) * 255.0) as u8;
                let at = (y * self.advance + x) as usize;
                cell[at] = cell[at].max(cover);
            }
        }
    }
}

/// The points that a stroke runs through, in the font's units. Curves are quadratic B-splines over the points given.
fn outline(stroke: &str) -> Vec<[f32; 2]> {
    let digits = stroke.trim_start_matches(['(', 'o']).as_bytes();
    let unit = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as f32;
    let mut points: Vec<[f32; 2]> = digits.chunks_exact(2).map(|pair| [unit(pair[0]), unit(pair[1])]).collect();
    let middle = |a: [f32; 2], b: [f32; 2]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
    if stroke.starts_with('o') {
        let first = middle(points[points.len() - 1], points[0]);
        points.insert(0, first);
        points.push(first);
    } else if !stroke.starts_with('(') {
        return points;
    }
    let last = points.len() - 2;
    let mut curve = vec![points[0]];
    let mut from = points[0];
    for i in 1..=last {
        let to = if i == last { points[i + 1] } else { middle(points[i], points[i + 1]) };
        for step in 1..=8 {
            let t = step as f32 / 8.0;
            let bend = |k: usize| from[k] * (1.0 - t) * (1.0 - t) + points[i][k] * 2.0 * t * (1.0 - t) + to[k] * t * t;
            curve.push([bend(0), bend(1)]);
        }
        from = to;
    }
    curve
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_has_ink_within_its_cell_and_is_its_own() {
        for cap in [7, 11, 22, 60] {
            let face = Face::new(cap, cap > 20);
            let all: Vec<_> = ('!'..='~').map(|c| face.letter(c)).collect();
            for (i, cell) in all.iter().enumerate() {
                assert!(cell.iter().any(|&c| c > 128), "{} at {cap}", (b'!' + i as u8) as char);
                assert!(all[..i].iter().all(|other| other != cell), "{} at {cap}", (b'!' + i as u8) as char);
                let edge = face.advance as usize - 1;
                assert!(
                    cell.chunks(edge + 1).all(|row| row[edge] == 0),
                    "letters do not touch: {}",
                    (b'!' + i as u8) as char
                );
            }
            assert!(face.letter(' ').iter().all(|&c| c == 0));
            assert_eq!(face.letter('é'), face.letter('?'));
        }
    }
}
