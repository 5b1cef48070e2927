//! A small world around the real decisions: sources, sinks, a network, an object store, an outside system that keeps transactions, and
//! attempts that crash, or are taken for dead and live on.
//!
//! ```text
//!   source 0 ─┬─▶ sink 0 ─┐ prepare, commit       coordinator ── put if absent ─▶ log
//!   source 1 ─┴─▶ sink 1 ─┴──────▶ outside            ▲ │
//!                                                     │ ▼ one queue for each task
//! ```
//!
//! [`World::actions`] lists what can happen next, and [`World::apply`] makes it happen. All queues are in order; between queues anything
//! goes. What tasks of one attempt say is heard by the coordinators of all attempts. A put may land long after whoever waited for it
//! has given up or crashed, and so may a commit. It may also be torn: what is left of it has its number, and cannot be read.

mod driver;
mod properties;
mod tasks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use weir_protocol::checkpoint::{CheckpointId, Config, Coordinator, Event, Failure, Kind, RequestId, TaskId};
use weir_protocol::claim::{Claim, Decision, Entry};

/// A source, and a row's place in its input.
pub type Row = (u8, u8);

/// Names a transaction of a sink, by the first checkpoint that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction {
    generation: u64,
    sink: u8,
    checkpoint: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Snapshot {
    Source { position: u8 },
    Sink { pending: Vec<Transaction> },
}

type Snapshots = BTreeMap<TaskId, Snapshot>;

/// What there is, and how often things may happen.
#[derive(Clone, Debug)]
pub struct Settings {
    pub config: Config,
    /// the rows of each source
    pub inputs: Vec<u8>,
    pub sinks: u8,
    pub requests: Vec<Kind>,
    pub attempts: usize,
    /// for each attempt
    pub ticks: u8,
    pub crashes: u8,
    /// puts that are lost, late, torn, refused or not answered; snapshots that are declined
    pub faults: u8,
    /// messages that come twice
    pub duplicates: u8,
    /// whether sinks take rows at once, which makes for far fewer states
    pub is_eager: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    log: Vec<Logged>,
    prepared: BTreeMap<Transaction, Vec<Row>>,
    committed: BTreeMap<Transaction, Vec<Row>>,
    attempts: Vec<Attempt>,
    puts: Vec<Put>,
    commits: Vec<Commit>,
    asked: usize,
    answered: BTreeSet<RequestId>,
    crashes: u8,
    faults: u8,
    duplicates: u8,
    /// what should never have happened
    pub violation: Option<&'static str>,
}

/// What has become durable under a number of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Logged {
    entry: Entry,
    snapshots: Snapshots,
    /// whether that is only a part of it
    is_torn: bool,
}

impl Logged {
    /// What a reader makes of it: nothing of a part.
    fn read(&self) -> Option<Entry> {
        (!self.is_torn).then_some(self.entry)
    }
}

/// A put on its way to the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Put {
    attempt: usize,
    number: u64,
    entry: Entry,
    snapshots: Snapshots,
    /// whether nobody waits for it any more
    is_adrift: bool,
}

/// A sink's commit on its way to the outside system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Commit {
    attempt: usize,
    sink: u8,
    checkpoint: CheckpointId,
    transactions: Vec<Transaction>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Attempt {
    Claiming(Decision),
    Claimed(Decision),
    Running(Box<Running>),
    Crashed,
    Finished,
    Failed(Failure),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Running {
    claim: Claim,
    base: Option<CheckpointId>,
    coordinator: Coordinator<Snapshot>,
    sources: Vec<Source>,
    sinks: Vec<Sink>,
    /// what sources, sinks and the driver have to tell the coordinator
    messages: Vec<VecDeque<Event<Snapshot>>>,
    /// the checkpoint that sinks commit, and those that have not
    committing: Option<(CheckpointId, BTreeSet<u8>)>,
    requests: BTreeSet<RequestId>,
    ticks: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Source {
    position: u8,
    is_reading: bool,
    triggers: VecDeque<(CheckpointId, Kind)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sink {
    channels: Vec<Channel>,
    open: Vec<Row>,
    pending: Vec<Transaction>,
    /// the last barrier that has passed
    barrier: CheckpointId,
    orders: VecDeque<CheckpointId>,
    is_done: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Channel {
    items: VecDeque<Item>,
    has_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Item {
    Row(Row),
    Barrier(CheckpointId, Kind),
    End,
}

/// What can happen. Numbers say to which attempt (or put, or commit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// somebody thinks that the job needs an attempt
    Start,
    /// an attempt that has won its claim restores its tasks
    Restore(usize),
    /// the coordinators get the next message of a task, or one gets its driver's
    Deliver { attempt: usize, channel: usize, again: bool },
    /// a source sends its next row, or its end
    Emit { attempt: usize, source: usize },
    /// a source sends a barrier
    Barrier { attempt: usize, source: usize, declines: bool },
    /// a sink takes what comes next from a source
    Take { attempt: usize, sink: usize, source: usize },
    /// a sink is told to commit
    Order { attempt: usize, sink: usize },
    /// the outside system commits
    Commit(usize),
    /// a put arrives, or does not
    Put(usize, Fate),
    /// an attempt is asked for what is next on the list
    Request(usize),
    /// time passes
    Tick(usize),
    /// all that an attempt had in memory is gone
    Crash(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// it arrives, and is answered
    Answered,
    /// it arrives, but the answer does not
    Unanswered,
    /// a part of it arrives and takes its number, but no answer comes
    Torn,
    /// it does not arrive, and whoever waits does not know
    Dropped,
    /// it arrives later, and whoever waits does not know
    Late,
    /// it does not arrive, and whoever waits knows
    Refused,
}

fn source_id(source: usize) -> TaskId {
    TaskId { vertex: 0, subtask: source as u16 }
}

fn sink_id(sink: usize) -> TaskId {
    TaskId { vertex: 1, subtask: sink as u16 }
}

impl World {
    pub fn new(settings: &Settings) -> Self {
        Self {
            log: vec![],
            prepared: BTreeMap::new(),
            committed: BTreeMap::new(),
            attempts: vec![],
            puts: vec![],
            commits: vec![],
            asked: 0,
            answered: BTreeSet::new(),
            crashes: settings.crashes,
            faults: settings.faults,
            duplicates: settings.duplicates,
            violation: None,
        }
    }

    /// What can happen next; first what brings the attempts to their ends.
    pub fn actions(&self, settings: &Settings, actions: &mut Vec<Action>) {
        let is_faulty = self.faults > 0;
        actions.extend((0..self.commits.len()).map(Action::Commit));
        for (index, put) in self.puts.iter().enumerate() {
            actions.push(Action::Put(index, Fate::Answered));
            if is_faulty && !put.is_adrift {
                actions.extend([Fate::Unanswered, Fate::Torn, Fate::Dropped, Fate::Late].map(|fate| Action::Put(index, fate)));
                // Only of what has not arrived, and is not on its way a second time, can it be known that it will not.
                let is_same = |p: &Put| p.is_adrift && (p.attempt, p.number) == (put.attempt, put.number);
                let may_arrive = put.number < self.log.len() as u64 || self.puts.iter().any(is_same);
                if matches!(put.entry, Entry::Manifest { .. }) && !may_arrive {
                    actions.push(Action::Put(index, Fate::Refused));
                }
            }
        }
        for (attempt, state) in self.attempts.iter().enumerate() {
            match state {
                Attempt::Claimed(_) => actions.push(Action::Restore(attempt)),
                Attempt::Running(running) => self.actions_of(settings, attempt, running, actions),
                _ => continue,
            }
        }
        if self.attempts.len() < settings.attempts {
            actions.push(Action::Start);
        }
        for (attempt, state) in self.attempts.iter().enumerate() {
            if self.crashes > 0 && matches!(state, Attempt::Claiming(_) | Attempt::Claimed(_) | Attempt::Running(_)) {
                actions.push(Action::Crash(attempt));
            }
        }
    }

    fn actions_of(&self, settings: &Settings, attempt: usize, running: &Running, actions: &mut Vec<Action>) {
        for channel in (0..running.messages.len()).filter(|channel| !running.messages[*channel].is_empty()) {
            actions.push(Action::Deliver { attempt, channel, again: false });
            if self.duplicates > 0 {
                actions.push(Action::Deliver { attempt, channel, again: true });
            }
        }
        for (sink, state) in running.sinks.iter().enumerate() {
            if !state.orders.is_empty() {
                actions.push(Action::Order { attempt, sink });
            }
            for source in 0..state.channels.len() {
                if !settings.is_eager && state.can_take(source) {
                    actions.push(Action::Take { attempt, sink, source });
                }
            }
        }
        for (source, state) in running.sources.iter().enumerate().filter(|(_, s)| s.is_reading) {
            actions.push(Action::Emit { attempt, source });
            if !state.triggers.is_empty() {
                actions.push(Action::Barrier { attempt, source, declines: false });
                if self.faults > 0 {
                    actions.push(Action::Barrier { attempt, source, declines: true });
                }
            }
        }
        if self.asked < settings.requests.len() {
            actions.push(Action::Request(attempt));
        }
        if running.ticks < settings.ticks {
            actions.push(Action::Tick(attempt));
        }
    }

    pub fn apply(&mut self, settings: &Settings, action: Action) {
        match action {
            Action::Start => {
                self.attempts.push(Attempt::Crashed);
                self.claim(self.attempts.len() - 1);
            }
            Action::Restore(attempt) => self.restore(settings, attempt),
            Action::Deliver { attempt, channel, again } => self.deliver(attempt, channel, again),
            Action::Emit { attempt, source } => self.emit(settings, attempt, source),
            Action::Barrier { attempt, source, declines } => self.barrier(attempt, source, declines),
            Action::Take { attempt, sink, source } => self.take(attempt, sink, source),
            Action::Order { attempt, sink } => self.order(attempt, sink),
            Action::Commit(index) => self.commit(index),
            Action::Put(index, fate) => self.put(index, fate),
            Action::Request(attempt) => {
                let request = RequestId(self.asked as u64);
                let kind = settings.requests[self.asked];
                self.asked += 1;
                self.running(attempt).requests.insert(request);
                self.tell(attempt, Event::Requested { request, kind });
            }
            Action::Tick(attempt) => self.tick(attempt),
            Action::Crash(attempt) => {
                self.crashes -= 1;
                self.end(attempt, Attempt::Crashed);
            }
        }
        for attempt in 0..self.attempts.len() {
            while settings.is_eager
                && let Attempt::Running(running) = &self.attempts[attempt]
                && let Some((sink, source)) = running.next_take()
            {
                self.take(attempt, sink, source);
            }
        }
    }

    pub fn tick(&mut self, attempt: usize) {
        let running = self.running(attempt);
        running.ticks = running.ticks.saturating_add(1);
        let now_ms = u64::from(running.ticks);
        self.tell(attempt, Event::Tick { now_ms });
    }

    fn violate(&mut self, what: &'static str) {
        self.violation.get_or_insert(what);
    }

    fn running(&mut self, attempt: usize) -> &mut Running {
        match &mut self.attempts[attempt] {
            Attempt::Running(running) => running,
            other => panic!("attempt {attempt} does not run: {other:?}"),
        }
    }

    fn end(&mut self, attempt: usize, end: Attempt) {
        self.attempts[attempt] = end;
        for put in self.puts.iter_mut().filter(|p| p.attempt == attempt) {
            put.is_adrift = true;
        }
    }
}

fn sink_of(row: Row, sinks: u8) -> usize {
    usize::from((row.0 + row.1) % sinks)
}

fn pending(snapshot: Option<&Snapshot>) -> &[Transaction] {
    match snapshot {
        Some(Snapshot::Sink { pending }) => pending,
        _ => &[],
    }
}
