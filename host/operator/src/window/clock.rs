//! The clock of a window: how far time has come, by which windows are emitted and rows are late.
//!
//! All keys of a subtask go by one time. But one that takes over keys of several subtasks finds that these were not equally far: at an unaligned barrier, and in
//! processing time. It begins where the one that was furthest behind was, so that no row in flight becomes late, and no window is passed over. The keys of the
//! others are *ahead* for a while: until time has caught up with them, their windows are those that their own subtask had not emitted yet, and rows that it would
//! have found late are late.
//!
//! At the end of the input all windows are emitted. Who goes on from there has more to read (the job was drained, or has finished, and another one starts from its
//! savepoint): its time begins anew, and a window may be emitted again, with the rows that are new.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_types::{EventTime, KeyGroup, KeyGroupRange, Watermark};

use super::policy::Policy;
use crate::Error;
use crate::snapshot::{Predecessor, corrupt};

/// What the scalars of a snapshot call the progress of the clock, and which keys are ahead of it.
const TIME: &str = "time";
const AHEAD: &str = "ahead";

/// How far time has come.
#[derive(Debug)]
pub(super) struct WindowClock {
    /// the watermark, or the last moment of processing time that is over
    time: EventTime,
    /// the time for keys of each key group, where it is later; empty if no keys are ahead
    ahead: Vec<EventTime>,
}

impl Default for WindowClock {
    fn default() -> Self {
        Self { time: EventTime::MIN, ahead: vec![] }
    }
}

impl WindowClock {
    /// The time that has come for all keys.
    pub fn time(&self) -> EventTime {
        self.time
    }

    /// Goes on, never back.
    pub fn advance(&mut self, time: EventTime) {
        self.time = self.time.max(time);
    }

    /// All windows that time has passed are emitted: who is not ahead of it now, is as all others are.
    pub fn settle(&mut self) {
        if self.ahead.iter().all(|&ahead| ahead <= self.time) {
            self.ahead = vec![];
        }
    }

    /// Whether the keys of some groups are ahead.
    pub fn is_uneven(&self) -> bool {
        !self.ahead.is_empty()
    }

    fn ahead_of(&self, KeyGroup(group): KeyGroup) -> EventTime {
        self.ahead.get(usize::from(group)).copied().unwrap_or(EventTime::MIN)
    }

    /// Whether a window that ends then was past for a key before its subtask took it over. The key's group is only asked for if that can be.
    pub fn was_past(&self, end: EventTime, group: impl FnOnce() -> KeyGroup) -> bool {
        self.is_uneven() && Policy::is_past(end, self.ahead_of(group()))
    }

    /// Rows, whose keys are of these groups, by the time for them; those of a key stay in their order.
    pub fn part(&self, groups: impl Iterator<Item = KeyGroup>) -> BTreeMap<EventTime, Vec<u32>> {
        let mut parts: BTreeMap<EventTime, Vec<u32>> = BTreeMap::new();
        for (row, group) in groups.enumerate() {
            parts.entry(self.time.max(self.ahead_of(group))).or_default().push(row as u32);
        }
        parts
    }

    /// Adds it to the scalars of a snapshot, as if it had come to `time`.
    pub fn save(&self, time: EventTime, scalars: &mut Value) {
        scalars[TIME] = time.into();
        let mut start = 0;
        let mut runs = vec![];
        for run in self.ahead.chunk_by(|a, b| a == b) {
            let end = start + run.len();
            if run[0] > time {
                runs.push(json!([start, end, run[0]]));
            }
            start = end;
        }
        if !runs.is_empty() {
            scalars[AHEAD] = runs.into();
        }
    }

    /// Goes on where these were, unless that was the end.
    ///
    /// # Errors
    /// If their scalars do not say where that is.
    pub fn restore(&mut self, predecessors: &[Predecessor<'_>]) -> Result<(), Error> {
        let saved: Vec<(KeyGroupRange, Saved)> =
            predecessors.iter().map(|of| Ok((of.groups, Saved::of(of.scalars)?))).collect::<Result<_, Error>>()?;
        let Some(least) = saved.iter().map(|(_, saved)| saved.time).min() else { return Ok(()) };
        *self = Self { time: least, ahead: vec![] };
        for (own, saved) in saved {
            self.put_ahead(own, saved.time);
            for (groups, time) in saved.ahead {
                self.put_ahead(groups.intersection(own), time);
            }
        }
        Ok(())
    }

    fn put_ahead(&mut self, groups: KeyGroupRange, time: EventTime) {
        if time <= self.time || groups.is_empty() {
            return;
        }
        let (start, end) = (usize::from(groups.start), usize::from(groups.end));
        self.ahead.resize(self.ahead.len().max(end), EventTime::MIN);
        for ahead in &mut self.ahead[start..end] {
            *ahead = time.max(*ahead);
        }
    }
}

/// What [`WindowClock::save`] has added to scalars.
struct Saved {
    time: EventTime,
    ahead: Vec<(KeyGroupRange, EventTime)>,
}

impl Saved {
    fn of(scalars: &Value) -> Result<Self, Error> {
        let time = scalars.get(TIME).and_then(Value::as_i64).ok_or_else(|| corrupt("it has no time"))?;
        let group = |of: &Value, index: usize| u16::try_from(of.get(index)?.as_u64()?).ok();
        let resumed = |time| Watermark(time).resumed().0;
        let run = |of: &Value| Some((KeyGroupRange { start: group(of, 0)?, end: group(of, 1)? }, resumed(of.get(2)?.as_i64()?)));
        let ahead = match scalars.get(AHEAD) {
            None => Some(vec![]),
            Some(runs) => runs.as_array().and_then(|runs| runs.iter().map(run).collect()),
        };
        let ahead = ahead.ok_or_else(|| corrupt("it does not say which keys are ahead of its time"))?;
        Ok(Self { time: resumed(time), ahead })
    }
}
