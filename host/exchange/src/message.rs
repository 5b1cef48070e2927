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
    /// separates checkpoint `checkpoint` from the one after it
    Barrier {
        /// the checkpoint's number
        checkpoint: u64,
    },
    /// nothing follows
    End,
}
