//! `gsk train-nvtx`: the built-in run, a scripted nsys (`nsys.sh`, whose reports have the form of nsys's own), and a real one
//! where there is one.

mod builtin;
mod interrupts;
mod names;
mod place;
mod preflight;
#[path = "../standin/mod.rs"]
mod standin;
mod under_nsys;
