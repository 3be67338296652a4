//! How fine JPEG pictures are: as the bit rate allows. Pure: sizes and the target are arguments.
//!
//! The size of a picture falls with the coarseness of its quantisers as a power of it. So each unit tells how hard its
//! picture is, apart from the quality that it was made with, and that, smoothed, gives the quality whose units would fill
//! the budget. A harder picture counts almost at once, an easier one by and by: what is sent too much delays everybody,
//! what is sent too little costs some sharpness for a moment.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Quality of JPEG pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quality {
    /// As the bit rate allows, from [`FLOOR`] to [`CEILING`].
    #[default]
    Auto,
    /// 1 to 100, in libjpeg's scale.
    Fixed(u8),
}

/// Below this quality blocks are seen everywhere: rather too many bits.
pub const FLOOR: u8 = 40;

/// Above this quality bits buy nothing that is seen on a moving picture.
pub const CEILING: u8 = 85;

/// That of the first picture, of which nothing is known: libjpeg's own default.
const START: u8 = 75;

/// The power of the coarseness that the size falls with: 0.51 to 0.54 from quality 40 to 85, measured with libjpeg-turbo on a
/// frame of a film and on the demo scene. Anything
/// from half of it to twice of it converges.
const POWER: f64 = 0.55;

/// How much of the news is taken from a unit whose picture is harder than thought, and easier.
const HARDER: f64 = 0.7;
const EASIER: f64 = 0.15;

/// The quality stays while the units that are to be expected take between this much of the budget and all of it.
const ENOUGH: f64 = 0.85;

/// Bytes that a unit may take, at so many bit/s and frames a second.
pub fn budget(bitrate: u32, fps: f64) -> f64 {
    f64::from(bitrate) / 8.0 / fps
}

/// What libjpeg multiplies its quantisers by, in percent (`jpeg_quality_scaling`).
fn coarseness(quality: u8) -> f64 {
    let quality = f64::from(quality.clamp(1, 100));
    if quality < 50.0 { 5000.0 / quality } else { (200.0 - 2.0 * quality).max(1.0) }
}

/// The quality of that coarseness, between the floor and the ceiling.
fn quality_of(coarseness: f64) -> u8 {
    let quality = if coarseness > 100.0 { 5000.0 / coarseness } else { (200.0 - coarseness) / 2.0 };
    quality.clamp(f64::from(FLOOR), f64::from(CEILING)) as u8
}

/// The quality from unit to unit.
#[derive(Clone, Debug)]
pub struct Steps {
    setting: Quality,
    /// Bytes.
    budget: f64,
    quality: u8,
    /// How hard the pictures are: the logarithm of the bytes that they would take at a coarseness of 100.
    hardness: Option<f64>,
}

impl Steps {
    /// For units of at most so many bytes ([`budget`]), where the quality is not fixed.
    pub fn new(setting: Quality, budget: f64) -> Steps {
        Steps { setting, budget, quality: START, hardness: None }
    }

    /// That of the next picture.
    pub fn quality(&self) -> u8 {
        match self.setting {
            Quality::Auto => self.quality,
            Quality::Fixed(quality) => quality,
        }
    }

    /// Another setting or budget.
    pub fn aim(&mut self, setting: Quality, budget: f64) {
        (self.setting, self.budget) = (setting, budget);
        self.step();
    }

    /// A unit of so many bytes came of a picture at [`quality`](Steps::quality).
    pub fn made(&mut self, bytes: usize) {
        let seen = (bytes.max(1) as f64).ln() + POWER * (coarseness(self.quality()) / 100.0).ln();
        let hardness = self.hardness.unwrap_or(seen);
        let share = if seen > hardness { HARDER } else { EASIER };
        self.hardness = Some(hardness + share * (seen - hardness));
        self.step();
    }

    fn step(&mut self) {
        let Some(hardness) = self.hardness else { return };
        let room = self.budget.max(1.0).ln() - hardness;
        let filled = (-POWER * (coarseness(self.quality) / 100.0).ln() - room).exp();
        if (ENOUGH..=1.0).contains(&filled) {
            return;
        }
        self.quality = quality_of(100.0 * (-room / POWER).exp());
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Quality::Auto => f.write_str("auto"),
            Quality::Fixed(quality) => quality.fmt(f),
        }
    }
}

impl FromStr for Quality {
    type Err = Error;

    fn from_str(text: &str) -> Result<Quality> {
        if text == "auto" {
            return Ok(Quality::Auto);
        }
        match text.parse() {
            Ok(quality @ 1..=100) => Ok(Quality::Fixed(quality)),
            _ => Err(Error::usage(format!("'{text}' is neither auto nor a quality from 1 to 100"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units of pictures that take `kb` at a coarseness of 100, and follow `power`.
    struct Pictures {
        steps: Steps,
        power: f64,
        made: Vec<(u8, f64)>,
    }

    impl Pictures {
        fn new(budget: f64, power: f64) -> Pictures {
            Pictures { steps: Steps::new(Quality::Auto, budget), power, made: Vec::new() }
        }

        fn show(&mut self, bytes: f64, pictures: usize) -> &[(u8, f64)] {
            for n in 0..pictures {
                let quality = self.steps.quality();
                // Sizes differ from picture to picture, by up to 4 in 100.
                let noise = 1.0 + 0.04 * ((n * 7919 % 13) as f64 / 6.0 - 1.0);
                let size = bytes * noise * (coarseness(quality) / 100.0).powf(-self.power);
                self.steps.made(size as usize);
                self.made.push((quality, size));
            }
            &self.made[self.made.len() - pictures..]
        }
    }

    /// How often the quality changes its direction.
    fn turns(made: &[(u8, f64)]) -> usize {
        let steps: Vec<i32> = made.windows(2).map(|pair| i32::from(pair[1].0) - i32::from(pair[0].0)).collect();
        let moves: Vec<i32> = steps.into_iter().filter(|&step| step != 0).collect();
        moves.windows(2).filter(|pair| pair[0].signum() != pair[1].signum()).count()
    }

    #[test]
    fn it_settles_within_a_second_and_stays() {
        // Bytes of a unit's budget, bytes at a coarseness of 100, the power, and where the quality ends.
        let table = [
            (16_667.0, 10_000.0, 0.65, 73..=78),
            (16_667.0, 16_000.0, 0.65, 46..=56),
            (16_667.0, 14_000.0, 0.4, 55..=75),
            (16_667.0, 14_000.0, 1.0, 50..=62),
            (16_667.0, 100_000.0, 0.65, FLOOR..=FLOOR),
            (16_667.0, 1_000.0, 0.65, CEILING..=CEILING),
            (500.0, 100_000.0, 0.65, FLOOR..=FLOOR),
        ];
        for (budget, bytes, power, ends) in table {
            let mut pictures = Pictures::new(budget, power);
            pictures.show(bytes, 30);
            let made = pictures.show(bytes, 300);
            for &(quality, size) in made {
                assert!(ends.contains(&quality), "{budget} {bytes} {power}: {quality} is not of {ends:?}");
                let bound = quality == FLOOR || quality == CEILING;
                assert!(
                    bound || (0.75..1.1).contains(&(size / budget)),
                    "{budget} {bytes} {power}: {size} at {quality}"
                );
            }
            let most = made.iter().map(|unit| unit.0).max().unwrap() - made.iter().map(|unit| unit.0).min().unwrap();
            assert!(most <= 2 && turns(made) <= 2, "{budget} {bytes} {power}: it wavers by {most}");
        }
    }

    #[test]
    fn it_follows_cuts_and_does_not_ring() {
        let budget = budget(4_000_000, 30.0);
        let mut pictures = Pictures::new(budget, 0.7);
        pictures.show(10_000.0, 60);
        let cut = pictures.show(18_000.0, 30).to_vec();
        let over = cut.iter().take_while(|unit| unit.1 > 1.1 * budget).count();
        assert!(over <= 4, "a harder picture is over the budget for {over} units");
        assert!(turns(&cut) <= 1, "{cut:?}");
        let back = pictures.show(10_000.0, 40).to_vec();
        assert!(back.last().unwrap().1 > 0.8 * budget, "an easier one fills it again: {back:?}");
        assert_eq!(turns(&back), 0, "{back:?}");
    }

    #[test]
    fn pictures_that_take_turns_are_coded_as_the_harder_of_them() {
        let budget = budget(4_000_000, 30.0);
        let mut pictures = Pictures::new(budget, 0.65);
        let mut qualities = Vec::new();
        for n in 0..120 {
            pictures.show(if n % 2 == 0 { 9_000.0 } else { 15_000.0 }, 1);
            qualities.push(pictures.steps.quality());
        }
        let late = &qualities[60..];
        let spread = late.iter().max().unwrap() - late.iter().min().unwrap();
        assert!(spread <= 6, "{late:?}");
        let over = pictures.made[60..].iter().filter(|unit| unit.1 > 1.15 * budget).count();
        assert_eq!(over, 0, "{:?}", &pictures.made[60..]);
    }

    #[test]
    fn another_budget_is_taken_up_with_the_next_picture() {
        let mut pictures = Pictures::new(20_000.0, 0.65);
        let before = pictures.show(12_000.0, 60).last().unwrap().0;
        pictures.steps.aim(Quality::Auto, 16_000.0);
        let (after, size) = pictures.show(12_000.0, 1)[0];
        assert!(after < before && size < 1.1 * 16_000.0, "{before} {after} {size}");
        pictures.steps.aim(Quality::Auto, 20_000.0);
        assert!(pictures.show(12_000.0, 1)[0].0.abs_diff(before) <= 2);
        let mut fresh = Steps::new(Quality::Auto, 1.0);
        fresh.aim(Quality::Auto, 2.0);
        assert_eq!(fresh.quality(), START, "nothing is known yet");
        fresh.aim(Quality::Fixed(90), 2.0);
        fresh.made(1_000_000);
        assert_eq!(fresh.quality(), 90, "what is fixed stays");
    }

    #[test]
    fn qualities_are_read_and_written() {
        for (text, quality) in [("auto", Quality::Auto), ("1", Quality::Fixed(1)), ("100", Quality::Fixed(100))] {
            assert_eq!((text.parse::<Quality>().unwrap(), quality.to_string().as_str()), (quality, text));
        }
        for text in ["", "0", "101", "Auto", "80.5", "-1"] {
            assert!(text.parse::<Quality>().is_err(), "{text}");
        }
        for quality in FLOOR..=CEILING {
            assert!(quality_of(coarseness(quality)).abs_diff(quality) <= 1);
        }
    }
}
