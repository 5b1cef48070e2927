//! Session windows: a key's rows, until none came for a while.
//!
//! Each row is a session of its own, from its time until the gap has passed, and merges with those of its key that it intersects; their
//! accumulators are merged by the guest. Bounds are kept here and accumulators in slots; of an evicted session only the accumulator leaves. In the backend
//! a session is called after its start: when that changes, or the session is over, its entry goes.
//! Sessions are never aggregated before an exchange: a part of one might end while another one elsewhere goes on, so that they would have to be handed on
//! before time reaches their start.

use weir_state::{Clock, Created, Entries, NO_SLOT, Namespaces, Slot, SlotTable, Timers};
use weir_types::EventTime;
use weir_types::call::States;

use super::feed::Feed;
use super::grid::Span;
use super::intervals::{Intervals, NO_SESSION, NOT_STORED, Session, SessionId};
use super::policy::{Policy, Tally};
use super::round::{Round, renew_slots};
use super::turn::{PANES_PER_CALL_MAX, PaneList, Turn};
use crate::Error;
use crate::body::Body;
use crate::eviction::{Eviction, Note, Place};
use crate::progress::Progress;
use crate::snapshot::{self, Kind, Writer, corrupt};

/// Timers that are set well ahead are multiples of it.
const TIMER_GRID_MS: i64 = 16;

/// The state of all keys' sessions.
pub(super) struct Sessions {
    gap_ms: i64,
    /// whether entries stay in the backend when their sessions are brought back
    keeps_copies: bool,
    /// keys that have sessions, under the namespace 0
    table: SlotTable,
    intervals: Intervals,
    slots: SlotPool,
    /// looks at a session when its time has come, or before: a session that grows does not set its timer anew
    timers: Timers<SessionId>,
    /// sessions that have changed since they were emitted, some of which may be gone
    changed: Vec<SessionId>,
    /// sessions with something to do since time has advanced, the next one last
    due: Vec<SessionId>,
    /// sessions that are to be emitted early
    early: Vec<SessionId>,
    round: Round,
    /// slots that are free once the round is over
    freed: Vec<Slot>,
    /// entries of the backend that are of no use once the round is over
    obsolete: Vec<Place>,
    /// whether the backend was looked through for sessions
    is_restored: bool,
    keys: Vec<Slot>,
    created: Vec<Created>,
    found: Vec<SessionId>,
}

/// The guest's slots, and whose they are.
#[derive(Debug, Default)]
struct SlotPool {
    owners: Vec<SessionId>,
    free: Vec<Slot>,
    clock: Clock,
}

impl SlotPool {
    fn take(&mut self, owner: SessionId) -> Result<Slot, Error> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let next = Slot::try_from(self.owners.len()).ok().filter(|&slot| slot != NO_SLOT);
                self.owners.push(NO_SESSION);
                next.ok_or(weir_state::Error::SlotsExhausted)?
            }
        };
        self.owners[slot as usize] = owner;
        self.clock.insert(slot);
        Ok(slot)
    }

    fn give_back(&mut self, slot: Slot) {
        self.clock.remove(slot);
        self.free.push(slot);
    }
}

impl Sessions {
    pub fn new(gap_ms: i64, table: SlotTable, keeps_copies: bool) -> Self {
        Self {
            // Plans refuse gaps below 1.
            gap_ms: gap_ms.max(1),
            keeps_copies,
            table,
            intervals: Intervals::default(),
            slots: SlotPool::default(),
            timers: Timers::default(),
            changed: vec![],
            due: vec![],
            early: vec![],
            round: Round::default(),
            freed: vec![],
            obsolete: vec![],
            is_restored: false,
            keys: vec![],
            created: vec![],
            found: vec![],
        }
    }

    /// How many slots the guest holds.
    pub fn slots(&self) -> usize {
        self.slots.clock.len()
    }

    /// All slots, each with a slot of the table that has its key.
    pub fn live(&self) -> Vec<(Slot, Slot)> {
        self.intervals.iter().filter(|session| session.slot != NO_SLOT).map(|session| (session.slot, session.key)).collect()
    }

    pub fn table(&self) -> &SlotTable {
        &self.table
    }

    /// The time at which there is something to do next, or before.
    pub fn next_due(&mut self) -> Option<EventTime> {
        self.timers.next()
    }

    /// Takes a batch in.
    pub async fn add(&mut self, feed: &Feed<'_>, turn: &mut Turn<'_>) -> Result<(), Error> {
        self.table.assign(feed.len(), &feed.keys, Namespaces::Constant(0), &mut self.keys, &mut self.created)?;
        self.intervals.grow(self.table.slot_bound());
        let mut late = vec![];
        let keys = std::mem::take(&mut self.keys);
        for (row, &key) in keys.iter().enumerate() {
            // At the end of time, too, a session has a length: two without would not be seen to be one.
            let start = feed.times[row].min(EventTime::MAX - 1);
            let span = Span { start, end: start.saturating_add(self.gap_ms) };
            let after = self.intervals.intersecting(key, span, &mut self.found);
            if self.found.is_empty() && turn.policy.is_expired(span.end, turn.time) {
                late.push(row as u32);
                continue;
            }
            let found = self.found.iter().map(|&id| self.intervals.get(id).slot);
            if found.into_iter().any(|slot| slot != NO_SLOT && self.round.is_settled(slot)) {
                self.finish_round(feed, turn).await?;
            }
            let id = match self.found.last() {
                None => self.intervals.insert(key, span, after),
                Some(&oldest) => self.merge(oldest, span)?,
            };
            self.add_row(row, id, turn)?;
        }
        self.keys = keys;
        self.finish_round(feed, turn).await?;
        turn.set_aside(feed, &late)?;
        self.forget_keys_without_sessions(late.iter().map(|&row| self.keys[row as usize]).collect());
        let (table, owners, intervals) = (&self.table, &self.slots.owners, &self.intervals);
        let host_bytes = |slots: &[Slot]| {
            let keys = slots.iter().map(|&slot| intervals.get(owners[slot as usize]).key);
            table.bytes_per_slot(keys) + 2 * size_of::<Session>() as u64
        };
        turn.eviction
            .sample(turn.body, self.slots.clock.len(), self.slots.clock.sample(Eviction::SAMPLE_SLOTS), host_bytes)
            .await?;
        self.evict(turn).await
    }

    /// Merges the sessions in `found`, and a row's span, into the oldest of them.
    fn merge(&mut self, oldest: SessionId, span: Span) -> Result<SessionId, Error> {
        for i in 0..self.found.len() - 1 {
            let id = self.found[i];
            let mut source = *self.intervals.get(id);
            // What holds nothing needs no merging, except that an evicted accumulator has to be let go.
            if source.tally.filled {
                let into = self.slot(oldest)?;
                source.slot = self.slot(id)?;
                self.round.merge(into, source.slot);
                self.freed.push(source.slot);
            } else if source.slot != NO_SLOT {
                self.round.discard(source.slot);
                self.freed.push(source.slot);
            }
            self.timers.delete(source.timer, id);
            self.give_up_entry(id);
            self.intervals.remove(id);
            let target = self.intervals.get_mut(oldest);
            target.span.end = target.span.end.max(source.span.end);
            target.tally.merge(source.tally);
        }
        if span.start < self.intervals.get(oldest).span.start {
            // What was evicted is fetched from where it is.
            self.slot(oldest)?;
            self.give_up_entry(oldest);
        }
        let target = self.intervals.get_mut(oldest);
        target.span.start = target.span.start.min(span.start);
        target.span.end = target.span.end.max(span.end);
        Ok(oldest)
    }

    /// A session is no longer what the backend calls it: its entry, if there is one, goes with the round.
    fn give_up_entry(&mut self, id: SessionId) {
        let session = self.intervals.get_mut(id);
        let stored = std::mem::replace(&mut session.stored, NOT_STORED);
        if stored != NOT_STORED {
            self.obsolete.push(Place { key: session.key, namespace: stored });
        }
    }

    /// A row of a session, whose bounds are already right.
    fn add_row(&mut self, row: usize, id: SessionId, turn: &Turn<'_>) -> Result<(), Error> {
        let slot = self.slot(id)?;
        self.slots.clock.touch(slot);
        self.round.add(row as u32, slot);
        let session = self.intervals.get_mut(id);
        session.outdated = true;
        if turn.policy.early_every_ms.is_some() && !session.tally.changed {
            self.changed.push(id);
        }
        let full = turn.policy.add(&mut session.tally, 1);
        let past = Policy::is_past(session.span.end, turn.time);
        session.emitted = past;
        if full || past && turn.policy.on_time {
            self.round.emit(session.span, &[slot]);
            session.tally.changed = false;
            if turn.policy.purging {
                session.tally.filled = false;
                self.round.purge(slot, session.key);
            }
        }
        self.arm(id, turn);
        Ok(())
    }

    /// The slot of a session's accumulator; gets one if it has none.
    #[inline]
    fn slot(&mut self, id: SessionId) -> Result<Slot, Error> {
        match self.intervals.get(id).slot {
            NO_SLOT => self.open_slot(id),
            slot => Ok(slot),
        }
    }

    /// Gives a slot to a session's accumulator, which has none.
    #[cold]
    fn open_slot(&mut self, id: SessionId) -> Result<Slot, Error> {
        let session = self.intervals.get_mut(id);
        session.slot = self.slots.take(id)?;
        // An accumulator that is not here and holds rows was evicted.
        if session.tally.filled {
            self.round.restore(session.slot, Place { key: session.key, namespace: session.stored });
            if !self.keeps_copies {
                session.stored = NOT_STORED;
            }
        } else {
            self.round.assign(session.slot, session.key);
        }
        Ok(session.slot)
    }

    /// Sets the session's timer, unless it goes off in time as it is. Where there is time left, it goes off a little before: sessions that are due at about
    /// the same time then share an entry of the tree of timers, and most will have grown by then in any case.
    #[inline]
    fn arm(&mut self, id: SessionId, turn: &Turn<'_>) {
        let due = self.due(id, &turn.policy);
        let session = self.intervals.get_mut(id);
        if due < session.timer {
            if session.timer != EventTime::MAX {
                self.timers.delete(session.timer, id);
            }
            let before = due.saturating_sub(due.rem_euclid(TIMER_GRID_MS));
            session.timer = if before > turn.time { before } else { due };
            self.timers.set(session.timer, id);
        }
    }

    /// When there is something to do about a session.
    #[inline]
    fn due(&self, id: SessionId, policy: &Policy) -> EventTime {
        let session = self.intervals.get(id);
        match session.emitted {
            true => policy.expiry(session.span.end),
            false => session.span.end.saturating_sub(1),
        }
    }

    async fn finish_round(&mut self, feed: &Feed<'_>, turn: &mut Turn<'_>) -> Result<(), Error> {
        self.round.finish(feed, &self.table, turn).await?;
        self.freed.drain(..).for_each(|slot| self.slots.give_back(slot));
        if !self.obsolete.is_empty() {
            turn.eviction.drop_places(&self.table, &self.obsolete)?;
            self.obsolete.clear();
        }
        Ok(())
    }

    fn forget_keys_without_sessions(&mut self, mut keys: Vec<Slot>) {
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|&key| self.intervals.is_empty(key));
        self.table.remove(&keys);
    }

    /// Emits sessions that time has passed and drops those that have expired.
    pub async fn advance(&mut self, turn: &mut Turn<'_>) -> Result<Progress, Error> {
        if self.due.is_empty() {
            self.take_due(turn);
        }
        while !self.due.is_empty() {
            let step = self.due.split_off(self.due.len() - step_len(&self.due, turn));
            self.end(&step, turn).await?;
            self.evict(turn).await?;
            if turn.is_full() {
                return Ok(Progress::more_if(!self.due.is_empty()));
            }
        }
        Ok(Progress::Done)
    }

    /// Emits or drops sessions whose time has come.
    async fn end(&mut self, step: &[SessionId], turn: &mut Turn<'_>) -> Result<(), Error> {
        let emits = |&&id: &&SessionId| {
            let session = self.intervals.get(id);
            turn.policy.on_time && !session.emitted && session.tally.filled
        };
        // The next one is last.
        let emitted: Vec<SessionId> = step.iter().rev().filter(emits).copied().collect();
        let purges = turn.policy.purging;
        self.emit(&emitted, purges, turn).await?;
        let (mut cleared, mut keys, mut away) = (vec![], vec![], vec![]);
        for &id in step {
            let session = self.intervals.get_mut(id);
            (session.emitted, session.outdated) = (true, true);
            let session = *session;
            if !turn.policy.is_expired(session.span.end, turn.time) {
                self.arm(id, turn);
                continue;
            }
            if session.slot != NO_SLOT {
                cleared.push(session.slot);
            }
            if session.stored != NOT_STORED {
                away.push(Place { key: session.key, namespace: session.stored });
            }
            keys.push(session.key);
            self.intervals.remove(id);
        }
        if !away.is_empty() {
            turn.eviction.drop_places(&self.table, &away)?;
        }
        if !cleared.is_empty() {
            turn.body.clear_slots(&cleared).await?;
            cleared.iter().for_each(|&slot| self.slots.give_back(slot));
        }
        self.forget_keys_without_sessions(keys);
        Ok(())
    }

    /// Finds the sessions with something to do. Timers of the others are set anew: most of them have grown since.
    fn take_due(&mut self, turn: &Turn<'_>) {
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        self.timers.take_due(turn.time, usize::MAX, |_, id| found.push(id));
        for &id in &found {
            self.intervals.get_mut(id).timer = EventTime::MAX;
            if self.due(id, &turn.policy) <= turn.time {
                self.due.push(id);
            } else {
                self.arm(id, turn);
            }
        }
        self.found = found;
        self.due.sort_unstable_by_key(|&id| std::cmp::Reverse((self.intervals.get(id).span.end, id)));
    }

    /// It is time to emit those sessions to come that have changed.
    pub fn begin_early(&mut self, turn: &Turn<'_>) {
        let max_parallelism = turn.eviction.max_parallelism();
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable_by_key(|&id| std::cmp::Reverse(id));
        changed.dedup();
        changed.retain(|&id| {
            let Some(session) = self.intervals.find_mut(id) else { return false };
            let (key, end) = (session.key, session.span.end);
            let is_past =
                Policy::is_past(end, turn.time) || turn.clock.was_past(end, || self.table.key_group(key, max_parallelism));
            let emits = session.tally.changed && session.tally.filled && !is_past;
            (session.tally.changed, session.outdated) = (false, true);
            emits
        });
        self.early = changed;
    }

    /// Goes on with what [`begin_early`](Self::begin_early) has begun.
    pub async fn emit_early(&mut self, turn: &mut Turn<'_>) -> Result<Progress, Error> {
        while !self.early.is_empty() {
            let mut step = self.early.split_off(self.early.len() - step_len(&self.early, turn));
            step.reverse();
            self.emit(&step, turn.policy.purging, turn).await?;
            self.evict(turn).await?;
            if turn.is_full() {
                return Ok(Progress::more_if(!self.early.is_empty()));
            }
        }
        Ok(Progress::Done)
    }

    /// Emits sessions.
    async fn emit(&mut self, ids: &[SessionId], purges: bool, turn: &mut Turn<'_>) -> Result<(), Error> {
        for &id in ids {
            self.slot(id)?;
        }
        self.round.assign_slots(&self.table, turn).await?;
        let mut panes = PaneList::default();
        let mut purged = vec![];
        for &id in ids {
            let session = self.intervals.get_mut(id);
            panes.push(session.span, [session.slot]);
            (session.tally.changed, session.outdated) = (false, true);
            if purges {
                session.tally.filled = false;
                purged.push((session.slot, session.key));
            }
            if panes.is_full() {
                panes.emit(turn).await?;
            }
        }
        panes.emit(turn).await?;
        renew_slots(&purged, &self.table, turn).await
    }

    /// Evicts cold accumulators if there are too many.
    async fn evict(&mut self, turn: &mut Turn<'_>) -> Result<(), Error> {
        let surplus = turn.eviction.surplus(self.slots.clock.len());
        if surplus == 0 {
            return Ok(());
        }
        let mut cold = vec![];
        self.slots.clock.coldest(surplus, &mut cold);
        let owner = |slot: &Slot| self.slots.owners[*slot as usize];
        // What was purged is simply dropped.
        let (filled, empty): (Vec<Slot>, Vec<Slot>) = cold.into_iter().partition(|s| self.intervals.get(owner(s)).tally.filled);
        let session = |slot: &Slot| self.intervals.get(owner(slot));
        let places: Vec<_> = filled.iter().map(session).map(|s| Place { key: s.key, namespace: s.span.start }).collect();
        let note = |i: usize, _| session(&filled[i]).note();
        let is_current = |slot| !session(&slot).outdated;
        turn.eviction.put_away(turn.body, &self.table, &filled, &places, note, is_current, false).await?;
        if !empty.is_empty() {
            turn.body.clear_slots(&empty).await?;
        }
        for &slot in &filled {
            self.intervals.get_mut(self.slots.owners[slot as usize]).note_stored();
        }
        for slot in filled.into_iter().chain(empty) {
            self.intervals.get_mut(self.slots.owners[slot as usize]).slot = NO_SLOT;
            self.slots.give_back(slot);
        }
        Ok(())
    }
}

impl Sessions {
    /// Writes what is known of all keys, or what has changed of it.
    pub async fn snapshot(&mut self, body: &mut Body, eviction: &mut Eviction, out: &mut Writer) -> Result<(), Error> {
        let (mut fresh, mut here, mut away) = (vec![], vec![], vec![]);
        for id in self.intervals.ids().filter(|&id| !out.takes_changes() || self.intervals.get(id).outdated) {
            let session = self.intervals.get(id);
            match session.slot {
                // Its accumulator is fresh, wherever it is.
                _ if !session.tally.filled => fresh.push(id),
                NO_SLOT => away.push(id),
                slot => here.push(slot),
            }
        }
        let sessions = &*self;
        sessions.write(out, &fresh, &States::new(vec![0; fresh.len() + 1], vec![]));
        let owner = |slot: &Slot| sessions.slots.owners[*slot as usize];
        let write = |slots: &[Slot], states: &States| {
            sessions.write(out, &slots.iter().map(owner).collect::<Vec<_>>(), states);
        };
        eviction.export_each(body, &here, write).await?;
        for ids in away.chunks(eviction.slots_per_call()) {
            let place = |id| Place { key: sessions.intervals.get(id).key, namespace: sessions.intervals.get(id).stored };
            let places: Vec<_> = ids.iter().copied().map(place).collect();
            let found = eviction.read::<(Bounds, Tally)>(&sessions.table, &places)?;
            if found.found.len() != ids.len() {
                return Err(corrupt("the state of a session is gone"));
            }
            sessions.write(out, ids, &found.states);
        }
        if out.takes_changes() {
            let here: Vec<SessionId> = here.iter().map(owner).collect();
            fresh.into_iter().chain(here).chain(away).for_each(|id| self.intervals.get_mut(id).note_stored());
        }
        Ok(())
    }

    /// Writes sessions with their states.
    fn write(&self, out: &mut Writer, ids: &[SessionId], states: &States) {
        let session = |&id: &SessionId| self.intervals.get(id);
        let keys: Vec<Slot> = ids.iter().map(session).map(|session| session.key).collect();
        out.push_states(&self.table, &keys, states, |i| (session(&ids[i]).span.start, session(&ids[i]).note()));
    }

    /// Takes in the sessions of the databases that the backend was opened on, which are one by now; returns whether there are some that have changed since they
    /// were emitted.
    pub fn restore_database(&mut self, policy: &Policy, eviction: &mut Eviction) -> Result<bool, Error> {
        if !std::mem::replace(&mut self.is_restored, true) {
            let max_parallelism = eviction.max_parallelism();
            let (mut chunk, mut result) = (Entries::default(), Ok(()));
            eviction.scan(&mut |at, value| {
                // Accumulators stay where they are.
                let note = &value[..value.len().min(<(Bounds, Tally)>::BYTES)];
                chunk.push_parts(at.group, at.namespace, [&[Kind::State as u8], at.key], [note, &[]]);
                if chunk.len() >= PANES_PER_CALL_MAX && result.is_ok() {
                    result = self.restore_stored(&chunk, policy, max_parallelism);
                    chunk.clear();
                }
            })?;
            result?;
            self.restore_stored(&chunk, policy, max_parallelism)?;
        }
        Ok(!self.changed.is_empty())
    }

    fn restore_stored(&mut self, entries: &Entries, policy: &Policy, max_parallelism: u16) -> Result<(), Error> {
        let entries = snapshot::read(entries, &self.table, max_parallelism)?;
        self.reopen_all(&entries, policy, |session, _| session.note_stored())
    }

    /// Takes in entries of a snapshot; returns whether there are some that have changed since they were emitted.
    pub fn restore_entries(&mut self, entries: &Entries, policy: &Policy, eviction: &mut Eviction) -> Result<bool, Error> {
        let entries = snapshot::read(entries, &self.table, eviction.max_parallelism())?;
        let mut away = vec![];
        self.reopen_all(&entries, policy, |session, entry| {
            if session.tally.filled {
                away.push((entry.group, entry.namespace, entry.key, entry.value));
                session.note_stored();
            }
        })?;
        eviction.put_restored(away.into_iter())?;
        Ok(!self.changed.is_empty())
    }

    /// Opens sessions of a snapshot, and calls `each` with them and their entries.
    fn reopen_all<'a>(
        &mut self,
        entries: &[snapshot::Read<'a>],
        policy: &Policy,
        mut each: impl FnMut(&mut Session, &snapshot::Read<'a>),
    ) -> Result<(), Error> {
        for part in entries.chunks(PANES_PER_CALL_MAX) {
            let columns = self.table.decode_keys(part.iter().map(|entry| entry.key))?;
            self.table.assign(part.len(), &columns, Namespaces::Constant(0), &mut self.keys, &mut self.created)?;
            self.intervals.grow(self.table.slot_bound());
            for (i, entry) in part.iter().enumerate() {
                let id = self.reopen(entry, self.keys[i], policy)?;
                each(self.intervals.get_mut(id), entry);
            }
        }
        Ok(())
    }

    /// Opens a session of a snapshot.
    fn reopen(&mut self, entry: &snapshot::Read<'_>, key: Slot, policy: &Policy) -> Result<SessionId, Error> {
        let (Kind::State, Some(((bounds, tally), _))) = (entry.kind, <(Bounds, Tally)>::decode(entry.value)) else {
            return Err(corrupt("an entry is not one of a session"));
        };
        let span = Span { start: entry.namespace, end: bounds.end };
        let after = self.intervals.intersecting(key, span, &mut self.found);
        if span.start >= span.end || !self.found.is_empty() {
            return Err(corrupt("the sessions of a key overlap"));
        }
        let id = self.intervals.insert(key, span, after);
        let session = self.intervals.get_mut(id);
        session.emitted = bounds.emitted;
        session.tally = tally;
        if policy.early_every_ms.is_some() && tally.changed {
            self.changed.push(id);
        }
        let due = self.due(id, policy);
        self.intervals.get_mut(id).timer = due;
        self.timers.set(due, id);
        Ok(id)
    }
}

impl Session {
    /// What is kept with its state.
    fn note(&self) -> (Bounds, Tally) {
        (Bounds { end: self.span.end, emitted: self.emitted }, self.tally)
    }

    /// Notes that the backend has it as it is, or gets it.
    fn note_stored(&mut self) {
        (self.stored, self.outdated) = (self.span.start, false);
    }
}

/// What a snapshot says of a session, besides its start and its tally.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    end: EventTime,
    emitted: bool,
}

impl Note for Bounds {
    const BYTES: usize = 9;

    fn encode(self, out: &mut Vec<u8>) {
        out.extend(self.end.to_le_bytes());
        out.push(u8::from(self.emitted));
    }

    fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (end, rest) = bytes.split_first_chunk::<8>()?;
        let (emitted, rest) = rest.split_first()?;
        (*emitted < 2).then_some((Self { end: i64::from_le_bytes(*end), emitted: *emitted == 1 }, rest))
    }
}

/// How many of the sessions left are emitted at once, since their accumulators are all brought back for it.
fn step_len(left: &[SessionId], turn: &Turn<'_>) -> usize {
    left.len().min(turn.eviction.slots_max().unwrap_or(usize::MAX).min(PANES_PER_CALL_MAX))
}
