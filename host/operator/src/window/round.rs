//! The guest calls that a run of rows amounts to.
//!
//! Rows come in batches, but a trigger may emit a window at one particular row, and a session may swallow another one between two rows. So rows are
//! gathered into *rounds*: what happens in a round happens in one fixed order (new slots, rows, merges, panes, purges), and a round is cut where
//! this order would differ from that of the rows. Results then do not depend on how the stream was cut into batches, and where nothing
//! of the sort happens, a whole batch is one round.

use weir_state::{Slot, SlotTable};

use super::feed::Feed;
use super::grid::Span;
use super::policy::Tally;
use super::sessions::Bounds;
use super::turn::{PaneList, Turn};
use crate::Error;
use crate::eviction::Place;

/// What is to happen in the current round.
#[derive(Debug, Default)]
pub(super) struct Round {
    rows: Vec<u32>,
    slots: Vec<Slot>,
    /// slots to assign, each with a slot of the table that has the key
    assigned: Vec<(Slot, Slot)>,
    /// which of them get state back from the backend
    restored: Vec<(Slot, Place)>,
    targets: Vec<Slot>,
    sources: Vec<Slot>,
    /// slots to clear in the end
    discarded: Vec<Slot>,
    panes: PaneList,
    /// slots whose content is purged once it is emitted, each with a slot of the table that has the key
    purged: Vec<(Slot, Slot)>,
    /// by slot: the last round in which it was emitted or merged into
    settled: Vec<u64>,
    number: u64,
}

impl Round {
    /// Whether a row for this slot belongs to the next round.
    #[inline]
    pub fn is_settled(&self, slot: Slot) -> bool {
        self.settled.get(slot as usize).is_some_and(|&round| round > self.number)
    }

    fn settle(&mut self, slot: Slot) {
        if slot as usize >= self.settled.len() {
            self.settled.resize(slot as usize + 1, 0);
        }
        self.settled[slot as usize] = self.number + 1;
    }

    /// A row for a slot.
    #[inline]
    pub fn add(&mut self, row: u32, slot: Slot) {
        self.rows.push(row);
        self.slots.push(slot);
    }

    /// A slot that is new to the guest.
    pub fn assign(&mut self, slot: Slot, key: Slot) {
        self.assigned.push((slot, key));
    }

    /// A slot whose state is in the backend.
    pub fn restore(&mut self, slot: Slot, place: Place) {
        self.assign(slot, place.key);
        self.restored.push((slot, place));
    }

    /// Merges `source` into `target`. The source is cleared; its number must not be used again before the round is over.
    pub fn merge(&mut self, target: Slot, source: Slot) {
        self.targets.push(target);
        self.sources.push(source);
        self.discarded.push(source);
        self.settle(target);
    }

    /// Clears a slot. Its number must not be used again before the round is over.
    pub fn discard(&mut self, slot: Slot) {
        self.discarded.push(slot);
    }

    /// Emits a pane.
    pub fn emit(&mut self, window: Span, slots: &[Slot]) {
        self.panes.push(window, slots.iter().copied());
        slots.iter().for_each(|&slot| self.settle(slot));
    }

    /// Purges a slot after it was emitted: it stays with its key, with fresh state.
    pub fn purge(&mut self, slot: Slot, key: Slot) {
        self.purged.push((slot, key));
    }

    /// Makes the calls.
    pub async fn finish(&mut self, feed: &Feed<'_>, table: &SlotTable, turn: &mut Turn<'_>) -> Result<(), Error> {
        self.assign_slots(table, turn).await?;
        feed.accumulate(Some(&self.rows), &self.slots, turn).await?;
        if !self.targets.is_empty() {
            turn.body.merge_slots(&self.targets, &self.sources).await?;
        }
        if !self.discarded.is_empty() {
            turn.body.clear_slots(&self.discarded).await?;
        }
        self.panes.emit(turn).await?;
        renew_slots(&self.purged, table, turn).await?;
        self.rows.clear();
        self.slots.clear();
        self.targets.clear();
        self.sources.clear();
        self.discarded.clear();
        self.purged.clear();
        self.number += 1;
        Ok(())
    }

    /// Makes the calls that come before rows.
    pub async fn assign_slots(&mut self, table: &SlotTable, turn: &mut Turn<'_>) -> Result<(), Error> {
        assign_slots(&self.assigned, table, turn).await?;
        self.assigned.clear();
        if self.restored.is_empty() {
            return Ok(());
        }
        for restored in std::mem::take(&mut self.restored).chunks(turn.eviction.slots_per_call()) {
            let (slots, places): (Vec<Slot>, Vec<Place>) = restored.iter().copied().unzip();
            let taken = turn.eviction.take::<(Bounds, Tally)>(table, &places)?;
            if taken.found.len() != slots.len() {
                return Err(weir_state::Error::Corrupt("the state of a session is gone".into()).into());
            }
            turn.body.import_slots(&slots, &taken.states).await?;
        }
        Ok(())
    }
}

/// Gives slots to keys: each slot comes with a slot of the table that has the key.
pub(super) async fn assign_slots(slots: &[(Slot, Slot)], table: &SlotTable, turn: &mut Turn<'_>) -> Result<(), Error> {
    if slots.is_empty() {
        return Ok(());
    }
    let (slots, keys): (Vec<Slot>, Vec<Slot>) = slots.iter().copied().unzip();
    turn.body.assign_slots(&slots, &table.key_columns(&keys)?).await
}

/// Drops the state of slots that stay with their keys.
pub(super) async fn renew_slots(slots: &[(Slot, Slot)], table: &SlotTable, turn: &mut Turn<'_>) -> Result<(), Error> {
    if slots.is_empty() {
        return Ok(());
    }
    let numbers: Vec<Slot> = slots.iter().map(|&(slot, _)| slot).collect();
    turn.body.clear_slots(&numbers).await?;
    assign_slots(slots, table, turn).await
}
