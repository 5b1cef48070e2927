//! Runs untrusted components of the world `job` (`wit/`): the only crate that knows which engine does it.
//!
//! A [`Sandbox`] is the engine of a process. It [loads](Sandbox::load) a component (compiles it, or takes it from the
//! cache), a [`Component`] describes its graph and is instantiated for each subtask, an [`Instance`] takes rows and gives
//! rows. Everything is bounded by [`Limits`]: memory, the time of a call, what a call returns, what the guest logs.
//!
//! **Invariants**
//! - A guest cannot harm the host: what it returns is checked before anybody sees it, a violation is an error that names
//!   the port, the column and the row, and a crash ends the instance, not the process.
//! - A guest never holds a thread: a call yields to the executor at every tick of the engine.
//! - A guest sees nothing of the machine: its clock, its random numbers and its files (none) are the same in a replay.
//! - Rows are copied once each way.
//!
//! In reading order: [`engine`](Sandbox), `inspect` and `component` (from bytes to something that runs), `compiler` and `cache`;
//! `host`, `meter`, `log` and `wasi` (what surrounds an instance); `wit`, `schema` and `graph` (what a guest describes);
//! `encode`, `decode` and `reply` (what crosses in a call); `exports`, `instance` and `failure` (the calls themselves).

mod cache;
pub mod compiler;
mod component;
mod decode;
mod encode;
mod engine;
mod error;
mod exports;
mod failure;
mod graph;
mod host;
mod inspect;
mod instance;
mod log;
mod meter;
mod options;
mod reply;
pub mod schema;
mod wasi;
mod wit;

pub use compiler::Compiler;
pub use component::{Component, ComponentHash};
pub use engine::Sandbox;
pub use error::{Error, ErrorKind, GuestError, GuestErrorKind};
pub use inspect::{Inspection, Producer};
pub use instance::Instance;
pub use log::{Level, LogSink};
pub use options::{Limits, Options};
pub use wit::WORLD;
