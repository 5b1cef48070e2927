//! Windows as the Dataflow model defines them: every window keeps its rows in a list, and every row is handled by itself.

use weir_types::EventTime;
use weir_types::graph::{Assigner, TimeDomain, Window};

/// A result, as both sides tell it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pane {
    pub key: i64,
    pub start: EventTime,
    pub end: EventTime,
    /// the ids of its rows
    pub rows: String,
}

/// A window of a key that has rows.
#[derive(Clone, Debug)]
struct Open {
    key: i64,
    start: EventTime,
    end: EventTime,
    rows: Vec<u32>,
    since_full: u64,
    changed: bool,
}

/// The model.
pub struct Reference {
    window: Window,
    open: Vec<Open>,
    time: EventTime,
    early: Option<EventTime>,
    /// what was emitted
    pub panes: Vec<Pane>,
    /// ids of late rows
    pub late: Vec<u32>,
}

impl Reference {
    pub fn new(window: Window) -> Self {
        Self { window, open: vec![], time: EventTime::MIN, early: None, panes: vec![], late: vec![] }
    }

    fn is_past(&self, end: EventTime) -> bool {
        end - 1 <= self.time
    }

    fn is_expired(&self, end: EventTime) -> bool {
        (end - 1).saturating_add(self.window.allowed_lateness_ms) <= self.time
    }

    fn windows_of(&self, time: EventTime) -> Vec<(EventTime, EventTime)> {
        let starts = |size: i64, slide: i64, offset: i64| {
            let starts = (time - size + 1..=time).filter(move |s| (s - offset).rem_euclid(slide) == 0);
            starts.map(|start| (start, start + size)).collect()
        };
        match self.window.assigner {
            Assigner::Tumbling { size_ms, offset_ms } => starts(size_ms, size_ms, offset_ms),
            Assigner::Sliding { size_ms, slide_ms, offset_ms } => starts(size_ms, slide_ms, offset_ms),
            Assigner::Global => vec![(EventTime::MIN, EventTime::MAX)],
            Assigner::Session { gap_ms } => vec![(time, time + gap_ms)],
        }
    }

    /// A row comes.
    pub fn row(&mut self, key: i64, time: EventTime, id: u32, now: EventTime) {
        let time = match self.window.domain {
            TimeDomain::Event => time,
            TimeDomain::Processing => now.max(self.time.saturating_add(1)),
        };
        if let (Some(every), None) = (self.window.trigger.early_every_ms, self.early) {
            let every = every as i64;
            self.early = Some((now.div_euclid(every) + 1) * every);
        }
        let windows = self.windows_of(time);
        let mut live = vec![];
        for &(start, end) in &windows {
            let merges = matches!(self.window.assigner, Assigner::Session { .. });
            let joins = |o: &Open| o.key == key && if merges { o.start < end && start < o.end } else { o.start == start };
            let (joined, rest): (Vec<Open>, Vec<Open>) = std::mem::take(&mut self.open).into_iter().partition(joins);
            self.open = rest;
            if joined.is_empty() && self.is_expired(end) {
                continue;
            }
            let new = Open { key, start, end, rows: vec![], since_full: 0, changed: false };
            live.push(joined.into_iter().fold(new, |a, b| Open {
                start: a.start.min(b.start),
                end: a.end.max(b.end),
                rows: [a.rows, b.rows].concat(),
                since_full: a.since_full + b.since_full,
                ..a
            }));
        }
        if live.is_empty() && !windows.is_empty() {
            self.late.push(id);
        }
        for mut window in live {
            window.rows.push(id);
            window.changed = true;
            window.since_full += 1;
            let full = self.window.trigger.every_count.is_some_and(|count| window.since_full >= count);
            if full {
                window.since_full = 0;
            }
            if full || self.window.trigger.on_time && self.is_past(window.end) {
                self.emit(&mut window);
            }
            self.open.push(window);
        }
    }

    fn emit(&mut self, window: &mut Open) {
        if !window.rows.is_empty() {
            window.rows.sort_unstable();
            let rows = window.rows.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            self.panes.push(Pane { key: window.key, start: window.start, end: window.end, rows });
        }
        window.changed = false;
        if self.window.trigger.purging {
            window.rows.clear();
        }
    }

    fn emit_where(&mut self, wanted: impl Fn(&Self, &Open) -> bool) {
        let mut open = std::mem::take(&mut self.open);
        for window in &mut open {
            if wanted(self, window) {
                self.emit(window);
            }
        }
        self.open = open;
    }

    fn advance(&mut self, time: EventTime) {
        let before = self.time;
        if time > before {
            self.time = time;
            self.emit_where(|this, o| this.window.trigger.on_time && o.end - 1 > before && this.is_past(o.end));
            let kept = std::mem::take(&mut self.open).into_iter().filter(|o| !self.is_expired(o.end)).collect();
            self.open = kept;
        }
    }

    /// The watermark advances.
    pub fn watermark(&mut self, watermark: EventTime) {
        if self.window.domain == TimeDomain::Event || watermark == EventTime::MAX {
            self.advance(watermark);
        }
    }

    /// The clock advances.
    pub fn clock(&mut self, now: EventTime) {
        if self.window.domain == TimeDomain::Processing {
            self.advance(now - 1);
        }
        if self.early.is_some_and(|early| early <= now) {
            self.early = None;
            self.emit_where(|this, o| !this.is_past(o.end) && o.changed);
        }
    }
}
