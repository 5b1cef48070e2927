//! q7: the best offer of a window.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMillisecondType, UInt64Type};
use arrow_array::{ArrayRef, UInt32Array, UInt64Array};
use weir_operator::NativeChain;
use weir_sandbox::GuestError;
use weir_types::call::{Input, Origins, Panes, Reply, Slot, States};

use super::{numbers, rows, times};

/// The best offer of each slot.
#[derive(Debug)]
pub struct Highest {
    auction: usize,
    bidder: usize,
    price: usize,
    date_time: usize,
    slots: Vec<Option<Offer>>,
}

/// An offer. The greater one is better: the higher; of equal ones the earliest, then that for the lowest auction, then that of the lowest bidder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    price: u64,
    date_time: Reverse<i64>,
    auction: Reverse<u64>,
    bidder: Reverse<u64>,
}

impl Highest {
    /// Reads auctions, bidders, prices and times from these columns.
    pub fn new([auction, bidder, price, date_time]: [usize; 4]) -> Self {
        Self { auction, bidder, price, date_time, slots: vec![] }
    }
}

impl NativeChain for Highest {
    fn assign_slots(&mut self, slots: &[Slot], _keys: &[ArrayRef]) -> Result<(), GuestError> {
        for &slot in slots {
            let slot = slot as usize;
            self.slots.resize(self.slots.len().max(slot + 1), None);
            self.slots[slot] = None;
        }
        Ok(())
    }

    fn accumulate(&mut self, input: Input<'_>) -> Result<(), GuestError> {
        let numbers = |column: usize| input.columns[column].as_primitive::<UInt64Type>().values();
        let (auctions, bidders, prices) = (numbers(self.auction), numbers(self.bidder), numbers(self.price));
        let moments = input.columns[self.date_time].as_primitive::<TimestampMillisecondType>().values();
        for (row, &slot) in input.slots.unwrap_or_default().iter().enumerate() {
            let offer = Offer {
                price: prices[row],
                date_time: Reverse(moments[row]),
                auction: Reverse(auctions[row]),
                bidder: Reverse(bidders[row]),
            };
            let best = &mut self.slots[slot as usize];
            *best = (*best).max(Some(offer));
        }
        Ok(())
    }

    fn emit(&mut self, panes: Panes<'_>) -> Result<Reply, GuestError> {
        let best = panes.groups.windows(2).enumerate().filter_map(|(pane, group)| {
            let slots = &panes.slots[group[0] as usize..group[1] as usize];
            Some((pane as u32, slots.iter().filter_map(|&slot| self.slots[slot as usize]).max()?))
        });
        let (origins, best): (Vec<u32>, Vec<Offer>) = best.unzip();
        let numbers = |of: fn(&Offer) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(best.iter().map(of))) };
        let columns = vec![
            numbers(|offer| offer.auction.0),
            numbers(|offer| offer.bidder.0),
            numbers(|offer| offer.price),
            times(best.iter().map(|offer| offer.date_time.0).collect()),
        ];
        Ok(rows(best.len(), Origins::Picked(UInt32Array::from(origins)), columns))
    }

    fn merge_slots(&mut self, targets: &[Slot], sources: &[Slot]) -> Result<(), GuestError> {
        for (&target, &source) in targets.iter().zip(sources) {
            let best = self.slots[target as usize].max(self.slots[source as usize]);
            self.slots[target as usize] = best;
        }
        Ok(())
    }

    fn clear_slots(&mut self, slots: &[Slot]) -> Result<(), GuestError> {
        for &slot in slots {
            self.slots[slot as usize] = None;
        }
        Ok(())
    }

    /// A slot's state: price, time, auction and bidder.
    fn export_slots(&mut self, slots: &[Slot]) -> Result<States, GuestError> {
        let mut states = States::none();
        for &slot in slots {
            if let Some(Offer { price, date_time, auction, bidder }) = self.slots[slot as usize] {
                let numbers = [price, date_time.0 as u64, auction.0, bidder.0];
                states.bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
            states.offsets.push(states.bytes.len() as u32);
        }
        Ok(states)
    }

    fn import_slots(&mut self, slots: &[Slot], states: &States) -> Result<(), GuestError> {
        for (&slot, numbers) in slots.iter().zip(numbers(states)) {
            if let [price, date_time, auction, bidder] = numbers[..] {
                let date_time = Reverse(date_time as i64);
                let offer = Offer { price, date_time, auction: Reverse(auction), bidder: Reverse(bidder) };
                let best = &mut self.slots[slot as usize];
                *best = (*best).max(Some(offer));
            }
        }
        Ok(())
    }
}
