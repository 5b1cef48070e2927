//! The window operator against a reference that is simple enough to be right.

#[path = "../common/disk.rs"]
mod disk;
mod examples;
mod exchange;
mod harness;
mod native;
mod properties;
mod reference;
mod restore;
mod sdk;
