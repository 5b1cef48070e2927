//! Drives process operators by steps, and gathers what they emit; alone, or as the subtasks that share the keys of one, and are replaced by others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread::JoinHandle;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use weir_operator::chain::{ChainOperator, Parts};
use weir_operator::emission::Emitted;
use weir_operator::snapshot::read_database;
use weir_operator::{Body, Context, CopyTime, Error, NativeChain, Predecessor, Progress, Snapshot};
use weir_plan::job::{ChainNode, OnError, Stage};
use weir_state::{Entries, MemoryBackend, StateBackend, expiry};
use weir_types::graph::{Chain, ColumnOrigin, Head, Input, OperatorInfo, Output, Partitioning};
use weir_types::key::{group_of, hash_u64, owner, range_of};
use weir_types::{Batch, EventTime, KeyGroupRange, Watermark};

use crate::disk::{Disk, Part};
use crate::native::{Counts, Rearm};

/// Waits for a future that never waits for anything.
pub fn run<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a native chain does not wait"),
    }
}

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// nothing: it is only counted
    Count,
    /// the count is zero again
    Forget,
    /// a timer is set
    Set,
    /// a timer is deleted
    Delete,
    /// a timer in processing time is set
    SetClock,
    /// a cleanup is set: then the count is zero again
    SetCleanup,
    /// the count lives until then, at least; some of it has expired once time comes to the first such time
    Live,
}

impl Op {
    pub const ALL: [Self; 7] = [Self::Count, Self::Forget, Self::Set, Self::Delete, Self::SetClock, Self::SetCleanup, Self::Live];

    /// What entries of a snapshot with cleanups in event time begin with.
    const CLEANUP: usize = 3;

    pub fn of(number: i64) -> Self {
        Self::ALL[number as usize]
    }

    /// The time of a cleanup that was set: none at which a count ends.
    pub fn cleans_up_at(time: EventTime) -> EventTime {
        time & !1
    }

    /// What is left of a count of which some has expired.
    pub fn some_expired(count: u64) -> u64 {
        if count > 1 { count - 1 } else { count }
    }

    /// The time at which a count ends.
    pub fn lives_until(time: EventTime) -> EventTime {
        time | 1
    }
}

/// A row: key, what it says, the time of a timer.
pub type Row = (i64, Op, EventTime);

/// What comes out: key, count, the time of the timer or the least one for a row.
pub type Result = (i64, i64, EventTime);

/// Key groups of the tests.
pub const MAX_PARALLELISM: u16 = 8;

/// Entries that are restored at once.
const CHUNK: usize = 3;

/// A process operator over a keyed input and a broadcast one.
pub struct Operator {
    pub chain: ChainOperator,
    pub context: Context,
    out: Vec<Emitted>,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(["a", "b", "c"].map(|name| Field::new(name, DataType::Int64, false)).to_vec()))
}

/// The operator of a node.
pub fn chain_of(
    node: &ChainNode,
    native: Box<dyn NativeChain>,
    slots_max: Option<usize>,
    bytes_max: Option<u64>,
) -> ChainOperator {
    chain_on(Box::new(MemoryBackend::default()), node, native, slots_max, bytes_max)
}

fn chain_on(
    backend: Box<dyn StateBackend>,
    node: &ChainNode,
    native: Box<dyn NativeChain>,
    slots_max: Option<usize>,
    bytes_max: Option<u64>,
) -> ChainOperator {
    let parts = Parts { body: Body::native(native), backend, slots_max, bytes_max, max_parallelism: MAX_PARALLELISM };
    ChainOperator::new(node, &[], Some(parts)).expect("the key can be one")
}

/// Lets a chain take over the keys of these groups from chains with these snapshots, in chunks that come in any order.
pub fn restore(
    chain: &mut ChainOperator,
    context: &Context,
    snapshots: &[Snapshot],
    groups: KeyGroupRange,
) -> std::result::Result<(), Error> {
    let predecessors: Vec<_> = snapshots.iter().map(|of| Predecessor { groups, scalars: &of.scalars }).collect();
    chain.begin_restore(&predecessors, context)?;
    let wanted = |g: u16| groups.start <= g && g < groups.end;
    let entries: Vec<_> = snapshots.iter().flat_map(|s| s.entries.iter()).filter(|e| wanted(e.group.0)).collect();
    for part in entries.chunks(CHUNK).rev() {
        let mut chunk = Entries::default();
        part.iter().for_each(|e| chunk.push(e.group, e.namespace, e.key, e.value));
        chain.restore_entries(&chunk, context)?;
    }
    if let Some(state) = snapshots.first().and_then(|s| s.operator_state.as_ref()) {
        run(chain.restore_operator_state(state, context))?;
    }
    chain.finish_restore()
}

/// Checks that no entry of a snapshot comes twice.
pub fn check_snapshot(snapshot: &mut Snapshot) {
    snapshot.entries.sort();
    let keys: Vec<_> = snapshot.entries.iter().map(|e| (e.group, e.namespace, e.key.to_vec())).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "an entry comes once");
}

impl Operator {
    pub fn new(counts: Counts, slots_max: Option<usize>, bytes_max: Option<u64>) -> Self {
        Self::on(Box::new(MemoryBackend::default()), counts, slots_max, bytes_max)
    }

    pub fn on(backend: Box<dyn StateBackend>, counts: Counts, slots_max: Option<usize>, bytes_max: Option<u64>) -> Self {
        let input = |partitioning, key: Vec<usize>| Input { from: vec![], partitioning, key, columns: vec![1, 2], times: false };
        let chain = Chain {
            operators: vec![OperatorInfo { id: "counts".into(), kind: "process".into() }],
            head: Head::Process,
            inputs: vec![input(Partitioning::Hash, vec![0]), input(Partitioning::Broadcast, vec![])],
            outputs: vec![Output { name: String::new(), schema: schema(), columns: vec![ColumnOrigin::Computed; 3] }],
            event_time: None,
            parallelism: None,
            state_schema: None,
        };
        let node = ChainNode {
            component: 0,
            index: 7,
            chain,
            inputs: vec![schema(); 2],
            stage: Stage::Complete,
            on_error: OnError::default(),
            dead_letters: None,
        };
        let chain = chain_on(backend, &node, Box::new(counts), slots_max, bytes_max);
        Self { chain, context: Context::new("counts".into(), vec![schema(); 2], OnError::default()), out: vec![] }
    }

    fn batch(&mut self, port: usize, rows: &[Row]) {
        let column = |of: fn(&Row) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(of))) };
        let columns = vec![column(|r| r.0), column(|r| r.1 as i64), column(|r| r.2)];
        let batch = Batch::new(rows.len(), columns, None);
        run(self.chain.on_batch(port, &batch, &mut self.context, &mut self.out)).expect("counting does not fail");
    }

    pub fn rows(&mut self, rows: &[Row]) {
        if !rows.is_empty() {
            self.batch(0, rows);
        }
    }

    pub fn broadcast(&mut self, rows: usize) {
        self.batch(1, &vec![(0, Op::Count, 0); rows]);
    }

    /// Advances the watermark; returns in how many steps.
    pub fn watermark(&mut self, watermark: EventTime) -> std::result::Result<usize, Error> {
        self.context.watermark = Watermark(watermark);
        let mut steps = 1;
        while run(self.chain.on_watermark(&mut self.context, &mut self.out))? == Progress::More {
            steps += 1;
        }
        Ok(steps)
    }

    pub fn clock(&mut self, now: EventTime) {
        self.context.now = now;
        if self.chain.next_clock().is_some_and(|next| next <= now) {
            while run(self.chain.on_clock(&mut self.context, &mut self.out)).expect("timers do not fail") == Progress::More {}
        }
    }

    pub fn snapshot(&mut self) -> Snapshot {
        self.snapshot_at(CopyTime::Barrier)
    }

    pub fn snapshot_at(&mut self, time: CopyTime) -> Snapshot {
        let snapshot = run(self.chain.snapshot(&mut self.context, time)).expect("counting does not fail");
        let mut snapshot = snapshot.expect("a process function has state");
        check_snapshot(&mut snapshot);
        snapshot
    }

    /// Makes some of the copies that a snapshot waits for.
    pub fn copy_on(&mut self) {
        run(self.chain.copy_on(&mut self.context)).expect("counting does not fail");
    }

    pub fn restore(&mut self, snapshots: &[Snapshot], groups: KeyGroupRange) -> std::result::Result<(), Error> {
        restore(&mut self.chain, &self.context, snapshots, groups)
    }

    /// What was emitted since the last call, sorted.
    pub fn take(&mut self) -> Vec<Result> {
        let mut results = self.take_in_order();
        results.sort_unstable();
        results
    }

    /// What was emitted since the last call.
    pub fn take_in_order(&mut self) -> Vec<Result> {
        let mut results = vec![];
        for (_, batch) in self.out.drain(..) {
            let long = |c: usize| batch.column(c).as_primitive::<Int64Type>();
            results.extend((0..batch.rows()).map(|i| (long(0).value(i), long(1).value(i), long(2).value(i))));
        }
        results
    }
}

/// Subtasks of a process function: each has the keys of a range of key groups.
pub struct Subtasks {
    rearm: Rearm,
    pub all: Vec<Operator>,
    /// where their state is; none = in memory
    disk: Option<Disk>,
    /// the checkpoints of their databases that are being made
    begun: Vec<(JoinHandle<(PathBuf, Entries)>, serde_json::Value)>,
}

/// What a checkpoint has.
#[derive(Debug, Default, PartialEq)]
pub struct Contents {
    /// by key: counts other than zero
    pub counts: BTreeMap<i64, i64>,
    /// by kind: times and keys; those without which a count that expires may do are left out
    pub timers: [BTreeSet<(EventTime, i64)>; 4],
}

/// How many subtasks there are, and the slots that each may have.
pub type Start = (u16, Option<usize>);

impl Subtasks {
    pub fn new(rearm: Rearm, (parallelism, slots_max): Start) -> Self {
        let new = |_| Operator::new(Counts { rearm, ..Counts::default() }, slots_max, None);
        Self { rearm, all: (0..parallelism).map(new).collect(), disk: None, begun: vec![] }
    }

    /// Subtasks whose state is on disk.
    pub fn on_disk(rearm: Rearm, (parallelism, slots_max): Start) -> Self {
        let disk = Disk::new();
        let new = |_| Operator::on(disk.open(), Counts { rearm, ..Counts::default() }, slots_max, None);
        Self { rearm, all: (0..parallelism).map(new).collect(), disk: Some(disk), begun: vec![] }
    }

    pub fn is_on_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Begins to make checkpoints of what is on disk, and goes on: what has changed is copied later.
    pub fn begin_checkpoint(&mut self) {
        let Some(disk) = &self.disk else { return };
        for operator in &mut self.all {
            let snapshot = operator.snapshot_at(CopyTime::Later);
            self.begun.push((disk.begin(snapshot.changes.expect("its state is on disk")), snapshot.scalars));
        }
    }

    /// Makes some of the copies that checkpoints wait for.
    pub fn copy_on(&mut self) {
        self.all.iter_mut().for_each(Operator::copy_on);
    }

    /// Completes the checkpoints that were begun, and returns what they have.
    pub fn complete_checkpoint(&mut self) -> Option<Contents> {
        while self.all.iter().any(|operator| operator.chain.is_copying()) {
            self.copy_on();
        }
        let disk = self.disk.as_ref().filter(|_| !self.begun.is_empty())?;
        let mut contents = Contents::default();
        for (begun, scalars) in self.begun.drain(..) {
            let all = KeyGroupRange { start: 0, end: MAX_PARALLELISM };
            let (dir, mut entries) = begun.join().expect("it does not panic");
            let mut database = disk.open_from(&[(all, dir)], all);
            read_database(&mut *database, &scalars, all, &mut entries).expect("it has entries of operators");
            for entry in entries.iter() {
                let (kind, key) = entry.key.split_first().expect("an entry's key begins with its kind");
                let key = i64::from_be_bytes(key.try_into().expect("keys are numbers"));
                let is_new = match usize::from(*kind) {
                    0 => {
                        let (expiry, state) = expiry::decode(entry.value).expect("it says when it expires");
                        let count = u64::from_le_bytes(*state.first_chunk().expect("counts are numbers"));
                        // What comes back from it is cleaned up first.
                        let is_due = expiry.is_some_and(|expiry| Some(expiry.first) <= scalars["expiry"]["clocks"][0].as_i64());
                        let count = if is_due { Op::some_expired(count) } else { count };
                        contents.counts.insert(key, count as i64).is_none()
                    }
                    timer if timer == Op::CLEANUP && Op::lives_until(entry.namespace) == entry.namespace => true,
                    timer => contents.timers[timer - 1].insert((entry.namespace, key)),
                };
                assert!(is_new, "a key is in one subtask, and a timer is near or far");
            }
        }
        Some(contents)
    }

    /// Replaces all by others, who go on from snapshots.
    pub fn restart(&mut self, start: Start) {
        let mut snapshots: Vec<Snapshot> = self.all.iter_mut().map(Operator::snapshot).collect();
        if let Some(disk) = self.disk.take() {
            return self.restart_on(disk, &mut snapshots, start);
        }
        let old = std::mem::replace(self, Self::new(self.rearm, start));
        for (index, operator) in self.all.iter_mut().enumerate() {
            operator.context.watermark = old.all[0].context.watermark;
            operator.context.now = old.all[0].context.now;
            operator.restore(&snapshots, range_of(index as u16, start.0, MAX_PARALLELISM)).expect("it is a snapshot of counts");
            assert_eq!(operator.chain.slots(), 0, "state waits until it is asked for");
        }
    }

    fn restart_on(&mut self, disk: Disk, snapshots: &mut [Snapshot], (parallelism, slots_max): Start) {
        let before = snapshots.len() as u16;
        let parts: Vec<(Part, serde_json::Value)> = snapshots
            .iter_mut()
            .enumerate()
            .map(|(index, snapshot)| {
                let (dir, beside) = disk.write(snapshot.changes.take().expect("its state is on disk"));
                snapshot.entries.append(beside);
                check_snapshot(snapshot);
                ((range_of(index as u16, before, MAX_PARALLELISM), dir), snapshot.scalars.clone())
            })
            .collect();
        let (watermark, now) = (self.all[0].context.watermark, self.all[0].context.now);
        self.all.clear();
        for index in 0..parallelism {
            let groups = range_of(index, parallelism, MAX_PARALLELISM);
            let overlaps = |((of, _), _): &&(Part, _)| of.start < groups.end && groups.start < of.end;
            let (parts, scalars): (Vec<Part>, Vec<_>) = parts.iter().filter(overlaps).cloned().unzip();
            let counts = Counts { rearm: self.rearm, ..Counts::default() };
            let mut operator = Operator::on(disk.open_from(&parts, groups), counts, slots_max, None);
            operator.context.watermark = watermark;
            operator.context.now = now;
            for scalars in &scalars {
                operator.chain.restore_database(scalars, &operator.context).expect("it is a database of counts");
            }
            operator.restore(snapshots, groups).expect("it is a snapshot of counts");
            self.all.push(operator);
        }
        self.disk = Some(disk);
    }

    pub fn rows(&mut self, rows: &[Row]) {
        let parallelism = self.all.len() as u16;
        let owner_of = |key: i64| owner(group_of(hash_u64(key as u64), MAX_PARALLELISM), parallelism, MAX_PARALLELISM);
        for (index, operator) in self.all.iter_mut().enumerate() {
            let rows: Vec<Row> = rows.iter().copied().filter(|row| usize::from(owner_of(row.0)) == index).collect();
            operator.rows(&rows);
        }
    }

    pub fn broadcast(&mut self, rows: usize) {
        self.all.iter_mut().for_each(|operator| operator.broadcast(rows));
    }

    pub fn watermark(&mut self, watermark: EventTime) {
        self.all.iter_mut().for_each(|operator| _ = operator.watermark(watermark).expect("the timers end"));
    }

    pub fn clock(&mut self, now: EventTime) {
        self.all.iter_mut().for_each(|operator| operator.clock(now));
    }

    /// What was emitted since the last call, sorted.
    pub fn take(&mut self) -> Vec<Result> {
        let mut results: Vec<Result> = self.all.iter_mut().flat_map(Operator::take).collect();
        results.sort_unstable();
        results
    }
}
