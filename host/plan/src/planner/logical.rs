//! One graph of all components: chains and sinks, in topological order.

use std::collections::BTreeMap;

use arrow_schema::SchemaRef;
use weir_types::graph::{Chain, ColumnOrigin, Endpoint, Graph, Head, Input, OperatorInfo, Output, Partitioning};

use super::errors;
use crate::job::{DeadLetters, OnError, SinkPlan, SourcePlan, StreamPlan};
use crate::{Error, JobSpec};

/// The graph of the whole job.
#[derive(Debug, Default)]
pub struct Logical {
    /// bound sources; `needed` is filled in later
    pub sources: Vec<SourcePlan>,
    /// bound sinks
    pub sinks: Vec<SinkPlan>,
    /// chains and sinks; a node comes after those that feed it
    pub nodes: Vec<Node>,
}

/// A chain or a sink.
#[derive(Debug)]
pub struct Node {
    /// which
    pub kind: Kind,
    /// its inputs (a sink has one)
    pub inputs: Vec<NodeInput>,
}

/// What a node is.
#[derive(Debug)]
pub enum Kind {
    /// a chain of a component
    Chain {
        /// index of the component
        component: usize,
        /// index in the component's graph
        index: u32,
        /// what the graph says
        chain: Box<Chain>,
        /// what happens where the guest fails
        on_error: OnError,
        /// where rows go on which it fails
        dead_letters: Option<DeadLetters>,
    },
    /// index into [`Logical::sinks`]
    Sink(usize),
}

/// An input of a node.
#[derive(Debug)]
pub struct NodeInput {
    /// what flows in (several: a union)
    pub from: Vec<From>,
    /// how it is dealt out
    pub partitioning: Partitioning,
    /// key columns
    pub key: Vec<usize>,
    /// the rows
    pub schema: SchemaRef,
}

/// Where rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum From {
    /// a stream of a bound source
    Stream {
        /// index into [`Logical::sources`]
        source: usize,
        /// index into its streams, or behind them that of its dead letters
        stream: usize,
    },
    /// an output port of a node
    Node {
        /// index into [`Logical::nodes`]
        node: usize,
        /// the port
        port: usize,
    },
}

/// A link between components, taken apart.
struct Link {
    from: (usize, usize),
    to: (usize, String),
}

/// Builds the graph of the job.
pub fn build(spec: &JobSpec, graphs: &[Graph]) -> Result<Logical, Error> {
    let names: Vec<String> = spec.component_specs().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), graphs.len(), "one graph for each component");
    Builder {
        spec,
        graphs,
        links: links(spec, &names, graphs)?,
        names,
        out: Logical::default(),
        chains: BTreeMap::new(),
        open: vec![],
    }
    .build()
}

/// Takes `[links]` apart and checks the names.
fn links(spec: &JobSpec, names: &[String], graphs: &[Graph]) -> Result<Vec<Link>, Error> {
    let component = |side: &str| -> Result<(usize, String), Error> {
        let (component, name) = side
            .split_once('.')
            .ok_or_else(|| Error::new(format!("link \"{side}\": write COMPONENT.NAME, like \"clean.out\" = \"keep.in\"")))?;
        let index = names
            .iter()
            .position(|n| n == component)
            .ok_or_else(|| Error::new(format!("link \"{side}\": there is no component \"{component}\"")))?;
        Ok((index, name.to_owned()))
    };
    let mut links = vec![];
    for (from, to) in &spec.links {
        let (fc, fname) = component(from)?;
        let sink = graphs[fc]
            .sinks
            .iter()
            .position(|s| s.name == fname)
            .ok_or_else(|| Error::new(format!("link \"{from}\": the component has no sink \"{fname}\"")))?;
        let (tc, tname) = component(to)?;
        if !graphs[tc].sources.iter().any(|s| s.name == tname) {
            return Err(Error::new(format!("link \"{from}\" = \"{to}\": the component has no source \"{tname}\"")));
        }
        links.push(Link { from: (fc, sink), to: (tc, tname) });
    }
    Ok(links)
}

struct Builder<'a> {
    spec: &'a JobSpec,
    graphs: &'a [Graph],
    names: Vec<String>,
    links: Vec<Link>,
    out: Logical,
    /// (component, chain) → node
    chains: BTreeMap<(usize, u32), usize>,
    /// chains whose inputs are being resolved: meeting one again is a loop
    open: Vec<(usize, u32)>,
}

impl Builder<'_> {
    fn build(mut self) -> Result<Logical, Error> {
        for component in 0..self.graphs.len() {
            for sink in 0..self.graphs[component].sinks.len() {
                if !self.links.iter().any(|l| l.from == (component, sink)) {
                    self.bind_sink(component, sink)?;
                }
            }
            // Chains that lead nowhere are run all the same: they may log, and their metrics count.
            for chain in 0..self.graphs[component].chains.len() {
                self.chain(component, chain as u32)?;
            }
        }
        errors::resolve(self.spec, &self.names, &mut self.out)?;
        self.check_bindings()?;
        Ok(self.out)
    }

    /// The name under which the spec binds a source or sink: `name`, or `component.name` where several components are.
    fn bound_name(&self, component: usize, name: &str, bound: impl Fn(&str) -> bool) -> String {
        let qualified = format!("{}.{name}", self.names[component]);
        if bound(&qualified) { qualified } else { name.to_owned() }
    }

    fn bind_sink(&mut self, component: usize, index: usize) -> Result<(), Error> {
        let sink = &self.graphs[component].sinks[index];
        let name = self.bound_name(component, &sink.name, |n| self.spec.sinks.contains_key(n));
        if !self.spec.sinks.contains_key(&name) {
            return Err(Error::new(format!("the job writes to \"{name}\", but the spec has no [sinks.{name}]")));
        }
        if self.out.sinks.iter().any(|s| s.name == name) {
            return Err(Error::new(format!("two components write to \"{name}\"; name them [sinks.\"COMPONENT.{}\"]", sink.name)));
        }
        let schema = self.graphs[component].schema(sink.from[0]).clone();
        let from = self.endpoints(component, &sink.from)?;
        self.out.sinks.push(SinkPlan { name, schema: schema.clone() });
        self.out.nodes.push(Node {
            kind: Kind::Sink(self.out.sinks.len() - 1),
            inputs: vec![NodeInput { from, partitioning: Partitioning::Forward, key: vec![], schema }],
        });
        Ok(())
    }

    fn endpoints(&mut self, component: usize, endpoints: &[Endpoint]) -> Result<Vec<From>, Error> {
        let mut from = vec![];
        for endpoint in endpoints {
            match *endpoint {
                Endpoint::Source(source) => from.extend(self.source(component, source as usize)?),
                Endpoint::Chain { chain, port } => {
                    from.push(From::Node { node: self.chain(component, chain)?, port: port as usize })
                }
            }
        }
        Ok(from)
    }

    /// What a source of a component stands for: a stream of a bound source, or the sink of another component.
    fn source(&mut self, component: usize, index: usize) -> Result<Vec<From>, Error> {
        let graphs = self.graphs;
        let wanted = &graphs[component].sources[index];
        let linked: Vec<(usize, usize)> =
            self.links.iter().filter(|l| l.to.0 == component && l.to.1 == wanted.name).map(|l| l.from).collect();
        if linked.is_empty() {
            return Ok(vec![self.stream(component, index)?]);
        }
        let mut from = vec![];
        for (other, sink) in linked {
            let sink = &graphs[other].sinks[sink];
            let offered = graphs[other].schema(sink.from[0]).clone();
            let incoming = self.endpoints(other, &sink.from)?;
            if offered.fields() == wanted.schema.fields() {
                from.extend(incoming);
                continue;
            }
            let node = self.relay(&self.names[other].clone(), &sink.name, incoming, &offered, &wanted.schema)?;
            from.push(From::Node { node, port: 0 });
        }
        Ok(from)
    }

    /// A relay that picks the wanted columns of a linked sink, by name.
    fn relay(
        &mut self,
        name: &str,
        sink: &str,
        from: Vec<From>,
        offered: &SchemaRef,
        wanted: &SchemaRef,
    ) -> Result<usize, Error> {
        let mut columns = vec![];
        for field in wanted.fields() {
            let (index, found) = offered.column_with_name(field.name()).ok_or_else(|| {
                Error::new(format!("link \"{name}.{sink}\": column \"{}\" is wanted, but not there", field.name()))
            })?;
            if found.data_type() != field.data_type() || (found.is_nullable() && !field.is_nullable()) {
                return Err(Error::new(format!(
                    "link \"{name}.{sink}\": column \"{}\" is {} there, but {} is wanted",
                    field.name(),
                    type_name(found),
                    type_name(field),
                )));
            }
            columns.push(ColumnOrigin::Passed(index));
        }
        let input = Input { from: vec![], partitioning: Partitioning::Forward, key: vec![], columns: vec![], times: false };
        let chain = Chain {
            operators: vec![OperatorInfo { id: format!("link-{name}.{sink}"), kind: "link".into() }],
            head: Head::Relay,
            inputs: vec![input],
            outputs: vec![Output { name: String::new(), schema: wanted.clone(), columns }],
            event_time: None,
            parallelism: None,
            state_schema: None,
        };
        self.out.nodes.push(Node {
            kind: chain_kind(0, 0, chain),
            inputs: vec![NodeInput { from, partitioning: Partitioning::Forward, key: vec![], schema: offered.clone() }],
        });
        Ok(self.out.nodes.len() - 1)
    }

    /// The stream of a bound source; streams of one name belong to one source.
    fn stream(&mut self, component: usize, index: usize) -> Result<From, Error> {
        let wanted = &self.graphs[component].sources[index];
        let name = self.bound_name(component, &wanted.name, |n| self.spec.sources.contains_key(n));
        if !self.spec.sources.contains_key(&name) {
            return Err(Error::new(format!("the job reads \"{name}\", but the spec has no [sources.{name}]")));
        }
        let source = self.out.sources.iter().position(|s| s.name == name).unwrap_or_else(|| {
            self.out.sources.push(SourcePlan { name, streams: vec![], has_dead_letters: false });
            self.out.sources.len() - 1
        });
        let streams = &mut self.out.sources[source].streams;
        let stream = streams.iter().position(|s| s.name == wanted.stream && s.schema == wanted.schema).unwrap_or_else(|| {
            let needed = vec![false; wanted.schema.fields().len()];
            streams.push(StreamPlan { name: wanted.stream.clone(), schema: wanted.schema.clone(), needed });
            streams.len() - 1
        });
        Ok(From::Stream { source, stream })
    }

    /// The node of a chain, made after those that feed it.
    fn chain(&mut self, component: usize, index: u32) -> Result<usize, Error> {
        if let Some(&node) = self.chains.get(&(component, index)) {
            return Ok(node);
        }
        if self.open.contains(&(component, index)) {
            return Err(Error::new(format!("the links go round in a loop through component \"{}\"", self.names[component])));
        }
        self.open.push((component, index));
        let graphs = self.graphs;
        let chain = &graphs[component].chains[index as usize];
        let mut inputs = vec![];
        for (i, input) in chain.inputs.iter().enumerate() {
            inputs.push(NodeInput {
                from: self.endpoints(component, &input.from)?,
                partitioning: input.partitioning,
                key: input.key.clone(),
                schema: graphs[component].input_schema(index as usize, i).clone(),
            });
        }
        self.open.pop();
        self.out.nodes.push(Node { kind: chain_kind(component, index, chain.clone()), inputs });
        self.chains.insert((component, index), self.out.nodes.len() - 1);
        Ok(self.out.nodes.len() - 1)
    }

    /// Bindings that nothing uses are mistakes: a name is misspelt.
    fn check_bindings(&self) -> Result<(), Error> {
        for name in self.spec.sources.keys() {
            if !self.out.sources.iter().any(|s| s.name == *name) {
                let known: Vec<_> = self.out.sources.iter().map(|s| s.name.as_str()).collect();
                return Err(Error::new(format!("the job reads no \"{name}\"; it reads: {}", known.join(", "))));
            }
        }
        for name in self.spec.sinks.keys() {
            if !self.out.sinks.iter().any(|s| s.name == *name) {
                let known: Vec<_> = self.out.sinks.iter().map(|s| s.name.as_str()).collect();
                return Err(Error::new(format!("the job writes no \"{name}\"; it writes: {}", known.join(", "))));
            }
        }
        Ok(())
    }
}

/// A chain, of whose failures nothing has been said yet.
fn chain_kind(component: usize, index: u32, chain: Chain) -> Kind {
    Kind::Chain { component, index, chain: Box::new(chain), on_error: OnError::default(), dead_letters: None }
}

/// `Int64` or `Int64?`.
fn type_name(field: &arrow_schema::Field) -> String {
    format!("{}{}", field.data_type(), if field.is_nullable() { "?" } else { "" })
}
