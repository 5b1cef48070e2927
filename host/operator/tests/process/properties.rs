//! Random rows, timers and times, with and without a limit, compared with a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use proptest::prelude::*;
use weir_operator::CopyTime;
use weir_types::EventTime;

use crate::disk::Disk;
use crate::harness::{Contents, Op, Operator, Result, Row, Start, Subtasks};
use crate::native::{Counts, Rearm};

#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<(i64, Op, i64)>),
    Watermark(i64),
    Clock(i64),
    /// rows of the broadcast input
    Broadcast(usize),
    /// a barrier comes
    Barrier,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0..30i64, prop::sample::select(&Op::ALL[..]), -5..20i64);
    let step = prop_oneof![
        4 => prop::collection::vec(row, 0..12).prop_map(Step::Rows),
        2 => (1..12i64).prop_map(Step::Watermark),
        1 => (1..12i64).prop_map(Step::Clock),
        1 => (1..4usize).prop_map(Step::Broadcast),
        1 => Just(Step::Barrier),
    ];
    prop::collection::vec(step, 0..60)
}

/// Counts and timers of each key.
#[derive(Default)]
struct Model {
    counts: BTreeMap<i64, i64>,
    timers: BTreeSet<(EventTime, i64)>,
    clock_timers: BTreeSet<(EventTime, i64)>,
    cleanups: BTreeSet<(EventTime, i64)>,
    /// of counts that end: when some of them has expired next, and when all
    lives: BTreeMap<i64, (EventTime, EventTime)>,
    broadcast: i64,
    results: Vec<Result>,
}

impl Model {
    fn row(&mut self, (key, op, time): Row) {
        let count = self.counts.entry(key).or_default();
        *count += 1;
        self.results.push((key, *count + self.broadcast, EventTime::MIN));
        match op {
            Op::Count => {}
            Op::Forget => {
                *count = 0;
                self.lives.remove(&key);
            }
            Op::Set => _ = self.timers.insert((time, key)),
            Op::Delete => _ = self.timers.remove(&(time, key)),
            Op::SetClock => _ = self.clock_timers.insert((time, key)),
            Op::SetCleanup => _ = self.cleanups.insert((Op::cleans_up_at(time), key)),
            Op::Live => {
                let until = Op::lives_until(time);
                let (_, end) = self.lives.entry(key).or_insert((until, until));
                *end = until.max(*end);
            }
        }
    }

    fn fire(counts: &BTreeMap<i64, i64>, timers: &mut BTreeSet<(EventTime, i64)>, rearm: Rearm, until: i64) -> Vec<Result> {
        let mut results = vec![];
        while let Some(&(time, key)) = timers.first().filter(|(time, _)| *time <= until) {
            timers.pop_first();
            results.push((key, counts[&key], time));
            timers.extend(rearm.next(time).map(|next| (next, key)));
        }
        results
    }

    /// Cleanups come after all timers, and emit nothing.
    fn clean_up(&mut self, until: i64) {
        while let Some(&(_, key)) = self.cleanups.first().filter(|(time, _)| *time <= until) {
            self.cleanups.pop_first();
            self.counts.insert(key, 0);
            self.lives.remove(&key);
        }
        for (key, _) in self.lives.extract_if(.., |_, (_, end)| *end <= until) {
            self.counts.insert(key, 0);
        }
        for (key, (next, end)) in self.lives.iter_mut().filter(|(_, (next, _))| *next <= until) {
            let count = self.counts.entry(*key).or_default();
            *count = Op::some_expired(*count as u64) as i64;
            *next = *end;
        }
    }

    /// What a checkpoint is to have.
    fn contents(&self) -> Contents {
        let counts = self.counts.iter().filter(|(_, count)| **count > 0).map(|(&key, &count)| (key, count)).collect();
        let Self { timers, clock_timers, cleanups, .. } = self;
        Contents { counts, timers: [timers.clone(), clock_timers.clone(), cleanups.clone(), BTreeSet::new()] }
    }

    fn take(&mut self) -> Vec<Result> {
        let mut results = std::mem::take(&mut self.results);
        results.sort_unstable();
        results
    }
}

/// Runs the steps through an operator and the model. If there are several starts, the operator is as many subtasks as the first one says, and at each barrier
/// makes room for the next.
fn check(steps: &[Step], starts: &[Start]) -> std::result::Result<(), TestCaseError> {
    check_on(Subtasks::new(rearm(1), starts[0]), steps, starts, 1)
}

fn rearm(scale: i64) -> Rearm {
    Rearm { multiple_of: 3 * scale, by: 4 * scale }
}

fn check_on(mut operator: Subtasks, steps: &[Step], starts: &[Start], scale: i64) -> std::result::Result<(), TestCaseError> {
    let rearm = rearm(scale);
    let mut barriers = 0;
    let mut next_starts = starts.iter().cycle().skip(1);
    let mut slots_max = starts[0].1;
    let mut model = Model::default();
    let (mut watermark, mut now) = (0, 0);
    // What the checkpoint has to have that is being made.
    let mut copied = None;
    let complete = |operator: &mut Subtasks, copied: &mut Option<Contents>| -> std::result::Result<(), TestCaseError> {
        if let (Some(contents), expected) = (operator.complete_checkpoint(), copied.take()) {
            prop_assert_eq!(Some(contents), expected, "a checkpoint has what was at its barrier");
        }
        Ok(())
    };
    for step in steps.iter().chain(&[Step::Watermark(i64::MAX)]) {
        match step {
            Step::Rows(rows) => {
                let rows: Vec<Row> = rows.iter().map(|&(key, op, by)| (key, op, watermark + by * scale)).collect();
                rows.iter().for_each(|&row| model.row(row));
                operator.rows(&rows);
            }
            &Step::Watermark(by) => {
                watermark = if by == i64::MAX { by } else { watermark + by * scale };
                operator.watermark(watermark);
                model.results.extend(Model::fire(&model.counts, &mut model.timers, rearm, watermark));
                model.clean_up(watermark);
            }
            &Step::Clock(by) => {
                now += by * scale;
                operator.copy_on();
                operator.clock(now);
                model.results.extend(Model::fire(&model.counts, &mut model.clock_timers, rearm, now));
            }
            &Step::Broadcast(rows) => {
                operator.broadcast(rows);
                model.broadcast += rows as i64;
            }
            Step::Barrier => {
                barriers += 1;
                complete(&mut operator, &mut copied)?;
                if barriers % 2 == 1 {
                    copied = Some(model.contents());
                    operator.begin_checkpoint();
                }
                let restarts = if operator.is_on_disk() { barriers % 2 == 0 } else { starts.len() > 1 };
                if restarts && let Some(&start) = next_starts.next() {
                    operator.restart(start);
                    slots_max = start.1;
                }
            }
        }
        if let Some(max) = slots_max {
            let slots = operator.all.iter().map(|operator| operator.chain.slots()).max().unwrap_or(0);
            prop_assert!(slots <= max, "{slots} slots are more than {max}");
        }
        prop_assert_eq!(operator.take(), model.take(), "after {:?}", step);
    }
    complete(&mut operator, &mut copied)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * ProptestConfig::default().cases, failure_persistence: None, ..ProptestConfig::default() })]

    /// The operator does what the model does.
    #[test]
    fn agrees_with_the_model(steps in steps()) {
        check(&steps, &[(1, None)])?;
    }

    /// A limit of a few slots changes nothing, and holds.
    #[test]
    fn eviction_changes_nothing(steps in steps(), slots_max in 1..12usize) {
        check(&steps, &[(1, Some(slots_max))])?;
    }

    /// Nor do barriers at which an operator is replaced by others, fewer or more, with and without limits: they go on where it was.
    #[test]
    fn restoring_changes_nothing(
        steps in steps(),
        starts in prop::collection::vec((1..4u16, prop::option::of(1..12usize)), 2..5),
    ) {
        check(&steps, &starts)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(12), failure_persistence: None, ..ProptestConfig::default() })]

    /// Nor does it matter that state is on disk, where barriers write what has changed: every other one is only that, and what it writes is copied while the
    /// operator goes on. Nor that timers are, near together or seconds apart.
    #[test]
    fn state_on_disk_changes_nothing(
        steps in steps(),
        starts in prop::collection::vec((1..4u16, prop::option::of(1..12usize)), 2..5),
        scale in prop_oneof![Just(1), Just(10_000)],
    ) {
        check_on(Subtasks::on_disk(rearm(scale), starts[0]), &steps, &starts, scale)?;
    }
}

/// Many keys in few slots: every count and every timer is there when it is asked for.
#[test]
fn many_keys_in_few_slots() {
    const KEYS: i64 = 20_000;
    let mut operator = Operator::new(Counts::default(), Some(100), None);
    let mut model = Model::default();
    for round in 0..3 {
        for from in (0..KEYS).step_by(1000) {
            // Another order of keys in each round.
            let key = |i: i64| i * (2 * round + 1) % KEYS;
            let rows: Vec<Row> = (from..from + 1000).map(|i| (key(i), Op::Set, round * 100 + key(i) % 250)).collect();
            rows.iter().for_each(|&row| model.row(row));
            operator.rows(&rows);
            assert!(operator.chain.slots() <= 100);
        }
        let watermark = round * 100 + 150;
        operator.watermark(watermark).expect("the timers end");
        model.results.extend(Model::fire(&model.counts, &mut model.timers, Rearm::default(), watermark));
        assert!(operator.take() == model.take(), "round {round}");
    }
    operator.watermark(i64::MAX).expect("the timers end");
    model.results.extend(Model::fire(&model.counts, &mut model.timers, Rearm::default(), i64::MAX));
    assert!(operator.take() == model.take(), "at the end");
}

/// Many slots are copied a piece at a time, while half of them change; and all that is left is copied before the next barrier, or before somebody looks for what
/// was written meanwhile.
#[test]
fn copies_are_of_the_barrier() {
    const KEYS: i64 = 20_000;
    let count_all = |keys: std::ops::Range<i64>| keys.map(|key| (key, Op::Count, 0)).collect::<Vec<Row>>();
    for slots_max in [None, Some(KEYS as usize / 2)] {
        let mut subtasks = Subtasks::on_disk(Rearm::default(), (1, slots_max));
        for round in 1..4 {
            subtasks.rows(&count_all(0..KEYS));
            subtasks.begin_checkpoint();
            assert!(subtasks.all[0].chain.is_copying());
            for first in (0..KEYS / 2).step_by(1000) {
                subtasks.rows(&count_all(first..first + 1000));
                subtasks.copy_on();
            }
            let contents = subtasks.complete_checkpoint().expect("one was begun");
            let expected = |key| if key < KEYS / 2 { 2 * round - 1 } else { round };
            assert!(contents.counts == (0..KEYS).map(|key| (key, expected(key))).collect(), "round {round}");
        }
        subtasks.begin_checkpoint();
        subtasks.rows(&count_all(0..KEYS));
        subtasks.take();
        subtasks.restart((1, slots_max));
        subtasks.rows(&count_all(0..KEYS));
        let expected = |key| (key, if key < KEYS / 2 { 8 } else { 5 }, EventTime::MIN);
        assert!(subtasks.take() == (0..KEYS).map(expected).collect::<Vec<_>>());
    }
}

/// A guest that fails while copies are due has the checkpoint given up, and nobody waits for it for ever.
#[test]
fn copies_that_are_not_made() {
    let disk = Disk::new();
    let mut operator = Operator::on(disk.open(), Counts::default(), None, None);
    operator.rows(&[(1, Op::Count, 0)]);
    let changes = operator.snapshot_at(CopyTime::Later).changes.expect("state is on disk");
    assert!(changes.try_recv().is_err(), "it has not been copied");
    drop(operator);
    assert!(changes.recv().is_err());
}

/// Of many timers a few are near, and the others on disk: a snapshot has those that are near alone beside its database.
#[test]
fn many_timers_are_on_disk() {
    const KEYS: i64 = 5000;
    let disk = Disk::new();
    let mut operator = Operator::on(disk.open(), Counts::default(), Some(100), None);
    let rows: Vec<Row> = (0..KEYS).map(|key| (key, Op::Set, key * 1000)).collect();
    rows.chunks(50).for_each(|rows| operator.rows(rows));
    operator.take();
    let (_, near) = disk.write(operator.snapshot().changes.expect("state is on disk"));
    assert!((1..=100).contains(&near.len()), "{} timers are near", near.len());
    for until in [1_000_000, i64::MAX] {
        operator.watermark(until).expect("the timers end");
        let fired: Vec<_> = operator.take().into_iter().map(|(key, _, time)| (key, time)).collect();
        let due = (0..KEYS).filter(|key| key * 1000 <= until && (key * 1000 > 1_000_000 || until < i64::MAX));
        assert!(fired == due.map(|key| (key, key * 1000)).collect::<Vec<_>>(), "until {until}");
    }
}

/// However many timers are near, a barrier does little more than to note them; it prints how long it takes. What it has noted is in the checkpoint, though all
/// of them fire before they are named.
#[test]
fn barriers_only_note_timers() {
    const KEYS: i64 = 500_000;
    let mut subtasks = Subtasks::on_disk(Rearm::default(), (1, None));
    let rows: Vec<Row> = (0..KEYS).map(|key| (key, Op::Set, key % 60_000)).collect();
    rows.chunks(4096).for_each(|rows| subtasks.rows(rows));
    let start = Instant::now();
    subtasks.begin_checkpoint();
    let noted = start.elapsed();
    println!("noting {KEYS} timers at a barrier takes {} ms", noted.as_millis());
    assert!(subtasks.all[0].chain.is_copying());
    subtasks.watermark(60_000);
    let start = Instant::now();
    let contents = subtasks.complete_checkpoint().expect("one was begun");
    println!("naming them, copying their keys' state and reading the checkpoint takes {} ms", start.elapsed().as_millis());
    assert!(contents.timers[0] == (0..KEYS).map(|key| (key % 60_000, key)).collect());
    assert!(contents.counts == (0..KEYS).map(|key| (key, 1)).collect());
}
