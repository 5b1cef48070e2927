//! What an operator knows of the moment, and what it tells besides rows.

use arrow_array::ArrayRef;
use arrow_schema::SchemaRef;
use weir_sandbox::GuestError;
use weir_types::call::{Input, Slot};
use weir_types::graph;
use weir_types::{Batch, EventTime, Watermark};

use crate::Error;

/// The surroundings of one node of one subtask.
pub struct Context {
    /// the id of the node's first operator
    pub operator: String,
    /// the schema of each input
    pub schemas: Vec<SchemaRef>,
    /// whether a row on which the guest fails is passed over
    pub skips: bool,
    /// the node's current watermark
    pub watermark: Watermark,
    /// processing time, ms
    pub now: EventTime,
    /// the split that the rows came from
    pub split: u32,
    /// how many batches the node was given: the number of the current one
    pub batches: u64,
    /// what the chain said of time (see `wit/chains.wit`, `reply.progress`); taken by the task
    pub progress: Option<EventTime>,
    /// rows passed over because the guest failed on them
    pub skipped: u64,
}

impl Context {
    /// For a node whose first operator has this id.
    pub fn new(operator: String, schemas: Vec<SchemaRef>, skips: bool) -> Self {
        Self { operator, schemas, skips, watermark: Watermark::NONE, now: 0, split: 0, batches: 0, progress: None, skipped: 0 }
    }

    /// Rows as a guest call takes them.
    pub fn input<'a>(
        &self,
        port: usize,
        input: &graph::Input,
        batch: &'a Batch,
        columns: &'a [ArrayRef],
        slots: Option<&'a [Slot]>,
    ) -> Input<'a> {
        Input {
            port: port as u32,
            split: self.split,
            rows: batch.rows(),
            columns,
            times: batch.times().filter(|_| input.times).map(|t| &t[..]),
            slots,
            watermark: self.watermark.0,
            now: self.now,
        }
    }

    /// Keeps what a chain said of time: the furthest.
    pub fn note_progress(&mut self, progress: Option<EventTime>) {
        self.progress = self.progress.max(progress);
    }

    /// The error of a guest that failed on the current batch, and if it is known, on which row of it.
    pub fn failure(&self, error: GuestError, row: Option<(usize, String)>) -> Error {
        Error::Rows { operator: self.operator.clone(), batch: self.batches, row, error }
    }

    /// An error with the operator and the batch, if it does not name them already: also of calls that carry no rows (slots that get keys, state that
    /// is moved).
    pub fn locate(&self, error: Error) -> Error {
        match error {
            Error::Guest(error) => self.failure(error, None),
            error => error,
        }
    }
}
