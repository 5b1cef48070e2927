//! The vocabulary of Weir: what a batch is, how time and keys are counted, what a graph is made of.
//!
//! Nothing here does I/O, reads a clock or knows a runtime. In reading order:
//!
//! - [`time`]: event time and watermarks, in milliseconds;
//! - [`batch`]: rows in flight, as Arrow columns beside their event times;
//! - [`key`]: keys, their hashes, key groups and the subtasks that own them;
//! - [`graph`]: the dataflow graph that a component describes (the host's view of `wit/definition.wit`);
//! - [`lanes`]: loops over columns, as wide as the processor is;
//! - [`call`]: what goes into and comes out of one guest call (the host's view of `wit/chains.wit`);
//! - [`text`]: how texts of others are shown to people.

pub mod batch;
pub mod call;
pub mod graph;
pub mod key;
pub mod lanes;
pub mod text;
pub mod time;

pub use batch::Batch;
pub use key::{KeyGroup, KeyGroupRange};
pub use time::{EventTime, Watermark};
