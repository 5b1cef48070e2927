//! What every storage must do. A new kind of storage is done when [`check`] passes on it.
//!
//! It works in jobs and savepoints of new names, so it can be run on a bucket with other things in it. A failed check panics, as
//! tests do.

// A failed check panics: this is code of tests.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::ObjectStoreExt;
use ulid::Ulid;
use weir_types::KeyGroupRange;

use crate::error::{Corrupt, ErrorKind};
use crate::faults::{Fault, Faults, Operation, When};
use crate::folder::Folder;
use crate::garbage::Sweep;
use crate::log::{Appended, JobStorage};
use crate::manifest::{ChainSnapshot, Claim, Entry, FileRef, InFlight, Kind, Manifest, StateFiles, TaskSnapshot};
use crate::paths::{self, StateFile};
use crate::storage::Storage;
use crate::upload::{MULTIPART_BYTES, PART_BYTES, Source};

/// Checks a storage.
///
/// # Panics
/// If it does not conform.
pub async fn check(storage: &Storage) {
    storage.probe().await.unwrap();
    the_log_is_read_as_it_was_written(storage).await;
    one_writer_gets_a_number(storage).await;
    logs_are_told_apart(storage).await;
    late_writers_are_known(storage).await;
    torn_entries_are_known(storage).await;
    files_come_back(storage).await;
    nothing_is_overwritten(storage).await;
    other_bytes_are_known(storage).await;
    garbage_goes(storage).await;
    savepoints_are_self_contained(storage).await;
    savepoints_are_sound(storage).await;
}

/// Checks that a storage that loses calls and answers loses and invents nothing else. The seed decides which ones.
///
/// # Panics
/// If it does.
pub async fn check_with_faults(storage: &Storage, seed: u64) {
    writers_of_a_bad_log_agree(storage, seed).await;
    lost_answers_are_found_out(storage).await;
    failed_transfers_leave_nothing_false(storage).await;
}

fn fresh_name() -> String {
    format!("conformance/{}", Ulid::new())
}

/// A writer of a new job.
fn fresh(storage: &Storage) -> JobStorage {
    storage.job(&fresh_name()).unwrap()
}

fn claim(generation: u64) -> Entry {
    Entry::Claim(Claim { generation, at_ms: 1_760_000_000_000 })
}

fn state_file(checkpoint: u64, name: &str) -> StateFile {
    StateFile { generation: 1, vertex: 2, subtask: 3, checkpoint, name: name.into() }
}

/// Bytes that do not repeat.
fn sample(bytes: u64) -> Bytes {
    let mut state = bytes + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    let mut all: Vec<u8> = (0..bytes.div_ceil(4)).flat_map(|_| next().to_le_bytes()).collect();
    all.truncate(bytes as usize);
    all.into()
}

/// A manifest that refers to these files.
fn manifest(checkpoint: u64, files: Vec<FileRef>) -> Manifest {
    let bytes_total = files.iter().map(|f| f.bytes).sum();
    let chain = ChainSnapshot {
        operator: "count".into(),
        schema: "merging".into(),
        state_schemas: vec![],
        operator_state: None,
        watermark: 17,
        groups: KeyGroupRange { start: 0, end: 128 },
        state: StateFiles::Entries(files),
        scalars: serde_json::Value::Null,
    };
    let task = TaskSnapshot { chains: vec![chain], ..TaskSnapshot::new(2, 3, 4) };
    Manifest {
        graph_fingerprint: "9c".into(),
        tasks: vec![task],
        bytes_total,
        bytes_new: bytes_total,
        ..Manifest::new("conformance", Kind::Checkpoint, checkpoint, 1, 128)
    }
}

/// Makes an object what nobody would make it: damaged, or gone.
async fn tamper(folder: &Folder, path: &str, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
    let object = folder.object(&crate::Path::parse(path).unwrap());
    let store = folder.store();
    let bytes = store.get(&object).await.unwrap().bytes().await.unwrap();
    // In a directory, objects may be linked: the changed one must be a new file.
    store.delete(&object).await.unwrap();
    if let Some(changed) = change(bytes.to_vec()) {
        store.put(&object, changed.into()).await.unwrap();
    }
}

/// One bit is another one.
fn flip(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    Some(bytes)
}

async fn the_log_is_read_as_it_was_written(storage: &Storage) {
    let job = fresh(storage);
    assert_eq!(job.read_log().await.unwrap(), [], "a new job has no log");
    let entries: Vec<_> = (1..=40).map(|n| if n % 3 == 1 { claim(n) } else { Entry::Manifest(manifest(n, vec![])) }).collect();
    for (number, entry) in (1..).zip(&entries) {
        assert_eq!(job.append(number, entry).await.unwrap(), Appended::Done);
    }
    // Things that are no entries do not disturb.
    let note = job.folder().object(&crate::Path::from("log/note.txt"));
    job.folder().store().put(&note, "note".into()).await.unwrap();
    assert_eq!(job.append(41, &claim(41)).await.unwrap(), Appended::Done);
    let expected: Vec<_> = (1..).zip(entries.into_iter().chain([claim(41)]).map(Ok)).collect();
    assert_eq!(job.read_log().await.unwrap(), expected);
    assert_eq!(fresh(storage).read_log().await.unwrap(), [], "another job has another log");
}

async fn one_writer_gets_a_number(storage: &Storage) {
    let name = fresh_name();
    let writers: Vec<_> = (0..8).map(|_| storage.job(&name).unwrap()).collect();
    for number in 0..5 {
        // All write the same, so only the writer tells them apart.
        let entry = claim(number);
        let ends = futures::future::try_join_all(writers.iter().map(|job| job.append(number, &entry))).await.unwrap();
        assert_eq!(ends.iter().filter(|end| **end == Appended::Done).count(), 1, "{ends:?}");
        let again = futures::future::try_join_all(writers.iter().map(|job| job.append(number, &entry))).await.unwrap();
        assert_eq!(ends, again, "to append it again is to have appended it");
    }
    assert_eq!(writers[0].read_log().await.unwrap().len(), 5);
}

/// All writers of a log give it the same id, whoever asks first, and the log of another job has another one. It is no entry.
async fn logs_are_told_apart(storage: &Storage) {
    let name = fresh_name();
    let writers = [(); 4].map(|()| storage.job(&name).unwrap());
    let ids = futures::future::join_all(writers.iter().map(JobStorage::log_id)).await;
    let ids: Vec<String> = ids.into_iter().map(Result::unwrap).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_ne!(fresh(storage).log_id().await.unwrap(), ids[0]);
    assert!(writers[0].read_log().await.unwrap().is_empty());
    assert_eq!(writers[0].append(0, &claim(1)).await.unwrap(), Appended::Done);
    assert_eq!(storage.job(&name).unwrap().log_id().await.unwrap(), ids[0]);

    tamper(writers[0].folder(), "log-id", |_| Some(b"no id".to_vec())).await;
    assert_eq!(writers[0].log_id().await.unwrap_err().kind, ErrorKind::Invalid);
}

async fn late_writers_are_known(storage: &Storage) {
    let job = fresh(storage);
    for number in 1..=3 {
        job.append(number, &claim(number)).await.unwrap();
    }
    // The entry that would have stopped the late writer has been collected.
    tamper(job.folder(), paths::entry(2).as_ref(), |_| None).await;
    assert_eq!(job.append(2, &claim(9)).await.unwrap(), Appended::Taken);
}

async fn torn_entries_are_known(storage: &Storage) {
    let job = fresh(storage);
    for number in 1..=5 {
        job.append(number, &claim(number)).await.unwrap();
    }
    let cut = |bytes: usize| move |mut document: Vec<u8>| Some(document.drain(..bytes).collect());
    tamper(job.folder(), paths::entry(2).as_ref(), cut(0)).await;
    tamper(job.folder(), paths::entry(3).as_ref(), cut(50)).await;
    let flip_near_the_end = |mut document: Vec<u8>| {
        let last = document.len() - 5;
        document[last] ^= 1;
        Some(document)
    };
    tamper(job.folder(), paths::entry(4).as_ref(), flip_near_the_end).await;
    let log = job.read_log().await.unwrap();
    assert_eq!(log.len(), 5);
    assert_eq!((&log[0], &log[4]), (&(1, Ok(claim(1))), &(5, Ok(claim(5)))));
    assert!(log[1..4].iter().all(|(_, entry)| matches!(entry, Err(Corrupt::Damaged(_)))), "{log:?}");
    assert_eq!(job.append(4, &claim(6)).await.unwrap(), Appended::Taken, "a damaged entry has its number");
}

async fn files_come_back(storage: &Storage) {
    let job = fresh(storage);
    let directory = tempfile::tempdir().unwrap();
    let sizes = [0, 1, PART_BYTES, MULTIPART_BYTES, MULTIPART_BYTES + 1, 5 * PART_BYTES + 77];
    for (n, size) in (0..).zip(sizes) {
        let bytes = sample(size);
        let on_disk = directory.path().join(format!("{n}"));
        std::fs::write(&on_disk, &bytes).unwrap();
        let sources = [Source::Bytes(bytes.clone()), Source::File(on_disk.clone()), Source::Sealed(on_disk.clone())];
        for (kind, source) in sources.into_iter().enumerate() {
            let told = AtomicU64::new(0);
            let progress = |bytes| {
                told.fetch_add(bytes, Ordering::Relaxed);
            };
            let file = job.upload(&state_file(n, &format!("{kind}")), source, &progress).await.unwrap();
            assert_eq!((file.bytes, told.into_inner()), (size, size));
            assert_eq!(job.folder().fetch(&file).await.unwrap(), bytes, "{size} bytes");
            job.folder().verify(&file).await.unwrap();
            let (copy, sealed) = (directory.path().join("copy"), directory.path().join("sealed"));
            job.folder().fetch_to(&file, &copy).await.unwrap();
            assert_eq!(job.folder().fetch_to(&file, &copy).await.unwrap_err().kind, ErrorKind::Conflict);
            job.folder().fetch_sealed(&file, &sealed).await.unwrap();
            for fetched in [copy, sealed] {
                assert_eq!(std::fs::read(&fetched).unwrap(), bytes);
                std::fs::remove_file(&fetched).unwrap();
            }
        }
    }
    let missing = job.upload(&state_file(9, "missing"), Source::File("/nowhere/at/all".into()), &|_| ()).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::Local);
}

async fn nothing_is_overwritten(storage: &Storage) {
    let job = fresh(storage);
    for (n, size) in [(1, 100), (2, MULTIPART_BYTES + 100)] {
        let name = state_file(n, "twice");
        let bytes = sample(size);
        let file = job.upload(&name, Source::Bytes(bytes.clone()), &|_| ()).await.unwrap();
        let again = job.upload(&name, Source::Bytes(bytes.clone()), &|_| ()).await.unwrap();
        assert_eq!(file, again, "to store it again is to have stored it");
        let mut other = bytes.to_vec();
        other[50] ^= 1;
        for other in [Bytes::from(other), bytes.slice(1..)] {
            let error = job.upload(&name, Source::Bytes(other), &|_| ()).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Conflict, "{error}");
        }
        assert_eq!(job.folder().fetch(&file).await.unwrap(), bytes);
    }
}

async fn other_bytes_are_known(storage: &Storage) {
    let job = fresh(storage);
    let directory = tempfile::tempdir().unwrap();
    let changes: [&dyn Fn(Vec<u8>) -> Option<Vec<u8>>; 6] = [
        &|_| None,
        &|_| Some(vec![]),
        &|bytes| Some(bytes[..bytes.len() - 1].to_vec()),
        &|bytes| Some(bytes[..bytes.len() / 3].to_vec()),
        &|bytes| Some([&bytes[..], b"x"].concat()),
        &flip,
    ];
    for size in [1, 100, 3 * PART_BYTES + 5] {
        for (n, change) in (0..).zip(changes) {
            let name = state_file(n, &format!("{size}"));
            let file = job.upload(&name, Source::Bytes(sample(size)), &|_| ()).await.unwrap();
            tamper(job.folder(), &file.path, change).await;
            let to = directory.path().join("out");
            let expected = if n == 0 { ErrorKind::NotFound } else { ErrorKind::Corrupt };
            let errors = [
                job.folder().fetch(&file).await.unwrap_err(),
                job.folder().verify(&file).await.unwrap_err(),
                job.folder().fetch_to(&file, &to).await.unwrap_err(),
                job.folder().fetch_sealed(&file, &to).await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind, expected, "{size} bytes, change {n}: {error}");
                assert!(error.message.contains(&file.path), "{error}");
            }
            assert!(!to.exists(), "what is not right does not stay");
        }
    }
}

async fn garbage_goes(storage: &Storage) {
    let job = fresh(storage);
    let upload = async |checkpoint, name: &str| {
        job.upload(&state_file(checkpoint, name), Source::Bytes(sample(10)), &|_| ()).await.unwrap()
    };
    let (a1, b1, a2, a3) = (upload(1, "a").await, upload(1, "b").await, upload(2, "a").await, upload(3, "a").await);
    let (left_behind, under_way) = (upload(2, "left-behind").await, upload(4, "a").await);
    job.append(1, &claim(1)).await.unwrap();
    for (checkpoint, files) in
        [(1, vec![a1.clone(), b1.clone()]), (2, vec![b1.clone(), a2.clone()]), (3, vec![b1.clone(), a3.clone()])]
    {
        job.append(checkpoint + 1, &Entry::Manifest(manifest(checkpoint, files))).await.unwrap();
    }
    let log = job.read_log().await.unwrap();
    let there = async |file: &FileRef| job.folder().fetch(file).await.is_ok();
    let keep = |n| NonZeroUsize::new(n).unwrap();

    let collected = job.collect_garbage(&log, keep(2), Sweep::Dropped).await.unwrap();
    assert_eq!((collected.entries, collected.files), (2, 1));
    assert!(!there(&a1).await && there(&a2).await && there(&left_behind).await);
    let numbers: Vec<_> = job.read_log().await.unwrap().into_iter().map(|(n, _)| n).collect();
    assert_eq!(numbers, [3, 4]);

    let collected = job.collect_garbage(&log, keep(1), Sweep::All).await.unwrap();
    // Some stores do not say which of the objects were there.
    assert!((1..=3).contains(&collected.entries), "{collected:?}");
    assert!(!there(&a2).await && !there(&left_behind).await);
    assert!(there(&b1).await && there(&a3).await && there(&under_way).await);
    let again = job.collect_garbage(&job.read_log().await.unwrap(), keep(1), Sweep::All).await.unwrap();
    assert_eq!((again.entries, again.files), (0, 0), "nothing is left to collect");
}

async fn savepoints_are_self_contained(storage: &Storage) {
    let job = fresh(storage);
    let mut files = vec![];
    for (n, size) in [(1, 0), (2, 100), (3, MULTIPART_BYTES + 9)] {
        files.push(job.upload(&state_file(n, "a"), Source::Bytes(sample(size)), &|_| ()).await.unwrap());
    }
    files.push(files[1].clone());
    let checkpoint = manifest(3, files.clone());
    let elsewhere = Storage::open(&format!("memory://conformance-{}", Ulid::new()), &[]).unwrap();
    for target in [storage, &elsewhere] {
        let savepoints = target.savepoints();
        let id = format!("sp-{}", Ulid::new());
        let told = AtomicU64::new(0);
        let progress = |bytes| {
            told.fetch_add(bytes, Ordering::Relaxed);
        };
        let written = savepoints.write(&id, job.folder(), &checkpoint, &progress).await.unwrap();
        assert_eq!(told.into_inner(), MULTIPART_BYTES + 109);
        assert_eq!(savepoints.write(&id, job.folder(), &checkpoint, &|_| ()).await.unwrap_err().kind, ErrorKind::Conflict);

        let read = savepoints.open(&id).await.unwrap();
        assert_eq!(read.manifest(), written.manifest());
        assert_eq!((read.manifest().kind, read.manifest().bytes_total), (Kind::Savepoint, MULTIPART_BYTES + 109));
        let inspection = read.inspect().await.unwrap();
        assert_eq!((inspection.files, inspection.bytes, inspection.broken.len()), (3, MULTIPART_BYTES + 109, 0));
        assert!(
            savepoints
                .list()
                .await
                .unwrap()
                .iter()
                .any(|listed| listed.id == id && listed.manifest.as_ref() == Ok(written.manifest()))
        );

        let copies: Vec<_> = read.manifest().files().cloned().collect();
        assert_eq!(copies[1], copies[3], "what is referred to twice is copied once");
        for (copy, file) in copies.iter().zip(&files) {
            assert_eq!(read.folder().fetch(copy).await.unwrap(), job.folder().fetch(file).await.unwrap());
        }
        assert_eq!(read.verify().await.unwrap(), inspection);
        tamper(read.folder(), &copies[2].path, flip).await;
        assert_eq!(read.inspect().await.unwrap(), inspection, "nothing was read");
        let broken = read.verify().await.unwrap().broken;
        assert_eq!(broken.keys().collect::<Vec<_>>(), [&copies[2].path]);
        assert!(broken[&copies[2].path].contains("has the checksum"), "{broken:?}");
        tamper(read.folder(), &copies[1].path, |_| None).await;
        tamper(read.folder(), &copies[2].path, |bytes| Some(bytes[1..].to_vec())).await;
        let broken = read.inspect().await.unwrap().broken;
        assert_eq!(broken.keys().collect::<Vec<_>>(), [&copies[1].path, &copies[2].path]);
        assert_eq!(read.verify().await.unwrap().broken, broken);

        // A savepoint without its manifest is listed as what it is, is not opened, and can be deleted.
        tamper(read.folder(), "manifest.json", |_| None).await;
        assert_eq!(savepoints.open(&id).await.unwrap_err().kind, ErrorKind::NotFound);
        assert!(savepoints.list().await.unwrap().iter().any(|listed| listed.id == id && listed.manifest.is_err()));
        savepoints.delete(&id).await.unwrap();
        assert_eq!(savepoints.delete(&id).await.unwrap_err().kind, ErrorKind::NotFound);
        assert!(savepoints.list().await.unwrap().iter().all(|listed| listed.id != id));
    }
    // Of several that are written under one id at once, one is complete, and no other takes anything from it.
    let id = format!("sp-{}", Ulid::new());
    let targets = [(); 4].map(|()| storage.savepoints());
    let writes = targets.iter().map(|target| target.write(&id, job.folder(), &checkpoint, &|_| ()));
    let ends = futures::future::join_all(writes).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1, "{ends:?}");
    assert!(ends.iter().all(|end| end.as_ref().err().is_none_or(|e| e.kind == ErrorKind::Conflict)), "{ends:?}");
    assert!(storage.savepoints().open(&id).await.unwrap().verify().await.unwrap().broken.is_empty());
    let left = storage.savepoints().open(&id).await.unwrap().folder().list(&crate::Path::ROOT).await.unwrap();
    assert!(left.iter().all(|(path, _)| path.as_ref() != "claim"), "{left:?}");

    // The savepoint does not need the job, also where a copy is a link.
    let savepoint = storage.savepoints().write(&format!("sp-{}", Ulid::new()), job.folder(), &checkpoint, &|_| ()).await.unwrap();
    for file in &files[..3] {
        tamper(job.folder(), &file.path, |_| None).await;
    }
    for copy in savepoint.manifest().files() {
        savepoint.folder().verify(copy).await.unwrap();
    }
}

/// What is damaged, or has rows in flight, does not become a savepoint.
async fn savepoints_are_sound(storage: &Storage) {
    let job = fresh(storage);
    let elsewhere = Storage::open(&format!("memory://conformance-{}", Ulid::new()), &[]).unwrap();
    let changes: [&dyn Fn(Vec<u8>) -> Option<Vec<u8>>; 2] = [&flip, &|bytes| Some(bytes[1..].to_vec())];
    for (n, size) in [(1, 100), (2, MULTIPART_BYTES + 9)] {
        for (kind, change) in changes.iter().enumerate() {
            let file = job.upload(&state_file(n, &format!("{kind}")), Source::Bytes(sample(size)), &|_| ()).await.unwrap();
            tamper(job.folder(), &file.path, change).await;
            for target in [storage, &elsewhere] {
                let (savepoints, id) = (target.savepoints(), format!("sp-{}", Ulid::new()));
                let error = savepoints.write(&id, job.folder(), &manifest(n, vec![file.clone()]), &|_| ()).await.unwrap_err();
                assert_eq!(error.kind, ErrorKind::Corrupt, "{size} bytes, change {kind}: {error}");
                assert!(error.message.contains(&file.path), "{error}");
                assert_eq!(savepoints.open(&id).await.unwrap_err().kind, ErrorKind::NotFound);
                // Nothing may have been copied.
                drop(savepoints.delete(&id).await);
            }
        }
    }
    let file = job.upload(&state_file(3, "a"), Source::Bytes(sample(100)), &|_| ()).await.unwrap();
    for batches in [1, 0] {
        let (savepoints, id) = (storage.savepoints(), format!("sp-{}", Ulid::new()));
        let mut checkpoint = manifest(3, vec![]);
        checkpoint.tasks[0].in_flight = vec![InFlight { edge: 0, sender: 0, senders: 1, batches, file: file.clone() }];
        match savepoints.write(&id, job.folder(), &checkpoint, &|_| ()).await {
            Ok(_) => assert_eq!(batches, 0, "watermarks alone are in flight"),
            Err(error) => {
                assert_eq!((batches, error.kind), (1, ErrorKind::Invalid), "{error}");
                assert!(error.message.contains("checkpoint 3 is unaligned and has rows in flight"), "{error}");
                savepoints.check_free(&id).await.unwrap();
            }
        }
    }
}

/// Writers that fight for a log whose calls and answers get lost: whoever was told that it is done, is what the log says.
async fn writers_of_a_bad_log_agree(storage: &Storage, seed: u64) {
    let faults = Faults::new(seed);
    let (bad, name) = (storage.wrapped(|store| faults.wrap(store)), fresh_name());
    faults.add(Operation::Any, "/log", When::Chance(0.2), Fault::Fail);
    faults.add(Operation::Put, "/log", When::Chance(0.3), Fault::LoseAnswer);
    let writer = async |first: u64| {
        let job = bad.job(&name).unwrap();
        let mut done = vec![];
        for round in 0..25 {
            let entry = claim(first + round);
            let Ok(log) = job.read_log().await else { continue };
            let number = log.last().map_or(1, |(number, _)| number + 1);
            if job.append(number, &entry).await.is_ok_and(|end| end == Appended::Done) {
                done.push((number, Ok(entry)));
            }
        }
        done
    };
    let done: Vec<_> = futures::future::join_all([100, 200, 300].map(writer)).await.concat();
    faults.clear();
    let log = storage.job(&name).unwrap().read_log().await.unwrap();
    assert!(!done.is_empty(), "seed {seed}: nobody got anywhere");
    for (n, entry) in done.iter().enumerate() {
        assert!(log.contains(entry), "seed {seed}: {entry:?} is done and not in the log");
        assert!(done[..n].iter().all(|other| other.0 != entry.0), "seed {seed}: two are done with entry {}", entry.0);
    }
    assert!((1..).zip(&log).all(|(number, entry)| number == entry.0), "seed {seed}: numbers have gaps: {log:?}");
}

async fn lost_answers_are_found_out(storage: &Storage) {
    let faults = Faults::new(0);
    let (bad, name) = (storage.wrapped(|store| faults.wrap(store)), fresh_name());
    let (job, another) = (bad.job(&name).unwrap(), bad.job(&name).unwrap());
    faults.add(Operation::Put, "/log/", When::First(2), Fault::LoseAnswer);
    assert_eq!(job.append(1, &claim(1)).await.unwrap(), Appended::Done, "the entry is ours, though nobody said so");
    assert_eq!(another.append(1, &claim(1)).await.unwrap(), Appended::Taken);

    // Of two that lost their answers one has it.
    faults.clear();
    faults.add(Operation::Put, "/log/", When::First(2), Fault::LoseAnswer);
    let entry = claim(2);
    let (one, other) = futures::future::try_join(job.append(2, &entry), another.append(2, &entry)).await.unwrap();
    assert_ne!(one, other);

    // What keeps failing is unknown, and the log says later what became of it.
    faults.clear();
    faults.add(Operation::Put, "/log/", When::Always, Fault::LoseAnswer);
    faults.add(Operation::Get, "/log/", When::Always, Fault::Fail);
    assert_eq!(job.append(3, &claim(3)).await.unwrap_err().kind, ErrorKind::Unavailable);
    faults.clear();
    assert_eq!(another.append(3, &claim(4)).await.unwrap(), Appended::Taken);
    assert_eq!(job.append(3, &claim(3)).await.unwrap(), Appended::Done, "it went on trying");
    assert_eq!(job.read_log().await.unwrap()[2], (3, Ok(claim(3))));

    // What is refused is not tried again.
    faults.add(Operation::Put, "/log/", When::Always, Fault::Refuse);
    let before = faults.calls(Operation::Put, "/log/");
    assert_eq!(job.append(4, &claim(4)).await.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(faults.calls(Operation::Put, "/log/"), before + 1);

    // A put that is torn on its way is known to be.
    faults.clear();
    faults.add(Operation::Put, "/log/", When::Nth(1), Fault::Cut(60));
    job.append(4, &claim(4)).await.unwrap();
    assert!(matches!(job.read_log().await.unwrap()[3], (4, Err(Corrupt::Damaged(_)))));
}

async fn failed_transfers_leave_nothing_false(storage: &Storage) {
    let faults = Faults::new(0);
    let job = fresh(&storage.wrapped(|store| faults.wrap(store)));
    let large = Source::Bytes(sample(5 * PART_BYTES));
    let name = |n| state_file(n, "a");

    // A small file whose answer got lost is there; a large one, too.
    faults.add(Operation::Put, "/files/", When::Nth(1), Fault::LoseAnswer);
    faults.add(Operation::Complete, "/files/", When::Nth(1), Fault::LoseAnswer);
    let small = job.upload(&name(1), Source::Bytes(sample(9)), &|_| ()).await.unwrap();
    job.folder().verify(&small).await.unwrap();
    let file = job.upload(&name(2), large.clone(), &|_| ()).await.unwrap();
    job.folder().verify(&file).await.unwrap();

    // An upload that fails at any step fails as a whole, and can be done again.
    for (n, operation) in (3..).zip([Operation::Begin, Operation::Part, Operation::Complete]) {
        faults.clear();
        faults.add(operation, "/files/", When::Nth(1), Fault::Fail);
        assert_eq!(job.upload(&name(n), large.clone(), &|_| ()).await.unwrap_err().kind, ErrorKind::Unavailable, "{operation:?}");
        let file = job.upload(&name(n), large.clone(), &|_| ()).await.unwrap();
        job.folder().verify(&file).await.unwrap();
    }

    // A fetch that gets fewer bytes than there are does not take them for the file.
    faults.clear();
    faults.add(Operation::Get, "/files/", When::Nth(3), Fault::Cut(17));
    assert_eq!(job.folder().fetch(&file).await.unwrap_err().kind, ErrorKind::Corrupt);
    assert!(job.folder().fetch(&file).await.is_ok());

    // A savepoint whose copying fails is none.
    faults.clear();
    let elsewhere = job.folder().storage().savepoints();
    let id = format!("sp-{}", Ulid::new());
    faults.add(Operation::Copy, "/files/", When::Nth(2), Fault::Fail);
    let checkpoint = manifest(2, vec![small, file]);
    assert_eq!(elsewhere.write(&id, job.folder(), &checkpoint, &|_| ()).await.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(elsewhere.open(&id).await.unwrap_err().kind, ErrorKind::NotFound);
    // Nothing is left of it, so that the id is free.
    elsewhere.write(&id, job.folder(), &checkpoint, &|_| ()).await.unwrap();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn directory(sync: bool) -> (tempfile::TempDir, Storage) {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}/a%20b/checkpoints", directory.path().display());
        let storage = Storage::open(&url, &[("sync".into(), sync.to_string())]).unwrap();
        (directory, storage)
    }

    /// Whoever uses a storage may do so in a task of its own.
    #[test]
    fn futures_can_be_sent() {
        fn sent<T: Send>(_: T) {}
        let storage = Storage::open("memory://sent", &[]).unwrap();
        let (job, savepoints) = (storage.job("job").unwrap(), storage.savepoints());
        let (name, entry, manifest, to) = (state_file(1, "a"), claim(1), manifest(1, vec![]), std::path::Path::new("to"));
        let file = FileRef { path: "files/a".into(), bytes: 0, crc32: crate::Checksum(0) };
        sent(storage.probe());
        sent((job.read_log(), job.append(1, &entry), job.upload(&name, Source::Bytes(Bytes::new()), &|_| ())));
        sent((job.folder().fetch(&file), job.folder().fetch_to(&file, to), job.folder().fetch_sealed(&file, to)));
        sent((job.folder().verify(&file), job.collect_garbage(&vec![], NonZeroUsize::MIN, Sweep::All)));
        sent((
            savepoints.write("a", job.folder(), &manifest, &|_| ()),
            savepoints.open("a"),
            savepoints.list(),
            savepoints.delete("a"),
        ));
    }

    /// Memory conforms, also below a prefix.
    #[tokio::test]
    async fn memory_conforms() {
        check(&Storage::open("memory://conformance", &[]).unwrap()).await;
        check(&Storage::open("memory://conformance/some/prefix", &[]).unwrap()).await;
    }

    /// A directory conforms, whether the disk is waited for or not.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_directory_conforms() {
        for sync in [true, false] {
            check(&directory(sync).1).await;
        }
    }

    /// Bad storages lose and invent nothing. The clock is paused: nobody waits for repetitions.
    #[tokio::test(start_paused = true)]
    async fn faults_are_survived() {
        for seed in 0..20 {
            check_with_faults(&Storage::open("memory://faults", &[]).unwrap(), seed).await;
        }
        let (_directory, storage) = directory(false);
        for seed in 20..23 {
            check_with_faults(&storage, seed).await;
        }
    }

    /// What was being written when it was given up does not stay, and what a killed writer left goes once another generation is
    /// at work.
    #[tokio::test(start_paused = true)]
    async fn half_written_files_go() {
        fn half_written(folder: &std::path::Path) -> usize {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let count = |path: std::path::PathBuf| {
                if path.is_dir() { half_written(&path) } else { usize::from(path.to_string_lossy().contains('#')) }
            };
            entries.map(|entry| count(entry.path())).sum()
        }
        let (temporary, storage) = directory(false);
        let faults = Faults::new(0);
        let slow = fresh(&storage.wrapped(|store| faults.wrap(store)));
        faults.add(Operation::Part, "", When::Nth(2), Fault::Delay(Duration::from_secs(3600)));
        let name = state_file(1, "a");
        let upload = slow.upload(&name, Source::Bytes(sample(MULTIPART_BYTES + 1)), &|_| ());
        assert!(tokio::time::timeout(Duration::from_secs(60), upload).await.is_err());
        for _ in 0..1000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(half_written(temporary.path()), 0);

        let job = fresh(&storage);
        let file = job.upload(&name, Source::Bytes(sample(9)), &|_| ()).await.unwrap();
        let left =
            temporary.path().join("a b/checkpoints").join(job.folder().object(&crate::Path::from("files/1/2-3/1-b")).as_ref());
        std::fs::write(format!("{}#1", left.display()), "half").unwrap();
        for (generation, expected) in [(1, 1), (2, 0)] {
            job.append(generation, &claim(generation)).await.unwrap();
            job.collect_garbage(&job.read_log().await.unwrap(), NonZeroUsize::MIN, Sweep::All).await.unwrap();
            assert_eq!(half_written(temporary.path()), expected, "generation {generation} is at work");
        }
        job.folder().verify(&file).await.unwrap();
    }

    /// A storage that overwrites what it must not is found out, and one that cannot put conditionally says so.
    #[tokio::test(start_paused = true)]
    async fn storages_without_conditions_are_refused() {
        let faults = Faults::new(0);
        faults.add(Operation::Put, "", When::Always, Fault::Overwrite);
        let storage = Storage::open("memory://careless", &[]).unwrap().wrapped(|store| faults.wrap(store));
        let error = storage.probe().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains("let several writers write one object"), "{error}");

        let options = [("conditional_put", "disabled"), ("access_key_id", "x"), ("secret_access_key", "x")]
            .map(|(k, v)| (k.into(), v.into()));
        let storage = Storage::open("s3://bucket", &options).unwrap();
        for error in [storage.probe().await.unwrap_err(), storage.job("job").unwrap().append(1, &claim(1)).await.unwrap_err()] {
            assert_eq!(error.kind, ErrorKind::Unsupported);
            assert!(error.message.contains("cannot put an object only if it is absent"), "{error}");
        }
    }
}
