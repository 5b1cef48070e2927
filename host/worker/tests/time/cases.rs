//! Histories in which rows would be lost, or time would stand still.

use std::collections::HashMap;

use weir_types::graph::Partitioning;
use weir_worker::{FailureKind, Outcome};

use crate::harness::{Flow, SLOTS, Settings, deploy, run, run_within};
use crate::script::Step::{Hold, Until};
use crate::script::{Scripts, Step, row};

fn scripts(splits: Vec<Vec<Step>>) -> Scripts {
    HashMap::from([("in", splits)])
}

fn panes(panes: &[(i64, i64, &str)]) -> Vec<(i64, i64, String)> {
    panes.iter().map(|&(key, start, rows)| (key, start, rows.to_owned())).collect()
}

const IDLE: (&str, &str) = ("sources.in.idle_after", "0ms");

/// The row of an idle subtask is in its window, though the window does not wait for the subtask.
#[test]
fn idle_subtasks_keep_no_rows() {
    for chaining in ["true", "false"] {
        for preaggregation in ["true", "false"] {
            let scripts =
                scripts(vec![vec![row(1, 5, 0), Until(1)], vec![row(1, 6, 1), row(1, 100, 2), Until(1), row(1, 101, 3)]]);
            let settings: Settings<'_> =
                &[IDLE, ("parallelism", "2"), ("chaining", chaining), ("preaggregation", preaggregation)];
            let ran = run(Flow::new().event_time(Partitioning::Forward, 0).window(10), scripts, settings);
            assert_eq!(ran.panes(), panes(&[(1, 0, "0 1"), (1, 100, "2 3")]), "{settings:?}");
            assert_eq!(ran.late_rows(), 0, "{settings:?}");
        }
    }
}

/// Splits whose times lie far apart, a row at a time of each.
fn apart(splits: u32, rows: u32) -> (Scripts, Vec<(i64, i64, String)>) {
    let id = |split: u32, n: u32| split * rows + n;
    let script = |split| (0..rows).map(|n| row(1, i64::from(id(split, n)) * 10, id(split, n))).collect();
    let panes = (0..splits * rows).map(|id| (1, i64::from(id) * 10, id.to_string())).collect();
    // Those with later times first.
    (scripts((0..splits).rev().map(script).collect()), panes)
}

/// Time is followed split by split, whether chaining is on or not: no row is late in its own split.
#[test]
fn splits_have_times_of_their_own() {
    for parallelism in ["1", "2"] {
        for chaining in ["true", "false"] {
            let (scripts, expected) = apart(5, 40);
            let settings: Settings<'_> = &[("parallelism", parallelism), ("chaining", chaining)];
            let ran = run(Flow::new().event_time(Partitioning::Forward, 0).window(10), scripts, settings);
            assert_eq!(ran.panes(), expected, "{settings:?}");
            assert_eq!(ran.late_rows(), 0, "{settings:?}");
            let written = |name: &str| ran.snapshot.operators.iter().find(|o| o.name == name).map(|o| o.bytes_out);
            assert!(written("out") > Some(0), "what a sink takes is counted");
            assert!(parallelism == "1" || written("exchange out") > Some(0), "and what an exchange sends");
        }
    }
}

/// Goal: what a sink does when it puts out its rows is the sink's own work, once, and nobody else's: not only what it does when it takes them.
#[test]
fn putting_out_is_work() {
    const PAUSE_SECONDS: f64 = 0.2;
    let scripts = scripts(vec![vec![row(1, 5, 0)]]);
    let settings: Settings<'_> = &[("parallelism", "1"), ("sinks.out.pause_ms", "200")];
    let ran = run(Flow::new().event_time(Partitioning::Forward, 0).window(10), scripts, settings);
    assert_eq!(ran.panes(), panes(&[(1, 0, "0")]));
    let (sinks, others): (Vec<_>, Vec<_>) = ran.snapshot.operators.iter().partition(|operator| operator.name == "out");
    let [sink] = sinks[..] else { panic!("{sinks:?}") };
    assert!((PAUSE_SECONDS..ran.snapshot.seconds).contains(&sink.busy_seconds), "{sink:?}");
    assert!(others.iter().all(|operator| operator.busy_seconds < sink.busy_seconds), "{others:?}");
}

/// Where event times are assigned behind an exchange, each channel counts as a split.
#[test]
fn channels_have_times_of_their_own() {
    for chaining in ["true", "false"] {
        let (scripts, expected) = apart(2, 100);
        let settings: Settings<'_> = &[("parallelism", "2"), ("chaining", chaining), ("batch.channel_capacity", "1")];
        let ran = run(Flow::new().event_time(Partitioning::Rebalance, 0).window(10), scripts, settings);
        assert_eq!(ran.panes(), expected, "{settings:?}");
        assert_eq!(ran.late_rows(), 0, "{settings:?}");
    }
}

/// Channels of a sender whose splits are idle do not hold event times back that are assigned behind an exchange.
#[test]
fn idle_channels_do_not_hold_time_back() {
    // Every other row goes to each of the two that assign event times.
    let scripts = scripts(vec![vec![row(1, 5, 0), row(1, 100, 1), row(1, 101, 2), Hold(1)], vec![Until(1)]]);
    let settings: Settings<'_> = &[IDLE, ("parallelism", "2"), ("preaggregation", "false")];
    let ran = run(Flow::new().event_time(Partitioning::Rebalance, 0).window(10), scripts, settings);
    assert_eq!(ran.panes(), panes(&[(1, 0, "0"), (1, 100, "1 2")]));
}

/// Broadcast rows without event times do not hold a keyed operator's time back: the timer fires while both inputs are open.
#[test]
fn broadcast_rows_have_no_say_in_time() {
    for parallelism in ["1", "2"] {
        for chaining in ["true", "false"] {
            let mut scripts = scripts(vec![vec![row(1, 0, 0), row(1, 100, 1), Hold(3)]]);
            scripts.insert("facts", vec![vec![row(7, 0, 7), Hold(3)]]);
            let settings: Settings<'_> = &[("parallelism", parallelism), ("chaining", chaining)];
            let ran = run(Flow::new().event_time(Partitioning::Forward, 0).echo(true), scripts, settings);
            let echoes = ran.echoes();
            assert!(echoes[..3].contains(&(0, 99)), "the timer for 0 fires at 99: {echoes:?}");
            assert_eq!(echoes[3..], [(-100, i64::MAX)], "and that for 100 at the end of time: {echoes:?}");
        }
    }
}

/// An idle input that gives rows again is waited for again, though its watermark has not advanced.
#[test]
fn active_inputs_are_waited_for_again() {
    for chaining in ["true", "false"] {
        let first = vec![row(1, 45, 0), Until(4), row(1, 44, 3), Hold(7), row(1, 43, 6)];
        let second = vec![row(1, 35, 1), row(1, 51, 2), Hold(5), row(1, 100, 4), row(1, 101, 5)];
        let settings: Settings<'_> = &[IDLE, ("parallelism", "2"), ("chaining", chaining), ("batch.linger", "0ms")];
        let ran = run(Flow::new().event_time(Partitioning::Forward, 10).echo(false), scripts(vec![first, second]), settings);
        let echoes = ran.echoes();
        // While the first split is idle, the second alone makes the watermark: 51 - 10 - 1.
        assert!(echoes.contains(&(-35, 40)), "{echoes:?}");
        // When it is active again, its 45 - 10 - 1 holds the watermark where it is, though the second split is at 89 by then.
        assert!(echoes.contains(&(6, 40)), "{echoes:?}");
    }
}

/// An operator that assigns event times to its results has two times: its input's fires its timers, its output's follows from the results.
#[test]
fn timers_follow_the_input_and_windows_the_output() {
    let later = || Flow::new().event_time(Partitioning::Forward, 0).later().window(10);
    let expected = panes(&[(1, 0, "6"), (1, 20, "25"), (1, 100, "105")]);
    for chaining in ["true", "false"] {
        let rows = vec![row(1, 1, 0), row(1, 20, 1), row(1, 100, 2)];
        let waits = [rows.clone(), vec![Hold(1)]].concat();
        let ran = run(later(), scripts(vec![waits]), &[("chaining", chaining)]);
        assert_eq!(ran.panes(), expected, "before the end");
        let ran = run(later(), scripts(vec![rows]), &[("chaining", chaining), ("parallelism", "2")]);
        assert_eq!((ran.panes(), ran.late_rows()), (expected.clone(), 0), "at the end");
    }
}

/// A job whose evicted state takes more memory than it may fails; and one whose channels may hold next to nothing goes on, a batch at a time.
#[test]
fn jobs_take_no_more_memory_than_they_may() {
    const KEYS: u32 = 16;
    let all = || scripts(vec![(0..KEYS).map(|id| row(i64::from(id), 5, id)).collect()]);
    let flow = || Flow::new().event_time(Partitioning::Forward, 0).window(10);
    let roomy: Settings<'_> = &[("parallelism", "2"), ("preaggregation", "false")];
    let evicting = [roomy, &[("state.slots_max", "1")]].concat();
    assert_eq!(run_within(1, flow(), all(), roomy), Outcome::Finished, "nothing is evicted");
    assert_eq!(run_within(usize::MAX, flow(), all(), &evicting), Outcome::Finished, "there is room");
    match run_within(1, flow(), all(), &evicting) {
        Outcome::Failed { failure } => assert_eq!((failure.kind, failure.is_final), (FailureKind::Resources, true), "{failure}"),
        other => panic!("{other:?}"),
    }
}

/// A job does not outlive its handle.
#[test]
fn a_dropped_handle_ends_the_job() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let flow = Flow::new().event_time(Partitioning::Forward, 0).window(10);
        let (worker, handle, _) = deploy(flow, scripts(vec![vec![Until(1)]]), &[]);
        assert_eq!((worker.slots(), worker.held().into_values().collect::<Vec<_>>()), ((SLOTS, SLOTS - 1), vec![1]));
        drop(handle);
        while worker.slots() != (SLOTS, SLOTS) {
            tokio::task::yield_now().await;
        }
        assert!(worker.held().is_empty());
    });
}
