//! One subtask at work.
//!
//! ```text
//! source or gate ─▶ nodes (calls, in the order of the rows) ─▶ sinks and outboxes
//! ```
//!
//! A task is one asynchronous loop. It takes what its root gives, a batch at a time, and passes it through its [`nodes`] to the end before it takes more; when the
//! root has nothing to give, it flushes what nodes hold back, and sleeps. So rows wait for nothing but other rows.

mod gate;
mod nodes;
mod open;
mod routes;
mod source;
mod splits;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use weir_base::{Clock, sleep_until};
use weir_connector::{Source, Split};
use weir_exchange::{Gate, Sender};
use weir_plan::JobPlan;
use weir_sandbox::{Component, LogSink};

use crate::deploy::NativeChains;
use crate::error::Failure;
use crate::job::Command;
use crate::metrics::{JobMetrics, TaskCounters};
use nodes::Nodes;
use splits::Splits;

/// How long a task that has work keeps its thread before it lets others run. A guest call lets others run at each epoch tick besides.
const TURN: Duration = Duration::from_millis(1);

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
}

/// Where a task's rows come from.
pub(crate) enum RootParts {
    /// splits of a source
    Source(Arc<dyn Source>, Vec<Split>),
    /// a gate, and for each of its channels which of the vertex's edges it belongs to
    Gate(Gate, Vec<usize>),
}

impl RootParts {
    /// What event times are followed by.
    fn splits(&self) -> Splits {
        match self {
            Self::Source(_, splits) => Splits::of_source(splits.len()),
            Self::Gate(_, edge_of_channel) => Splits::of_gate(edge_of_channel),
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
            RootParts::Source(source, splits) => Root::Source(source::SourceRoot::new(&parts, source, splits)),
            RootParts::Gate(gate, edges) => Root::Gate(gate::GateRoot::new(gate, edges)),
        };
        let _ = opened.send(());
        let now = Instant::now();
        let mut pace = Pace { counters, since: now, flushed: now, turn: now };
        loop {
            nodes.now = parts.clock.now_ms();
            if nodes.next_clock().is_some_and(|time| time <= nodes.now) {
                nodes.on_clock().await?;
            }
            let draining = *parts.commands.borrow() == Command::Drain;
            let step = root.step(&mut nodes, draining).await?;
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
                    let timer = nodes.next_clock().map(|time| parts.clock.instant_of(time));
                    let until = [root.not_before(), timer].into_iter().flatten().min();
                    let mut changed = parts.commands.clone();
                    tokio::select! {
                        () = root.ready() => {}
                        () = sleep_to(until) => {}
                        _ = changed.changed(), if !draining => {}
                    }
                    pace.idled();
                    pace.turn = Instant::now();
                }
                Step::End => break,
            }
        }
        nodes.finish().await?;
        pace.worked(nodes.take_waited());
        Ok(())
    }
}

/// Where rows come from, at work.
enum Root {
    Source(source::SourceRoot),
    Gate(gate::GateRoot),
}

impl Root {
    /// Takes what there is, at most a batch of each split, and passes it through the nodes.
    async fn step(&mut self, nodes: &mut Nodes, draining: bool) -> Result<Step, Box<Failure>> {
        match self {
            Self::Source(source) => source.step(nodes, draining).await,
            // What is in the channels was read before the job was told to drain; the sources end, and so will this.
            Self::Gate(gate) => gate.step(nodes).await,
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
    fn not_before(&self) -> Option<Instant> {
        match self {
            Self::Source(source) => source.not_before(),
            Self::Gate(_) => None,
        }
    }
}

/// Divides a task's time into busy, idle and back-pressured.
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
        self.counters.backpressured_ns.fetch_add(waited.as_nanos() as u64, Relaxed);
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

/// Sleeps to an instant; without one, for ever.
async fn sleep_to(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
