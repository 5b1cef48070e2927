//! The databases of operators: opened on what a job starts from, copied at barriers, stored file by file.
//!
//! A database's files of entries never change, so one that an older checkpoint has is not stored again. That is relied on only for files of the newest
//! checkpoint that is complete: what only others refer to may be gone (see `weir_checkpoint::garbage`).

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use weir_checkpoint::{ChainSnapshot, Error, ErrorKind, FileRef, Folder as Stored, NamedFile, StateFiles};
use weir_operator::snapshot::{Changes, read_database};
use weir_operator::{ChainOperator, Context};
use weir_state::rocks::CheckpointFile;
use weir_state::{Entries, RocksBackend};
use weir_types::KeyGroupRange;

use crate::disk::{Folder, ScratchDir};
use crate::error::{Failure, FailureKind, restore_failure, restored_state_failure, state_failure};
use crate::restore::fetch_failure;

/// Files of entries that are stored, by their ids.
pub(crate) type StoredFiles = HashMap<String, FileRef>;

/// A copy of a database as it was at a barrier, which is being made beside the task.
pub(crate) struct Copying(JoinHandle<Result<DatabaseCopy, Reason>>);

/// Why there is no copy.
type Reason = Box<dyn std::error::Error + Send + Sync>;

/// A copy of a database, which goes when it is dropped.
pub(crate) struct DatabaseCopy {
    pub files: Vec<CheckpointFile>,
    /// what came with the changes, and is not for the database
    pub beside: Entries,
    /// the longest that the operator did nothing but copy what had changed, after the barrier
    pub longest_copying: Duration,
    dir: ScratchDir,
}

impl Copying {
    /// Begins to wait for what has changed, to write it, and to copy the database: at once, and on a thread of its own, since the database waits for it, and
    /// with that perhaps all threads that tasks have.
    pub fn begin(changes: mpsc::Receiver<Changes>, checkpoint: u64) -> Self {
        Self(spawn_blocking(move || {
            let mut changes = changes.recv().map_err(|_| "its task has ended before it had copied what had changed")?;
            let dir = ScratchDir(changes.database().with_extension(format!("checkpoint-{checkpoint}")));
            let (beside, longest_copying) = (changes.take_beside(), changes.longest_copying());
            Ok(DatabaseCopy { files: changes.write(&dir.0)?, beside, longest_copying, dir })
        }))
    }

    /// Waits for it.
    pub async fn finish(self) -> Result<DatabaseCopy, Error> {
        let failed = |source: Reason| Error {
            kind: ErrorKind::Local,
            message: format!("the state on disk cannot be copied: {source}"),
            source: Some(source),
        };
        self.0.await.map_err(|e| failed(e.into()))?.map_err(failed)
    }
}

impl DatabaseCopy {
    /// Where the files are.
    pub fn path(&self) -> &Path {
        &self.dir.0
    }
}

/// A database that was opened on files of a checkpoint.
pub(crate) struct Opened {
    pub backend: RocksBackend,
    /// those of its files that are stored for the same job
    pub stored: StoredFiles,
}

/// Opens a database of an operator that owns `groups` on what these parts have of it. None if none of them has a database.
pub(crate) async fn open(
    parts: &[&ChainSnapshot],
    groups: KeyGroupRange,
    stored: &Stored,
    folder: &Folder,
) -> Result<Option<Opened>, Failure> {
    let mut databases = parts.iter().filter_map(|part| match &part.state {
        StateFiles::RocksDb { files, .. } => Some((part.groups, &files[..])),
        StateFiles::Entries(_) => None,
    });
    let Some((first_groups, first)) = databases.next() else { return Ok(None) };
    let mut backend = fetch(first, stored, folder).await?;
    let of_file = |named: &NamedFile| Some((backend.file_id(&named.name)?, named.file.clone()));
    let files = first.iter().filter_map(of_file).collect();
    if first_groups.start < groups.start || first_groups.end > groups.end {
        backend = blocking(move || {
            backend.keep_groups(groups)?;
            Ok(backend)
        })
        .await?;
    }
    for (of, files) in databases {
        let other = fetch(files, stored, folder).await?;
        let shared = of.intersection(groups);
        backend = blocking(move || {
            backend.import(&other, shared)?;
            Ok(backend)
        })
        .await?;
    }
    Ok(Some(Opened { backend, stored: files }))
}

/// Gives a chain whose state is not in a database what the database of a part has in `groups`.
pub(crate) async fn restore_entries(
    files: &[NamedFile],
    scalars: &serde_json::Value,
    groups: KeyGroupRange,
    stored: &Stored,
    folder: &Folder,
    chain: &mut ChainOperator,
    context: &Context,
) -> Result<(), Failure> {
    let mut database = fetch(files, stored, folder).await?;
    let mut entries = Entries::default();
    for group in groups.start..groups.end {
        entries.clear();
        let of_group = KeyGroupRange { start: group, end: group + 1 };
        read_database(&mut database, scalars, of_group, &mut entries).map_err(|e| restored_state_failure(&e))?;
        chain.restore_entries(&entries, context).map_err(|e| restore_failure(&e))?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Fetches a database's files, and opens it.
async fn fetch(files: &[NamedFile], stored: &Stored, folder: &Folder) -> Result<RocksBackend, Failure> {
    let place = ScratchDir(folder.place());
    std::fs::create_dir(&place.0)
        .map_err(|e| state_failure(&weir_state::Error::Disk { path: place.0.clone(), message: e.to_string() }))?;
    for NamedFile { name, file } in files {
        if Path::new(name).file_name().is_none_or(|only| only != name.as_str()) {
            return Err(Failure::new(FailureKind::Damaged, format!("{}: {name:?} is no file of a database", file.path)));
        }
        let to = place.0.join(name);
        let fetched =
            if name.ends_with(".sst") { stored.fetch_sealed(file, &to).await } else { stored.fetch_to(file, &to).await };
        fetched.map_err(|e| fetch_failure(&e))?;
    }
    let memory = folder.memory().clone();
    blocking(move || {
        let backend = RocksBackend::open_from(&place.0, &memory)?;
        // From here on the directory is the backend's.
        std::mem::forget(place);
        Ok(backend)
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, weir_state::Error> + Send + 'static) -> Result<T, Failure> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(|e| restored_state_failure(&e)),
        Err(e) => Err(Failure::new(FailureKind::Internal, format!("the state on disk could not be opened: {e}"))),
    }
}
