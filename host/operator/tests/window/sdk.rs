//! The windows of the SDK's test harness against the reference: a test of a job without a host has to see what the host does.

use proptest::prelude::*;
use weir::{
    EventTime, Global, Job, KeyedStream, Record, Session, Sliding, Tag, TestHarness, Tumbling, Watermarks, Windowed, days, millis,
};
use weir_types::graph::{self, Assigner, TimeDomain};

use crate::harness::sorted;
use crate::properties::{Step, steps, window};
use crate::reference::{Pane, Reference};

#[derive(Clone, Record)]
struct Event {
    key: i64,
    id: u32,
    time: EventTime,
}

/// A pane, as the job emits it.
#[derive(Record)]
struct Emitted {
    key: i64,
    start: i64,
    end: i64,
    rows: String,
}

/// A number of milliseconds, which windows never have below 0.
fn span(ms: i64) -> std::time::Duration {
    millis(ms.unsigned_abs())
}

/// The window as one that a job can describe.
fn describable(mut window: graph::Window) -> graph::Window {
    match &mut window.assigner {
        Assigner::Tumbling { size_ms, offset_ms } => *offset_ms %= *size_ms,
        Assigner::Sliding { size_ms, slide_ms, offset_ms } => {
            *slide_ms = (*slide_ms).min(*size_ms);
            *offset_ms %= *slide_ms;
        }
        Assigner::Session { .. } | Assigner::Global => {}
    }
    let trigger = &mut window.trigger;
    trigger.on_time |= trigger.early_every_ms.is_none() && trigger.every_count.is_none();
    if window.domain == TimeDomain::Processing {
        (window.allowed_lateness_ms, window.late_port) = (0, None);
    }
    window
}

fn assigned(keyed: KeyedStream<Event, i64>, assigner: Assigner) -> Windowed<Event, i64> {
    match assigner {
        Assigner::Tumbling { size_ms, offset_ms } => keyed.window(Tumbling::new(span(size_ms)).offset_ms(offset_ms)),
        Assigner::Sliding { size_ms, slide_ms, offset_ms } => {
            keyed.window(Sliding::new(span(size_ms), span(slide_ms)).offset_ms(offset_ms))
        }
        Assigner::Session { gap_ms } => keyed.window(Session::gap(span(gap_ms))),
        Assigner::Global => keyed.window(Global),
    }
}

fn trigger(trigger: graph::Trigger) -> weir::Trigger {
    let mut described = if trigger.on_time { weir::Trigger::on_time() } else { weir::Trigger::never() };
    if let Some(interval) = trigger.early_every_ms {
        described = described.early_every(millis(interval));
    }
    if let Some(count) = trigger.every_count {
        described = described.every_count(count);
    }
    if trigger.purging { described.purging() } else { described }
}

/// A job with such a window that tells which rows its results are made of, and which are late.
fn job(job: &Job, window: graph::Window) {
    let late = Tag::<Event>::new("late");
    // So far behind the rows that nothing comes of it: the test says how far time is.
    let events = job.source::<Event>("in").event_time(Event::TIME, Watermarks::bounded(days(1)));
    let mut windowed = assigned(events.key_by(Event::KEY), window.assigner).trigger(trigger(window.trigger));
    if window.allowed_lateness_ms > 0 {
        windowed = windowed.allowed_lateness(span(window.allowed_lateness_ms));
    }
    if window.late_port.is_some() {
        windowed = windowed.late_output(&late);
    }
    if window.domain == TimeDomain::Processing {
        windowed = windowed.processing_time();
    }
    windowed
        .process(|key: &i64, of, rows: &[Event], out| {
            let ids = sorted(rows.iter().map(|row| row.id).collect());
            let rows = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            out.push(Emitted { key: *key, start: of.start.millis(), end: of.end.millis(), rows });
        })
        .sink("out");
    if window.late_port.is_some() {
        job.side_output(&late).sink("late");
    }
}

/// Runs the steps through the SDK's harness, each row as a batch of its own, and through the reference: what they emit must agree after each step.
fn check(window: graph::Window, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut harness = TestHarness::new(move |under_construction: &Job| job(under_construction, window));
    let mut reference = Reference::new(window);
    let (mut watermark, mut now, mut id) = (-10, 0, 0);
    for step in steps.iter().chain(&[Step::Watermark(i64::MAX)]) {
        match *step {
            Step::Row(key, distance) => {
                id += 1;
                let time = watermark + distance;
                harness.push("in", [Event { key, id, time: EventTime::from_millis(time) }]);
                reference.row(key, time, id, now);
            }
            Step::Cut => {}
            Step::Barrier => harness.restart(),
            Step::Watermark(i64::MAX) => {
                harness.finish();
                reference.watermark(i64::MAX);
            }
            Step::Watermark(by) => {
                watermark += by;
                harness.advance_watermark(EventTime::from_millis(watermark));
                reference.watermark(watermark);
            }
            Step::Clock(by) => {
                now += by;
                harness.advance_clock(span(by));
                reference.clock(now);
            }
        }
        let results = harness.take::<Emitted>("out").into_iter();
        let panes = results.map(|Emitted { key, start, end, rows }| Pane { key, start, end, rows }).collect();
        prop_assert_eq!(sorted(panes), sorted(std::mem::take(&mut reference.panes)), "after {:?}", step);
        let expected = std::mem::take(&mut reference.late);
        if window.late_port.is_some() {
            let late: Vec<u32> = harness.take::<Event>("late").iter().map(|row| row.id).collect();
            prop_assert_eq!(late, expected, "after {:?}", step);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// All assigners and triggers, both clocks, late rows, restarts: the harness does what the reference does, and so what the host does.
    #[test]
    fn the_test_harness_agrees_with_the_reference(window in window().prop_map(describable), steps in steps(-20)) {
        check(window, &steps)?;
    }
}
