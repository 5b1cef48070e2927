//! The process operator against a model that is simple enough to be right.

mod harness;
mod keys;
mod limits;
mod native;
mod properties;
mod restore;
