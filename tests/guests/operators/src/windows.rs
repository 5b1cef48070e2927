//! Windows: assigners, triggers, lateness, and what is made of their rows.

use weir::{
    Aggregate, Avg, Count, CountWindow, Distinct, First, Global, Job, Last, Max, Min, Session, Sliding, Str, Sum, Tag, Trigger,
    Tumbling, Watermarks, Window, millis, secs,
};

use crate::{Line, Row, leak, line, rows, timed};

/// A result with the key and the start of its window.
fn starting<R: std::fmt::Display>((key, window, result): (Str, Window, R)) -> Line {
    line(format!("{key} {} {result}", window.start.millis()))
}

pub fn aggregates(job: &Job) {
    let numbers = (Count, Sum::of(Row::NUMBER), Min::of(Row::NUMBER), Max::of(Row::NUMBER), Avg::of(Row::NUMBER));
    let rows = (Distinct::of(Row::NUMBER), First, Last, Sum::of(|row: &Row| u64::from(row.number > 0)));
    timed(job, "in")
        .key_by(Row::KEY)
        .window(Tumbling::new(secs(1)))
        .aggregate((numbers, rows))
        .map(|(key, window, ((count, sum, min, max, avg), (distinct, first, last, positive)))| {
            let [min, max] = [min, max].map(|number| number.unwrap_or_default());
            let [first, last] = [first, last].map(|row: Option<Row>| row.map_or(0, |row| row.id));
            let avg = avg.unwrap_or_default();
            let start = window.start.millis();
            line(format!("{key} {start} {count} {sum} {min} {max} {avg:.3} {distinct} {first} {last} {positive}"))
        })
        .sink("out");
}

/// The distance between the least and the greatest number.
struct Spread;

impl Aggregate<Row> for Spread {
    type Row = Row;
    type Accumulator = Option<(i64, i64)>;
    type Out = i64;

    fn add(&self, spread: &mut Option<(i64, i64)>, row: Row) {
        self.merge(spread, &Some((row.number, row.number)));
    }
    fn merge(&self, spread: &mut Option<(i64, i64)>, other: &Option<(i64, i64)>) {
        *spread = match (*spread, *other) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }
    fn result(&self, spread: &Option<(i64, i64)>) -> i64 {
        spread.map_or(0, |(least, greatest)| greatest - least)
    }
}

pub fn own_aggregate(job: &Job) {
    timed(job, "in").key_by(Row::KEY).window(Tumbling::new(secs(1)).offset_ms(250)).aggregate(Spread).map(starting).sink("out");
}

/// The number of a row, which may leak.
fn leaking_number(job: &Job) -> impl Fn(&Row) -> i64 + use<> {
    let leak = leak(job);
    move |row: &Row| {
        leak();
        row.number
    }
}

pub fn sliding(job: &Job) {
    let windows = timed(job, "in").key_by(Row::KEY).window(Sliding::new(secs(2), millis(500)));
    windows.aggregate(Sum::of(leaking_number(job))).uid("leaking").map(starting).sink("out");
}

pub fn session(job: &Job) {
    timed(job, "in")
        .key_by(Row::KEY)
        .window(Session::gap(millis(300)))
        .aggregate((Count, Sum::of(leaking_number(job))))
        .uid("leaking")
        .map(|(key, window, (count, sum))| line(format!("{key} {} {} {count} {sum}", window.start.millis(), window.end.millis())))
        .sink("out");
}

pub fn global(job: &Job) {
    timed(job, "in").key_by(Row::KEY).window(Global).aggregate(Count).map(|(key, _, n)| line(format!("{key} {n}"))).sink("out");
}

pub fn count_window(job: &Job) {
    let windows = rows(job, "in").key_by(Row::KEY).window(CountWindow(3));
    windows.aggregate(Sum::of(Row::NUMBER)).map(|(key, _, sum)| line(format!("{key} {sum}"))).sink("out");
}

pub fn window_all(job: &Job) {
    let windows = timed(job, "in").window_all(Tumbling::new(secs(1)));
    windows.aggregate(Count).map(|((), window, n)| line(format!("{} {n}", window.start.millis()))).sink("out");
}

pub fn every_count(job: &Job, purging: bool) {
    let trigger = Trigger::on_time().every_count(2);
    let trigger = if purging { trigger.purging() } else { trigger };
    timed(job, "in").key_by(Row::KEY).window(Tumbling::new(secs(1))).trigger(trigger).aggregate(Count).map(starting).sink("out");
}

/// Not at the end, only each time that a key has got three more rows.
pub fn count_only(job: &Job) {
    let windows = timed(job, "in").key_by(Row::KEY).window(Global).trigger(Trigger::never().every_count(3));
    windows.aggregate(Count).map(|(key, _, n)| line(format!("{key} {n}"))).sink("out");
}

pub fn early(job: &Job) {
    let trigger = Trigger::on_time().early_every(millis(1));
    timed(job, "in").key_by(Row::KEY).window(Tumbling::new(secs(1))).trigger(trigger).aggregate(Count).map(starting).sink("out");
}

pub fn late(job: &Job) {
    let late = Tag::<Row>::new("late");
    rows(job, "in")
        .event_time(Row::AT, Watermarks::bounded(millis(0)))
        .key_by(Row::KEY)
        .window(Tumbling::new(secs(1)))
        .allowed_lateness(millis(500))
        .late_output(&late)
        .aggregate(Sum::of(Row::NUMBER))
        .map(starting)
        .sink("out");
    job.side_output(&late).map(|row| line(format!("{} {} {}", row.id, row.key, row.number))).sink("side");
}

pub fn processing_window(job: &Job) {
    let windows = rows(job, "in").key_by(Row::KEY).window(Tumbling::new(millis(5))).processing_time();
    windows.aggregate(Count).map(|(key, _, n)| line(format!("{key} {n}"))).sink("out");
}

pub fn process_window(job: &Job) {
    timed(job, "in")
        .key_by(Row::KEY)
        .window(Tumbling::new(secs(1)))
        .process(|key: &Str, window, rows: &[Row], out| {
            let mut ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
            ids.sort_unstable();
            out.push(line(format!("{key} {} {ids:?}", window.start.millis())));
        })
        .sink("out");
}

/// The row with the greatest number, of several the first one.
pub fn reduce_window(job: &Job) {
    timed(job, "in")
        .key_by(Row::KEY)
        .window(Session::gap(millis(300)))
        .reduce(|a, b| if (b.number, a.id) > (a.number, b.id) { b } else { a })
        .map(|(key, window, row)| line(format!("{key} {} {}", window.start.millis(), row.id)))
        .sink("out");
}

pub fn join(job: &Job) {
    let other = timed(job, "other").key_by(Row::KEY);
    let windows = timed(job, "in").key_by(Row::KEY).connect(other).window(Tumbling::new(secs(1)));
    windows.join(|left, right| line(format!("{} {} {}", left.key, left.id, right.id))).uid("joined").sink("out");
}

/// A join whose late rows go to the side, those of either stream.
pub fn late_join(job: &Job) {
    let (left, right) = (Tag::<Row>::new("left"), Tag::<Row>::new("right"));
    let [rows, other] = ["in", "other"].map(|source| rows(job, source).event_time(Row::AT, Watermarks::bounded(millis(0))));
    let windows = rows.key_by(Row::KEY).connect(other.key_by(Row::KEY)).window(Tumbling::new(secs(1)));
    windows
        .late_left(&left)
        .late_right(&right)
        .join(|left, right| line(format!("{} {} {}", left.key, left.id, right.id)))
        .sink("out");
    job.side_output(&left).map(|row| line(format!("left {}", row.id))).sink("side");
    job.side_output(&right).map(|row| line(format!("right {}", row.id))).sink("side");
}

pub fn cogroup(job: &Job) {
    let other = timed(job, "other").key_by(Row::KEY);
    let windows = timed(job, "in").key_by(Row::KEY).connect(other).window(Sliding::new(secs(2), secs(1)));
    windows
        .cogroup(|key: &Str, window, left: &[Row], right: &[Row], out| {
            out.push(line(format!("{key} {} {} {}", window.start.millis(), left.len(), right.len())));
        })
        .uid("joined")
        .sink("out");
}
