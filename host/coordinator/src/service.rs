//! The loop that owns all jobs.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use weir_base::Clock;
use weir_protocol::job::{self as protocol, Command, End, Event, State};
use weir_protocol::slots::Taken;
use weir_sandbox::Sandbox;
use weir_worker::metrics::Snapshot;
use weir_worker::{Failure, Outcome, StateMemory, Worker};

use crate::component::Store;
use crate::error::{self, Error, ErrorKind};
use crate::execution::{Checkpoints, Controls, Event as Happened, History, Start, when};
use crate::handle::Handle;
use crate::job::{self, Job, JobId, JobSummary, JobView, Metrics, Report};
use crate::options::Options;
use crate::ring::{self, Ring};
use crate::roster::{Entry, Roster, Unreadable};
use crate::tenant::TenantId;

/// How many messages can wait for the service.
const MESSAGES_MAX: usize = 256;
/// How many bytes of lines are kept of all jobs that have ended, newest first.
const ENDED_LINES_BYTES_MAX: usize = 64 << 20;

/// What handles and the tasks of jobs ask of the service.
pub(crate) enum Message {
    Submit {
        job: Box<Job>,
        reply: Reply<JobSummary>,
    },
    List {
        reply: oneshot::Sender<Vec<JobSummary>>,
    },
    Get {
        id: JobId,
        reply: Reply<JobView>,
    },
    End {
        id: JobId,
        event: Event,
        reply: Reply<JobSummary>,
    },
    Rings {
        id: JobId,
        reply: Reply<(Ring, Ring)>,
    },
    /// what a checkpoint can be asked of, with where it would be stored
    Controls {
        id: JobId,
        reply: Reply<(JobSummary, Option<Controls>, Option<Checkpoints>)>,
    },
    /// the jobs that have not ended and use a component
    Users {
        tenant: TenantId,
        component: String,
        reply: oneshot::Sender<Vec<JobId>>,
    },
    /// the jobs that would start from a savepoint again
    Starters {
        tenant: TenantId,
        savepoint: String,
        reply: oneshot::Sender<Vec<JobId>>,
    },
    /// a job that this process cannot go on with
    GivenUp {
        id: JobId,
        failure: Failure,
    },
    Figures {
        reply: oneshot::Sender<Figures>,
    },
    Report(JobId, Report),
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// The figures of all jobs, for a metrics endpoint.
#[derive(Clone, Debug)]
pub struct Figures {
    /// slots that jobs have, or tasks of jobs that have ended still hold
    pub slots_used: u16,
    /// all slots
    pub slots: u16,
    /// the memory that state on disk shares; none as long as no job has had any
    pub state_memory: Option<StateMemory>,
    /// jobs, with what they have done
    pub jobs: Vec<JobFigures>,
}

/// The figures of a job.
#[derive(Clone, Debug)]
pub struct JobFigures {
    /// the job
    pub summary: JobSummary,
    /// what its last attempt has done; none before the first one was deployed
    pub snapshot: Option<Snapshot>,
    /// what has happened to its checkpoints
    pub history: History,
}

/// Owns jobs. Made by [`Options::build`].
pub struct Service {
    options: Options,
    worker: Worker,
    clock: Clock,
    messages: mpsc::Receiver<Message>,
    /// for the tasks of jobs
    sender: mpsc::Sender<Message>,
    jobs: BTreeMap<JobId, Job>,
    roster: Roster,
    tasks: JoinSet<()>,
}

impl Options {
    /// Makes a service that runs its jobs on `worker`, and its handle.
    ///
    /// # Errors
    /// If the data directory cannot be made.
    pub fn build(self, sandbox: Sandbox, worker: Worker, clock: Clock) -> Result<(Service, Handle), Error> {
        let store = Store::open(&self.data_dir)?;
        let roster = Roster::open(&self.data_dir)?;
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let handle = Handle::new(sender.clone(), sandbox, store, self.clone(), clock.clone());
        let service =
            Service { options: self, worker, clock, messages, sender, jobs: BTreeMap::new(), roster, tasks: JoinSet::new() };
        Ok((service, handle))
    }
}

impl Service {
    /// Goes on with the jobs that had checkpoints and had not ended when the server's last process did. Each is there from now on; it waits until `handle` can
    /// submit it.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn resume(&mut self, handle: &Handle) -> Result<(), Error> {
        for entry in self.roster.list()? {
            match entry {
                Ok(entry) => {
                    let rings = handle.rings();
                    self.jobs.insert(entry.id, Job::resuming(entry.clone(), rings.clone()));
                    drop(tokio::spawn(handle.clone().resume_job(entry, rings)));
                }
                Err(Unreadable { path, why }) => {
                    tracing::error!(
                        "cannot go on with a job: {}: {why}; mend or remove the file, and start the server again",
                        path.display()
                    );
                }
            }
        }
        Ok(())
    }

    /// Serves until `shutdown` completes; then cancels all jobs and waits until they have ended. Those with checkpoints stay in the roster.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                message = self.messages.recv() => match message {
                    Some(message) => self.handle(message),
                    None => break,
                },
                Some(_) = self.tasks.join_next() => {}
            }
        }
        let jobs: Vec<_> = self.jobs.keys().copied().collect();
        for id in jobs {
            // Those that have ended refuse, which is as well.
            let _ = self.step(id, Event::CancelRequested);
        }
        while self.jobs.values().any(|job| !job.summary.state.is_end()) {
            let Some(message) = self.messages.recv().await else { break };
            match message {
                Message::Submit { reply, .. } => drop(reply.send(Err(Error::stopping()))),
                message => self.handle(message),
            }
        }
    }

    /// A reply that nobody waits for any more is dropped: whoever asked has gone away.
    fn handle(&mut self, message: Message) {
        match message {
            Message::Submit { job, reply } => drop(reply.send(self.submit(*job))),
            Message::List { reply } => {
                drop(reply.send(self.jobs.values().map(|job| job.summary.clone()).collect()));
            }
            Message::Get { id, reply } => drop(reply.send(self.job(id).map(|job| job.view()))),
            Message::End { id, event, reply } => drop(reply.send(self.end(id, event))),
            Message::Rings { id, reply } => {
                drop(reply.send(self.job(id).map(|job| (job.output.clone(), job.log.clone()))));
            }
            Message::Controls { id, reply } => {
                let controls = self.job(id).map(|job| (job.summary.clone(), job.controls.clone(), job.storage.clone()));
                drop(reply.send(controls));
            }
            Message::Users { tenant, component, reply } => {
                let uses = |job: &&Job| {
                    !job.summary.state.is_end()
                        && job.summary.tenant == tenant
                        && job.spec.component_specs().iter().any(|(_, used)| used.component == component)
                };
                drop(reply.send(self.jobs.values().filter(uses).map(|job| job.summary.id).collect()));
            }
            Message::Starters { tenant, savepoint, reply } => {
                let starts = |job: &&Job| job.summary.tenant == tenant && job.would_start_from(&savepoint);
                drop(reply.send(self.jobs.values().filter(starts).map(|job| job.summary.id).collect()));
            }
            Message::Figures { reply } => drop(reply.send(Figures {
                slots_used: self.slots_taken(|_| true).total(),
                slots: self.options.slots,
                state_memory: self.worker.state_memory(),
                jobs: self.jobs.values().map(Job::figures).collect(),
            })),
            Message::GivenUp { id, failure } => {
                // It may have been cancelled meanwhile.
                if self.job(id).is_ok_and(|job| !job.summary.state.is_end()) {
                    self.report(id, Report::Happened(Happened::Ended(Outcome::Failed { failure })));
                }
            }
            Message::Report(id, report) => self.report(id, report),
        }
    }

    fn job(&mut self, id: JobId) -> Result<&mut Job, Error> {
        self.jobs.get_mut(&id).ok_or_else(|| job::not_found(id))
    }

    /// The slots of those jobs among these that have not ended, and what tasks hold that have outlived their jobs.
    fn slots_taken(&self, counts: impl Fn(&Job) -> bool) -> Taken {
        let jobs = self.jobs.values().filter(|job| !job.summary.state.is_end() && counts(job));
        Taken::of(jobs.map(|job| (job.summary.id.to_string(), job.summary.slots)), self.worker.held())
    }

    fn submit(&mut self, mut job: Job) -> Result<JobSummary, Error> {
        let id = job.summary.id;
        let resumes = job.is_resuming;
        if resumes {
            let waiting = self.job(id)?;
            if waiting.summary.state != State::Created {
                let message = format!("the job {id} is {}: there is nothing to go on with", waiting.summary.state);
                return Err(Error::new(ErrorKind::Conflict, error::JOB_ENDED, message));
            }
            if job.start.expected.is_some() {
                // The last process may not have come to that, and the next one may find nothing.
                self.note(id, |entry| &mut entry.has_checkpoint)?;
            }
            // It may have been told to stop.
            job.entry = self.job(id)?.entry.clone();
        }
        // New jobs leave to those that wait what they had. These do not wait for each other.
        let taken = self.slots_taken(|other| !resumes || other.summary.state != State::Created);
        let needed = job.summary.slots;
        if needed > self.options.slots.saturating_sub(taken.total()) {
            return Err(no_slots(needed, self.options.slots, taken));
        }
        // Before it is accepted: a job that is never stays behind.
        if let Some(entry) = job.entry.as_ref().filter(|_| !resumes) {
            self.roster.keep(entry)?;
        }
        tracing::info!(job = %id, tenant = %job.summary.tenant, name = job.summary.name, slots = needed, "job accepted");
        let drains = job.drains();
        self.jobs.insert(id, job);
        self.step(id, Event::Scheduled)?;
        if drains {
            self.step(id, Event::StopRequested)?;
        }
        Ok(self.job(id)?.summary.clone())
    }

    /// Somebody wants a job to end. That is noted down before it is answered, so that the server knows of it when it starts again.
    fn end(&mut self, id: JobId, event: Event) -> Result<JobSummary, Error> {
        let job = self.job(id)?;
        let state = job.summary.state;
        let event = if event == Event::CancelRequested && job.is_tried_again() { Event::Abandoned } else { event };
        next(state, event)?;
        if matches!(event, Event::CancelRequested | Event::Abandoned) {
            self.strike(id)?;
        } else {
            self.note(id, |entry| &mut entry.stops)?;
        }
        // One that cannot go on yet drains when it can: its checkpoint may have rows that nobody has seen.
        if state != State::Created || event == Event::CancelRequested {
            self.step(id, event)?;
        }
        let summary = self.job(id)?.summary.clone();
        self.forget_old();
        Ok(summary)
    }

    fn report(&mut self, id: JobId, report: Report) {
        let event = match report {
            Report::Started(controls) => return self.with(id, |job| job.started(controls)),
            Report::Happened(Happened::Deployed(metrics)) => {
                return self.with(id, |job| job.metrics = Metrics::Live(metrics));
            }
            Report::Happened(Happened::Note(note)) => {
                tracing::info!(job = %id, "{note}");
                return self.with(id, |job| job.log.push(Some("info"), &note));
            }
            Report::Happened(Happened::Warning(warning)) => {
                tracing::warn!(job = %id, "{warning}");
                return self.with(id, |job| job.log.push(Some("warn"), &warning));
            }
            Report::Happened(Happened::Checkpoint(report)) => {
                let is_complete = report.failure.is_none();
                self.with(id, |job| job.checkpointed(report));
                if is_complete && let Err(error) = self.note(id, |entry| &mut entry.has_checkpoint) {
                    tracing::error!(job = %id, "it is not noted down that the job has a checkpoint: {error}");
                }
                return;
            }
            Report::Happened(Happened::Running) => {
                self.with(id, |job| job.is_resuming = false);
                Event::Opened
            }
            Report::Happened(Happened::Restarts { failure, delay }) => {
                tracing::warn!(job = %id, "job failed, and starts again {}: {failure}", when(delay));
                self.with(id, |job| {
                    job.history.restarts += 1;
                    job.log.push(Some("warn"), &format!("the job starts again {}: {failure}", when(delay)));
                });
                Event::Failed
            }
            Report::Happened(Happened::Ended(outcome)) => {
                let (end, failure) = match outcome {
                    Outcome::Finished => (End::Finished, None),
                    Outcome::Cancelled => (End::Cancelled, None),
                    Outcome::Failed { failure } => (End::Failed, Some(failure)),
                };
                let now = now(&self.clock);
                self.with(id, |job| job.ended(failure, now));
                if !self.job(id).is_ok_and(|job| job.outlives(end))
                    && let Err(error) = self.strike(id)
                {
                    tracing::error!(job = %id, "the job would go on when the server starts again: {error}");
                }
                Event::Ended(end)
            }
        };
        if let Err(refused) = self.step(id, event) {
            tracing::error!(job = %id, ?event, "the job's task reported what cannot be: {refused}");
        }
        self.forget_old();
    }

    /// The server does not go on with a job any more when it starts again.
    ///
    /// # Errors
    /// If the disk fails.
    fn strike(&mut self, id: JobId) -> Result<(), Error> {
        if let Some(job) = self.jobs.get_mut(&id).filter(|job| job.entry.is_some()) {
            self.roster.forget(id)?;
            job.entry = None;
        }
        Ok(())
    }

    /// Notes down that something is so now, if the job is in the roster and it was not so before.
    ///
    /// # Errors
    /// If the disk fails; then it is not so.
    fn note(&mut self, id: JobId, what: fn(&mut Entry) -> &mut bool) -> Result<(), Error> {
        let Some(entry) = self.jobs.get_mut(&id).and_then(|job| job.entry.as_mut()) else { return Ok(()) };
        if std::mem::replace(what(entry), true) {
            return Ok(());
        }
        let kept = self.roster.keep(entry);
        *what(entry) = kept.is_ok();
        kept
    }

    /// Does something with a job, if it is still known.
    fn with(&mut self, id: JobId, does: impl FnOnce(&mut Job)) {
        if let Ok(job) = self.job(id) {
            does(job);
        }
    }

    /// Feeds an event to a job, and carries out what follows.
    fn step(&mut self, id: JobId, event: Event) -> Result<(), Error> {
        let Some(job) = self.jobs.get_mut(&id) else { return Err(job::not_found(id)) };
        let (state, commands) = next(job.summary.state, event)?;
        if state.is_end() && job.summary.ended.is_none() {
            // It has held nothing yet, so there is no task that reports its end.
            job.ended(None, now(&self.clock));
        }
        if state != job.summary.state {
            job.summary.state = state;
            match &job.summary.failure {
                Some(failure) if state == State::Failed => {
                    tracing::warn!(job = %id, tenant = %job.summary.tenant, %state, "job failed: {failure}");
                }
                _ => tracing::info!(job = %id, tenant = %job.summary.tenant, %state, "job is {state}"),
            }
        }
        for command in commands {
            match command {
                Command::Deploy => {
                    let deployment = job.deployment.take().expect("a job is deployed once");
                    let (sender, storage, start) = (self.sender.clone(), job.storage.clone(), job.start.clone());
                    let drains = job.drains();
                    self.tasks.spawn(job::drive(self.worker.clone(), deployment, storage, start, drains, async move |report| {
                        // The service outlives its jobs' tasks; a report that comes too late has nobody to read it.
                        let _ = sender.send(Message::Report(id, report)).await;
                    }));
                }
                Command::Drain | Command::Cancel => job.send(*command),
                // Slots are counted over the jobs that have not ended, and what is left of others.
                Command::ReleaseSlots => {}
            }
        }
        Ok(())
    }

    /// Forgets the oldest jobs that have ended, and the lines of some more of them. Those that are tried again stay, so that they can be cancelled.
    fn forget_old(&mut self) {
        let has_ended = |job: &&Job| job.summary.state.is_end() && !job.is_tried_again();
        let ended: Vec<_> = self.jobs.values().filter(has_ended).map(|j| j.summary.id).collect();
        let surplus = ended.len().saturating_sub(self.options.ended_jobs_max);
        for id in &ended[..surplus] {
            self.jobs.remove(id);
        }
        let newest_first = ended[surplus..].iter().rev().filter_map(|id| self.jobs.get(id));
        ring::keep_first(newest_first.flat_map(|job| [&job.log, &job.output]), ENDED_LINES_BYTES_MAX);
    }
}

/// Why a job that needs so many slots is not accepted.
fn no_slots(needed: u16, slots: u16, taken: Taken) -> Error {
    let free = slots.saturating_sub(taken.total());
    let left = match taken.left {
        0 => String::new(),
        left => format!(" ({left} are held by tasks of cancelled jobs until what they wait for has answered or is given up)"),
    };
    let message = format!(
        "the job needs {needed} slots, but {free} of {slots} are free{left}; lower its parallelism, end other jobs or start the server with more slots"
    );
    Error::new(ErrorKind::QuotaExceeded, error::NO_SLOTS, message)
}

/// The next state of a job, and what has to be done to get there.
fn next(state: State, event: Event) -> Result<(State, &'static [Command]), Error> {
    protocol::next(state, event)
        .map_err(|refused| Error::new(ErrorKind::Conflict, error::JOB_ENDED, format!("{refused}: there is nothing to end")))
}

/// What the clock shows.
pub(crate) fn now(clock: &Clock) -> Timestamp {
    Timestamp::from_millisecond(clock.now_ms()).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Job {
    /// A job that is accepted, and holds nothing yet.
    pub(crate) fn created(
        summary: JobSummary,
        spec: Arc<weir_plan::JobSpec>,
        plan: Arc<str>,
        rings: (Ring, Ring),
        deployment: Option<weir_worker::Deployment>,
        (storage, start): (Option<Checkpoints>, Start),
    ) -> Self {
        assert_eq!(summary.state, State::Created);
        Self {
            summary,
            spec,
            plan,
            output: rings.0,
            log: rings.1,
            metrics: Metrics::None,
            controls: None,
            checkpoints: VecDeque::new(),
            history: History::default(),
            storage,
            start,
            deployment,
            entry: None,
            is_resuming: false,
        }
    }

    /// A job that another process of the server had, until this one can go on with it.
    pub(crate) fn resuming(entry: Entry, rings: (Ring, Ring)) -> Self {
        // Its plan may say another name and number of slots.
        let summary = entry.summary(entry.spec.name.clone().unwrap_or_default(), entry.spec.parallelism);
        let created = Self::created(summary, Arc::new(entry.spec.clone()), "".into(), rings, None, (None, Start::default()));
        Self { entry: Some(entry), is_resuming: true, ..created }
    }

    /// Whether it was told to stop before it was deployed here.
    fn drains(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.stops)
    }

    /// Whether the server goes on with it when it starts again, although it ends like this. One that its user has cancelled is struck out already, and others
    /// are cancelled because the server ends; one that has not come to run in this process may in the next one.
    fn outlives(&self, end: End) -> bool {
        match end {
            End::Finished => false,
            End::Cancelled => true,
            End::Failed => self.is_resuming || self.summary.state == State::Cancelling,
        }
    }

    /// Whether it has failed, and the server tries to go on with it when it starts again.
    fn is_tried_again(&self) -> bool {
        self.summary.state == State::Failed && self.entry.is_some()
    }

    /// Whether it would start from this savepoint again, here or when the server does: it has no checkpoint of its own yet.
    fn would_start_from(&self, savepoint: &str) -> bool {
        if self.summary.state.is_end() && !self.is_tried_again() {
            return false;
        }
        match &self.entry {
            Some(entry) => !entry.has_checkpoint && entry.from.savepoint.as_deref() == Some(savepoint),
            // It has no checkpoints at all, or its user has cancelled it.
            None => self.storage.is_none() && self.start.savepoint.as_ref().is_some_and(|from| from.id() == savepoint),
        }
    }

    fn figures(&self) -> JobFigures {
        JobFigures { summary: self.summary.clone(), snapshot: self.snapshot(), history: self.history.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job that finds no slots is told how many are free, and of those that no job has any more, why they are not.
    #[test]
    fn missing_slots_are_explained() {
        let message = |by_jobs, left| no_slots(2, 4, Taken { by_jobs, left }).message;
        assert!(message(3, 0).starts_with("the job needs 2 slots, but 1 of 4 are free; "));
        assert!(message(1, 2).starts_with("the job needs 2 slots, but 1 of 4 are free (2 are held by tasks of cancelled jobs "));
        assert!(message(5, 2).starts_with("the job needs 2 slots, but 0 of 4 are free ("));
    }
}
