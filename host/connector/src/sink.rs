//! Where rows go.

use serde::Serialize;
use weir_types::Batch;

use crate::Error;

/// A sink, bound to its options and to the schema of the rows that a job writes.
pub trait Sink: Send + Sync {
    /// Opens the writer of one subtask.
    ///
    /// # Errors
    /// If the outside cannot be opened for writing.
    fn writer(&self, subtask: u16, parallelism: u16) -> Result<Box<dyn Writer>, Error>;

    /// What was written so far, over all writers of this sink.
    fn report(&self) -> Report;
}

/// Writes the rows of one subtask.
pub trait Writer: Send {
    /// Takes rows. They may stay in a buffer until `flush`.
    ///
    /// # Errors
    /// If the outside does not take them.
    fn write(&mut self, batch: &Batch) -> Result<(), Error>;

    /// Puts out what is in a buffer. Called when the input pauses, so that a reader of the outside sees the rows soon.
    ///
    /// # Errors
    /// If the outside does not take them.
    fn flush(&mut self) -> Result<(), Error>;

    /// There will be no more rows: completes what was written (a footer, a closing line). Called once.
    ///
    /// # Errors
    /// If the outside does not take it.
    fn finish(&mut self) -> Result<(), Error>;
}

/// What a sink has written.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// rows
    pub rows: u64,
    /// bytes, where the sink has bytes
    pub bytes: u64,
    /// the sum of the rows' hashes, where the sink computes it (`blackhole`)
    pub checksum: Option<u64>,
    /// when the first row arrived
    #[serde(skip)]
    pub first_row: Option<std::time::Instant>,
    /// microseconds from the instant that a column names to the row's arrival, where the sink measures it: (quantile, value)
    pub latency_us: Vec<(f64, u64)>,
}
