//! How the API talks to the coordinator.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use weir_base::Clock;
use weir_checkpoint::Storage;
use weir_connector::{Context, Files};
use weir_plan::{JobPlan, JobSpec};
use weir_protocol::checkpoint::{Kind, Refusal};
use weir_protocol::job::{Event, State};
use weir_sandbox::{Component, Level, LogSink, Sandbox};
use weir_worker::{Deployment, Restore};

use crate::component::{self, ComponentView, Store};
use crate::error::{self, Error, ErrorKind};
use crate::execution::{CheckpointReport, Checkpoints, Controls, Start, Unmade, storage_url};
use crate::files;
use crate::job::{Job, JobId, JobSummary, JobView};
use crate::limits;
use crate::options::Options;
use crate::prepare::{self, Prepared};
use crate::ring::Ring;
use crate::savepoint::{self, Wish, Written};
use crate::service::{self, Figures, Message, Reply};
use crate::tenant::TenantId;

/// Talks to a [`Service`](crate::Service). Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    messages: mpsc::Sender<Message>,
    shared: Arc<Shared>,
}

/// What a job is to start from.
#[derive(Clone, Debug, Default)]
pub struct StartFrom {
    /// the id of a savepoint; none = the beginning
    pub savepoint: Option<String>,
    /// whether state of operators that the job has not any more is left behind
    pub drops_unmatched: bool,
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
        files::check(&spec)?;
        limits::check(&spec, self.shared.sandbox.options().max_memory_bytes)?;
        let mut components = vec![];
        for (_, component) in spec.component_specs() {
            components.push(self.shared.store.load(&self.shared.sandbox, tenant, &component.component).await?);
        }
        let options = &self.shared.options;
        let output = Ring::new(options.output_bytes_max, self.shared.clock.clone());
        let log = Ring::new(options.log_bytes_max, self.shared.clock.clone());
        let sink = log_sink(&log);
        let Prepared { plan, components } = prepare::prepare(&spec, components, &sink).await?;
        let folder = options.data_dir.join("files").join(tenant.as_str());
        let files = Files::confined(&folder);
        let files = files.map_err(|e| Error::storage(format_args!("cannot open {}", folder.display()), &e))?;
        let summary = JobSummary {
            id: JobId::generate(),
            tenant: tenant.clone(),
            name: plan.name.clone(),
            state: State::Created,
            slots: slots_needed(&plan),
            created: service::now(&self.shared.clock),
            ended: None,
            failure: None,
        };
        let text = weir_plan::explain::explain(&plan).into();
        let context = Context {
            files,
            stdout: Arc::new(Mutex::new(output.writer())),
            name: String::new(),
            // Names need not be unique, and what sinks write goes by this.
            attempt: weir_connector::Attempt { job: summary.id.to_string(), ..weir_connector::Attempt::default() },
        };
        let clock = self.shared.clock.clone();
        let storage = self.checkpoints(&plan, &summary)?;
        let start = self.start(tenant, from, &plan, &components).await?;
        let deployment = Deployment {
            plan,
            components,
            context,
            storage: None,
            restore: None,
            barred: vec![],
            pending: vec![],
            log: sink,
            clock,
            native: None,
        };
        let job = Box::new(Job::created(summary, Arc::new(spec), text, (output, log), deployment, (storage, start)));
        self.ask(|reply| Message::Submit { job, reply }).await
    }

    /// Where a job's checkpoints lie, if it is checkpointed: under its id, so that no two jobs share them.
    fn checkpoints(&self, plan: &JobPlan, summary: &JobSummary) -> Result<Option<Checkpoints>, Error> {
        if plan.spec.checkpoint.interval.is_none() {
            return Ok(None);
        }
        Ok(Some(Checkpoints { storage: self.storage(&summary.tenant)?, job: summary.id.to_string() }))
    }

    /// Where the checkpoints of a tenant's jobs and its savepoints lie.
    fn storage(&self, tenant: &TenantId) -> Result<Storage, Error> {
        let options = &self.shared.options;
        let url = options.checkpoint_storage.clone().unwrap_or_else(|| storage_url("checkpoints", &options.data_dir));
        let url = format!("{}/{tenant}", url.trim_end_matches('/'));
        Storage::open(&url, &[]).map_err(|e| Error::storage("cannot open the storage of checkpoints", &e))
    }

    /// What a job starts from. What it cannot start from is refused now, before it holds anything.
    async fn start(&self, tenant: &TenantId, from: StartFrom, plan: &JobPlan, components: &[Component]) -> Result<Start, Error> {
        let Some(id) = &from.savepoint else { return Ok(Start::default()) };
        let savepoint = self.storage(tenant)?.savepoints().open(id).await.map_err(|e| savepoint::refused(&e))?;
        let restore = Restore {
            manifest: Arc::new(savepoint.manifest().clone()),
            folder: savepoint.folder().clone(),
            drops_unmatched: from.drops_unmatched,
        };
        let unfit = |failure: weir_worker::Failure| Error::new(ErrorKind::Invalid, error::STATE_UNFIT, failure.message);
        restore.settle(plan, components).await.map_err(unfit)?;
        Ok(Start { savepoint: Some(Arc::new(savepoint)), fresh: false, drops_unmatched: from.drops_unmatched })
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
        let storage = checkpoints.ok_or_else(|| no_checkpoints(job))?.storage;
        let controls = controls.ok_or_else(|| not_made(format!("the job {job} is being started; try again in a moment")))?;
        Ok(Saving { summary, controls, storage })
    }

    /// A tenant's savepoints, by their ids.
    ///
    /// # Errors
    /// If the storage fails.
    pub async fn savepoints(&self, tenant: &TenantId) -> Result<Vec<savepoint::Summary>, Error> {
        savepoint::list(&self.storage(tenant)?.savepoints()).await
    }

    /// All that is told about a savepoint.
    ///
    /// # Errors
    /// If there is none with this id, or it is not complete.
    pub async fn savepoint(&self, tenant: &TenantId, id: &str) -> Result<savepoint::View, Error> {
        let savepoint = self.storage(tenant)?.savepoints().open(id).await.map_err(|e| savepoint::refused(&e))?;
        savepoint::view(&savepoint).await
    }

    /// Deletes a savepoint, or what is left of one that is not complete.
    ///
    /// # Errors
    /// If there is nothing with this id.
    pub async fn delete_savepoint(&self, tenant: &TenantId, id: &str) -> Result<(), Error> {
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

    /// Ends a job now.
    ///
    /// # Errors
    /// If there is none with this id, or it has ended.
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
