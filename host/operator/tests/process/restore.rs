//! What a snapshot of a process function is, and what is no snapshot of one.

use serde_json::json;
use weir_operator::snapshot::misfit;
use weir_operator::{Error, Predecessor};
use weir_state::Entries;
use weir_types::graph::Head;
use weir_types::{KeyGroup, KeyGroupRange};

use crate::harness::{MAX_PARALLELISM, Op, Operator, Row};
use crate::native::Counts;

const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: MAX_PARALLELISM };

fn rows(keys: std::ops::Range<i64>, op: Op, time: i64) -> Vec<Row> {
    keys.map(|key| (key, op, time)).collect()
}

fn operator(slots_max: Option<usize>) -> Operator {
    Operator::new(Counts::default(), slots_max, None)
}

/// Keys without state are not in a snapshot, but their timers are; so are keys without timers.
#[test]
fn holds_what_there_is() {
    for slots_max in [None, Some(3)] {
        let mut old = operator(slots_max);
        old.rows(&rows(0..10, Op::Set, 5));
        old.rows(&rows(0..10, Op::Forget, 0));
        old.rows(&rows(10..20, Op::Count, 0));
        old.rows(&rows(20..30, Op::Forget, 0));
        let snapshot = old.snapshot();
        let of_kind = |kind| snapshot.entries.iter().filter(|e| e.key[0] == kind).map(|e| e.namespace).collect::<Vec<_>>();
        assert_eq!((of_kind(0), of_kind(1), of_kind(2)), (vec![0; 10], vec![5; 10], vec![]));
        assert_eq!((snapshot.operator_state, snapshot.scalars), (None, json!({ "version": 2, "layout": "keys" })));
    }
}

/// A snapshot changes nothing about which keys are cold, nor does it move any.
#[test]
fn leaves_no_trace() {
    let run = |snapshots: bool| {
        let mut operator = operator(Some(8));
        let mut seen = vec![];
        for round in 0..40 {
            operator.rows(&rows(round * 3..round * 3 + 5, Op::Set, round));
            if snapshots {
                operator.snapshot();
            }
            seen.push((operator.chain.slots(), operator.chain.evictions(), operator.take()));
        }
        seen
    };
    assert_eq!(run(true), run(false));
}

/// Timers of one time fire in the order of their keys, in whatever order the entries come.
#[test]
fn timers_come_by_key() {
    let mut old = operator(None);
    for key in [3, 1, 4, 15, 9, 2, 6] {
        old.rows(&[(key, Op::Set, 5), (key, Op::Set, 4)]);
    }
    let snapshot = old.snapshot();
    for reversed in [false, true] {
        let mut new = operator(None);
        let mut all: Vec<_> = snapshot.entries.iter().collect();
        if reversed {
            all.reverse();
        }
        for entry in all {
            let mut entries = Entries::default();
            entries.push(entry.group, entry.namespace, entry.key, entry.value);
            new.chain.restore_entries(&entries, &new.context).expect("an entry can come by itself");
        }
        new.chain.finish_restore().expect("there is room");
        new.watermark(9).expect("the timers end");
        let fired: Vec<_> = new.take_in_order().into_iter().map(|(key, _, time)| (time, key)).collect();
        let keys = [1, 2, 3, 4, 6, 9, 15];
        let expected: Vec<_> = [4, 5].into_iter().flat_map(|time| keys.map(|key| (time, key))).collect();
        assert_eq!(fired, expected);
    }
}

/// An operator with the rows of a broadcast input takes them along, to wherever it goes.
#[test]
fn broadcast_state_comes_along() {
    let mut old = operator(None);
    old.broadcast(10);
    let snapshot = old.snapshot();
    assert!(snapshot.operator_state.is_some() && snapshot.entries.is_empty());
    let mut new = operator(None);
    new.restore(&[snapshot], ALL).expect("it is a snapshot of counts");
    new.rows(&[(1, Op::Count, 0)]);
    assert_eq!(new.take(), [(1, 11, i64::MIN)]);
}

/// The end of the input is no time by which state could be old: who goes on from there finds it, and cleans it up in its time.
#[test]
fn state_outlives_the_end() {
    for (op, time) in [(Op::SetCleanup, 10), (Op::Live, 11)] {
        for slots_max in [None, Some(3)] {
            let mut old = operator(slots_max);
            old.rows(&rows(0..10, op, time));
            old.watermark(i64::MAX).expect("no timer is set");
            let mut new = operator(None);
            new.restore(&[old.snapshot()], ALL).expect("it is a snapshot of counts");
            let mut seen = || {
                new.rows(&rows(0..10, Op::Count, 0));
                let seen = new.take();
                new.watermark(time).expect("cleanups end");
                seen
            };
            let counts = |count| (0..10).map(|key| (key, count, i64::MIN)).collect::<Vec<_>>();
            assert_eq!((seen(), seen()), (counts(2), counts(1)), "{op:?} with {slots_max:?} slots");
        }
    }
}

fn reason(error: &Error) -> String {
    assert!(matches!(error, Error::Restore { operator, .. } if operator == "counts"), "{error}");
    error.to_string()
}

/// What is of another version or another operator is refused, and said to be.
#[test]
fn others_are_refused() {
    for (scalars, expected) in [
        (json!({ "version": 1, "layout": "keys" }), "version 1"),
        (json!({ "version": 2, "layout": "sessions" }), "sessions"),
        (json!({ "version": 2 }), "unknown"),
        (json!({ "version": 2, "layout": "keys", "expiry": { "clocks": [0] } }), "clocks"),
        (json!({ "version": "1" }), "version"),
        (json!(null), "version"),
    ] {
        let mut new = operator(None);
        let error = new
            .chain
            .begin_restore(&[Predecessor { groups: ALL, scalars: &scalars }], &new.context)
            .expect_err("it is no snapshot of counts");
        assert!(error.to_string().contains(expected), "{error}");
        // What is whole is not damaged.
        assert_eq!(matches!(&error, Error::Restore { .. }), expected == "clocks", "{error}");
        assert_eq!(misfit(Head::Process, &scalars).is_some(), expected != "clocks", "it is told before");
    }
    let key = |kind: u8, key: i64| [&[kind][..], &key.to_be_bytes()].concat();
    let mut old = operator(None);
    old.rows(&[(7, Op::Count, 0)]);
    let group = old.snapshot().entries.iter().next().expect("the state of the key").group;
    for (group, namespace, key) in [
        (group, 0, vec![]),
        (group, 0, vec![0]),
        (group, 0, vec![0, 1, 2, 3]),
        (group, 0, key(5, 7)),
        (group, 1, key(0, 7)),
        (KeyGroup((group.0 + 1) % MAX_PARALLELISM), 0, key(0, 7)),
        (KeyGroup(MAX_PARALLELISM), 0, key(0, 7)),
    ] {
        let mut new = operator(None);
        let mut entries = Entries::default();
        entries.push(group, namespace, &key, b"12345678");
        reason(&new.chain.restore_entries(&entries, &new.context).expect_err("it is no entry of counts"));
    }
}
