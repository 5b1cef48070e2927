//! Joins of keyed streams.

use weir::{Change, EventTime, Job, Offset, Str, Stream, Tag, Ttl, Tumbling, Watermarks, Window, millis, secs};

use crate::keyed::expiring_rows;
use crate::{Line, Row, line, rows, timed};

/// From 200 ms before to less than 100 ms after. The pairs go into windows: so it shows which event times they have.
pub fn interval_join(job: &Job) {
    timed(job, "in")
        .key_by(Row::KEY)
        .interval_join(timed(job, "other").key_by(Row::KEY))
        .between(Offset::before(millis(200)), Offset::after(millis(100)))
        .upper_exclusive()
        .join(|left, right| Row { number: right.id as i64, at: EventTime::MIN, ..left.clone() })
        .uid("near")
        .key_by(Row::KEY)
        .window(Tumbling::new(secs(1)))
        .process(|key: &Str, window: Window, pairs: &[Row], out: &mut Vec<Line>| {
            let start = window.start.millis();
            out.extend(pairs.iter().map(|pair| line(format!("{key} {start} {} {}", pair.id, pair.number))));
        })
        .sink("out");
}

/// Rows that are late go to the side.
pub fn late_interval_join(job: &Job) {
    let (left, right) = (Tag::<Row>::new("left"), Tag::<Row>::new("right"));
    let [rows, other] = ["in", "other"].map(|source| rows(job, source).event_time(Row::AT, Watermarks::bounded(millis(0))));
    rows.key_by(Row::KEY)
        .interval_join(other.key_by(Row::KEY))
        .between(Offset::before(millis(100)), Offset::after(millis(100)))
        .late_left(&left)
        .late_right(&right)
        .join(|left, right| line(format!("{} {} {}", left.key, left.id, right.id)))
        .sink("out");
    job.side_output(&left).map(|row| line(format!("left {}", row.id))).sink("side");
    job.side_output(&right).map(|row| line(format!("right {}", row.id))).sink("side");
}

pub fn regular_join(job: &Job) {
    rows(job, "in")
        .key_by((Row::KEY, Row::NUMBER))
        .join(rows(job, "other").key_by((Row::KEY, Row::NUMBER)))
        .inner(|left, right| line(format!("{} {} {}", left.key, left.id, right.id)))
        .uid("joined")
        .sink("out");
}

/// Which rows have met, or have met none.
fn met(left: Option<&Row>, right: Option<&Row>) -> String {
    let id = |row: Option<&Row>| row.map_or("-".to_owned(), |row| row.id.to_string());
    format!("{} {}", id(left), id(right))
}

/// Results that come have a plus, those that are taken back a minus.
fn signed(change: Change<String>) -> Line {
    let sign = if matches!(change, Change::Insert(_)) { '+' } else { '-' };
    line(format!("{sign}{}", change.into_row()))
}

pub fn outer_join(job: &Job) {
    rows(job, "in")
        .key_by((Row::KEY, Row::NUMBER))
        .join(rows(job, "other").key_by((Row::KEY, Row::NUMBER)))
        .full_outer(met)
        .uid("joined")
        .map(signed)
        .sink("out");
}

/// All that keeps rows or expires, in one job.
pub fn all_kept(job: &Job) {
    let read = |source: &str| -> Stream<Row> { timed(job, source).tee() };
    let (left, right) = (read("in"), read("other"));
    left.clone()
        .key_by(Row::KEY)
        .interval_join(right.clone().key_by(Row::KEY))
        .between(Offset::before(millis(50)), Offset::after(millis(50)))
        .join(|left, right| line(format!("near {} {}", left.id, right.id)))
        .uid("near")
        .sink("out");
    left.clone()
        .key_by(Row::KEY)
        .connect(right.clone().key_by(Row::KEY))
        .window(Tumbling::new(millis(100)))
        .join(|left, right| line(format!("with {} {}", left.id, right.id)))
        .uid("with")
        .sink("out");
    left.clone()
        .key_by((Row::KEY, Row::NUMBER))
        .join(right.clone().key_by((Row::KEY, Row::NUMBER)))
        .full_outer(met)
        .uid("met")
        .map(signed)
        .sink("out");
    let ttl = Ttl::new(secs(1)).event_time();
    left.clone()
        .key_by(Row::ID)
        .join(right.key_by(Row::ID))
        .left_ttl(ttl)
        .right_ttl(ttl)
        .inner(|left, right| line(format!("same {} {}", left.number, right.number)))
        .uid("joined")
        .sink("out");
    expiring_rows(left).sink("out");
}
