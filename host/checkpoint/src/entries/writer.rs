//! Writing entries.

use std::io::{Error, ErrorKind, Write};

use weir_types::KeyGroup;
use zstd::bulk::Compressor;

use super::{BLOCK_BYTES, ENTRY_BYTES_MAX, FRAME_HEAD_BYTES_MAX, Header, MAGIC, varint};

/// zstd's fastest ordinary level: a checkpoint waits for the storage more than it saves by less bytes.
const LEVEL: i32 = 1;

/// Writes entries, in their order.
pub struct EntriesWriter<W> {
    out: W,
    compressor: Compressor<'static>,
    /// the raw bytes of the open block
    block: Vec<u8>,
    compressed: Vec<u8>,
    /// the first and the last group of the open block
    groups: (u16, u16),
    /// how many entries the open block has
    in_block: u32,
    entries: u64,
    bytes: u64,
    /// group and namespace of the last entry; its key
    last: Option<(KeyGroup, i64)>,
    last_key: Vec<u8>,
}

impl<W: Write> EntriesWriter<W> {
    /// Starts a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn new(mut out: W) -> Result<Self, Error> {
        out.write_all(&MAGIC)?;
        Ok(Self {
            out,
            compressor: Compressor::new(LEVEL)?,
            block: Vec::with_capacity(BLOCK_BYTES + (BLOCK_BYTES >> 2)),
            compressed: vec![],
            groups: (0, 0),
            in_block: 0,
            entries: 0,
            bytes: MAGIC.len() as u64,
            last: None,
            last_key: vec![],
        })
    }

    /// Writes an entry, which must come after the one before it: by group, namespace, key.
    ///
    /// # Errors
    /// If it does not come after it, is too long, or cannot be written.
    pub fn push(&mut self, group: KeyGroup, namespace: i64, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let place = (group, namespace);
        if self.last.is_some_and(|last| (last, &self.last_key[..]) >= (place, key)) {
            let message =
                format!("an entry of group {} and namespace {namespace} does not come after the one before it", group.0);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if key.len().saturating_add(value.len()) > ENTRY_BYTES_MAX {
            let message = format!(
                "an entry has {} bytes of key and {} of value; an entry is limited to {ENTRY_BYTES_MAX}",
                key.len(),
                value.len()
            );
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if self.in_block == 0 {
            self.groups.0 = group.0;
        }
        self.groups.1 = group.0;
        self.block.reserve(FRAME_HEAD_BYTES_MAX + key.len() + value.len());
        varint::put(&mut self.block, group.0.into());
        varint::put(&mut self.block, varint::zigzag(namespace));
        varint::put(&mut self.block, key.len() as u64);
        varint::put(&mut self.block, value.len() as u64);
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value);
        self.last = Some(place);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.in_block += 1;
        self.entries += 1;
        if self.block.len() >= BLOCK_BYTES { self.close_block() } else { Ok(()) }
    }

    /// How many bytes have been written, without the open block.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many entries have been pushed.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Ends the file. Without this it is a torn one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> Result<W, Error> {
        self.close_block()?;
        let entries = self.entries.to_le_bytes();
        let header =
            Header { first: 0, last: 0, entries: 0, raw_bytes: 8, stored_bytes: 8, payload_crc: crc32fast::hash(&entries) };
        self.out.write_all(&header.encode())?;
        self.out.write_all(&entries)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn close_block(&mut self) -> Result<(), Error> {
        if self.in_block == 0 {
            return Ok(());
        }
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(self.block.len()));
        self.compressor.compress_to_buffer(&self.block, &mut self.compressed)?;
        let payload = if self.compressed.len() < self.block.len() { &self.compressed } else { &self.block };
        let header = Header {
            first: self.groups.0,
            last: self.groups.1,
            entries: self.in_block,
            // Both are below `BLOCK_BYTES_MAX`.
            raw_bytes: self.block.len() as u32,
            stored_bytes: payload.len() as u32,
            payload_crc: crc32fast::hash(payload),
        };
        self.out.write_all(&header.encode())?;
        self.out.write_all(payload)?;
        self.bytes += (Header::BYTES + payload.len()) as u64;
        self.block.clear();
        // After an entry of extraordinary length, its room is given back.
        self.block.shrink_to(2 * BLOCK_BYTES);
        self.compressed.clear();
        self.compressed.shrink_to(2 * BLOCK_BYTES);
        self.in_block = 0;
        Ok(())
    }
}

impl<W> std::fmt::Debug for EntriesWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntriesWriter").field("entries", &self.entries).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
