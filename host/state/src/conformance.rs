//! What every [`StateBackend`] must do. A new backend is done when [`check`] passes on it.

use std::collections::BTreeMap;

use weir_types::{KeyGroup, KeyGroupRange};

use crate::{StateBackend, StateKey};

type Owned = ((KeyGroup, u32, i64, Vec<u8>), Vec<u8>);

fn at<'a>(group: u16, operator: u32, namespace: i64, key: &'a [u8]) -> StateKey<'a> {
    StateKey { group: KeyGroup(group), operator, namespace, key }
}

fn scan(backend: &dyn StateBackend, start: u16, end: u16, operator: u32, namespace: Option<i64>) -> Vec<Owned> {
    let mut all = vec![];
    let mut each = |k: StateKey<'_>, v: &[u8]| all.push(((k.group, k.operator, k.namespace, k.key.to_vec()), v.to_vec()));
    backend.scan(KeyGroupRange { start, end }, operator, namespace, &mut each).expect("a scan succeeds");
    all
}

fn get(backend: &dyn StateBackend, keys: &[StateKey<'_>]) -> Vec<Option<Vec<u8>>> {
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
    scans_in_order(backend);
    deletes_ranges(backend);
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
}
