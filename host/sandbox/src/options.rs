//! What an operator of Weir can set, and what bounds a guest.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compiler::Compiler;

/// The settings of a [`Sandbox`](crate::Sandbox): one engine, shared by all jobs of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where compiled components are kept between runs; none = nowhere. The directory is made if need be, and belongs to
    /// this process's user alone: whoever can write there can run machine code as that user.
    pub cache_dir: Option<PathBuf>,
    /// What compiles in a process of its own; none = this process does.
    pub compiler: Option<Compiler>,
    /// How many bytes of compiled components are kept there; what was not used for the longest time goes first.
    pub cache_bytes_max: u64,
    /// How many instances there can be at once. Each one reserves address space (4 GiB a linear memory), not memory.
    pub max_instances: u32,
    /// The most linear memory that any instance can have, whatever its [`Limits`] say.
    pub max_memory_bytes: usize,
    /// The largest component that [`Sandbox::load`](crate::Sandbox::load) takes.
    pub max_component_bytes: usize,
    /// How often running guests yield to the executor, and have their deadline checked, in ms.
    pub tick_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_dir: None,
            compiler: None,
            cache_bytes_max: 2 << 30,
            max_instances: 1024,
            max_memory_bytes: 1 << 30,
            max_component_bytes: 64 << 20,
            tick_ms: 10,
        }
    }
}

impl Options {
    /// How large a component may be, and what to do about one that is larger, for people.
    pub fn component_limit(&self) -> String {
        let bytes = self.max_component_bytes;
        let size = if bytes.is_multiple_of(1 << 20) { format!("{} MiB", bytes >> 20) } else { format!("{bytes} bytes") };
        format!(
            "a component may have {size}, which no setting changes: leave out its debug information, in Rust by \
             `strip = \"debuginfo\"` in `[profile.release]`, else by `wasm-tools strip`"
        )
    }
}

/// What one instance may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// linear memory, bytes
    pub memory_bytes: usize,
    /// elements of all tables (function pointers, mostly)
    pub table_elements: usize,
    /// how long a call may run; time in which it has yielded to others does not count
    pub call_deadline: Duration,
    /// how much data a call may return, bytes
    pub reply_bytes: usize,
    /// the longest line of its log, bytes; longer ones are cut
    pub log_line_bytes: usize,
    /// how much all instances with the same log sink may log, bytes a second; lines beyond that are dropped and counted
    pub log_bytes_per_second: usize,
    /// what its random numbers start from
    pub seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            table_elements: 50_000,
            call_deadline: Duration::from_secs(10),
            reply_bytes: 128 << 20,
            log_line_bytes: 8 << 10,
            log_bytes_per_second: 64 << 10,
            seed: 0,
        }
    }
}
