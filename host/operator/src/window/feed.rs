//! What comes into a window in one batch: rows, or, after an exchange, partial accumulators.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, BinaryArray, UInt32Array, UInt64Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::ArrowError;
use weir_types::call::{Slot, States};
use weir_types::graph;
use weir_types::{Batch, EventTime};

use super::turn::Turn;
use crate::row_text::describe_row;
use crate::{Error, narrow};

/// One batch of input.
pub(super) struct Feed<'a> {
    /// as it came
    pub batch: &'a Batch,
    pub port: usize,
    pub keys: Vec<ArrayRef>,
    /// when each row happened; of partial accumulators: the start of their window or cell
    pub times: ScalarBuffer<EventTime>,
    content: Content,
}

enum Content {
    Rows { input: Arc<graph::Input>, columns: Batch },
    Partials { rows: UInt64Array, states: BinaryArray },
}

impl<'a> Feed<'a> {
    /// Rows, with the times that the window goes by.
    pub fn rows(port: usize, input: &Arc<graph::Input>, batch: &'a Batch, times: ScalarBuffer<EventTime>) -> Self {
        let keys = input.key.iter().map(|&c| batch.column(c).clone()).collect();
        let columns = batch.project(&input.columns);
        Self { batch, port, keys, times, content: Content::Rows { input: Arc::clone(input), columns } }
    }

    /// Partial accumulators, as [`super::partial`] puts them into columns.
    ///
    /// # Errors
    /// If the columns are of other types.
    pub fn partials(batch: &'a Batch, key_columns: usize) -> Result<Self, Error> {
        let malformed = || ArrowError::SchemaError("a batch of partial accumulators has other columns than it should".into());
        let [keys @ .., starts, rows, states] = batch.columns() else { return Err(malformed().into()) };
        if keys.len() != key_columns {
            return Err(malformed().into());
        }
        let times = starts.as_primitive_opt::<Int64Type>().ok_or_else(malformed)?.values().clone();
        let content = Content::Partials {
            rows: rows.as_primitive_opt::<UInt64Type>().ok_or_else(malformed)?.clone(),
            states: states.as_binary_opt::<i32>().ok_or_else(malformed)?.clone(),
        };
        Ok(Self { batch, port: 0, keys: keys.to_vec(), times, content })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.batch.rows()
    }

    /// How many rows of the stream a row of the batch stands for.
    pub fn weight(&self, row: usize) -> u64 {
        match &self.content {
            Content::Rows { .. } => 1,
            Content::Partials { rows, .. } => rows.value(row),
        }
    }

    /// The key columns of some rows.
    ///
    /// # Errors
    /// If they are too large for their layout.
    pub fn keys_of(&self, rows: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        let rows = UInt32Array::from(rows.to_vec());
        Ok(self.keys.iter().map(|k| arrow_select::take::take(k, &rows, None)).collect::<Result<_, _>>()?)
    }

    /// Adds rows to the accumulators in `slots`: those named in `rows`, or all.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn accumulate(&self, rows: Option<&[u32]>, slots: &[Slot], turn: &mut Turn<'_>) -> Result<(), Error> {
        if slots.is_empty() {
            return Ok(());
        }
        match &self.content {
            Content::Rows { input, columns } => {
                let columns = match rows {
                    None => columns.clone(),
                    Some(rows) => select(columns, rows)?,
                };
                let call = turn.context.input(self.port, input, &columns, columns.columns(), Some(slots));
                match turn.body.accumulate(call).await {
                    Err(Error::Guest(error)) => Err(self.blame(error, rows, slots, &columns, input, turn).await),
                    result => result,
                }
            }
            Content::Partials { states, .. } => {
                let mut selected = States::none();
                let mut push = |row: usize| {
                    selected.bytes.extend_from_slice(states.value(row));
                    // The batch's own bytes have 31-bit offsets, and a row comes once.
                    selected.offsets.push(selected.bytes.len() as u32);
                };
                match rows {
                    None => (0..states.len()).for_each(&mut push),
                    Some(rows) => rows.iter().for_each(|&row| push(row as usize)),
                }
                turn.body.import_slots(slots, &selected).await
            }
        }
    }

    /// The error to report after the guest failed on rows: with the row that it fails on, if one does by itself.
    async fn blame(
        &self,
        error: weir_sandbox::GuestError,
        rows: Option<&[u32]>,
        slots: &[Slot],
        columns: &Batch,
        input: &graph::Input,
        turn: &mut Turn<'_>,
    ) -> Error {
        let in_batch = |i: usize| rows.map_or(i, |rows| rows[i] as usize);
        let mut first_rows: Vec<(Slot, u32)> = slots.iter().enumerate().map(|(i, &slot)| (slot, in_batch(i) as u32)).collect();
        first_rows.sort_unstable();
        first_rows.dedup_by_key(|(slot, _)| *slot);
        let (distinct, of): (Vec<Slot>, Vec<u32>) = first_rows.into_iter().unzip();
        let found = match (turn.body.guest_start(), self.keys_of(&of)) {
            (Some(start), Ok(keys)) => {
                let input = turn.context.input(self.port, input, columns, columns.columns(), Some(slots));
                let assigned = Some((&distinct[..], &keys[..]));
                narrow::failing_row(&narrow::Attempt { start, kind: error.kind, input, accumulates: true, assigned }).await
            }
            _ => None,
        };
        match found {
            Some((i, row_error)) => {
                let row = in_batch(i);
                let text = describe_row(self.batch, &turn.context.schemas[self.port], row);
                turn.context.failure(row_error, Some((row, text)))
            }
            None => turn.context.failure(error, None),
        }
    }
}

/// Rows of a batch: a slice where they follow each other, else a copy.
fn select(batch: &Batch, rows: &[u32]) -> Result<Batch, Error> {
    let (first, last) = (rows.first().copied().unwrap_or(0), rows.last().copied().unwrap_or(0));
    let consecutive = rows.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    Ok(match consecutive {
        true => batch.slice(first as usize, if rows.is_empty() { 0 } else { (last - first + 1) as usize }),
        false => batch.take(&UInt32Array::from(rows.to_vec()))?,
    })
}
