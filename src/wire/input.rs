//! Input events, from a viewer through the worker to the source (and to a program's standard input, one JSON object a line).

use serde::{Deserialize, Serialize};

/// One event and its number. `view` grows with every event of a viewer; a frame carries the newest that it shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    pub view: u32,
    #[serde(flatten)]
    pub event: Event,
}

/// What a viewer did. Positions are fractions of the picture's width and height (0, 0 is the top left corner).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A mouse, pen or touch. `dx`, `dy`: movement since the last event, as fractions of the picture.
    /// `buttons`: as in `MouseEvent.buttons` (1 primary, 2 secondary, 4 middle); 0 is hovering.
    Pointer {
        x: f32,
        y: f32,
        #[serde(default)]
        dx: f32,
        #[serde(default)]
        dy: f32,
        #[serde(default)]
        buttons: u8,
        #[serde(default)]
        shift: bool,
    },
    /// A wheel or a pinch; `dx`, `dy` in CSS pixels, down and right positive.
    Wheel { x: f32, y: f32, dx: f32, dy: f32 },
    /// A key; `key` as in `KeyboardEvent.key`.
    Key { key: String, down: bool },
    /// The viewer's picture area changed, CSS pixels times the device's ratio. A hint: sources may follow it.
    Resize { width: u32, height: u32 },
}
