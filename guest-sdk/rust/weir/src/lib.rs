//! The Rust SDK of Weir: streaming jobs as WebAssembly components.
//!
//! A job is a function that builds a dataflow graph. Rows are structs with [`#[derive(Record)]`](derive@Record), operators are closures,
//! and sources and sinks have names that the job spec binds to the world.
//!
//! ```
//! use weir::{Count, EventTime, Job, Record, Sliding, TestHarness, Watermarks, secs};
//!
//! #[derive(Record)]
//! struct Bid { auction: u64, price: u64, date_time: EventTime }
//!
//! #[derive(Debug, PartialEq, Record)]
//! struct HotItem { auction: u64, end: EventTime, bids: u64 }
//!
//! #[weir::job]
//! fn hot_items(job: &Job) {
//!     job.source::<Bid>("bids")
//!         .event_time(Bid::DATE_TIME, Watermarks::bounded(secs(1)))
//!         .filter(|bid| bid.price > 100)
//!         .key_by(Bid::AUCTION)
//!         .window(Sliding::new(secs(10), secs(2)))
//!         .aggregate(Count)
//!         .map(|(auction, window, bids)| HotItem { auction, end: window.end, bids })
//!         .sink("hot");
//! }
//!
//! // A job is tested without a host:
//! let mut harness = TestHarness::new(hot_items);
//! let at = EventTime::from_millis;
//! harness.push("bids", [Bid { auction: 7, price: 200, date_time: at(8_500) }, Bid { auction: 7, price: 20, date_time: at(8_600) }]);
//! harness.finish();
//! let first = &harness.take::<HotItem>("hot")[0];
//! assert_eq!(*first, HotItem { auction: 7, end: at(10_000), bids: 1 });
//! ```
//!
//! # How it runs
//! Rows cross into the component in batches of columns. What stands between two boundaries (`key_by`, `union`, `sink`…) is
//! one chain: one call for a batch, in which decoding, all closures and encoding are one loop that the compiler has seen as
//! a whole. Only columns that the job reads cross: those that a [`Record`] names and that are not [`Pass`]; a filter returns
//! the numbers of the rows that it keeps, not the rows. Text is not copied either: a [`Str`] is a slice of its batch.
//!
//! The host owns time, state and delivery. Keyed state is a typed value in the component's memory that the host saves by
//! [`serde`] at checkpoints ([`Process`], [`State`]); window accumulators likewise ([`Aggregate`]).
//!
//! # In reading order
//! [`Record`] and [`Field`], [`Job`], [`Stream`] (map, filter, flat_map, key_by, union…), [`Watermarks`]; [`KeyedStream`],
//! [`Process`], [`Migrations`], [`Ttl`], [`Join`], [`IntervalJoin`]; [`Windowed`], [`Trigger`], [`Aggregate`]; [`Tag`] for side outputs; [`TestHarness`].

#[cfg(test)]
extern crate self as weir;

pub mod bindings;
mod chain;
mod check;
mod cleanup;
mod context;
mod head;
mod job;
mod log;
mod origins;
mod output;
mod pass;
mod text;
mod time;
pub mod value;

mod aggregate;
mod distinct;
mod event_time;
mod interval_join;
mod join;
mod key;
mod keyed;
mod migration;
mod pipeline;
mod process;
mod projection;
mod record;
mod rows;
mod schema;
mod side;
mod stamp;
mod state;
mod stream;
mod stride;
mod ttl;
mod window;
mod windowed;

#[doc(hidden)]
#[cfg(target_arch = "wasm32")]
pub mod guest;

#[cfg(not(target_arch = "wasm32"))]
mod testing;

#[doc(hidden)]
pub use serde;
pub use weir_macros::{Record, job};

pub use aggregate::{Aggregate, Avg, Count, Distinct, First, Last, Max, Min, Number, Select, Sum};
pub use event_time::{WatermarkGenerator, Watermarks};
pub use interval_join::{IntervalJoin, Offset};
pub use job::Job;
pub use join::{Change, Join};
pub use key::{Key, KeyPart, KeySelector};
pub use keyed::{Connected, KeyedStream};
pub use log::{Level, log};
pub use migration::Migrations;
pub use pass::Pass;
pub use pipeline::Pipeline;
pub use process::{BroadcastProcess, CoProcess, KeyedContext, Process, Timer};
pub use record::{Field, Record, Row};
pub use side::Tag;
pub use state::{State, Stored, StoredRows};
pub use stream::Stream;
#[cfg(not(target_arch = "wasm32"))]
pub use testing::TestHarness;
pub use text::{Bytes, Str};
pub use time::{EventTime, TimeDomain, Window, days, hours, millis, minutes, secs};
pub use ttl::{ExpiringList, ExpiringMap, ExpiringValue, Expiry, Ttl};
pub use window::{Assigner, CountWindow, Global, Session, Sliding, Trigger, Tumbling};
pub use windowed::{CoWindowed, Windowed};
