//! What a snapshot of windows is, and what is no snapshot of them.

use std::sync::mpsc;

use serde_json::json;
use weir_operator::snapshot::misfit;
use weir_operator::{Error, Predecessor, Snapshot};
use weir_plan::job::Stage;
use weir_state::Entries;
use weir_types::graph::{Assigner, Head, TimeDomain, Trigger, Window};
use weir_types::{EventTime, KeyGroupRange};

use crate::disk::Disk;
use crate::harness::{MAX_PARALLELISM, Operator, Row, Subtasks, sorted};
use crate::reference::Pane;

const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: MAX_PARALLELISM };

fn window(assigner: Assigner) -> Window {
    Window {
        assigner,
        domain: TimeDomain::Event,
        trigger: Trigger { on_time: true, early_every_ms: Some(10), every_count: None, purging: false },
        allowed_lateness_ms: 5,
        late_port: Some(1),
        mergeable: true,
    }
}

fn operator(window: Window, slots_max: Option<usize>) -> Operator {
    Operator::new(window, Stage::Complete, slots_max)
}

fn assigners() -> [Assigner; 5] {
    [
        Assigner::Tumbling { size_ms: 10, offset_ms: 3 },
        Assigner::Sliding { size_ms: 10, slide_ms: 4, offset_ms: 0 },
        Assigner::Sliding { size_ms: 3, slide_ms: 10, offset_ms: 1 },
        Assigner::Session { gap_ms: 5 },
        Assigner::Global,
    ]
}

/// Very many keys come back in pieces, where nothing limits the slots: no call carries them all.
#[test]
fn comes_back_in_pieces() {
    for assigner in assigners() {
        let mut old = operator(window(assigner), None);
        let rows: Vec<_> = (0..20_000).map(|i| (i, i % 4, i as u32)).collect();
        old.rows(&rows);
        let mut new = operator(window(assigner), None);
        new.restore(&[old.snapshot()], ALL).expect("it is a snapshot of such windows");
        for operator in [&mut old, &mut new] {
            operator.watermark(EventTime::MAX);
        }
        let sorted = |mut operator: Operator| {
            let mut panes = operator.take().0;
            panes.sort();
            panes
        };
        let expected = sorted(old);
        assert!(expected.len() >= 10_000 && sorted(new) == expected, "{assigner:?}");
    }
}

/// A subtask that has no reason to look at the clock does not hold it back for those who take over its keys: what others have emitted does not come again.
#[test]
fn idle_clocks_hold_nothing_back() {
    let definition = Window {
        domain: TimeDomain::Processing,
        trigger: Trigger { on_time: true, early_every_ms: None, every_count: None, purging: false },
        ..window(Assigner::Sliding { size_ms: 10, slide_ms: 5, offset_ms: 0 })
    };
    let mut subtasks = Subtasks::new(definition, Stage::Complete, (4, None));
    subtasks.set_now(7);
    subtasks.rows(&[(1, 0, 1)]);
    let mut starts = |now| {
        subtasks.clock(now);
        subtasks.restart((1, None));
        subtasks.take().0.iter().map(|pane| pane.start).collect::<Vec<_>>()
    };
    assert_eq!((starts(10), starts(14), starts(15), starts(100)), (vec![0], vec![], vec![5], vec![]));
}

/// Where subtasks were not equally far, and one takes over their keys: windows that one of them has emitted do not come again, its late rows are late, and those of the
/// other one are not.
#[test]
fn who_is_ahead_stays_ahead() {
    let definition = Window {
        trigger: Trigger { on_time: true, early_every_ms: None, every_count: None, purging: false },
        allowed_lateness_ms: 0,
        ..window(Assigner::Sliding { size_ms: 10, slide_ms: 5, offset_ms: 0 })
    };
    let keys = 0..8;
    let rows = |time, first_id| keys.clone().map(|key| (key, time, first_id + key as u32)).collect::<Vec<Row>>();
    let mut subtasks = Subtasks::new(definition, Stage::Complete, (2, None)).uneven(&[0, 6]);
    let (ahead, behind): (Vec<i64>, Vec<i64>) = keys.clone().partition(|&key| subtasks.owner_of(key) == 0);
    assert!(!ahead.is_empty() && !behind.is_empty());
    let starts = |panes: &[Pane], of: &[i64]| {
        sorted(panes.iter().filter(|pane| of.contains(&pane.key)).map(|pane| (pane.start, pane.key)).collect())
    };
    let windows = |start: EventTime, of: &[i64]| of.iter().map(|&key| (start, key)).collect::<Vec<_>>();

    subtasks.rows(&rows(7, 0));
    subtasks.watermark(10);
    subtasks.restart((1, None));
    let panes = subtasks.take().0;
    assert_eq!((starts(&panes, &ahead), starts(&panes, &behind)), (windows(0, &ahead), vec![]));

    subtasks.rows(&rows(4, 100));
    let late = subtasks.take().1;
    assert_eq!(sorted(late), ahead.iter().map(|&key| 100 + key as u32).collect::<Vec<_>>());
    // Before time has caught up, another one takes over from it.
    subtasks.watermark(6);
    subtasks.restart((3, None));
    subtasks.watermark(EventTime::MAX);
    let panes = subtasks.take().0;
    assert_eq!(starts(&panes, &ahead), windows(5, &ahead));
    assert_eq!(starts(&panes, &behind), [0, 5].into_iter().flat_map(|start| windows(start, &behind)).collect::<Vec<_>>());
    assert_eq!(subtasks.late_rows(), ahead.len() as u64);
}

/// Who goes on after the end of the input has more to read: time begins anew, and windows make rows again, also those that were emitted at the end.
#[test]
fn time_begins_anew_after_the_end() {
    for assigner in assigners() {
        for domain in [TimeDomain::Event, TimeDomain::Processing] {
            let trigger = Trigger { on_time: true, early_every_ms: None, every_count: None, purging: false };
            let definition = Window { domain, trigger, ..window(assigner) };
            let mut old = operator(definition, None);
            old.clock(1);
            old.rows(&[(1, 1, 1)]);
            old.watermark(EventTime::MAX);
            assert!(!old.take().0.is_empty(), "{definition:?}: all is emitted at the end");
            let mut new = operator(definition, None);
            new.restore(&[old.snapshot()], ALL).expect("it is a snapshot of such windows");
            new.clock(2);
            new.rows(&[(1, 2, 2)]);
            assert_eq!((new.take().0.len(), new.late_rows()), (0, 0), "{definition:?}: they wait for their time");
            new.watermark(EventTime::MAX);
            let panes = new.take().0;
            assert!(!panes.is_empty() && panes.iter().all(|pane| &*pane.rows == "2"), "{definition:?}: {panes:?}");
        }
    }
}

/// What scalars say of keys that are ahead counts for those that are taken over, and has to be whole.
#[test]
fn wrong_scalars_are_errors() {
    let restore = |ahead: serde_json::Value| {
        let mut scalars = operator(window(assigners()[1]), None).snapshot().scalars;
        scalars["ahead"] = ahead;
        let mut new = operator(window(assigners()[1]), None);
        let predecessor = Predecessor { groups: ALL, scalars: &scalars };
        let result = new.chain.begin_restore(&[predecessor], &new.context);
        result.map(|()| {
            new.rows(&[(1, 5, 1)]);
            new.late_rows()
        })
    };
    assert_eq!(restore(json!([])).expect("nobody is ahead"), 0);
    assert_eq!(restore(json!([[0, MAX_PARALLELISM, 100]])).expect("all are ahead"), 1);
    assert_eq!(restore(json!([[0, MAX_PARALLELISM, EventTime::MAX]])).expect("all were at the end"), 0);
    assert_eq!(restore(json!([[MAX_PARALLELISM, u16::MAX, 100], [7, 3, 100]])).expect("others are ahead"), 0);
    for ahead in [json!(7), json!([7]), json!([[0, 1]]), json!([[0, -1, 100]]), json!([[0, 1, "100"]]), json!([[0, 65_536, 100]])]
    {
        let error = restore(ahead).expect_err("it is not whole").to_string();
        assert!(error.contains("ahead"), "{error}");
    }
}

/// Two rows at the end of time are of one session, and so of one entry.
#[test]
fn sessions_at_the_end_of_time() {
    let mut old = operator(window(Assigner::Session { gap_ms: 5 }), None);
    old.rows(&[(1, EventTime::MAX, 1), (1, EventTime::MAX, 2), (1, EventTime::MAX - 1, 3)]);
    let snapshot = old.snapshot();
    assert_eq!(snapshot.entries.len(), 1);
    let mut new = operator(window(Assigner::Session { gap_ms: 5 }), None);
    new.restore(&[snapshot], ALL).expect("it is a snapshot of such windows");
    new.watermark(EventTime::MAX);
    assert_eq!(new.take().0.iter().map(|pane| &*pane.rows).collect::<Vec<_>>(), ["1 2 3"]);
}

/// What is on disk costs a checkpoint nothing, but for what has changed since the last one.
#[test]
fn checkpoints_have_what_has_changed() {
    for assigner in assigners() {
        let disk = Disk::new();
        let mut operator = Operator::on(disk.open(), window(assigner), Stage::Complete, Some(50));
        let mut changed = |rows: &[Row]| {
            operator.rows(rows);
            let snapshot = operator.snapshot();
            assert!(snapshot.entries.is_empty(), "all of it is on disk");
            let changes = snapshot.changes.and_then(|changes| changes.recv().ok()).expect("a database keeps copies");
            let count = changes.count();
            let (tell, told) = mpsc::sync_channel(1);
            tell.send(changes).expect("the receiver is there");
            disk.write(told);
            count
        };
        let all: Vec<Row> = (0..100).map(|key| (key, 1, key as u32)).collect();
        assert!(changed(&all) >= 40, "{assigner:?}: those that are in slots");
        assert_eq!(changed(&[]), 0, "{assigner:?}");
        assert!((1..10).contains(&changed(&[(7, 2, 100)])), "{assigner:?}: the windows of a row");
        assert_eq!(changed(&[]), 0, "{assigner:?}");
    }
}

/// State of windows is not taken for that of others: on another grid, or of sessions.
#[test]
fn other_windows_are_refused() {
    for (i, of) in assigners().into_iter().enumerate() {
        for (j, to) in assigners().into_iter().enumerate() {
            let mut old = operator(window(of), None);
            old.rows(&[(1, 5, 1), (2, 11, 2)]);
            let result = operator(window(to), None).restore(&[old.snapshot()], ALL);
            assert_eq!(result.is_ok(), i == j, "{of:?} to {to:?}");
            if let Err(error) = result {
                assert!(matches!(&error, Error::Misfit { operator, .. } if operator == "window"), "{error}");
            }
            let told = misfit(Head::Window(window(to)), &old.snapshot().scalars);
            assert_eq!(told.is_none(), i == j, "{of:?} to {to:?} is told before: {told:?}");
        }
    }
    // A trigger that needs to know the rows of each window does not go by cells.
    let counts = Window {
        trigger: Trigger { on_time: true, early_every_ms: None, every_count: Some(2), purging: false },
        ..window(assigners()[1])
    };
    let mut old = operator(window(assigners()[1]), None);
    operator(counts, None).restore(&[old.snapshot()], ALL).expect_err("the entries are of cells");
    // The gap of sessions may change: those that are there keep their ends.
    let mut old = operator(window(Assigner::Session { gap_ms: 5 }), None);
    old.rows(&[(1, 0, 1)]);
    let mut new = operator(window(Assigner::Session { gap_ms: 7 }), None);
    new.restore(&[old.snapshot()], ALL).expect("sessions are sessions");
    new.watermark(4);
    assert_eq!(new.take().0.len(), 1);
}

/// Whatever a byte of an entry is changed to, the operator goes on or says what is wrong; it does not panic.
#[test]
fn corrupt_entries_are_errors() {
    for assigner in assigners() {
        for slots_max in [None, Some(2)] {
            let mut old = operator(window(assigner), slots_max);
            old.rows(&[(1, 1, 1), (2, 2, 2), (2, 3, 3), (2, 40, 4), (3, 42, 5)]);
            let snapshot = old.snapshot();
            let mut refused = 0;
            for entry in snapshot.entries.iter() {
                let of_namespaces = (0..64).map(|bit| (entry.namespace ^ 1 << bit, entry.key.to_vec(), entry.value.to_vec()));
                let of_values = (0..entry.value.len()).flat_map(|at| {
                    [0x01, 0x80, 0xff].map(|change| {
                        let mut value = entry.value.to_vec();
                        value[at] ^= change;
                        (entry.namespace, entry.key.to_vec(), value)
                    })
                });
                let of_keys = (0..entry.key.len()).map(|at| {
                    let mut key = entry.key.to_vec();
                    key[at] ^= 1;
                    (entry.namespace, key, entry.value.to_vec())
                });
                let of_lengths =
                    (0..entry.value.len()).map(|end| (entry.namespace, entry.key.to_vec(), entry.value[..end].to_vec()));
                for (namespace, key, value) in of_namespaces.chain(of_values).chain(of_keys).chain(of_lengths) {
                    let mut entries = Entries::default();
                    entries.push(entry.group, namespace, &key, &value);
                    let entries = Snapshot { entries, changes: None, operator_state: None, scalars: snapshot.scalars.clone() };
                    let mut new = operator(window(assigner), slots_max);
                    if new.restore(&[entries], ALL).is_err() {
                        refused += 1;
                        continue;
                    }
                    new.rows(&[(1, 1, 6), (2, 4, 7)]);
                    new.clock(100);
                    new.watermark(EventTime::MAX);
                }
            }
            assert!(refused > 20, "{refused} for {assigner:?}");
        }
    }
}
