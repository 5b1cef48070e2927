//! Writing many entries at once: in order, as a file of their own that becomes part of the database as it is. That costs a small part of what it costs
//! to put them into a write buffer one by one, which is a walk through a list for each, and to flush that.

use std::fs;
use std::path::PathBuf;

use rocksdb::{IngestExternalFileOptions, SstFileWriter, WriteBatch};

use super::{Database, failure, options};
use crate::Error;

/// The room that is made for entries before their lengths are known, at most, bytes.
const ROOM_BYTES_MAX: usize = 16 << 20;

/// The least number of entries that are written as a file of their own.
const INGEST_KEYS_MIN: usize = 4096;

/// What such a file is called at first. The library takes no notice of names that it does not know.
const PUT_FILE: &str = "put";

/// Entries of a batch, before they are in order; those without a value are deletions.
#[derive(Default)]
pub(super) struct Unsorted {
    bytes: Vec<u8>,
    index: Vec<Place>,
}

/// Where an entry's bytes are: its name, and behind it its value.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    name_bytes: u32,
    /// none = it is a deletion
    value_bytes: Option<u32>,
    /// the first bytes of the name, as numbers that are ordered as they are: sorting seldom has to look at the bytes, which lie far apart
    prefix: [u128; 2],
}

impl Unsorted {
    /// Room for so many entries, as far as is known.
    pub fn new(entries: usize) -> Self {
        Self { bytes: vec![], index: Vec::with_capacity(entries) }
    }

    /// Appends an entry whose name `write_name` appends to what it is given.
    pub fn push(&mut self, write_name: impl FnOnce(&mut Vec<u8>), value: Option<&[u8]>) {
        let start = self.bytes.len();
        write_name(&mut self.bytes);
        let name = &self.bytes[start..];
        let prefix = [prefix(name, 0), prefix(name, 1)];
        // Guests have less memory than that.
        let length = |bytes: usize| u32::try_from(bytes).expect("a part of an entry is below 4 GiB");
        let value_bytes = value.map(|value| length(value.len()));
        self.index.push(Place { start, name_bytes: length(name.len()), value_bytes, prefix });
        self.bytes.extend_from_slice(value.unwrap_or_default());
        if self.index.len() == 1 {
            // The others are likely to be about as long, but need not be.
            self.bytes.reserve((self.bytes.len() * self.index.capacity()).min(ROOM_BYTES_MAX));
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The memory that they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.index.capacity() * size_of::<Place>()
    }

    /// The entries as they came.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.index.iter().map(|place| self.entry(place))
    }

    /// The entry with this index.
    pub fn get(&self, index: usize) -> (&[u8], Option<&[u8]>) {
        self.entry(&self.index[index])
    }

    /// Puts them into order; of those with one name the last one is left.
    pub fn sort(&mut self) {
        let Self { bytes, index } = self;
        let name = |place: &Place| &bytes[place.start..][..place.name_bytes as usize];
        // Those of one name stay in their order.
        index.sort_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| name(a).cmp(name(b))));
        index.dedup_by(|later, earlier| {
            let is_same = later.prefix == earlier.prefix && name(later) == name(earlier);
            if is_same {
                *earlier = *later;
            }
            is_same
        });
    }

    fn entry(&self, place: &Place) -> (&[u8], Option<&[u8]>) {
        let (name, rest) = self.bytes[place.start..].split_at(place.name_bytes as usize);
        (name, place.value_bytes.map(|bytes| &rest[..bytes as usize]))
    }
}

/// Sixteen bytes of a name as a number.
fn prefix(name: &[u8], part: usize) -> u128 {
    const BYTES: usize = size_of::<u128>();
    let mut bytes = [0; BYTES];
    let some = name.get(part * BYTES..).unwrap_or_default();
    let count = some.len().min(BYTES);
    bytes[..count].copy_from_slice(&some[..count]);
    u128::from_be_bytes(bytes)
}

impl Database {
    /// Writes entries: many as a file of their own, and few one by one.
    pub fn write_entries(&self, mut entries: Unsorted) -> Result<(), Error> {
        if entries.len() >= INGEST_KEYS_MIN {
            entries.sort();
            return self.ingest(PUT_FILE, |writer| {
                entries.iter().try_for_each(|(name, value)| match value {
                    Some(value) => writer.put(name, value),
                    None => writer.delete(name),
                })
            });
        }
        let mut batch = WriteBatch::default();
        entries.iter().for_each(|(name, value)| match value {
            Some(value) => batch.put(name, value),
            None => batch.delete(name),
        });
        self.write(batch)
    }

    /// Makes a file of what `write` writes, in order, and takes it in: over all that is there. `name` is what it is called until then; the library takes no
    /// notice of names that it does not know.
    pub fn ingest(
        &self,
        name: &str,
        write: impl FnOnce(&mut SstFileWriter<'_>) -> Result<(), rocksdb::Error>,
    ) -> Result<(), Error> {
        let file = Scratch(self.directory.path.join(name));
        let failed = |e| failure::of_db(&file.0, &e);
        let options = options::of_young_files(&self.memory).map_err(failed)?;
        let mut writer = SstFileWriter::create(&options);
        writer.open(&file.0).map_err(failed)?;
        write(&mut writer).map_err(failed)?;
        writer.finish().map_err(failed)?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.db.ingest_external_file_opts(&options, vec![&file.0]).map_err(|e| self.failed(&e))
    }
}

/// A file that goes when it was used.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Usually it was moved. If not, it goes with the directory.
        _ = fs::remove_file(&self.0);
    }
}
