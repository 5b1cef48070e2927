//! Databases for operators, in a scratch directory.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tempfile::TempDir;
use weir_operator::snapshot::Changes;
use weir_state::rocks::copy_checkpoint;
use weir_state::{Entries, RocksBackend, RocksMemory, StateBackend};
use weir_types::KeyGroupRange;

/// A directory of databases and of their checkpoints.
pub struct Disk {
    dir: TempDir,
    memory: RocksMemory,
    next: Cell<u32>,
}

/// A checkpoint of the database of a subtask, and the groups that it owned.
pub type Part = (KeyGroupRange, PathBuf);

impl Disk {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("there is room"), memory: RocksMemory::new(8 << 20), next: Cell::new(0) }
    }

    fn place(&self) -> PathBuf {
        self.next.set(self.next.get() + 1);
        self.dir.path().join(self.next.get().to_string())
    }

    /// A new database.
    pub fn open(&self) -> Box<dyn StateBackend> {
        Box::new(RocksBackend::open(&self.place(), &self.memory).expect("a database can be made"))
    }

    /// The checkpoint that goes with a snapshot, all of whose changes are there, and the entries that came with them; made on another thread.
    pub fn write(&self, changes: mpsc::Receiver<Changes>) -> (PathBuf, Entries) {
        self.begin(changes).join().expect("it does not panic")
    }

    /// The same of a snapshot whose changes may come later.
    pub fn begin(&self, changes: mpsc::Receiver<Changes>) -> JoinHandle<(PathBuf, Entries)> {
        let dir = self.place();
        std::thread::spawn(move || {
            let mut changes = changes.recv().expect("the operator copies its state");
            let beside = changes.take_beside();
            changes.write(&dir).expect("a checkpoint can be made");
            (dir, beside)
        })
    }

    /// A database with what these have of `groups`.
    pub fn open_from(&self, parts: &[Part], groups: KeyGroupRange) -> Box<dyn StateBackend> {
        let open = |dir: &PathBuf| {
            let copy = self.place();
            copy_checkpoint(dir, &copy).expect("a checkpoint can be copied");
            RocksBackend::open_from(&copy, &self.memory).expect("a checkpoint can be opened")
        };
        let mut backend = open(&parts[0].1);
        backend.keep_groups(groups).expect("groups can be dropped");
        for (of, dir) in &parts[1..] {
            let shared = KeyGroupRange { start: of.start.max(groups.start), end: of.end.min(groups.end) };
            backend.import(&open(dir), shared).expect("groups can be imported");
        }
        Box::new(backend)
    }
}
