//! Partial accumulators on their way through an exchange, in columns:
//! the key columns, start and end of their cell or session (int64), the number of rows in them (uint64), and the exported state (binary).

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, UInt64Array};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use weir_state::{Slot, SlotTable};
use weir_types::{Batch, EventTime};

use super::grid::Span;
use super::turn::Turn;
use crate::Error;

/// Partial accumulators in one batch.
const ROWS_PER_BATCH_MAX: usize = 4096;

/// Partial accumulators that are to leave.
#[derive(Debug, Default)]
pub(super) struct PartialList {
    pub slots: Vec<Slot>,
    /// slots of the table whose keys they have
    pub keys: Vec<Slot>,
    starts: Vec<EventTime>,
    ends: Vec<EventTime>,
    rows: Vec<u64>,
}

impl PartialList {
    pub fn push(&mut self, slot: Slot, key: Slot, span: Span, rows: u64) {
        self.slots.push(slot);
        self.keys.push(key);
        self.starts.push(span.start);
        self.ends.push(span.end);
        self.rows.push(rows);
    }

    /// Exports the accumulators into batches and clears their slots in the guest.
    pub async fn export(&self, table: &SlotTable, turn: &mut Turn<'_>) -> Result<(), Error> {
        for from in (0..self.slots.len()).step_by(ROWS_PER_BATCH_MAX) {
            let range = from..(from + ROWS_PER_BATCH_MAX).min(self.slots.len());
            let states = turn.body.export_slots(&self.slots[range.clone()]).await?;
            if states.bytes.len() > i32::MAX as usize {
                return Err(ArrowError::OffsetOverflowError(states.bytes.len()).into());
            }
            let offsets: Vec<i32> = states.offsets.iter().map(|&o| o as i32).collect();
            let states =
                BinaryArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(states.bytes), None)?;
            let mut columns = table.key_columns(&self.keys[range.clone()])?;
            let rest: [ArrayRef; 4] = [
                Arc::new(Int64Array::from(self.starts[range.clone()].to_vec())),
                Arc::new(Int64Array::from(self.ends[range.clone()].to_vec())),
                Arc::new(UInt64Array::from(self.rows[range.clone()].to_vec())),
                Arc::new(states),
            ];
            columns.extend(rest);
            turn.out.push((0, Batch::new(range.len(), columns, None)));
        }
        if !self.slots.is_empty() {
            turn.body.clear_slots(&self.slots).await?;
        }
        Ok(())
    }
}
