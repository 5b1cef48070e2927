//! The table against a plain map, over every shape of key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::{BooleanArray, Int32Array, Int64Array, StringArray, StringViewArray, TimestampMillisecondArray};
use proptest::prelude::*;

use super::*;

/// A key of the model: number 0 is null where the shape has nulls.
fn columns(shape: usize, keys: &[u8], views: bool) -> Vec<ArrayRef> {
    let numbers = || keys.iter().map(|&k| (k > 0).then_some(i32::from(k) - 4));
    let texts = || keys.iter().map(|&k| (k > 0).then(|| "x".repeat(usize::from(k - 1) * 3)));
    let text: ArrayRef = match views {
        true => Arc::new(texts().collect::<StringViewArray>()),
        false => Arc::new(texts().collect::<StringArray>()),
    };
    match shape {
        0 => vec![],
        1 => vec![Arc::new(numbers().map(Option::unwrap_or_default).map(i64::from).map(Some).collect::<Int64Array>())],
        2 => vec![Arc::new(numbers().collect::<Int32Array>())],
        3 => vec![Arc::new(numbers().map(|n| n.map(i64::from)).collect::<TimestampMillisecondArray>().with_timezone("UTC"))],
        4 => vec![text],
        5 => vec![text, Arc::new(numbers().collect::<Int32Array>())],
        _ => vec![Arc::new(keys.iter().map(|k| Some(k % 2 == 0)).collect::<BooleanArray>())],
    }
}

/// What the model calls the key of number `k`: different numbers may be one key.
fn name(shape: usize, k: u8) -> u8 {
    match shape {
        0 => 0,
        1 if k == 0 => 4,
        6 => k % 2,
        _ => k,
    }
}

fn table(shape: usize) -> SlotTable {
    let types: Vec<_> = columns(shape, &[], false).iter().map(|c| c.data_type().clone()).collect();
    SlotTable::new(&types).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Assign(Vec<(u8, i64)>, bool),
    Find(Vec<(u8, i64)>),
    Remove(u8, i64),
    Evict(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = || prop::collection::vec((0..8u8, -2..2i64), 0..12);
    let step = prop_oneof![
        4 => (rows(), any::<bool>()).prop_map(|(r, v)| Step::Assign(r, v)),
        1 => rows().prop_map(Step::Find),
        3 => (0..8u8, -2..2i64).prop_map(|(k, n)| Step::Remove(k, n)),
        1 => (0..4usize).prop_map(Step::Evict),
    ];
    prop::collection::vec(step, 0..30)
}

proptest! {
    /// Any history of calls agrees with a map from (key, namespace) to slot, for every shape of key. Keys are asked for that were evicted, and no others: they
    /// are too few to be taken for each other.
    #[test]
    fn agrees_with_a_map(shape in 0..7usize, steps in steps()) {
        let mut table = table(shape);
        let mut model: BTreeMap<(i64, u8), Slot> = BTreeMap::new();
        let mut evicted: BTreeSet<(i64, u8)> = BTreeSet::new();
        let (mut slots, mut created) = (vec![], vec![]);
        for step in steps {
            match step {
                Step::Assign(rows, views) => {
                    let keys: Vec<_> = rows.iter().map(|r| r.0).collect();
                    let namespaces: Vec<_> = rows.iter().map(|r| r.1).collect();
                    table.assign(rows.len(), &columns(shape, &keys, views), Namespaces::PerRow(&namespaces), &mut slots, &mut created).unwrap();
                    let back: Vec<Slot> = created.iter().filter(|c| c.restore).map(|c| c.slot).collect();
                    table.restored(&back);
                    for (row, &(k, n)) in rows.iter().enumerate() {
                        let new = created.iter().find(|c| c.row as usize == row);
                        match model.get(&(n, name(shape, k))) {
                            Some(&slot) => prop_assert_eq!((slots[row], new), (slot, None)),
                            None => {
                                prop_assert!(!model.values().any(|&s| s == slots[row]), "slot {} is in use", slots[row]);
                                let restore = evicted.remove(&(n, name(shape, k)));
                                prop_assert_eq!(new, Some(&Created { slot: slots[row], row: row as u32, restore }));
                                model.insert((n, name(shape, k)), slots[row]);
                            }
                        }
                    }
                }
                Step::Find(rows) => {
                    let keys: Vec<_> = rows.iter().map(|r| r.0).collect();
                    let namespaces: Vec<_> = rows.iter().map(|r| r.1).collect();
                    table.find(rows.len(), &columns(shape, &keys, true), Namespaces::PerRow(&namespaces), &mut slots).unwrap();
                    let expected: Vec<_> = rows.iter().map(|&(k, n)| model.get(&(n, name(shape, k))).copied().unwrap_or(NO_SLOT)).collect();
                    prop_assert_eq!(&slots, &expected);
                }
                Step::Remove(k, n) => {
                    if let Some(slot) = model.remove(&(n, name(shape, k))) {
                        table.remove(&[slot]);
                    }
                }
                Step::Evict(count) => {
                    let mut cold = vec![];
                    table.coldest(count, &mut cold);
                    prop_assert_eq!(cold.len(), count.min(model.len()));
                    table.evict(&cold);
                    let (gone, rest) = model.into_iter().partition(|(_, slot)| cold.contains(slot));
                    model = rest;
                    evicted.extend(BTreeMap::into_keys(gone));
                }
            }
            prop_assert_eq!(table.len(), model.len());
            for n in -2..2 {
                let mut of: Vec<_> = table.slots_of(n).collect();
                prop_assert_eq!(of.len(), table.count_of(n));
                of.sort_unstable();
                let mut expected: Vec<_> = model.range((n, 0)..(n + 1, 0)).map(|(_, &s)| s).collect();
                expected.sort_unstable();
                prop_assert_eq!(of, expected);
                prop_assert_eq!(table.evicted(n), evicted.range((n, 0)..(n + 1, 0)).count() as u64);
            }
        }
        check_keys(&mut table, &model)?;
        check_groups(&table, &model)?;
    }
}

/// Key columns and key bytes lead back to the same slots, and the group is that of the key's hash; also where many are asked for at once.
fn check_keys(table: &mut SlotTable, model: &BTreeMap<(i64, u8), Slot>) -> Result<(), TestCaseError> {
    let slots: Vec<Slot> = model.values().copied().collect();
    let namespaces: Vec<i64> = model.keys().map(|k| k.0).collect();
    let keys = table.key_columns(&slots).unwrap();
    let mut found = vec![];
    table.find(slots.len(), &keys, Namespaces::PerRow(&namespaces), &mut found).unwrap();
    prop_assert_eq!(&found, &slots);
    let bytes: Vec<Vec<u8>> = slots
        .iter()
        .map(|&s| {
            let mut b = vec![];
            table.key_bytes(s, &mut b);
            b
        })
        .collect();
    let decoded = table.decode_keys(bytes.iter().map(|b| &b[..])).unwrap();
    prop_assert_eq!(&decoded, &keys);
    let mut hashes = vec![];
    hash_columns(slots.len(), &keys, &mut hashes);
    let groups: Vec<KeyGroup> = hashes.into_iter().map(|hash| group_of(hash, 100)).collect();
    for (slot, group) in slots.iter().zip(&groups) {
        prop_assert_eq!(table.key_group(*slot, 100), *group);
    }
    // More than are fetched at once.
    let many = slots.repeat(10);
    let mut names = vec![];
    table.for_each_key(&many, 100, |i, group, key| names.push((i, group, key.concat())));
    let expected: Vec<_> = (0..many.len()).map(|i| (i, groups[i % slots.len()], bytes[i % slots.len()].clone())).collect();
    prop_assert_eq!(names, expected);
    Ok(())
}

/// Grouping by key, and finding siblings, agree with the model.
fn check_groups(table: &SlotTable, model: &BTreeMap<(i64, u8), Slot>) -> Result<(), TestCaseError> {
    let mut grouping = Grouping::default();
    for namespaces in [&[][..], &[1], &[-2, -1, 0, 1], &[1, 0]] {
        table.group_by_key(namespaces, &mut grouping);
        prop_assert_eq!(grouping.slots(), grouping.groups().collect::<Vec<_>>().concat());
        let mut got: Vec<Vec<Slot>> = grouping.groups().map(<[Slot]>::to_vec).collect();
        let mut by_key: BTreeMap<u8, Vec<Slot>> = BTreeMap::new();
        for n in namespaces {
            for ((_, k), slot) in model.range((*n, 0)..(*n + 1, 0)) {
                by_key.entry(*k).or_default().push(*slot);
            }
        }
        let mut expected: Vec<_> = by_key.into_values().collect();
        got.sort();
        expected.sort();
        prop_assert_eq!(got, expected);
    }
    for (&(_, k), &slot) in model {
        for n in -2..2 {
            prop_assert_eq!(table.sibling(slot, n), model.get(&(n, k)).copied());
        }
    }
    Ok(())
}

/// Keys of other types than the table's are refused, and so are types that cannot be keys.
#[test]
fn refuses_other_types() {
    let list = DataType::new_list(DataType::Int64, true);
    assert!(SlotTable::new(&[list]).is_err());
    let mut table = SlotTable::new(&[DataType::Int64]).unwrap();
    let narrow: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let (mut slots, mut created) = (vec![], vec![]);
    assert!(table.assign(1, &[narrow], Namespaces::Constant(0), &mut slots, &mut created).is_err());
    assert!(table.assign(1, &[wide.clone(), wide], Namespaces::Constant(0), &mut slots, &mut created).is_err());
}

proptest! {
    /// However keys come and go while it is being found out whose entries there were, none that is in the backend is taken for a new one; and once it is found
    /// out, only those that have ever been there are asked for.
    #[test]
    fn learns_whose_entries_there_are(
        shape in 0..7usize,
        there in prop::collection::btree_set(0..8u8, 1..8),
        steps in steps(),
        learned_before in 0..30usize,
    ) {
        let namespace = Namespaces::Constant(0);
        let (mut slots, mut created) = (vec![], vec![]);
        let mut evicted: BTreeSet<u8> = there.iter().map(|&k| name(shape, k)).collect();
        let mut ever = evicted.clone();
        let mut table = table(shape);
        table.add_evicted(0, evicted.len() as u64, true);
        let mut learner = table.begin_learning(0, evicted.len() as u64).unwrap();
        prop_assert!(table.begin_learning(0, 1).unwrap().is_none(), "it is being found out");
        let mut names = self::table(shape);
        let there: Vec<_> = there.into_iter().collect();
        names.assign(there.len(), &columns(shape, &there, false), namespace, &mut slots, &mut created).unwrap();
        let bytes: Vec<Vec<u8>> = created.iter().map(|c| {
            let mut bytes = vec![];
            names.key_bytes(c.slot, &mut bytes);
            bytes
        }).collect();
        prop_assert!(learner.as_mut().unwrap().add(&bytes.iter().map(|bytes| &bytes[..]).collect::<Vec<_>>()).unwrap());

        let mut model: BTreeMap<u8, Slot> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            if number == learned_before {
                table.learned(0, learner.take().map(Learner::finish));
            }
            match step {
                Step::Assign(rows, views) => {
                    let keys: Vec<_> = rows.iter().map(|r| r.0).collect();
                    table.assign(rows.len(), &columns(shape, &keys, views), namespace, &mut slots, &mut created).unwrap();
                    for Created { slot, row, restore } in &created {
                        let name = name(shape, keys[*row as usize]);
                        prop_assert!(*restore || !evicted.contains(&name), "{} is in the backend", name);
                        prop_assert!(!*restore || learner.is_some() || ever.contains(&name), "{} was never there", name);
                        if evicted.remove(&name) {
                            table.restored(&[*slot]);
                        }
                        model.insert(name, *slot);
                    }
                }
                Step::Find(_) => {}
                Step::Remove(k, _) => {
                    if let Some(slot) = model.remove(&name(shape, k)) {
                        table.remove(&[slot]);
                    }
                }
                Step::Evict(count) => {
                    let mut cold = vec![];
                    table.coldest(count, &mut cold);
                    table.evict(&cold);
                    let gone: Vec<_> = model.extract_if(.., |_, slot| cold.contains(slot)).collect();
                    ever.extend(gone.iter().map(|(name, _)| *name));
                    evicted.extend(gone.into_iter().map(|(name, _)| name));
                }
            }
            prop_assert_eq!(table.evicted(0), evicted.len() as u64);
        }
    }
}

/// Entries that are restored, or forgotten, are not asked for again.
#[test]
fn counts_evicted_entries() {
    let mut table = SlotTable::new(&[DataType::Int64]).unwrap();
    let (mut slots, mut created) = (vec![], vec![]);
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    table.assign(2, std::slice::from_ref(&keys), Namespaces::Constant(9), &mut slots, &mut created).unwrap();
    table.evict(&slots);
    assert_eq!((table.len(), table.evicted(9)), (0, 2));
    table.assign(1, &[keys.slice(0, 1)], Namespaces::Constant(9), &mut slots, &mut created).unwrap();
    assert!(created[0].restore);
    table.restored(&slots);
    assert_eq!(table.evicted(9), 1);
    table.forget_evicted(9);
    table.assign(2, &[keys], Namespaces::Constant(9), &mut slots, &mut created).unwrap();
    assert!(!created[0].restore);
    table.remove(&slots);
    assert_eq!(table.len(), 0);
}

/// Where it is not told which keys were evicted, or there is no room to know it, each new one may be one of them, until all are back.
#[test]
fn asks_for_all_that_it_does_not_know() {
    let namespace = Namespaces::Constant(9);
    let column = |keys: std::ops::Range<i64>| vec![Arc::new(Int64Array::from_iter_values(keys)) as ArrayRef];
    let (mut slots, mut created) = (vec![], vec![]);
    let mut table = SlotTable::new(&[DataType::Int64]).unwrap();
    table.add_evicted(9, 1, true);
    table.assign(2, &column(0..2), namespace, &mut slots, &mut created).unwrap();
    assert!(created.iter().all(|c| c.restore));
    table.evict(&slots[..1]);
    table.assign(1, &column(2..3), namespace, &mut slots, &mut created).unwrap();
    assert!(created[0].restore, "one of the snapshot's may have this key");
    table.restored(&slots);
    table.assign(1, &column(0..1), namespace, &mut slots, &mut created).unwrap();
    assert!(created[0].restore);
    table.restored(&slots);
    table.assign(1, &column(3..4), namespace, &mut slots, &mut created).unwrap();
    assert!(!created[0].restore, "all are back");

    let mut table = SlotTable::new(&[DataType::Int64]).unwrap();
    table.limit_filters(4096);
    for (start, asks) in [(0, false), (100, false), (2000, false), (4000, true)] {
        table.assign(100, &column(start..start + 100), namespace, &mut slots, &mut created).unwrap();
        assert_eq!(created.iter().filter(|c| c.restore).count() > 10, asks, "{start}");
        let more = if start == 2000 { 2000 } else { 0 };
        table.assign(100 + more, &column(start..start + 100 + more as i64), namespace, &mut slots, &mut created).unwrap();
        table.evict(&slots);
        assert!(table.filter_bytes() <= 4096);
    }
}

/// Where there is no room to know whose entries there are, or nobody could find it out, each new key is asked for as before.
#[test]
fn goes_on_without_what_it_cannot_learn() {
    let column = |keys: std::ops::Range<i64>| vec![Arc::new(Int64Array::from_iter_values(keys)) as ArrayRef];
    let names: Vec<[u8; 8]> = (0..5000u64).map(u64::to_be_bytes).collect();
    let names: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
    let (mut slots, mut created) = (vec![], vec![]);
    let mut table = SlotTable::new(&[DataType::Int64]).unwrap();
    table.limit_filters(4096);
    table.add_evicted(9, 5000, true);
    assert!(table.begin_learning(9, 5000).unwrap().is_none(), "there is no room for so many");
    for (bytes_max, learns) in [(1 << 20, true), (4096, false)] {
        let mut table = SlotTable::new(&[DataType::Int64]).unwrap();
        table.limit_filters(bytes_max);
        // Fewer than there are: then it is found out that there is no room.
        table.add_evicted(9, 1000, true);
        let mut learner = table.begin_learning(9, 1000).unwrap().expect("it is not known");
        assert_eq!(learner.add(&names).unwrap(), learns);
        table.learned(9, learns.then(|| learner.finish()));
        assert_eq!(table.filter_bytes() > 5000, learns);
        assert!(table.filter_bytes() <= bytes_max);
        for (keys, away) in [(0..100, true), (6000..6100, !learns)] {
            table.assign(100, &column(keys), Namespaces::Constant(9), &mut slots, &mut created).unwrap();
            assert_eq!(created.iter().filter(|c| c.restore).count() > 50, away);
        }
        table.forget_evicted(9);
        assert_eq!((table.filter_bytes(), table.begin_learning(9, 0).unwrap().is_none()), (0, true));
    }
}

/// Entries that expire unseen are forgotten once it is found out which are left: they are not asked for, not counted, and take no room; and until then it is known
/// whose entries there may be.
#[test]
fn learns_anew_what_is_left() {
    let column = |keys: std::ops::Range<i64>| vec![Arc::new(Int64Array::from_iter_values(keys)) as ArrayRef];
    let (mut slots, mut created) = (vec![], vec![]);
    let mut table = SlotTable::new(&[DataType::Int64]).unwrap();
    let evict = |table: &mut SlotTable, keys: std::ops::Range<i64>| -> Vec<Vec<u8>> {
        let (mut slots, mut created) = (vec![], vec![]);
        table.assign(keys.clone().count(), &column(keys), Namespaces::Constant(0), &mut slots, &mut created).unwrap();
        let names = slots.iter().map(|&slot| {
            let mut name = vec![];
            table.key_bytes(slot, &mut name);
            name
        });
        let names = names.collect();
        table.evict(&slots);
        names
    };
    let names = evict(&mut table, 0..20_000);
    let room = table.filter_bytes();
    let mut learner = table.begin_learning(0, 0).unwrap().expect("there are entries");
    assert!(table.begin_learning(0, 0).unwrap().is_none(), "it is being found out");
    evict(&mut table, 20_000..20_010);
    let mut asked = |table: &mut SlotTable, keys: std::ops::Range<i64>| {
        table.assign(keys.clone().count(), &column(keys), Namespaces::Constant(0), &mut slots, &mut created).unwrap();
        table.remove(&slots);
        created.iter().filter(|c| c.restore).count()
    };
    assert_eq!(asked(&mut table, 0..100), 100);
    assert!(asked(&mut table, 50_000..50_100) < 10, "what is known still holds");
    assert!(learner.add(&names[..50].iter().map(|name| &name[..]).collect::<Vec<_>>()).unwrap());
    table.learned(0, Some(learner.finish()));
    assert_eq!((table.evicted(0), asked(&mut table, 0..50), asked(&mut table, 20_000..20_010)), (60, 50, 10));
    assert!(asked(&mut table, 100..200) < 10 && table.filter_bytes() < room / 10);

    let learner = table.begin_learning(0, 0).unwrap().expect("there are entries");
    table.learned(0, Some(learner.finish()));
    assert_eq!((table.evicted(0), table.filter_bytes(), asked(&mut table, 0..50)), (0, 0, 0), "none is left");
}

/// A slot is taken for no less than it needs in the table, also where keys have come and gone, and half as much again at most; and once more for its key, of
/// which a guest has a copy.
#[test]
fn weighs_what_it_takes() {
    const LENGTH: usize = 100;
    let mut table = SlotTable::new(&[DataType::Utf8]).unwrap();
    let (mut slots, mut created) = (vec![], vec![]);
    for round in 0..8 {
        let texts = (0..10_000).map(|i| Some(format!("{:0LENGTH$}", round * 10_000 + i)));
        let keys: Vec<ArrayRef> = vec![Arc::new(texts.collect::<StringArray>())];
        table.assign(10_000, &keys, Namespaces::Constant(0), &mut slots, &mut created).unwrap();
        if table.len() > 50_000 {
            let mut cold = vec![];
            table.coldest(10_000, &mut cold);
            table.evict(&cold);
        }
    }
    // As many as there were at once.
    let most = table.slot_bound();
    assert_eq!((table.len(), most), (50_000, 60_000));
    let said = table.bytes_per_slot(table.sample(64).collect::<Vec<_>>().into_iter()) as usize * most;
    let (takes, guest) = (table.bytes(), LENGTH * most);
    assert!(takes + guest <= said && said <= takes * 3 / 2 + guest, "{takes}, and {guest} in the guest; said were {said}");
}
