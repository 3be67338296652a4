//! A net of two dense layers, the cross-entropy of its softmax, and Adam.

use super::data::{CLASSES, Chance, PIXELS};
use super::engine::{Engine, Place};
use crate::error::Result;

/// Values between the two layers.
pub const HIDDEN: usize = 64;

/// Adam's own constants (Kingma and Ba, "Adam", algorithm 1), but for the rate, which suits this net.
const RATE: f32 = 0.003;
const FIRST: f32 = 0.9;
const SECOND: f32 = 0.999;
const TINY: f32 = 1e-8;

/// Numbers to be learnt, and what Adam keeps of them.
struct Learnt {
    values: Vec<f32>,
    gradient: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Learnt {
    /// Of chance, within +-`most`.
    fn new(len: usize, most: f32, number: u64) -> Learnt {
        let mut chance = Chance::of(number);
        let values = (0..len).map(|_| chance.within(most)).collect();
        Learnt { values, gradient: vec![0.0; len], first: vec![0.0; len], second: vec![0.0; len] }
    }

    fn step(&mut self, corrected: (f32, f32)) {
        let kept = self.first.iter_mut().zip(&mut self.second);
        for ((value, gradient), (first, second)) in self.values.iter_mut().zip(&self.gradient).zip(kept) {
            *first = FIRST * *first + (1.0 - FIRST) * gradient;
            *second = SECOND * *second + (1.0 - SECOND) * gradient * gradient;
            *value -= RATE * (*first / corrected.0) / ((*second / corrected.1).sqrt() + TINY);
        }
    }
}

/// The net, and what a batch leaves in it on its way there and back.
pub struct Net {
    first: Learnt,
    first_bias: Learnt,
    second: Learnt,
    second_bias: Learnt,
    steps: i32,
    rows: usize,
    hidden: Vec<f32>,
    hidden_error: Vec<f32>,
    /// What it answers; then the softmax of that; then the error.
    output: Vec<f32>,
}

impl Net {
    pub fn new(engine: &mut dyn Engine) -> Result<Net> {
        // So that values are as large behind a layer as before it (He et al., "Delving Deep into Rectifiers", 2.2).
        let most = |inputs: usize| (6.0 / inputs as f32).sqrt();
        let net = Net {
            first: Learnt::new(PIXELS * HIDDEN, most(PIXELS), 1),
            first_bias: Learnt::new(HIDDEN, 0.0, 2),
            second: Learnt::new(HIDDEN * CLASSES, most(HIDDEN), 3),
            second_bias: Learnt::new(CLASSES, 0.0, 4),
            steps: 0,
            rows: 0,
            hidden: Vec::new(),
            hidden_error: Vec::new(),
            output: Vec::new(),
        };
        net.put_weights(engine)?;
        Ok(net)
    }

    fn put_weights(&self, engine: &mut dyn Engine) -> Result<()> {
        engine.put(Place::FirstWeights, PIXELS, HIDDEN, &self.first.values)?;
        engine.put(Place::SecondWeights, HIDDEN, CLASSES, &self.second.values)
    }

    /// What the net answers to so many pictures that lie at [`Place::Input`].
    pub fn forward(&mut self, engine: &mut dyn Engine, rows: usize) -> Result<()> {
        self.rows = rows;
        self.hidden.resize(rows * HIDDEN, 0.0);
        engine.product((Place::Input, false), (Place::FirstWeights, false), &mut self.hidden)?;
        for row in self.hidden.chunks_exact_mut(HIDDEN) {
            row.iter_mut().zip(&self.first_bias.values).for_each(|(value, bias)| *value = (*value + bias).max(0.0));
        }
        engine.put(Place::Hidden, rows, HIDDEN, &self.hidden)?;
        self.output.resize(rows * CLASSES, 0.0);
        engine.product((Place::Hidden, false), (Place::SecondWeights, false), &mut self.output)?;
        for row in self.output.chunks_exact_mut(CLASSES) {
            row.iter_mut().zip(&self.second_bias.values).for_each(|(value, bias)| *value += bias);
        }
        Ok(())
    }

    /// How many of the answers are right.
    pub fn right(&self, digits: &[u8]) -> usize {
        let best = |row: &[f32]| (0..CLASSES).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        self.output.chunks_exact(CLASSES).zip(digits).filter(|(row, digit)| best(row) == Some(**digit as usize)).count()
    }

    /// The mean cross-entropy of the answers, nats, and their error.
    pub fn loss(&mut self, digits: &[u8]) -> f64 {
        let mut sum = 0.0;
        for (row, &digit) in self.output.chunks_exact_mut(CLASSES).zip(digits) {
            let largest = row.iter().copied().fold(f32::MIN, f32::max);
            row.iter_mut().for_each(|value| *value = (*value - largest).exp());
            let total: f32 = row.iter().sum();
            row.iter_mut().for_each(|value| *value /= total);
            sum -= f64::from(row[digit as usize].max(f32::MIN_POSITIVE).ln());
            row[digit as usize] -= 1.0;
            row.iter_mut().for_each(|value| *value /= digits.len() as f32);
        }
        sum / digits.len() as f64
    }

    /// The gradients, from the error.
    pub fn backward(&mut self, engine: &mut dyn Engine) -> Result<()> {
        engine.put(Place::OutputError, self.rows, CLASSES, &self.output)?;
        engine.product((Place::Hidden, true), (Place::OutputError, false), &mut self.second.gradient)?;
        sum_rows(&self.output, &mut self.second_bias.gradient);
        self.hidden_error.resize(self.rows * HIDDEN, 0.0);
        engine.product((Place::OutputError, false), (Place::SecondWeights, true), &mut self.hidden_error)?;
        for (error, hidden) in self.hidden_error.iter_mut().zip(&self.hidden) {
            if *hidden == 0.0 {
                *error = 0.0;
            }
        }
        engine.put(Place::HiddenError, self.rows, HIDDEN, &self.hidden_error)?;
        engine.product((Place::Input, true), (Place::HiddenError, false), &mut self.first.gradient)?;
        sum_rows(&self.hidden_error, &mut self.first_bias.gradient);
        Ok(())
    }

    /// A step of Adam down the gradients.
    pub fn optimise(&mut self, engine: &mut dyn Engine) -> Result<()> {
        self.steps += 1;
        let corrected = (1.0 - FIRST.powi(self.steps), 1.0 - SECOND.powi(self.steps));
        for learnt in [&mut self.first, &mut self.first_bias, &mut self.second, &mut self.second_bias] {
            learnt.step(corrected);
        }
        self.put_weights(engine)
    }
}

fn sum_rows(values: &[f32], into: &mut [f32]) {
    into.fill(0.0);
    for row in values.chunks_exact(into.len()) {
        into.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::training::engine::Host;

    /// The gradients are what a small change of each weight does to the loss.
    #[test]
    fn the_gradients_are_right() {
        let mut engine = Host::default();
        let mut net = Net::new(&mut engine).unwrap();
        let digits = [3, 1, 4];
        let mut chance = Chance::of(9);
        let pixels: Vec<f32> = (0..digits.len() * PIXELS).map(|_| chance.within(0.5) + 0.5).collect();
        engine.put(Place::Input, digits.len(), PIXELS, &pixels).unwrap();
        let loss = |net: &mut Net, engine: &mut Host| {
            net.put_weights(engine).unwrap();
            net.forward(engine, digits.len()).unwrap();
            net.loss(&digits)
        };
        loss(&mut net, &mut engine);
        net.backward(&mut engine).unwrap();
        type Part = fn(&mut Net) -> &mut Learnt;
        let parts: [(Part, [usize; 3]); 4] = [
            (|net| &mut net.first, [0, 777, PIXELS * HIDDEN - 1]),
            (|net| &mut net.first_bias, [0, 30, HIDDEN - 1]),
            (|net| &mut net.second, [0, 333, HIDDEN * CLASSES - 1]),
            (|net| &mut net.second_bias, [0, 3, CLASSES - 1]),
        ];
        for (number, (part, places)) in parts.into_iter().enumerate() {
            for at in places {
                let (gradient, before) = (part(&mut net).gradient[at], part(&mut net).values[at]);
                let mut at_distance = |distance: f32| {
                    part(&mut net).values[at] = before + distance;
                    loss(&mut net, &mut engine)
                };
                let slope = (at_distance(0.002) - at_distance(-0.002)) / 0.004;
                part(&mut net).values[at] = before;
                assert!((slope - f64::from(gradient)).abs() < 2e-3, "{number}, {at}: {slope} {gradient}");
            }
        }
    }
}
