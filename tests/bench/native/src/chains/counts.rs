//! q5 and q11: how many rows there are of each key in a window.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, UInt64Array};
use weir_operator::NativeChain;
use weir_sandbox::GuestError;
use weir_types::call::{Input, Origins, Panes, Reply, Slot, States};

use super::{rows, times};

/// The key and the count of each slot.
#[derive(Debug)]
pub struct Counts {
    slots: Vec<(u64, u64)>,
    columns: fn(Counted<'_>) -> Vec<ArrayRef>,
}

/// Counts of some panes.
pub struct Counted<'a> {
    keys: Vec<u64>,
    counts: Vec<u64>,
    panes: Panes<'a>,
}

/// q5: auction, bids, end of the window.
pub fn demand(counted: Counted<'_>) -> Vec<ArrayRef> {
    let Counted { keys, counts, panes } = counted;
    vec![Arc::new(UInt64Array::from(keys)), Arc::new(UInt64Array::from(counts)), times(panes.ends.to_vec())]
}

/// q11: bidder, bids, start and end of the session.
pub fn visit(counted: Counted<'_>) -> Vec<ArrayRef> {
    let starts = times(counted.panes.starts.to_vec());
    let mut columns = demand(counted);
    columns.insert(2, starts);
    columns
}

impl Counts {
    /// Emits what `columns` makes of the counts.
    pub fn new(columns: fn(Counted<'_>) -> Vec<ArrayRef>) -> Self {
        Self { slots: vec![], columns }
    }
}

impl NativeChain for Counts {
    fn assign_slots(&mut self, slots: &[Slot], keys: &[ArrayRef]) -> Result<(), GuestError> {
        let keys = keys[0].as_primitive::<UInt64Type>().values();
        for (&slot, &key) in slots.iter().zip(keys) {
            let slot = slot as usize;
            self.slots.resize(self.slots.len().max(slot + 1), (0, 0));
            self.slots[slot] = (key, 0);
        }
        Ok(())
    }

    fn accumulate(&mut self, input: Input<'_>) -> Result<(), GuestError> {
        for &slot in input.slots.unwrap_or_default() {
            self.slots[slot as usize].1 += 1;
        }
        Ok(())
    }

    fn emit(&mut self, panes: Panes<'_>) -> Result<Reply, GuestError> {
        let members = || panes.groups.windows(2).map(|group| &panes.slots[group[0] as usize..group[1] as usize]);
        let keys = members().map(|slots| self.slots[slots[0] as usize].0).collect();
        let counts = members().map(|slots| slots.iter().map(|&slot| self.slots[slot as usize].1).sum()).collect();
        Ok(rows(panes.starts.len(), Origins::Identity, (self.columns)(Counted { keys, counts, panes })))
    }

    fn merge_slots(&mut self, targets: &[Slot], sources: &[Slot]) -> Result<(), GuestError> {
        for (&target, &source) in targets.iter().zip(sources) {
            self.slots[target as usize].1 += self.slots[source as usize].1;
        }
        Ok(())
    }

    fn clear_slots(&mut self, _slots: &[Slot]) -> Result<(), GuestError> {
        Ok(())
    }

    fn export_slots(&mut self, slots: &[Slot]) -> Result<States, GuestError> {
        let bytes = slots.iter().flat_map(|&slot| self.slots[slot as usize].1.to_le_bytes()).collect();
        Ok(States::new((0..=slots.len() as u32).map(|i| i * 8).collect(), bytes))
    }

    fn import_slots(&mut self, slots: &[Slot], states: &States) -> Result<(), GuestError> {
        for (&slot, bytes) in slots.iter().zip(states.bytes.as_chunks::<8>().0) {
            self.slots[slot as usize].1 += u64::from_le_bytes(*bytes);
        }
        Ok(())
    }
}
