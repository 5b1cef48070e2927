//! The process operator against a model that is simple enough to be right.

#[path = "../common/disk.rs"]
mod disk;
mod harness;
mod keys;
mod limits;
mod native;
mod properties;
mod restore;
