//! How the API talks to the coordinator.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use weir_base::Clock;
use weir_checkpoint::{Storage, location};
use weir_connector::{Context, Files};
use weir_plan::{JobPlan, JobSpec};
use weir_protocol::checkpoint::{CheckpointId, Kind, Refusal};
use weir_protocol::job::{Event, State};
use weir_sandbox::{Level, LogSink, Sandbox};
use weir_worker::{Deployment, Failure, FailureKind, Restore};

use crate::component::{self, ComponentView, Store};
use crate::diff::Diff;
use crate::error::{self, Error, ErrorKind};
use crate::execution::{CheckpointReport, Checkpoints, Controls, Start, Unmade, newest};
use crate::files;
use crate::job::{Job, JobId, JobSummary, JobView};
use crate::limits;
use crate::options::Options;
use crate::prepare::{self, Prepared};
use crate::ring::Ring;
use crate::roster::Entry;
use crate::savepoint::{self, Wish, Written};
use crate::service::{self, Figures, Message, Reply};
use crate::tenant::TenantId;

/// Talks to a [`Service`](crate::Service). Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    messages: mpsc::Sender<Message>,
    shared: Arc<Shared>,
}

/// How long a server waits before it tries again to go on with a job: at first, and at most.
const RESUME_PAUSES: Range<Duration> = Duration::from_secs(1)..Duration::from_secs(60);

/// What a job is to start from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartFrom {
    /// the id of a savepoint; none = the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
    /// whether state of operators that the job has not any more is left behind
    #[serde(default)]
    pub drops_unmatched: bool,
}

/// A job that can be handed over to the service.
struct Ready {
    deployment: Deployment,
    /// of its output, and of its log
    rings: (Ring, Ring),
}

struct Shared {
    sandbox: Sandbox,
    store: Store,
    options: Options,
    clock: Clock,
}

impl Handle {
    pub(crate) fn new(messages: mpsc::Sender<Message>, sandbox: Sandbox, store: Store, options: Options, clock: Clock) -> Self {
        Self { messages, shared: Arc::new(Shared { sandbox, store, options, clock }) }
    }

    /// Checks and stores a component.
    ///
    /// # Errors
    /// If the bytes are no component of a job, or the disk fails.
    pub async fn put_component(&self, tenant: &TenantId, wasm: Vec<u8>) -> Result<ComponentView, Error> {
        let component = prepare::load(&self.shared.sandbox, wasm.clone()).await?;
        self.shared.store.put(tenant, component.hash(), &wasm)?;
        self.component(tenant, &component::id(component.hash())).await
    }

    /// The ids and sizes of a tenant's components.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn components(&self, tenant: &TenantId) -> Result<Vec<ComponentView>, Error> {
        self.shared.store.list(tenant)
    }

    /// A component, with its graph.
    ///
    /// # Errors
    /// If there is none with this id.
    pub async fn component(&self, tenant: &TenantId, id: &str) -> Result<ComponentView, Error> {
        self.shared.store.view(&self.shared.sandbox, tenant, id).await
    }

    /// Deletes a component.
    ///
    /// # Errors
    /// If there is none with this id, or a job that has not ended uses it.
    pub async fn delete_component(&self, tenant: &TenantId, id: &str) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Users { tenant: tenant.clone(), component: id.to_owned(), reply };
        self.messages.send(message).await.map_err(|_| Error::stopping())?;
        if let Some(job) = answer.await.map_err(|_| Error::stopping())?.first() {
            let message = format!("the job {job} uses the component \"{id}\"; end it first");
            return Err(Error::new(ErrorKind::Conflict, error::COMPONENT_IN_USE, message));
        }
        self.shared.store.delete(tenant, id)
    }

    /// Starts a job whose components were uploaded.
    ///
    /// # Errors
    /// If the spec is wrong, asks for what jobs may not have, does not fit the savepoint, or there are not enough slots.
    pub async fn submit(&self, tenant: &TenantId, spec: JobSpec, from: StartFrom) -> Result<JobSummary, Error> {
        let created = service::now(&self.shared.clock);
        let entry =
            Entry { id: JobId::generate(), tenant: tenant.clone(), created, spec, from, has_checkpoint: false, stops: false };
        let prepared = self.prepare(&entry, self.rings()).await?;
        let start = self.start(tenant, &entry.from, &prepared).await?;
        self.accept(entry, prepared, start, None).await
    }

    /// Goes on with a job that waits in the service, as soon as that is possible. If it never will be, the job is seen as one that has failed.
    pub(crate) async fn resume_job(self, mut entry: Entry, rings: (Ring, Ring)) {
        let id = entry.id;
        let mut pause = RESUME_PAUSES.start;
        // It may be cancelled meanwhile.
        while self.job(id).await.is_ok_and(|job| !job.summary.state.is_end()) {
            let error = match self.try_resume(&mut entry, rings.clone()).await {
                Ok(_) => return tracing::info!(job = %id, "the job goes on"),
                Err(error) => error,
            };
            if matches!(error.code, error::STOPPING | error::JOB_ENDED | error::JOB_NOT_FOUND) {
                return;
            }
            if !matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Internal | ErrorKind::QuotaExceeded) {
                tracing::error!(job = %id, "the job cannot go on: {error}");
                let message = format!(
                    "it cannot go on where the server's last process left it: {error}; it is tried again when the server starts, unless you cancel it"
                );
                let failure = Failure::new(FailureKind::Resources, message);
                drop(self.messages.send(Message::GivenUp { id, failure }).await);
                return;
            }
            tracing::warn!(job = %id, "the job cannot go on yet: {error}");
            rings.1.push(Some("warn"), &format!("the job cannot go on yet: {error}"));
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(RESUME_PAUSES.end);
        }
    }

    async fn try_resume(&self, entry: &mut Entry, rings: (Ring, Ring)) -> Result<JobSummary, Error> {
        let prepared = self.prepare(entry, rings).await?;
        // Its own checkpoints come after the savepoint that it began with, which may be gone.
        let storage = self.storage(&entry.tenant)?;
        let own = storage.job(&entry.id.to_string()).map_err(unread)?;
        let found = newest(&own).await.map_err(unread)?;
        // It may be gone when the job claims its log, or when it is looked for another time.
        entry.has_checkpoint |= found.is_some();
        let start = match found {
            Some(found) => Start {
                drops_unmatched: entry.from.drops_unmatched,
                expected: Some(CheckpointId(found.checkpoint)),
                ..Start::default()
            },
            // From the beginning, it would write all its rows a second time.
            None if entry.has_checkpoint => {
                let message = format!(
                    "it has had checkpoints, and there is none in {}: start the server with the storage that it had before, or bring back what was in there; cancel the job to be rid of it",
                    own.folder().url()
                );
                return Err(Error::new(ErrorKind::Unavailable, error::STORAGE, message));
            }
            None => self.start(&entry.tenant, &entry.from, &prepared).await?,
        };
        self.accept(entry.clone(), prepared, start, Some(storage)).await
    }

    /// Checks what a user asks for, and plans it; with the files that the job will have.
    async fn plan(&self, tenant: &TenantId, spec: &JobSpec, log: &LogSink) -> Result<(Prepared, Files), Error> {
        files::check(spec, &self.shared.options.allowed_connectors)?;
        limits::check(spec, self.shared.sandbox.options().max_memory_bytes)?;
        let mut components = vec![];
        for (_, component) in spec.component_specs() {
            components.push(self.shared.store.load(&self.shared.sandbox, tenant, &component.component).await?);
        }
        let folder = self.shared.options.data_dir.join("files").join(tenant.as_str());
        let files = Files::confined(&folder);
        let files = files.map_err(|e| Error::storage(format_args!("cannot open {}", folder.display()), &e))?;
        let prepared = prepare::prepare(spec, components, &files, log).await?;
        Ok((prepared, files))
    }

    /// Makes of what a user asks for a job that can be handed over.
    async fn prepare(&self, Entry { id, tenant, spec, .. }: &Entry, (output, log): (Ring, Ring)) -> Result<Ready, Error> {
        let sink = log_sink(&log);
        let (Prepared { plan, components }, files) = self.plan(tenant, spec, &sink).await?;
        let context = Context {
            files,
            stdout: Arc::new(Mutex::new(output.writer())),
            name: String::new(),
            // Names need not be unique, and what sinks write goes by this.
            attempt: weir_connector::Attempt { job: id.to_string(), ..weir_connector::Attempt::default() },
        };
        let deployment = Deployment {
            plan,
            components,
            context,
            storage: None,
            restore: None,
            has_run: false,
            culprits: vec![],
            pending: vec![],
            log: sink,
            clock: self.shared.clock.clone(),
            native: None,
        };
        Ok(Ready { deployment, rings: (output, log) })
    }

    /// Hands a job over to the service: a new one, or one that waits there and whose checkpoints were looked for in a storage.
    async fn accept(&self, entry: Entry, ready: Ready, start: Start, looked_at: Option<Storage>) -> Result<JobSummary, Error> {
        let Ready { deployment, rings } = ready;
        let plan = &deployment.plan;
        let summary = entry.summary(plan.name.clone(), slots_needed(plan));
        let text = weir_plan::explain::explain(plan).into();
        let is_resuming = looked_at.is_some();
        let storage = self.checkpoints(plan, &summary, looked_at)?;
        let spec = Arc::new(entry.spec.clone());
        let entry = storage.is_some().then_some(entry);
        let job = Job { entry, is_resuming, ..Job::created(summary, spec, text, rings, Some(deployment), (storage, start)) };
        let job = Box::new(job);
        self.ask(|reply| Message::Submit { job, reply }).await
    }

    /// What keeps a job's last lines of output, and of its log.
    pub(crate) fn rings(&self) -> (Ring, Ring) {
        let (options, clock) = (&self.shared.options, &self.shared.clock);
        (Ring::new(options.output_bytes_max, clock.clone()), Ring::new(options.log_bytes_max, clock.clone()))
    }

    /// Where a job's checkpoints lie, if it is checkpointed: under its id, so that no two jobs share them. A storage that was looked at stays the one, whatever is
    /// in its place by now.
    fn checkpoints(
        &self,
        plan: &JobPlan,
        summary: &JobSummary,
        looked_at: Option<Storage>,
    ) -> Result<Option<Checkpoints>, Error> {
        if plan.spec.checkpoint.interval.is_none() {
            return Ok(None);
        }
        let storage = looked_at.map_or_else(|| self.storage(&summary.tenant), Ok)?;
        Ok(Some(Checkpoints { storage, job: summary.id.to_string() }))
    }

    /// Where the checkpoints of a tenant's jobs and its savepoints lie.
    fn storage(&self, tenant: &TenantId) -> Result<Storage, Error> {
        let options = &self.shared.options;
        let own = || location::url("checkpoints", &options.data_dir);
        let url = options.checkpoint_storage.clone().map_or_else(own, Ok);
        let opened = url.and_then(|url| Storage::open(&format!("{}/{tenant}", url.trim_end_matches('/')), &[]));
        opened.map_err(|e| Error::storage("cannot open the storage of checkpoints", &e))
    }

    /// What a job starts from. What it cannot start from is refused now, before it holds anything.
    async fn start(&self, tenant: &TenantId, from: &StartFrom, ready: &Ready) -> Result<Start, Error> {
        let Some(id) = &from.savepoint else { return Ok(Start::default()) };
        let savepoint = self.storage(tenant)?.savepoints().open(id).await.map_err(|e| savepoint::refused(&e))?;
        let restore = Restore {
            manifest: Arc::new(savepoint.manifest().clone()),
            folder: savepoint.folder().clone(),
            drops_unmatched: from.drops_unmatched,
        };
        let unfit = |failure: weir_worker::Failure| Error::new(ErrorKind::Invalid, error::STATE_UNFIT, failure.message);
        restore.settle(&ready.deployment.plan, &ready.deployment.components).await.map_err(unfit)?;
        Ok(Start { savepoint: Some(Arc::new(savepoint)), drops_unmatched: from.drops_unmatched, ..Start::default() })
    }

    /// Makes a savepoint of a job, and waits until it is complete.
    ///
    /// # Errors
    /// If there is no such job, it has ended or has no checkpoints, there is a savepoint of this id, or the checkpoint fails.
    pub async fn save(&self, job: JobId, wish: Wish) -> Result<Written, Error> {
        if wish.drain && !wish.stop {
            let message = "`drain` is a way to stop: set `stop`, too, or leave `drain` out";
            return Err(Error::new(ErrorKind::Invalid, error::SAVEPOINT_INVALID, message));
        }
        let Saving { summary, controls, storage } = self.saving(job).await?;
        let id = wish.id.unwrap_or_else(|| savepoint::default_id(&summary.name, service::now(&self.shared.clock)));
        // It is looked at once more when it is written. But then the job may have been stopped.
        storage.savepoints().check_free(&id).await.map_err(|e| savepoint::refused(&e))?;
        let kind = if wish.stop { Kind::StopWithSavepoint { drain: wish.drain } } else { Kind::Savepoint };
        let made = controls.checkpoint(kind, Some(id.clone())).await.map_err(|unmade| refused(job, &unmade))?;
        let url = made.savepoint.ok_or_else(|| no_checkpoints(job))?;
        Ok(Written { checkpoint: made.checkpoint, savepoint: id, url })
    }

    /// Makes a checkpoint of a job now, and waits until it is complete; returns its number.
    ///
    /// # Errors
    /// If there is no such job, it has ended or has no checkpoints, or the checkpoint fails.
    pub async fn checkpoint(&self, job: JobId) -> Result<u64, Error> {
        let Saving { controls, .. } = self.saving(job).await?;
        let made = controls.checkpoint(Kind::Checkpoint, None).await.map_err(|unmade| refused(job, &unmade))?;
        Ok(made.checkpoint)
    }

    /// What it takes to have checkpoints of a job made.
    async fn saving(&self, job: JobId) -> Result<Saving, Error> {
        let (summary, controls, checkpoints) = self.ask(|reply| Message::Controls { id: job, reply }).await?;
        if summary.state.is_end() {
            return Err(ended(job));
        }
        let starting = || not_made(format!("the job {job} is being started; try again in a moment"));
        if summary.state == State::Created {
            return Err(starting());
        }
        let storage = checkpoints.ok_or_else(|| no_checkpoints(job))?.storage;
        let controls = controls.ok_or_else(starting)?;
        Ok(Saving { summary, controls, storage })
    }

    /// What becomes of a job's state, as its newest complete checkpoint has it, if a job of `spec` goes on with it. The job runs, or has ended; the
    /// spec's components were uploaded. Nothing is started.
    ///
    /// # Errors
    /// If there is no such job, it has no complete checkpoint, or the spec is wrong or asks for what jobs may not have.
    pub async fn diff(&self, tenant: &TenantId, job: JobId, spec: &JobSpec) -> Result<Diff, Error> {
        let JobView { summary, spec: of_job, .. } = self.job(job).await?;
        if of_job.checkpoint.interval.is_none() {
            return Err(incomparable(job));
        }
        let storage = self.storage(&summary.tenant)?.job(&job.to_string()).map_err(unread)?;
        let manifest = newest(&storage).await.map_err(unread)?.ok_or_else(|| no_checkpoint_yet(&summary))?;
        let (prepared, files) = self.plan(tenant, spec, &LogSink::none()).await?;
        // Another job has a log of its own: the rows of this one are no matter of it.
        let uncommitted = BTreeSet::new();
        Ok(Diff::new(storage.folder().url(), &prepared, &files, &manifest, &uncommitted).await)
    }

    /// A tenant's savepoints, by their ids.
    ///
    /// # Errors
    /// If the storage fails.
    pub async fn savepoints(&self, tenant: &TenantId) -> Result<Vec<savepoint::Summary>, Error> {
        savepoint::list(&self.storage(tenant)?.savepoints()).await
    }

    /// All that is told about a savepoint; if that is wanted, all its files are read.
    ///
    /// # Errors
    /// If there is none with this id, or it is not complete.
    pub async fn savepoint(&self, tenant: &TenantId, id: &str, verifies: bool) -> Result<savepoint::View, Error> {
        let savepoint = self.storage(tenant)?.savepoints().open(id).await.map_err(|e| savepoint::refused(&e))?;
        savepoint::view(&savepoint, verifies).await
    }

    /// Deletes a savepoint, or what is left of one that is not complete.
    ///
    /// # Errors
    /// If there is nothing with this id, or a job that has no checkpoint of its own yet would start from there again.
    pub async fn delete_savepoint(&self, tenant: &TenantId, id: &str) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Starters { tenant: tenant.clone(), savepoint: id.to_owned(), reply };
        self.messages.send(message).await.map_err(|_| Error::stopping())?;
        if let Some(job) = answer.await.map_err(|_| Error::stopping())?.first() {
            let message = format!(
                "the job {job} has started from the savepoint \"{id}\", and would do so again, since it has no checkpoint of its own yet; have it make one by \
                 `weir job checkpoint {job}` (if its spec has a checkpoint.interval), or end the job, and delete the savepoint then"
            );
            return Err(Error::new(ErrorKind::Conflict, error::SAVEPOINT_IN_USE, message));
        }
        self.storage(tenant)?.savepoints().delete(id).await.map_err(|e| savepoint::refused(&e))
    }

    /// The last checkpoints of a job, oldest first.
    ///
    /// # Errors
    /// If there is none with this id.
    pub async fn checkpoint_reports(&self, job: JobId) -> Result<Vec<CheckpointReport>, Error> {
        Ok(self.job(job).await?.checkpoints)
    }

    /// All jobs, oldest first.
    ///
    /// # Errors
    /// If the server is going down.
    pub async fn jobs(&self) -> Result<Vec<JobSummary>, Error> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::List { reply }).await.map_err(|_| Error::stopping())?;
        answer.await.map_err(|_| Error::stopping())
    }

    /// All that is known of a job.
    ///
    /// # Errors
    /// If there is none with this id.
    pub async fn job(&self, id: JobId) -> Result<JobView, Error> {
        self.ask(|reply| Message::Get { id, reply }).await
    }

    /// Lets a job finish what it has read, and end.
    ///
    /// # Errors
    /// If there is none with this id, or it has ended.
    pub async fn stop(&self, id: JobId) -> Result<JobSummary, Error> {
        self.ask(|reply| Message::End { id, event: Event::StopRequested, reply }).await
    }

    /// Ends a job now. One that has failed, since it could not go on after a restart of the server, is not tried again.
    ///
    /// # Errors
    /// If there is none with this id, or it has ended for good.
    pub async fn cancel(&self, id: JobId) -> Result<JobSummary, Error> {
        self.ask(|reply| Message::End { id, event: Event::CancelRequested, reply }).await
    }

    /// The last lines that a job's `stdout` sinks wrote.
    ///
    /// # Errors
    /// If there is none with this id.
    pub async fn output(&self, id: JobId) -> Result<Ring, Error> {
        Ok(self.ask(|reply| Message::Rings { id, reply }).await?.0)
    }

    /// The last lines that a job's components logged.
    ///
    /// # Errors
    /// If there is none with this id.
    pub async fn logs(&self, id: JobId) -> Result<Ring, Error> {
        Ok(self.ask(|reply| Message::Rings { id, reply }).await?.1)
    }

    /// The figures of all jobs.
    ///
    /// # Errors
    /// If the server is going down.
    pub async fn figures(&self) -> Result<Figures, Error> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Figures { reply }).await.map_err(|_| Error::stopping())?;
        answer.await.map_err(|_| Error::stopping())
    }

    /// The largest component that is taken, in bytes.
    pub fn component_bytes_max(&self) -> usize {
        self.shared.sandbox.options().max_component_bytes
    }

    /// The same for people, and what to do about one that is larger.
    pub fn component_limit(&self) -> String {
        self.shared.sandbox.options().component_limit()
    }

    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(message(reply)).await.map_err(|_| Error::stopping())?;
        answer.await.map_err(|_| Error::stopping())?
    }
}

/// A job needs a slot for each subtask of its widest vertex: a slot holds one subtask of every vertex.
fn slots_needed(plan: &JobPlan) -> u16 {
    plan.vertices.iter().map(|v| v.parallelism).max().unwrap_or(1)
}

fn log_sink(log: &Ring) -> LogSink {
    let log = log.clone();
    LogSink::new(move |level, line| log.push(Some(level_name(level)), line))
}

/// A level, as it is shown.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// A job of which checkpoints can be made.
struct Saving {
    summary: JobSummary,
    controls: Controls,
    storage: Storage,
}

fn ended(job: JobId) -> Error {
    Error::new(ErrorKind::Conflict, error::JOB_ENDED, format!("the job {job} has ended: there is nothing to save"))
}

fn no_checkpoints(job: JobId) -> Error {
    let message = format!(
        "the job {job} has no checkpoints, so there can be no savepoint of it; set checkpoint.interval in its spec (\"1h\", if none is needed otherwise) and start it anew"
    );
    Error::new(ErrorKind::Conflict, error::NO_CHECKPOINTS, message)
}

fn incomparable(job: JobId) -> Error {
    let message = format!(
        "the job {job} has no checkpoints, so there is no state to compare with; set checkpoint.interval in its spec, and start it anew"
    );
    Error::new(ErrorKind::Conflict, error::NO_CHECKPOINTS, message)
}

fn no_checkpoint_yet(JobSummary { id, state, .. }: &JobSummary) -> Error {
    let message = if state.is_end() {
        format!("the job {id} has ended, and has left no complete checkpoint: there is no state to compare with")
    } else {
        format!(
            "the job {id} has no complete checkpoint yet: wait for the first one, or have it made now by `weir job checkpoint {id}`, or with a savepoint by `weir savepoint create {id}`"
        )
    };
    Error::new(ErrorKind::Conflict, error::NO_CHECKPOINT_YET, message)
}

fn unread(error: weir_checkpoint::Error) -> Error {
    let unread = Error::storage("cannot read the job's checkpoints", &error);
    match error.kind {
        // To wait does not help.
        weir_checkpoint::ErrorKind::Newer => Error { kind: ErrorKind::Conflict, ..unread },
        _ => unread,
    }
}

fn not_made(message: String) -> Error {
    Error::new(ErrorKind::Unavailable, error::SAVEPOINT_NOT_MADE, message)
}

/// Why there is no checkpoint.
fn refused(job: JobId, unmade: &Unmade) -> Error {
    match unmade {
        Unmade::Ended => ended(job),
        Unmade::Refused(Refusal::NoStorage) => no_checkpoints(job),
        Unmade::Interrupted | Unmade::Refused(_) => not_made(unmade.to_string()),
        Unmade::NotCopied { error, .. } => Error { message: unmade.to_string(), ..savepoint::refused(error) },
    }
}
