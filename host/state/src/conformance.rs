//! What every [`StateBackend`] must do. A new backend is done when [`check`] passes on it.

use std::collections::BTreeMap;

use weir_types::graph::TimeDomain;
use weir_types::{EventTime, KeyGroup, KeyGroupRange};

use crate::{Clocks, Expiry, StateBackend, StateKey, expiry};

type Owned = ((KeyGroup, u32, i64, Vec<u8>), Vec<u8>);

fn at<'a>(group: u16, operator: u32, namespace: i64, key: &'a [u8]) -> StateKey<'a> {
    StateKey { group: KeyGroup(group), operator, namespace, key }
}

fn scan(backend: &mut dyn StateBackend, start: u16, end: u16, operator: u32, namespace: Option<i64>) -> Vec<Owned> {
    let mut all = vec![];
    let mut each = |k: StateKey<'_>, v: &[u8]| all.push(((k.group, k.operator, k.namespace, k.key.to_vec()), v.to_vec()));
    backend.scan(KeyGroupRange { start, end }, operator, namespace, &mut each).expect("a scan succeeds");
    all
}

fn get(backend: &mut dyn StateBackend, keys: &[StateKey<'_>]) -> Vec<Option<Vec<u8>>> {
    let mut values = vec![None; keys.len()];
    backend.get(keys, &mut |i, v| values[i] = Some(v.to_vec())).expect("a get succeeds");
    values
}

/// Checks a fresh, empty backend against the contract.
///
/// # Panics
/// If it breaks it.
pub fn check(backend: &mut dyn StateBackend) {
    reads_what_was_written(backend);
    finds_in_the_order_asked(backend);
    does_nothing_for_nothing(backend);
    scans_in_order(backend);
    deletes_ranges(backend);
    keeps_borders(backend);
    holds_many(backend);
    if backend.keeps_copies() {
        hides_what_has_expired(backend);
    }
}

fn reads_what_was_written(backend: &mut dyn StateBackend) {
    let keys = [at(1, 0, -5, b"a"), at(1, 0, -5, b""), at(1, 0, 5, b"a"), at(1, 1, -5, b"a"), at(2, 0, -5, b"a")];
    assert_eq!(get(backend, &keys), vec![None; 5], "a fresh backend is empty");
    let values: [&[u8]; 5] = [b"one", b"", b"three", b"\0\xff", b"five"];
    backend.put(&mut keys.into_iter().zip(values)).expect("a put succeeds");
    assert_eq!(get(backend, &keys), values.map(|v| Some(v.to_vec())), "entries differ in each part of the key");
    let twice: [(StateKey<'_>, &[u8]); 2] = [(keys[0], b"old"), (keys[0], b"new")];
    backend.put(&mut twice.into_iter()).expect("a put succeeds");
    assert_eq!(get(backend, &keys[..1]), [Some(b"new".to_vec())], "the last value of a batch holds");
    backend.delete(&[keys[1], keys[1], at(9, 9, 9, b"absent")]).expect("deleting what is absent succeeds");
    assert_eq!(get(backend, &keys[..2]), [Some(b"new".to_vec()), None]);
    backend.delete(&keys).expect("a delete succeeds");
    assert_eq!(get(backend, &keys), vec![None; 5]);
    backend.put(&mut twice.into_iter()).expect("a put succeeds");
    assert_eq!(get(backend, &keys[..1]), [Some(b"new".to_vec())], "what was deleted can be written again");
    backend.delete(&keys[..1]).expect("a delete succeeds");
}

fn finds_in_the_order_asked(backend: &mut dyn StateBackend) {
    let keys = [at(4, 0, 0, b"b"), at(4, 0, 0, b"a"), at(3, 9, 9, b"c"), at(4, 0, 0, b"b")];
    let values: [&[u8]; 4] = [b"1", b"2", b"3", b"4"];
    backend.put(&mut keys.into_iter().zip(values)).expect("a put succeeds");
    let mut found = vec![];
    let asked = [keys[0], at(4, 0, 1, b"b"), keys[1], keys[2], keys[0]];
    backend.get(&asked, &mut |i, v| found.push((i, v.to_vec()))).expect("a get succeeds");
    let expected = [(0, b"4"), (2, b"2"), (3, b"3"), (4, b"4")].map(|(i, v)| (i, v.to_vec()));
    assert_eq!(found, expected, "in the order of the keys, and as often as they were asked for");
    backend.delete(&keys).expect("a delete succeeds");
}

fn does_nothing_for_nothing(backend: &mut dyn StateBackend) {
    backend.put(&mut std::iter::empty()).expect("a put of nothing succeeds");
    backend.delete(&[]).expect("a delete of nothing succeeds");
    assert_eq!(get(backend, &[]), []);
    backend.delete_all(KeyGroupRange { start: 0, end: u16::MAX }, 0, None).expect("a delete of nothing succeeds");
    assert_eq!(scan(backend, 0, u16::MAX, 0, None), []);
}

fn scans_in_order(backend: &mut dyn StateBackend) {
    let mut model = BTreeMap::new();
    for (i, namespace) in [0, -1, 1, i64::MIN, i64::MAX, 256].into_iter().enumerate() {
        for group in [0, 1, 255, 256, u16::MAX] {
            for key in [&b""[..], b"\0", b"a", b"ab", b"b", b"\xff"] {
                model.insert((KeyGroup(group), 3, namespace, key.to_vec()), vec![i as u8; i]);
            }
        }
    }
    // Put in another order than the entries are in.
    let mut entries = model.iter().rev().map(|((g, o, n, k), v)| (at(g.0, *o, *n, k), &v[..]));
    backend.put(&mut entries).expect("a put succeeds");
    let other: [(StateKey<'_>, &[u8]); 2] = [(at(1, 2, 0, b"x"), b""), (at(1, 4, 0, b"x"), b"")];
    backend.put(&mut other.into_iter()).expect("a put succeeds");

    let expected = |start: u16, end: u16, namespace: Option<i64>| -> Vec<Owned> {
        let inside =
            |(g, _, n, _): &(KeyGroup, u32, i64, Vec<u8>)| g.0 >= start && g.0 < end && namespace.is_none_or(|x| x == *n);
        model.iter().filter(|(k, _)| inside(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    for (start, end) in [(0, 256), (1, 2), (256, 257), (5, 5), (7, 6)] {
        for namespace in [None, Some(0), Some(-1), Some(i64::MIN), Some(7)] {
            assert_eq!(
                scan(backend, start, end, 3, namespace),
                expected(start, end, namespace),
                "groups {start}..{end} of {namespace:?}"
            );
        }
    }
}

fn deletes_ranges(backend: &mut dyn StateBackend) {
    let before = scan(backend, 0, u16::MAX, 3, None);
    backend.delete_all(KeyGroupRange { start: 1, end: 256 }, 3, Some(-1)).expect("a delete succeeds");
    let gone = |e: &Owned| (1..256).contains(&e.0.0.0) && e.0.2 == -1;
    let left: Vec<_> = before.into_iter().filter(|e| !gone(e)).collect();
    assert_eq!(scan(backend, 0, u16::MAX, 3, None), left);
    backend.delete_all(KeyGroupRange { start: 0, end: u16::MAX }, 3, None).expect("a delete succeeds");
    assert_eq!(scan(backend, 0, u16::MAX, 3, None), []);
    assert_eq!(scan(backend, 0, u16::MAX, 2, None).len(), 1, "another operator's entries stay");
    assert_eq!(get(backend, &[at(u16::MAX, 3, 0, b"a")]), [Some(vec![0; 0])], "a range's end is not part of it");
}

/// Entries with the least and the greatest of what is possible, and those beside them.
fn keeps_borders(backend: &mut dyn StateBackend) {
    let mut keys = vec![];
    for group in [9, 10, 11, 12] {
        for operator in [0, 1, u32::MAX - 1, u32::MAX] {
            for namespace in [i64::MIN, -1, 0, i64::MAX] {
                keys.extend([&b""[..], b"\xff\xff"].map(|key| at(group, operator, namespace, key)));
            }
        }
    }
    backend.put(&mut keys.iter().map(|key| (*key, &b""[..]))).expect("a put succeeds");
    for (operator, namespace) in [(u32::MAX, Some(i64::MAX)), (0, Some(i64::MIN)), (1, None), (u32::MAX, None)] {
        backend.delete_all(KeyGroupRange { start: 10, end: 12 }, operator, namespace).expect("a delete succeeds");
        backend.delete_all(KeyGroupRange { start: 12, end: 12 }, operator, namespace).expect("a delete of no groups succeeds");
        backend.delete_all(KeyGroupRange { start: 12, end: 9 }, operator, namespace).expect("a delete of no groups succeeds");
        let gone = |k: &StateKey<'_>| {
            (10..12).contains(&k.group.0) && k.operator == operator && namespace.is_none_or(|n| n == k.namespace)
        };
        keys.retain(|key| !gone(key));
        for operator in [0, 1, u32::MAX - 1, u32::MAX] {
            let left = keys.iter().filter(|k| k.operator == operator);
            let left: Vec<_> = left.map(|k| ((k.group, k.operator, k.namespace, k.key.to_vec()), vec![])).collect();
            assert_eq!(scan(backend, 9, 13, operator, None), left, "only the entries of the range are gone");
        }
    }
    backend.delete(&keys).expect("a delete succeeds");
}

/// Batches of so many entries that implementations cut them.
fn holds_many(backend: &mut dyn StateBackend) {
    const MANY: u32 = 10_000;
    let name = |i: u32| i.wrapping_mul(2_654_435_761).to_be_bytes();
    let names: Vec<_> = (0..MANY).map(name).collect();
    let key = |i: usize| at(20 + (i % 7) as u16, 5, (i % 3) as i64, &names[i]);
    let keys: Vec<_> = (0..names.len()).map(key).collect();
    let values: Vec<_> = (0..MANY).map(|i| vec![i as u8; i as usize % 200]).collect();
    backend.put(&mut keys.iter().zip(&values).map(|(k, v)| (*k, &v[..]))).expect("a put succeeds");
    assert_eq!(get(backend, &keys), values.iter().cloned().map(Some).collect::<Vec<_>>());

    let mut expected: Vec<_> =
        keys.iter().zip(&values).map(|(k, v)| ((k.group, 5, k.namespace, k.key.to_vec()), v.clone())).collect();
    expected.sort();
    assert_eq!(scan(backend, 20, 27, 5, None), expected);
    backend.delete_all(KeyGroupRange { start: 21, end: 25 }, 5, Some(1)).expect("a delete succeeds");
    expected.retain(|((group, _, namespace, _), _)| !((21..25).contains(&group.0) && *namespace == 1));
    assert_eq!(scan(backend, 20, 27, 5, None), expected);
    let again: [(StateKey<'_>, &[u8]); 1] = [(at(22, 5, 1, b"again"), b"x")];
    backend.put(&mut again.into_iter()).expect("a put succeeds");
    assert_eq!(scan(backend, 21, 25, 5, Some(1)).len(), 1, "what is written after a delete stays");
    backend.delete_all(KeyGroupRange { start: 0, end: 100 }, 5, None).expect("a delete succeeds");
    assert_eq!(scan(backend, 0, 100, 5, None), []);
}

/// A value that expires.
fn expiring(domain: TimeDomain, last: EventTime, text: &[u8]) -> Vec<u8> {
    let mut value = vec![];
    expiry::encode(Some(Expiry { domain, first: last - 10, last }), &mut value);
    value.extend_from_slice(text);
    value
}

/// What has expired is not shown any more, by its own clock, of the one operator; what is written over it is.
fn hides_what_has_expired(backend: &mut dyn StateBackend) {
    const OPERATOR: u32 = 11;
    let mut stays = vec![];
    expiry::encode(None, &mut stays);
    let (event, processing) = (TimeDomain::Event, TimeDomain::Processing);
    let values = [
        (at(1, OPERATOR, 0, b"event 50"), expiring(event, 50, b"a")),
        (at(1, OPERATOR, 0, b"event 60"), expiring(event, 60, b"")),
        (at(2, OPERATOR, 0, b"clock 50"), expiring(processing, 50, b"c")),
        (at(2, OPERATOR, 3, b"clock 40"), expiring(processing, 40, b"d")),
        (at(3, OPERATOR, 0, b"stays"), stays),
        (at(3, OPERATOR + 1, 0, b"another operator's"), expiring(event, 0, b"e")),
        (at(3, OPERATOR - 1, 0, b""), vec![]),
    ];
    let keys: Vec<_> = values.iter().map(|(key, _)| *key).collect();
    let put = |backend: &mut dyn StateBackend, range: std::ops::Range<usize>| {
        backend.put(&mut values[range].iter().map(|(key, value)| (*key, &value[..]))).expect("a put succeeds");
    };
    let shown = |backend: &mut dyn StateBackend| -> Vec<usize> {
        let found = get(backend, &keys);
        let shown: Vec<_> = (0..values.len()).filter(|&i| found[i].is_some()).collect();
        assert!(shown.iter().all(|&i| found[i].as_ref() == Some(&values[i].1)), "values are shown as they were written");
        let mut scanned: Vec<_> = [10, 11, 12].into_iter().flat_map(|operator| scan(backend, 0, 9, operator, None)).collect();
        let mut expected: Vec<_> = shown.iter().map(|&i| (keys[i], &values[i].1)).collect();
        expected.sort();
        scanned.sort();
        let named = |(k, v): &(StateKey<'_>, &Vec<u8>)| ((k.group, k.operator, k.namespace, k.key.to_vec()), v.to_vec());
        assert_eq!(scanned, expected.iter().map(named).collect::<Vec<_>>(), "scans show what gets show");
        shown
    };
    put(backend, 0..values.len());
    backend.expire(OPERATOR, Clocks::START);
    assert_eq!(shown(backend), [0, 1, 2, 3, 4, 5, 6]);
    backend.expire(OPERATOR, Clocks { event: 50, processing: 49 });
    assert_eq!(shown(backend), [1, 2, 4, 5, 6]);
    put(backend, 0..3);
    assert_eq!(shown(backend), [1, 2, 4, 5, 6], "what has expired before it was written is not there either");
    backend.put(&mut [(keys[0], &values[1].1[..])].into_iter()).expect("a put succeeds");
    assert_eq!(get(backend, &keys[..1]), [Some(values[1].1.clone())], "it was written anew");
    backend.delete(&keys[1..2]).expect("a delete succeeds");
    backend.expire(OPERATOR, Clocks { event: 59, processing: 50 });
    assert_eq!(get(backend, &keys[..5]).iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, false, true]);
    put(backend, 1..2);
    backend.expire(OPERATOR, Clocks { event: 60, processing: 50 });
    assert_eq!(shown(backend), [4, 5, 6]);
    backend.delete(&keys).expect("deleting what has expired succeeds");
    assert_eq!(shown(backend), []);
}
