//! What is written while a checkpoint is being made. It must not get into that, so that it waits here until the checkpoint is complete. Who asks for a key
//! finds it; who goes through many entries waits, too.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::ingest::Unsorted;

/// Entries that wait for a checkpoint.
#[derive(Default)]
pub(super) struct Held {
    /// In the order in which they came; those without a value are deletions.
    entries: Unsorted,
    /// the newest entry of each name
    newest: HashTable<u32>,
    hasher: RandomState,
    /// From which name on, and up to which, all was deleted that was there before these entries.
    ranges: Vec<[Vec<u8>; 2]>,
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known<'a> {
    Value(&'a [u8]),
    Deleted,
    /// nothing: the database has what there is
    Nothing,
}

impl Held {
    /// Adds an entry whose name `write_name` appends to what it is given; without a value it is a deletion.
    pub fn push(&mut self, write_name: impl FnOnce(&mut Vec<u8>), value: Option<&[u8]>) {
        let Self { entries, newest, hasher, .. } = self;
        entries.push(write_name, value);
        // There is not so much memory.
        let index = u32::try_from(entries.len() - 1).expect("fewer entries than 2^32 are held");
        let hash = |index: u32| hasher.hash_one(entries.get(index as usize).0);
        let name = entries.get(index as usize).0;
        let is_same = |&other: &u32| entries.get(other as usize).0 == name;
        match newest.entry(hash(index), is_same, |&index| hash(index)) {
            Entry::Occupied(mut older) => *older.get_mut() = index,
            Entry::Vacant(place) => _ = place.insert(index),
        }
    }

    /// Adds that all from one name on, and up to another, is deleted. No entries of such names may be held.
    pub fn delete_range(&mut self, from: Vec<u8>, to: Vec<u8>) {
        self.ranges.push([from, to]);
    }

    /// What is known of a name.
    pub fn get(&self, name: &[u8]) -> Known<'_> {
        if self.is_empty() {
            return Known::Nothing;
        }
        let found = self.newest.find(self.hasher.hash_one(name), |&index| self.entries.get(index as usize).0 == name);
        match found.map(|&index| self.entries.get(index as usize).1) {
            Some(Some(value)) => Known::Value(value),
            Some(None) => Known::Deleted,
            None if self.ranges.iter().any(|[from, to]| &from[..] <= name && name < &to[..]) => Known::Deleted,
            None => Known::Nothing,
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0 && self.ranges.is_empty()
    }

    /// The memory that it takes, about, in bytes; not 0 if there is anything.
    pub fn bytes(&self) -> usize {
        let ranges = self.ranges.iter().flatten().map(|bound| size_of_val(bound) + bound.len());
        self.entries.bytes() + self.newest.allocation_size() + ranges.sum::<usize>()
    }

    /// What is to be written: the ranges, and then the entries.
    pub fn into_parts(self) -> (Vec<[Vec<u8>; 2]>, Unsorted) {
        (self.ranges, self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(held: &mut Held, name: &[u8], value: Option<&[u8]>) {
        held.push(|bytes| bytes.extend_from_slice(name), value);
    }

    /// Of a name its newest entry is known, and that it was in a range, unless it was written later.
    #[test]
    fn knows_the_newest() {
        let mut held = Held::default();
        assert!(held.is_empty() && held.bytes() == 0);
        held.delete_range(b"b".to_vec(), b"d".to_vec());
        assert!(!held.is_empty() && held.bytes() > 0, "a range is something that waits");
        push(&mut held, b"a", Some(b"1"));
        push(&mut held, b"a", Some(b""));
        push(&mut held, b"c", Some(b"2"));
        push(&mut held, b"e", Some(b"3"));
        push(&mut held, b"e", None);
        let known: Vec<_> = [&b"a"[..], b"b", b"c", b"cc", b"d", b"e", b""].map(|name| held.get(name)).into();
        let (deleted, nothing) = (Known::Deleted, Known::Nothing);
        assert_eq!(known, [Known::Value(b""), deleted, Known::Value(b"2"), deleted, nothing, deleted, nothing]);
        let (ranges, mut entries) = held.into_parts();
        assert_eq!(ranges.len(), 1);
        entries.sort();
        let all: Vec<_> = entries.iter().collect();
        assert_eq!(all, [(&b"a"[..], Some(&b""[..])), (b"c", Some(b"2")), (b"e", None)]);
    }
}
