//! One attempt to run a job: carries out what the checkpoint [`Coordinator`] decides, and tells it what happens.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use weir_base::Phase;
use weir_checkpoint::{Appended, Entry, JobStorage, Kind as StoredKind, Manifest, Sweep, TaskSnapshot, Vertex};
use weir_plan::JobPlan;
use weir_protocol::checkpoint::{CheckpointId, Command as Order, Coordinator, Event as Happening, Kind, RequestId, TaskId};
use weir_protocol::claim::Claim;
use weir_worker::bindings::commit_failure;
use weir_worker::restore::transactions;
use weir_worker::{Begun, Command, Deployment, Effort, Event as TaskEvent, Failure, FailureKind, JobHandle, Outcome, UnderWay};

use super::origin::{Origin, now_ms};
use super::pending::Pending;
use super::uncommitted::{self, Transactions};
use super::{CheckpointReport, End, Event, Made, Request, Runs, Unmade, settings};

/// How often the coordinator is told that time has passed, at most.
const TICK_MAX: Duration = Duration::from_millis(50);
/// Between two tries to append to the log.
const APPEND_PAUSE: Duration = Duration::from_millis(200);
/// Checkpoints between two searches for files that nothing refers to.
const CHECKPOINTS_PER_SWEEP: u64 = 64;

/// How long a job that is cancelled waits for what is under way: requests to its storage, and what connectors do. A storage that is away is asked for much
/// longer than that.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);
/// How long a job that has ended waits until that is noted.
const NOTE_PATIENCE: Duration = Duration::from_secs(10);
/// What is said when it does not wait any longer.
const LEFT: &str = "cancelled without waiting for storages and sinks that do not answer: what a complete checkpoint holds is committed when the job starts \
                    again, and its slots are free once its tasks have given up";

/// Runs an attempt to its end.
pub(super) async fn run(runs: &mut Runs, origin: Origin) -> End {
    let began = Instant::now();
    let mut pending = match uncommitted::of(&origin).await {
        Ok(pending) => pending,
        Err(failure) => return End::Job(Outcome::Failed { failure }),
    };
    let checkpoint = origin.base.as_ref().map_or(0, |(_, manifest)| manifest.checkpoint);
    let has = |name: &str| runs.deployment.plan.sinks.iter().any(|sink| sink.name == name);
    match uncommitted::give_up_lost(&mut pending, has, checkpoint, runs.start.drops_unmatched) {
        Ok(lost) => lost.into_iter().for_each(|warning| drop(runs.events.send(Event::Warning(warning)))),
        Err(failure) => return End::Job(Outcome::Failed { failure }),
    }
    let mut deployment =
        Deployment { storage: origin.log.as_ref().map(|(storage, _)| storage.clone()), pending, ..runs.deployment.clone() };
    deployment.context.attempt.log.clone_from(&origin.log_id);
    deployment.context.attempt.generation = origin.generation.0;
    deployment.context.attempt.continues = origin.restore.is_some();
    deployment.has_run = runs.has_run || origin.restore.is_some();
    let (plan, pending) = (deployment.plan.clone(), deployment.pending.clone());
    let from = origin.restore.as_ref().map_or(0, |restore| restore.manifest.checkpoint);
    if let Some(restore) = &origin.restore {
        Phase::RestoreBegun.reached(from);
        match restore.settle(&plan, &deployment.components).await {
            Ok(settled) => deployment.restore = Some(Arc::new(settled)),
            Err(failure) => return End::Job(Outcome::Failed { failure }),
        }
    }
    let worker = runs.worker.clone();
    // Connectors look at the outside, and may take their time.
    let runtime = tokio::runtime::Handle::current();
    let drains = *runs.commands.borrow() == Command::Drain;
    let deployed = tokio::task::spawn_blocking(move || {
        let _runtime = runtime.enter();
        worker.deploy(deployment).inspect(|handle| {
            if drains {
                // Before its sources are open.
                handle.drain();
            }
        })
    });
    let deployed = tokio::select! {
        deployed = deployed => deployed,
        () = patience(runs.commands.clone()) => {
            let _ = runs.events.send(Event::Warning(LEFT.to_owned()));
            return End::Job(Outcome::Cancelled);
        }
    };
    let handle = match deployed {
        Ok(Ok(handle)) => handle,
        Ok(Err(failure)) => return End::Job(Outcome::Failed { failure }),
        Err(error) if error.is_panic() => return End::Job(Outcome::Failed { failure: weir_worker::panicked(error) }),
        Err(_) => return End::Job(Outcome::Cancelled),
    };
    let _ = runs.events.send(Event::Deployed(Arc::clone(handle.metrics())));
    if !runs.has_run {
        handle.notes().iter().for_each(|note| drop(runs.events.send(Event::Note(note.clone()))));
    }
    let config = settings::config(&plan.spec.checkpoint, origin.log.is_some());
    let base = origin.base.as_ref().map(|(base, _)| *base);
    let tick = config.interval_ms.map_or(TICK_MAX, |ms| Duration::from_millis(ms / 8).clamp(Duration::from_millis(1), TICK_MAX));
    let (core, orders) = Coordinator::new(config, origin.generation, handle.tasks().iter().copied(), base, 0);
    let mut attempt = Attempt {
        core,
        handle,
        plan,
        generation: origin.generation,
        from,
        log: origin.log,
        since: Instant::now(),
        restoring: origin.restore.is_some().then_some(began),
        io: JoinSet::new(),
        flights: BTreeMap::new(),
        pending: Pending::of(&pending),
        base: base.map(|base| base.checkpoint),
        // A server goes on with a job as it was.
        may_have_changed: !runs.has_run && runs.start.expected.is_none(),
        newest: origin.base.map(|(_, manifest)| manifest),
        last_committed: None,
        to_commit: base.map(|base| (base.checkpoint, pending)).into_iter().collect(),
        ended: BTreeMap::new(),
        requests: HashMap::new(),
        next_request: 0,
        collecting: false,
        copying: 0,
        stored: 0,
        runs,
        tasks_over: false,
        end: None,
    };
    attempt.tell_pending();
    attempt.carry_out(orders);
    for request in std::mem::take(&mut attempt.runs.waiting) {
        attempt.on_request(request);
    }
    attempt.drive(tick).await
}

/// Comes to an end when the job has been cancelled for so long that nothing is waited for any more.
async fn patience(mut commands: watch::Receiver<Command>) {
    // An error means that nobody holds the job any more.
    let _ = commands.wait_for(|command| *command == Command::Cancel).await;
    tokio::time::sleep(CANCEL_PATIENCE).await;
}

type Core = Coordinator<Arc<TaskSnapshot>>;

/// A checkpoint on its way.
struct Flight {
    kind: Kind,
    began: Instant,
    started_ms: i64,
    efforts: Vec<Effort>,
    manifest: Option<Arc<Manifest>>,
    /// until it is complete
    under_way: Option<Begun>,
}

/// What was done beside the tasks.
enum Done {
    Appended(CheckpointId, Result<Appended, weir_checkpoint::Error>),
    /// how long it took, and what was committed
    Committed(CheckpointId, Result<(Duration, Pending), Failure>),
    Collected(Result<(), weir_checkpoint::Error>),
    SavepointWritten(u64, Request, Result<String, weir_checkpoint::Error>),
}

struct Attempt<'a> {
    core: Core,
    handle: JobHandle,
    plan: JobPlan,
    generation: weir_protocol::claim::Generation,
    /// the checkpoint that it goes on from; 0 = none
    from: u64,
    log: Option<(JobStorage, Claim)>,
    since: Instant,
    /// when it set out, if it starts from a checkpoint and not all tasks run yet
    restoring: Option<Instant>,
    io: JoinSet<Done>,
    flights: BTreeMap<CheckpointId, Flight>,
    /// what sinks have prepared and not committed
    pending: Pending,
    to_commit: BTreeMap<CheckpointId, Transactions>,
    /// the newest checkpoint when it set out, which it commits first
    base: Option<CheckpointId>,
    /// whether the job may have another spec now than when that was made
    may_have_changed: bool,
    /// the newest checkpoint in the log
    newest: Option<Arc<Manifest>>,
    /// the last one that sinks have committed
    last_committed: Option<CheckpointId>,
    /// what tasks have left that have ended
    ended: BTreeMap<TaskId, Arc<TaskSnapshot>>,
    /// those that wait for a checkpoint
    requests: HashMap<RequestId, Request>,
    next_request: u64,
    /// whether garbage is being collected
    collecting: bool,
    /// savepoints that are being copied
    copying: usize,
    /// how many checkpoints were stored
    stored: u64,
    runs: &'a mut Runs,
    /// whether all tasks have ended
    tasks_over: bool,
    /// how the attempt ends, once that is decided; the tasks are told, and waited for
    end: Option<End>,
}

impl Attempt<'_> {
    /// Runs the attempt to its end; one that is cancelled, not for much longer. What it leaves under way then is as if its process had been killed: the next
    /// attempt claims the log before it does anything, and commits what the newest checkpoint has, whoever may be about to do so as well.
    async fn drive(mut self, tick: Duration) -> End {
        let patience = patience(self.runs.commands.clone());
        let end = tokio::select! {
            end = self.run(tick) => end,
            () = patience => {
                self.warn(LEFT.to_owned());
                End::Job(Outcome::Cancelled)
            }
        };
        for (_, waiting) in self.requests.drain() {
            if waiting.is_for_end() {
                // It holds for the next attempt, if there is one.
                self.runs.waiting.push(waiting);
            } else {
                let _ = waiting.reply.send(Err(Unmade::Interrupted));
            }
        }
        end
    }

    async fn run(&mut self, tick: Duration) -> End {
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut commands = self.runs.commands.clone();
        commands.mark_changed();
        loop {
            if self.tasks_over
                && let Some(end) = self.end.take()
            {
                if matches!(end, End::Job(Outcome::Finished)) {
                    self.note_committed().await;
                }
                self.close().await;
                return end;
            }
            tokio::select! {
                event = self.handle.event(), if !self.tasks_over => match event {
                    Some(TaskEvent::Ended(outcome)) => self.tasks_ended(outcome),
                    Some(event) => self.on_task(event),
                    None => self.tasks_over = true,
                },
                Some(done) = self.io.join_next(), if !self.io.is_empty() => self.on_done(done),
                Some(request) = self.runs.requests.recv() => self.on_request(request),
                Ok(()) = commands.changed() => {
                    let command = *commands.borrow_and_update();
                    match command {
                        Command::Run => {}
                        Command::Drain => self.handle.drain(),
                        Command::Cancel => self.end_with(End::Job(Outcome::Cancelled)),
                    }
                }
                _ = ticks.tick(), if self.log.is_some() => self.tick(),
            }
        }
    }

    fn tick(&mut self) {
        let now_ms = self.since.elapsed().as_millis() as u64;
        self.tell(Happening::Tick { now_ms });
    }

    /// The tasks have ended. If they have finished, their rows have to be committed still, and the coordinator says when that is done.
    fn tasks_ended(&mut self, outcome: Outcome) {
        self.tasks_over = true;
        if outcome != Outcome::Finished {
            self.end_with(End::Job(outcome));
        }
    }

    /// Decides how the attempt ends; the first decision holds.
    fn end_with(&mut self, end: End) {
        if self.end.is_none() {
            self.end = Some(end);
            self.handle.cancel();
        }
    }

    fn on_task(&mut self, event: TaskEvent) {
        let generation = self.generation;
        match event {
            TaskEvent::Running => {
                Phase::Running.reached(self.from);
                if let Some(since) = self.restoring.take() {
                    self.handle.metrics().recovery().restore_ns.store(since.elapsed().as_nanos() as u64, Relaxed);
                }
                self.runs.has_run = true;
                drop(self.runs.events.send(Event::Running));
            }
            TaskEvent::Acked { checkpoint, task, snapshot, effort } => {
                if let Some(flight) = self.flights.get_mut(&checkpoint) {
                    flight.efforts.push(effort);
                    flight.under_way.iter_mut().for_each(|under_way| under_way.acked(task));
                }
                self.prepared(&snapshot);
                self.tell(Happening::Acked { generation, checkpoint, task, snapshot });
            }
            TaskEvent::Declined { checkpoint, task, reason } => {
                self.tell(Happening::Declined { generation, checkpoint, task, reason });
            }
            TaskEvent::TaskEnded { task, snapshot } => {
                self.ended.insert(task, Arc::clone(&snapshot));
                let under_way = self.flights.values_mut().filter_map(|flight| flight.under_way.as_mut());
                under_way.for_each(|under_way| under_way.acked(task));
                self.prepared(&snapshot);
                self.tell(Happening::Ended { generation, task, snapshot });
            }
            TaskEvent::Ended(_) => {}
        }
    }

    /// A task's part of a checkpoint says what its sinks have prepared.
    fn prepared(&mut self, snapshot: &TaskSnapshot) {
        self.pending.add(&transactions(std::iter::once(snapshot)));
        self.tell_pending();
    }

    fn committed(&mut self, time: Duration, committed: &Pending) {
        // To commit nothing is no measure of how long it takes.
        if committed.count() > 0 {
            self.handle.metrics().recovery().commit_ns.store(time.as_nanos() as u64, Relaxed);
        }
        self.pending.remove(committed);
        self.tell_pending();
    }

    fn tell_pending(&self) {
        self.handle.metrics().recovery().transactions_pending.store(self.pending.count(), Relaxed);
    }

    fn on_request(&mut self, request: Request) {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        let kind = request.kind;
        self.requests.insert(id, request);
        self.tell(Happening::Requested { request: id, kind });
    }

    fn on_done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) if error.is_panic() => {
                let failure = weir_worker::panicked(error);
                return self.end_with(End::Job(Outcome::Failed { failure }));
            }
            Err(_) => return,
        };
        match done {
            Done::Appended(checkpoint, Ok(Appended::Done)) => self.on_stored(checkpoint),
            Done::Appended(_, Ok(Appended::Taken)) => self.tell(Happening::Fenced),
            // Nobody knows whether it is stored, so nothing but the same may be tried again.
            Done::Appended(checkpoint, Err(error)) => {
                self.warn(format!("checkpoint {}: {}; trying again", checkpoint.0, error.message));
                self.append(checkpoint, APPEND_PAUSE);
            }
            Done::Committed(checkpoint, Ok((time, committed))) => {
                Phase::CommitDone.reached(checkpoint.0);
                self.last_committed = Some(checkpoint);
                self.committed(time, &committed);
                self.tell(Happening::Committed { checkpoint });
            }
            Done::Committed(checkpoint, Err(failure)) if self.base == Some(checkpoint) => {
                let failure = commit_failure(failure, self.may_have_changed);
                self.end_with(End::Job(Outcome::Failed { failure }));
            }
            Done::Committed(_, Err(failure)) => self.end_with(End::Job(Outcome::Failed { failure })),
            Done::Collected(result) => {
                self.collecting = false;
                if let Err(error) = result {
                    self.warn(format!("old checkpoints are not removed: {}", error.message));
                }
            }
            Done::SavepointWritten(checkpoint, waiting, result) => {
                self.copying -= 1;
                let made = result.map(|url| Made { checkpoint, savepoint: Some(url) });
                let made = made.map_err(|error| Unmade::NotCopied { checkpoint, error });
                let _ = waiting.reply.send(made);
            }
        }
    }

    fn on_stored(&mut self, checkpoint: CheckpointId) {
        Phase::ManifestWritten.reached(checkpoint.0);
        self.handle.stored(checkpoint);
        self.stored += 1;
        if let Some((_, claim)) = &mut self.log {
            claim.advance();
        }
        if let Some(flight) = self.flights.get_mut(&checkpoint) {
            flight.under_way = None;
        }
        if let Some(flight) = self.flights.get(&checkpoint) {
            self.report(checkpoint, flight, None);
            if let Some(manifest) = &flight.manifest {
                self.newest = Some(Arc::clone(manifest));
                self.to_commit.insert(checkpoint, transactions(manifest.tasks.iter()));
            }
        }
        self.tell(Happening::Stored { checkpoint });
        self.collect_garbage();
        // Who waits for a savepoint has been answered by now; who waits for the job to stop will be when it has.
        self.flights.retain(|id, flight| *id > checkpoint || flight.kind.stops());
    }

    fn report(&self, checkpoint: CheckpointId, flight: &Flight, failure: Option<String>) {
        let longest =
            |part: fn(&Effort) -> Duration| flight.efforts.iter().map(part).max().unwrap_or_default().as_millis() as u64;
        let report = CheckpointReport {
            checkpoint: checkpoint.0,
            kind: flight.kind,
            started_ms: flight.started_ms,
            duration_ms: flight.began.elapsed().as_millis() as u64,
            alignment_ms: longest(|effort| effort.alignment),
            copying_ms: longest(|effort| effort.copying),
            bytes_total: flight.manifest.as_ref().map_or(0, |manifest| manifest.bytes_total),
            bytes_new: flight.efforts.iter().map(|effort| effort.bytes).sum(),
            at_end: flight.kind == Kind::Checkpoint
                && flight.manifest.as_ref().is_some_and(|manifest| manifest.kind == StoredKind::Final),
            failure,
        };
        let _ = self.runs.events.send(Event::Checkpoint(report));
    }

    fn warn(&self, warning: String) {
        let _ = self.runs.events.send(Event::Warning(warning));
    }

    fn tell(&mut self, happening: Happening<Arc<TaskSnapshot>>) {
        let orders = self.core.on(happening);
        self.carry_out(orders);
    }

    fn carry_out(&mut self, orders: Vec<Order<Arc<TaskSnapshot>>>) {
        for order in orders {
            match order {
                Order::Trigger { checkpoint, kind } => {
                    self.begin(checkpoint, kind);
                    self.handle.trigger(checkpoint, kind);
                }
                Order::Store { checkpoint, kind, snapshots } => {
                    Phase::UploadDone.reached(checkpoint.0);
                    // A last one without tasks was not triggered.
                    if !self.flights.contains_key(&checkpoint) {
                        self.begin(checkpoint, kind);
                    }
                    let manifest = Arc::new(self.manifest(checkpoint, kind, snapshots));
                    if let Some(flight) = self.flights.get_mut(&checkpoint) {
                        flight.manifest = Some(manifest);
                    }
                    self.append(checkpoint, Duration::ZERO);
                }
                Order::Commit { checkpoint } => {
                    Phase::CommitBegun.reached(checkpoint.0);
                    // A job that stores nothing commits what its tasks left at their ends.
                    let left = || transactions(self.ended.values().map(|snapshot| &**snapshot));
                    let transactions = self.to_commit.remove(&checkpoint).unwrap_or_else(left);
                    let (since, listed) = (Instant::now(), Pending::of(&transactions));
                    let committed = self.handle.commit(transactions);
                    self.io.spawn(async move {
                        let committed = committed.await.map(|()| (since.elapsed(), listed));
                        Done::Committed(checkpoint, committed)
                    });
                }
                Order::Abandon { checkpoint, reason } => {
                    if let Some(flight) = self.flights.remove(&checkpoint) {
                        self.report(checkpoint, &flight, Some(reason.to_string()));
                    }
                }
                Order::Answer { request, outcome } => {
                    let Some(waiting) = self.requests.remove(&request) else { continue };
                    match outcome {
                        Ok(checkpoint) => self.answer(checkpoint, waiting),
                        Err(refusal) => drop(waiting.reply.send(Err(Unmade::Refused(refusal)))),
                    }
                }
                Order::Finish => self.end_with(End::Job(Outcome::Finished)),
                Order::Fail { reason: weir_protocol::checkpoint::Failure::Fenced } => self.end_with(End::Fenced),
                Order::Fail { reason } => {
                    let failure = Failure::new(FailureKind::Checkpoint, reason.to_string());
                    self.end_with(End::Job(Outcome::Failed { failure }));
                }
            }
        }
    }

    fn begin(&mut self, checkpoint: CheckpointId, kind: Kind) {
        let started_ms = now_ms();
        let mut under_way = self.under_way(UnderWay::new(checkpoint, kind, started_ms, self.handle.tasks().len()));
        self.ended.keys().for_each(|task| under_way.acked(*task));
        let (began, under_way) = (Instant::now(), Some(under_way));
        self.flights.insert(checkpoint, Flight { kind, began, started_ms, efforts: vec![], manifest: None, under_way });
    }

    /// Lets everybody see how far something is, until the result is dropped.
    fn under_way(&self, first: UnderWay) -> Begun {
        self.handle.metrics().uploads().begin(first)
    }

    fn manifest(&self, checkpoint: CheckpointId, kind: Kind, snapshots: BTreeMap<TaskId, Arc<TaskSnapshot>>) -> Manifest {
        let flight = self.flights.get(&checkpoint);
        let vertices = self.plan.vertices.iter().enumerate();
        let kind = match kind {
            // Nothing comes after the ends of all tasks.
            Kind::Checkpoint if self.ended.len() == snapshots.len() => StoredKind::Final,
            // Its windows have fired for good, so the job is over. The savepoint that is copied from it says that it is one: who starts from that reads on, and its
            // time begins anew.
            Kind::StopWithSavepoint { drain: true } => StoredKind::Final,
            Kind::Checkpoint => StoredKind::Checkpoint,
            Kind::Savepoint | Kind::StopWithSavepoint { drain: false } => StoredKind::Savepoint,
        };
        let mut manifest = Manifest {
            graph_fingerprint: weir_worker::restore::fingerprint(&self.plan),
            vertices: vertices.map(|(i, v)| Vertex { vertex: i as u32, parallelism: v.parallelism }).collect(),
            edges: weir_worker::in_flight::edges(&self.plan),
            started_ms: flight.map_or(0, |flight| flight.started_ms),
            finished_ms: now_ms(),
            tasks: snapshots.into_values().map(|snapshot| (*snapshot).clone()).collect(),
            bytes_new: flight.map_or(0, |flight| flight.efforts.iter().map(|effort| effort.bytes).sum()),
            ..Manifest::new(self.plan.name.as_str(), kind, checkpoint.0, self.generation.0, self.plan.spec.max_parallelism)
        };
        let mut seen = HashSet::new();
        manifest.bytes_total = manifest.files().filter(|file| seen.insert(file.path.as_str())).map(|file| file.bytes).sum();
        manifest
    }

    /// Appends a checkpoint's manifest to the log, after a pause.
    fn append(&mut self, checkpoint: CheckpointId, pause: Duration) {
        let Some((storage, claim)) = &self.log else { return };
        let Some(manifest) = self.flights.get(&checkpoint).and_then(|flight| flight.manifest.clone()) else { return };
        let (storage, number) = (storage.clone(), claim.number());
        self.io.spawn(async move {
            tokio::time::sleep(pause).await;
            let entry = Entry::Manifest((*manifest).clone());
            Done::Appended(checkpoint, storage.append(number, &entry).await)
        });
    }

    /// Removes what the newest checkpoints do not need, unless that is being done, or a savepoint is being copied from it.
    fn collect_garbage(&mut self) {
        let Some((storage, _)) = &self.log else { return };
        if self.collecting || self.copying > 0 {
            return;
        }
        self.collecting = true;
        let (storage, retained) = (storage.clone(), self.plan.spec.checkpoint.retained);
        let sweep = if self.stored % CHECKPOINTS_PER_SWEEP == 1 { Sweep::All } else { Sweep::Dropped };
        self.io.spawn(async move {
            let collected = async {
                let log = storage.read_log().await?;
                storage.collect_garbage(&log, retained, sweep).await.map(|_| ())
            };
            Done::Collected(collected.await)
        });
    }

    /// Tells somebody of a checkpoint that is complete; of a savepoint, once it is copied.
    fn answer(&mut self, checkpoint: CheckpointId, waiting: Request) {
        let manifest = self.flights.get(&checkpoint).and_then(|flight| flight.manifest.clone());
        match (&self.log, &self.runs.checkpoints, waiting.savepoint.clone(), manifest) {
            (Some((storage, _)), Some(checkpoints), Some(id), Some(manifest)) => {
                let (storage, savepoints) = (storage.clone(), checkpoints.storage.savepoints());
                let tasks = manifest.tasks.len();
                let copy = self.under_way(UnderWay {
                    savepoint: Some(id.clone()),
                    acked: tasks as u64,
                    bytes_to_upload: manifest.bytes_total,
                    ..UnderWay::new(checkpoint, waiting.kind, now_ms(), tasks)
                });
                self.copying += 1;
                self.io.spawn(async move {
                    let written = savepoints.write(&id, storage.folder(), &manifest, &|bytes| copy.copied(bytes)).await;
                    let written = written.map(|savepoint| savepoint.folder().url());
                    Done::SavepointWritten(checkpoint.0, waiting, written)
                });
            }
            _ => drop(waiting.reply.send(Ok(Made { checkpoint: checkpoint.0, savepoint: None }))),
        }
    }

    /// The job has ended well: notes that all of its newest checkpoint is committed, so that it may go on with other sinks. Without the note they are committed once
    /// more then.
    async fn note_committed(&mut self) {
        let (Some((storage, _)), Some(newest)) = (&self.log, &self.newest) else { return };
        let is_committed = self.last_committed == Some(CheckpointId(newest.checkpoint));
        if !is_committed || uncommitted::prepared(newest).is_empty() {
            return;
        }
        let noted = tokio::time::timeout(NOTE_PATIENCE, storage.note_committed(newest)).await;
        let failed =
            noted.map_or_else(|_| Some("the storage does not answer".to_owned()), |noted| noted.err().map(|e| e.message));
        if let Some(why) = failed {
            self.warn(format!(
                "it is not noted that all rows are committed ({why}): when the job starts again, let its sinks be as they are"
            ));
        }
    }

    /// The attempt is over: waits for what is under way beside the tasks, so that it does not meet the next attempt.
    async fn close(&mut self) {
        while let Some(done) = self.io.join_next().await {
            if let Ok(done @ Done::SavepointWritten(..)) = done {
                self.on_done(Ok(done));
            }
        }
    }
}
