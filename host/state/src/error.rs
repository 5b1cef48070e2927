//! Why keyed state failed.

use std::path::PathBuf;

use arrow_schema::{ArrowError, DataType};

/// Why keyed state failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// a column of this type cannot be part of a key
    #[error("a column of type {0} cannot be part of a key")]
    KeyType(DataType),
    /// the key columns of a batch are not what the table was made for
    #[error("keys cannot be encoded: {0}")]
    Keys(#[from] ArrowError),
    /// no more slots can be numbered
    #[error("the state of one subtask is limited to 4294967295 slots; raise the parallelism")]
    SlotsExhausted,
    /// what is evicted takes more memory than it may
    #[error(
        "the evicted state of the job takes {taken} bytes of memory, and may take {bytes_max}: set `state.backend = \"rocksdb\"`, which has it on disk, or a greater \
         `state.memory_limit`, by which less of it leaves its guests, or start the server with a greater `--job-memory`"
    )]
    MemoryFull {
        /// by all subtasks of the job
        taken: usize,
        /// what is allowed
        bytes_max: usize,
    },
    /// bytes that a backend returned are not what was put there
    #[error("the state backend returned an entry that cannot be read: {0}")]
    Corrupt(String),
    /// there is no room for state on the disk
    #[error("no space is left for the state in {}: free some, or give the worker a larger disk", path.display())]
    DiskFull {
        /// the database's directory, or the file that could not be written
        path: PathBuf,
    },
    /// the files of a database are not as they were written
    #[error("the state in {} is damaged, or not all of it is there: restore the job from a checkpoint ({message})", path.display())]
    Damaged {
        /// the database's directory, or a file of it
        path: PathBuf,
        /// what is wrong
        message: String,
    },
    /// a database is open already
    #[error("the state in {} is in use: give each worker a directory of its own, and end the process that has this one", path.display())]
    Locked {
        /// the database's directory
        path: PathBuf,
    },
    /// the disk failed, or the library that writes to it
    #[error("the state in {} cannot be read or written: {message}; see to the disk, or give the worker another one", path.display())]
    Disk {
        /// the database's directory, or a file of it
        path: PathBuf,
        /// what it says
        message: String,
    },
}
