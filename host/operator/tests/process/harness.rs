//! Drives process operators by steps, and gathers what they emit.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use weir_operator::chain::{ChainOperator, Parts};
use weir_operator::emission::Emitted;
use weir_operator::{Body, Context, Error, Progress};
use weir_plan::job::{ChainNode, Stage};
use weir_state::MemoryBackend;
use weir_types::graph::{Chain, ColumnOrigin, Head, Input, OperatorInfo, Output, Partitioning};
use weir_types::{Batch, EventTime, Watermark};

use crate::native::Counts;

/// Waits for a future that never waits for anything.
fn run<F: Future>(future: F) -> F::Output {
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
}

impl Op {
    pub const ALL: [Self; 5] = [Self::Count, Self::Forget, Self::Set, Self::Delete, Self::SetClock];

    pub fn of(number: i64) -> Self {
        Self::ALL[number as usize]
    }
}

/// A row: key, what it says, the time of a timer.
pub type Row = (i64, Op, EventTime);

/// What comes out: key, count, the time of the timer or the least one for a row.
pub type Result = (i64, i64, EventTime);

/// A process operator over a keyed input and a broadcast one.
pub struct Operator {
    pub chain: ChainOperator,
    pub context: Context,
    out: Vec<Emitted>,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(["a", "b", "c"].map(|name| Field::new(name, DataType::Int64, false)).to_vec()))
}

impl Operator {
    pub fn new(counts: Counts, slots_max: Option<usize>, bytes_max: Option<u64>) -> Self {
        let input = |partitioning, key: Vec<usize>| Input { from: vec![], partitioning, key, columns: vec![1, 2], times: false };
        let chain = Chain {
            operators: vec![OperatorInfo { id: "counts".into(), kind: "process".into() }],
            head: Head::Process,
            inputs: vec![input(Partitioning::Hash, vec![0]), input(Partitioning::Broadcast, vec![])],
            outputs: vec![Output { name: String::new(), schema: schema(), columns: vec![ColumnOrigin::Computed; 3] }],
            event_time: None,
            parallelism: None,
        };
        let node = ChainNode { component: 0, index: 7, chain, inputs: vec![schema(); 2], stage: Stage::Complete };
        let parts = Parts {
            body: Body::native(Box::new(counts)),
            backend: Box::new(MemoryBackend::default()),
            slots_max,
            bytes_max,
            max_parallelism: 8,
        };
        let chain = ChainOperator::new(&node, &[], Some(parts)).expect("the key can be one");
        Self { chain, context: Context::new("counts".into(), vec![schema(); 2], false), out: vec![] }
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

    /// What was emitted since the last call, sorted.
    pub fn take(&mut self) -> Vec<Result> {
        let mut results = vec![];
        for (_, batch) in self.out.drain(..) {
            let long = |c: usize| batch.column(c).as_primitive::<Int64Type>();
            results.extend((0..batch.rows()).map(|i| (long(0).value(i), long(1).value(i), long(2).value(i))));
        }
        results.sort_unstable();
        results
    }
}
