//! One subtask at work.
//!
//! ```text
//! source or gate ─▶ nodes (calls, in the order of the rows) ─▶ sinks and outboxes
//! ```
//!
//! A task is one asynchronous loop. It takes what its root gives, a batch at a time, and passes it through its [`nodes`] to the end before it takes more; when the
//! root has nothing to give, it flushes what nodes hold back, and sleeps. So rows wait for nothing but other rows, and, for a moment after a barrier, for
//! copies that a checkpoint waits for, a piece after each batch.

mod alignment;
mod dead_letters;
mod discovery;
mod gate;
mod nodes;
mod open;
mod places;
mod provenance;
mod recording;
mod routes;
mod source;
mod splits;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, watch};
use weir_base::{Clock, Phase, sleep_until};
use weir_checkpoint::{JobStorage, SourceSnapshot};
use weir_connector::{Source, Split};
use weir_exchange::{Barrier, Gate, Sender};
use weir_operator::Culprit;
use weir_plan::JobPlan;
use weir_protocol::checkpoint::CheckpointId;
use weir_sandbox::{Component, LogSink};
use weir_state::Allowance;

use crate::deploy::NativeChains;
use crate::disk::StateDisk;
use crate::error::Failure;
use crate::job::{Command, Trigger};
use crate::metrics::{JobMetrics, TaskCounters};
use crate::restore::Restore;
use crate::snapshot::{Capture, Captured};
use nodes::Nodes;
use splits::Splits;

/// How long a task that has work keeps its thread before it lets others run. A guest call lets others run at each epoch tick besides.
///
/// Those who wait are as late as the turns before theirs are long; on the other hand, a task's keys and the memory of its guest are in its processor's cache only after it
/// has gone through many rows. Half as much costs a query that is all look-ups an eighth of its speed; what twice as much gains is lost in noise.
const TURN: Duration = Duration::from_millis(2);

/// How long a task without input sleeps at most: then it counts the time, so that its figures are not older than that.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// What a task is made from.
pub(crate) struct Parts {
    pub plan: Arc<JobPlan>,
    pub vertex: usize,
    pub subtask: u16,
    /// the channels of each exchange
    pub senders: parking_lot::Mutex<Vec<(usize, Vec<Sender>)>>,
    pub components: Vec<Component>,
    pub log: LogSink,
    pub clock: Clock,
    pub native: Option<NativeChains>,
    pub metrics: Arc<JobMetrics>,
    /// index of the root's counters in the metrics; those of the nodes follow
    pub first_counter: usize,
    /// index of the task's own counters
    pub task_counter: usize,
    pub commands: watch::Receiver<Command>,
    /// checkpoints that sources are to begin
    pub triggers: watch::Receiver<Option<Trigger>>,
    /// the last checkpoint that is complete
    pub stored: watch::Receiver<CheckpointId>,
    /// where what is captured goes
    pub captures: mpsc::UnboundedSender<Capture>,
    /// what the job starts from
    pub restore: Option<Arc<Restore>>,
    /// whether the job has run before: what its sinks name was there then
    pub has_run: bool,
    /// where its checkpoints are stored; none = it has none
    pub storage: Option<JobStorage>,
    /// where state is kept on disk
    pub disk: StateDisk,
    /// the memory that evicted state may take; none = as much as there is
    pub allowance: Option<Arc<Allowance>>,
    /// the rows on which operators have failed in older attempts
    pub culprits: Vec<Arc<Culprit>>,
}

/// Where a task's rows come from.
pub(crate) enum RootParts {
    /// splits of a source
    Source(SourceParts),
    /// a gate, and where its channels come from
    Gate(Gate, Vec<Channel>),
}

/// What a subtask reads of a source.
pub(crate) struct SourceParts {
    pub source: Arc<dyn Source>,
    /// those that are to be read
    pub splits: Vec<Split>,
    /// the ids of those that are done
    pub done: Vec<String>,
    /// the ids of those of all subtasks
    pub known: Arc<HashSet<String>>,
}

/// Where a channel of a gate comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    /// which of the vertex's edges it belongs to
    pub place: usize,
    /// the edge's number in the plan
    pub edge: u32,
    /// the sending subtask
    pub sender: u16,
    /// of how many
    pub senders: u16,
}

impl RootParts {
    /// What event times are followed by.
    fn splits(&self) -> Splits {
        match self {
            Self::Source(parts) => Splits::of_source(source::first_split(&*parts.source) + parts.splits.len()),
            Self::Gate(_, channels) => Splits::of_gate(&channels.iter().map(|channel| channel.place).collect::<Vec<_>>()),
        }
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// its input ended
    Finished,
    /// it was told to end
    Cancelled,
}

/// A subtask, ready to run.
pub(crate) struct Task(Parts, RootParts);

/// What a root tells its task.
enum Step {
    /// rows or watermarks were passed on: come again
    Worked,
    /// nothing now; sleep as the root says
    Nothing,
    /// a barrier has come on all inputs, the first of them so long ago; or it has overtaken what is on its way on some of them
    Barrier { barrier: Barrier, alignment: Duration },
    /// all is known that a barrier has overtaken: the capture that was [kept](Root::keep)
    Recorded(Capture),
    /// nothing any more
    End,
}

impl Task {
    pub(crate) fn new(parts: Parts, root: RootParts) -> Self {
        Self(parts, root)
    }

    /// Runs to the end. Tells `opened` when all is open.
    pub(crate) async fn run(self, opened: mpsc::UnboundedSender<()>) -> Result<Ending, Box<Failure>> {
        let mut commands = self.0.commands.clone();
        let cancelled = async move {
            // An error means that the job's handle and supervisor are gone.
            let _ = commands.wait_for(|c| *c == Command::Cancel).await;
        };
        tokio::select! {
            result = self.work(opened) => result.map(|()| Ending::Finished),
            () = cancelled => Ok(Ending::Cancelled),
        }
    }

    async fn work(self, opened: mpsc::UnboundedSender<()>) -> Result<(), Box<Failure>> {
        let Self(parts, root) = self;
        let linger = parts.plan.spec.batch.linger.0;
        let counters = &parts.metrics.tasks[parts.task_counter].2;
        let mut nodes = Nodes::open(&parts, &root.splits()).await?;
        let mut root = match root {
            RootParts::Source(source) => Root::Source(Box::new(source::SourceRoot::new(&parts, source))),
            RootParts::Gate(gate, channels) => {
                let replayed = match &parts.restore {
                    Some(restore) => restore.in_flight(&parts.plan, parts.vertex, parts.subtask).await.map_err(Box::new)?,
                    None => vec![],
                };
                Root::Gate(Box::new(gate::GateRoot::new(
                    gate,
                    &channels,
                    &parts.plan.edges,
                    &parts.plan.spec.checkpoint,
                    replayed,
                )))
            }
        };
        let mut triggers = parts.triggers.clone();
        let _ = opened.send(());
        let now = Instant::now();
        let mut pace = Pace { counters, since: now, flushed: now, turn: now };
        loop {
            nodes.now = parts.clock.now_ms();
            if nodes.next_clock().is_some_and(|time| time <= nodes.now) {
                nodes.on_clock().await?;
            }
            nodes.copy_on().await?;
            let draining = *parts.commands.borrow() == Command::Drain;
            let step = match root.triggered(&mut triggers, &mut nodes).await? {
                Some(barrier) => Step::Barrier { barrier, alignment: Duration::ZERO },
                None => root.step(&mut nodes, draining).await?,
            };
            pace.worked(nodes.take_waited());
            match step {
                Step::Worked => {
                    if pace.flushed.elapsed() >= linger {
                        nodes.flush().await?;
                        pace.flushed = Instant::now();
                    }
                    if pace.turn.elapsed() >= TURN {
                        tokio::task::yield_now().await;
                        pace.turn = Instant::now();
                    }
                }
                Step::Nothing => {
                    nodes.flush().await?;
                    pace.flushed = Instant::now();
                    pace.worked(nodes.take_waited());
                    if nodes.are_copying() {
                        tokio::task::yield_now().await;
                        pace.turn = Instant::now();
                        continue;
                    }
                    let timer = nodes.next_clock().map(|time| parts.clock.instant_of(time));
                    let until = [root.not_before(), timer].into_iter().flatten().fold(Instant::now() + SLEEP_MAX, Instant::min);
                    let mut changed = parts.commands.clone();
                    tokio::select! {
                        () = root.ready() => {}
                        () = sleep_until(until) => {}
                        _ = changed.changed(), if !draining => {}
                        _ = triggers.changed(), if root.is_source() => triggers.mark_changed(),
                    }
                    pace.idled();
                    pace.turn = Instant::now();
                }
                Step::Barrier { barrier, alignment } => {
                    Phase::ExportBegun.reached(barrier.checkpoint);
                    let since = Instant::now();
                    let stored = parts.stored.borrow().0;
                    let captured = Captured { source: root.snapshot(), ..nodes.barrier(barrier, stored).await? };
                    let checkpoint = Some(CheckpointId(barrier.checkpoint));
                    // A barrier waits for room in channels as rows do.
                    let waited = nodes.take_waited();
                    let copying = since.elapsed().saturating_sub(waited);
                    let capture = Capture { checkpoint, stored, captured, alignment, copying };
                    if let Some(capture) = root.keep(capture) {
                        let _ = parts.captures.send(capture);
                    }
                    pace.worked(waited);
                    if barrier.stops {
                        // Nothing follows, and nobody is told that it was the end: the job goes on from here another time.
                        std::future::pending::<()>().await;
                    }
                }
                Step::Recorded(capture) => drop(parts.captures.send(capture)),
                Step::End => break,
            }
        }
        nodes.finish().await?;
        let stored = parts.stored.borrow().0;
        let captured = Captured { source: root.snapshot(), ..nodes.last_capture(stored).await? };
        let capture = Capture { checkpoint: None, stored, captured, alignment: Duration::ZERO, copying: Duration::ZERO };
        let _ = parts.captures.send(capture);
        pace.worked(nodes.take_waited());
        Ok(())
    }
}

/// Where rows come from, at work.
enum Root {
    Source(Box<source::SourceRoot>),
    Gate(Box<gate::GateRoot>),
}

impl Root {
    /// Takes what there is, at most a batch of each split, and passes it through the nodes. Counts the time that this takes without them.
    async fn step(&mut self, nodes: &mut Nodes, draining: bool) -> Result<Step, Box<Failure>> {
        let (since, elsewhere) = (Instant::now(), nodes.elsewhere());
        let step = match self {
            Self::Source(source) => source.step(nodes, draining).await,
            // What is in the channels was read before the job was told to drain; the sources end, and so will this.
            Self::Gate(gate) => gate.step(nodes).await,
        }?;
        nodes.count_root(since.elapsed().saturating_sub(nodes.elsewhere() - elsewhere));
        Ok(step)
    }

    fn is_source(&self) -> bool {
        matches!(self, Self::Source(_))
    }

    /// The barrier that a source is to begin with now. If the job ends with it by draining, the end of time goes before it.
    async fn triggered(
        &mut self,
        triggers: &mut watch::Receiver<Option<Trigger>>,
        nodes: &mut Nodes,
    ) -> Result<Option<Barrier>, Box<Failure>> {
        let Self::Source(source) = self else { return Ok(None) };
        // An error means that the job's handle is gone.
        if !triggers.has_changed().unwrap_or(false) {
            return Ok(None);
        }
        let Some(Trigger { barrier, drains }) = *triggers.borrow_and_update() else { return Ok(None) };
        if barrier.stops {
            source.cut_short();
        }
        if drains {
            source.end_time(nodes).await?;
        }
        Ok(Some(barrier))
    }

    /// Keeps a capture until all is known that its barrier has overtaken; returns it if that is nothing.
    fn keep(&mut self, capture: Capture) -> Option<Capture> {
        match self {
            Self::Source(_) => Some(capture),
            Self::Gate(gate) => gate.keep(capture),
        }
    }

    /// How far the splits have been read.
    fn snapshot(&self) -> Option<SourceSnapshot> {
        match self {
            Self::Source(source) => Some(source.snapshot()),
            Self::Gate(_) => None,
        }
    }

    /// Completes when there may be something to take.
    async fn ready(&mut self) {
        match self {
            Self::Source(source) => source.ready().await,
            Self::Gate(gate) => gate.ready().await,
        }
    }

    /// When to look again, even if `ready` has not completed.
    fn not_before(&mut self) -> Option<Instant> {
        match self {
            Self::Source(source) => source.not_before(),
            Self::Gate(gate) => gate.not_before(),
        }
    }
}

/// Divides a task's time into busy and idle. What is neither, outboxes have counted while they waited.
struct Pace<'a> {
    counters: &'a TaskCounters,
    since: Instant,
    /// when what nodes hold back was last put out
    flushed: Instant,
    /// since when the task has had its thread
    turn: Instant,
}

impl Pace<'_> {
    /// The time until now was work, but for `waited` of it.
    fn worked(&mut self, waited: Duration) {
        let time = self.lap();
        self.counters.busy_ns.fetch_add(time.saturating_sub(waited).as_nanos() as u64, Relaxed);
    }

    /// The time until now was without input.
    fn idled(&mut self) {
        let time = self.lap();
        self.counters.idle_ns.fetch_add(time.as_nanos() as u64, Relaxed);
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let time = now - self.since;
        self.since = now;
        time
    }
}

/// Calls a connector that may wait for something outside. Tasks that share the thread go on meanwhile, where another one can take them.
fn calmly<T>(call: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(call),
        _ => call(),
    }
}
