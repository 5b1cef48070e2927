//! What an operator of a server can set.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The settings of a coordinator with a worker in the same process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// where components, compiled code and the files of jobs are kept
    pub data_dir: PathBuf,
    /// the URL of the storage where jobs' checkpoints lie; none = a folder of `data_dir`
    pub checkpoint_storage: Option<String>,
    /// the connectors of [`OFFERABLE`](crate::files::OFFERABLE) that jobs may use
    pub allowed_connectors: Vec<String>,
    /// how many subtasks of each vertex run here at once, over all jobs
    pub slots: u16,
    /// how many bytes of a job's output are kept for readers
    pub output_bytes_max: usize,
    /// how many bytes of a job's log are kept for readers
    pub log_bytes_max: usize,
    /// how many jobs that have ended are remembered; the oldest are forgotten first
    pub ended_jobs_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("weir-data"),
            checkpoint_storage: None,
            allowed_connectors: vec![],
            slots: 8,
            output_bytes_max: 4 << 20,
            log_bytes_max: 1 << 20,
            ended_jobs_max: 100,
        }
    }
}
