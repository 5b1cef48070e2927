//! Where rows go.
//!
//! A sink that can is *transactional*: what its writers take is hidden until it is committed. At a checkpoint, and at the end of its input, a writer
//! [prepares](Writer::prepare): it makes durable what it took since the last time, and names it by [`Transaction`]s. These stand in the checkpoint, and
//! once that is complete, the sink [commits](Sink::commit) them. So a job that starts again from the checkpoint knows all that it may have to commit
//! still, and everything else that an older attempt left can be [removed](Sink::recover): each row is seen once.

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

    /// What becomes of rows when a job fails and starts again from a checkpoint.
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    /// An attempt to run the job begins: removes what older attempts of it ([`Context::attempt`](crate::Context)) prepared or began, except `pending`, which
    /// will be committed. What newer attempts do is left alone: this one may have been replaced, and not know it. Called once, before anything else.
    ///
    /// # Errors
    /// If the outside fails.
    fn recover(&self, pending: &[Transaction]) -> Result<(), Error> {
        let _ = pending;
        Ok(())
    }

    /// Makes visible what writers of this attempt, or of an older one, prepared. What was committed before stays as it is: to commit twice is to commit
    /// once. May take long.
    ///
    /// # Errors
    /// If the outside fails; some of the transactions may be committed then.
    fn commit(&self, transactions: &[Transaction]) -> Result<(), Error> {
        match transactions {
            [] => Ok(()),
            [first, ..] => Err(Error::options(format!("the sink has no transactions, so it cannot commit {first}"))),
        }
    }
}

/// Names rows that are written, but not visible yet: all that [`Sink::commit`] has to know. Kept in checkpoints.
pub type Transaction = serde_json::Value;

/// What becomes of rows when a job fails and starts again from a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// rows written since the checkpoint are written again
    AtLeastOnce,
    /// rows are written again, over those that are there: the outside ends up as if they had been written once
    Idempotent,
    /// a reader sees each row once
    ExactlyOnce,
}

impl std::fmt::Display for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::AtLeastOnce => "at least once",
            Self::Idempotent => "idempotent",
            Self::ExactlyOnce => "exactly once",
        })
    }
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

    /// A checkpoint, or the end of the input: makes durable all that was taken since the last call, and names what of it is to be committed. A sink
    /// without transactions puts out what is in its buffers.
    ///
    /// # Errors
    /// If the outside does not take it.
    fn prepare(&mut self) -> Result<Vec<Transaction>, Error> {
        self.flush()?;
        Ok(vec![])
    }

    /// There will be no more rows: completes what was written (a footer, a closing line). Called once; a last [`prepare`](Self::prepare) follows.
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
