//! Why keyed state failed.

use arrow_schema::{ArrowError, DataType};

/// Why keyed state failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// a column of this type cannot be part of a key
    #[error("a column of type {0} cannot be part of a key")]
    KeyType(DataType),
    /// the key columns of a batch are not what the table was made for
    #[error("keys cannot be encoded: {0}")]
    Keys(#[from] ArrowError),
    /// no more slots can be numbered
    #[error("the state of one subtask is limited to 4294967295 slots; raise the parallelism")]
    SlotsExhausted,
    /// bytes that a backend returned are not what was put there
    #[error("the state backend returned an entry that cannot be read: {0}")]
    Corrupt(String),
    /// the backend's disk or library failed
    #[error("the state backend failed: {0}")]
    Backend(String),
}
