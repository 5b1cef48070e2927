//! The window operator against a reference that is simple enough to be right.

mod examples;
mod harness;
mod native;
mod properties;
mod reference;
mod restore;
