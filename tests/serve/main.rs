//! `gsk serve` as other programs see it: the real program, over real connections.

mod codecs;
mod device;
mod ending;
mod faults;
mod gate;
mod gpus;
mod gsk;
mod http;
mod jpeg;
mod ladder;
mod lane;
mod media;
mod output;
mod slots;
mod socket;
mod sources;
mod status;
mod streams;
mod viewer;

#[path = "../standin/mod.rs"]
mod standin;
