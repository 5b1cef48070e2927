//! Checkpoints of a database: copies that share its files.

use std::fs;
use std::path::Path;

use rocksdb::checkpoint::Checkpoint;

use super::{RocksBackend, failure, lineage};
use crate::Error;

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

impl RocksBackend {
    /// Makes a checkpoint of all that was written, in a directory that is not there yet, and lists its files by name. What is written later does
    /// not change it.
    ///
    /// The files of entries are the database's, by hard links where the directory is on the same file system, so that it costs what it takes to
    /// write out the write buffers. The others are small copies.
    ///
    /// # Errors
    /// If the directory is there, or the disk fails; what is in the directory then is of no use.
    pub fn checkpoint(&self, dir: &Path) -> Result<Vec<CheckpointFile>, Error> {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(|e| failure::of_file(parent, &e))?;
        }
        let db = &self.database.db;
        Checkpoint::new(db).and_then(|c| c.create_checkpoint(dir)).map_err(|e| failure::of_db(dir, &e))?;
        self.database.lineage.write(dir)?;
        let mut files = list(dir)?;
        for file in &mut files {
            file.id = self.database.lineage.id_of(&file.name);
        }
        Ok(files)
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
