//! What goes through a channel.

use weir_types::{Batch, Watermark};

/// One message of a channel.
#[derive(Clone, Debug)]
pub enum Message {
    /// rows
    Batch(Batch),
    /// no row at or before this time will follow
    Watermark(Watermark),
    /// the sender has nothing to give for the time being: do not wait for its watermark
    Idle,
    /// separates the rows before a checkpoint from those after it
    Barrier(Barrier),
    /// nothing follows
    End,
}

/// Flows with the rows from the sources to the sinks: what came before it is in the checkpoint (Carbone et al., "Lightweight Asynchronous Snapshots for
/// Distributed Dataflows").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// the checkpoint
    pub checkpoint: u64,
    /// whether nothing comes after it: the job stops with this checkpoint
    pub stops: bool,
    /// whether it may overtake rows, which are in the checkpoint then
    pub overtakes: bool,
}
