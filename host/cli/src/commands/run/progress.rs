//! What a running job does, redrawn in place on a terminal.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
use parking_lot::Mutex;
use weir_base::clock::age_ms;
use weir_coordinator::execution::History;
use weir_worker::UnderWay;
use weir_worker::metrics::{OperatorSnapshot, Snapshot};

use super::lines::Lines;
use super::summary::number;
use crate::out;

/// How often it is drawn.
pub const INTERVAL: Duration = Duration::from_millis(250);

/// A checkpoint that is over by then is not shown on its way: its line would only flicker.
const QUICK_MS: i64 = 1000;

/// A running job on a terminal. It is wiped when it is dropped.
pub struct Progress {
    bar: ProgressBar,
    /// what was drawn last
    last: Mutex<Counts>,
}

/// What rates are computed from.
#[derive(Default)]
struct Counts {
    seconds: f64,
    events: u64,
    /// by operator
    records: Vec<u64>,
}

impl Counts {
    fn of(snapshot: &Snapshot) -> Self {
        // A source has records out alone.
        let records = |o: &OperatorSnapshot| if o.records_in > 0 { o.records_in } else { o.records_out };
        Self { seconds: snapshot.seconds, events: snapshot.events_in, records: snapshot.operators.iter().map(records).collect() }
    }

    /// Events, and records of each operator, a second since `before`.
    fn rates(&self, before: &Self) -> (f64, Vec<f64>) {
        let seconds = (self.seconds - before.seconds).max(1e-9);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let earlier = before.records.iter().copied().chain(std::iter::repeat(0));
        (rate(self.events, before.events), self.records.iter().zip(earlier).map(|(&now, before)| rate(now, before)).collect())
    }
}

impl Progress {
    /// Begins to show a job.
    pub fn new(name: &str, lines: &Lines) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(out::spinner("{spinner} {prefix}  {msg}"));
        // It must stay in its line.
        bar.set_prefix(out::in_line(name));
        lines.stay_above(bar.clone());
        Self { bar, last: Mutex::default() }
    }

    /// Draws this.
    pub fn show(&self, snapshot: &Snapshot, history: &History, checkpoints_under_way: &[UnderWay]) {
        let counts = Counts::of(snapshot);
        let mut last = self.last.lock();
        let mut text = text(snapshot, &counts.rates(&last));
        let now_ms = jiff::Timestamp::now().as_millisecond();
        text.push_str(&checkpoints(history, now_ms));
        text.push_str(&under_way(checkpoints_under_way, now_ms));
        self.bar.set_message(text);
        *last = counts;
        self.bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn text(snapshot: &Snapshot, (rate, rates): &(f64, Vec<f64>)) -> String {
    let mut text = format!(
        "{:.1} s   {} events in   {} rows out   {} events/s",
        snapshot.seconds,
        number(snapshot.events_in as f64),
        number(snapshot.rows_out as f64),
        number(*rate),
    );
    // What passes an exchange shows in the operators on both of its sides.
    let shown = || snapshot.operators.iter().zip(rates).filter(|(o, _)| !o.name.starts_with("exchange "));
    let width = shown().map(|(o, _)| o.name.chars().count()).max().unwrap_or(0).min(40);
    for (operator, &rate) in shown() {
        let name: String = out::in_line(&operator.name).chars().take(width).collect();
        write!(
            text,
            "\n  {name:width$}  {:>7} records/s  in {:>7}  out {:>7}  busy {:3.0} %{}{}{}",
            number(rate),
            number(operator.records_in as f64),
            number(operator.records_out as f64),
            operator.busy_ratio * 100.0,
            watermark(operator.watermark),
            lag(operator.lag_records),
            failures(operator),
        )
        .expect("writing to a string does not fail");
    }
    text
}

/// How the last checkpoint went, and how old it is; nothing if there was none.
fn checkpoints(history: &History, now_ms: i64) -> String {
    let Some(last) = &history.last else { return String::new() };
    let age = age_ms(last.started_ms, last.duration_ms, now_ms) as f64 / 1e3;
    let failed = if history.failed > 0 { format!("  {} failed", history.failed) } else { String::new() };
    format!(
        "\n  checkpoint {}: {} ms ({} ms aligning, {} ms copying), {}B of {}B new, {age:.1} s ago{failed}",
        last.checkpoint,
        last.duration_ms,
        last.alignment_ms,
        last.copying_ms,
        number(last.bytes_new as f64),
        number(last.bytes_total as f64),
    )
}

/// How far the checkpoints are that are being made; nothing of those that have just begun.
fn under_way(checkpoints: &[UnderWay], now_ms: i64) -> String {
    let shown = checkpoints.iter().filter(|checkpoint| now_ms - checkpoint.started_ms >= QUICK_MS);
    let line = |c: &UnderWay| {
        let far = out::far(c.bytes_uploaded, c.bytes_to_upload);
        format!("\n  checkpoint {}: {far}, {} of {} tasks", c.checkpoint, c.acked, c.tasks)
    };
    shown.map(line).collect()
}

/// What became of an operator's failures; nothing if it had none.
fn failures(operator: &OperatorSnapshot) -> String {
    let counts = [
        ("errors", operator.errors),
        ("retries", operator.retries),
        ("skipped", operator.skipped_records),
        ("dead letters", operator.dead_letters),
    ];
    let shown = counts.iter().filter(|(_, count)| *count > 0);
    shown.map(|(what, count)| format!("  {} {what}", number(*count as f64))).collect()
}

/// How many events a source has still to read; nothing if it cannot tell.
fn lag(records: Option<u64>) -> String {
    records.map_or_else(String::new, |records| format!("  {} behind", number(records as f64)))
}

/// How far an operator is in event time; nothing if it knows of none.
fn watermark(watermark: Option<i64>) -> String {
    match watermark {
        None => String::new(),
        Some(i64::MAX) => "  watermark at the end".to_owned(),
        Some(ms) => jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |t| format!("  watermark {t:.3}")),
    }
}

#[cfg(test)]
mod tests {
    use weir_coordinator::execution::CheckpointReport;
    use weir_protocol::checkpoint::{CheckpointId, Kind};
    use weir_worker::metrics::RecoverySnapshot;

    use super::*;

    fn operator(name: &str, records_in: u64, records_out: u64, watermark: Option<i64>) -> OperatorSnapshot {
        OperatorSnapshot { name: name.into(), records_in, records_out, watermark, busy_ratio: 0.5, ..OperatorSnapshot::default() }
    }

    fn snapshot(seconds: f64, events_in: u64, operators: Vec<OperatorSnapshot>) -> Snapshot {
        Snapshot {
            seconds,
            events_in,
            bytes_in: 0,
            malformed: 0,
            rows_out: 7,
            bytes_uploaded: 0,
            recovery: RecoverySnapshot::default(),
            operators,
            sinks: vec![],
        }
    }

    /// Each operator has a line with its rate since the last one, its watermark, its lag and its failures; exchanges have none.
    #[test]
    fn operators_have_lines() {
        let before = snapshot(1.0, 100, vec![operator("source", 0, 100, None)]);
        let now = vec![
            OperatorSnapshot { lag_records: Some(12_345), ..operator("source", 0, 300, None) },
            operator("exchange out", 300, 300, Some(0)),
            OperatorSnapshot { errors: 2, dead_letters: 3, ..operator("count", 150, 7, Some(1_436_918_400_500)) },
            operator("sink", 7, 7, Some(i64::MAX)),
        ];
        let now = snapshot(3.0, 300, now);
        let shown = text(&now, &Counts::of(&now).rates(&Counts::of(&before)));
        let expected = [
            "3.0 s   300 events in   7 rows out   100 events/s",
            "  source      100 records/s  in       0  out     300  busy  50 %  12.3 k behind",
            "  count        75 records/s  in     150  out       7  busy  50 %  watermark 2015-07-15T00:00:00.500Z  2 errors  3 dead letters",
            "  sink          4 records/s  in       7  out       7  busy  50 %  watermark at the end",
        ];
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    }

    /// Goal: the last checkpoint has a line with its cost and its age, counted from its end, and with how many have failed; without one there is none.
    #[test]
    fn the_last_checkpoint_has_a_line() {
        let report = |checkpoint, failure| CheckpointReport {
            checkpoint,
            kind: Kind::Checkpoint,
            started_ms: 5000,
            duration_ms: 250,
            alignment_ms: 3,
            copying_ms: 4,
            bytes_total: 123_456,
            bytes_new: 789,
            at_end: false,
            failure,
        };
        let mut history = History::default();
        assert_eq!(checkpoints(&history, 7000), "");
        history.add(report(12, None));
        let line = "\n  checkpoint 12: 250 ms (3 ms aligning, 4 ms copying), 789B of 123 kB new";
        assert_eq!(checkpoints(&history, 7050), format!("{line}, 1.8 s ago"));
        assert_eq!(checkpoints(&history, 5100), format!("{line}, 0.0 s ago"), "the clock has gone back");
        history.add(report(13, Some("no room".to_owned())));
        assert_eq!(checkpoints(&history, 7250), format!("{line}, 2.0 s ago  1 failed"));
    }

    /// A checkpoint that takes long has a line with its bytes and its tasks; one that has just begun has none.
    #[test]
    fn slow_checkpoints_have_lines() {
        let begun = |checkpoint, started_ms| UnderWay::new(CheckpointId(checkpoint), Kind::Checkpoint, started_ms, 8);
        let slow = UnderWay { acked: 3, bytes_uploaded: 1_200_000_000, bytes_to_upload: 3_400_000_000, ..begun(12, 5000) };
        let shown = under_way(&[slow, begun(13, 6500)], 7000);
        assert_eq!(shown, "\n  checkpoint 12: 1.20 GB of 3.40 GB, 3 of 8 tasks");
    }
}
