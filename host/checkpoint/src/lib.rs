//! The object-store edge of checkpoints.
//!
//! What a checkpoint comprises ([`manifest`]), where it lies ([`Storage`], [`JobStorage`]), how it gets there and back, and what
//! is deleted in the end. Nothing here decides when a checkpoint is taken, which one a job restarts from, or who may write:
//! `weir-protocol` does, and this crate carries it out.
//!
//! - What was stored is never changed: entries of the log and files are written once, under names of their own. Only [`garbage`]
//!   and the deletion of a savepoint delete.
//! - A checkpoint is complete exactly if its manifest can be read from the job's log. What is torn or altered is told from what
//!   is whole.
//! - Of two writers of one log entry exactly one succeeds, also when answers are lost.
//! - What is on its way is bounded: files, bytes in memory, repetitions.
//!
//! In reading order: [`manifest`] and the documents that hold it, `paths`, [`location`], [`storage`] and [`folder`], [`log`],
//! `committed`, [`upload`], [`fetch`], [`entries`], [`garbage`], [`savepoint`].
//!
//! ```
//! use weir_checkpoint::{Appended, Claim, Entry, Source, StateFile, Storage};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), weir_checkpoint::Error> {
//! let storage = Storage::open("memory://example", &[])?;
//! storage.probe().await?;
//! let job = storage.job("hot-items")?;
//!
//! let claim = Entry::Claim(Claim { generation: 1, at_ms: 1_760_000_000_000 });
//! assert_eq!(job.append(0, &claim).await?, Appended::Done);
//! let another = storage.job("hot-items")?;
//! assert_eq!(another.append(0, &claim).await?, Appended::Taken, "also if the entry is equal");
//! assert_eq!(another.read_log().await?, [(0, Ok(claim))]);
//!
//! let name = StateFile { generation: 1, vertex: 0, subtask: 0, checkpoint: 1, name: "count".into() };
//! let file = job.upload(&name, Source::Bytes("state".into()), &|_bytes| ()).await?;
//! assert_eq!(job.folder().fetch(&file).await?, "state");
//! # Ok(()) }
//! ```

pub mod error;

pub mod checksum;
mod document;
pub mod manifest;

mod paths;

pub mod folder;
mod local;
pub mod location;
mod s3;
pub mod storage;

mod create;
pub mod log;

mod committed;

pub mod fetch;
pub mod upload;

pub mod entries;

pub mod garbage;
pub mod savepoint;

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
#[cfg(any(test, feature = "test-util"))]
pub mod faults;

pub use checksum::Checksum;
pub use entries::{EntriesReader, EntriesWriter, EntryRef};
pub use error::{Corrupt, Error, ErrorKind};
pub use folder::Folder;
pub use garbage::{Collected, Sweep};
pub use log::{Appended, JobStorage, Log};
pub use manifest::{
    ChainSnapshot, Claim, Entry, FileRef, InFlight, Kind, Manifest, NamedFile, SinkSnapshot, SourceSnapshot, SplitState,
    StateFiles, TaskSnapshot, Vertex,
};
pub use object_store::path::Path;
pub use paths::StateFile;
pub use savepoint::{Inspection, Savepoint, Savepoints};
pub use storage::Storage;
pub use upload::{Progress, Source};
