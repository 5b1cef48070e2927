//! keyed_count: a running count for each key, by a process function.

use std::sync::Arc;

use arrow_array::{ArrayRef, UInt64Array};
use weir_operator::NativeChain;
use weir_sandbox::GuestError;
use weir_types::call::{Input, Origins, Reply, Slot};

use super::rows;

/// The count of each slot.
#[derive(Debug, Default)]
pub struct RunningCount {
    counts: Vec<u64>,
}

impl NativeChain for RunningCount {
    fn assign_slots(&mut self, slots: &[Slot], _keys: &[ArrayRef]) -> Result<(), GuestError> {
        for &slot in slots {
            let slot = slot as usize;
            self.counts.resize(self.counts.len().max(slot + 1), 0);
            self.counts[slot] = 0;
        }
        Ok(())
    }

    fn process(&mut self, input: Input<'_>) -> Result<Reply, GuestError> {
        let count = |&slot: &Slot| {
            let count = &mut self.counts[slot as usize];
            *count += 1;
            *count
        };
        let counts: Vec<u64> = input.slots.unwrap_or_default().iter().map(count).collect();
        Ok(rows(counts.len(), Origins::Identity, vec![Arc::new(UInt64Array::from(counts))]))
    }
}
