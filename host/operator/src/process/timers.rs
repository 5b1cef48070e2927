//! The timers of a process function: those of its user and cleanups, by event time and by processing time.
//!
//! The four sorts know nothing of each other: each has timers that are near, in memory, and timers that are far off, in the backend (see `far`).

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use weir_state::{Slot, Timers};
use weir_types::EventTime;
use weir_types::graph::TimeDomain;

use super::far::{Far, FarTimer};
use super::owners::OwnerId;
use crate::Error;
use crate::eviction::{Eviction, TIMERS};
use crate::snapshot::Kind;

/// The timers of one sort.
pub(super) struct SortTimers {
    pub near: Timers<Entry>,
    pub far: Far,
    /// under which number the backend has those that are far
    pub operator: u32,
    /// what waits to be written there: whether it is set, or deleted
    writes: Vec<(FarTimer, bool)>,
}

impl SortTimers {
    fn new(operator: u32) -> Self {
        Self { near: Timers::default(), far: Far::new(), operator, writes: vec![] }
    }

    /// Sets or deletes a timer in the backend, with the others that are waiting for it.
    pub fn write(&mut self, timer: FarTimer, is_set: bool) {
        if is_set {
            self.far.note(timer.time);
        }
        self.writes.push((timer, is_set));
    }

    /// Writes what waits.
    pub fn flush(&mut self, eviction: &mut Eviction) -> Result<(), Error> {
        // Of one timer that is set and deleted, what came last holds.
        for run in self.writes.chunk_by(|a, b| a.1 == b.1) {
            eviction.write_timers(self.operator, run.iter().map(|(timer, _)| timer), run[0].1)?;
        }
        self.writes.clear();
        Ok(())
    }

    /// No timer is earlier.
    pub fn next(&self) -> Option<EventTime> {
        [self.near.next(), self.far.next()].into_iter().flatten().min()
    }
}

/// A timer's owner, by which it is known; and how many timers have led to it without time getting on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub owner: OwnerId,
    pub repeats: u16,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.owner == other.owner
    }
}

impl Eq for Entry {}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.owner.hash(state);
    }
}

/// What sort of timer: by which clock, and whether for a cleanup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sort {
    pub domain: TimeDomain,
    pub cleanup: bool,
}

impl Sort {
    /// All, with how snapshots name them.
    pub const ALL: [(Self, Kind); 4] = [
        (Self { domain: TimeDomain::Event, cleanup: false }, Kind::EventTimer),
        (Self { domain: TimeDomain::Processing, cleanup: false }, Kind::ProcessingTimer),
        (Self { domain: TimeDomain::Event, cleanup: true }, Kind::EventCleanup),
        (Self { domain: TimeDomain::Processing, cleanup: true }, Kind::ProcessingCleanup),
    ];
}

/// The timers of each sort.
pub(super) struct AllTimers([SortTimers; Sort::ALL.len()]);

impl AllTimers {
    pub fn new() -> Self {
        Self(TIMERS.map(SortTimers::new))
    }

    /// In the order of [`Sort::ALL`].
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut SortTimers> {
        self.0.iter_mut()
    }

    pub fn of(&mut self, sort: Sort) -> &mut SortTimers {
        let domain = usize::from(sort.domain == TimeDomain::Processing);
        &mut self.0[2 * usize::from(sort.cleanup) + domain]
    }
}

/// Timers that are being fired.
pub(super) struct Due<'a> {
    until: EventTime,
    times: &'a [EventTime],
    slots: &'a [Slot],
    entries: &'a [Entry],
    /// of each slot its latest timer and its most repeats; made when it is needed
    by_slot: Option<HashMap<Slot, (EventTime, u16)>>,
}

impl<'a> Due<'a> {
    /// What is due until a time: timers of slots, and their entries.
    pub fn new(until: EventTime, times: &'a [EventTime], slots: &'a [Slot], entries: &'a [Entry]) -> Self {
        Self { until, times, slots, entries, by_slot: None }
    }

    /// How many timers have led, without time getting on, to a timer that a slot sets now.
    pub fn repeats(&mut self, slot: Slot, time: EventTime) -> u16 {
        let at_end = self.until == EventTime::MAX;
        if time > self.until || !at_end && self.times.last().is_some_and(|&latest| time > latest) {
            return 0;
        }
        let by_slot = self.by_slot.get_or_insert_with(|| {
            let mut by_slot = HashMap::new();
            for ((&slot, &time), entry) in self.slots.iter().zip(self.times).zip(self.entries) {
                let timer: &mut (EventTime, u16) = by_slot.entry(slot).or_insert((time, entry.repeats));
                *timer = (timer.0.max(time), timer.1.max(entry.repeats));
            }
            by_slot
        });
        match by_slot.get(&slot) {
            Some(&(fired, repeats)) if at_end || time <= fired => repeats + 1,
            _ => 0,
        }
    }
}
