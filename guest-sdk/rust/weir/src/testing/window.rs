//! Windows as the host runs them, in the plainest way: a slot for each key and window, rows one by one.

use std::collections::BTreeMap;

use super::cell::Cell;
use super::node::{Chained, Clocks, Emitted, Row};
use crate::bindings::exports::weir::dataflow::chains::Panes;
use crate::bindings::exports::weir::dataflow::definition::{Assigner, TimeDomain, WindowHead};

/// The windows of a chain.
pub(super) struct Windows {
    head: WindowHead,
    open: BTreeMap<(Vec<Cell>, Span), Open>,
    /// slots that were cleared
    free: Vec<u32>,
    slots: u32,
}

/// From when to when a window goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    start: i64,
    end: i64,
}

/// A window that has rows.
struct Open {
    slot: u32,
    /// whether rows came since it was last emitted
    changed: bool,
    /// rows since the last emission by count
    count: u64,
    /// when it is emitted early
    early: i64,
}

impl Windows {
    pub fn new(head: WindowHead) -> Self {
        Self { head, open: BTreeMap::new(), free: vec![], slots: 0 }
    }

    /// The keys and their slots.
    pub fn slots(&self) -> impl Iterator<Item = (Vec<Cell>, u32)> {
        self.open.iter().map(|((key, _), window)| (key.clone(), window.slot))
    }

    fn time(&self, clocks: Clocks) -> i64 {
        if self.head.domain == TimeDomain::Event { clocks.watermark } else { clocks.now }
    }

    /// Rows for an input.
    pub fn rows(&mut self, chain: &mut Chained, port: usize, rows: &[Row], clocks: Clocks) -> Result<Vec<Emitted>, String> {
        let mut emitted = vec![];
        let mut late = vec![];
        for row in rows {
            let time = match self.head.domain {
                TimeDomain::Event => row.time.ok_or("a row has no event time, which its window needs")?,
                TimeDomain::Processing => clocks.now,
            };
            let key = chain.key(port, row);
            let mut spans = self.spans(time);
            spans.retain(|span| !self.is_over(*span, clocks));
            if spans.is_empty() {
                late.push(row.clone());
            }
            for span in spans {
                let span = self.merged(chain, &key, span)?;
                self.add(chain, port, row, &key, span, clocks, &mut emitted)?;
            }
        }
        // Rows that came late, but not too late, make their windows be emitted again.
        let due = self.due(clocks);
        emitted.extend(self.emit(chain, due, clocks)?);
        if let Some(late_port) = self.head.late_port
            && !late.is_empty()
        {
            emitted.push((late_port + port as u32, late));
        }
        Ok(emitted)
    }

    /// The windows of a row, before sessions are merged.
    fn spans(&self, time: i64) -> Vec<Span> {
        let sliding = |size: u64, slide: u64, offset: i64| {
            let (size, slide) = (size as i64, slide as i64);
            let last = time - (time - offset).rem_euclid(slide);
            let starts = (0..).map(|i| last - i * slide).take_while(|start| start + size > time);
            starts.map(|start| Span { start, end: start + size }).collect()
        };
        match self.head.assigner {
            Assigner::Tumbling(w) => sliding(w.size_ms, w.size_ms, w.offset_ms),
            Assigner::Sliding(w) => sliding(w.size_ms, w.slide_ms, w.offset_ms),
            Assigner::Session(gap) => vec![Span { start: time, end: time + gap as i64 }],
            Assigner::Global => vec![Span { start: i64::MIN, end: i64::MAX }],
        }
    }

    /// Whether a window takes no more rows.
    fn is_over(&self, span: Span, clocks: Clocks) -> bool {
        let lateness = if self.head.domain == TimeDomain::Event { self.head.allowed_lateness_ms } else { 0 };
        span.end != i64::MAX && (span.end - 1).saturating_add_unsigned(lateness) <= self.time(clocks)
    }

    /// The window that a session becomes with those that it overlaps; they are merged.
    fn merged(&mut self, chain: &mut Chained, key: &[Cell], span: Span) -> Result<Span, String> {
        if !matches!(self.head.assigner, Assigner::Session(_)) {
            return Ok(span);
        }
        let overlaps = |(k, s): &&(Vec<Cell>, Span)| k == key && s.start < span.end && span.start < s.end;
        let others: Vec<_> = self.open.keys().filter(overlaps).cloned().collect();
        let Some((first, rest)) = others.split_first() else { return Ok(span) };
        let whole = others.iter().fold(span, |a, (_, b)| Span { start: a.start.min(b.start), end: a.end.max(b.end) });
        let mut target = self.open.remove(first).expect("it was found there");
        for other in rest {
            let source = self.open.remove(other).expect("it was found there");
            chain.running()?.merge_slots(&target.slot.to_le_bytes(), &source.slot.to_le_bytes())?;
            self.clear(chain, source.slot)?;
            target.changed |= source.changed;
            target.count += source.count;
        }
        self.open.insert((key.to_vec(), whole), target);
        Ok(whole)
    }

    /// Adds a row to a window.
    #[allow(clippy::too_many_arguments)]
    fn add(
        &mut self,
        chain: &mut Chained,
        port: usize,
        row: &Row,
        key: &[Cell],
        span: Span,
        clocks: Clocks,
        emitted: &mut Vec<Emitted>,
    ) -> Result<(), String> {
        let id = (key.to_vec(), span);
        if !self.open.contains_key(&id) {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots += 1;
                self.slots - 1
            });
            chain.assign(slot, key)?;
            let early = clocks.now.saturating_add_unsigned(self.head.trigger.early_every_ms.unwrap_or_default());
            self.open.insert(id.clone(), Open { slot, changed: false, count: 0, early });
        }
        let window = self.open.get_mut(&id).expect("it was put there");
        window.changed = true;
        window.count += 1;
        let input = chain.input(port, std::slice::from_ref(row), window.slot.to_le_bytes().to_vec(), clocks)?;
        chain.running()?.accumulate(input)?;
        if self.head.trigger.every_count == Some(window.count) {
            window.count = 0;
            emitted.extend(self.emit(chain, vec![id], clocks)?);
        }
        Ok(())
    }

    /// The watermark or the clock has advanced.
    pub fn advance(&mut self, chain: &mut Chained, clocks: Clocks) -> Result<Vec<Emitted>, String> {
        let mut emitted = vec![];
        if let Some(interval) = self.head.trigger.early_every_ms {
            let early: Vec<_> = self.open.iter_mut().filter(|(_, w)| w.changed && w.early <= clocks.now).collect();
            let ids: Vec<_> = early.iter().map(|(id, _)| (*id).clone()).collect();
            early.into_iter().for_each(|(_, window)| window.early = clocks.now.saturating_add_unsigned(interval));
            emitted.extend(self.emit(chain, ids, clocks)?);
        }
        let due = self.due(clocks);
        emitted.extend(self.emit(chain, due, clocks)?);
        let over: Vec<_> = self.open.keys().filter(|(_, span)| self.is_over(*span, clocks)).cloned().collect();
        for id in over {
            let window = self.open.remove(&id).expect("it was found there");
            self.clear(chain, window.slot)?;
        }
        Ok(emitted)
    }

    /// The windows whose end has been passed, and that have not been emitted as they are; in the order of their ends.
    fn due(&self, clocks: Clocks) -> Vec<(Vec<Cell>, Span)> {
        if !self.head.trigger.on_time {
            return vec![];
        }
        let time = self.time(clocks);
        let is_due = |span: Span| span.end.saturating_sub(1) <= time && (span.end != i64::MAX || time == i64::MAX);
        let mut due: Vec<_> = self.open.iter().filter(|((_, s), w)| w.changed && is_due(*s)).map(|(id, _)| id.clone()).collect();
        due.sort_by_key(|(_, span)| span.end);
        due
    }

    /// Emits windows, and clears them if they are purged.
    fn emit(&mut self, chain: &mut Chained, ids: Vec<(Vec<Cell>, Span)>, clocks: Clocks) -> Result<Vec<Emitted>, String> {
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let slots: Vec<u32> = ids.iter().map(|id| self.open[id].slot).collect();
        let panes = Panes {
            groups: (0..=slots.len() as u32).flat_map(u32::to_le_bytes).collect(),
            slots: slots.iter().flat_map(|slot| slot.to_le_bytes()).collect(),
            starts: ids.iter().flat_map(|(_, span)| span.start.to_le_bytes()).collect(),
            ends: ids.iter().flat_map(|(_, span)| span.end.to_le_bytes()).collect(),
            watermark: clocks.watermark,
            now: clocks.now,
        };
        let reply = chain.running()?.emit(&panes)?;
        for id in &ids {
            self.open.get_mut(id).expect("its slot was found").changed = false;
            if self.head.trigger.purging {
                let window = self.open.remove(id).expect("its slot was found");
                self.clear(chain, window.slot)?;
            }
        }
        let origins: Vec<_> = ids.iter().map(|(_, s)| Row { cells: vec![], time: Some(s.end.saturating_sub(1)) }).collect();
        chain.assemble_all(reply.outputs, &origins)
    }

    fn clear(&mut self, chain: &mut Chained, slot: u32) -> Result<(), String> {
        self.free.push(slot);
        chain.running()?.clear_slots(&slot.to_le_bytes())
    }
}
