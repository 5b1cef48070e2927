//! What a checkpoint may take of memory for changes, beside what databases share.

use std::ops::RangeInclusive;

const MIB: usize = 1 << 20;

/// The size of a piece, bytes: what has changed within a second is seldom more than the most. A piece becomes a file.
const PIECE_BYTES: RangeInclusive<usize> = if cfg!(test) { MIB..=MIB } else { 4 * MIB..=64 * MIB };

/// What is held back, bytes.
const HELD_BYTES: RangeInclusive<usize> = MIB..=16 * MIB;

/// The memory for the changes of one checkpoint of one database.
///
/// Changes are written in *pieces*: while one is written, the next one is filled. What the owner writes meanwhile waits, and is *held*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangesRoom {
    /// The size of a piece from which on it is written, about, bytes. To write it beside the task that copies the rest holds that up, since they share the
    /// processor: with small pieces, that is often.
    pub piece_bytes: usize,
    /// The size of the writes that wait, bytes; beyond it, whoever writes waits, too, once the changes are there.
    pub held_bytes: usize,
}

impl ChangesRoom {
    /// Divides so many bytes, of which not all may be needed; a few megabytes it takes in any case.
    pub fn within(bytes: usize) -> Self {
        let held_bytes = bytes / 8;
        let piece_bytes = bytes.saturating_sub(held_bytes) / 2;
        let clamp = |bytes: usize, range: RangeInclusive<usize>| bytes.clamp(*range.start(), *range.end());
        Self { piece_bytes: clamp(piece_bytes, PIECE_BYTES), held_bytes: clamp(held_bytes, HELD_BYTES) }
    }

    /// What it takes at most, about, bytes.
    pub fn bytes(&self) -> usize {
        2 * self.piece_bytes + self.held_bytes
    }
}

/// As much as is of use.
impl Default for ChangesRoom {
    fn default() -> Self {
        Self::within(usize::MAX)
    }
}
