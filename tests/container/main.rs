//! Managed streams against a real Docker engine, with small images that stand in for the vendors'.

mod engine;
mod faults;
mod isaac;
mod nsight;
mod registry;
mod schema;
