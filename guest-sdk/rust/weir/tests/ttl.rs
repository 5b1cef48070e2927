//! State with a time to live: what is seen of it, and that it goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir::{
    EventTime, ExpiringList, ExpiringMap, ExpiringValue, Expiry, Job, KeyedContext, Process, Record, Str, Sum, TestHarness,
    Timer, Ttl, Watermarks, millis,
};

#[derive(Clone, Debug, Record)]
struct Row {
    key: u64,
    item: u64,
    op: u64,
    at: EventTime,
}

#[derive(Debug, PartialEq, Record)]
struct Line {
    text: Str,
}

fn line(text: String) -> Line {
    Line { text: text.into() }
}

macro_rules! lifetimes {
    ($($name:ident: $ttl:expr;)*) => {$(
        struct $name;
        impl Expiry for $name {
            const TTL: Ttl = $ttl;
        }
    )*};
}

lifetimes! {
    Written: Ttl::new(millis(100));
    Read: Ttl::new(millis(60)).on_read();
    InEventTime: Ttl::new(millis(80)).event_time();
}

/// Every sort of state, with every sort of lifetime.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    written: ExpiringMap<u64, u64, Written>,
    read: ExpiringMap<u64, u64, Read>,
    list: ExpiringList<u64, InEventTime>,
    value: ExpiringValue<u64, InEventTime>,
}

/// What a row does, and what it sees then.
fn act(kept: &mut Kept, row: Row, cx: &mut KeyedContext<'_, u64, Line>) {
    let item = row.item;
    match row.op {
        0 => {
            kept.written.update(item, |n| n.unwrap_or_default() + 1, cx);
            kept.list.push(item, cx);
        }
        1 => {
            kept.read.insert(item, item * 2, cx);
            kept.value.reduce(item, |a, b| a + b, cx);
        }
        2 => {
            let looked_at = kept.read.get(&item, cx).copied();
            cx.emit(line(format!("{} read {item} {looked_at:?}", row.key)));
        }
        3 => {
            let (removed, taken) = (kept.written.remove(&item, cx), kept.value.take(cx));
            cx.emit(line(format!("{} took {removed:?} {taken:?}", row.key)));
        }
        _ => {
            let written: Vec<_> = kept.written.iter(cx).collect();
            let list: Vec<_> = kept.list.iter(cx).collect();
            let text = format!("{} sees {written:?} {list:?} {:?}", row.key, kept.value.get(cx));
            cx.emit(line(text));
        }
    }
}

/// The same in the plainest way: everything is kept with the time at which it was touched, and looked through.
#[derive(Default)]
struct Model {
    written: BTreeMap<(u64, u64), (i64, u64)>,
    read: BTreeMap<(u64, u64), (i64, u64)>,
    lists: BTreeMap<u64, Vec<(i64, u64)>>,
    values: BTreeMap<u64, (i64, u64)>,
}

impl Model {
    fn act(&mut self, row: &Row, now: i64) -> Option<String> {
        let (key, item, at) = (row.key, row.item, row.at.millis());
        match row.op {
            0 => {
                let before = self.written.get(&(key, item)).filter(|(stamp, _)| now < stamp + 100).map_or(0, |(_, n)| *n);
                self.written.insert((key, item), (now, before + 1));
                self.lists.entry(key).or_default().push((at, item));
                None
            }
            1 => {
                self.read.insert((key, item), (now, item * 2));
                let (stamp, before) = self.values.get(&key).copied().unwrap_or((i64::MIN, 0));
                let before = if at < stamp.saturating_add(80) { before } else { 0 };
                self.values.insert(key, (stamp.max(at), before + item));
                None
            }
            2 => {
                let found = self.read.get_mut(&(key, item)).filter(|(stamp, _)| now < *stamp + 60);
                let value = found.map(|(stamp, value)| {
                    *stamp = now;
                    *value
                });
                Some(format!("{key} read {item} {value:?}"))
            }
            3 => {
                let removed = self.written.remove(&(key, item)).filter(|(stamp, _)| now < stamp + 100).map(|(_, n)| n);
                let taken = self.values.remove(&key).filter(|(stamp, _)| at < stamp + 80).map(|(_, n)| n);
                Some(format!("{key} took {removed:?} {taken:?}"))
            }
            _ => {
                let written = self.written.iter().filter(|((k, _), (stamp, _))| *k == key && now < stamp + 100);
                let written: Vec<_> = written.map(|((_, item), (_, n))| (item, n)).collect();
                let list = self.lists.get(&key).into_iter().flatten().filter(|(stamp, _)| at < stamp + 80);
                let list: Vec<_> = list.map(|(_, item)| item).collect();
                let value = self.values.get(&key).filter(|(stamp, _)| at < stamp + 80).map(|(_, n)| n);
                Some(format!("{key} sees {written:?} {list:?} {value:?}"))
            }
        }
    }
}

fn random(state: &mut u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % below
    }
}

/// Whatever rows do in whatever order, while both clocks go on and instances are replaced, they see what the model has; and in the end nothing is left.
#[test]
fn agrees_with_a_model() {
    for seed in 0..60 {
        let mut state = seed;
        let mut random = random(&mut state);
        let mut harness = TestHarness::new(|job: &Job| {
            let rows = job.source::<Row>("in").event_time(Row::AT, Watermarks::bounded(millis(30)));
            rows.key_by(Row::KEY).process_with(act).uid("kept").sink("out");
        });
        let mut model = Model::default();
        let mut now = 0;
        for i in 0..200 {
            let at = EventTime::from_millis(1000 + i * 5 - random(30) as i64);
            let row = Row { key: random(3), item: random(4), op: random(5), at };
            let expected: Vec<Line> = model.act(&row, now).map(line).into_iter().collect();
            harness.push("in", [row.clone()]);
            assert_eq!(harness.take::<Line>("out"), expected, "seed {seed}, row {i}: {row:?} at {now}");
            if random(3) == 0 {
                let by = random(40);
                harness.advance_clock(millis(by));
                now += by as i64;
            }
            if random(20) == 0 {
                harness.restart();
            }
        }
        harness.advance_clock(millis(1000));
        harness.advance_watermark(EventTime::from_millis(10_000));
        assert_eq!(harness.keys("kept"), 0, "seed {seed}");
    }
}

/// State is dropped by itself, an eighth of its lifetime after its end at the latest, and not before.
#[test]
fn goes_in_time() {
    let mut harness = TestHarness::new(|job: &Job| {
        let write = |value: &mut ExpiringValue<u64, Written>, row: Row, cx: &mut KeyedContext<'_, u64, Line>| {
            value.set(row.item, cx);
        };
        job.source::<Row>("in").key_by(Row::KEY).process_with(write).uid("kept").sink("out");
    });
    let row = |key| Row { key, item: 1, op: 0, at: EventTime::MIN };
    harness.push("in", [row(1), row(2)]);
    harness.advance_clock(millis(50));
    harness.push("in", [row(2)]);
    harness.advance_clock(millis(49));
    assert_eq!(harness.keys("kept"), 2);
    harness.restart();
    harness.advance_clock(millis(1 + 100 / 8));
    assert_eq!(harness.keys("kept"), 1, "the other one was written again");
    harness.advance_clock(millis(50));
    assert_eq!(harness.keys("kept"), 0);
}

/// What is in state that is written once goes when a row asks for less than all: an aggregate, a list that is filtered or taken, entries of a map.
#[test]
fn parts() {
    #[derive(Default, Serialize, Deserialize)]
    struct Parts {
        sum: ExpiringValue<u64, Written>,
        list: ExpiringList<u64, Written>,
        map: ExpiringMap<String, u64, Written>,
    }

    let mut harness = TestHarness::new(|job: &Job| {
        let act = |parts: &mut Parts, row: Row, cx: &mut KeyedContext<'_, u64, Line>| {
            let sum = Sum::of(|row: &Row| row.item);
            let item = row.item;
            let sum = parts.sum.aggregate(&sum, row, cx);
            parts.list.push(item, cx);
            parts.list.retain(|other| other % 2 == 1);
            let replaced = parts.map.insert("last".into(), item, cx);
            cx.emit(line(format!("{sum} {:?} {replaced:?}", parts.list.iter(cx).collect::<Vec<_>>())));
            if item == 5 {
                cx.emit(line(format!("{:?} {:?}", parts.list.take(cx), parts.map.remove("last", cx))));
                parts.sum.clear();
                parts.list.clear();
                parts.map.clear();
            }
        };
        job.source::<Row>("in").key_by(Row::KEY).process_with(act).uid("parts").sink("out");
    });
    let mut push = |item, then| {
        harness.push("in", [Row { key: 1, item, op: 0, at: EventTime::MIN }]);
        harness.advance_clock(millis(then));
        harness.take::<Line>("out").into_iter().map(|line| line.text.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(push(1, 10), ["1 [1] None"]);
    assert_eq!(push(2, 10), ["3 [1] Some(1)"]);
    assert_eq!(push(3, 81), ["6 [1, 3] Some(2)"]);
    assert_eq!(push(5, 0), ["11 [3, 5] Some(3)", "[3, 5] Some(5)"]);
    assert_eq!(push(7, 0), ["7 [7] None"]);
    assert_eq!(harness.keys("parts"), 1);
}

/// Sets and deletes timers at the times at which state is cleaned up.
struct Timers;

impl Process<Row> for Timers {
    type Key = u64;
    type State = ExpiringValue<u64, InEventTime>;
    type Out = Line;

    fn row(&mut self, value: &mut Self::State, row: Row, cx: &mut KeyedContext<'_, u64, Line>) {
        value.set(row.item, cx);
        for time in 0..200 {
            cx.set_event_timer(EventTime::from_millis(time));
            if row.op == 1 || time % 50 != 0 {
                cx.delete_event_timer(EventTime::from_millis(time));
            }
        }
    }

    fn timer(&mut self, value: &mut Self::State, timer: Timer, cx: &mut KeyedContext<'_, u64, Line>) {
        cx.emit(line(format!("{} {} {:?}", cx.key(), timer.time.millis(), value.get(cx))));
    }
}

/// The function's own timers are its own, whatever times they have: they fire with the state that was there at their time, though the watermark is far ahead.
#[test]
fn timers_of_the_function() {
    let mut harness = TestHarness::new(|job: &Job| {
        let rows = job.source::<Row>("in").event_time(Row::AT, Watermarks::bounded(millis(0)));
        rows.key_by(Row::KEY).process(Timers).uid("timers").sink("out");
    });
    let row = |key, op| Row { key, item: key, op, at: EventTime::from_millis(20) };
    harness.push("in", [row(1, 0), row(2, 1)]);
    let lines = |harness: &mut TestHarness| -> Vec<String> {
        harness.take::<Line>("out").into_iter().map(|line| line.text.to_string()).collect()
    };
    assert_eq!(lines(&mut harness), ["1 0 Some(1)"]);
    harness.advance_watermark(EventTime::from_millis(1000));
    assert_eq!(lines(&mut harness), ["1 50 Some(1)", "1 100 None", "1 150 None"]);
    assert_eq!(harness.keys("timers"), 0);
}
