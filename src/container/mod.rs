//! Vendors' programs that stream a picture of themselves, as containers that gsk manages: Nsight Streamer and Isaac Sim.
//!
//! Both are one kind of thing, a managed stream; what differs is data. A [`profile::Profile`] (YAML, shipped in the binary,
//! overridable key by key with `--profile`) says image, command, environment, mounts, network, user, ports, what readiness
//! is, the phases of a start, and the errors that are known. [`nsight`] and [`isaac`] turn a user's options and a profile
//! into a [`plan::Plan`]; everything after that is the same code:
//!
//! - [`engine`] finds a Docker or Podman engine, `fault` turns its refusals into errors with cause and hint;
//! - [`start`] makes what was planned: `ports` free, `image` there or pulled, [`gpu`] passed through or said why not,
//!   the container created, started, and watched until it is `ready`;
//! - [`managed`] finds what runs, stops and removes it; [`show`] are the documents.
//!
//! # What is ours
//!
//! A container is ours if the engine says that it has our label, [`managed::MANAGED`]; names prove nothing. Nothing else is
//! ever stopped or removed. All that `status` needs is in labels, so that it holds whatever profile is given later.
//!
//! # A start that is killed
//!
//! Before the container is created, a [`keeper`] is started: this program again, in a process group of its own, which reads a
//! pipe that only the starting gsk can write. If that closes without a word, whatever gsk died of, Ctrl-C and SIGKILL
//! included, the keeper removes that very start's container (told by a random label) and its password file, and ends. If the
//! keeper is killed as well, the container stays, as one of ours like any other: `status` shows it, `stop` removes it.
//!
//! # Passwords
//!
//! Made at random, printed once, kept in a file for its owner alone, and in no label. The vendor's image takes it in its
//! environment, so that whoever may ask the engine can read it there too: that is the `docker` group, which is root's equal.

pub mod compose;
pub mod engine;
mod fault;
pub mod gpu;
mod image;
pub mod isaac;
pub mod keeper;
mod login;
pub mod managed;
pub mod nsight;
pub mod plan;
mod ports;
pub mod profile;
mod ready;
pub mod show;
pub mod start;

/// Runs what speaks to an engine to its end.
pub fn block_on<T>(work: impl Future<Output = crate::error::Result<T>>) -> crate::error::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| crate::error::Error::io("cannot wait for events", error))?.block_on(work)
}
