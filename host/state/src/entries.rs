//! Entries of state on their way into a snapshot, or out of one.
//!
//! The bytes of each key group lie in chunks, one entry behind the other: an entry costs no allocation, what is there is never copied to make room, and the
//! whole is handed to another thread by moving a vector. So a task only appends; sorting and encoding happen elsewhere, a group at a time, whose bytes are
//! few enough for a processor's cache.

use weir_types::KeyGroup;

/// The size of a chunk. Each group wastes half of one on average.
const CHUNK_BYTES: usize = 32 << 10;

/// What has to be left of a chunk for the value of an entry, whose length is not known before: a longer one makes the chunk grow.
const VALUE_ROOM: usize = 256;

/// Entries by group, namespace and key.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// by group: chunks with the head, the key and the value of each entry
    groups: Vec<Vec<Vec<u8>>>,
    count: usize,
    /// what the entries take, without what chunks waste
    bytes: usize,
    /// chunks without entries, kept for their memory
    spare: Vec<Vec<u8>>,
}

/// What is before an entry's key and value: the namespace, and how long they are, in the processor's order of bytes.
#[derive(Clone, Copy, Debug)]
struct Head {
    namespace: i64,
    key_bytes: u32,
    value_bytes: u32,
}

/// Where an entry is among those of its group, and what it is ordered by.
#[derive(Clone, Copy, Debug)]
struct Place {
    namespace: i64,
    /// the first bytes of the key as a number, so that sorting seldom has to look at the bytes
    prefix: u128,
    chunk: u32,
    start: u32,
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
        self.push_with(group, namespace, key, |bytes| value.into_iter().for_each(|part| bytes.extend_from_slice(part)));
    }

    /// As [`push`](Self::push), of a key that lies in several parts, and of a value that this function appends to what it is given.
    ///
    /// # Panics
    /// As `push`.
    #[inline]
    pub fn push_with<const PARTS: usize>(
        &mut self,
        group: KeyGroup,
        namespace: i64,
        key: [&[u8]; PARTS],
        write_value: impl FnOnce(&mut Vec<u8>),
    ) {
        let group = usize::from(group.0);
        if group >= self.groups.len() {
            self.groups.resize_with(group + 1, Vec::new);
        }
        let key_bytes = key.iter().map(|part| part.len()).sum::<usize>();
        let bytes = with_room(&mut self.groups[group], &mut self.spare, Head::BYTES + key_bytes + VALUE_ROOM);
        let start = bytes.len();
        let length = |bytes: usize| u32::try_from(bytes).expect("a part of an entry is below 4 GiB");
        // How long the value is, is known once it is there.
        bytes.extend_from_slice(&namespace.to_ne_bytes());
        bytes.extend_from_slice(&length(key_bytes).to_ne_bytes());
        let value_bytes = bytes.len();
        bytes.extend_from_slice(&[0; size_of::<u32>()]);
        key.iter().for_each(|part| bytes.extend_from_slice(part));
        let value = bytes.len();
        write_value(bytes);
        let written = length(bytes.len() - value).to_ne_bytes();
        bytes[value_bytes..][..size_of::<u32>()].copy_from_slice(&written);
        self.bytes += bytes.len() - start;
        self.count += 1;
    }

    /// Puts the entries of each group in order: by namespace (signed) and key (as bytes).
    pub fn sort(&mut self) {
        let mut places = vec![];
        for group in &mut self.groups {
            places.clear();
            for (chunk, bytes) in (0..).zip(&*group) {
                let mut start = 0;
                while let Some((head, key, _)) = Head::split(&bytes[start..]) {
                    // An entry begins where a chunk has room, which is below its usual size.
                    places.push(Place { namespace: head.namespace, prefix: prefix(key), chunk, start: start as u32 });
                    start += head.entry_bytes();
                }
            }
            let at = |place: &Place| &group[place.chunk as usize][place.start as usize..];
            let key = |place: &Place| Head::split(at(place)).map(|(_, key, _)| key);
            let by_key = |a: &Place, b: &Place| a.prefix.cmp(&b.prefix).then_with(|| key(a).cmp(&key(b)));
            // Without windows all are of one namespace: then there is one number to compare. No two are alike; the stable sort is the one that makes use of runs, since
            // new keys often come in order.
            match places.iter().all(|place| place.namespace == places[0].namespace) {
                true => places.sort_by(by_key),
                false => places.sort_by(|a, b| a.namespace.cmp(&b.namespace).then_with(|| by_key(a, b))),
            }
            let mut sorted = vec![];
            for place in &places {
                let rest = at(place);
                let entry = &rest[..Head::split(rest).map_or(0, |(head, ..)| head.entry_bytes())];
                with_room(&mut sorted, &mut self.spare, entry.len()).extend_from_slice(entry);
            }
            self.spare.append(group);
            *group = sorted;
        }
    }

    /// The entries by group, those of a group in the order in which they were pushed, or, after [`sort`](Self::sort), in theirs.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let chunks = self.groups.iter().zip(0..).flat_map(|(chunks, group)| chunks.iter().map(move |bytes| (bytes, group)));
        chunks.flat_map(|(bytes, group)| {
            let mut rest = &bytes[..];
            std::iter::from_fn(move || {
                let (Head { namespace, .. }, key, value) = Head::split(rest)?;
                rest = &rest[Head::BYTES + key.len() + value.len()..];
                Some(Entry { group: KeyGroup(group), namespace, key, value })
            })
        })
    }

    /// Appends the entries of another one.
    pub fn append(&mut self, other: Self) {
        self.groups.resize_with(self.groups.len().max(other.groups.len()), Vec::new);
        self.groups.iter_mut().zip(other.groups).for_each(|(chunks, others)| chunks.extend(others));
        self.count += other.count;
        self.bytes += other.bytes;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The bytes that they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets all entries, and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.groups.iter_mut().for_each(|group| self.spare.append(group));
        (self.count, self.bytes) = (0, 0);
    }

    /// Gives memory back that has no entries, but for so many bytes.
    pub fn trim(&mut self, bytes_max: usize) {
        self.spare.truncate(bytes_max / CHUNK_BYTES);
        for chunk in &mut self.spare {
            chunk.clear();
            chunk.shrink_to(CHUNK_BYTES);
        }
    }
}

/// The chunk to which to append so many bytes: the last one, or another if it has no room for them.
#[inline]
fn with_room<'a>(chunks: &'a mut Vec<Vec<u8>>, spare: &mut Vec<Vec<u8>>, bytes: usize) -> &'a mut Vec<u8> {
    if chunks.last().is_none_or(|last| last.len() >= CHUNK_BYTES || last.capacity() - last.len() < bytes) {
        let mut chunk = spare.pop().unwrap_or_default();
        chunk.clear();
        chunk.reserve(bytes.max(CHUNK_BYTES));
        chunks.push(chunk);
    }
    let last = chunks.len() - 1;
    &mut chunks[last]
}

/// The first bytes of a key, as a number that is ordered as they are.
fn prefix(key: &[u8]) -> u128 {
    let number = |bytes: &[u8]| match bytes.first_chunk() {
        Some(all) => u64::from_be_bytes(*all),
        None => bytes.iter().zip([56, 48, 40, 32, 24, 16, 8]).fold(0, |number, (byte, shift)| number | u64::from(*byte) << shift),
    };
    u128::from(number(key)) << 64 | u128::from(number(key.get(size_of::<u64>()..).unwrap_or_default()))
}

impl Head {
    const BYTES: usize = size_of::<i64>() + 2 * size_of::<u32>();

    /// The head, the key and the value of the entry that these bytes begin with; none if there are no more.
    #[inline]
    fn split(bytes: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let (namespace, bytes) = bytes.split_first_chunk()?;
        let (key_bytes, bytes) = bytes.split_first_chunk()?;
        let (value_bytes, bytes) = bytes.split_first_chunk()?;
        let head = Self {
            namespace: i64::from_ne_bytes(*namespace),
            key_bytes: u32::from_ne_bytes(*key_bytes),
            value_bytes: u32::from_ne_bytes(*value_bytes),
        };
        let (key, bytes) = bytes.split_at(head.key_bytes as usize);
        Some((head, key, &bytes[..head.value_bytes as usize]))
    }

    /// How many bytes an entry with this head takes.
    fn entry_bytes(self) -> usize {
        Self::BYTES + self.key_bytes as usize + self.value_bytes as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_send<T: Send + 'static>(_: &T) {}

    /// Entries come by group, as they were pushed, then by namespace (signed) and key, too; empty keys and values are as good as any.
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
        expected.sort_by_key(|entry| entry.0);
        assert_eq!(seen(&entries), expected);
        entries.sort();
        expected.sort();
        assert_eq!(seen(&entries), expected);
        is_send(&entries);
        assert_eq!(entries.len(), 8);
        entries.clear();
        assert!(entries.is_empty() && entries.iter().next().is_none());
    }

    /// It does not matter in how many chunks they lie, nor whether an entry is larger than one; and as much memory is kept as is wanted.
    #[test]
    fn fill_chunks() {
        let mut entries = Entries::default();
        for round in 0..3 {
            let count = 5000_u32;
            let value = |n: u32| vec![n as u8; if n % 1000 == 999 { 3 * CHUNK_BYTES } else { 1 + n as usize % 40 }];
            for n in 0..count {
                entries.push(KeyGroup((n % 2) as u16), 0, &n.wrapping_mul(0x9E37_79B9).to_be_bytes(), &value(n));
            }
            assert!(entries.groups.iter().all(|chunks| chunks.len() > 2));
            entries.sort();
            let mut expected: Vec<_> = (0..count).map(|n| (n % 2, n.wrapping_mul(0x9E37_79B9).to_be_bytes(), value(n))).collect();
            expected.sort_unstable();
            let found = entries.iter().map(|e| (u32::from(e.group.0), e.key.try_into().expect("four bytes"), e.value.to_vec()));
            assert!(found.eq(expected), "round {round}");
            entries.clear();
            entries.trim(4 * CHUNK_BYTES);
            assert!(entries.is_empty() && entries.spare.len() == 4);
            assert!(entries.spare.iter().all(|chunk| chunk.is_empty() && chunk.capacity() <= 2 * CHUNK_BYTES));
        }
    }

    /// Parts make up one key and one value.
    #[test]
    fn parts_are_put_together() {
        let (mut entries, mut whole) = (Entries::default(), Entries::default());
        entries.push_parts(KeyGroup(1), 2, [b"k", b"ey"], [b"", b"value"]);
        whole.push(KeyGroup(1), 2, b"key", b"value");
        assert!(entries.iter().eq(whole.iter()));
    }

    /// Entries of several are those of one, in order once they are sorted.
    #[test]
    fn are_appended() {
        let (mut some, mut others, mut all) = (Entries::default(), Entries::default(), Entries::default());
        for n in 0..100u8 {
            let part = if n % 3 == 0 { &mut some } else { &mut others };
            part.push(KeyGroup(u16::from(n % 5)), 0, &[n], &[n; 3]);
            all.push(KeyGroup(u16::from(n % 5)), 0, &[n], &[n; 3]);
        }
        others.push(KeyGroup(9), 0, b"another group", b"");
        all.push(KeyGroup(9), 0, b"another group", b"");
        some.append(others);
        some.sort();
        all.sort();
        assert_eq!(some.len(), all.len());
        assert!(some.iter().eq(all.iter()));
    }
}
