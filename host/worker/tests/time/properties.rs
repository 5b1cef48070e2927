//! Any rows, in any splits, through any plan, give the windows that a naive reference does.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use weir_types::graph::Partitioning;

use crate::harness::{Flow, Settings, run};
use crate::script::{Row, Step};

/// By how much rows of a split may be late.
const DELAY_MS: i64 = 7;
const WINDOW_MS: i64 = 10;

/// A split: batches of (key, step of time, lateness), and after which of them it pauses.
type Rough = Vec<(Vec<(i64, i64, i64)>, bool)>;

fn split() -> impl Strategy<Value = Rough> {
    let rows = proptest::collection::vec((0..3i64, 0..15i64, 0..=DELAY_MS), 1..5);
    proptest::collection::vec((rows, proptest::bool::weighted(0.2)), 0..8)
}

/// Turns rough splits into steps; each begins at its own time. Pauses in the middle are left out unless `resumes`; at their ends, all splits pause.
fn steps(rough: &[(i64, Rough)], resumes: bool) -> (Vec<Vec<Step>>, Vec<Row>) {
    let mut all = vec![];
    let mut splits = vec![];
    for (start, batches) in rough {
        let mut time = *start;
        let mut steps = vec![];
        for (rows, pauses) in batches {
            let mut batch = vec![];
            for &(key, step, lateness) in rows {
                time += step;
                batch.push((key, time - lateness, (all.len() + batch.len()) as u32));
            }
            all.extend(batch.iter().copied());
            steps.push(Step::Rows(batch));
            if *pauses && resumes {
                steps.push(Step::Pause);
            }
        }
        steps.extend([Step::Pause, Step::Pause]);
        splits.push(steps);
    }
    (splits, all)
}

fn reference(rows: &[Row]) -> Vec<(i64, i64, String)> {
    let mut windows: BTreeMap<(i64, i64), Vec<u32>> = BTreeMap::new();
    for &(key, time, id) in rows {
        windows.entry((key, time.div_euclid(WINDOW_MS) * WINDOW_MS)).or_default().push(id);
    }
    let text = |ids: Vec<u32>| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    windows.into_iter().map(|((key, start), ids)| (key, start, text(ids))).collect()
}

fn onoff() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("true"), Just("false")]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Without rows that are late in their own split, every row is in its window, whatever is idle and however the job is planned. If splits pause and go on,
    /// rows may be late behind the others; then every row is in a window or counted.
    #[test]
    fn no_row_is_lost(
        rough in proptest::collection::vec((0..200i64, split()), 1..5),
        resumes in proptest::bool::ANY,
        parallelism in prop_oneof![Just("1"), Just("2"), Just("3")],
        chaining in onoff(),
        preaggregation in onoff(),
        linger in prop_oneof![Just("0ms"), Just("2ms"), Just("1h")],
        capacity in prop_oneof![Just("1"), Just("8")],
    ) {
        let (splits, rows) = steps(&rough, resumes);
        let settings: Settings<'_> = &[
            ("sources.in.idle_after", "0ms"),
            ("parallelism", parallelism),
            ("chaining", chaining),
            ("preaggregation", preaggregation),
            ("batch.linger", linger),
            ("batch.channel_capacity", capacity),
        ];
        let flow = Flow::new().event_time(Partitioning::Forward, DELAY_MS as u64).window(WINDOW_MS);
        let ran = run(flow, HashMap::from([("in", splits)]), settings);
        let panes = ran.panes();
        if resumes {
            let in_windows: usize = panes.iter().map(|(_, _, rows)| rows.split(' ').count()).sum();
            prop_assert_eq!(in_windows as u64 + ran.late_rows(), rows.len() as u64);
        } else {
            prop_assert_eq!(panes, reference(&rows));
            prop_assert_eq!(ran.late_rows(), 0);
        }
    }
}
