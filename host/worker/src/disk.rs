//! Where a worker keeps state on disk: a directory for databases, and the memory that they share.
//!
//! What lies there is scratch: a job goes on from its checkpoints, which are elsewhere. So each process has a folder of its own in the directory, which it
//! removes at its end, and whoever comes later removes those of processes that could not: their locks are free.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, process};

use parking_lot::Mutex;
use weir_state::RocksMemory;

use crate::error::{Failure, FailureKind};

/// What a folder's name begins with.
const FOLDER_PREFIX: &str = "process-";

/// The file that is locked while a folder's process lives.
const LOCK: &str = "LOCK";

/// Where a worker keeps state on disk.
#[derive(Clone, Debug)]
pub struct StateOptions {
    /// the directory, which is made if it is not there; it is best on the same file system as checkpoints in a directory, which take its files by links
    pub directory: PathBuf,
    /// the memory that all databases share for what they read and write, bytes
    pub memory_bytes: usize,
    /// Called when a job keeps state there under a limit of memory: then it matters what the process keeps of freed memory for later, and its allocator can be told.
    pub on_limit: fn(),
}

impl Default for StateOptions {
    fn default() -> Self {
        Self { directory: std::env::temp_dir().join("weir-state"), memory_bytes: 256 << 20, on_limit: || () }
    }
}

/// The disk, which is touched only once a job keeps state on it.
#[derive(Clone, Debug)]
pub(crate) struct StateDisk {
    options: StateOptions,
    folder: Arc<Mutex<Option<Arc<Folder>>>>,
}

/// What all databases of a worker take of the memory that they share, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateMemory {
    /// what they may take
    pub budget: usize,
    /// what they take: blocks of files, and write buffers
    pub used: usize,
    /// what of that cannot be given up at the moment
    pub pinned: usize,
    /// write buffers
    pub write_buffers: usize,
}

/// A process's folder, and the memory of the databases in it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    memory: RocksMemory,
    next: AtomicU64,
    /// held as long as the folder is in use
    _lock: File,
}

impl StateDisk {
    pub fn new(options: StateOptions) -> Self {
        Self { options, folder: Arc::default() }
    }

    /// What databases take of the memory that they share; none as long as there is no folder for them.
    pub fn memory(&self) -> Option<StateMemory> {
        let folder = self.folder.lock();
        let memory = &folder.as_ref()?.memory;
        Some(StateMemory {
            budget: memory.bytes(),
            used: memory.used_bytes(),
            pinned: memory.pinned_bytes(),
            write_buffers: memory.write_buffer_bytes(),
        })
    }

    /// A job keeps state there under a limit of memory.
    pub fn note_limit(&self) {
        (self.options.on_limit)();
    }

    /// The process's folder, which is made if it is not there yet. Where that is refused to a job that has never run, it was never allowed.
    pub fn folder(&self, has_run: bool) -> Result<Arc<Folder>, Failure> {
        let mut folder = self.folder.lock();
        if let Some(folder) = &*folder {
            return Ok(Arc::clone(folder));
        }
        let directory = &self.options.directory;
        let made = Folder::make(directory, self.options.memory_bytes).map_err(|error| {
            let message = format!(
                "there is no place for state on disk in {}: {error}; make room there, or say where else it is to be by --state-dir",
                directory.display()
            );
            Failure { is_final: !has_run && is_refusal(error.kind()), ..Failure::new(FailureKind::Resources, message) }
        })?;
        Ok(Arc::clone(folder.insert(Arc::new(made))))
    }
}

/// Whether somebody has to change something before there can be a folder; that something else is in the way is told like this, too.
fn is_refusal(kind: io::ErrorKind) -> bool {
    kind == io::ErrorKind::AlreadyExists || weir_connector::error::is_refusal(kind)
}

impl Folder {
    fn make(directory: &Path, memory_bytes: usize) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        sweep(directory)?;
        let path = (0u32..).map(|n| directory.join(format!("{FOLDER_PREFIX}{}-{n}", process::id()))).find(|path| !path.exists());
        let path = path.ok_or(io::ErrorKind::AlreadyExists)?;
        fs::create_dir(&path)?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock()?;
        Ok(Self { path, memory: RocksMemory::new(memory_bytes), next: AtomicU64::new(0), _lock: lock })
    }

    /// A place for a database, or for the files of one, where nothing is yet.
    pub fn place(&self) -> PathBuf {
        self.path.join(format!("{:06}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// What the databases share.
    pub fn memory(&self) -> &RocksMemory {
        &self.memory
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nobody can be told; what is left goes with the next sweep.
        _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes folders of processes that are gone.
fn sweep(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(FOLDER_PREFIX)) {
            continue;
        }
        // One without a lock is being made or removed this very moment, or was left half-made: that is a folder with nothing in it.
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        match lock.try_lock() {
            Ok(()) => _ = fs::remove_dir_all(&path),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

/// A directory that is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct ScratchDir(pub PathBuf);

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // Nobody can be told; what is left goes with the process's folder.
        _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options for a directory of this name in a temporary one.
    fn options(dir: &tempfile::TempDir, name: &str, memory_bytes: usize) -> StateOptions {
        StateOptions { directory: dir.path().join(name), memory_bytes, ..StateOptions::default() }
    }

    /// Goal: what databases take of their memory is told once there is a place for them.
    #[test]
    fn memory_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let disk = StateDisk::new(options(&dir, "state", 6 << 20));
        assert_eq!(disk.memory(), None);
        let _folder = disk.folder(false).unwrap();
        let memory = disk.memory().expect("there is a place");
        assert_eq!((memory.budget, memory.write_buffers), (6 << 20, 0));
        assert!(memory.pinned <= memory.used && memory.used < memory.budget);
    }

    /// A process's folder goes with it, and what one that was killed has left goes when the next one comes; one that is in use stays.
    #[test]
    fn folders_go_with_their_processes() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir, "state", 1 << 20);
        let first = StateDisk::new(options.clone());
        let folder = first.folder(false).unwrap();
        assert!(Arc::ptr_eq(&folder, &first.folder(false).unwrap()), "a process has one");
        assert_ne!(folder.place(), folder.place());
        fs::create_dir(folder.place()).unwrap();

        let left = options.directory.join(format!("{FOLDER_PREFIX}0-0"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        fs::write(options.directory.join("of somebody else"), "").unwrap();
        let second = StateDisk::new(options.clone()).folder(false).unwrap();
        assert!(!left.exists() && folder.path.exists() && folder.path != second.path);

        drop((first, folder, second));
        let names: Vec<_> = fs::read_dir(&options.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["of somebody else"]);
    }

    /// Where there can be no directory, the error says how to name another one, and a job that has never run fails for good.
    #[test]
    fn a_bad_place_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for (place, has_run) in [("file", false), ("file", true), ("file/below", false), ("file/below", true)] {
            let failure = StateDisk::new(options(&dir, place, 1 << 20)).folder(has_run).unwrap_err();
            assert!(failure.message.contains("--state-dir") && failure.kind == FailureKind::Resources, "{failure:?}");
            assert_eq!(failure.is_final, !has_run, "{place}: {failure:?}");
        }
        assert!(!is_refusal(io::ErrorKind::StorageFull), "there may be room later");
    }
}
