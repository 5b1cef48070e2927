//! How fast state goes into portable files and into a directory, and back: `cargo bench -p weir-checkpoint`.

use std::time::Instant;

use bytes::Bytes;
use weir_checkpoint::{EntriesReader, EntriesWriter, Source, StateFile, Storage};
use weir_types::{KeyGroup, KeyGroupRange};

const GROUPS: u16 = 128;
const KEYS: u64 = 20_000;
const FILE_BYTES: usize = 64 << 20;
const FILES: u64 = 8;

fn main() {
    let bytes = entries();
    println!("{:>34} {:8.2}", "bytes an entry", bytes as f64 / (u64::from(GROUPS) * KEYS) as f64);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for sync in [true, false] {
        runtime.block_on(files(sync));
    }
}

/// Says how many bytes a second a step moved.
fn report(what: &str, bytes: u64, start: Instant) {
    println!("{what:>34} {:8.0} MB/s", bytes as f64 / 1e6 / start.elapsed().as_secs_f64());
}

/// Keys of 8 bytes with values of 24, two thirds of which are alike.
fn entries() -> u64 {
    let count = u64::from(GROUPS) * KEYS;
    let raw = count * 32;
    let start = Instant::now();
    let mut writer = EntriesWriter::new(vec![]).expect("memory");
    for group in 0..GROUPS {
        for key in 0..KEYS {
            let hash = (key + u64::from(group)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let value = [hash.to_le_bytes(), 7u64.to_le_bytes(), 9u64.to_le_bytes()].concat();
            writer.push(KeyGroup(group), 0, &key.to_be_bytes(), &value).expect("in order");
        }
    }
    let file = writer.finish().expect("memory");
    report("entries written", raw, start);
    for (what, end) in [("entries read", GROUPS), ("entries read, half of the groups", GROUPS / 2)] {
        let start = Instant::now();
        let mut reader = EntriesReader::new(&file[..], KeyGroupRange { start: 0, end });
        let mut found = 0;
        while let Some(entry) = reader.next().expect("what was written") {
            found += entry.value.len() as u64 + 8;
        }
        report(what, found, start);
    }
    file.len() as u64
}

async fn files(sync: bool) {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}/checkpoints", directory.path().display());
    let job = Storage::open(&url, &[("sync".into(), sync.to_string())]).expect("a storage").job("bench").expect("a name");
    let source = directory.path().join("source");
    let content: Vec<u8> = (0..FILE_BYTES).map(|n| ((n * 31) >> 3) as u8).collect();
    std::fs::write(&source, &content).expect("a file");
    let content = Bytes::from(content);
    let total = FILE_BYTES as u64 * FILES;
    let name = |kind: &str, n| StateFile { generation: 1, vertex: 0, subtask: 0, checkpoint: n, name: kind.into() };
    let mut stored = vec![];
    for (what, from) in
        [("memory", Source::Bytes(content)), ("file", Source::File(source.clone())), ("sealed", Source::Sealed(source))]
    {
        let start = Instant::now();
        let uploads = (0..FILES).map(|n| {
            let (job, from, name) = (&job, from.clone(), name(what, n));
            async move { job.upload(&name, from, &|_| ()).await }
        });
        stored = futures::future::try_join_all(uploads).await.expect("uploads");
        report(&format!("{what} stored, sync {sync}"), total, start);
    }
    let start = Instant::now();
    futures::future::try_join_all(stored.iter().map(|file| job.folder().verify(file))).await.expect("files");
    report("verified", total, start);
    let start = Instant::now();
    let to: Vec<_> = (0..FILES).map(|n| directory.path().join(format!("{n}"))).collect();
    futures::future::try_join_all(stored.iter().zip(&to).map(|(file, to)| job.folder().fetch_to(file, to))).await.expect("files");
    report("fetched to files", total, start);
}
