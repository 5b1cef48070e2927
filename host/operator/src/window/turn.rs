//! What the parts of the window operator have at hand while it handles one batch, watermark or tick.

use arrow_array::UInt32Array;
use weir_types::EventTime;
use weir_types::call::{Panes, Slot};

use super::clock::WindowClock;
use super::feed::Feed;
use super::grid::Span;
use super::policy::Policy;
use crate::Error;
use crate::body::Body;
use crate::context::Context;
use crate::emission::{Emission, Emitted, Source};
use crate::eviction::Eviction;

/// Panes that go to the guest in one call, and partial accumulators in one batch; it bounds the size of the batches that come out. So many are made
/// before what they are has to go on.
pub(super) const PANES_PER_CALL_MAX: usize = 4096;

/// The surroundings of one call of the operator.
pub(super) struct Turn<'a> {
    pub body: &'a mut Body,
    pub emission: &'a Emission,
    pub context: &'a mut Context,
    pub out: &'a mut Vec<Emitted>,
    pub policy: Policy,
    pub clock: &'a WindowClock,
    /// the time for the keys at hand
    pub time: EventTime,
    pub eviction: &'a mut Eviction,
    /// panes and partial accumulators that were emitted
    pub emitted: usize,
    pub late_port: Option<usize>,
    pub late_rows: &'a mut u64,
}

impl Turn<'_> {
    /// Whether so much was emitted that it should go on before more is.
    pub fn is_full(&self) -> bool {
        self.emitted >= PANES_PER_CALL_MAX
    }

    /// Counts rows that came too late, and hands them on if there is a port for them.
    pub fn set_aside(&mut self, feed: &Feed<'_>, rows: &[u32]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        *self.late_rows += rows.iter().map(|&row| feed.weight(row as usize)).sum::<u64>();
        if let Some(first) = self.late_port {
            let late = feed.batch.take(&UInt32Array::from(rows.to_vec()))?;
            self.out.push(self.emission.relay(first + feed.port, &late)?);
        }
        Ok(())
    }
}

/// Panes that are collected to be emitted.
#[derive(Debug)]
pub(super) struct PaneList {
    groups: Vec<u32>,
    slots: Vec<Slot>,
    starts: Vec<EventTime>,
    ends: Vec<EventTime>,
}

impl Default for PaneList {
    fn default() -> Self {
        Self { groups: vec![0], slots: vec![], starts: vec![], ends: vec![] }
    }
}

impl PaneList {
    /// Adds a pane that is made of these slots, all of one key.
    pub fn push(&mut self, window: Span, slots: impl IntoIterator<Item = Slot>) {
        self.slots.extend(slots);
        self.groups.push(self.slots.len() as u32);
        self.starts.push(window.start);
        self.ends.push(window.end);
    }

    pub fn is_full(&self) -> bool {
        self.starts.len() >= PANES_PER_CALL_MAX
    }

    /// Emits the panes and forgets them.
    pub async fn emit(&mut self, turn: &mut Turn<'_>) -> Result<(), Error> {
        if self.starts.is_empty() {
            return Ok(());
        }
        let panes = Panes {
            groups: &self.groups,
            slots: &self.slots,
            starts: &self.starts,
            ends: &self.ends,
            watermark: turn.context.watermark.0,
            now: turn.context.now,
        };
        let reply = turn.body.emit(panes).await?;
        turn.emitted += self.starts.len();
        turn.context.note_progress(reply.progress);
        let times: Vec<EventTime> = self.ends.iter().map(|end| end.saturating_sub(1)).collect();
        turn.emission.assemble(&Source::Times(&times), reply.outputs, turn.out)?;
        self.groups.truncate(1);
        self.slots.clear();
        self.starts.clear();
        self.ends.clear();
        Ok(())
    }
}
