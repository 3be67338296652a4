//! Managed streams against a real Docker engine, with small images that stand in for the vendors'.

mod engine;
mod faults;
#[path = "../form/mod.rs"]
mod form;
mod isaac;
mod nsight;
mod registry;
mod schema;
