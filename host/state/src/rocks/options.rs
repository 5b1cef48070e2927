//! How the databases are set up.

use rocksdb::{BlockBasedOptions, DBCompressionType, LogLevel, Options};

use super::memory::RocksMemory;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The size of a block of data before compression, bytes: scans and compression like large ones, and gets small ones.
const BLOCK_BYTES: usize = 16 * KIB;

/// Bits of the Bloom filter for each key: one get in a hundred of what is not there reads a block in vain.
const FILTER_BITS_PER_KEY: f64 = 10.0;

/// The size of one write buffer of a database, bytes, and the share of the budget that it may be: several have to find room.
const WRITE_BUFFER_BYTES: std::ops::RangeInclusive<usize> = MIB..=64 * MIB;
const WRITE_BUFFER_PARTS: usize = 16;

/// The part of a write buffer that its own Bloom filter takes: most gets are of what is not in it, and cost a walk through it without one.
const BUFFER_FILTER_PART: f64 = 0.05;

/// Young files, which may all have a key, before they are merged with older ones. Evictions and barriers write a file each.
const YOUNG_FILES: i32 = 8;

/// How much more a level has than the one above it, and what the first one has at most, bytes. What compactions rewrite is stored anew by the next checkpoint,
/// and an entry on its way down is rewritten with as many others as there are between two levels. By default that would be ten; with four there is a
/// level more, in which scans and gets have to look.
const LEVEL_RATIO: f64 = 4.0;
const FIRST_LEVEL_BYTES: u64 = 128 << 20;

/// The size of a file of entries, bytes, but for young ones: a compaction rewrites whole files, and each is stored and linked by its own.
const FILE_BYTES: u64 = 32 << 20;

/// How levels are compressed, young files first; the last one holds for all after it. What is in the first level is rewritten by every compaction of young
/// files, and where values do not compress, trying to would be a sixth of the work.
const COMPRESSION: [DBCompressionType; 3] = [DBCompressionType::None, DBCompressionType::None, DBCompressionType::Lz4];

/// The least by which a write buffer grows, bytes. By default it would be a megabyte, which many idle databases would take each.
const ARENA_BYTES: usize = 64 * KIB;

/// Range tombstones in a write buffer, at most: each get and scan sorts them anew after one was added.
const RANGE_TOMBSTONES_MAX: u32 = 256;

/// A file is compacted where so many of so many entries in a row are tombstones, or half of all: scans have to step over them.
const TOMBSTONE_WINDOW: usize = 4096;
const TOMBSTONES_MAX: usize = 2048;
const TOMBSTONE_RATIO: f64 = 0.5;

/// Files that a database keeps open, at most: a worker has many databases, and the system a limit for all.
const OPEN_FILES_MAX: i32 = 256;

/// The size at which the library's own log starts over, bytes.
const LOG_BYTES: usize = MIB;

pub(super) fn options(memory: &RocksMemory) -> Result<Options, rocksdb::Error> {
    // What the crate has no functions for. When a database is closed, either it is thrown away, or its buffers were flushed before.
    let mut options = Options::default().get_options_from_string(format!(
        "avoid_flush_during_shutdown=true; memtable_max_range_deletions={RANGE_TOMBSTONES_MAX}"
    ))?;
    identity(&mut options);
    memory_limits(&mut options, memory);
    compaction(&mut options);
    options.set_block_based_table_factory(&tables(memory));
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(LOG_BYTES);
    options.set_keep_log_file_num(1);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    Ok(options)
}

/// The same, for files that are made beside the database and taken in as they are: young ones.
pub(super) fn of_young_files(memory: &RocksMemory) -> Result<Options, rocksdb::Error> {
    let mut options = options(memory)?;
    options.set_compression_per_level(&COMPRESSION[..1]);
    Ok(options)
}

/// A database that is opened from copied files is another one than the one they come from: the manifest, which is copied, must not say which it is.
fn identity(options: &mut Options) {
    options.set_write_dbid_to_manifest(false);
}

fn memory_limits(options: &mut Options, memory: &RocksMemory) {
    let (least, most) = WRITE_BUFFER_BYTES.into_inner();
    options.set_write_buffer_manager(&memory.write_buffers);
    options.set_write_buffer_size((memory.bytes() / WRITE_BUFFER_PARTS).clamp(least, most));
    options.set_max_write_buffer_number(3);
    options.set_memtable_prefix_bloom_ratio(BUFFER_FILTER_PART);
    options.set_memtable_whole_key_filtering(true);
    options.set_arena_block_size(ARENA_BYTES);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_file_opening_threads(1);
    options.set_skip_stats_update_on_db_open(true);
}

/// Compaction by levels. Threads belong to the library's environment, of which a process has one: however many databases there are, there are
/// only as many as one of them may use.
fn compaction(options: &mut Options) {
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
    options.set_max_background_jobs(i32::try_from(cores.clamp(2, 64)).unwrap_or(2));
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_max_bytes_for_level_multiplier(LEVEL_RATIO);
    options.set_max_bytes_for_level_base(FIRST_LEVEL_BYTES);
    options.set_target_file_size_base(FILE_BYTES);
    options.set_compression_per_level(&COMPRESSION);
    options.set_level_zero_file_num_compaction_trigger(YOUNG_FILES);
    options.set_level_zero_slowdown_writes_trigger(3 * YOUNG_FILES);
    options.set_level_zero_stop_writes_trigger(5 * YOUNG_FILES);
    options.add_compact_on_deletion_collector_factory(TOMBSTONE_WINDOW, TOMBSTONES_MAX, TOMBSTONE_RATIO);
}

/// Tables whose indexes and filters are in the cache as their data is, and stay there rather than data: a get in vain needs nothing else.
///
/// Filters are for whole keys, as gets want them. There are none for prefixes: scans step from group to group, where a filter for a prefix would
/// end them.
fn tables(memory: &RocksMemory) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&memory.cache);
    tables.set_block_size(BLOCK_BYTES);
    tables.set_bloom_filter(FILTER_BITS_PER_KEY, false);
    tables.set_whole_key_filtering(true);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_cache_index_and_filter_blocks_with_high_priority(true);
    tables
}
