//! What goes into and comes out of one call of a chain. `wit/chains.wit` says what each part means.
//!
//! The same types serve a guest and a native chain, so that operators do not know which one they drive.

use arrow_array::{ArrayRef, UInt32Array};
use arrow_buffer::ScalarBuffer;

use crate::graph::TimeDomain;
use crate::time::EventTime;

/// A number that stands for a key's (or a key's and window's) state in the guest's memory.
pub type Slot = u32;

/// Rows for `process` or `accumulate`.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// which input of the chain
    pub port: u32,
    /// which split of the source, where the chain assigns event times
    pub split: u32,
    /// the number of rows
    pub rows: usize,
    /// the columns that the guest reads, in the order of the input's `columns`
    pub columns: &'a [ArrayRef],
    /// event times, if the guest reads them
    pub times: Option<&'a [EventTime]>,
    /// the slot of each row, if the input is keyed
    pub slots: Option<&'a [Slot]>,
    /// the watermark before these rows
    pub watermark: EventTime,
    /// processing time, ms
    pub now: EventTime,
}

/// Windows to emit.
#[derive(Clone, Copy, Debug)]
pub struct Panes<'a> {
    /// pane i is made of `slots[groups[i]..groups[i + 1]]`
    pub groups: &'a [u32],
    /// slots of all panes
    pub slots: &'a [Slot],
    /// the windows' starts
    pub starts: &'a [EventTime],
    /// the windows' ends
    pub ends: &'a [EventTime],
    /// the current watermark
    pub watermark: EventTime,
    /// processing time, ms
    pub now: EventTime,
}

/// Timers that are due.
#[derive(Clone, Copy, Debug)]
pub struct DueTimers<'a> {
    /// the slot of each timer
    pub slots: &'a [Slot],
    /// the time of each timer
    pub times: &'a [EventTime],
    /// which clock
    pub domain: TimeDomain,
    /// whether they are for a cleanup instead of the user's function
    pub cleanup: bool,
    /// the current watermark
    pub watermark: EventTime,
    /// processing time, ms
    pub now: EventTime,
}

/// From which input row (pane, timer) each output row comes.
#[derive(Clone, Debug)]
pub enum Origins {
    /// row i from row i
    Identity,
    /// by index; every index was checked against the number of input rows
    Picked(UInt32Array),
}

/// Rows for one output port, checked against the port's schema.
#[derive(Clone, Debug)]
pub struct Output {
    /// which port
    pub port: u32,
    /// the number of rows
    pub rows: usize,
    /// where they come from
    pub origins: Origins,
    /// event times that the chain assigned
    pub times: Option<ScalarBuffer<EventTime>>,
    /// the computed columns, in schema order
    pub columns: Vec<ArrayRef>,
}

/// A timer to set or delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// whose
    pub slot: Slot,
    /// which clock
    pub domain: TimeDomain,
    /// when
    pub time: EventTime,
    /// delete instead of set
    pub delete: bool,
    /// whether it is for a cleanup instead of the user's function
    pub cleanup: bool,
}

/// What a call brought forth.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// rows by port
    pub outputs: Vec<Output>,
    /// timers in the order of the user's calls
    pub timers: Vec<Timer>,
    /// greatest event time, or the new watermark, where the chain assigns event times
    pub progress: Option<EventTime>,
    /// rows of the input that came too late
    pub late: u32,
}

/// Encoded state of slots: slot i's is `bytes[offsets[i]..offsets[i + 1]]`. Checked: offsets start at 0, never go back, and end at
/// the length of `bytes`.
#[derive(Clone, Debug, Default)]
pub struct States {
    /// one more than there are slots
    pub offsets: Vec<u32>,
    /// all states, one after another
    pub bytes: Vec<u8>,
    /// of exported ones: when they expire, if any does
    pub expiries: Option<Expiries>,
}

/// When states expire as a whole. Checked: all lists are as long as there are slots, and no state has ended before its cleanup.
#[derive(Clone, Debug)]
pub struct Expiries {
    /// by which clock the slot's state does
    pub domains: Vec<TimeDomain>,
    /// when the timer for the slot's cleanup is due
    pub cleanups: Vec<EventTime>,
    /// when all of the slot's state has expired; the greatest time = never
    pub ends: Vec<EventTime>,
}

impl Expiries {
    /// By which clock the state of one of the slots expires, when it is cleaned up, and when all of it has expired. None if it never does.
    #[inline]
    pub fn get(&self, index: usize) -> Option<(TimeDomain, EventTime, EventTime)> {
        let end = self.ends[index];
        (end < EventTime::MAX).then(|| (self.domains[index], self.cleanups[index], end))
    }
}

impl States {
    /// States that do not expire.
    pub fn new(offsets: Vec<u32>, bytes: Vec<u8>) -> Self {
        Self { offsets, bytes, expiries: None }
    }

    /// None yet.
    pub fn none() -> Self {
        Self::new(vec![0], vec![])
    }

    /// The state of each slot, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.offsets.windows(2).map(|range| &self.bytes[range[0] as usize..range[1] as usize])
    }

    /// The state of one of the slots.
    ///
    /// # Panics
    /// If there are not so many.
    #[inline]
    pub fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }
}
