//! Random streams through random windows, compared with the reference.

use proptest::prelude::*;
use weir_plan::job::Stage;
use weir_types::EventTime;
use weir_types::graph::{Assigner, TimeDomain, Trigger, Window};
use weir_types::key::range_of;

use crate::harness::{MAX_PARALLELISM, Operator, Row, Start, Subtasks, sorted};
use crate::reference::{Pane, Reference};

/// What happens to an operator.
#[derive(Clone, Debug)]
pub enum Step {
    /// a row of a key, so far from the watermark
    Row(i64, i64),
    /// the batch ends here
    Cut,
    /// the watermark advances by so much
    Watermark(i64),
    /// the clock advances by so much
    Clock(i64),
    /// a barrier comes
    Barrier,
}

/// The keys are those below.
const KEYS: i64 = 4;

pub fn steps(earliest: i64) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..KEYS, earliest..30i64).prop_map(|(key, time)| Step::Row(key, time)),
        2 => Just(Step::Cut),
        2 => (1..12i64).prop_map(Step::Watermark),
        1 => (0..8i64).prop_map(Step::Clock),
        1 => Just(Step::Barrier),
    ];
    prop::collection::vec(step, 0..120)
}

fn assigner() -> impl Strategy<Value = Assigner> {
    prop_oneof![
        (1..12i64, -5..20i64).prop_map(|(size_ms, offset_ms)| Assigner::Tumbling { size_ms, offset_ms }),
        (1..14i64, 1..8i64, -5..20i64).prop_map(|(size_ms, slide_ms, offset_ms)| Assigner::Sliding {
            size_ms,
            slide_ms,
            offset_ms
        }),
        (1..8i64).prop_map(|gap_ms| Assigner::Session { gap_ms }),
        Just(Assigner::Global),
    ]
}

pub fn window() -> impl Strategy<Value = Window> {
    let trigger = (prop::bool::weighted(0.8), prop::option::of(1..6u64), prop::option::of(1..5u64), any::<bool>());
    (assigner(), prop::bool::weighted(0.8), trigger, 0..15i64, any::<bool>()).prop_map(
        |(assigner, event, (on_time, early_every_ms, every_count, purging), lateness, late_port)| Window {
            assigner,
            domain: if event { TimeDomain::Event } else { TimeDomain::Processing },
            trigger: Trigger { on_time, early_every_ms, every_count, purging },
            allowed_lateness_ms: (lateness - 5).max(0),
            late_port: late_port.then_some(1),
            mergeable: true,
        },
    )
}

/// A window that may be aggregated before an exchange.
fn plain_window() -> impl Strategy<Value = Window> {
    let trigger = Trigger { on_time: true, early_every_ms: None, every_count: None, purging: false };
    let assigner = assigner().prop_filter("sessions are not", |a| !matches!(a, Assigner::Session { .. }));
    assigner.prop_map(move |assigner| Window {
        assigner,
        domain: TimeDomain::Event,
        trigger,
        allowed_lateness_ms: 0,
        late_port: None,
        mergeable: true,
    })
}

/// Subtasks that follow each other.
fn starts() -> impl Strategy<Value = Vec<Start>> {
    prop::collection::vec((1..4u16, prop::option::of(1..6usize)), 2..5)
}

const LAG_MAX: i64 = 9;

/// How far time is behind for each subtask.
fn lags() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(0..=LAG_MAX, 3)
}

/// The state of the stream, as steps change it.
struct Stream {
    pending: Vec<Row>,
    next_id: u32,
    watermark: EventTime,
    now: EventTime,
}

impl Stream {
    fn new() -> Self {
        Self { pending: vec![], next_id: 0, watermark: -10, now: -7 }
    }

    fn row(&mut self, key: i64, distance: i64) -> Row {
        self.next_id += 1;
        let row = (key, self.watermark + distance, self.next_id);
        self.pending.push(row);
        row
    }
}

/// With such a leak, percent of its memory a batch, a guest is replaced after every batch.
const LEAK_MAX: usize = 100;

/// How much of its memory a guest leaks with each batch, percent: often nothing, and now and then so much that it is replaced after each.
fn leak() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(0usize), 1 => 5..80usize, 1 => Just(LEAK_MAX)]
}

/// Runs the steps through one operator whose guest leaks, and is replaced in the middle of its windows; and through the reference.
fn check_leaking(window: Window, slots_max: Option<usize>, leak: usize, steps: &[Step], cuts: bool) -> Result<(), TestCaseError> {
    let operator = Subtasks::leaking(window, Stage::Complete, slots_max, leak);
    let (renewals, on_time_rows) = check_on(operator, window, &[(1, slots_max)], steps, cuts)?;
    prop_assert!(leak > 0 || renewals == 0, "{renewals} renewals without a leak");
    // A row between two windows is not given to the guest.
    let has_gaps = matches!(window.assigner, Assigner::Sliding { size_ms, slide_ms, .. } if slide_ms > size_ms);
    let leaks = leak == LEAK_MAX && on_time_rows > 0 && !has_gaps;
    prop_assert!(!leaks || renewals > 0, "{on_time_rows} rows leak, and nothing is renewed");
    Ok(())
}

/// Runs the steps through an operator and the reference; what they emit must agree up to each watermark and tick. If there are several starts, the operator
/// is as many subtasks as the first one says, and at each barrier makes room for the next.
fn check(window: Window, starts: &[Start], steps: &[Step], cuts: bool) -> Result<(), TestCaseError> {
    check_on(Subtasks::new(window, Stage::Complete, starts[0]), window, starts, steps, cuts).map(drop)
}

/// Returns how often guests of the last subtasks were replaced, and how many rows were not late.
fn check_on(
    mut operator: Subtasks,
    window: Window,
    starts: &[Start],
    steps: &[Step],
    cuts: bool,
) -> Result<(u64, u64), TestCaseError> {
    let mut barriers = 0;
    let mut next_starts = starts.iter().cycle().skip(1);
    let mut slots_max = starts[0].1;
    let mut reference = Reference::new(window);
    let mut stream = Stream::new();
    let mut late_rows = 0;
    for step in steps.iter().chain(&[Step::Watermark(i64::MAX)]) {
        if let &Step::Row(key, distance) = step {
            let (key, time, id) = stream.row(key, distance);
            reference.row(key, time, id, stream.now);
            continue;
        }
        if matches!(step, Step::Cut | Step::Barrier) && !cuts {
            continue;
        }
        operator.set_now(stream.now);
        operator.rows(&stream.pending);
        stream.pending.clear();
        match *step {
            Step::Row(..) | Step::Cut => {}
            Step::Barrier => {
                operator.barrier();
                barriers += 1;
                if barriers % 2 == 1 {
                    operator.checkpoint();
                }
                let restarts = if operator.is_on_disk() { barriers % 2 == 0 } else { starts.len() > 1 };
                if restarts && let Some(&start) = next_starts.next() {
                    operator.restart(start);
                    slots_max = start.1;
                }
            }
            Step::Watermark(by) => {
                stream.watermark = if by == i64::MAX { by } else { stream.watermark + by };
                operator.watermark(stream.watermark);
                reference.watermark(stream.watermark);
            }
            Step::Clock(by) => {
                stream.now += by;
                operator.clock(stream.now);
                reference.clock(stream.now);
            }
        }
        if let Some(max) = slots_max {
            prop_assert!(operator.slots() <= max, "{} slots are more than {max}", operator.slots());
        }
        let (panes, late) = operator.take();
        // Panes are compared where both sides have seen the same rows.
        prop_assert_eq!(sorted(panes), sorted(std::mem::take(&mut reference.panes)), "after {:?}", step);
        let expected = std::mem::take(&mut reference.late);
        late_rows += expected.len() as u64;
        prop_assert_eq!(operator.late_rows(), late_rows);
        prop_assert_eq!(sorted(late), if window.late_port.is_some() { expected } else { vec![] });
    }
    Ok((operator.renewals(), u64::from(stream.next_id) - late_rows))
}

/// The clock advances for references of keys, as it does for their owners.
fn look_at_clock(references: &mut [Reference], subtasks: &Subtasks, now: EventTime) {
    for (reference, key) in references.iter_mut().zip(0..) {
        reference.clock(now - subtasks.clock_lag(subtasks.owner_of(key)));
    }
}

/// Runs the steps through subtasks for which time is not equally far, and which make room for others at each barrier; and through a reference for each key,
/// which goes by the time of those who own it one after the other: it never goes back.
fn check_uneven(
    mut subtasks: Subtasks,
    window: Window,
    stage: Stage,
    starts: &[Start],
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let mut next_starts = starts.iter().cycle().skip(1);
    let mut references: Vec<_> = (0..KEYS).map(|_| Reference::new(window)).collect();
    let mut local = (stage == Stage::Merging).then(|| Operator::new(window, Stage::Local, None));
    let mut stream = Stream::new();
    let mut late_rows = 0;
    for step in steps.iter().chain(&[Step::Watermark(i64::MAX)]) {
        if let &Step::Row(key, distance) = step {
            let (key, time, id) = stream.row(key, distance);
            references[key as usize].row(key, time, id, stream.now - subtasks.clock_lag(subtasks.owner_of(key)));
            continue;
        }
        subtasks.set_now(stream.now);
        match &mut local {
            None => subtasks.rows(&stream.pending),
            Some(local) => {
                local.rows(&stream.pending);
                local.barrier();
                local.out.drain(..).for_each(|(port, batch)| subtasks.batch(port, &batch));
            }
        }
        stream.pending.clear();
        match *step {
            Step::Row(..) | Step::Cut => {}
            Step::Barrier => {
                subtasks.barrier();
                look_at_clock(&mut references, &subtasks, stream.now);
                subtasks.restart(*next_starts.next().expect("they come again"));
                // It takes so long that for nobody it is earlier than before.
                stream.now += LAG_MAX;
                subtasks.clock(stream.now);
                look_at_clock(&mut references, &subtasks, stream.now);
            }
            Step::Watermark(i64::MAX) => {
                subtasks.watermark(i64::MAX);
                references.iter_mut().for_each(|reference| reference.watermark(i64::MAX));
            }
            Step::Watermark(by) => {
                stream.watermark += by;
                subtasks.watermark(stream.watermark);
                for (reference, key) in references.iter_mut().zip(0..) {
                    reference.watermark(stream.watermark - subtasks.watermark_lag(subtasks.owner_of(key)));
                }
            }
            Step::Clock(by) => {
                stream.now += by;
                subtasks.clock(stream.now);
                look_at_clock(&mut references, &subtasks, stream.now);
            }
        }
        let (panes, late) = subtasks.take();
        let expected = references.iter_mut().flat_map(|reference| std::mem::take(&mut reference.panes)).collect();
        prop_assert_eq!(sorted(panes), sorted(expected), "after {:?}", step);
        let expected: Vec<u32> = references.iter_mut().flat_map(|reference| std::mem::take(&mut reference.late)).collect();
        late_rows += expected.len() as u64;
        prop_assert_eq!(subtasks.late_rows(), late_rows);
        prop_assert_eq!(sorted(late), if window.late_port.is_some() { sorted(expected) } else { vec![] });
    }
    Ok(())
}

/// Runs the steps through `locals` operators before and one behind an exchange, and through the reference. If there are several starts, those before are
/// replaced at each barrier, and the one behind by so many.
fn check_exchange(window: Window, locals: usize, starts: &[Start], steps: &[Step]) -> Result<(), TestCaseError> {
    let slots_max = starts[0].1;
    let mut before: Vec<_> = (0..locals).map(|_| Operator::new(window, Stage::Local, slots_max)).collect();
    let mut behind = Subtasks::new(window, Stage::Merging, starts[0]);
    let mut next_starts = starts.iter().cycle().skip(1);
    let mut reference = Reference::new(window);
    let mut stream = Stream::new();
    let mut late_rows = 0;
    for step in steps.iter().chain(&[Step::Watermark(i64::MAX)]) {
        if let &Step::Row(key, distance) = step {
            let (key, time, id) = stream.row(key, distance);
            reference.row(key, time, id, stream.now);
            continue;
        }
        for (i, operator) in before.iter_mut().enumerate() {
            let rows: Vec<Row> = stream.pending.iter().copied().filter(|r| r.2 as usize % locals == i).collect();
            operator.rows(&rows);
        }
        stream.pending.clear();
        if let Step::Watermark(by) = *step {
            stream.watermark = if by == i64::MAX { by } else { stream.watermark + by };
            before.iter_mut().for_each(|operator| operator.watermark(stream.watermark));
        }
        if matches!(step, Step::Barrier) {
            before.iter_mut().for_each(Operator::barrier);
            prop_assert!(before.iter().all(|operator| operator.slots() == 0), "a barrier finds nothing before an exchange");
        }
        for operator in &mut before {
            operator.out.drain(..).for_each(|(port, batch)| behind.batch(port, &batch));
        }
        if matches!(step, Step::Barrier)
            && starts.len() > 1
            && let Some(&start) = next_starts.next()
        {
            behind.restart(start);
            for operator in &mut before {
                let snapshot = operator.snapshot();
                prop_assert!(snapshot.entries.is_empty());
                let mut new = Operator::new(window, Stage::Local, start.1);
                new.context.watermark = operator.context.watermark;
                new.restore(&[snapshot], range_of(0, 1, MAX_PARALLELISM)).expect("it is empty");
                *operator = new;
            }
        }
        if matches!(step, Step::Watermark(_)) {
            behind.watermark(stream.watermark);
            reference.watermark(stream.watermark);
            let panes: Vec<Pane> = behind.take().0;
            prop_assert_eq!(sorted(panes), sorted(std::mem::take(&mut reference.panes)), "after {:?}", step);
            late_rows += std::mem::take(&mut reference.late).len() as u64;
            prop_assert_eq!(behind.late_rows(), late_rows);
        }
    }
    prop_assert_eq!(before.iter().map(Operator::slots).sum::<usize>() + behind.slots(), 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12 * ProptestConfig::default().cases, failure_persistence: None, ..ProptestConfig::default() })]

    /// All assigners and triggers, late rows, any cuts, guests that are replaced: the operator does what the reference does.
    #[test]
    fn agrees_with_the_reference(window in window(), steps in steps(-20), leak in leak(), cuts: bool) {
        check_leaking(window, None, leak, &steps, cuts)?;
    }

    /// Windows that are emitted once take other paths through the operator.
    #[test]
    fn plain_windows_agree_with_the_reference(window in plain_window(), steps in steps(-6), leak in leak(), cuts: bool) {
        check_leaking(window, None, leak, &steps, cuts)?;
    }

    /// A limit of a few slots changes no result, and holds; also where guests are replaced.
    #[test]
    fn eviction_changes_nothing(window in window(), steps in steps(-20), slots_max in 1..6usize, leak in leak()) {
        check_leaking(window, Some(slots_max), leak, &steps, true)?;
    }

    /// Nor do barriers at which an operator is replaced by others, fewer or more, with and without limits: they go on where it was.
    #[test]
    fn restoring_changes_nothing(window in window(), steps in steps(-20), starts in starts()) {
        check(window, &starts, &steps, true)?;
    }

    /// Nor do they where windows are emitted once.
    #[test]
    fn restoring_plain_windows_changes_nothing(window in plain_window(), steps in steps(-6), starts in starts()) {
        check(window, &starts, &steps, true)?;
    }

    /// Nor if they are not equally far: keys of those that are ahead stay so.
    #[test]
    fn restoring_uneven_subtasks_changes_nothing(window in window(), steps in steps(-20), starts in starts(), lags in lags()) {
        let subtasks = Subtasks::new(window, Stage::Complete, starts[0]).uneven(&lags);
        check_uneven(subtasks, window, Stage::Complete, &starts, &steps)?;
    }

    /// Nor where they get accumulators from before an exchange.
    #[test]
    fn restoring_uneven_mergers_changes_nothing(window in plain_window(), steps in steps(-15), starts in starts(), lags in lags()) {
        let subtasks = Subtasks::new(window, Stage::Merging, starts[0]).uneven(&lags);
        check_uneven(subtasks, window, Stage::Merging, &starts, &steps)?;
    }

    /// Nor around an exchange.
    #[test]
    fn restoring_around_an_exchange_changes_nothing(window in plain_window(), steps in steps(-15), starts in starts()) {
        check_exchange(window, 1, &starts, &steps)?;
    }

    /// Aggregating before an exchange changes no result, late rows included.
    #[test]
    fn preaggregation_changes_nothing(window in plain_window(), steps in steps(-15), slots_max in prop::option::of(1..6usize)) {
        check_exchange(window, 1, &[(1, slots_max)], &steps)?;
    }

    /// Nor does it where several subtasks aggregate: which rows are late is then a race, so that none are.
    #[test]
    fn preaggregation_by_several_changes_nothing(window in plain_window(), steps in steps(1), slots_max in prop::option::of(1..6usize)) {
        check_exchange(window, 3, &[(1, slots_max)], &steps)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(12), failure_persistence: None, ..ProptestConfig::default() })]

    /// Nor does it matter that state is on disk, where barriers write what has changed: every other one is only that.
    #[test]
    fn state_on_disk_changes_nothing(window in window(), steps in steps(-20), starts in starts()) {
        check_on(Subtasks::on_disk(window, Stage::Complete, starts[0]), window, &starts, &steps, true)?;
    }

    /// Nor does that where subtasks are not equally far.
    #[test]
    fn uneven_state_on_disk_changes_nothing(window in window(), steps in steps(-20), starts in starts(), lags in lags()) {
        let subtasks = Subtasks::on_disk(window, Stage::Complete, starts[0]).uneven(&lags);
        check_uneven(subtasks, window, Stage::Complete, &starts, &steps)?;
    }
}
