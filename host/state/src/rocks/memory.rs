//! The memory that all databases of a worker share.

use rocksdb::{Cache, WriteBufferManager};

/// A budget of memory for databases.
///
/// It pays for blocks of files (data, indexes and filters) and for write buffers, which are charged to the cache of the blocks: what is written
/// displaces what was read. One budget for all, because a worker has hundreds of databases that are busy at different times.
///
/// The limit is kept for what can wait, and not for what cannot: blocks that are being read, and write buffers while they are being flushed, may
/// exceed it for a moment. Making writers wait for the budget would be stricter, but a writer could wait for write buffers of a database that
/// nobody writes to, and that therefore never flushes them. Beside the budget there are open files, and the buffers of compactions.
#[derive(Clone)]
pub struct RocksMemory {
    pub(super) cache: Cache,
    pub(super) write_buffers: WriteBufferManager,
    bytes: usize,
}

impl RocksMemory {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        // Write buffers exceed their limit by up to a half while they are flushed: with a third of all for them, and a sixth left free for that, the
        // sum is the budget. Flink divides it in the same way.
        let cache = Cache::new_lru_cache(bytes - bytes / 6);
        let write_buffers = WriteBufferManager::new_write_buffer_manager_with_cache(bytes / 3, false, cache.clone());
        Self { cache, write_buffers, bytes }
    }

    /// The budget, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is taken of it, in bytes: blocks and write buffers.
    pub fn used_bytes(&self) -> usize {
        self.cache.get_usage()
    }

    /// What of it cannot be given up at the moment, in bytes: write buffers, and blocks that are being read.
    pub fn pinned_bytes(&self) -> usize {
        self.cache.get_pinned_usage()
    }

    /// What write buffers take, in bytes.
    pub fn write_buffer_bytes(&self) -> usize {
        self.write_buffers.get_usage()
    }
}

impl std::fmt::Debug for RocksMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksMemory").field("bytes", &self.bytes).field("used_bytes", &self.used_bytes()).finish()
    }
}
