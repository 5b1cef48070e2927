//! What a run has done, for a reader and for a program.

use std::fmt;

use serde::{Serialize, Serializer};
use weir_coordinator::execution::{CheckpointReport, History};
use weir_worker::metrics::{JobMetrics, OperatorSnapshot, RecoverySnapshot, Snapshot};

use crate::process;

/// What a run has done. The field names are what programs read: they do not change.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// the job's name
    pub job: String,
    /// subtasks of each vertex
    pub parallelism: u16,
    /// how it ended
    pub ended: End,
    /// events that sources gave
    pub events_in: u64,
    /// rows that sinks took
    pub rows_out: u64,
    /// from the deployment to the end
    pub seconds: f64,
    /// user and system time of the whole process
    pub cpu_seconds: f64,
    /// `events_in` by `seconds`
    pub events_per_second: f64,
    /// `events_in` by `cpu_seconds`
    pub events_per_cpu_second: f64,
    /// of all `blackhole` sinks, summed
    #[serde(serialize_with = "hexadecimal")]
    pub checksum: Option<u64>,
    /// the most memory that was resident at once
    pub peak_rss_bytes: Option<u64>,
    /// from the start of the process to the first row at a sink, without the time in which guests were built
    pub first_row_ms: Option<f64>,
    /// by quantile, of the sink that measured it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<serde_json::Map<String, serde_json::Value>>,
    /// malformed events that were passed over
    pub malformed: u64,
    /// rows that came too late for their window or join
    pub late_records: u64,
    /// batches on which guests failed
    pub errors: u64,
    /// guest calls that were made again; where there is state, rows that were given again
    pub retries: u64,
    /// rows that were passed over because the guest failed on them
    pub skipped_records: u64,
    /// rows that became dead letters
    pub dead_letters: u64,
    /// how often the job has started again
    pub restarts: u64,
    /// checkpoints that were completed
    pub checkpoints: u64,
    /// checkpoints that were given up
    pub failed_checkpoints: u64,
    /// the longest that a checkpoint took
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_max_ms: Option<u64>,
    /// the longest that a task did nothing but copy its state for one
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_copying_max_ms: Option<u64>,
    /// the last one that was completed while the job ran
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<CheckpointReport>,
    /// the last ten of those, or all if there were fewer; oldest first
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recent_checkpoints: Vec<CheckpointReport>,
    /// how the last attempt started from a checkpoint, and committed others
    pub recovery: RecoverySnapshot,
    /// operators in the order of the plan
    pub operators: Vec<OperatorSnapshot>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// at the end of its input
    Finished,
    /// before that, since it was told to stop: what it had read is through
    Stopped,
    /// at once, since it was told so
    Cancelled,
    /// it failed
    Failed,
}

fn hexadecimal<S: Serializer>(checksum: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match checksum {
        Some(checksum) => serializer.collect_str(&format_args!("{checksum:016x}")),
        None => serializer.serialize_none(),
    }
}

impl Summary {
    /// What the job and the process have done until now.
    pub fn new(job: String, parallelism: u16, ended: End, metrics: &JobMetrics, history: &History) -> Self {
        let cpu_seconds = process::cpu_time().as_secs_f64();
        let Snapshot { seconds, events_in, rows_out, malformed, recovery, operators, sinks, .. } = metrics.snapshot();
        let reports = || sinks.iter().map(|sink| &sink.report);
        let first_row = reports().filter_map(|r| r.first_row).min();
        Self {
            job,
            parallelism,
            ended,
            events_in,
            rows_out,
            seconds,
            cpu_seconds,
            events_per_second: events_in as f64 / seconds.max(1e-9),
            events_per_cpu_second: events_in as f64 / cpu_seconds.max(1e-9),
            checksum: reports().filter_map(|r| r.checksum).reduce(u64::wrapping_add),
            peak_rss_bytes: process::peak_rss_bytes(),
            first_row_ms: first_row.map(|at| at.saturating_duration_since(process::start()).as_secs_f64() * 1e3),
            latency_us: reports()
                .find(|r| !r.latency_us.is_empty())
                .map(|r| r.latency_us.iter().map(|&(quantile, us)| (quantile_name(quantile), us.into())).collect()),
            malformed,
            late_records: operators.iter().map(|o| o.late_records).sum(),
            errors: operators.iter().map(|o| o.errors).sum(),
            retries: operators.iter().map(|o| o.retries).sum(),
            skipped_records: operators.iter().map(|o| o.skipped_records).sum(),
            dead_letters: operators.iter().map(|o| o.dead_letters).sum(),
            restarts: history.restarts,
            checkpoints: history.completed,
            failed_checkpoints: history.failed,
            checkpoint_max_ms: history.last.is_some().then_some(history.longest_ms),
            checkpoint_copying_max_ms: history.last.is_some().then_some(history.copying_ms),
            last_checkpoint: history.recent.back().cloned(),
            recent_checkpoints: history.recent.iter().cloned().collect(),
            recovery,
            operators,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} events in, {} rows out, {:.2} s, {} events/s ({} per CPU second), {} MB",
            self.job,
            number(self.events_in as f64),
            number(self.rows_out as f64),
            self.seconds,
            number(self.events_per_second),
            number(self.events_per_cpu_second),
            self.peak_rss_bytes.unwrap_or(0) >> 20,
        )?;
        if self.ended == End::Stopped {
            writeln!(f, "  stopped")?;
        }
        for (what, count) in [
            ("malformed", self.malformed),
            ("late", self.late_records),
            ("errors", self.errors),
            ("retries", self.retries),
            ("skipped", self.skipped_records),
            ("dead letters", self.dead_letters),
            ("restarts", self.restarts),
            ("checkpoints", self.checkpoints),
        ] {
            if count > 0 {
                writeln!(f, "  {what}: {count}")?;
            }
        }
        if let Some(checksum) = self.checksum {
            writeln!(f, "  checksum: {checksum:016x}")?;
        }
        if let Some(latency) = &self.latency_us {
            let quantiles: Vec<_> = latency.iter().map(|(quantile, us)| format!("{quantile} {us}")).collect();
            writeln!(f, "  latency in µs: {}", quantiles.join(", "))?;
        }
        Ok(())
    }
}

/// `p50`, `p99.9`, `max`.
fn quantile_name(quantile: f64) -> String {
    if quantile == 1.0 { "max".to_owned() } else { format!("p{}", quantile * 100.0) }
}

/// A number with three digits or so: `987`, `12.3 k`, `4.56 M`.
pub fn number(n: f64) -> String {
    let (scaled, unit) = match n {
        n if n < 1e4 => return format!("{n:.0}"),
        n if n < 1e6 => (n / 1e3, "k"),
        n if n < 1e9 => (n / 1e6, "M"),
        n => (n / 1e9, "G"),
    };
    let digits = if scaled < 10.0 { 2 } else { usize::from(scaled < 100.0) };
    format!("{scaled:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::{number, quantile_name};

    /// Numbers keep about three digits.
    #[test]
    fn numbers_are_short() {
        for (n, text) in [(0.0, "0"), (9999.0, "9999"), (12_345.0, "12.3 k"), (4_560_000.0, "4.56 M"), (2.5e11, "250 G")] {
            assert_eq!(number(n), text);
        }
    }

    /// Quantiles have the names that programs read.
    #[test]
    fn quantiles_are_named() {
        assert_eq!([0.5, 0.9, 0.99, 0.999, 1.0].map(quantile_name), ["p50", "p90", "p99", "p99.9", "max"]);
    }
}
