//! Where state is kept on disk, as arguments.

use std::path::PathBuf;

use weir_plan::units::SpecSize;
use weir_worker::StateOptions;

/// Of jobs with `state.backend = "rocksdb"`.
#[derive(clap::Args, Debug)]
pub struct StateArgs {
    /// Where jobs with state.backend = "rocksdb" keep state, on a local disk. It is scratch: what lasts is in checkpoints
    #[arg(long, value_name = "DIR", default_value_os_t = StateOptions::default().directory, env = "WEIR_STATE_DIR", hide_env_values = true)]
    state_dir: PathBuf,

    /// The memory that all state on disk shares for what it reads and writes
    #[arg(long, value_name = "SIZE", default_value = "256MB", env = "WEIR_STATE_MEMORY", hide_env_values = true)]
    state_memory: SpecSize,
}

impl StateArgs {
    /// What a worker is given.
    pub fn options(&self) -> StateOptions {
        let memory_bytes = usize::try_from(self.state_memory.0).unwrap_or(usize::MAX);
        StateOptions { directory: self.state_dir.clone(), memory_bytes }
    }
}
