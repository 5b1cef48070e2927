//! Windows as the host runs them, in the plainest way: a slot for each key and window, rows one by one.
//!
//! *Time* here is the progress of the windows' own clock. A window is *past* once time has reached its last moment, and *expired* once the allowed lateness
//! has passed as well; between the two, each row emits it anew.

use std::collections::BTreeMap;

use super::cell::Cell;
use super::node::{Chained, Clocks, Emitted, Row};
use crate::bindings::exports::weir::dataflow::chains::{Input, Panes};
use crate::bindings::exports::weir::dataflow::definition::{Assigner, TimeDomain, WindowHead};

/// The windows of a chain.
pub(super) struct Windows {
    head: WindowHead,
    open: BTreeMap<Id, Open>,
    /// slots that were cleared
    free: Vec<u32>,
    slots: u32,
    /// the watermark, or the last moment of processing time that is over
    time: i64,
    /// when changed windows are emitted early
    early: Option<i64>,
}

/// A window of a key.
type Id = (Vec<Cell>, Span);

/// From when to when a window goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    start: i64,
    end: i64,
}

/// A window that has got rows and has not expired.
struct Open {
    slot: u32,
    /// whether rows came since it was last emitted
    changed: bool,
    /// whether there are rows that were not purged
    filled: bool,
    /// rows since the last emission by count
    count: u64,
}

impl Windows {
    pub fn new(head: WindowHead) -> Self {
        Self { head, open: BTreeMap::new(), free: vec![], slots: 0, time: i64::MIN, early: None }
    }

    /// The keys and their slots.
    pub fn slots(&self) -> impl Iterator<Item = (Vec<Cell>, u32)> {
        self.open.iter().map(|((key, _), window)| (key.clone(), window.slot))
    }

    /// Rows for an input.
    pub fn rows(&mut self, chain: &mut Chained, port: usize, rows: &[Row], clocks: Clocks) -> Result<Vec<Emitted>, String> {
        let (mut emitted, mut late) = (vec![], vec![]);
        if !rows.is_empty() && self.early.is_none() {
            self.early = self.next_early(clocks.now);
        }
        for row in rows {
            let time = match self.head.domain {
                TimeDomain::Event => row.time.ok_or("a row has no event time, which its window needs")?,
                // Rows belong to a moment that is not over.
                TimeDomain::Processing => clocks.now.max(self.time.saturating_add(1)),
            };
            let key = chain.key(port, row);
            let mut is_late = true;
            for span in self.spans(time) {
                let met = self.met(&key, span);
                // A row that meets a session is as late as that one.
                if met.is_empty() && self.is_expired(span) {
                    continue;
                }
                is_late = false;
                let input = |chain: &Chained, slot: u32| {
                    chain.input(port, std::slice::from_ref(row), slot.to_le_bytes().to_vec(), clocks)
                };
                let (id, emits) = self.add(chain, &key, span, &met, input)?;
                if emits {
                    emitted.extend(self.emit(chain, &[id], clocks)?);
                }
            }
            if is_late {
                late.push(row.clone());
            }
        }
        if let Some(late_port) = self.head.late_port
            && !late.is_empty()
        {
            emitted.push((late_port + port as u32, late));
        }
        Ok(emitted)
    }

    /// The next moment at which changed windows are emitted early: on a grid that does not depend on when rows came.
    fn next_early(&self, now: i64) -> Option<i64> {
        let every = self.head.trigger.early_every_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX))?;
        Some(now.div_euclid(every).saturating_add(1).saturating_mul(every))
    }

    /// The windows of a row, before sessions are merged.
    fn spans(&self, time: i64) -> Vec<Span> {
        match self.head.assigner {
            Assigner::Tumbling(w) => sliding(time, w.size_ms, w.size_ms, w.offset_ms),
            Assigner::Sliding(w) => sliding(time, w.size_ms, w.slide_ms, w.offset_ms),
            Assigner::Session(gap) => {
                // At the end of time, too, a session has a length.
                let start = time.min(i64::MAX - 1);
                vec![Span { start, end: start.saturating_add_unsigned(gap) }]
            }
            Assigner::Global => vec![Span { start: i64::MIN, end: i64::MAX }],
        }
    }

    /// The windows of a key that a row goes into, or that it joins, the earliest first.
    fn met(&self, key: &[Cell], span: Span) -> Vec<Id> {
        let is_session = matches!(self.head.assigner, Assigner::Session(_));
        let meets = |other: Span| if is_session { other.start < span.end && span.start < other.end } else { other == span };
        self.open.keys().filter(|(k, other)| k == key && meets(*other)).cloned().collect()
    }

    /// Whether time has reached a window's last moment.
    fn is_past(&self, span: Span) -> bool {
        span.end.saturating_sub(1) <= self.time
    }

    /// Whether a window takes no more rows.
    fn is_expired(&self, span: Span) -> bool {
        span.end.saturating_sub(1).saturating_add_unsigned(self.head.allowed_lateness_ms) <= self.time
    }

    /// Adds a row to the earliest of the windows that it meets, or to a new one, and merges the others into it. Returns the window, and whether the row
    /// emits it.
    fn add(
        &mut self,
        chain: &mut Chained,
        key: &[Cell],
        span: Span,
        met: &[Id],
        input: impl FnOnce(&Chained, u32) -> Result<Input, String>,
    ) -> Result<(Id, bool), String> {
        let slot = match met.first() {
            Some(first) => self.open[first].slot,
            None => self.open_slot(chain, key)?,
        };
        let input = input(chain, slot)?;
        chain.running()?.accumulate(input)?;
        let mut window = Open { slot, changed: true, filled: true, count: 1 };
        let mut whole = span;
        // As at the host, the latest is merged first.
        for other in met.iter().rev() {
            let source = self.open.remove(other).expect("it was found there");
            whole = Span { start: whole.start.min(other.1.start), end: whole.end.max(other.1.end) };
            window.count += source.count;
            if source.slot == slot {
                continue;
            }
            if source.filled {
                chain.running()?.merge_slots(&slot.to_le_bytes(), &source.slot.to_le_bytes())?;
            }
            self.clear(chain, source.slot)?;
        }
        let is_full = self.head.trigger.every_count.is_some_and(|count| window.count >= count);
        if is_full {
            window.count = 0;
        }
        let id = (key.to_vec(), whole);
        self.open.insert(id.clone(), window);
        Ok((id, is_full || self.head.trigger.on_time && self.is_past(whole)))
    }

    /// The watermark or the clock has advanced.
    pub fn advance(&mut self, chain: &mut Chained, clocks: Clocks) -> Result<Vec<Emitted>, String> {
        let time = match self.head.domain {
            TimeDomain::Event => clocks.watermark,
            // At the end of the input no window waits for the clock.
            TimeDomain::Processing if clocks.watermark == i64::MAX => i64::MAX,
            // Rows may still come in this very millisecond.
            TimeDomain::Processing => clocks.now.saturating_sub(1),
        };
        let mut emitted = if time > self.time { self.advance_to(time, chain, clocks)? } else { vec![] };
        if self.early.is_some_and(|early| early <= clocks.now) {
            self.early = None;
            let changed = self.ids(|span, window| window.changed && window.filled && !self.is_past(span));
            emitted.extend(self.emit(chain, &changed, clocks)?);
        }
        Ok(emitted)
    }

    /// Emits windows that time passes now, in the order of their ends, and drops those that expire.
    fn advance_to(&mut self, time: i64, chain: &mut Chained, clocks: Clocks) -> Result<Vec<Emitted>, String> {
        let before = std::mem::replace(&mut self.time, time);
        let on_time = self.head.trigger.on_time;
        let was_past = |span: Span| span.end.saturating_sub(1) <= before;
        let mut due = self.ids(|span, window| on_time && window.filled && !was_past(span) && self.is_past(span));
        due.sort_by_key(|(_, span)| span.end);
        let emitted = self.emit(chain, &due, clocks)?;
        for id in self.ids(|span, _| self.is_expired(span)) {
            let window = self.open.remove(&id).expect("it was found there");
            self.clear(chain, window.slot)?;
        }
        Ok(emitted)
    }

    /// The windows of which this holds.
    fn ids(&self, holds: impl Fn(Span, &Open) -> bool) -> Vec<Id> {
        self.open.iter().filter(|((_, span), window)| holds(*span, window)).map(|(id, _)| id.clone()).collect()
    }

    /// Emits windows, and drops the rows of those that are purged: the windows stay.
    fn emit(&mut self, chain: &mut Chained, ids: &[Id], clocks: Clocks) -> Result<Vec<Emitted>, String> {
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
        for id in ids {
            let window = self.open.get_mut(id).expect("its slot was found");
            window.changed = false;
            if self.head.trigger.purging {
                window.filled = false;
                chain.running()?.clear_slots(&window.slot.to_le_bytes())?;
                chain.assign(window.slot, &id.0)?;
            }
        }
        let origins: Vec<_> = ids.iter().map(|(_, s)| Row { cells: vec![], time: Some(s.end.saturating_sub(1)) }).collect();
        chain.assemble_all(reply.outputs, &origins)
    }

    /// A slot for a key's new window.
    fn open_slot(&mut self, chain: &mut Chained, key: &[Cell]) -> Result<u32, String> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        chain.assign(slot, key)?;
        Ok(slot)
    }

    fn clear(&mut self, chain: &mut Chained, slot: u32) -> Result<(), String> {
        self.free.push(slot);
        chain.running()?.clear_slots(&slot.to_le_bytes())
    }
}

/// The windows of one length that a time is in, the earliest first; bounds beyond the range of time stop at its ends.
fn sliding(time: i64, size: u64, slide: u64, offset: i64) -> Vec<Span> {
    let (time, size, slide) = (i128::from(time), i128::from(size), i128::from(slide));
    let last = time - (time - i128::from(offset)).rem_euclid(slide);
    let starts = (0..).map(|i| last - i * slide).take_while(|start| start + size > time);
    let saturate = |time: i128| time.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
    let mut spans: Vec<_> = starts.map(|start| Span { start: saturate(start), end: saturate(start + size) }).collect();
    spans.reverse();
    spans
}
