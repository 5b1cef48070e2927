//! Notes that sinks have committed all rows of a checkpoint.
//!
//! A job that starts again commits once more what its newest checkpoint lists, for nobody knows whether that was done, and to commit twice is to commit
//! once. But then its sinks have to be those that prepared these rows. So a job that comes to its end notes that they are committed, and may go on with
//! other sinks. A note stands beside the log, which it does not depend on: where there is none, or one that cannot be read, the rows are committed again.
//!
//! What a note says stays true, whoever owns the job by then. It names its checkpoint by when that was made, too: in a log that was begun anew, numbers and
//! generations come again.

use serde::{Deserialize, Serialize};

use crate::create::create;
use crate::document;
use crate::error::Error;
use crate::log::JobStorage;
use crate::manifest::Manifest;
use crate::paths;

/// What a note is called in its first line.
const WEIR: &str = "committed";

/// The checkpoint whose rows are committed.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    checkpoint: u64,
    generation: u64,
    started_ms: i64,
    finished_ms: i64,
}

impl Note {
    fn of(manifest: &Manifest) -> Self {
        let Manifest { checkpoint, generation, started_ms, finished_ms, .. } = *manifest;
        Self { checkpoint, generation, started_ms, finished_ms }
    }
}

impl JobStorage {
    /// Notes that sinks have committed all that a checkpoint lists. It is not to be called before they have.
    ///
    /// # Errors
    /// If the storage refuses, or keeps failing. The note may be there all the same, which does no harm.
    pub async fn note_committed(&self, manifest: &Manifest) -> Result<(), Error> {
        let path = paths::committed(manifest.generation, manifest.checkpoint);
        // Where there is one already, it says the same, or counts for nothing.
        create(self.folder(), &path, &document::encode(WEIR, &Note::of(manifest), self.writer())).await.map(|_| ())
    }

    /// Whether it was noted that sinks have committed all that a checkpoint lists.
    ///
    /// # Errors
    /// If the storage fails.
    pub async fn is_committed(&self, manifest: &Manifest) -> Result<bool, Error> {
        let path = paths::committed(manifest.generation, manifest.checkpoint);
        match self.get(&path).await {
            Ok(document) => Ok(document::decode::<Note>(WEIR, &document).is_ok_and(|note| note == Note::of(manifest))),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(Error::storage(format!("cannot read {}", self.folder().url_of(&path)), e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::garbage::Sweep;
    use crate::log::Appended;
    use crate::manifest::{Claim, Entry, Kind};
    use crate::storage::Storage;

    fn manifest(generation: u64, checkpoint: u64) -> Manifest {
        Manifest { started_ms: 70, finished_ms: 71, ..Manifest::new("job", Kind::Savepoint, checkpoint, generation, 1) }
    }

    /// Goal: a note is of one checkpoint, whatever others have its number; it may be made twice, by whoever; and one that is damaged, or of a newer format, is none.
    #[tokio::test]
    async fn notes_are_of_one_checkpoint() {
        let storage = Storage::open("memory://notes-of-one-checkpoint", &[]).unwrap();
        let (first, second) = (storage.job("job").unwrap(), storage.job("job").unwrap());
        let noted = manifest(3, 7);
        assert!(!first.is_committed(&noted).await.unwrap());
        first.note_committed(&noted).await.unwrap();
        second.note_committed(&noted).await.unwrap();
        assert!(second.is_committed(&noted).await.unwrap());
        assert!(first.read_log().await.unwrap().is_empty(), "it is no entry of the log");
        for other in [manifest(4, 7), manifest(3, 8), Manifest { started_ms: 72, finished_ms: 73, ..manifest(3, 7) }] {
            assert!(!first.is_committed(&other).await.unwrap(), "{other:?}");
        }
        let bad = manifest(3, 9);
        let document = document::encode(WEIR, &Note::of(&bad), "somebody");
        let torn = document.slice(..document.len() - 2);
        create(first.folder(), &paths::committed(3, 9), &torn).await.unwrap();
        first.note_committed(&bad).await.unwrap();
        assert!(!first.is_committed(&bad).await.unwrap());
        let newer = String::from_utf8_lossy(&document).replacen("\"format\":1", "\"format\":2", 1);
        create(first.folder(), &paths::committed(3, 10), &newer.into_bytes().into()).await.unwrap();
        assert!(!first.is_committed(&manifest(3, 10)).await.unwrap());
    }

    /// Goal: a note stays as long as its checkpoint, and goes with it.
    #[tokio::test]
    async fn notes_go_with_their_checkpoints() {
        let storage = Storage::open("memory://notes-that-go", &[]).unwrap();
        let job = storage.job("job").unwrap();
        let entries = [
            Entry::Manifest(manifest(1, 1)),
            Entry::Manifest(manifest(1, 2)),
            Entry::Claim(Claim { generation: 2, at_ms: 0 }),
            Entry::Manifest(manifest(2, 3)),
        ];
        for (number, entry) in (1..).zip(&entries) {
            assert_eq!(job.append(number, entry).await.unwrap(), Appended::Done);
        }
        for checkpoint in [1, 2] {
            job.note_committed(&manifest(1, checkpoint)).await.unwrap();
        }
        let log = job.read_log().await.unwrap();
        for (sweep, goes) in [(Sweep::Dropped, false), (Sweep::All, true)] {
            job.collect_garbage(&log, NonZeroUsize::new(2).unwrap(), sweep).await.unwrap();
            assert_eq!(job.is_committed(&manifest(1, 1)).await.unwrap(), !goes, "{sweep:?}");
            assert!(job.is_committed(&manifest(1, 2)).await.unwrap(), "its checkpoint is retained");
        }
    }
}
