//! Decisions without I/O: no clock, no runtime, no randomness. Each is a function of a state and an event, so that tests drive
//! histories through it that no real process would show.

pub mod checkpoint;
pub mod claim;
pub mod job;
pub mod restart;
pub mod slots;
pub mod watermark;
