//! What a running job does, redrawn in place on a terminal.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use weir_worker::metrics::Snapshot;

use super::lines::Lines;
use super::summary::number;

/// How often it is drawn.
pub const INTERVAL: Duration = Duration::from_millis(250);

/// A running job on a terminal. It is wiped when it is dropped.
pub struct Progress {
    bar: ProgressBar,
    /// seconds and events when it was drawn last
    last: Mutex<(f64, u64)>,
}

impl Progress {
    /// Begins to show a job.
    pub fn new(name: &str, lines: &Lines) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{spinner} {prefix}  {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.set_prefix(name.to_owned());
        lines.stay_above(bar.clone());
        Self { bar, last: Mutex::new((0.0, 0)) }
    }

    /// Draws this.
    pub fn show(&self, snapshot: &Snapshot) {
        let mut last = self.last.lock();
        let rate = (snapshot.events_in - last.1) as f64 / (snapshot.seconds - last.0).max(1e-9);
        *last = (snapshot.seconds, snapshot.events_in);
        self.bar.set_message(text(snapshot, rate));
        self.bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn text(snapshot: &Snapshot, rate: f64) -> String {
    let mut out = format!(
        "{:.1} s   {} events in   {} rows out   {} events/s",
        snapshot.seconds,
        number(snapshot.events_in as f64),
        number(snapshot.rows_out as f64),
        number(rate),
    );
    let watermark = snapshot.operators.iter().filter_map(|o| o.watermark).filter(|&w| w != i64::MAX).min();
    if let Some(time) = watermark.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        write!(out, "   watermark {time:.3}").expect("writing to a string does not fail");
    }
    // What passes an exchange shows in the operators on both of its sides.
    let shown = || snapshot.operators.iter().filter(|o| !o.name.starts_with("exchange "));
    let width = shown().map(|o| o.name.chars().count()).max().unwrap_or(0).min(40);
    for operator in shown() {
        let name: String = operator.name.chars().take(width).collect();
        write!(
            out,
            "\n  {name:width$}  in {:>8}  out {:>8}  busy {:3.0} %",
            number(operator.records_in as f64),
            number(operator.records_out as f64),
            operator.busy_ratio * 100.0,
        )
        .expect("writing to a string does not fail");
    }
    out
}
