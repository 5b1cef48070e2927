//! Sources and sinks.
//!
//! A connector is one system to read from or write to. It has a [`Connector`] entry in the table of [`registry`], which makes a
//! [`Source`] or a [`Sink`] from the options of a job spec. A source has *splits* (a partition, a file, a shard); each is read by a
//! [`Reader`] with a position of its own. A sink has one [`Writer`] per subtask.
//!
//! Readers and writers are plain, synchronous objects without a runtime: a reader that has nothing to give says until when or for
//! what it waits, and the task that drives it sleeps. The module `conformance` (feature `test-util`) is the suite of what connectors have in
//! common.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod error;
pub mod files;
pub mod json;
pub mod positions;
pub mod registry;
pub mod sink;
pub mod source;

mod background;
mod format;
mod options;
mod tail;
mod tls;
mod totals;

pub mod blackhole;
pub mod file;
pub mod kafka;
pub mod nexmark;
pub mod postgres;
pub mod stdin;
pub mod stdout;

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;

pub use error::Error;
pub use files::Files;
pub use json::JsonLines;
pub use options::is_secret;
pub use positions::Positions;
pub use registry::{Attempt, Connector, Context, connectors, find};
pub use sink::{Delivery, Report, Sink, Transaction, Writer};
pub use source::{Fetch, Fetched, Reader, Reject, Source, Split};
