//! The pictures that the built-in run learns from: digits, drawn by us, turned, moved, scaled and noisy.
//!
//! A picture is a pure function of its [`Set`] and number, so that a run is the same whatever its loaders' threads do.

/// Pixels on a side.
pub const SIDE: usize = 16;
pub const PIXELS: usize = SIDE * SIDE;
/// The digits.
pub const CLASSES: usize = 10;
/// Pictures of an epoch. Each epoch has its own.
pub const PICTURES: usize = 4096;
/// Pictures that are never learnt from.
pub const HELD_BACK: usize = 1024;

/// A digit's dots: five columns, the leftmost in the highest bit, and seven rows.
const DIGITS: [[u8; 7]; CLASSES] = [
    [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
    [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
    [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
    [0b01110, 0b10001, 0b00001, 0b00110, 0b00001, 0b10001, 0b01110],
    [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
    [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
    [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
    [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
    [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
    [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
];
const COLUMNS: i32 = 5;
const ROWS: i32 = 7;

/// Which pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Those of an epoch, the first of which is 1.
    Epoch(u32),
    HeldBack,
}

/// Pictures and what they show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// One after another, row by row, 0 black.
    pub pixels: Vec<u8>,
    pub digits: Vec<u8>,
}

impl Batch {
    /// `count` pictures from the `first` on.
    pub fn draw(set: Set, first: usize, count: usize) -> Batch {
        let mut batch = Batch { pixels: Vec::with_capacity(count * PIXELS), digits: Vec::with_capacity(count) };
        for number in first..first + count {
            let mut chance = Chance::new(set, number);
            let digit = chance.below(CLASSES as u32) as u8;
            draw(digit, &mut chance, &mut batch.pixels);
            batch.digits.push(digit);
        }
        batch
    }
}

/// Appends a picture of a digit.
fn draw(digit: u8, chance: &mut Chance, into: &mut Vec<u8>) {
    let angle = chance.within(0.25);
    // Pixels to a dot.
    let scale = 1.8 + chance.within(0.2);
    let (across, down) = (chance.within(1.5), chance.within(1.5));
    let (sin, cos) = (angle.sin() / scale, angle.cos() / scale);
    let middle = SIDE as f32 / 2.0 - 0.5;
    for y in 0..SIDE {
        for x in 0..SIDE {
            let (dx, dy) = (x as f32 - middle - across, y as f32 - middle - down);
            // In dots, from the centre of the first.
            let column = dx * cos + dy * sin + (COLUMNS - 1) as f32 / 2.0;
            let row = dy * cos - dx * sin + (ROWS - 1) as f32 / 2.0;
            let value = ink(digit, column, row) + chance.within(0.3);
            into.push((value * 255.0) as u8);
        }
    }
}

/// The ink at a place between four dots: 0 to 1.
fn ink(digit: u8, column: f32, row: f32) -> f32 {
    let (left, top) = (column.floor(), row.floor());
    let (right, bottom) = (column - left, row - top);
    let (left, top) = (left as i32, top as i32);
    let upper = dot(digit, left, top) * (1.0 - right) + dot(digit, left + 1, top) * right;
    let lower = dot(digit, left, top + 1) * (1.0 - right) + dot(digit, left + 1, top + 1) * right;
    upper * (1.0 - bottom) + lower * bottom
}

fn dot(digit: u8, column: i32, row: i32) -> f32 {
    if !(0..COLUMNS).contains(&column) || !(0..ROWS).contains(&row) {
        return 0.0;
    }
    f32::from(DIGITS[digit as usize][row as usize] >> (COLUMNS - 1 - column) & 1)
}

/// Numbers that look like chance (splitmix64).
pub struct Chance(u64);

impl Chance {
    fn new(set: Set, number: usize) -> Chance {
        let set = match set {
            Set::HeldBack => 0,
            Set::Epoch(epoch) => u64::from(epoch),
        };
        let mut chance = Chance(set << 32 | number as u64);
        // Neighbours are far apart from here on.
        Chance(chance.next())
    }

    /// For weights: `number` tells one use from another.
    pub fn of(number: u64) -> Chance {
        Chance(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u32) -> u32 {
        (((self.next() >> 32) * u64::from(end)) >> 32) as u32
    }

    /// -`most` to `most`.
    pub fn within(&mut self, most: f32) -> f32 {
        ((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0) * most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_the_same_wherever_it_is_drawn_and_none_is_anothers() {
        let all = Batch::draw(Set::Epoch(1), 0, 40);
        let some = Batch::draw(Set::Epoch(1), 30, 10);
        assert_eq!((&all.pixels[30 * PIXELS..], &all.digits[30..]), (&some.pixels[..], &some.digits[..]));
        for other in [Batch::draw(Set::HeldBack, 0, 40), Batch::draw(Set::Epoch(2), 0, 40)] {
            let same = all.pixels.chunks(PIXELS).zip(other.pixels.chunks(PIXELS)).filter(|(a, b)| a == b);
            assert_eq!(same.count(), 0);
        }
    }

    #[test]
    fn every_digit_comes_about_as_often_and_leaves_ink() {
        let batch = Batch::draw(Set::HeldBack, 0, HELD_BACK);
        for digit in 0..CLASSES as u8 {
            let count = batch.digits.iter().filter(|&&one| one == digit).count();
            assert!((60..150).contains(&count), "{digit}: {count}");
        }
        for picture in batch.pixels.chunks(PIXELS) {
            let dark = picture.iter().filter(|&&pixel| pixel < 128).count();
            assert!((PIXELS / 2..PIXELS - 10).contains(&dark), "{dark}");
        }
    }
}
