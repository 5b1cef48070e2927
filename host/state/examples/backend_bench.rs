//! What entries cost in the state backends: `cargo run --release -p weir-state --example backend_bench [ENTRIES]…`.
//!
//! Entries have 100 bytes of values, half of them random, and are put, looked up and deleted in batches of 1000, in random order. Both backends are
//! measured with a million entries; with each number that is given, the one on disk alone, whose budget of memory is 256 MiB whatever it holds.

use std::path::Path;
use std::time::{Duration, Instant};

use weir_state::{Entries, MemoryBackend, RocksBackend, RocksMemory, StateBackend, StateKey};
use weir_types::KeyGroupRange;
use weir_types::key::{group_of, hash_u64};

const ENTRIES: u64 = 1_000_000;
const BATCH: u64 = 1000;
const VALUE_BYTES: usize = 100;
const BUDGET_BYTES: usize = 256 << 20;
const GROUPS: u16 = 128;
const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: GROUPS };

/// Batches that are looked up, at most: enough to measure.
const GET_BATCHES_MAX: u64 = 2000;

fn main() {
    let dir = tempfile::tempdir().expect("a scratch directory can be made");
    println!("{:>8} {:>12} {:<28} {:>14} {:>12}", "backend", "entries", "what", "entries/s", "ns/entry");
    run("memory", ENTRIES, &mut MemoryBackend::default());
    rocks(ENTRIES, dir.path());
    for argument in std::env::args().skip(1) {
        rocks(argument.parse().expect("arguments are numbers of entries"), dir.path());
    }
}

fn rocks(entries: u64, dir: &Path) {
    let memory = RocksMemory::new(BUDGET_BYTES);
    let mut backend = RocksBackend::open(&dir.join("database"), &memory).expect("a database can be made");
    load("rocks", entries, &mut backend);
    let checkpoint = dir.join("checkpoint");
    let start = Instant::now();
    let checkpointing = backend.begin_checkpoint().expect("a checkpoint begins").expect("it keeps copies");
    let files = checkpointing.complete(0, Entries::default(), &checkpoint).expect("a checkpoint succeeds");
    let (took, bytes) = (start.elapsed(), files.iter().map(|file| file.bytes).sum::<u64>());
    println!("         checkpoint: {took:.1?}, {} files, {} MB; {:?}", files.len(), bytes / 1_000_000, memory);
    std::fs::remove_dir_all(&checkpoint).expect("it can be removed");
    read("rocks", entries, &mut backend);
    println!("         {:?}; {memory:?}", backend.stats().expect("there are figures"));
}

fn run(name: &str, entries: u64, backend: &mut dyn StateBackend) {
    load(name, entries, backend);
    read(name, entries, backend);
}

/// Keys of the numbers of a batch, in random order of all.
fn keys(numbers: impl Iterator<Item = u64>) -> Vec<[u8; 8]> {
    numbers.map(|number| hash_u64(number).to_be_bytes()).collect()
}

/// Names of keys; a tenth each is in one of ten namespaces.
fn names(keys: &[[u8; 8]]) -> Vec<StateKey<'_>> {
    keys.iter().map(name).collect()
}

fn name(key: &[u8; 8]) -> StateKey<'_> {
    let hash = u64::from_be_bytes(*key);
    StateKey { group: group_of(hash_u64(hash), GROUPS), operator: 1, namespace: (hash % 10) as i64, key }
}

fn load(name: &str, entries: u64, backend: &mut dyn StateBackend) {
    let mut took = Duration::ZERO;
    for batch in 0..entries / BATCH {
        let keys = keys(batch * BATCH..(batch + 1) * BATCH);
        let values: Vec<_> = keys.iter().map(value).collect();
        let start = Instant::now();
        let mut batch = names(&keys).into_iter().zip(values.iter().map(|value| &value[..]));
        backend.put(&mut batch).expect("a put succeeds");
        took += start.elapsed();
    }
    report(name, entries, "put", entries, took);
}

/// Half of it random, so that it compresses as state does.
fn value(key: &[u8; 8]) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    let mut state = u64::from_be_bytes(*key);
    for chunk in value[..VALUE_BYTES / 2].chunks_mut(8) {
        state = hash_u64(state);
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    value
}

fn read(name: &str, entries: u64, backend: &mut dyn StateBackend) {
    let batches = GET_BATCHES_MAX.min(entries / BATCH);
    for (what, base) in [("get, there", 0), ("get, not there", entries)] {
        let (mut took, mut found) = (Duration::ZERO, 0);
        for batch in 0..batches {
            let keys = keys((0..BATCH).map(|i| base + hash_u64(batch * BATCH + i) % entries));
            let start = Instant::now();
            backend.get(&names(&keys), &mut |_, _| found += 1).expect("a get succeeds");
            took += start.elapsed();
        }
        assert_eq!(found, if base == 0 { batches * BATCH } else { 0 });
        report(name, entries, what, batches * BATCH, took);
    }
    for (what, namespace) in [("scan of all", None), ("scan of a namespace", Some(3))] {
        let (start, mut found) = (Instant::now(), 0);
        backend.scan(ALL, 1, namespace, &mut |_, _| found += 1).expect("a scan succeeds");
        report(name, entries, what, found, start.elapsed());
    }
    let start = Instant::now();
    backend.delete_all(ALL, 1, Some(3)).expect("a delete succeeds");
    report(name, entries, "delete of a namespace", entries / 10, start.elapsed());
    let start = Instant::now();
    let mut found = 0;
    backend.scan(ALL, 1, Some(4), &mut |_, _| found += 1).expect("a scan succeeds");
    report(name, entries, "scan of the one beside it", found, start.elapsed());
}

fn report(name: &str, entries: u64, what: &str, count: u64, took: Duration) {
    let nanos = took.as_nanos() as f64 / count.max(1) as f64;
    println!("{name:>8} {entries:>12} {what:<28} {:>14.0} {nanos:>12.0}", 1e9 / nanos);
}
