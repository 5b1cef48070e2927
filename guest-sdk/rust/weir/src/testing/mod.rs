//! A harness for unit tests: runs a job in the test itself, without a host.
//!
//! It drives the very chains that a component has, by the same calls, with one subtask, a watermark and a clock that the test moves.

mod cell;
mod node;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use cell::{Cell, decode, encode, top_level};
use node::{Clocks, Node, Row};

use crate::bindings::exports::weir::dataflow::definition::{ChainInput, Endpoint, Graph, Partitioning};
use crate::bindings::weir::dataflow::types::{Batch, Field};
use crate::job::{Built, Job, Outcome, fields, port};
use crate::record::Record;
use crate::time::EventTime;
use crate::value::NO_ORIGIN;

/// Runs a job in a test.
///
/// ```
/// use weir::{Job, Record, TestHarness};
///
/// #[derive(Record)]
/// struct Number { value: i64 }
///
/// fn squares(job: &Job) {
///     job.source::<Number>("numbers").map(|n| Number { value: n.value * n.value }).sink("squares");
/// }
///
/// let mut harness = TestHarness::new(squares);
/// harness.push("numbers", [Number { value: 3 }, Number { value: -4 }]);
/// let squares: Vec<Number> = harness.take("squares");
/// assert_eq!(squares.iter().map(|n| n.value).collect::<Vec<_>>(), [9, 16]);
/// ```
///
/// Records are matched by the names of their columns, so a test may push and take records of its own, with other columns
/// or without `Pass`. The methods panic when something goes wrong, with what went wrong; `try_push` returns it.
pub struct TestHarness {
    build: Box<dyn Fn() -> Result<Built, String>>,
    graph: Graph,
    nodes: Vec<Node>,
    /// how far the watermarks of the chains' outputs are
    watermarks: Vec<i64>,
    /// the watermark of the sources
    floor: i64,
    now: i64,
    sinks: BTreeMap<String, Vec<Row>>,
}

impl TestHarness {
    /// Builds a job.
    ///
    /// # Panics
    /// If the job has a mistake.
    pub fn new<O: Outcome>(job: impl Fn(&Job) -> O + 'static) -> Self {
        Self::with_arguments(job, &[])
    }

    /// Builds a job with arguments.
    ///
    /// # Panics
    /// If the job has a mistake.
    pub fn with_arguments<O: Outcome>(job: impl Fn(&Job) -> O + 'static, arguments: &[(&str, &str)]) -> Self {
        Self::try_new(job, arguments).unwrap_or_else(|mistake| panic!("the job has a mistake: {mistake}"))
    }

    /// Builds a job with arguments.
    ///
    /// # Errors
    /// If the job has a mistake: what `describe` would say.
    pub fn try_new<O: Outcome>(job: impl Fn(&Job) -> O + 'static, arguments: &[(&str, &str)]) -> Result<Self, String> {
        let arguments: Vec<(String, String)> = arguments.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let build = Box::new(move || {
            let under_construction = Job::new("test", arguments.clone());
            let outcome = job(&under_construction).outcome();
            under_construction.finish(outcome)
        });
        let Built { graph, chains } = build()?;
        let nodes: Vec<_> = chains.into_iter().enumerate().map(|(i, running)| Node::new(&graph, i, running)).collect();
        let watermarks = vec![i64::MIN; nodes.len()];
        Ok(Self { build, graph, nodes, watermarks, floor: i64::MIN, now: 0, sinks: BTreeMap::new() })
    }

    /// Gives rows to a source, as one batch; then watermarks follow from them as the job says.
    ///
    /// # Panics
    /// If there is no such source, a column of it is missing, or the job fails.
    pub fn push<T: Record>(&mut self, source: &str, rows: impl IntoIterator<Item = T>) {
        self.push_stream(source, "", rows);
    }

    /// Gives rows to one stream of a source that has several.
    ///
    /// # Panics
    /// As `push`.
    pub fn push_stream<T: Record>(&mut self, source: &str, stream: &str, rows: impl IntoIterator<Item = T>) {
        self.try_push(source, stream, rows).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Gives rows to a stream of a source (an empty name, if it has but one).
    ///
    /// # Errors
    /// If the job fails.
    pub fn try_push<T: Record>(&mut self, source: &str, stream: &str, rows: impl IntoIterator<Item = T>) -> Result<(), String> {
        let found = self.graph.sources.iter().position(|s| s.name == source && s.stream == stream);
        let index = found.ok_or_else(|| format!("the job has no source `{source}` with a stream `{stream}`"))?;
        let offered = fields(&T::columns());
        let rows: Vec<T> = rows.into_iter().collect();
        let mut writer = <T as Record>::writer(&[]);
        <T as Record>::reserve(&mut writer, rows.len());
        rows.iter().for_each(|row| <T as Record>::write(row, &mut writer, NO_ORIGIN));
        let mut buffers = vec![];
        <T as Record>::finish(&mut writer, &mut buffers)?;
        let cells = decode(&offered, Batch { rows: rows.len() as u32, buffers })?;
        let places = places(&offered, &self.graph.sources[index].schema)?;
        let pick = |cells: Vec<Cell>| Row { cells: places.iter().map(|&p| cells[p].clone()).collect(), time: None };
        let rows: Vec<Row> = cells.into_iter().map(pick).collect();
        self.deliver(Endpoint::Source(index as u32), &rows)?;
        self.settle()
    }

    /// Advances the watermark of every stream to at least `to`.
    ///
    /// # Panics
    /// If the job fails.
    pub fn advance_watermark(&mut self, to: EventTime) {
        self.floor = self.floor.max(to.millis());
        self.settle().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Advances the clock, which starts at 0.
    ///
    /// # Panics
    /// If the job fails.
    pub fn advance_clock(&mut self, by: Duration) {
        self.now = (EventTime::from_millis(self.now) + by).millis();
        self.settle().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Ends the input: all windows fire, in processing time, too, and all timers of event time. Those of processing time do not fire any more.
    ///
    /// # Panics
    /// If the job fails.
    pub fn finish(&mut self) {
        self.advance_watermark(EventTime::MAX);
    }

    /// Takes a snapshot of all state and goes on from it with a new instance of the job, as after a failure.
    ///
    /// # Panics
    /// If state cannot be encoded or decoded.
    pub fn restart(&mut self) {
        let restarted = (self.build)().and_then(|built| {
            assert_eq!(built.graph, self.graph, "the job is another one when it is built again");
            self.nodes.iter_mut().zip(built.chains).try_for_each(|(node, running)| node.restart(running))
        });
        restarted.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Goes on with the state of this job in another version of it, whose functions and types of state may be others.
    ///
    /// # Errors
    /// If an operator cannot read its state. Then there is nothing more to be done with this harness.
    ///
    /// # Panics
    /// If the versions differ in more than that: in their operators, streams or columns.
    pub fn upgrade<O: Outcome>(&mut self, job: impl Fn(&Job) -> O + 'static) -> Result<(), String> {
        let upgraded = Self::try_new(job, &[])?;
        let mut graph = upgraded.graph.clone();
        let schemas = self.graph.chains.iter().map(|chain| chain.state_schema.clone());
        graph.chains.iter_mut().zip(schemas).for_each(|(chain, schema)| chain.state_schema = schema);
        assert_eq!(graph, self.graph, "the versions differ in more than their states");
        for ((node, new), chain) in self.nodes.iter_mut().zip(upgraded.nodes).zip(&upgraded.graph.chains) {
            node.upgrade(new).map_err(|e| format!("operator `{}`: {e}", chain.operators[0].id))?;
        }
        self.graph = upgraded.graph;
        self.build = upgraded.build;
        Ok(())
    }

    /// Takes the rows that have come to a sink since the last time.
    ///
    /// # Panics
    /// If there is no such sink, or its rows lack a column of `T`.
    pub fn take<T: Record>(&mut self, sink: &str) -> Vec<T> {
        let described = self.graph.sinks.iter().find(|s| s.name == sink);
        let described = described.unwrap_or_else(|| panic!("the job has no sink `{sink}`"));
        let rows = self.sinks.remove(sink).unwrap_or_default();
        let wanted = fields(&T::columns());
        let taken = places(self.graph.schema(described.from[0]), &wanted).and_then(|places| {
            let cells = rows.iter().map(|row| places.iter().map(|&place| &row.cells[place]).collect());
            let batch = encode(&wanted, cells);
            let reader = T::open(&mut crate::value::Buffers::new(rows.len(), batch.buffers))?;
            Ok((0..rows.len()).map(|row| <T as crate::Row>::read(&reader, row)).collect())
        });
        taken.unwrap_or_else(|error| panic!("sink `{sink}`: {error}"))
    }

    /// How many keys (with windows) the operator `id` has state of, after what has expired was dropped.
    ///
    /// # Panics
    /// If there is no such operator, or its state cannot be encoded.
    pub fn keys(&mut self, id: &str) -> usize {
        let chain = self.graph.chains.iter().position(|chain| chain.operators.iter().any(|operator| operator.id == id));
        let chain = chain.unwrap_or_else(|| panic!("the job has no operator `{id}`"));
        self.nodes[chain].keys().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Hands rows to all that read an endpoint.
    fn deliver(&mut self, from: Endpoint, rows: &[Row]) -> Result<(), String> {
        for sink in self.graph.sinks.iter().filter(|s| s.from.contains(&from)) {
            self.sinks.entry(sink.name.clone()).or_default().extend_from_slice(rows);
        }
        for chain in 0..self.nodes.len() {
            let readers = self.graph.chains[chain].inputs.iter().enumerate().filter(|(_, i)| i.from.contains(&from));
            for input in readers.map(|(input, _)| input).collect::<Vec<_>>() {
                let clocks = self.clocks(chain);
                let emitted = self.nodes[chain].rows(input, rows, clocks)?;
                self.deliver_all(chain, emitted)?;
            }
        }
        Ok(())
    }

    fn deliver_all(&mut self, chain: usize, emitted: Vec<node::Emitted>) -> Result<(), String> {
        for (output, rows) in emitted {
            self.deliver(port(chain as u32, output), &rows)?;
        }
        Ok(())
    }

    /// What a chain sees of the time: the least watermark of all that it reads. Broadcast rows of a keyed function have no say in it, but that time does
    /// not end before they do.
    fn clocks(&self, chain: usize) -> Clocks {
        let inputs = &self.graph.chains[chain].inputs;
        let is_keyed = inputs.iter().any(|input| input.partitioning == Partitioning::Hash);
        let is_timeless = |input: &&ChainInput| is_keyed && input.partitioning == Partitioning::Broadcast;
        let (timeless, timed): (Vec<_>, Vec<_>) = inputs.iter().partition(is_timeless);
        let watermark = self.least_watermark(&timed);
        let has_ended = timeless.is_empty() || self.least_watermark(&timeless) == i64::MAX;
        Clocks { watermark: if has_ended { watermark } else { watermark.min(i64::MAX - 1) }, now: self.now }
    }

    /// The least watermark of what these inputs read.
    fn least_watermark(&self, inputs: &[&ChainInput]) -> i64 {
        let of = |from: &Endpoint| chain_of(*from).map_or(self.floor, |chain| self.watermarks[chain]);
        inputs.iter().flat_map(|input| &input.from).map(of).min().unwrap_or(self.floor)
    }

    /// Lets the time advance through the graph. Chains come after those that feed them.
    fn settle(&mut self) -> Result<(), String> {
        for chain in 0..self.nodes.len() {
            let clocks = self.clocks(chain);
            let emitted = self.nodes[chain].advance(clocks)?;
            self.deliver_all(chain, emitted)?;
            self.watermarks[chain] = self.nodes[chain].watermark(clocks.watermark).max(self.watermarks[chain]);
        }
        Ok(())
    }
}

/// The chain of an endpoint; none for a source.
fn chain_of(endpoint: Endpoint) -> Option<usize> {
    match endpoint {
        Endpoint::Source(_) => None,
        Endpoint::Chain(from) => Some(from.chain as usize),
    }
}

/// Where the columns of `wanted` are in `offered`, by name.
fn places(offered: &[Field], wanted: &[Field]) -> Result<Vec<usize>, String> {
    let offered: Vec<&[Field]> = top_level(offered).collect();
    top_level(wanted)
        .map(|column| {
            let place = offered.iter().position(|o| *o == column);
            place.ok_or_else(|| format!("there is no column `{}` of the same type", column[0].name))
        })
        .collect()
}
