//! What a job has done so far.
//!
//! Tasks add to plain atomic counters once a batch; whoever wants to know takes a [`Snapshot`].

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use serde::Serialize;
use weir_connector::Sink;
use weir_connector::sink::Report;

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
    /// nanoseconds spent in this node, guest calls included
    pub busy_ns: AtomicU64,
    /// nanoseconds of guest code
    pub guest_ns: AtomicU64,
    /// bytes of the guest's linear memory
    pub guest_memory_bytes: AtomicU64,
    /// how many of the guest's instances were replaced
    pub renewals: AtomicU64,
    /// rows that came too late for their window or join
    pub late_records: AtomicU64,
    /// batches on which the guest failed
    pub errors: AtomicU64,
    /// guest calls that were made again
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
    /// the watermark that went out last
    pub watermark: AtomicI64,
}

/// The counters of one subtask.
#[derive(Debug, Default)]
pub struct TaskCounters {
    /// nanoseconds of work
    pub busy_ns: AtomicU64,
    /// nanoseconds without input
    pub idle_ns: AtomicU64,
    /// nanoseconds of waiting for room in a channel
    pub backpressured_ns: AtomicU64,
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
    /// operators, summed over subtasks, in the order of the plan
    pub operators: Vec<OperatorSnapshot>,
    /// sinks
    pub sinks: Vec<SinkSnapshot>,
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
    /// seconds of work
    pub busy_seconds: f64,
    /// seconds of guest code
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
    /// guest calls that were made again
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
    /// the least watermark of the subtasks, ms; none before the first
    pub watermark: Option<i64>,
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
            watermark: AtomicI64::new(i64::MIN),
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
            operators: self.operators(),
            sinks,
        }
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
        }
        for ((vertex, _), operator) in &mut operators {
            operator.watermark = operator.watermark.filter(|&w| w != i64::MIN);
            let tasks = || self.tasks.iter().filter(|(v, _, _)| v == vertex).map(|(_, _, t)| t);
            let busy: f64 = tasks().map(|t| seconds(&t.busy_ns)).sum();
            let idle: f64 = tasks().map(|t| seconds(&t.idle_ns)).sum();
            let waiting: f64 = tasks().map(|t| seconds(&t.backpressured_ns)).sum();
            let all = (busy + idle + waiting).max(1e-9);
            (operator.busy_ratio, operator.idle_ratio, operator.backpressured_ratio) = (busy / all, idle / all, waiting / all);
        }
        operators.into_iter().map(|(_, operator)| operator).collect()
    }
}

fn seconds(ns: &AtomicU64) -> f64 {
    ns.load(Relaxed) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of one name are told apart by their place, and those of several subtasks are summed.
    #[test]
    fn operators_are_nodes() {
        let mut nodes = vec![];
        for subtask in 0..2 {
            nodes.push(NodeCounters::new(0, subtask, None, "in".into()));
            nodes.extend((0..2).map(|node| NodeCounters::new(0, subtask, Some(node), "exchange out".into())));
        }
        nodes.iter().zip(1..).for_each(|(node, rows)| node.records_out.store(rows, Relaxed));
        let zero = || AtomicU64::new(0);
        let metrics = JobMetrics {
            started: Instant::now(),
            events_in: zero(),
            bytes_in: zero(),
            malformed: zero(),
            nodes,
            tasks: vec![],
            sinks: vec![],
        };
        let operators: Vec<_> =
            metrics.snapshot().operators.into_iter().map(|o| (o.name, o.parallelism, o.records_out)).collect();
        let exchange = "exchange out".to_owned();
        assert_eq!(operators, [("in".to_owned(), 2, 1 + 4), (exchange.clone(), 2, 2 + 5), (exchange, 2, 3 + 6)]);
    }
}
