//! Databases in scratch directories, held against models.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;
use weir_types::KeyGroup;
use weir_types::graph::TimeDomain;

use super::*;
use crate::{Expiry, MemoryBackend, expiry};

/// A scratch directory with a budget.
struct Place {
    dir: TempDir,
    memory: RocksMemory,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), memory: RocksMemory::new(16 << 20) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, name: &str) -> RocksBackend {
        RocksBackend::open(&self.path(name), &self.memory).unwrap()
    }

    /// Opens a copy of a checkpoint.
    fn open_copy(&self, checkpoint: &str, name: &str) -> RocksBackend {
        copy_checkpoint(&self.path(checkpoint), &self.path(name)).unwrap();
        RocksBackend::open_from(&self.path(name), &self.memory).unwrap()
    }
}

type Entries = BTreeMap<(u16, u32, i64, Vec<u8>), Vec<u8>>;

const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: u16::MAX };

fn at<'a>(group: u16, operator: u32, namespace: i64, key: &'a [u8]) -> StateKey<'a> {
    StateKey { group: KeyGroup(group), operator, namespace, key }
}

fn entries(backend: &mut dyn StateBackend) -> Entries {
    let mut all = Entries::new();
    for operator in 0..3 {
        let mut each =
            |k: StateKey<'_>, v: &[u8]| _ = all.insert((k.group.0, k.operator, k.namespace, k.key.to_vec()), v.to_vec());
        backend.scan(ALL, operator, None, &mut each).unwrap();
    }
    all
}

fn put(backend: &mut dyn StateBackend, entries: &Entries) {
    backend.put(&mut entries.iter().map(|((g, o, n, k), v)| (at(*g, *o, *n, k), &v[..]))).unwrap();
}

/// Some entries of each group, all with this value.
fn some(groups: std::ops::Range<u16>, value: &[u8]) -> Entries {
    let key = |group: u16| (0..20u8).map(move |i| (group, u32::from(i % 3), i64::from(i) - 5, vec![i; usize::from(i % 4)]));
    groups.flat_map(key).map(|key| (key, value.to_vec())).collect()
}

fn checkpoint(backend: &mut RocksBackend, dir: &Path) -> Result<Vec<CheckpointFile>, Error> {
    backend.begin_checkpoint()?.expect("it keeps copies").complete(0, crate::Entries::default(), dir)
}

fn ids(files: &[CheckpointFile]) -> BTreeSet<String> {
    files.iter().filter_map(|file| file.id.clone()).collect()
}

/// It keeps the contract, also when all entries are in files rather than in a write buffer.
#[test]
fn conforms() {
    let place = Place::new();
    crate::conformance::check(&mut place.open("a"));
    crate::conformance::check(&mut Flushed(place.open("b")));
}

/// Flushes after each change, so that every read is from files.
struct Flushed(RocksBackend);

impl Flushed {
    fn after(&self, result: Result<(), Error>) -> Result<(), Error> {
        self.0.database.db.flush().unwrap();
        result
    }
}

impl StateBackend for Flushed {
    fn put(&mut self, entries: &mut dyn Iterator<Item = (StateKey<'_>, &[u8])>) -> Result<(), Error> {
        let result = self.0.put(entries);
        self.after(result)
    }

    fn get(&mut self, keys: &[StateKey<'_>], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        self.0.get(keys, found)
    }

    fn delete(&mut self, keys: &[StateKey<'_>]) -> Result<(), Error> {
        let result = self.0.delete(keys);
        self.after(result)
    }

    fn scan(
        &mut self,
        groups: KeyGroupRange,
        operator: u32,
        namespace: Option<i64>,
        each: &mut dyn FnMut(StateKey<'_>, &[u8]),
    ) -> Result<(), Error> {
        self.0.scan(groups, operator, namespace, each)
    }

    fn delete_all(&mut self, groups: KeyGroupRange, operator: u32, namespace: Option<i64>) -> Result<(), Error> {
        let result = self.0.delete_all(groups, operator, namespace);
        self.after(result)
    }

    fn keeps_copies(&self) -> bool {
        self.0.keeps_copies()
    }

    fn expire(&mut self, operator: u32, clocks: Clocks) {
        self.0.expire(operator, clocks);
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// The directory goes with the backend, unless it is kept.
#[test]
fn directory_goes_with_the_backend() {
    let place = Place::new();
    let mut gone = place.open("a");
    put(&mut gone, &some(0..2, b"x"));
    drop(gone);
    assert!(!place.path("a").exists());

    let mut kept = place.open("a");
    put(&mut kept, &some(0..2, b"y"));
    kept.keep().unwrap();
    drop(kept);
    let mut again = RocksBackend::open_from(&place.path("a"), &place.memory).unwrap();
    assert_eq!(entries(&mut again), some(0..2, b"y"));
}

/// What is written while a checkpoint is being made is not in it, and nowhere missing: scans wait for it, and gets find it. What has changed in slots is in
/// both.
#[test]
fn checkpoints_are_made_beside_their_database() {
    let place = Place::new();
    let mut live = place.open("live");
    put(&mut live, &some(0..4, b"old"));
    let checkpointing = live.begin_checkpoint().unwrap().unwrap();
    assert_eq!(entries(&mut live), some(0..4, b"old"), "what nobody writes to is there to read");
    put(&mut live, &some(1..3, b"later"));
    live.delete(&[at(3, 0, -5, b"")]).unwrap();

    let mut found = vec![];
    let keys = [at(0, 0, -5, b""), at(1, 0, -5, b""), at(3, 0, -5, b"")];
    live.get(&keys, &mut |i, value| found.push((i, value.to_vec()))).unwrap();
    assert_eq!(found, [(0, b"old".to_vec()), (1, b"later".to_vec())]);

    let mut changes = crate::Entries::default();
    for ((group, operator, namespace, key), value) in some(0..6, b"changed") {
        match (operator, group) {
            (1, 0..2) => changes.push(KeyGroup(group), namespace, &key, &[]),
            (1, _) => changes.push(KeyGroup(group), namespace, &key, &value),
            _ => {}
        }
    }
    let dir = place.path("1");
    let beside = std::thread::spawn(move || checkpointing.complete(1, changes, &dir).unwrap());
    let mut expected = some(0..4, b"old");
    expected.retain(|&(group, operator, ..), _| operator != 1 || group > 1);
    expected.extend(some(2..6, b"changed").into_iter().filter(|((_, operator, ..), _)| *operator == 1));
    let mut now = expected.clone();
    now.extend(some(1..3, b"later"));
    now.remove(&(3, 0, -5, vec![]));
    assert_eq!(entries(&mut live), now, "a read waits until what was written is there");
    beside.join().unwrap();
    assert_eq!(entries(&mut place.open_copy("1", "copy")), expected);

    let files = checkpoint(&mut live, &place.path("2")).unwrap();
    assert_eq!(entries(&mut place.open_copy("2", "copy-2")), now);
    assert!(files.iter().filter(|file| file.id.is_some()).count() > 1, "{files:?}");
}

/// Many changes are written while more of them come, and few at once; all of them are in the checkpoint, in what order ever their keys came. What is written to the
/// database meanwhile is newer than they are.
#[test]
fn many_changes_are_written_as_they_come() {
    const KEYS: u32 = 200_000;
    let place = Place::new();
    let mut live = place.open("live");
    let value = |n: u32| vec![n as u8; 300];
    let key = |n: u32| n.wrapping_mul(0x9E37_79B9).to_be_bytes();
    let mut checkpointing = live.begin_checkpoint().unwrap().unwrap();
    let mut changes = checkpointing.entries();
    let (mut most, mut taken) = (0, 0);
    for n in 0..KEYS {
        changes.push(KeyGroup((n % 3) as u16), 0, &key(n), &value(n));
        if n % 1000 == 0 {
            most = most.max(changes.bytes());
            let count = changes.len();
            checkpointing.take_many(0, &mut changes);
            taken += count - changes.len();
        }
    }
    assert!(
        taken > KEYS as usize / 2 && most < 2 * ChangesRoom::default().piece_bytes,
        "{taken} taken, and at most {most} bytes left"
    );
    live.put(&mut [(at(0, 0, 0, &key(3)), &b"newer"[..])].into_iter()).unwrap();
    checkpointing.complete(0, changes, &place.path("1")).unwrap();
    let check = |database: &mut RocksBackend, of_three: &[u8]| {
        let all = entries(database);
        assert_eq!(all.len(), KEYS as usize);
        for n in 0..KEYS {
            let found = all.get(&((n % 3) as u16, 0, 0, key(n).to_vec()));
            assert!(found.is_some_and(|found| if n == 3 { found == of_three } else { *found == value(n) }), "{n}");
        }
    };
    check(&mut place.open_copy("1", "copy"), &value(3));
    check(&mut live, b"newer");
}

/// Changes that could not be written while others came fail the checkpoint, and are lost to the database.
#[test]
fn lost_pieces_are_told() {
    let place = Place::new();
    let mut live = place.open("live");
    let mut checkpointing = live.begin_checkpoint().unwrap().unwrap();
    // There is no room for the file that they would be written to.
    fs::create_dir(live.database.directory.path.join("changes")).unwrap();
    let mut changes = crate::Entries::default();
    for round in 0..3 {
        for n in 0..100u32 {
            changes.push(KeyGroup(0), 0, &(100 * round + n).to_be_bytes(), &[0; 1 << 19]);
        }
        checkpointing.take_many(0, &mut changes);
        assert!(changes.is_empty(), "nobody waits for what cannot be written");
    }
    checkpointing.complete(0, changes, &place.path("1")).unwrap_err();
    let error = live.delete(&[at(0, 0, 0, b"")]).unwrap_err().to_string();
    assert!(error.contains("restore the job"), "{error}");
}

/// A database whose changes are lost says so to whoever uses it then; one of which a copy failed goes on.
#[test]
fn lost_changes_are_told() {
    let place = Place::new();
    let mut live = place.open("live");
    put(&mut live, &some(0..2, b"1"));
    fs::create_dir(place.path("taken")).unwrap();
    assert!(checkpoint(&mut live, &place.path("taken")).is_err());
    assert_eq!(entries(&mut live), some(0..2, b"1"));
    drop(live.begin_checkpoint().unwrap());
    let error = live.delete(&[at(0, 0, 0, b"")]).unwrap_err().to_string();
    assert!(error.contains("given up") && error.contains("restore the job"), "{error}");
    assert!(live.begin_checkpoint().is_err());
}

/// A checkpoint has what was written before it and nothing else, wherever it is opened and whatever happens to the database and to copies meanwhile.
#[test]
fn checkpoints_stay_as_they_are() {
    let place = Place::new();
    let mut live = place.open("live");
    put(&mut live, &some(0..10, b"old"));
    live.delete_all(KeyGroupRange { start: 3, end: 4 }, 1, None).unwrap();
    let old = entries(&mut live);
    checkpoint(&mut live, &place.path("checkpoints/1")).unwrap();

    put(&mut live, &some(5..15, b"new"));
    live.delete_all(KeyGroupRange { start: 0, end: 5 }, 0, None).unwrap();
    live.database.db.compact_range(None::<&[u8]>, None::<&[u8]>);
    let new = entries(&mut live);
    assert_ne!(old, new);

    let mut copy = place.open_copy("checkpoints/1", "copy");
    assert_eq!(entries(&mut copy), old);
    put(&mut copy, &some(0..20, b"copy"));
    copy.database.db.compact_range(None::<&[u8]>, None::<&[u8]>);
    drop(copy);
    assert_eq!(entries(&mut place.open_copy("checkpoints/1", "another")), old);
    assert_eq!(entries(&mut live), new);
    drop(live);
    assert_eq!(entries(&mut place.open_copy("checkpoints/1", "late")), old);
}

/// Files that two checkpoints share have one id; files of different databases never do, not even where they have one name and a common ancestor.
#[test]
fn files_have_ids() {
    let place = Place::new();
    let mut live = place.open("live");
    put(&mut live, &some(0..3, b"1"));
    let first = checkpoint(&mut live, &place.path("1")).unwrap();
    put(&mut live, &some(3..6, b"2"));
    let second = checkpoint(&mut live, &place.path("2")).unwrap();
    assert!(ids(&first).is_subset(&ids(&second)), "{first:?} {second:?}");
    assert_eq!(ids(&second).difference(&ids(&first)).count(), 1, "what has changed is one file more");
    for file in &second {
        assert_eq!(file.id.is_some(), file.name.ends_with(".sst"), "{file:?}");
        assert_eq!(file.bytes, fs::metadata(place.path("2").join(&file.name)).unwrap().len());
    }
    assert!(second.iter().any(|file| file.name == "CURRENT") && second.iter().all(|file| file.name != "IDENTITY"), "{second:?}");

    // Two attempts go on from the first checkpoint, and write what differs.
    let mut attempts = ["a", "b"].map(|name| place.open_copy("1", name));
    for (attempt, value) in attempts.iter_mut().zip([b"a", b"b"]) {
        put(attempt, &some(3..6, value));
    }
    let files = [0, 1].map(|i| checkpoint(&mut attempts[i], &place.path(&format!("of-{i}"))).unwrap());
    let names =
        files.each_ref().map(|files| files.iter().map(|f| f.name.clone()).filter(|n| n.ends_with(".sst")).collect::<Vec<_>>());
    assert_eq!(names[0], names[1], "their files have the same names");
    let of_all: Vec<_> = [&files[0], &files[1], &second].map(|files| ids(files)).into();
    for (i, one) in of_all.iter().enumerate() {
        for other in &of_all[i + 1..] {
            let common: BTreeSet<_> = one.intersection(other).cloned().collect();
            assert_eq!(common, ids(&first), "what they have in common is what they began with");
        }
    }
    // An attempt that goes on from one of theirs knows all ancestors.
    let next = checkpoint(&mut place.open_copy("of-0", "next"), &place.path("3")).unwrap();
    assert_eq!(ids(&next), of_all[0]);
}

/// Only the groups of the range are left, whether the others lie in write buffers, in young files or in old ones, and also at both ends of all
/// groups.
#[test]
fn keeps_groups() {
    for (start, end) in [(0, 7), (3, 7), (3, u16::MAX), (0, u16::MAX), (5, 5), (9, 2), (40, 50)] {
        for stage in 0..3 {
            let place = Place::new();
            let mut backend = place.open("a");
            put(&mut backend, &some(0..10, b"1"));
            if stage > 0 {
                backend.database.db.flush().unwrap();
            }
            if stage > 1 {
                backend.database.db.compact_range(None::<&[u8]>, None::<&[u8]>);
            }
            let last = [(at(u16::MAX, u32::MAX, i64::MAX, b"\xff\xff"), &b"last"[..])];
            backend.put(&mut last.into_iter()).unwrap();
            backend.keep_groups(KeyGroupRange { start, end }).unwrap();
            let mut left = some(0..10, b"1");
            left.retain(|(group, ..), _| (start..end).contains(group));
            assert_eq!(entries(&mut backend), left, "{start}..{end} at stage {stage}");
            assert_eq!(backend.get(&[last[0].0], &mut |_, _| panic!("the last of all is not in the range")).ok(), Some(()));
            put(&mut backend, &some(0..10, b"2"));
            assert_eq!(entries(&mut backend), some(0..10, b"2"));
        }
    }
}

/// Files that have only other groups are gone at once.
#[test]
fn deletes_files_of_other_groups() {
    let place = Place::new();
    let mut backend = place.open("a");
    for groups in [0..10, 10..20, 20..30] {
        let mut donor = place.open("donor");
        put(&mut donor, &some(groups, b"1"));
        backend.import(&donor, ALL).unwrap();
    }
    assert_eq!(backend.stats().unwrap().file_count, 3);
    backend.keep_groups(KeyGroupRange { start: 10, end: 20 }).unwrap();
    assert_eq!(backend.stats().unwrap().file_count, 1);
    assert_eq!(entries(&mut backend), some(10..20, b"1"));
}

/// Groups of several databases come together, over what is there; their databases keep them.
#[test]
fn imports() {
    let place = Place::new();
    let (mut a, mut b, mut target) = (place.open("a"), place.open("b"), place.open("target"));
    put(&mut a, &some(0..10, b"a"));
    a.delete_all(KeyGroupRange { start: 4, end: 5 }, 2, None).unwrap();
    put(&mut b, &some(10..20, b"b"));
    put(&mut target, &some(2..6, b"old"));
    let mut expected = entries(&mut target);

    target.import(&a, KeyGroupRange { start: 3, end: 10 }).unwrap();
    target.import(&b, KeyGroupRange { start: 10, end: 12 }).unwrap();
    target.import(&b, KeyGroupRange { start: 30, end: 40 }).unwrap();
    target.import(&b, KeyGroupRange { start: 12, end: 10 }).unwrap();
    expected.extend(entries(&mut a).into_iter().filter(|((group, ..), _)| *group >= 3));
    expected.extend(some(10..12, b"b"));
    assert_eq!(entries(&mut target), expected);
    assert_eq!(entries(&mut b), some(10..20, b"b"));
    assert!(!target.path().join("import").exists());

    checkpoint(&mut target, &place.path("checkpoint")).unwrap();
    assert_eq!(entries(&mut place.open_copy("checkpoint", "copy")), expected);
}

/// However much two databases write and read, they stay within their budget, roughly: by what the cache itself says.
#[test]
fn shares_a_budget() {
    const BUDGET: usize = 8 << 20;
    let place = Place { dir: tempfile::tempdir().unwrap(), memory: RocksMemory::new(BUDGET) };
    let mut backends = [place.open("a"), place.open("b")];
    let value = [7; 1000];
    let mut most = 0;
    for round in 0..40u64 {
        for backend in &mut backends {
            let names: Vec<_> = (0..500).map(|i| (round * 500 + i).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()).collect();
            let keys: Vec<_> = names.iter().map(|name| at(u16::from(name[0]), 0, 0, name)).collect();
            backend.put(&mut keys.iter().map(|key| (*key, &value[..]))).unwrap();
            let mut found = 0;
            backend.get(&keys, &mut |_, _| found += 1).unwrap();
            assert_eq!(found, keys.len());
            most = most.max(place.memory.used_bytes());
        }
    }
    assert!(backends.iter().all(|b| b.stats().unwrap().file_count > 0), "there was more than write buffers hold");
    assert!(most > BUDGET / 4, "the budget is used: {most}");
    assert!(most <= BUDGET + BUDGET / 4, "and kept, roughly: {most}");
    drop(backends);
    assert!(place.memory.used_bytes() <= BUDGET && place.memory.write_buffer_bytes() == 0, "{:?}", place.memory);
}

/// Figures grow with what is written.
#[test]
fn tells_figures() {
    let place = Place::new();
    let mut backend = place.open("a");
    put(&mut backend, &some(0..100, &[1; 100]));
    let buffered = backend.stats().unwrap();
    assert!(buffered.write_buffer_bytes >= 100 * 20 * 100 && buffered.file_count == 0, "{buffered:?}");
    assert!(backend.bytes() >= 100 * 20 * 100);
    backend.keep().unwrap();
    let flushed = backend.stats().unwrap();
    assert!(flushed.file_count == 1 && flushed.file_bytes > 0 && flushed.live_bytes > 0, "{flushed:?}");
    assert!(flushed.write_buffer_bytes < buffered.write_buffer_bytes, "{flushed:?}");
}

/// Errors name the directory and what to do, and harm nothing that is there.
#[test]
fn errors_say_what_to_do() {
    let place = Place::new();
    let mut live = place.open("live");
    put(&mut live, &some(0..3, b"1"));
    let check = |error: Error, name: &str, says: &str| {
        let text = error.to_string();
        assert!(text.contains(&*place.path(name).to_string_lossy()) && text.contains(says), "{text}");
    };
    check(RocksBackend::open_from(&place.path("live"), &place.memory).unwrap_err(), "live", "in use");
    check(RocksBackend::open_from(&place.path("absent"), &place.memory).unwrap_err(), "absent", "damaged");
    assert!(!place.path("absent").exists());
    checkpoint(&mut live, &place.path("1")).unwrap();
    check(checkpoint(&mut live, &place.path("1")).unwrap_err(), "1", "exists");
    check(RocksBackend::open(&place.path("1"), &place.memory).unwrap_err(), "1", "exists");
    assert_eq!(entries(&mut place.open_copy("1", "copy")), some(0..3, b"1"));

    for file in checkpoint::list(&place.path("1")).unwrap() {
        let is_needed = ["CURRENT", "MANIFEST", ".sst"].iter().any(|part| file.name.contains(part));
        if is_needed {
            let name = format!("without-{}", file.name);
            copy_checkpoint(&place.path("1"), &place.path(&name)).unwrap();
            fs::remove_file(place.path(&name).join(&file.name)).unwrap();
            check(RocksBackend::open_from(&place.path(&name), &place.memory).unwrap_err(), &name, "damaged");
        }
    }
    assert_eq!(entries(&mut live), some(0..3, b"1"));
}

#[derive(Clone, Debug)]
enum Call {
    Put(Vec<((u16, u32, i64, Vec<u8>), Vec<u8>)>),
    Get(Vec<(u16, u32, i64, Vec<u8>)>),
    Delete(Vec<(u16, u32, i64, Vec<u8>)>),
    Scan(u16, u16, u32, Option<i64>),
    DeleteAll(u16, u16, u32, Option<i64>),
    Flush,
    Restart,
    /// a checkpoint begins, or comes to its end
    Begin,
    Complete,
}

fn key() -> impl Strategy<Value = (u16, u32, i64, Vec<u8>)> {
    (
        0..4u16,
        0..3u32,
        prop_oneof![-2..3i64, Just(i64::MIN), Just(i64::MAX)],
        prop::collection::vec(prop_oneof![Just(0), Just(255u8)], 0..3),
    )
}

fn call() -> impl Strategy<Value = Call> {
    let value = prop::collection::vec(any::<u8>(), 0..4);
    let namespace = || prop::option::of(prop_oneof![-2..3i64, Just(i64::MIN), Just(i64::MAX)]);
    prop_oneof![
        8 => prop::collection::vec((key(), value), 0..40).prop_map(Call::Put),
        4 => prop::collection::vec(key(), 0..20).prop_map(Call::Get),
        4 => prop::collection::vec(key(), 0..20).prop_map(Call::Delete),
        4 => (0..5u16, 0..5u16, 0..3u32, namespace()).prop_map(|(s, e, o, n)| Call::Scan(s, e, o, n)),
        3 => (0..5u16, 0..5u16, 0..3u32, namespace()).prop_map(|(s, e, o, n)| Call::DeleteAll(s, e, o, n)),
        1 => Just(Call::Flush),
        1 => Just(Call::Restart),
        2 => Just(Call::Begin),
        1 => Just(Call::Complete),
    ]
}

/// What a call answers.
fn answer(backend: &mut dyn StateBackend, call: &Call) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut answers = vec![];
    let groups = |start: &u16, end: &u16| KeyGroupRange { start: *start, end: *end };
    fn name((g, o, n, k): &(u16, u32, i64, Vec<u8>)) -> StateKey<'_> {
        at(*g, *o, *n, k)
    }
    match call {
        Call::Put(entries) => backend.put(&mut entries.iter().map(|(k, v)| (name(k), &v[..]))).unwrap(),
        Call::Get(keys) => {
            let keys: Vec<_> = keys.iter().map(name).collect();
            backend.get(&keys, &mut |i, v| answers.push((vec![i as u8], v.to_vec()))).unwrap();
        }
        Call::Delete(keys) => backend.delete(&keys.iter().map(name).collect::<Vec<_>>()).unwrap(),
        Call::Scan(start, end, operator, namespace) => {
            let mut each = |k: StateKey<'_>, v: &[u8]| {
                let mut bytes = vec![];
                encoding::encode(&k, &mut bytes);
                answers.push((bytes, v.to_vec()));
            };
            backend.scan(groups(start, end), *operator, *namespace, &mut each).unwrap();
        }
        Call::DeleteAll(start, end, operator, namespace) => {
            backend.delete_all(groups(start, end), *operator, *namespace).unwrap()
        }
        Call::Flush | Call::Restart | Call::Begin | Call::Complete => {}
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is called in whatever order, a database answers as the backend in memory, and both have the entries of a plain map, also after the
    /// database was opened anew from a checkpoint.
    #[test]
    fn agrees_with_memory(calls in prop::collection::vec(call(), 0..60)) {
        let place = Place::new();
        let (mut rocks, mut memory, mut model) = (place.open("start"), MemoryBackend::default(), Entries::new());
        // A checkpoint that is being made, and what it has to have.
        let mut lent: Option<(Checkpointing, Entries)> = None;
        for (number, call) in calls.iter().enumerate() {
            let waits = match call {
                Call::Scan(..) | Call::DeleteAll(..) => rocks.holds_any(),
                Call::Restart | Call::Begin | Call::Complete => true,
                _ => false,
            };
            if waits && let Some((checkpointing, expected)) = lent.take() {
                let name = format!("lent-{number}");
                checkpointing.complete(0, crate::Entries::default(), &place.path(&name)).unwrap();
                let mut copy = place.open_copy(&name, &format!("{name}-copy"));
                prop_assert_eq!(&entries(&mut copy), &expected);
            }
            match call {
                Call::Begin => lent = rocks.begin_checkpoint().unwrap().map(|checkpointing| (checkpointing, model.clone())),
                Call::Put(entries) => model.extend(entries.iter().cloned()),
                Call::Delete(keys) => keys.iter().for_each(|key| _ = model.remove(key)),
                Call::DeleteAll(start, end, operator, namespace) => model.retain(|(g, o, n, _), _| {
                    !((*start..*end).contains(g) && o == operator && namespace.is_none_or(|namespace| namespace == *n))
                }),
                Call::Flush => rocks.database.db.flush().unwrap(),
                Call::Restart => {
                    let name = format!("checkpoint-{number}");
                    checkpoint(&mut rocks, &place.path(&name)).unwrap();
                    rocks = place.open_copy(&name, &number.to_string());
                }
                Call::Get(_) | Call::Scan(..) | Call::Complete => {}
            }
            prop_assert_eq!(answer(&mut rocks, call), answer(&mut memory, call));
        }
        drop(lent.map(|(checkpointing, _)| checkpointing.complete(0, crate::Entries::default(), &place.path("end")).unwrap()));
        prop_assert_eq!(&entries(&mut rocks), &model);
        prop_assert_eq!(&entries(&mut memory), &model);
    }
}

/// The keys of one operator and namespace are read on another thread, in parts, while entries come and go: those that stay are among them, once each.
#[test]
fn keys_are_read_beside() {
    let place = Place::new();
    let mut backend = place.open("database");
    let key = |n: u32| n.to_be_bytes().to_vec();
    let all: Entries = (0..30_000u32)
        .flat_map(|n| {
            [(0, 7), (1, 7), (0, 8)].map(|(operator, namespace)| (((n % 50) as u16, operator, namespace, key(n)), vec![1]))
        })
        .collect();
    put(&mut backend, &all);
    let groups = KeyGroupRange { start: 10, end: 40 };
    let scan = backend.keys(groups, 0, 7).expect("a database can be read");
    let reader = std::thread::spawn(move || {
        let (mut keys, mut parts) = (vec![], 0);
        scan.for_each_part(|part| {
            keys.extend(part.iter().map(|key| u32::from_be_bytes((*key).try_into().unwrap())));
            parts += 1;
            true
        })
        .unwrap();
        (keys, parts)
    });
    for n in (0..30_000).step_by(3) {
        let name = key(n);
        backend.delete(&[at((n % 50) as u16, 0, 7, &name)]).unwrap();
    }
    let (mut keys, parts) = reader.join().unwrap();
    assert!(parts > 2);
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count, "each comes once");
    let is_of_group = |n: &u32| (10..40).contains(&(n % 50));
    assert!(keys.iter().all(is_of_group));
    assert!((0..30_000).filter(is_of_group).filter(|n| n % 3 > 0).all(|n| keys.binary_search(&n).is_ok()));

    let mut parts = 0;
    let stops = |_: &[&[u8]]| {
        parts += 1;
        false
    };
    backend.keys(groups, 0, 7).unwrap().for_each_part(stops).unwrap();
    assert_eq!(parts, 1, "it ends when it is told to");
}

/// How many entries there are in the files, shown or not.
fn stored(backend: &RocksBackend) -> usize {
    let mut entries = backend.database.db.raw_iterator();
    entries.seek_to_first();
    let mut count = 0;
    while entries.valid() {
        count += 1;
        entries.next();
    }
    count
}

fn compact(backend: &RocksBackend) {
    backend.database.db.flush().unwrap();
    backend.database.db.compact_range(None::<&[u8]>, None::<&[u8]>);
}

/// An entry for each number, which is when it expires.
fn expiring(numbers: std::ops::Range<i64>) -> Entries {
    let value = |last| {
        let mut value = vec![];
        expiry::encode(Some(Expiry { domain: TimeDomain::Event, first: last, last }), &mut value);
        value
    };
    numbers.map(|n| (((n % 5) as u16, 0, 0, n.to_be_bytes().to_vec()), value(n))).collect()
}

/// What has expired is not shown, whether or not it was dropped, and compactions drop it: of the operator whose values may expire, and nobody else's. What is
/// older than it does not come back. Its keys are not read any more.
#[test]
fn compactions_drop_what_has_expired() {
    let place = Place::new();
    let mut backend = place.open("database");
    put(&mut backend, &expiring(0..1000).into_keys().map(|key| (key, vec![0])).collect());
    compact(&backend);
    put(&mut backend, &expiring(0..1000));
    let others: Entries = expiring(0..10).into_iter().map(|((group, _, n, key), value)| ((group, 1, n, key), value)).collect();
    put(&mut backend, &others);
    compact(&backend);
    assert_eq!(stored(&backend), 1010);
    backend.expire(0, Clocks { event: 599, processing: 0 });
    let mut left = expiring(600..1000);
    left.extend(others);
    assert_eq!((entries(&mut backend), stored(&backend)), (left.clone(), 1010));
    compact(&backend);
    assert_eq!((entries(&mut backend), stored(&backend)), (left, 410));
    let mut keys = 0;
    backend.expire(0, Clocks { event: 899, processing: 0 });
    let count = |part: &[&[u8]]| {
        keys += part.len();
        true
    };
    backend.keys(KeyGroupRange { start: 0, end: 5 }, 0, 0).unwrap().for_each_part(count).unwrap();
    assert_eq!(keys, 100);
}

/// A checkpoint has what had not expired at its barrier, whatever time has come to while it is made, and whatever is compacted meanwhile.
#[test]
fn checkpoints_have_what_expires_later() {
    let place = Place::new();
    let mut backend = place.open("database");
    put(&mut backend, &expiring(0..1000));
    backend.expire(0, Clocks { event: 299, processing: 0 });
    let checkpointing = backend.begin_checkpoint().unwrap().unwrap();
    backend.expire(0, Clocks { event: 699, processing: 0 });
    compact(&backend);
    assert_eq!((entries(&mut backend).len(), stored(&backend)), (300, 700));
    checkpointing.complete(0, crate::Entries::default(), &place.path("checkpoint")).unwrap();
    backend.expire(0, Clocks { event: 799, processing: 0 });
    compact(&backend);
    assert_eq!((entries(&mut backend).len(), stored(&backend)), (200, 200));
    let mut copy = place.open_copy("checkpoint", "copy");
    copy.expire(0, Clocks { event: 299, processing: 0 });
    assert_eq!(entries(&mut copy), expiring(300..1000));
}
