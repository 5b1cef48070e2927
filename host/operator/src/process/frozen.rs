//! The timers that were near at a barrier, until a checkpoint has them.
//!
//! There may be as many as keys, and to name one by its key takes a multiple of what it takes to note that it is set. So a barrier only notes them; they are
//! named later, a piece at a time, whatever has become of them meanwhile. Owners that go meanwhile are kept for that: see [`Owners::keep_gone`].

use weir_state::{Entries, Slot, SlotTable};
use weir_types::EventTime;

use super::owners::{OwnerId, Owners};
use super::timers::{AllTimers, Entry, Sort};
use crate::Error;
use crate::snapshot::Kind;

/// Timers that are named at once: as many as a processor's cache has room for, with their keys.
const PIECE_TIMERS: usize = 4096;

/// Timers that are not named yet.
#[derive(Debug, Default)]
pub(super) struct Frozen {
    timers: Vec<(Kind, EventTime, OwnerId)>,
}

impl Frozen {
    /// All that are near now.
    pub fn of(timers: &mut AllTimers) -> Self {
        let mut all = Vec::with_capacity(timers.iter_mut().map(|timers| timers.near.len()).sum());
        for (sort, kind) in Sort::ALL {
            all.extend(timers.of(sort).near.iter().map(|(time, Entry { owner, .. })| (kind, time, owner)));
        }
        Self { timers: all }
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Names so many of them, as far as there are that many, as entries of a snapshot.
    ///
    /// # Errors
    /// If a key is not one of the table's.
    pub fn name(
        &mut self,
        count: usize,
        owners: &Owners,
        table: &SlotTable,
        max_parallelism: u16,
        out: &mut Entries,
    ) -> Result<(), Error> {
        let left = self.timers.len().saturating_sub(count);
        while self.timers.len() > left {
            let piece = self.timers.split_off(left.max(self.timers.len().saturating_sub(PIECE_TIMERS)));
            name(piece, owners, table, max_parallelism, out)?;
        }
        Ok(())
    }
}

fn name(
    timers: Vec<(Kind, EventTime, OwnerId)>,
    owners: &Owners,
    table: &SlotTable,
    max_parallelism: u16,
    out: &mut Entries,
) -> Result<(), Error> {
    let (here, away): (Vec<_>, Vec<_>) = timers.into_iter().partition(|(.., owner)| owners.slot(*owner).is_some());
    let slots: Vec<Slot> = here.iter().filter_map(|(.., owner)| owners.slot(*owner)).collect();
    table.for_each_key(&slots, max_parallelism, |i, group, key| {
        let (kind, time, _) = here[i];
        out.push_with(group, time, [&[kind as u8], key[0], key[1]], |_| ());
    });
    if away.is_empty() {
        return Ok(());
    }
    let keys: Vec<&[u8]> = away.iter().map(|(.., owner)| owners.key(*owner)).collect();
    let mut groups = Vec::with_capacity(keys.len());
    table.key_groups(&keys, max_parallelism, &mut groups)?;
    for (((kind, time, _), key), group) in away.iter().zip(keys).zip(groups) {
        out.push_parts(group, *time, [&[*kind as u8], key], [&[], &[]]);
    }
    Ok(())
}
