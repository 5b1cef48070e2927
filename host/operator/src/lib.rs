//! The operators that the host runs.
//!
//! A task is a small graph of nodes that share one thread of control. Batches, watermarks and clock ticks go in; a node turns them into rows for the
//! ports that the next nodes are attached to. Guest code is behind [`body::Body`], so that an operator does not
//! know whether a WebAssembly component or a native chain (tests, measurements) does the user's part.
//!
//! In reading order: [`body`] and [`guest`] (the user's part), [`context`], [`emission`] (how replies become batches), [`chain`] (what a node does),
//! [`transform`], [`process`], [`window`], `eviction` (state beyond the guest's memory), [`snapshot`] (state beyond the task's life), [`progress`], [`assigner`] (watermarks from event times),
//! [`narrow`] (the row on which a guest fails), [`culprits`] (rows on which operators with state have failed).

pub mod assigner;
pub mod body;
pub mod chain;
pub mod context;
pub mod culprits;
pub mod emission;
pub mod error;
mod eviction;
pub mod guest;
pub mod narrow;
pub mod process;
pub mod progress;
mod row_text;
pub mod snapshot;
pub mod transform;
mod weight;
pub mod window;

pub use assigner::Assigner;
pub use body::{Body, NativeChain};
pub use chain::ChainOperator;
pub use context::{Context, Failures, GivenUp};
pub use culprits::{Culprit, Culprits};
pub use emission::Emitted;
pub use error::Error;
pub use guest::GuestStart;
pub use progress::Progress;
pub use snapshot::{CopyTime, Misfit, Predecessor, Snapshot};
