//! Moves the state of slots: from the guest to the state backend where there is too much of it, back when their keys return, and into the guest's new
//! instance when the old one is replaced.
//!
//! How much is too much is said in slots, in bytes, or both. What a slot weighs is measured: by every export, and by a sample of slots now and then, since
//! state that never moves would never be weighed. All moves go in pieces, so that neither a call's reply nor the guest's memory has to hold them at once.
//!
//! Where the backend *keeps copies*, what is brought back stays there, too, and what has changed in slots is written over it at every barrier. So it has all
//! state then, and a checkpoint costs what has changed. Between barriers its entries of what is in slots are old, and nobody looks at them; when a key or a
//! window is over, its entry has to go. What has not changed since the last barrier need not be written again to be evicted.
//!
//! State of a process function may *expire*: its entry says so, and the backend drops it then (see `weir_state::expiry`).

use std::ops::Range;

use weir_state::rocks::{KeyScan, Stats};
use weir_state::{Clocks, Expiry, NO_SLOT, Namespaces, Slot, SlotTable, StateBackend, StateKey, expiry};
use weir_types::call::States;
use weir_types::{KeyGroup, KeyGroupRange};

use crate::Error;
use crate::body::Body;
use crate::chain::Parts;
use crate::process::far::{self, Far, FarTimer};
use crate::snapshot::Changes;

/// What a slot is taken to weigh before one was seen, bytes.
const SLOT_BYTES: u64 = 256;

/// What a slot weighs in the guest besides its encoded state: its share of arrays, and of allocations; bytes.
const GUEST_OVERHEAD_BYTES: u64 = 48;

/// What a slot is taken to weigh in the host before its table was looked at, bytes.
const HOST_BYTES: u64 = 64;

/// About how many bytes of state one call moves, at least and at most: far below what a call may return, since not all slots weigh the same.
const BYTES_PER_CALL: std::ops::RangeInclusive<usize> = 64 << 10..=8 << 20;

/// The share of the guest's memory that one call moves: there must be room for it besides what is there.
const MEMORY_PARTS: usize = 64;

/// The most slots that one call moves.
const SLOTS_PER_CALL_MAX: u64 = 64 << 10;

/// The part of the bytes that slots may weigh which may be taken to know evicted keys by.
const FILTERS_PART: u64 = 4;

/// The operator's number in its backend: it has one of its own, whatever its number in the plan is.
pub(crate) const OPERATOR: u32 = 0;

/// Under which numbers the backend has the operator's timers that are far off, by sort, as `snapshot::Kind` numbers them.
pub(crate) const TIMERS: [u32; 4] = [1, 2, 3, 4];

/// The part of its slots, or of its memory, that the guest may be given rows for before cold slots leave.
const STEP_PART: usize = 8;

/// Rows that it may be given all the same: a call costs as much as some hundred rows do.
const STEP_ROWS_MIN: usize = 256;

/// Slots whose weight tells that of all.
const SAMPLE_SLOTS: usize = 64;

/// Batches between two samples, once it has begun.
const BATCHES_PER_SAMPLE: u64 = 64;

/// The slot under which a guest keeps the state of an operator that has some besides that of its keys (see `wit/chains.wit`).
pub const OPERATOR_STATE: Slot = Slot::MAX;

/// What an operator keeps with a slot's state in the backend.
pub(crate) trait Note: Copy {
    /// The most bytes that [`encode`](Self::encode) writes.
    const BYTES: usize;
    /// Whether it is kept if there is no state besides.
    const ALONE: bool = true;
    /// Writes it.
    fn encode(self, out: &mut Vec<u8>);
    /// Reads it; returns it and the bytes after it. None if they are not those of one.
    fn decode(bytes: &[u8]) -> Option<(Self, &[u8])>;
}

/// When the state expires, if it does.
impl Note for Option<Expiry> {
    const BYTES: usize = expiry::BYTES_MAX;
    const ALONE: bool = false;
    #[inline]
    fn encode(self, out: &mut Vec<u8>) {
        expiry::encode(self, out);
    }
    fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        expiry::decode(bytes)
    }
}

/// When one of these exported states expires, if it does.
pub(crate) fn expiry_of(states: &States, index: usize) -> Option<Expiry> {
    let (domain, first, last) = states.expiries.as_ref()?.get(index)?;
    Some(Expiry { domain, first, last })
}

impl<A: Note, B: Note> Note for (A, B) {
    const BYTES: usize = A::BYTES + B::BYTES;
    fn encode(self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
    fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (a, rest) = A::decode(bytes)?;
        let (b, rest) = B::decode(rest)?;
        Some(((a, b), rest))
    }
}

/// Names the state of one slot in the backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// a slot of the table whose key it is
    pub key: Slot,
    pub namespace: i64,
}

impl Place {
    /// Where a table's own slot goes.
    pub fn of(table: &SlotTable, slot: Slot) -> Self {
        Self { key: slot, namespace: table.namespace(slot) }
    }
}

/// Entries taken from the backend.
#[derive(Debug)]
pub(crate) struct Taken<N> {
    /// which of the places that were asked for had an entry
    pub found: Vec<usize>,
    pub notes: Vec<N>,
    pub states: States,
}

impl<N: Note> Taken<N> {
    fn new() -> Self {
        Self { found: vec![], notes: vec![], states: States::none() }
    }

    /// Adds an entry; false if its bytes are not those of one.
    fn push(&mut self, place: usize, value: &[u8]) -> bool {
        let Some((note, state)) = N::decode(value) else { return false };
        self.states.bytes.extend_from_slice(state);
        let Ok(end) = u32::try_from(self.states.bytes.len()) else { return false };
        self.states.offsets.push(end);
        self.found.push(place);
        self.notes.push(note);
        true
    }

    fn checked(self, intact: bool) -> Result<Self, Error> {
        match intact {
            true => Ok(self),
            false => Err(weir_state::Error::Corrupt("the state of a key is cut short, or larger than 4 GiB".into()).into()),
        }
    }
}

/// What slots weigh on average, the latest ones counting most.
#[derive(Debug)]
struct Weight {
    bytes: u64,
    slots: u64,
    /// whether any slot was weighed
    is_known: bool,
}

impl Weight {
    /// Slots that are remembered.
    const SLOTS_MAX: u64 = 1024;

    /// A guess, until slots are weighed.
    fn unknown() -> Self {
        Self { bytes: 16 * SLOT_BYTES, slots: 16, is_known: false }
    }

    fn note(&mut self, states: &States) {
        self.note_slots(states.offsets.len() as u64 - 1, states.bytes.len() as u64);
    }

    fn note_slots(&mut self, slots: u64, bytes: u64) {
        self.is_known |= slots > 0;
        self.slots += slots;
        self.bytes += bytes;
        while self.slots > Self::SLOTS_MAX {
            self.slots /= 2;
            self.bytes /= 2;
        }
    }

    fn per_slot(&self) -> u64 {
        (self.bytes / self.slots.max(1)).max(1)
    }
}

/// The limit on what the guest holds, and where the rest is.
pub(crate) struct Eviction {
    backend: Box<dyn StateBackend>,
    /// whether entries stay in the backend when they are brought back
    keeps_copies: bool,
    max_parallelism: u16,
    /// slots that the guest may hold between two batches
    slots_max: Option<usize>,
    /// bytes that they may weigh
    bytes_max: Option<u64>,
    weight: Weight,
    /// what a slot weighs besides its encoded state
    overhead: u64,
    /// what is taken to know evicted keys by
    filter_bytes: u64,
    /// of those that may be done with
    spent_weight: Weight,
    bytes_per_call: u64,
    batches: u64,
    /// rows of the last step
    step_rows: usize,
    /// what the guest's memory was when `slots_max` was last set by it, bytes
    fitted: Option<usize>,
    /// slots that were moved to the backend
    moved: u64,
}

impl Eviction {
    /// Takes the body out of `parts`, too.
    pub fn new(parts: Parts) -> (Self, Body) {
        let (least, most) = BYTES_PER_CALL.into_inner();
        let bytes_per_call = (parts.body.memory_bytes_max() / MEMORY_PARTS).clamp(least, most) as u64;
        let eviction = Self {
            keeps_copies: parts.backend.keeps_copies(),
            backend: parts.backend,
            max_parallelism: parts.max_parallelism,
            slots_max: parts.slots_max,
            bytes_max: parts.bytes_max,
            weight: Weight::unknown(),
            overhead: GUEST_OVERHEAD_BYTES + HOST_BYTES,
            filter_bytes: 0,
            spent_weight: Weight::unknown(),
            bytes_per_call,
            batches: 0,
            step_rows: 0,
            fitted: None,
            moved: 0,
        };
        (eviction, parts.body)
    }

    /// The room that the backend takes, about, in bytes.
    pub fn backend_bytes(&self) -> u64 {
        self.backend.bytes() as u64
    }

    /// Figures of the backend's database, if it has one.
    pub fn database(&self) -> Option<Stats> {
        self.backend.database()
    }

    /// How many slots were moved to the backend.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    pub fn max_parallelism(&self) -> u16 {
        self.max_parallelism
    }

    /// How many slots the guest may hold between two batches, as far as is known of their weight; none = as many as its memory holds.
    pub fn slots_max(&self) -> Option<usize> {
        let per_slot = self.weight.per_slot() + self.overhead;
        let by_bytes = self.bytes_max.map(|bytes| bytes.saturating_sub(self.filter_bytes) / per_slot);
        let by_bytes = by_bytes.map(|slots| usize::try_from(slots).unwrap_or(usize::MAX));
        self.slots_max.into_iter().chain(by_bytes).min().map(|max| max.max(1))
    }

    /// How many slots have to leave: so many that not every batch has to evict.
    pub fn surplus(&self, slots: usize) -> usize {
        match self.slots_max() {
            Some(max) if slots > max => slots - (max - max / 8),
            _ => 0,
        }
    }

    /// How many slots are moved by one call.
    pub fn slots_per_call(&self) -> usize {
        match self.weight.is_known {
            true => (self.bytes_per_call / self.weight.per_slot()).clamp(1, SLOTS_PER_CALL_MAX) as usize,
            false => SAMPLE_SLOTS,
        }
    }

    /// Keeps what `table` takes to know evicted keys by within its part of the limit.
    pub fn limit_filters(&self, table: &mut SlotTable) {
        if let Some(bytes) = self.bytes_max {
            table.limit_filters(usize::try_from(bytes / FILTERS_PART).unwrap_or(usize::MAX));
        }
    }

    /// Notes what is taken to know evicted keys by: slots get so much less.
    pub fn note_filters(&mut self, table: &SlotTable) {
        self.filter_bytes = table.filter_bytes() as u64;
    }

    /// How many of so many rows (`rows`) the guest may be given before cold slots leave, while it holds so many of them (`held`). Each may make one: if nobody
    /// has set a limit, and what leaves goes to a disk, those of a step may take an eighth of its memory, by what they or those of the last step take now.
    pub fn step(&mut self, body: &Body, held: usize, rows: usize) -> usize {
        let most = match self.slots_max() {
            Some(max) => max / STEP_PART,
            None if self.keeps_copies => {
                let bytes = body.memory_bytes() / held.max(self.step_rows).max(1);
                body.memory_bytes_max() / STEP_PART / bytes.max(1)
            }
            None => return rows,
        };
        self.step_rows = rows.min(most.max(STEP_ROWS_MIN));
        self.step_rows
    }

    /// Once a step, where nobody has said how many slots there may be, and what leaves goes to a disk: once half of the guest's memory is taken, there are no more
    /// than there are then, and fewer whenever it has grown by an eighth of its limit since. The rest is for batches, and for arrays that double.
    fn fit(&mut self, body: &Body, held: usize) {
        let is_free = self.fitted.is_some() || self.slots_max.is_none();
        if !is_free || !self.keeps_copies || held == 0 {
            return;
        }
        let bytes = body.memory_bytes();
        if self.fitted.is_some_and(|fitted| bytes < fitted) {
            // The instance was replaced: what had filled it may not have been slots.
            (self.slots_max, self.fitted) = (None, None);
        }
        match self.fitted {
            None if body.is_half_full() => self.slots_max = Some(held),
            Some(fitted) if bytes > fitted + body.memory_bytes_max() / STEP_PART => {
                self.slots_max = self.slots_max.map(|max| held.min(max) / 4 * 3);
            }
            None | Some(_) => return,
        }
        self.fitted = Some(bytes);
    }

    /// Once a step, of so many slots (`held`) that the guest holds: sets a limit if one is needed, and weighs some of `slots`, if their weight matters and it is
    /// time to. `host_bytes` is what the host's tables take for each of them.
    pub async fn sample(
        &mut self,
        body: &mut Body,
        held: usize,
        slots: impl Iterator<Item = Slot>,
        host_bytes: impl FnOnce(&[Slot]) -> u64,
    ) -> Result<(), Error> {
        self.fit(body, held);
        self.batches += 1;
        if self.bytes_max.is_none() || !(self.batches.is_power_of_two() || self.batches.is_multiple_of(BATCHES_PER_SAMPLE)) {
            return Ok(());
        }
        let slots: Vec<Slot> = slots.take(SAMPLE_SLOTS).collect();
        self.overhead = GUEST_OVERHEAD_BYTES + host_bytes(&slots);
        for slots in slots.chunks(self.slots_per_call()) {
            self.export(body, slots).await?;
        }
        Ok(())
    }

    /// How many slots [`sample`](Self::sample) wants.
    pub const SAMPLE_SLOTS: usize = SAMPLE_SLOTS;

    /// The state of slots, which is weighed.
    pub async fn export(&mut self, body: &mut Body, slots: &[Slot]) -> Result<States, Error> {
        let states = body.export_slots(slots).await?;
        self.weight.note(&states);
        Ok(states)
    }

    /// Calls `each` with the slots and their states, which are exported in pieces. For a snapshot: nothing is moved.
    pub async fn export_each(
        &mut self,
        body: &mut Body,
        slots: &[Slot],
        mut each: impl FnMut(&[Slot], &States),
    ) -> Result<(), Error> {
        let mut rest = slots;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(self.slots_per_call().min(rest.len()));
            each(part, &self.export(body, part).await?);
            rest = after;
        }
        Ok(())
    }

    /// Calls `each` with all that the backend has of the operator.
    pub fn scan(&mut self, each: &mut dyn FnMut(StateKey<'_>, &[u8])) -> Result<(), Error> {
        Ok(self.backend.scan(self.groups(), OPERATOR, None, each)?)
    }

    /// Calls `each` with all that the backend has of the operator in a key group.
    pub fn scan_group(&mut self, group: KeyGroup, each: &mut dyn FnMut(StateKey<'_>, &[u8])) -> Result<(), Error> {
        Ok(self.backend.scan(KeyGroupRange { start: group.0, end: group.0 + 1 }, OPERATOR, None, each)?)
    }

    /// To read the keys that the backend has of the operator in a namespace on another thread. None if it cannot be done.
    pub fn scan_keys(&self, namespace: i64) -> Option<KeyScan> {
        self.backend.keys(self.groups(), OPERATOR, namespace)
    }

    /// What has expired by these clocks is gone from the backend.
    pub fn expire(&mut self, clocks: Clocks) {
        self.backend.expire(OPERATOR, clocks);
    }

    /// Whether entries stay in the backend when they are brought back.
    pub fn keeps_copies(&self) -> bool {
        self.keeps_copies
    }

    /// At a barrier: begins a checkpoint of the backend, which wants to know what has changed in slots. None if it keeps no copies.
    pub fn begin_checkpoint(&mut self) -> Result<Option<Changes>, Error> {
        if self.keeps_copies { Ok(self.backend.begin_checkpoint()?.map(Changes::new)) } else { Ok(None) }
    }

    /// Whether the backend holds anything back until it has all that has changed. As long as it does, it cannot be gone through before that.
    pub fn holds_any(&self) -> bool {
        self.backend.holds_any()
    }

    /// Whether that is as much as it may be.
    pub fn holds_much(&self) -> bool {
        self.backend.holds_much()
    }

    /// Puts entries of a snapshot into the backend: group, namespace, key and value of each. They are weighed, so that it is known how many of them a
    /// call brings back.
    pub fn put_restored<'a>(&mut self, entries: impl Iterator<Item = (KeyGroup, i64, &'a [u8], &'a [u8])>) -> Result<(), Error> {
        let weight = &mut self.weight;
        let mut entries = entries.map(|(group, namespace, key, value)| {
            weight.note_slots(1, value.len() as u64);
            (StateKey { group, operator: OPERATOR, namespace, key }, value)
        });
        Ok(self.backend.put(&mut entries)?)
    }

    /// Gives slots the states that were taken for them, in pieces: after a restore these may be those of all keys.
    pub async fn import(&mut self, body: &mut Body, slots: &[Slot], states: &States) -> Result<(), Error> {
        let most = self.slots_per_call();
        if slots.len() <= most {
            return body.import_slots(slots, states).await;
        }
        for (i, part) in slots.chunks(most).enumerate() {
            let offsets = &states.offsets[i * most..=i * most + part.len()];
            let (start, end) = (offsets[0], offsets[part.len()]);
            let bytes = states.bytes[start as usize..end as usize].to_vec();
            let states = States::new(offsets.iter().map(|offset| offset - start).collect(), bytes);
            body.import_slots(part, &states).await?;
        }
        Ok(())
    }

    /// Those of these slots whose state is fresh. What the others weigh is not noted: these are slots that may be done with, and speak for no others.
    pub async fn fresh(&mut self, body: &mut Body, slots: &[Slot]) -> Result<Vec<Slot>, Error> {
        let mut fresh = vec![];
        let mut rest = slots;
        while !rest.is_empty() {
            let most = (self.bytes_per_call / self.spent_weight.per_slot()).clamp(1, SLOTS_PER_CALL_MAX) as usize;
            let (slots, after) = rest.split_at(most.min(rest.len()));
            let states = body.export_slots(slots).await?;
            self.spent_weight.note(&states);
            fresh.extend(slots.iter().zip(states.iter()).filter(|(_, state)| state.is_empty()).map(|(slot, _)| slot));
            rest = after;
        }
        Ok(fresh)
    }

    fn groups(&self) -> KeyGroupRange {
        KeyGroupRange { start: 0, end: self.max_parallelism }
    }

    /// The steps in which so many entries are to be brought back: ranges of key groups, of about half of the limit each. None if there is nothing to
    /// bring back.
    pub fn steps(&self, evicted: u64) -> Vec<KeyGroupRange> {
        let groups = u64::from(self.max_parallelism);
        let most = self.slots_max().map_or(u64::MAX, |max| max as u64);
        let steps = evicted.div_ceil((most / 2).max(1)).min(groups);
        let bound = |step: u64| (groups * step / steps) as u16;
        (0..steps).map(|step| KeyGroupRange { start: bound(step), end: bound(step + 1) }).collect()
    }

    /// The pieces in which so many entries in these key groups are to be brought back, as far as one call takes no more of them.
    pub fn pieces(&self, evicted: u64, groups: KeyGroupRange) -> impl Iterator<Item = KeyGroupRange> + use<> {
        let all = u64::from(groups.end.saturating_sub(groups.start));
        let pieces = evicted.div_ceil(self.slots_per_call() as u64).min(all);
        let bound = move |piece: u64| groups.start + (all * piece / pieces) as u16;
        (0..pieces).map(move |piece| KeyGroupRange { start: bound(piece), end: bound(piece + 1) })
    }

    /// Moves slots from the guest to the backend: exports their state, keeps it at `places` with what `note` makes of a slot's index and expiry, and clears them.
    /// `is_current` tells of which
    /// the backend has what they are, once the last checkpoint has come to its end. Returns for each slot whether there is an entry of it: where `drops_empty`,
    /// a slot without any state is not kept.
    #[expect(clippy::too_many_arguments, reason = "what is moved, and what is known of it")]
    pub async fn put_away<N: Note>(
        &mut self,
        body: &mut Body,
        table: &SlotTable,
        slots: &[Slot],
        places: &[Place],
        mut note: impl FnMut(usize, Option<Expiry>) -> N,
        is_current: impl Fn(Slot) -> bool,
        drops_empty: bool,
    ) -> Result<Vec<bool>, Error> {
        let mut kept = Vec::with_capacity(slots.len());
        let mut rest = (slots, places);
        while !rest.0.is_empty() {
            let count = self.slots_per_call().min(rest.0.len());
            let ((slots, slots_after), (places, places_after)) = (rest.0.split_at(count), rest.1.split_at(count));
            let states = self.export(body, slots).await?;
            // Where entries are only ever in one place, nothing is won by having them expire there.
            let expiry = |i| if self.keeps_copies { expiry_of(&states, i) } else { None };
            let notes: Vec<N> = (0..count).map(|i| note(kept.len() + i, expiry(i))).collect();
            // What was written at the last barrier and has not changed since is there already, once that has come to its end.
            let any_current = self.keeps_copies && self.backend.has_changes()?;
            let is_wanted = |i: usize| !(drops_empty && states.get(i).is_empty() || any_current && is_current(slots[i]));
            self.put(table, places, &notes, &states, is_wanted)?;
            if drops_empty && self.keeps_copies {
                let empty = slots.iter().zip(states.iter()).filter(|(_, state)| state.is_empty());
                let empty: Vec<Slot> = empty.map(|(&slot, _)| slot).collect();
                self.drop_copies(table, &empty)?;
            }
            self.moved += slots.len() as u64;
            kept.extend(states.iter().map(|state| !state.is_empty() || !drops_empty));
            body.clear_slots(slots).await?;
            rest = (slots_after, places_after);
        }
        Ok(kept)
    }

    /// Brings back what the backend has of a table's own slots, which the guest knows already. Returns the slots of which it had something, and the notes
    /// with their state.
    pub async fn bring_back<N: Note>(
        &mut self,
        body: &mut Body,
        table: &mut SlotTable,
        slots: &[Slot],
    ) -> Result<(Vec<Slot>, Vec<N>), Error> {
        let (mut found, mut notes) = (vec![], vec![]);
        for slots in slots.chunks(self.slots_per_call()) {
            let places: Vec<_> = slots.iter().map(|&slot| Place::of(table, slot)).collect();
            let taken = self.take::<N>(table, &places)?;
            if taken.found.is_empty() {
                continue;
            }
            let back: Vec<Slot> = taken.found.iter().map(|&i| slots[i]).collect();
            self.note_back(table, &back);
            body.import_slots(&back, &taken.states).await?;
            found.extend(back);
            notes.extend(taken.notes);
        }
        Ok((found, notes))
    }

    /// Notes that these slots have what the backend had of them.
    pub fn note_back(&self, table: &mut SlotTable, slots: &[Slot]) {
        table.restored(slots);
        if self.keeps_copies {
            table.mark_copied(slots);
        }
    }

    /// Replaces the guest's instance and moves what it holds: `live` are its slots, each with a slot of the table that has its key; where `own`, the
    /// operator has state besides. If what is left still nears the limit of the guest's memory, and state may be evicted, less of it is to
    /// stay from now on.
    pub async fn renew(&mut self, body: &mut Body, table: &SlotTable, live: &[(Slot, Slot)], own: bool) -> Result<(), Error> {
        let mut moved = vec![];
        let mut rest = live;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(self.slots_per_call().min(rest.len()));
            let slots: Vec<Slot> = part.iter().map(|(slot, _)| *slot).collect();
            let states = self.export(body, &slots).await?;
            moved.push((slots, part, states));
            rest = after;
        }
        let own = if own { Some(body.export_slots(&[OPERATOR_STATE]).await?) } else { None };
        body.renew().await?;
        if let Some(states) = own {
            body.import_slots(&[OPERATOR_STATE], &states).await?;
        }
        for (slots, part, states) in moved {
            let keys: Vec<Slot> = part.iter().map(|(_, key)| *key).collect();
            body.assign_slots(&slots, &table.key_columns(&keys)?).await?;
            body.import_slots(&slots, &states).await?;
        }
        if body.settle() && self.slots_max().is_some() {
            let half = live.len() as u64 * (self.weight.per_slot() + self.overhead) / 2;
            self.bytes_max = Some(self.bytes_max.map_or(half, |max| max.min(half)));
        }
        Ok(())
    }

    /// The keys of `places` as bytes, one after another, and where each ends.
    fn key_bytes(table: &SlotTable, places: &[Place]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::with_capacity(places.len() * table.key_length(places.iter().map(|place| place.key)));
        let mut ends = Vec::with_capacity(places.len() + 1);
        ends.push(0);
        for place in places {
            table.key_bytes(place.key, &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn keys<'a>(
        &self,
        table: &'a SlotTable,
        places: &'a [Place],
        bytes: &'a [u8],
        ends: &'a [usize],
    ) -> impl Iterator<Item = StateKey<'a>> + use<'a> {
        let max_parallelism = self.max_parallelism;
        places.iter().zip(ends.windows(2)).map(move |(place, range)| StateKey {
            group: table.key_group(place.key, max_parallelism),
            operator: OPERATOR,
            namespace: place.namespace,
            key: &bytes[range[0]..range[1]],
        })
    }

    /// Writes the states of those `places` that are wanted.
    fn put<N: Note>(
        &mut self,
        table: &SlotTable,
        places: &[Place],
        notes: &[N],
        states: &States,
        is_wanted: impl Fn(usize) -> bool,
    ) -> Result<(), Error> {
        let mut wanted = vec![];
        let mut values = Vec::with_capacity(states.bytes.len() + places.len() * N::BYTES);
        let mut value_ends = vec![0];
        for i in (0..places.len()).filter(|&i| is_wanted(i)) {
            notes[i].encode(&mut values);
            values.extend_from_slice(states.get(i));
            value_ends.push(values.len());
            wanted.push(places[i]);
        }
        let (bytes, ends) = Self::key_bytes(table, &wanted);
        let values = value_ends.windows(2).map(|range| &values[range[0]..range[1]]);
        let mut entries = self.keys(table, &wanted, &bytes, &ends).zip(values);
        Ok(self.backend.put(&mut entries)?)
    }

    /// Takes those of `places` that are in the backend, and in no slot, out of it.
    pub fn take<N: Note>(&mut self, table: &SlotTable, places: &[Place]) -> Result<Taken<N>, Error> {
        let taken = self.read(table, places)?;
        if !self.keeps_copies {
            let found: Vec<_> = taken.found.iter().map(|&place| places[place]).collect();
            self.drop_places(table, &found)?;
        }
        Ok(taken)
    }

    /// What the backend has of `places`.
    pub fn read<N: Note>(&mut self, table: &SlotTable, places: &[Place]) -> Result<Taken<N>, Error> {
        let (bytes, ends) = Self::key_bytes(table, places);
        let keys: Vec<_> = self.keys(table, places, &bytes, &ends).collect();
        let (mut taken, mut intact) = (Taken::new(), true);
        self.backend.get(&keys, &mut |place, value| intact &= taken.push(place, value))?;
        let taken = taken.checked(intact)?;
        self.weight.note(&taken.states);
        Ok(taken)
    }

    /// Takes the entries of a namespace in these key groups that are in no slot out of the backend, with the bytes of their keys.
    pub fn take_namespace<N: Note>(
        &mut self,
        table: &mut SlotTable,
        namespace: i64,
        groups: KeyGroupRange,
    ) -> Result<(Vec<Vec<u8>>, Taken<N>), Error> {
        let (mut keys, mut taken, mut intact) = (vec![], Taken::new(), true);
        let mut each = |at: StateKey<'_>, value: &[u8]| {
            intact &= taken.push(keys.len(), value);
            keys.push(at.key.to_vec());
        };
        self.backend.scan(groups, OPERATOR, Some(namespace), &mut each)?;
        let taken = taken.checked(intact)?;
        self.weight.note(&taken.states);
        if self.keeps_copies {
            return Self::without_resident(table, namespace, keys, taken);
        }
        self.backend.delete_all(groups, OPERATOR, Some(namespace))?;
        Ok((keys, taken))
    }

    /// Leaves out entries whose keys have slots: what these hold is newer.
    fn without_resident<N: Note>(
        table: &mut SlotTable,
        namespace: i64,
        mut keys: Vec<Vec<u8>>,
        taken: Taken<N>,
    ) -> Result<(Vec<Vec<u8>>, Taken<N>), Error> {
        let mut slots = vec![];
        let columns = table.decode_keys(keys.iter().map(|key| &key[..]))?;
        table.find(keys.len(), &columns, Namespaces::Constant(namespace), &mut slots)?;
        if slots.iter().all(|&slot| slot == NO_SLOT) {
            return Ok((keys, taken));
        }
        let mut rest = Taken::new();
        for (i, state) in taken.states.iter().enumerate().filter(|(i, _)| slots[*i] == NO_SLOT) {
            rest.states.bytes.extend_from_slice(state);
            // No more than there was.
            rest.states.offsets.push(rest.states.bytes.len() as u32);
            rest.found.push(rest.found.len());
            rest.notes.push(taken.notes[i]);
        }
        let mut is_away = slots.iter().map(|&slot| slot == NO_SLOT);
        keys.retain(|_| is_away.next().unwrap_or(false));
        Ok((keys, rest))
    }

    /// Sets timers in the backend, or deletes them.
    pub fn write_timers<'a>(
        &mut self,
        operator: u32,
        timers: impl Iterator<Item = &'a FarTimer>,
        are_set: bool,
    ) -> Result<(), Error> {
        let (mut bytes, mut places) = (vec![], vec![]);
        for timer in timers {
            let start = bytes.len();
            far::encode(timer.time, &timer.key, &mut bytes);
            places.push((timer.group, Far::namespace(timer.time), start..bytes.len(), timer.repeats.to_be_bytes()));
        }
        let at = |(group, namespace, range, _): &(KeyGroup, i64, Range<usize>, [u8; 2])| StateKey {
            group: *group,
            operator,
            namespace: *namespace,
            key: &bytes[range.clone()],
        };
        match are_set {
            true => self.backend.put(&mut places.iter().map(|place| (at(place), &place.3[..])))?,
            false => self.backend.delete(&places.iter().map(at).collect::<Vec<_>>())?,
        }
        Ok(())
    }

    /// Takes all timers of a namespace out of the backend, each with how often it was repeated.
    pub fn take_timers(&mut self, operator: u32, namespace: i64, each: &mut dyn FnMut(StateKey<'_>, &[u8])) -> Result<(), Error> {
        self.backend.scan(self.groups(), operator, Some(namespace), each)?;
        Ok(self.backend.delete_all(self.groups(), operator, Some(namespace))?)
    }

    /// Calls `each` with all timers that the backend has.
    pub fn scan_timers(&mut self, operator: u32, each: &mut dyn FnMut(StateKey<'_>)) -> Result<(), Error> {
        Ok(self.backend.scan(self.groups(), operator, None, &mut |at, _| each(at))?)
    }

    /// Drops all entries of a namespace.
    pub fn drop_namespace(&mut self, namespace: i64) -> Result<(), Error> {
        Ok(self.backend.delete_all(self.groups(), OPERATOR, Some(namespace))?)
    }

    /// Drops what the backend has of a table's own slots, which are about to be removed.
    pub fn drop_copies(&mut self, table: &SlotTable, slots: &[Slot]) -> Result<(), Error> {
        let copied = slots.iter().filter(|&&slot| self.keeps_copies && table.has_copy(slot));
        let places: Vec<_> = copied.map(|&slot| Place::of(table, slot)).collect();
        if places.is_empty() { Ok(()) } else { self.drop_places(table, &places) }
    }

    /// Drops the entries of `places`.
    pub fn drop_places(&mut self, table: &SlotTable, places: &[Place]) -> Result<(), Error> {
        let (bytes, ends) = Self::key_bytes(table, places);
        let keys: Vec<_> = self.keys(table, places, &bytes, &ends).collect();
        Ok(self.backend.delete(&keys)?)
    }
}
