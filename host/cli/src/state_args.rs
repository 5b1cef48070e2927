//! Where state is kept on disk, as arguments.

use std::path::PathBuf;

use weir_plan::units::SpecSize;
use weir_worker::StateOptions;

use crate::allocator;

/// Of jobs with `state.backend = "rocksdb"`.
#[derive(clap::Args, Debug)]
pub struct StateArgs {
    /// Where jobs with state.backend = "rocksdb" keep state, on a local disk: best on that of the checkpoints. It is scratch: what lasts is in
    /// checkpoints. If it is not said: a server's DATA-DIR/state, or weir-state among the temporary files
    #[arg(long, value_name = "DIR", env = "WEIR_STATE_DIR", hide_env_values = true)]
    state_dir: Option<PathBuf>,

    /// The memory that all state on disk shares for what it reads and writes
    #[arg(long, value_name = "SIZE", default_value = "256MB", env = "WEIR_STATE_MEMORY", hide_env_values = true)]
    state_memory: SpecSize,
}

impl StateArgs {
    /// What a worker is given, which has a directory of its own if the arguments name none.
    pub fn options(&self, directory: impl FnOnce() -> PathBuf) -> StateOptions {
        let memory_bytes = usize::try_from(self.state_memory.0).unwrap_or(usize::MAX);
        let directory = self.state_dir.clone().unwrap_or_else(directory);
        StateOptions { directory, memory_bytes, on_limit: allocator::give_back_at_once }
    }
}
