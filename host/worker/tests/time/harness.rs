//! Graphs of native chains, run on a worker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use weir_base::Clock;
use weir_connector::{Context, Files};
use weir_operator::NativeChain;
use weir_plan::JobSpec;
use weir_sandbox::LogSink;
use weir_types::Batch;
use weir_types::graph::{
    Assigner, Chain, ColumnOrigin, Endpoint, EventTimeAssigner, Graph, Head, Input, OperatorInfo, Output, Partitioning, Sink,
    Source, TimeDomain, Trigger, Watermarks, Window,
};
use weir_worker::deploy::NativeChains;
use weir_worker::metrics::Snapshot;
use weir_worker::{Deployment, JobHandle, Outcome, Worker};

use crate::native::{Echo, Later};
use crate::row_ids::RowIds;
use crate::script::{Collected, LATE, Script, Scripts, row_schema};

/// Subtasks that a worker of the tests has room for.
pub const SLOTS: u16 = 4;

/// After how long a job counts as one that has stopped for good: only failing tests wait.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// A chain of the output before; `from` is another.
fn chain(id: &str, head: Head, inputs: Vec<Input>, outputs: SchemaRef) -> Chain {
    let columns = vec![ColumnOrigin::Computed; outputs.fields().len()];
    Chain {
        operators: vec![OperatorInfo { id: id.into(), kind: id.into() }],
        head,
        inputs,
        outputs: vec![Output { name: String::new(), schema: outputs, columns }],
        event_time: None,
        parallelism: None,
        state_schema: None,
    }
}

fn input(from: Endpoint, partitioning: Partitioning, key: &[usize], columns: &[usize]) -> Input {
    Input { from: vec![from], partitioning, key: key.to_vec(), columns: columns.to_vec(), times: true }
}

fn chain_output(chain: usize) -> Endpoint {
    Endpoint::Chain { chain: chain as u32, port: 0 }
}

/// The outputs of the last chain of a graph, each with the sink that it goes to.
fn sinks(graph: &Graph) -> Vec<Sink> {
    let last = graph.chains.len() - 1;
    let from = |port| vec![Endpoint::Chain { chain: last as u32, port }];
    let mut sinks = vec![Sink { name: "out".into(), from: from(0) }];
    if graph.chains[last].outputs.len() > 1 {
        sinks.push(Sink { name: LATE.into(), from: from(1) });
    }
    sinks
}

fn int64s(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, false)).collect::<Vec<_>>()))
}

/// A graph under construction: each step takes what the one before gives.
pub struct Flow(Graph);

impl Flow {
    /// Rows of the source `in`.
    pub fn new() -> Self {
        Self(Graph { name: "test".into(), sources: vec![source("in")], chains: vec![], sinks: vec![] })
    }

    fn end(&self) -> Endpoint {
        self.0.chains.len().checked_sub(1).map_or(Endpoint::Source(0), chain_output)
    }

    /// Event times from the column `time`, at most so late.
    pub fn event_time(mut self, partitioning: Partitioning, delay_ms: u64) -> Self {
        let input = Input { times: false, ..input(self.end(), partitioning, &[], &[]) };
        let mut chain = chain("event-time", Head::Relay, vec![input], row_schema());
        chain.outputs[0].columns = (0..3).map(ColumnOrigin::Passed).collect();
        chain.event_time = Some(EventTimeAssigner { column: Some(2), watermarks: Watermarks::Bounded(delay_ms) });
        self.0.chains.push(chain);
        self
    }

    /// Tumbling windows by key: which rows are in them.
    pub fn window(self, size_ms: i64) -> Self {
        self.windows(Window {
            assigner: Assigner::Tumbling { size_ms, offset_ms: 0 },
            domain: TimeDomain::Event,
            trigger: Trigger { on_time: true, early_every_ms: None, every_count: None, purging: false },
            allowed_lateness_ms: 0,
            late_port: None,
            mergeable: true,
        })
    }

    /// Windows by key: which rows are in them. If they have a port for late rows, these go to a sink of their own.
    pub fn windows(mut self, window: Window) -> Self {
        let field = |name, data_type| Field::new(name, data_type, true);
        let fields = [("key", DataType::Int64), ("start", DataType::Int64), ("end", DataType::Int64), ("rows", DataType::Utf8)];
        let schema = Arc::new(Schema::new(fields.map(|(name, data_type)| field(name, data_type)).to_vec()));
        let input = Input { times: false, ..input(self.end(), Partitioning::Hash, &[0], &[1]) };
        let mut chain = chain("window", Head::Window(window), vec![input], schema);
        if window.late_port.is_some() {
            let columns = (0..3).map(ColumnOrigin::Passed).collect();
            chain.outputs.push(Output { name: LATE.into(), schema: row_schema(), columns });
        }
        self.0.chains.push(chain);
        self
    }

    /// [`Echo`]; with the rows of the source `facts` for every subtask, if asked for.
    pub fn echo(mut self, facts: bool) -> Self {
        let mut inputs = vec![input(self.end(), Partitioning::Hash, &[0], &[1])];
        if facts {
            self.0.sources.push(source("facts"));
            inputs.push(Input { times: false, ..input(Endpoint::Source(1), Partitioning::Broadcast, &[], &[]) });
        }
        self.0.chains.push(chain("echo", Head::Process, inputs, int64s(&["what", "watermark"])));
        self
    }

    /// [`Later`].
    pub fn later(mut self) -> Self {
        let input = input(self.end(), Partitioning::Hash, &[0], &[]);
        let schema = Schema::new(row_schema().fields()[..2].to_vec());
        let mut chain = chain("later", Head::Process, vec![input], Arc::new(schema));
        chain.event_time = Some(EventTimeAssigner { column: None, watermarks: Watermarks::Bounded(0) });
        self.0.chains.push(chain);
        self
    }

    fn native(&self) -> NativeChains {
        let ids: Vec<String> = self.0.chains.iter().map(|chain| chain.operators[0].id.clone()).collect();
        Arc::new(move |_, chain, _| -> Option<Box<dyn NativeChain>> {
            match ids[chain as usize].as_str() {
                "window" => Some(Box::new(RowIds::default())),
                "echo" => Some(Box::new(Echo)),
                "later" => Some(Box::<Later>::default()),
                _ => None,
            }
        })
    }
}

fn source(name: &str) -> Source {
    Source { name: name.into(), stream: String::new(), schema: row_schema() }
}

/// What a job has done.
pub struct Ran {
    batches: Vec<Batch>,
    late: Vec<Batch>,
    pub snapshot: Snapshot,
}

/// One result of a window.
#[derive(Clone, Debug)]
pub struct Pane {
    pub key: i64,
    pub start: i64,
    pub end: i64,
    /// the ids of its rows
    pub rows: BTreeSet<u32>,
}

impl Ran {
    /// All results of all windows.
    pub fn results(&self) -> Vec<Pane> {
        let mut panes = vec![];
        for batch in &self.batches {
            let long = |c: usize| batch.column(c).as_primitive::<Int64Type>();
            for i in 0..batch.rows() {
                let text = batch.column(3).as_string::<i32>().value(i);
                let ids: Vec<u32> = text.split(' ').map(|id| id.parse().expect("an id")).collect();
                let rows: BTreeSet<u32> = ids.iter().copied().collect();
                assert_eq!(rows.len(), ids.len(), "a row is twice in a window: {text}");
                panes.push(Pane { key: long(0).value(i), start: long(1).value(i), end: long(2).value(i), rows });
            }
        }
        panes
    }

    /// The ids of rows that went to the sink of late ones, in order.
    pub fn late_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = vec![];
        self.late.iter().for_each(|batch| ids.extend(batch.column(1).as_primitive::<UInt32Type>().values()));
        ids.sort_unstable();
        ids
    }

    /// The rows of all windows, by key and start, in order; where one window came out twice, it is here twice.
    pub fn panes(&self) -> Vec<(i64, i64, String)> {
        let mut panes = vec![];
        for batch in &self.batches {
            let long = |c: usize| batch.column(c).as_primitive::<Int64Type>();
            let pane = |i| (long(0).value(i), long(1).value(i), batch.column(3).as_string::<i32>().value(i).to_owned());
            panes.extend((0..batch.rows()).map(pane));
        }
        panes.sort();
        panes
    }

    /// What [`Echo`] has told.
    pub fn echoes(&self) -> Vec<(i64, i64)> {
        let mut echoes = vec![];
        for batch in &self.batches {
            let long = |c: usize| batch.column(c).as_primitive::<Int64Type>().values();
            echoes.extend(long(0).iter().copied().zip(long(1).iter().copied()));
        }
        echoes
    }

    pub fn late_rows(&self) -> u64 {
        self.snapshot.operators.iter().map(|o| o.late_records).sum()
    }
}

/// Settings of a spec.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// Runs a job in `runtime` to its end.
pub fn run(flow: Flow, scripts: Scripts, settings: Settings<'_>) -> Ran {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (_, mut handle, collected) = deploy(flow, scripts, settings);
        let outcome = tokio::time::timeout(STALLED_AFTER, handle.wait()).await.expect("the job stands still");
        assert_eq!(outcome, Outcome::Finished);
        let batches = std::mem::take(&mut *collected.batches.lock());
        let late = std::mem::take(&mut *collected.late.lock());
        Ran { batches, late, snapshot: handle.metrics().snapshot() }
    })
}

/// Starts a job.
pub fn deploy(flow: Flow, scripts: Scripts, settings: Settings<'_>) -> (Worker, JobHandle, Arc<Collected>) {
    deploy_on(|worker| worker, flow, scripts, settings)
}

/// Runs a job that may take so much memory; how it has ended.
pub fn run_within(job_memory: usize, flow: Flow, scripts: Scripts, settings: Settings<'_>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (_, mut handle, _) = deploy_on(|worker| worker.with_job_memory(job_memory), flow, scripts, settings);
        tokio::time::timeout(STALLED_AFTER, handle.wait()).await.expect("the job stands still")
    })
}

/// Starts a job on a worker that was made like this.
fn deploy_on(
    make: impl FnOnce(Worker) -> Worker,
    flow: Flow,
    scripts: Scripts,
    settings: Settings<'_>,
) -> (Worker, JobHandle, Arc<Collected>) {
    let native = flow.native();
    let mut graph = flow.0;
    graph.sinks = sinks(&graph);
    let mut text = "component = \"test.wasm\"\n".to_owned();
    for Sink { name, .. } in &graph.sinks {
        text.push_str(&format!("[sinks.{name}]\nconnector = \"script\"\n"));
    }
    for name in scripts.keys() {
        text.push_str(&format!("[sources.{name}]\nconnector = \"script\"\n"));
    }
    let settings: Vec<_> = settings.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect();
    let spec = JobSpec::from_toml(&text, &settings).expect("a good spec");
    let collected = Arc::new(Collected::default());
    let connector = Script { scripts: Arc::new(scripts), collected: Arc::clone(&collected) };
    let worker = make(Worker::with_connectors(SLOTS, vec![Box::new(connector)]));
    let deployment = Deployment {
        plan: weir_plan::plan(&spec, &[graph]).expect("a good job"),
        components: vec![],
        context: Context::new("", Files::free(".")),
        storage: None,
        restore: None,
        has_run: false,
        culprits: vec![],
        pending: vec![],
        log: LogSink::none(),
        clock: Clock::manual(0),
        native: Some(native),
    };
    let handle = worker.deploy(deployment).unwrap_or_else(|failure| panic!("{failure}"));
    (worker, handle, collected)
}
