//! Brings a job onto a worker: binds connectors, connects channels, starts guests and tasks, and waits for their end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use weir_base::Clock;
use weir_checkpoint::JobStorage;
use weir_connector::error::ErrorKind;
use weir_connector::registry::Stream;
use weir_connector::{Connector, Context, Sink, Source, Split, Transaction};
use weir_exchange::{Capacity, Gate, Sender, gate};
use weir_operator::{Culprit, NativeChain};
use weir_plan::JobPlan;
use weir_plan::job::{NodeKind, Root, Vertex};
use weir_plan::recovery::CheckpointMode;
use weir_protocol::checkpoint::{CheckpointId, TaskId};
use weir_sandbox::{Component, LogSink};
use weir_state::Allowance;
use weir_types::graph::Partitioning;

use crate::bindings::{self, BindingFit, Splits};
use crate::disk::{StateDisk, StateMemory, StateOptions};
use crate::error::{Failure, FailureKind};
use crate::job::{Command, Event, JobHandle, Outcome};
use crate::metrics::{JobMetrics, NodeCounters, TaskCounters};
use crate::restore::Restore;
use crate::snapshot::{Capture, Persister};
use crate::task::{self, Channel, Ending, Task};

/// A job to run, and what it needs from outside.
#[derive(Clone)]
pub struct Deployment {
    /// the plan
    pub plan: JobPlan,
    /// the components, in the order of the plan's
    pub components: Vec<Component>,
    /// what connectors get; `name` is set for each
    pub context: Context,
    /// where checkpoints are stored; none = the job has none
    pub storage: Option<JobStorage>,
    /// what the job starts from, [settled](Restore::settle); none = from the beginning
    pub restore: Option<Arc<Restore>>,
    /// whether the job has run before, in whichever process: what its sources and sinks name was there then
    pub has_run: bool,
    /// the rows on which operators have failed in older attempts: they are given them again, or not any more
    pub culprits: Vec<Arc<Culprit>>,
    /// what sinks of an older attempt have prepared and this one will commit
    pub pending: Vec<(String, Vec<Transaction>)>,
    /// where guests' lines go
    pub log: LogSink,
    /// processing time
    pub clock: Clock,
    /// native code in the place of guests: see [`NativeChains`]
    pub native: Option<NativeChains>,
}

/// Gives the native chain for (component, chain, subtask), where there is one. For tests, and for measuring what the sandbox costs.
pub type NativeChains = Arc<dyn Fn(usize, u32, u16) -> Option<Box<dyn NativeChain>> + Send + Sync>;

/// A process's share of the cluster: its slots.
#[derive(Clone)]
pub struct Worker {
    slots: u16,
    held: Arc<Mutex<Held>>,
    /// how many bytes the evicted state of a job may take in memory, and the rows in its channels as many again; none = as many as there are
    job_memory: Option<usize>,
    /// looked through before the built-in ones
    connectors: Arc<[Box<dyn Connector>]>,
    disk: StateDisk,
}

/// The slots that tasks hold, by what connectors call their job.
type Held = BTreeMap<String, u16>;

/// Slots that a job holds; they are free again when it is dropped.
struct Lease {
    job: String,
    slots: u16,
    held: Arc<Mutex<Held>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        if let Some(slots) = held.get_mut(&self.job) {
            *slots -= self.slots;
        }
        held.retain(|_, slots| *slots > 0);
    }
}

impl Worker {
    /// A worker with this many slots.
    pub fn new(slots: u16) -> Self {
        Self::with_connectors(slots, vec![])
    }

    /// A worker whose jobs can use these connectors, too; where one has the name of a built-in one, it takes its place.
    pub fn with_connectors(slots: u16, connectors: Vec<Box<dyn Connector>>) -> Self {
        let disk = StateDisk::new(StateOptions::default());
        Self { slots, held: Arc::default(), job_memory: None, connectors: connectors.into(), disk }
    }

    /// The same worker, which keeps state on disk there.
    #[must_use]
    pub fn with_state(self, options: StateOptions) -> Self {
        Self { disk: StateDisk::new(options), ..self }
    }

    /// The same worker, which ends a job whose evicted state takes more bytes of memory than that. The rows in a job's channels may take as many, too, besides one
    /// batch in each channel.
    #[must_use]
    pub fn with_job_memory(self, bytes: usize) -> Self {
        Self { job_memory: Some(bytes), ..self }
    }

    /// All slots, and how many of them are free.
    pub fn slots(&self) -> (u16, u16) {
        (self.slots, free(self.slots, &self.held.lock()))
    }

    /// The slots that tasks hold, by what [`Context::attempt`] calls their job. That of a job which was cancelled may have ended before they do.
    pub fn held(&self) -> BTreeMap<String, u16> {
        self.held.lock().clone()
    }

    /// The memory that its databases share; none as long as no job has had one.
    pub fn state_memory(&self) -> Option<StateMemory> {
        self.disk.memory()
    }

    /// Starts a job. What fails later is told by the handle.
    ///
    /// # Errors
    /// If slots are missing, or a connector refuses its options.
    pub fn deploy(&self, deployment: Deployment) -> Result<JobHandle, Failure> {
        let lease = self.lease(&deployment)?;
        let (commands, command_receiver) = watch::channel(Command::Run);
        let (triggers, trigger_receiver) = watch::channel(None);
        let (stored, stored_receiver) = watch::channel(CheckpointId(0));
        let (event_sender, events) = mpsc::unbounded_channel();
        let orders = Orders { commands: command_receiver, triggers: trigger_receiver, stored: stored_receiver };
        let Built { metrics, tasks, persisters, notes } = Builder::new(&deployment, self)?.build(&orders, &event_sender);
        let ids = persisters.iter().map(|(persister, _)| persister.task).collect();
        let supervisor = tokio::spawn(supervise(tasks, persisters, commands.clone(), event_sender, lease));
        let overtakes = deployment.plan.spec.checkpoint.mode == CheckpointMode::Unaligned;
        Ok(JobHandle { commands, triggers, stored, tasks: ids, overtakes, events, metrics, notes, supervisor: Some(supervisor) })
    }

    /// A slot holds one subtask of each vertex.
    fn lease(&self, Deployment { plan, context, .. }: &Deployment) -> Result<Lease, Failure> {
        let slots = plan.vertices.iter().map(|v| v.parallelism).max().unwrap_or(1);
        let mut held = self.held.lock();
        let free = free(self.slots, &held);
        if free < slots {
            return Err(Failure::new(
                FailureKind::Resources,
                format!(
                    "the job needs {slots} slots, but only {free} of the worker's {} are free; stop a job, lower `parallelism`, or give the \
                     worker more slots",
                    self.slots
                ),
            ));
        }
        let job = context.attempt.job.clone();
        *held.entry(job.clone()).or_default() += slots;
        Ok(Lease { job, slots, held: Arc::clone(&self.held) })
    }
}

/// How many of so many slots nobody holds.
fn free(slots: u16, held: &Held) -> u16 {
    slots - held.values().sum::<u16>()
}

/// A persister, and what it takes.
type Persisting = (Persister, mpsc::UnboundedReceiver<Capture>);

/// Waits for the tasks of a job. The first failure ends them all.
async fn supervise(
    tasks: Vec<Task>,
    persisters: Vec<Persisting>,
    commands: watch::Sender<Command>,
    events: mpsc::UnboundedSender<Event>,
    lease: Lease,
) {
    let mut running = JoinSet::new();
    for (persister, captures) in persisters {
        running.spawn(persister.run(captures));
    }
    let (opened_sender, mut opened) = mpsc::unbounded_channel::<()>();
    let expected = tasks.len();
    for task in tasks {
        running.spawn(task.run(opened_sender.clone()));
    }
    drop(opened_sender);
    let mut count = 0;
    let mut outcome = Outcome::Finished;
    loop {
        tokio::select! {
            biased;
            Some(()) = opened.recv(), if count < expected => {
                count += 1;
                if count == expected {
                    let _ = events.send(Event::Running);
                }
            }
            ended = running.join_next() => {
                let Some(ended) = ended else { break };
                let next = match ended {
                    Ok(Ok(Ending::Finished)) => continue,
                    Ok(Ok(Ending::Cancelled)) => Outcome::Cancelled,
                    Ok(Err(failure)) => Outcome::Failed { failure: *failure },
                    Err(error) if error.is_panic() => Outcome::Failed { failure: panicked(error) },
                    Err(_) => Outcome::Cancelled,
                };
                match &outcome {
                    Outcome::Finished => {
                        outcome = next;
                        commands.send_replace(Command::Cancel);
                    }
                    Outcome::Failed { failure } if failure.is_consequence && matches!(next, Outcome::Failed { .. }) => outcome = next,
                    Outcome::Failed { .. } | Outcome::Cancelled => {}
                }
            }
        }
    }
    drop(lease);
    let _ = events.send(Event::Ended(outcome));
}

/// A task's panic is a bug of Weir's; the job fails, and the process goes on.
pub fn panicked(error: tokio::task::JoinError) -> Failure {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("(no message)");
    Failure::new(FailureKind::Internal, format!("a task panicked, which is a bug in Weir; please report it: {text}"))
}

/// What tasks are told while they run.
struct Orders {
    commands: watch::Receiver<Command>,
    triggers: watch::Receiver<Option<crate::job::Trigger>>,
    stored: watch::Receiver<CheckpointId>,
}

/// A job that does not run yet.
struct Built {
    metrics: Arc<JobMetrics>,
    tasks: Vec<Task>,
    persisters: Vec<Persisting>,
    /// what the job's user may want to know
    notes: Vec<String>,
}

/// What the subtasks of a source read.
struct Dealt {
    source: Arc<dyn Source>,
    /// by subtask: its splits
    splits: Vec<Vec<Split>>,
    /// by subtask: the ids of those that are done, which the first one keeps in mind
    done: Vec<Vec<String>>,
    /// the ids of all
    known: Arc<HashSet<String>>,
}

/// What a deployment is made of on the way.
struct Builder<'a> {
    deployment: &'a Deployment,
    worker: &'a Worker,
    sources: Vec<Dealt>,
    sinks: Vec<(String, Box<dyn Sink>)>,
    /// (edge, sending subtask) → its channels, by receiving subtask
    senders: HashMap<(usize, u16), Vec<Sender>>,
    /// (vertex, subtask) → its gate, and where each channel comes from
    gates: HashMap<(usize, u16), (Gate, Vec<Channel>)>,
    /// what of the checkpoint does not go on, and what begins without it
    notes: Vec<String>,
}

impl<'a> Builder<'a> {
    fn new(deployment: &'a Deployment, worker: &'a Worker) -> Result<Self, Failure> {
        let plan = &deployment.plan;
        // Before sinks are bound, which may already touch what is there; and at each attempt anew, since patterns may match other files by then.
        weir_connector::registry::keep_apart(&plan.spec, &deployment.context.files)
            .map_err(|e| Failure { is_final: true, ..Failure::new(FailureKind::Connector, e.message) })?;
        let find = |name: &str| match worker.connectors.iter().find(|c| c.name() == name) {
            Some(connector) => Ok(&**connector),
            None => weir_connector::find(name),
        };
        let mut builder = Self {
            deployment,
            worker,
            sources: vec![],
            sinks: vec![],
            senders: HashMap::new(),
            gates: HashMap::new(),
            notes: vec![],
        };
        builder.note_lost_sources();
        for sink in &plan.sinks {
            let binding = &plan.spec.sinks[&sink.name];
            let context = builder.context(&sink.name);
            let bound = find(&binding.connector)
                .and_then(|c| c.sink(&binding.options, &sink.schema, &context))
                .map_err(|e| connector_failure("sink", &sink.name, &e))?;
            let pending = deployment.pending.iter().find(|(name, _)| *name == sink.name).map_or(&[][..], |(_, pending)| pending);
            bound.recover(pending).map_err(|e| bindings::recovery_failure(&sink.name, &e, pending))?;
            builder.sinks.push((sink.name.clone(), bound));
        }
        for (index, source) in plan.sources.iter().enumerate() {
            let binding = &plan.spec.sources[&source.name];
            let context = builder.context(&source.name);
            let streams: Vec<_> = source.streams.iter().map(Stream::from).collect();
            let bound = find(&binding.connector)
                .and_then(|c| c.source(&binding.options, &streams, &context))
                .map_err(|e| connector_failure("source", &source.name, &e))?;
            let parallelism = plan.vertices.iter().find(|v| v.root == Root::Source(index)).map_or(1, |v| v.parallelism);
            let known = builder.known(&source.name, &*bound)?;
            let is_over = deployment.restore.as_ref().is_some_and(|restore| restore.is_over());
            let (Splits { open: splits, done }, unread) = splits_of(&*bound, parallelism, known, is_over)
                .map_err(|e| opening_failure("source", &source.name, &e, deployment.has_run))?;
            builder.notes.extend(unread_note(&source.name, &unread));
            let mut dealt = Dealt {
                source: Arc::from(bound),
                splits: vec![vec![]; parallelism.into()],
                done: vec![vec![]; parallelism.into()],
                known: Arc::new(splits.iter().map(|split| &split.id).chain(&done).cloned().collect()),
            };
            for (i, split) in splits.into_iter().enumerate() {
                let reader = deployment.restore.as_ref().and_then(|r| r.reader(&source.name, &split.id, parallelism));
                dealt.splits[reader.map_or(i % usize::from(parallelism), usize::from)].push(split);
            }
            dealt.done[0] = done;
            builder.sources.push(dealt);
        }
        builder.connect();
        Ok(builder)
    }

    /// Notes of which sources the positions are left behind.
    fn note_lost_sources(&mut self) {
        let Some(restore) = &self.deployment.restore else { return };
        for (name, fit) in bindings::compare_sources(&self.deployment.plan, &restore.manifest) {
            if fit == BindingFit::Lost {
                self.notes
                    .push(format!("the positions of the source \"{name}\" are left behind, which the job has not any more"));
            }
        }
    }

    /// The splits of a source that go on from where a checkpoint has them; none if none knows the source. Notes what begins anew, and what does not go on.
    fn known(&mut self, name: &str, source: &dyn Source) -> Result<Option<Splits>, Failure> {
        let Some(restore) = &self.deployment.restore else { return Ok(None) };
        let checkpoint = restore.manifest.checkpoint;
        let Some(known) = restore.splits(name) else {
            self.notes.push(format!("the source \"{name}\" is not in checkpoint {checkpoint}: it is read from its beginning"));
            return Ok(None);
        };
        let (splits, left) = bindings::go_on(source, known, checkpoint, restore.drops_unmatched)
            .map_err(|e| connector_failure("source", name, &e))?;
        let noted = left.iter().map(|id| format!("the source \"{name}\" does not read the rest of \"{id}\""));
        self.notes.extend(noted);
        Ok(Some(splits))
    }

    fn context(&self, name: &str) -> Context {
        Context { name: name.to_owned(), ..self.deployment.context.clone() }
    }

    /// Makes all channels.
    fn connect(&mut self) {
        let plan = &self.deployment.plan;
        let mut gates = vec![];
        for (index, vertex) in plan.vertices.iter().enumerate() {
            let Root::Gate(edges) = &vertex.root else { continue };
            gates.extend((0..vertex.parallelism).map(|subtask| (index, subtask, channels_of(plan, edges, subtask))));
        }
        let capacity = self.capacity(gates.iter().map(|(_, _, channels)| channels.len()).sum());
        for (index, subtask, channels) in gates {
            let (gate, senders) = gate(channels.len(), capacity);
            for (channel, sender) in channels.iter().zip(senders) {
                self.senders.entry((channel.edge as usize, channel.sender)).or_default().push(sender);
            }
            self.gates.insert((index, subtask), (gate, channels));
        }
    }

    /// What each of so many channels holds.
    fn capacity(&self, channels: usize) -> Capacity {
        let batch = &self.deployment.plan.spec.batch;
        let bytes = usize::try_from(batch.channel_bytes.0).unwrap_or(usize::MAX);
        let capacity = Capacity { batches: batch.channel_capacity, bytes };
        self.worker.job_memory.map_or(capacity, |memory| capacity.sharing(memory, channels))
    }

    /// Makes the metrics and the tasks, which are not running yet.
    fn build(mut self, orders: &Orders, events: &mpsc::UnboundedSender<Event>) -> Built {
        let plan = Arc::new(self.deployment.plan.clone());
        let mut nodes = vec![];
        let mut task_counters = vec![];
        let mut places = vec![];
        for (index, vertex) in plan.vertices.iter().enumerate() {
            for subtask in 0..vertex.parallelism {
                places.push((index, subtask, nodes.len()));
                nodes.push(NodeCounters::new(index, subtask, None, root_name(&plan, vertex)));
                let counters = |(node, kind)| NodeCounters::new(index, subtask, Some(node), node_name(&plan, kind));
                nodes.extend(vertex.nodes.iter().map(|n| &n.kind).enumerate().map(counters));
                task_counters.push((index, subtask, TaskCounters::default()));
            }
        }
        let metrics = Arc::new(JobMetrics {
            started: Instant::now(),
            events_in: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            nodes,
            tasks: task_counters,
            sinks: std::mem::take(&mut self.sinks),
            uploads: Arc::default(),
            recovery: Default::default(),
            ends: self.sources.iter().all(|dealt| dealt.source.ends() && dealt.source.discovers_every().is_none()),
            cut_short: AtomicBool::new(false),
        });
        let allowance = self.worker.job_memory.map(|bytes| Arc::new(Allowance::new(bytes)));
        let (mut tasks, mut persisters) = (vec![], vec![]);
        for (place, &(vertex, subtask, first_counter)) in places.iter().enumerate() {
            let root = match &plan.vertices[vertex].root {
                Root::Source(source) => {
                    let Dealt { source, splits, done, known } = &mut self.sources[*source];
                    let subtask = usize::from(subtask);
                    task::RootParts::Source(task::SourceParts {
                        source: Arc::clone(source),
                        splits: std::mem::take(&mut splits[subtask]),
                        done: std::mem::take(&mut done[subtask]),
                        known: Arc::clone(known),
                    })
                }
                Root::Gate(_) => {
                    let (gate, channels) = self.gates.remove(&(vertex, subtask)).expect("every subtask behind a gate has one");
                    task::RootParts::Gate(gate, channels)
                }
            };
            let senders = plan.vertices[vertex]
                .nodes
                .iter()
                .filter_map(|n| match n.kind {
                    NodeKind::Exchange(edge) => Some((edge, self.senders.remove(&(edge, subtask)).unwrap_or_default())),
                    _ => None,
                })
                .collect();
            let (captures, captured) = mpsc::unbounded_channel();
            let persister = Persister {
                task: TaskId { vertex: vertex as u32, subtask },
                parallelism: plan.vertices[vertex].parallelism,
                generation: self.deployment.context.attempt.generation,
                files: BTreeMap::new(),
                storage: self.deployment.storage.clone(),
                events: events.clone(),
                uploads: Arc::clone(metrics.uploads()),
            };
            persisters.push((persister, captured));
            tasks.push(Task::new(
                task::Parts {
                    plan: Arc::clone(&plan),
                    vertex,
                    subtask,
                    senders: Mutex::new(senders),
                    components: self.deployment.components.clone(),
                    log: self.deployment.log.clone(),
                    clock: self.deployment.clock.clone(),
                    native: self.deployment.native.clone(),
                    metrics: Arc::clone(&metrics),
                    first_counter,
                    task_counter: place,
                    commands: orders.commands.clone(),
                    triggers: orders.triggers.clone(),
                    stored: orders.stored.clone(),
                    captures,
                    restore: self.deployment.restore.clone(),
                    has_run: self.deployment.has_run,
                    storage: self.deployment.storage.clone(),
                    disk: self.worker.disk.clone(),
                    allowance: allowance.clone(),
                    culprits: self.deployment.culprits.clone(),
                },
                root,
            ));
        }
        Built { metrics, tasks, persisters, notes: self.notes }
    }
}

/// The channels of the gate of a subtask behind these edges: edge by edge, sender by sender.
fn channels_of(plan: &JobPlan, edges: &[usize], subtask: u16) -> Vec<Channel> {
    let of_edge = |(place, &edge): (usize, &usize)| {
        let senders = plan.vertices[plan.edges[edge].from].parallelism;
        let from = match plan.edges[edge].partitioning {
            Partitioning::Forward => subtask..subtask + 1,
            _ => 0..senders,
        };
        from.map(move |sender| Channel { place, edge: edge as u32, sender, senders })
    };
    edges.iter().enumerate().flat_map(of_edge).collect()
}

/// The splits of a source that go on, and those that are left unread. `is_over`: the job has finished, so that nothing is read any more: what was read may be gone,
/// and rows of what has come since would be late.
fn splits_of(
    source: &dyn Source,
    parallelism: u16,
    known: Option<Splits>,
    is_over: bool,
) -> Result<(Splits, Vec<Split>), weir_connector::Error> {
    let Some(mut splits) = known else { return Ok((Splits { open: source.splits(parallelism)?, done: vec![] }, vec![])) };
    let ids = splits.open.iter().map(|split| &split.id).chain(&splits.done).cloned().collect();
    let new = source.new_splits(&ids);
    if is_over {
        return Ok((splits, new.unwrap_or_default()));
    }
    splits.open.extend(new?);
    Ok((splits, vec![]))
}

/// Says of which splits a job that has finished reads nothing.
fn unread_note(name: &str, unread: &[Split]) -> Option<String> {
    let (first, more) = unread.split_first()?;
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    Some(format!(
        "the source \"{name}\" does not read \"{}\"{more}, new since the job has finished; pass --fresh to read all from the start, or read what is new by a job of \
         another name",
        first.id
    ))
}

fn root_name(plan: &JobPlan, vertex: &Vertex) -> String {
    match vertex.root {
        Root::Source(source) => plan.sources[source].name.clone(),
        Root::Gate(_) => "exchange in".to_owned(),
    }
}

fn node_name(plan: &JobPlan, kind: &NodeKind) -> String {
    match kind {
        NodeKind::Chain(chain) => chain.name(),
        NodeKind::Sink(sink) => plan.sinks[*sink].name.clone(),
        NodeKind::Exchange(_) => "exchange out".to_owned(),
    }
}

/// The splits of a source cannot be listed, or a sink cannot be written to. What is missing where the job has never run is mistyped, or was never there; if it was
/// there, it may come back, as what is on a disk that is not mounted does. What is refused where it has never run was never allowed.
pub(crate) fn opening_failure(what: &str, name: &str, error: &weir_connector::Error, has_run: bool) -> Failure {
    let mut failure = connector_failure(what, name, error);
    failure.is_final |= (failure.is_missing || error.is_refused()) && !has_run;
    failure
}

/// A connector's error, with the name that the spec binds.
pub(crate) fn connector_failure(what: &str, name: &str, error: &weir_connector::Error) -> Failure {
    let mut failure = Failure::new(FailureKind::Connector, format!("{what} \"{name}\": {error}"));
    failure.operator = Some(name.to_owned());
    failure.is_missing = error.kind == ErrorKind::Missing;
    failure.is_malformed = error.kind == ErrorKind::Malformed;
    // What is malformed is so at the next attempt, too, and what is gone stays so.
    failure.is_final = matches!(error.kind, ErrorKind::Options | ErrorKind::Malformed | ErrorKind::Gone);
    failure
}

#[cfg(test)]
mod tests {
    use std::io;

    use weir_connector::Error;

    use super::*;

    #[test]
    fn what_was_there_may_come_back() {
        // Goal: what is missing or refused ends a job that has never run; one that has run tries again, and so does every job where the outside fails. What is gone
        // stays so.
        for (what, has_run) in [("source", false), ("source", true), ("sink", false), ("sink", true)] {
            let is_final = |error: &Error| opening_failure(what, "in", error, has_run).is_final;
            assert_eq!(is_final(&Error::missing("there is no file")), !has_run);
            assert!(!is_final(&Error::io("the disk", io::Error::other("fails"))));
            for lasting in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::NotADirectory] {
                assert_eq!(is_final(&Error::io("the folder", io::Error::from(lasting))), !has_run, "{lasting}");
            }
            for passing in [io::ErrorKind::StorageFull, io::ErrorKind::TimedOut] {
                assert!(!is_final(&Error::io("the folder", io::Error::from(passing))), "{passing}");
            }
            assert!(is_final(&Error::options("no pattern")) && is_final(&Error::gone("it was made anew")));
        }
    }

    /// A source of which there is nothing, or not any more.
    struct Gone;

    impl Source for Gone {
        fn splits(&self, _: u16) -> Result<Vec<Split>, Error> {
            Err(Error::missing("there is no file"))
        }

        fn reader(&self, _: &Split, _: &Arc<tokio::sync::Notify>) -> Result<Box<dyn weir_connector::Reader>, Error> {
            Err(Error::missing("there is no file"))
        }
    }

    #[test]
    fn finished_jobs_need_no_input() {
        // Goal: what a job has read to its end may be gone when it is started again, for then it does nothing; one that is not over is told.
        let (splits, unread) = splits_of(&Gone, 1, Some(done("a")), true).unwrap();
        assert_eq!((splits, unread), (done("a"), vec![]));
        assert_eq!(splits_of(&Gone, 1, Some(done("a")), false).unwrap_err().kind, ErrorKind::Missing);
        assert_eq!(splits_of(&Gone, 1, None, false).unwrap_err().kind, ErrorKind::Missing);
    }

    /// What a checkpoint has of a source with one split, which was read to its end.
    fn done(id: &str) -> Splits {
        Splits { open: vec![], done: vec![id.to_owned()] }
    }

    fn split(id: &str) -> Split {
        Split { id: id.to_owned(), spec: serde_json::Value::Null, position: None }
    }

    /// A source of three splits.
    struct Three;

    impl Source for Three {
        fn splits(&self, _: u16) -> Result<Vec<Split>, Error> {
            Ok(["a", "b", "c"].map(split).into())
        }

        fn reader(&self, _: &Split, _: &Arc<tokio::sync::Notify>) -> Result<Box<dyn weir_connector::Reader>, Error> {
            Err(Error::missing("it is not read"))
        }
    }

    #[test]
    fn finished_jobs_read_nothing() {
        // Goal: a job that has finished does not read what has come since, and says so; one that is not over reads it.
        let (splits, unread) = splits_of(&Three, 1, Some(done("a")), true).unwrap();
        assert_eq!((splits, &unread[..]), (done("a"), &[split("b"), split("c")][..]));
        let note = unread_note("in", &unread).unwrap();
        for part in ["\"in\"", "\"b\" and 1 more", "--fresh"] {
            assert!(note.contains(part), "{note}");
        }
        assert_eq!(unread_note("in", &[]), None);
        let (splits, unread) = splits_of(&Three, 1, Some(done("a")), false).unwrap();
        assert_eq!((splits, unread), (Splits { open: vec![split("b"), split("c")], ..done("a") }, vec![]));
    }
}
