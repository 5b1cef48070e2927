//! One job: its record, what is told about it, and the task that drives it.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;
use utoipa::ToSchema;
use weir_plan::JobSpec;
use weir_protocol::job::{Command, State};
use weir_worker::metrics::{JobMetrics, Snapshot};
use weir_worker::{Deployment, Failure, FailureKind, Outcome, UnderWay, Worker};

use crate::error::{self, Error, ErrorKind};
use crate::execution::{CheckpointReport, Checkpoints, Controls, Event, Execution, History, Start};
use crate::ring::Ring;
use crate::roster::Entry;
use crate::secrets;
use crate::tenant::TenantId;

const PREFIX: &str = "job_";
/// How many checkpoints are remembered of a job.
const CHECKPOINTS_MAX: usize = 32;

/// The id of a job. Ids sort by the time of their making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Ulid);

impl JobId {
    /// A new id.
    pub(crate) fn generate() -> Self {
        Self(Ulid::new())
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl FromStr for JobId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let ulid = text.strip_prefix(PREFIX).and_then(|ulid| Ulid::from_string(ulid).ok());
        ulid.map(Self).ok_or_else(|| not_found(text))
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom(format_args!("\"{text}\" is no job id")))
    }
}

pub(crate) fn not_found(id: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::NotFound, error::JOB_NOT_FOUND, format!("there is no job \"{id}\""))
}

/// A job in short.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct JobSummary {
    /// its id
    #[schema(value_type = String, example = "job_01JA0Z4K8WJ6R7M0Q4X1Y2Z3A4")]
    pub id: JobId,
    /// whose it is
    pub tenant: TenantId,
    /// its name, which need not be unique
    pub name: String,
    /// where it is in its life
    #[schema(value_type = String, example = "running")]
    pub state: State,
    /// the slots that it holds, or held
    pub slots: u16,
    /// when it was accepted
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// when it ended
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// why it failed
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Failure>,
}

/// All that is told about a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct JobView {
    /// in short
    #[serde(flatten)]
    pub summary: JobSummary,
    /// what it has done so far; none before it was deployed
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metrics: Option<Snapshot>,
    /// how often it has started again
    pub restarts: u64,
    /// the last checkpoints, oldest first
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub checkpoints: Vec<CheckpointReport>,
    /// the checkpoints that are being made, or copied to savepoints, and how far that is
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub checkpoints_under_way: Vec<UnderWay>,
    /// the spec, with its defaults and without passwords and keys
    #[serde(serialize_with = "pointed_to")]
    #[schema(value_type = Object)]
    pub spec: Arc<JobSpec>,
    /// the plan as text
    #[serde(serialize_with = "pointed_to")]
    #[schema(value_type = String)]
    pub plan: Arc<str>,
}

/// Serializes what a shared pointer points to.
fn pointed_to<T: Serialize + ?Sized, S: serde::Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
    value.serialize(serializer)
}

/// What a job has done: while it runs, and afterwards.
pub(crate) enum Metrics {
    None,
    Live(Arc<JobMetrics>),
    Final(Box<Snapshot>),
}

/// The record of a job.
pub(crate) struct Job {
    pub summary: JobSummary,
    pub spec: Arc<JobSpec>,
    pub plan: Arc<str>,
    pub output: Ring,
    pub log: Ring,
    pub metrics: Metrics,
    /// there while the job runs
    pub controls: Option<Controls>,
    /// the last checkpoints, oldest first
    pub checkpoints: VecDeque<CheckpointReport>,
    /// what has happened to checkpoints, over all attempts
    pub history: History,
    /// where checkpoints lie
    pub storage: Option<Checkpoints>,
    /// what it starts from
    pub start: Start,
    /// until it is deployed
    pub deployment: Option<Deployment>,
    /// what is noted down of it: the server goes on with it when it starts again. None once that is struck out, and of jobs without checkpoints
    pub entry: Option<Entry>,
    /// whether an older process of the server had it, and it has not run in this one yet
    pub is_resuming: bool,
}

impl Job {
    pub fn view(&self) -> JobView {
        JobView {
            summary: self.summary.clone(),
            metrics: self.snapshot(),
            restarts: self.history.restarts,
            checkpoints: self.checkpoints.iter().cloned().collect(),
            checkpoints_under_way: self.under_way(),
            spec: Arc::new(secrets::hide(&self.spec)),
            plan: Arc::clone(&self.plan),
        }
    }

    pub fn snapshot(&self) -> Option<Snapshot> {
        match &self.metrics {
            Metrics::None => None,
            Metrics::Live(live) => Some(live.snapshot()),
            Metrics::Final(snapshot) => Some((**snapshot).clone()),
        }
    }

    fn under_way(&self) -> Vec<UnderWay> {
        match &self.metrics {
            Metrics::Live(live) => live.uploads().under_way(),
            Metrics::None | Metrics::Final(_) => vec![],
        }
    }

    /// The job runs: what was asked for in the meantime is passed on.
    pub fn started(&mut self, controls: Controls) {
        match self.summary.state {
            State::Draining => controls.send(weir_worker::Command::Drain),
            State::Cancelling => controls.send(weir_worker::Command::Cancel),
            _ => {}
        }
        self.controls = Some(controls);
    }

    /// Tells the job, if it runs.
    pub fn send(&self, command: Command) {
        let command = match command {
            Command::Drain => weir_worker::Command::Drain,
            Command::Cancel => weir_worker::Command::Cancel,
            Command::Deploy | Command::ReleaseSlots => return,
        };
        if let Some(controls) = &self.controls {
            controls.send(command);
        }
    }

    /// A checkpoint was completed or given up.
    pub fn checkpointed(&mut self, report: CheckpointReport) {
        if self.checkpoints.len() == CHECKPOINTS_MAX {
            self.checkpoints.pop_front();
        }
        self.history.add(report.clone());
        self.checkpoints.push_back(report);
    }

    /// The job has ended: what it holds of its worker is let go.
    pub fn ended(&mut self, failure: Option<Failure>, now: Timestamp) {
        self.summary.failure = failure;
        self.summary.ended = Some(now);
        self.controls = None;
        if let Some(snapshot) = self.snapshot() {
            self.metrics = Metrics::Final(Box::new(snapshot));
        }
        self.output.close();
        self.log.close();
    }
}

/// What the task of a job reports.
pub(crate) enum Report {
    Started(Controls),
    Happened(Event),
}

/// Runs a job and reports what becomes of it. Ends when the job has. One that `drains` reads nothing: it finishes what is in its checkpoint.
pub(crate) async fn drive(
    worker: Worker,
    deployment: Deployment,
    storage: Option<Checkpoints>,
    start: Start,
    drains: bool,
    reports: impl AsyncFn(Report),
) {
    let mut execution = Execution::start(worker, deployment, storage, start);
    if drains {
        // Its first attempt has to claim its log yet.
        execution.controls().send(weir_worker::Command::Drain);
    }
    reports(Report::Started(execution.controls())).await;
    loop {
        let event = execution.event().await.unwrap_or_else(|| {
            let failure = Failure::new(FailureKind::Internal, "the job ended without a word");
            Event::Ended(Outcome::Failed { failure })
        });
        let ended = matches!(event, Event::Ended(_));
        reports(Report::Happened(event)).await;
        if ended {
            return;
        }
    }
}
