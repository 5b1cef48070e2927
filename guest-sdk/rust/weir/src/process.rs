//! Keyed functions: typed state and timers for each key, over one or two inputs.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use crate::bindings::exports::weir::dataflow::chains::{DueTimers, Expiries, Input, Reply, States, Timer as WireTimer};
use crate::bindings::exports::weir::dataflow::definition::{self as wit, ChainInput};
use crate::bindings::weir::dataflow::types::Batch;
use crate::chain::{Chain, slots_of, times_of};
use crate::cleanup::{self, Cleanups, Deadlines, place, round_up};
use crate::context::Context;
use crate::head::{Body, Description, Head};
use crate::key::Key;
use crate::migration::{Codec, Migrations, NOT_NAMED};
use crate::output::Terminal;
use crate::pipeline::Pipeline;
use crate::record::{Record, Row};
use crate::side::Tag;
use crate::stamp;
use crate::state::{Slots, State, encode, unassigned};
use crate::stride::{for_each_slot, stride_of};
use crate::time::{EventTime, TimeDomain, wire_domain};
use crate::value::{Buffers, Column};

/// A timer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// the time that it was set to
    pub time: EventTime,
    /// the clock that it was set on
    pub domain: TimeDomain,
}

/// A function over the rows of a key, with state and timers.
///
/// ```
/// use weir::{KeyedContext, Process, Record, Timer, secs};
///
/// #[derive(Record)]
/// struct Click { user: u64 }
///
/// /// Says how many clicks a user made, once none came for a minute.
/// struct Visits;
///
/// impl Process<Click> for Visits {
///     type Key = u64;
///     type State = (u64, i64);
///     type Out = (u64, u64);
///
///     fn row(&mut self, (clicks, last): &mut (u64, i64), _click: Click, cx: &mut KeyedContext<u64, (u64, u64)>) {
///         *clicks += 1;
///         *last = cx.event_time().millis();
///         cx.set_event_timer(cx.event_time() + secs(60));
///     }
///
///     fn timer(&mut self, (clicks, last): &mut (u64, i64), timer: Timer, cx: &mut KeyedContext<u64, (u64, u64)>) {
///         if timer.time.millis() == *last + 60_000 {
///             cx.emit((*cx.key(), std::mem::take(clicks)));
///         }
///     }
/// }
/// ```
pub trait Process<T>: 'static {
    /// what the stream is keyed by
    type Key: Key;
    /// what is kept for each key
    type State: State;
    /// what it emits
    type Out: 'static;

    /// A row of a key.
    fn row(&mut self, state: &mut Self::State, row: T, cx: &mut KeyedContext<'_, Self::Key, Self::Out>);

    /// A timer of a key is due.
    fn timer(&mut self, _state: &mut Self::State, _timer: Timer, _cx: &mut KeyedContext<'_, Self::Key, Self::Out>) {}

    /// What the state of a key was in earlier versions of the job, and how today's is made of it.
    fn migrations() -> Migrations<Self::State> {
        Migrations::none()
    }
}

/// A function over the rows of a key in two streams, with common state and timers.
pub trait CoProcess<L, R>: 'static {
    /// what both streams are keyed by
    type Key: Key;
    /// what is kept for each key
    type State: State;
    /// what it emits
    type Out: 'static;

    /// A row of the left stream.
    fn left(&mut self, state: &mut Self::State, row: L, cx: &mut KeyedContext<'_, Self::Key, Self::Out>);

    /// A row of the right stream.
    fn right(&mut self, state: &mut Self::State, row: R, cx: &mut KeyedContext<'_, Self::Key, Self::Out>);

    /// A timer of a key is due.
    fn timer(&mut self, _state: &mut Self::State, _timer: Timer, _cx: &mut KeyedContext<'_, Self::Key, Self::Out>) {}

    /// What the state of a key was in earlier versions of the job, and how today's is made of it.
    fn migrations() -> Migrations<Self::State> {
        Migrations::none()
    }
}

/// A function over the rows of a key that also sees every row of a broadcast stream.
///
/// So rows are held against rules, thresholds or models that change while the job runs: a control stream. What it keeps of the broadcast rows is a state of its
/// own, once in each subtask, that the rows of all keys can look at; it is in checkpoints. What it keeps in `self` instead is lost whenever the host replaces
/// the instance.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use weir::{BroadcastProcess, Job, KeyedContext, Record, Str, TestHarness};
///
/// #[derive(Record)]
/// struct Reading { sensor: u64, kind: Str, value: f64 }
///
/// #[derive(Record)]
/// struct Limit { kind: Str, most: f64 }
///
/// #[derive(Debug, PartialEq, Record)]
/// struct Alarm { sensor: u64, value: f64, nth: u64 }
///
/// /// Holds readings against the newest limit of their kind, and numbers the alarms of each sensor.
/// struct Watch;
///
/// impl BroadcastProcess<Reading, Limit> for Watch {
///     type Key = u64;
///     type State = u64;
///     type Broadcast = BTreeMap<String, f64>;
///     type Out = Alarm;
///
///     fn row(
///         &mut self,
///         alarms: &mut u64,
///         limits: &BTreeMap<String, f64>,
///         reading: Reading,
///         cx: &mut KeyedContext<u64, Alarm>,
///     ) {
///         if limits.get(&*reading.kind).is_some_and(|most| reading.value > *most) {
///             *alarms += 1;
///             cx.emit(Alarm { sensor: reading.sensor, value: reading.value, nth: *alarms });
///         }
///     }
///     fn broadcast(&mut self, limits: &mut BTreeMap<String, f64>, limit: Limit) {
///         limits.insert(limit.kind.to_string(), limit.most);
///     }
/// }
///
/// fn alarms(job: &Job) {
///     let limits = job.source::<Limit>("limits");
///     job.source::<Reading>("readings").key_by(Reading::SENSOR).connect_broadcast(limits).process(Watch).sink("alarms");
/// }
///
/// let mut harness = TestHarness::new(alarms);
/// let reading = |value| Reading { sensor: 1, kind: "heat".into(), value };
/// harness.push("limits", [Limit { kind: "heat".into(), most: 90.0 }]);
/// harness.push("readings", [reading(80.0), reading(95.0)]);
/// harness.push("limits", [Limit { kind: "heat".into(), most: 70.0 }]);
/// harness.push("readings", [reading(80.0)]);
/// let alarm = |value, nth| Alarm { sensor: 1, value, nth };
/// assert_eq!(harness.take::<Alarm>("alarms"), [alarm(95.0, 1), alarm(80.0, 2)]);
/// ```
pub trait BroadcastProcess<T, B>: 'static {
    /// what the stream is keyed by
    type Key: Key;
    /// what is kept for each key
    type State: State;
    /// what is kept of the broadcast rows
    type Broadcast: State;
    /// what it emits
    type Out: 'static;

    /// A row of a key.
    fn row(
        &mut self,
        state: &mut Self::State,
        broadcast: &Self::Broadcast,
        row: T,
        cx: &mut KeyedContext<'_, Self::Key, Self::Out>,
    );

    /// A row of the broadcast stream.
    fn broadcast(&mut self, broadcast: &mut Self::Broadcast, row: B);

    /// A timer of a key is due.
    fn timer(
        &mut self,
        _state: &mut Self::State,
        _broadcast: &Self::Broadcast,
        _timer: Timer,
        _cx: &mut KeyedContext<'_, Self::Key, Self::Out>,
    ) {
    }

    /// What the state of a key was in earlier versions of the job, and how today's is made of it.
    fn migrations() -> Migrations<Self::State> {
        Migrations::none()
    }

    /// The same of what is kept of the broadcast rows.
    fn broadcast_migrations() -> Migrations<Self::Broadcast> {
        Migrations::none()
    }
}

/// The row or timer that a keyed function works on, and what it can do: look at the time, set timers, emit rows.
pub struct KeyedContext<'a, K, O> {
    key: &'a K,
    slot: u32,
    cx: &'a mut Context,
    timers: &'a mut Vec<WireTimer>,
    out: &'a mut Vec<(u32, O)>,
    /// the event times of `out`, where the function computes them
    out_times: &'a mut Vec<i64>,
    /// when something of this key's state expires
    deadlines: Deadlines,
}

impl<K, O> KeyedContext<'_, K, O> {
    /// The key.
    #[inline]
    pub fn key(&self) -> &K {
        self.key
    }

    /// Emits a row.
    #[inline]
    pub fn emit(&mut self, row: O) {
        self.out.push((self.cx.origin, row));
    }

    /// Emits a row to a side output, one of those that the operator was given by `.side_output(&tag)`.
    pub fn side_output<S: Record>(&mut self, tag: &Tag<S>, row: &S) {
        self.cx.side(tag, row);
    }

    /// The event time of the row, or the time of the timer. [`EventTime::MIN`] in a stream without event times.
    #[inline]
    pub fn event_time(&self) -> EventTime {
        EventTime::from_millis(self.cx.time)
    }

    /// The watermark: no row with an event time at or before it is expected any more.
    pub fn watermark(&self) -> EventTime {
        EventTime::from_millis(self.cx.watermark)
    }

    /// The processing time: the same in a replay.
    pub fn now(&self) -> EventTime {
        EventTime::from_millis(self.cx.now)
    }

    /// Calls `timer` for this key once the watermark has reached `time`.
    ///
    /// At the end of the input the watermark is [`EventTime::MAX`], and all timers fire, those that are set then included: a timer that sets itself
    /// anew each time has to stop at that watermark.
    pub fn set_event_timer(&mut self, time: EventTime) {
        self.timer(TimeDomain::Event, time, false);
    }

    /// Calls `timer` for this key once the clock has reached `time`. After the end of the input it is not called any more.
    pub fn set_processing_timer(&mut self, time: EventTime) {
        self.timer(TimeDomain::Processing, time, false);
    }

    /// Deletes the event-time timer at `time`, if there is one.
    pub fn delete_event_timer(&mut self, time: EventTime) {
        self.timer(TimeDomain::Event, time, true);
    }

    /// Deletes the processing-time timer at `time`, if there is one.
    pub fn delete_processing_timer(&mut self, time: EventTime) {
        self.timer(TimeDomain::Processing, time, true);
    }

    fn timer(&mut self, domain: TimeDomain, time: EventTime, delete: bool) {
        let (slot, domain) = (self.slot, wire_domain(domain));
        self.timers.push(WireTimer { slot, domain, time: time.millis(), delete, cleanup: false });
    }

    /// What a clock shows to the state of this key. In event time that is the time of the row or timer: so it does not matter how far the watermark has come
    /// meanwhile.
    #[inline]
    pub(crate) fn clock(&self, domain: TimeDomain) -> i64 {
        match domain {
            TimeDomain::Processing => self.cx.now,
            TimeDomain::Event if self.cx.by_clock || self.cx.time == i64::MIN => self.cx.watermark,
            TimeDomain::Event => self.cx.time,
        }
    }

    /// Something of this key's state expires at `expiry`, and is dropped within the next `step` ms.
    #[inline]
    pub(crate) fn expire(&mut self, domain: TimeDomain, expiry: i64, step: i64) {
        let deadline = &mut self.deadlines[place(domain)];
        if expiry < *deadline {
            *deadline = round_up(expiry, step);
        }
    }

    /// Emits a row with an event time that the function has computed.
    #[inline]
    pub(crate) fn emit_at(&mut self, row: O, time: i64) {
        self.out_times.push(time);
        self.emit(row);
    }

    /// The event time of the row, as a number.
    #[inline]
    pub(crate) fn time(&self) -> i64 {
        self.cx.time
    }

    /// The row is too late if the watermark has reached its time: then it is counted, and goes to `tag`, if there is one.
    #[inline]
    pub(crate) fn is_late<S: Record>(&mut self, row: &S, tag: Option<&Tag<S>>) -> bool {
        let is_late = self.cx.time <= self.cx.watermark && self.cx.watermark > i64::MIN;
        if is_late {
            self.cx.late += 1;
            if let Some(tag) = tag {
                self.cx.side(tag, row);
            }
        }
        is_late
    }
}

/// What a running keyed function does with the rows of its inputs; [`Process`] and its kin are adapted to it.
pub trait KeyedFunction: 'static {
    /// what the streams are keyed by
    type Key: Key;
    /// the rows of input 0
    type Left: Row;
    /// the rows of input 1, if there is one
    type Right: Row;
    /// what is kept for each key
    type State: State;
    /// what it emits
    type Out: 'static;
    /// whether it computes the event times of what it emits, instead of leaving them those of the rows and timers that it comes from
    const COMPUTES_TIMES: bool = false;

    /// A row of input 0.
    fn left(&mut self, state: &mut Self::State, row: Self::Left, cx: &mut KeyedContext<'_, Self::Key, Self::Out>);
    /// A row of a keyed input 1.
    fn right(&mut self, _state: &mut Self::State, _row: Self::Right, _cx: &mut KeyedContext<'_, Self::Key, Self::Out>) {}
    /// A row of an input 1 without key.
    fn unkeyed(&mut self, _row: Self::Right) {}
    /// A timer.
    fn timer(&mut self, _state: &mut Self::State, _timer: Timer, _cx: &mut KeyedContext<'_, Self::Key, Self::Out>) {}
    /// Drops what has expired of a key's state by a clock that shows `time`; returns when the next of it does, rounded up.
    fn expire(&mut self, state: &mut Self::State, domain: TimeDomain, time: i64) -> Result<i64, String> {
        cleanup::sweep(state, domain, time)
    }
    /// When nothing is left of a key's state that a fresh one, encoded, would not have, because all of it has expired by a clock; [`i64::MAX`] = never.
    fn end(&self, state: &Self::State, fresh: &[u8], domain: TimeDomain) -> Result<i64, String> {
        cleanup::end(state, fresh, domain)
    }
    /// A key's state has come from bytes, with these timers for cleanups by clock: takes away stamps that are not of the clocks that they should be of. Returns
    /// whether one is missing.
    fn adopt(&mut self, state: &mut Self::State, timers: [i64; 2]) -> Result<bool, String> {
        stamp::adopt(state, timers)
    }
    /// Sets the stamps of a key's state that are missing to what the clocks show; returns whether one is missing still.
    fn meet(&mut self, state: &mut Self::State, clocks: [i64; 2]) -> Result<bool, String> {
        stamp::meet(state, clocks)
    }
    /// The schema of the state of a key.
    fn state_schema(&self) -> String {
        Codec::<Self::State>::schema()
    }
    /// What the state of a key was before.
    fn migrations() -> Migrations<Self::State> {
        Migrations::none()
    }
    /// The schema of the state that it has besides that of keys, if it has any.
    fn broadcast_schema() -> Option<String> {
        None
    }
    /// Gets ready for such state of these schemas, of which number `own` is its own.
    fn open(&mut self, _own: usize, _schemas: &[Option<&str>]) -> Result<(), String> {
        Ok(())
    }
    /// The encoded state that it has besides that of keys; empty = none.
    fn export(&self) -> Result<Vec<u8>, String> {
        Ok(vec![])
    }
    /// Takes that state back.
    fn import(&mut self, _bytes: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

/// The head of a chain that starts with a keyed function.
pub struct ProcessHead<F> {
    pub(crate) function: F,
    pub(crate) inputs: Vec<ChainInput>,
    /// the columns of input 0
    pub(crate) columns: Vec<Column>,
    pub(crate) timed: bool,
}

impl<F: KeyedFunction> Head for ProcessHead<F> {
    type Item = F::Out;
    const COUNTED: bool = true;
    const COMPUTES_TIMES: bool = F::COMPUTES_TIMES;

    fn describe(&self) -> Description {
        let passable = (self.inputs.len() == 1).then(|| self.columns.clone());
        let state_schema = Some(schema(&self.function));
        Description { head: wit::Head::Process, inputs: self.inputs.clone(), passable, timed: self.timed, state_schema }
    }

    fn start<P: Pipeline<Head = Self>, W: Terminal<P::Out>>(self, body: Body<P, W>) -> Box<dyn Chain> {
        let cleanups = Cleanups::default();
        let (unmet, timeless) = (BTreeSet::new(), BTreeSet::new());
        let calls = Calls { function: self.function, cleanups, unmet, timeless, timers: vec![], out: vec![], out_times: vec![] };
        Box::new(Running { calls, slots: Slots::new(), body })
    }
}

/// What stands between the schema of a key's state and that of broadcast state; in neither of them there is a semicolon.
const BROADCAST: &str = "; broadcast ";

/// The schema of a function's states.
fn schema<F: KeyedFunction>(function: &F) -> String {
    let keyed = function.state_schema();
    match F::broadcast_schema() {
        None => keyed,
        Some(broadcast) => keyed + BROADCAST + &broadcast,
    }
}

/// A running chain that starts with a keyed function.
struct Running<F: KeyedFunction, P: Pipeline, W> {
    calls: Calls<F>,
    slots: Slots<F::Key, F::State>,
    body: Body<P, W>,
}

/// The function, and what its calls have brought forth.
struct Calls<F: KeyedFunction> {
    function: F,
    cleanups: Cleanups,
    /// whose state has come without stamps that it needs, and has not been met
    unmet: BTreeSet<u32>,
    /// whose state was met before event time had begun, of which it lacks stamps
    timeless: BTreeSet<u32>,
    timers: Vec<WireTimer>,
    /// what the function has emitted, each with the row or timer that it comes from; pushed on together, which keeps both
    /// loops small
    out: Vec<(u32, F::Out)>,
    out_times: Vec<i64>,
}

impl<F: KeyedFunction> Calls<F> {
    /// Calls the function for what `cx` says is the row or timer, and the key and the state of its slot.
    #[inline(always)]
    fn call(
        &mut self,
        cx: &mut Context,
        slot: u32,
        key: &F::Key,
        state: &mut F::State,
        call: impl FnOnce(&mut F, &mut F::State, &mut KeyedContext<'_, F::Key, F::Out>),
    ) {
        let Self { function, cleanups, timers, out, out_times, .. } = self;
        let deadlines = cleanups.get(slot);
        let mut cx = KeyedContext { key, slot, cx, timers, out, out_times, deadlines };
        call(function, state, &mut cx);
        let new = cx.deadlines;
        // One by one: compared as an array, they would have to be one in memory. So the compiler sees that a function which lets nothing expire leaves them.
        if new[0] != deadlines[0] || new[1] != deadlines[1] {
            cleanups.set(slot, new, timers);
        }
    }
}

/// The timers of a call, of which earlier ones may delete later ones.
struct Due {
    slots: Vec<u32>,
    times: Vec<i64>,
    domain: wit::TimeDomain,
    /// by row: whether it was deleted; none = no row was
    deleted: Vec<bool>,
}

impl Due {
    fn new(timers: &DueTimers) -> Self {
        let (slots, times) = (slots_of(&timers.slots).collect(), times_of(&timers.times).collect());
        Self { slots, times, domain: timers.domain, deleted: vec![] }
    }

    fn is_deleted(&self, row: usize) -> bool {
        self.deleted.get(row) == Some(&true)
    }

    /// The function has handled `row`, and told of timers from `told` on: those that are still to come in this call are no news to the host.
    fn see_to(&mut self, row: usize, timers: &mut Vec<WireTimer>, told: usize) {
        let last = self.times.last().copied().unwrap_or(i64::MIN);
        if timers[told..].iter().all(|timer| timer.domain != self.domain || timer.time > last || timer.cleanup) {
            return;
        }
        for timer in timers.split_off(told) {
            match self.to_come(row, &timer) {
                None => timers.push(timer),
                Some(later) => {
                    self.deleted.resize(self.times.len(), false);
                    self.deleted[later] = timer.delete;
                }
            }
        }
    }

    /// The row after `row` that is this timer.
    fn to_come(&self, row: usize, timer: &WireTimer) -> Option<usize> {
        if timer.cleanup {
            return None;
        }
        let from = row + 1 + self.times[row + 1..].partition_point(|&time| time < timer.time);
        let same_time = self.times[from..].iter().take_while(|&&time| time == timer.time).count();
        let place = self.slots[from..from + same_time].iter().position(|&slot| slot == timer.slot)?;
        (timer.domain == self.domain).then_some(from + place)
    }
}

/// So many emitted rows are kept at most before they are pushed on.
const OUT_MAX: usize = 4096;

impl<F: KeyedFunction, P: Pipeline<Head = ProcessHead<F>>, W: Terminal<P::Out>> Running<F, P, W> {
    fn begin(&mut self, rows: usize, watermark: i64, now: i64) {
        self.calls.timers.clear();
        self.calls.out.clear();
        self.calls.out_times.clear();
        self.body.begin(rows, watermark, now);
    }

    fn finish(&mut self, rows: Option<usize>) -> Result<Reply, String> {
        let reply = self.body.finish(rows)?;
        Ok(Reply { timers: std::mem::take(&mut self.calls.timers), ..reply })
    }

    /// Pushes on what was emitted; `times` are those of the rows or timers.
    #[inline(never)]
    fn push(&mut self, times: &[u8]) {
        let Self { calls, body, .. } = self;
        if body.push_all(&calls.out) {
            return calls.out.clear();
        }
        body.reserve(calls.out.len());
        let times = times.as_chunks::<8>().0;
        let mut computed = calls.out_times.drain(..);
        for (origin, item) in calls.out.drain(..) {
            body.cx.origin = origin;
            body.cx.time = match F::COMPUTES_TIMES {
                true => computed.next().unwrap_or(i64::MIN),
                false => times.get(origin as usize).map_or(i64::MIN, |time| i64::from_le_bytes(*time)),
            };
            body.push(item);
        }
    }

    /// Drops what has expired of these slots, and sees to it that the rest of them follows.
    fn clean_up(&mut self, timers: &DueTimers, domain: TimeDomain) -> Result<(), String> {
        let time = match domain {
            TimeDomain::Event => timers.watermark,
            TimeDomain::Processing => timers.now,
        };
        let Self { calls, slots, .. } = self;
        for (slot, set_to) in slots_of(&timers.slots).zip(times_of(&timers.times)) {
            if calls.cleanups.fired(slot, domain, set_to) {
                let mut deadlines = calls.cleanups.get(slot);
                deadlines[place(domain)] = calls.function.expire(slots.state(slot)?, domain, time)?;
                calls.cleanups.set(slot, deadlines, &mut calls.timers);
            }
        }
        Ok(())
    }

    /// Whose state a call with these rows (or timers) meets that lacks stamps, and when in event time. The host knows of the slots of a call that they change, and of
    /// no others.
    fn met(&mut self, slots: &[u8], times: &[u8], watermark: i64) -> Vec<(u32, i64)> {
        let Calls { unmet, timeless, .. } = &mut self.calls;
        if unmet.is_empty() && timeless.is_empty() {
            return vec![];
        }
        let times = times_of(times).map(|time| if time == i64::MIN { watermark } else { time });
        let rows = slots_of(slots).zip(times.chain(std::iter::repeat(watermark)));
        let is_met = |(slot, event): &(u32, i64)| {
            let has_begun = stamp::met_at(*event).is_some();
            unmet.remove(slot) | (has_begun && timeless.remove(slot))
        };
        rows.filter(is_met).collect()
    }

    /// State that lacks stamps gets them: it counts as written when it was met. Timers for its cleanup are set by that.
    fn meet(&mut self, met: Vec<(u32, i64)>, now: i64) -> Result<(), String> {
        let Self { calls, slots, .. } = self;
        for (slot, event) in met {
            let state = slots.state(slot)?;
            if calls.function.meet(state, [event, now])? {
                calls.timeless.insert(slot);
            }
            let mut deadlines = cleanup::NEVER;
            for domain in [TimeDomain::Event, TimeDomain::Processing] {
                deadlines[place(domain)] = calls.function.expire(state, domain, i64::MIN)?;
            }
            calls.cleanups.set(slot, deadlines, &mut calls.timers);
        }
        Ok(())
    }

    /// When the states of these slots expire as a whole, if any does.
    fn expiries(&self, slots: &[u8]) -> Result<Option<Expiries>, String> {
        let timers = &self.calls.cleanups;
        if slots_of(slots).all(|slot| timers.only(slot).is_none()) {
            return Ok(None);
        }
        let fresh = encode(&F::State::default(), vec![])?;
        let mut expiries = Expiries { clocks: vec![], cleanups: vec![], ends: vec![] };
        for slot in slots_of(slots) {
            let (domain, cleanup, end) = match timers.only(slot) {
                Some((domain, cleanup)) => {
                    let end = self.calls.function.end(self.slots.peek(slot)?.1, &fresh, domain)?;
                    (domain, cleanup, end.max(cleanup))
                }
                None => (TimeDomain::Event, i64::MAX, i64::MAX),
            };
            expiries.clocks.push(place(domain) as u8);
            expiries.cleanups.extend_from_slice(&cleanup.to_le_bytes());
            expiries.ends.extend_from_slice(&end.to_le_bytes());
        }
        Ok(Some(expiries))
    }

    /// Calls the function for each row of a keyed input.
    fn rows<R: Row>(
        &mut self,
        input: Input,
        mut call: impl FnMut(&mut F, &mut F::State, R, &mut KeyedContext<'_, F::Key, F::Out>),
    ) -> Result<(), String> {
        let rows = input.rows.rows as usize;
        let reader = R::open(&mut Buffers::new(rows, input.rows.buffers))?;
        if slots_of(&input.slots).len() != rows {
            return Err("rows of a keyed input came without their slots".into());
        }
        let mut start = 0;
        while start < rows {
            start = self.rows_from(start, &reader, &input.slots, &input.times, &mut call)?;
            self.push(&input.times);
        }
        Ok(())
    }

    /// Calls the function for rows from `start` on, until it has emitted so much that this should be pushed on; returns where it stopped.
    ///
    /// A function of its own, as the loop of [`Rows`](crate::rows::Rows) is, and it makes no calls but the user's.
    #[inline(never)]
    fn rows_from<R: Row>(
        &mut self,
        start: usize,
        reader: &R::Reader,
        slots: &[u8],
        times: &[u8],
        call: &mut impl FnMut(&mut F, &mut F::State, R, &mut KeyedContext<'_, F::Key, F::Out>),
    ) -> Result<usize, String> {
        let Self { calls, slots: own, body } = self;
        let (keys, states) = own.all();
        let times = times.as_chunks::<8>().0;
        for_each_slot(slots, start, stride_of::<F::State>(), |row, slot| {
            let (Some(key), Some(state)) = (keys.get(slot as usize), states.get_mut(slot as usize)) else {
                return Err(unassigned(slot));
            };
            body.cx.origin = row as u32;
            body.cx.time = times.get(row).map_or(i64::MIN, |time| i64::from_le_bytes(*time));
            calls.call(&mut body.cx, slot, key, state, |function, state, cx| call(function, state, R::read(reader, row), cx));
            Ok(calls.out.len() >= OUT_MAX)
        })
    }
}

impl<F: KeyedFunction, P: Pipeline<Head = ProcessHead<F>>, W: Terminal<P::Out>> Chain for Running<F, P, W> {
    fn open(&mut self, schemas: &[String]) -> Result<(), String> {
        let own = schema(&self.calls.function);
        let own = schemas.iter().position(|schema| *schema == own).ok_or(NOT_NAMED)?;
        let parts = schemas.iter().map(|schema| match schema.split_once(BROADCAST) {
            None => (Some(schema.as_str()), None),
            Some((keyed, broadcast)) => (Some(keyed), Some(broadcast)),
        });
        let (keyed, broadcast): (Vec<_>, Vec<_>) = parts.unzip();
        if F::broadcast_schema().is_none() && broadcast.iter().any(Option::is_some) {
            return Err("it had a broadcast input with state of its own, and has none any more".into());
        }
        self.slots.codec.open(own, &keyed, F::migrations())?;
        self.calls.function.open(own, &broadcast)
    }

    fn process(&mut self, input: Input) -> Result<Reply, String> {
        let rows = input.rows.rows as usize;
        self.begin(rows, input.watermark, input.now);
        let (met, now) = (self.met(&input.slots, &input.times, input.watermark), input.now);
        match input.port {
            0 => self.rows::<F::Left>(input, F::left)?,
            _ if !input.slots.is_empty() => self.rows::<F::Right>(input, F::right)?,
            _ => {
                let reader = F::Right::open(&mut Buffers::new(rows, input.rows.buffers))?;
                (0..rows).for_each(|row| self.calls.function.unkeyed(F::Right::read(&reader, row)));
            }
        }
        self.meet(met, now)?;
        self.finish(Some(rows))
    }

    fn timers_fired(&mut self, timers: &DueTimers) -> Result<Reply, String> {
        self.begin(slots_of(&timers.slots).len(), timers.watermark, timers.now);
        let domain = match timers.domain {
            wit::TimeDomain::Event => TimeDomain::Event,
            wit::TimeDomain::Processing => TimeDomain::Processing,
        };
        if timers.cleanup {
            self.clean_up(timers, domain)?;
            let met = self.met(&timers.slots, &[], timers.watermark);
            self.meet(met, timers.now)?;
            return self.finish(None);
        }
        self.body.cx.by_clock = domain == TimeDomain::Processing;
        let mut due = Due::new(timers);
        for row in 0..due.times.len() {
            let (slot, time) = (due.slots[row], due.times[row]);
            if due.is_deleted(row) {
                continue;
            }
            let Self { calls, slots, body } = &mut *self;
            let (key, state) = slots.get(slot)?;
            body.cx.origin = row as u32;
            body.cx.time = time;
            let told = calls.timers.len();
            let timer = Timer { time: EventTime::from_millis(time), domain };
            calls.call(&mut body.cx, slot, key, state, |function, state, cx| function.timer(state, timer, cx));
            due.see_to(row, &mut calls.timers, told);
            if calls.out.len() >= OUT_MAX {
                self.push(&timers.times);
            }
        }
        self.push(&timers.times);
        let times = if domain == TimeDomain::Event { &timers.times[..] } else { &[] };
        let met = self.met(&timers.slots, times, timers.watermark);
        self.meet(met, timers.now)?;
        self.finish(None)
    }

    fn assign_slots(&mut self, slots: &[u8], keys: Batch) -> Result<(), String> {
        self.calls.cleanups.forget(slots_of(slots));
        self.slots.assign(slots, keys)
    }
    fn clear_slots(&mut self, slots: &[u8]) -> Result<(), String> {
        self.calls.cleanups.forget(slots_of(slots));
        self.slots.clear(slots)
    }
    fn export_slots(&mut self, slots: &[u8]) -> Result<States, String> {
        if *slots != OPERATOR_STATE {
            let states = self.slots.export(slots, |slot, bytes| self.calls.cleanups.encode(slot, bytes))?;
            return Ok(States { expiries: self.expiries(slots)?, ..states });
        }
        let bytes = self.calls.function.export()?;
        let end = u32::try_from(bytes.len()).map_err(|_| "the state to export is larger than 4 GiB")?;
        Ok(States { offsets: [0, end].map(u32::to_le_bytes).concat(), bytes, expiries: None })
    }
    fn import_slots(&mut self, slots: &[u8], states: &States) -> Result<(), String> {
        match *slots == OPERATOR_STATE {
            true => self.calls.function.import(&states.bytes),
            false => self.slots.import(slots, states, |slot, state, stored, rest| {
                *state = stored;
                self.calls.cleanups.decode(slot, rest)?;
                if self.calls.function.adopt(state, self.calls.cleanups.get(slot))? {
                    self.calls.unmet.insert(slot);
                }
                Ok(())
            }),
        }
    }
}

/// The list of the one slot under which the host asks for state that is not a key's.
pub(crate) const OPERATOR_STATE: [u8; 4] = [0xff; 4];

/// Adapts the public traits, each with the rows that it is used for.
macro_rules! adapters {
    ($($(#[$doc:meta])* $adapter:ident<$($row:ident),*>: $trait:ident, $right:ty { $($function:tt)* })*) => {$(
        $(#[$doc])*
        pub struct $adapter<F, $($row),*>(pub(crate) F, pub(crate) PhantomData<fn($($row),*)>);

        impl<$($row: Record,)* F: $trait<$($row),*>> KeyedFunction for $adapter<F, $($row),*> {
            type Key = F::Key;
            type Left = T;
            type Right = $right;
            type State = F::State;
            type Out = F::Out;

            fn timer(&mut self, state: &mut F::State, timer: Timer, cx: &mut KeyedContext<'_, F::Key, F::Out>) {
                self.0.timer(state, timer, cx);
            }
            fn migrations() -> Migrations<F::State> {
                F::migrations()
            }
            $($function)*
        }
    )*};
}

adapters! {
    /// A [`Process`] as a keyed function.
    Single<T>: Process, () {
        #[inline]
        fn left(&mut self, state: &mut F::State, row: T, cx: &mut KeyedContext<'_, F::Key, F::Out>) {
            self.0.row(state, row, cx);
        }
    }

    /// A [`CoProcess`] as a keyed function.
    Pair<T, R>: CoProcess, R {
        #[inline]
        fn left(&mut self, state: &mut F::State, row: T, cx: &mut KeyedContext<'_, F::Key, F::Out>) {
            self.0.left(state, row, cx);
        }
        #[inline]
        fn right(&mut self, state: &mut F::State, row: R, cx: &mut KeyedContext<'_, F::Key, F::Out>) {
            self.0.right(state, row, cx);
        }
    }
}

/// A [`BroadcastProcess`] as a keyed function.
pub struct WithBroadcast<F: BroadcastProcess<T, B>, T, B> {
    function: F,
    broadcast: F::Broadcast,
    codec: Codec<F::Broadcast>,
    of: PhantomData<fn(T, B)>,
}

impl<F: BroadcastProcess<T, B>, T, B> WithBroadcast<F, T, B> {
    pub(crate) fn new(function: F) -> Self {
        Self { function, broadcast: F::Broadcast::default(), codec: Codec::new(), of: PhantomData }
    }
}

impl<T: Record, B: Record, F: BroadcastProcess<T, B>> KeyedFunction for WithBroadcast<F, T, B> {
    type Key = F::Key;
    type Left = T;
    type Right = B;
    type State = F::State;
    type Out = F::Out;

    #[inline]
    fn left(&mut self, state: &mut F::State, row: T, cx: &mut KeyedContext<'_, F::Key, F::Out>) {
        self.function.row(state, &self.broadcast, row, cx);
    }
    fn unkeyed(&mut self, row: B) {
        self.function.broadcast(&mut self.broadcast, row);
    }
    fn timer(&mut self, state: &mut F::State, timer: Timer, cx: &mut KeyedContext<'_, F::Key, F::Out>) {
        self.function.timer(state, &self.broadcast, timer, cx);
    }
    fn migrations() -> Migrations<F::State> {
        F::migrations()
    }
    fn broadcast_schema() -> Option<String> {
        Some(Codec::<F::Broadcast>::schema())
    }
    fn open(&mut self, own: usize, schemas: &[Option<&str>]) -> Result<(), String> {
        self.codec.open(own, schemas, F::broadcast_migrations()).map_err(|e| format!("broadcast state: {e}"))
    }
    fn export(&self) -> Result<Vec<u8>, String> {
        self.codec.encode(&self.broadcast, vec![])
    }
    fn import(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.broadcast = if bytes.is_empty() { F::Broadcast::default() } else { self.codec.decode(bytes)?.0 };
        Ok(())
    }
}

/// A closure as a [`Process`] without timers.
pub struct ProcessClosure<F, K, S, O>(pub(crate) F, pub(crate) PhantomData<fn(K, S) -> O>);

impl<T, K: Key, S: State, O: 'static, F: FnMut(&mut S, T, &mut KeyedContext<'_, K, O>) + 'static> Process<T>
    for ProcessClosure<F, K, S, O>
{
    type Key = K;
    type State = S;
    type Out = O;

    #[inline]
    fn row(&mut self, state: &mut S, row: T, cx: &mut KeyedContext<'_, K, O>) {
        (self.0)(state, row, cx);
    }
}

/// Two closures as a [`CoProcess`] without timers.
pub struct CoProcessClosures<F, G, K, S, O>(pub(crate) F, pub(crate) G, pub(crate) PhantomData<fn(K, S) -> O>);

impl<L, R, K, S, O, F, G> CoProcess<L, R> for CoProcessClosures<F, G, K, S, O>
where
    K: Key,
    S: State,
    O: 'static,
    F: FnMut(&mut S, L, &mut KeyedContext<'_, K, O>) + 'static,
    G: FnMut(&mut S, R, &mut KeyedContext<'_, K, O>) + 'static,
{
    type Key = K;
    type State = S;
    type Out = O;

    #[inline]
    fn left(&mut self, state: &mut S, row: L, cx: &mut KeyedContext<'_, K, O>) {
        (self.0)(state, row, cx);
    }
    #[inline]
    fn right(&mut self, state: &mut S, row: R, cx: &mut KeyedContext<'_, K, O>) {
        (self.1)(state, row, cx);
    }
}
