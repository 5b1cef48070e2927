//! Operators without state.

use weir::{Count, EventTime, Job, Record, Str, Tag, Tumbling, WatermarkGenerator, Watermarks, secs};

use crate::{Row, line, rows};

pub fn closures(job: &Job) {
    rows(job, "in")
        .try_map(|row| if row.id < u64::MAX { Ok(row) } else { Err("there is no such row") })
        .filter(|row| row.number > 0)
        .inspect(|row| assert!(row.number > 0))
        .flat_map(|row| (0..row.number % 3).map(move |copy| (row.id, copy)))
        .map(|(id, copy)| line(format!("{id} {copy}")))
        .sink("out");
}

/// Rows with odd numbers go to the side.
pub fn divert(job: &Job) {
    let odd = Tag::<Row>::new("odd");
    rows(job, "in")
        .divert(&odd, |row| if row.number % 2 == 0 { Ok(row) } else { Err(row) })
        .map(|row| line(format!("even {}", row.id)))
        .sink("out");
    job.side_output(&odd).map(|row| line(format!("odd {}", row.id))).sink("side");
}

pub fn union(job: &Job) {
    let negative = rows(job, "other").map(|row| Row { number: -1 - row.number, ..row });
    rows(job, "in")
        .filter(|row| row.number > 0)
        .union(negative)
        .map(|row| line(format!("{} {}", row.id, row.number)))
        .sink("out");
}

/// A stream is used three times; two of them meet again in a sink.
pub fn tee(job: &Job) {
    let rows = rows(job, "in").filter(|row| row.number > 0).tee();
    rows.clone().map(|row| line(format!("a {}", row.id))).sink("out");
    rows.clone().map(|row| line(format!("b {}", row.id))).sink("out");
    rows.map(|row| line(format!("c {}", row.id))).sink("side");
}

#[derive(Record)]
struct Narrow {
    key: Str,
    id: u64,
}

pub fn select(job: &Job) {
    rows(job, "in")
        .filter(|row| row.number > 0)
        .select::<Narrow>()
        .map(|row| line(format!("{} {}", row.key, row.id)))
        .sink("out");
}

pub fn rebalance(job: &Job) {
    rows(job, "in").map(|row| row).rebalance().map(|row| line(row.id.to_string())).uid("behind").sink("out");
}

pub fn broadcast(job: &Job) {
    rows(job, "in").map(|row| row).broadcast().map(|row| line(row.id.to_string())).uid("behind").sink("out");
}

pub fn break_chain(job: &Job) {
    rows(job, "in")
        .map(|row| row.id)
        .uid("ids")
        .map(|id| Row { id, key: Str::default(), number: 0, at: EventTime::MIN })
        .uid("bare")
        .break_chain()
        .map(|row| line(row.id.to_string()))
        .uid("lines")
        .sink("out");
}

pub fn parallelism(job: &Job) {
    rows(job, "in").rebalance().map(|row| line(row.id.to_string())).uid("wide").parallelism(3).sink("out");
}

/// The watermark follows the rows that are marks: those whose number is a multiple of 10.
#[derive(Default)]
struct Marks(Option<EventTime>);

impl WatermarkGenerator<Row> for Marks {
    fn row(&mut self, row: &Row, time: EventTime) {
        if row.number % 10 == 0 {
            self.0 = self.0.max(Some(time));
        }
    }
    fn watermark(&mut self) -> Option<EventTime> {
        self.0.take()
    }
}

pub fn generated_watermarks(job: &Job) {
    rows(job, "in")
        .event_time(|row: &Row| row.at, Watermarks::generated(Marks::default))
        .key_by(Row::KEY)
        .window(Tumbling::new(secs(1)))
        .aggregate(Count)
        .map(|(key, window, count)| line(format!("{key} {} {count}", window.start.millis())))
        .sink("out");
}
