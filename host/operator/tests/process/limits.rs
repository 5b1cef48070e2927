//! What is bounded: memory, the rows of a step, and timers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weir_operator::snapshot::read_database;
use weir_operator::{Error, Predecessor, Snapshot};
use weir_state::rocks::KeyScan;
use weir_state::{Checkpointing, Clocks, Entries, StateBackend, StateKey};
use weir_types::KeyGroupRange;

use crate::disk::Disk;
use crate::harness::{MAX_PARALLELISM, Op, Operator, Row};
use crate::native::{Counts, Rearm};

fn rows(keys: std::ops::Range<i64>, op: Op, time: i64) -> Vec<Row> {
    keys.map(|key| (key, op, time)).collect()
}

/// A limit in bytes follows what slots weigh: states of 100 KB are taken for no less.
#[test]
fn bytes_are_weighed() {
    let mut operator = Operator::new(Counts { ballast: 100_000, ..Counts::default() }, None, Some(2_000_000));
    for from in (0..400).step_by(10) {
        operator.rows(&rows(from..from + 10, Op::Count, 0));
    }
    assert!(operator.chain.slots() <= 20, "{} slots of 100 KB", operator.chain.slots());
    operator.take();
    operator.rows(&rows(0..400, Op::Count, 0));
    assert!(operator.take().iter().all(|(_, count, _)| *count == 2), "every count came back");
}

/// Keys whose state is empty again, and without timers, leave nothing behind when they are evicted; with a timer, the timer.
#[test]
fn empty_states_are_forgotten() {
    let mut operator = Operator::new(Counts::default(), Some(10), None);
    operator.rows(&rows(0..50, Op::Set, 5));
    operator.rows(&rows(0..50, Op::Forget, 0));
    operator.rows(&rows(50..100, Op::Forget, 0));
    operator.take();
    operator.watermark(9).expect("the timers end");
    assert_eq!(operator.take(), (0..50).map(|key| (key, 0, 5)).collect::<Vec<_>>());
    operator.rows(&rows(0..100, Op::Count, 0));
    assert!(operator.take().iter().all(|(_, count, _)| *count == 1));
}

/// Where keys usually have no state any more once their last timer has fired, they are forgotten then, without any limit; those that have state or
/// timers stay.
#[test]
fn keys_that_are_done_with_are_forgotten() {
    let mut operator = Operator::new(Counts::default(), None, None);
    operator.rows(&rows(0..3000, Op::Count, 0));
    operator.rows(&rows(1000..3000, Op::Forget, 0));
    for time in [5, 10] {
        operator.rows(&rows(2000..3000, Op::Set, time));
        operator.rows(&rows(2000..3000, Op::Forget, 0));
        operator.take();
        operator.watermark(time).expect("the timers end");
        assert_eq!(operator.take(), (2000..3000).map(|key| (key, 0, time)).collect::<Vec<_>>());
    }
    assert_eq!(operator.chain.slots(), 2000);
    operator.rows(&rows(0..3000, Op::Set, 20));
    operator.rows(&rows(1000..3000, Op::Forget, 0));
    operator.rows(&rows(1500..3000, Op::Set, 30));
    operator.rows(&rows(1500..3000, Op::Forget, 0));
    operator.watermark(20).expect("the timers end");
    assert_eq!(operator.chain.slots(), 2500);
    operator.take();
    operator.rows(&rows(0..3000, Op::Count, 0));
    assert_eq!(operator.take(), (0..3000).map(|key| (key, if key < 1000 { 3 } else { 1 }, i64::MIN)).collect::<Vec<_>>());
}

/// Keys that a cleanup leaves without state are forgotten, each of them, though other keys have shown that it does not pay to look: they are neither in the
/// guest nor in the backend, and so not in a snapshot.
#[test]
fn cleanups_leave_nothing_behind() {
    for slots_max in [None, Some(100)] {
        let mut operator = Operator::new(Counts::default(), slots_max, None);
        for time in 1..5 {
            operator.rows(&rows(0..50, Op::Set, time));
            operator.watermark(time).expect("the timers end");
        }
        for from in (1000..9000).step_by(1000) {
            operator.rows(&rows(from..from + 1000, Op::SetCleanup, 10));
        }
        assert_eq!(operator.snapshot().entries.len(), 50 + 2 * 8000, "states, and a cleanup of each");
        operator.take();
        assert!(operator.watermark(10).expect("cleanups end") > 1, "they come in steps");
        assert_eq!(operator.take(), [], "a cleanup is no timer");
        assert!(operator.chain.slots() <= 50, "{} keys are left", operator.chain.slots());
        assert_eq!(operator.snapshot().entries.len(), 50);
    }
}

/// An instance whose memory grows with every row is replaced now and then, in pieces; nothing of its keys and of the operator's own state is lost.
#[test]
fn renewal_keeps_all_state() {
    let counts = Counts { ballast: 10_000, leak: 40_000, memory_max: 100_000_000, ..Counts::default() };
    let mut operator = Operator::new(counts, None, None);
    operator.broadcast(1000);
    for round in 1..=10 {
        operator.rows(&rows(0..2000, Op::Count, 0));
        let expected: Vec<_> = (0..2000).map(|key| (key, round + 1000, i64::MIN)).collect();
        assert_eq!(operator.take(), expected);
    }
    let renewals = operator.chain.body().expect("there is one").renewals();
    assert!((5..=12).contains(&renewals), "{renewals} renewals");
}

/// Live state that nears the limit of memory is not moved again and again; where it may be evicted, it is.
#[test]
fn renewal_that_does_not_help_is_not_repeated() {
    let full = || Counts { ballast: 10_000, memory_max: 10_000_000, ..Counts::default() };
    let mut operator = Operator::new(full(), None, None);
    let renewals = |operator: &Operator| operator.chain.body().expect("there is one").renewals();
    for _ in 0..20 {
        operator.rows(&rows(0..900, Op::Count, 0));
    }
    assert_eq!(renewals(&operator), 1);
    assert_eq!(operator.chain.slots(), 900);

    let mut operator = Operator::new(full(), Some(1_000_000), None);
    for from in (0..9000).step_by(100) {
        operator.rows(&rows(from..from + 100, Op::Count, 0));
        assert!(operator.chain.slots() < 1000, "{} slots of 10 KB in 10 MB", operator.chain.slots());
    }
}

/// A watermark that fires very many timers does it in steps.
#[test]
fn timers_fire_in_steps() {
    let mut operator = Operator::new(Counts::default(), None, None);
    operator.rows(&rows(0..20_000, Op::Set, 5));
    operator.take();
    assert!(operator.watermark(9).expect("the timers end") > 3);
    assert_eq!(operator.take().len(), 20_000);
}

/// A timer may set another one as often as time gets on, even over a long gap.
#[test]
fn periodic_timers_catch_up() {
    let mut operator = Operator::new(Counts { rearm: Rearm { multiple_of: 1, by: 1 }, ..Counts::default() }, None, None);
    operator.rows(&rows(0..2, Op::Set, 0));
    operator.take();
    operator.watermark(50_000).expect("time gets on");
    assert_eq!(operator.take().len(), 2 * 50_001);
}

/// A timer that sets itself again without time getting on, or without end at the end of the input, is an error that names the operator.
#[test]
fn endless_timers_end() {
    for (by, until) in [(0, 9), (-1, 9), (1, i64::MAX), (0, i64::MAX)] {
        let mut operator = Operator::new(Counts { rearm: Rearm { multiple_of: 1, by }, ..Counts::default() }, None, None);
        operator.rows(&rows(0..3, Op::Set, 5));
        let error = operator.watermark(until).expect_err("the timers never end");
        assert!(matches!(error, Error::EndlessTimer { .. }) && error.to_string().contains("\"counts\""), "{error}");
    }
}

/// A backend that counts the entries that are written to it, and those that it is asked for.
struct Counted {
    backend: Box<dyn StateBackend>,
    written: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Counted {
    fn new(backend: Box<dyn StateBackend>) -> Self {
        Self { backend, written: Arc::default(), asked: Arc::default() }
    }
}

impl StateBackend for Counted {
    fn put(&mut self, entries: &mut dyn Iterator<Item = (StateKey<'_>, &[u8])>) -> Result<(), weir_state::Error> {
        self.backend.put(&mut entries.inspect(|_| _ = self.written.fetch_add(1, Ordering::Relaxed)))
    }
    fn get(&mut self, keys: &[StateKey<'_>], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), weir_state::Error> {
        self.asked.fetch_add(keys.len(), Ordering::Relaxed);
        self.backend.get(keys, found)
    }
    fn keys(&self, groups: KeyGroupRange, operator: u32, namespace: i64) -> Option<KeyScan> {
        self.backend.keys(groups, operator, namespace)
    }
    fn delete(&mut self, keys: &[StateKey<'_>]) -> Result<(), weir_state::Error> {
        self.backend.delete(keys)
    }
    fn scan(
        &mut self,
        groups: KeyGroupRange,
        operator: u32,
        namespace: Option<i64>,
        each: &mut dyn FnMut(StateKey<'_>, &[u8]),
    ) -> Result<(), weir_state::Error> {
        self.backend.scan(groups, operator, namespace, each)
    }
    fn delete_all(&mut self, groups: KeyGroupRange, operator: u32, namespace: Option<i64>) -> Result<(), weir_state::Error> {
        self.backend.delete_all(groups, operator, namespace)
    }
    fn expire(&mut self, operator: u32, clocks: Clocks) {
        self.backend.expire(operator, clocks);
    }
    fn bytes(&self) -> usize {
        self.backend.bytes()
    }
    fn keeps_copies(&self) -> bool {
        self.backend.keeps_copies()
    }
    fn has_changes(&self) -> Result<bool, weir_state::Error> {
        self.backend.has_changes()
    }
    fn begin_checkpoint(&mut self) -> Result<Option<Checkpointing>, weir_state::Error> {
        self.backend.begin_checkpoint()
    }
}

/// What a barrier has had written, and what has not changed since, is not written again when it is evicted: from when the database has it, not before.
#[test]
fn what_is_on_disk_is_not_written_again() {
    let disk = Disk::new();
    let backend = Counted::new(disk.open());
    let written = Arc::clone(&backend.written);
    let mut operator = Operator::on(Box::new(backend), Counts::default(), Some(100), None);
    let since = || written.swap(0, Ordering::Relaxed);
    operator.rows(&rows(0..100, Op::Count, 0));
    disk.write(operator.snapshot().changes.expect("its state is on disk"));
    assert_eq!(since(), 0, "a barrier writes beside the backend's owner");
    operator.rows(&rows(100..200, Op::Count, 0));
    assert_eq!((since(), operator.chain.slots()), (12, 88), "the first hundred were there, and of the others some had to go");

    let changes = operator.snapshot().changes.expect("its state is on disk");
    operator.rows(&rows(200..300, Op::Count, 0));
    assert_eq!(since(), 100, "the changes of the barrier are not written yet");
    disk.write(changes);
    operator.take();
    operator.rows(&rows(0..300, Op::Count, 0));
    assert_eq!(operator.take(), (0..300).map(|key| (key, 2, i64::MIN)).collect::<Vec<_>>());
}

/// After a restore the keys that the database has are read once, beside the operator; from then on new keys are not looked for in it, and those that are there are
/// found as before.
#[test]
fn restored_keys_are_learned() {
    const KEYS: i64 = 20_000;
    let disk = Disk::new();
    let mut operator = Operator::on(disk.open(), Counts::default(), None, None);
    operator.rows(&rows(0..KEYS, Op::Count, 0));
    let snapshot = operator.snapshot();
    let all = KeyGroupRange { start: 0, end: MAX_PARALLELISM };
    let (dir, _) = disk.write(snapshot.changes.expect("its state is on disk"));
    let backend = Counted::new(disk.open_from(&[(all, dir)], all));
    let asked = Arc::clone(&backend.asked);
    let mut operator = Operator::on(Box::new(backend), Counts::default(), Some(1000), None);
    let predecessor = Predecessor { groups: all, scalars: &snapshot.scalars };
    operator.chain.begin_restore(&[predecessor], &operator.context).expect("it is of counts");
    operator.chain.restore_database(&snapshot.scalars, &operator.context).expect("it is a database of counts");
    operator.chain.finish_restore().expect("it is whole");

    let mut new = KEYS..;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut asks = |operator: &mut Operator, keys: usize| {
        asked.store(0, Ordering::Relaxed);
        operator.rows(&new.by_ref().take(keys).map(|key| (key, Op::Count, 0)).collect::<Vec<_>>());
        asked.load(Ordering::Relaxed)
    };
    while asks(&mut operator, 1) > 0 {
        assert!(Instant::now() < deadline, "the keys are read at some time");
        std::thread::sleep(Duration::from_millis(1));
    }
    let in_vain = asks(&mut operator, 10_000);
    assert!(in_vain < 200, "of 10,000 new keys {in_vain} were looked for");
    operator.take();
    for count in 2..4 {
        for first in (0..KEYS).step_by(500) {
            operator.rows(&rows(first..first + 500, Op::Count, 0));
        }
        assert!(
            operator.take() == (0..KEYS).map(|key| (key, count, i64::MIN)).collect::<Vec<_>>(),
            "they come and go, count {count}"
        );
    }
}

/// Evicted keys whose state expires leave nothing behind: no timers meanwhile, no reads and no writes once it has, and what is known of them is forgotten as new
/// ones come. One that comes back in time is as it was.
#[test]
fn what_expires_on_disk_costs_nothing_more() {
    const KEYS: i64 = 700_000;
    let disk = Disk::new();
    let backend = Counted::new(disk.open());
    let (written, asked) = (Arc::clone(&backend.written), Arc::clone(&backend.asked));
    let mut operator = Operator::on(Box::new(backend), Counts::default(), Some(1000), None);
    let live = |keys: std::ops::Range<i64>| keys.map(|key| (key, Op::Live, key + 10_000)).collect::<Vec<Row>>();
    for first in (0..KEYS).step_by(1000) {
        operator.rows(&live(first..first + 1000));
        operator.watermark(first).expect("the timers end");
        operator.take();
    }
    let (written, asked) = (written.load(Ordering::Relaxed) as i64, asked.load(Ordering::Relaxed) as i64);
    assert!((KEYS - 1000..=KEYS).contains(&written), "{written} writes: each key is written once, and no timer");
    assert!(asked < KEYS / 50, "{asked} of {KEYS} new keys were looked for");

    operator.rows(&live(KEYS - 2000..KEYS - 1000));
    assert!(operator.take().iter().all(|(_, count, _)| *count == 2), "they are still there");
    operator.rows(&live(0..1000));
    assert!(operator.take().iter().all(|(_, count, _)| *count == 1), "they are gone");
    let deadline = Instant::now() + Duration::from_secs(60);
    let known = loop {
        let snapshot = operator.snapshot();
        disk.write(snapshot.changes.expect("its state is on disk"));
        let known = snapshot.scalars["entries"][0][1].as_i64().expect("a number");
        operator.rows(&[(0, Op::Count, 0)]);
        if known < KEYS / 2 || Instant::now() > deadline {
            break known;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(known < KEYS / 2, "{known} keys are taken for evicted ones");
}

/// A key that comes back has lost what expired while it was away, before anything else happens to it; what is left of it expires in its time.
#[test]
fn comes_back_without_what_has_expired() {
    let disk = Disk::new();
    for backend in [disk.open(), Box::new(weir_state::MemoryBackend::default())] {
        let mut operator = Operator::on(backend, Counts::default(), Some(1), None);
        let mut count = |watermark: i64, op, time| {
            operator.watermark(watermark).expect("the timers end");
            operator.rows(&[(1, op, time)]);
            // Another key takes its slot.
            operator.rows(&[(2, Op::Forget, 0)]);
            operator.take()[0].1
        };
        assert_eq!(count(0, Op::Live, 10), 1);
        assert_eq!(count(5, Op::Live, 30), 2);
        assert_eq!(count(15, Op::Count, 0), 2, "of two, one has expired");
        assert_eq!(count(16, Op::Count, 0), 3, "it expires once");
        assert_eq!(count(40, Op::Count, 0), 1, "all of it has expired");
    }
}

/// A timer that is due with a cleanup, and before it in time, finds what had not expired by then, also where its key was evicted.
#[test]
fn timers_find_what_had_not_expired() {
    let disk = Disk::new();
    for slots_max in [None, Some(1)] {
        let mut operator = Operator::on(disk.open(), Counts::default(), slots_max, None);
        operator.rows(&[(1, Op::Live, 3), (1, Op::Count, 0), (1, Op::Live, 61), (1, Op::Set, 50)]);
        operator.rows(&[(2, Op::Forget, 0)]);
        operator.watermark(5).expect("the timers end");
        operator.take();
        operator.watermark(100).expect("the timers end");
        assert_eq!(operator.take(), [(1, 3, 50)], "of four, one has expired");
        operator.rows(&[(1, Op::Count, 0)]);
        assert_eq!(operator.take(), [(1, 1, i64::MIN)], "all of it has expired");
    }
}

/// State of which another version of the code has said when it expires stays until this one has cleaned it up, whatever it thinks of it; in a database and
/// where it comes from one.
#[test]
fn other_code_is_asked_again() {
    let disk = Disk::new();
    let mut old = Operator::on(disk.open(), Counts::default(), Some(1), None);
    for key in 1..100 {
        old.rows(&[(key, Op::Live, 11), (key, Op::Live, 31)]);
    }
    old.watermark(5).expect("the timers end");
    let mut snapshot = old.snapshot();
    let all = KeyGroupRange { start: 0, end: MAX_PARALLELISM };
    let (dir, beside) = disk.write(snapshot.changes.take().expect("its state is on disk"));
    snapshot.entries.append(beside);
    for (code, in_database) in [("", true), ("other", true), ("other", false), ("", false)] {
        let mut snapshot = Snapshot { entries: snapshot.entries.clone(), scalars: snapshot.scalars.clone(), ..empty() };
        snapshot.scalars["expiry"]["code"] = code.into();
        let mut database = disk.open_from(&[(all, dir.clone())], all);
        let mut new = if in_database {
            let mut new = Operator::on(database, Counts::default(), Some(1), None);
            new.chain.restore_database(&snapshot.scalars, &new.context).expect("it is a database of counts");
            new
        } else {
            read_database(&mut *database, &snapshot.scalars, all, &mut snapshot.entries).expect("it has entries");
            Operator::new(Counts::default(), Some(1), None)
        };
        new.restore(&[snapshot], all).expect("it is of counts");
        let mut snapshot = new.snapshot();
        if let Some(changes) = snapshot.changes.take() {
            let (dir, mut entries) = disk.write(changes);
            read_database(&mut *disk.open_from(&[(all, dir)], all), &snapshot.scalars, all, &mut entries)
                .expect("it has entries");
            snapshot.entries.append(entries);
        }
        let cleanups = snapshot.entries.iter().filter(|entry| entry.key[0] == 3).count();
        assert_eq!(cleanups > 90, code == "other" || !in_database, "{code:?}, {cleanups} timers");
        new.watermark(12).expect("the timers end");
        for key in 1..100 {
            new.rows(&[(key, Op::Count, 0)]);
        }
        assert!(new.take().iter().all(|(_, count, _)| *count == 2), "of two one has expired, and there is one more");
        new.watermark(40).expect("the timers end");
        new.rows(&[(7, Op::Count, 0)]);
        assert_eq!(new.take(), [(7, 1, i64::MIN)]);
    }
}

fn empty() -> Snapshot {
    Snapshot { entries: Entries::default(), changes: None, operator_state: None, scalars: serde_json::Value::Null }
}
