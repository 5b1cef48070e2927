//! What a job has done so far.
//!
//! Tasks add to plain atomic counters once a batch; whoever wants to know takes a [`Snapshot`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;
use serde::Serialize;
use weir_connector::Sink;
use weir_connector::sink::Report;
use weir_exchange::Waits;
use weir_state::rocks::Stats;

use crate::uploads::Uploads;

/// The counters of one node of one subtask (or of the subtask's root).
#[derive(Debug)]
pub struct NodeCounters {
    /// index of the vertex
    pub vertex: usize,
    /// index of the subtask
    pub subtask: u16,
    /// index of the node in its vertex; none = the root
    pub node: Option<usize>,
    /// operator ids, joined
    pub name: String,
    /// rows in
    pub records_in: AtomicU64,
    /// rows out
    pub records_out: AtomicU64,
    /// bytes in
    pub bytes_in: AtomicU64,
    /// bytes out
    pub bytes_out: AtomicU64,
    /// nanoseconds spent in this node, guest calls and what the guest does to start included; of the root: reading, decoding, generating, and taking what comes by
    /// an exchange
    pub busy_ns: AtomicU64,
    /// nanoseconds of CPU time of guest code, from the guest's start on
    pub guest_ns: AtomicU64,
    /// bytes of the guest's linear memory
    pub guest_memory_bytes: AtomicU64,
    /// how many of the guest's instances were replaced
    pub renewals: AtomicU64,
    /// rows that came too late for their window or join
    pub late_records: AtomicU64,
    /// batches on which the guest failed
    pub errors: AtomicU64,
    /// guest calls that were made again; where there is state, rows that were given again
    pub retries: AtomicU64,
    /// rows passed over because the guest failed on them
    pub skipped_records: AtomicU64,
    /// rows that became dead letters
    pub dead_letters: AtomicU64,
    /// keys (with windows) that have state in the guest
    pub slots: AtomicU64,
    /// slots moved from the guest to the state backend
    pub evictions: AtomicU64,
    /// the room that the state backend takes, bytes; looked at when state is moved there
    pub backend_bytes: AtomicU64,
    /// of the state backend, if it has a database; looked at when state is moved there, and at barriers
    pub database: Mutex<Option<Stats>>,
    /// the watermark that went out last
    pub watermark: AtomicI64,
    /// of a source: how many events it is behind; `NO_LAG` = not known
    pub lag_records: AtomicU64,
}

/// Stands for a lag that is not known.
pub(crate) const NO_LAG: u64 = u64::MAX;

/// The counters of one subtask.
#[derive(Debug, Default)]
pub struct TaskCounters {
    /// nanoseconds of work
    pub busy_ns: AtomicU64,
    /// nanoseconds without input
    pub idle_ns: AtomicU64,
    /// the time of waiting for room in a channel, with the wait that lasts
    pub backpressured: Arc<Waits>,
}

/// What the coordinator measures of an attempt to run a job.
#[derive(Debug, Default)]
pub struct RecoveryCounters {
    /// nanoseconds from the attempt's start until all tasks ran; 0 = they do not yet, or it has started from nothing
    pub restore_ns: AtomicU64,
    /// nanoseconds that sinks took for the last commit; 0 = there was none
    pub commit_ns: AtomicU64,
    /// transactions that sinks have prepared and nobody has committed
    pub transactions_pending: AtomicU64,
}

/// Everything that is counted for a job.
pub struct JobMetrics {
    pub(crate) started: Instant,
    pub(crate) events_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) nodes: Vec<NodeCounters>,
    pub(crate) tasks: Vec<(usize, u16, TaskCounters)>,
    pub(crate) sinks: Vec<(String, Box<dyn Sink>)>,
    pub(crate) uploads: Arc<Uploads>,
    pub(crate) recovery: RecoveryCounters,
    /// whether the input ends by itself
    pub(crate) ends: bool,
    /// whether sources had more to read when they were told to stop
    pub(crate) cut_short: AtomicBool,
}

/// What a job has done at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// since the job was deployed
    pub seconds: f64,
    /// events that sources have given
    pub events_in: u64,
    /// bytes of the outside that sources have read
    pub bytes_in: u64,
    /// malformed events that sources passed over
    pub malformed: u64,
    /// rows that sinks have taken
    pub rows_out: u64,
    /// bytes that were uploaded for checkpoints, also for those that were given up
    pub bytes_uploaded: u64,
    /// how it starts from checkpoints, and commits them
    pub recovery: RecoverySnapshot,
    /// operators, summed over subtasks, in the order of the plan
    pub operators: Vec<OperatorSnapshot>,
    /// sinks
    pub sinks: Vec<SinkSnapshot>,
}

/// How an attempt to run a job started from a checkpoint, and commits others.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RecoverySnapshot {
    /// seconds from the attempt's start until all tasks ran; none = they do not yet, or it has started from nothing
    pub restore_seconds: Option<f64>,
    /// seconds that sinks took for the last commit of transactions; none = there was none
    pub commit_seconds: Option<f64>,
    /// transactions that sinks have prepared and that are not known to be committed
    pub transactions_pending: u64,
    /// checkpoints that have begun and are neither complete nor given up
    pub checkpoints_in_flight: u64,
}

/// What one operator (chain) has done, over all subtasks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OperatorSnapshot {
    /// operator ids, joined
    pub name: String,
    /// subtasks
    pub parallelism: u16,
    /// rows in
    pub records_in: u64,
    /// rows out
    pub records_out: u64,
    /// bytes in
    pub bytes_in: u64,
    /// bytes out
    pub bytes_out: u64,
    /// seconds of its own work, not of the operators behind it; what its guest does to start is a part of it
    pub busy_seconds: f64,
    /// seconds for which the operator's tasks had no input
    pub idle_seconds: f64,
    /// seconds for which the operator's tasks waited for room in a channel
    pub backpressured_seconds: f64,
    /// seconds of CPU time of guest code, from the guest's start on; a part of `busy_seconds`
    pub guest_seconds: f64,
    /// share of time that the operator's tasks worked, had no input, waited for room (0 to 1 each)
    pub busy_ratio: f64,
    /// see `busy_ratio`
    pub idle_ratio: f64,
    /// see `busy_ratio`
    pub backpressured_ratio: f64,
    /// bytes of guest memory
    pub guest_memory_bytes: u64,
    /// guest instances that were replaced: their memory had grown, or they had failed
    pub renewals: u64,
    /// rows too late for their window or join
    pub late_records: u64,
    /// batches on which the guest failed
    pub errors: u64,
    /// guest calls that were made again; where there is state, rows that were given again
    pub retries: u64,
    /// rows passed over because the guest failed on them
    pub skipped_records: u64,
    /// rows that became dead letters
    pub dead_letters: u64,
    /// keys (with windows) in guest memory
    pub slots: u64,
    /// slots moved from guest memory to the state backend
    pub evictions: u64,
    /// the room that the state backend takes, bytes
    pub backend_bytes: u64,
    /// the databases of its state; none if it has none
    #[serde(skip)]
    pub database: Option<Stats>,
    /// the least watermark of the subtasks, ms; none before the first
    pub watermark: Option<i64>,
    /// of a source: how many events that are there it has not read yet, as far as its subtasks know; none = they cannot tell
    pub lag_records: Option<u64>,
}

/// What a sink has written.
#[derive(Clone, Debug, Serialize)]
pub struct SinkSnapshot {
    /// the name that the spec binds
    pub name: String,
    /// what it says
    #[serde(flatten)]
    pub report: Report,
}

impl NodeCounters {
    pub(crate) fn new(vertex: usize, subtask: u16, node: Option<usize>, name: String) -> Self {
        Self {
            vertex,
            subtask,
            node,
            name,
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            guest_ns: AtomicU64::new(0),
            guest_memory_bytes: AtomicU64::new(0),
            renewals: AtomicU64::new(0),
            late_records: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            skipped_records: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            slots: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            backend_bytes: AtomicU64::new(0),
            database: Mutex::new(None),
            watermark: AtomicI64::new(i64::MIN),
            lag_records: AtomicU64::new(NO_LAG),
        }
    }
}

impl JobMetrics {
    /// What the job has done until now.
    pub fn snapshot(&self) -> Snapshot {
        let sinks: Vec<_> =
            self.sinks.iter().map(|(name, sink)| SinkSnapshot { name: name.clone(), report: sink.report() }).collect();
        Snapshot {
            seconds: self.started.elapsed().as_secs_f64(),
            events_in: self.events_in.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            malformed: self.malformed.load(Relaxed),
            rows_out: sinks.iter().map(|s| s.report.rows).sum(),
            bytes_uploaded: self.uploads.bytes(),
            recovery: self.recovery_snapshot(),
            operators: self.operators(),
            sinks,
        }
    }

    /// Its checkpoints that are under way; live.
    pub fn uploads(&self) -> &Arc<Uploads> {
        &self.uploads
    }

    /// What the coordinator measures; live.
    pub fn recovery(&self) -> &RecoveryCounters {
        &self.recovery
    }

    fn recovery_snapshot(&self) -> RecoverySnapshot {
        let RecoveryCounters { restore_ns, commit_ns, transactions_pending } = &self.recovery;
        let measured = |ns: &AtomicU64| Some(seconds(ns)).filter(|&seconds| seconds > 0.0);
        RecoverySnapshot {
            restore_seconds: measured(restore_ns),
            commit_seconds: measured(commit_ns),
            transactions_pending: transactions_pending.load(Relaxed),
            checkpoints_in_flight: self.uploads.under_way().iter().filter(|one| one.savepoint.is_none()).count() as u64,
        }
    }

    /// Whether the job's input ends by itself: that of each of its sources.
    pub fn ends(&self) -> bool {
        self.ends
    }

    /// Whether the job was told to stop before the end of its input. Known once it has ended.
    pub fn is_cut_short(&self) -> bool {
        self.cut_short.load(Relaxed)
    }

    /// When the job was deployed.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Sums over subtasks. The nodes of a vertex are in the same order in each.
    fn operators(&self) -> Vec<OperatorSnapshot> {
        let mut operators: Vec<((usize, Option<usize>), OperatorSnapshot)> = vec![];
        for node in &self.nodes {
            let place = (node.vertex, node.node);
            let operator = match operators.iter_mut().find(|(known, _)| *known == place) {
                Some((_, operator)) => operator,
                None => {
                    operators.push((place, OperatorSnapshot { name: node.name.clone(), ..Default::default() }));
                    &mut operators.last_mut().expect("just pushed").1
                }
            };
            let watermark = node.watermark.load(Relaxed);
            operator.watermark = match (operator.parallelism, operator.watermark) {
                (0, _) => Some(watermark),
                (_, least) => least.map(|w| w.min(watermark)),
            };
            operator.parallelism += 1;
            operator.records_in += node.records_in.load(Relaxed);
            operator.records_out += node.records_out.load(Relaxed);
            operator.bytes_in += node.bytes_in.load(Relaxed);
            operator.bytes_out += node.bytes_out.load(Relaxed);
            operator.busy_seconds += seconds(&node.busy_ns);
            operator.guest_seconds += seconds(&node.guest_ns);
            operator.guest_memory_bytes += node.guest_memory_bytes.load(Relaxed);
            operator.renewals += node.renewals.load(Relaxed);
            operator.late_records += node.late_records.load(Relaxed);
            operator.errors += node.errors.load(Relaxed);
            operator.retries += node.retries.load(Relaxed);
            operator.skipped_records += node.skipped_records.load(Relaxed);
            operator.dead_letters += node.dead_letters.load(Relaxed);
            operator.slots += node.slots.load(Relaxed);
            operator.evictions += node.evictions.load(Relaxed);
            operator.backend_bytes += node.backend_bytes.load(Relaxed);
            if let Some(stats) = *node.database.lock() {
                *operator.database.get_or_insert_default() += stats;
            }
            let lag = node.lag_records.load(Relaxed);
            if lag != NO_LAG {
                *operator.lag_records.get_or_insert(0) += lag;
            }
        }
        for ((vertex, _), operator) in &mut operators {
            operator.watermark = operator.watermark.filter(|&w| w != i64::MIN);
            let tasks = || self.tasks.iter().filter(|(v, _, _)| v == vertex).map(|(_, _, t)| t);
            let busy: f64 = tasks().map(|t| seconds(&t.busy_ns)).sum();
            let idle: f64 = tasks().map(|t| seconds(&t.idle_ns)).sum();
            let waiting: f64 = tasks().map(|t| t.backpressured.total().as_secs_f64()).sum();
            let all = (busy + idle + waiting).max(1e-9);
            (operator.busy_ratio, operator.idle_ratio, operator.backpressured_ratio) = (busy / all, idle / all, waiting / all);
            (operator.idle_seconds, operator.backpressured_seconds) = (idle, waiting);
        }
        operators.into_iter().map(|(_, operator)| operator).collect()
    }
}

fn seconds(ns: &AtomicU64) -> f64 {
    ns.load(Relaxed) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn metrics(nodes: Vec<NodeCounters>, tasks: Vec<(usize, u16, TaskCounters)>) -> JobMetrics {
        let zero = || AtomicU64::new(0);
        JobMetrics {
            started: Instant::now(),
            events_in: zero(),
            bytes_in: zero(),
            malformed: zero(),
            nodes,
            tasks,
            sinks: vec![],
            uploads: Arc::default(),
            recovery: RecoveryCounters::default(),
            ends: true,
            cut_short: AtomicBool::new(false),
        }
    }

    /// Nodes of one name are told apart by their place, and those of several subtasks are summed.
    #[test]
    fn operators_are_nodes() {
        let mut nodes = vec![];
        for subtask in 0..2 {
            nodes.push(NodeCounters::new(0, subtask, None, "in".into()));
            nodes.extend((0..2).map(|node| NodeCounters::new(0, subtask, Some(node), "exchange out".into())));
        }
        nodes.iter().zip(1..).for_each(|(node, rows)| node.records_out.store(rows, Relaxed));
        let operators: Vec<_> =
            metrics(nodes, vec![]).snapshot().operators.into_iter().map(|o| (o.name, o.parallelism, o.records_out)).collect();
        let exchange = "exchange out".to_owned();
        assert_eq!(operators, [("in".to_owned(), 2, 1 + 4), (exchange.clone(), 2, 2 + 5), (exchange, 2, 3 + 6)]);
    }

    /// An operator's own time is its nodes', what it waited is its tasks', and its lag is that of the subtasks that know theirs.
    #[test]
    fn times_and_lags_are_summed() {
        let (mut nodes, mut tasks) = (vec![], vec![]);
        for subtask in 0..3 {
            let node = |node, name: &str| NodeCounters::new(0, subtask, node, name.to_owned());
            let (root, node) = (node(None, "in"), node(Some(0), "out"));
            root.busy_ns.store(1_000_000_000, Relaxed);
            node.busy_ns.store(2_000_000_000, Relaxed);
            if subtask > 0 {
                root.lag_records.store(10 * u64::from(subtask), Relaxed);
            }
            nodes.extend([root, node]);
            let [busy_ns, idle_ns] = [3_000_000_000, 4_000_000_000].map(AtomicU64::new);
            let backpressured = Arc::new(Waits::from(Duration::from_millis(500)));
            tasks.push((0, subtask, TaskCounters { busy_ns, idle_ns, backpressured }));
        }
        let times = |o: &OperatorSnapshot| (o.busy_seconds, o.idle_seconds, o.backpressured_seconds, o.lag_records);
        let found: Vec<_> = metrics(nodes, tasks).snapshot().operators.iter().map(times).collect();
        assert_eq!(found, [(3.0, 12.0, 1.5, Some(30)), (6.0, 12.0, 1.5, None)]);
    }

    /// Goal: the figures of an operator's databases are summed over the subtasks that have one; an operator without any has none.
    #[test]
    fn databases_are_summed() {
        let database =
            Stats { live_bytes: 1, write_buffer_bytes: 20, pending_compaction_bytes: 300, file_bytes: 4000, file_count: 5 };
        let mut nodes = vec![];
        for subtask in 0..3 {
            let kept = NodeCounters::new(0, subtask, Some(0), "count".to_owned());
            *kept.database.lock() = (subtask > 0).then_some(database);
            nodes.extend([kept, NodeCounters::new(0, subtask, Some(1), "out".to_owned())]);
        }
        let snapshot = metrics(nodes, vec![]).snapshot();
        let twice =
            Stats { live_bytes: 2, write_buffer_bytes: 40, pending_compaction_bytes: 600, file_bytes: 8000, file_count: 10 };
        assert_eq!(snapshot.operators.iter().map(|o| o.database).collect::<Vec<_>>(), [Some(twice), None]);
    }
}
