//! What an object is known by that was put together from an upload.
//!
//! A server says nothing of the upload that an object comes from, and an entity tag is what a server likes it to be. So an object is compared with what was
//! uploaded: how long it is, and its end, where neither rows of text nor the footer of a Parquet file are those of another part.

use std::ops::Range;

use flate2::Crc;
use serde::{Deserialize, Serialize};

/// How much of its end is compared.
const END_BYTES: usize = 64 << 10;

/// What an object is known by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::file) struct Mark {
    /// how long it is
    bytes: u64,
    /// how much of its end is compared
    end_bytes: u64,
    /// the CRC-32 of that
    end_crc32: u32,
}

impl Mark {
    /// Whether an object may be it, as far as its length tells.
    pub fn has_length(&self, bytes: u64) -> bool {
        self.bytes == bytes
    }

    /// Where the end is that is compared.
    pub fn end(&self) -> Range<u64> {
        self.bytes.saturating_sub(self.end_bytes)..self.bytes
    }

    /// Whether that is its end.
    pub fn has_end(&self, end: &[u8]) -> bool {
        self.end_crc32 == sum(end)
    }
}

/// Makes the mark of bytes that come piece by piece.
#[derive(Default)]
pub(super) struct Marking {
    bytes: u64,
    end: Vec<u8>,
}

impl Marking {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.end.extend_from_slice(&piece[piece.len().saturating_sub(END_BYTES)..]);
        self.end.drain(..self.end.len().saturating_sub(END_BYTES));
    }

    /// The mark of all pieces.
    pub fn finish(&self) -> Mark {
        Mark { bytes: self.bytes, end_bytes: self.end.len() as u64, end_crc32: sum(&self.end) }
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_do_not_depend_on_pieces() {
        // Goal: a mark is that of the bytes, however they come; its end is as long as there are bytes, up to its limit.
        let bytes: Vec<u8> = (0..3 * END_BYTES as u32 + 7).map(|n| (n / 5) as u8).collect();
        for length in [0, 9, END_BYTES, END_BYTES + 1, bytes.len()] {
            let bytes = &bytes[..length];
            let mut whole = Marking::default();
            whole.update(bytes);
            let mark = whole.finish();
            let end = mark.end();
            assert_eq!(end, length.saturating_sub(END_BYTES) as u64..length as u64);
            assert!(mark.has_length(length as u64) && mark.has_end(&bytes[end.start as usize..]));
            for piece in [1000, END_BYTES, 2 * END_BYTES + 1] {
                let mut pieces = Marking::default();
                bytes.chunks(piece).for_each(|piece| pieces.update(piece));
                assert_eq!(pieces.finish(), mark, "{length} bytes in pieces of {piece}");
            }
        }
    }
}
