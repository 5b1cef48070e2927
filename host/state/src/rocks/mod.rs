//! State on a local disk, in RocksDB: as much of it as the disk holds, and checkpoints that cost what has changed.
//!
//! Each operator of a subtask has a database. A worker's databases share one budget of memory, [`RocksMemory`], and the library's threads.
//!
//! What is written is not logged: a crash loses the database, and the job goes on from its last checkpoint, which is elsewhere. So the directory is
//! scratch space: it is removed with the backend, unless it is to be [kept](RocksBackend::keep).
//!
//! | file | what it has |
//! |---|---|
//! | `encoding` | names of entries as bytes, in their order |
//! | `memory`, `options` | the shared budget; how databases are set up, and why so |
//! | `walk`, `keys` | scans, group by group; of keys alone, beside the task |
//! | `checkpoint`, `lineage` | copies that share files, made beside the task; which files are the same |
//! | `pieces`, `room` | changes that are written while more of them come; the memory for them |
//! | `held` | what is written meanwhile |
//! | `expiring` | dropping what has expired |
//! | `ingest` | many entries at once, as a file of their own |
//! | `rescale` | dropping groups, and taking over those of another database |
//! | `failure` | what errors mean |
//!
//! **Deleting many entries.** RocksDB can delete a range at once, by a tombstone for all of it. But every get and scan looks at the tombstones of
//! ranges in the write buffer, and they are sorted anew after each that is added: with a window's end for each of a hundred groups every few
//! milliseconds that would be most of the work. So a range of few entries is deleted one by one, which costs about what it cost to read them; one
//! without entries costs a seek; and only large ones get a tombstone of their own, of which a write buffer holds a bounded number. Tombstones of
//! entries are cheap for gets. Scans step over them, so files with many of them are compacted early.
//!
//! **Expiry.** Values of an operator may say when they expire (see [`expiry`](crate::expiry)). A compaction filter drops them then while files are rewritten
//! anyway, which costs no write and no read; until one comes by, gets and scans hide them. A checkpoint has what had not expired at its barrier: as long
//! as one is being made, compactions drop no more than they might before.

use std::fs;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rocksdb::properties::{self, PropName};
use rocksdb::{ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME, Options, WriteBatch};
use weir_types::KeyGroupRange;

use crate::expiry::is_over;
use crate::{Clocks, Entries, Error, StateBackend, StateKey};

mod checkpoint;
mod encoding;
mod expiring;
mod failure;
mod held;
mod ingest;
mod keys;
mod lineage;
mod memory;
mod options;
mod pieces;
mod rescale;
mod room;
#[cfg(test)]
mod tests;
mod walk;

pub use checkpoint::{CheckpointFile, Checkpointing, copy_checkpoint};
pub use keys::KeyScan;
pub use memory::RocksMemory;
pub use room::ChangesRoom;

use checkpoint::Loan;
use expiring::Expiring;
use held::{Held, Known};
use ingest::Unsorted;
use lineage::Lineage;
use walk::Walk;

/// Keys that are looked up at once: their values, or rather the blocks with them, stay in memory until all are found.
const GET_KEYS_MAX: usize = 1024;

/// Entries of one group, operator and namespace that are deleted one by one rather than by a range.
const DELETE_KEYS_MAX: usize = 512;

/// The size of a batch of deletions that is written before more are collected, bytes.
const DELETE_BATCH_BYTES: usize = 1 << 20;

/// A [`StateBackend`] on disk.
pub struct RocksBackend {
    database: Arc<Database>,
    /// what was written since a checkpoint began that is still being made
    held: Held,
    room: ChangesRoom,
    /// whose values may have expired, and by which clocks; none = nobody's
    expiring: Option<(u32, Clocks)>,
}

/// A database, closed before its directory goes.
struct Database {
    db: DB,
    lineage: Lineage,
    memory: RocksMemory,
    loan: Loan,
    /// what compactions drop
    expiring: Arc<Expiring>,
    /// the memory of the changes of the last checkpoint, for those of the next one
    spare: Mutex<Entries>,
    directory: Directory,
}

/// A directory that is removed when it is dropped, unless it is to be kept.
struct Directory {
    path: PathBuf,
    is_kept: AtomicBool,
}

/// Figures of a database, for metrics. They are estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// entries in files that are not deleted or written over, bytes as they are stored
    pub live_bytes: u64,
    /// write buffers, bytes
    pub write_buffer_bytes: u64,
    /// what compactions would have to rewrite now, bytes: if it grows for long, the disk is too slow
    pub pending_compaction_bytes: u64,
    /// files of entries, bytes
    pub file_bytes: u64,
    /// files of entries
    pub file_count: usize,
}

impl Stats {
    /// The room that the database takes, in bytes: see [`StateBackend::bytes`].
    pub fn bytes(&self) -> u64 {
        self.live_bytes + self.write_buffer_bytes
    }
}

/// The figures of several databases.
impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.live_bytes += other.live_bytes;
        self.write_buffer_bytes += other.write_buffer_bytes;
        self.pending_compaction_bytes += other.pending_compaction_bytes;
        self.file_bytes += other.file_bytes;
        self.file_count += other.file_count;
    }
}

impl RocksBackend {
    /// Makes a new database in a directory, which may be there if it is empty.
    ///
    /// # Errors
    /// If there is a database already, or the disk fails.
    pub fn open(dir: &Path, memory: &RocksMemory) -> Result<Self, Error> {
        let mut options = options::options(memory).map_err(|e| failure::of_db(dir, &e))?;
        options.create_if_missing(true);
        options.set_error_if_exists(true);
        Self::open_with(dir, memory, &options)
    }

    /// Opens the database of a checkpoint in a directory, which it takes over: its files are there, under the names that the checkpoint gave them.
    /// Files of entries may be hard links. The others must be copies, since the database goes on writing to them.
    ///
    /// # Errors
    /// If the files are not those of a checkpoint, a database is open there, or the disk fails.
    pub fn open_from(dir: &Path, memory: &RocksMemory) -> Result<Self, Error> {
        let options = options::options(memory).map_err(|e| failure::of_db(dir, &e))?;
        if !dir.is_dir() {
            return Err(Error::Damaged { path: dir.to_owned(), message: "there is no such directory".into() });
        }
        Self::open_with(dir, memory, &options)
    }

    fn open_with(dir: &Path, memory: &RocksMemory, options: &Options) -> Result<Self, Error> {
        let lineage = Lineage::read(dir)?;
        let files = if dir.is_dir() { checkpoint::list(dir)? } else { vec![] };
        let last = files.iter().filter_map(|file| lineage::number(&file.name)).max().unwrap_or(0);
        let expiring = Arc::new(Expiring::new());
        let mut of_family = options.clone();
        expiring.filter(&mut of_family);
        let family = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, of_family);
        let db = DB::open_cf_descriptors(options, dir, [family]).map_err(|e| failure::of_db(dir, &e))?;
        // From here on the directory is the database's to remove.
        let directory = Directory { path: dir.to_owned(), is_kept: AtomicBool::new(false) };
        let (memory, loan, spare) = (memory.clone(), Loan::default(), Mutex::default());
        let mut database = Database { db, lineage, memory, loan, expiring, spare, directory };
        database.lineage.extend(&database.db, last).map_err(|e| failure::of_db(dir, &e))?;
        database.lineage.write(dir)?;
        Ok(Self { database: Arc::new(database), held: Held::default(), room: ChangesRoom::default(), expiring: None })
    }

    /// From the next checkpoint on, its changes may take so much memory.
    pub fn set_room(&mut self, room: ChangesRoom) {
        self.room = room;
    }

    /// What a file of entries is called among the files of all databases: see [`CheckpointFile::id`].
    pub fn file_id(&self, name: &str) -> Option<String> {
        self.database.lineage.id_of(name)
    }

    /// The database's directory.
    pub fn path(&self) -> &Path {
        &self.database.directory.path
    }

    /// Has the directory stay when the backend goes, with all that was written until now, so that [`open_from`](Self::open_from) can open it
    /// again.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn keep(&mut self) -> Result<(), Error> {
        self.settle()?;
        self.database.db.flush().map_err(|e| self.database.failed(&e))?;
        self.database.directory.is_kept.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Figures for metrics; those of memory are the budget's.
    ///
    /// # Errors
    /// If the library does not tell them.
    pub fn stats(&self) -> Result<Stats, Error> {
        let db = &self.database.db;
        let value =
            |name: &PropName| db.property_int_value(name).map_err(|e| self.database.failed(&e)).map(Option::unwrap_or_default);
        Ok(Stats {
            live_bytes: value(properties::ESTIMATE_LIVE_DATA_SIZE)?,
            write_buffer_bytes: value(properties::CUR_SIZE_ALL_MEM_TABLES)?,
            pending_compaction_bytes: value(properties::ESTIMATE_PENDING_COMPACTION_BYTES)?,
            file_bytes: value(properties::LIVE_SST_FILES_SIZE)?,
            file_count: db.get_column_family_metadata().file_count,
        })
    }

    /// Whether what is written now is held back, because a checkpoint is being made.
    fn holds(&self) -> Result<bool, Error> {
        Ok(self.database.is_lent()? && (!self.holds_much() || self.database.lacks_changes()))
    }

    /// Waits for a checkpoint that is being made, and writes what was held back for it.
    fn settle(&mut self) -> Result<(), Error> {
        self.database.wait_for_return()?;
        if self.held.is_empty() {
            return Ok(());
        }
        let (ranges, entries) = std::mem::take(&mut self.held).into_parts();
        let mut batch = WriteBatch::default();
        ranges.iter().for_each(|[from, to]| batch.delete_range(from, to));
        self.database.write(batch)?;
        self.database.write_entries(entries)
    }

    /// Makes what was written visible.
    fn settle_held(&mut self) -> Result<(), Error> {
        if self.held.is_empty() { Ok(()) } else { self.settle() }
    }

    /// Whether an entry has expired.
    fn is_over(&self, at: &StateKey<'_>, value: &[u8]) -> bool {
        self.expiring.is_some_and(|(operator, clocks)| at.operator == operator && is_over(value, &clocks))
    }

    /// [`StateBackend::get`] of keys whose values fit into memory together.
    fn get_some(&self, first: usize, keys: &[StateKey<'_>], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        let (mut bytes, mut ends) = (vec![], Vec::with_capacity(keys.len() + 1));
        ends.push(0);
        for at in keys {
            encoding::encode(at, &mut bytes);
            ends.push(bytes.len());
        }
        let name = |index: u32| &bytes[ends[index as usize]..ends[index as usize + 1]];
        let held: Vec<_> = (0..keys.len() as u32).map(|index| self.held.get(name(index))).collect();
        let is_asked = |&index: &u32| held[index as usize] == Known::Nothing;
        let mut names: Vec<(&[u8], u32)> = (0..keys.len() as u32).filter(is_asked).map(|index| (name(index), index)).collect();
        // In order, so that a block is looked at once for all that it has.
        names.sort_unstable();
        let db = &self.database.db;
        let family =
            db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME).ok_or_else(|| self.database.damaged("it has no entries' family"))?;
        let values = db.batched_multi_get_cf(family, names.iter().map(|(name, _)| name), true);
        let mut by_index: Vec<_> = keys.iter().map(|_| None).collect();
        for ((_, index), value) in names.iter().zip(values) {
            by_index[*index as usize] = value.map_err(|e| self.database.failed(&e))?;
        }
        for (index, (held, value)) in held.iter().zip(&by_index).enumerate() {
            let value = match (held, value) {
                (Known::Value(value), _) => value,
                (Known::Nothing, Some(value)) => &value[..],
                (Known::Deleted | Known::Nothing, _) => continue,
            };
            if !self.is_over(&keys[index], value) {
                found(first + index, value);
            }
        }
        Ok(())
    }
}

impl Database {
    /// Writes a batch, and not to a log.
    fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        self.db.write_without_wal(batch).map_err(|e| self.failed(&e))
    }

    /// Calls `each` with the entries of an operator in these groups, of one namespace or of all, until it returns false.
    fn scan(
        &self,
        groups: KeyGroupRange,
        operator: u32,
        namespace: Option<i64>,
        mut each: impl FnMut(StateKey<'_>, &[u8]) -> bool,
    ) -> Result<(), Error> {
        let mut walk = Walk::new(&self.db, groups, operator, namespace);
        while walk.next_group() {
            while let Some((name, value)) = walk.entry() {
                let at = encoding::decode(name).ok_or_else(|| self.damaged("the name of an entry is cut short"))?;
                if !each(at, value) {
                    return Ok(());
                }
                walk.advance();
            }
        }
        walk.end().map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &rocksdb::Error) -> Error {
        failure::of_db(&self.directory.path, error)
    }

    fn damaged(&self, message: &str) -> Error {
        Error::Damaged { path: self.directory.path.clone(), message: message.into() }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            // Nobody can be told; what is left is found when the worker's directory is cleared.
            _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl std::fmt::Debug for RocksBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksBackend").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl StateBackend for RocksBackend {
    fn put(&mut self, entries: &mut dyn Iterator<Item = (StateKey<'_>, &[u8])>) -> Result<(), Error> {
        if self.holds()? {
            entries.for_each(|(at, value)| self.held.push(|name| encoding::encode(&at, name), Some(value)));
            return Ok(());
        }
        self.settle()?;
        let mut unsorted = Unsorted::new(entries.size_hint().0);
        entries.for_each(|(at, value)| unsorted.push(|name| encoding::encode(&at, name), Some(value)));
        self.database.write_entries(unsorted)
    }

    fn get(&mut self, keys: &[StateKey<'_>], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        if !self.held.is_empty() && !self.database.is_lent()? {
            self.settle()?;
        }
        for (chunk, keys) in keys.chunks(GET_KEYS_MAX).enumerate() {
            self.get_some(chunk * GET_KEYS_MAX, keys, found)?;
        }
        Ok(())
    }

    fn delete(&mut self, keys: &[StateKey<'_>]) -> Result<(), Error> {
        if self.holds()? {
            keys.iter().for_each(|at| self.held.push(|name| encoding::encode(at, name), None));
            return Ok(());
        }
        self.settle()?;
        let (mut batch, mut name) = (WriteBatch::default(), vec![]);
        for at in keys {
            name.clear();
            encoding::encode(at, &mut name);
            batch.delete(&name);
        }
        self.database.write(batch)
    }

    fn scan(
        &mut self,
        groups: KeyGroupRange,
        operator: u32,
        namespace: Option<i64>,
        each: &mut dyn FnMut(StateKey<'_>, &[u8]),
    ) -> Result<(), Error> {
        self.settle_held()?;
        self.database.scan(groups, operator, namespace, |at, value| {
            if !self.is_over(&at, value) {
                each(at, value);
            }
            true
        })
    }

    fn delete_all(&mut self, groups: KeyGroupRange, operator: u32, namespace: Option<i64>) -> Result<(), Error> {
        self.settle_held()?;
        let database = Arc::clone(&self.database);
        // What is held now is not written until the next call: the walk is through.
        let holds = self.holds()?;
        let mut walk = Walk::new(&database.db, groups, operator, namespace);
        let mut batch = WriteBatch::default();
        while walk.next_group() {
            let mut names = vec![];
            while names.len() < DELETE_KEYS_MAX
                && let Some((name, _)) = walk.entry()
            {
                names.push(name.to_vec());
                walk.advance();
            }
            match encoding::after(walk.prefix()).filter(|_| walk.entry().is_some()) {
                Some(after) if holds => self.held.delete_range(walk.prefix().to_vec(), after),
                Some(after) => batch.delete_range(walk.prefix(), &after[..]),
                None if holds => names.iter().for_each(|name| self.held.push(|bytes| bytes.extend_from_slice(name), None)),
                None => names.iter().for_each(|name| batch.delete(name)),
            }
            if batch.size_in_bytes() > DELETE_BATCH_BYTES {
                database.write(std::mem::take(&mut batch))?;
            }
        }
        walk.end().map_err(|e| self.database.failed(&e))?;
        database.write(batch)
    }

    fn expire(&mut self, operator: u32, clocks: Clocks) {
        self.expiring = Some((operator, clocks));
        // The checkpoint that is being made has what had not expired when it began.
        if self.database.is_lent().is_ok_and(|is_lent| !is_lent) {
            self.database.expiring.set(operator, clocks);
        }
    }

    fn bytes(&self) -> usize {
        self.stats().map_or(0, |stats| usize::try_from(stats.bytes()).unwrap_or(usize::MAX))
    }

    fn database(&self) -> Option<Stats> {
        self.stats().ok()
    }

    fn keeps_copies(&self) -> bool {
        true
    }

    fn keys(&self, groups: KeyGroupRange, operator: u32, namespace: i64) -> Option<KeyScan> {
        // What is held it would not see.
        self.held.is_empty().then(|| KeyScan::of(&self.database, groups, operator, namespace))
    }

    fn has_changes(&self) -> Result<bool, Error> {
        Ok(!self.database.is_lent()?)
    }

    fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    fn holds_much(&self) -> bool {
        self.held.bytes() >= self.room.held_bytes
    }

    fn begin_checkpoint(&mut self) -> Result<Option<Checkpointing>, Error> {
        self.settle()?;
        Ok(Some(Checkpointing::of(&self.database, self.room.piece_bytes)))
    }
}
