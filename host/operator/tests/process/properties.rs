//! Random rows, timers and times, with and without a limit, compared with a plain model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weir_types::EventTime;

use crate::harness::{Op, Operator, Result, Row};
use crate::native::{Counts, Rearm};

#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<(i64, Op, i64)>),
    Watermark(i64),
    Clock(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0..30i64, prop::sample::select(&Op::ALL[..]), -5..20i64);
    let step = prop_oneof![
        4 => prop::collection::vec(row, 0..12).prop_map(Step::Rows),
        2 => (1..12i64).prop_map(Step::Watermark),
        1 => (1..12i64).prop_map(Step::Clock),
    ];
    prop::collection::vec(step, 0..60)
}

/// Counts and timers of each key.
#[derive(Default)]
struct Model {
    counts: BTreeMap<i64, i64>,
    timers: BTreeSet<(EventTime, i64)>,
    clock_timers: BTreeSet<(EventTime, i64)>,
    results: Vec<Result>,
}

impl Model {
    fn row(&mut self, (key, op, time): Row) {
        let count = self.counts.entry(key).or_default();
        *count += 1;
        self.results.push((key, *count, EventTime::MIN));
        match op {
            Op::Count => {}
            Op::Forget => *count = 0,
            Op::Set => _ = self.timers.insert((time, key)),
            Op::Delete => _ = self.timers.remove(&(time, key)),
            Op::SetClock => _ = self.clock_timers.insert((time, key)),
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

    fn take(&mut self) -> Vec<Result> {
        let mut results = std::mem::take(&mut self.results);
        results.sort_unstable();
        results
    }
}

fn check(steps: &[Step], slots_max: Option<usize>) -> std::result::Result<(), TestCaseError> {
    let rearm = Rearm { multiple_of: 3, by: 4 };
    let mut operator = Operator::new(Counts { rearm, ..Counts::default() }, slots_max, None);
    let mut model = Model::default();
    let (mut watermark, mut now) = (0, 0);
    for step in steps.iter().chain(&[Step::Watermark(i64::MAX)]) {
        match step {
            Step::Rows(rows) => {
                let rows: Vec<Row> = rows.iter().map(|&(key, op, by)| (key, op, watermark + by)).collect();
                rows.iter().for_each(|&row| model.row(row));
                operator.rows(&rows);
            }
            &Step::Watermark(by) => {
                watermark = if by == i64::MAX { by } else { watermark + by };
                operator.watermark(watermark).expect("the timers end");
                model.results.extend(Model::fire(&model.counts, &mut model.timers, rearm, watermark));
            }
            &Step::Clock(by) => {
                now += by;
                operator.clock(now);
                model.results.extend(Model::fire(&model.counts, &mut model.clock_timers, rearm, now));
            }
        }
        if let Some(max) = slots_max {
            prop_assert!(operator.chain.slots() <= max, "{} slots are more than {max}", operator.chain.slots());
        }
        prop_assert_eq!(operator.take(), model.take(), "after {:?}", step);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * ProptestConfig::default().cases, failure_persistence: None, ..ProptestConfig::default() })]

    /// The operator does what the model does.
    #[test]
    fn agrees_with_the_model(steps in steps()) {
        check(&steps, None)?;
    }

    /// A limit of a few slots changes nothing, and holds.
    #[test]
    fn eviction_changes_nothing(steps in steps(), slots_max in 1..12usize) {
        check(&steps, Some(slots_max))?;
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
