//! Keys, key groups and who owns them.
//!
//! A key's hash picks one of `max_parallelism` key groups, and each subtask owns a contiguous range of groups. State is
//! addressed through its group only, so that a rescale moves whole ranges. The hash is part of the format of savepoints:
//! it never changes.

mod columns;

use serde::{Deserialize, Serialize};

pub use columns::{can_be_key, hash_columns};

/// A fixed hash bucket of keys: the unit in which keyed state is dealt out and moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyGroup(pub u16);

/// The key groups `start..end` that one subtask owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyGroupRange {
    /// the first group
    pub start: u16,
    /// one past the last group
    pub end: u16,
}

impl KeyGroupRange {
    /// Whether there are no groups in it.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether a group is in it.
    pub fn contains(self, KeyGroup(group): KeyGroup) -> bool {
        self.start <= group && group < self.end
    }

    /// The groups that are in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

/// The number of key groups of a job, unless its spec says otherwise.
pub const MAX_PARALLELISM_DEFAULT: u16 = 128;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of a key that is one 64-bit value (smaller integers are sign- or zero-extended first).
#[inline(always)]
pub fn hash_u64(value: u64) -> u64 {
    mix(value.wrapping_add(GOLDEN))
}

/// Adds the hash of the next column of a key to the hash of those before it.
#[inline(always)]
pub fn combine(hash: u64, next: u64) -> u64 {
    mix(hash.rotate_left(23) ^ next)
}

/// The hash of a key that is a string of bytes.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = mix(GOLDEN ^ bytes.len() as u64);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        hash = combine(hash, u64::from_le_bytes(chunk.try_into().expect("chunks of eight")));
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = combine(hash, u64::from_le_bytes(last));
    }
    hash
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The key group of a key's hash.
#[inline]
pub fn group_of(hash: u64, max_parallelism: u16) -> KeyGroup {
    // The high bits pick the group, so that the low ones are left for hash tables.
    KeyGroup((((hash >> 32) * u64::from(max_parallelism)) >> 32) as u16)
}

/// The subtask that owns a key group.
#[inline]
pub fn owner(group: KeyGroup, parallelism: u16, max_parallelism: u16) -> u16 {
    (u32::from(group.0) * u32::from(parallelism) / u32::from(max_parallelism)) as u16
}

/// The key groups that subtask `index` of `parallelism` owns.
pub fn range_of(index: u16, parallelism: u16, max_parallelism: u16) -> KeyGroupRange {
    let (i, p, m) = (u32::from(index), u32::from(parallelism), u32::from(max_parallelism));
    KeyGroupRange { start: (i * m).div_ceil(p) as u16, end: ((i + 1) * m).div_ceil(p) as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every group has exactly one owner, and `range_of` agrees with `owner`.
    #[test]
    fn ranges_and_owners_agree() {
        for max in [1, 7, 128, 1000] {
            for p in 1..=max.min(40) {
                for g in 0..max {
                    let o = owner(KeyGroup(g), p, max);
                    let r = range_of(o, p, max);
                    assert!(r.start <= g && g < r.end, "group {g} of {max} at parallelism {p}");
                }
            }
        }
    }

    /// The hash is part of the savepoint format: these values never change.
    #[test]
    fn hashes_are_fixed() {
        assert_eq!(hash_u64(0), mix(GOLDEN));
        assert_ne!(hash_bytes(b""), hash_bytes(b"\0"));
        assert_ne!(hash_bytes(b"a"), hash_bytes(b"a\0"));
        assert!(group_of(u64::MAX, 128).0 < 128);
    }
}
