//! Joins, compared with nested loops over all rows.

use weir::{
    Change, EventTime, Job, KeyedContext, Offset, Record, Stream, Tag, TestHarness, Ttl, Watermarks, days, hours, millis,
};

#[derive(Clone, Debug, PartialEq, Record)]
struct Row {
    id: u64,
    key: String,
    at: EventTime,
}

/// A pair: ids, 0 where there is none; the event time of the result; whether it is taken back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Record)]
struct Pair {
    left: u64,
    right: u64,
    at: i64,
    retracted: bool,
}

fn pair(left: u64, right: u64, at: i64) -> Pair {
    Pair { left, right, at, retracted: false }
}

fn random(mut state: u64) -> impl FnMut(i64) -> i64 {
    state += 1;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as i64 % below
    }
}

/// How far rows go back in time before they are late.
const DELAY_MS: i64 = 40;

fn rows(job: &Job, source: &str) -> Stream<Row> {
    job.source::<Row>(source).event_time(Row::AT, Watermarks::bounded(millis(DELAY_MS as u64)))
}

/// Writes pairs with their event time.
fn with_times(pairs: Stream<Pair>) {
    let timed = |_: &mut (), pair: Pair, cx: &mut KeyedContext<'_, u64, Pair>| {
        cx.emit(Pair { at: cx.event_time().millis(), ..pair });
    };
    pairs.key_by(Pair::LEFT).process_with(timed).sink("out");
}

fn offset(millis: i64) -> Offset {
    let distance = std::time::Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { Offset::before(distance) } else { Offset::after(distance) }
}

/// Random rows, some of them late, in random batches: each pair of rows within the bounds that are not late comes once, late rows go to the side, and once the
/// watermark is past them all, nothing is left.
#[test]
fn interval_join_agrees_with_nested_loops() {
    let (mut joined, mut late_rows) = (0, 0);
    for seed in 0..150 {
        let mut random = random(seed);
        let lower = random(200) - 100;
        let upper = lower + random(120) + 2;
        let (lower_open, upper_open) = (random(2) == 1, random(2) == 1);
        let mut harness = TestHarness::new(move |job: &Job| {
            let (left, right) = (Tag::<Row>::new("late-left"), Tag::<Row>::new("late-right"));
            let mut join = rows(job, "left").key_by(Row::KEY).interval_join(rows(job, "right").key_by(Row::KEY));
            join = join.between(offset(lower), offset(upper)).late_left(&left).late_right(&right);
            join = if lower_open { join.lower_exclusive() } else { join };
            join = if upper_open { join.upper_exclusive() } else { join };
            let pairs = join.join(|left, right| pair(left.id, right.id, 0)).uid("near");
            with_times(pairs.break_chain());
            job.side_output(&left).sink("late-left");
            job.side_output(&right).sink("late-right");
        });
        let (mut kept, mut late) = ([vec![], vec![]], [vec![], vec![]]);
        let mut greatest = [i64::MIN; 2];
        for id in 1..160 {
            let side = random(2) as usize;
            let row = |at: i64, key: i64| Row { id, key: format!("key {key}"), at: EventTime::from_millis(at) };
            let row = row(id as i64 * 4 - random(80), random(3));
            let watermark = greatest.iter().map(|g: &i64| g.saturating_sub(DELAY_MS + 1)).min().unwrap_or(i64::MIN);
            let is_late = watermark > i64::MIN && row.at.millis() <= watermark;
            let rows = if is_late { &mut late } else { &mut kept };
            rows[side].push(row.clone());
            greatest[side] = greatest[side].max(row.at.millis());
            harness.push(["left", "right"][side], [row]);
            if random(40) == 0 {
                harness.restart();
            }
        }
        let (lower, upper) = (lower + i64::from(lower_open), upper - i64::from(upper_open));
        let mut expected = vec![];
        for left in &kept[0] {
            for right in kept[1].iter().filter(|right| right.key == left.key) {
                let (left_at, right_at) = (left.at.millis(), right.at.millis());
                if (lower..=upper).contains(&(right_at - left_at)) {
                    expected.push(pair(left.id, right.id, left_at.max(right_at)));
                }
            }
        }
        expected.sort();
        let mut found: Vec<Pair> = harness.take("out");
        found.sort();
        assert_eq!(found, expected, "seed {seed}, from {lower} to {upper}");
        assert_eq!([harness.take::<Row>("late-left"), harness.take::<Row>("late-right")], late, "seed {seed}");
        harness.advance_watermark(EventTime::from_millis(100_000));
        assert_eq!(harness.keys("near"), 0, "seed {seed}");
        joined += expected.len();
        late_rows += late.concat().len();
    }
    assert!(joined > 1000 && late_rows > 1000, "{joined} pairs, {late_rows} late rows");
}

/// State is dropped while the watermark goes on: what it holds does not grow with the number of rows.
#[test]
fn interval_join_forgets() {
    let mut harness = TestHarness::new(|job: &Job| {
        let join = rows(job, "left").key_by(Row::ID).interval_join(rows(job, "right").key_by(Row::ID));
        join.between(Offset::ZERO, offset(100)).join(|left, right| pair(left.id, right.id, 0)).uid("near").sink("out");
    });
    for id in 0..500 {
        let row = Row { id, key: String::new(), at: EventTime::from_millis(id as i64 * 10) };
        harness.push("left", [row.clone()]);
        harness.push("right", [row]);
        assert!(harness.keys("near") < 40, "{} of {id}", harness.keys("near"));
    }
    assert_eq!(harness.take::<Pair>("out").len(), 500);
}

/// A join of a kind, as changes.
fn join(job: &Job, kind: usize, ttls: [Option<Ttl>; 2]) {
    let mut join = job.source::<Row>("left").key_by(Row::KEY).join(job.source::<Row>("right").key_by(Row::KEY));
    if let Some(ttl) = ttls[0] {
        join = join.left_ttl(ttl);
    }
    if let Some(ttl) = ttls[1] {
        join = join.right_ttl(ttl);
    }
    let id = |row: Option<&Row>| row.map_or(0, |row| row.id);
    fn told(change: Change<Pair>) -> Pair {
        Pair { retracted: change.is_retraction(), ..change.into_row() }
    }
    match kind {
        0 => join.inner(|left, right| pair(left.id, right.id, 0)).uid("join").sink("out"),
        1 => join.left_outer(move |left, right| pair(left.id, id(right), 0)).uid("join").map(told).sink("out"),
        2 => join.right_outer(move |left, right| pair(id(left), right.id, 0)).uid("join").map(told).sink("out"),
        _ => join.full_outer(move |left, right| pair(id(left), id(right), 0)).uid("join").map(told).sink("out"),
    }
}

/// What is there after these changes; a result that is taken back must have been there.
fn apply(there: &mut Vec<Pair>, changes: Vec<Pair>) {
    for change in changes {
        match change.retracted {
            false => there.push(change),
            true => {
                let told = Pair { retracted: false, ..change };
                let place = there.iter().position(|pair| *pair == told).expect("what is taken back was there");
                there.swap_remove(place);
            }
        }
    }
    there.sort();
}

/// After each row, what the changes add up to is the join of all rows that have come.
#[test]
fn joins_agree_with_nested_loops() {
    for (kind, seed) in (0..4).flat_map(|kind| (0..15).map(move |seed| (kind, seed))) {
        let mut random = random(seed);
        let mut harness = TestHarness::new(move |job: &Job| join(job, kind, [None, None]));
        let mut rows: [Vec<Row>; 2] = [vec![], vec![]];
        let mut there = vec![];
        for id in 1..50 {
            let side = random(2) as usize;
            let row = Row { id, key: format!("key {}", random(8)), at: EventTime::MIN };
            rows[side].push(row.clone());
            harness.push(["left", "right"][side], [row]);
            if random(10) == 0 {
                harness.restart();
            }
            apply(&mut there, harness.take("out"));
            let [left, right] = &rows;
            let mut expected = vec![];
            for l in left {
                expected.extend(right.iter().filter(|r| r.key == l.key).map(|r| pair(l.id, r.id, 0)));
            }
            let is_alone = |row: &&Row, others: &[Row]| !others.iter().any(|other| other.key == row.key);
            if kind == 1 || kind == 3 {
                expected.extend(left.iter().filter(|row| is_alone(row, right)).map(|row| pair(row.id, 0, 0)));
            }
            if kind == 2 || kind == 3 {
                expected.extend(right.iter().filter(|row| is_alone(row, left)).map(|row| pair(0, row.id, 0)));
            }
            expected.sort();
            assert_eq!(there, expected, "kind {kind}, seed {seed}, row {id}");
        }
    }
}

/// With a time to live, a row meets those that are not older than theirs says; nothing is left when all have expired, and nothing is taken back that was not told.
#[test]
fn rows_expire() {
    for (kind, seed) in (0..4).flat_map(|kind| (0..15).map(move |seed| (kind, seed))) {
        let mut random = random(seed);
        let ttls = [(random(3) > 0).then(|| 20 + random(80)), Some(20 + random(80))];
        let as_ttl = |ms: i64| Ttl::new(millis(ms as u64));
        let mut harness = TestHarness::new(move |job: &Job| join(job, kind, ttls.map(|ttl| ttl.map(as_ttl))));
        let mut rows: [Vec<(i64, Row)>; 2] = [vec![], vec![]];
        let (mut there, mut expected, mut now) = (vec![], vec![], 0);
        for id in 1..100 {
            let side = random(2) as usize;
            let row = Row { id, key: format!("key {}", random(4)), at: EventTime::MIN };
            let is_met = |(at, other): &&(i64, Row)| other.key == row.key && ttls[1 - side].is_none_or(|ttl| now < at + ttl);
            let met = rows[1 - side].iter().filter(is_met).map(|(_, other)| other.id);
            expected.extend(met.map(|other| if side == 0 { pair(row.id, other, 0) } else { pair(other, row.id, 0) }));
            rows[side].push((now, row.clone()));
            harness.push(["left", "right"][side], [row]);
            apply(&mut there, harness.take("out"));
            if random(10) == 0 {
                harness.restart();
            }
            let by = random(12);
            harness.advance_clock(millis(by as u64));
            now += by;
        }
        let mut pairs: Vec<_> = there.into_iter().filter(|pair| pair.left > 0 && pair.right > 0).collect();
        pairs.sort();
        expected.sort();
        assert_eq!(pairs, expected, "kind {kind}, seed {seed}, {ttls:?}");
        harness.advance_clock(millis(1000));
        let keys_left = if ttls[0].is_none() { 4 } else { 0 };
        assert_eq!(harness.keys("join"), keys_left, "kind {kind}, seed {seed}, {ttls:?}");
    }
}

/// A row that is read lives longer if its time to live says so; a row that was joined with one that is gone is not taken back.
#[test]
fn reading_keeps_rows() {
    let ttl = Ttl::new(millis(100));
    let row = |id| Row { id, key: String::new(), at: EventTime::MIN };
    for (left_ttl, seen) in [(ttl, 0), (ttl.on_read(), 1)] {
        let mut harness = TestHarness::new(move |job: &Job| join(job, 3, [Some(left_ttl), Some(ttl)]));
        harness.push("left", [row(1)]);
        harness.advance_clock(millis(80));
        harness.push("right", [row(2)]);
        harness.take::<Pair>("out");
        harness.advance_clock(millis(80));
        harness.push("right", [row(3)]);
        assert_eq!(harness.take::<Pair>("out"), [pair(seen, 3, 0)]);
        harness.advance_clock(millis(150));
        harness.push("right", [row(4)]);
        harness.push("left", [row(5)]);
        let alone = Pair { retracted: true, ..pair(0, 4, 0) };
        assert_eq!(harness.take::<Pair>("out"), [pair(0, 4, 0), alone, pair(5, 4, 0)]);
    }
}

/// An inner join of streams with event times.
fn timed_join(ttls: [Option<Ttl>; 2]) -> impl Fn(&Job) {
    move |job| {
        let mut join = rows(job, "left").key_by(Row::KEY).join(rows(job, "right").key_by(Row::KEY));
        if let Some(ttl) = ttls[0] {
            join = join.left_ttl(ttl);
        }
        if let Some(ttl) = ttls[1] {
            join = join.right_ttl(ttl);
        }
        join.inner(|left, right| pair(left.id, right.id, 0)).uid("join").sink("out");
    }
}

/// A row of its own key.
fn own_key(id: u64, at: i64) -> Row {
    Row { id, key: format!("key {id}"), at: EventTime::from_millis(at) }
}

/// 100 rows of the left stream wait, long after 1970 by the machine's clock.
fn waiting(ttls: [Option<Ttl>; 2]) -> TestHarness {
    let mut harness = TestHarness::new(timed_join(ttls));
    harness.advance_clock(days(20_000));
    harness.push("left", (0..100).map(|id| own_key(id, 1_500_000_000_000)));
    harness
}

/// How many results the rows of the right stream with these ids make.
fn met(harness: &mut TestHarness, ids: std::ops::Range<u64>, at: i64) -> usize {
    harness.push("right", ids.map(|id| own_key(id, at)));
    harness.take::<Pair>("out").len()
}

/// A join that gets a time to live keeps its rows: those that came without one live from when they are first met. A restart in between does not make that forgotten.
#[test]
fn a_join_gets_a_time_to_live() {
    let at = 1_500_000_000_000;
    let hour = 3_600_000;
    for ttl in [Ttl::new(days(1)), Ttl::new(days(1)).event_time()] {
        let mut harness = waiting([None, None]);
        harness.upgrade(timed_join([Some(ttl), Some(ttl)])).expect("its rows can be read");
        harness.restart();
        assert_eq!(met(&mut harness, 0..50, at + hour), 50, "{ttl:?}");
        harness.restart();
        harness.advance_clock(hours(20));
        assert_eq!(met(&mut harness, 0..10, at + 20 * hour), 10, "{ttl:?}");
        harness.advance_clock(hours(5));
        assert_eq!(met(&mut harness, 10..50, at + 26 * hour), 0, "{ttl:?}");
        assert_eq!(met(&mut harness, 50..100, at + 26 * hour), 50, "{ttl:?}");
        harness.advance_clock(days(2));
        harness.advance_watermark(EventTime::from_millis(at + 100 * hour));
        assert_eq!(harness.keys("join"), 0, "{ttl:?}");
    }
}

/// A join whose time to live changes its clock keeps its rows; one that loses it keeps them for good, and they begin to live anew if it gets one again.
#[test]
fn a_join_changes_its_time_to_live() {
    let at = 1_500_000_000_000;
    let hour = 3_600_000;
    let (by_clock, by_event) = (Ttl::new(days(1)), Ttl::new(days(1)).event_time());
    for (before, after) in [(by_clock, by_event), (by_event, by_clock)] {
        let mut harness = waiting([Some(before); 2]);
        harness.upgrade(timed_join([Some(after); 2])).expect("its rows can be read");
        assert_eq!(met(&mut harness, 0..50, at + hour), 50, "{before:?} to {after:?}");
        harness.upgrade(timed_join([None; 2])).expect("its rows can be read");
        harness.advance_clock(days(10));
        harness.advance_watermark(EventTime::from_millis(at + 240 * hour));
        assert_eq!(met(&mut harness, 50..60, at + 240 * hour), 10, "{before:?} to none");
        harness.upgrade(timed_join([Some(before), None])).expect("its rows can be read");
        assert_eq!(met(&mut harness, 60..100, at + 240 * hour), 40, "none to {before:?}");
        harness.advance_clock(days(2));
        harness.advance_watermark(EventTime::from_millis(at + 300 * hour));
        assert_eq!(met(&mut harness, 60..100, at + 300 * hour), 0, "{before:?}");
        assert_eq!(met(&mut harness, 0..60, at + 300 * hour), 60, "{before:?}: they are met only now");
    }
}

/// A time to live of another length counts from when rows came.
#[test]
fn a_join_changes_the_length_of_its_time_to_live() {
    let mut harness = waiting([Some(Ttl::new(days(1))), None]);
    harness.upgrade(timed_join([Some(Ttl::new(days(2))), None])).expect("its rows can be read");
    harness.advance_clock(hours(47));
    assert_eq!(met(&mut harness, 0..50, 0), 50);
    harness.upgrade(timed_join([Some(Ttl::new(hours(46))), None])).expect("its rows can be read");
    assert_eq!(met(&mut harness, 50..100, 0), 0);
}

/// Mistakes are said when the job is built.
#[test]
fn mistakes() {
    let mistake = |job: fn(&Job)| TestHarness::try_new(job, &[]).err().expect("the job has a mistake");
    let untimed = mistake(|job| {
        let right = job.source::<Row>("right").key_by(Row::KEY);
        rows(job, "left").key_by(Row::KEY).interval_join(right).join(|left, right| pair(left.id, right.id, 0)).sink("out");
    });
    assert!(untimed.contains("an interval join have no event times"), "{untimed}");
    let reversed = mistake(|job| {
        let join = rows(job, "left").key_by(Row::KEY).interval_join(rows(job, "right").key_by(Row::KEY));
        join.between(offset(5), offset(-5)).join(|left, right| pair(left.id, right.id, 0)).sink("out");
    });
    assert!(reversed.contains("from 5 ms to -5 ms"), "{reversed}");
}
