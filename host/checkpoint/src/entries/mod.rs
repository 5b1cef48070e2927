//! The portable state file: keyed state of one operator as sorted entries, which any backend can write and read.
//!
//! ```text
//! file   = magic "WEIRENT", version 1 | block … | end
//! block  = header | payload
//! header = first group u16 | last group u16 | entries u32 | raw bytes u32 | stored bytes u32 | payload's CRC-32 u32
//!          | CRC-32 of all this u32
//! end    = a header with 0 entries and 8 stored bytes | the number of all entries u64
//! ```
//!
//! Numbers are little-endian. A payload is compressed by zstd, or as it is if that is not shorter (then raw and stored bytes are
//! equal). Raw, it is a row of frames:
//!
//! ```text
//! frame  = group varint | namespace zigzag varint | key's length varint | value's length varint | key | value
//! ```
//!
//! Entries ascend by group, namespace (signed) and key (as bytes), each once. A block says in its header which groups it holds,
//! so that a subtask which restores some of them passes over the other blocks without decompressing them.
//!
//! Whatever the bytes are, reading them ends in entries or in an error: lengths are checked before they are believed, and memory
//! grows with what is there rather than with what a header says.

mod reader;
mod varint;
mod writer;

pub use reader::{EntriesReader, EntryRef};
pub use writer::EntriesWriter;

/// What a file starts with; the last byte is the version.
const MAGIC: [u8; 8] = *b"WEIRENT\x01";

/// Blocks are closed once they have so many raw bytes.
const BLOCK_BYTES: usize = 128 << 10;

/// Key and value of one entry have at most so many bytes together.
pub const ENTRY_BYTES_MAX: usize = 1 << 30;

/// The four varints of a frame have at most so many bytes.
const FRAME_HEAD_BYTES_MAX: usize = 4 * varint::BYTES_MAX;

/// A block has at most so many raw bytes: it was still open, and then came one entry of the greatest length.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + ENTRY_BYTES_MAX + FRAME_HEAD_BYTES_MAX;

/// The header before a block's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    first: u16,
    last: u16,
    entries: u32,
    raw_bytes: u32,
    stored_bytes: u32,
    payload_crc: u32,
}

impl Header {
    const BYTES: usize = 24;

    fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..2].copy_from_slice(&self.first.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.last.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.entries.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..20]);
        bytes[20..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header in these bytes, unless they have been altered.
    fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let whole = crc32fast::hash(&bytes[..20]) == u32_at(20);
        whole.then(|| Self {
            first: u16_at(0),
            last: u16_at(2),
            entries: u32_at(4),
            raw_bytes: u32_at(8),
            stored_bytes: u32_at(12),
            payload_crc: u32_at(16),
        })
    }
}

#[cfg(test)]
mod tests;
