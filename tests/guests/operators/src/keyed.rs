//! Keys, and functions with state and timers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir::{
    BroadcastProcess, CoProcess, EventTime, ExpiringMap, ExpiringValue, Expiry, Job, KeyedContext, KeyedStream, Process, Str,
    Stream, Tag, TimeDomain, Timer, Ttl, millis,
};

use crate::{Line, Row, leak, line, rows, timed};

/// Emits the key and how many of its rows there were.
fn counts<K: weir::Key + std::fmt::Debug>(keyed: KeyedStream<Row, K>) {
    keyed
        .process_with(|count: &mut u64, _row: Row, cx: &mut KeyedContext<'_, K, Line>| {
            *count += 1;
            cx.emit(line(format!("{:?} {count}", cx.key())));
        })
        .sink("out");
}

pub fn computed_key(job: &Job) {
    counts(rows(job, "in").key_by(|row: &Row| row.number.rem_euclid(3)));
}

pub fn computed_keys(job: &Job) {
    counts(rows(job, "in").filter(|row| row.number > 0).key_by(|row: &Row| (row.number % 2 == 0, row.key.to_string())));
}

pub fn several_fields(job: &Job) {
    counts(rows(job, "in").key_by((Row::KEY, Row::NUMBER)));
}

/// Counts the rows of each key. Each row may leak.
pub fn count(job: &Job) {
    let leak = leak(job);
    rows(job, "in")
        .key_by(Row::KEY)
        .process_with(move |count: &mut u64, row: Row, cx: &mut KeyedContext<'_, Str, Line>| {
            leak();
            *count += 1;
            cx.emit(line(format!("{} {count}", row.key)));
        })
        .uid("leaking")
        .sink("out");
}

/// Counts the rows of each number, and keeps a text of it that has as many bytes as the argument `bytes` says.
pub fn large_state(job: &Job) {
    let bytes: usize = job.argument("bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    rows(job, "in")
        .key_by(Row::NUMBER)
        .process_with(move |(count, text): &mut (u64, String), row: Row, cx: &mut KeyedContext<'_, i64, Line>| {
            if text.is_empty() {
                *text = format!("{:0bytes$}", row.number);
            }
            *count += 1;
            cx.emit(line(format!("{} {count} {}", row.number, text.trim_start_matches('0'))));
        })
        .uid("large")
        .sink("out");
}

/// The running sum of each key, with the row that came last.
pub fn reduce(job: &Job) {
    rows(job, "in")
        .key_by(Row::KEY)
        .reduce(|sum, row| Row { number: sum.number + row.number, ..row })
        .map(|row| line(format!("{} {} {}", row.key, row.id, row.number)))
        .sink("out");
}

/// Rows with odd numbers go to the side, with their number among the rows of their key.
struct Parts(Tag<Line>);

impl Process<Row> for Parts {
    type Key = Str;
    type State = u64;
    type Out = Line;

    fn row(&mut self, count: &mut u64, row: Row, cx: &mut KeyedContext<'_, Str, Line>) {
        *count += 1;
        let line = line(format!("{} {count} {}", row.key, row.id));
        if row.number % 2 == 0 { cx.emit(line) } else { cx.side_output(&self.0, &line) }
    }
}

pub fn process_side(job: &Job) {
    let odd = Tag::new("odd");
    rows(job, "in").key_by(Row::KEY).side_output(&odd).process(Parts(odd.clone())).sink("out");
    job.side_output(&odd).sink("side");
}

/// Collects the rows of a key until none came for 300 ms of event time.
struct Collect;

/// State of every sort: a value, a list, a map.
#[derive(Default, Serialize, Deserialize)]
struct Collected {
    ends: Option<EventTime>,
    ids: Vec<u64>,
    thirds: BTreeMap<i64, u64>,
}

impl Process<Row> for Collect {
    type Key = Str;
    type State = Collected;
    type Out = Line;

    fn row(&mut self, state: &mut Collected, row: Row, cx: &mut KeyedContext<'_, Str, Line>) {
        state.ids.push(row.id);
        *state.thirds.entry(row.number.rem_euclid(3)).or_default() += 1;
        let ends = cx.event_time() + millis(300);
        if let Some(before) = state.ends.replace(ends) {
            cx.delete_event_timer(before);
        }
        cx.set_event_timer(ends);
    }

    fn timer(&mut self, state: &mut Collected, timer: Timer, cx: &mut KeyedContext<'_, Str, Line>) {
        let Collected { ends, ids, thirds } = std::mem::take(state);
        assert_eq!((ends, timer.domain), (Some(timer.time), TimeDomain::Event));
        cx.emit(line(format!("{} {} {ids:?} {thirds:?}", cx.key(), timer.time.millis())));
    }
}

pub fn state(job: &Job) {
    timed(job, "in").key_by(Row::KEY).process(Collect).sink("out");
}

/// For 300 ms of event time.
pub struct Briefly;

impl Expiry for Briefly {
    const TTL: Ttl = Ttl::new(millis(300)).event_time();
}

/// The number of rows of each key since there was none for a while, and the last number of each third.
pub fn expiring_rows(rows: Stream<Row>) -> Stream<Line> {
    type Kept = (ExpiringValue<u64, Briefly>, ExpiringMap<i64, i64, Briefly>);
    let keep = |(count, thirds): &mut Kept, row: Row, cx: &mut KeyedContext<'_, Str, Line>| {
        let count = *count.reduce(1, |a, b| a + b, cx);
        thirds.insert(row.number.rem_euclid(3), row.number, cx);
        cx.emit(line(format!("{} {} {count} {:?}", row.key, row.id, thirds.iter(cx).collect::<Vec<_>>())));
    };
    rows.key_by(Row::KEY).process_with(keep).uid("expiring").break_chain()
}

pub fn expiring(job: &Job) {
    expiring_rows(timed(job, "in").break_chain()).sink("out");
}

/// Each row has a key of its own, which is never heard of again.
pub fn expiring_ids(job: &Job) {
    let keep = |seen: &mut ExpiringValue<i64, Briefly>, row: Row, cx: &mut KeyedContext<'_, u64, Line>| {
        seen.set(row.number, cx);
        cx.emit(line(row.id.to_string()));
    };
    timed(job, "in").key_by(Row::ID).process_with(keep).uid("expiring").sink("out");
}

/// For 200 ms of processing time.
struct Shortly;

impl Expiry for Shortly {
    const TTL: Ttl = Ttl::new(millis(200));
}

/// The number of rows of each key since there was none for a while.
pub fn expiring_soon(job: &Job) {
    let keep = |count: &mut ExpiringValue<u64, Shortly>, row: Row, cx: &mut KeyedContext<'_, Str, Line>| {
        let count = *count.reduce(1, |a, b| a + b, cx);
        cx.emit(line(format!("{} {count}", row.key)));
    };
    rows(job, "in").key_by(Row::KEY).process_with(keep).uid("expiring").sink("out");
}

/// Says what came, a moment after it came.
struct Echo;

impl Process<Row> for Echo {
    type Key = u64;
    type State = i64;
    type Out = Line;

    fn row(&mut self, number: &mut i64, row: Row, cx: &mut KeyedContext<'_, u64, Line>) {
        *number = row.number;
        cx.set_processing_timer(cx.now() + millis(2));
        cx.set_processing_timer(cx.now() + millis(1));
        cx.delete_processing_timer(cx.now() + millis(2));
    }

    fn timer(&mut self, number: &mut i64, timer: Timer, cx: &mut KeyedContext<'_, u64, Line>) {
        assert!(timer.domain == TimeDomain::Processing && timer.time <= cx.now());
        cx.emit(line(format!("{} {number}", cx.key())));
    }
}

pub fn processing_timers(job: &Job) {
    rows(job, "in").key_by(Row::ID).process(Echo).sink("out");
}

/// Sums up the numbers of each key on both sides, and emits them at the end of the input.
struct Sums;

impl CoProcess<Row, Row> for Sums {
    type Key = Str;
    type State = (i64, i64);
    type Out = Line;

    fn left(&mut self, (left, _): &mut (i64, i64), row: Row, cx: &mut KeyedContext<'_, Str, Line>) {
        *left += row.number;
        cx.set_event_timer(EventTime::MAX);
    }

    fn right(&mut self, (_, right): &mut (i64, i64), row: Row, cx: &mut KeyedContext<'_, Str, Line>) {
        *right += row.number;
        cx.set_event_timer(EventTime::MAX);
    }

    fn timer(&mut self, (left, right): &mut (i64, i64), _: Timer, cx: &mut KeyedContext<'_, Str, Line>) {
        cx.emit(line(format!("{} {left} {right}", cx.key())));
    }
}

pub fn co_process(job: &Job) {
    let other = rows(job, "other").key_by(Row::KEY);
    rows(job, "in").key_by(Row::KEY).connect(other).process(Sums).sink("out");
}

/// Numbers the rows of each key, those of both sides together.
pub fn co_process_closures(job: &Job) {
    let other = rows(job, "other").key_by(Row::KEY);
    let number = |count: &mut u64, row: Row, cx: &mut KeyedContext<'_, Str, Line>| {
        *count += 1;
        cx.emit(line(format!("{} {count}", row.key)));
    };
    rows(job, "in").key_by(Row::KEY).connect(other).process_with(number, number).sink("out");
}

/// Counts, for each key, the rows whose number is none of those that were broadcast.
struct Allowed;

impl BroadcastProcess<Row, Row> for Allowed {
    type Key = Str;
    type State = Vec<i64>;
    type Broadcast = Vec<i64>;
    type Out = Line;

    fn row(&mut self, numbers: &mut Vec<i64>, _: &Vec<i64>, row: Row, cx: &mut KeyedContext<'_, Str, Line>) {
        numbers.push(row.number);
        cx.set_event_timer(EventTime::MAX);
    }

    fn broadcast(&mut self, refused: &mut Vec<i64>, row: Row) {
        refused.push(row.number);
    }

    fn timer(&mut self, numbers: &mut Vec<i64>, refused: &Vec<i64>, _: Timer, cx: &mut KeyedContext<'_, Str, Line>) {
        let allowed = numbers.iter().filter(|number| !refused.contains(number)).count();
        cx.emit(line(format!("{} {allowed}", cx.key())));
    }
}

pub fn broadcast_process(job: &Job) {
    let other = rows(job, "other");
    rows(job, "in").key_by(Row::KEY).connect_broadcast(other).process(Allowed).sink("out");
}

/// Counts the rows of each key, and sums up what is broadcast.
struct Tally;

impl BroadcastProcess<Row, Row> for Tally {
    type Key = Str;
    type State = u64;
    /// how many rows were broadcast, and the sum of their numbers
    type Broadcast = (u64, i64);
    type Out = Line;

    fn row(&mut self, count: &mut u64, _: &(u64, i64), _row: Row, cx: &mut KeyedContext<'_, Str, Line>) {
        *count += 1;
        cx.set_event_timer(EventTime::MAX);
    }

    fn broadcast(&mut self, (rows, sum): &mut (u64, i64), row: Row) {
        *rows += 1;
        *sum += row.number;
    }

    fn timer(&mut self, count: &mut u64, (rows, sum): &(u64, i64), _: Timer, cx: &mut KeyedContext<'_, Str, Line>) {
        cx.emit(line(format!("{} {count} {rows} {sum}", cx.key())));
    }
}

pub fn broadcast_tally(job: &Job) {
    let other = rows(job, "other");
    rows(job, "in").key_by(Row::KEY).connect_broadcast(other).process(Tally).uid("tally").sink("out");
}
