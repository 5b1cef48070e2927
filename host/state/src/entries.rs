//! Entries of state on their way into a snapshot, or out of one.
//!
//! All bytes lie in one buffer, with an index beside it: an entry costs no allocation, and the whole is handed to another thread by moving two
//! vectors. So a task only appends; sorting and encoding happen elsewhere.

use std::ops::Range;

use weir_types::KeyGroup;

/// Entries by group, namespace and key.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    bytes: Vec<u8>,
    index: Vec<Place>,
}

/// Where an entry's bytes are: its key, and behind it its value.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    namespace: i64,
    /// the first bytes of the key as numbers, so that sorting seldom has to look at the bytes, which lie far apart
    prefix: [u64; 2],
    key_bytes: u32,
    value_bytes: u32,
    group: KeyGroup,
}

/// One of [`Entries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// the key's group
    pub group: KeyGroup,
    /// the namespace
    pub namespace: i64,
    /// the key
    pub key: &'a [u8],
    /// the value
    pub value: &'a [u8],
}

impl Entries {
    /// Makes room for so many entries more, whose keys and values have about so many bytes each: growing copies everything that is there.
    pub fn reserve(&mut self, count: usize, bytes_each: usize) {
        self.index.reserve(count);
        self.bytes.reserve(count.saturating_mul(bytes_each));
    }

    /// Appends an entry.
    ///
    /// # Panics
    /// If its key or value has 4 GiB or more. Guests have less memory than that, and Arrow's keys are shorter.
    pub fn push(&mut self, group: KeyGroup, namespace: i64, key: &[u8], value: &[u8]) {
        self.push_parts(group, namespace, [key, &[]], [value, &[]]);
    }

    /// As [`push`](Self::push), of a key and a value that lie in two parts each.
    ///
    /// # Panics
    /// As `push`.
    pub fn push_parts(&mut self, group: KeyGroup, namespace: i64, key: [&[u8]; 2], value: [&[u8]; 2]) {
        let write_key = |bytes: &mut Vec<u8>| key.into_iter().for_each(|part| bytes.extend_from_slice(part));
        self.push_with(group, namespace, write_key, |bytes| value.into_iter().for_each(|part| bytes.extend_from_slice(part)));
    }

    /// As [`push`](Self::push), of a key and a value that these functions append to what they are given.
    ///
    /// # Panics
    /// As `push`.
    #[inline]
    pub fn push_with(
        &mut self,
        group: KeyGroup,
        namespace: i64,
        write_key: impl FnOnce(&mut Vec<u8>),
        write_value: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.bytes.len();
        write_key(&mut self.bytes);
        let value = self.bytes.len();
        write_value(&mut self.bytes);
        let length = |range: Range<usize>| u32::try_from(range.len()).expect("a part of an entry is below 4 GiB");
        let (key_bytes, value_bytes) = (length(start..value), length(value..self.bytes.len()));
        let prefix = prefix(&self.bytes[start..value]);
        self.index.push(Place { start, namespace, prefix, key_bytes, value_bytes, group });
    }

    /// Puts the entries in order: by group, namespace (signed), key (as bytes).
    pub fn sort(&mut self) {
        let Self { bytes, index } = self;
        // By group first, of which there are few: what is left then is to order each group's, which are few enough for a processor's cache.
        index.sort_unstable_by_key(|place| place.group);
        for of_group in index.chunk_by_mut(|a, b| a.group == b.group) {
            of_group.sort_unstable_by(|a, b| {
                let places = (a.namespace, a.prefix).cmp(&(b.namespace, b.prefix));
                places.then_with(|| a.entry(bytes).key.cmp(b.entry(bytes).key))
            });
        }
    }

    /// The entries, in the order in which they were pushed, or, after [`sort`](Self::sort), in theirs.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.index.iter().map(|place| place.entry(&self.bytes))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Forgets all entries, and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.index.clear();
    }

    /// The memory that they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.index.capacity() * size_of::<Place>()
    }
}

/// The first bytes of a key, as numbers that are ordered as they are.
fn prefix(key: &[u8]) -> [u64; 2] {
    let number = |bytes: &[u8]| match bytes.first_chunk() {
        Some(all) => u64::from_be_bytes(*all),
        None => bytes.iter().zip([56, 48, 40, 32, 24, 16, 8]).fold(0, |number, (byte, shift)| number | u64::from(*byte) << shift),
    };
    [number(key), number(key.get(size_of::<u64>()..).unwrap_or_default())]
}

impl Place {
    fn entry<'a>(&self, bytes: &'a [u8]) -> Entry<'a> {
        let (key, rest) = bytes[self.start..].split_at(self.key_bytes as usize);
        Entry { group: self.group, namespace: self.namespace, key, value: &rest[..self.value_bytes as usize] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_send<T: Send + 'static>(_: &T) {}

    /// Entries come as they were pushed, then by group, namespace (signed) and key; empty keys and values are as good as any.
    #[test]
    fn come_in_order() {
        let mut entries = Entries::default();
        let all: [(u16, i64, &[u8], &[u8]); 8] = [
            (2, 0, b"", b""),
            (1, 5, b"b", b"value"),
            (1, -5, b"b", b""),
            (1, 5, b"", b"of nothing"),
            (0, i64::MAX, b"\xff", b"\0"),
            (0, i64::MIN, b"a", b"1"),
            (1, 5, b"ab", b""),
            (1, 5, b"a", b"2"),
        ];
        for (group, namespace, key, value) in all {
            entries.push(KeyGroup(group), namespace, key, value);
        }
        let seen = |entries: &Entries| -> Vec<(u16, i64, Vec<u8>, Vec<u8>)> {
            entries.iter().map(|e| (e.group.0, e.namespace, e.key.to_vec(), e.value.to_vec())).collect()
        };
        let mut expected: Vec<_> = all.iter().map(|&(g, n, k, v)| (g, n, k.to_vec(), v.to_vec())).collect();
        assert_eq!(seen(&entries), expected);
        entries.sort();
        expected.sort();
        assert_eq!(seen(&entries), expected);
        is_send(&entries);
        assert!(entries.bytes() > 0 && entries.len() == 8);
        entries.clear();
        assert!(entries.is_empty() && entries.iter().next().is_none());
    }

    /// Parts make up one key and one value.
    #[test]
    fn parts_are_put_together() {
        let (mut entries, mut whole) = (Entries::default(), Entries::default());
        entries.push_parts(KeyGroup(1), 2, [b"k", b"ey"], [b"", b"value"]);
        whole.push(KeyGroup(1), 2, b"key", b"value");
        assert!(entries.iter().eq(whole.iter()));
    }
}
