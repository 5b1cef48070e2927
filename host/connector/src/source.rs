//! Where rows come from.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use weir_types::Batch;

use crate::{Error, Positions};

/// A part of a source with a position of its own: a file, a partition, a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// unique in the source, and stable: the same data has the same id after a restart
    pub id: String,
    /// what the connector needs to know to read it
    pub spec: serde_json::Value,
    /// where to start: what [`Reader::position`] gave; none = from the beginning
    pub position: Option<serde_json::Value>,
}

/// A source, bound to its options and to the streams and columns that a job wants of it.
pub trait Source: Send + Sync {
    /// All splits there are now, in a stable order. `parallelism` is how many subtasks will read them.
    ///
    /// # Errors
    /// If the outside cannot be listed; of kind [`Missing`](crate::error::ErrorKind::Missing) if there is nothing where there should be something.
    fn splits(&self, parallelism: u16) -> Result<Vec<Split>, Error>;

    /// The splits that have come since those of these ids were listed. Asked when a job starts again from a checkpoint, and now and then while it runs if
    /// [`discovers_every`](Self::discovers_every) says so.
    ///
    /// # Errors
    /// As `splits`; of kind [`Gone`](crate::error::ErrorKind::Gone) if the positions of splits that are being read stand for nothing any more.
    fn new_splits(&self, known: &HashSet<String>) -> Result<Vec<Split>, Error> {
        Ok(self.splits(1)?.into_iter().filter(|split| !known.contains(&split.id)).collect())
    }

    /// Why the options do not name a split that a checkpoint has, for people; none if they do, also where what they name is gone. They do not where they have
    /// changed since, or where the split is one of another connector. Asked before the split is read on, and without the outside at hand, too.
    fn excludes(&self, split: &Split) -> Option<String> {
        let _ = split;
        None
    }

    /// A split that a checkpoint has is read on: settles in it what options say that may have been set since. What was settled stays.
    ///
    /// # Errors
    /// If the outside fails, or the split is none of this source; of kind [`Gone`](crate::error::ErrorKind::Gone) if its position stands for nothing any more.
    fn renew(&self, split: &mut Split) -> Result<(), Error> {
        let _ = split;
        Ok(())
    }

    /// How often a running job asks for new splits; none = never, and its input ends with the splits that it has. Otherwise it never ends by itself.
    fn discovers_every(&self) -> Option<Duration> {
        None
    }

    /// Whether each split has an end. All splits that have none are read at the same time; of others, some may wait for the end of some.
    fn ends(&self) -> bool {
        true
    }

    /// Starts to read a split at its position. `wake` is notified when a reader that said [`Fetched::Waiting`] has something.
    ///
    /// # Errors
    /// If the split cannot be opened, or its position is not one of it.
    fn reader(&self, split: &Split, wake: &Arc<tokio::sync::Notify>) -> Result<Box<dyn Reader>, Error>;
}

/// What a reader has to give.
#[derive(Debug)]
pub enum Fetched {
    /// some rows
    Rows(Fetch),
    /// nothing before this instant
    NotBefore(Instant),
    /// nothing until `wake` is notified
    Waiting,
    /// nothing any more
    End,
}

/// Some rows of one split.
#[derive(Debug, Default)]
pub struct Fetch {
    /// rows by stream: the index into the streams that the source was bound to. In the order in which they are to be processed.
    pub batches: Vec<(usize, Batch)>,
    /// the events of the outside that these are: lines, messages. Counts those, too, that had no column to read.
    pub events: u64,
    /// the bytes of the outside that these were, before decompression is undone
    pub bytes: u64,
    /// events that were malformed and passed over
    pub malformed: u64,
    /// the malformed ones among them, where they are to become dead letters
    pub rejects: Vec<Reject>,
    /// which events the rows are, if the source can tell
    pub positions: Option<Arc<dyn Positions>>,
}

/// A malformed event that is to become a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// its position in the split, as [`Positions`] has them
    pub position: u64,
    /// what is wrong with it
    pub reason: String,
    /// what could not be read as a row: a line, the value of a message
    pub record: String,
    /// whether that is in base64, since it is not UTF-8
    pub is_base64: bool,
}

/// Reads one split.
pub trait Reader: Send {
    /// The next rows: at most about `max_rows` events, and less if more are not there *now*. Never blocks for long: a reader that waits
    /// for the outside says so.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Malformed`] if the source's policy is to fail on malformed input, or the input is damaged, and `Io` if the outside fails.
    fn read(&mut self, max_rows: usize) -> Result<Fetched, Error>;

    /// Where the next `read` starts: with it in [`Split::position`], a new reader gives exactly the rows that this one would.
    fn position(&self) -> serde_json::Value;

    /// How many events of the split are there, or will be before its end, that were not read yet; none = the reader cannot tell. It tells what it knows without
    /// asking the outside. Called once a second or so.
    fn lag(&self) -> Option<u64> {
        None
    }
}
