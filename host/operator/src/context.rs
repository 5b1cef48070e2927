//! What an operator knows of the moment, and what it tells besides rows.

use arrow_array::ArrayRef;
use arrow_schema::SchemaRef;
use weir_plan::job::OnError;
use weir_plan::spec::ErrorPolicy;
use weir_sandbox::GuestError;
use weir_types::call::{Input, Slot};
use weir_types::graph;
use weir_types::{Batch, EventTime, Watermark};

use crate::Error;
use crate::culprits::{Culprits, Parted, alone};

/// The surroundings of one node of one subtask.
pub struct Context {
    /// the id of the node's first operator
    pub operator: String,
    /// the schema of each input
    pub schemas: Vec<SchemaRef>,
    /// what happens where the guest fails
    pub on_error: OnError,
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
    /// rows that are to become dead letters; taken by the task
    pub given_up: Vec<GivenUp>,
    /// what became of failures
    pub failures: Failures,
    /// rows on which an operator with state has failed in older attempts, where there are some
    pub culprits: Option<Box<Culprits>>,
    /// the row on which it has failed now, if the policy has to know of it
    pub culprit: Option<GivenUp>,
}

/// A row on which the guest has failed for good.
#[derive(Debug)]
pub struct GivenUp {
    /// the input that it came by
    pub port: usize,
    /// its number in the batch that the operator was given
    pub at: usize,
    /// the row, alone
    pub row: Batch,
    /// what happened
    pub error: GuestError,
}

/// How often the guest has failed, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// batches on which it failed
    pub errors: u64,
    /// calls that were made again; where there is state, rows that were given again
    pub retries: u64,
    /// rows that were passed over
    pub skipped: u64,
    /// rows that became dead letters
    pub dead_letters: u64,
}

impl Context {
    /// For a node whose first operator has this id.
    pub fn new(operator: String, schemas: Vec<SchemaRef>, on_error: OnError) -> Self {
        Self {
            operator,
            schemas,
            on_error,
            watermark: Watermark::NONE,
            now: 0,
            split: 0,
            batches: 0,
            progress: None,
            given_up: vec![],
            failures: Failures::default(),
            culprits: None,
            culprit: None,
        }
    }

    /// Does what the policy says with a row on which the guest has failed for good.
    pub fn give_up(&mut self, row: GivenUp) {
        match self.on_error.policy {
            ErrorPolicy::Fail | ErrorPolicy::Skip => self.failures.skipped += 1,
            ErrorPolicy::DeadLetter => {
                self.failures.dead_letters += 1;
                self.given_up.push(row);
            }
        }
    }

    /// Gives up those of the rows that are barred. Returns the others, if some are.
    ///
    /// # Errors
    /// If the rows are too large for their layout.
    pub fn bar(&mut self, port: usize, batch: &Batch) -> Result<Option<Batch>, Error> {
        let Some(culprits) = &mut self.culprits else { return Ok(None) };
        let Parted { given, given_up, retries } = culprits.part(port, batch)?;
        self.failures.retries += retries;
        given_up.into_iter().for_each(|row| self.give_up(row));
        Ok(given)
    }

    /// Notes the row that an operator with state has failed on, if it is known and the policy is not just to fail: one of these `rows` of a batch, the first of
    /// which is its `start`.
    pub fn accuse(&mut self, error: &Error, port: usize, rows: &Batch, start: usize) {
        if let Error::Rows { row: Some((row, _)), error, .. } = error
            && !self.on_error.only_fails()
        {
            // A row that cannot even be copied fails the job, as it would without the policy.
            self.culprit =
                alone(rows, *row).ok().map(|alone| GivenUp { port, at: start + row, row: alone, error: error.clone() });
        }
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
