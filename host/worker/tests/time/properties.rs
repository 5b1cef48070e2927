//! Any rows, in any splits, through any plan, give the windows that a naive reference does.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use weir_types::graph::{Assigner, Partitioning, TimeDomain, Trigger, Window};

use crate::harness::{Flow, Pane, Ran, Settings, run};
use crate::script::{Row, Step};

/// By how much rows of a split may be late.
const DELAY_MS: i64 = 7;

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

fn assigner() -> impl Strategy<Value = Assigner> {
    prop_oneof![
        (1..20i64, -5..20i64).prop_map(|(size_ms, offset_ms)| Assigner::Tumbling { size_ms, offset_ms }),
        (1..8i64, 0..15i64, -5..20i64).prop_map(|(slide_ms, more, offset_ms)| Assigner::Sliding {
            size_ms: slide_ms + more,
            slide_ms,
            offset_ms
        }),
        (1..15i64).prop_map(|gap_ms| Assigner::Session { gap_ms }),
    ]
}

/// Any windows but those that emit before their end because of the clock, which stands still here. Often plain ones, which may be aggregated before an exchange.
fn window() -> impl Strategy<Value = Window> {
    let count = proptest::option::weighted(0.3, (2..5u64, proptest::bool::ANY));
    let lateness = prop_oneof![2 => Just(0i64), 1 => 1..40i64];
    (assigner(), count, lateness, proptest::bool::ANY).prop_map(|(assigner, count, allowed_lateness_ms, has_late_port)| {
        let purging = count.is_some_and(|(_, purging)| purging) && !matches!(assigner, Assigner::Session { .. });
        Window {
            assigner,
            domain: TimeDomain::Event,
            trigger: Trigger { on_time: true, early_every_ms: None, every_count: count.map(|(count, _)| count), purging },
            allowed_lateness_ms,
            late_port: has_late_port.then_some(1),
            mergeable: true,
        }
    })
}

/// The windows of a time on the grid, the earliest first; for a session, what one row spans.
fn spans(assigner: Assigner, time: i64) -> Vec<(i64, i64)> {
    let on_grid = |size: i64, slide: i64, offset: i64| {
        let starts = (time - size + 1..=time).filter(move |start| (start - offset).rem_euclid(slide) == 0);
        starts.map(|start| (start, start + size)).collect()
    };
    match assigner {
        Assigner::Tumbling { size_ms, offset_ms } => on_grid(size_ms, size_ms, offset_ms),
        Assigner::Sliding { size_ms, slide_ms, offset_ms } => on_grid(size_ms, slide_ms, offset_ms),
        Assigner::Session { gap_ms } => vec![(time, time + gap_ms)],
        Assigner::Global => vec![(i64::MIN, i64::MAX)],
    }
}

/// A window: key, start, end.
type Place = (i64, i64, i64);

/// The ids in each window on the grid.
fn on_grid(assigner: Assigner, rows: &[Row]) -> BTreeMap<Place, BTreeSet<u32>> {
    let mut windows = BTreeMap::<Place, BTreeSet<u32>>::new();
    for &(key, time, id) in rows {
        for (start, end) in spans(assigner, time) {
            windows.entry((key, start, end)).or_default().insert(id);
        }
    }
    windows
}

/// The ids in each session.
fn sessions(gap_ms: i64, rows: &[Row]) -> BTreeMap<Place, BTreeSet<u32>> {
    let mut rows = rows.to_vec();
    rows.sort_unstable();
    let chunks = rows.chunk_by(|a, b| a.0 == b.0 && b.1 - a.1 < gap_ms);
    let session = |rows: &[Row]| {
        let (first, last) = (rows[0], rows[rows.len() - 1]);
        ((first.0, first.1, last.1 + gap_ms), rows.iter().map(|row| row.2).collect())
    };
    chunks.map(session).collect()
}

/// Checks the results of windows on the grid: each row that was kept is in all of its windows, or, if it may have come late, in those that were still open: its
/// last ones.
fn check_grid(window: Window, kept: &[Row], panes: &[Pane], may_be_late: bool) -> Result<(), TestCaseError> {
    let mut found = BTreeMap::<Place, Vec<&Pane>>::new();
    panes.iter().for_each(|pane| found.entry((pane.key, pane.start, pane.end)).or_default().push(pane));
    let mut wholes = BTreeMap::<Place, BTreeSet<u32>>::new();
    for (place, panes) in found {
        let whole: BTreeSet<u32> = panes.iter().flat_map(|pane| pane.rows.iter().copied()).collect();
        let sizes = || panes.iter().map(|pane| pane.rows.len());
        if window.trigger.purging {
            prop_assert_eq!(sizes().sum::<usize>(), whole.len(), "a row came twice: {:?}", panes);
        } else {
            prop_assert_eq!(sizes().max(), Some(whole.len()), "no result is the whole one: {:?}", panes);
        }
        let comes_once = window.trigger.every_count.is_none() && (!may_be_late || window.allowed_lateness_ms == 0);
        prop_assert!(panes.len() == 1 || !comes_once, "a window came out again: {:?}", panes);
        wholes.insert(place, whole);
    }
    let mut expected = on_grid(window.assigner, kept);
    if may_be_late {
        for &(key, time, id) in kept {
            let is_in = |(start, end): (i64, i64)| wholes.get(&(key, start, end)).is_some_and(|ids| ids.contains(&id));
            for (start, end) in spans(window.assigner, time).into_iter().take_while(|&span| !is_in(span)) {
                if let Some(ids) = expected.get_mut(&(key, start, end)) {
                    ids.remove(&id);
                }
            }
        }
        expected.retain(|_, ids| !ids.is_empty());
    }
    prop_assert_eq!(wholes, expected);
    Ok(())
}

/// Checks the results of sessions: what came out last is all sessions, each row in one. If rows may have come late, a session may have been over when another
/// began beside it, but each is one by itself.
fn check_sessions(gap_ms: i64, kept: &[Row], panes: &[Pane], may_be_late: bool) -> Result<(), TestCaseError> {
    let by_id: HashMap<u32, Row> = kept.iter().map(|&row| (row.2, row)).collect();
    for pane in panes {
        let rows: Vec<Row> = pane.rows.iter().map(|id| by_id[id]).collect();
        let itself = BTreeMap::from([((pane.key, pane.start, pane.end), pane.rows.clone())]);
        prop_assert_eq!(sessions(gap_ms, &rows), itself, "this is no session");
    }
    let is_last =
        |pane: &&Pane| !panes.iter().any(|other| other.rows.len() > pane.rows.len() && other.rows.is_superset(&pane.rows));
    let last: BTreeMap<Place, BTreeSet<u32>> =
        panes.iter().filter(is_last).map(|pane| ((pane.key, pane.start, pane.end), pane.rows.clone())).collect();
    if may_be_late {
        let ids = last.values().map(BTreeSet::len).sum::<usize>();
        prop_assert_eq!(ids, kept.len(), "a row is in several sessions: {:?}", last);
    } else {
        prop_assert_eq!(last, sessions(gap_ms, kept));
    }
    Ok(())
}

/// Checks all that has come out of windows over these rows. Those that are in no window are late, and no others are.
fn check(window: Window, rows: &[Row], ran: &Ran, may_be_late: bool) -> Result<(), TestCaseError> {
    let panes = ran.results();
    let in_windows: BTreeSet<u32> = panes.iter().flat_map(|pane| pane.rows.iter().copied()).collect();
    let (kept, late): (Vec<Row>, Vec<Row>) = rows.iter().partition(|row| in_windows.contains(&row.2));
    prop_assert!(may_be_late || late.is_empty(), "rows are lost: {:?}", late);
    prop_assert_eq!(ran.late_rows(), late.len() as u64);
    if window.late_port.is_some() {
        prop_assert_eq!(ran.late_ids(), late.iter().map(|row| row.2).collect::<Vec<_>>());
    }
    match window.assigner {
        Assigner::Session { gap_ms } => check_sessions(gap_ms, &kept, &panes, may_be_late),
        _ => check_grid(window, &kept, &panes, may_be_late),
    }
}

fn onoff() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("true"), Just("false")]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Without rows that are late in their own split, every row is in all of its windows, whatever they are, whatever is idle and however the job is planned. If
    /// splits pause and go on, rows may be late behind the others; then every row is in the windows that are still open, or comes out as a late one if there are none.
    #[test]
    fn no_row_is_lost(
        window in window(),
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
        let flow = Flow::new().event_time(Partitioning::Forward, DELAY_MS as u64).windows(window);
        let ran = run(flow, HashMap::from([("in", splits)]), settings);
        check(window, &rows, &ran, resumes)?;
    }
}
