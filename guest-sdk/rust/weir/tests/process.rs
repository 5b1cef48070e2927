//! Keyed functions: state, timers, two inputs, broadcast.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir::{
    BroadcastProcess, EventTime, Job, KeyedContext, Pass, Process, Record, Str, Tag, TestHarness, TimeDomain, Timer, Watermarks,
    millis,
};

#[derive(Clone, Debug, PartialEq, Record)]
struct Event {
    user: u64,
    page: Str,
    time: EventTime,
}

fn event((user, page, time): (u64, &str, i64)) -> Event {
    Event { user, page: page.into(), time: EventTime::from_millis(time) }
}

#[derive(Debug, PartialEq, Record)]
struct Count {
    user: u64,
    count: u64,
}

fn counts(counts: &[(u64, u64)]) -> Vec<Count> {
    counts.iter().map(|&(user, count)| Count { user, count }).collect()
}

#[derive(Record)]
struct Passing {
    user: Pass<u64>,
    page: Pass<Str>,
}

#[derive(Record)]
struct PassingCount {
    user: Pass<u64>,
    count: u64,
}

/// Each key counts for itself, across batches and a restart, by a key that is a field, several fields, or computed.
#[test]
fn running_counts() {
    fn run(job: impl Fn(&Job) + 'static) -> Vec<Count> {
        let mut harness = TestHarness::new(job);
        harness.push("in", [(1, "a", 0), (2, "a", 0), (1, "b", 0)].map(event));
        harness.restart();
        harness.push("in", [(2, "a", 0), (1, "b", 0)].map(event));
        harness.take("out")
    }

    fn count(count: &mut u64, event: Event, cx: &mut KeyedContext<'_, impl Sized, Count>) {
        *count += 1;
        cx.emit(Count { user: event.user, count: *count });
    }

    let by_field = run(|job| {
        let events = job.source::<Passing>("in").key_by(Passing::USER);
        let counts = events.process_with(|count: &mut u64, event: Passing, cx| {
            *count += 1;
            cx.emit(PassingCount { user: event.user, count: *count });
        });
        counts.sink("out");
    });
    assert_eq!(by_field, counts(&[(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)]));
    let by_two = run(|job| job.source::<Event>("in").key_by((Event::USER, Event::PAGE)).process_with(count).sink("out"));
    assert_eq!(by_two, counts(&[(1, 1), (2, 1), (1, 1), (2, 2), (1, 2)]));
    let by_closure = run(|job| {
        let parity = |e: &Event| (e.user.is_multiple_of(2), e.page.clone());
        job.source::<Event>("in").filter(|e| e.user < 9).key_by(parity).process_with(count).sink("out");
    });
    assert_eq!(by_closure, counts(&[(1, 1), (2, 1), (1, 1), (2, 2), (1, 2)]));
    let by_nothing = run(|job| job.source::<Event>("in").key_by(|_: &Event| ()).process_with(count).sink("out"));
    assert_eq!(by_nothing, counts(&[(1, 1), (2, 2), (1, 3), (2, 4), (1, 5)]));
}

/// A running reduction emits each result.
#[test]
fn reduce() {
    let mut harness = TestHarness::new(|job: &Job| {
        let longest = |a: Event, b: Event| if b.page.len() > a.page.len() { b } else { a };
        job.source::<Event>("in").key_by(Event::USER).reduce(longest).sink("out");
    });
    let rows = [(1, "ab", 0), (1, "a", 1), (1, "abc", 2)].map(event);
    harness.push("in", rows.clone());
    assert_eq!(harness.take::<Event>("out"), [rows[0].clone(), rows[0].clone(), rows[2].clone()]);
}

/// Visits that end when no click came for 10 ms of event time, or after 1 s on the clock; and the pages of each to the side.
struct Visits {
    pages: Tag<Pages>,
}

#[derive(Debug, PartialEq, Record)]
struct Pages {
    user: u64,
    pages: Vec<String>,
}

#[derive(Default, Serialize, Deserialize)]
struct Visit {
    pages: BTreeMap<String, u64>,
    ends: Option<EventTime>,
}

impl Process<Event> for Visits {
    type Key = u64;
    type State = Visit;
    type Out = Count;

    fn row(&mut self, visit: &mut Visit, event: Event, cx: &mut KeyedContext<u64, Count>) {
        assert_eq!((cx.event_time(), *cx.key()), (event.time, event.user));
        *visit.pages.entry(event.page.to_string()).or_default() += 1;
        match visit.ends.replace(event.time + millis(10)) {
            Some(ends) => cx.delete_event_timer(ends),
            None => cx.set_processing_timer(cx.now() + millis(1000)),
        }
        cx.set_event_timer(event.time + millis(10));
    }

    fn timer(&mut self, visit: &mut Visit, timer: Timer, cx: &mut KeyedContext<u64, Count>) {
        let visit = std::mem::take(visit);
        if visit.pages.is_empty() {
            return;
        }
        assert!(timer.domain == TimeDomain::Processing || Some(timer.time) == visit.ends);
        let user = *cx.key();
        cx.emit(Count { user, count: visit.pages.values().sum() });
        cx.side_output(&self.pages, &Pages { user, pages: visit.pages.into_keys().collect() });
    }
}

/// Timers fire by the watermark and by the clock, can be deleted, and outlive a restart; side outputs are fed.
#[test]
fn timers() {
    let mut harness = TestHarness::new(|job: &Job| {
        let pages = Tag::new("pages");
        let events = job.source::<Event>("in").event_time(Event::TIME, Watermarks::bounded(millis(0))).key_by(Event::USER);
        events.side_output(&pages).process(Visits { pages: pages.clone() }).uid("visits").sink("out");
        job.side_output(&pages).sink("pages");
    });
    harness.push("in", [(1, "a", 0), (1, "b", 5), (2, "c", 6), (1, "a", 12)].map(event));
    assert_eq!(harness.take::<Count>("out"), []);
    harness.restart();
    harness.push("in", [event((3, "d", 18))]);
    assert_eq!(harness.take::<Count>("out"), counts(&[(2, 1)]));
    harness.advance_watermark(EventTime::from_millis(22));
    assert_eq!(harness.take::<Count>("out"), counts(&[(1, 3)]));
    harness.advance_clock(millis(1000));
    assert_eq!(harness.take::<Count>("out"), counts(&[(3, 1)]));
    let pages = |user, pages: &[&str]| Pages { user, pages: pages.iter().map(|p| (*p).to_owned()).collect() };
    assert_eq!(harness.take::<Pages>("pages"), [pages(2, &["c"]), pages(1, &["a", "b"]), pages(3, &["d"])]);
}

/// Fires at 10, 20 and 30 ms; the first timer changes its mind.
struct Planning;

impl Process<Event> for Planning {
    type Key = u64;
    type State = ();
    type Out = Count;

    fn row(&mut self, (): &mut (), _: Event, cx: &mut KeyedContext<u64, Count>) {
        for ms in [10, 20, 30] {
            cx.set_event_timer(EventTime::from_millis(ms));
        }
    }

    fn timer(&mut self, (): &mut (), timer: Timer, cx: &mut KeyedContext<u64, Count>) {
        let (user, count) = (*cx.key(), timer.time.millis() as u64);
        cx.emit(Count { user, count });
        if count == 10 {
            cx.delete_event_timer(EventTime::from_millis(20));
            for ms in [30, 40] {
                cx.set_event_timer(EventTime::from_millis(ms));
            }
            if user == 2 {
                cx.set_event_timer(EventTime::from_millis(20));
            }
        }
    }
}

/// Timers of one key that are due together see each other: one that was deleted does not fire, one that was set twice fires once.
#[test]
fn timers_that_are_due_together() {
    let mut harness = TestHarness::new(|job: &Job| {
        let events = job.source::<Event>("in").event_time(Event::TIME, Watermarks::bounded(millis(0)));
        events.key_by(Event::USER).process(Planning).sink("out");
    });
    harness.push("in", [(1, "a", 0), (2, "a", 0)].map(event));
    harness.advance_watermark(EventTime::from_millis(100));
    let mut fired = harness.take::<Count>("out");
    fired.sort_by_key(|count| (count.user, count.count));
    assert_eq!(fired, counts(&[(1, 10), (1, 30), (1, 40), (2, 10), (2, 20), (2, 30), (2, 40)]));
}

#[derive(Record)]
struct Login {
    id: u64,
    name: Str,
}

/// Two keyed streams share their state.
#[test]
fn two_inputs() {
    #[derive(Debug, PartialEq, Record)]
    struct Named {
        name: String,
        page: String,
    }

    let mut harness = TestHarness::new(|job: &Job| {
        let logins = job.source::<Login>("logins").key_by(Login::ID);
        job.source::<Event>("in")
            .key_by(Event::USER)
            .connect(logins)
            .process_with(
                |name: &mut Option<String>, event: Event, cx| {
                    if let Some(name) = name.clone() {
                        cx.emit(Named { name, page: event.page.to_string() });
                    }
                },
                |name: &mut Option<String>, login: Login, _| *name = Some(login.name.to_string()),
            )
            .sink("out");
    });
    harness.push("in", [event((1, "too early", 0))]);
    harness.push("logins", [Login { id: 1, name: "Ada".into() }]);
    harness.restart();
    harness.push("in", [event((1, "home", 0)), event((2, "home", 0))]);
    assert_eq!(harness.take::<Named>("out"), [Named { name: "Ada".into(), page: "home".into() }]);
}

/// Rows of a broadcast stream do not hold back the time of the keyed rows, whether or not they have event times, and wherever those are.
#[test]
fn broadcast_rows_do_not_hold_time_back() {
    struct Reminding;

    impl BroadcastProcess<Event, Event> for Reminding {
        type Key = u64;
        type State = ();
        type Broadcast = ();
        type Out = Count;

        fn row(&mut self, (): &mut (), (): &(), event: Event, cx: &mut KeyedContext<u64, Count>) {
            cx.set_event_timer(event.time);
        }
        fn broadcast(&mut self, (): &mut (), _: Event) {}
        fn timer(&mut self, (): &mut (), (): &(), timer: Timer, cx: &mut KeyedContext<u64, Count>) {
            let (user, count) = (*cx.key(), timer.time.millis() as u64);
            cx.emit(Count { user, count });
        }
    }

    let mut harness = TestHarness::new(|job: &Job| {
        let timed = |name| job.source::<Event>(name).event_time(Event::TIME, Watermarks::bounded(millis(0)));
        timed("in").key_by(Event::USER).connect_broadcast(timed("rules")).process(Reminding).sink("out");
    });
    harness.push("in", [event((1, "a", 10))]);
    harness.push("in", [event((1, "a", 20))]);
    assert_eq!(harness.take::<Count>("out"), counts(&[(1, 10)]), "no rule has come yet");
    harness.push("rules", [event((0, "", 1))]);
    harness.push("in", [event((1, "a", 30))]);
    assert_eq!(harness.take::<Count>("out"), counts(&[(1, 20)]), "a rule has come, of long ago");
    harness.finish();
    assert_eq!(harness.take::<Count>("out"), counts(&[(1, 30)]));
}

/// At the end of the input all timers of event time fire, and those of processing time do not any more.
#[test]
fn timers_at_the_end_of_the_input() {
    let mut harness = TestHarness::new(|job: &Job| {
        struct Both;

        impl Process<Event> for Both {
            type Key = u64;
            type State = ();
            type Out = Count;

            fn row(&mut self, (): &mut (), _: Event, cx: &mut KeyedContext<u64, Count>) {
                cx.set_event_timer(EventTime::from_millis(1000));
                cx.set_processing_timer(EventTime::from_millis(1001));
            }
            fn timer(&mut self, (): &mut (), timer: Timer, cx: &mut KeyedContext<u64, Count>) {
                let (user, count) = (*cx.key(), timer.time.millis() as u64);
                cx.emit(Count { user, count });
            }
        }

        let events = job.source::<Event>("in").event_time(Event::TIME, Watermarks::bounded(millis(0)));
        events.key_by(Event::USER).process(Both).sink("out");
    });
    harness.push("in", [event((1, "a", 0))]);
    harness.finish();
    assert_eq!(harness.take::<Count>("out"), counts(&[(1, 1000)]));
}

/// Every row of a broadcast stream reaches the function, which uses it for the rows of all keys.
#[test]
fn broadcast() {
    #[derive(Record)]
    struct Ban {
        page: Str,
    }

    struct Allowed;

    impl BroadcastProcess<Event, Ban> for Allowed {
        type Key = u64;
        type State = ();
        type Broadcast = Vec<String>;
        type Out = Event;

        fn row(&mut self, (): &mut (), bans: &Vec<String>, event: Event, cx: &mut KeyedContext<u64, Event>) {
            if !bans.iter().any(|page| *page == *event.page) {
                cx.emit(event);
            }
        }
        fn broadcast(&mut self, bans: &mut Vec<String>, ban: Ban) {
            bans.push(ban.page.to_string());
        }
    }

    let mut harness = TestHarness::new(|job: &Job| {
        let bans = job.source::<Ban>("bans");
        job.source::<Event>("in").key_by(Event::USER).connect_broadcast(bans).process(Allowed).sink("out");
    });
    harness.push("bans", [Ban { page: "secret".into() }]);
    harness.push("in", [(1, "home", 0), (2, "secret", 0)].map(event));
    assert_eq!(harness.take::<Event>("out"), [event((1, "home", 0))]);
    // A new instance knows what the old one has kept of them.
    harness.restart();
    harness.push("in", [(1, "secret", 0), (2, "home", 0)].map(event));
    assert_eq!(harness.take::<Event>("out"), [event((2, "home", 0))]);
}
