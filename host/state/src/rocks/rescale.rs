//! Changing which groups a database has.

use std::fs;
use std::path::{Path, PathBuf};

use rocksdb::{IngestExternalFileOptions, ReadOptions, SstFileWriter, WriteBatch};
use weir_types::KeyGroupRange;

use super::{RocksBackend, failure, options};
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
        // Two bytes are where a group begins; no name is as short, so that it does not matter whether a range includes its end.
        let (first, start, end) = ([0, 0], groups.start.to_be_bytes(), groups.end.max(groups.start).to_be_bytes());
        let last = self.last_name()?.filter(|name| **name >= end[..]);
        let before = (first[..] < start[..]).then_some((&first[..], &start[..]));
        let after = last.as_deref().map(|last| (&end[..], last));

        let mut batch = WriteBatch::default();
        before.into_iter().chain(after).for_each(|(from, to)| batch.delete_range(from, to));
        // The last name has none after it with which a range could end.
        last.iter().for_each(|last| batch.delete(last));
        self.write(batch)?;
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
            let file = Scratch(self.path().join(IMPORT_FILE));
            self.write_file(&mut entries, &file.0)?;
            self.ingest(&file.0)?;
        }
        entries.status().map_err(|e| other.database.failed(&e))
    }

    /// Writes entries to a file until it is large.
    fn write_file(&self, entries: &mut rocksdb::DBRawIterator<'_>, path: &Path) -> Result<(), Error> {
        let failed = |e| failure::of_db(path, &e);
        let options = options::options(&self.database.memory).map_err(failed)?;
        let mut writer = SstFileWriter::create(&options);
        writer.open(path).map_err(failed)?;
        while let Some((key, value)) = entries.item()
            && writer.file_size() < IMPORT_BYTES
        {
            writer.put(key, value).map_err(failed)?;
            entries.next();
        }
        writer.finish().map_err(failed)
    }

    fn ingest(&self, path: &Path) -> Result<(), Error> {
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.database.db.ingest_external_file_opts(&options, vec![path]).map_err(|e| self.database.failed(&e))
    }
}

/// Where entries lie between two databases. The library takes no notice of names that it does not know.
const IMPORT_FILE: &str = "import";

/// A file that goes when it was used.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Usually it was moved. If not, it goes with the directory.
        _ = fs::remove_file(&self.0);
    }
}
