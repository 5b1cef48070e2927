//! How the API talks to the coordinator.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use weir_base::Clock;
use weir_checkpoint::Storage;
use weir_connector::{Context, Files};
use weir_plan::{JobPlan, JobSpec};
use weir_protocol::job::{Event, State};
use weir_sandbox::{Level, LogSink, Sandbox};
use weir_worker::Deployment;

use crate::component::{self, ComponentView, Store};
use crate::error::Error;
use crate::execution::{Checkpoints, storage_url};
use crate::files;
use crate::job::{Job, JobId, JobSummary, JobView};
use crate::limits;
use crate::options::Options;
use crate::prepare::{self, Prepared};
use crate::ring::Ring;
use crate::service::{self, Figures, Message, Reply};
use crate::tenant::TenantId;

/// Talks to a [`Service`](crate::Service). Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    messages: mpsc::Sender<Message>,
    shared: Arc<Shared>,
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

    /// Starts a job whose components were uploaded.
    ///
    /// # Errors
    /// If the spec is wrong, asks for what jobs may not have, or there are not enough slots.
    pub async fn submit(&self, tenant: &TenantId, spec: JobSpec) -> Result<JobSummary, Error> {
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
            attempt: weir_connector::Attempt::default(),
        };
        let clock = self.shared.clock.clone();
        let storage = self.checkpoints(&plan, &summary)?;
        let deployment = Deployment {
            plan,
            components,
            context,
            storage: None,
            restore: None,
            pending: vec![],
            log: sink,
            clock,
            native: None,
        };
        let job = Box::new(Job::created(summary, Arc::new(spec), text, (output, log), deployment, storage));
        self.ask(|reply| Message::Submit { job, reply }).await
    }

    /// Where a job's checkpoints lie, if it is checkpointed: under its id, so that no two jobs share them.
    fn checkpoints(&self, plan: &JobPlan, summary: &JobSummary) -> Result<Option<Checkpoints>, Error> {
        if plan.spec.checkpoint.interval.is_none() {
            return Ok(None);
        }
        let options = &self.shared.options;
        let url = options.checkpoint_storage.clone().unwrap_or_else(|| storage_url("checkpoints", &options.data_dir));
        let storage = Storage::open(&url, &[]).map_err(|e| Error::storage("cannot open the storage of checkpoints", &e))?;
        Ok(Some(Checkpoints { storage, job: format!("{}/{}", summary.tenant, summary.id) }))
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
