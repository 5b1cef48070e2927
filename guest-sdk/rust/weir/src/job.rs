//! The job under construction: the graph, and the chains that the graph's chains stand for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::rc::Rc;

use crate::bindings::exports::weir::dataflow::definition::{
    Chain as WireChain, ChainOutput, ChainPort, ColumnOrigin, Endpoint, EventTimeAssigner, Graph, Head, OperatorInfo,
    Partitioning, Sink, Source,
};
use crate::bindings::weir::dataflow::types::Field;
use crate::chain::Chain;
use crate::check::check;
use crate::head::Upstream;
use crate::record::Record;
use crate::rows::Rows;
use crate::side::Tag;
use crate::stream::Stream;
use crate::value::Column;

/// The job that a `#[weir::job]` function builds.
///
/// The function runs in every instance, and must build the same job each time for the same arguments.
#[derive(Clone)]
pub struct Job {
    builder: Rc<RefCell<Builder>>,
}

struct Builder {
    graph: Graph,
    arguments: Vec<(String, String)>,
    /// the names of those that the job has asked for, whether they are there or not
    asked: BTreeSet<String>,
    /// one for each chain of the graph; none for those without guest code
    chains: Vec<Option<Box<dyn Chain>>>,
    /// how many operators of each kind there are
    kinds: BTreeMap<String, u32>,
    /// the first mistake
    fault: Option<String>,
}

/// A finished job: what `describe` returns, and the chains that can be opened.
pub(crate) struct Built {
    pub graph: Graph,
    pub chains: Vec<Option<Box<dyn Chain>>>,
}

impl Job {
    pub(crate) fn new(name: &str, arguments: Vec<(String, String)>) -> Self {
        let graph = Graph { name: name.to_owned(), sources: vec![], chains: vec![], sinks: vec![] };
        let builder = Builder { graph, arguments, asked: BTreeSet::new(), chains: vec![], kinds: BTreeMap::new(), fault: None };
        Self { builder: Rc::new(RefCell::new(builder)) }
    }

    /// The rows of the source `name`, of which `T` names the columns. The job spec binds the name to a connector.
    pub fn source<T: Record>(&self, name: &str) -> Stream<T> {
        self.source_stream(name, "")
    }

    /// The rows of one stream of a source that offers several, such as the tables of a database.
    pub fn source_stream<T: Record>(&self, name: &str, stream: &str) -> Stream<T> {
        let columns = T::columns();
        self.check(&columns);
        let source = Source { name: name.to_owned(), stream: stream.to_owned(), schema: fields(&columns) };
        let from = vec![Endpoint::Source(self.add_source(source))];
        self.stream(Upstream { from, partitioning: Partitioning::Forward, timed: false })
    }

    /// The rows of a side output, of all operators that feed it. Their own streams must have been used up before, by a
    /// sink or by what ends a chain.
    pub fn side_output<T: Record>(&self, tag: &Tag<T>) -> Stream<T> {
        let (from, timed) = tag.fed_by();
        if from.is_empty() {
            self.fail(format!(
                "nothing feeds the side output `{}` yet: give the stream of its operator to a sink (or another boundary) first",
                tag.name()
            ));
        }
        self.stream(Upstream { from, partitioning: Partitioning::Forward, timed })
    }

    /// An argument of the job spec (`[args]`). A spec with an argument that the job never asks for is refused, since it may be a misspelt one.
    pub fn argument(&self, name: &str) -> Option<String> {
        let mut builder = self.builder.borrow_mut();
        builder.asked.insert(name.to_owned());
        builder.arguments.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
    }

    pub(crate) fn stream<T: Record>(&self, upstream: Upstream) -> Stream<T> {
        Stream::start(self.clone(), Rows::new(upstream))
    }

    /// Notes a mistake; `describe` reports the first one.
    pub(crate) fn fail(&self, fault: String) {
        self.builder.borrow_mut().fault.get_or_insert(fault);
    }

    /// Notes what is wrong with columns.
    pub(crate) fn check(&self, columns: &[Column]) {
        if let Some((column, fault)) = columns.iter().find_map(|c| c.fault.map(|f| (c, f))) {
            self.fail(format!("field `{}`: {fault}", column.name()));
        }
    }

    /// The value, or a mistake and the default.
    pub(crate) fn expect<V: Default>(&self, value: Result<V, String>) -> V {
        value.unwrap_or_else(|fault| {
            self.fail(fault);
            V::default()
        })
    }

    /// A new operator, named by its kind and number until the job names it.
    pub(crate) fn operator(&self, kind: &str) -> OperatorInfo {
        let mut builder = self.builder.borrow_mut();
        let number = builder.kinds.entry(kind.to_owned()).or_default();
        *number += 1;
        OperatorInfo { id: format!("{kind}-{number}"), kind: kind.to_owned() }
    }

    /// The source's index in the graph. Reading a stream again as the same record is reading the same source.
    fn add_source(&self, source: Source) -> u32 {
        let mut builder = self.builder.borrow_mut();
        let Builder { graph: Graph { sources, .. }, fault, .. } = &mut *builder;
        if let Some(index) = sources.iter().position(|s| (&s.name, &s.stream) == (&source.name, &source.stream)) {
            if sources[index].schema != source.schema {
                let name = &source.name;
                fault.get_or_insert(format!(
                    "the source `{name}` is read as two different records: read it once, then `tee` and `select`"
                ));
            }
            return index as u32;
        }
        sources.push(source);
        sources.len() as u32 - 1
    }

    /// Adds a chain to the graph; returns its index.
    pub(crate) fn add(&self, chain: WireChain, running: Option<Box<dyn Chain>>) -> u32 {
        let mut builder = self.builder.borrow_mut();
        builder.graph.chains.push(chain);
        builder.chains.push(running);
        builder.chains.len() as u32 - 1
    }

    /// Adds a chain that has no guest code: the host passes the columns on.
    pub(crate) fn relay(
        &self,
        upstream: &Upstream,
        columns: &[Column],
        origins: Vec<ColumnOrigin>,
        kind: &str,
        event_time: Option<EventTimeAssigner>,
    ) -> (Upstream, u32) {
        let timed = upstream.timed || event_time.is_some();
        let chain = WireChain {
            operators: vec![self.operator(kind)],
            head: Head::Relay,
            inputs: vec![upstream.input(vec![])],
            outputs: vec![ChainOutput { name: String::new(), schema: fields(columns), columns: origins }],
            event_time,
            parallelism: None,
            state_schema: None,
        };
        let chain = self.add(chain, None);
        (Upstream { from: vec![port(chain, 0)], partitioning: Partitioning::Forward, timed }, chain)
    }

    /// Gives the last operator of a chain that is in the graph another id.
    pub(crate) fn rename(&self, chain: u32, id: &str) {
        if let Some(operator) = self.builder.borrow_mut().graph.chains[chain as usize].operators.last_mut() {
            operator.id = id.to_owned();
        }
    }

    /// Adds rows to a sink.
    pub(crate) fn sink(&self, name: &str, from: Vec<Endpoint>) {
        let mut builder = self.builder.borrow_mut();
        match builder.graph.sinks.iter_mut().find(|s| s.name == name) {
            Some(sink) => sink.from.extend(from),
            None => builder.graph.sinks.push(Sink { name: name.to_owned(), from }),
        }
    }

    /// The finished job.
    pub(crate) fn finish(self, outcome: Result<(), String>) -> Result<Built, String> {
        outcome?;
        let mut builder = self.builder.borrow_mut();
        if let Some(fault) = builder.fault.take() {
            return Err(fault);
        }
        builder.check_arguments()?;
        let mut ids = BTreeSet::new();
        for operator in builder.graph.chains.iter().flat_map(|c| &c.operators) {
            if !ids.insert(&operator.id) {
                return Err(format!("two operators have the id `{}`", operator.id));
            }
        }
        check(&builder.graph)?;
        for sink in &builder.graph.sinks {
            let mut schemas = sink.from.iter().map(|&from| builder.graph.schema(from));
            let first = schemas.next();
            if schemas.any(|schema| Some(schema) != first) {
                return Err(format!("the sink `{}` is given rows of different types", sink.name));
            }
        }
        Ok(Built { graph: builder.graph.clone(), chains: std::mem::take(&mut builder.chains) })
    }
}

impl Builder {
    /// Refuses arguments that nobody has asked for.
    fn check_arguments(&self) -> Result<(), String> {
        let Some((unknown, _)) = self.arguments.iter().find(|(name, _)| !self.asked.contains(name)) else { return Ok(()) };
        let known: Vec<_> = self.asked.iter().map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(format!("the job has no argument `{unknown}`; with these arguments, it asks for: {known}"))
    }
}

impl Graph {
    /// The schema of an endpoint.
    pub(crate) fn schema(&self, endpoint: Endpoint) -> &[Field] {
        match endpoint {
            Endpoint::Source(source) => &self.sources[source as usize].schema,
            Endpoint::Chain(from) => &self.chains[from.chain as usize].outputs[from.port as usize].schema,
        }
    }
}

/// The fields of columns, as a schema says them.
pub(crate) fn fields(columns: &[Column]) -> Vec<Field> {
    columns.iter().flat_map(|c| c.fields.clone()).collect()
}

/// The origins of `width` columns that are all passed as they are.
pub(crate) fn all_passed(width: usize) -> Vec<ColumnOrigin> {
    (0..width as u32).map(ColumnOrigin::Passed).collect()
}

/// An output port of a chain.
pub(crate) fn port(chain: u32, port: u32) -> Endpoint {
    Endpoint::Chain(ChainPort { chain, port })
}

/// What a job function may return: nothing, or a result.
pub trait Outcome {
    /// The mistake that it reports, if any.
    fn outcome(self) -> Result<(), String>;
}

impl Outcome for () {
    fn outcome(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display> Outcome for Result<(), E> {
    fn outcome(self) -> Result<(), String> {
        self.map_err(|e| e.to_string())
    }
}
