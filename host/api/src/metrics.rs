//! The figures of a server and its jobs, in Prometheus' text format.
//!
//! All metric names are here. Labels are bounded: the tenant, the job's id, the operator ids of its plan.

use std::fmt::{Display, Write};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use weir_base::clock::age_ms;
use weir_coordinator::JobSummary;
use weir_coordinator::execution::History;
use weir_coordinator::service::Figures;
use weir_worker::StateMemory;
use weir_worker::metrics::{OperatorSnapshot, Snapshot};

use crate::App;
use crate::problem::Problem;

/// Show the figures of the server and its jobs
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses((status = 200, description = "samples in the text format of Prometheus", body = String, content_type = "text/plain"))
)]
pub async fn get(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    let text = encode(&app.coordinator.figures().await?, app.clock.now_ms());
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
}

/// One metric of a `T`: its name, type, help, and value, where there is one.
type Metric<T> = (&'static str, &'static str, &'static str, fn(&T) -> Option<f64>);

/// What operators do.
const OPERATORS: &[Metric<OperatorSnapshot>] = &[
    ("weir_task_records_in_total", "counter", "Rows in.", |o| Some(o.records_in as f64)),
    ("weir_task_records_out_total", "counter", "Rows out.", |o| Some(o.records_out as f64)),
    ("weir_task_bytes_in_total", "counter", "Bytes in.", |o| Some(o.bytes_in as f64)),
    ("weir_task_bytes_out_total", "counter", "Bytes out.", |o| Some(o.bytes_out as f64)),
    ("weir_task_records_dropped_total", "counter", "Rows passed over because the guest failed on them.", |o| {
        Some(o.skipped_records as f64)
    }),
    (
        "weir_task_dead_letters_total",
        "counter",
        "Rows on which the guest failed, and malformed events of a source, that became dead letters.",
        |o| Some(o.dead_letters as f64),
    ),
    ("weir_task_busy_seconds_total", "counter", "Seconds of the operator's own work, the start of its guest included.", |o| {
        Some(o.busy_seconds)
    }),
    ("weir_task_idle_seconds_total", "counter", "Seconds for which the operator's tasks had no input.", |o| Some(o.idle_seconds)),
    ("weir_task_backpressured_seconds_total", "counter", "Seconds for which they waited for room.", |o| {
        Some(o.backpressured_seconds)
    }),
    ("weir_task_busy_ratio", "gauge", "Share of time that the operator's tasks worked.", |o| Some(o.busy_ratio)),
    ("weir_task_idle_ratio", "gauge", "Share of time that they had no input.", |o| Some(o.idle_ratio)),
    ("weir_task_backpressured_ratio", "gauge", "Share of time that they waited for room.", |o| Some(o.backpressured_ratio)),
    ("weir_udf_seconds_total", "counter", "Seconds of CPU time of guest code, its start included.", |o| Some(o.guest_seconds)),
    ("weir_udf_errors_total", "counter", "Batches on which guests failed.", |o| Some(o.errors as f64)),
    (
        "weir_udf_retries_total",
        "counter",
        "Guest calls that were made again, and rows that were given again, after a failure.",
        |o| Some(o.retries as f64),
    ),
    (
        "weir_udf_renewals_total",
        "counter",
        "Guest instances that were replaced: their memory had grown, or they had failed.",
        |o| Some(o.renewals as f64),
    ),
    ("weir_udf_memory_bytes", "gauge", "Linear memory of guests.", |o| Some(o.guest_memory_bytes as f64)),
    ("weir_window_late_records_total", "counter", "Rows that came too late for their window or join.", |o| {
        Some(o.late_records as f64)
    }),
    ("weir_state_slots", "gauge", "Keys (with windows) that have state in guests.", |o| Some(o.slots as f64)),
    ("weir_state_evictions_total", "counter", "Slots moved from guests to the state backend.", |o| Some(o.evictions as f64)),
    ("weir_state_backend_bytes", "gauge", "Room that the state backend takes, in memory or on disk.", |o| {
        Some(o.backend_bytes as f64)
    }),
    ("weir_task_watermark_timestamp_seconds", "gauge", "The watermark, in seconds since 1970.", |o| {
        Some(watermark(o)? as f64 / 1e3)
    }),
    ("weir_source_lag_records", "gauge", "Events that are there and that the source has not read yet.", |o| {
        o.lag_records.map(|records| records as f64)
    }),
    ("weir_state_database_files", "gauge", "Files of entries of state on disk.", |o| Some(o.database?.file_count as f64)),
    ("weir_state_database_file_bytes", "gauge", "The bytes of files of entries of state on disk.", |o| {
        Some(o.database?.file_bytes as f64)
    }),
    ("weir_state_database_write_buffer_bytes", "gauge", "Write buffers of state on disk.", |o| {
        Some(o.database?.write_buffer_bytes as f64)
    }),
    (
        "weir_state_database_pending_compaction_bytes",
        "gauge",
        "What compactions of state on disk would have to rewrite: if it grows for long, the disk is too slow.",
        |o| Some(o.database?.pending_compaction_bytes as f64),
    ),
];

/// The watermark that an operator waits at, ms. At the end of the input it is at the end of time: there is nothing to wait for.
fn watermark(operator: &OperatorSnapshot) -> Option<i64> {
    operator.watermark.filter(|&watermark| watermark != i64::MAX)
}

/// What the last attempts of jobs do.
const JOBS: &[Metric<Snapshot>] = &[
    ("weir_source_events_total", "counter", "Events that sources gave.", |s| Some(s.events_in as f64)),
    ("weir_source_bytes_total", "counter", "Bytes that sources read.", |s| Some(s.bytes_in as f64)),
    ("weir_source_malformed_total", "counter", "Malformed events that were passed over.", |s| Some(s.malformed as f64)),
    ("weir_sink_rows_total", "counter", "Rows that sinks took.", |s| Some(s.rows_out as f64)),
    (
        "weir_checkpoint_uploaded_bytes_total",
        "counter",
        "Bytes uploaded for checkpoints, also for those that were given up.",
        |s| Some(s.bytes_uploaded as f64),
    ),
    ("weir_job_restore_seconds", "gauge", "How long it took from the start from a checkpoint until all tasks ran.", |s| {
        s.recovery.restore_seconds
    }),
    ("weir_checkpoints_in_flight", "gauge", "Checkpoints that have begun and are neither complete nor given up.", |s| {
        Some(s.recovery.checkpoints_in_flight as f64)
    }),
    ("weir_sink_transactions_pending", "gauge", "Transactions that sinks have prepared and that are not committed yet.", |s| {
        Some(s.recovery.transactions_pending as f64)
    }),
    ("weir_sink_commit_seconds", "gauge", "How long sinks took for the last commit of transactions.", |s| {
        s.recovery.commit_seconds
    }),
];

/// What jobs have done over all their attempts, and how their last complete checkpoints went.
const HISTORIES: &[Metric<History>] = &[
    ("weir_job_restarts_total", "counter", "How often the job has started again.", |h| Some(h.restarts as f64)),
    ("weir_checkpoints_completed_total", "counter", "Checkpoints that were completed.", |h| Some(h.completed as f64)),
    ("weir_checkpoints_failed_total", "counter", "Checkpoints that were given up.", |h| Some(h.failed as f64)),
    ("weir_checkpoint_duration_seconds", "gauge", "How long the last checkpoint took.", |h| {
        Some(h.last.as_ref()?.duration_ms as f64 / 1e3)
    }),
    ("weir_checkpoint_alignment_seconds", "gauge", "The longest that barriers waited for each other in it.", |h| {
        Some(h.last.as_ref()?.alignment_ms as f64 / 1e3)
    }),
    ("weir_checkpoint_copying_seconds", "gauge", "The longest that a task did nothing but copy its state for it.", |h| {
        Some(h.last.as_ref()?.copying_ms as f64 / 1e3)
    }),
    ("weir_checkpoint_size_bytes", "gauge", "The bytes of all its files.", |h| Some(h.last.as_ref()?.bytes_total as f64)),
    ("weir_checkpoint_new_bytes", "gauge", "The bytes of those that were stored for it.", |h| {
        Some(h.last.as_ref()?.bytes_new as f64)
    }),
];

const CHECKPOINT_AGE: &str = "weir_checkpoint_age_seconds";

const STATE_MEMORY: &str = "weir_worker_state_memory_bytes";

fn encode(figures: &Figures, now_ms: i64) -> String {
    let mut text = Text(String::new());
    text.metric("weir_worker_slots", "gauge", "Slots, by whether jobs hold them.");
    text.sample("weir_worker_slots", &[("state", "used")], figures.slots_used);
    text.sample("weir_worker_slots", &[("state", "free")], figures.slots.saturating_sub(figures.slots_used));
    text.metric(
        STATE_MEMORY,
        "gauge",
        "Memory of all state on disk, by what it is: the budget, what is used of it, and what of that is pinned or write buffers.",
    );
    if let Some(memory) = figures.state_memory {
        let StateMemory { budget, used, pinned, write_buffers } = memory;
        for (part, bytes) in [("budget", budget), ("used", used), ("pinned", pinned), ("write_buffers", write_buffers)] {
            text.sample(STATE_MEMORY, &[("part", part)], bytes);
        }
    }
    text.metric("weir_job_state", "gauge", "1 for the state that a job is in.");
    for job in figures.jobs.iter().map(|job| &job.summary) {
        let id = job.id.to_string();
        let labels = [("tenant", job.tenant.as_str()), ("job", &id), ("name", &job.name), ("state", job.state.name())];
        text.sample("weir_job_state", &labels, 1);
    }
    for (name, kind, help, value) in JOBS {
        text.metric(name, kind, help);
        for (job, snapshot) in with_figures(figures) {
            text.job(name, job, value(snapshot));
        }
    }
    for (name, kind, help, value) in HISTORIES {
        text.metric(name, kind, help);
        for job in &figures.jobs {
            text.job(name, &job.summary, value(&job.history));
        }
    }
    text.metric(CHECKPOINT_AGE, "gauge", "How long ago the last checkpoint of a job that has not ended was complete.");
    for job in figures.jobs.iter().filter(|job| !job.summary.state.is_end()) {
        let last = job.history.last.as_ref();
        text.job(CHECKPOINT_AGE, &job.summary, last.map(|c| age_ms(c.started_ms, c.duration_ms, now_ms) as f64 / 1e3));
    }
    for (name, kind, help, value) in OPERATORS {
        text.metric(name, kind, help);
        text.operators(name, figures, value);
    }
    text.metric("weir_task_watermark_lag_seconds", "gauge", "How far the watermark is behind the clock.");
    text.operators("weir_task_watermark_lag_seconds", figures, |o| Some(now_ms.saturating_sub(watermark(o)?) as f64 / 1e3));
    text.0
}

fn with_figures(figures: &Figures) -> impl Iterator<Item = (&JobSummary, &Snapshot)> {
    figures.jobs.iter().filter_map(|job| Some((&job.summary, job.snapshot.as_ref()?)))
}

/// The text under construction.
struct Text(String);

impl Text {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("writing to a string does not fail");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(self.0, "{open}{label}=\"{text}\"").expect("writing to a string does not fail");
        }
        writeln!(self.0, "}} {value}").expect("writing to a string does not fail");
    }

    fn job(&mut self, name: &str, job: &JobSummary, value: Option<f64>) {
        if let Some(value) = value {
            self.sample(name, &[("tenant", job.tenant.as_str()), ("job", &job.id.to_string())], value);
        }
    }

    fn operators(&mut self, name: &str, figures: &Figures, value: impl Fn(&OperatorSnapshot) -> Option<f64>) {
        for (job, snapshot) in with_figures(figures) {
            let id = job.id.to_string();
            for (index, operator) in snapshot.operators.iter().enumerate() {
                // Names need not be unique (two exchanges); the place in the plan is.
                let index = index.to_string();
                let labels = [("tenant", job.tenant.as_str()), ("job", &id), ("operator", &operator.name), ("index", &index)];
                if let Some(value) = value(operator) {
                    self.sample(name, &labels, value);
                }
            }
        }
    }
}
