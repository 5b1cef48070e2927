//! What lies between tasks: partitioners, bounded channels, gates.
//!
//! ```text
//! node ─▶ Outbox (partitioner) ─▶ channel ─▶ Gate ─▶ node
//!                              ─▶ channel ─▶ Gate (of another subtask)
//! ```
//!
//! A channel keeps the order of its messages: a watermark or a barrier never overtakes a batch. It holds a limited number of batches, and of bytes; a sender
//! that meets a full one waits, and that is all there is to back-pressure.

pub mod channel;
mod dealer;
mod held;
pub mod in_flight;
pub mod message;
pub mod outbox;
pub mod redeal;
mod selection;
pub mod waits;

pub use channel::{Capacity, Gate, Sender, gate};
pub use message::{Barrier, Message};
pub use outbox::Outbox;
pub use redeal::Redeal;
pub use waits::Waits;
