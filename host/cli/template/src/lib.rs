//! Counts the views of each page, minute by minute.

use weir::{Count, EventTime, Job, Record, Str, Tumbling, Watermarks, Window, minutes, secs};

/// Somebody looked at a page. The fields are columns of the input, found by name; what else is in it is not read.
#[derive(Record)]
struct View {
    page: Str,
    time: EventTime,
}

/// The views of a page in a minute.
#[derive(Debug, PartialEq, Record)]
struct Views {
    page: Str,
    minute: EventTime,
    views: u64,
}

/// The job. It reads the source `views` and writes to the sink `counts`; `job.toml` says what those are.
#[weir::job]
pub fn page_views(job: &Job) {
    job.source::<View>("views")
        .event_time(View::TIME, Watermarks::bounded(secs(5)))
        .key_by(View::PAGE)
        .window(Tumbling::new(minutes(1)))
        .aggregate(Count)
        .map(counted)
        .sink("counts");
}

/// A row of the result.
fn counted((page, window, views): (Str, Window, u64)) -> Views {
    Views { page, minute: window.start, views }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A result carries the start of its minute.
    #[test]
    fn results_are_named_after_their_minute() {
        let window = Window { start: EventTime::from_millis(60_000), end: EventTime::from_millis(120_000) };
        let row = counted(("/home".into(), window, 3));
        assert_eq!(row, Views { page: "/home".into(), minute: EventTime::from_millis(60_000), views: 3 });
    }
}
