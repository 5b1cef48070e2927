//! Why an operator failed.

use weir_sandbox::GuestError;

use crate::snapshot::Misfit;

/// Why an operator failed on a batch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// the guest failed: a trap, a deadline, memory, a broken contract, or an error that it returned
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// the guest failed on rows
    #[error("operator \"{operator}\" failed on batch {batch}{}: {error}", row.as_ref().map(|(row, text)| format!(", record {row} {text}")).unwrap_or_default())]
    Rows {
        /// the id of the chain's first operator
        operator: String,
        /// the number of the batch among those of the operator's subtask, from 1
        batch: u64,
        /// the row's index in the batch, and the row; none if no single row fails by itself
        row: Option<(usize, String)>,
        /// what happened
        error: GuestError,
    },
    /// the host's side of keyed state failed
    #[error(transparent)]
    State(#[from] weir_state::Error),
    /// rows could not be put together: a batch too large for Arrow's 32-bit offsets, for example
    #[error("cannot put the rows of a batch together: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// rows reached an operator that needs event times before any were assigned
    #[error("operator \"{operator}\" works in event time, but its rows have none; assign it with `event_time` before")]
    NoEventTime {
        /// the operator's id
        operator: String,
    },
    /// a snapshot is whole, but not one that the operator can go on from
    #[error("operator \"{operator}\" cannot go on from its snapshot: {reason}")]
    Misfit {
        /// the operator's id
        operator: String,
        /// why it cannot
        reason: Misfit,
    },
    /// the bytes of a snapshot are not those of one
    #[error("operator \"{operator}\" cannot go on from its snapshot: {reason}")]
    Restore {
        /// the operator's id
        operator: String,
        /// what is wrong with it
        reason: String,
    },
    /// timers that set each other again and again
    #[error(
        "a timer of operator \"{operator}\" sets the next one again and again without time getting on, now to {time}: set it to a later \
         time than that which fires, and none once the watermark is `EventTime::MAX`, the end of the input"
    )]
    EndlessTimer {
        /// the operator's id
        operator: String,
        /// the time to which it was set last
        time: weir_types::EventTime,
    },
}

impl Error {
    /// The error of an operator that was given these rows of a batch, and takes them for all.
    pub(crate) fn in_batch(mut self, rows: &[u32]) -> Self {
        if let Self::Rows { row: Some((row, _)), .. } = &mut self {
            *row = rows[*row] as usize;
        }
        self
    }
}
