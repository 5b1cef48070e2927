//! Drives window operators by steps, and gathers what they emit.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use arrow_array::{ArrayRef, Int64Array, UInt32Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use weir_operator::chain::Parts;
use weir_operator::emission::{Emission, Emitted};
use weir_operator::window::Window;
use weir_operator::{Body, Context, Progress};
use weir_plan::job::{ChainNode, Stage};
use weir_state::MemoryBackend;
use weir_types::graph::{Chain, ColumnOrigin, Head, Input, OperatorInfo, Output, Partitioning};
use weir_types::{Batch, EventTime, Watermark, graph};

use crate::native::RowIds;
use crate::reference::Pane;

/// Waits for a future that never waits for anything.
pub fn run<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a native chain does not wait"),
    }
}

/// A row: key, event time, id.
pub type Row = (i64, EventTime, u32);

/// A window operator with native accumulators.
pub struct Operator {
    window: Window,
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

impl Operator {
    /// The operator of `window`; `slots_max` makes it evict.
    pub fn new(window: graph::Window, stage: Stage, slots_max: Option<usize>) -> Self {
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
        };
        let emission = Emission::new(&chain, &[]);
        let node = ChainNode { component: 0, index: 0, chain, inputs: vec![row_schema()], stage };
        let parts = Parts {
            body: Body::native(Box::new(RowIds::default())),
            backend: Box::new(MemoryBackend::default()),
            slots_max,
            bytes_max: None,
            max_parallelism: 8,
        };
        let window = Window::new(&window, &node, &[DataType::Int64], emission, parts).expect("the key can be one");
        Self { window, context: Context::new("window".into(), vec![row_schema()], false), out: vec![] }
    }

    pub fn rows(&mut self, rows: &[Row]) {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
        let ids: ArrayRef = Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.2)));
        let times = rows.iter().map(|r| r.1).collect::<Vec<_>>();
        self.batch(&Batch::new(rows.len(), vec![keys, ids], Some(times.into())));
    }

    pub fn batch(&mut self, batch: &Batch) {
        run(self.window.on_batch(0, batch, &mut self.context, &mut self.out)).expect("native chains do not fail");
    }

    pub fn watermark(&mut self, watermark: EventTime) {
        self.context.watermark = Watermark(watermark);
        while run(self.window.on_watermark(&mut self.context, &mut self.out)).expect("native chains do not fail")
            == Progress::More
        {}
    }

    pub fn clock(&mut self, now: EventTime) {
        self.context.now = now;
        while run(self.window.on_clock(&mut self.context, &mut self.out)).expect("native chains do not fail") == Progress::More {}
    }

    pub fn barrier(&mut self) {
        run(self.window.hand_on(&mut self.context, &mut self.out)).expect("native chains do not fail");
    }

    pub fn next_clock(&mut self) -> Option<EventTime> {
        self.window.next_clock()
    }

    pub fn slots(&self) -> usize {
        self.window.slots()
    }

    pub fn late_rows(&self) -> u64 {
        self.window.late_rows()
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
