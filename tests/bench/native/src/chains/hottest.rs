//! q5: the auctions with the most bids of a window.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMillisecondType, UInt64Type};
use arrow_array::{ArrayRef, UInt32Array, UInt64Array};
use weir_operator::NativeChain;
use weir_sandbox::GuestError;
use weir_types::call::{Input, Origins, Panes, Reply, Slot, States};

use super::{numbers, rows, times};

/// The key (the end of a window) and the hottest auctions of each slot.
#[derive(Debug)]
pub struct Hottest {
    auction: usize,
    bids: usize,
    slots: Vec<(i64, Hot)>,
}

/// The greatest number of bids, and the auctions that got so many.
#[derive(Clone, Debug, Default)]
struct Hot {
    bids: u64,
    auctions: Vec<u64>,
}

impl Hot {
    fn add(&mut self, auctions: &[u64], bids: u64) {
        match bids.cmp(&self.bids) {
            Ordering::Less => {}
            Ordering::Equal => self.auctions.extend_from_slice(auctions),
            Ordering::Greater => {
                self.bids = bids;
                self.auctions.clear();
                self.auctions.extend_from_slice(auctions);
            }
        }
    }
}

impl Hottest {
    /// Reads auctions and their numbers of bids from these columns.
    pub fn new(auction: usize, bids: usize) -> Self {
        Self { auction, bids, slots: vec![] }
    }
}

impl NativeChain for Hottest {
    fn assign_slots(&mut self, slots: &[Slot], keys: &[ArrayRef]) -> Result<(), GuestError> {
        let keys = keys[0].as_primitive::<TimestampMillisecondType>().values();
        for (&slot, &key) in slots.iter().zip(keys) {
            let slot = slot as usize;
            self.slots.resize(self.slots.len().max(slot + 1), (0, Hot::default()));
            self.slots[slot] = (key, Hot::default());
        }
        Ok(())
    }

    fn accumulate(&mut self, input: Input<'_>) -> Result<(), GuestError> {
        let auctions = input.columns[self.auction].as_primitive::<UInt64Type>().values();
        let bids = input.columns[self.bids].as_primitive::<UInt64Type>().values();
        for ((&slot, &auction), &bids) in input.slots.unwrap_or_default().iter().zip(auctions).zip(bids) {
            self.slots[slot as usize].1.add(&[auction], bids);
        }
        Ok(())
    }

    fn emit(&mut self, panes: Panes<'_>) -> Result<Reply, GuestError> {
        let (mut auctions, mut bids, mut ends, mut origins) = (vec![], vec![], vec![], vec![]);
        for (pane, group) in panes.groups.windows(2).enumerate() {
            let slots = &panes.slots[group[0] as usize..group[1] as usize];
            let mut hottest = Hot::default();
            for &slot in slots {
                let hot = &self.slots[slot as usize].1;
                hottest.add(&hot.auctions, hot.bids);
            }
            let count = hottest.auctions.len();
            auctions.append(&mut hottest.auctions);
            bids.resize(bids.len() + count, hottest.bids);
            ends.resize(ends.len() + count, self.slots[slots[0] as usize].0);
            origins.resize(origins.len() + count, pane as u32);
        }
        let count = auctions.len();
        let columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(auctions)), Arc::new(UInt64Array::from(bids)), times(ends)];
        Ok(rows(count, Origins::Picked(UInt32Array::from(origins)), columns))
    }

    fn merge_slots(&mut self, targets: &[Slot], sources: &[Slot]) -> Result<(), GuestError> {
        for (&target, &source) in targets.iter().zip(sources) {
            let Hot { bids, auctions } = std::mem::take(&mut self.slots[source as usize].1);
            self.slots[target as usize].1.add(&auctions, bids);
        }
        Ok(())
    }

    fn clear_slots(&mut self, slots: &[Slot]) -> Result<(), GuestError> {
        for &slot in slots {
            self.slots[slot as usize].1 = Hot::default();
        }
        Ok(())
    }

    /// A slot's state: the number of bids, then the auctions.
    fn export_slots(&mut self, slots: &[Slot]) -> Result<States, GuestError> {
        let mut states = States::none();
        for &slot in slots {
            let Hot { bids, auctions } = &self.slots[slot as usize].1;
            states.bytes.extend(std::iter::once(bids).chain(auctions).flat_map(|number| number.to_le_bytes()));
            states.offsets.push(states.bytes.len() as u32);
        }
        Ok(states)
    }

    fn import_slots(&mut self, slots: &[Slot], states: &States) -> Result<(), GuestError> {
        for (&slot, numbers) in slots.iter().zip(numbers(states)) {
            if let Some((&bids, auctions)) = numbers.split_first() {
                self.slots[slot as usize].1.add(auctions, bids);
            }
        }
        Ok(())
    }
}
