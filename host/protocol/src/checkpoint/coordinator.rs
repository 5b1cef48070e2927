//! Decides for one attempt when checkpoints start, when they are complete, and what follows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Cause, CheckpointId, Command, Config, Event, Failure, Kind, REQUESTS_MAX, Refusal, RequestId, TaskId};
use crate::claim::{Base, Generation};

/// The checkpoints of one attempt to run a job.
///
/// One is in flight at a time, from its trigger to the log's answer; the sinks' commits follow it, beside the next one. A manifest is
/// stored only when the commit before it is done. So the newest manifest lists all that may have to be committed still: a recovery
/// needs no other, and a sink need not list what it is committing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator<S> {
    config: Config,
    generation: Generation,
    tasks: BTreeSet<TaskId>,
    /// the last snapshots of the tasks that have ended
    ended: BTreeMap<TaskId, S>,
    waiting: VecDeque<(RequestId, Kind)>,
    flight: Option<Flight<S>>,
    commit: Option<Commit>,
    next: CheckpointId,
    failures: u32,
    now_ms: u64,
    /// when the last checkpoint was triggered
    started_ms: u64,
    /// when the last checkpoint was stored or abandoned
    ended_ms: u64,
    is_over: bool,
}

/// A checkpoint that is neither stored nor abandoned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flight<S> {
    checkpoint: CheckpointId,
    kind: Kind,
    /// whether nothing comes after it: the job stops with it, or had ended before it
    is_last: bool,
    requests: Vec<RequestId>,
    /// Those that have come, until they are complete and handed to the store. From then on the checkpoint may be in the log, and only
    /// the log's answer ends it: no time-out, no task.
    snapshots: Option<BTreeMap<TaskId, S>>,
}

impl<S> Flight<S> {
    fn is_storing(&self, checkpoint: CheckpointId) -> bool {
        self.checkpoint == checkpoint && self.snapshots.is_none()
    }
}

/// A checkpoint that sinks are committing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Commit {
    checkpoint: CheckpointId,
    is_last: bool,
    /// who wants to know when it is done
    requests: Vec<RequestId>,
}

impl<S: Clone> Coordinator<S> {
    /// Starts an attempt with these tasks, restored from the base if there is one.
    ///
    /// The attempt before may not have come to commit the base, so that is done first (to commit twice is to commit once). If the job
    /// was to stop with it, nothing else is done: the driver holds the sources back, and gets [`Command::Finish`]. Whoever wants such
    /// a job to run again gives a base of [`Kind::Savepoint`].
    pub fn new(
        config: Config,
        generation: Generation,
        tasks: impl IntoIterator<Item = TaskId>,
        base: Option<Base>,
        now_ms: u64,
    ) -> (Self, Vec<Command<S>>) {
        let commit = base.map(|b| Commit { checkpoint: b.checkpoint, is_last: b.kind.stops(), requests: vec![] });
        let commands = base.map(|b| Command::Commit { checkpoint: b.checkpoint }).into_iter().collect();
        let coordinator = Self {
            config,
            generation,
            tasks: tasks.into_iter().collect(),
            ended: BTreeMap::new(),
            waiting: VecDeque::new(),
            flight: None,
            commit,
            next: base.map_or(CheckpointId::FIRST, |b| CheckpointId(b.checkpoint.0 + 1)),
            failures: 0,
            now_ms,
            started_ms: now_ms,
            ended_ms: now_ms,
            is_over: false,
        };
        (coordinator, commands)
    }

    /// What has to be done because of an event. What is stale, foreign or told twice changes nothing.
    pub fn on(&mut self, event: Event<S>) -> Vec<Command<S>> {
        let mut commands = vec![];
        let out = &mut commands;
        match event {
            Event::Requested { request, kind } => self.request(request, kind, out),
            _ if self.is_over => {}
            Event::Tick { now_ms } => self.tick(now_ms, out),
            Event::Acked { generation, checkpoint, task, snapshot } => {
                if let Some(missing) = self.missing(generation, checkpoint, task) {
                    missing.insert(task, snapshot);
                }
            }
            Event::Declined { generation, checkpoint, task, reason } => {
                if self.missing(generation, checkpoint, task).is_some() {
                    self.abandon(Cause::Declined { task, reason }, out);
                }
            }
            Event::Ended { generation, task, snapshot } => self.end(generation, task, snapshot),
            Event::Stored { checkpoint } => self.stored(checkpoint, out),
            Event::StoreFailed { checkpoint, reason } => {
                if self.flight.as_ref().is_some_and(|f| f.is_storing(checkpoint)) {
                    self.abandon(Cause::NotStored { reason }, out);
                }
            }
            Event::Fenced => self.fail(Failure::Fenced, out),
            Event::Committed { checkpoint } => self.committed(checkpoint, out),
        }
        self.proceed(out);
        commands
    }

    fn request(&mut self, request: RequestId, kind: Kind, out: &mut Vec<Command<S>>) {
        let refusal = if self.is_over {
            Refusal::Over
        } else if !self.config.store {
            Refusal::NoStorage
        } else if self.waiting.len() == REQUESTS_MAX {
            Refusal::Busy
        } else {
            return self.waiting.push_back((request, kind));
        };
        out.push(Command::Answer { request, outcome: Err(refusal) });
    }

    fn tick(&mut self, now_ms: u64, out: &mut Vec<Command<S>>) {
        self.now_ms = self.now_ms.max(now_ms);
        if self.collecting().is_some() && self.has_passed(self.started_ms, self.config.timeout_ms) {
            self.abandon(Cause::TimedOut { timeout_ms: self.config.timeout_ms }, out);
        }
    }

    /// The snapshots of the checkpoint in flight, if it is being collected.
    fn collecting(&mut self) -> Option<&mut BTreeMap<TaskId, S>> {
        self.flight.as_mut()?.snapshots.as_mut()
    }

    /// The snapshots of this checkpoint, if it is being collected and waits for the task's.
    fn missing(&mut self, generation: Generation, checkpoint: CheckpointId, task: TaskId) -> Option<&mut BTreeMap<TaskId, S>> {
        let is_current = self.flight.as_ref().is_some_and(|f| f.checkpoint == checkpoint);
        let is_ours = generation == self.generation && self.tasks.contains(&task);
        self.collecting().filter(|snapshots| is_current && is_ours && !snapshots.contains_key(&task))
    }

    fn end(&mut self, generation: Generation, task: TaskId, snapshot: S) {
        if generation != self.generation || !self.tasks.contains(&task) || self.ended.contains_key(&task) {
            return;
        }
        // A task's messages come in order: if the checkpoint in flight has no snapshot of it, it has ended before the barrier.
        if let Some(snapshots) = self.collecting() {
            snapshots.entry(task).or_insert_with(|| snapshot.clone());
        }
        self.ended.insert(task, snapshot);
    }

    fn stored(&mut self, checkpoint: CheckpointId, out: &mut Vec<Command<S>>) {
        let Some(mut flight) = self.flight.take_if(|f| f.is_storing(checkpoint)) else { return };
        self.failures = 0;
        self.ended_ms = self.now_ms;
        out.push(Command::Commit { checkpoint });
        if !flight.kind.stops() {
            answer(flight.requests.drain(..), &Ok(checkpoint), out);
        }
        self.commit = Some(Commit { checkpoint, is_last: flight.is_last, requests: flight.requests });
    }

    fn committed(&mut self, checkpoint: CheckpointId, out: &mut Vec<Command<S>>) {
        let Some(commit) = self.commit.take_if(|c| c.checkpoint == checkpoint) else { return };
        answer(commit.requests, &Ok(checkpoint), out);
        if commit.is_last {
            self.close(out);
            out.push(Command::Finish);
        }
    }

    /// Gives up the checkpoint in flight. A savepoint that fails is the matter of who asked for it; other failures count. After a stop
    /// that failed some tasks have stopped and others have not, and what gets them all going again is a restart.
    fn abandon(&mut self, reason: Cause, out: &mut Vec<Command<S>>) {
        let Some(flight) = self.flight.take() else { return };
        self.ended_ms = self.now_ms;
        out.push(Command::Abandon { checkpoint: flight.checkpoint, reason: reason.clone() });
        answer(flight.requests, &Err(Refusal::Failed(reason.clone())), out);
        match flight.kind {
            Kind::Savepoint => {}
            Kind::StopWithSavepoint { .. } => self.fail(Failure::Stop(reason), out),
            Kind::Checkpoint => {
                self.failures += 1;
                if self.failures > self.config.tolerated_failures {
                    self.fail(Failure::Checkpoints { count: self.failures, last: reason }, out);
                }
            }
        }
    }

    fn fail(&mut self, reason: Failure, out: &mut Vec<Command<S>>) {
        self.close(out);
        out.push(Command::Fail { reason });
    }

    /// The attempt is over, and whoever still waits is told so.
    fn close(&mut self, out: &mut Vec<Command<S>>) {
        self.is_over = true;
        let flying = self.flight.take().map_or(vec![], |f| f.requests);
        let committing = self.commit.take().map_or(vec![], |c| c.requests);
        let waiting = self.waiting.drain(..).map(|(request, _)| request);
        answer(committing.into_iter().chain(flying).chain(waiting), &Err(Refusal::Over), out);
    }

    /// Starts what is due, and stores what is complete.
    fn proceed(&mut self, out: &mut Vec<Command<S>>) {
        if self.is_over {
            return;
        }
        if self.flight.is_none() && self.commit.as_ref().is_none_or(|c| !c.is_last) {
            if let Some(&(_, kind)) = self.waiting.front() {
                let requests = self.take_requests(kind);
                self.start(kind, requests, out);
            } else if self.is_due() {
                self.start(Kind::Checkpoint, vec![], out);
            }
        }
        if self.commit.is_none() {
            self.store(out);
        }
    }

    /// Whether a checkpoint that nobody asked for has to start: the next periodic one, or the last one when all tasks have ended.
    fn is_due(&self) -> bool {
        let has_paused = self.has_passed(self.ended_ms, self.config.min_pause_ms);
        if self.has_ended() {
            return has_paused || self.failures == 0;
        }
        let interval_ms = self.config.interval_ms.filter(|_| self.config.store);
        has_paused && interval_ms.is_some_and(|i| self.has_passed(self.started_ms, i))
    }

    /// One checkpoint serves all who want the same; only a savepoint belongs to one.
    fn take_requests(&mut self, kind: Kind) -> Vec<RequestId> {
        let mut requests = vec![];
        self.waiting.retain(|&(request, wanted)| {
            let is_served = wanted == kind && (kind != Kind::Savepoint || requests.is_empty());
            if is_served {
                requests.push(request);
            }
            !is_served
        });
        requests
    }

    fn start(&mut self, kind: Kind, requests: Vec<RequestId>, out: &mut Vec<Command<S>>) {
        let checkpoint = self.next;
        self.next = CheckpointId(checkpoint.0 + 1);
        self.started_ms = self.now_ms;
        if !self.config.store {
            out.push(Command::Commit { checkpoint });
            self.commit = Some(Commit { checkpoint, is_last: true, requests });
            return;
        }
        if !self.has_ended() {
            out.push(Command::Trigger { checkpoint, kind });
        }
        let is_last = kind.stops() || self.has_ended();
        self.flight = Some(Flight { checkpoint, kind, is_last, requests, snapshots: Some(self.ended.clone()) });
    }

    fn store(&mut self, out: &mut Vec<Command<S>>) {
        let Some(flight) = &mut self.flight else { return };
        if let Some(snapshots) = flight.snapshots.take_if(|s| s.len() == self.tasks.len()) {
            out.push(Command::Store { checkpoint: flight.checkpoint, kind: flight.kind, snapshots });
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.len() == self.tasks.len()
    }

    fn has_passed(&self, since_ms: u64, ms: u64) -> bool {
        self.now_ms >= since_ms.saturating_add(ms)
    }
}

fn answer<S>(requests: impl IntoIterator<Item = RequestId>, outcome: &Result<CheckpointId, Refusal>, out: &mut Vec<Command<S>>) {
    out.extend(requests.into_iter().map(|request| Command::Answer { request, outcome: outcome.clone() }));
}
