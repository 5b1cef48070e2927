//! Tests of writer and reader together.

use proptest::prelude::*;
use weir_types::{KeyGroup, KeyGroupRange};

use super::*;
use crate::error::{Error, ErrorKind};

type Entry = (u16, i64, Vec<u8>, Vec<u8>);

const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: u16::MAX };

fn write(entries: &[Entry]) -> Vec<u8> {
    let mut writer = EntriesWriter::new(vec![]).unwrap();
    for (group, namespace, key, value) in entries {
        writer.push(KeyGroup(*group), *namespace, key, value).unwrap();
    }
    assert_eq!(writer.entries(), entries.len() as u64);
    writer.finish().unwrap()
}

fn read(bytes: &[u8], groups: KeyGroupRange) -> Result<Vec<Entry>, Error> {
    let mut reader = EntriesReader::new(bytes, groups);
    let mut entries = vec![];
    while let Some(EntryRef { group, namespace, key, value }) = reader.next()? {
        entries.push((group.0, namespace, key.to_vec(), value.to_vec()));
    }
    assert!(reader.next().unwrap().is_none(), "the end stays the end");
    Ok(entries)
}

/// Entries of several blocks: `groups` groups with `keys` keys each, of values that compress, or do not.
fn sample(groups: u16, keys: u32, value_bytes: usize, compressible: bool) -> Vec<Entry> {
    let mut random = 7u32;
    let mut byte = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if compressible { 7 } else { (random >> 24) as u8 }
    };
    let keys = |group: u16| (0..keys).map(move |key| (group, i64::from(key % 3) - 1, key.to_be_bytes().to_vec()));
    let mut entries: Vec<Entry> =
        (0..groups).flat_map(keys).map(|(g, n, k)| (g * 3, n, k, (0..value_bytes).map(|_| byte()).collect())).collect();
    entries.sort();
    entries
}

/// Any number of entries comes back, whether values compress or not, and also one that is longer than many blocks.
#[test]
fn entries_come_back() {
    let long = vec![(1, 0, b"a".to_vec(), vec![9; 40 * BLOCK_BYTES]), (1, 0, b"b".to_vec(), vec![])];
    for entries in [vec![], sample(1, 1, 0, true), sample(8, 3000, 30, true), sample(8, 3000, 30, false), long] {
        let bytes = write(&entries);
        assert_eq!(read(&bytes, ALL).unwrap(), entries);
    }
    let compressed = write(&sample(8, 3000, 30, true)).len();
    let stored = write(&sample(8, 3000, 30, false)).len();
    assert!(compressed * 3 < stored, "{compressed} bytes, {stored} that do not compress");
}

/// The groups that are asked for come, and blocks without them are not even looked into.
#[test]
fn other_groups_are_passed_over() {
    let entries = sample(10, 3000, 30, false);
    let mut bytes = write(&entries);
    for (start, end) in [(0, 31), (3, 4), (4, 6), (5, 5), (9, 2), (12, 200), (28, u16::MAX), (0, 1)] {
        let expected: Vec<_> = entries.iter().filter(|e| start <= e.0 && e.0 < end).cloned().collect();
        assert_eq!(read(&bytes, KeyGroupRange { start, end }).unwrap(), expected, "{start}..{end}");
    }
    // The payload of the first block is damaged. Nobody notices who does not need it.
    bytes[MAGIC.len() + Header::BYTES + 5] ^= 1;
    let last = KeyGroupRange { start: 27, end: 28 };
    assert_eq!(read(&bytes, last).unwrap().len(), 3000);
    assert_eq!(read(&bytes, ALL).unwrap_err().kind, ErrorKind::Corrupt);
}

/// What is not in order is not written, nor what is too long.
#[test]
fn order_is_kept() {
    let mut writer = EntriesWriter::new(vec![]).unwrap();
    writer.push(KeyGroup(3), -1, b"b", b"").unwrap();
    for (group, namespace, key) in [(3, -1, &b"b"[..]), (3, -1, b"a"), (3, -2, b"c"), (2, 7, b"c")] {
        let error = writer.push(KeyGroup(group), namespace, key, b"").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
    writer.push(KeyGroup(3), 0, b"", b"").unwrap();
    assert_eq!(read(&writer.finish().unwrap(), ALL).unwrap().len(), 2);
}

/// A file with any byte altered, or cut anywhere, gives an error. Payloads of skipped blocks aside, no alteration goes unnoticed.
#[test]
fn every_byte_counts() {
    let entries = sample(4, 3, 10, true);
    let bytes = write(&entries);
    for cut in 0..bytes.len() {
        assert_eq!(read(&bytes[..cut], ALL).unwrap_err().kind, ErrorKind::Corrupt, "cut at {cut}");
    }
    for at in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut altered = bytes.clone();
            altered[at] ^= change;
            assert_eq!(read(&altered, ALL).unwrap_err().kind, ErrorKind::Corrupt, "byte {at} by {change}");
        }
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(read(&longer, ALL).is_err());
}

/// An error stays an error.
#[test]
fn a_damaged_file_gives_nothing_more() {
    let bytes = write(&sample(4, 3, 10, true));
    let mut reader = EntriesReader::new(&bytes[..bytes.len() - 1], ALL);
    while let Ok(Some(_)) = reader.next() {}
    assert_eq!(reader.next().unwrap_err().kind, ErrorKind::Corrupt);
}

/// A file whose checksums fit but whose lengths promise gigabytes is refused without taking them.
#[test]
fn promises_are_not_believed() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    let file = |raw_bytes: u32, entries: u32, payload: &[u8]| {
        let header = Header {
            first: 0,
            last: 9,
            entries,
            raw_bytes,
            stored_bytes: payload.len() as u32,
            payload_crc: crc32fast::hash(payload),
        };
        [&MAGIC[..], &header.encode(), payload].concat()
    };
    let cases = [
        file(u32::MAX, 1, &bomb),
        file(1 << 30, 1, &bomb),
        file(1 << 20, 1, &bomb),
        file(100, 26, b"short"),
        file(5, 1, &[0, 0, 0xff, 0xff, 0x7f]),
        file(12, 1, &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        file(8, 1, &[0, 0, 0, 0, 0, 0, 0, 0]),
        file(4, 1, &[10, 0, 0, 0]),
    ];
    for (n, bytes) in cases.iter().enumerate() {
        assert_eq!(read(bytes, ALL).unwrap_err().kind, ErrorKind::Corrupt, "case {n}");
    }
}

fn any_bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

proptest! {
    /// Any entries come back, and any groups of them.
    #[test]
    fn any_entries_come_back(
        entries in prop::collection::btree_map((0..20u16, any::<i64>(), any_bytes(20)), any_bytes(200), 0..200),
        start in 0..21u16,
        end in 0..21u16,
    ) {
        let entries: Vec<Entry> = entries.into_iter().map(|((g, n, k), v)| (g, n, k, v)).collect();
        let bytes = write(&entries);
        let expected: Vec<_> = entries.iter().filter(|e| start <= e.0 && e.0 < end).cloned().collect();
        prop_assert_eq!(read(&bytes, KeyGroupRange { start, end }).unwrap(), expected);
    }

    /// Any bytes after a valid start give an error or entries, and no panic; headers are made valid, so that what lies behind
    /// them is reached.
    #[test]
    fn any_bytes_are_survived(
        payload in any_bytes(300),
        entries in 1..80u32,
        raw_bytes in 0..400u32,
        first in 0..5u16,
        last in 0..300u16,
    ) {
        let _ = read(&payload, ALL);
        let _ = read(&[&MAGIC[..], &payload].concat(), ALL);
        for raw_bytes in [raw_bytes, payload.len() as u32] {
            let payload_crc = crc32fast::hash(&payload);
            let header = Header { first, last, entries, raw_bytes, stored_bytes: payload.len() as u32, payload_crc };
            let _ = read(&[&MAGIC[..], &header.encode(), &payload].concat(), ALL);
        }
    }
}
