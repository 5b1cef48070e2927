//! Drives window operators by steps, and gathers what they emit; alone, or as the subtasks that share the keys of one, and are replaced by others.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use arrow_array::{ArrayRef, Int64Array, UInt32Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use weir_operator::chain::{ChainOperator, Parts};
use weir_operator::emission::Emitted;
use weir_operator::{Body, Context, CopyTime, Predecessor, Progress, Snapshot};
use weir_plan::job::{ChainNode, OnError, Stage};
use weir_state::{Entries, MemoryBackend, StateBackend};
use weir_types::graph::{Chain, ColumnOrigin, Head, Input, OperatorInfo, Output, Partitioning};
use weir_types::key::{group_of, hash_columns, owner, range_of};
use weir_types::{Batch, EventTime, KeyGroupRange, Watermark, graph};

use crate::disk::{Disk, Part};
use crate::native::RowIds;
use crate::reference::Pane;

/// For comparisons in which order does not matter.
pub fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

/// Waits for a future that never waits for anything.
pub fn run<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a native chain does not wait"),
    }
}

/// A row: key, event time, id.
pub type Row = (i64, EventTime, u32);

/// Key groups of the tests.
pub const MAX_PARALLELISM: u16 = 8;

/// Entries that are restored at once.
const CHUNK: usize = 3;

/// A window operator with native accumulators.
pub struct Operator {
    pub chain: ChainOperator,
    pub context: Context,
    pub out: Vec<Emitted>,
}

fn row_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false), Field::new("id", DataType::UInt32, false)]))
}

fn pane_schema() -> SchemaRef {
    let field = |name, data_type| Field::new(name, data_type, true);
    let fields = [("key", DataType::Int64), ("start", DataType::Int64), ("end", DataType::Int64), ("rows", DataType::Utf8)];
    Arc::new(Schema::new(fields.map(|(name, data_type)| field(name, data_type)).to_vec()))
}

fn batch_of(rows: &[Row]) -> Batch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
    let ids: ArrayRef = Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.2)));
    let times = rows.iter().map(|r| r.1).collect::<Vec<_>>();
    Batch::new(rows.len(), vec![keys, ids], Some(times.into()))
}

impl Operator {
    /// The operator of `window`; `slots_max` makes it evict.
    pub fn new(window: graph::Window, stage: Stage, slots_max: Option<usize>) -> Self {
        Self::leaking(window, stage, slots_max, 0)
    }

    /// The same with a guest that leaks so many percent of its memory with every batch.
    pub fn leaking(window: graph::Window, stage: Stage, slots_max: Option<usize>, leak: usize) -> Self {
        let guest = RowIds { leak, ..RowIds::default() };
        Self::of(guest, Box::new(MemoryBackend::default()), window, stage, slots_max)
    }

    pub fn on(backend: Box<dyn StateBackend>, window: graph::Window, stage: Stage, slots_max: Option<usize>) -> Self {
        Self::of(RowIds::default(), backend, window, stage, slots_max)
    }

    fn of(guest: RowIds, backend: Box<dyn StateBackend>, window: graph::Window, stage: Stage, slots_max: Option<usize>) -> Self {
        let computed = Output { name: String::new(), schema: pane_schema(), columns: vec![ColumnOrigin::Computed; 4] };
        let late =
            Output { name: "late".into(), schema: row_schema(), columns: vec![ColumnOrigin::Passed(0), ColumnOrigin::Passed(1)] };
        let chain = Chain {
            operators: vec![OperatorInfo { id: "window".into(), kind: "window".into() }],
            head: Head::Window(window),
            inputs: vec![Input { from: vec![], partitioning: Partitioning::Hash, key: vec![0], columns: vec![1], times: false }],
            outputs: vec![computed, late],
            event_time: None,
            parallelism: None,
            state_schema: None,
        };
        let node = ChainNode {
            component: 0,
            index: 0,
            chain,
            inputs: vec![row_schema()],
            stage,
            on_error: OnError::default(),
            dead_letters: None,
        };
        let parts =
            Parts { body: Body::native(Box::new(guest)), backend, slots_max, bytes_max: None, max_parallelism: MAX_PARALLELISM };
        let chain = ChainOperator::new(&node, &[], Some(parts)).expect("the key can be one");
        Self { chain, context: Context::new("window".into(), vec![row_schema()], OnError::default()), out: vec![] }
    }

    pub fn rows(&mut self, rows: &[Row]) {
        self.batch(Stage::ROWS, &batch_of(rows));
    }

    pub fn batch(&mut self, port: usize, batch: &Batch) {
        run(self.chain.on_batch(port, batch, &mut self.context, &mut self.out)).expect("native chains do not fail");
    }

    pub fn watermark(&mut self, watermark: EventTime) {
        self.context.watermark = Watermark(watermark);
        while run(self.chain.on_watermark(&mut self.context, &mut self.out)).expect("native chains do not fail") == Progress::More
        {
        }
    }

    pub fn clock(&mut self, now: EventTime) {
        self.context.now = now;
        while run(self.chain.on_clock(&mut self.context, &mut self.out)).expect("native chains do not fail") == Progress::More {}
    }

    pub fn barrier(&mut self) {
        run(self.chain.hand_on(&mut self.context, &mut self.out)).expect("native chains do not fail");
    }

    pub fn snapshot(&mut self) -> Snapshot {
        run(self.chain.snapshot(&mut self.context, CopyTime::Barrier))
            .expect("native chains do not fail")
            .expect("windows have state")
    }

    /// Takes over the keys of these groups from operators with these snapshots, in chunks that come in any order.
    pub fn restore(&mut self, snapshots: &[Snapshot], groups: KeyGroupRange) -> Result<(), weir_operator::Error> {
        self.restore_with(&[], snapshots, groups)
    }

    /// As `restore`, where the backend was opened on databases of snapshots with the scalars `databases`.
    pub fn restore_with<'a>(
        &mut self,
        databases: &[serde_json::Value],
        snapshots: &'a [Snapshot],
        groups: KeyGroupRange,
    ) -> Result<(), weir_operator::Error> {
        let before = snapshots.len() as u16;
        let taken_from = |index: usize| range_of(index as u16, before, MAX_PARALLELISM).intersection(groups);
        let predecessor = |(index, of): (usize, &'a Snapshot)| Predecessor { groups: taken_from(index), scalars: &of.scalars };
        let predecessors: Vec<_> = snapshots.iter().enumerate().map(predecessor).collect();
        self.chain.begin_restore(&predecessors, &self.context)?;
        for scalars in databases {
            self.chain.restore_database(scalars, &self.context)?;
        }
        let wanted = |g: u16| groups.start <= g && g < groups.end;
        let entries: Vec<_> = snapshots.iter().flat_map(|s| s.entries.iter()).filter(|e| wanted(e.group.0)).collect();
        for part in entries.chunks(CHUNK).rev() {
            let mut chunk = Entries::default();
            part.iter().for_each(|e| chunk.push(e.group, e.namespace, e.key, e.value));
            self.chain.restore_entries(&chunk, &self.context)?;
        }
        self.chain.finish_restore()
    }

    pub fn next_clock(&mut self) -> Option<EventTime> {
        self.chain.next_clock()
    }

    pub fn slots(&self) -> usize {
        self.chain.slots()
    }

    pub fn late_rows(&self) -> u64 {
        self.chain.late_rows()
    }

    /// How often its guest was replaced.
    pub fn renewals(&self) -> u64 {
        self.chain.body().expect("there is a guest").renewals()
    }

    /// What was emitted since the last call: panes in the order in which they came, and the ids of late rows.
    pub fn take(&mut self) -> (Vec<Pane>, Vec<u32>) {
        let (mut panes, mut late) = (vec![], vec![]);
        for (port, batch) in self.out.drain(..) {
            if port == 1 {
                late.extend(batch.column(1).as_primitive::<UInt32Type>().values());
                continue;
            }
            let long = |c: usize| batch.column(c).as_primitive::<Int64Type>();
            for i in 0..batch.rows() {
                let pane = Pane {
                    key: long(0).value(i),
                    start: long(1).value(i),
                    end: long(2).value(i),
                    rows: batch.column(3).as_string::<i32>().value(i).to_owned(),
                };
                assert_eq!(batch.times().expect("panes have times")[i], pane.end - 1);
                panes.push(pane);
            }
        }
        (panes, late)
    }
}

/// Subtasks of a window: each has the keys of a range of key groups.
pub struct Subtasks {
    window: graph::Window,
    stage: Stage,
    all: Vec<Operator>,
    /// late rows of those that were replaced
    late_before: u64,
    /// what these have emitted
    taken: (Vec<Pane>, Vec<u32>),
    /// where their state is; none = in memory
    disk: Option<Disk>,
    /// how far time is behind for each, by its index; for those beyond, not at all
    lags: Vec<i64>,
}

/// How many subtasks there are, and the slots that each may have.
pub type Start = (u16, Option<usize>);

impl Subtasks {
    pub fn new(window: graph::Window, stage: Stage, (parallelism, slots_max): Start) -> Self {
        let all = (0..parallelism).map(|_| Operator::new(window, stage, slots_max)).collect();
        Self::of(window, stage, all, None)
    }

    /// One subtask whose guest leaks so many percent of its memory with every batch.
    pub fn leaking(window: graph::Window, stage: Stage, slots_max: Option<usize>, leak: usize) -> Self {
        Self::of(window, stage, vec![Operator::leaking(window, stage, slots_max, leak)], None)
    }

    fn of(window: graph::Window, stage: Stage, all: Vec<Operator>, disk: Option<Disk>) -> Self {
        Self { window, stage, all, late_before: 0, taken: (vec![], vec![]), disk, lags: vec![] }
    }

    /// Subtasks whose state is on disk.
    pub fn on_disk(window: graph::Window, stage: Stage, (parallelism, slots_max): Start) -> Self {
        let disk = Disk::new();
        let all = (0..parallelism).map(|_| Operator::on(disk.open(), window, stage, slots_max)).collect();
        Self::of(window, stage, all, Some(disk))
    }

    /// The same where time is so far behind for each of them, and of those who follow.
    pub fn uneven(self, lags: &[i64]) -> Self {
        Self { lags: lags.to_vec(), ..self }
    }

    /// The index of a key's owner.
    pub fn owner_of(&self, key: i64) -> usize {
        let mut hashes = vec![];
        hash_columns(1, &batch_of(&[(key, 0, 0)]).columns()[..1], &mut hashes);
        owner(group_of(hashes[0], MAX_PARALLELISM), self.all.len() as u16, MAX_PARALLELISM).into()
    }

    /// How far the watermark is behind for a subtask.
    pub fn watermark_lag(&self, index: usize) -> i64 {
        self.lags.get(index).copied().unwrap_or(0)
    }

    /// How far the clock is behind for a subtask. Early results go by it alone, for all keys: where there are some, not at all.
    pub fn clock_lag(&self, index: usize) -> i64 {
        if self.window.trigger.early_every_ms.is_some() { 0 } else { self.watermark_lag(index) }
    }

    pub fn is_on_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Makes checkpoints of what is on disk, and goes on.
    pub fn checkpoint(&mut self) {
        let Some(disk) = &self.disk else { return };
        for snapshot in self.all.iter_mut().map(Operator::snapshot) {
            snapshot.changes.map(|changes| disk.write(changes));
        }
    }

    /// Replaces all by others, who go on from snapshots.
    pub fn restart(&mut self, (parallelism, slots_max): Start) {
        let mut snapshots: Vec<Snapshot> = self.all.iter_mut().map(Operator::snapshot).collect();
        for snapshot in &mut snapshots {
            snapshot.entries.sort();
            let keys: Vec<_> = snapshot.entries.iter().map(|e| (e.group, e.namespace, e.key.to_vec())).collect();
            assert!(keys.is_sorted_by(|a, b| a < b), "an entry comes once");
        }
        let before = snapshots.len() as u16;
        let parts: Vec<(Part, serde_json::Value)> = snapshots
            .iter_mut()
            .enumerate()
            .filter_map(|(index, snapshot)| {
                let (dir, beside) = self.disk.as_ref()?.write(snapshot.changes.take()?);
                assert!(beside.is_empty(), "windows have no timers of their own");
                Some(((range_of(index as u16, before, MAX_PARALLELISM), dir), snapshot.scalars.clone()))
            })
            .collect();
        let new = (0..parallelism).map(|index| {
            let groups = range_of(index, parallelism, MAX_PARALLELISM);
            let overlaps = |((of, _), _): &&(Part, _)| of.start < groups.end && groups.start < of.end;
            let (parts, scalars): (Vec<Part>, Vec<_>) = parts.iter().filter(overlaps).cloned().unzip();
            let mut new = match &self.disk {
                None => Operator::new(self.window, self.stage, slots_max),
                Some(disk) if parts.is_empty() => Operator::on(disk.open(), self.window, self.stage, slots_max),
                Some(disk) => Operator::on(disk.open_from(&parts, groups), self.window, self.stage, slots_max),
            };
            new.context.watermark = self.all.iter().map(|old| old.context.watermark).min().expect("there are subtasks");
            new.context.now = self.all.iter().map(|old| old.context.now).max().expect("there are subtasks");
            new.restore_with(&scalars, &snapshots, groups).expect("it is a snapshot of such windows");
            assert_eq!(new.slots(), 0, "state waits until it is asked for");
            new
        });
        let new = new.collect();
        self.late_before = self.late_rows();
        self.taken = self.take();
        self.all = new;
    }

    pub fn rows(&mut self, rows: &[Row]) {
        self.batch(Stage::ROWS, &batch_of(rows));
    }

    /// Deals rows (or partial accumulators) out by their keys, which are the first column.
    pub fn batch(&mut self, port: usize, batch: &Batch) {
        let parallelism = self.all.len() as u16;
        let mut hashes = vec![];
        hash_columns(batch.rows(), &batch.columns()[..1], &mut hashes);
        for (index, operator) in self.all.iter_mut().enumerate() {
            let is_owned = |hash| owner(group_of(hash, MAX_PARALLELISM), parallelism, MAX_PARALLELISM) as usize == index;
            let rows: UInt32Array =
                (0..batch.rows() as u32).filter(|&row| is_owned(hashes[row as usize])).collect::<Vec<_>>().into();
            if !rows.is_empty() {
                operator.batch(port, &batch.take(&rows).expect("rows can be taken"));
            }
        }
    }

    pub fn watermark(&mut self, watermark: EventTime) {
        for index in 0..self.all.len() {
            let lag = if watermark == EventTime::MAX { 0 } else { self.watermark_lag(index) };
            self.all[index].watermark(watermark - lag);
        }
    }

    /// The time is so late: those look at it for whom it is.
    pub fn clock(&mut self, now: EventTime) {
        for index in 0..self.all.len() {
            let now = now - self.clock_lag(index);
            let operator = &mut self.all[index];
            if operator.next_clock().is_some_and(|next| next <= now) {
                operator.clock(now);
            } else {
                operator.context.now = now;
            }
        }
    }

    /// It is as late as it was: rows come.
    pub fn set_now(&mut self, now: EventTime) {
        for index in 0..self.all.len() {
            self.all[index].context.now = now - self.clock_lag(index);
        }
    }

    pub fn barrier(&mut self) {
        self.all.iter_mut().for_each(Operator::barrier);
    }

    /// The most slots of a subtask.
    pub fn slots(&self) -> usize {
        self.all.iter().map(Operator::slots).max().unwrap_or(0)
    }

    /// How often guests of those that there are now were replaced.
    pub fn renewals(&self) -> u64 {
        self.all.iter().map(Operator::renewals).sum()
    }

    pub fn late_rows(&self) -> u64 {
        self.late_before + self.all.iter().map(Operator::late_rows).sum::<u64>()
    }

    pub fn take(&mut self) -> (Vec<Pane>, Vec<u32>) {
        let (mut panes, mut late) = std::mem::take(&mut self.taken);
        for operator in &mut self.all {
            let (new_panes, new_late) = operator.take();
            panes.extend(new_panes);
            late.extend(new_late);
        }
        (panes, late)
    }
}
