//! Changing which groups a database has.

use rocksdb::{ReadOptions, WriteBatch};
use weir_types::KeyGroupRange;

use super::RocksBackend;
use crate::Error;

/// The size of a file that is imported, bytes: that of a file that a compaction writes.
const IMPORT_BYTES: u64 = 64 << 20;

/// How far an import reads ahead, bytes.
const READAHEAD_BYTES: usize = 2 << 20;

impl RocksBackend {
    /// Drops the entries of all other groups: of every operator, and for all that share the database. It costs little, however many they are: files
    /// that have nothing else are deleted, and compactions drop the rest.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn keep_groups(&mut self, groups: KeyGroupRange) -> Result<(), Error> {
        self.settle()?;
        // Two bytes are where a group begins; no name is as short, so that it does not matter whether a range includes its end.
        let (first, start, end) = ([0, 0], groups.start.to_be_bytes(), groups.end.max(groups.start).to_be_bytes());
        let last = self.last_name()?.filter(|name| **name >= end[..]);
        let before = (first[..] < start[..]).then_some((&first[..], &start[..]));
        let after = last.as_deref().map(|last| (&end[..], last));

        let mut batch = WriteBatch::default();
        before.into_iter().chain(after).for_each(|(from, to)| batch.delete_range(from, to));
        // The last name has none after it with which a range could end.
        last.iter().for_each(|last| batch.delete(last));
        self.database.write(batch)?;
        // Only then files, since they may hide what older files have: that is deleted now.
        for (from, to) in before.into_iter().chain(after) {
            self.database.db.delete_file_in_range(from, to).map_err(|e| self.database.failed(&e))?;
        }
        Ok(())
    }

    /// The name of the last entry.
    fn last_name(&self) -> Result<Option<Vec<u8>>, Error> {
        let mut entries = self.database.db.raw_iterator();
        entries.seek_to_last();
        entries.status().map_err(|e| self.database.failed(&e))?;
        Ok(entries.key().map(<[u8]>::to_vec))
    }

    /// Takes over another database's entries of these groups, of all operators, over those that are here. The other one stays as it is.
    ///
    /// They are written as files of their own, which become part of this database as they are: neither write buffers nor (where there are no
    /// entries between them) compactions see them.
    ///
    /// # Errors
    /// If the disk fails; some of them may be here then.
    pub fn import(&mut self, other: &Self, groups: KeyGroupRange) -> Result<(), Error> {
        let mut read = ReadOptions::default();
        read.fill_cache(false);
        read.set_readahead_size(READAHEAD_BYTES);
        read.set_iterate_range(&groups.start.to_be_bytes()[..]..&groups.end.max(groups.start).to_be_bytes()[..]);
        let mut entries = other.database.db.raw_iterator_opt(read);
        entries.seek_to_first();
        while entries.valid() {
            self.database.ingest(IMPORT_FILE, |writer| {
                while let Some((key, value)) = entries.item()
                    && writer.file_size() < IMPORT_BYTES
                {
                    writer.put(key, value)?;
                    entries.next();
                }
                Ok(())
            })?;
        }
        entries.status().map_err(|e| other.database.failed(&e))
    }
}

/// Where entries lie between two databases.
const IMPORT_FILE: &str = "import";
