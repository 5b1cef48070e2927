//! The sessions of each key, as intervals that never overlap.
//!
//! A key's sessions form a list, latest first, that is linked through the sessions themselves: most keys have one session, rows come roughly
//! in order, and so a row looks at one session and seldom at a second. It is linked both ways, since sessions expire oldest first. Sessions
//! that only touch stay apart: a row at a session's end begins another one.

use weir_state::{NO_SLOT, Slot};
use weir_types::EventTime;

use super::grid::Span;
use super::policy::Tally;

/// A session's number; numbers are used again.
pub(super) type SessionId = u32;

/// What stands for "no session".
pub(super) const NO_SESSION: SessionId = SessionId::MAX;

/// What stands for "not in the backend": no session starts then.
pub(super) const NOT_STORED: EventTime = EventTime::MAX;

/// One session of one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub span: Span,
    /// the slot of the table that has the key
    pub key: Slot,
    /// the next earlier session of the key
    next: SessionId,
    /// the next later one
    previous: SessionId,
    /// where the accumulator is; [`NO_SLOT`] if it was evicted
    pub slot: Slot,
    /// when it is looked at next: at the latest when there is something to do
    pub timer: EventTime,
    /// whether it was emitted because time had passed it
    pub emitted: bool,
    pub tally: Tally,
    /// the start under which the backend has an entry of it, however old, or gets one; or [`NOT_STORED`]
    pub stored: EventTime,
    /// whether that entry is older than what is here, or missing
    pub outdated: bool,
}

/// The sessions of all keys.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    sessions: Vec<Session>,
    free: Vec<SessionId>,
    /// by slot of the key: its latest session
    latest: Vec<SessionId>,
}

impl Intervals {
    #[inline]
    pub fn get(&self, id: SessionId) -> &Session {
        &self.sessions[id as usize]
    }

    #[inline]
    pub fn get_mut(&mut self, id: SessionId) -> &mut Session {
        &mut self.sessions[id as usize]
    }

    /// Makes room for keys with slots below `bound`.
    pub fn grow(&mut self, bound: usize) {
        if bound > self.latest.len() {
            self.latest.resize(bound, NO_SESSION);
        }
    }

    /// Whether a key has no session.
    pub fn is_empty(&self, key: Slot) -> bool {
        self.latest[key as usize] == NO_SESSION
    }

    /// Writes the sessions of a key that intersect `span` to `found` (cleared first), the latest one first; returns the one after which,
    /// in the order of the list, a new session would stand.
    #[inline]
    pub fn intersecting(&self, key: Slot, span: Span, found: &mut Vec<SessionId>) -> SessionId {
        found.clear();
        let mut after = NO_SESSION;
        let mut id = self.latest[key as usize];
        while id != NO_SESSION {
            let session = &self.sessions[id as usize];
            if session.span.end <= span.start {
                break;
            }
            if session.span.start < span.end {
                found.push(id);
            } else {
                after = id;
            }
            id = session.next;
        }
        after
    }

    /// A new session of a key that intersects no other, in the list after `after`.
    pub fn insert(&mut self, key: Slot, span: Span, after: SessionId) -> SessionId {
        let next = match after {
            NO_SESSION => self.latest[key as usize],
            after => self.sessions[after as usize].next,
        };
        let id = self.add(Session {
            span,
            key,
            next,
            previous: after,
            slot: NO_SLOT,
            timer: EventTime::MAX,
            emitted: false,
            tally: Tally::default(),
            stored: NOT_STORED,
            outdated: true,
        });
        self.link(key, after, id);
        if next != NO_SESSION {
            self.sessions[next as usize].previous = id;
        }
        id
    }

    /// Makes `id` the one that follows `after` in the list of a key.
    fn link(&mut self, key: Slot, after: SessionId, id: SessionId) {
        match after {
            NO_SESSION => self.latest[key as usize] = id,
            after => self.sessions[after as usize].next = id,
        }
    }

    fn add(&mut self, session: Session) -> SessionId {
        match self.free.pop() {
            Some(id) => {
                self.sessions[id as usize] = session;
                id
            }
            None => {
                self.sessions.push(session);
                // A session takes more than 16 bytes, so that memory ends long before these numbers do.
                self.sessions.len() as SessionId - 1
            }
        }
    }

    /// Takes a session out of its key's list.
    pub fn remove(&mut self, id: SessionId) {
        let Session { key, next, previous, .. } = self.sessions[id as usize];
        self.link(key, previous, next);
        if next != NO_SESSION {
            self.sessions[next as usize].previous = previous;
        }
        self.sessions[id as usize].key = NO_SLOT;
        self.free.push(id);
    }

    /// All sessions.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().filter(|session| session.key != NO_SLOT)
    }

    /// The numbers of all sessions.
    pub fn ids(&self) -> impl Iterator<Item = SessionId> {
        (0..).zip(&self.sessions).filter(|(_, session)| session.key != NO_SLOT).map(|(id, _)| id)
    }

    /// A session that may be gone.
    pub fn find_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        Some(&mut self.sessions[id as usize]).filter(|session| session.key != NO_SLOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(intervals: &mut Intervals, start: EventTime, end: EventTime) -> Vec<Span> {
        let mut found = vec![];
        let span = Span { start, end };
        intervals.grow(1);
        let after = intervals.intersecting(0, span, &mut found);
        let merged = found.iter().map(|&id| intervals.get(id).span).collect();
        match found.last().copied() {
            None => {
                intervals.insert(0, span, after);
            }
            Some(oldest) => {
                let end = intervals.get(found[0]).span.end.max(end);
                let start = intervals.get(oldest).span.start.min(start);
                found[..found.len() - 1].iter().for_each(|&id| intervals.remove(id));
                intervals.get_mut(oldest).span = Span { start, end };
            }
        }
        merged
    }

    fn spans(intervals: &Intervals) -> Vec<(EventTime, EventTime)> {
        let mut all = vec![];
        let mut found = vec![];
        intervals.intersecting(0, Span { start: EventTime::MIN, end: EventTime::MAX }, &mut found);
        all.extend(found.iter().map(|&id| (intervals.get(id).span.start, intervals.get(id).span.end)));
        all
    }

    /// Intervals are found and kept in order, latest first, whatever the order in which they come; those that touch stay apart.
    #[test]
    fn stay_in_order() {
        let mut intervals = Intervals::default();
        for (start, end) in [(10, 15), (30, 35), (20, 25), (0, 5), (5, 10), (35, 40)] {
            assert!(add(&mut intervals, start, end).is_empty(), "{start} touches at most");
        }
        assert_eq!(spans(&intervals), [(35, 40), (30, 35), (20, 25), (10, 15), (5, 10), (0, 5)]);
        assert_eq!(add(&mut intervals, 24, 31), [Span { start: 30, end: 35 }, Span { start: 20, end: 25 }]);
        assert_eq!(spans(&intervals), [(35, 40), (20, 35), (10, 15), (5, 10), (0, 5)]);
        assert_eq!(add(&mut intervals, 12, 13).len(), 1);
        assert_eq!(intervals.iter().count(), 5);
    }

    /// Very many sessions of one key go one by one, oldest first, as they expire: one step each (this test would run for minutes if each took as
    /// many steps as there are sessions).
    #[test]
    fn expire_oldest_first() {
        const MANY: SessionId = 200_000;
        let mut intervals = Intervals::default();
        intervals.grow(1);
        let sessions: Vec<_> = (0..MANY)
            .map(|i| {
                let start = EventTime::from(i) * 10;
                intervals.insert(0, Span { start, end: start + 5 }, NO_SESSION)
            })
            .collect();
        sessions.iter().skip(1).for_each(|&id| intervals.remove(id));
        assert_eq!(spans(&intervals), [(0, 5)]);
        intervals.remove(sessions[0]);
        assert!(intervals.is_empty(0));
    }
}
