//! Partial accumulators on their way through an exchange, in columns:
//! the key columns, the start of their window or cell (int64), the number of rows in them (uint64), and the exported state (binary).

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, UInt64Array};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use weir_plan::job::Stage;
use weir_state::{Slot, SlotTable};
use weir_types::{Batch, EventTime};

use super::turn::Turn;
use crate::Error;

/// Partial accumulators that are to leave in one batch.
#[derive(Debug, Default)]
pub(super) struct PartialList {
    pub slots: Vec<Slot>,
    starts: Vec<EventTime>,
    rows: Vec<u64>,
}

impl PartialList {
    pub fn push(&mut self, slot: Slot, start: EventTime, rows: u64) {
        self.slots.push(slot);
        self.starts.push(start);
        self.rows.push(rows);
    }

    /// Exports the accumulators into a batch and clears their slots in the guest.
    pub async fn export(self, table: &SlotTable, turn: &mut Turn<'_>) -> Result<(), Error> {
        if self.slots.is_empty() {
            return Ok(());
        }
        let states = turn.eviction.export(turn.body, &self.slots).await?;
        if states.bytes.len() > i32::MAX as usize {
            return Err(ArrowError::OffsetOverflowError(states.bytes.len()).into());
        }
        let offsets: Vec<i32> = states.offsets.iter().map(|&o| o as i32).collect();
        let states = BinaryArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(states.bytes), None)?;
        let mut columns = table.key_columns(&self.slots)?;
        let rest: [ArrayRef; 3] =
            [Arc::new(Int64Array::from(self.starts)), Arc::new(UInt64Array::from(self.rows)), Arc::new(states)];
        columns.extend(rest);
        turn.out.push((Stage::PARTIALS, Batch::new(self.slots.len(), columns, None)));
        turn.emitted += self.slots.len();
        turn.body.clear_slots(&self.slots).await
    }
}
