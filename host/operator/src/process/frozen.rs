//! The timers that were near at a barrier, until a checkpoint has them.
//!
//! There may be as many as keys, and to name one by its key takes a multiple of what it takes to note that it is set. So a barrier only notes them; they are
//! named later, a piece at a time, whatever has become of them meanwhile. Owners that go meanwhile are kept for that: see [`Owners::keep_gone`].

use weir_state::{Entries, SlotTable};
use weir_types::EventTime;

use super::owners::{OwnerId, Owners};
use super::timers::{AllTimers, Entry, Sort};
use crate::Error;
use crate::snapshot::Kind;

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
        let piece = self.timers.split_off(self.timers.len().saturating_sub(count));
        let of: Vec<OwnerId> = piece.iter().map(|(.., owner)| *owner).collect();
        owners.for_each_key(&of, table, max_parallelism, |i, group, key| {
            let (kind, time, _) = piece[i];
            out.push_with(group, time, [&[kind as u8], key[0], key[1]], |_| ());
        })
    }
}
