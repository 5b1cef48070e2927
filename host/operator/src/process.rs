//! A process function: keyed rows in, rows and timers out, state in slots.
//!
//! A key has a slot from its first row on. Where the guest may not hold all of them, cold ones are evicted: their state goes to the backend and comes back,
//! a batch of keys at a time, when a row or a timer needs it. Timers stay here (see `timers` and `owners`), unless they are very many (see `far`). A key without state and without timers is forgotten:
//! when it is evicted, and, where that is what usually happens, once its last timer has fired (see `spent`).
//!
//! **Timers** are handed to the guest by time, those of many keys in one call, but never two of one key: a timer may set or delete another one that is due
//! as well. At the end of the input the watermark passes all times, so that all event-time timers fire, and those that they set; timers in processing time do not
//! fire any more. Both are as in Apache Flink. Other than there, a timer that is set again and again without time getting on is an error, and so is one
//! that is set again and again at the end of the input: neither would ever end.
//!
//! **Cleanups** are timers by which the guest drops state that has expired. The user's function does not see them: they are kept apart, and handed to the guest
//! in calls of their own. Whose state is fresh then, is forgotten, so that keys that are never heard of again leave nothing behind. Where the backend drops
//! by itself what has expired, evicted keys do without them (see `expiring`). The end of the input cleans nothing up.
//!
//! **Barriers** do not hold it up where its backend keeps copies: what has changed in slots is copied later, before it changes again, and so are timers (see `copies`).

mod copies;
pub(crate) mod expiring;
pub(crate) mod far;
mod frozen;
mod learning;
mod owners;
mod spent;
mod timers;

use arrow_array::{ArrayRef, UInt32Array};
use weir_sandbox::{GuestError, GuestErrorKind};
use weir_state::rocks::Stats;
use weir_state::{Created, Entries, Expiry, NO_SLOT, Namespaces, Slot, SlotTable, StateKey, expiry};
use weir_types::call::{DueTimers, Reply, States};
use weir_types::graph::{self, TimeDomain};
use weir_types::{Batch, EventTime, KeyGroup};

use crate::body::Body;
use crate::chain::Parts;
use crate::context::Context;
use crate::emission::{Emission, Emitted, Source};
use crate::eviction::{Eviction, OPERATOR_STATE, Place};
use crate::progress::Progress;
use crate::row_text::describe_row;
use crate::snapshot::{self, CopyTime, Kind, Predecessor, Snapshot, Writer, corrupt};
use crate::{Error, narrow};
use copies::{Copies, Owner};
use expiring::{Expiring, saved_clocks};
use far::FarTimer;
use frozen::Frozen;
use learning::{Learning, READ_BYTES_MAX};
use owners::{OwnerId, Owners};
use spent::Spent;
use timers::{AllTimers, Due, Entry, Sort};

/// Timers that are handed to the guest before what comes of them has to go on.
const TIMERS_PER_STEP_MAX: usize = 4096;

/// How often one timer may set another one without time getting on.
const REPEATS_MAX: u16 = 1000;

/// The namespace of all slots.
const NAMESPACE: i64 = 0;

/// What the namespaces of a snapshot's states are.
pub(crate) const LAYOUT: &str = "keys";

/// Under which name the scalars of a snapshot say which timers are in the backend, by sort.
const FAR_TIMERS: &str = "far_timers";

/// Runs a `process` head.
pub struct Process {
    body: Body,
    inputs: Vec<graph::Input>,
    emission: Emission,
    table: SlotTable,
    eviction: Eviction,
    copies: Copies,
    /// whose entries the backend has, as long as that is being found out
    learning: Option<Learning>,
    expiring: Expiring,
    /// whether other code has said when states of the snapshot expire
    is_upgraded: bool,
    /// whether the guest has state besides that of keys: made of the rows of a broadcast input
    has_operator_state: bool,
    owners: Owners,
    spent: Spent,
    timers: AllTimers,
    /// timers of a snapshot, before they are set
    restored: Vec<(Sort, EventTime, OwnerId)>,
    late_rows: u64,
    slots: Vec<Slot>,
    created: Vec<Created>,
}

impl Process {
    /// Runs the chain in `parts`; `key_types` are those of its keyed inputs' key columns.
    ///
    /// # Errors
    /// If a type cannot be part of a key.
    pub fn new(
        parts: Parts,
        inputs: Vec<graph::Input>,
        key_types: &[arrow_schema::DataType],
        emission: Emission,
    ) -> Result<Self, Error> {
        let expiring = Expiring::new(parts.body.code());
        let (eviction, body) = Eviction::new(parts);
        let mut table = SlotTable::new(key_types)?;
        eviction.limit_filters(&mut table);
        Ok(Self {
            body,
            has_operator_state: inputs.iter().any(|input| !is_keyed(input)),
            inputs,
            emission,
            table,
            eviction,
            copies: Copies::default(),
            learning: None,
            expiring,
            is_upgraded: false,
            owners: Owners::default(),
            spent: Spent::default(),
            timers: AllTimers::new(),
            restored: vec![],
            late_rows: 0,
            slots: vec![],
            created: vec![],
        })
    }

    /// Passes rows through the process function.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn on_batch(
        &mut self,
        port: usize,
        batch: &Batch,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<(), Error> {
        self.renew_if_full().await?;
        self.learn();
        self.advance_clock(context);
        let input = &self.inputs[port];
        let columns: Vec<ArrayRef> = input.columns.iter().map(|&c| batch.column(c).clone()).collect();
        let keys: Vec<ArrayRef> = input.key.iter().map(|&c| batch.column(c).clone()).collect();
        // A broadcast input has no key: its rows are for the whole subtask.
        let keyed = is_keyed(input);
        if keyed {
            self.table.assign(batch.rows(), &keys, Namespaces::Constant(NAMESPACE), &mut self.slots, &mut self.created)?;
            self.open_slots(&keys, context, out).await?;
            self.copy_before_change(None).await?;
        }
        let input = context.input(port, &self.inputs[port], batch, &columns, keyed.then_some(&self.slots[..]));
        match self.body.process(input).await {
            Ok(reply) => self.on_reply(reply, &Source::Rows(batch), None, context, out)?,
            Err(Error::Guest(error)) => return Err(self.blame(error, port, batch, &columns, context).await),
            Err(error) => return Err(error),
        }
        self.make_room().await
    }

    /// The error to report after the guest failed on rows: with the row that it fails on, if one does by itself.
    async fn blame(&mut self, error: GuestError, port: usize, batch: &Batch, columns: &[ArrayRef], context: &Context) -> Error {
        let keyed = is_keyed(&self.inputs[port]);
        let mut distinct = if keyed { self.slots.clone() } else { vec![] };
        distinct.sort_unstable();
        distinct.dedup();
        let (Some(start), Ok(keys)) = (self.body.guest_start(), self.table.key_columns(&distinct)) else {
            return context.failure(error, None);
        };
        let input = context.input(port, &self.inputs[port], batch, columns, keyed.then_some(&self.slots[..]));
        let assigned = keyed.then_some((&distinct[..], &keys[..]));
        let attempt = narrow::Attempt { start, kind: error.kind, input, accumulates: false, assigned };
        match narrow::failing_row(&attempt).await {
            Some((row, error)) => {
                let text = describe_row(batch, &context.schemas[port], row);
                context.failure(error, Some((row, text)))
            }
            None => context.failure(error, None),
        }
    }

    /// Tells the guest about the slots in `created` (`keys` are the key columns of the rows that they were made for), and brings back what belongs to
    /// their keys, as if it had never been away.
    async fn open_slots(&mut self, keys: &[ArrayRef], context: &mut Context, out: &mut Vec<Emitted>) -> Result<(), Error> {
        if self.created.is_empty() {
            return Ok(());
        }
        let rows: UInt32Array = self.created.iter().map(|c| c.row).collect::<Vec<_>>().into();
        let keys = keys.iter().map(|k| Ok(arrow_select::take::take(k, &rows, None)?)).collect::<Result<Vec<_>, Error>>()?;
        let slots: Vec<Slot> = self.created.iter().map(|c| c.slot).collect();
        self.body.assign_slots(&slots, &keys).await?;
        if self.owners.any_away() {
            let mut key = vec![];
            for &slot in &slots {
                key.clear();
                self.table.key_bytes(slot, &mut key);
                self.owners.come_back(slot, &key);
            }
        }
        let back: Vec<Slot> = self.created.iter().filter(|c| c.restore).map(|c| c.slot).collect();
        let (found, expiries) = self.eviction.bring_back::<Option<Expiry>>(&mut self.body, &mut self.table, &back).await?;
        let expire = found.into_iter().zip(expiries).filter_map(|(slot, expiry)| Some((slot, expiry?)));
        self.set_cleanups(expire.collect(), context, out).await
    }

    /// Sets the timers for cleanups of states that have come back. Those that have been due meanwhile fire now, and see the time that was when they would have.
    async fn set_cleanups(
        &mut self,
        of: Vec<(Slot, Expiry)>,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<(), Error> {
        if of.is_empty() {
            return Ok(());
        }
        let mut overdue = vec![];
        for (slot, Expiry { domain, first, .. }) in of {
            match first <= self.expiring.clocks().of(domain) {
                true => overdue.push((domain, first, slot)),
                false => self.set_timer(Sort { domain, cleanup: true }, slot, first, 0),
            }
        }
        overdue.sort_unstable();
        for overdue in overdue.chunk_by(|a, b| a.0 == b.0) {
            let (times, slots): (Vec<EventTime>, Vec<Slot>) = overdue.iter().map(|&(_, time, slot)| (time, slot)).unzip();
            let (domain, clocks) = (overdue[0].0, self.expiring.clocks());
            let (watermark, now) = match domain {
                TimeDomain::Event => (clocks.event, context.now),
                TimeDomain::Processing => (context.watermark.0, clocks.processing),
            };
            let timers = DueTimers { slots: &slots, times: &times, domain, cleanup: true, watermark, now };
            let reply = self.body.timers_fired(timers).await?;
            self.on_reply(reply, &Source::Times(&times), None, context, out)?;
        }
        Ok(())
    }

    /// Begins to find out whose entries the backend has, of which there are so many at least, if that can be done now.
    fn begin_learning(&mut self, at_least: u64) -> Result<(), Error> {
        let Some(keys) = self.eviction.scan_keys(NAMESPACE) else { return Ok(()) };
        if self.eviction.backend_bytes() > READ_BYTES_MAX {
            return Ok(());
        }
        let Some(learner) = self.table.begin_learning(NAMESPACE, at_least)? else { return Ok(()) };
        self.learning = Learning::begin(keys, learner);
        if self.learning.is_none() {
            self.table.learned(NAMESPACE, None);
        }
        Ok(())
    }

    /// Takes in what was found out about whose entries the backend has.
    fn learn(&mut self) {
        if let Some(learned) = self.learning.as_ref().and_then(Learning::poll) {
            self.learning = None;
            self.table.learned(NAMESPACE, learned);
            self.expiring.find_out(self.table.evicted(NAMESPACE), self.table.knows_nothing(NAMESPACE));
            self.eviction.note_filters(&self.table);
        }
    }

    /// Begins to find out what is left of states that expire, if it is time to.
    fn learn_anew(&mut self) -> Result<(), Error> {
        let (keys, is_unknown) = (self.table.evicted(NAMESPACE), self.table.knows_nothing(NAMESPACE));
        if self.learning.is_some() || !self.expiring.wants_to_know(keys, is_unknown) {
            return Ok(());
        }
        // If it cannot be done now, it can once there are more.
        self.expiring.find_out(keys, is_unknown);
        self.begin_learning(0)
    }

    fn on_reply(
        &mut self,
        reply: Reply,
        source: &Source<'_>,
        mut due: Option<Due<'_>>,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<(), Error> {
        context.note_progress(reply.progress);
        self.late_rows += u64::from(reply.late);
        for timer in reply.timers {
            if !self.table.contains(timer.slot) {
                let message = format!("it set a timer for slot {}, which belongs to no key", timer.slot);
                return Err(GuestError::new(GuestErrorKind::Contract, message).into());
            }
            let sort = Sort { domain: timer.domain, cleanup: timer.cleanup };
            let repeats = match &mut due {
                Some(due) if !timer.delete => due.repeats(timer.slot, timer.time),
                _ => 0,
            };
            if repeats > REPEATS_MAX {
                return Err(Error::EndlessTimer { operator: context.operator.clone(), time: timer.time });
            }
            match timer.delete {
                true => self.delete_timer(sort, timer.slot, timer.time),
                false => self.set_timer(sort, timer.slot, timer.time, repeats),
            }
        }
        self.emission.assemble(source, reply.outputs, out)
    }

    /// Sets a timer; one that is far off waits to be [written](Self::part_timers).
    fn set_timer(&mut self, sort: Sort, slot: Slot, time: EventTime, repeats: u16) {
        if self.timers.of(sort).far.has(time) {
            let far = self.far_timer(slot, time, repeats);
            return self.timers.of(sort).write(far, true);
        }
        let owner = self.owners.get_or_make(slot);
        if self.timers.of(sort).near.set(time, Entry { owner, repeats }) {
            self.owners.add_timer(owner);
        }
    }

    /// Deletes a timer, as [`set_timer`](Self::set_timer) sets one.
    fn delete_timer(&mut self, sort: Sort, slot: Slot, time: EventTime) {
        if self.timers.of(sort).far.has(time) {
            let far = self.far_timer(slot, time, 0);
            return self.timers.of(sort).write(far, false);
        }
        if let Some(owner) = self.owners.get(slot)
            && self.timers.of(sort).near.delete(time, Entry { owner, repeats: 0 })
        {
            self.owners.remove_timer(owner, &self.table);
        }
    }

    /// Fires event-time timers that the context's watermark has reached.
    ///
    /// # Errors
    /// If the guest fails, or its timers would never end.
    pub async fn on_watermark(&mut self, context: &mut Context, out: &mut Vec<Emitted>) -> Result<Progress, Error> {
        self.fire_all(TimeDomain::Event, context.watermark.0, context, out).await
    }

    /// Fires processing-time timers that are due.
    ///
    /// # Errors
    /// As `on_watermark`.
    pub async fn on_clock(&mut self, context: &mut Context, out: &mut Vec<Emitted>) -> Result<Progress, Error> {
        self.fire_all(TimeDomain::Processing, context.now, context, out).await
    }

    /// When the next processing-time timer is due.
    pub fn next_clock(&mut self) -> Option<EventTime> {
        let of_clock = Sort::ALL.into_iter().filter(|(sort, _)| sort.domain == TimeDomain::Processing);
        of_clock.filter_map(|(sort, _)| self.timers.of(sort).next()).min()
    }

    fn far_timer(&self, slot: Slot, time: EventTime, repeats: u16) -> FarTimer {
        let mut key = vec![];
        self.table.key_bytes(slot, &mut key);
        FarTimer { group: self.table.key_group(slot, self.eviction.max_parallelism()), time, key, repeats }
    }

    /// Writes timers that are far off, and sends the later ones of those that are near after them if there are too many.
    fn part_timers(&mut self) -> Result<(), Error> {
        let most = self.eviction.slots_max().filter(|_| self.eviction.keeps_copies()).unwrap_or(usize::MAX);
        for (sort, _) in Sort::ALL {
            let timers = self.timers.of(sort);
            if timers.near.len() > most {
                let mut leaving = vec![];
                timers.near.take_latest(timers.near.len() - most / 2, |time, entry| leaving.push((time, entry)));
                if let Some(horizon) = leaving.iter().map(|(time, _)| *time).min() {
                    timers.far.begin_at(horizon);
                }
                for timer in self.names_of(&leaving)? {
                    self.timers.of(sort).write(timer, true);
                }
                leaving.iter().for_each(|(_, entry)| self.owners.remove_timer(entry.owner, &self.table));
            }
            self.timers.of(sort).flush(&mut self.eviction)?;
        }
        Ok(())
    }

    /// These timers, as the backend knows them.
    fn names_of(&self, timers: &[(EventTime, Entry)]) -> Result<Vec<FarTimer>, Error> {
        let mut named = Vec::with_capacity(timers.len());
        let owners: Vec<OwnerId> = timers.iter().map(|(_, entry)| entry.owner).collect();
        self.owners.for_each_key(&owners, &self.table, self.eviction.max_parallelism(), |i, group, key| {
            let (time, Entry { repeats, .. }) = timers[i];
            named.push(FarTimer { group, time, key: key.concat(), repeats });
        })?;
        Ok(named)
    }

    /// Brings the timers of the first span from the backend.
    fn bring_near(&mut self, sort: Sort) -> Result<(), Error> {
        let timers = self.timers.of(sort);
        let Some(span) = timers.far.pop() else { return Ok(()) };
        let (mut found, mut intact) = (vec![], true);
        self.eviction.take_timers(timers.operator, span, &mut |at, repeats| match (far::decode(at.key), repeats.try_into()) {
            (Some((time, key)), Ok(repeats)) => found.push((time, key.to_vec(), u16::from_be_bytes(repeats))),
            _ => intact = false,
        })?;
        if !intact {
            return Err(corrupt("a timer is cut short"));
        }
        // Those of one time fire in the order of their keys.
        found.sort_unstable();
        for part in found.chunks(TIMERS_PER_STEP_MAX) {
            let keys = self.table.decode_keys(part.iter().map(|(_, key, _)| &key[..]))?;
            self.table.find(part.len(), &keys, Namespaces::Constant(NAMESPACE), &mut self.slots)?;
            for ((time, key, repeats), &slot) in part.iter().zip(&self.slots) {
                let owner = match slot {
                    NO_SLOT => self.owners.get_or_make_away(key),
                    slot => self.owners.get_or_make(slot),
                };
                if self.timers.of(sort).near.set(*time, Entry { owner, repeats: *repeats }) {
                    self.owners.add_timer(owner);
                }
            }
        }
        Ok(())
    }

    /// Fires what is due. Cleanups come last: state that a timer of the user's function asks for may have expired between its time and now. At the end of the
    /// input they wait: it is no time by which anything is old, and who goes on from there finds what had not expired before.
    async fn fire_all(
        &mut self,
        domain: TimeDomain,
        until: EventTime,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<Progress, Error> {
        let cleanups = (until < EventTime::MAX).then_some(true);
        for cleanup in std::iter::once(false).chain(cleanups) {
            if self.fire(Sort { domain, cleanup }, until, context, out).await? == Progress::More {
                return Ok(Progress::More);
            }
        }
        self.advance(domain, until);
        Ok(Progress::Done)
    }

    /// Time has got on to now if no timer in processing time is due, for which it would be [told](Self::on_clock).
    fn advance_clock(&mut self, context: &Context) {
        if self.next_clock().is_none_or(|next| next > context.now) {
            self.advance(TimeDomain::Processing, context.now);
        }
    }

    /// All cleanups up to a time have fired: what has expired by then may go from the backend.
    fn advance(&mut self, domain: TimeDomain, to: EventTime) {
        if self.expiring.advance(domain, to) {
            self.eviction.expire(self.expiring.clocks());
        }
    }

    /// Fires what is due of one sort, until a batch's worth of timers has fired.
    async fn fire(
        &mut self,
        sort: Sort,
        until: EventTime,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<Progress, Error> {
        let mut fired = 0;
        while self.timers.of(sort).next().is_some_and(|time| time <= until) {
            if fired >= TIMERS_PER_STEP_MAX {
                return Ok(Progress::More);
            }
            if self.timers.of(sort).near.next().is_none_or(|time| time > until) {
                self.copy_before_scan().await?;
                self.bring_near(sort)?;
                continue;
            }
            self.renew_if_full().await?;
            let (times, entries) = self.take_due(sort, until);
            self.recall(&entries, context, out).await?;
            let slots: Vec<Slot> = entries.iter().filter_map(|entry| self.owners.slot(entry.owner)).collect();
            entries.iter().for_each(|entry| self.owners.remove_timer(entry.owner, &self.table));
            slots.iter().for_each(|&slot| self.table.mark_changed(slot));
            self.copy_before_change(Some(&slots)).await?;
            let Sort { domain, cleanup } = sort;
            let (watermark, now) = (context.watermark.0, context.now);
            let timers = DueTimers { slots: &slots, times: &times, domain, cleanup, watermark, now };
            let reply = self.body.timers_fired(timers).await?;
            let due = Due::new(until, &times, &slots, &entries);
            self.on_reply(reply, &Source::Times(&times), Some(due), context, out)?;
            // Once the input has ended, nothing comes for which there should be room.
            if until < EventTime::MAX {
                self.forget_spent(slots, cleanup).await?;
            }
            self.make_room().await?;
            fired += times.len();
        }
        Ok(Progress::Done)
    }

    /// Takes the timers of the next call.
    fn take_due(&mut self, sort: Sort, until: EventTime) -> (Vec<EventTime>, Vec<Entry>) {
        let most = self.eviction.slots_max().unwrap_or(usize::MAX).min(TIMERS_PER_STEP_MAX);
        let (mut times, mut entries) = (vec![], vec![]);
        self.timers.of(sort).near.take_due(until, most, |time, entry| {
            times.push(time);
            entries.push(entry);
        });
        (times, entries)
    }

    /// Brings back the keys of these timers that were evicted.
    async fn recall(&mut self, entries: &[Entry], context: &mut Context, out: &mut Vec<Emitted>) -> Result<(), Error> {
        let mut away: Vec<OwnerId> = entries.iter().map(|e| e.owner).filter(|&id| self.owners.slot(id).is_none()).collect();
        away.sort_unstable();
        away.dedup();
        if away.is_empty() {
            return Ok(());
        }
        let keys = self.table.decode_keys(away.iter().map(|&id| self.owners.key(id)))?;
        let namespace = Namespaces::Constant(NAMESPACE);
        self.table.assign(away.len(), &keys, namespace, &mut self.slots, &mut self.created)?;
        self.open_slots(&keys, context, out).await
    }

    /// Makes room: for slots, then for timers, since some go with their slots.
    async fn make_room(&mut self) -> Result<(), Error> {
        self.evict().await?;
        self.part_timers()?;
        self.learn_anew()
    }

    /// Evicts cold slots if there are too many.
    async fn evict(&mut self) -> Result<(), Error> {
        let table = &self.table;
        let host_bytes = |slots: &[Slot]| table.bytes_per_slot(slots.iter().copied());
        self.eviction.sample(&mut self.body, table.len(), table.sample(Eviction::SAMPLE_SLOTS), host_bytes).await?;
        let surplus = self.eviction.surplus(self.table.len());
        if surplus == 0 {
            return Ok(());
        }
        let mut cold = vec![];
        self.table.coldest(surplus, &mut cold);
        self.copy_before_change(Some(&cold)).await?;
        let places: Vec<_> = cold.iter().map(|&slot| Place { key: slot, namespace: NAMESPACE }).collect();
        let (mut expire, clocks) = (vec![], self.expiring.clocks());
        let note = |i: usize, expiry: Option<Expiry>| {
            let expiry = expiry.filter(|expiry| clocks.are_before(*expiry));
            expire.extend(expiry.map(|expiry| (cold[i], expiry)));
            expiry
        };
        let is_current = |slot| self.table.has_current_copy(slot);
        let kept = self.eviction.put_away(&mut self.body, &self.table, &cold, &places, note, is_current, true).await?;
        for &(slot, Expiry { domain, first, .. }) in &expire {
            self.delete_timer(Sort { domain, cleanup: true }, slot, first);
        }
        if !expire.is_empty() {
            self.expiring.note_evicted();
        }
        let mut key = vec![];
        for &slot in &cold {
            if self.owners.get(slot).is_some() {
                key.clear();
                self.table.key_bytes(slot, &mut key);
                self.owners.leave(slot, &key);
            }
        }
        let (mut evicted, mut empty) = (vec![], vec![]);
        cold.iter().zip(kept).for_each(|(&slot, kept)| if kept { evicted.push(slot) } else { empty.push(slot) });
        self.table.evict(&evicted);
        self.table.remove(&empty);
        self.eviction.note_filters(&self.table);
        Ok(())
    }

    /// Forgets those of these slots' keys that have neither state nor timers any more: as many as it pays to look at, or all that a cleanup has left.
    async fn forget_spent(&mut self, mut slots: Vec<Slot>, all: bool) -> Result<(), Error> {
        slots.retain(|&slot| self.owners.get(slot).is_none());
        if !all {
            slots.truncate(self.spent.share(slots.len()));
        }
        if slots.is_empty() {
            return Ok(());
        }
        slots.sort_unstable();
        slots.dedup();
        let fresh = self.eviction.fresh(&mut self.body, &slots).await?;
        if !all {
            self.spent.note(slots.len(), fresh.len());
        }
        if !fresh.is_empty() {
            self.copy_before_change(Some(&fresh)).await?;
            self.body.clear_slots(&fresh).await?;
            self.eviction.drop_copies(&self.table, &fresh)?;
            self.table.remove(&fresh);
        }
        Ok(())
    }

    /// Replaces a guest whose memory nears its limit: its slots move to a new instance.
    async fn renew_if_full(&mut self) -> Result<(), Error> {
        if !self.body.wants_renewal() {
            return Ok(());
        }
        let live: Vec<_> = self.table.slots_of(NAMESPACE).map(|slot| (slot, slot)).collect();
        self.eviction.renew(&mut self.body, &self.table, &live, self.has_operator_state).await?;
        self.make_room().await
    }

    /// What the operator knows, and all that it knows: see [`crate::snapshot`].
    ///
    /// # Errors
    /// If the guest or the backend fails.
    pub async fn snapshot(&mut self, time: CopyTime) -> Result<Snapshot, Error> {
        // The backend makes one checkpoint after the other.
        let (copies, of) = self.copies();
        copies.finish(of).await?;
        let mut out = Writer::new(self.eviction.max_parallelism(), None);
        let mut timers = Frozen::of(&mut self.timers);
        let changes = match self.eviction.begin_checkpoint()? {
            Some(changes) => {
                let slots = self.table.take_changed();
                let (copies, of) = self.copies();
                Some(copies.begin(changes, slots, timers, of))
            }
            None => {
                self.snapshot_states(&mut out).await?;
                timers.name(usize::MAX, &self.owners, &self.table, self.eviction.max_parallelism(), out.entries_mut())?;
                None
            }
        };
        if time == CopyTime::Barrier {
            let (copies, of) = self.copies();
            copies.finish(of).await?;
        }
        let operator_state = match self.has_operator_state {
            true => Some(self.body.export_slots(&[OPERATOR_STATE]).await?.bytes).filter(|state| !state.is_empty()),
            false => None,
        };
        let mut snapshot = Snapshot { changes, ..out.finish(LAYOUT, operator_state) };
        self.expiring.save(&mut snapshot.scalars);
        if snapshot.changes.is_some() {
            let most = self.table.len() as u64 + self.table.evicted(NAMESPACE);
            snapshot::set_counts(&mut snapshot.scalars, std::iter::once((NAMESPACE, most)));
            snapshot.scalars[FAR_TIMERS] = self.timers.iter_mut().map(|timers| timers.far.to_scalars()).collect();
        }
        Ok(snapshot)
    }

    /// All states, and those timers that are in the backend.
    async fn snapshot_states(&mut self, out: &mut Writer) -> Result<(), Error> {
        let (table, slots) = (&self.table, self.table.slots_of(NAMESPACE).collect::<Vec<_>>());
        let push = |slots: &[Slot], states: &States| out.push_states(table, slots, states, |_| (NAMESPACE, None::<Expiry>));
        self.eviction.export_each(&mut self.body, &slots, push).await?;
        self.eviction.scan(&mut |at, state| out.push_key(Kind::State, at.group, at.namespace, at.key, state))?;
        for (sort, kind) in Sort::ALL {
            let mut each = |at: StateKey<'_>| match far::decode(at.key) {
                Some((time, key)) => out.push_key(kind, at.group, time, key, &[]),
                None => debug_assert!(false, "the backend has what was put there"),
            };
            self.eviction.scan_timers(self.timers.of(sort).operator, &mut each)?;
        }
        Ok(())
    }

    /// The copies that a checkpoint waits for, and what is needed to make some.
    fn copies(&mut self) -> (&mut Copies, Owner<'_>) {
        let Self { copies, table, eviction, body, owners, expiring, .. } = self;
        (copies, Owner { table, eviction, body, owners, namespace: NAMESPACE, clocks: expiring.clocks() })
    }

    /// Whether a checkpoint waits for copies.
    pub fn is_copying(&self) -> bool {
        self.copies.are_due()
    }

    /// Makes some of the copies that a checkpoint waits for.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn copy_on(&mut self) -> Result<(), Error> {
        let (copies, of) = self.copies();
        copies.go_on(of).await
    }

    /// Makes those copies of these slots that are due, or of those of the latest look-up: they are about to change.
    async fn copy_before_change(&mut self, slots: Option<&[Slot]>) -> Result<(), Error> {
        let Self { copies, table, eviction, body, owners, expiring, slots: latest, .. } = self;
        let of = Owner { table, eviction, body, owners, namespace: NAMESPACE, clocks: expiring.clocks() };
        copies.before_change(slots.unwrap_or(latest), of).await
    }

    /// Makes all copies that are due, if going through entries of the backend waits for them.
    async fn copy_before_scan(&mut self) -> Result<(), Error> {
        if self.copies.are_due() && self.eviction.holds_any() {
            let (copies, of) = self.copies();
            copies.finish(of).await?;
        }
        Ok(())
    }

    /// Goes on with what these subtasks of a process function say of state that expires.
    ///
    /// # Errors
    /// If they do not say it as they should.
    pub fn begin_restore(&mut self, predecessors: &[Predecessor<'_>]) -> Result<(), Error> {
        self.is_upgraded = self.expiring.restore(predecessors)?;
        if self.expiring.is_used() {
            self.eviction.expire(self.expiring.clocks());
        }
        Ok(())
    }

    /// Takes in what the backend has, which was opened on a database of a snapshot with these scalars.
    ///
    /// # Errors
    /// If they do not say what is in it.
    pub fn restore_database(&mut self, scalars: &serde_json::Value) -> Result<(), Error> {
        for (namespace, most) in snapshot::counts(scalars)? {
            if namespace != NAMESPACE {
                return Err(corrupt("the state of a key is in a window"));
            }
            // Where time was later, there may be some again that had expired.
            self.table.add_evicted(namespace, most, saved_clocks(scalars).is_none());
        }
        for (i, timers) in self.timers.iter_mut().enumerate() {
            let known = scalars.get(FAR_TIMERS).and_then(|all| timers.far.add_scalars(all.get(i)?));
            known.ok_or_else(|| corrupt("it does not say which timers its database has"))?;
        }
        Ok(())
    }

    /// Takes in entries of a snapshot: their keys count as evicted.
    ///
    /// # Errors
    /// If they are not entries of this operator, or the backend fails.
    pub fn restore_entries(&mut self, entries: &Entries) -> Result<(), Error> {
        let entries = snapshot::read(entries, &self.table, self.eviction.max_parallelism())?;
        let mut states = 0;
        for entry in &entries {
            match Sort::ALL.iter().find(|(_, kind)| *kind == entry.kind) {
                Some((sort, _)) => {
                    self.restored.push((*sort, entry.namespace, self.owners.get_or_make_away(entry.key)));
                }
                None if entry.namespace == NAMESPACE => states += 1,
                None => return Err(corrupt("the state of a key is in a window")),
            }
        }
        let states_only = entries.iter().filter(|entry| entry.kind == Kind::State);
        let states_only = states_only.map(|entry| (entry.group, entry.key, entry.value));
        if self.is_upgraded || !self.eviction.keeps_copies() {
            self.put_for_cleanup(states_only)?;
        } else {
            self.eviction.put_restored(states_only.map(|(group, key, value)| (group, NAMESPACE, key, value)))?;
        }
        self.table.add_evicted(NAMESPACE, states, true);
        Ok(())
    }

    /// Puts states of a snapshot into the backend, where they stay: those that would have expired have timers for their cleanup instead.
    fn put_for_cleanup<'a>(&mut self, states: impl Iterator<Item = (KeyGroup, &'a [u8], &'a [u8])>) -> Result<(), Error> {
        let mut stay = Entries::default();
        for (group, key, value) in states {
            let (expiry, state) = expiry::decode(value).ok_or_else(|| corrupt("a state does not say whether it expires"))?;
            if let Some(Expiry { domain, first, .. }) = expiry {
                self.restored.push((Sort { domain, cleanup: true }, first, self.owners.get_or_make_away(key)));
            }
            stay.push_with(group, NAMESPACE, [key], |value| {
                expiry::encode(None, value);
                value.extend_from_slice(state);
            });
        }
        self.eviction.put_restored(stay.iter().map(|entry| (entry.group, NAMESPACE, entry.key, entry.value)))
    }

    /// Has all states in the backend stay until they are cleaned up: other code has said when they expire.
    fn keep_all_for_cleanup(&mut self) -> Result<(), Error> {
        for group in 0..self.eviction.max_parallelism() {
            let mut expire = Entries::default();
            let mut each = |at: StateKey<'_>, value: &[u8]| {
                if matches!(expiry::decode(value), Some((Some(_), _))) {
                    expire.push(at.group, at.namespace, at.key, value);
                }
            };
            self.eviction.scan_group(KeyGroup(group), &mut each)?;
            self.put_for_cleanup(expire.iter().map(|entry| (entry.group, entry.key, entry.value)))?;
        }
        Ok(())
    }

    /// Whether it has a broadcast input, of whose rows something may be kept.
    pub fn has_operator_state(&self) -> bool {
        self.has_operator_state
    }

    /// Takes in what was kept of the rows of a broadcast input, which it has.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn restore_operator_state(&mut self, state: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(state.len()).map_err(|_| corrupt("the state of a broadcast input is larger than 4 GiB"))?;
        self.body.import_slots(&[OPERATOR_STATE], &States::new(vec![0, length], state.to_vec())).await
    }

    /// Sets the timers of the snapshot. Those of one time fire in the order of their keys, however the entries came.
    ///
    /// # Errors
    /// If they are many, and the backend fails.
    pub fn finish_restore(&mut self) -> Result<(), Error> {
        if self.is_upgraded && self.eviction.keeps_copies() {
            self.keep_all_for_cleanup()?;
        }
        let mut timers = std::mem::take(&mut self.restored);
        timers.sort_unstable_by(|(_, a_time, a), (_, b_time, b)| {
            a_time.cmp(b_time).then_with(|| self.owners.key(*a).cmp(self.owners.key(*b)))
        });
        for &(sort, time, owner) in &timers {
            // The horizons of several subtasks differ: here the first one holds.
            if self.timers.of(sort).near.set(time, Entry { owner, repeats: 0 }) {
                self.owners.add_timer(owner);
            }
        }
        for (sort, _) in Sort::ALL {
            let mut far = vec![];
            let timers = self.timers.of(sort);
            while timers.near.latest().is_some_and(|time| timers.far.has(time)) {
                timers.near.take_last(|time, entry| far.push((time, entry)));
            }
            for timer in self.names_of(&far)? {
                self.timers.of(sort).write(timer, true);
            }
            far.iter().for_each(|(_, entry)| self.owners.remove_timer(entry.owner, &self.table));
        }
        self.part_timers()?;
        let (keys, is_unknown) = (self.table.evicted(NAMESPACE), self.table.knows_nothing(NAMESPACE));
        self.expiring.find_out(keys, is_unknown);
        // Of those that expire fewer may be left.
        self.begin_learning(if self.expiring.is_used() { 0 } else { keys })
    }

    /// How many keys have state in the guest.
    pub fn slots(&self) -> usize {
        self.table.len()
    }

    /// How many of so many rows the guest may be given before cold slots leave it.
    pub fn step(&mut self, rows: usize) -> usize {
        self.eviction.step(&self.body, self.slots(), rows)
    }

    /// The room that the state backend takes, about, in bytes.
    pub fn backend_bytes(&self) -> u64 {
        self.eviction.backend_bytes()
    }

    /// Figures of the state backend's database, if it has one.
    pub fn database(&self) -> Option<Stats> {
        self.eviction.database()
    }

    /// Slots that were moved from the guest to the state backend.
    pub fn evictions(&self) -> u64 {
        self.eviction.moved()
    }

    /// Rows that the function found to be too late.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    /// The user's part.
    pub fn body(&self) -> &Body {
        &self.body
    }
}

/// Whether its rows have slots. Without key columns, they are all of one key.
fn is_keyed(input: &graph::Input) -> bool {
    input.partitioning == graph::Partitioning::Hash
}
