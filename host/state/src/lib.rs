//! Keyed state on the host's side.
//!
//! The values themselves live in the guest's memory, in slots (see `wit/chains.wit`). This crate knows which key, and which window of it,
//! owns which slot ([`SlotTable`]), which slots have gone cold ([`Clock`]), where the bytes of evicted slots are kept
//! ([`StateBackend`]), and which timers are set ([`Timers`]). It calls no guest and knows no runtime: operators do
//! that, batch by batch.
//!
//! In reading order: [`key_codec`], [`slots`], [`clock`], [`backend`] with its implementations [`memory`] (within an [`allowance`]) and [`rocks`],
//! [`timers`], [`expiry`] (what the backend drops by itself), [`entries`] (what goes into a snapshot).
//!
//! ```
//! use std::sync::Arc;
//! use arrow_array::{ArrayRef, UInt64Array};
//! use arrow_schema::DataType;
//! use weir_state::{Namespaces, SlotTable};
//!
//! let mut table = SlotTable::new(&[DataType::UInt64]).unwrap();
//! let keys: [ArrayRef; 1] = [Arc::new(UInt64Array::from(vec![7, 9, 7]))];
//! let (mut slots, mut created) = (vec![], vec![]);
//! table.assign(3, &keys, Namespaces::Constant(0), &mut slots, &mut created).unwrap();
//! assert_eq!(slots, [0, 1, 0]);
//! assert_eq!(created.iter().map(|c| c.row).collect::<Vec<_>>(), [0, 1]);
//! ```

pub mod allowance;
pub mod backend;
pub mod clock;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod entries;
pub mod error;
pub mod expiry;
pub mod key_codec;
pub mod memory;
pub mod rocks;
mod row_format;
pub mod slots;
pub mod timers;

pub use allowance::Allowance;
pub use backend::{StateBackend, StateKey};
pub use clock::Clock;
pub use entries::{Entries, Entry};
pub use error::Error;
pub use expiry::{Clocks, Expiry};
pub use memory::MemoryBackend;
pub use rocks::{ChangesRoom, Checkpointing, RocksBackend, RocksMemory};
pub use slots::{Created, Grouping, Learned, Learner, NO_SLOT, Namespaces, SlotTable};
pub use timers::Timers;
pub use weir_types::call::Slot;
