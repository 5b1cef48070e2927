//! Checkpoints of a database: copies that share its files.
//!
//! A checkpoint has what was written before it began, and what has changed since in slots and is written for it. That, and flushing the write
//! buffers, takes as long as it takes: so the database is *lent* to another thread for it. Meanwhile its owner goes on. What it reads is there;
//! what it writes must not get into the checkpoint, and is held back until the database is returned.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rocksdb::checkpoint::Checkpoint;

use super::pieces::Pieces;
use super::{Database, encoding, failure, lineage};
use crate::{Entries, Error, StateKey};

/// Where changes lie on their way into the database. The library takes no notice of names that it does not know.
const CHANGES_FILE: &str = "changes";

/// How much memory of changes is kept for those of the next checkpoint, bytes.
const SPARE_BYTES_MAX: usize = 32 << 20;

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointFile {
    /// Its name in the directory; it needs the same one wherever the checkpoint is opened.
    pub name: String,
    /// its size
    pub bytes: u64,
    /// For a file of entries, which nobody changes and other checkpoints may have, too: what it is called among the files of all databases. Files
    /// with the same id have the same bytes, so that one which is stored already need not be stored again. None: the file is this checkpoint's own.
    pub id: Option<String>,
}

/// Whether a database is lent to a [`Checkpointing`].
#[derive(Default)]
pub(super) struct Loan {
    state: Mutex<LoanState>,
    changed: Condvar,
}

#[derive(Default)]
enum LoanState {
    #[default]
    None,
    /// the changes are not there yet
    Begun,
    /// they are being written, and then the files are copied
    Completing,
    /// the changes that were to be written are lost, or some of them: why
    Lost(Error),
}

impl Database {
    fn loan(&self) -> MutexGuard<'_, LoanState> {
        self.loan.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a checkpoint is being made of it.
    pub(super) fn is_lent(&self) -> Result<bool, Error> {
        match &*self.loan() {
            LoanState::None => Ok(false),
            LoanState::Begun | LoanState::Completing => Ok(true),
            LoanState::Lost(why) => Err(self.lost(why)),
        }
    }

    /// Whether a checkpoint is being made of it whose changes are not there yet: it may be that their owner has to give them first.
    pub(super) fn lacks_changes(&self) -> bool {
        matches!(*self.loan(), LoanState::Begun)
    }

    /// Waits until no checkpoint is being made of it.
    pub(super) fn wait_for_return(&self) -> Result<(), Error> {
        let is_lent = |state: &mut LoanState| matches!(state, LoanState::Begun | LoanState::Completing);
        match &*self.loan.changed.wait_while(self.loan(), is_lent).unwrap_or_else(PoisonError::into_inner) {
            LoanState::Lost(why) => Err(self.lost(why)),
            LoanState::None | LoanState::Begun | LoanState::Completing => Ok(()),
        }
    }

    /// What keeps whoever uses it from then on: why changes are lost. It is the same error, so that it is known whose matter it is.
    fn lost(&self, why: &Error) -> Error {
        match why {
            Error::DiskFull { path } => Error::DiskFull { path: path.clone() },
            Error::Disk { path, message } => {
                let message = format!("what has changed could not be written, so restore the job from a checkpoint ({message})");
                Error::Disk { path: path.clone(), message }
            }
            Error::Damaged { path, message } => Error::Damaged { path: path.clone(), message: message.clone() },
            other => self.damaged(&other.to_string()),
        }
    }

    fn set_loan(&self, state: LoanState) {
        *self.loan() = state;
        self.loan.changed.notify_all();
    }

    /// Writes changes as a file of their own: in order as they are, that costs much less than to put them into a write buffer.
    pub(super) fn write_changes(&self, operator: u32, changes: &mut Entries) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        changes.sort();
        let mut name = vec![];
        self.ingest(CHANGES_FILE, |writer| {
            for entry in changes.iter() {
                name.clear();
                let at = StateKey { group: entry.group, operator, namespace: entry.namespace, key: entry.key };
                encoding::encode(&at, &mut name);
                if entry.value.is_empty() { writer.delete(&name)? } else { writer.put(&name, entry.value)? }
            }
            Ok(())
        })
    }

    fn copy_to(&self, dir: &Path) -> Result<Vec<CheckpointFile>, Error> {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(|e| failure::of_file(parent, &e))?;
        }
        Checkpoint::new(&self.db).and_then(|c| c.create_checkpoint(dir)).map_err(|e| failure::of_db(dir, &e))?;
        self.lineage.write(dir)?;
        let mut files = list(dir)?;
        for file in &mut files {
            file.id = self.lineage.id_of(&file.name);
        }
        Ok(files)
    }
}

/// A checkpoint that is being made. If it is dropped without having been completed, the database has lost changes, and fails from then on.
pub struct Checkpointing {
    database: Arc<Database>,
    /// those changes that are being written already, if there were so many
    pieces: Option<Pieces>,
    piece_bytes: usize,
    is_complete: bool,
}

impl Checkpointing {
    /// Lends a database, which must not be lent. Changes are written in pieces of about so many bytes.
    pub(super) fn of(database: &Arc<Database>, piece_bytes: usize) -> Self {
        database.set_loan(LoanState::Begun);
        Self { database: Arc::clone(database), pieces: None, piece_bytes, is_complete: false }
    }

    /// Room for changes: that of the last checkpoint's. Fresh memory would cost more to clear than the changes to write there.
    pub fn entries(&self) -> Entries {
        std::mem::take(&mut *self.spare())
    }

    fn spare(&self) -> MutexGuard<'_, Entries> {
        self.database.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// If these changes of an operator are many, takes them to write them meanwhile, and leaves room for more. It waits while others are being written that it
    /// has taken before, so that no more are in memory than a few pieces of them.
    pub fn take_many(&mut self, operator: u32, changes: &mut Entries) {
        if changes.bytes() < self.piece_bytes {
            return;
        }
        // Where no thread can be had, they are written in the end.
        let Some(pieces) = self.pieces.take().or_else(|| Pieces::begin(&self.database, operator).ok()) else { return };
        *changes = pieces.write(std::mem::take(changes));
        self.pieces = Some(pieces);
    }

    /// Where the database is: what lies beside it is on the same file system.
    pub fn path(&self) -> &Path {
        &self.database.directory.path
    }

    /// Writes an operator's changes, or those of them that are left, those without a value as deletions, and makes a checkpoint of all that was written, in a directory that is
    /// not there yet. Lists its files by name. What is written later does not change it. Takes as long as a disk takes to write the changes and the
    /// write buffers, so it is for a thread that may wait.
    ///
    /// The files of entries are the database's, by hard links where the directory is on the same file system. The others are small copies.
    ///
    /// # Errors
    /// If the directory is there, or the disk fails; what is in the directory then is of no use.
    pub fn complete(mut self, operator: u32, mut changes: Entries, dir: &Path) -> Result<Vec<CheckpointFile>, Error> {
        self.database.set_loan(LoanState::Completing);
        let pieces = self.pieces.take().map_or(Ok(()), |pieces| pieces.finish(&self.database));
        let written = pieces.and_then(|()| self.database.write_changes(operator, &mut changes));
        changes.clear();
        changes.trim(SPARE_BYTES_MAX.min(self.piece_bytes));
        *self.spare() = changes;
        let result = written.map_err(|error| {
            let told = self.database.lost(&error);
            (LoanState::Lost(error), told)
        });
        let result = result.and_then(|()| {
            // Whatever becomes of the copy: the database has the changes.
            self.database.copy_to(dir).map_err(|error| (LoanState::None, error))
        });
        self.is_complete = true;
        let (state, result) = match result {
            Ok(files) => (LoanState::None, Ok(files)),
            Err((state, error)) => (state, Err(error)),
        };
        self.database.set_loan(state);
        result
    }
}

impl Drop for Checkpointing {
    fn drop(&mut self) {
        if !self.is_complete {
            self.database.set_loan(LoanState::Lost(self.database.damaged("a checkpoint was given up before it was made")));
        }
    }
}

impl std::fmt::Debug for Checkpointing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpointing").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// Puts a copy of a checkpoint's files in a new directory, where [`RocksBackend::open_from`] can open it: files of entries by hard links where that
/// is possible. The checkpoint stays as it is.
///
/// # Errors
/// If the disk fails.
pub fn copy_checkpoint(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(|e| failure::of_file(to, &e))?;
    for file in list(from)? {
        let (source, target) = (from.join(&file.name), to.join(&file.name));
        // A database goes on writing to its manifest, and to no file of entries that is there.
        let is_linked = lineage::number(&file.name).is_some() && fs::hard_link(&source, &target).is_ok();
        if !is_linked {
            fs::copy(&source, &target).map_err(|e| failure::of_file(&target, &e))?;
        }
    }
    Ok(())
}

/// The files of a directory by name, without their ids. None if there is no directory.
pub(super) fn list(dir: &Path) -> Result<Vec<CheckpointFile>, Error> {
    let failed = |e| failure::of_file(dir, &e);
    let mut files = vec![];
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let bytes = entry.metadata().map_err(failed)?.len();
        files.push(CheckpointFile { name: entry.file_name().to_string_lossy().into_owned(), bytes, id: None });
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RocksBackend, RocksMemory};

    /// Goal: where changes were lost since the disk is full, whoever uses the database from then on is told just that, and not that it is damaged.
    #[test]
    fn a_full_disk_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let live = RocksBackend::open(&dir.path().join("live"), &RocksMemory::new(1 << 20)).unwrap();
        let full = dir.path().join("live/changes");
        live.database.set_loan(LoanState::Lost(Error::DiskFull { path: full.clone() }));
        for error in [live.database.is_lent().unwrap_err(), live.database.wait_for_return().unwrap_err()] {
            assert!(matches!(&error, Error::DiskFull { path } if *path == full), "{error}");
        }
    }

    /// Goal: a disk that has failed stays one, too, and says that changes are lost.
    #[test]
    fn a_disk_that_has_failed_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let live = RocksBackend::open(&dir.path().join("live"), &RocksMemory::new(1 << 20)).unwrap();
        let failed = Error::Disk { path: dir.path().to_owned(), message: "Input/output error".into() };
        live.database.set_loan(LoanState::Lost(failed));
        let error = live.database.is_lent().unwrap_err();
        assert!(matches!(&error, Error::Disk { message, .. } if message.contains("restore the job")), "{error}");
        assert!(error.to_string().contains("Input/output error"), "{error}");
    }
}
