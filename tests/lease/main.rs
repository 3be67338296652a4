//! Encoder slots among real processes: `gsk lease run`, and many that fight over few.

mod fight;
mod run;
