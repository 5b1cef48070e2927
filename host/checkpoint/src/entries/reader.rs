//! Reading entries.

use std::io::Read;

use weir_types::{KeyGroup, KeyGroupRange};
use zstd::bulk::Decompressor;

use super::{BLOCK_BYTES, BLOCK_BYTES_MAX, Header, MAGIC, varint};
use crate::error::Error;

/// Blocks up to this are decompressed at once. Longer ones piece by piece, since their header may promise more than there is.
const AT_ONCE_BYTES_MAX: usize = 4 * BLOCK_BYTES;

/// Reads the entries of some key groups.
pub struct EntriesReader<R> {
    input: R,
    groups: KeyGroupRange,
    decompressor: Decompressor<'static>,
    stored: Vec<u8>,
    /// the block that is being read, raw
    block: Vec<u8>,
    header: Header,
    /// where in it the next entry starts
    at: usize,
    /// how many entries of it have been read
    read: u32,
    /// how many entries the blocks have that are behind us
    entries: u64,
    /// the last entry: its group and namespace, and where in the block its key is
    last: Option<(u16, i64)>,
    last_key: (usize, usize),
    /// the last entry's key, if it was in the block before
    carried_key: Vec<u8>,
    /// the last group of the block before
    last_group: u16,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Blocks,
    Ended,
    Failed,
}

/// An entry that lies in its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// the key's group
    pub group: KeyGroup,
    /// the namespace
    pub namespace: i64,
    /// the key
    pub key: &'a [u8],
    /// the value
    pub value: &'a [u8],
}

/// Where the parts of an entry are.
struct Frame {
    group: u16,
    namespace: i64,
    key: (usize, usize),
    value: (usize, usize),
}

impl<R: Read> EntriesReader<R> {
    /// Reads the entries of these groups.
    pub fn new(input: R, groups: KeyGroupRange) -> Self {
        Self {
            input,
            groups,
            decompressor: Decompressor::new().expect("there is memory for a zstd context"),
            stored: vec![],
            block: vec![],
            header: Header { first: 0, last: 0, entries: 0, raw_bytes: 0, stored_bytes: 0, payload_crc: 0 },
            at: 0,
            read: 0,
            entries: 0,
            last: None,
            last_key: (0, 0),
            carried_key: vec![],
            last_group: 0,
            state: State::Start,
        }
    }

    /// The next entry, or nothing after the last one.
    ///
    /// # Errors
    /// If the bytes are not what a writer has written, or cannot be read. After that it is always this error.
    // It lends from the reader, which `Iterator` cannot.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<EntryRef<'_>>, Error> {
        match self.next_frame() {
            Ok(None) => Ok(None),
            Ok(Some(Frame { group, namespace, key, value })) => {
                let (key, value) = (&self.block[key.0..key.1], &self.block[value.0..value.1]);
                Ok(Some(EntryRef { group: KeyGroup(group), namespace, key, value }))
            }
            Err(e) => {
                self.state = State::Failed;
                Err(e)
            }
        }
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            match self.state {
                State::Start => {
                    self.start()?;
                    self.state = State::Blocks;
                }
                State::Blocks if self.read < self.header.entries => {
                    let frame = self.take_frame()?;
                    if self.groups.start <= frame.group && frame.group < self.groups.end {
                        return Ok(Some(frame));
                    }
                }
                State::Blocks => self.next_block()?,
                State::Ended => return Ok(None),
                State::Failed => return Err(corrupt("it cannot be read on from where it is damaged")),
            }
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        let mut magic = [0; MAGIC.len()];
        self.input.read_exact(&mut magic).map_err(read_error)?;
        if magic[..7] != MAGIC[..7] {
            return Err(corrupt("it is no file of entries"));
        }
        if magic[7] != MAGIC[7] {
            return Err(corrupt(format!("it has version {}, and this Weir reads version {}", magic[7], MAGIC[7])));
        }
        Ok(())
    }

    /// Goes on to the next block that has some of the groups, or to the end.
    fn next_block(&mut self) -> Result<(), Error> {
        if self.at != self.block.len() {
            return Err(corrupt("a block has bytes after its last entry"));
        }
        self.entries += u64::from(self.header.entries);
        if self.last.is_some() {
            let (from, to) = self.last_key;
            self.carried_key.clear();
            self.carried_key.extend_from_slice(&self.block[from..to]);
            self.last_key = (0, 0);
        }
        loop {
            let mut bytes = [0; Header::BYTES];
            self.input.read_exact(&mut bytes).map_err(read_error)?;
            let header = Header::decode(&bytes).ok_or_else(|| corrupt("the header of a block is damaged"))?;
            if header.entries == 0 {
                return self.end(header);
            }
            let possible = header.first <= header.last
                && header.stored_bytes <= header.raw_bytes
                && header.raw_bytes as usize <= BLOCK_BYTES_MAX
                // Each entry has at least the four bytes of its lengths.
                && u64::from(header.entries) * 4 <= u64::from(header.raw_bytes);
            if !possible || header.first < self.last_group {
                return Err(corrupt(format!("a block is impossible: {header:?}")));
            }
            self.last_group = header.last;
            if header.last < self.groups.start || header.first >= self.groups.end {
                self.skip(header.stored_bytes.into())?;
                self.entries += u64::from(header.entries);
                // The entries that were passed over are not known, but their groups are: see `last_group`.
                self.last = None;
                continue;
            }
            self.load(header)?;
            (self.header, self.at, self.read) = (header, 0, 0);
            return Ok(());
        }
    }

    fn end(&mut self, header: Header) -> Result<(), Error> {
        if header.stored_bytes != 8 || header.raw_bytes != 8 {
            return Err(corrupt("its end is damaged"));
        }
        let mut count = [0; 8];
        self.input.read_exact(&mut count).map_err(read_error)?;
        let count_is_whole = crc32fast::hash(&count) == header.payload_crc;
        if !count_is_whole || u64::from_le_bytes(count) != self.entries {
            return Err(corrupt(format!("it has {} entries instead of {}", self.entries, u64::from_le_bytes(count))));
        }
        if self.input.read(&mut [0]).map_err(read_error)? != 0 {
            return Err(corrupt("it goes on after its end"));
        }
        (self.header.entries, self.read, self.at) = (0, 0, 0);
        self.block.clear();
        self.state = State::Ended;
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Error> {
        let skipped = std::io::copy(&mut (&mut self.input).take(bytes), &mut std::io::sink()).map_err(read_error)?;
        if skipped == bytes { Ok(()) } else { Err(torn()) }
    }

    /// Reads and decompresses a block's payload.
    fn load(&mut self, header: Header) -> Result<(), Error> {
        let (stored_bytes, raw_bytes) = (header.stored_bytes as usize, header.raw_bytes as usize);
        self.stored.clear();
        // Grows with what is there, not with what the header says.
        (&mut self.input).take(stored_bytes as u64).read_to_end(&mut self.stored).map_err(read_error)?;
        if self.stored.len() != stored_bytes {
            return Err(torn());
        }
        if crc32fast::hash(&self.stored) != header.payload_crc {
            return Err(corrupt("a block is damaged"));
        }
        self.block.clear();
        // After an entry of extraordinary length, its room is given back.
        self.block.shrink_to(AT_ONCE_BYTES_MAX);
        if stored_bytes == raw_bytes {
            std::mem::swap(&mut self.block, &mut self.stored);
        } else if raw_bytes <= AT_ONCE_BYTES_MAX {
            self.block.reserve(raw_bytes);
            self.decompressor
                .decompress_to_buffer(&self.stored, &mut self.block)
                .map_err(|e| corrupt(format!("a block cannot be decompressed: {e}")))?;
        } else {
            let decoder = zstd::stream::read::Decoder::with_buffer(&self.stored[..]).map_err(read_error)?;
            let limit = raw_bytes as u64 + 1;
            decoder
                .take(limit)
                .read_to_end(&mut self.block)
                .map_err(|e| corrupt(format!("a block cannot be decompressed: {e}")))?;
        }
        if self.block.len() != raw_bytes {
            return Err(corrupt(format!("a block has {} raw bytes instead of {raw_bytes}", self.block.len())));
        }
        self.stored.shrink_to(AT_ONCE_BYTES_MAX);
        Ok(())
    }

    /// The next entry of the block, which must come after the one before it and be in the block's groups.
    fn take_frame(&mut self) -> Result<Frame, Error> {
        let whole = &self.block[self.at..];
        let mut rest = whole;
        let mut number = || varint::take(&mut rest).ok_or_else(|| corrupt("an entry is damaged"));
        let (group, namespace, key, value) = (number()?, varint::unzigzag(number()?), number()?, number()?);
        let lengths = key.checked_add(value).filter(|bytes| *bytes <= rest.len() as u64);
        let in_block = (u64::from(self.header.first)..=u64::from(self.header.last)).contains(&group);
        if lengths.is_none() || !in_block {
            return Err(corrupt("an entry is damaged"));
        }
        let key_start = self.at + (whole.len() - rest.len());
        // Both lengths are within the block.
        let (key, value) = (key as usize, value as usize);
        let frame = Frame {
            group: group as u16,
            namespace,
            key: (key_start, key_start + key),
            value: (key_start + key, key_start + key + value),
        };
        let last_key = if self.read == 0 { &self.carried_key[..] } else { &self.block[self.last_key.0..self.last_key.1] };
        let place = (frame.group, frame.namespace);
        if self.last.is_some_and(|last| (last, last_key) >= (place, &self.block[frame.key.0..frame.key.1])) {
            return Err(corrupt("entries are not in order"));
        }
        (self.last, self.last_key, self.at) = (Some(place), frame.key, frame.value.1);
        self.read += 1;
        Ok(frame)
    }
}

impl<R> std::fmt::Debug for EntriesReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntriesReader").field("groups", &self.groups).field("state", &self.state).finish_non_exhaustive()
    }
}

fn corrupt(message: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("a file of entries is corrupt: {message}"))
}

fn torn() -> Error {
    corrupt("it ends too early")
}

fn read_error(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => torn(),
        _ => Error::local("cannot read a file of entries", error),
    }
}
