//! Finds the row on which a guest fails, by halving.

use arrow_array::{Array, ArrayRef};
use weir_sandbox::{GuestError, GuestErrorKind};
use weir_types::call::{Input, Slot};

use crate::body::Body;
use crate::guest::GuestStart;

/// What a guest was doing when it failed: enough to do it again.
pub struct Attempt<'a> {
    /// how to start the guest
    pub start: &'a GuestStart,
    /// how it failed
    pub kind: GuestErrorKind,
    /// the rows, as they were passed
    pub input: Input<'a>,
    /// whether the rows were for `accumulate` instead of `process`
    pub accumulates: bool,
    /// the slots of the rows with their keys, for keyed heads. The state they had is not restored: what is found is a row that fails on
    /// fresh state.
    pub assigned: Option<(&'a [Slot], &'a [ArrayRef])>,
}

/// The first row that fails by itself, in a new instance; none if no single row does, or there is no way to find out: if no other instance can
/// be started, no row is to blame for it.
pub async fn failing_row(attempt: &Attempt<'_>) -> Option<(usize, GuestError)> {
    let (mut from, mut rows) = (0, attempt.input.rows);
    // The range [from, from + rows) fails; halve it. Where the left half passes, the right one is to blame.
    while rows > 1 {
        let left = rows / 2;
        match attempt.fails(from, left).await.ok()? {
            Some(_) => rows = left,
            None => {
                from += left;
                rows -= left;
            }
        }
    }
    // Only now it is certain, and only this call has all the time that a call has.
    attempt.fails(from, rows).await.ok()?.map(|error| (from, error))
}

impl Attempt<'_> {
    /// The error of a new instance on these rows, if there is one.
    ///
    /// # Errors
    /// If that cannot be found out.
    async fn fails(&self, from: usize, rows: usize) -> Result<Option<GuestError>, crate::Error> {
        let mut body = Body::start(self.start.clone()).await?;
        if let Some((slots, keys)) = self.assigned {
            body.assign_slots(slots, keys).await?;
        }
        body.hurry(self.kind == GuestErrorKind::Deadline && rows > 1);
        let columns: Vec<ArrayRef> = self.input.columns.iter().map(|c| c.slice(from, rows)).collect();
        let input = Input {
            rows,
            columns: &columns,
            times: self.input.times.map(|t| &t[from..from + rows]),
            slots: self.input.slots.map(|s| &s[from..from + rows]),
            ..self.input
        };
        let result = if self.accumulates { body.accumulate(input).await } else { body.process(input).await.map(drop) };
        match result {
            Err(crate::Error::Guest(error)) => Ok(Some(error)),
            result => result.map(|()| None),
        }
    }
}
